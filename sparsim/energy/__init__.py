"""Energy: action counts times a cited table, by component; area: what a machine is built of, likewise."""

from sparsim.energy.area import area_mm2
from sparsim.energy.model import CLASSES, energy_by_class, energy_pj, refusal
from sparsim.energy.scaling import scale_area, scale_energy
from sparsim.energy.table import ALL_TABLES, DEFAULT_TABLE, EnergyTable, load_table, scale_table, table_names

__all__ = [
    "ALL_TABLES",
    "CLASSES",
    "DEFAULT_TABLE",
    "EnergyTable",
    "area_mm2",
    "energy_by_class",
    "energy_pj",
    "load_table",
    "refusal",
    "scale_area",
    "scale_energy",
    "scale_table",
    "table_names",
]
