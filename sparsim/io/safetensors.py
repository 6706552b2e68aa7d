"""Checkpoints in the safetensors format: one file, or shards with ``*.safetensors.index.json``.

The library checks the header; the bytes are taken here, because numpy has no bfloat16 and no 8-bit floats. Those become
float32, which holds all of them exactly.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sparsim.errors import InputError
from sparsim.io._files import one_line
from sparsim.io.arrays import network_from_arrays
from sparsim.io.geometry import parse_json
from sparsim.network import Network

__all__ = ["read_safetensors", "read_safetensors_index"]

Arrays = dict[str, npt.NDArray[Any]]
TYPES = {
    "BOOL": "?", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "U32": "<u4", "I32": "<i4", "U64": "<u8",
    "I64": "<i8", "F16": "<f2", "F32": "<f4", "F64": "<f8", "BF16": "<u2", "F8_E5M2": "u1", "F8_E4M3": "u1",
}  # fmt: skip


def read_safetensors(path: Path, name: str | None = None) -> Network:
    """Read the weights of one file.

    Raises
    ------
    InputError
        If header and data disagree, or no tensor is a weight.
    """
    arrays, metadata = _read_file(path)
    return _network(arrays, metadata, path, name)


def read_safetensors_index(path: Path, name: str | None = None) -> Network:
    """Read a sharded checkpoint through its index, ``{"weight_map": {tensor: file}}``.

    Raises
    ------
    InputError
        If a shard is missing or lacks a tensor the index promises.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read ({one_line(error)})", source=path, remedy="it is a text file") from None
    index = parse_json(text, path, "")
    weight_map = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(weight_map, dict) or not weight_map or not all(isinstance(v, str) for v in weight_map.values()):
        raise InputError("has no 'weight_map'", source=path, remedy='it must hold {"weight_map": {"tensor": "file"}}')
    arrays: Arrays = {}
    metadata: dict[str, str] = {}
    for shard in sorted(set(weight_map.values())):
        if Path(shard).name != shard or not (path.parent / shard).is_file():
            raise InputError(f"the shard '{shard}' is not in this folder", source=path, remedy="fetch all shards")
        part, about = _read_file(path.parent / shard)
        arrays |= part
        metadata |= about
    for tensor, shard in weight_map.items():
        if tensor not in arrays:
            raise InputError(f"'{tensor}' is not in '{shard}'", source=path, remedy="fetch the shard again")
    return _network(arrays, metadata, path, name)


def _network(arrays: Arrays, metadata: Mapping[str, str], path: Path, name: str | None) -> Network:
    # The format sorts tensors by type and name, so the order of the network is lost; counting order comes nearest.
    ordered = {key: arrays[key] for key in sorted(arrays, key=_natural)}
    return network_from_arrays(ordered, source=path, name=name, metadata=metadata)


def _natural(key: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", key)]


def _read_file(path: Path) -> tuple[Arrays, dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        if not path.stat().st_size:
            raise InputError("the file is empty", source=path, remedy="export or download it again")
        with safe_open(path, framework="numpy") as opened:
            metadata = dict(opened.metadata() or {})
    except (SafetensorError, OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"is no valid safetensors file ({one_line(error)})"[:300], source=path, remedy="export or download it again"
        ) from None
    arrays: Arrays = {}
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(length))
        header.pop("__metadata__", None)
        for tensor, entry in header.items():
            if entry["dtype"] not in TYPES:
                raise InputError(
                    f"'{tensor}' is of type {entry['dtype']}", source=path, remedy=f"known: {', '.join(sorted(TYPES))}"
                )
            start, stop = entry["data_offsets"]
            stream.seek(8 + length + start)
            raw = np.fromfile(stream, dtype=np.uint8, count=stop - start)
            arrays[tensor] = _decode(raw, entry["dtype"]).reshape(entry["shape"])
    return arrays, metadata


def _decode(raw: npt.NDArray[np.uint8], kind: str) -> npt.NDArray[Any]:
    stored: npt.NDArray[Any] = raw.view(TYPES[kind])
    if kind == "BF16":
        return (stored.astype(np.uint32) << 16).view(np.float32)
    if kind == "F8_E5M2":
        return (stored.astype(np.uint16) << 8).view(np.float16).astype(np.float32)
    return _e4m3_table()[stored] if kind == "F8_E4M3" else stored


def _e4m3_table() -> npt.NDArray[np.float32]:
    """All 256 values of the 8-bit float with 4 exponent bits (bias 7) and no infinity."""
    code = np.arange(256)
    exponent, mantissa = (code >> 3) & 15, code & 7
    size = np.where(exponent > 0, np.ldexp(1 + mantissa / 8, exponent - 7), np.ldexp(mantissa / 8, -6))
    size[(code & 127) == 127] = np.nan
    return np.where(code & 128, -size, size).astype(np.float32)
