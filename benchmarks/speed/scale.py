"""Time and memory against products on the generated matrices: one plot, slopes fitted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from cases import GENERATED
from memory import ALLOWED_BYTES, ALLOWED_INPUTS

from sparsim.plot.draw import MARKERS, PALETTE

__all__ = ["draw", "slopes"]

Row = Mapping[str, Any]
MEASURES = {"sparsim_s": "sparsim", "scipy_s": "scipy", "memory_bytes": "memory"}


def slopes(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Return by family and measure the exponent p of measure ~ products^p, by least squares on logarithms."""
    found: dict[str, dict[str, float]] = {}
    for family in GENERATED:
        for measure in MEASURES:
            x, y = _points(rows, family, measure)
            if len(x) > 1:
                found.setdefault(family, {})[measure] = float(np.polyfit(np.log(x), np.log(y), 1)[0])
    return found


def _points(rows: Sequence[Row], family: str, measure: str) -> tuple[list[float], list[float]]:
    mine = [row for row in rows if row["case"].rpartition(" ")[0] == family and row.get(measure)]
    return [row["products"] for row in mine], [row[measure] for row in mine]


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draw time (left) and peak memory of the simulation (right) against products, both axes logarithmic."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    fitted = slopes(rows)
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.6))
    for number, family in enumerate(family for family in GENERATED if family in fitted):
        colour, marker = PALETTE[number], MARKERS[number]
        slope = {measure: f"slope {value:.2f}" for measure, value in fitted[family].items()}
        shown = {"color": colour, "marker": marker, "markersize": 6}
        told = f"{family}: sparsim, {slope['sparsim_s']}"
        left.plot(*_points(rows, family, "sparsim_s"), **shown, linewidth=1.8, label=told)
        faint = shown | {"markerfacecolor": "white", "linestyle": "--", "linewidth": 1}
        left.plot(*_points(rows, family, "scipy_s"), **faint, label=f"{family}: scipy, {slope['scipy_s']}")
        if "memory_bytes" not in slope:
            continue
        x, y = _points(rows, family, "memory_bytes")
        right.plot(x, np.array(y) / 1e6, **shown, linewidth=1.8, label=f"{family}: {slope['memory_bytes']}")
        x, y = _points(rows, family, "memory_allowed_bytes")
        right.plot(x, np.array(y) / 1e6, color=colour, linestyle=":", linewidth=1.4, label=f"{family}: allowed")
    for axes, title, unit in (
        (left, "Simulating A·A on SpArch, and computing it", "time [s], one thread"),
        (right, "Peak memory above a warmed process", "memory [MB]"),
    ):
        axes.set(xscale="log", yscale="log", xlabel="products [count]", ylabel=unit)
        axes.set_title(title, fontsize=11)
        axes.grid(True, which="major", linewidth=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=8)
    allowed = f"allowed: {ALLOWED_INPUTS} x the operands + {ALLOWED_BYTES // 10**6} MB"
    right.annotate(allowed, (0.02, 0.97), xycoords="axes fraction", va="top", fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
