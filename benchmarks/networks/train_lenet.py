"""Train LeNet-300-100 and LeNet-5 on MNIST, prune them in every pattern, measure what each pattern costs in accuracy.

    python benchmarks/networks/train_lenet.py --mnist mnist.npz --out sparsim/zoo

Needs ``sparsim[torch]``. ``mnist.npz`` holds ``x_train, y_train, x_test, y_test``: uint8 images of 28 x 28 and labels.

What is stored is the dense network, its weights rounded to int8 with one scale a layer (none to zero, so that it stays
dense) and its biases to float16, and in the file's metadata the accuracy on the 10,000 test images of that rounded
network and of each pruned variant. A variant's mask is not stored: it is what ``sparsim.zoo.pruned`` makes of the
stored weights, one shot, layer by layer, the layers under ``skip`` left whole; of equal magnitudes, common among 127,
the lower index stays. From the stored weights and with the mask held, the variant is then fine-tuned in float32; its
accuracy is that of the last epoch (no choice among epochs, no look at the test set). The fine-tuned values are not
kept: a cost depends on positions only.

Left whole: the output layer (its ten rows are the classes, and it holds 0.4 % and 1.2 % of the weights), and for
``in_channel`` also the input layer (its columns are the image). An output channel is removed with its bias.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from sparsim import io, zoo
from sparsim.errors import MissingExtra
from sparsim.network import Layer, Network

try:
    import torch
    from torch import nn
except ImportError:
    raise SystemExit(f"error: {MissingExtra('training', 'torch')}") from None

SEED = 0
BATCH = 128
LEARNING_RATE = 1e-3
FINE_TUNE_RATE = 1e-3
WEIGHT_DECAY = 0.05
GRANULARITIES = ("unstructured", "2:4", "vector:4", "block:4x4", "out_channel", "in_channel")
SPARSITIES = (0.5, 0.75, 0.9)


@dataclass(frozen=True)
class Recipe:
    """One network: its modules, the geometry of its convolutions, and how long it trains."""

    name: str
    architecture: str
    geometry: dict[str, dict[str, Any]]
    input_shape: tuple[int, ...]
    epochs: int
    fine_tune_epochs: int

    def model(self) -> nn.Sequential:
        """Return the untrained network, always the same one."""
        torch.manual_seed(SEED)
        return MODELS[self.name]()


def lenet300_100() -> nn.Sequential:
    model = nn.Sequential()
    for name, module in (
        ("fc1", nn.Linear(784, 300)),
        ("relu1", nn.ReLU()),
        ("fc2", nn.Linear(300, 100)),
        ("relu2", nn.ReLU()),
        ("fc3", nn.Linear(100, 10)),
    ):
        model.add_module(name, module)
    return model


def lenet5() -> nn.Sequential:
    model = nn.Sequential()
    for name, module in (
        ("conv1", nn.Conv2d(1, 20, 5)),
        ("pool1", nn.MaxPool2d(2)),
        ("conv2", nn.Conv2d(20, 50, 5)),
        ("pool2", nn.MaxPool2d(2)),
        ("flatten", nn.Flatten()),
        ("fc1", nn.Linear(800, 500)),
        ("relu", nn.ReLU()),
        ("fc2", nn.Linear(500, 10)),
    ):
        model.add_module(name, module)
    return model.to(memory_format=torch.channels_last)


MODELS = {"lenet300_100": lenet300_100, "lenet5": lenet5}
RECIPES = (
    Recipe(
        "lenet300_100",
        "784 -> fc1 300 -> ReLU -> fc2 100 -> ReLU -> fc3 10; 266,200 weights and 410 biases",
        {},
        (784,),
        epochs=15,
        fine_tune_epochs=5,
    ),
    Recipe(
        "lenet5",
        "the LeNet of Caffe: 1x28x28 -> conv1 20@5x5 -> max pool 2 -> conv2 50@5x5 -> max pool 2 -> fc1 500 -> ReLU "
        "-> fc2 10; stride 1, no padding; 430,500 weights and 580 biases",
        {
            "conv1": {"stride": (1, 1), "padding": (0, 0), "input_size": (28, 28)},
            "conv2": {"stride": (1, 1), "padding": (0, 0), "input_size": (12, 12)},
        },
        (1, 28, 28),
        epochs=10,
        fine_tune_epochs=2,
    ),
)


@dataclass(frozen=True)
class Data:
    """Images scaled to 0 .. 1 and labels, as tensors."""

    images: torch.Tensor
    labels: torch.Tensor
    test_images: torch.Tensor
    test_labels: torch.Tensor

    @classmethod
    def load(cls, path: Path, shape: tuple[int, ...]) -> Data:
        """Read ``mnist.npz`` and give each image ``shape``."""
        with np.load(path) as arrays:
            images, tests = (
                torch.tensor(arrays[key]).float().div(255).reshape(-1, *shape) for key in ("x_train", "x_test")
            )
            return cls(images, torch.tensor(arrays["y_train"]).long(), tests, torch.tensor(arrays["y_test"]).long())


def layout(images: torch.Tensor) -> torch.Tensor:
    return images.contiguous(memory_format=torch.channels_last) if images.ndim == 4 else images


def accuracy(model: nn.Module, data: Data) -> float:
    """Return the share of test images classified correctly."""
    model.eval()
    with torch.no_grad():
        hits = sum(
            int((model(layout(images)).argmax(1) == labels).sum())
            for images, labels in zip(data.test_images.split(1000), data.test_labels.split(1000), strict=True)
        )
    return hits / len(data.test_labels)


def train(model: nn.Module, data: Data, epochs: int, rate: float, masks: dict[str, torch.Tensor]) -> None:
    """Train in place; after every step the masked parameters are set back to zero."""
    torch.manual_seed(SEED)
    model.train()
    parameters = dict(model.named_parameters())
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=WEIGHT_DECAY)
    steps = epochs * math.ceil(len(data.labels) / BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(epochs):
        for batch in torch.randperm(len(data.labels)).split(BATCH):
            loss = nn.functional.cross_entropy(model(layout(data.images[batch])), data.labels[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            with torch.no_grad():
                for name, kept in masks.items():
                    parameters[name].mul_(kept)


def store(recipe: Recipe, model: nn.Module, metadata: dict[str, str], path: Path) -> None:
    """Write weights through sparsim, then add the biases, which are no layers of a Network."""
    state = {name: value.detach().numpy() for name, value in model.state_dict().items()}
    layers = tuple(
        Layer(name.removesuffix(".weight"), np.ascontiguousarray(value), **geometry(recipe, name))
        for name, value in state.items()
        if name.endswith(".weight")
    )
    network = Network(recipe.name, layers)
    rules = {"left_whole": json.dumps(left_whole(network))}
    io.save_network(replace(network, metadata=metadata | rules), path, int8=True)
    with safe_open(path, "np") as file:
        written = dict(file.metadata())
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    biases = {name: value.astype(np.float16) for name, value in state.items() if name.endswith(".bias")}
    save_file(tensors | biases, path, metadata=written)


def geometry(recipe: Recipe, parameter: str) -> dict[str, Any]:
    return recipe.geometry.get(parameter.removesuffix(".weight"), {})


def restore(recipe: Recipe, path: Path) -> nn.Sequential:
    """Return the network as stored, computing in float32."""
    state = load_file(path) | {f"{layer.name}.weight": layer.weight for layer in io.load(path)}
    model = recipe.model()
    model.load_state_dict({name: torch.tensor(value.astype(np.float32)) for name, value in state.items()})
    return model


def left_whole(network: Network) -> dict[str, list[str]]:
    """Return the layers no variant prunes, and those ``in_channel`` does not prune."""
    names = [layer.name for layer in network]
    return {"default": [names[-1]], "in_channel": [names[0], names[-1]]}


def variants() -> list[tuple[str, float]]:
    """Return (granularity, sparsity) of every variant."""
    special = {"2:4": (0.5,), "unstructured": (*SPARSITIES, 0.95)}
    return [(pattern, sparsity) for pattern in GRANULARITIES for sparsity in special.get(pattern, SPARSITIES)]


def measure_variant(recipe: Recipe, path: Path, data: Data, granularity: str, sparsity: float) -> dict[str, Any]:
    """Prune the stored network, fine-tune it with the mask held, and return its record."""
    stored = io.load(path)
    skip = zoo.left_whole(stored, granularity)
    pruned = zoo.pruned(stored, granularity, sparsity)
    model = restore(recipe, path)
    masks = {}
    for layer in pruned:
        kept = torch.tensor(np.asarray(layer.weight) != 0).float()
        masks[f"{layer.name}.weight"] = kept
        if granularity == "out_channel" and layer.name not in skip:
            masks[f"{layer.name}.bias"] = (kept.flatten(1).sum(1) > 0).float()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in masks:
                parameter.mul_(masks[name])
    one_shot = accuracy(model, data)
    train(model, data, recipe.fine_tune_epochs, FINE_TUNE_RATE, masks)
    for layer in pruned:
        weight = model.get_parameter(f"{layer.name}.weight").detach().numpy()
        assert not weight[np.asarray(layer.weight) == 0].any(), f"the mask of {layer.name} was not held"
    return {
        "granularity": granularity,
        "sparsity": sparsity,
        "skip": skip,
        "actual_sparsity": round(1 - pruned.nnz / pruned.size, 6),
        "nnz": pruned.nnz,
        "accuracy": accuracy(model, data),
        "accuracy_before_fine_tuning": one_shot,
        "epochs": recipe.fine_tune_epochs,
        "seed": SEED,
    }


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def produce(recipe: Recipe, mnist: Path, out: Path) -> None:
    """Train one network, measure all its variants, and write the file."""
    started = time.perf_counter()
    data = Data.load(mnist, recipe.input_shape)
    path = out / f"{recipe.name}.safetensors"
    model = recipe.model()
    train(model, data, recipe.epochs, LEARNING_RATE, {})
    store(recipe, model, {}, path)
    stored = io.load(path)
    dense = accuracy(restore(recipe, path), data)
    say(f"{recipe.name}: dense {dense:.4f} after {time.perf_counter() - started:.0f} s")
    records = [
        {
            "granularity": "dense",
            "sparsity": 0.0,
            "skip": [],
            "actual_sparsity": round(1 - stored.nnz / stored.size, 6),
            "nnz": stored.nnz,
            "accuracy": dense,
            "epochs": recipe.epochs,
            "seed": SEED,
        }
    ]
    for granularity, sparsity in variants():
        record = measure_variant(recipe, path, data, granularity, sparsity)
        records.append(record)
        zeros = record["actual_sparsity"]
        say(f"{recipe.name}: {granularity} {sparsity}: accuracy {record['accuracy']:.4f}, {zeros:.4f} zeros")
    store(recipe, restore(recipe, path), describe(recipe, records), path)
    for layer, again in zip(stored, io.load(path), strict=True):
        assert np.array_equal(layer.weight, again.weight), f"storing {layer.name} again changed its weights"
    final = accuracy(restore(recipe, path), data)
    assert final == dense, f"stored file gives {final}, recorded {dense}"
    say(f"{recipe.name}: {path.stat().st_size:,} bytes, {time.perf_counter() - started:.0f} s")


def describe(recipe: Recipe, records: Sequence[dict[str, Any]]) -> dict[str, str]:
    return {
        "accuracy_by_variant": json.dumps(records),
        "accuracy_is": "share of the 10,000 MNIST test images, one run (seed below), last epoch",
        "architecture": recipe.architecture,
        "data": "MNIST, 60,000 training and 10,000 test images, pixels / 255, no augmentation",
        "training": (
            f"AdamW, weight decay {WEIGHT_DECAY}, batch {BATCH}, cosine to 0; dense: {recipe.epochs} epochs from "
            f"{LEARNING_RATE:g}; variants: one-shot magnitude pruning of the stored int8 weights, layer by layer (of "
            f"equal magnitudes the lower index stays), then {recipe.fine_tune_epochs} epochs in float32 from "
            f"{FINE_TUNE_RATE:g} with the mask held"
        ),
        "seed": str(SEED),
        "trained_by": f"benchmarks/networks/train_lenet.py, PyTorch {torch.__version__}, one CPU thread",
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Train the bundled LeNets and measure their pruned variants.")
    parser.add_argument("--mnist", type=Path, required=True, help="mnist.npz with x_train, y_train, x_test, y_test")
    parser.add_argument("--out", type=Path, required=True, help="folder for the .safetensors files")
    parser.add_argument("--network", choices=sorted(MODELS), help="train this one only")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    for recipe in RECIPES:
        if options.network in (None, recipe.name):
            produce(recipe, options.mnist, options.out)


if __name__ == "__main__":
    main()
