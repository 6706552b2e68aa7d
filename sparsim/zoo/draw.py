"""Weights and masks drawn at random for networks of which only shapes and densities are known.

An independent mask has rows of nearly equal length. Real ones do not: some output channels keep twice as many weights
as others, and some input channels are read twice as often. ``skew.toml`` has what was measured on published masks, as
coefficients of variation beyond the binomial noise that independent zeros show anyway (:func:`excess_variation`).
"""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from sparsim.matrix import Csr, IntArray
from sparsim.network import Layer

__all__ = ["Spread", "draw_mask", "draw_weight", "excess_variation", "measured_spread"]

Spread = tuple[float, float]
FloatArray = npt.NDArray[np.floating[Any]]
ALMOST_SURE = 1 - 1e-6


def draw_weight(shape: tuple[int, ...], rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Draw weights ``[out, in / groups, *kernel]`` that were never trained.

    They are normal with He's scale (He et al., ICCV 2015: variance 2 / fan-in), times log-normal factors for each
    output and each input channel, so that channels differ in norm as trained ones do.
    """
    ones = (1,) * (len(shape) - 2)
    weight = rng.normal(scale=np.sqrt(2 / prod(shape[1:])), size=shape)
    weight *= rng.lognormal(sigma=0.5, size=(shape[0], 1, *ones))
    weight *= rng.lognormal(sigma=0.5, size=(1, shape[1], *ones))
    return weight.astype(np.float32)


def draw_mask(
    layer: Layer, nnz: int, rng: np.random.Generator, spread: Spread = (0.0, 0.0)
) -> npt.NDArray[np.bool_] | Csr:
    """Draw positions of exactly ``nnz`` non-zero weights.

    Parameters
    ----------
    layer : whose shape and groups it takes.
    spread : coefficients of variation of the expected densities of output channels and of input channels, which are
        log-normal (cut where a density would pass 1). (0, 0) makes every mask of ``nnz`` non-zeros equally likely.

    Returns
    -------
    bool array of the weight's shape for a convolution, which keeps its kernel; a pattern for a linear layer.
    """
    rows, columns = layer.shape[0], prod(layer.shape[1:])
    counts = _row_counts(rng, rows, columns, nnz, spread[0])
    factors = np.repeat(_factors(rng, (layer.groups, layer.shape[1]), spread[1]), prod(layer.kernel), axis=1)
    indices = _columns(rng, counts, factors if spread[1] else None, columns)
    if not layer.is_convolution:
        return Csr.build((rows, columns), np.concatenate([[0], np.cumsum(counts)]), indices)
    mask = np.zeros((rows, columns), dtype=bool)
    mask[np.repeat(np.arange(rows), counts), indices] = True
    return mask.reshape(layer.shape)


def _factors(rng: np.random.Generator, shape: tuple[int, ...], variation: float) -> FloatArray:
    """Draw log-normal factors with that coefficient of variation around their mean of 1."""
    sigma = np.sqrt(np.log1p(variation**2))
    return rng.lognormal(-(sigma**2) / 2, sigma, size=shape)


def _row_counts(rng: np.random.Generator, rows: int, columns: int, nnz: int, variation: float) -> IntArray:
    if not variation:
        return rng.multivariate_hypergeometric(np.full(rows, columns), nnz, method="marginals")
    expected = _capped(_factors(rng, (rows,), variation), nnz, columns)
    counts = rng.binomial(columns, expected / columns)
    while missing := nnz - int(counts.sum()):
        room = columns - counts if missing > 0 else counts
        chance = np.where(room > 0, expected, 0)
        chosen = rng.choice(rows, size=abs(missing), p=chance / chance.sum())
        counts = np.clip(counts + np.sign(missing) * np.bincount(chosen, minlength=rows), 0, columns)
    return counts


def _capped(factors: FloatArray, total: float, most: float) -> FloatArray:
    """Scale factors to a sum of ``total`` with none above ``most``."""
    full = np.zeros(factors.size, dtype=bool)
    while not full.all():
        rest = total - most * np.count_nonzero(full)
        scaled = np.where(full, most, factors * (rest / factors[~full].sum()))
        if not (scaled > most).any():
            return scaled
        full |= scaled > most
    return np.full(factors.size, float(most))


def _columns(rng: np.random.Generator, counts: IntArray, factors: FloatArray | None, columns: int) -> IntArray:
    """Choose so many columns of each row, sorted; columns of higher factors are likelier.

    The elements with the smallest of independent exponential clocks are a weighted sample without replacement
    (Efraimidis and Spirakis, 2006); a clock of rate -log(1 - p) has run out by time 1 with probability p.
    """
    chosen: list[IntArray] = []
    rows_of_group = counts.size // (1 if factors is None else factors.shape[0])
    for row, count in enumerate(counts.tolist()):
        if factors is None:
            picked = rng.choice(columns, count, replace=False, shuffle=False)
        elif count in (0, columns):
            picked = np.arange(count)
        else:
            chance = np.minimum(factors[row // rows_of_group] * (count / columns), ALMOST_SURE)
            keys = rng.standard_exponential(columns, dtype=np.float32) / -np.log1p(-chance)
            picked = np.argpartition(keys, count - 1)[:count]
        chosen.append(np.sort(picked))
    return np.concatenate(chosen)


def excess_variation(counts: npt.NDArray[Any], cells: int, nnz: int) -> float:
    """Return the coefficient of variation of densities beyond binomial noise, 0 if there is none.

    Parameters
    ----------
    counts : non-zeros of each row, or of each input channel, of one layer; ``[number]``.
    cells : weights in each of them.
    nnz : non-zeros of the layer.

    Returns
    -------
    sqrt((variance of the densities - D (1 - D) / cells) / D^2), D the density of the layer.
    """
    density = nnz / (cells * counts.size) if counts.size else 0.0
    if counts.size < 2 or not density:
        return 0.0
    excess = float(np.var(counts / cells, ddof=1)) - density * (1 - density) / cells
    return float(np.sqrt(max(excess, 0.0))) / density


@cache
def _measured() -> tuple[FloatArray, FloatArray, FloatArray]:
    document = tomllib.loads((files("sparsim.zoo") / "skew.toml").read_text("utf-8"))
    points = sorted((each["density"], each["rows"], each["channels"]) for each in document["measured"])
    density, rows, channels = np.array([*points, (1.0, 0.0, 0.0)]).T  # a dense layer has no spread
    return np.log(density), rows, channels


def measured_spread(density: float) -> Spread:
    """Return the spread real masks of that density have: of output channels, of input channels.

    Between the measured densities it is linear in log(density); below the lowest it stays.
    """
    at, rows, channels = _measured()
    where = np.log(max(density, 1e-9))
    return float(np.interp(where, at, rows)), float(np.interp(where, at, channels))
