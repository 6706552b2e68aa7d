"""Does a searched network keep more accuracy than a uniformly pruned one that costs as much?

    python benchmarks/search/against_uniform.py --mnist mnist.npz

Needs ``sparsim[train]`` and ``sparsim[search]``. The bundled networks are pruned within budgets of energy or latency:
every pattern uniformly, to the least sparsity that meets the budget, and as ``sparsim.search`` chooses layer by layer,
among all patterns and (on SpArch) among sparsities of ``unstructured`` alone. Test accuracy is measured right after
pruning, constants of removed channels folded into the biases, and after the same short fine-tuning with the mask held,
for several seeds. The search is told no accuracy; ``--criterion obd`` tells it the diagonal of the Fisher matrix.

Rows go to ``against_uniform.csv``, the picture to ``against_uniform.png``; ``--report`` draws what the file holds.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "accuracy"))

import matplotlib

matplotlib.use("Agg")

import study
import torch
from matplotlib import pyplot as plt
from torch import nn

import sparsim as ss
from sparsim.errors import ConfigError, SparsimError
from sparsim.network import Network
from sparsim.plot.draw import MARKERS, PALETTE
from sparsim.pruning.criteria import criterion as named_criterion
from sparsim.torch import fisher_diagonal
from sparsim.variants import Pruning

NETWORKS = ("lenet300_100", "lenet5")
PATTERNS = {"sparch": ("unstructured", "block:4x4", "2:4"), "dense": ("out_channel", "in_channel")}
RATE = 1e-3
Row = Mapping[str, Any]
COLUMNS = ("network", "machine", "measure", "budget", "way", "choice", "cost", "sparsity", "pruned", "tuned", "spread")


@dataclass(frozen=True)
class Settings:
    """Budgets by machine and measure, and how much is trained."""

    budgets: Mapping[tuple[str, str], Sequence[float]]
    images: int = 6000
    test_images: int | None = None
    epochs: int = 1
    seeds: Sequence[int] = (0, 1, 2)
    batch: int = 64
    trials: int = 200


FULL = Settings({("sparch", "energy"): (1.0, 0.6, 0.4, 0.25), ("dense", "latency"): (0.5,)})
QUICK = Settings({("sparch", "energy"): (0.4,)}, 200, 200, 1, (0,), 1, 20)


def lenet300_100() -> nn.Module:
    """Return LeNet-300-100, with the names of the bundled weights."""
    model = nn.Sequential()
    sizes = (784, 300, 100, 10)
    model.add_module("flatten", nn.Flatten())
    for number in (1, 2, 3):
        model.add_module(f"fc{number}", nn.Linear(sizes[number - 1], sizes[number]))
        if number < 3:
            model.add_module(f"relu{number}", nn.ReLU())
    return model


def loaded(network: Network) -> nn.Module:
    """Return the bundled network as a module."""
    model = {"lenet300_100": lenet300_100, "lenet5": study.lenet5}[network.name]()
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for layer in network:
            parameters[f"{layer.name}.weight"].copy_(torch.tensor(layer.weight))
            parameters[f"{layer.name}.bias"].copy_(torch.tensor(layer.bias))
    return model


def ways(
    network: Network, machine: str, budget: Mapping[str, float], how: Mapping[str, Any]
) -> Iterator[tuple[str, str, Network, Mapping[str, float]]]:
    """Yield name, choice, network and costs of every way to meet the budget."""
    patterns = PATTERNS[machine]
    sets = {"search": patterns} | ({"search, unstructured": ["unstructured"]} if "unstructured" in patterns else {})
    known: dict[str, Any] = {}
    for way, given in sets.items():
        found = ss.search(network, on=machine, budget=budget, granularity=given, progress=False, **how)
        chosen = ", ".join(f"{name} {pattern} {share:.1%}" for name, (pattern, share) in found.choices.items())
        if found.choices == known:  # among all patterns, unstructured was best everywhere
            return
        known = dict(found.choices)
        yield way, chosen, found.network, found.costs
        for each in found.uniform if way == "search" else ():
            skip = ss.zoo.left_whole(network, each.granularity)
            pruned = ss.prune(network, each.granularity, each.sparsity, criterion=how["criterion"], skip=skip)
            yield each.granularity, f"{each.sparsity:.1%}", Pruning().carry(pruned).network, each.costs


def measured(pruned: Network, data: study.Data, settings: Settings) -> dict[str, float]:
    """Return accuracy right after pruning, and after fine-tuning with its spread over seeds."""
    model = loaded(pruned)
    tuned = [
        study.accuracy(study.tuned(model, pruned, data, settings.epochs, RATE, seed), data) for seed in settings.seeds
    ]
    spread = statistics.stdev(tuned) if len(tuned) > 1 else 0.0
    return {"pruned": study.accuracy(model, data), "tuned": statistics.mean(tuned), "spread": spread}


def produce(data: study.Data, names: Sequence[str], settings: Settings, rule: str) -> Iterator[dict[str, Any]]:
    """Yield one row for every network, budget and way."""
    for name in names:
        network = ss.zoo.load(name)
        model = loaded(network)
        dense = {"network": name, "way": "dense", "pruned": study.accuracy(model, data)}
        yield dict.fromkeys(COLUMNS, "") | dense | {"tuned": dense["pruned"], "spread": 0.0}
        how: dict[str, Any] = {"batch": settings.batch, "criterion": criterion_of(rule, model, data)}
        how |= {"loss": "sum" if rule == "obd" else "distortion", "trials": settings.trials}
        for (machine, measure), shares in settings.budgets.items():
            for share in shares:
                head = {"network": name, "machine": machine, "measure": measure, "budget": share}
                try:
                    for way, choice, pruned, costs in ways(network, machine, {measure: share}, how):
                        start = time.perf_counter()
                        row = {**head, "way": way, "choice": choice, "cost": costs[measure]}
                        row |= {"sparsity": pruned.sparsity, **measured(pruned, data, settings)}
                        took = time.perf_counter() - start
                        told = f"{way} {row['pruned']:.2%} pruned, {row['tuned']:.2%} tuned, {took:.0f} s"
                        print(f"{name}, {machine}, {measure} {share:g}: {told}", file=sys.stderr)
                        yield row
                except ConfigError as problem:  # a budget out of reach is a finding too
                    print(f"{name}: {problem}", file=sys.stderr)


def criterion_of(rule: str, model: nn.Module, data: study.Data) -> Any:
    if rule != "obd":
        return rule
    pairs = zip(data.images[:2000].split(50), data.labels[:2000].split(50), strict=True)
    diagonals = fisher_diagonal(model, pairs, nn.functional.cross_entropy)
    return named_criterion("obd", diagonals)


def findings(rows: Sequence[Row]) -> list[str]:
    """Return for every budget how search stands against the best uniform pruning within it."""
    lines = [f"{r['network']}: dense {float(r['tuned']):.2%}" for r in rows if r["way"] == "dense"]
    for key in dict.fromkeys(_budget(r) for r in rows if r["way"] != "dense"):
        mine = [r for r in rows if _budget(r) == key and r["way"] != "dense"]
        best = {
            (searched, when): max((r for r in mine if r["way"].startswith("search") == searched), key=_by(when))
            for searched in dict.fromkeys(r["way"].startswith("search") for r in mine)
            for when in ("pruned", "tuned")
        }
        told = [
            f"{'search' if searched else 'uniform'} {float(row[when]):.2%} {when} ({row['way']} {row['choice']})"
            for (searched, when), row in best.items()
            if not (searched and when == "pruned" and row["way"] != "search")
        ]
        lines.append(f"{key[0]}, {key[1]}, {key[2]} {float(key[3]):g}: {'; '.join(told)}")
    return lines


def _budget(row: Row) -> tuple[Any, ...]:
    return row["network"], row["machine"], row["measure"], row["budget"]


def _by(when: str) -> Callable[[Row], float]:
    return lambda row: float(row[when])


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draw accuracy against what the network takes, right after pruning and fine-tuned."""
    groups = list(dict.fromkeys(_budget(r)[:3] for r in rows if r["way"] != "dense"))
    names = list(dict.fromkeys(r["way"] for r in rows if r["way"] != "dense"))
    figure, grid = plt.subplots(2, len(groups), figsize=(3.1 * len(groups), 5.6), squeeze=False, sharex="col")
    for axes_of, group in zip(grid.T, groups, strict=True):
        for axes, when in zip(axes_of, ("pruned", "tuned"), strict=True):
            for number, way in enumerate(names):
                mine = [r for r in rows if _budget(r)[:3] == group and r["way"] == way]
                searched = way.startswith("search")
                label = way if searched else f"uniform {way}"
                axes.errorbar(
                    [float(r["cost"]) for r in mine],
                    [100 * float(r[when]) for r in mine],
                    [100 * float(r["spread"]) for r in mine] if when == "tuned" else None,
                    color=PALETTE[number % len(PALETTE)],
                    marker=MARKERS[number],
                    markersize=5,
                    linewidth=2 if searched else 1.2,
                    capsize=2,
                    label=label,
                )
            dense = next(r for r in rows if r["way"] == "dense" and r["network"] == group[0])
            axes.axhline(100 * float(dense["tuned"]), color="#555555", linestyle="--", linewidth=1, label="dense")
            axes.grid(True, linewidth=0.3)
            axes.tick_params(labelsize=8)
        axes_of[0].set_title(f"{group[0]} on {group[1]}", fontsize=10)
        axes_of[1].set_xlabel(f"{group[2]}, share of dense", fontsize=9)
    grid[0][0].set_ylabel("test accuracy after pruning [%]", fontsize=9)
    grid[1][0].set_ylabel("after fine-tuning [%]", fontsize=9)
    shown = {label: handle for axes in grid[0] for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(shown.values(), shown.keys(), loc="upper center", ncol=4, frameon=False, fontsize=8)
    figure.tight_layout(rect=(0, 0, 1, 0.91))
    figure.savefig(path, dpi=100)
    plt.close(figure)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Accuracy of searched and of uniformly pruned networks at equal cost.")
    parser.add_argument("--mnist", type=Path, help="mnist.npz; the digits of scikit-learn without it")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder of the table and the picture")
    parser.add_argument("--criterion", default="magnitude", choices=("magnitude", "obd"))
    parser.add_argument("--network", choices=NETWORKS, help="run this one only")
    parser.add_argument("--quick", action="store_true", help="few images, one budget: does it run?")
    parser.add_argument("--report", action="store_true", help="run nothing, say and draw what the file holds")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    settings = QUICK if options.quick else FULL
    stem = "against_uniform" if options.criterion == "magnitude" else f"against_uniform_{options.criterion}"
    names = [options.network] if options.network else NETWORKS
    path = options.out / f"{stem}.csv"
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        if not options.report:
            data = study.load_data(options.mnist, settings.images, settings.test_images)
            with path.open("w", newline="") as file:
                writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
                writer.writeheader()
                for row in produce(data, names, settings, options.criterion):
                    writer.writerow({key: f"{v:.6g}" if isinstance(v, float) else v for key, v in row.items()})
                    file.flush()
    except SparsimError as problem:
        raise SystemExit(f"error: {problem}") from None
    if not path.exists():
        raise SystemExit(f"error: {path} does not exist; run without --report")
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        raise SystemExit(f"error: {path} holds no rows; run without --report")
    print("\n".join(findings(rows)))
    draw(rows, options.out / f"{stem}.png")


if __name__ == "__main__":
    main()
