"""The report: comparisons as one HTML file that needs nothing else, not even a network.

The answer stands first, in words; then a table, pictures, every layer, and last what the figures rest on.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsim import __version__
from sparsim.compare import Comparison
from sparsim.errors import ConfigError
from sparsim.plot import plot_accuracy, plot_energy, plot_footprint, plot_speedup, plot_traffic
from sparsim.plot.draw import engineering
from sparsim.plot.rows import total_rows
from sparsim.verdict import is_total

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["write_html"]

FASTER, SLOWER = "0, 158, 115", "213, 94, 0"
STRONGEST = 0.6
DEEPEST_OCTAVE = 3.0
DPI = 140


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

    chapters = [comparisons] if isinstance(comparisons, Comparison) else list(comparisons)
    if not chapters:
        raise ConfigError("a report needs at least one comparison", key="comparisons")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"si": _si, "amount": _amount, "share": _share, "times": _times, "shade": _shade}
    template = resources.files("sparsim").joinpath("html_template.html").read_text("utf-8")
    text = environment.from_string(template).render(
        title=title, version=__version__, chapters=[_chapter(comparison) for comparison in chapters]
    )
    target = Path(path)
    target.write_text(text, "utf-8")
    return target


def _chapter(comparison: Comparison) -> dict[str, Any]:
    totals = comparison.totals
    batches = list(dict.fromkeys(row["batch"] for row in totals))
    return {
        "network": totals[0]["network"],
        "verdict": [_headed(sentence, totals[0]["network"]) for sentence in comparison.verdict],
        "batches": [_batch(comparison, batch) for batch in batches],
        "footprint": [("bytes of all weights of every variant, values and indices", _png(plot_footprint, comparison))],
        "tables": _tables(comparison),
        "measured": any(row["accuracy"] is not None for row in totals),
        "coverage": comparison.coverage,
        "notes": comparison.notes,
        "assumed": _assumed(comparison.assumed),
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
    for row in comparison.rows:
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
                "accuracy": rows[0]["accuracy"],
                "runs": [
                    {"total": row, "layers": layers[(*variant, row["machine.name"], row["baseline"])]} for row in rows
                ],
            }
            for variant, rows in variants.items()
        ],
        "plots": _plots(comparison, batch, [name for name, _ in machines]),
        "reference": totals[0].get("reference"),
        "held_equal": totals[0].get("held_equal"),
        "owned": [row for row in totals if "gflops_per_mm2" in row],
    }


def _name(granularity: str, sparsity: float) -> str:
    fixed = granularity in ("dense", "as stored") or granularity.partition(":")[0].isdigit()
    return granularity if fixed else f"{granularity} at {100 * sparsity:.3g} %"


def _plots(comparison: Comparison, batch: int, machines: Sequence[str]) -> dict[str, list[tuple[str, str]]]:
    """Return pictures as (data address, what they show): those everybody wants, and those for each machine."""
    measured = any(row["accuracy"] is not None for row in total_rows(comparison, batch))
    first = [("speed-up of every variant on every machine", _png(plot_speedup, comparison, batch))]
    rest = []
    for name in machines:
        if measured:
            picture = _png(plot_accuracy, comparison, name, batch, against="speedup")
            rest.append((f"accuracy against speed-up on {name}", picture))
        rest.append((f"energy by component on {name}", _png(plot_energy, comparison, name, batch)))
        rest.append((f"DRAM bytes by stream on {name}", _png(plot_traffic, comparison, name, batch)))
    return {"first": first, "rest": rest}


def _png(plot: Callable[..., Axes], *arguments: Any, **options: Any) -> str:
    """Return a picture as a data address."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.8), layout="constrained")
    plot(*arguments, ax=figure.add_subplot(), **options)
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, facecolor="white")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _assumed(assumed: Mapping[str, Sequence[str]]) -> list[tuple[str, Sequence[str]]]:
    """Return (machines, constants), with machines that assume the same in one entry."""
    shared: dict[tuple[str, ...], list[str]] = {}
    for name, constants in assumed.items():
        if constants:
            shared.setdefault(tuple(constants), []).append(name)
    return [(", ".join(names), constants) for constants, names in shared.items()]


def _si(value: float, unit: str, factor: float = 1.0) -> str:
    divisor, prefix = engineering(value * factor)
    return f"{value * factor / divisor:.3g} {prefix}{unit}"


def _amount(value: float, unit: str, factor: float = 1.0) -> str:
    """Write a figure that may be unknown."""
    return "–" if math.isnan(value) else _si(value, unit, factor).strip()


def _share(value: float | None, digits: int = 1) -> str:
    return "–" if value is None or math.isnan(value) else f"{100 * value:.{digits}f} %"


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
