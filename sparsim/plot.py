"""Pictures of a comparison: matplotlib Axes with units, short labels and colours that colour-blind readers tell apart.

Every function takes a :class:`~sparsim.compare.Comparison` or the DataFrame made of it (the memory footprint also a
network), draws into ``ax`` or into a new figure, and returns the Axes. Nothing is shown or saved, no global style is
touched.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from sparsim.compare import Comparison
from sparsim.errors import ConfigError, nearest
from sparsim.network import Network
from sparsim.storage import NetworkStorage, network_storage
from sparsim.verdict import TOTAL

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

    Source = Comparison | DataFrame

__all__ = [
    "engineering",
    "overview",
    "plot_accuracy",
    "plot_energy",
    "plot_footprint",
    "plot_speedup",
    "plot_traffic",
    "total_rows",
    "variant_label",
]

# Okabe and Ito, "Color Universal Design", 2008
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#F0E442", "#555555")
MARKERS = "osD^vPX*"
SHORT = {"unstructured": "unstr.", "out_channel": "out ch.", "in_channel": "in ch.", "kernel_pattern": "pattern"}
STREAMS = {
    "a": "A (weights)",
    "b": "B (activations)",
    "partial_read": "partial results, read",
    "partial_write": "partial results, written",
    "c": "C (results)",
}
AGAINST = {
    "energy": ("energy_pj.total", 1e-12, "energy", "J"),
    "time": ("time_s", 1.0, "time", "s"),
    "speedup": ("speedup", 1.0, "speed-up against dense twin", "×"),
}
LOG_FROM = 8.0
OFFSETS = ((0, 6), (0, -6), (6, 0), (-6, 0), (5, 5), (5, -5), (-5, 5), (-5, -5), (0, 15), (0, -15), (16, 0), (-16, 0))


def variant_label(granularity: str, sparsity: float) -> str:
    """Return a variant in a word or two: "unstr. 90 %", "2:4", "4x4 90 %"."""
    kind, _, size = granularity.partition(":")
    if granularity in ("dense", "as stored") or kind.isdigit():
        return granularity
    name = size if kind == "block" else f"{SHORT.get(kind, kind)} {size}".strip()
    return f"{name} {100 * sparsity:.3g} %"


def engineering(largest: float) -> tuple[float, str]:
    """Return the power of 1000 that makes ``largest`` readable, and its SI prefix."""
    exponent = math.floor(math.log10(abs(largest)) / 3 + 1e-9) if largest else 0
    exponent = min(max(exponent, -5), 5)
    return 1000.0**exponent, ("f", "p", "n", "µ", "m", "", "k", "M", "G", "T", "P")[exponent + 5]


def total_rows(source: Source, batch: int | None = None, machine: str | None = None) -> list[Mapping[str, Any]]:
    """Return the rows of whole networks for one batch size and, where asked, one machine.

    Parameters
    ----------
    source : a comparison or its DataFrame, of one network.
    batch : samples; None takes the largest there is.
    machine : name; None takes all.

    Raises
    ------
    ConfigError
        If there is nothing of that batch or machine, or more than one network.
    """
    rows: Sequence[Mapping[Any, Any]] = source.rows if isinstance(source, Comparison) else source.to_dict("records")
    rows = [row for row in rows if row["layer"] == TOTAL and not isinstance(row.get("workload.layer"), str)]
    networks = {row["network"] for row in rows}
    if len(networks) != 1:
        found = ", ".join(sorted(networks)) or "none"
        raise ConfigError(f"a plot shows one network, found: {found}", key="network", allowed="the rows of one network")
    batches = sorted({row["batch"] for row in rows})
    batch = batches[-1] if batch is None else batch
    if batch not in batches:
        raise ConfigError(f"nothing was compared at {batch}", key="batch", allowed=", ".join(map(str, batches)))
    machines = [row["machine.name"] for row in rows]
    if machine is not None and machine not in machines:
        raise ConfigError(f"'{machine}' is not in the comparison{nearest(machine, set(machines))}", key="machine")
    return [row for row in rows if row["batch"] == batch and machine in (None, row["machine.name"])]


def plot_speedup(comparison: Source, batch: int | None = None, ax: Axes | None = None) -> Axes:
    """Draw the speed-up of every variant on every machine as bars that rise or fall from 1, the dense twin.

    Parameters
    ----------
    comparison : a comparison or its DataFrame.
    batch : samples; None takes the largest there is.
    ax : where to draw; None makes a figure.
    """
    rows = total_rows(comparison, batch)
    variants = list(dict.fromkeys((row["granularity"], row["sparsity"]) for row in rows))
    machines = list(dict.fromkeys((row["machine.name"], row["baseline"]) for row in rows))
    ax = ax or _new_axes()
    width = 0.82 / len(machines)
    for number, (machine, baseline) in enumerate(machines):
        mine = [row for row in rows if (row["machine.name"], row["baseline"]) == (machine, baseline)]
        places = [variants.index((row["granularity"], row["sparsity"])) for row in mine]
        x = [place + (number - (len(machines) - 1) / 2) * width for place in places]
        heights = [row["speedup"] - 1 for row in mine]
        label = f"{_plain(machine)} vs {'itself' if machine == baseline else _plain(baseline)}"
        ax.bar(x, heights, width, bottom=1, label=label, linewidth=1, **_look(number))
        _name_best(ax, x, mine)
    ax.axhline(1, color="black", linewidth=1, label="1: dense twin")
    ax.margins(y=0.14)
    _ratio_axis(ax, [row["speedup"] for row in rows], "y")
    _name_variants(ax, variants)
    ax.set_ylabel("speed-up against dense twin, ×")
    ax.set_title(_title(rows), loc="left")
    _legend_beside(ax)
    return ax


def plot_energy(comparison: Source, machine: str, batch: int | None = None, ax: Axes | None = None) -> Axes:
    """Draw the energy of every variant on one machine, stacked by component; parameters as in :func:`plot_traffic`."""
    return _stacked(total_rows(comparison, batch, machine), "energy_pj.", ("energy", 1e-12, "J"), {}, ax)


def plot_traffic(comparison: Source, machine: str, batch: int | None = None, ax: Axes | None = None) -> Axes:
    """Draw the bytes on the DRAM bus of every variant on one machine, stacked by stream.

    Parameters
    ----------
    comparison : a comparison or its DataFrame.
    machine : name of the machine.
    batch : samples; None takes the largest there is.
    ax : where to draw; None makes a figure.
    """
    return _stacked(total_rows(comparison, batch, machine), "dram_bytes.", ("DRAM traffic", 1.0, "B"), STREAMS, ax)


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
    ax = ax or _new_axes()
    if isinstance(source, NetworkStorage):
        sizes = [(total.value_bytes, total.index_bytes) for total in source.totals]
        most = len(source.layers)
        notes = [f"{t.layers} of {most} layers" if t.layers < most else "" for t in source.totals]
        divisor = _footprint(ax, sizes, source.dense_bytes, notes)
        floor = source.floor_bytes / divisor
        ax.axhline(floor, color="black", linestyle=":", linewidth=1, label="non-zero values alone")
        labels = [total.name.replace("_", " ").replace(" per ", "\nper ") for total in source.totals]
        ax.set_xticks(range(len(labels)), labels)
        title = f"{source.name}, {source.bytes_per_value} B a value"
    else:
        rows = list({(row["granularity"], row["sparsity"]): row for row in reversed(total_rows(source))}.values())[::-1]
        sizes = [(row["storage.best_bytes"] - row["storage.index_bytes"], row["storage.index_bytes"]) for row in rows]
        _footprint(ax, sizes, max(row["storage.dense_bytes"] for row in rows), [row["storage.best"] for row in rows])
        _name_variants(ax, [(row["granularity"], row["sparsity"]) for row in rows])
        title = f"{rows[0]['network']}, {rows[0]['workload.dtype']}, each layer in its smallest format"
    ax.tick_params(axis="x", length=0)
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_title(_plain(title), loc="left")
    _legend_beside(ax, reverse=True)
    return ax


def _footprint(ax: Axes, sizes: Sequence[tuple[int, int]], dense: int, notes: Sequence[str]) -> float:
    """Stack indices on values beside a line for all weights; return the bytes of one unit of the axis."""
    divisor, prefix = engineering(max(dense, *(sum(pair) for pair in sizes)))
    bottom = [0.0] * len(sizes)
    for number, (label, part) in enumerate((("values", 0), ("indices", 1))):
        heights = [pair[part] / divisor for pair in sizes]
        ax.bar(range(len(sizes)), heights, 0.75, bottom=bottom, label=label, linewidth=0, **_look(number))
        bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
    style: dict[str, Any] = {"rotation": 90, "ha": "center", "va": "bottom", "fontsize": "x-small"}
    for place, (top, note) in enumerate(zip(bottom, notes, strict=True)):
        first, rest = note.split(", ")[:3], note.count(", ") > 2
        ax.annotate(",\n".join(first) + " …" * rest, (place, top), (0, 3), textcoords="offset points", **style)
    ax.axhline(dense / divisor, color="black", linestyle="--", linewidth=1, label="all weights, dense")
    ax.set_ylabel(f"memory footprint of the weights, {prefix}B")
    ax.set_ylim(0, 1.3 * max(dense / divisor, *bottom) or 1)
    return divisor


def plot_accuracy(
    comparison: Source,
    machine: str,
    batch: int | None = None,
    ax: Axes | None = None,
    *,
    against: Literal["energy", "speedup", "time"] = "energy",
) -> Axes:
    """Draw measured accuracy against cost, one point per variant; a label that finds no room is left out.

    Parameters
    ----------
    comparison : a comparison or its DataFrame.
    machine : name of the machine.
    batch : samples; None takes the largest there is.
    ax : where to draw; None makes a figure.
    against : the cost on the horizontal axis.

    Raises
    ------
    ConfigError
        If no accuracy was measured, or nothing is called ``against``.
    """
    if against not in AGAINST:
        raise ConfigError(f"no cost '{against}'", key="against", allowed=", ".join(AGAINST))
    key, factor, name, unit = AGAINST[against]
    rows = [row for row in total_rows(comparison, batch, machine) if _is_known(row["accuracy"])]
    if not rows:
        raise ConfigError("no accuracy was measured for any variant", key="accuracy")
    ax = ax or _new_axes()
    divisor, prefix = (1.0, "") if against == "speedup" else engineering(factor * max(row[key] for row in rows))
    patterns = list(dict.fromkeys(row["granularity"] for row in rows))
    points = []
    for number, pattern in enumerate(patterns):
        mine = sorted((row for row in rows if row["granularity"] == pattern), key=lambda row: float(row["sparsity"]))
        x = [factor * row[key] / divisor for row in mine]
        y = [100 * row["accuracy"] for row in mine]
        marker = MARKERS[number % len(MARKERS)]
        ax.plot(x, y, marker=marker, label=_plain(pattern), linewidth=1, color=PALETTE[(number - 1) % len(PALETTE)])
        texts = [_split(variant_label(pattern, row["sparsity"]))[-1] for row in mine]
        points += list(zip(x, y, texts, strict=True))
    _ratio_axis(ax, [x for x, _, _ in points], "x", "×" if against == "speedup" else "")
    ax.set(xlabel=f"{name}, {prefix}{unit}", ylabel="accuracy, %")
    ax.margins(0.12)
    if against == "speedup":
        ax.axvline(1, color="black", linewidth=0.5, zorder=0)
    ax.set_title(_title(rows, machine), loc="left")
    _legend_beside(ax)
    _label_points(ax, points)
    return ax


def overview(comparisons: Sequence[Comparison]) -> Figure:
    """Return one figure that says which pattern pays on which hardware.

    The largest network's speed-ups at its largest and smallest batch; then measured accuracy against speed-up for the
    first network that has any, on the first machine and the last with another twin, and the first machine's energy.

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
    measured = [one for one in comparisons if any(_is_known(row["accuracy"]) for row in one.totals)][:1]
    wide = [batches[0], *batches[-1:]] if len(batches) > 1 else batches
    present = [(one, {row["machine.name"] for row in one.totals}) for one in measured]
    small = [(one, name) for one, names in present for name in (first[0], *second) if name in names]

    lines = len(wide) + bool(small) + 1
    figure = Figure(figsize=(11, 3.2 * lines + 0.4), layout="constrained")
    figure.suptitle("Which pattern pays on which hardware?", fontsize="x-large", fontweight="bold")
    grid = figure.add_gridspec(lines, max(len(small), 1))
    for line, batch in enumerate(wide):
        plot_speedup(largest, batch, figure.add_subplot(grid[line, :]))
    plot_energy(largest, first[0], ax=figure.add_subplot(grid[-1, :]))
    panels: list[Axes] = []
    for column, _ in enumerate(small):
        shared = panels[0] if panels else None
        panels.append(figure.add_subplot(grid[-2, column], sharex=shared, sharey=shared))
    for panel, (one, machine) in zip(panels, small, strict=True):
        plot_accuracy(one, machine, ax=panel, against="speedup")
        legend = panel.get_legend()
        if legend is not None and panel is not panels[-1]:
            legend.remove()
    return figure


def _new_axes() -> Axes:
    from matplotlib import pyplot

    return pyplot.subplots(figsize=(9, 4), layout="constrained")[1]


def _stacked(
    rows: Sequence[Mapping[str, Any]],
    prefix: str,
    measure: tuple[str, float, str],
    names: Mapping[str, str],
    ax: Axes | None,
) -> Axes:
    name, factor, unit = measure
    keys = dict.fromkeys(key for row in rows for key in row if key.startswith(prefix) and key != f"{prefix}total")
    parts = {key: [factor * row[key] if _is_known(row.get(key)) else 0.0 for row in rows] for key in keys}
    parts = dict(sorted(parts.items(), key=lambda part: -max(part[1])))
    twin = factor * max(row[f"baseline_{prefix[:-1]}"] for row in rows)
    divisor, si = engineering(max(twin, *(factor * row[f"{prefix}total"] for row in rows)))
    ax = ax or _new_axes()
    bottom = [0.0] * len(rows)
    for number, (key, values) in enumerate((key, values) for key, values in parts.items() if max(values) > 0):
        heights = [value / divisor for value in values]
        label = names.get(key.removeprefix(prefix), _words(key.removeprefix(prefix)))
        ax.bar(range(len(rows)), heights, 0.75, bottom=bottom, label=label, linewidth=0, **_look(number))
        bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
    baseline = _plain(rows[0]["baseline"])
    ax.axhline(twin / divisor, color="black", linestyle="--", linewidth=1, label=f"dense twin on {baseline}")
    _name_variants(ax, [(row["granularity"], row["sparsity"]) for row in rows])
    ax.set_ylabel(f"{name}, {si}{unit}")
    ax.set_title(_title(rows, rows[0]["machine.name"]), loc="left")
    _legend_beside(ax, reverse=True)
    return ax


def _legend_beside(ax: Axes, reverse: bool = False) -> None:
    style: dict[str, Any] = {"fontsize": "small", "frameon": False, "borderaxespad": 0.3, "handlelength": 1.4}
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1), reverse=reverse, **style)


def _words(key: str) -> str:
    return key.replace("_", " ").replace("dram", "DRAM").replace("fifo", "FIFO").replace("l2", "L2")


def _split(label: str) -> list[str]:
    """Cut "unstr. 90 %" into "unstr." and "90 %"."""
    name, *number = label.rsplit(" ", 2) if label.endswith("%") else [label]
    return [name, " ".join(number)] if number else [name]


def _is_known(value: Any) -> bool:
    return value is not None and not math.isnan(value)


def _plain(text: str) -> str:
    """Keep dollar signs of names from starting a formula."""
    return text.replace("$", r"\$")


def _title(rows: Sequence[Mapping[str, Any]], machine: str = "") -> str:
    return _plain(", ".join(filter(None, (rows[0]["network"], f"batch {rows[0]['batch']}", machine))))


def _look(number: int) -> dict[str, Any]:
    color, hatch = PALETTE[number % len(PALETTE)], ("", "///", "...")[number // len(PALETTE) % 3]
    return {"facecolor": color, "edgecolor": "white" if hatch else color, "hatch": hatch}


def _ratio_axis(ax: Axes, values: Sequence[float], axis: Literal["x", "y"], unit: str = "") -> None:
    positive = [value for value in values if _is_known(value) and value > 0]
    if positive and max(positive) > LOG_FROM * min(positive):
        (ax.set_xscale if axis == "x" else ax.set_yscale)("log", base=2)
    which = ax.xaxis if axis == "x" else ax.yaxis
    which.set_major_formatter(lambda value, _: f"{value:g}{unit}")


def _name_variants(ax: Axes, variants: Sequence[tuple[str, float]]) -> None:
    labels = [variant_label(*variant) for variant in variants]
    inches = ax.get_position().width * ax.figure.canvas.figure.get_figwidth() / max(len(labels), 1)
    narrow = inches < 0.6
    texts = labels if narrow else ["\n".join(_split(label)) for label in labels]
    ax.set_xticks(range(len(labels)), texts, rotation=90 if narrow else 0, fontsize="small" if narrow else "medium")
    ax.tick_params(axis="x", length=0)
    ax.spines[["top", "right"]].set_visible(False)


def _name_best(ax: Axes, x: Sequence[float], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the number on a machine's highest bar."""
    place, best = max(zip(x, (row["speedup"] for row in rows), strict=True), key=lambda bar: bar[1])
    if best > 1.05:
        style: dict[str, Any] = {"rotation": 90, "ha": "center", "va": "bottom", "fontsize": "small"}
        ax.annotate(f"{best:.3g}", (place, best), (0, 2), textcoords="offset points", **style)


def _label_points(ax: Axes, points: Sequence[tuple[float, float, str]]) -> None:
    """Put each label at the first place beside its point where it covers neither a point nor a label."""
    from matplotlib.patheffects import withStroke
    from matplotlib.transforms import Bbox

    ax.figure.canvas.figure.draw_without_rendering()
    centres = [ax.transData.transform((x, y)) for x, y, _ in points]
    taken = [Bbox.from_bounds(x - 4, y - 4, 8, 8) for x, y in centres]
    halo = [withStroke(linewidth=2, foreground="white")]
    for x, y, text in points:
        for right, up in OFFSETS:
            across = "left" if right > 0 else "right" if right < 0 else "center"
            along = "bottom" if up > 0 else "top" if up < 0 else "center"
            style: dict[str, Any] = {"ha": across, "va": along, "fontsize": "x-small", "path_effects": halo}
            note = ax.annotate(text, (x, y), (right, up), textcoords="offset points", **style)
            box = note.get_window_extent().padded(2)
            inside = all(ax.bbox.contains(*corner) for corner in box.corners())
            if inside and not any(map(box.overlaps, taken)):
                taken.append(box)
                break
            note.remove()
