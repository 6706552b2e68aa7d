"""The points of a sweep: which runs each is made of, and the row that comes of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sparsim.machines import Machine
from sparsim.report import Report
from sparsim.resources import normalised, resources
from sparsim.rows import Product, Row, product_row, totals
from sparsim.sweep.cases import Case
from sparsim.sweep.grid import Configuration, Grid
from sparsim.sweep.store import address, model_version
from sparsim.verdict import TOTAL
from sparsim.workload import DataType

__all__ = ["Part", "Point", "failed_row", "point_rows", "run_address"]

WAYS = ("run", "before", "dense")
NAMING = ("granularity", "sparsity", "actual_sparsity", "propagated_sparsity", "accuracy")


class Part(NamedTuple):
    """One product of a point as the store keeps it: what its rows say, and the content of its workloads.

    Parameters
    ----------
    head : columns known before any machine runs.
    has_twin : whether the dense network has this product.
    run, before, dense : hashes of the product, of it without propagated sparsity, and with all weights.
    """

    head: Mapping[str, Any]
    has_twin: bool
    run: str
    before: str
    dense: str

    @classmethod
    def of(cls, product: Product) -> Part:
        """Describe a product."""
        return cls(product.head, product.has_twin, *(getattr(product, way).sha256 for way in WAYS))


def run_address(sha256: str, built: Machine, grid: Grid) -> str:
    """Return what a run is known by: the content of the workload, the configuration, the version of the models."""
    options = [grid.orientation, grid.energy]
    return address(model_version(), "run", sha256, built.name, built.config_sha256, options)


@dataclass
class Point:
    """One case of one input on one configuration of a machine.

    Parameters
    ----------
    name : of the input.
    case, configuration, grid : what it is.
    parts : its products.
    is_matrix : whether it is one product of a matrix by itself.
    waiting : addresses of runs that have not come back.
    error : why there is nothing to run.
    """

    name: str
    case: Case
    configuration: Configuration
    grid: Grid
    parts: Sequence[Part] = ()
    is_matrix: bool = False
    waiting: set[str] = field(default_factory=set)
    error: str = ""

    def runs(self) -> Iterator[tuple[int, str, Machine, str]]:
        """Yield number of the part, which of its workloads, machine, and address, of every run it needs."""
        built, twin = self.configuration.built, self.configuration.twin
        if built is None or self.error:
            return
        for number, part in enumerate(self.parts):
            for way, machine in zip(WAYS, (built, built, twin), strict=True):
                if way != "dense" or part.has_twin:
                    yield number, way, machine, run_address(getattr(part, way), machine, self.grid)


def failed_row(point: Point, error: str) -> Row:
    """Return the row of a point that came to nothing."""
    configuration = point.configuration
    known = point.parts[0].head if point.parts else {}
    label = {**point.case.label, **{key: known[key] for key in NAMING if key in known}}
    label = {"network": point.name, **label, "layer": TOTAL, "machine.name": configuration.name}
    return {**label, "baseline": configuration.twin.name, **_fields(configuration), "error": error}


def point_rows(point: Point, records: Mapping[str, Any], errors: Mapping[str, str], layers: bool) -> list[Row]:
    """Return the rows of a point: one for all of it, or the one that says why not; before it one a layer if asked."""
    if point.error or point.configuration.error:
        return [failed_row(point, point.error or point.configuration.error)]
    reports: dict[tuple[int, str], Report] = {}
    note = ""
    for number, way, machine, key in point.runs():
        if key in records:
            reports[number, way] = _report(records[key])
        elif way != "dense":
            return [failed_row(point, _placed(point, number, errors[key]))]
        else:
            note = f"no speed-up: {_placed(point, number, errors[key])} ({machine.name})"
    configuration = point.configuration
    rows = [
        product_row(
            part.head,
            reports[number, "run"],
            reports[number, "before"],
            configuration.twin.name,
            None if note else reports.get((number, "dense")),
        )
        for number, part in enumerate(point.parts)
    ]
    for row in rows:
        row |= {**_fields(configuration), "error": note}
    (total,) = totals(rows) or [failed_row(point, "InputError: the network has no layers")]
    return [*(rows if layers else ()), _completed(total, rows, point, note)]


def _completed(total: Row, rows: Sequence[Row], point: Point, note: str) -> Row:
    assert point.configuration.built is not None
    if point.is_matrix:
        (row,) = rows
        total |= {key: value for key, value in row.items() if key not in total and key != "workload.layer"}
    total |= {key: rows[0][key] for key in ("machine.clock_ghz", "provenance.version")}
    total |= {"provenance.config_sha256": rows[0]["provenance.config_sha256"]}
    owned = resources(point.configuration.built, DataType.parse(total["workload.dtype"]))
    return {**total, **normalised(total, owned), **_fields(point.configuration), "error": note}


def _fields(configuration: Configuration) -> Row:
    """Return the swept fields, under the names they were given and the contract's."""
    own = dict(configuration.fields)
    return {**own, **{f"machine.config.{key}": value for key, value in own.items()}}


def _placed(point: Point, number: int, error: str) -> str:
    return error if len(point.parts) == 1 else f"layer {point.parts[number].head['layer']}: {error}"


def _report(record: Mapping[str, Any]) -> Report:
    return Report(record["data"], record["reason"], tuple(record["notes"]))
