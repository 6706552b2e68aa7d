"""What a bare weight does not say: stride, padding, groups, input size and scale of each layer, as JSON beside it.

A ``.safetensors`` file carries it under the metadata key ``sparsim.layers``, an ``.npz`` archive as a 0-D string array
of that name::

    {"conv1": {"stride": [2, 2], "padding": [3, 3], "dilation": [1, 1], "groups": 1, "input_size": [224, 224],
               "activation_density": 0.6, "scale": 0.0021}}

Keys may be left out; ``input_order`` is the permutation of the input channels in which a pattern holds. A dense weight
stored in integers is multiplied by its ``scale``. Without this metadata, a file ``layers.json`` in the same folder is
read: a list of ``{"layer", "shape", "stride", "pad"}``, as the decoded networks of Deep Compression have.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sparsim.errors import InputError, nearest
from sparsim.io._files import one_line
from sparsim.network import Layer

__all__ = ["SCALES", "Geometry", "adjacent_geometry", "describe", "parse_geometry", "parse_json"]

Geometry = dict[str, dict[str, Any]]
LOWEST = {"stride": 1, "padding": 0, "dilation": 1, "input_size": 1}
KEYS = (*LOWEST, "groups", "positions", "activation_density", "input_order", "csr", "scale")
SCALES = (float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max))


def parse_json(text: str, source: Path, place: str) -> Any:
    """Parse JSON that stands in a file at ``place``."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"is no JSON ({one_line(error)})", source=source, place=place, remedy="correct it") from None


def parse_geometry(text: str, source: Path) -> Geometry:
    """Read and check the value of ``sparsim.layers``."""
    entries = parse_json(text, source, "sparsim.layers")
    if not isinstance(entries, dict):
        raise InputError("is no object", source=source, place="sparsim.layers", remedy='write {"layer": {"stride": …}}')
    return {str(layer): _entry(values, source, f"sparsim.layers, layer '{layer}'") for layer, values in entries.items()}


def _entry(values: Any, source: Path, place: str) -> dict[str, Any]:
    if not isinstance(values, dict):
        raise InputError("is no object", source=source, place=place, remedy=f"known: {', '.join(KEYS)}")
    entry: dict[str, Any] = {}
    for key, value in values.items():
        if key not in KEYS:
            raise InputError(f"unknown key '{key}'", source=source, place=place, remedy=nearest(key, KEYS).lstrip("; "))
        entry[key] = _value(key, value, source, place)
    return entry


def _value(key: str, value: Any, source: Path, place: str) -> Any:
    def whole(number: Any, lowest: int) -> bool:
        return isinstance(number, int) and not isinstance(number, bool) and lowest <= number < 2**31

    if key in LOWEST or key in ("csr", "input_order"):
        lowest = LOWEST.get(key, 0)
        if isinstance(value, list) and all(whole(item, lowest) for item in value):
            return np.array(value, dtype=np.int64) if key == "input_order" else tuple(value)
        wanted = f"a list of whole numbers from {lowest}"
    elif key == "activation_density":
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1:
            return float(value)
        wanted = "a number from 0 to 1"
    elif key == "scale":
        if isinstance(value, int | float) and not isinstance(value, bool) and SCALES[0] <= value <= SCALES[1]:
            return float(value)
        wanted = "a positive number that a float32 can hold"
    else:
        if whole(value, 1):
            return value
        wanted = "a whole number from 1"
    raise InputError(f"{key} is {json.dumps(value)[:40]}", source=source, place=place, remedy=f"it must be {wanted}")


def describe(layer: Layer) -> dict[str, Any]:
    """Return the entry of ``sparsim.layers`` that :func:`parse_geometry` turns back into this layer's geometry."""
    entry: dict[str, Any] = {key: list(getattr(layer, key)) for key in LOWEST if getattr(layer, key)}
    if layer.groups != 1:
        entry["groups"] = layer.groups
    if layer.positions is not None:
        entry["positions"] = layer.positions
    if layer.activation_density != 1.0:
        entry["activation_density"] = layer.activation_density
    if layer.input_order is not None:
        entry["input_order"] = layer.input_order.tolist()
    return entry


def adjacent_geometry(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> Geometry:
    """Read ``layers.json`` beside ``path``, for the layers whose name and shape it gives; {} if there is none.

    The file may belong to another network of the folder, so what does not match is left alone.
    """
    source = path.parent / "layers.json"
    if not source.is_file():
        return {}
    try:
        entries = parse_json(source.read_text("utf-8"), source, "")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read ({one_line(error)})", source=source, remedy="remove or correct it") from None
    geometry: Geometry = {}
    for values in entries if isinstance(entries, list) else []:
        if not isinstance(values, dict) or not isinstance(values.get("layer"), str):
            continue
        for layer in (values["layer"], values["layer"].replace("/", "__")):
            shape = shapes.get(f"{layer}.weight", shapes.get(layer))
            if shape is not None and list(shape) == values.get("shape"):
                geometry[layer] = _matching(values, len(shape) - 2, source, layer)
    return geometry


def _matching(values: dict[str, Any], axes: int, source: Path, layer: str) -> dict[str, Any]:
    entry: dict[str, Any] = {}
    for theirs, ours in (("stride", "stride"), ("pad", "padding"), ("padding", "padding"), ("dilation", "dilation")):
        if theirs in values and axes:
            value = values[theirs] if isinstance(values[theirs], list) else [values[theirs]] * axes
            entry[ours] = _value(ours, value, source, f"layer '{layer}'")
    for key in ("groups", "input_size"):
        if key in values:
            entry[key] = _value(key, values[key], source, f"layer '{layer}'")
    return entry
