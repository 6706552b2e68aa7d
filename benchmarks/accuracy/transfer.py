"""Does a mask found on one task serve another?

    python benchmarks/accuracy/transfer.py [--mnist mnist.npz]

Needs ``sparsim[train]``. LeNet-5 learns the digits 0 to 4, then, with a new output layer, 5 to 9 (on MNIST, or on the
digits of scikit-learn without ``--mnist``). On the second task it always starts from the weights of the first, for
equally many epochs, and only the mask differs: none, the one of greatest magnitude on the first task (``source``), on
the second (``target``, from a dense network trained on it), or a random one. The question is that of Morcos et al.,
"One ticket to win them all", NeurIPS 2019. The cost of the resulting networks is simulated for a batch of 64 in fp16.

Prints one line per mask: accuracy over the seeds (mean and sample standard deviation), zeros, speed-up and energy
against dense weights on each machine's dense twin.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import study
import torch
from torch import nn

from sparsim.errors import SparsimError
from sparsim.network import Network
from sparsim.pruning import parse_granularity, prune
from sparsim.pruning.criteria import Criterion, magnitude, random

SOURCE, TARGET = range(5), range(5, 10)
MASKS = ("source", "target", "random")
MACHINES = ("sparch", "dense", "a100", "a100-2:4")
RATE = 2e-3


@dataclass(frozen=True)
class Sizes:
    """Images, epochs of both tasks, images of the second task to learn from, and samples simulated at a time."""

    images: int = 6000
    test_images: int | None = None
    epochs: int = 6
    target_epochs: int = 4
    target_images: int = 1000
    batch: int = 64
    seeds: int = 3


QUICK = Sizes(400, 200, 1, 1, 100, 1, 1)


@dataclass
class Outcome:
    """What all seeds measured for one mask: accuracies, and the total row of every machine of the last."""

    accuracies: list[float] = field(default_factory=list)
    network: Network | None = None
    reports: dict[str, dict[str, Any]] = field(default_factory=dict)


def with_new_head(model: nn.Module, seed: int) -> nn.Module:
    """Return a copy with a fresh output layer of five classes."""
    model = copy.deepcopy(model)
    torch.manual_seed(seed)
    model.fc2 = nn.Linear(500, len(TARGET))
    return model


def masked(network: Network, granularity: str, sparsity: float, criterion: Criterion) -> Network:
    share = None if parse_granularity(granularity).fixes_sparsity else sparsity
    return prune(network, granularity, share, criterion=criterion, skip=study.left_whole(network, granularity))


def run_seed(
    data: study.Data, seed: int, granularities: Sequence[str], sparsity: float, sizes: Sizes, found: dict[Any, Outcome]
) -> None:
    """Train both tasks with one seed and add what every mask reaches to ``found``."""
    first, second = data.classes(SOURCE), data.classes(TARGET).first(sizes.target_images)
    source = with_new_head(study.build("lenet5", seed), seed)
    study.train(source, first, sizes.epochs, RATE, seed)
    start = with_new_head(source, seed + 1)
    target = copy.deepcopy(start)
    study.train(target, second, sizes.target_epochs, RATE, seed)
    whole = study.network_of(start, second, "lenet5")
    trained = study.network_of(target, second, "lenet5")
    note(found, ("dense", "none"), study.accuracy(target, second), whole)
    for granularity in granularities:
        for mask in MASKS:
            network = trained if mask == "target" else whole
            pruned = masked(network, granularity, sparsity, random(seed) if mask == "random" else magnitude)
            model = study.tuned(start, pruned, second, sizes.target_epochs, RATE, seed)
            note(found, (granularity, mask), study.accuracy(model, second), pruned)
            print(f"seed {seed}: {granularity}, {mask}: {found[granularity, mask].accuracies[-1]:.4f}", file=sys.stderr)


def note(found: dict[Any, Outcome], key: tuple[str, str], accuracy: float, network: Network) -> None:
    outcome = found.setdefault(key, Outcome())
    outcome.accuracies.append(accuracy)
    outcome.network = network


def line(key: tuple[str, str], outcome: Outcome) -> str:
    values = [100 * value for value in outcome.accuracies]
    deviation = f"{statistics.stdev(values):5.2f}" if len(values) > 1 else "    -"
    assert outcome.network is not None
    cells = [f"{row['speedup']:6.2f}x {row['energy_ratio']:5.2f}" for row in outcome.reports.values()]
    head = f"{key[0]:13s} {key[1]:7s} {statistics.mean(values):6.2f} {deviation} {100 * outcome.network.sparsity:6.1f}"
    return f"{head}  {'  '.join(cells)}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Reuse a pruning mask of digits 0 to 4 on digits 5 to 9.")
    parser.add_argument("--mnist", type=Path, help="mnist.npz; the digits of scikit-learn without it")
    parser.add_argument("--granularity", nargs="+", default=["unstructured", "block:4x4", "kernel", "out_channel"])
    parser.add_argument("--sparsity", type=float, default=0.9)
    parser.add_argument("--seeds", type=int, default=Sizes.seeds, help="runs from different first weights")
    parser.add_argument("--quick", action="store_true", help="few images, one epoch, one seed: does it run?")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    sizes = QUICK if options.quick else Sizes(seeds=options.seeds)
    found: dict[Any, Outcome] = {}
    try:
        data = study.load_data(options.mnist, sizes.images, sizes.test_images)
        for seed in range(sizes.seeds):
            run_seed(data, seed, options.granularity, options.sparsity, sizes, found)
        for outcome in found.values():
            outcome.reports = study.costs(outcome.network, MACHINES, sizes.batch)
    except SparsimError as problem:
        raise SystemExit(f"error: {problem}") from None
    print(f"{data.name}, digits 5 to 9 after 0 to 4; per machine speed-up and energy against dense weights")
    heads = "  ".join(f"{name:>13s}" for name in MACHINES)
    print(f"{'pattern':13s} {'mask':7s} {'mean %':>6s} {'+-':>5s} {'zeros':>6s}  {heads}")
    print("\n".join(line(key, outcome) for key, outcome in found.items()))


if __name__ == "__main__":
    main()
