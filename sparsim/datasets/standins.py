"""Stand-ins: generated matrices of the same rows, elements and kind as real ones that a user does not have.

A stand-in is a workload of the right size, never a reproduction: results on one carry the label ``standin:NAME``, and
no average that is compared with a published one may contain it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sparsim.datasets import graphs, meshes
from sparsim.datasets.registry import PREFIX, entries, standin_tables
from sparsim.errors import ConfigError
from sparsim.matrix import Csr

__all__ = ["StandinFacts", "standin", "standin_facts", "standin_names"]

GENERATORS: dict[str, Callable[..., Csr]] = {
    "circuit": meshes.circuit,
    "citation": graphs.citation,
    "copurchase": graphs.copurchase,
    "mesh3d": meshes.mesh3d,
    "mixed_mesh2d": meshes.mixed_mesh2d,
    "rmat": graphs.rmat,
    "road": meshes.road,
    "web": graphs.web,
}


@dataclass(frozen=True)
class StandinFacts:
    """How like the real matrix a stand-in is; rows and elements are equal.

    Parameters
    ----------
    label : under which results on it are reported.
    kind : structure of the real matrix, in words.
    generator, parameters : what makes the stand-in; the parameters were tuned towards the two counts.
    rows, nnz : of both.
    products, nnz_c : multiplications and structural non-zeros of A x A, of the stand-in with seed 0 (measured).
    real_products, real_nnz_c : of the real matrix.
    real_status : of the real matrix's counts: published, measured or recalled.
    """

    label: str
    kind: str
    generator: str
    parameters: dict[str, Any]
    rows: int
    nnz: int
    products: int
    nnz_c: int
    real_products: int
    real_nnz_c: int
    real_status: str

    @property
    def products_ratio(self) -> float:
        """Multiplications of the stand-in over those of the real matrix."""
        return self.products / self.real_products

    @property
    def nnz_c_ratio(self) -> float:
        """Non-zeros of the stand-in's square over those of the real matrix's."""
        return self.nnz_c / self.real_nnz_c


def standin_names() -> list[str]:
    """Return the names that :func:`standin` takes."""
    return sorted(standin_tables())


def _table(name: str) -> dict[str, Any]:
    name = name.removeprefix(PREFIX)
    if name not in standin_tables():
        hint = "; m133_b3() follows its definition" if name == "m133-b3" else ""
        raise ConfigError(
            f"no stand-in for '{name}'{hint}",
            key="standin",
            allowed=", ".join(standin_names()),
        )
    return standin_tables()[name]


def standin(name: str, seed: int = 0) -> Csr:
    """Return a generated pattern with exactly the rows and elements of a real matrix, and a structure of its kind.

    Parameters
    ----------
    name : one of :func:`standin_names`, with or without the prefix ``standin:``.
    seed : the same gives the same matrix (for one version of numpy).

    Raises
    ------
    ConfigError
        If there is no generator for that matrix.
    """
    table, entry = _table(name), entries()[name.removeprefix(PREFIX)]
    return GENERATORS[table["generator"]](entry.rows, entry.nnz, seed, **table["parameters"])


def standin_facts(name: str) -> StandinFacts:
    """Return how a stand-in (seed 0) compares with the real matrix; the numbers are stored, nothing is generated."""
    table, entry = _table(name), entries()[name.removeprefix(PREFIX)]
    return StandinFacts(
        label=f"{PREFIX}{entry.name}",
        kind=entry.kind,
        generator=table["generator"],
        parameters=dict(table["parameters"]),
        rows=entry.rows,
        nnz=entry.nnz,
        products=table["products"],
        nnz_c=table["nnz_c"],
        real_products=entry.products,
        real_nnz_c=entry.nnz_c,
        real_status=entry.counts_status,
    )
