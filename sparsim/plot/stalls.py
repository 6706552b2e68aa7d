"""Where the cycles of every pipeline stage go: busy, starved, blocked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from sparsim.errors import ConfigError
from sparsim.machines.base import flatten
from sparsim.plot.draw import (
    PALETTE,
    is_known,
    legend_beside,
    new_axes,
    plain,
    split_label,
    title_of,
    variant_label,
    words,
)
from sparsim.plot.rows import alone, layer_rows, of_variant, total_rows
from sparsim.report import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sparsim.plot.rows import Source

__all__ = ["plot_stalls"]

STAGES = "cycles.stages."
STATES = {"busy": PALETTE[0], "starved": PALETTE[1], "blocked": PALETTE[3]}
# a frame has its columns in the order of its first machine
ENDS = {"launch": -1, "dram": 1}
GAP = 0.6
NARROWEST_NAME = 0.12
NARROWEST_PAIR = 0.6

Row = Mapping[str, Any]
Group = tuple[str, Row]


def plot_stalls(
    source: Source | Report,
    machine: str | None = None,
    batch: int | None = None,
    ax: Axes | None = None,
    *,
    granularity: str | None = None,
    sparsity: float | None = None,
    by: Literal["variant", "layer"] = "variant",
) -> Axes:
    """Draw for every stage which share of the cycles it is busy, starved (waits for input) and blocked (for room).

    Parameters
    ----------
    source : a comparison or its DataFrame, a sweep's of one configuration, or the report of one run.
    machine : name of the machine; None if there is one only.
    batch : samples; None takes the largest there is.
    ax : where to draw; None makes a figure.
    granularity, sparsity : variants to show, by default all.
    by : "variant" for one group of bars for each, all layers together; "layer" for the layers of one variant.

    Raises
    ------
    ConfigError
        If there is nothing of that kind, the layers of several variants are asked for, or the machine has no stages.
    """
    if by not in ("variant", "layer"):
        raise ConfigError(f"'{by}'", key="by", allowed="variant, layer")
    if isinstance(source, Report):
        groups, title = _of_report(source, (machine, batch, granularity, sparsity), by)
    else:
        groups, title = _of_rows(source, total_rows(source, batch, machine or alone(source)), granularity, sparsity, by)
    found = dict.fromkeys(stage for _, row in groups for stage in _stages(row))
    stages = sorted(found, key=lambda name: ENDS.get(name, 0))
    if not stages:
        raise ConfigError("no stages in these rows", key=STAGES.rstrip("."))
    ax = ax or new_axes()
    step = len(stages) + GAP
    for bottom, state in zip((("busy", "starved", "blocked")[:n] for n in range(3)), STATES, strict=True):
        bars = [
            (number * step + place, sum(_share(row, stage, below) for below in bottom), _share(row, stage, state))
            for number, (_, row) in enumerate(groups)
            for place, stage in enumerate(stages)
            if stage in _stages(row)
        ]
        x, low, height = zip(*bars, strict=True)
        ax.bar(x, height, 0.9, bottom=low, color=STATES[state], linewidth=0, label=state)
    ax.set(ylim=(0, 100), xlim=(-0.5 - GAP, len(groups) * step - 0.5), ylabel="share of all cycles, %")
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_title(title, loc="left")
    _names(ax, groups, stages, step)
    return ax


def _of_report(report: Report, given: Sequence[Any], by: str) -> tuple[list[Group], str]:
    if by == "layer" or any(value is not None for value in given):
        raise ConfigError("a report is of one run", key="source", allowed="no machine, batch, granularity or layers")
    work = report["workload"]
    name = f"{work['name']} {work['layer']}".strip()
    return [("", flatten(report.data))], plain(f"{name}, {report.machine}" if name else report.machine)


def _of_rows(
    source: Any, rows: Sequence[Row], granularity: str | None, sparsity: float | None, by: str
) -> tuple[list[Group], str]:
    rows = of_variant(rows, granularity, sparsity)
    rows = [row for row in rows if row["cycles.total"]]
    if not rows:
        raise ConfigError("nothing takes a cycle", key="cycles.total")
    title = title_of(rows, rows[0]["machine.name"])
    if len(rows) == 1 or by == "layer":
        title += plain(f", {variant_label(rows[0]['granularity'], rows[0]['sparsity'])}")
    if by == "variant":
        names = ["\n".join(split_label(variant_label(row["granularity"], row["sparsity"]))) for row in rows]
        return list(zip(names if len(rows) > 1 else [""], rows, strict=True)), title
    if len(rows) > 1:
        raise ConfigError(
            f"the layers of {len(rows)} variants", key="by", allowed="one variant: choose granularity and sparsity"
        )
    layers = [row for row in layer_rows(source, rows) if row["cycles.total"]]
    if not layers:
        raise ConfigError("the rows have no layers", key="by", allowed="a comparison, or a sweep with layers=True")
    return [(str(row["layer"]), row) for row in layers], title


def _stages(row: Row) -> list[str]:
    """Return the stages of a row, in the order of the pipe."""
    names = dict.fromkeys(
        key.removeprefix(STAGES).rpartition(".")[0] for key in row if key.startswith(STAGES) and is_known(row[key])
    )
    return [name for name in names if sum(row[f"{STAGES}{name}.{state}"] for state in STATES) > 0]


def _share(row: Row, stage: str, state: str) -> float:
    """Return the part of all cycles that a stage is in a state, %."""
    return 100 * float(row[f"{STAGES}{stage}.{state}"]) / float(row["cycles.total"])


def _names(ax: Axes, groups: Sequence[Group], stages: Sequence[str], step: float) -> None:
    """Name the stages below their bars where there is room, else in the legend; and the groups below those."""
    alone = len(groups) == 1
    inches = ax.get_position().width * ax.figure.canvas.figure.get_figwidth() / (len(groups) * step)
    named = alone or inches > NARROWEST_NAME
    below = 0.0
    if named:
        places = [number * step + place for number in range(len(groups)) for place in range(len(stages))]
        texts = [
            _stage_name(stage).replace(" ", "\n") if alone else _stage_name(stage) for _ in groups for stage in stages
        ]
        ax.set_xticks(places, texts, rotation=0 if alone else 90, fontsize="medium" if alone else "x-small")
        below = max(len(_stage_name(stage)) for stage in stages) * 0.058
    else:
        ax.set_xticks([])
    ax.tick_params(axis="x", length=0)
    if not alone:
        _name_groups(ax, groups, (step, len(stages)), inches * step, below)
    else:
        ax.set_xlabel("stage")
    order = "" if named else "bars, left to right:\n" + "\n".join(f"  {_stage_name(stage)}" for stage in stages)
    if order:
        ax.plot([], [], " ", label=order)
    legend_beside(ax)


def _stage_name(stage: str) -> str:
    """Write a stage as words, operands in capitals."""
    text = words(stage)
    return text[:-1] + text[-1].upper() if text.endswith((" a", " b", " c")) else text


def _name_groups(ax: Axes, groups: Sequence[Group], size: tuple[float, int], inches: float, below: float) -> None:
    """Write a group's name under the middle of its bars, as ticks of a second axis ``below`` inches lower."""
    step, many = size
    centres = [number * step + (many - 1) / 2 for number in range(len(groups))]
    narrow = inches < NARROWEST_PAIR
    texts = [plain(name.replace("\n", " ") if narrow else name) for name, _ in groups]
    axis = ax.secondary_xaxis("bottom")
    axis.set_xticks(centres, texts, rotation=90 if narrow else 0, fontsize="small" if narrow else "medium")
    axis.tick_params(length=0, pad=3.5 + 72 * below)
    axis.spines[:].set_visible(False)
