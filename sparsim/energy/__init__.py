"""Energy: action counts times a cited table, by component; area: what a machine is built of, likewise."""

from sparsim.energy.area import area_mm2
from sparsim.energy.model import EnergyTable, energy_pj, load_table, table_names

__all__ = ["EnergyTable", "area_mm2", "energy_pj", "load_table", "table_names"]
