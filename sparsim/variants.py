"""The ways a network is pruned before machines are asked: from names and numbers to networks with a label."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from sparsim import zoo
from sparsim.adapters import with_adapter
from sparsim.errors import ConfigError, InputError, nearest
from sparsim.io import load
from sparsim.matrix import Csr
from sparsim.network import Layer, Network
from sparsim.pruning import Budget, Criterion, Granularity, parse_granularity, prune
from sparsim.pruning.propagate import chain_of, likely_chain, propagate
from sparsim.simulate import as_matrix

__all__ = [
    "AS_STORED",
    "DENSE",
    "PROPAGATE",
    "Asked",
    "Pruning",
    "Variant",
    "as_network",
    "budgets",
    "variant",
    "variants",
]

Asked = Mapping[str, float | int]
PROPAGATE = ("auto", "chain", "off")
AS_STORED, DENSE = "as stored", "dense"
MOSTLY_DENSE = 0.01


@dataclass(frozen=True)
class Variant:
    """One way a network is pruned.

    Parameters
    ----------
    granularity : pattern, "dense", or "as stored"; an adapter is named behind it.
    sparsity : asked for; what the pattern fixes for N:M.
    network : what runs: pruned, and without the weights that pruning made useless elsewhere.
    pruned : before sparsity was carried along the network.
    accuracy : measured, 0 to 1, None if nobody measured it.
    """

    granularity: str
    sparsity: float
    network: Network
    pruned: Network
    accuracy: float | None = None

    @property
    def removed(self) -> Mapping[str, int]:
        """Weights that went with others, by layer; layers that lost none are left out."""
        lost = {a.name: a.nnz - b.nnz for a, b in zip(self.pruned, self.network, strict=True) if a is not b}
        return {name: count for name, count in lost.items() if count}


class Carried(NamedTuple):
    """A network after sparsity was carried along it.

    Parameters
    ----------
    network : without the weights that cannot matter any more; the constants they passed on are folded into biases.
    shifted : layers whose outputs shift by constants all the same: no bias they have, or none with a single number a
        channel, can take them up. Costs do not depend on it.
    """

    network: Network
    shifted: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pruning:
    """How every variant is made, beyond pattern and budget.

    Parameters
    ----------
    allocation : "uniform", "global", "erdos_renyi_kernel", or a sparsity for each layer.
    criterion : "magnitude", "random", or a function from a layer to scores.
    propagate : "auto" carries sparsity along the network where its graph is known or a chain may be assumed, "chain"
        takes the layers as a chain, "off" does not.
    adapter : rank of a low-rank adapter to add to every variant, apart and merged.
    """

    allocation: str | Mapping[str, float] = "uniform"
    criterion: str | Criterion = "magnitude"
    propagate: str = "auto"
    adapter: int | None = None

    def __post_init__(self) -> None:
        if self.propagate not in PROPAGATE:
            raise ConfigError(f"'{self.propagate}'", key="propagate", allowed=", ".join(PROPAGATE))

    def apply(self, network: Network, pattern: Granularity, budget: Asked) -> Network:
        """Prune, all but the layers that the network's own recipe leaves whole; who names layers decides alone."""
        how: dict[str, Any] = {**budget, "allocation": self.allocation, "criterion": self.criterion}
        skip = zoo.left_whole(network, pattern) if isinstance(self.allocation, str) else ()
        return prune(network, pattern, **how, skip=skip)

    def accuracy(self, network: Network, pattern: Granularity, budget: Asked) -> float | None:
        """Return what was measured for the variant; records are of magnitude pruning, layer by layer."""
        if self.criterion != "magnitude" or "nnz" in budget:
            return None
        if self.allocation != "uniform" and not pattern.fixes_sparsity:
            return None
        return zoo.measured_accuracy(network, pattern, _share_of_zeros(budget))

    def carry(self, network: Network) -> Carried:
        """Take away the weights that cannot matter any more."""
        if self.propagate == "off" or len(network) < 2:
            return Carried(network)
        graph, along = network.graph, "the graph the file brings"
        if graph is None or self.propagate == "chain":
            why_not = likely_chain(network) if self.propagate == "auto" else ""
            if why_not:
                return Carried(_noted(network, f"removed channels were not carried to other layers: {why_not}"))
            graph, along = chain_of(network), "a chain of the layers in the order of the file, which is assumed"
        found = propagate(network, graph)
        if found.network.nnz == network.nnz:
            return Carried(network)
        new = [b.name for a, b in zip(network, found.network, strict=True) if a.bias is None and b.bias is not None]
        layers = tuple(replace(layer, bias=None) if layer.name in new else layer for layer in found.network)
        note = f"what a removed channel made useless in other layers was taken away too, along {along}"
        return Carried(
            _noted(replace(found.network, layers=layers, notes=network.notes), note), (*found.bias_maps, *new)
        )


def _noted(network: Network, note: str) -> Network:
    return replace(network, notes=(*network.notes, note))


def as_network(source: Any, columns: int | None = None, weights: str | None = None, seed: int = 0) -> Network:
    """Return a network.

    Parameters
    ----------
    source : a network, the name of one in the zoo, a file or folder, a mapping of names to weights, or one matrix.
    columns : output positions per sample of a matrix that is its only layer.
    weights, seed : of a network in the zoo, see :func:`sparsim.zoo.load`; a topology of SCALE-Sim has ``random`` and
        ``shape``.
    """
    if isinstance(source, str) and source in zoo.names():
        return zoo.load(source, weights, seed=seed)
    is_path = isinstance(source, str | os.PathLike)
    topology = is_path and Path(source).suffix.lower() == ".csv"
    if weights is not None and not topology:
        raise ConfigError("goes with a network of the zoo; this one has its own", key="weights")
    if isinstance(source, Network):
        return source
    if isinstance(source, Mapping):
        return Network("network", tuple(Layer(name, np.asarray(weight)) for name, weight in source.items()))
    if isinstance(source, str) and not Path(source).suffix and not Path(source).exists():
        raise InputError(f"is no file and no network of the zoo{nearest(source, zoo.names())}", source=source)
    loaded = load(source) if is_path else as_matrix(source)
    if isinstance(loaded, Csr):
        name = Path(source).name if is_path else "matrix"
        return Network(name, (Layer(name, loaded, positions=columns),))
    return zoo.valued(loaded, weights or "random", seed) if topology else loaded


def budgets(
    granularity: Sequence[str],
    sparsity: Sequence[float] = (),
    density: Sequence[float] = (),
    nnz: Sequence[int] = (),
    allocation: str | Mapping[str, float] = "uniform",
) -> list[tuple[Granularity, Asked]]:
    """Pair every pattern with every budget; N:M fixes its own, an allocation by layers says it, and it comes once.

    Returns
    -------
    Patterns, each with what :func:`~sparsim.pruning.prune` takes: ``{"sparsity": 0.9}``, say, or ``{}``.

    Raises
    ------
    ConfigError
        If a pattern that needs a budget gets none, or a budget has no pattern to go with.
    """
    asked: list[Asked] = [{"sparsity": share} for share in sparsity]
    asked += [{"density": share} for share in density] + [{"nnz": count} for count in nnz]
    for budget in asked:
        Budget(
            sparsity=budget.get("sparsity"), density=budget.get("density"), nnz=cast("int | None", budget.get("nnz"))
        )
    if asked and not isinstance(allocation, str):
        raise ConfigError("says how much of each layer goes, and needs no other budget", key="allocation")
    if asked and not granularity:
        raise ConfigError("goes with a granularity, such as unstructured", key=next(iter(asked[0])))
    pairs: list[tuple[Granularity, Asked]] = []
    for text in granularity:
        pattern = parse_granularity(text)
        mine: list[Asked] = [{}] if pattern.fixes_sparsity or not isinstance(allocation, str) else asked
        if not mine:
            raise ConfigError(f"'{text}' needs a sparsity", key="--sparsity", allowed="0 <= sparsity < 1, such as 0.9")
        pairs += [(pattern, budget) for budget in mine]
    return pairs


def _share_of_zeros(budget: Asked) -> float | None:
    return 1 - budget["density"] if "density" in budget else budget.get("sparsity")


def variants(network: Network, pairs: Sequence[tuple[Granularity, Asked]], how: Pruning) -> Iterator[Variant]:
    """Yield the network as it is, then pruned to every pair of pattern and budget; only one is held at a time.

    Two pairs may come to the same, such as 90 % zeros and 10 % non-zeros; it comes once.
    """
    yield from _adapted(variant(network, None, how), how)
    come = set()
    for pair in pairs:
        pruned = variant(network, pair, how)
        known = pruned.granularity, round(pruned.sparsity, 9)
        if known not in come:
            come.add(known)
            yield from _adapted(pruned, how)


def variant(network: Network, pair: tuple[Granularity, Asked] | None, how: Pruning) -> Variant:
    """Return the network pruned to a pair of pattern and budget, or as it is without one; no adapter."""
    if pair is None:
        stored = AS_STORED if network.sparsity > MOSTLY_DENSE else DENSE
        accuracy = zoo.measured_accuracy(network, DENSE) if stored == DENSE else None
        return Variant(stored, network.sparsity, how.carry(network).network, network, accuracy)
    pattern, budget = pair
    pruned = how.apply(network, pattern, budget)
    asked = _share_of_zeros(budget)
    zeros = pruned.sparsity if asked is None else asked
    return Variant(str(pattern), zeros, how.carry(pruned).network, pruned, how.accuracy(network, pattern, budget))


def _adapted(plain: Variant, how: Pruning) -> Iterator[Variant]:
    """Yield the variant, and with an adapter apart and merged; an adapter revives what pruning had made useless."""
    yield plain
    if how.adapter is not None:
        for merged in (False, True):
            network = with_adapter(plain.pruned, how.adapter, merged=merged)
            label = f"{plain.granularity} + LoRA {how.adapter} {'merged' if merged else 'apart'}"
            yield Variant(label, plain.sparsity, network, network)
