"""From named arrays to a network: which array is a weight, what its axes mean, what is left aside and why.

Weights are arrays of 2 to 5 dimensions whose name ends in ``weight``, ``w`` or ``kernel`` after a dot, a slash or an
underscore. If no name has the dot or the slash, every array of floats of 2 dimensions or more is a weight. Whatever is
not taken is listed with its reason in ``Network.skipped``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sparsim.errors import InputError, nearest
from sparsim.graph import Graph
from sparsim.io._files import check_claims, numeric
from sparsim.io.compressed import decompress
from sparsim.io.geometry import Geometry, adjacent_geometry, parse_geometry, parse_json
from sparsim.io.masks import SCORES_NOTE, apply_masks, apply_scores
from sparsim.io.names import bias_name, is_embedding_name, is_weight_name, strip_weight
from sparsim.io.stored import KEY, Stored, format_stored, merge_stored
from sparsim.matrix import Csr
from sparsim.network import Layer, Network

__all__ = ["CSR_PARTS", "network_from_arrays"]

Arrays = Mapping[str, npt.NDArray[Any]]
CSR_PARTS = ("crow_indices", "col_indices", "values")
KERNEL = re.compile(r"(?:^|[._/])kernel(?::0)?$")
TFLITE = re.compile(r"(?<![A-Za-z])Conv2D")
DEPTHWISE = re.compile(r"depthwise", re.IGNORECASE)

EMBEDDING = "embedding (a table look-up, not a product)"
DEPTHWISE_REASON = "depthwise kernel in TensorFlow's order: store it as [channels, 1, kh, kw], groups in sparsim.layers"
KERNEL_NOTE = "arrays called 'kernel' are read in TensorFlow's order [kh, kw, in, out] (or [in, out])"
TFLITE_NOTE = "arrays called 'Conv2D' are read in TensorFlow Lite's order [out, kh, kw, in]"


def network_from_arrays(
    arrays: Arrays,
    *,
    source: Path,
    name: str | None = None,
    metadata: Mapping[str, str] | None = None,
    stored: Mapping[str, Stored] | None = None,
) -> Network:
    """Sort named arrays into layers and the rest.

    Parameters
    ----------
    arrays : name to array, in the order of the file; convolutions ``[out, in / groups, kh, kw]``.
    source : the file, for errors and for a ``layers.json`` beside it.
    name : of the network; by default ``sparsim.name``, else the file's name.
    metadata : strings the file says about itself. ``sparsim.layers`` is the geometry (see :mod:`sparsim.io.geometry`)
        and, if it names all layers, their order; ``sparsim.notes`` a JSON list of sentences; ``sparsim.graph`` how the
        layers hang together (see :mod:`sparsim.graph`); ``sparsim.skipped`` an object of the arrays that are no layers
        and the reasons; ``sparsim.arrays`` what is unusual about single arrays (see :mod:`sparsim.io.stored`).
    stored : what the reader knows of the latter.

    Raises
    ------
    InputError
        If no array is a weight, a weight is not finite, or geometry and arrays disagree.
    """
    metadata = metadata or {}
    geometry, notes = _about(arrays, metadata, source)
    arrays, layers = _take_csr(arrays, geometry, source)
    arrays, about = decompress(arrays, merge_stored(metadata, stored or {}, source), source)
    arrays, scored = apply_scores(apply_masks(arrays, source))
    notes |= dict.fromkeys([SCORES_NOTE] if scored else [])
    skipped = _said_to_skip(metadata, source)
    named = any(strip_weight(key) != key for key in arrays)
    biases = {layer: f"{layer}.bias" for layer in layers}
    weights: dict[str, str] = {}
    for key, array in arrays.items():
        if key in skipped:
            continue
        item = about.get(key, Stored())
        layer, note = item.layer or _layer_name(key, arrays, geometry), ""
        reason = None if layer in geometry and not item.bias else _reason_to_skip(key, array, named)
        if reason is not None:
            skipped[key] = reason
            continue
        if item.transposed:
            array = _turn(key, array, source)
        elif not item.layer and (layer not in geometry or key == layer):
            array, note = _orient(key, array)
        biases[layer] = bias_name(layer, key)
        layers[layer] = _layer(layer, array, geometry.get(layer, {}), source)
        if note:
            notes[note] = None
        else:
            weights[layer] = key
    _check_result(layers, skipped, geometry, source)
    biases |= {item.layer: key for key, item in about.items() if item.bias and item.layer in layers}
    for layer, key in biases.items():
        if key in skipped and arrays[key].shape == layers[layer].shape[:1] and arrays[key].dtype.kind == "f":
            layers[layer] = replace(layers[layer], bias=numeric(arrays[key], f"'{key}'"))
            del skipped[key]
    order = geometry if geometry.keys() == layers.keys() else layers
    said = {key: value for key, value in metadata.items() if not key.startswith("sparsim.")}
    return Network(
        name or metadata.get("sparsim.name") or _default_name(source),
        tuple(layers[key] for key in order),
        said | _remember(layers, weights, biases, about, arrays),
        skipped,
        tuple(notes),
        _graph(metadata, source),
        {key: arrays[key] for key in skipped if key in arrays},
    )


def _said_to_skip(metadata: Mapping[str, str], source: Path) -> dict[str, str]:
    said = parse_json(metadata.get("sparsim.skipped", "{}"), source, "sparsim.skipped")
    if not isinstance(said, dict):
        raise InputError("is no object", source=source, place="sparsim.skipped", remedy='write {"array": "reason"}')
    return {str(key): str(reason) for key, reason in said.items()}


def _turn(key: str, array: npt.NDArray[Any], source: Path) -> npt.NDArray[Any]:
    if array.ndim != 2:
        raise InputError(
            f"'{key}' has {array.ndim} dimensions", source=source, place=KEY, remedy="only a matrix can be transposed"
        )
    return np.ascontiguousarray(array.T)


def _remember(
    layers: Mapping[str, Layer],
    weights: Mapping[str, str],
    biases: Mapping[str, str],
    about: Mapping[str, Stored],
    arrays: Arrays,
) -> dict[str, str]:
    """Return the metadata entry that says what is unusual about the names, axes and types of the arrays."""
    kept = {key: replace(item, layer="", bias=False) for key, item in about.items() if key in arrays}
    for layer, key in weights.items():
        if key != f"{layer}.weight":
            kept[key] = replace(kept.get(key, Stored()), layer=layer)
        if layers[layer].bias is not None and biases[layer] != f"{layer}.bias":
            kept[biases[layer]] = replace(kept.get(biases[layer], Stored()), layer=layer, bias=True)
    text = format_stored(kept)
    return {} if text == "{}" else {KEY: text}


def _graph(metadata: Mapping[str, str], source: Path) -> Graph | None:
    try:
        return Graph.from_json(metadata["sparsim.graph"]) if "sparsim.graph" in metadata else None
    except InputError as error:
        raise error.at(source) from None


def _default_name(source: Path) -> str:
    stem = source.name.removesuffix(".index.json").rpartition(".")[0]
    return source.resolve().parent.name if stem == "model" else stem


def _about(arrays: Arrays, metadata: Mapping[str, str], source: Path) -> tuple[Geometry, dict[str, None]]:
    """Return the geometry the file (or the one beside it) gives, and the notes as an ordered set."""
    said = parse_json(metadata.get("sparsim.notes", "[]"), source, "sparsim.notes")
    if not isinstance(said, list):
        raise InputError("is no list", source=source, place="sparsim.notes", remedy='write ["a sentence"]')
    notes = dict.fromkeys(str(note) for note in said)
    if "sparsim.layers" in metadata:
        return parse_geometry(metadata["sparsim.layers"], source), notes
    geometry = adjacent_geometry(source, {key: array.shape for key, array in arrays.items()})
    if geometry:
        notes["stride and padding come from layers.json beside the file"] = None
    return geometry, notes


def _layer_name(key: str, arrays: Arrays, geometry: Geometry) -> str:
    """Drop ``.weight`` and its like, unless the rest is taken."""
    short = key.removesuffix(".weight")
    if short in geometry or key in geometry:
        return short if short in geometry else key
    short = strip_weight(key)
    clash = short in arrays or any(other != key and strip_weight(other) == short for other in arrays)
    return key if not short or clash else short


def _reason_to_skip(key: str, array: npt.NDArray[Any], named: bool) -> str | None:
    if array.ndim < 2:
        return f"{array.ndim}-D: a bias, a scale or a counter, not a product"
    if array.ndim > 5:
        return f"{array.ndim}-D: a weight has 2 to 5 dimensions"
    if array.dtype.kind not in "fiub":
        return f"type {array.dtype}: no real numbers"
    if not array.size:
        return "holds no elements"
    if array.ndim == 2 and is_embedding_name(key):
        return EMBEDDING
    if key.endswith(("_mask", ".mask")):
        return "a mask without a weight of its name and shape"
    if named and not is_weight_name(key):
        return "its name does not end in weight, w or kernel"
    if array.dtype.kind != "f" and not is_weight_name(key):
        return f"type {array.dtype} under a name that does not end in weight, w or kernel"
    return DEPTHWISE_REASON if DEPTHWISE.search(key) and _is_foreign(key, array) else None


def _is_foreign(key: str, array: npt.NDArray[Any]) -> bool:
    return bool(KERNEL.search(key) or (array.ndim == 4 and "Conv2D" in key) or key.endswith("depthwise_kernel"))


def _orient(key: str, array: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], str]:
    """Bring TensorFlow's axis orders to [out, in, kh, kw]."""
    if KERNEL.search(key):
        axes = (array.ndim - 1, array.ndim - 2, *range(array.ndim - 2))
        return np.ascontiguousarray(array.transpose(axes)), KERNEL_NOTE
    if array.ndim == 4 and TFLITE.search(key) and strip_weight(key) == key:
        return np.ascontiguousarray(array.transpose(0, 3, 1, 2)), TFLITE_NOTE
    return array, ""


def _layer(name: str, weight: npt.NDArray[Any] | Csr, entry: Mapping[str, Any], source: Path) -> Layer:
    known = {item.name for item in fields(Layer)}
    geometry = {key: value for key, value in entry.items() if key in known}
    try:
        if "scale" in entry:
            weight = _scaled(name, weight, entry["scale"])
        if not isinstance(weight, Csr):
            weight = numeric(weight, f"layer '{name}'")
            if not 2 <= weight.ndim <= 5 or not weight.size:
                raise InputError(
                    f"the weight of layer '{name}' has shape {weight.shape}",
                    remedy="a weight has 2 to 5 dimensions, none of them 0",
                )
            if not np.isfinite(weight).all():
                at = np.unravel_index(int(np.argmin(np.isfinite(weight))), weight.shape)
                raise InputError(
                    f"the weight at [{', '.join(str(int(i)) for i in at)}] is {weight[at]}",
                    place=f"layer '{name}'",
                    remedy="replace NaN and infinity first",
                )
        return Layer(name, weight, **geometry)
    except InputError as error:
        raise error.at(source) from None


def _scaled(name: str, weight: npt.NDArray[Any] | Csr, scale: float) -> npt.NDArray[Any]:
    if isinstance(weight, Csr) or weight.dtype.kind not in "iu":
        kind = "compressed rows" if isinstance(weight, Csr) else f"type {weight.dtype}"
        raise InputError(
            f"layer '{name}' has a scale, but its weight is of {kind}",
            place="sparsim.layers",
            remedy="a scale belongs to a dense weight stored in integers",
        )
    with np.errstate(over="ignore"):
        return (weight * np.float64(scale)).astype(np.float32)


def _take_csr(arrays: Arrays, geometry: Geometry, source: Path) -> tuple[Arrays, dict[str, Layer]]:
    """Build the layers stored as compressed rows (``<layer>.weight.crow_indices`` …), return the other arrays."""
    rest = dict(arrays)
    layers: dict[str, Layer] = {}
    for name, entry in geometry.items():
        if "csr" not in entry:
            continue
        indptr, indices, values = (rest.pop(f"{name}.weight.{part}", None) for part in CSR_PARTS)
        if indptr is None or indices is None or len(entry["csr"]) != 2:
            raise InputError(
                "lacks its offsets, indices or shape", source=source, place=f"layer '{name}'", remedy="save again"
            )
        try:
            for part in (indptr, indices):
                if part.dtype.kind not in "iu" or part.ndim != 1:
                    raise InputError(f"offsets or indices of type {part.dtype}, {part.ndim}-D", remedy="save again")
            check_claims(entry["csr"][0], entry["csr"][1], 64 * (indptr.nbytes + indices.nbytes))
            matrix = Csr.build(entry["csr"], indptr, indices, None if values is None else numeric(values, "values"))
        except InputError as error:
            raise error.at(source, f"layer '{name}'") from None
        layers[name] = _layer(name, matrix, entry, source)
    return rest, layers


def _check_result(layers: Mapping[str, Layer], skipped: Mapping[str, str], geometry: Geometry, source: Path) -> None:
    for name in geometry:
        if name not in layers:
            raise InputError(
                f"names '{name}', which is no array of this file{nearest(name, layers)}",
                source=source,
                place="sparsim.layers",
            )
    if not layers:
        first = next(iter(skipped.items()), None)
        shown = f"{len(skipped)} arrays, '{first[0]}' ({first[1]}) first" if first else "it is empty"
        raise InputError(
            f"holds no weights: {shown}",
            source=source,
            remedy="a weight is called 'fc.weight', say, and has 2 to 5 dimensions",
        )
