"""A comparison in words and in a small table: what pays, what does not, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan
from typing import Any

__all__ = ["TOTAL", "in_short", "is_total", "summary_rows", "verdict"]

TOTAL = "total"
PAYS = 1.05
AS_DENSE = 0.95
ALIKE = 0.95
NOTED = 1.01
SAME_BUDGET = 0.012
SMALL = 0.095

Row = Mapping[str, Any]


def is_total(row: Row) -> bool:
    """Tell a network's sum from a layer that happens to be called "total"."""
    return "workload.layer" not in row


def summary_rows(totals: Sequence[Row], figure: str = "speedup") -> tuple[list[str], list[tuple[str, list[list[str]]]]]:
    """Return headings, and for each network and batch a title and one row of cells per variant.

    ``figure`` is "speedup", against each machine's own twin, or "reference_speedup", against one machine for all.
    """
    names = list(dict.fromkeys(row["machine.name"] for row in totals))
    measured = any(row["accuracy"] is not None for row in totals)
    heads = ["pattern", "zeros", *(["accuracy"] if measured else []), *names]
    groups: list[tuple[str, list[list[str]]]] = []
    for network, batch in dict.fromkeys((row["network"], row["batch"]) for row in totals):
        chosen = [row for row in totals if (row["network"], row["batch"]) == (network, batch)]
        rows = []
        for label, asked in dict.fromkeys((row["granularity"], row["sparsity"]) for row in chosen):
            mine = {
                row["machine.name"]: row for row in chosen if (row["granularity"], row["sparsity"]) == (label, asked)
            }
            first = next(iter(mine.values()))
            accuracy = "" if first["accuracy"] is None else f"{first['accuracy']:.2%}"
            speed = [_times(mine[name], figure) for name in names]
            rows.append([label, _zeros(first), *([accuracy] if measured else []), *speed])
        against = "speed-up against dense weights on the machine's dense twin"
        if figure == "reference_speedup":
            against = f"speed against {first['reference']}'s dense weights, held equal: {first['held_equal']}"
        groups.append((f"{network}, batch {batch}: {against}", rows))
    return heads, groups


def _times(row: Row, figure: str) -> str:
    """Write a speed-up; a network without a weight has none."""
    times = row[figure]
    return "" if isnan(times) else f"{times:.2f}x" if times >= SMALL else f"{times:.2g}x"


def _zeros(row: Row) -> str:
    """Write the share of zeros, and what it became where pruning made weights of other layers useless."""
    before, after = (f"{row[key]:.1%}" for key in ("actual_sparsity", "propagated_sparsity"))
    return before if before == after else f"{before} → {after}"


def _grouped(rows: Sequence[Row], *keys: str) -> list[tuple[tuple[Any, ...], list[Row]]]:
    """Return the rows that agree in ``keys`` together, in the order of their first."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    return list(groups.items())


def verdict(rows: Sequence[Row]) -> list[str]:
    """Say for every machine and batch what pays, what does not, and why."""
    totals = [row for row in rows if is_total(row) and row["granularity"] != "dense" and not isnan(row["speedup"])]
    sentences = []
    for (network, name, batch), mine in _grouped(totals, "network", "machine.name", "batch"):
        pays = sorted((row for row in mine if row["speedup"] >= PAYS), key=lambda row: -float(row["speedup"]))
        head = f"{name}, {network}, batch {batch}: "
        if not pays:
            best = max(mine, key=lambda row: row["speedup"])
            at_best = f"nothing pays, at best {_pattern(best)} {best['speedup']:.2f}x"
            skips = f": the machine skips {best['details.skips']}" if best["speedup"] >= AS_DENSE else ""
            sentences.append(f"{head}{at_best}{skips}. {_why(best)}")
            continue
        budgets: dict[float, list[Row]] = {}
        for row in pays:
            near = round(row["sparsity"] * 20) / 20
            budgets.setdefault(near if abs(near - row["sparsity"]) < SAME_BUDGET else row["sparsity"], []).append(row)
        gains = "; ".join(
            f"with {_percent(group[0]['actual_sparsity'])} zeros {_gains(group)}"
            for _, group in sorted(budgets.items())
        )
        sentences.append(f"{head}{gains}.{_no_gain(mine, pays)} {_why(pays[0])}")
    return sentences + _held_equal(totals) + _chosen(totals) + _carried(totals) + _accuracies(totals)


def _no_gain(mine: Sequence[Row], pays: Sequence[Row]) -> str:
    """Name the patterns that never pay: those that cost what dense weights cost, and those that cost more."""
    best: dict[str, float] = {}
    for row in mine:
        best[_pattern(row)] = max(best.get(_pattern(row), 0.0), float(row["speedup"]))
    lost = {name: gain for name, gain in best.items() if name not in set(map(_pattern, pays))}
    alike = [name for name, gain in lost.items() if gain >= AS_DENSE]
    slower = [f"{name} ({gain:.2f}x)" for name, gain in lost.items() if gain < AS_DENSE]
    told = f" No gain from {', '.join(alike)}: the machine skips {pays[0]['details.skips']}." if alike else ""
    return told + (f" Slower than dense: {', '.join(slower)}." if slower else "")


def in_short(rows: Sequence[Row]) -> list[str]:
    """Say for each network, at its largest batch, where each pattern pays and by how much at best."""
    totals = [row for row in rows if is_total(row) and row["granularity"] != "dense" and not isnan(row["speedup"])]
    told = []
    for (network,), mine in _grouped(totals, "network"):
        batch = max(row["batch"] for row in mine)
        parts = []
        for _, some in _grouped([row for row in mine if row["batch"] == batch], "granularity"):
            best = {
                name: max(float(row["speedup"]) for row in each) for (name,), each in _grouped(some, "machine.name")
            }
            pays = sorted(((gain, name) for name, gain in best.items() if gain >= PAYS), reverse=True)
            gains = ", ".join(f"{name} ({_factor(gain)})" for gain, name in pays)
            parts.append(f"{_pattern(some[0])} pays on {gains}" if pays else f"{_pattern(some[0])} pays nowhere")
        budgets = _grouped(mine, "granularity", "sparsity")
        chosen = ", each at the sparsity that gains most" if len(budgets) > len(parts) else ""
        told.append(f"{network}, batch {batch}{chosen}: {'; '.join(parts)}.")
    return told


def _gains(group: Sequence[Row]) -> str:
    """Name the speed-ups of one budget, patterns that come to the same in one go."""
    same: list[list[Row]] = []
    for row in group:
        if same and row["speedup"] > ALIKE * same[-1][0]["speedup"]:
            same[-1].append(row)
        else:
            same.append([row])
    return ", ".join(f"{' and '.join(map(_pattern, rows))} {_factor(rows[0]['speedup'])}" for rows in same)


def _factor(times: float) -> str:
    """Write a speed-up with two digits, a large one in full."""
    return f"{times:.2g}x" if times < 99.5 else f"{times:,.0f}x"


def _held_equal(totals: Sequence[Row]) -> list[str]:
    """Rank machines of one size, each with its fastest pattern."""
    sentences = []
    ranked = [row for row in totals if not isnan(row.get("reference_speedup", float("nan")))]
    for (network, batch), mine in _grouped(ranked, "network", "batch"):
        best: dict[str, Row] = {}
        for row in mine:
            if row["reference_speedup"] > best.get(row["machine.name"], {}).get("reference_speedup", 0.0):
                best[row["machine.name"]] = row
        order = sorted(best.values(), key=lambda row: -float(row["reference_speedup"]))
        named = [f"{row['machine.name']} {row['reference_speedup']:.2g}x with {_pattern(row)}" for row in order]
        if named:
            sentences.append(
                f"{network}, batch {batch}, held equal {order[0]['held_equal']}: of the speed of "
                f"{order[0]['reference']}'s dense weights, {', '.join(named)}."
            )
    return sentences


def _chosen(totals: Sequence[Row]) -> list[str]:
    """Say what a library user gains who runs the dense kernel in the layers where the sparse one is slower."""
    sentences = []
    for (network, name, batch), mine in _grouped(totals, "network", "machine.name", "batch"):
        gains = [row for row in mine if row["chosen_speedup"] >= NOTED * row["speedup"]]
        if gains:
            best = max(gains, key=lambda row: float(row["chosen_speedup"]))
            sentences.append(
                f"{name}, {network}, batch {batch}: with the dense kernel in every layer where it is faster, "
                f"{_pattern(best)} gains {best['chosen_speedup']:.2f}x instead of {best['speedup']:.2f}x."
            )
    return sentences


def _carried(totals: Sequence[Row]) -> list[str]:
    """Say for each network what it won that removed channels take weights of other layers along."""
    sentences = []
    for network in dict.fromkeys(row["network"] for row in totals):
        won = [row for row in totals if row["network"] == network and row["propagation_gain"] >= NOTED]
        if not won:
            continue
        best = max(won, key=lambda row: float(row["propagation_gain"]))
        before, after = best["actual_sparsity"], best["propagated_sparsity"]
        sentences.append(
            f"{network}: channels that pruning emptied take weights of other layers along, at best {_pattern(best)}, "
            f"{_rise(before, after)}: {best['propagation_gain']:.2f}x faster on {best['machine.name']} "
            f"(batch {best['batch']}) than without."
        )
    return sentences


def _percent(share: float) -> str:
    """Write a share of zeros; only what is all or nothing is called 100% or 0%."""
    digits = next((count for count in range(5) if f"{share:.{count}%}" not in (f"{1:.{count}%}", f"{0:.{count}%}")), 0)
    return f"{share:.{digits}%}"


def _rise(before: float, after: float) -> str:
    """Write two shares of zeros with as many digits as it takes to tell them apart."""
    digits = next((count for count in (1, 2, 3) if f"{before:.{count}%}" != f"{after:.{count}%}"), 4)
    return f"from {before:.{digits}%} to {after:.{digits}%} zeros"


def _accuracies(totals: Sequence[Row]) -> list[str]:
    """Say for each network how accurate the sparsest variant of every pattern still is."""
    sentences = []
    for network in dict.fromkeys(row["network"] for row in totals):
        sparsest: dict[str, Row] = {}
        for row in totals:
            known = row["network"] == network and row["accuracy"] is not None
            if known and row["sparsity"] >= sparsest.get(_pattern(row), row)["sparsity"]:
                sparsest[_pattern(row)] = row
        if sparsest:
            named = [
                f"{name} {r['accuracy']:.1%} at {_percent(r['actual_sparsity'])} zeros" for name, r in sparsest.items()
            ]
            sentences.append(f"accuracy of {network}, measured after fine-tuning: {', '.join(named)}.")
    return sentences


def _why(row: Row) -> str:
    return f"With {_pattern(row)}, layer {row['slowest_layer']} takes longest: {row['details.reason']}."


def _pattern(row: Row) -> str:
    return "its own zeros" if row["granularity"] == "as stored" else str(row["granularity"])
