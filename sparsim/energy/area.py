"""Area of a machine by unit: its inventory times the silicon one piece takes.

A published area is split over what its unit is built of, so that it moves when a buffer, the mergers or the tree do.
Every figure and its status stands in ``areas/<preset>.toml``.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

from sparsim.energy.scaling import scale_area
from sparsim.energy.table import TableEntry
from sparsim.errors import ConfigError, nearest
from sparsim.machines.base import Machine

__all__ = ["AreaTable", "area_mm2", "area_names", "load_areas"]


@dataclass(frozen=True)
class AreaTable:
    """The areas behind one machine.

    Parameters
    ----------
    technology_nm : process node of all areas [nm].
    published : unit to mm2, and "total", as the source gives them.
    per_piece : unit to key of :meth:`~sparsim.machines.Machine.inventory` to mm2 for one piece of it; nothing for a
        die whose units' areas are not known.
    """

    technology_nm: int
    published: Mapping[str, TableEntry]
    per_piece: Mapping[str, Mapping[str, TableEntry]]


@cache
def area_names() -> tuple[str, ...]:
    """Return the presets whose area is known."""
    folder = resources.files("sparsim.energy").joinpath("areas")
    return tuple(sorted(e.name.removesuffix(".toml") for e in folder.iterdir() if e.name.endswith(".toml")))


@cache
def load_areas(preset: str) -> AreaTable:
    """Read the areas of ``preset``.

    Raises
    ------
    ConfigError
        If there are none.
    """
    if preset not in area_names():
        raise ConfigError(f"no areas of '{preset}'{nearest(preset, area_names())}", key="area")
    text = resources.files("sparsim.energy").joinpath("areas", f"{preset}.toml").read_text("utf-8")
    data = tomllib.loads(text)
    if "same_as" in data:
        return load_areas(data["same_as"])
    return AreaTable(
        technology_nm=data["technology_nm"],
        published={unit: TableEntry(**entry) for unit, entry in data.get("published", {}).items()},
        per_piece={
            unit: {key: TableEntry(**entry) for key, entry in pieces.items()}
            for unit, pieces in data.get("per_piece", {}).items()
        },
    )


def area_mm2(machine: Machine) -> dict[str, float]:
    """Return mm2 by unit at the machine's node, and their "total"; nothing for a machine whose area is not known.

    Another node than the table's scales all of it, see :func:`~sparsim.energy.scaling.scale_area`. From 40 to 28 nm
    that is 2 % from the square of the node, which ACES (ASPLOS 2024) took; at 7 nm the square is far too small.
    """
    if machine.preset.name not in area_names():
        return {}
    table, inventory = load_areas(machine.preset.name), machine.inventory()
    from_nm, to_nm = table.technology_nm, machine.config.technology_nm
    shrink = 1.0 if from_nm == to_nm else scale_area(1.0, from_nm, to_nm)
    if not table.per_piece:
        return {"total": machine.config.copies * shrink * table.published["total"].value}
    units = {
        unit: shrink * sum(inventory[key] * entry.value for key, entry in pieces.items())
        for unit, pieces in table.per_piece.items()
    }
    return {"total": sum(units.values()), **units}
