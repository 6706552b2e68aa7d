"""Pictures: matplotlib Axes with units, short labels and colours that colour-blind readers tell apart.

Every function takes a :class:`~sparsim.compare.Comparison`, the DataFrame of a comparison or a sweep, or the thing it
pictures, draws into ``ax`` or into a new figure, and returns the Axes. Nothing is shown or saved, no global style is
touched.
"""

from __future__ import annotations

from sparsim.plot.accuracy import plot_accuracy
from sparsim.plot.comparison import plot_energy, plot_speedup, plot_traffic
from sparsim.plot.condensing import condensing_example, plot_condensing
from sparsim.plot.design_space import plot_design_space
from sparsim.plot.footprint import plot_footprint
from sparsim.plot.heatmap import plot_heatmap
from sparsim.plot.merge_tree import plot_merge_tree
from sparsim.plot.overview import overview
from sparsim.plot.roofline import plot_roofline
from sparsim.plot.stalls import plot_stalls

__all__ = [
    "condensing_example",
    "overview",
    "plot_accuracy",
    "plot_condensing",
    "plot_design_space",
    "plot_energy",
    "plot_footprint",
    "plot_heatmap",
    "plot_merge_tree",
    "plot_roofline",
    "plot_speedup",
    "plot_stalls",
    "plot_traffic",
]
