"""One figure of several comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sparsim.compare import Comparison
from sparsim.errors import ConfigError
from sparsim.plot.accuracy import plot_accuracy
from sparsim.plot.comparison import plot_energy, plot_speedup
from sparsim.plot.draw import is_known
from sparsim.plot.rows import total_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["overview"]


def overview(comparisons: Sequence[Comparison]) -> Figure:
    """Return one figure that says which pattern pays on which hardware.

    The largest network's speed-ups at its largest and smallest batch; then measured accuracy against speed-up for the
    first network that has any, on the first machine and the last with another twin, and the energy of the first machine
    that is not measured.

    Parameters
    ----------
    comparisons : at least one.
    """
    from matplotlib.figure import Figure

    if not comparisons:
        raise ConfigError("an overview needs at least one comparison", key="comparisons")
    largest = max(comparisons, key=lambda one: max(row["workload.dense_multiplies"] for row in one.totals))
    batches = sorted({row["batch"] for row in largest.totals}, reverse=True)
    first, *others = dict.fromkeys((row["machine.name"], row["baseline"]) for row in largest.totals)
    second = [name for name, baseline in reversed(others) if baseline != first[1]][:1]
    measured = [one for one in comparisons if any(is_known(row["accuracy"]) for row in one.totals)][:1]
    wide = [batches[0], *batches[-1:]] if len(batches) > 1 else batches
    present = [(one, {row["machine.name"] for row in one.totals}) for one in measured]
    small = [(one, name) for one, names in present for name in (first[0], *second) if name in names]

    priced = [row["machine.name"] for row in total_rows(largest) if is_known(row["energy_pj.total"])]

    lines = len(wide) + bool(small) + bool(priced)
    figure = Figure(figsize=(11, 3.2 * lines + 0.4), layout="constrained")
    figure.suptitle("Which pattern pays on which hardware?", fontsize="x-large", fontweight="bold")
    grid = figure.add_gridspec(lines, max(len(small), 1))
    for line, batch in enumerate(wide):
        plot_speedup(largest, batch, figure.add_subplot(grid[line, :]))
    if priced:
        plot_energy(largest, priced[0], ax=figure.add_subplot(grid[-1, :]))
    panels: list[Axes] = []
    for column, _ in enumerate(small):
        shared = panels[0] if panels else None
        panels.append(figure.add_subplot(grid[len(wide), column], sharex=shared, sharey=shared))
    for panel, (one, machine) in zip(panels, small, strict=True):
        plot_accuracy(one, machine, ax=panel, against="speedup")
        legend = panel.get_legend()
        if legend is not None and panel is not panels[-1]:
            legend.remove()
    return figure
