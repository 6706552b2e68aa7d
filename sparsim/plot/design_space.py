"""Curves of a sweep: what a field of a machine buys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log2
from typing import TYPE_CHECKING, Any, Literal

from sparsim.errors import ConfigError
from sparsim.machines import machine as build
from sparsim.machines import preset_names
from sparsim.machines.base import flatten, load_preset
from sparsim.plot.draw import (
    LOG_FROM,
    MARKERS,
    PALETTE,
    engineering,
    legend_beside,
    new_axes,
    plain,
    ratio_axis,
    variant_label,
)
from sparsim.plot.measures import Measure, measure
from sparsim.plot.rows import SWEPT, all_rows, is_whole
from sparsim.plot.sweep_lines import AXES, Key, Line, is_numeric, lines_of, usable, values_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sparsim.plot.rows import Source

__all__ = ["plot_design_space"]

MOST_LINES = 20
CROWDED = 10
MOST_TICKS = 12
STYLES = ("-", "--", ":")
COLORS = tuple(color for color in PALETTE if color != "#F0E442")  # a yellow line on white is hard to see
COMMON = ("machine.name", "network", "granularity", "sparsity", "batch")
BELOW: dict[str, Any] = {"color": "#777777", "linestyle": (0, (6, 2, 1, 2)), "linewidth": 1, "zorder": 1}

Row = Mapping[str, Any]
Style = dict[str, Any]


def plot_design_space(
    frame: Source,
    x: str,
    y: str = "gflops",
    *,
    hue: str | None = None,
    ax: Axes | None = None,
    normalise: Literal["best", "stock"] | None = None,
) -> Axes:
    """Draw a figure of a sweep against one of its fields, a line for each combination of everything else.

    The value the machine has as shipped is marked. Points that failed are left out and counted in the title; a machine
    without the field is a horizontal line.

    Parameters
    ----------
    frame : what :func:`~sparsim.sweep.sweep` returns.
    x : a swept field such as "prefetch.lines"; or "batch", "sparsity".
    y : a column of numbers.
    hue : what colours tell apart: a swept field, "network", "machine.name", "granularity", "sparsity" or "batch".
        Markers and dashes then tell the rest. None gives every line its own colour.
    ax : where to draw; None makes a figure.
    normalise : divide every line by its "best" point, or by that of the machine as shipped ("stock").

    Raises
    ------
    ConfigError
        If there is no such column, x was not swept, there are too many lines, or none has a stock value.
    """
    if normalise not in (None, "best", "stock"):
        raise ConfigError(f"'{normalise}'", key="normalise", allowed="best, stock")
    every = [row for row in all_rows(frame) if is_whole(row)]
    rows, without = usable(every, x, y)
    lines, level = lines_of(rows, x), [row for line in lines_of(without, x) for row in line.rows]
    if len(lines) > MOST_LINES:
        told = ", ".join(name for name, _ in lines[0].key)
        raise ConfigError(f"{len(lines)} lines ({told})", key="frame", allowed=f"{MOST_LINES}; filter the frame")
    about, values = measure(y), values_of(rows, x)
    looks = _looks(lines, hue)
    scale, label = _scale(about, normalise, [row[y] for row in (*rows, *level)])
    curves = [[scale * value for value in _normalised(line, x, y, about, normalise)] for line in lines]
    beneath = [] if normalise else [scale * row[y] for row in level]
    ax = ax or new_axes()
    place = _placing(x, values)
    for line, curve, look in zip(lines, curves, looks, strict=True):
        ax.plot([place(row[x]) for row in line.rows], curve, **look)
    for value in beneath:
        ax.axhline(value, **BELOW)
    _x_axis(ax, x, values, rows)
    ratio_axis(ax, [value for curve in (*curves, beneath) for value in curve], "y")
    ax.set_ylabel(label)
    ax.spines[["top", "right"]].set_visible(False)
    failed = len(every) - len(rows) - len(without)
    ax.set_title(_title(rows, x, f"{failed} of {len(every)} points failed" if failed else ""), loc="left")
    _legend(ax, lines, looks, hue)
    for name in dict.fromkeys(row["machine.name"] for row in level if beneath):
        ax.plot([], [], label=plain(f"{name} (has no {x})"), **BELOW)
    _stock_lines(ax, rows, x, place, values)
    if ax.get_legend_handles_labels()[1]:
        legend_beside(ax, crowded=len(lines) > CROWDED)
    return ax


def _scale(about: Measure, normalise: str | None, values: Sequence[float]) -> tuple[float, str]:
    """Return what figures are multiplied by, and the label of the axis."""
    if normalise:
        return 1.0, f"{about.name} / {'best' if normalise == 'best' else 'as shipped'}, ×"
    divisor, prefix = 1.0, ""
    if about.takes_prefix:
        divisor, prefix = engineering(about.factor * max(map(abs, values)))
    return about.factor / divisor, f"{about.name}, {prefix}{about.unit}" if about.unit else about.name


def _placing(x: str, values: Sequence[Any]) -> Any:
    """Return what turns a value into a place on the axis."""
    if not is_numeric(values):
        return values.index
    factor = measure(x).factor if x in AXES else 1.0
    return lambda value: factor * value


def _stock(row: Row, x: str) -> Any:
    """Return the value of a field in the machine as shipped, None where there is none."""
    name = row["machine.name"]
    if x in AXES or name not in preset_names():
        return None
    return flatten(build(name).config.model_dump(mode="json")).get(x.removeprefix(SWEPT))


def _normalised(line: Line, x: str, y: str, about: Measure, how: str | None) -> list[float]:
    values = [float(row[y]) for row in line.rows]
    if how is None:
        return values
    if how == "best":
        reference = max(values) if about.more_is_better else min(values)
    else:
        stock = _stock(line.rows[0], x)
        reference = next((value for value, row in zip(values, line.rows, strict=True) if row[x] == stock), 0.0)
        if stock is None or not reference:
            name = line.rows[0]["machine.name"]
            shipped = f"'{name}' as shipped, {x} = {stock}"
            raise ConfigError(f"{shipped}, is not in the sweep", key="normalise", allowed="best")
    return [value / reference if reference else float("nan") for value in values]


def _looks(lines: Sequence[Line], hue: str | None) -> list[Style]:
    """Return color, marker and dashes of every line."""
    if hue is None:
        return [
            _style(COLORS[number % len(COLORS)], number, STYLES[number // len(COLORS) % len(STYLES)])
            for number, _ in enumerate(lines)
        ]
    names = [name for name, _ in lines[0].key]
    if hue not in names:
        raise ConfigError(f"lines do not differ in '{hue}'", key="hue", allowed=", ".join(names) or "none")
    colors, rest = _hues(lines, hue), _rest(lines, hue)
    places = [rest.index(_without(line.key, hue)) for line in lines]
    return [
        _style(colors[dict(line.key)[hue]], place, STYLES[place % len(STYLES)])
        for line, place in zip(lines, places, strict=True)
    ]


def _style(color: Any, number: int, dashes: str) -> Style:
    return {"color": color, "marker": MARKERS[number % len(MARKERS)], "linestyle": dashes, "markersize": 5}


def _hues(lines: Sequence[Line], hue: str) -> dict[Any, Any]:
    """Return the colour of every value: an ordered map for numbers, named colours for words."""
    values = list(dict.fromkeys(dict(line.key)[hue] for line in lines))
    if len(values) > 2 and is_numeric(values):
        from matplotlib import colormaps

        values.sort()
        return {value: colormaps["viridis"](0.9 * number / (len(values) - 1)) for number, value in enumerate(values)}
    return {value: COLORS[number % len(COLORS)] for number, value in enumerate(values)}


def _without(key: Key, name: str) -> Key:
    return tuple(pair for pair in key if pair[0] != name)


def _rest(lines: Sequence[Line], hue: str) -> list[Key]:
    return list(dict.fromkeys(_without(line.key, hue) for line in lines))


def _legend(ax: Axes, lines: Sequence[Line], looks: Sequence[Style], hue: str | None) -> None:
    """Give the legend what lines differ in as headings, and their values below."""
    if hue is None:
        parts: list[dict[Key, Style]] = [{line.key: look for line, look in zip(lines, looks, strict=True)}]
    else:
        colors: dict[Key, Style] = {
            ((hue, value),): {"color": color, "linewidth": 3} for value, color in _hues(lines, hue).items()
        }
        rest = _rest(lines, hue)
        parts = [colors, {key: _style("black", n, STYLES[n % len(STYLES)]) for n, key in enumerate(rest)}]
    for part in parts:
        heading = ", ".join(name.removesuffix(".name") for name, _ in next(iter(part)))
        if heading:
            ax.plot([], [], " ", label=plain(heading.replace("granularity, sparsity", "pattern").replace(", ", ",\n")))
            for key, style in part.items():
                ax.plot([], [], label=plain(_label(key)), **style)


def _label(key: Key) -> str:
    """Write what tells a line from the others; what a machine lacks is left out."""
    pairs = {name: value for name, value in key if value is not None}
    if {"granularity", "sparsity"} <= pairs.keys():
        pairs["granularity"] = variant_label(pairs["granularity"], pairs.pop("sparsity"))
    return ", ".join(f"{100 * value:.3g} %" if name == "sparsity" else _written(value) for name, value in pairs.items())


def _written(value: Any) -> str:
    return f"{value:.10g}" if is_numeric([value]) else str(value)


def _stock_lines(ax: Axes, rows: Sequence[Row], x: str, place: Any, values: Sequence[Any]) -> None:
    """Mark what the machines have as shipped."""
    stock: dict[Any, list[str]] = {}
    for row in {row["machine.name"]: row for row in rows}.values():
        stock.setdefault(_stock(row, x), []).append(row["machine.name"])
    several = len(stock) > 1
    for number, (value, names) in enumerate(stock.items()):
        if value is None or not (is_numeric(values) or value in values):
            continue
        text = f"as shipped: {_written(value)}" + (f" ({', '.join(names)})" if several else "")
        style: Style = {"color": "black", "linestyle": (0, (1, 1 + 2 * number)), "linewidth": 1.2, "zorder": 1}
        ax.axvline(place(value), label=plain(text), **style)


def _x_axis(ax: Axes, x: str, values: Sequence[Any], rows: Sequence[Row]) -> None:
    if is_numeric(values):
        places = list(map(_placing(x, values), values))
        positive = [place for place in places if place > 0]
        powers = len(positive) > 1 and all(log2(place).is_integer() for place in positive)
        if min(places) >= 0 and (powers or (positive and max(positive) >= LOG_FROM * min(positive))):
            scale: dict[str, Any] = {"linthresh": min(positive)} if len(positive) < len(places) else {}
            ax.set_xscale("symlog" if scale else "log", base=2, **scale)
        if len(places) <= MOST_TICKS:
            ax.set_xticks(places, [f"{place:.10g}" for place in places])
            ax.minorticks_off()
    else:
        ax.set_xticks(range(len(values)), [plain(str(value)) for value in values])
        ax.set_xlim(-0.4, len(values) - 0.6)
    unit = _unit(rows[0], x)
    ax.set_xlabel(f"{x}, {unit}" if unit else x)


def _unit(row: Row, x: str) -> str:
    """Return the unit of a field as its preset has it; names of choices have none."""
    if x in AXES:
        return "samples" if x == "batch" else "% of weights zero"
    leaf = row["machine.name"].partition("-")[0]
    field = x.removeprefix(SWEPT)
    if leaf not in preset_names():
        return ""
    constant = load_preset(leaf).constants.get(field)
    unit = constant.unit if constant is not None else "machines" if field == "copies" else ""
    return "" if unit == "choice" else unit


def _title(rows: Sequence[Row], x: str, note: str) -> str:
    """Name what all lines have in common."""
    fixed = tuple(
        (name, rows[0].get(name)) for name in COMMON if name != x and len({row.get(name) for row in rows}) == 1
    )
    parts = {name: f"batch {value:g}" if name == "batch" else value for name, value in fixed}
    return plain(", ".join(part for part in (_label(tuple(parts.items())), note) if part))
