"""The verb: hold every model against what is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from os import PathLike
from pathlib import Path
from typing import Any

from sparsim.errors import ConfigError, nearest
from sparsim.fidelity.bench import Bench
from sparsim.fidelity.record import BOUNDS, VALIDATING, Row
from sparsim.progress import tqdm

__all__ = ["PAPERS", "Validation", "validate"]

PAPERS = ("sparch", "outerspace", "tensor_core", "gpu_sparse", "systolic", "cpu", "networks")
DETAILS = ("detail", "not_modelled")


@dataclass(frozen=True, eq=False, repr=False)
class Validation:
    """The answer of :func:`validate`.

    Parameters
    ----------
    rows : every figure held against the model.
    missing : public matrices and masks that were asked for and are not at hand.
    """

    rows: tuple[Row, ...]
    missing: tuple[str, ...] = ()

    @property
    def off(self) -> tuple[Row, ...]:
        """Asserted rows that do not hold."""
        return tuple(row for row in self.rows if row.verdict == "off")

    @property
    def holds(self) -> bool:
        """Whether no asserted row is off."""
        return not self.off

    @property
    def main_rows(self) -> tuple[Row, ...]:
        """The rows a person reads: without single oracle workloads and figures that no model covers."""
        return tuple(row for row in self.rows if row.role not in DETAILS)

    @property
    def summary(self) -> str:
        """How many asserted rows hold, how many of them validate (a bound does not), and what the others miss."""
        asserted = [row for row in self.rows if row.asserted]
        held = [row for row in asserted if row.verdict == "ok"]
        validated = sum(row.certainty in VALIDATING and row.role not in BOUNDS for row in held)
        text = (
            f"{len(held)} of {len(asserted)} asserted rows hold "
            f"({validated} validated against published, measured or author-code figures)"
        )
        skipped = [row for row in self.rows if row.verdict == "skipped"]
        if skipped:
            needed = [name for name in self.missing if any(name in row.note for row in skipped)]
            text += f"; {len(skipped)} skipped: need {', '.join(needed)} (sparsim.datasets or --data FOLDER)"
        return text

    def to_frame(self) -> Any:
        """Return the rows as a DataFrame."""
        import pandas as pd

        return pd.DataFrame([row.to_dict() for row in self.rows])

    def __repr__(self) -> str:
        lost = (f"\n  off: {row.paper}: {row.quantity} of {row.workload}: {row.note}" for row in self.off)
        return f"Validation: {self.summary}{''.join(lost)}"


def validate(
    papers: Sequence[str] = (),
    *,
    folder: str | PathLike[str] | None = None,
    stand_ins: bool = False,
    progress: bool = True,
) -> Validation:
    """Hold the models against published, measured and counted figures.

    Parameters
    ----------
    papers : rooms to visit, all of :data:`PAPERS` by default.
    folder : where the public matrices lie, as ``.mtx``, ``.npz`` or in a folder ``matrices``; without it, those that
        :mod:`sparsim.datasets` has kept. Masks of pruned networks lie in its folders ``dlmc`` and ``networks``. A
        missing one makes skipped rows, never a failure.
    stand_ins : add means over 20 matrices, missing ones generated, labelled so.
    progress : show a bar on stderr.

    Raises
    ------
    ConfigError
        If there is no such paper, or no such folder.
    """
    chosen = tuple(dict.fromkeys(papers)) or PAPERS
    for paper in chosen:
        if paper not in PAPERS:
            raise ConfigError(f"nothing published is kept for '{paper}'{nearest(paper, PAPERS)}", key="validate")
    bench = Bench(None if folder is None else Path(folder), stand_ins)
    rows: list[Row] = []
    with tqdm(desc="validating", unit="row", disable=None if progress else True) as bar:
        for paper in chosen:
            bar.set_postfix_str(paper)
            for row in import_module(f"sparsim.fidelity.{paper}").rows(bench):
                rows.append(row)
                bar.update()
    return Validation(tuple(rows), tuple(bench.missing))
