"""Pruning a model while it trains, and carrying masks and weights between models and networks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from sparsim.errors import ConfigError, InputError
from sparsim.matrix import Csr
from sparsim.network import Layer, Network
from sparsim.pruning import Criterion, Granularity, parse_granularity, prune
from sparsim.pruning.criteria import criterion as named_criterion
from sparsim.pruning.schedule import Schedule
from sparsim.torch.parameters import site, weight_names
from sparsim.torch.saliency import product_names

__all__ = ["Pruner", "apply_masks", "load_into", "masks_of"]

BoolArray = npt.NDArray[np.bool_]
Masks = Mapping[str, BoolArray]
Choice = str | Callable[[nn.Module], str | Criterion]
REMOVES_OUTPUTS = ("out_channel", "head")


class Pruner:
    """Masks that follow a schedule and hold while a model trains.

    ::

        with Pruner(model, "unstructured", gradual_cubic(0, 0.9, begin=100, end=900, every=100)) as pruner:
            for inputs, targets in loader:
                ...
                optimizer.step()
                pruner.step()

    Parameters
    ----------
    model : pruned in place: removed weights are set to zero after every step. Where whole outputs are removed
        (``out_channel``, ``head:D``), their biases are too.
    granularity : the pattern, see :func:`sparsim.pruning.prune`. Patterns that fix their own sparsity (2:4) take a
        schedule of one mask; ``N:M+permute`` is for networks, a model has no place for an order of channels.
    schedule : when to prune how much; step 0 is now, step t the t-th call of :meth:`step`.
    criterion : "magnitude", "random", or a function that is called with the model whenever a mask is made, and returns
        one of these names or a criterion: ``lambda model: obd(fisher_diagonal(model, batches, loss))``.
    allocation : see :func:`sparsim.pruning.prune`. A mapping gives the sparsities at the end; before it, every layer
        has that share of its own which the schedule has of its final sparsity.
    skip : names of layers that stay whole.
    example_input : input of the model. With it all layers that :func:`~sparsim.torch.export.export` finds are pruned,
        without it those of PyTorch's modules (linear, convolutions, attention, recurrent).

    Raises
    ------
    ConfigError
        If granularity, schedule, criterion, allocation or skip do not fit.
    InputError
        If the model has no layer, or one is parametrized.

    Notes
    -----
    A weight once removed stays removed, whatever the criterion says later.
    """

    def __init__(
        self,
        model: nn.Module,
        granularity: str | Granularity,
        schedule: Schedule,
        *,
        criterion: Choice = "magnitude",
        allocation: str | Mapping[str, float] = "uniform",
        skip: Iterable[str] = (),
        example_input: Any = None,
    ) -> None:
        self.schedule = schedule
        self._model, self._pattern = model, parse_granularity(granularity)
        self._criterion, self._allocation = criterion, allocation
        self._skip = {skip} if isinstance(skip, str) else set(skip)
        self._steps = 0
        self._check()
        names = weight_names(model) if example_input is None else product_names(model, example_input)
        self._sites = {name: site(model, name) for name in names if "#" not in name}
        if not self._sites:
            raise InputError(f"{type(model).__name__} has no layer to prune", remedy="give example_input")
        self._masks: dict[str, BoolArray] = {
            name: np.ones(place.read(place.parameter).shape, dtype=np.bool_) for name, place in self._sites.items()
        }
        self._tensors: list[tuple[Any, Any]] = []
        self._follow()

    def _check(self) -> None:
        if self._pattern.kind == "n:m+permute":
            raise ConfigError(
                f"'{self._pattern}' reorders input channels, which a model cannot say",
                key="granularity",
                allowed="N:M, or sparsim.prune on the exported network",
            )
        if self._pattern.fixes_sparsity and len(self.schedule.updates) > 1:
            raise ConfigError(
                f"{len(self.schedule.updates)} masks of '{self._pattern}', which fixes its own sparsity",
                key="schedule",
                allowed="one_shot",
            )

    def __enter__(self) -> Pruner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.finish()

    @property
    def masks(self) -> dict[str, BoolArray]:
        """Layer name to a bool array of the weight's shape, True where a weight stays."""
        return {name: mask.copy() for name, mask in self._masks.items()}

    @property
    def sparsity(self) -> float:
        """Share of weights removed, of the layers that are not skipped."""
        chosen = [mask for name, mask in self._masks.items() if name not in self._skip]
        return 1 - sum(int(mask.sum()) for mask in chosen) / max(sum(mask.size for mask in chosen), 1)

    def step(self) -> None:
        """Count a step of the optimiser: make a new mask if one is due, and set removed weights to zero."""
        self._steps += 1
        self._follow()

    def finish(self) -> dict[str, BoolArray]:
        """Set removed weights to zero once more and return the masks.

        Raises
        ------
        ConfigError
            If the training ended before the schedule did.
        """
        if self._steps < self.schedule.last:
            raise ConfigError(
                f"the last mask was due at step {self.schedule.last}, the training ended at {self._steps}",
                key="schedule",
                allowed="a schedule that ends with the training",
            )
        _zero(self._tensors)
        return self.masks

    def _follow(self) -> None:
        if self.schedule.changes(self._steps):
            self._update(self.schedule.sparsity(self._steps))
        _zero(self._tensors)

    def _update(self, sparsity: float) -> None:
        rule = self._criterion if isinstance(self._criterion, str) else self._criterion(self._model)
        allocation, budget = self._allocation, None
        if isinstance(allocation, Mapping):
            share = sparsity / self.schedule.final if self.schedule.final else 0.0
            allocation = {name: value * share for name, value in allocation.items()}
        elif not self._pattern.fixes_sparsity:
            budget = sparsity
        pruned = prune(
            self._network(),
            self._pattern,
            budget,
            allocation=allocation,
            criterion=self._removed_last(named_criterion(rule) if isinstance(rule, str) else rule),
            skip=self._skip,
        )
        self._masks |= {layer.name: np.asarray(layer.weight) != 0 for layer in pruned if layer.name not in self._skip}
        self._tensors = _mask_tensors(self._model, self._masks, self._pattern.kind in REMOVES_OUTPUTS)

    def _network(self) -> Network:
        """Return the layers with removed weights at zero, and only these: a zero that was trained may stay."""
        layers = []
        for name, place in self._sites.items():
            weight = place.read(place.parameter)
            weight = np.where(weight == 0, np.finfo(weight.dtype).tiny, weight)
            weight[~self._masks[name]] = 0
            layers.append(Layer(name, weight, groups=place.groups))
        return Network(type(self._model).__name__, tuple(layers))

    def _removed_last(self, rule: Criterion) -> Criterion:
        """Rank what is removed already below everything else, so that the budget goes to what is left."""

        def scores(layer: Layer) -> npt.NDArray[np.float64]:
            given = np.asarray(rule(layer), dtype=np.float64)
            mask = self._masks[layer.name]
            return np.where(mask, given, given.min(initial=0) - 1) if given.shape == mask.shape else given

        return scores


def apply_masks(model: nn.Module, masks: Masks, *, biases: bool = False) -> None:
    """Set the weights to zero where a mask is False.

    Parameters
    ----------
    model : changed in place.
    masks : layer name to a bool array of the weight's shape.
    biases : whether an output whose weights are all removed loses its bias too.

    Raises
    ------
    InputError
        If a name is no layer of the model, or a shape is not its weight's.
    """
    _zero(_mask_tensors(model, masks, biases))


def masks_of(network: Network) -> dict[str, BoolArray]:
    """Return where the weights of a network are not zero: layer name to a bool array of the weight's shape."""
    return {layer.name: _dense(layer) != 0 for layer in network}


def load_into(model: nn.Module, network: Network) -> None:
    """Copy the weights and biases of a network, pruned perhaps, into the model it was exported from.

    Where one weight is several layers (``conv`` and ``conv#2``), it stays wherever one of them keeps it.

    Parameters
    ----------
    model : changed in place.
    network : its layers are called as :func:`~sparsim.torch.export.export` calls them; a matrix is brought to the shape
        of the weight.

    Raises
    ------
    InputError
        If a name is no layer of the model, or a shape is not its weight's; nothing is changed then.
    """
    values: dict[str, npt.NDArray[Any]] = {}
    biases: dict[str, npt.NDArray[Any]] = {}
    for layer in network:
        name = re.sub(r"#\d+$", "", layer.name)
        weight = _dense(layer)
        values[name] = np.where(values[name] != 0, values[name], weight) if name in values else weight
        if layer.bias is not None:
            biases[name] = layer.bias
    sites = {name: site(model, name) for name in values}
    for name, place in sites.items():
        shape = place.read(place.parameter).shape
        if values[name].size != np.prod(shape) or values[name].shape[0] != shape[0]:
            _refuse_shape(name, values[name].shape, shape)
        values[name] = values[name].reshape(shape)
        if name not in biases:
            continue
        if place.bias is None:
            if biases[name].any():
                raise InputError(
                    f"layer '{name}' has a bias, its module has none", remedy="make the module with bias=True"
                )
            del biases[name]
        elif biases[name].shape != tuple(place.bias.shape):
            _refuse_shape(f"{name} (bias)", biases[name].shape, tuple(place.bias.shape))
    for name, place in sites.items():
        place.write(place.parameter, values[name])
        if name in biases:
            place.bias.detach().copy_(torch.tensor(biases[name]))


def _dense(layer: Layer) -> npt.NDArray[Any]:
    if not isinstance(layer.weight, Csr):
        return layer.weight
    if layer.weight.values is None:
        raise InputError(f"layer '{layer.name}' has positions but no values", remedy="give a network with its weights")
    return layer.weight.to_dense()


def _mask_tensors(model: nn.Module, masks: Masks, biases: bool) -> list[tuple[Any, Any]]:
    """Return pairs of a parameter and a bool tensor of its shape, True where it is to be zero."""
    removed: dict[int, tuple[Any, Any]] = {}
    for name, mask in masks.items():
        place = site(model, name)
        shape = place.read(place.parameter).shape
        if mask.shape != shape:
            _refuse_shape(name, mask.shape, shape)
        new = (place.parameter, torch.zeros_like(place.parameter, dtype=torch.bool))
        place.write(removed.setdefault(id(place.parameter), new)[1], ~np.asarray(mask, dtype=np.bool_))
        if biases and place.bias is not None:
            dead = ~mask.reshape(len(place.bias), -1).any(axis=1)
            removed[id(place.bias)] = (place.bias, torch.tensor(dead, device=place.bias.device))
    return list(removed.values())


def _zero(tensors: Iterable[tuple[Any, Any]]) -> None:
    with torch.no_grad():
        for parameter, removed in tensors:
            parameter.detach().masked_fill_(removed, 0)


def _refuse_shape(name: str, found: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    raise InputError(
        f"layer '{name}': {'x'.join(map(str, found))} for {'x'.join(map(str, wanted))} in the model",
        remedy="give what belongs to this model",
    )
