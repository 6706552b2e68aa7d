"""Does the answer depend on the energy table? The same activities priced by every family that knows them.

Families differ by factors of ten in arithmetic and in memory, so that a ranking by energy is worth as much as it
survives a change of family. Power x time of whole devices stays out: it is no sum of actions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sparsim.breakdown import pattern, telling
from sparsim.energy import DEFAULT_TABLE, load_table, refusal, table_names
from sparsim.machines import Machine
from sparsim.report import si
from sparsim.rows import totals
from sparsim.verdict import is_total
from sparsim.workload import DataType

__all__ = ["Sensitivity", "priceable", "sensitivity"]

SAVES, COSTS = 0.95, 1.05
NAMED = 3

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Sensitivity:
    """Energies of a comparison by every table.

    Parameters
    ----------
    rows : one mapping per table, network, batch, variant and machine: ``energy_pj``, ``energy_ratio`` to the dense
        twin, and ``rank`` among all variants and machines of the network and batch, 1 = least energy.
    sentences : whether the ranking holds, where it does not, and which table was left out and why.
    """

    rows: Sequence[Row] = field(repr=False)
    sentences: tuple[str, ...]

    def to_frame(self) -> Any:
        """Return the rows as a DataFrame."""
        import pandas as pd

        return pd.DataFrame(self.rows)

    def beside(self, rows: Sequence[Row]) -> list[Row]:
        """Return the rows of a comparison, those of whole networks with ``energy_by_table.NAME`` [pJ]."""
        found: dict[tuple[Any, ...], dict[str, float]] = {}
        for row in self.rows:
            found.setdefault(_key(row), {})[f"energy_by_table.{row['energy_table']}"] = row["energy_pj"]
        return [{**row, **found.get(_key(row), {})} if is_total(row) else row for row in rows]

    def table(self) -> tuple[list[str], list[tuple[str, list[list[str]]]]]:
        """Return headings, and for each network and batch a title and cells: one column a table, few rows a machine."""
        names = list(dict.fromkeys(row["energy_table"] for row in self.rows))
        first = [_as_total(row) for row in self.rows if row["energy_table"] == names[0]]
        values = {(row["energy_table"], *_key(row)): row["energy_pj"] for row in self.rows}
        groups: list[tuple[str, list[list[str]]]] = []
        for network, batch in dict.fromkeys((row["network"], row["batch"]) for row in first):
            chosen = telling([row for row in first if (row["network"], row["batch"]) == (network, batch)])
            cells = [
                [row["machine.name"], pattern(row), *(si(values[name, *_key(row)] * 1e-12, "J") for name in names)]
                for row in chosen
            ]
            groups.append((f"{network}, batch {batch}: energy by table, dense and cheapest by {names[0]}", cells))
        return ["machine", "pattern", *names], groups


def priceable(machines: Sequence[Machine], dtype: DataType) -> tuple[list[str], dict[str, str]]:
    """Return the tables that know all machines and the data type, the default first, and why the others do not."""
    names = sorted(table_names(), key=lambda name: (name != DEFAULT_TABLE, name))
    reasons = {name: refusal(name, machines, dtype) for name in names}
    return [name for name in names if not reasons[name]], {name: why for name, why in reasons.items() if why}


def sensitivity(
    rows: Sequence[Row], priced: Sequence[Mapping[str, tuple[float, float]]], refused: Mapping[str, str]
) -> Sensitivity:
    """Price the rows of products by every table and say what changes.

    Parameters
    ----------
    rows, priced : of :class:`~sparsim.rows.Table`, product by product and in one order.
    refused : tables that were left out, with the reason.
    """
    names = list(dict.fromkeys(name for prices in priced for name in prices))
    found: list[dict[str, Any]] = []
    for name in names:
        repriced = [
            {**row, "energy_pj.total": prices[name][0], "baseline_energy_pj": prices[name][1]}
            for row, prices in zip(rows, priced, strict=True)
        ]
        known = [row for row in totals(repriced) if row["energy_pj.total"]]
        for mine in _groups(known):
            order = sorted(mine, key=lambda row: float(row["energy_pj.total"]))
            ranks = {id(row): at for at, row in enumerate(order, 1)}
            found += [_row(name, row, ranks[id(row)]) for row in mine]
    sentences = [sentence for mine in _groups(found) for sentence in _sentences(mine)]
    for why in dict.fromkeys(refused.values()):
        sentences.append(f"Left out: {', '.join(name for name in refused if refused[name] == why)}: {why}.")
    if found:
        rest = ", ".join(names[1:]) or "none but itself"
        sentences.append(f"Other figures are those of {names[0]} ({load_table(names[0]).title}); compared with {rest}.")
    else:
        sentences.append("No table has anything to price: the energy of measured machines is not known.")
    return Sensitivity(found, tuple(sentences))


def _row(name: str, row: Row, rank: int) -> dict[str, Any]:
    keys = ("network", "batch", "granularity", "sparsity", "machine.name")
    kept = {key: row[key] for key in keys}
    ratios = {"energy_pj": row["energy_pj.total"], "energy_ratio": row["energy_ratio"]}
    return {"energy_table": name, **kept, **ratios, "rank": rank}


def _as_total(row: Row) -> dict[str, Any]:
    return {**row, "energy_pj.total": row["energy_pj"]}


def _key(row: Row) -> tuple[Any, ...]:
    return tuple(row[key] for key in ("network", "batch", "granularity", "sparsity", "machine.name"))


def _groups(rows: Sequence[Any]) -> Iterator[list[Any]]:
    """Split rows by network and batch."""
    for network, batch in dict.fromkeys((row["network"], row["batch"]) for row in rows):
        yield [row for row in rows if (row["network"], row["batch"]) == (network, batch)]


def _sentences(rows: Sequence[Row]) -> Iterator[str]:
    """Say for one network and batch whether the ranking, its head, and the savings hold under every table."""
    names = list(dict.fromkeys(row["energy_table"] for row in rows))
    by_entry: dict[tuple[Any, ...], dict[str, Row]] = {}
    for row in rows:
        by_entry.setdefault(_key(row), {})[row["energy_table"]] = row
    entries = list(by_entry.values())
    head = f"{rows[0]['network']}, batch {rows[0]['batch']}: "
    if len(names) < 2 or len(entries) < 2:
        yield f"{head}nothing to compare, {len(names)} energy table(s) for {len(entries)} variant(s) and machine(s)."
        return
    swapped, pairs = _swapped([[entry[name]["energy_pj"] for entry in entries] for name in names])
    if not swapped:
        whole = f"the ranking of {len(entries)} variants and machines by energy is the same under all"
        yield f"{head}{whole} {len(names)} tables."
    else:
        moved = max(entries, key=lambda entry: _spread([row["rank"] for row in entry.values()]))
        low, high = (best(moved.values(), key=lambda row: int(row["rank"])) for best in (min, max))
        yield (
            f"{head}the ranking by energy depends on the table for {swapped:,} of {pairs:,} pairs "
            f"({swapped / pairs:.0%}); {_label(low)} is no. {low['rank']} of {len(entries)} under "
            f"{low['energy_table']} and no. {high['rank']} under {high['energy_table']}."
        )
    yield head + _least(entries, names)
    turned = [entry for entry in entries if _turns([row["energy_ratio"] for row in entry.values()])]
    if turned:
        named = ", ".join(_range(entry) for entry in turned[:NAMED])
        more = f" and {len(turned) - NAMED} more" if len(turned) > NAMED else ""
        yield f"{head}whether it saves energy against its dense twin depends on the table for {named}{more}."


def _swapped(energies: Sequence[Sequence[float]]) -> tuple[int, int]:
    """Count the pairs of columns whose order is not the same in every row, and all pairs."""
    values = np.array(energies)
    order = np.sign(values[:, :, None] - values[:, None, :])
    swapped = (order.max(axis=0) > 0) & (order.min(axis=0) < 0)
    return int(swapped.sum()) // 2, values.shape[1] * (values.shape[1] - 1) // 2


def _spread(ranks: Sequence[int]) -> int:
    return max(ranks) - min(ranks)


def _turns(ratios: Sequence[float]) -> bool:
    return min(ratios) <= SAVES and max(ratios) >= COSTS


def _least(entries: Sequence[Mapping[str, Row]], names: Sequence[str]) -> str:
    """Name what takes least energy, with the tables that say so."""
    says: dict[str, list[str]] = {}
    for name in names:
        least = min(entries, key=lambda entry: float(entry[name]["energy_pj"]))
        says.setdefault(_label(least[name]), []).append(name)
    if len(says) == 1:
        return f"least energy under every table: {next(iter(says))}."
    return "least energy: " + "; ".join(f"{label} under {', '.join(by)}" for label, by in says.items()) + "."


def _label(row: Row) -> str:
    return f"{pattern(row)} on {row['machine.name']}"


def _range(entry: Mapping[str, Row]) -> str:
    low, high = (best(entry.values(), key=lambda row: float(row["energy_ratio"])) for best in (min, max))
    figures = f"{low['energy_ratio']:.2f}x under {low['energy_table']}, {high['energy_ratio']:.2f}x under"
    return f"{_label(low)} ({figures} {high['energy_table']})"
