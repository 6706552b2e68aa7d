"""Published networks: do their shapes and densities, as kept in the zoo, add up to the published totals?

A density printed in whole per cents may be half a per cent off. Where the published total lies within what that leaves,
:func:`rounding` away from the sum over the layers, the row holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from sparsim.fidelity.bench import Bench
from sparsim.fidelity.networks.real import real_rows
from sparsim.fidelity.record import Published, Row, compare_with, read_published
from sparsim.zoo.shape import Schedule, Shape, read_shape

__all__ = ["rounding", "rows"]

PAPER = "networks"
HALF = 0.005


def rows(bench: Bench) -> Iterator[Row]:
    """Yield every published total beside the sum over the layers, then what needs the real masks."""
    for published in read_published(PAPER):
        if published.quantity in QUANTITIES:
            yield _row(published)
    yield from real_rows(bench)


def _row(published: Published) -> Row:
    name, _, schedule = published.workload.partition(",")[0].partition(":")
    shape = read_shape(name)
    chosen = shape.schedules[schedule] if schedule else next(iter(shape.schedules.values()), None)
    modelled = QUANTITIES[published.quantity](shape, chosen)
    if published.role != "check" or published.tolerance is not None or chosen is None:
        return compare_with(PAPER, published, modelled)
    tolerance = rounding(shape, chosen, published.quantity) / published.value
    note = "whole per cents leave the interval"
    return compare_with(PAPER, replace(published, tolerance=tolerance), modelled, note)


def rounding(shape: Shape, schedule: Schedule, quantity: str) -> float:
    """Return how far a sum over layers may be off because densities are printed in whole per cents.

    Parameters
    ----------
    quantity : "kept_weights" (in weights; every layer half a per cent off), or "effectual_multiplies" (in per cent; the
        weights and the activations of every layer, and half a per cent of the printed total).
    """
    if quantity == "kept_weights":
        return HALF * shape.network.size
    pairs = zip(_multiplies(shape), _densities(shape, schedule), strict=True)
    wide = sum(count * ((weight + HALF) * (entering + HALF) - weight * entering) for count, (weight, entering) in pairs)
    return 100 * (wide / shape.macs + HALF)


def _multiplies(shape: Shape) -> list[int]:
    return [layer.size * layer.columns(1) for layer in shape.network]


def _densities(shape: Shape, schedule: Schedule) -> list[tuple[float, float]]:
    """Return the density of the weights and of what enters, layer by layer."""
    weights = [kept / layer.size for kept, layer in zip(schedule.nnz, shape.network, strict=True)]
    return list(zip(weights, schedule.activations or (1.0,) * len(weights), strict=True))


def _kept(shape: Shape, schedule: Schedule | None) -> float:
    return float(sum(schedule.nnz)) if schedule is not None else float(shape.network.size)


def _effectual(shape: Shape, schedule: Schedule | None) -> float:
    if schedule is None:
        return 100.0
    pairs = zip(_multiplies(shape), _densities(shape, schedule), strict=True)
    return 100 * sum(count * weight * entering for count, (weight, entering) in pairs) / shape.macs


QUANTITIES: dict[str, Callable[[Shape, Schedule | None], float]] = {
    "parameters": lambda shape, _: float(shape.parameters),
    "weights": lambda shape, _: float(shape.network.size),
    "multiplies": lambda shape, _: float(shape.macs),
    "kept_weights": _kept,
    "density": lambda shape, schedule: 100 * _kept(shape, schedule) / shape.network.size,
    "effectual_multiplies": _effectual,
}
