"""Weights that are kept in parts: a value, and beside it the mask or the scores that switch it on and off."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sparsim.errors import InputError
from sparsim.io._files import numeric
from sparsim.io.names import is_weight_name

__all__ = ["SCORES_NOTE", "apply_masks", "apply_scores"]

Arrays = Mapping[str, npt.NDArray[Any]]
SCORES_NOTE = "weights are weight x flag x scores, the three arrays the file keeps of each layer (Rare Gems)"
BIAS_PARTS = (("flag_bias", "scores_bias"), ("bias_flag", "bias_scores"))


def apply_masks(arrays: Arrays, source: Path) -> dict[str, npt.NDArray[Any]]:
    """Multiply weights with the masks that ``torch.nn.utils.prune`` and others keep beside them."""
    masks = _pairs(arrays, source)
    used = set(masks.values())
    result: dict[str, npt.NDArray[Any]] = {}
    for key, array in arrays.items():
        if key in used:
            continue
        target = key.removesuffix("_orig")
        if key in masks:
            array = numeric(array, f"'{key}'") * numeric(arrays[masks[key]], f"mask '{masks[key]}'").astype(array.dtype)
        elif key != target and is_weight_name(target) and f"{target}_u" not in arrays:  # spectral norm has a _u
            raise InputError(
                f"has no '{target}_mask' beside it",
                source=source,
                place=f"'{key}'",
                remedy="save both, or call torch.nn.utils.prune.remove first",
            )
        result[target if key in masks or is_weight_name(target) else key] = array
    return result


def _pairs(arrays: Arrays, source: Path) -> dict[str, str]:
    """Return weight (or bias) to mask."""
    masks: dict[str, str] = {}
    for key in arrays:
        if not key.endswith(("_mask", ".mask")):
            continue
        base = key[:-5]
        for partner in (f"{base}_orig", base, f"{base}.weight", f"{base}_w"):
            if partner in arrays:
                if arrays[partner].shape == arrays[key].shape:
                    masks[partner] = key
                    break
                if partner.endswith("_orig"):
                    raise InputError(
                        f"mask of shape {arrays[key].shape} for weights of shape {arrays[partner].shape}",
                        source=source,
                        place=f"'{key}'",
                        remedy="save the network again",
                    )
    return masks


def apply_scores(arrays: Arrays) -> tuple[dict[str, npt.NDArray[Any]], bool]:
    """Multiply ``<layer>.weight`` with ``<layer>.flag`` and ``<layer>.scores``, as the layers of Rare Gems compute.

    A network found by training scores keeps the random weight, the 0/1 flag and the score apart. Nothing is done
    unless all three are there and have one shape.

    Returns
    -------
    the arrays, and whether any was such a product.

    References
    ----------
    .. [1] K. Sreenivasan et al., "Rare Gems: Finding Lottery Tickets at Initialization", NeurIPS 2022.
    """
    result = dict(arrays)
    found = False
    for key in arrays:
        layer = key.removesuffix(".weight")
        parts = [f"{layer}.flag", f"{layer}.scores"]
        if layer == key or not _same_shape(arrays, key, parts):
            continue
        found = True
        result[key] = _product(result, key, parts)
        for names in BIAS_PARTS:
            parts = [f"{layer}.{name}" for name in names]
            if _same_shape(arrays, f"{layer}.bias", parts):
                result[f"{layer}.bias"] = _product(result, f"{layer}.bias", parts)
            for part in parts:
                result.pop(part, None)
    return result, found


def _same_shape(arrays: Arrays, key: str, parts: list[str]) -> bool:
    return key in arrays and all(part in arrays and arrays[part].shape == arrays[key].shape for part in parts)


def _product(arrays: dict[str, npt.NDArray[Any]], key: str, parts: list[str]) -> npt.NDArray[Any]:
    array = numeric(arrays[key], f"'{key}'")
    flag, scores = (numeric(arrays.pop(part), f"'{part}'") for part in parts)
    return np.asarray(array * flag * scores, dtype=array.dtype)
