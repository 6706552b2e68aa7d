"""Bytes of the weights by storage format."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sparsim.network import Network
from sparsim.plot.draw import engineering, inches_each, legend_beside, look, name_variants, new_axes, plain
from sparsim.plot.rows import total_rows
from sparsim.storage import NetworkStorage, network_storage

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sparsim.plot.rows import Source

__all__ = ["plot_footprint"]

NARROW_NAME, NARROW_NOTE = 0.62, 0.3  # inches of a bar that hold a format's name, and three of them on end


def plot_footprint(source: Source | Network | NetworkStorage, ax: Axes | None = None) -> Axes:
    """Draw the bytes of all weights as bars of values and indices, with the format of each bar.

    Parameters
    ----------
    source : a comparison or its DataFrame, for every variant with its layers in their best formats; a network (2 B a
        value) or its :func:`~sparsim.storage.network_storage`, for every format.
    ax : where to draw; None makes a figure.
    """
    if isinstance(source, Network):
        source = network_storage(source)
    ax = ax or new_axes()
    if isinstance(source, NetworkStorage):
        sizes = [(total.value_bytes, total.index_bytes) for total in source.totals]
        most = len(source.layers)
        notes = [f"{t.layers} of {most} layers" if t.layers < most else "" for t in source.totals]
        divisor = _footprint(ax, sizes, source.dense_bytes, notes)
        floor = source.floor_bytes / divisor
        ax.axhline(floor, color="black", linestyle=":", linewidth=1, label="non-zero values alone")
        labels = [total.name.replace("_", " ").replace(" per ", "\nper ") for total in source.totals]
        narrow = inches_each(ax, len(labels)) < NARROW_NAME
        ax.set_xticks(range(len(labels)), labels, rotation=90 if narrow else 0)
        title = f"{source.name}, {source.bytes_per_value} B a value"
    else:
        found = reversed(total_rows(source, several=True))
        rows = list({(row["granularity"], row["sparsity"]): row for row in found}.values())[::-1]
        sizes = [(row["storage.best_bytes"] - row["storage.index_bytes"], row["storage.index_bytes"]) for row in rows]
        _footprint(ax, sizes, max(row["storage.dense_bytes"] for row in rows), [row["storage.best"] for row in rows])
        name_variants(ax, [(row["granularity"], row["sparsity"]) for row in rows])
        title = f"{rows[0]['network']}, {rows[0]['workload.dtype']}\neach layer in its smallest format"
    ax.tick_params(axis="x", length=0)
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_title(plain(title), loc="left")
    legend_beside(ax, reverse=True)
    return ax


def _footprint(ax: Axes, sizes: Sequence[tuple[int, int]], dense: int, notes: Sequence[str]) -> float:
    """Stack indices on values beside a line for all weights; return the bytes of one unit of the axis."""
    divisor, prefix = engineering(max(dense, *(sum(pair) for pair in sizes)))
    bottom = [0.0] * len(sizes)
    for number, (label, part) in enumerate((("values", 0), ("indices", 1))):
        heights = [pair[part] / divisor for pair in sizes]
        ax.bar(range(len(sizes)), heights, 0.75, bottom=bottom, label=label, linewidth=0, **look(number))
        bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
    style: dict[str, Any] = {"rotation": 90, "ha": "center", "va": "bottom", "fontsize": "x-small"}
    shown = 3 if inches_each(ax, len(sizes)) > NARROW_NOTE else 1
    for place, (top, note) in enumerate(zip(bottom, notes, strict=True)):
        first, rest = note.split(", ")[:shown], note.count(", ") >= shown
        ax.annotate(",\n".join(first) + " …" * rest, (place, top), (0, 3), textcoords="offset points", **style)
    ax.axhline(dense / divisor, color="black", linestyle="--", linewidth=1, label="all weights, dense")
    ax.set_ylabel(f"memory footprint of the weights, {prefix}B")
    ax.set_ylim(0, 1.3 * max(dense / divisor, *bottom) or 1)
    return divisor
