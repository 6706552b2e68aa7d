"""Pictures of a comparison: speed-up, energy by component, DRAM traffic by stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sparsim.errors import ConfigError
from sparsim.plot.draw import (
    engineering,
    is_known,
    legend_beside,
    look,
    name_variants,
    new_axes,
    plain,
    ratio_axis,
    title_of,
    words,
)
from sparsim.plot.rows import total_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sparsim.plot.rows import Source

__all__ = ["plot_energy", "plot_speedup", "plot_traffic"]

# what every machine has stands first, so that it has one colour in all pictures
EVERYWHERE = {"dram_access": "DRAM access", "multiply": "multiply", "add": "add"}
STREAMS = {
    "a": "A (weights)",
    "b": "B (activations)",
    "partial_read": "partial results, read",
    "partial_write": "partial results, written",
    "c": "C (results)",
}


def plot_speedup(comparison: Source, batch: int | None = None, ax: Axes | None = None) -> Axes:
    """Draw the speed-up of every variant on every machine as bars that rise or fall from 1, the dense twin.

    Parameters
    ----------
    comparison : a comparison or its DataFrame; a sweep's of one configuration for each machine.
    batch : samples; None takes the largest there is.
    ax : where to draw; None makes a figure.
    """
    rows = total_rows(comparison, batch)
    variants = list(dict.fromkeys((row["granularity"], row["sparsity"]) for row in rows))
    machines = list(dict.fromkeys((row["machine.name"], row["baseline"]) for row in rows))
    ax = ax or new_axes()
    width = 0.82 / len(machines)
    for number, (machine, baseline) in enumerate(machines):
        mine = [row for row in rows if (row["machine.name"], row["baseline"]) == (machine, baseline)]
        places = [variants.index((row["granularity"], row["sparsity"])) for row in mine]
        x = [place + (number - (len(machines) - 1) / 2) * width for place in places]
        heights = [row["speedup"] - 1 for row in mine]
        label = f"{plain(machine)} vs {'itself' if machine == baseline else plain(baseline)}"
        ax.bar(x, heights, width, bottom=1, label=label, linewidth=1, **look(number))
        _name_best(ax, x, mine)
    ax.axhline(1, color="black", linewidth=1, label="1: dense twin")
    ax.margins(y=0.14)
    ratio_axis(ax, [row["speedup"] for row in rows], "y")
    name_variants(ax, variants)
    ax.set_ylabel("speed-up against dense twin, ×")
    ax.set_title(title_of(rows), loc="left")
    legend_beside(ax)
    return ax


def plot_energy(comparison: Source, machine: str, batch: int | None = None, ax: Axes | None = None) -> Axes:
    """Draw the energy of every variant on one machine, stacked by component; parameters as in :func:`plot_traffic`.

    Raises
    ------
    ConfigError
        If nobody knows it, as of a measured machine.
    """
    return _stacked(total_rows(comparison, batch, machine), "energy_pj.", ("energy", 1e-12, "J"), EVERYWHERE, ax)


def plot_traffic(comparison: Source, machine: str, batch: int | None = None, ax: Axes | None = None) -> Axes:
    """Draw the bytes on the DRAM bus of every variant on one machine, stacked by stream.

    Parameters
    ----------
    comparison : a comparison or its DataFrame; a sweep's of one configuration for each machine.
    machine : name of the machine.
    batch : samples; None takes the largest there is.
    ax : where to draw; None makes a figure.
    """
    return _stacked(total_rows(comparison, batch, machine), "dram_bytes.", ("DRAM traffic", 1.0, "B"), STREAMS, ax)


def _stacked(
    rows: Sequence[Mapping[str, Any]],
    prefix: str,
    measure: tuple[str, float, str],
    names: Mapping[str, str],
    ax: Axes | None,
) -> Axes:
    name, factor, unit = measure
    keys = dict.fromkeys(key for row in rows for key in row if key.startswith(prefix) and key != f"{prefix}total")
    totals = [factor * row[f"{prefix}total"] for row in rows if is_known(row[f"{prefix}total"])]
    if not totals:
        raise ConfigError(f"not known for any variant on '{rows[0]['machine.name']}'", key=f"{prefix}total")
    parts = {key: [factor * row[key] if is_known(row.get(key)) else 0.0 for row in rows] for key in keys}
    named = [prefix + key for key in names]
    order = named + sorted(parts.keys() - named, key=lambda key: (-max(parts[key]), key))
    twin = factor * max(row[f"baseline_{prefix[:-1]}"] for row in rows)
    divisor, si = engineering(max(twin, *totals))
    ax = ax or new_axes()
    bottom = [0.0] * len(rows)
    for number, key in enumerate(order):
        values = parts.get(key, [0.0])
        if max(values) == 0:
            continue
        heights = [value / divisor for value in values]
        label = names.get(key.removeprefix(prefix), words(key.removeprefix(prefix)))
        ax.bar(range(len(rows)), heights, 0.75, bottom=bottom, label=label, linewidth=0, **look(number))
        bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
    baseline = plain(rows[0]["baseline"])
    if twin > 0:
        ax.axhline(twin / divisor, color="black", linestyle="--", linewidth=1, label=f"dense twin on {baseline}")
    name_variants(ax, [(row["granularity"], row["sparsity"]) for row in rows])
    ax.set_ylabel(f"{name}, {si}{unit}")
    ax.set_title(title_of(rows, rows[0]["machine.name"]), loc="left")
    legend_beside(ax, reverse=True)
    return ax


def _name_best(ax: Axes, x: Sequence[float], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the number on a machine's highest bar."""
    known = [bar for bar in zip(x, (row["speedup"] for row in rows), strict=True) if is_known(bar[1])]
    place, best = max(known, key=lambda bar: bar[1], default=(0.0, 0.0))
    if best > 1.05:
        style: dict[str, Any] = {"rotation": 90, "ha": "center", "va": "bottom", "fontsize": "small"}
        ax.annotate(f"{best:.3g}", (place, best), (0, 2), textcoords="offset points", **style)
