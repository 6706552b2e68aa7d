"""What the columns of a table are called on an axis, and in which unit."""

from __future__ import annotations

from typing import NamedTuple

from sparsim.report import COMPONENTS, FIELDS
from sparsim.resources import FIELDS as RESOURCES

__all__ = ["Measure", "measure"]

# unit of the column to (factor, unit on the axis), where an axis takes SI prefixes
BASE = {"s": (1.0, "s"), "pJ": (1e-12, "J"), "bytes": (1.0, "B"), "GFLOP/s": (1e9, "FLOP/s")}
NAMES = {
    "time_s": "time",
    "gflops": "throughput",
    "energy_pj.total": "energy",
    "dram_bytes.total": "DRAM traffic",
    "cycles.total": "time",
    "speedup": "speed-up against dense twin",
    "chosen_speedup": "speed-up, dense kernel where faster",
    "reference_speedup": "speed against the reference",
    "energy_ratio": "energy relative to dense twin",
    "traffic_ratio": "DRAM traffic relative to dense twin",
    "propagation_gain": "gain of propagated sparsity",
}
RATIOS = frozenset(key for key in NAMES if key.endswith(("speedup", "ratio", "gain")))
MORE_IS_BETTER = ("gflops", "speedup", "gain", "accuracy", "hit_rate")


class Measure(NamedTuple):
    """How a column stands on an axis.

    Parameters
    ----------
    name : in words.
    factor : from the column's unit to ``unit``.
    unit : without prefix, "" where the column has none.
    takes_prefix : whether an SI prefix goes before ``unit``.
    more_is_better : whether the largest value is the best.
    """

    name: str
    factor: float
    unit: str
    takes_prefix: bool
    more_is_better: bool


def measure(key: str) -> Measure:
    """Return how the column ``key`` of a comparison or a sweep stands on an axis."""
    prefixed = next((unit for prefix, (unit, _) in COMPONENTS.items() if key.startswith(prefix)), "")
    unit = {**FIELDS, **RESOURCES}.get(key, (prefixed, ""))[0]
    if key in RATIOS:
        unit = "×"
    elif key.startswith("cycles."):
        unit = "cycles"
    elif not unit:
        unit = "s" if key.endswith("time_s") else "bytes" if key.endswith("_bytes") else ""
    better = any(word in key for word in MORE_IS_BETTER)
    if key.endswith("accuracy") or key.endswith("sparsity"):
        return Measure(key.replace("_", " "), 100.0, "%", False, better)
    factor, base = BASE.get(unit, (1.0, unit))
    return Measure(NAMES.get(key, key), factor, base, unit in BASE, better)
