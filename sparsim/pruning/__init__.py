"""Pruning: a criterion scores the weights, a granularity ties them into groups, an allocation says which groups stay.

:func:`prune` removes weights of a network and leaves the others as they are; nothing is trained. Each step is a
function of its own (:mod:`~sparsim.pruning.criteria`, :mod:`~sparsim.pruning.granularity`,
:mod:`~sparsim.pruning.allocation`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import prod
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt

from sparsim.errors import ConfigError, InputError, nearest
from sparsim.matrix import Csr
from sparsim.network import Layer, Network
from sparsim.pruning.allocation import ALLOCATIONS, Allocation, Budget, Groups, layer_by_layer
from sparsim.pruning.criteria import Scores, magnitude
from sparsim.pruning.granularity import (
    BoolArray,
    Granularity,
    n_of_m,
    parse_granularity,
    spread,
    tile_scores,
    tile_sizes,
)

__all__ = ["Granularity", "mask", "parse_granularity", "prune"]

MAX_CELLS = 2**28
Prunable = TypeVar("Prunable", bound=Network | Layer | Csr | npt.NDArray[Any])


def prune(
    network: Prunable,
    granularity: str | Granularity,
    sparsity: float | None = None,
    *,
    nnz: int | None = None,
    scope: str = "layer",
    skip: Iterable[str] = (),
) -> Prunable:
    """Set the weights of least magnitude to zero.

    Parameters
    ----------
    network : a network, a layer, a matrix ``[out, k]``, or a weight ``[out, in / groups, *kernel]`` of 2 to 5 axes.
    granularity : ``unstructured``, ``N:M``, ``vector:V``, ``block:RxC``, ``out_channel`` or ``in_channel``.
    sparsity : share of weights to remove, 0 <= sparsity < 1. Exactly ``round(size * (1 - sparsity))`` weights stay
        where weights stand alone; whole groups come as near to that number as they can, at most half a group off.
        N:M fixes its own and ignores this one (a note of the network says so).
    nnz : number of weights to keep instead, in all layers that are not skipped together.
    scope : "layer" prunes every layer to the same sparsity; "global" lets the groups of all layers compete.
    skip : names of layers that stay as they are and count in no budget.

    Returns
    -------
    The same kind of thing with the same shapes. Equal magnitudes are decided by position: the lower index stays.
    A weight that was zero stays zero.

    Raises
    ------
    ConfigError
        If granularity, budget, scope or a name in ``skip`` is not allowed.
    InputError
        If a layer has only positions and no values, or an array is no weight.
    """
    if isinstance(network, Network):
        return cast("Prunable", _prune_network(network, granularity, sparsity, nnz, scope, skip))
    layer = network if isinstance(network, Layer) else _as_layer(network)
    alone = Network(layer.name, (layer,))
    pruned = _prune_network(alone, granularity, sparsity, nnz, scope, skip).layers[0]
    return cast("Prunable", pruned if isinstance(network, Layer) else pruned.weight)


def mask(
    scores: npt.NDArray[Any], granularity: str | Granularity, keep: int | None = None, *, groups: int = 1
) -> BoolArray:
    """Return which weights stay when the highest scores do.

    Parameters
    ----------
    scores : one a weight, of the weight's shape ``[out, in / groups, *kernel]``, 2 to 5 dimensions, finite.
    granularity : the pattern.
    keep : weights to keep, 0 to all; whole groups come as near as they can. N:M needs none and heeds none.
    groups : of a grouped convolution.

    Returns
    -------
    bool array of the shape of ``scores``, True where a weight stays.
    """
    pattern = parse_granularity(granularity)
    layer = replace(_as_layer(scores), groups=groups)
    flat = _matrix(np.asarray(scores, dtype=np.float64))
    budget = None
    if not pattern.fixes_sparsity:
        if keep is None or not 0 <= keep <= scores.size:
            raise ConfigError(f"{keep}", key="keep", allowed=f"0 to {scores.size:,} weights")
        budget = Budget(nnz=keep)
    return _masks([layer], [flat], pattern, budget, layer_by_layer)[0]


def _prune_network(
    network: Network,
    granularity: str | Granularity,
    sparsity: float | None,
    nnz: int | None,
    scope: str,
    skip: Iterable[str],
) -> Network:
    pattern = parse_granularity(granularity)
    if scope not in ALLOCATIONS:
        raise ConfigError(f"'{scope}'{nearest(scope, ALLOCATIONS)}", key="scope", allowed=", ".join(ALLOCATIONS))
    unlimited = pattern.fixes_sparsity and sparsity is None and nnz is None
    budget = None if unlimited else Budget(sparsity, nnz)
    chosen = _without(network, skip)
    scores = [_matrix(magnitude(_values(layer))) for layer in chosen]
    masks = _masks(chosen, scores, pattern, budget, ALLOCATIONS[scope])
    pruned = {layer.name: _apply(layer, kept) for layer, kept in zip(chosen, masks, strict=True)}
    notes = []
    if pattern.fixes_sparsity and budget is not None:
        notes.append(f"{pattern} fixes its own sparsity: the budget ({budget}) was not used")
    emptied = [layer.name for layer in chosen if _has_weights(layer) and not _has_weights(pruned[layer.name])]
    if emptied:
        notes.append(f"every weight of {', '.join(emptied)} was removed: nothing passes through the network any more")
    layers = tuple(pruned.get(layer.name, layer) for layer in network)
    return replace(network, layers=layers, notes=(*network.notes, *notes))


def _masks(
    layers: Sequence[Layer],
    scores: Sequence[Scores],
    pattern: Granularity,
    budget: Budget | None,
    allocation: Allocation,
) -> list[BoolArray]:
    if pattern.fixes_sparsity or budget is None:
        flat = [n_of_m(score, *pattern.sizes) for score in scores]
    else:
        shapes = [(score.shape[0], score.shape[1]) for score in scores]
        tiles = [pattern.tile(layer.shape, layer.groups) for layer in layers]
        means = [tile_scores(score, tile) for score, tile in zip(scores, tiles, strict=True)]
        sizes = [tile_sizes(shape, tile) for shape, tile in zip(shapes, tiles, strict=True)]
        kept = allocation([Groups(m.ravel(), s.ravel()) for m, s in zip(means, sizes, strict=True)], budget)
        flat = [
            spread(alive.reshape(m.shape), shape, tile)
            for alive, m, shape, tile in zip(kept, means, shapes, tiles, strict=True)
        ]
    return [alive.reshape(layer.shape) for alive, layer in zip(flat, layers, strict=True)]


def _apply(layer: Layer, kept: BoolArray) -> Layer:
    weight = layer.weight
    if not isinstance(weight, Csr):
        return layer.with_weight(np.where(kept, weight, weight.dtype.type(0)))
    row = np.repeat(np.arange(weight.shape[0]), weight.row_lengths)
    stays = kept[row, weight.indices]
    assert weight.values is not None
    return layer.with_weight(
        Csr.from_coo(weight.shape, row[stays], weight.indices[stays].astype(np.int64), weight.values[stays])
    )


def _values(layer: Layer) -> npt.NDArray[Any]:
    if not isinstance(layer.weight, Csr):
        return layer.weight
    if layer.weight.values is None:
        raise InputError(
            f"layer '{layer.name}' has positions but no values",
            remedy="pruning by magnitude needs the weights; simulate the pattern as it is",
        )
    if layer.size > MAX_CELLS:
        raise InputError(
            f"layer '{layer.name}' has {layer.size:,} cells, more than {MAX_CELLS:,}",
            remedy="prune the weights of one layer at a time, as an array",
        )
    return layer.weight.to_dense()


def _has_weights(layer: Layer) -> bool:
    return layer.weight.nnz > 0 if isinstance(layer.weight, Csr) else bool(layer.weight.any())


def _matrix(scores: Scores) -> Scores:
    return np.ascontiguousarray(scores).reshape(scores.shape[0], prod(scores.shape[1:]))


def _as_layer(weight: npt.NDArray[Any] | Csr) -> Layer:
    if not isinstance(weight, np.ndarray | Csr):
        raise InputError(f"a {type(weight).__name__} cannot be pruned", remedy="give a Network, Layer, Csr or array")
    if isinstance(weight, np.ndarray) and (not 2 <= weight.ndim <= 5 or weight.dtype.kind not in "fiub"):
        raise InputError(
            f"an array of {weight.ndim} dimension(s) and type {weight.dtype} is no weight",
            remedy="give real numbers [out, in], or [out, in / groups, *kernel] with up to 5 dimensions",
        )
    return Layer("weight", weight)


def _without(network: Network, skip: Iterable[str]) -> list[Layer]:
    known = [layer.name for layer in network]
    skipped = {skip} if isinstance(skip, str) else set(skip)
    for name in sorted(skipped.difference(known)):
        raise ConfigError(f"'{name}' is no layer of '{network.name}'{nearest(name, known)}", key="skip")
    return [layer for layer in network if layer.name not in skipped]
