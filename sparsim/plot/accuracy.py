"""Accuracy against cost, and which variants are worth having."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from sparsim.errors import ConfigError
from sparsim.plot.draw import (
    MARKERS,
    PALETTE,
    engineering,
    is_known,
    label_points,
    legend_beside,
    new_axes,
    plain,
    ratio_axis,
    split_label,
    title_of,
    variant_label,
)
from sparsim.plot.rows import total_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sparsim.plot.rows import Source

__all__ = ["pareto_front", "plot_accuracy"]

AGAINST = {
    "energy": ("energy_pj.total", 1e-12, "energy", "J"),
    "time": ("time_s", 1.0, "time", "s"),
    "speedup": ("speedup", 1.0, "speed-up against dense twin", "×"),
}
FAINT = 0.3


def pareto_front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Tell which points no other one dominates: costs no more, is worth no less, and is better in one of both.

    Parameters
    ----------
    points : (cost, worth) of each.
    """
    return [
        not any(other[0] <= cost and other[1] >= worth and other != (cost, worth) for other in points)
        for cost, worth in points
    ]


def plot_accuracy(
    comparison: Source,
    machine: str,
    batch: int | None = None,
    ax: Axes | None = None,
    *,
    against: Literal["energy", "speedup", "time"] = "energy",
) -> Axes:
    """Draw measured accuracy against cost, one point per variant, and the Pareto front.

    Variants that another one beats in accuracy and cost are faint; a label that finds no room is left out.

    Parameters
    ----------
    comparison : a comparison or its DataFrame; a sweep's of one configuration.
    machine : name of the machine.
    batch : samples; None takes the largest there is.
    ax : where to draw; None makes a figure.
    against : the cost on the horizontal axis; of speed-up more is better.

    Raises
    ------
    ConfigError
        If no accuracy was measured, nobody knows the cost, or nothing is called ``against``.
    """
    if against not in AGAINST:
        raise ConfigError(f"no cost '{against}'", key="against", allowed=", ".join(AGAINST))
    key, factor, name, unit = AGAINST[against]
    rows = [row for row in total_rows(comparison, batch, machine) if is_known(row.get("accuracy"))]
    if not rows:
        raise ConfigError("no accuracy was measured for any variant", key="accuracy")
    rows = [row for row in rows if is_known(row[key])]
    if not rows:
        raise ConfigError(f"not known for any variant on '{machine}'", key=key)
    ax = ax or new_axes()
    divisor, prefix = (1.0, "") if against == "speedup" else engineering(factor * max(row[key] for row in rows))
    patterns = list(dict.fromkeys(row["granularity"] for row in rows))
    rows.sort(key=lambda row: float(row["sparsity"]))
    places = [(factor * row[key] / divisor, 100 * row["accuracy"]) for row in rows]
    sign = -1 if against == "speedup" else 1
    kept = pareto_front([(sign * x, y) for x, y in places])
    _step(ax, [place for place, is_kept in zip(places, kept, strict=True) if is_kept], against == "speedup")
    for number, pattern in enumerate(patterns):
        mine = [number for number, row in enumerate(rows) if row["granularity"] == pattern]
        style: dict[str, Any] = {"color": PALETTE[(number - 1) % len(PALETTE)]}
        marker: dict[str, Any] = {"marker": MARKERS[number % len(MARKERS)], "linestyle": "none"}
        ax.plot(*_xy(places, mine), linewidth=1, alpha=FAINT, **style)
        for chosen, alpha in ((True, 1.0), (False, FAINT)):
            those = [each for each in mine if kept[each] == chosen]
            if those:
                ax.plot(*_xy(places, those), alpha=alpha, zorder=3, **marker, **style)
        ax.plot([], [], label=plain(pattern), **marker, **style)
    ratio_axis(ax, [x for x, _ in places], "x", "×" if against == "speedup" else "")
    ax.set(xlabel=f"{name}, {prefix}{unit}", ylabel="accuracy, %")
    ax.margins(0.12)
    if against == "speedup":
        ax.axvline(1, color="black", linewidth=0.5, zorder=0)
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_title(title_of(rows, machine), loc="left")
    legend_beside(ax)
    texts = [split_label(variant_label(row["granularity"], row["sparsity"]))[-1] for row in rows]
    order = sorted(range(len(rows)), key=lambda number: not kept[number])
    label_points(ax, [(*places[number], texts[number]) for number in order])
    return ax


def _xy(places: Sequence[tuple[float, float]], which: Sequence[int]) -> tuple[list[float], list[float]]:
    return [places[number][0] for number in which], [places[number][1] for number in which]


def _step(ax: Axes, front: Sequence[tuple[float, float]], more_is_better: bool) -> None:
    """Draw what the best variants reach: at a cost, the highest accuracy that takes no more."""
    if len(front) == 1:
        return
    x, y = zip(*sorted(set(front)), strict=True)
    where: Any = "pre" if more_is_better else "post"
    ax.step(x, y, where=where, color="black", linewidth=1.2, zorder=2, label="Pareto front")
