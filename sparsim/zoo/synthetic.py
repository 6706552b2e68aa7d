"""Networks of published shapes with weights or masks drawn at random, labelled so."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from sparsim.arguments import whole
from sparsim.errors import ConfigError, nearest
from sparsim.network import Layer, Network
from sparsim.zoo.draw import draw_mask, draw_weight, measured_spread
from sparsim.zoo.shape import Schedule, Shape, read_shape
from sparsim.zoo.trained import NO_VALUES

__all__ = ["synthetic", "valued"]

POSITIONS = "its layers hold positions without values"
RANDOM = "weights are random (normal, He scale, log-normal channel factors)"


class _Drawn(NamedTuple):
    """Layers, what they are, where their densities stand, and why they cannot be pruned ("" if they can)."""

    layers: tuple[Layer, ...]
    label: str
    source: str = ""
    no_values: str = ""


def synthetic(name: str, weights: str, seed: int = 0, tokens: int | None = None) -> Network:
    """Return a network of published shapes; see :func:`sparsim.zoo.load`."""
    tokens, seed = None if tokens is None else whole(tokens, "tokens", 1), whole(seed, "seed")
    shape = read_shape(name, tokens)
    if tokens is not None and shape.tokens is None:
        raise ConfigError(f"{tokens}", key="tokens", allowed=f"leave it out: '{name}' does not run token by token")
    kind, _, detail = weights.partition(":")
    draw = KINDS.get(kind)
    drawn = draw(shape, detail, np.random.default_rng(seed)) if draw is not None else None
    if drawn is None:
        raise ConfigError(f"'{name}' has no weights '{weights}'{nearest(weights, _known(shape))}", key="weights")
    label = f"{drawn.label}; only the {'densities and ' if drawn.source else ''}shapes are those of {shape.title}"
    metadata = {"synthetic": label, "weights": weights, "source": shape.source, "seed": str(seed)}
    metadata |= {"densities": drawn.source} if drawn.source else {}
    metadata |= {NO_VALUES: drawn.no_values} if drawn.no_values else {}
    notes = (f"synthetic{' mask' if drawn.no_values == POSITIONS else ''}: {label}", *shape.network.notes)
    what = {POSITIONS: "synthetic mask", "": "synthetic weights"}.get(drawn.no_values, "shapes alone")
    named = f"{shape.network.name} ({what})"  # a row of a table cannot be separated from its label
    return replace(shape.network, name=named, layers=drawn.layers, metadata=metadata, notes=notes)


def valued(network: Network, weights: str = "random", seed: int = 0) -> Network:
    """Return a network known by its shapes alone (``weights`` = "shape" in its metadata) with random weights, or as is.

    Raises
    ------
    ConfigError
        If ``weights`` is neither ``random`` nor ``shape``.
    """
    if weights not in ("random", "shape"):
        raise ConfigError(f"'{network.name}' has no weights '{weights}'", key="weights", allowed="random, shape")
    if weights == "shape":
        return network
    rng = np.random.default_rng(seed)
    layers = tuple(layer.with_weight(draw_weight(layer.shape, rng)) for layer in network)
    label = f"{RANDOM}; only the shapes are those of {network.metadata.get('source', network.name)}"
    metadata = {key: value for key, value in network.metadata.items() if key != NO_VALUES}
    metadata |= {"synthetic": label, "weights": weights, "seed": str(seed)}
    name, notes = f"{network.name} (synthetic weights)", (f"synthetic: {label}", *network.notes[1:])
    return replace(network, name=name, layers=layers, metadata=metadata, notes=notes)


def _known(shape: Shape) -> list[str]:
    """Return the weights this network has."""
    kinds = ("published", "published-skewed") if shape.schedules else ()
    named = [f"{kind}:{name}" for name in shape.schedules for kind in kinds]
    return ["random", "shape", "uniform:D (0 to 1)", *kinds, *named]


def _random(shape: Shape, detail: str, rng: np.random.Generator) -> _Drawn | None:
    if detail:
        return None
    layers = tuple(layer.with_weight(draw_weight(layer.shape, rng)) for layer in shape.network)
    return _Drawn(layers, RANDOM)


def _shape(shape: Shape, detail: str, rng: np.random.Generator) -> _Drawn | None:
    if detail:
        return None
    return _Drawn(shape.network.layers, "weights are dense and have no values", no_values="its weights are all alike")


def _uniform(shape: Shape, detail: str, rng: np.random.Generator) -> _Drawn | None:
    try:
        density = float(detail)
    except ValueError:
        return None
    if not 0 <= density <= 1:
        return None
    label = f"{density:.4g} of each layer's weights stay, at independent random positions"
    layers = _masked(shape.network, [round(layer.size * density) for layer in shape.network], rng)
    return _Drawn(layers, label, no_values=POSITIONS)


def _published(shape: Shape, detail: str, rng: np.random.Generator, skewed: bool = False) -> _Drawn | None:
    schedule = shape.schedules.get(detail) if detail else next(iter(shape.schedules.values()), None)
    if schedule is None:
        return None
    layers = _masked(shape.network, schedule.nnz, rng, skewed)
    if schedule.activations is not None:
        pairs = zip(layers, schedule.activations, strict=True)
        layers = tuple(replace(layer, activation_density=density) for layer, density in pairs)
    source = f"{schedule.source} ({schedule.status})"
    return _Drawn(layers, _describe(schedule, shape.network, skewed), source, POSITIONS)


def _skewed(shape: Shape, detail: str, rng: np.random.Generator) -> _Drawn | None:
    return _published(shape, detail, rng, skewed=True)


def _describe(schedule: Schedule, network: Network, skewed: bool) -> str:
    total = f"{sum(schedule.nnz):,} of {network.size:,} weights stay"
    spread = "each layer's density is published" if schedule.by_layer else "uniform at the published total"
    places = (
        "spread over rows and columns as unevenly as in real masks" if skewed else "at independent random positions"
    )
    also = ", the activations' densities too" if schedule.activations is not None else ""
    return f"{total}, {places}; {spread}{also} ({schedule.source}; {schedule.status}; {schedule.note})"


def _masked(network: Network, nnz: Iterable[int], rng: np.random.Generator, skewed: bool = False) -> tuple[Layer, ...]:
    layers = []
    for layer, kept in zip(network, nnz, strict=True):
        spread = measured_spread(kept / layer.size) if skewed else (0.0, 0.0)
        layers.append(layer.with_weight(draw_mask(layer, kept, rng, spread)))
    return tuple(layers)


KINDS: dict[str, Callable[[Shape, str, np.random.Generator], _Drawn | None]] = {
    "random": _random,
    "shape": _shape,
    "uniform": _uniform,
    "published": _published,
    "published-skewed": _skewed,
}
