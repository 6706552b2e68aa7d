"""The test bench all rooms share: the public matrices that are at hand, and every run made once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sparsim import datasets
from sparsim.errors import ConfigError
from sparsim.io import load
from sparsim.matrix import Csr
from sparsim.network import Network
from sparsim.report import Report
from sparsim.simulate import product, run
from sparsim.workload import Workload

__all__ = ["Bench"]

KEPT = 3


@dataclass
class Bench:
    """Matrices by name and reports by name, machine and fields.

    Parameters
    ----------
    folder : where matrices lie, itself or in a folder ``matrices`` of it; its folders ``small`` and ``dlmc`` give
        workloads to the oracle. Without it, only what :mod:`sparsim.datasets` has kept is used.
    stand_ins : generate matrices of the same size and kind for rows that are labelled so.

    Raises
    ------
    ConfigError
        If ``folder`` is given and is not a folder.
    """

    folder: Path | None = None
    stand_ins: bool = False
    missing: list[str] = field(default_factory=list)
    _squares: dict[str, Workload] = field(default_factory=dict, repr=False)
    _reports: dict[tuple[Any, ...], Report] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.folder is not None and not self.folder.is_dir():
            raise ConfigError(f"'{self.folder}' is no folder", key="--data", allowed="a folder with matrices")

    def has(self, name: str) -> bool:
        """Whether the real matrix is at hand; if not, it is remembered as missing."""
        found = self._find(name) is not None
        if not found and name not in self.missing:
            self.missing.append(name)
        return found

    def square(self, name: str, *, stand_in: bool = False) -> Workload:
        """Return A·A of a public matrix, or of its stand-in."""
        label = f"standin:{name}" if stand_in else name
        if label not in self._squares:
            while len(self._squares) >= KEPT:
                del self._squares[next(iter(self._squares))]
            self._squares[label] = product(datasets.standin(name) if stand_in else self._load(name), name=label)
        return self._squares[label]

    def report(
        self,
        name: str,
        machine: str,
        fields: Mapping[str, Any] | None = None,
        *,
        energy: str = "",
        stand_in: bool = False,
    ) -> Report:
        """Return the report of A·A on a machine, run once for the same question."""
        key = (name, stand_in, machine, energy, *sorted((fields or {}).items()))
        if key not in self._reports:
            self._reports[key] = run(self.square(name, stand_in=stand_in), machine, fields, energy)
        return self._reports[key]

    def files(self, place: str, suffix: str) -> Iterator[tuple[str, Csr]]:
        """Yield the matrices in a folder below ``folder``, by name in alphabetical order."""
        root = self.folder / place if self.folder is not None else None
        for path in sorted(root.rglob(f"*{suffix}")) if root is not None and root.is_dir() else ():
            loaded = load(path)
            if not isinstance(loaded, Network):
                yield path.name.removesuffix(suffix), loaded

    def _find(self, name: str) -> tuple[Path | None] | None:
        """Return the folder, if any, with which :func:`sparsim.datasets.find` finds the matrix; None if it does not."""
        below = None if self.folder is None else self.folder / "matrices"
        for place in (self.folder, below if below is not None and below.is_dir() else None):
            if datasets.find(name, place) is not None:
                return (place,)
        return None

    def _load(self, name: str) -> Csr:
        found = self._find(name)
        if found is None:
            raise ConfigError(f"no matrix '{name}'", key="--data", allowed="a folder that holds it")
        return datasets.load(name, folder=found[0], progress=False)
