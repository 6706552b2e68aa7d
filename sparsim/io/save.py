"""Write a network so that :func:`sparsim.io.load` gives it back: names, shapes, geometry, graph, metadata, notes."""

from __future__ import annotations

import json
import math
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sparsim.errors import InputError
from sparsim.io._files import find_file, one_line
from sparsim.io.arrays import CSR_PARTS
from sparsim.io.geometry import SCALES, describe
from sparsim.io.onnx_save import write_onnx
from sparsim.io.safetensors import write_safetensors
from sparsim.io.stored import KEY, Stored, parse_stored
from sparsim.io.torch import write_torch
from sparsim.matrix import Csr
from sparsim.network import Network

__all__ = ["save_network"]

Arrays = dict[str, npt.NDArray[Any]]
SUFFIXES = (".safetensors", ".npz", ".pt", ".pth", ".onnx")
LARGEST = 127
SCALE_BITS = 16


def save_network(
    network: Network,
    path: str | PathLike[str],
    *,
    int8: bool = False,
    template: str | PathLike[str] | None = None,
) -> Path:
    """Write ``.safetensors``, ``.npz``, ``.pt``, ``.pth`` or ``.onnx``, by the suffix of ``path``.

    Weights and biases stand under the names and in the orientation they had in the file they came from, else under
    ``<layer>.weight`` and ``<layer>.bias``; the arrays of ``network.rest`` (norms, embeddings) under theirs. So the
    model a checkpoint came from takes it back with ``load_state_dict(strict=True)``. Exceptions: prefixes of
    ``DataParallel`` and masks are gone, as after ``prune.remove``; TensorFlow's axis orders become PyTorch's; what was
    quantised or compressed stays written out. A layer known only as a sparse matrix is kept as compressed rows under
    the names torch uses: ``<layer>.weight.crow_indices``, ``.col_indices``, ``.values``.

    Arrays that were bfloat16 are written so again in ``.safetensors`` and ``.pt`` if that loses nothing (zeroing
    weights does not); else, and in ``.npz``, they are float32, as 8-bit floats always are. sparsim's own texts stand
    where other tools do not look: in the metadata of ``.safetensors``, in ``_metadata`` of a state dict.

    Parameters
    ----------
    network : the network.
    path : of the file; an existing one is replaced.
    int8 : store dense weights of floats in a byte each, with one scale a layer. Lossy: each is rounded to the nearest
        of -127 .. 127 times the scale, and comes back as float32. Positions are kept: what is not zero rounds to
        no zero, so a small weight is off by up to one step instead of half a one. A second time changes nothing.
        For ``.safetensors`` and ``.npz`` alone: other tools know nothing of the scale.
    template : the ``.onnx`` file the network came from; needed for ``.onnx`` alone. Its weights and biases are
        replaced, everything else stays.

    Returns
    -------
    path of the file.

    Raises
    ------
    InputError
        If the suffix is another, two layers share a name, the template does not fit, or the file cannot be written.
    MissingExtra
        If ``.pt`` or ``.onnx`` is asked for and its library is not installed.
    """
    target = Path(path)
    suffix = target.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"cannot write '{suffix}'", source=target, remedy=f"name it {', '.join(SUFFIXES)}")
    if int8 and suffix not in (".safetensors", ".npz"):
        raise InputError(f"cannot write int8 to '{suffix}'", source=target, remedy="name it .safetensors or .npz")
    if suffix == ".onnx" and template is not None and Path(template).suffix.lower() != ".onnx":
        remedy = "write .safetensors, .npz or .pt; an .onnx file can only come from an .onnx file"
        raise InputError(f"'{template}' has no graph to write into '{suffix}'", source=target, remedy=remedy)
    if (template is not None) != (suffix == ".onnx"):
        remedy = "an .onnx file is written from the .onnx file the network came from (template=), no other is"
        raise InputError(f"{'a' if template else 'no'} template for '{suffix}'", source=target, remedy=remedy)
    part = target.with_name(f"{target.name}.part")  # a failure leaves what was there
    try:
        if template is not None:
            write_onnx(network, target, find_file(Path(template)))
        else:
            _write(network, part, suffix, int8)
            part.replace(target)
    except (OSError, RuntimeError) as error:  # torch says RuntimeError
        raise InputError(f"cannot be written ({one_line(error)})", source=target, remedy="check the folder") from None
    finally:
        if part.is_file():
            part.unlink()
    return target


def _write(network: Network, target: Path, suffix: str, int8: bool) -> None:
    stored = parse_stored(network.metadata.get(KEY, "{}"), target)
    arrays, geometry = _arrays(network, stored, int8)
    types = {key: "BF16" for key, item in stored.items() if item.type == "BF16" and _is_bf16(arrays.get(key))}
    texts = {"sparsim.name": network.name, "sparsim.layers": json.dumps(geometry)}
    texts["sparsim.notes"] = json.dumps(network.notes)
    if network.skipped:
        texts["sparsim.skipped"] = json.dumps(dict(network.skipped))
    if KEY in network.metadata:
        texts[KEY] = network.metadata[KEY]
    if network.graph is not None:
        texts["sparsim.graph"] = network.graph.to_json()
    about = {key: value for key, value in network.metadata.items() if key != KEY}
    if suffix == ".npz":
        texts["sparsim.metadata"] = json.dumps(about)
        with target.open("wb") as stream:
            np.savez_compressed(stream, allow_pickle=False, **arrays, **{k: np.array(v) for k, v in texts.items()})
    elif suffix == ".safetensors":
        write_safetensors(target, arrays, types, {**about, **texts})
    else:
        write_torch(target, arrays, types, {**about, **texts})


def _is_bf16(array: npt.NDArray[Any] | None) -> bool:
    """Whether all values are floats whose lower half is zero."""
    return array is not None and array.dtype == np.float32 and not (array.view(np.uint32) & 0xFFFF).any()


def _arrays(network: Network, stored: dict[str, Stored], int8: bool) -> tuple[Arrays, dict[str, Any]]:
    arrays: Arrays = {}
    geometry: dict[str, Any] = {}
    weights = {item.layer: key for key, item in stored.items() if item.layer and not item.bias}
    biases = {item.layer: key for key, item in stored.items() if item.layer and item.bias}
    for layer in network:
        if layer.name in geometry:
            raise InputError(f"two layers are called '{layer.name}'", remedy="names must differ")
        entry = describe(layer)
        key = weights.get(layer.name, f"{layer.name}.weight")
        if isinstance(layer.weight, Csr):
            entry["csr"] = list(layer.weight.shape)
            parts = (layer.weight.indptr, layer.weight.indices, layer.weight.values)
            new = {f"{layer.name}.weight.{p}": a for p, a in zip(CSR_PARTS, parts, strict=True) if a is not None}
        else:
            weight = layer.weight
            if int8 and weight.dtype.kind == "f":
                weight, entry["scale"] = _to_int8(weight)
            new = {key: weight.T if key in stored and stored[key].transposed else weight}
        if layer.bias is not None:
            new[biases.get(layer.name, f"{layer.name}.bias")] = layer.bias
        for key, array in new.items():
            if key in arrays:
                raise InputError(f"two layers would be stored as '{key}'", remedy="rename one of them")
            arrays[key] = np.ascontiguousarray(array)
        geometry[layer.name] = entry
    rest = {key: np.array(array, order="C") for key, array in network.rest.items() if key not in arrays}
    return arrays | rest, geometry


def _to_int8(weight: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int8], float]:
    """Return codes and scale. The scale is short enough for every code times scale to be exact in float32."""
    weight = weight.astype(np.float64)
    mantissa, exponent = math.frexp(float(np.abs(weight).max(initial=0)) / LARGEST)
    scale = max(math.ldexp(math.ceil(mantissa * 2**SCALE_BITS), exponent - SCALE_BITS), SCALES[0]) if mantissa else 1.0
    code = np.rint(weight / scale)
    return np.where(code == 0, np.sign(weight), code).astype(np.int8), scale
