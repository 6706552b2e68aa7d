"""The report: comparisons as one HTML file that needs nothing else, not even a network.

The answer stands first, in words; then a table, pictures, every layer, and last what the figures rest on and where
each constant comes from. It works without scripts, on a phone and on paper.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import resources
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sparsim import __version__
from sparsim.compare import Comparison
from sparsim.errors import ConfigError
from sparsim.html_sources import energy_sources, machine_sources, references
from sparsim.plot import (
    plot_accuracy,
    plot_energy,
    plot_footprint,
    plot_heatmap,
    plot_roofline,
    plot_speedup,
    plot_stalls,
    plot_traffic,
)
from sparsim.plot.draw import engineering, is_known
from sparsim.plot.rows import all_rows, total_rows
from sparsim.verdict import in_short, is_total

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["write_html"]

Picture = tuple[str, str, float]

FASTER, SLOWER = "0, 158, 115", "213, 94, 0"
STRONGEST = 0.6
DEEPEST_OCTAVE = 3.0
DPI = 140
BROAD, NARROW, BROAD_FROM = 9.0, 5.5, 4  # inches of a picture, and variants that need them
PICTURE_COLORS = 128


def write_html(
    comparisons: Comparison | Sequence[Comparison],
    path: str | PathLike[str],
    *,
    title: str = "Which pattern pays on which hardware?",
) -> Path:
    """Write comparisons as one self-contained HTML file and return its path.

    Parameters
    ----------
    comparisons : one, or several that become one chapter each.
    path : the file; an old one is replaced.
    title : heading of the page.

    Raises
    ------
    ConfigError
        If there is nothing to write.
    """
    from jinja2 import Environment, StrictUndefined

    several = [comparisons] if isinstance(comparisons, Comparison) else list(comparisons)
    if not several:
        raise ConfigError("a report needs at least one comparison", key="comparisons")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"amount": _amount, "share": _share, "times": _times, "shade": _shade, "percent": _percent}
    template = resources.files("sparsim").joinpath("html_template.html").read_text("utf-8")
    machines, energies = machine_sources(several), energy_sources(several)
    text = environment.from_string(template).render(
        title=title,
        version=__version__,
        chapters=[_chapter(comparison) for comparison in several],
        machines=machines,
        energies=energies,
        references=references([*machines, *energies]),
    )
    target = Path(path)
    target.write_text(text, "utf-8")
    return target


def _chapter(comparison: Comparison) -> dict[str, Any]:
    totals = [row for row in all_rows(comparison) if is_total(row)]
    batches = list(dict.fromkeys(row["batch"] for row in totals))
    return {
        "network": totals[0]["network"],
        "in_short": in_short(totals),
        "verdict": [_headed(sentence, totals[0]["network"]) for sentence in comparison.verdict],
        "batches": [_batch(comparison, batch) for batch in batches],
        "footprint": [
            _picture("bytes of all weights of every variant, values and indices", plot_footprint, comparison)
        ],
        "tables": _tables(comparison),
        "measured": any(row["accuracy"] is not None for row in totals),
        "coverage": comparison.coverage,
        "notes": comparison.notes,
        "dtype": totals[0]["workload.dtype"],
        "energy_table": totals[0]["provenance.energy_table"],
    }


def _tables(comparison: Comparison) -> dict[str, Any] | None:
    """Return sentences, headings and groups of cells if every energy table was asked for."""
    if comparison.sensitivity is None:
        return None
    heads, groups = comparison.sensitivity.table()
    return {"sentences": comparison.sensitivity.sentences, "heads": heads, "groups": groups}


def _headed(sentence: str, network: str) -> tuple[str, str]:
    """Cut a verdict into what it speaks of and what it says, at the first colon behind the network's name."""
    cut = sentence.find(": ", sentence.find(network) + len(network)) + 1
    return sentence[:cut], sentence[cut:].strip()


def _batch(comparison: Comparison, batch: int) -> dict[str, Any]:
    totals = total_rows(comparison, batch)
    machines = list(dict.fromkeys((row["machine.name"], row["baseline"]) for row in totals))
    variants: dict[tuple[str, float], list[Mapping[str, Any]]] = {}
    for row in totals:
        variants.setdefault((row["granularity"], row["sparsity"]), []).append(row)
    layers: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in all_rows(comparison):
        if row["batch"] == batch and not is_total(row):
            key = (row["granularity"], row["sparsity"], row["machine.name"], row["baseline"])
            layers.setdefault(key, []).append(row)
    return {
        "size": batch,
        "machines": machines,
        "variants": [
            {
                "name": _name(*variant),
                "zeros": rows[0]["actual_sparsity"],
                "carried": rows[0]["propagated_sparsity"],
                "accuracy": rows[0]["accuracy"],
                "runs": [_run(row, layers[(*variant, row["machine.name"], row["baseline"])]) for row in rows],
            }
            for variant, rows in variants.items()
        ],
        "plots": _plots(comparison, batch, [name for name, _ in machines]),
        "reference": totals[0].get("reference"),
        "held_equal": totals[0].get("held_equal"),
        "owned": [row for row in totals if "gflops_per_mm2" in row],
    }


def _run(total: Mapping[str, Any], layers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a variant on one machine, with the share of each layer in its time."""
    whole = sum(row["time_s"] for row in layers)
    shares = [row["time_s"] / whole if whole else math.nan for row in layers]
    return {"total": total, "layers": list(zip(layers, shares, strict=True)), "longest": max(shares, default=math.nan)}


def _name(granularity: str, sparsity: float) -> str:
    fixed = granularity in ("dense", "as stored") or granularity.partition(":")[0].isdigit()
    return granularity if fixed else f"{granularity} at {100 * sparsity:.3g} %"


def _plots(comparison: Comparison, batch: int, machines: Sequence[str]) -> dict[str, Any]:
    """Return the pictures that everybody wants, and those of each machine."""
    rows = total_rows(comparison, batch)
    variants = {(row["granularity"], row["sparsity"]) for row in rows}
    if len(variants) > 1:
        first = [_picture("speed-up of every variant on every machine", plot_speedup, comparison, batch)]
    else:
        first = []
    plots: dict[str, Callable[..., Axes]] = {}
    if len({sparsity for granularity, sparsity in variants if granularity not in ("dense", "as stored")}) > 1:
        plots["speed-up by pattern and sparsity"] = plot_heatmap
    if any(row["accuracy"] is not None for row in rows):
        plots["accuracy against speed-up"] = partial(plot_accuracy, against="speedup")
    plots |= {"energy by component": plot_energy, "DRAM bytes by stream": plot_traffic}
    plots |= {"busy, starved and blocked by stage": plot_stalls, "roofline": plot_roofline}
    return {"first": first, "machines": [(name, *_pictures(plots, comparison, name, batch)) for name in machines]}


def _pictures(
    plots: Mapping[str, Callable[..., Axes]], comparison: Comparison, machine: str, batch: int
) -> tuple[list[Picture], list[str]]:
    """Return the pictures of one machine, and why others cannot be drawn."""
    drawn, left_out = [], []
    energies = [row["energy_pj.total"] for row in total_rows(comparison, batch, machine)]
    for what, plot in plots.items():
        if plot is plot_energy and not any(is_known(energy) for energy in energies):
            left_out.append(f"{what}: not known for a measured machine")
            continue
        try:
            drawn.append(_picture(f"{what} on {machine}", plot, comparison, machine, batch))
        except ConfigError as error:
            left_out.append(f"{what}: {error}")
    return drawn, left_out


def _picture(what: str, plot: Callable[..., Axes], comparison: Comparison, *arguments: Any) -> Picture:
    """Return what a picture shows, its data address and its width in inches: a few bars need not be broad.

    Its colours, few anyway, make a palette, which takes a third of the bytes.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    variants = {(row["granularity"], row["sparsity"]) for row in comparison.totals}
    width = BROAD if len(variants) >= BROAD_FROM else NARROW
    figure = Figure(figsize=(width, 3.8), layout="constrained", dpi=DPI, facecolor="white")
    canvas: Any = FigureCanvasAgg(figure)
    plot(comparison, *arguments, ax=figure.add_subplot())
    canvas.draw()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    buffer = BytesIO()
    image.quantize(PICTURE_COLORS, dither=Image.Dither.NONE).save(buffer, format="png", optimize=True)
    address = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
    return what, address, width


def _si(value: float, unit: str, factor: float = 1.0) -> str:
    divisor, prefix = engineering(value * factor)
    return f"{value * factor / divisor:.3g} {prefix}{unit}"


def _amount(value: float, unit: str, factor: float = 1.0) -> str:
    """Write a figure that may be unknown."""
    return "–" if math.isnan(value) else _si(value, unit, factor).strip()


def _share(value: float | None, digits: int = 1) -> str:
    return "–" if value is None or math.isnan(value) else f"{100 * value:.{digits}f} %"


def _percent(share: float) -> str:
    """Return a length for a style sheet."""
    return "0%" if math.isnan(share) else f"{100 * share:.1f}%"


def _times(ratio: float) -> str:
    if math.isnan(ratio):
        return "–"
    return f"{ratio:.2f}×" if 0.095 <= ratio < 99.5 else f"{ratio:.2g}×" if ratio < 0.095 else f"{ratio:.0f}×"


def _shade(ratio: float) -> str:
    """Return a background that is the greener the faster and the redder the slower, paler towards 1."""
    if math.isnan(ratio) or ratio <= 0:
        return "none"
    octaves = math.log2(ratio)
    alpha = STRONGEST * min(abs(octaves) / DEEPEST_OCTAVE, 1.0)
    return f"rgba({FASTER if octaves > 0 else SLOWER}, {alpha:.2f})"
