"""Energy: action counts times a cited table, by component."""

from sparsim.energy.model import EnergyTable, energy_pj, load_table, table_names

__all__ = ["EnergyTable", "energy_pj", "load_table", "table_names"]
