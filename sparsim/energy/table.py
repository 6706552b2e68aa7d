"""Families of energies: tables of published numbers that are never mixed inside one comparison.

A table is a TOML file of ``{value, unit, source, status, note}``. Arithmetic is looked up by operation and data type.
The energy of a buffer access follows from the table's SRAM points; memory outside the chip from the table's own rows,
or from those all families share (``dram.toml``), because a technology of DRAM is bought, not scaled. A table may also
charge power x time for what a machine is built of. ``NAME@NODE`` is a family scaled to another process node.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from sparsim.energy.scaling import Kind, check_node, scale_energy
from sparsim.errors import ConfigError, nearest
from sparsim.workload import DataType

__all__ = ["ALL_TABLES", "DEFAULT_TABLE", "EnergyTable", "TableEntry", "load_table", "scale_table", "table_names"]

DEFAULT_TABLE = "horowitz_45nm"
ALL_TABLES = "all"
# hwcomponents-cacti, found there by asking CACTI: 30 % of an access is its address, 70 % its data; with the depth it
# grows by a power. Used there to narrow a memory; here also to widen one.
ADDRESS_SHARE, DATA_SHARE, DEPTH_POWER = 0.3, 0.7, 1.56 / 2


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
    sram_width_rule : a wider access costs more by its data alone, or all of it "linear" in the width.
    dram : technology to pJ a byte moved.
    dram_static : technology to W for each GB/s of peak bandwidth; a technology that is not named takes none.
    static : kind of piece ("bytes", "comparators") to W for each one in a machine's inventory, busy or not.
    not_charged : what the family leaves out, and why.
    notes : what the reader of a report has to know.
    """

    name: str
    title: str
    technology_nm: float
    operations: Mapping[str, TableEntry]
    sram: Mapping[int, TableEntry]
    sram_width_bytes: int
    dram: Mapping[str, TableEntry]
    sram_width_rule: Literal["address_and_data", "linear"] = "address_and_data"
    dram_static: Mapping[str, TableEntry] = field(default_factory=dict)
    static: Mapping[str, TableEntry] = field(default_factory=dict)
    not_charged: str = ""
    notes: tuple[str, ...] = ()

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
        """Return pJ of one access of ``width_bytes`` to an SRAM of ``capacity_bytes``.

        Several points give a log-log line through neighbours (and beyond, along the nearest pair). From a single one
        the energy grows with the number of words to the power 0.78.
        """
        points = sorted((size, entry.value) for size, entry in self.sram.items())
        size, width = max(capacity_bytes, 1), width_bytes / self.sram_width_bytes
        wider = width if self.sram_width_rule == "linear" else DATA_SHARE * width + ADDRESS_SHARE
        if len(points) == 1:
            words, energy = points[0]
            return float(energy * wider * (size / words / width) ** DEPTH_POWER)
        at = next((i for i in range(1, len(points)) if size <= points[i][0]), len(points) - 1)
        (x0, y0), (x1, y1) = points[at - 1], points[at]
        slope = math.log(y1 / y0) / math.log(x1 / x0)
        return float(y0 * (size / x0) ** slope * wider)

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
            remedy = f"use '{DEFAULT_TABLE}', or leave out machines such as GPUs and CPUs"
            raise ConfigError(f"energy table '{self.name}' {place}; {remedy}", key="--energy")
        watts: dict[str, float] = {}
        for key, pieces in inventory.items():
            component, _, kind = key.rpartition(".")
            if kind in self.static:
                watts[component] = watts.get(component, 0.0) + pieces * self.static[kind].value
        return watts


@cache
def table_names() -> tuple[str, ...]:
    """Return the names of the shipped tables."""
    folder = resources.files("sparsim.energy").joinpath("tables")
    return tuple(sorted(e.name.removesuffix(".toml") for e in folder.iterdir() if e.name.endswith(".toml")))


def load_table(name: str = DEFAULT_TABLE) -> EnergyTable:
    """Read the table called ``name``, or scale it: "horowitz_45nm@7" is that family at 7 nm.

    Raises
    ------
    ConfigError
        If there is no such table, or no rule for the node.
    """
    if not isinstance(name, str):
        raise ConfigError(f"no energy table {name!r}", key="--energy", allowed=", ".join(table_names()))
    return _load(name)


@cache
def _load(name: str) -> EnergyTable:
    leaf, at, node = name.partition("@")
    if leaf == ALL_TABLES:
        place = f"'{name}' is for compare, which tells how far its answer depends on the table"
        raise ConfigError(place, key="--energy", allowed=", ".join(table_names()))
    if leaf not in table_names():
        raise ConfigError(f"no energy table '{leaf}'{nearest(leaf, table_names())}", key="--energy")
    data = _read(leaf)
    parent = data.pop("extends", None)
    # whole sections: points of two memories on one line, or static power of two papers, would be no family's
    data = data if parent is None else {**_read(parent), **data}
    table = EnergyTable(
        name=leaf,
        title=data["title"],
        technology_nm=data["technology_nm"],
        operations=_entries(data["operation"]),
        sram={int(key): entry for key, entry in _entries(data["sram"]).items()},
        sram_width_bytes=data["sram_width_bytes"],
        sram_width_rule=data.get("sram_width_rule", "address_and_data"),
        dram=_common_dram() | _entries(data.get("dram", {})),
        dram_static=_entries(data.get("dram_static", {})),
        static=_entries(data.get("static", {})),
        not_charged=data.get("not_charged", ""),
    )
    if not at:
        return table
    try:
        return scale_table(table, float(node))
    except ValueError as error:
        told = error.problem if isinstance(error, ConfigError) else f"'{node}' is no process node"
        raise ConfigError(told, key=f"--energy {name}", allowed="7 to 130, in nm") from None


def scale_table(table: EnergyTable, nm: float, rule: Literal["stillmaker", "jouppi"] = "stillmaker") -> EnergyTable:
    """Return the family as it would be at ``nm``, all machines alike; DRAM stays, and every figure is derived."""
    check_node(nm)

    def scaled(entries: Mapping[Any, TableEntry], kind: Kind) -> dict[Any, TableEntry]:
        return {key: _scaled(entry, table.technology_nm, nm, kind, rule) for key, entry in entries.items()}

    factor = scale_energy(1.0, table.technology_nm, nm, rule=rule)
    told = f"scaled from {table.technology_nm:g} to {nm:g} nm by the {rule} rule: logic x {factor:.3g}"
    bound = "a bound: the stillmaker rule has 10.6 from 45 to 7 nm, published figures differ by 2.6 (Jouppi and others)"
    return replace(
        table,
        name=f"{table.name}@{nm:g}",
        title=f"{table.title}; {told}",
        technology_nm=nm,
        operations=scaled(table.operations, "logic"),
        sram=scaled(table.sram, "sram"),
        static={key: scaled({key: entry}, _kind(key))[key] for key, entry in table.static.items()},
        notes=(*table.notes, f"energies of {table.name} {told}; {bound}"),
    )


def _kind(piece: str) -> Kind:
    return "sram" if piece == "bytes" else "logic"


def _scaled(entry: TableEntry, old: float, nm: float, kind: Kind, rule: Literal["stillmaker", "jouppi"]) -> TableEntry:
    value = scale_energy(entry.value, old, nm, kind, rule)
    note = f"{entry.value:g} {entry.unit} at {old:g} nm, scaled as {kind} by the {rule} rule; {entry.note}"
    return entry.model_copy(update={"value": value, "status": "derived", "note": note.removesuffix("; ")})


def _read(leaf: str) -> dict[str, Any]:
    text = resources.files("sparsim.energy").joinpath("tables", f"{leaf}.toml").read_text("utf-8")
    return tomllib.loads(text)


@cache
def _common_dram() -> dict[str, TableEntry]:
    """Return the rows all families share."""
    text = resources.files("sparsim.energy").joinpath("dram.toml").read_text("utf-8")
    return _entries(tomllib.loads(text)["dram"])


def _entries(section: Mapping[str, Any], prefix: str = "") -> dict[str, TableEntry]:
    found: dict[str, TableEntry] = {}
    for key, value in section.items():
        if "value" in value:
            found[prefix + key] = TableEntry(**value)
        else:
            found |= _entries(value, f"{prefix}{key}.")
    return found
