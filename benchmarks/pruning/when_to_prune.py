"""When to prune: before, during or after training? Accuracy by method and sparsity, and what one result costs.

    python benchmarks/pruning/when_to_prune.py

Needs ``sparsim[train]``. A small convolutional network learns scikit-learn's digits (1,797 images of 8 x 8). Every
method gets the same number of optimiser steps from the same initial weights, so that what is compared is when weights
are removed; all remove single weights, ranked over the whole network, and leave the output layer whole.

=============  ========================================================================================================
``random``     before training, weights drawn at random: the control
``snip``       before training, by ``|g w|`` on one batch of 128: Lee et al., ICLR 2019
``gradual``    during training, from a quarter to three quarters of the steps: Zhu and Gupta, 2017
``one_shot``   after half of the steps; the other half fine-tunes
``iterative``  from a quarter of the steps on, in five cuts with retraining in between: Han et al., NeurIPS 2015
=============  ========================================================================================================

Accuracies are means over the seeds, with the standard deviation, on 500 images that no training sees; the split is the
same for all seeds. The last line is what the simulator says of the first network that was pruned iteratively.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import mean, stdev

import numpy as np

from sparsim import Network, compare
from sparsim.errors import MissingExtra
from sparsim.pruning.criteria import gradient
from sparsim.pruning.schedule import Schedule, gradual_cubic, iterative, one_shot

try:
    import torch
    from sklearn.datasets import load_digits
    from torch import nn
except ImportError:
    raise SystemExit(f"error: {MissingExtra('training', 'train')}") from None

from sparsim.torch import Pruner, export, gradients

BATCH = 64
SALIENCY_BATCH = 128
COST_BATCH = 16
TESTS = 500
SPLIT_SEED = 0
LEARNING_RATE = 3e-3  # falls to 0 over the last quarter of the steps, so that every method can recover
CUTS = 5
METHODS = ("random", "snip", "gradual", "one_shot", "iterative")


@dataclass(frozen=True)
class Data:
    """Images ``[samples, 1, 8, 8]`` scaled to 0 .. 1 and labels."""

    images: torch.Tensor
    labels: torch.Tensor
    test_images: torch.Tensor
    test_labels: torch.Tensor

    @classmethod
    def digits(cls) -> Data:
        """Return scikit-learn's digits, split once for all trainings."""
        images, labels = load_digits(return_X_y=True)
        order = np.random.default_rng(SPLIT_SEED).permutation(len(labels))
        pictures = torch.tensor(images[order] / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)
        answers = torch.tensor(labels[order]).long()
        return cls(pictures[TESTS:], answers[TESTS:], pictures[:TESTS], answers[:TESTS])

    def batches(self, size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield shuffled batches without end."""
        while True:
            for batch in torch.randperm(len(self.labels)).split(size):
                if len(batch) == size:
                    yield self.images[batch], self.labels[batch]


@dataclass(frozen=True)
class Result:
    """One trained network: accuracy from 0 to 1, the share of weights removed, and the network with its inputs."""

    accuracy: float
    sparsity: float
    network: Network


def convolutional() -> nn.Sequential:
    """Return the untrained network: 38,160 weights, 37,520 of them prunable."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(512, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


def schedule_of(method: str, sparsity: float, steps: int) -> Schedule:
    """Return when ``method`` prunes how much in a training of ``steps`` steps."""
    if method in ("random", "snip"):
        return one_shot(sparsity)
    if method == "gradual":
        every = max(1, steps // 20)
        begin = steps // 4
        return gradual_cubic(0.0, sparsity, begin, begin + every * (steps // 2 // every), every)
    if method == "one_shot":
        return one_shot(sparsity, at=steps // 2)
    return iterative(sparsity, CUTS, every=steps // (2 * CUTS), start=steps // 4)


def run(method: str, sparsity: float, seed: int, data: Data, steps: int) -> Result:
    """Train once; sparsity 0 is the dense network, whatever the method."""
    torch.manual_seed(seed)
    model = convolutional()
    saliency = next(data.batches(SALIENCY_BATCH))

    def snip(untrained: nn.Module) -> object:
        return gradient(gradients(untrained, [saliency], nn.functional.cross_entropy))

    criterion = {"random": lambda _: "random", "snip": snip}.get(method, "magnitude")
    schedule = schedule_of(method, sparsity, steps) if sparsity else one_shot(0.0)
    pruner = Pruner(model, "unstructured", schedule, criterion=criterion, allocation="global", skip=["8"])
    optimiser = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    decay = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: min(1.0, 4 * (1 - step / steps)))
    with pruner:
        for _, (images, labels) in zip(range(steps), data.batches(BATCH), strict=False):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(images), labels).backward()
            optimiser.step()
            decay.step()
            pruner.step()
    network = export(model, data.test_images[:BATCH], name=f"digits, {method}")
    return Result(accuracy(model, data), pruner.sparsity, network)


def accuracy(model: nn.Module, data: Data) -> float:
    model.eval()
    with torch.no_grad():
        return float((model(data.test_images).argmax(1) == data.test_labels).double().mean())


def row(name: str, columns: Sequence[Sequence[Result]]) -> str:
    cells = []
    for results in columns:
        values = [100 * result.accuracy for result in results]
        spread = f" ±{stdev(values):.1f}" if len(values) > 1 else ""
        cells.append(f"{mean(values):.1f}{spread}".rjust(13))
    return name.ljust(12) + "".join(cells)


def cost(network: Network) -> str:
    """Say what the network costs on SpArch and on dense hardware of its size, relative to dense weights."""
    totals = compare(network, on=["sparch", "dense"], batch=COST_BATCH, jobs=1, progress=False).totals
    parts = [
        f"{total['machine.name']} {total['cycles.total']:,.0f} cycles, {total['energy_pj.total'] / 1e6:,.1f} uJ, "
        f"{total['speedup']:.2f}x its dense twin"
        for total in totals
    ]
    return f"{network.name}, {100 * network.sparsity:.1f} % zeros, batch {COST_BATCH}: " + "; ".join(parts)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Accuracy by the time of pruning, on scikit-learn's digits.")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each method")
    parser.add_argument("--steps", type=int, default=200, help="optimiser steps of each training, at least 40")
    parser.add_argument(
        "--sparsity", type=float, nargs="+", default=[0.8, 0.95, 0.98], help="shares of weights removed"
    )
    parser.add_argument("--quick", action="store_true", help="one seed, 60 steps, one sparsity: does it run?")
    options = parser.parse_args(arguments)
    seeds, steps, sparsities = options.seeds, options.steps, options.sparsity
    if options.quick:
        seeds, steps, sparsities = 1, 60, sparsities[:1]
    if seeds < 1 or steps < 40 or not all(0 < sparsity < 1 for sparsity in sparsities):
        parser.error("at least 1 seed and 40 steps, sparsities between 0 and 1")
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    started = time.perf_counter()
    data = Data.digits()
    epochs = steps * BATCH / len(data.labels)
    print(f"accuracy in % after {steps} steps ({epochs:.0f} epochs), mean ± deviation of {seeds} seeds")
    print("sparsity".ljust(12) + "".join(f"{sparsity:.0%}".rjust(13) for sparsity in sparsities))
    dense = [run("one_shot", 0.0, seed, data, steps) for seed in range(seeds)]
    print(row("dense", [dense] * len(sparsities)))
    for method in METHODS:
        columns = [[run(method, sparsity, seed, data, steps) for seed in range(seeds)] for sparsity in sparsities]
        for sparsity, results in zip(sparsities, columns, strict=True):
            assert all(math.isclose(result.sparsity, sparsity, abs_tol=1e-4) for result in results), method
        print(row(method, columns))
    print(cost(columns[0][0].network))
    print(f"{time.perf_counter() - started:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
