"""numpy's files: ``.npy`` (one dense matrix), ``.npz`` (a scipy sparse matrix, or the arrays of a network).

The archives are opened member by member rather than with ``numpy.load``, which allocates what an array's header claims
before it looks how much data follows. Pickled objects are never loaded.
"""

from __future__ import annotations

import io
import warnings
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from sparsim.errors import InputError
from sparsim.io._files import check_claims, numeric, one_line, read_bytes
from sparsim.io.arrays import network_from_arrays
from sparsim.io.geometry import parse_json
from sparsim.matrix import Csr
from sparsim.network import Network

__all__ = ["read_npy", "read_npz", "read_npz_arrays"]

MAX_DEFLATE_RATIO = 1032
SPARSE_FORMATS = ("bsr", "coo", "csc", "csr", "dia")
Arrays = dict[str, npt.NDArray[Any]]


def read_npy(path: Path) -> Csr:
    """Read a dense matrix and keep its non-zeros."""
    data = read_bytes(path)
    try:
        array = numeric(_read_array(io.BytesIO(data), len(data)), "the array")
        if array.ndim != 2:
            raise InputError(
                f"the array has {array.ndim} dimension(s)",
                remedy="an .npy file holds one matrix (2-D); put the weights of a network into an .npz or .safetensors",
            )
        check_claims(array.shape[0], array.shape[1], len(data))
        return Csr.from_dense(array)
    except InputError as error:
        raise error.at(path) from None


def read_npz(path: Path, name: str | None = None) -> Csr | Network:
    """Read a scipy sparse matrix, or the named arrays of a network.

    Raises
    ------
    InputError
        If the archive is broken, holds pickled objects, or none of its arrays is a weight.
    """
    data = read_bytes(path)
    arrays = _read_archive(path, data)
    if {"format", "shape"} <= arrays.keys():
        try:
            return _sparse(arrays, len(data))
        except InputError as error:
            raise error.at(path) from None
    texts = {key: _text(path, key, arrays.pop(key)) for key in sorted(arrays) if key.startswith("sparsim.")}
    about = parse_json(texts.pop("sparsim.metadata", "{}"), path, "sparsim.metadata")
    if not isinstance(about, dict):
        raise InputError("is no object", source=path, place="sparsim.metadata", remedy='write {"key": "text"}')
    metadata = {str(key): str(value) for key, value in about.items()} | texts
    return network_from_arrays(arrays, source=path, name=name, metadata=metadata)


def read_npz_arrays(path: Path) -> Arrays:
    """Read the arrays of an archive under their names, sparsim's own texts left out."""
    arrays = _read_archive(path, read_bytes(path))
    return {key: array for key, array in arrays.items() if not key.startswith("sparsim.")}


def _text(path: Path, key: str, array: npt.NDArray[Any]) -> str:
    if array.ndim != 0 or array.dtype.kind not in "US":
        raise InputError(
            f"is an array of shape {array.shape}", source=path, place=f"'{key}'", remedy="it must be one string (0-D)"
        )
    return str(array.astype(str))


def _read_archive(path: Path, data: bytes) -> Arrays:
    arrays: Arrays = {}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for member in archive.infolist():
                key = member.filename.removesuffix(".npy")
                if key in arrays:
                    raise InputError(f"the array '{key}' stands twice", source=path, remedy="save the archive again")
                if member.compress_size > len(data) or member.file_size > MAX_DEFLATE_RATIO * (
                    member.compress_size + 1
                ):
                    raise InputError(
                        f"the array '{key}' claims {member.file_size} bytes",
                        source=path,
                        remedy="save the archive again",
                    )
                with archive.open(member) as stream:
                    try:
                        arrays[key] = _read_array(stream, member.file_size)
                    except InputError as error:
                        raise error.at(path, f"array '{key}'") from None
    except InputError:
        raise
    except Exception as error:  # zipfile raises a dozen unrelated types on broken archives
        raise InputError(
            f"is no readable .npz archive ({one_line(error)})", source=path, remedy="save it again with numpy.savez"
        ) from None
    return arrays


def _read_array(stream: IO[bytes], size: int) -> npt.NDArray[Any]:
    shape, fortran, dtype = _array_header(stream)
    if dtype.hasobject or dtype.fields is not None:
        raise InputError(
            f"holds Python objects or records ({dtype})", remedy="pickles are never loaded; save plain numeric arrays"
        )
    count = int(np.prod(shape, dtype=object)) if shape else 1
    body = stream.read()
    if min(shape, default=0) < 0 or count * dtype.itemsize != len(body) or not 0 <= len(body) <= size:
        raise InputError(
            f"its header claims shape {shape} of {dtype}, {len(body)} bytes follow", remedy="the file is truncated"
        )
    if not dtype.itemsize:
        return np.zeros((), dtype=dtype) if shape == () else np.empty(0)
    array = np.frombuffer(bytearray(body), dtype=dtype)
    return array.reshape(shape, order="F" if fortran else "C")


def _array_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    readers: dict[tuple[int, int], Any] = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    try:
        version = np.lib.format.read_magic(stream)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            shape, fortran, dtype = readers[version](stream)
    except Exception as error:  # the header is a Python literal: any of its errors may surface
        raise InputError(
            f"is no numpy array ({one_line(error)[:120]})", remedy="save it again with numpy.save or numpy.savez"
        ) from None
    return tuple(int(extent) for extent in shape), bool(fortran), dtype


def _sparse(arrays: Arrays, size: int) -> Csr:
    word = arrays["format"]
    kind = str(word.astype(str)) if word.ndim == 0 and word.dtype.kind in "US" else "?"
    if kind not in SPARSE_FORMATS:
        raise InputError(f"sparse format '{kind}'", remedy=f"known: {', '.join(SPARSE_FORMATS)}")
    needed = {"coo": ("row", "col", "data"), "dia": ("offsets", "data")}.get(kind, ("indptr", "indices", "data"))
    for key in ("shape", *needed):
        if key not in arrays:
            raise InputError(f"the {kind} matrix lacks its array '{key}'", remedy="save it again with scipy")
        numeric(arrays[key], f"'{key}'")
        if key != "data" and arrays[key].dtype.kind not in "iu":
            raise InputError(f"'{key}' is of type {arrays[key].dtype}", remedy="whole numbers are needed")
        if arrays[key].ndim != (3 if (kind, key) == ("bsr", "data") else 2 if (kind, key) == ("dia", "data") else 1):
            raise InputError(f"'{key}' has {arrays[key].ndim} dimension(s)", remedy="save it again with scipy")
    shape = tuple(int(extent) for extent in arrays["shape"])
    if len(shape) != 2:
        raise InputError(f"a sparse array of shape {shape} is no matrix", remedy="save a matrix of 2 dimensions")
    check_claims(shape[0], shape[1], MAX_DEFLATE_RATIO * size, "'shape'")
    data = numeric(arrays["data"], "'data'")
    if kind == "csr":
        return Csr.build(shape, arrays["indptr"], arrays["indices"], data)
    if kind == "csc":
        return Csr.build(shape[::-1], arrays["indptr"], arrays["indices"], data).transpose()
    if kind == "coo":
        row, col = arrays["row"], arrays["col"]
        if not row.size == col.size == data.size:
            raise InputError(f"{row.size} rows, {col.size} columns and {data.size} values", remedy="save it again")
        return Csr.from_coo(shape, row, col, data)
    return _bsr(shape, arrays, data) if kind == "bsr" else _dia(shape, arrays["offsets"], data)


def _bsr(shape: tuple[int, int], arrays: Arrays, data: npt.NDArray[Any]) -> Csr:
    height, width = data.shape[1:]
    if not height or not width or shape[0] % height or shape[1] % width:
        raise InputError(f"blocks of {height} x {width} do not tile {shape[0]} x {shape[1]}", remedy="save it again")
    grid = Csr.build((shape[0] // height, shape[1] // width), arrays["indptr"], arrays["indices"])
    if grid.nnz != data.shape[0]:
        raise InputError(f"{data.shape[0]} blocks of values for {grid.nnz} block indices", remedy="save it again")
    block_row = np.repeat(np.arange(grid.shape[0], dtype=np.int64), grid.row_lengths)
    row = block_row[:, None, None] * height + np.arange(height)[None, :, None]
    col = grid.indices.astype(np.int64)[:, None, None] * width + np.arange(width)[None, None, :]
    row, col = np.broadcast_arrays(row, col)
    return Csr.from_coo(shape, row.ravel(), col.ravel(), data.ravel())


def _dia(shape: tuple[int, int], offsets: npt.NDArray[Any], data: npt.NDArray[Any]) -> Csr:
    if offsets.size != data.shape[0] or np.unique(offsets).size != offsets.size:
        raise InputError(
            f"{offsets.size} diagonal offsets for {data.shape[0]} diagonals", remedy="save it again with scipy"
        )
    col = np.arange(data.shape[1], dtype=np.int64)[None, :]
    row = col - offsets.astype(np.int64)[:, None]
    col = np.broadcast_to(col, row.shape)
    kept = (row >= 0) & (row < shape[0]) & (col < shape[1]) & (data != 0)
    return Csr.from_coo(shape, row[kept], col[kept], data[kept])
