"""What a weight is worth: functions from a layer to scores of its weight's shape; the lowest are pruned first.

=============  =======================================  ================================================================
criterion      score of a weight w                      source
=============  =======================================  ================================================================
magnitude      |w|                                      Han et al., NeurIPS 2015
random         uniform in (0, 1]                        the control every criterion has to beat
obd            h w^2 / 2, h the diagonal of the         LeCun, Denker, Solla, "Optimal Brain Damage", NeurIPS 1989
               Hessian or of the Fisher matrix
wanda          |w| ||x||, x all values the input        Sun et al., "A simple and effective pruning approach for large
               feature takes on calibration data        language models", ICLR 2024; compared within a row there, which
                                                        is granularity ``row_balanced``
gradient       |g w|, g the gradient of the loss        Molchanov et al., ICLR 2017; before training: Lee et al., ICLR
                                                        2019 ("SNIP")
=============  =======================================  ================================================================

In every one a weight that is already zero scores 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any
from zlib import crc32

import numpy as np
import numpy.typing as npt

from sparsim.arguments import whole
from sparsim.errors import ConfigError, InputError, nearest
from sparsim.matrix import Csr
from sparsim.network import Layer

__all__ = [
    "CRITERIA",
    "Criterion",
    "Scores",
    "criterion",
    "gradient",
    "magnitude",
    "obd",
    "random",
    "score",
    "wanda",
    "weights_of",
]

Scores = npt.NDArray[np.float64]
Criterion = Callable[[Layer], Scores]
Arrays = Mapping[str, npt.NDArray[Any]]
MAX_CELLS = 2**28
LEAST = 1e-200


def weights_of(layer: Layer) -> npt.NDArray[Any]:
    """Return the weight of a layer as a dense array of its shape.

    Raises
    ------
    InputError
        If the layer has only positions, or is too large to be written out.
    """
    if not _has_values(layer.weight):
        raise InputError(
            f"layer '{layer.name}' has positions but no values",
            remedy="pruning needs values (of a network of the zoo: --weights random); simulate the pattern as it is",
        )
    if not isinstance(layer.weight, Csr):
        return layer.weight
    if layer.size > MAX_CELLS:
        raise InputError(
            f"layer '{layer.name}' has {layer.size:,} cells, more than {MAX_CELLS:,}",
            remedy="prune the weights of one layer at a time, as an array",
        )
    return layer.weight.to_dense()


def _has_values(weight: npt.NDArray[Any] | Csr) -> bool:
    """Tell weights from mere positions: a mask of bool, or one value repeated without memory for a shape."""
    if isinstance(weight, Csr):
        return weight.values is not None
    return weight.dtype.kind != "b" and (weight.size < 2 or any(weight.strides))


def magnitude(layer: Layer) -> Scores:
    """Return |w| as float64."""
    return np.abs(np.asarray(weights_of(layer), dtype=np.float64))


def random(seed: int = 0) -> Criterion:
    """Return a criterion that draws scores uniformly from (0, 1], each layer's by ``seed`` and its own name alone."""
    seed = whole(seed, "seed")

    def scores(layer: Layer) -> Scores:
        draw = 1.0 - np.random.default_rng([seed, crc32(layer.name.encode())]).random(layer.shape)
        return np.where(weights_of(layer) != 0, draw, 0.0)

    return scores


def obd(diagonals: Arrays) -> Criterion:
    """Return Optimal Brain Damage: h w^2 / 2, the rise of the loss when w is removed, to second order.

    Parameters
    ----------
    diagonals : layer name to the diagonal of the Hessian (or of the Fisher matrix, the mean squared gradient), of the
        weight's shape.
    """
    return lambda layer: 0.5 * _given(diagonals, layer, "Hessian diagonal") * magnitude(layer) ** 2


def gradient(gradients: Arrays) -> Criterion:
    """Return |g w|, the change of the loss when w is removed, to first order.

    Parameters
    ----------
    gradients : layer name to the gradient of the loss, of the weight's shape.
    """
    return lambda layer: np.abs(_given(gradients, layer, "gradient")) * magnitude(layer)


def wanda(norms: Arrays) -> Criterion:
    """Return |w| ||x||_2, the size of a weight times that of what it is multiplied with.

    Parameters
    ----------
    norms : layer name to the norms of the layer's input features over calibration data, 0 or more: one per input
        channel (of all groups), or one per column of the matrix ``[out, k]`` (k for each group, one group after the
        other).
    """

    def scores(layer: Layer) -> Scores:
        norm = _array(norms, layer, "input norms")
        groups, channels, area = layer.groups, layer.shape[1], prod(layer.shape[2:])
        if norm.ndim != 1 or norm.size not in (groups * channels, groups * channels * area):
            raise InputError(
                f"layer '{layer.name}': input norms of shape {norm.shape}",
                remedy=f"give one for each of {groups * channels} channels or {groups * channels * area} columns",
            )
        if (norm < 0).any():
            raise InputError(f"layer '{layer.name}': a negative input norm", remedy="a norm is 0 or more")
        per_column = norm.reshape(groups, 1, channels, 1 if norm.size == groups * channels else area)
        weights = magnitude(layer).reshape(groups, layer.shape[0] // groups, channels, area)
        return (weights * per_column).reshape(layer.shape)

    return scores


CRITERIA: Mapping[str, Callable[[Arrays], Criterion]] = {"obd": obd, "wanda": wanda, "gradient": gradient}


def criterion(name: str, arrays: Arrays | None = None, seed: int = 0) -> Criterion:
    """Return the criterion called ``name``.

    Parameters
    ----------
    name : "magnitude", "random", "obd", "wanda" or "gradient".
    arrays : what the last three need, layer name to array; none for the first two.
    seed : of "random".

    Raises
    ------
    ConfigError
        If there is no such criterion, or it needs arrays and has none, or the other way round.
    """
    known = ("magnitude", "random", *CRITERIA)
    if name not in known:
        raise ConfigError(f"'{name}'{nearest(name, known)}", key="criterion", allowed=", ".join(known))
    if name in CRITERIA:
        if arrays is None:
            raise ConfigError(
                f"'{name}' needs an array for each layer",
                key="criterion",
                allowed=f"{name} with arrays (--saliency FILE), magnitude, random",
            )
        return CRITERIA[name](arrays)
    if arrays is not None:
        raise ConfigError(f"'{name}' uses no saliency arrays", key="criterion", allowed=", ".join(CRITERIA))
    return random(seed) if name == "random" else magnitude


def score(layer: Layer, rule: Criterion) -> Scores:
    """Return the scores of a layer as the matrix ``[out, k]``.

    A weight that is zero already scores 0, all others more: saliencies that are not positive come down to next to
    nothing, in their order.

    Raises
    ------
    InputError
        If the criterion's answer has another shape than the weight, or is not finite.
    """
    scores = np.asarray(rule(layer), dtype=np.float64)
    if scores.shape != layer.shape or not np.isfinite(scores).all():
        fault = f"shape {scores.shape}" if scores.shape != layer.shape else "values that are not finite"
        raise InputError(
            f"layer '{layer.name}': the criterion gave scores of {fault}",
            remedy=f"one finite number for each weight of {layer.shape}",
        )
    worthless = LEAST / (1 - np.minimum(scores, 0.0))
    scores = np.where(weights_of(layer) != 0, np.where(scores > 0, scores, worthless), 0.0)
    return np.ascontiguousarray(scores).reshape(layer.shape[0], prod(layer.shape[1:]))


def _array(arrays: Arrays, layer: Layer, what: str) -> Scores:
    if layer.name not in arrays:
        raise InputError(
            f"layer '{layer.name}' has no {what}{nearest(layer.name, arrays)}", remedy="give them, or skip the layer"
        )
    array = np.asarray(arrays[layer.name])
    if array.dtype.kind not in "fiub" or not np.isfinite(array).all():
        raise InputError(
            f"layer '{layer.name}': {what} with values that are no finite real numbers", remedy="compute them again"
        )
    return array.astype(np.float64)


def _given(arrays: Arrays, layer: Layer, what: str) -> Scores:
    array = _array(arrays, layer, what)
    if array.shape != layer.shape:
        raise InputError(
            f"layer '{layer.name}': {what} of shape {array.shape} for a weight of {layer.shape}",
            remedy="give one number a weight",
        )
    return array
