"""From action counts to picojoules.

A table is one family of published numbers; tables are never mixed inside one comparison. Arithmetic is looked up by
operation and data type. A buffer access follows from the table's SRAM points: energy against capacity on a log-log
line between them (and beyond, along the nearest segment), times width over the width of the table's access. DRAM has
two terms, per byte moved and per second at peak bandwidth, because the literature charges both ways. A table may
also charge power x time for what a machine is built of; a machine that does not say what that is cannot be asked.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from sparsim.errors import ConfigError, nearest
from sparsim.machines.activity import Activity
from sparsim.machines.base import DramConfig
from sparsim.workload import DataType

__all__ = ["EnergyTable", "TableEntry", "energy_pj", "load_table", "table_names"]

DEFAULT_TABLE = "horowitz_45nm"


class TableEntry(BaseModel):
    """One energy and what it rests on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float = Field(ge=0)
    unit: str
    source: str
    status: Literal["published", "measured", "derived", "recalled", "assumed"]
    note: str = ""


@dataclass(frozen=True)
class EnergyTable:
    """One family of energies.

    Parameters
    ----------
    operations : "multiply.fp16", "add.fp32", "compare" … in pJ an operation.
    sram : capacity in bytes to pJ for one access of ``sram_width_bytes``.
    dram : technology to pJ a byte moved.
    dram_static : technology to W for each GB/s of peak bandwidth.
    static : kind of piece ("bytes", "comparators") to W for each one in a machine's inventory, busy or not.
    """

    name: str
    title: str
    technology_nm: int
    operations: Mapping[str, TableEntry]
    sram: Mapping[int, TableEntry]
    sram_width_bytes: int
    dram: Mapping[str, TableEntry]
    dram_static: Mapping[str, TableEntry]
    static: Mapping[str, TableEntry] = field(default_factory=dict)

    def operation(self, name: str, dtype: DataType) -> float:
        """Return pJ of one operation on ``dtype``.

        Raises
        ------
        ConfigError
            If the table has no such operation; another family must not fill the gap.
        """
        key = name if name == "compare" else f"{name}.{dtype.label}"
        if key not in self.operations:
            known = ", ".join(sorted(k.split(".")[1] for k in self.operations if k.startswith(f"{name}.")))
            raise ConfigError(
                f"energy table '{self.name}' has no {name} for {dtype.label}", key="--dtype", allowed=known or "none"
            )
        return self.operations[key].value

    def sram_access(self, capacity_bytes: int, width_bytes: int) -> float:
        """Return pJ of one access of ``width_bytes`` to an SRAM of ``capacity_bytes``."""
        points = sorted((size, entry.value) for size, entry in self.sram.items())
        size = max(capacity_bytes, 1)
        at = next((i for i in range(1, len(points)) if size <= points[i][0]), len(points) - 1)
        (x0, y0), (x1, y1) = points[at - 1], points[at]
        slope = math.log(y1 / y0) / math.log(x1 / x0)
        return float(y0 * (size / x0) ** slope * width_bytes / self.sram_width_bytes)

    def dram_terms(self, technology: str) -> tuple[float, float]:
        """Return pJ a byte and W for each GB/s of peak bandwidth."""
        if technology not in self.dram:
            raise ConfigError(
                f"energy table '{self.name}' has no DRAM '{technology}'{nearest(technology, self.dram)}", key="dram"
            )
        static = self.dram_static.get(technology)
        return self.dram[technology].value, static.value if static else 0.0

    def static_watts(self, inventory: Mapping[str, float]) -> dict[str, float]:
        """Return W by component, used or not; ``inventory`` as :meth:`~sparsim.machines.Machine.inventory` gives it.

        Raises
        ------
        ConfigError
            If the table charges such power and the inventory is empty: charging nothing would favour that machine.
        """
        if self.static and not inventory:
            place = "charges power x time for what a machine is built of, which this machine does not say"
            raise ConfigError(
                f"energy table '{self.name}' {place}; use '{DEFAULT_TABLE}', or a machine with an inventory (sparch)",
                key="--energy",
            )
        watts: dict[str, float] = {}
        for key, pieces in inventory.items():
            component, _, kind = key.rpartition(".")
            if kind in self.static:
                watts[component] = watts.get(component, 0.0) + pieces * self.static[kind].value
        return watts


def table_names() -> list[str]:
    """Return the names of the shipped tables."""
    folder = resources.files("sparsim.energy").joinpath("tables")
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load_table(name: str = DEFAULT_TABLE) -> EnergyTable:
    """Read the table called ``name``."""
    if name not in table_names():
        raise ConfigError(f"no energy table '{name}'{nearest(name, table_names())}", key="--energy")
    text = resources.files("sparsim.energy").joinpath("tables", f"{name}.toml").read_text("utf-8")
    data = tomllib.loads(text)

    def entries(section: Mapping[str, Any], prefix: str = "") -> dict[str, TableEntry]:
        found: dict[str, TableEntry] = {}
        for key, value in section.items():
            if "value" in value:
                found[prefix + key] = TableEntry(**value)
            else:
                found |= entries(value, f"{prefix}{key}.")
        return found

    return EnergyTable(
        name=name,
        title=data["title"],
        technology_nm=data["technology_nm"],
        operations=entries(data["operation"]),
        sram={int(key): entry for key, entry in entries(data["sram"]).items()},
        sram_width_bytes=data["sram_width_bytes"],
        dram=entries(data["dram"]),
        dram_static=entries(data.get("dram_static", {})),
        static=entries(data.get("static", {})),
    )


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
