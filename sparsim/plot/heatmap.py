"""Pattern against sparsity as a map of gains and losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import floor, log, log2
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sparsim.errors import ConfigError
from sparsim.plot.draw import is_known, new_axes, pattern_label, plain, title_of
from sparsim.plot.measures import Measure, measure
from sparsim.plot.rows import total_rows
from sparsim.pruning import parse_granularity
from sparsim.variants import AS_STORED, DENSE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sparsim.plot.rows import Source

__all__ = ["plot_heatmap"]

FIGURES = ("speedup", "chosen_speedup", "reference_speedup", "energy_ratio", "traffic_ratio")
SAME_BUDGET = 0.012
LEAST_SPAN = 2.0
MANY = 8
ONE_DIGIT, TWO_DIGITS = 0.995, 9.95

Row = Mapping[str, Any]


def plot_heatmap(
    source: Source,
    machine: str,
    batch: int | None = None,
    ax: Axes | None = None,
    *,
    figure: Literal["speedup", "chosen_speedup", "reference_speedup", "energy_ratio", "traffic_ratio"] = "speedup",
) -> Axes:
    """Draw one figure of every pattern and sparsity on one machine as coloured cells, blue where pruning gains.

    What was not compared is hatched. A pattern that fixes its sparsity, such as 2:4, has the column of that sparsity.
    Dense weights stand below the cells.

    Parameters
    ----------
    source : a comparison or its DataFrame; a sweep's of one configuration.
    machine : name of the machine.
    batch : samples; None takes the largest there is.
    ax : where to draw; None makes a figure.
    figure : what the cells show: a column of the rows.

    Raises
    ------
    ConfigError
        If nothing is called ``figure``, or it is not known for any variant.
    """
    if figure not in FIGURES:
        raise ConfigError(f"no figure '{figure}'", key="figure", allowed=", ".join(FIGURES))
    rows = total_rows(source, batch, machine)
    known = [row for row in rows if is_known(row.get(figure)) and row[figure] > 0]
    if not known:
        raise ConfigError(f"not known for any variant on '{machine}'", key=figure)
    dense = [row for row in known if row["granularity"] == DENSE]
    pruned = [row for row in rows if row["granularity"] != DENSE]
    shown = pruned or dense
    columns = _columns(shown)
    patterns = list(dict.fromkeys(row["granularity"] for row in shown))
    cells = [[float("nan")] * len(columns) for _ in patterns]
    for row in shown:
        if row in known:
            cells[patterns.index(row["granularity"])][columns.index(_column(row, columns))] = float(row[figure])
    ax = ax or new_axes()
    _mesh(ax, cells, measure(figure))
    texts = [f"{100 * sparsity:.3g}" for sparsity in columns]
    ax.set_xticks([place + 0.5 for place in range(len(columns))], texts)
    ax.set_yticks([place + 0.5 for place in range(len(patterns))], [plain(pattern_label(name)) for name in patterns])
    ax.set(xlabel="sparsity, % of weights zero", ylabel="pattern")
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set_title(title_of(rows, machine), loc="left")
    if dense and pruned:
        place: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "ha": "right", "va": "top"}
        ax.annotate(f"dense: {_times(dense[0][figure])}", (1, 0), (0, -20), fontsize="small", **place)
    return ax


def _own_sparsity(row: Row) -> float:
    """Return the sparsity that was asked for, or that the pattern stands for."""
    name = row["granularity"].partition(" + ")[0]
    if name not in (DENSE, AS_STORED) and (pattern := parse_granularity(name)).fixes_sparsity:
        kept, of = pattern.sizes[-2:]
        return 1 - kept / of
    return float(row["sparsity"])


def _columns(rows: Sequence[Row]) -> list[float]:
    """Return the sparsities in order; those of patterns that fix it only where no other is as good as equal."""
    asked = [float(row["sparsity"]) for row in rows if _own_sparsity(row) == row["sparsity"]]
    columns = sorted(set(asked))
    for own in sorted({_own_sparsity(row) for row in rows}):
        if not any(abs(own - column) <= SAME_BUDGET for column in columns):
            columns.append(own)
    return sorted(columns)


def _column(row: Row, columns: Sequence[float]) -> float:
    own = _own_sparsity(row)
    return min(columns, key=lambda column: abs(column - own))


def _mesh(ax: Axes, cells: Sequence[Sequence[float]], about: Measure) -> None:
    from matplotlib import colormaps
    from matplotlib.colors import LogNorm

    values = [value for line in cells for value in line if is_known(value)]
    span = max(LEAST_SPAN, *values, *(1 / value for value in values))
    ax.patch.set(hatch="////", edgecolor="#CCCCCC", facecolor="white")
    cmap = colormaps["RdBu" if about.more_is_better else "RdBu_r"]
    style: dict[str, Any] = {"edgecolors": "white", "linewidth": 1.5}
    mesh = ax.pcolormesh(np.ma.masked_invalid(cells), cmap=cmap, norm=LogNorm(1 / span, span), **style)
    ax.invert_yaxis()
    bar = ax.figure.colorbar(mesh, ax=ax, label=f"{about.name}, {about.unit}")
    bar.ax.yaxis.set_major_locator(_ticks(span))
    bar.ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}×" if value >= 1 else f"1/{1 / value:g}×")
    bar.ax.minorticks_off()
    bar.outline.set_visible(False)
    for y, line in enumerate(cells):
        for x, value in enumerate(line):
            if is_known(value):
                red, green, blue, _ = cmap(0.5 + 0.5 * log(value) / log(span))
                ink = "white" if 0.299 * red + 0.587 * green + 0.114 * blue < 0.5 else "black"
                size = "medium" if len(line) <= MANY else "x-small"
                ax.text(x + 0.5, y + 0.5, _times(value), ha="center", va="center", color=ink, fontsize=size)


def _ticks(span: float) -> Any:
    """Return ticks at 1 and at few powers of two on both sides."""
    from matplotlib.ticker import FixedLocator

    most = floor(log2(span) + 1e-9)
    step = -(-most // 3)
    powers = range(-(most // step) * step, most + 1, step)
    return FixedLocator([2.0**power for power in powers])


def _times(value: float) -> str:
    """Write a ratio with two digits, a large one in full."""
    if value < ONE_DIGIT:
        return f"{value:.2g}×"
    return f"{value:.1f}×" if value < TWO_DIGITS else f"{value:,.0f}×"
