"""What every picture shares: colours, labels, prefixes, legends.

Nothing is shown or saved, and no global style is touched.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "MARKERS",
    "PALETTE",
    "engineering",
    "inches_each",
    "is_known",
    "label_points",
    "legend_beside",
    "log_axis",
    "look",
    "name_variants",
    "new_axes",
    "pattern_label",
    "plain",
    "ratio_axis",
    "split_label",
    "title_of",
    "variant_label",
    "words",
]

# Okabe and Ito, "Color Universal Design", 2008
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#F0E442", "#555555")
MARKERS = "osD^vPX*"
SHORT = {"unstructured": "unstr.", "out_channel": "out ch.", "in_channel": "in ch.", "kernel_pattern": "pattern"}
LOG_FROM = 8.0
FEW_DECADES = 300
OFFSETS = ((0, 6), (0, -6), (6, 0), (-6, 0), (5, 5), (5, -5), (-5, 5), (-5, -5), (0, 15), (0, -15), (16, 0), (-16, 0))


def pattern_label(granularity: str) -> str:
    """Return a pattern in a word or two: "unstr.", "2:4", "4x4"."""
    kind, _, size = granularity.partition(":")
    if kind.isdigit() or kind == "block":
        return size if kind == "block" else granularity
    return f"{SHORT.get(kind, kind)} {size}".strip()


def variant_label(granularity: str, sparsity: float) -> str:
    """Return a variant in a word or two: "unstr. 90 %", "2:4", "4x4 90 %"."""
    if granularity in ("dense", "as stored") or granularity.partition(":")[0].isdigit():
        return granularity
    return f"{pattern_label(granularity)} {100 * sparsity:.3g} %"


def engineering(largest: float) -> tuple[float, str]:
    """Return the power of 1000 that makes ``largest`` readable, and its SI prefix."""
    exponent = math.floor(math.log10(abs(largest)) / 3 + 1e-9) if largest else 0
    exponent = min(max(exponent, -5), 5)
    return 1000.0**exponent, ("f", "p", "n", "µ", "m", "", "k", "M", "G", "T", "P")[exponent + 5]


def new_axes() -> Axes:
    """Return the Axes of a new figure."""
    from matplotlib import pyplot

    return pyplot.subplots(figsize=(9, 4), layout="constrained")[1]


def legend_beside(ax: Axes, reverse: bool = False, crowded: bool = False) -> None:
    """Put the legend to the right of the picture, in small print where it is ``crowded``."""
    style: dict[str, Any] = {"fontsize": "small", "frameon": False, "borderaxespad": 0.3, "handlelength": 1.4}
    style |= {"fontsize": "x-small", "labelspacing": 0.25} if crowded else {}
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1), reverse=reverse, **style)


def words(key: str) -> str:
    """Write a component's key as words."""
    return key.replace("_", " ").replace("dram", "DRAM").replace("fifo", "FIFO").replace("l2", "L2")


def split_label(label: str) -> list[str]:
    """Cut "unstr. 90 %" into "unstr." and "90 %"."""
    name, *number = label.rsplit(" ", 2) if label.endswith("%") else [label]
    return [name, " ".join(number)] if number else [name]


def is_known(value: Any) -> bool:
    """Tell a number from None and NaN."""
    return value is not None and not math.isnan(value)


def plain(text: str) -> str:
    """Keep dollar signs of names from starting a formula."""
    return text.replace("$", r"\$")


def title_of(rows: Sequence[Mapping[str, Any]], machine: str = "") -> str:
    """Name network, batch and machine."""
    return plain(", ".join(filter(None, (rows[0]["network"], f"batch {rows[0]['batch']}", machine))))


def look(number: int) -> dict[str, Any]:
    """Return colour and hatch of the bars of series ``number``."""
    color, hatch = PALETTE[number % len(PALETTE)], ("", "///", "...")[number // len(PALETTE) % 3]
    return {"facecolor": color, "edgecolor": "white" if hatch else color, "hatch": hatch}


def ratio_axis(ax: Axes, values: Sequence[float], axis: Literal["x", "y"], unit: str = "") -> None:
    """Label an axis of ratios, logarithmic where they span much."""
    positive = [value for value in values if is_known(value) and value > 0]
    if positive and max(positive) > LOG_FROM * min(positive):
        (ax.set_xscale if axis == "x" else ax.set_yscale)("log", base=2)
    which = ax.xaxis if axis == "x" else ax.yaxis
    which.set_major_formatter(lambda value, _: f"{value:g}{unit}")


def log_axis(ax: Axes, axis: Literal["x", "y"], limits: tuple[float, float]) -> None:
    """Make an axis logarithmic, with plain numbers at 1, 2 and 5 where it spans few decades."""
    from matplotlib.ticker import LogLocator

    (ax.set_xscale if axis == "x" else ax.set_yscale)("log")
    which = ax.xaxis if axis == "x" else ax.yaxis
    which.set_view_interval(*limits, ignore=True)
    few = limits[1] < FEW_DECADES * limits[0]
    which.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,)))
    which.set_major_formatter(lambda value, _: f"{value:,.10g}" if value >= 1 else f"{value:.3g}")
    which.set_minor_formatter(lambda *_: "")


def name_variants(ax: Axes, variants: Sequence[tuple[str, float]]) -> None:
    """Write the variants below their bars."""
    labels = [variant_label(*variant) for variant in variants]
    narrow = inches_each(ax, len(labels)) < 0.6
    texts = labels if narrow else ["\n".join(split_label(label)) for label in labels]
    ax.set_xticks(range(len(labels)), texts, rotation=90 if narrow else 0, fontsize="small" if narrow else "medium")
    ax.tick_params(axis="x", length=0)
    ax.spines[["top", "right"]].set_visible(False)


def inches_each(ax: Axes, many: int) -> float:
    """Return the width that each of so many bars has."""
    return float(ax.get_position().width * ax.figure.canvas.figure.get_figwidth() / max(many, 1))


def label_points(
    ax: Axes, points: Sequence[tuple[float, float, str]], avoid: Sequence[tuple[float, float]] = ()
) -> None:
    """Put each label at the first place beside its point where it covers neither a point nor a label.

    ``avoid`` are further points that no label may cover.
    """
    from matplotlib.patheffects import withStroke
    from matplotlib.transforms import Bbox

    ax.figure.canvas.figure.draw_without_rendering()
    centres = [ax.transData.transform((x, y)) for x, y, _ in points]
    centres += [ax.transData.transform(point) for point in avoid]
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
