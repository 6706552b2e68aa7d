"""What the accuracy studies share: images, two networks, and training with a mask held.

Images are MNIST's, or where no ``mnist.npz`` is given the digits of scikit-learn, 8 x 8 pixels enlarged to 28 x 28, so
that the networks are the same. All is deterministic, given a seed: one thread, one order of the images.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sparsim import compare
from sparsim.errors import InputError, MissingExtra
from sparsim.network import Layer, Network

try:
    import torch
    from torch import nn
except ImportError:
    raise SystemExit(f"error: {MissingExtra('training', 'train')}") from None

BATCH = 64
SIDE = 28
WEIGHT_DECAY = 0.05
ARRAYS = ("x_train", "y_train", "x_test", "y_test")


@dataclass(frozen=True)
class Data:
    """Images ``[samples, 1, 28, 28]`` scaled to 0 .. 1 and labels, as tensors."""

    name: str
    images: torch.Tensor
    labels: torch.Tensor
    test_images: torch.Tensor
    test_labels: torch.Tensor

    def classes(self, labels: Iterable[int]) -> Data:
        """Return the samples with these labels, which are numbered anew from 0."""
        order = {label: i for i, label in enumerate(labels)}
        train, test = (torch.isin(each, torch.tensor(list(order))) for each in (self.labels, self.test_labels))
        number = torch.tensor([order.get(label, -1) for label in range(10)])
        return replace(
            self,
            images=self.images[train],
            labels=number[self.labels[train]],
            test_images=self.test_images[test],
            test_labels=number[self.test_labels[test]],
        )

    def first(self, count: int) -> Data:
        """Return the data with the first ``count`` images to train on; all test images stay."""
        return replace(self, images=self.images[:count], labels=self.labels[:count])


def load_data(mnist: Path | None, train: int | None = None, test: int | None = None) -> Data:
    """Read ``mnist.npz`` (``x_train, y_train, x_test, y_test``), or the digits of scikit-learn.

    Parameters
    ----------
    train, test : as many samples of each part, from the front; None takes all.
    """
    name, arrays = ("digits", _digits()) if mnist is None else ("mnist", _mnist(mnist))
    images, labels, test_images, test_labels = arrays
    scaled = [torch.tensor(each[:count]).float()[:, None] for each, count in ((images, train), (test_images, test))]
    numbers = [torch.tensor(each[:count]).long() for each, count in ((labels, train), (test_labels, test))]
    return Data(name, scaled[0], numbers[0], scaled[1], numbers[1])


def _mnist(path: Path) -> tuple[np.ndarray, ...]:
    try:
        with np.load(path) as file:
            missing = [key for key in ARRAYS if key not in file.files]
            if missing:
                raise InputError(f"has no array '{missing[0]}'", source=path, remedy=f"it needs {', '.join(ARRAYS)}")
            images, labels, test_images, test_labels = (file[key] for key in ARRAYS)
    except (OSError, ValueError) as problem:
        if isinstance(problem, InputError):
            raise
        raise InputError("is no readable .npz file", source=path, remedy="leave --mnist out for the digits") from None
    return images / np.float32(255), labels, test_images / np.float32(255), test_labels


def _digits() -> tuple[np.ndarray, ...]:
    """Return 1,297 training and 500 test images; the file's order is that of 43 writers, so the parts share none."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise SystemExit(f"error: {MissingExtra('the digits of scikit-learn', 'train')}") from None
    digits = load_digits()
    large = np.kron(digits.images / np.float32(16), np.ones((3, 3), dtype=np.float32))
    images = np.pad(large, ((0, 0), (2, 2), (2, 2))).astype(np.float32)
    return images[:-500], digits.target[:-500], images[-500:], digits.target[-500:]


def lenet5() -> nn.Module:
    """Return the LeNet of Caffe, as bundled: 430,500 weights."""
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
    return model


class Block(nn.Module):
    """A basic residual block (He et al., CVPR 2016), with a 1x1 projection where the shape changes."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.projects = stride != 1 or channels != out
        if self.projects:
            self.conv3 = nn.Conv2d(channels, out, 1, stride, bias=False)
            self.bn3 = nn.BatchNorm2d(out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the sum of both branches, rectified."""
        y = torch.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return torch.relu(y + (self.bn3(self.conv3(x)) if self.projects else x))


class ResNet(nn.Module):
    """Eight layers deep: a stem of stride 2, three blocks of 16, 32 and 64 channels, a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.block1 = Block(16, 16, 1)
        self.block2 = Block(16, 32, 2)
        self.block3 = Block(32, 64, 2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        x = torch.relu(self.bn1(self.conv1(x)))
        x = self.block3(self.block2(self.block1(x)))
        return self.fc(self.pool(x).flatten(1))


def build(name: str, seed: int) -> nn.Module:
    """Return the untrained network "lenet5" or "resnet8"."""
    torch.manual_seed(seed)
    model = {"lenet5": lenet5, "resnet8": ResNet}[name]()
    return model.to(memory_format=torch.channels_last)


def left_whole(network: Network, granularity: str) -> list[str]:
    """Return the layers a pattern leaves alone: the classes are not pruned away, nor the image's only channel."""
    names = [layer.name for layer in network]
    return [names[0], names[-1]] if granularity == "in_channel" else [names[-1]]


def accuracy(model: nn.Module, data: Data) -> float:
    """Return the share of test images classified correctly."""
    model.eval()
    with torch.no_grad():
        hits = sum(
            int((model(images.contiguous(memory_format=torch.channels_last)).argmax(1) == labels).sum())
            for images, labels in zip(data.test_images.split(500), data.test_labels.split(500), strict=True)
        )
    return hits / max(len(data.test_labels), 1)


def train(
    model: nn.Module, data: Data, epochs: int, rate: float, seed: int, masks: dict[str, torch.Tensor] | None = None
) -> None:
    """Train in place; masked parameters are zero before the first step and after every one."""
    torch.manual_seed(seed)
    model.train()
    parameters = dict(model.named_parameters())
    held = [(parameters[name], kept) for name, kept in (masks or {}).items()]
    _hold(held)
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=WEIGHT_DECAY)
    steps = epochs * math.ceil(len(data.labels) / BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(steps, 1))
    for _ in range(epochs):
        for batch in torch.randperm(len(data.labels)).split(BATCH):
            images = data.images[batch].contiguous(memory_format=torch.channels_last)
            loss = nn.functional.cross_entropy(model(images), data.labels[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            _hold(held)


def _hold(held: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
    with torch.no_grad():
        for parameter, kept in held:
            parameter.mul_(kept)


def masks_of(model: nn.Module, network: Network) -> dict[str, torch.Tensor]:
    """Return what stays of each parameter: an output without weights goes with its bias and its batch norm."""
    parameters = dict(model.named_parameters())
    masks = {}
    for layer in network:
        kept = torch.tensor(_weight(layer) != 0).float()
        masks[f"{layer.name}.weight"] = kept.contiguous(memory_format=_format(kept))
        alive = (kept.flatten(1).sum(1) > 0).float()
        head, _, last = layer.name.rpartition(".")
        norm = f"{head}.{last}".lstrip(".").replace("conv", "bn")
        for name in (f"{layer.name}.bias", f"{norm}.weight", f"{norm}.bias"):
            if name in parameters and name not in masks:
                masks[name] = alive
    return masks


def _weight(layer: Layer) -> np.ndarray:
    assert isinstance(layer.weight, np.ndarray)
    return layer.weight


def _format(tensor: torch.Tensor) -> torch.memory_format:
    return torch.channels_last if tensor.ndim == 4 else torch.contiguous_format


def tuned(model: nn.Module, pruned: Network, data: Data, epochs: int, rate: float, seed: int) -> nn.Module:
    """Return a copy of the model, trained with the zeros of ``pruned`` held."""
    model = copy.deepcopy(model)
    train(model, data, epochs, rate, seed, masks_of(model, pruned))
    for layer in pruned:
        weight = model.get_parameter(f"{layer.name}.weight").detach().numpy()
        assert not weight[_weight(layer) == 0].any(), f"the mask of {layer.name} was not held"
    return model


def network_of(model: nn.Module, data: Data, name: str) -> Network:
    """Return the model as a network, its activation densities measured on the first test images."""
    from sparsim.torch import export

    return replace(export(model, data.test_images[:BATCH]), name=name)


def costs(network: Network, machines: Sequence[str], batch: int) -> dict[str, dict[str, Any]]:
    """Return the total row of :func:`sparsim.compare` by machine, all of them computing W·X."""
    comparison = compare(network, on=machines, batch=batch, orientation="wx", jobs=1, progress=False)
    return {row["machine.name"]: dict(row) for row in comparison.totals}
