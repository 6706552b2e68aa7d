"""What a machine has: multipliers, area, power, bandwidth; and what it makes of each.

Machines of very different size compare by throughput per multiplier, per mm2, per watt and per GB/s. Nothing is
estimated here: what nobody has published or derived is unknown.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sparsim.energy import area_mm2, scale_area
from sparsim.errors import ConfigError
from sparsim.machines import Machine
from sparsim.workload import DataType

__all__ = ["FIELDS", "NODE_NM", "Resources", "normalised", "resources", "unlike"]

NODE_NM = 40
UNLIKE = 10.0
UNKNOWN = math.nan

FIELDS: dict[str, tuple[str, str]] = {
    "resources.multipliers": ("multiplies/cycle", "most that one cycle can do in this data type, over all copies"),
    "resources.area_mm2": ("mm2", "area at the machine's own process node"),
    f"resources.area_mm2_{NODE_NM}nm": ("mm2", f"area scaled to {NODE_NM} nm (Stillmaker and Baas)"),
    "resources.power_w": ("W", "published power or that of the data sheet, which is not the energy table's"),
    "resources.dram_gb_s": ("GB/s", "peak DRAM bandwidth"),
    "resources.copies": ("machines", "equal machines side by side"),
    "gflops_per_multiplier": ("GFLOP/s", "throughput per multiplier"),
    "gflops_per_mm2": ("GFLOP/s/mm2", f"throughput per area at {NODE_NM} nm"),
    "gflops_per_w": ("GFLOP/s/W", "throughput per watt of resources.power_w"),
    "gflops_per_gb_s": ("FLOP/byte", "throughput per DRAM bandwidth"),
}


@dataclass(frozen=True)
class Resources:
    """What a machine has, all copies together; NaN where it is not known.

    Parameters
    ----------
    multipliers : multiplies of one cycle at most, in one data type.
    area_mm2, area_nm : area and the process node it is for [mm2, nm].
    power_w : published power, or that of the data sheet [W].
    dram_gb_s : peak DRAM bandwidth, which copies share [GB/s].
    copies : equal machines side by side.
    """

    multipliers: float
    area_mm2: float
    area_nm: float
    power_w: float
    dram_gb_s: float
    copies: int

    def area_mm2_at(self, node_nm: float) -> float:
        """Return the area scaled to another node; NaN if the rule does not cover both."""
        if self.area_nm == node_nm or math.isnan(self.area_mm2):
            return self.area_mm2
        try:
            return scale_area(self.area_mm2, self.area_nm, node_nm)
        except ConfigError:
            return UNKNOWN

    def flat(self) -> dict[str, float]:
        """Return the figures under the keys of :data:`FIELDS`."""
        return {
            "resources.multipliers": self.multipliers,
            "resources.area_mm2": self.area_mm2,
            f"resources.area_mm2_{NODE_NM}nm": self.area_mm2_at(NODE_NM),
            "resources.power_w": self.power_w,
            "resources.dram_gb_s": self.dram_gb_s,
            "resources.copies": self.copies,
        }


def resources(built: Machine, dtype: DataType) -> Resources:
    """Return what a machine has."""
    config = built.config
    peak = built.peak_multiplies_per_cycle(dtype)
    power = config.device_power_w
    return Resources(
        multipliers=peak if math.isfinite(peak) else UNKNOWN,
        area_mm2=area_mm2(built).get("total", UNKNOWN),
        area_nm=config.technology_nm,
        power_w=UNKNOWN if power is None or built.measured else config.copies * power,
        dram_gb_s=UNKNOWN if built.measured else config.dram.gb_s,
        copies=config.copies,
    )


def normalised(row: Mapping[str, Any], owned: Resources) -> dict[str, float]:
    """Return a machine's resources and the throughput that ``row`` tells of for each of them."""
    flat = owned.flat()
    per = {
        "gflops_per_multiplier": owned.multipliers,
        "gflops_per_mm2": flat[f"resources.area_mm2_{NODE_NM}nm"],
        "gflops_per_w": owned.power_w,
        "gflops_per_gb_s": owned.dram_gb_s,
    }
    return flat | {key: row["gflops"] / amount if amount else UNKNOWN for key, amount in per.items()}


def unlike(owned: Mapping[str, Resources]) -> Sequence[str]:
    """Return a note if machines of one table differ so much in size that absolute times say nothing."""
    known = {name: each.multipliers for name, each in owned.items() if not math.isnan(each.multipliers)}
    if not known or max(known.values()) <= UNLIKE * min(known.values()):
        return ()
    small, large = min(known, key=known.__getitem__), max(known, key=known.__getitem__)
    return (
        f"{large} has {known[large] / known[small]:,.0f} times the multipliers of {small}, so absolute times do not "
        "compare; --iso multipliers (area, power, bandwidth) holds them equal, gflops_per_… columns divide by them",
    )
