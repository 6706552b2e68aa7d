"""Roofline: how near the layers come to what multipliers and DRAM allow (Williams et al., CACM 52(4), 2009)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from sparsim.errors import ConfigError
from sparsim.plot.draw import (
    MARKERS,
    PALETTE,
    is_known,
    label_points,
    legend_beside,
    log_axis,
    new_axes,
    plain,
    split_label,
    title_of,
    variant_label,
    words,
)
from sparsim.plot.rows import layer_rows, total_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sparsim.plot.rows import Source

__all__ = ["Roof", "plot_roofline", "roof_of"]

PEAK, BANDWIDTH = "resources.multipliers", "resources.dram_gb_s"
NAMED_LAYERS = 4
NAMED_OF_ONE = 8
ALONG = 100

Row = Mapping[str, Any]


class Roof(NamedTuple):
    """What a machine can do at best.

    Parameters
    ----------
    gflops : two FLOP for each multiplier and cycle [GFLOP/s].
    gb_s : peak DRAM bandwidth [GB/s].
    multiplies : most multiplies of one cycle, over all copies.
    clock_ghz : clock [GHz].
    """

    gflops: float
    gb_s: float
    multiplies: float
    clock_ghz: float

    @property
    def ridge(self) -> float:
        """Operational intensity at which both roofs meet, FLOP/byte."""
        return self.gflops / self.gb_s

    def at(self, intensity: float) -> float:
        """Return the most that is possible at an operational intensity, GFLOP/s."""
        return min(self.gflops, intensity * self.gb_s)


def roof_of(row: Row) -> Roof:
    """Return the roofs of the machine of a network's row, as that machine was set.

    Raises
    ------
    ConfigError
        If it is measured, or the row does not say what the machine has.
    """
    lacking = [key for key in (PEAK, BANDWIDTH) if key not in row]
    if lacking:
        raise ConfigError("no such column", key=", ".join(lacking), allowed="the rows of a comparison or a sweep")
    if not (is_known(row[PEAK]) and is_known(row[BANDWIDTH])):
        name = row["machine.name"]
        raise ConfigError(f"'{name}' is measured, which has no roof", key="machine", allowed="one that is modelled")
    clock: Any = row.get("machine.clock_ghz")
    if not is_known(clock):
        clock = row["cycles.total"] / row["time_s"] / 1e9
    return Roof(2 * row[PEAK] * float(clock), row[BANDWIDTH], row[PEAK], float(clock))


def plot_roofline(source: Source, machine: str, batch: int | None = None, ax: Axes | None = None) -> Axes:
    """Draw throughput against operational intensity under the roofs of one machine, by layer and variant.

    Large points are whole networks, small ones layers. A FLOP is one of 2 · multiplies - nnz_c, effectual ones only,
    and the bytes are those on the DRAM bus, so that no point is above the roofs. The layers that take longest are
    named, with what bounds them, where there is room.

    Parameters
    ----------
    source : a comparison or its DataFrame; a sweep's of one configuration.
    machine : name of the machine.
    batch : samples; None takes the largest there is.
    ax : where to draw; None makes a figure.

    Raises
    ------
    ConfigError
        If the machine is measured, which has no roof, the rows do not say what it has, or no product does any work.
    """
    rows = [row for row in total_rows(source, batch, machine) if _intensity(row) > 0]
    if not rows:
        raise ConfigError("nothing is multiplied or nothing moved in any variant", key="machine")
    roof = roof_of(rows[0])
    layers = [row for row in layer_rows(source, rows) if _intensity(row) > 0]
    ax = ax or new_axes()
    patterns = list(dict.fromkeys(row["granularity"] for row in rows))
    for number, pattern in enumerate(patterns):
        style: dict[str, Any] = {"marker": MARKERS[number % len(MARKERS)], "linestyle": "none"}
        style["color"] = PALETTE[(number - 1) % len(PALETTE)]
        parts = [row for row in layers if row["granularity"] == pattern]
        wholes = [row for row in rows if row["granularity"] == pattern]
        ax.plot(*_points(parts), markersize=4, alpha=0.65, markeredgewidth=0, zorder=2, **style)
        style |= {"markeredgecolor": "black", "markeredgewidth": 0.6}
        ax.plot(*_points(wholes), markersize=8, label=plain(pattern), zorder=4, **style)
    _roofs(ax, roof, [*rows, *layers])
    if layers:
        ax.plot([], [], "o", color="#555555", markersize=3.5, label="small: one layer")
    ax.set(xlabel="operational intensity, FLOP per byte of DRAM traffic", ylabel="throughput, GFLOP/s")
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_title(title_of(rows, machine), loc="left")
    legend_beside(ax)
    few = len(rows) == 1
    names = _slowest(layers, NAMED_OF_ONE if few else NAMED_LAYERS)
    labels = [(*_place(row), f"{row['layer']}: {words(row['bounds.limited_by'])}") for row in names]
    texts = [split_label(variant_label(row["granularity"], row["sparsity"]))[-1] for row in rows]
    labels += [(*_place(row), "all layers" if few and layers else text) for row, text in zip(rows, texts, strict=True)]
    label_points(ax, [(x, y, plain(text)) for x, y, text in labels], avoid=[*map(_place, layers), *_along(ax, roof)])
    return ax


def _intensity(row: Row) -> float:
    """Return FLOP per byte on the DRAM bus, 0 where nothing is done or moved."""
    flop = 2 * row["workload.multiplies"] - row["workload.nnz_c"]
    return float(flop / row["dram_bytes.total"]) if row["dram_bytes.total"] and row["gflops"] > 0 else 0.0


def _place(row: Row) -> tuple[float, float]:
    return _intensity(row), float(row["gflops"])


def _points(rows: Sequence[Row]) -> tuple[list[float], list[float]]:
    return [_intensity(row) for row in rows], [float(row["gflops"]) for row in rows]


def _slowest(layers: Sequence[Row], many: int) -> list[Row]:
    """Return the layers that take longest over all variants, each in the variant where it takes longest."""
    spent: dict[str, float] = {}
    for row in layers:
        spent[row["layer"]] = spent.get(row["layer"], 0.0) + row["time_s"]
    names = sorted(spent, key=lambda name: -spent[name])[:many]
    return [max((row for row in layers if row["layer"] == name), key=lambda row: row["time_s"]) for name in names]


def _roofs(ax: Axes, roof: Roof, rows: Sequence[Row]) -> None:
    x, y = _points(rows)
    left, right = min(*x, roof.ridge) / 2, max(*x, roof.ridge) * 3
    bandwidth = f"DRAM: {roof.gb_s:,.4g} GB/s"
    compute = f"compute: {roof.gflops:,.0f} GFLOP/s\n(2 · {roof.multiplies:,.0f} · {roof.clock_ghz:.4g} GHz)"
    ax.plot([left, roof.ridge], [left * roof.gb_s, roof.gflops], color="black", linewidth=1.5, label=bandwidth)
    ax.plot([roof.ridge, right], [roof.gflops] * 2, color="black", linestyle="--", linewidth=1.5, label=compute)
    low, high = min(*y, left * roof.gb_s) / 2, roof.gflops * 2
    ax.set(xlim=(left, right), ylim=(low, high))
    log_axis(ax, "x", (left, right))
    log_axis(ax, "y", (low, high))


def _along(ax: Axes, roof: Roof) -> list[tuple[float, float]]:
    """Return points along the roofs, for labels to keep off."""
    left, right = ax.get_xlim()
    places = [left * (right / left) ** (number / ALONG) for number in range(ALONG + 1)]
    return [(x, roof.at(x)) for x in places]
