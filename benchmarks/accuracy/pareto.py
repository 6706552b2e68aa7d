"""Accuracy beside cost: what does each pattern of pruning lose, and what does it win on which hardware?

    python benchmarks/accuracy/pareto.py --mnist mnist.npz

Needs ``sparsim[train]``. LeNet-5 and a small ResNet are trained on MNIST (on the digits of scikit-learn without
``--mnist``), pruned by magnitude, layer by layer, in patterns from fine to coarse, and fine-tuned with the mask held.
Accuracy is that of the last epoch on all test images. The output layer stays whole, and for ``in_channel`` the input
layer. The input layer has one input channel, so a kernel of it is an output channel. The cost is simulated for a batch
of 64 in fp16 with the activation densities of the dense network, weights that pruning made useless elsewhere left out
(``propagate``).

Every finished cell is a line of ``pareto.csv`` in the output folder, so an interrupted run goes on where it stopped;
after a change of the models or of the data, start with an empty folder. ``pareto.png`` is drawn from it, and what
crosses where is printed. The first seed runs every cell, two more run one sparsity to show the spread.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import study
import torch

from sparsim.errors import InputError, SparsimError
from sparsim.network import Network
from sparsim.plot.draw import MARKERS, PALETTE
from sparsim.pruning import parse_granularity, prune

matplotlib.use("Agg")
import matplotlib.pyplot as plt

NETWORKS = ("lenet5", "resnet8")
GRANULARITIES = ("unstructured", "2:4", "vector:4", "block:4x4", "kernel", "in_channel", "out_channel")
SPARSITIES = (0.5, 0.7, 0.8, 0.9, 0.95)
SPREAD_AT = 0.9
MACHINES = ("sparch", "dense", "a100", "a100-2:4")
RATE, FINE_TUNE_RATE = 2e-3, 3e-3
MEASURES = {"speedup": "speedup", "energy_ratio": "energy_ratio", "time_s": "time_s", "energy_pj": "energy_pj.total"}
COLUMNS = (
    *("data", "network", "seed", "granularity", "sparsity", "actual_sparsity", "propagated_sparsity", "accuracy"),
    *(f"{machine}.{measure}" for machine in MACHINES for measure in MEASURES),
)
COLORS = (*PALETTE[:6], PALETTE[7])  # without the yellow, which is pale as a line
LOSSES = (0.5, 1.0, 2.0, 5.0)
WORTH = 1.01
LOG_FROM = 4.0
Row = Mapping[str, Any]
Cell = tuple[str, float]


@dataclass(frozen=True)
class Settings:
    """Images to train on and to test with, epochs before and after pruning, samples simulated at a time, and cells."""

    images: int = 6000
    test_images: int | None = None
    epochs: int = 8
    fine_tune_epochs: int = 3
    batch: int = 64
    sparsities: tuple[float, ...] = SPARSITIES
    repetitions: tuple[int, ...] = (1, 2)


QUICK = Settings(200, 100, 1, 1, 1, (0.8,), ())


def cells(sparsities: Sequence[float]) -> list[Cell]:
    """Return pattern and sparsity of every cell; N:M fixes its own."""
    found: list[Cell] = []
    for text in GRANULARITIES:
        pattern = parse_granularity(text)
        found += (
            [(text, 1 - pattern.sizes[0] / pattern.sizes[1])]
            if pattern.fixes_sparsity
            else [(text, sparsity) for sparsity in sparsities]
        )
    return found


def jobs(settings: Settings) -> Iterator[tuple[str, int, list[Cell]]]:
    """Yield network, seed and cells, every cell of all networks before the repetitions."""
    for network in NETWORKS:
        yield network, 0, cells(settings.sparsities)
    for seed in settings.repetitions:
        for network in NETWORKS:
            yield network, seed, cells((SPREAD_AT,))


def read(path: Path) -> list[Row]:
    """Return the finished rows, numbers as numbers."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise InputError("has other columns", source=path, remedy="move it away and start with an empty folder")
        words = {"data", "network", "granularity"}
        return [{key: value if key in words else float(value) for key, value in row.items()} for row in reader]


def append(path: Path, row: Row) -> None:
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow({key: f"{value:.6g}" if isinstance(value, float) else value for key, value in row.items()})


def measure(data: study.Data, network: Network, seed: int, cell: Cell, accuracy: float, batch: int) -> Row:
    """Return a row: what was measured, and what the machines make of it."""
    reports = study.costs(network, MACHINES, batch)
    row: dict[str, Any] = {
        "data": f"{data.name} {len(data.labels)}",
        "network": network.name,
        "seed": seed,
        "granularity": cell[0],
        "sparsity": cell[1],
        "actual_sparsity": network.sparsity,
        "propagated_sparsity": reports[MACHINES[0]]["propagated_sparsity"],
        "accuracy": accuracy,
    }
    return row | {f"{name}.{key}": reports[name][source] for name in MACHINES for key, source in MEASURES.items()}


def produce(path: Path, data: study.Data, name: str, seed: int, wanted: Sequence[Cell], settings: Settings) -> None:
    """Train one network and run those of its cells that the file lacks."""
    rows = [row for row in read(path) if (row["network"], row["seed"]) == (name, seed)]
    done = {(row["granularity"], row["sparsity"]): row for row in rows}
    todo = [cell for cell in (("dense", 0.0), *wanted) if cell not in done]
    if not todo:
        return
    model = study.build(name, seed)
    study.train(model, data, settings.epochs, RATE, seed)
    network, accuracy = study.network_of(model, data, name), study.accuracy(model, data)
    before = done.get(("dense", 0.0))
    if before is not None and abs(before["accuracy"] - accuracy) > 1e-5:
        problem = (
            f"{name}, seed {seed}: the dense network reaches {accuracy:.4f}, the file says {before['accuracy']:.4f}"
        )
        raise InputError(problem, source=path, remedy="it holds another run; start with an empty folder")
    for cell in todo:
        started = time.perf_counter()
        pruned, reached = network, accuracy
        if cell[0] != "dense":
            sparsity = None if parse_granularity(cell[0]).fixes_sparsity else cell[1]
            pruned = prune(network, cell[0], sparsity, skip=study.left_whole(network, cell[0]))
            tuned = study.tuned(model, pruned, data, settings.fine_tune_epochs, FINE_TUNE_RATE, seed)
            reached = study.accuracy(tuned, data)
        append(path, measure(data, pruned, seed, cell, reached, settings.batch))
        took = time.perf_counter() - started
        print(f"{name}, seed {seed}: {cell[0]} {cell[1]:g}: accuracy {reached:.4f}, {took:.0f} s", file=sys.stderr)


def loss(row: Row, rows: Sequence[Row]) -> float:
    """Return the percentage points of accuracy lost against the dense network of the same seed."""
    dense = next(each for each in rows if each["granularity"] == "dense" and each["seed"] == row["seed"])
    return round(100 * (dense["accuracy"] - row["accuracy"]), 6)


def gain(row: Row, machine: str, measure: str) -> float:
    """Return speed-up, or how many times less energy, against dense weights on the machine's dense twin."""
    value = float(row[f"{machine}.{measure}"])
    return value if measure == "speedup" else 1 / value


def frontier(rows: Sequence[Row], machine: str, measure: str) -> list[Row]:
    """Return the rows worth their loss, by falling accuracy: each gains at least 1 % on all that lose no more.

    What exceeds the dense network counts as no loss: within the spread over seeds, nothing is better than dense.
    """
    best: list[Row] = []
    for row in sorted(rows, key=lambda row: (max(loss(row, rows), 0.0), -gain(row, machine, measure))):
        if not best or gain(row, machine, measure) > WORTH * gain(best[-1], machine, measure):
            best.append(row)
    return best


def leaders(rows: Sequence[Row], machine: str, measure: str) -> str:
    """Say which pattern gives most for the loss one accepts, and where the lead changes."""
    parts: list[str] = []
    last = ""
    for row in frontier(rows, machine, measure):
        if row["granularity"] != last:
            last = row["granularity"]
            at = "" if last == "dense" else f" {100 * row['sparsity']:g} %"
            points = max(loss(row, rows), 0.0)
            parts.append(f"{last}{at} from {points:.2f} points of loss ({gain(row, machine, measure):.2f}x)")
    return ", ".join(parts)


def within(rows: Sequence[Row], machine: str, measure: str, most: float) -> str:
    """Say what gives most at an accuracy loss below ``most`` points."""
    allowed = [row for row in rows if row["granularity"] != "dense" and loss(row, rows) < most]
    if not allowed:
        return "nothing keeps it"
    best = max(allowed, key=lambda row: gain(row, machine, measure))
    return f"{best['granularity']} {100 * best['sparsity']:g} % {gain(best, machine, measure):.2f}x"


def duel(rows: Sequence[Row], machine: str, measure: str, coarse: str, fine: str = "unstructured") -> str:
    """Say at which sparsities the coarse pattern beats the fine one by at least 1 %."""
    pair = {
        name: {r["sparsity"]: gain(r, machine, measure) for r in rows if r["granularity"] == name}
        for name in (coarse, fine)
    }
    shared = sorted(pair[coarse].keys() & pair[fine].keys())
    wins = [share for share in shared if pair[coarse][share] > WORTH * pair[fine][share]]
    if not wins:
        return f"{coarse} never beats {fine}" if shared else f"{coarse} and {fine} have no sparsity in common"
    if wins == shared:
        return f"{coarse} beats {fine} at every sparsity"
    if wins == shared[-len(wins) :]:
        return f"{coarse} beats {fine} from {100 * wins[0]:g} % on"
    if wins == shared[: len(wins)]:
        return f"{coarse} beats {fine} up to {100 * wins[-1]:g} %"
    return f"{coarse} beats {fine} at {', '.join(f'{100 * share:g} %' for share in wins)}"


def findings(rows: Sequence[Row]) -> list[str]:
    """Return what the rows of one network and seed say, in sentences."""
    name = rows[0]["network"]
    dense = next(row for row in rows if row["granularity"] == "dense")
    lines = [f"{name}: dense {dense['accuracy']:.2%}; accuracy by sparsity:"]
    for text in dict.fromkeys(row["granularity"] for row in rows if row is not dense):
        mine = sorted((row for row in rows if row["granularity"] == text), key=lambda row: row["sparsity"])
        lines.append(f"  {text:13s} " + "  ".join(f"{100 * r['sparsity']:g} %: {r['accuracy']:.2%}" for r in mine))
    for machine in MACHINES:
        for measure, word in (("speedup", "speed"), ("energy_ratio", "energy")):
            lines.append(f"{name}, {machine}, {word}: {leaders(rows, machine, measure)}")
            kept = "; ".join(f"below {most:g} points: {within(rows, machine, measure, most)}" for most in LOSSES)
            lines.append(f"  {kept}")
            coarse = ("block:4x4", "kernel", "in_channel", "out_channel")
            lines.append(f"  at equal sparsity {'; '.join(duel(rows, machine, measure, each) for each in coarse)}")
    return lines


def spread(rows: Sequence[Row]) -> list[str]:
    """Return mean and sample standard deviation of the accuracy where several seeds ran."""
    lines = []
    for key in dict.fromkeys((r["network"], r["granularity"], r["sparsity"]) for r in rows):
        values = [100 * r["accuracy"] for r in rows if (r["network"], r["granularity"], r["sparsity"]) == key]
        if len(values) > 1:
            network, text, share = key
            mean, deviation = statistics.mean(values), statistics.stdev(values)
            lines.append(f"{network}, {text} {100 * share:g} %: {mean:.2f} +- {deviation:.2f} % ({len(values)} seeds)")
    return lines


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draw test error against speed-up and energy, one column a machine."""
    names = list(dict.fromkeys(row["network"] for row in rows))
    kinds = (("speedup", "speed-up against dense twin [×]"), ("energy_ratio", "energy, dense twin / pruned [×]"))
    panels = [(name, *kind) for name in names for kind in kinds]
    figure, grid = plt.subplots(len(panels), len(MACHINES), figsize=(15, 3.3 * len(panels)), squeeze=False)
    for line, (name, measure, label) in zip(grid, panels, strict=True):
        mine = [row for row in rows if row["network"] == name]
        for axes, machine in zip(line, MACHINES, strict=True):
            _panel(axes, mine, machine, measure)
            axes.set_title(f"{name} on {machine}", fontsize=10)
            axes.set_xlabel(label, fontsize=9)
        line[0].set_ylabel("test error [%], better upwards", fontsize=9)
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper center", ncol=len(labels), frameon=False)
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.12 / len(panels)))
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _panel(axes: Any, rows: Sequence[Row], machine: str, measure: str) -> None:
    floor = 0.05
    dense = next(row for row in rows if row["granularity"] == "dense")
    for text, color, marker in zip(GRANULARITIES, COLORS, MARKERS, strict=False):
        mine = sorted((row for row in rows if row["granularity"] == text), key=lambda row: row["sparsity"])
        gains = [gain(row, machine, measure) for row in mine]
        errors = [max(100 * (1 - row["accuracy"]), floor) for row in mine]
        axes.plot(gains, errors, color=color, marker=marker, markersize=5, linewidth=1.3, label=text)
    error = max(100 * (1 - dense["accuracy"]), floor)
    axes.axhline(error, color="#555555", linestyle="--", linewidth=1)
    axes.plot([gain(dense, machine, measure)], [error], "k+", markersize=10, label="dense weights")
    axes.set_yscale("log")
    axes.invert_yaxis()
    axes.axvline(1, color="#bbbbbb", linewidth=0.8, zorder=0)
    logarithmic = [axes.yaxis]
    low, high = axes.get_xlim()
    if high > LOG_FROM * max(low, 0.05):
        axes.set_xscale("log")
        logarithmic.append(axes.xaxis)
    for axis in logarithmic:
        axis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else "")
    axes.tick_params(labelsize=8, which="both")
    axes.grid(True, linewidth=0.3)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Accuracy beside simulated cost, from fine patterns to coarse ones.")
    parser.add_argument("--mnist", type=Path, help="mnist.npz; the digits of scikit-learn without it")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder of pareto.csv and pareto.png")
    parser.add_argument("--network", choices=NETWORKS, help="run this one only")
    parser.add_argument("--quick", action="store_true", help="few images, one epoch, one sparsity: does it run?")
    parser.add_argument("--report", action="store_true", help="run nothing, say and draw what the file holds")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    path = options.out / "pareto.csv"
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        if not options.report:
            settings = QUICK if options.quick else Settings()
            data = study.load_data(options.mnist, settings.images, settings.test_images)
            for name, seed, wanted in jobs(settings):
                if options.network in (None, name):
                    produce(path, data, name, seed, wanted, settings)
        rows = read(path)
    except SparsimError as problem:
        raise SystemExit(f"error: {problem}") from None
    first = [row for row in rows if row["seed"] == 0]
    if not first:
        raise SystemExit(f"error: {path} holds no rows; run without --report")
    for name in dict.fromkeys(row["network"] for row in first):
        print("\n".join(findings([row for row in first if row["network"] == name])))
    print("\n".join(["spread over seeds:", *spread(rows)]))
    draw(first, options.out / "pareto.png")


if __name__ == "__main__":
    main()
