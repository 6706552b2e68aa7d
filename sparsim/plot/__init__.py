"""Pictures: matplotlib Axes with units, short labels and colours that colour-blind readers tell apart.

Every function takes a :class:`~sparsim.compare.Comparison`, the DataFrame of a comparison or a sweep, or the thing it
pictures, draws into ``ax`` or into a new figure, and returns the Axes. Nothing is shown or saved, no global style is
touched.
"""

from __future__ import annotations

from sparsim.plot.comparison import plot_accuracy, plot_energy, plot_speedup, plot_traffic
from sparsim.plot.condensing import condensing_example, plot_condensing
from sparsim.plot.footprint import plot_footprint
from sparsim.plot.merge_tree import plot_merge_tree
from sparsim.plot.overview import overview

__all__ = [
    "condensing_example",
    "overview",
    "plot_accuracy",
    "plot_condensing",
    "plot_energy",
    "plot_footprint",
    "plot_merge_tree",
    "plot_speedup",
    "plot_traffic",
]
