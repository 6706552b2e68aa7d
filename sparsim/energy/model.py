"""From action counts to picojoules, by component and by what a component is.

Operations and buffer accesses are counted, DRAM is charged by the byte and by peak bandwidth x time, because the
literature does both, and what a machine is built of by power x time where the table has it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sparsim.energy.table import EnergyTable, load_table
from sparsim.errors import ConfigError
from sparsim.machines import Machine
from sparsim.machines.activity import Activity
from sparsim.machines.base import DramConfig
from sparsim.workload import DataType

__all__ = ["CLASSES", "energy_by_class", "energy_pj", "refusal"]

ARITHMETIC = ("multiply", "add", "compare")
CLASSES = ("DRAM", "on-chip memory", "arithmetic", "static")


def energy_pj(
    activity: Activity,
    dtype: DataType,
    dram: DramConfig,
    seconds: float,
    table: EnergyTable,
    inventory: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """Return pJ by component; "total" is the sum of the others.

    ``inventory`` is what the machine is built of, for tables that charge it power x time.
    """
    parts: dict[str, float] = {}
    for name, count in activity.operations.items():
        if count:
            parts[name] = count * table.operation(name, dtype)
    for name, buffer in activity.buffers.items():
        access = table.sram_access(buffer.capacity_bytes, buffer.width_bytes)
        parts[name] = (buffer.reads + buffer.writes) * access
    for name, watts in table.static_watts(inventory or {}).items():
        parts[f"{name}_static"] = watts * seconds * 1e12
    per_byte, watts_per_gb_s = table.dram_terms(dram.technology)
    parts["dram_access"] = sum(activity.dram_bytes.values()) * per_byte
    parts["dram_static"] = watts_per_gb_s * dram.gb_s * seconds * 1e12
    return {"total": sum(parts.values()), **parts}


def energy_by_class(parts: Mapping[str, float]) -> dict[str, float]:
    """Return what :func:`energy_pj` gave in four parts that sum to the total [pJ].

    Arithmetic and accesses to on-chip memories are counted actions; "static" is power x time of what the chip is built
    of; DRAM has both of its terms.
    """
    classes = dict.fromkeys(CLASSES, 0.0)
    for name, value in parts.items():
        if name == "total":
            continue
        if name.startswith("dram_"):
            classes["DRAM"] += value
        elif name.endswith("_static"):
            classes["static"] += value
        else:
            classes["arithmetic" if name in ARITHMETIC else "on-chip memory"] += value
    return classes


def refusal(name: str, machines: Sequence[Machine], dtype: DataType) -> str:
    """Return why the table ``name`` cannot price a machine, "" if it can price all; measured ones have no energy."""
    table = load_table(name)
    for built in machines:
        if built.measured:
            continue
        try:
            for operation in ARITHMETIC:
                table.operation(operation, dtype)
            table.dram_terms(built.config.dram.technology)
            table.static_watts(built.inventory())
        except ConfigError as error:
            why = error.problem.removeprefix(f"energy table '{name}' ").partition(";")[0]
            return f"it {why} ({built.name})"
    return ""
