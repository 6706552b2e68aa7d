"""Where the energy of a comparison goes: a small table, for each machine the dense network and its cheapest variant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sparsim.energy import CLASSES, energy_by_class
from sparsim.report import si

__all__ = ["energy_classes", "energy_rows", "pattern", "telling"]

Row = Mapping[str, Any]
PREFIX = "energy_pj."


def pattern(row: Row) -> str:
    """Name a variant: granularity and share of zeros asked for."""
    return str(row["granularity"]) + (f" {row['sparsity']:.1%}" if row["sparsity"] else "")


def telling(totals: Sequence[Row]) -> list[Row]:
    """Return the first row of each network, batch and machine, and the one of least energy; none without energy."""
    chosen: list[Row] = []
    for key in dict.fromkeys((row["network"], row["batch"], row["machine.name"]) for row in totals):
        mine = [row for row in totals if (row["network"], row["batch"], row["machine.name"]) == key]
        mine = [row for row in mine if row["energy_pj.total"]]
        if mine:
            least = min(mine, key=lambda row: float(row["energy_pj.total"]))
            chosen += [mine[0]] if least is mine[0] else [mine[0], least]
    return chosen


def energy_classes(row: Row) -> dict[str, float]:
    """Return the energy of a row by what takes it [pJ]; the parts sum to its total."""
    return energy_by_class(
        {key.removeprefix(PREFIX): value for key, value in row.items() if key.startswith(PREFIX)},
    )


def energy_rows(totals: Sequence[Row]) -> tuple[list[str], list[tuple[str, list[list[str]]]]]:
    """Return headings, and for each network and batch a title and a row of cells for each of :func:`telling`."""
    rows = telling(totals)
    shares = {id(row): energy_classes(row) for row in rows}
    classes = [name for name in CLASSES if any(part[name] for part in shares.values())]
    groups: list[tuple[str, list[list[str]]]] = []
    for network, batch in dict.fromkeys((row["network"], row["batch"]) for row in rows):
        mine = [row for row in rows if (row["network"], row["batch"]) == (network, batch)]
        table = ", ".join(dict.fromkeys(str(row["provenance.energy_table"]) for row in mine))
        cells = [[row["machine.name"], pattern(row), *_cells(row, shares[id(row)], classes)] for row in mine]
        which = ", dense and cheapest" if any(row["granularity"] == "dense" for row in mine) else ""
        groups.append((f"{network}, batch {batch}: energy by {table}{which}", cells))
    return ["machine", "pattern", "energy", *classes], groups


def _cells(row: Row, parts: Mapping[str, float], classes: Sequence[str]) -> list[str]:
    total = row["energy_pj.total"]
    return [si(total * 1e-12, "J"), *(f"{parts[name] / total:.0%}" for name in classes)]
