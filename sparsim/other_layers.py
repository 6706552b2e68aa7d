"""Bytes that layers without a matrix product move: activations, normalisations, pooling, sums of residuals.

They take the same time however the weights are pruned, so a speed-up of the products is less of one of the network.
The bytes are given, or estimated: every output of a product is read and written once more, unfused. Their time is
bytes over peak DRAM bandwidth, on a machine and on its dense twin alike; arithmetic is free and nothing overlaps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from sparsim.energy import EnergyTable
from sparsim.errors import ConfigError
from sparsim.machines import Machine
from sparsim.report import si
from sparsim.verdict import is_total
from sparsim.workload import DataType

__all__ = ["ESTIMATED", "FIELDS", "OtherBytes", "add_other_layers", "check_other_bytes", "network_sentences"]

OtherBytes = float | Literal["auto"] | None
ESTIMATED = "bytes of layers without products are estimated: every output of a product is read and written once more"
GROUP = ("batch", "granularity", "sparsity", "machine.name")

FIELDS: dict[str, tuple[str, str]] = {
    "other_bytes": ("bytes", "moved by layers without products, all samples"),
    "other_time_s": ("s", "other_bytes / peak DRAM bandwidth"),
    "other_energy_pj": ("pJ", "their DRAM energy; no part of energy_pj.total"),
    "network_speedup": ("x", "speed-up against the dense twin with the time of other layers on both sides"),
}


def check_other_bytes(asked: OtherBytes, training: bool) -> None:
    """Refuse what is no number of bytes.

    Raises
    ------
    ConfigError
        If ``asked`` is negative, not finite, another word than "auto", or "auto" for a training step.
    """
    if asked is None:
        return
    if asked == "auto" and training:
        problem = "'auto' estimates inference, not a training step"
        raise ConfigError(problem, key="--other-bytes", allowed="a number of bytes per sample")
    number = isinstance(asked, int | float) and not isinstance(asked, bool)
    if asked != "auto" and not (number and math.isfinite(asked) and asked >= 0):
        raise ConfigError(f"{asked!r}", key="--other-bytes", allowed="bytes per sample, 0 or more, or auto")


def add_other_layers(
    rows: Sequence[dict[str, Any]],
    asked: OtherBytes,
    pairs: Sequence[tuple[Machine, Machine]],
    dtype: DataType,
    table: EnergyTable,
) -> None:
    """Give every total row of ``rows`` the columns of :data:`FIELDS`.

    Parameters
    ----------
    asked : bytes per sample, or "auto".
    pairs : machines, each with its dense twin.
    """
    outputs: dict[tuple[Any, ...], int] = {}
    for row in rows:
        if not is_total(row):
            key = tuple(row[name] for name in GROUP)
            outputs[key] = outputs.get(key, 0) + row["workload.m"] * row["workload.n"]
    machines = {built.name: (built, twin) for built, twin in pairs}
    for row in rows:
        if is_total(row):
            estimate = 2 * outputs[tuple(row[name] for name in GROUP)] * dtype.bytes
            size = estimate if asked == "auto" or asked is None else asked * row["batch"]
            own, twin = (_seconds(size, each) for each in machines[row["machine.name"]])
            total = row["time_s"] + own
            row["other_bytes"], row["other_time_s"] = size, own
            row["other_energy_pj"] = _energy_pj(size, machines[row["machine.name"]][0], table)
            row["network_speedup"] = (row["baseline_time_s"] + twin) / total if total else math.nan


def _seconds(size: float, built: Machine) -> float:
    return math.nan if built.measured else size / (built.config.dram.gb_s * 1e9)


def _energy_pj(size: float, built: Machine, table: EnergyTable) -> float:
    """Return both DRAM terms: by the byte, and peak bandwidth x time."""
    if built.measured:
        return math.nan
    per_byte, watts_per_gb_s = table.dram_terms(built.config.dram.technology)
    return size * per_byte + watts_per_gb_s * built.config.dram.gb_s * _seconds(size, built) * 1e12


def network_sentences(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say for each batch what the best speed-up of the products is worth for the network, machine by machine."""
    totals = [row for row in rows if is_total(row) and not math.isnan(row.get("network_speedup", math.nan))]
    sentences = []
    for network, batch in dict.fromkeys((row["network"], row["batch"]) for row in totals):
        mine = [row for row in totals if (row["network"], row["batch"]) == (network, batch)]
        best: dict[str, Mapping[str, Any]] = {}
        for row in mine:
            known = best.get(row["machine.name"])
            pruned = row["granularity"] != "dense" and not math.isnan(row["speedup"])
            if pruned and (known is None or row["speedup"] > known["speedup"]):
                best[row["machine.name"]] = row
        told = ", ".join(
            f"{name} {row['speedup']:.2f}x of the products is {row['network_speedup']:.2f}x of the network "
            f"({row['granularity']})"
            for name, row in best.items()
        )
        size = si(mine[0]["other_bytes"], "B")
        sentences.append(f"{network}, batch {batch}: other layers move {size}{'; ' if told else ''}{told}.")
    return sentences
