"""Write a network so that :func:`sparsim.io.load` gives it back: names, shapes, geometry, metadata, notes."""

from __future__ import annotations

import json
import math
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sparsim.errors import InputError
from sparsim.io._files import one_line
from sparsim.io.arrays import CSR_PARTS
from sparsim.io.geometry import SCALES, describe
from sparsim.matrix import Csr
from sparsim.network import Network

__all__ = ["save_network"]

Arrays = dict[str, npt.NDArray[Any]]
LARGEST = 127
SCALE_BITS = 16


def save_network(network: Network, path: str | PathLike[str], *, int8: bool = False) -> Path:
    """Write ``.safetensors`` or ``.npz``, by the suffix of ``path``.

    Dense weights stand under ``<layer>.weight``, so other tools read them too. A layer known only as a sparse matrix is
    kept as compressed rows under the names torch uses: ``<layer>.weight.crow_indices``, ``.col_indices``, ``.values``.
    Biases and the arrays of ``network.rest`` (norms, embeddings) are written under their names.

    Parameters
    ----------
    network : the network.
    path : of the file; an existing one is replaced.
    int8 : store dense weights of floats in a byte each, with one scale a layer. Lossy: each is rounded to the nearest
        of -127 .. 127 times the scale, and comes back as float32. Positions are kept: what is not zero rounds to
        no zero, so a small weight is off by up to one step instead of half a one. A second time changes nothing.

    Returns
    -------
    path of the file.

    Raises
    ------
    InputError
        If the suffix is another, two layers share a name, or the file cannot be written.
    """
    target = Path(path)
    suffix = target.suffix.lower()
    if suffix not in (".safetensors", ".npz"):
        raise InputError(f"cannot write '{suffix}'", source=target, remedy="name it .safetensors or .npz")
    arrays, geometry = _arrays(network, int8)
    texts = {"sparsim.name": network.name, "sparsim.layers": json.dumps(geometry)}
    texts["sparsim.notes"] = json.dumps(network.notes)
    if network.graph is not None:
        texts["sparsim.graph"] = network.graph.to_json()
    try:
        if suffix == ".npz":
            texts["sparsim.metadata"] = json.dumps(dict(network.metadata))
            with target.open("wb") as stream:
                np.savez_compressed(stream, allow_pickle=False, **arrays, **{k: np.array(v) for k, v in texts.items()})
        else:
            from safetensors.numpy import save_file

            save_file(arrays, target, metadata={**network.metadata, **texts})
    except OSError as error:
        raise InputError(f"cannot be written ({one_line(error)})", source=target, remedy="check the folder") from None
    return target


def _arrays(network: Network, int8: bool) -> tuple[Arrays, dict[str, Any]]:
    arrays: Arrays = {}
    geometry: dict[str, Any] = {}
    for layer in network:
        if layer.name in geometry:
            raise InputError(f"two layers are called '{layer.name}'", remedy="names must differ")
        entry = describe(layer)
        if isinstance(layer.weight, Csr):
            entry["csr"] = list(layer.weight.shape)
            parts = (layer.weight.indptr, layer.weight.indices, layer.weight.values)
            new = {f"{layer.name}.weight.{p}": a for p, a in zip(CSR_PARTS, parts, strict=True) if a is not None}
        elif int8 and layer.weight.dtype.kind == "f":
            code, entry["scale"] = _to_int8(layer.weight)
            new = {f"{layer.name}.weight": code}
        else:
            new = {f"{layer.name}.weight": layer.weight}
        if layer.bias is not None:
            new[f"{layer.name}.bias"] = layer.bias
        for key, array in new.items():
            if key in arrays:
                raise InputError(f"two layers would be stored as '{key}'", remedy="rename one of them")
            arrays[key] = np.ascontiguousarray(array)
        geometry[layer.name] = entry
    rest = {key: np.ascontiguousarray(array) for key, array in network.rest.items() if key not in arrays}
    return arrays | rest, geometry


def _to_int8(weight: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int8], float]:
    """Return codes and scale. The scale is short enough for every code times scale to be exact in float32."""
    weight = weight.astype(np.float64)
    mantissa, exponent = math.frexp(float(np.abs(weight).max(initial=0)) / LARGEST)
    scale = max(math.ldexp(math.ceil(mantissa * 2**SCALE_BITS), exponent - SCALE_BITS), SCALES[0]) if mantissa else 1.0
    code = np.rint(weight / scale)
    return np.where(code == 0, np.sign(weight), code).astype(np.int8), scale
