"""Pruning: a criterion scores the weights, a granularity ties them into groups, an allocation says which groups stay.

:func:`prune` removes weights of a network and leaves the others as they are; nothing is trained. Each step is a
function of its own (:mod:`~sparsim.pruning.criteria`, :mod:`~sparsim.pruning.granularity`,
:mod:`~sparsim.pruning.allocation`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt

from sparsim.arguments import words
from sparsim.errors import ConfigError, InputError, nearest
from sparsim.matrix import Csr
from sparsim.network import Layer, Network
from sparsim.pruning.allocation import ALLOCATIONS, BY_SIZE, Allocation, Budget, across_layers, by_deviation
from sparsim.pruning.criteria import Criterion, Scores, criterion, score
from sparsim.pruning.granularity import BoolArray, Granularity, parse_granularity
from sparsim.pruning.heads import attention_blocks
from sparsim.pruning.units import Cut, SingleLayer, Unit

__all__ = ["Budget", "Criterion", "Granularity", "by_deviation", "criterion", "mask", "parse_granularity", "prune"]

IN_ORDER = "holds in another order of the input channels"
Prunable = TypeVar("Prunable", bound=Network | Layer | Csr | npt.NDArray[Any])


@dataclass(frozen=True, eq=False)
class _Plan:
    """What :func:`prune` was asked for, checked; no budget where the pattern or the allocation is one."""

    pattern: Granularity
    budget: Budget | None
    allocation: Allocation
    rule: Criterion


def prune(
    network: Prunable,
    granularity: str | Granularity,
    sparsity: float | None = None,
    *,
    density: float | None = None,
    nnz: int | None = None,
    allocation: Allocation = "uniform",
    criterion: str | Criterion = "magnitude",
    skip: Iterable[str] = (),
) -> Prunable:
    """Set the weights of least worth to zero.

    Parameters
    ----------
    network : a network, a layer, a matrix ``[out, k]``, or a weight ``[out, in / groups, *kernel]`` of 2 to 5 axes.
    granularity : ``unstructured``, ``N:M``, ``N:M+permute``, ``V:N:M``, ``vector:V``, ``vector:Vx1``, ``block:RxC``,
        ``kernel``, ``kernel_pattern:P``, ``head:D``, ``out_channel``, ``in_channel``, ``row_balanced`` or ``bank:B``;
        see :mod:`~sparsim.pruning.granularity`.
    sparsity : share of weights to remove, 0 <= sparsity < 1. Exactly ``round(size * (1 - sparsity))`` weights stay
        where weights stand alone; other patterns come as near to that number as they can. N:M and V:N:M fix
        their own and ignore this one (a note of the network says so).
    density : share of weights to keep instead, 0 < density <= 1.
    nnz : number of weights to keep instead, in all layers that are pruned together.
    allocation : "uniform" prunes every layer to the same sparsity; "global" lets the groups of all layers compete
        (single weights, where the pattern is a balanced one: their winners are counted and the pattern realises the
        number); "erdos_renyi_kernel" spares small layers. A mapping from layers to sparsities, such as
        :func:`by_deviation` makes, is the budget as well; layers it does not name stay whole.
    criterion : "magnitude", "random", or a function from a :class:`~sparsim.network.Layer` to scores of its weight's
        shape; see :mod:`~sparsim.pruning.criteria`.
    skip : names of layers that stay as they are and count in no budget.

    Returns
    -------
    The same kind of thing with the same shapes. Equal scores are decided by position: the lower index stays.
    A weight that was zero stays zero. ``N:M+permute`` sets a layer's ``input_order`` where another order than the
    file's keeps more; every other granularity drops one that was there.

    Raises
    ------
    ConfigError
        If granularity, budget, allocation, criterion or a name in ``skip`` is not allowed, or no layer has what the
        granularity prunes (kernels, attention heads).
    InputError
        If a layer has only positions and no values, an array is no weight, or a criterion fails on a layer.

    Notes
    -----
    ``head:D`` prunes the attention projections of a network and ``kernel_pattern:P`` the kernels of more than one
    weight; the other layers stay whole, count in no budget, and a note of the network says so. Of a single layer or
    array, ``head:D`` takes runs of D rows.
    """
    plan = _plan(granularity, _budget(sparsity, density, nnz), allocation, criterion)
    if isinstance(network, Network):
        return cast("Prunable", _prune_network(network, plan, skip))
    layer = network if isinstance(network, Layer) else _as_layer(network)
    if layer is not network and plan.pattern.kind == "n:m+permute":
        raise ConfigError(
            f"'{plan.pattern}' reorders input channels, and an array cannot say in which order",
            key="granularity",
            allowed="a Layer or Network",
        )
    chosen = _chosen(Network(layer.name, (layer,)), plan, skip)
    pruned = _pruned(_single(chosen, plan.pattern), plan).get(layer.name, layer)
    return cast("Prunable", pruned if isinstance(network, Layer) else pruned.weight)


def mask(
    scores: npt.NDArray[Any], granularity: str | Granularity, keep: int | None = None, *, groups: int = 1
) -> BoolArray:
    """Return which weights stay when the highest scores do.

    Parameters
    ----------
    scores : one a weight, of the weight's shape ``[out, in / groups, *kernel]``, 2 to 5 dimensions, finite.
    granularity : the pattern; not ``N:M+permute``, whose mask means nothing without the order.
    keep : weights to keep, 0 to all; whole groups come as near as they can. N:M and V:N:M need and heed none.
    groups : of a grouped convolution.

    Returns
    -------
    bool array of the shape of ``scores``, True where a weight stays.
    """
    pattern = parse_granularity(granularity)
    if pattern.kind == "n:m+permute":
        raise ConfigError(f"'{pattern}' is no mask without its order", key="granularity", allowed="prune a Layer")
    layer = replace(_as_layer(scores), groups=groups)
    if not pattern.fixes_sparsity and (keep is None or not 0 <= keep <= scores.size):
        raise ConfigError(f"{keep}", key="keep", allowed=f"0 to {scores.size:,} weights")
    flat = np.asarray(scores, dtype=np.float64).reshape(layer.shape[0], prod(layer.shape[1:]))
    (unit,) = _single([layer], pattern)
    return unit.cuts([flat], keep or 0)[0].kept.reshape(layer.shape)


def _budget(sparsity: float | None, density: float | None, nnz: int | None) -> Budget | None:
    none = sparsity is None and density is None and nnz is None
    return None if none else Budget(sparsity, density, nnz)


def _plan(
    granularity: str | Granularity, budget: Budget | None, allocation: Allocation, rule: str | Criterion
) -> _Plan:
    pattern = parse_granularity(granularity)
    if isinstance(allocation, Mapping):
        if budget is not None:
            raise ConfigError(
                f"{budget} beside a sparsity for each layer", key="allocation", allowed="one of the two budgets"
            )
        for share in allocation.values():
            Budget(share)
    elif not isinstance(allocation, str) or allocation not in ALLOCATIONS:
        raise ConfigError(
            f"'{allocation}'{nearest(allocation, ALLOCATIONS)}",
            key="allocation",
            allowed=f"{', '.join(ALLOCATIONS)}, or a sparsity for each layer",
        )
    elif budget is None and not pattern.fixes_sparsity:
        budget = Budget()
    return _Plan(pattern, budget, allocation, rule if callable(rule) else criterion(rule))


def _prune_network(network: Network, plan: _Plan, skip: Iterable[str]) -> Network:
    chosen = _chosen(network, plan, skip)
    tied = plan.pattern.kind == "head"
    units = _tied(chosen, plan.pattern, network.name) if tied else _single(chosen, plan.pattern)
    pruned = _pruned(units, plan)
    layers = tuple(pruned.get(layer.name, layer) for layer in network)
    notes = [*_notes(plan, len(chosen) - sum(len(unit.layers) for unit in units)), *_order_notes(layers)]
    emptied = [layer.name for layer in chosen if layer.name in pruned and _is_emptied(layer, pruned[layer.name])]
    if emptied:
        notes.append(f"every weight of {', '.join(emptied)} was removed: nothing passes through the network any more")
    before = (note for note in network.notes if IN_ORDER not in note)
    return replace(network, layers=layers, notes=(*before, *notes))


def _single(layers: Sequence[Layer], pattern: Granularity) -> list[Unit]:
    if pattern.kind == "head":
        for layer in layers:
            if layer.shape[0] % pattern.sizes[0]:
                raise ConfigError(
                    f"heads of {pattern.sizes[0]} features do not divide the {layer.shape[0]} rows of '{layer.name}'",
                    key="granularity",
                    allowed=f"head:D with D a divisor of {layer.shape[0]}",
                )
    if pattern.kind == "kernel_pattern":
        kernels = [layer for layer in layers if prod(layer.kernel) > 1]
        if layers and not kernels:
            raise ConfigError(
                f"'{pattern}' needs kernels of more than one weight, and no layer has them",
                key="granularity",
                allowed="convolutions larger than 1x1",
            )
        layers = kernels
    return [SingleLayer(layer, pattern) for layer in layers]


def _tied(layers: Sequence[Layer], pattern: Granularity, name: str) -> list[Unit]:
    blocks: list[Unit] = list(attention_blocks(layers, pattern.sizes[0]))
    if layers and not blocks:
        raise ConfigError(
            f"'{name}' has no attention projections that '{pattern}' could cut",
            key="granularity",
            allowed="layers called q_proj, k_proj, v_proj and o_proj side by side, or the like; a single Layer",
        )
    return blocks


def _pruned(units: Sequence[Unit], plan: _Plan) -> dict[str, Layer]:
    scored: Iterator[list[Scores]] = ([score(layer, plan.rule) for layer in unit.layers] for unit in units)
    if plan.allocation == "global" and not plan.pattern.fixes_sparsity:
        assert plan.budget is not None
        held = list(scored)
        numbers = across_layers([unit.groups(s) for unit, s in zip(units, held, strict=True)], plan.budget)
        scored = iter(held)
    else:
        numbers = _numbers(units, plan)
    pruned = {}
    for unit, keep in zip(units, numbers, strict=True):
        cuts = unit.cuts(next(scored), keep)
        pruned.update({layer.name: _apply(layer, cut) for layer, cut in zip(unit.layers, cuts, strict=True)})
    return pruned


def _numbers(units: Sequence[Unit], plan: _Plan) -> list[int]:
    """Return the weights each unit may keep, without a look at the scores."""
    if plan.pattern.fixes_sparsity:
        return [0] * len(units)
    if not isinstance(plan.allocation, Mapping):
        assert plan.budget is not None
        return BY_SIZE[plan.allocation]([unit.extent for unit in units], plan.budget)
    numbers = []
    for unit in units:
        shares = {plan.allocation[layer.name] for layer in unit.layers}
        if len(shares) > 1:
            raise ConfigError(
                f"different sparsities for {', '.join(layer.name for layer in unit.layers)}, whose heads are tied",
                key="allocation",
                allowed="one sparsity for an attention block",
            )
        numbers.append(Budget(shares.pop()).of(unit.extent.size))
    return numbers


def _apply(layer: Layer, cut: Cut) -> Layer:
    weight = layer.weight
    if not isinstance(weight, Csr):
        kept = cut.kept.reshape(layer.shape)
        return replace(layer, weight=np.where(kept, weight, weight.dtype.type(0)), input_order=cut.order)
    row = np.repeat(np.arange(weight.shape[0]), weight.row_lengths)
    stays = cut.kept[row, weight.indices]
    assert weight.values is not None
    left = Csr.from_coo(weight.shape, row[stays], weight.indices[stays].astype(np.int64), weight.values[stays])
    return replace(layer, weight=left, input_order=cut.order)


def _notes(plan: _Plan, whole: int) -> list[str]:
    notes = []
    if plan.pattern.fixes_sparsity and (plan.budget is not None or isinstance(plan.allocation, Mapping)):
        asked = plan.budget if plan.budget is not None else "a sparsity for each layer"
        notes.append(f"{plan.pattern} fixes its own sparsity: the budget ({asked}) was not used")
    if whole:
        lacking = (
            "kernels of more than one weight" if plan.pattern.kind == "kernel_pattern" else "attention projections"
        )
        notes.append(f"{plan.pattern} prunes {lacking}: {whole} other layer(s) stay whole and count in no budget")
    return notes


def _order_notes(layers: Iterable[Layer]) -> list[str]:
    ordered = [layer.name for layer in layers if layer.input_order is not None]
    if not ordered:
        return []
    return [
        f"the pattern of {len(ordered)} layer(s) {IN_ORDER} than the file's: the layer before, or a gather, has to "
        "deliver the activations in it"
    ]


def _is_emptied(before: Layer, after: Layer) -> bool:
    return _has_weights(before) and not _has_weights(after)


def _has_weights(layer: Layer) -> bool:
    return layer.weight.nnz > 0 if isinstance(layer.weight, Csr) else bool(layer.weight.any())


def _as_layer(weight: npt.NDArray[Any] | Csr) -> Layer:
    if not isinstance(weight, np.ndarray | Csr):
        raise InputError(f"a {type(weight).__name__} cannot be pruned", remedy="give a Network, Layer, Csr or array")
    if isinstance(weight, np.ndarray) and (not 2 <= weight.ndim <= 5 or weight.dtype.kind not in "fiub"):
        raise InputError(
            f"an array of {weight.ndim} dimension(s) and type {weight.dtype} is no weight",
            remedy="give real numbers [out, in], or [out, in / groups, *kernel] with up to 5 dimensions",
        )
    return Layer("weight", weight)


def _chosen(network: Network, plan: _Plan, skip: Iterable[str]) -> list[Layer]:
    """Return the layers that may be pruned: not skipped and, where the allocation names layers, named."""
    known = [layer.name for layer in network]
    skipped = set(words(skip, "skip"))
    named = set(plan.allocation) if isinstance(plan.allocation, Mapping) else set(known)
    for key, names in (("skip", skipped), ("allocation", named)):
        for name in sorted(names.difference(known)):
            raise ConfigError(f"'{name}' is no layer of '{network.name}'{nearest(name, known)}", key=key)
    return [layer for layer in network if layer.name in named and layer.name not in skipped]
