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
from sparsim.io.huggingface import checkpoint, read_weight_map
from sparsim.io.stored import Stored
from sparsim.network import Network

__all__ = ["read_safetensors", "read_safetensors_arrays", "read_safetensors_index", "write_safetensors"]

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
    arrays, stored, metadata = _read_file(path)
    return checkpoint(_ordered(arrays), path, name, metadata=metadata, stored=stored)


def read_safetensors_arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Read the arrays of one file under their names."""
    return _read_file(path)[0]


def read_safetensors_index(path: Path, name: str | None = None) -> Network:
    """Read a sharded checkpoint through its index, ``{"weight_map": {tensor: file}}``.

    Raises
    ------
    InputError
        If a shard is missing or lacks a tensor the index promises.
    """
    stored: dict[str, Stored] = {}
    metadata: dict[str, str] = {}

    def read(shard: Path) -> Arrays:
        part, types, about = _read_file(shard)
        stored.update(types)
        metadata.update(about)
        return part

    arrays = read_weight_map(path, read)
    return checkpoint(_ordered(arrays), path, name, metadata=metadata, stored=stored)


def write_safetensors(path: Path, arrays: Arrays, types: Mapping[str, str], metadata: Mapping[str, str]) -> None:
    """Write one file; the libraries' own writers know no bfloat16 without torch.

    Parameters
    ----------
    path : of the file.
    arrays : every array under its name.
    types : "BF16" for the float32 arrays of which the upper halves are to be stored.
    metadata : strings.

    Raises
    ------
    InputError
        If an array is of a type the format does not have.
    """
    names = {np.dtype(code): name for name, code in TYPES.items() if not name.startswith(("BF", "F8"))}
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    blocks: list[npt.NDArray[Any]] = []
    place = 0
    for key, array in arrays.items():
        block = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
        kind = types.get(key) or names.get(block.dtype)
        if kind is None:
            raise InputError(f"'{key}' is of type {array.dtype}", source=path, remedy="name the file .npz")
        if kind == "BF16":
            block = (block.view("<u4") >> 16).astype("<u2")
        header[key] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [place, place + block.nbytes]}
        place += block.nbytes
        blocks.append(block)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for block in blocks:
            stream.write(block.tobytes())


def _ordered(arrays: Arrays) -> Arrays:
    # The format sorts tensors by type and name, so the order of the network is lost; counting order comes nearest.
    return {key: arrays[key] for key in sorted(arrays, key=_natural)}


def _natural(key: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", key)]


def _read_file(path: Path) -> tuple[Arrays, dict[str, Stored], dict[str, str]]:
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
    stored: dict[str, Stored] = {}
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
            if entry["dtype"] == "BF16":
                stored[tensor] = Stored(type="BF16")
    return arrays, stored, metadata


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
