"""The choices of every layer: what each loses, and what it costs on the machine."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import NamedTuple

from sparsim import zoo
from sparsim.errors import ConfigError, nearest
from sparsim.network import Layer, Network
from sparsim.pruning import Budget, Granularity, parse_granularity, prune
from sparsim.search.bench import Bench, Costs
from sparsim.search.loss import Loss
from sparsim.variants import AS_STORED, DENSE

__all__ = ["Choice", "Chooser", "Option", "Options", "candidates", "finer", "parse_patterns", "undominated"]

TIED = ("head", "n:m+permute")
CELLS_AT_ONCE = 2**26


class Choice(NamedTuple):
    """How one layer is pruned: a pattern and what was asked of it, "dense" (or "as stored") and 0 for not at all."""

    granularity: str
    sparsity: float


class Option(NamedTuple):
    """A choice, the saliency it loses, and what the layer then costs as shares of the dense network."""

    choice: Choice
    loss: float
    costs: Costs


Options = Mapping[str, Sequence[Option]]


@dataclass(frozen=True, eq=False)
class Chooser:
    """Knows the network, what each of its layers may become, and makes it.

    Parameters
    ----------
    network : as it came.
    patterns, levels : granularities, and sparsities for those that do not fix their own.
    loss : of saliency.
    skip : layers that stay as they are; those that a network's own recipe leaves whole do too.
    """

    network: Network
    patterns: Sequence[Granularity]
    levels: Sequence[float]
    loss: Loss
    skip: Collection[str] = ()
    _whole: dict[str, frozenset[str]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        known = [layer.name for layer in self.network]
        for name in self.skip:
            if name not in known:
                raise ConfigError(f"'{name}' is no layer of '{self.network.name}'{nearest(name, known)}", key="skip")
        for pattern in self.patterns:
            self._whole[str(pattern)] = frozenset((*zoo.left_whole(self.network, pattern), *self.skip))

    def with_levels(self, levels: Iterable[float]) -> Chooser:
        """Return the same with other sparsities."""
        return replace(self, levels=sorted(set(levels)), _whole={})

    def choices(self, layer: Layer) -> list[Choice]:
        """Return what may become of a layer, nothing first."""
        found = [_left(layer)]
        for pattern in self.patterns:
            levels = [fixed_sparsity(pattern)] if pattern.fixes_sparsity else self.levels
            found += [Choice(str(pattern), level) for level in levels if self._takes(layer, pattern)]
        return found

    def make(self, layer: Layer, choice: Choice) -> Layer:
        """Return the layer pruned, itself if nothing is."""
        if choice.granularity in (DENSE, AS_STORED):
            return layer
        pattern = parse_granularity(choice.granularity)
        return prune(layer, pattern, None if pattern.fixes_sparsity else choice.sparsity, criterion=self.loss.rule)

    def network_of(self, chosen: Mapping[str, Choice]) -> Network:
        """Return the network pruned, before sparsity is carried along it."""
        return self.network.with_layers(tuple(self.make(layer, chosen[layer.name]) for layer in self.network))

    def uniform(self, pattern: Granularity, level: float) -> dict[str, Choice]:
        """Return the choice of one pattern and sparsity for every layer that takes the pattern."""
        return {
            layer.name: Choice(str(pattern), level) if self._takes(layer, pattern) else _left(layer)
            for layer in self.network
        }

    def _takes(self, layer: Layer, pattern: Granularity) -> bool:
        has_masks = pattern.kind != "kernel_pattern" or prod(layer.kernel) > 1
        return has_masks and layer.name not in self._whole[str(pattern)]


def _left(layer: Layer) -> Choice:
    return Choice(AS_STORED if layer.nnz < layer.size else DENSE, 0.0)


def fixed_sparsity(pattern: Granularity) -> float:
    """Return the sparsity of an N:M or V:N:M pattern."""
    kept, of = pattern.sizes[-2:]
    return 1 - kept / of


def candidates(chooser: Chooser, bench: Bench) -> dict[str, list[Option]]:
    """Prune every layer in every way it may be, each by itself, and simulate it."""
    pairs = ((layer, choice) for layer in chooser.network for choice in chooser.choices(layer))
    return _weighed(chooser, bench, pairs)


def finer(chooser: Chooser, bench: Bench, options: Options, chosen: Mapping[str, Option]) -> dict[str, list[Option]]:
    """Add the sparsities halfway between every layer's chosen one and its neighbours."""
    pairs = []
    for layer in chooser.network:
        pattern, level = chosen[layer.name].choice
        known = {option.choice.sparsity for option in options[layer.name] if option.choice.granularity == pattern}
        if level and not parse_granularity(pattern).fixes_sparsity:
            near = (
                max({0.0, *(other for other in known if other < level)}),
                min((o for o in known if o > level), default=level),
            )
            pairs += [(layer, Choice(pattern, (level + other) / 2)) for other in near if other != level]
    more = _weighed(chooser, bench, pairs)
    return {name: [*mine, *more.get(name, ())] for name, mine in options.items()}


def _weighed(chooser: Chooser, bench: Bench, pairs: Iterable[tuple[Layer, Choice]]) -> dict[str, list[Option]]:
    found: dict[str, list[Option]] = {layer.name: [] for layer in chooser.network}
    for some in _batches(pairs):
        made = [chooser.make(layer, choice) for layer, choice in some]
        costs = bench.layers(made, chooser.network.name)
        for (layer, choice), after, cost in zip(some, made, costs, strict=True):
            if after.nnz or not layer.nnz:  # through an empty layer nothing passes
                found[layer.name].append(Option(choice, chooser.loss.of_layer(layer, after), cost))
    return found


def _batches(pairs: Iterable[tuple[Layer, Choice]]) -> Iterator[list[tuple[Layer, Choice]]]:
    """Yield as many layers and choices as may be held in memory together."""
    batch: list[tuple[Layer, Choice]] = []
    cells = 0
    for layer, choice in pairs:
        if batch and cells + layer.size > CELLS_AT_ONCE:
            yield batch
            batch, cells = [], 0
        batch.append((layer, choice))
        cells += layer.size
    if batch:
        yield batch


def parse_patterns(names: Iterable[str]) -> list[Granularity]:
    """Return the patterns, each of which must be one layer's own affair.

    Raises
    ------
    ConfigError
        If there is none, one is unknown, or one ties layers to one another.
    """
    patterns = [parse_granularity(name) for name in dict.fromkeys(names)]
    if not patterns:
        raise ConfigError("nothing given", key="granularity", allowed="one or more")
    for pattern in patterns:
        if pattern.kind in TIED:
            raise ConfigError(
                f"'{pattern}' is no choice of a single layer", key="granularity", allowed="patterns within one layer"
            )
    return patterns


def checked_levels(levels: Iterable[float]) -> list[float]:
    """Return the sparsities in order, each once."""
    for level in levels:
        Budget(sparsity=level)
    return sorted({float(level) for level in levels})


def undominated(options: Sequence[Option], measures: Iterable[str]) -> list[Option]:
    """Return the options that no other beats or equals in the loss and in every measure, the first of equals."""
    names = list(measures)
    kept: list[Option] = []
    for option in sorted(options, key=lambda one: (one.loss, *(one.costs[name] for name in names))):
        if not any(all(other.costs[name] <= option.costs[name] for name in names) for other in kept):
            kept.append(option)
    return kept
