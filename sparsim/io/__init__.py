"""Read matrices and networks from files, by suffix and content.

=============================  ============================================================
``.mtx``, ``.mtx.gz``          Matrix Market: a matrix
``.smtx``, a folder of them    DLMC: a pattern; a network of patterns
``.npy``                       a dense matrix
``.npz``                       a scipy sparse matrix, or the named arrays of a network
``.safetensors``, its index    a network, in one file or in shards
``.pt .pth .th .bin``          a network: PyTorch's state dict (needs the extra ``torch``)
``.onnx``                      a network and its graph (needs the extra ``onnx``)
``.csv``                       a network of shapes without weights: a topology of SCALE-Sim
a Hugging Face folder          a network: ``config.json`` and one of the two kinds of weights
=============================  ============================================================

Every failure is one :class:`~sparsim.errors.InputError` that names file, place, problem and remedy.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import numpy.typing as npt

from sparsim.errors import InputError
from sparsim.io._files import find_file, numeric, one_line
from sparsim.io.matrix_market import read_matrix_market
from sparsim.io.npz import read_npy, read_npz, read_npz_arrays
from sparsim.io.onnx import read_onnx
from sparsim.io.safetensors import read_safetensors, read_safetensors_arrays, read_safetensors_index
from sparsim.io.save import save_network
from sparsim.io.scalesim import read_scalesim
from sparsim.io.smtx import read_smtx, read_smtx_folder
from sparsim.io.torch import SUFFIXES as TORCH
from sparsim.io.torch import read_torch, read_torch_arrays, read_torch_index
from sparsim.matrix import Csr
from sparsim.network import Network

__all__ = ["load", "load_arrays", "save_network"]

INDEX, TORCH_INDEX = ".safetensors.index.json", ".bin.index.json"
ACCEPTED = f".mtx, .mtx.gz, .npy, .npz, .onnx, .safetensors, {INDEX}, .smtx, {', '.join(TORCH)}, {TORCH_INDEX}, .csv"
FOLDERS = "a folder of .smtx files, or one with model.safetensors or pytorch_model.bin or their index"
FOREIGN = {
    ".tflite": "export it to .onnx (python -m tf2onnx.convert --tflite FILE --output FILE.onnx)",
    ".caffemodel": "convert it to .onnx or .npz with the library that wrote it",
    ".h5": "save the weights as .npz or export the model to .onnx (tf2onnx)",
    ".keras": "save the weights as .npz or export the model to .onnx (tf2onnx)",
    ".pb": "export the model to .onnx (tf2onnx)",
    ".gguf": "use the .safetensors it was made from",
    ".ckpt": "if it is PyTorch's, rename it to .pt; else export the weights to .npz",
}


def load(path: str | PathLike[str], *, name: str | None = None) -> Csr | Network:
    """Read a sparse matrix or a network.

    Parameters
    ----------
    path : a file (``.mtx[.gz]``, ``.smtx``, ``.npy``, ``.npz``, ``.safetensors``, ``.pt .pth .th .bin``, ``.onnx``,
        ``.csv``, or the index of a checkpoint in shards), a folder of ``.smtx`` files, or a folder with a checkpoint.
    name : of the network; by default what the file says, else the file's own name.

    Returns
    -------
    A :class:`~sparsim.matrix.Csr` for a matrix, a :class:`~sparsim.network.Network` for a file or folder of weights.

    Raises
    ------
    InputError
        If the file is missing, of an unknown kind, damaged, or holds nothing that can be simulated.
    MissingExtra
        If the library that reads it, torch or onnx, is not installed.
    """
    file = find_file(Path(path))
    with _one_error(file):
        return _read_folder(file, name) if file.is_dir() else _read_file(file, name)


def load_arrays(path: str | PathLike[str]) -> dict[str, npt.NDArray[Any]]:
    """Read named arrays as they are, such as the scores of weights by layer.

    Parameters
    ----------
    path : an ``.npz``, ``.safetensors``, ``.pt``, ``.pth``, ``.th`` or ``.bin`` file.

    Raises
    ------
    InputError
        If the file is missing, of another kind, damaged, or an array holds no real numbers.
    MissingExtra
        If torch is needed and not installed.
    """
    file = find_file(Path(path))
    suffix = file.suffix.lower()
    kinds = {".npz": read_npz_arrays, ".safetensors": read_safetensors_arrays} | dict.fromkeys(TORCH, read_torch_arrays)
    if suffix not in kinds:
        raise InputError(f"unknown suffix '{suffix}'", source=file, remedy=f"arrays by name are in {', '.join(kinds)}")
    with _one_error(file):
        return {key: numeric(array, f"'{key}'") for key, array in kinds[suffix](file).items()}


@contextmanager
def _one_error(file: Path) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        raise _printable(error, file) from None
    except OSError as error:
        raise InputError(f"cannot be read ({one_line(error)})", source=file, remedy="check its rights") from None
    except MemoryError:
        raise InputError("does not fit into memory", source=file, remedy="give a part of it") from None


def _printable(error: InputError, file: Path) -> InputError:
    """Name the file where that was not done, and keep a damaged file's control characters out of the one line."""
    problem, place, remedy = (
        "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
        for text in (error.problem, error.place, error.remedy)
    )
    return InputError(problem, source=error.source or file, place=place, remedy=remedy)


def _read_file(file: Path, name: str | None) -> Csr | Network:
    lower = file.name.lower()
    if lower.endswith((".mtx", ".mtx.gz")):
        return read_matrix_market(file)
    if lower.endswith(".smtx"):
        return read_smtx(file)
    if lower.endswith(".csv"):
        return read_scalesim(file, name)
    if lower.endswith(".npy"):
        return read_npy(file)
    if lower.endswith(".npz"):
        return read_npz(file, name)
    if lower.endswith(".safetensors"):
        return read_safetensors(file, name)
    if lower.endswith(INDEX):
        return read_safetensors_index(file, name)
    if lower.endswith(".onnx"):
        return read_onnx(file, name)
    if lower.endswith(TORCH_INDEX):
        return read_torch_index(file, name)
    if lower.endswith(TORCH):
        return read_torch(file, name)
    if file.suffix.lower() in FOREIGN:
        raise InputError(f"{file.suffix} files are not read", source=file, remedy=FOREIGN[file.suffix.lower()])
    raise InputError(f"unknown suffix '{file.suffix}'", source=file, remedy=f"known: {ACCEPTED}")


def _read_folder(folder: Path, name: str | None) -> Network:
    items = sorted(item for item in folder.iterdir() if item.is_file())
    indices = [item for item in items if item.name.endswith(INDEX)]
    tensors = [item for item in items if item.suffix.lower() == ".safetensors"]
    patterns = [item for item in items if item.suffix.lower() == ".smtx"]
    if len(indices) == 1:
        return read_safetensors_index(indices[0], name)
    whole = [item for item in tensors if item.name == "model.safetensors"] or tensors
    if not indices and len(whole) == 1:
        return read_safetensors(whole[0], name)
    if not indices and not tensors:
        for file, read in (("pytorch_model.bin.index.json", read_torch_index), ("pytorch_model.bin", read_torch)):
            if folder / file in items:
                return read(folder / file, name)
        if patterns:
            return read_smtx_folder(folder, patterns, name)
    found = "several safetensors files without an index" if len(tensors) > 1 else "nothing to read as one network"
    raise InputError(f"the folder holds {found}", source=folder, remedy=f"give a file ({ACCEPTED}) or {FOLDERS}")
