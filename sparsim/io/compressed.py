"""The layouts of compressed-tensors (vLLM, llm-compressor): sparse bitmasks and integers packed into words.

===========================  ===========================================================================================
sparse-bitmask               ``<w>.compressed`` the non-zeros row by row, ``<w>.bitmask`` one bit an element, each row
                             padded to bytes, least significant bit first, ``<w>.shape``, ``<w>.row_offsets``
sparse-24-bitmask            the same with two values of every four stored, zeros among them, and without offsets;
                             the names lose their ``.weight``
pack-quantized               ``<w>_packed`` integers of 2, 4 or 8 bits, offset to be positive, the first in the lowest
                             bits of an int32; ``<w>_scale`` and perhaps ``<w>_zero_point`` (packed down the rows) per
                             row or group, ``<w>_g_idx`` the group of each column; ``<w>_shape``
int-, float-quantized        ``<w>`` in integers or 8-bit floats, ``<w>_scale`` and perhaps ``<w>_zero_point``
===========================  ===========================================================================================

A weight is ``(code - zero_point) * scale``.

References
----------
.. [1] compressed-tensors 0.11, compressors/sparse_compressors and compressors/quantized_compressors; 0.20,
   compressors/pack_quantized.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sparsim.errors import InputError
from sparsim.io._files import numeric
from sparsim.io.stored import Stored

__all__ = ["decompress"]

Array = npt.NDArray[Any]
Arrays = dict[str, Array]
WORD = 32
WIDTHS = (2, 4, 8)
REMEDY = "decompress it first (compressed_tensors.ModelCompressor.decompress_model), then save it"
FOREIGN = {".qweight": "GPTQ or AWQ", "_blocks": "MXFP4"}


def decompress(
    arrays: Mapping[str, Array], stored: Mapping[str, Stored], source: Path
) -> tuple[Arrays, dict[str, Stored]]:
    """Return the arrays with every compressed weight in its place, dense, under its own name.

    Raises
    ------
    InputError
        If the parts of a weight do not fit, or are packed in a layout that is not known.
    """
    result, about = dict(arrays), dict(stored)
    place = {key: number for number, key in enumerate(arrays)}
    for key in arrays:
        try:
            if key.endswith(".bitmask"):
                place[_unmask(key.removesuffix(".bitmask"), result, about)] = place[key]
            elif key.endswith("weight_packed"):
                place[_unpack(key.removesuffix("_packed"), result)] = place[key]
            elif key.endswith("weight") and f"{key}_scale" in result:
                _scale(key, result)
                about.pop(key, None)
            elif key.endswith(tuple(FOREIGN)) and f"{key.rpartition('.')[0]}.scales" in arrays:
                kind = next(name for suffix, name in FOREIGN.items() if key.endswith(suffix))
                raise InputError(f"is packed as {kind} does", remedy="dequantise the checkpoint first")
        except InputError as error:
            raise error.at(source, f"'{key}'") from None
    return {key: result[key] for key in sorted(result, key=place.__getitem__)}, about


def _unmask(base: str, arrays: Arrays, about: dict[str, Stored]) -> str:
    values, words = arrays.get(f"{base}.compressed"), arrays[f"{base}.bitmask"]
    if values is None or f"{base}.shape" not in arrays:
        return f"{base}.bitmask"
    shape = _shape(arrays[f"{base}.shape"])
    if words.dtype != np.uint8 or words.shape != (*shape[:-1], math.ceil(shape[-1] / 8)):
        raise InputError(f"a bitmask {words.shape} of {words.dtype} for a weight {shape}", remedy="save it again")
    mask = np.unpackbits(words, axis=-1, count=shape[-1], bitorder="little").astype(bool)
    if int(mask.sum()) != values.size:
        raise InputError(f"{int(mask.sum())} bits are set, {values.size} values follow", remedy="save it again")
    dense = np.zeros(shape, dtype=values.dtype)
    dense[mask] = values.ravel()
    key = base if base.endswith("weight") else f"{base}.weight"
    _replace(arrays, [f"{base}.{part}" for part in ("compressed", "bitmask", "shape", "row_offsets")], key, dense)
    if f"{base}.compressed" in about:
        about[key] = about.pop(f"{base}.compressed")
    if f"{key}_scale" in arrays:
        _scale(key, arrays)
    return key


def _unpack(key: str, arrays: Arrays) -> str:
    packed = arrays[f"{key}_packed"]
    if packed.dtype != np.int32 or f"{key}_shape" not in arrays or f"{key}_scale" not in arrays:
        raise InputError(f"is packed in a layout that is not known ({packed.dtype})", remedy=REMEDY)
    shape = _shape(arrays[f"{key}_shape"])
    fits = [bits for bits in WIDTHS if packed.shape == (*shape[:-1], math.ceil(shape[-1] * bits / WORD))]
    if len(shape) != 2 or len(fits) != 1:
        raise InputError(
            f"{packed.shape} words do not say of how many bits (2, 4, 8) {shape} integers are", remedy=REMEDY
        )
    code = _integers(packed, fits[0], shape[1])
    scale, zero = arrays[f"{key}_scale"], arrays.get(f"{key}_zero_point")
    if zero is not None and zero.dtype == np.int32 and scale.ndim == 2:
        zero = _integers(np.ascontiguousarray(zero.T), fits[0], shape[0]).T
    weight = _dequantised(code, scale, zero, arrays.get(f"{key}_g_idx"))
    _replace(arrays, [f"{key}_{part}" for part in ("packed", "scale", "shape", "zero_point", "g_idx")], key, weight)
    return key


def _integers(packed: Array, bits: int, columns: int) -> Array:
    """Unpack signed integers of ``bits`` that stand along the rows of ``packed``, lowest bits first."""
    words = packed.view(np.uint32)[:, :, None] >> (np.arange(WORD // bits, dtype=np.uint32) * bits)
    code = (words & np.uint32(2**bits - 1)).astype(np.int16) - 2 ** (bits - 1)
    return np.asarray(code.reshape(packed.shape[0], -1)[:, :columns])


def _scale(key: str, arrays: Arrays) -> None:
    code = numeric(arrays[key], f"'{key}'")
    if code.ndim < 2:
        return
    weight = _dequantised(code, arrays[f"{key}_scale"], arrays.get(f"{key}_zero_point"), None)
    _replace(arrays, [f"{key}_scale", f"{key}_zero_point"], key, weight)


def _dequantised(code: Array, scale: Array, zero: Array | None, group_of_column: Array | None) -> Array:
    """Return (code - zero) * scale; both have one entry for all, for each row, or for each block."""
    scale = numeric(scale, "the scale")
    zero = np.zeros_like(scale) if zero is None else numeric(zero, "the zero point")
    spread = []
    for factor in (zero, scale):
        if factor.ndim == 1 and factor.size == code.shape[0]:
            factor = factor[:, None]
        if factor.size == 1:
            spread.append(factor.reshape((1,) * code.ndim))
        elif group_of_column is not None and factor.ndim == 2 and group_of_column.max(initial=0) < factor.shape[1]:
            spread.append(factor[:, np.maximum(group_of_column, 0)])
        else:
            spread.append(_blocks(factor, code.shape))
    return np.asarray((code.astype(np.float32) - spread[0]) * spread[1], dtype=np.float32)


def _blocks(factor: Array, shape: tuple[int, ...]) -> Array:
    if factor.ndim != len(shape) or not all(factor.shape):
        raise InputError(f"scales of shape {factor.shape} for a weight {shape}", remedy=REMEDY)
    for axis, (parts, size) in enumerate(zip(factor.shape, shape, strict=True)):
        index = np.arange(size) // math.ceil(size / parts)
        if parts > size or (size and index[-1] != parts - 1):
            raise InputError(f"scales of shape {factor.shape} for a weight {shape}", remedy=REMEDY)
        factor = factor if parts == 1 else factor.take(index, axis)
    return factor


def _shape(array: Array) -> tuple[int, ...]:
    shape = tuple(int(extent) for extent in array.ravel()) if array.dtype.kind in "iu" else ()
    if not 2 <= len(shape) <= 5 or min(shape) < 1:
        raise InputError(f"the shape {shape} of a compressed weight", remedy="2 to 5 numbers from 1 are needed")
    return shape


def _replace(arrays: Arrays, parts: list[str], key: str, weight: Array) -> None:
    for part in parts:
        arrays.pop(part, None)
    arrays[key] = weight
