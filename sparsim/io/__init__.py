"""Read matrices and networks from files, by suffix and content.

=============================  ============================================================
``.mtx``, ``.mtx.gz``          Matrix Market: a matrix
``.smtx``, a folder of them    DLMC: a pattern; a network of patterns
``.npy``                       a dense matrix
``.npz``                       a scipy sparse matrix, or the named arrays of a network
``.safetensors``, its index    a network, in one file or in shards
=============================  ============================================================

Every failure is one :class:`~sparsim.errors.InputError` that names file, place, problem and remedy.
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from sparsim.errors import InputError
from sparsim.io._files import find_file, one_line
from sparsim.io.matrix_market import read_matrix_market
from sparsim.io.npz import read_npy, read_npz
from sparsim.io.safetensors import read_safetensors, read_safetensors_index
from sparsim.io.save import save_network
from sparsim.io.smtx import read_smtx, read_smtx_folder
from sparsim.matrix import Csr
from sparsim.network import Network

__all__ = ["load", "save_network"]

INDEX = ".safetensors.index.json"
ACCEPTED = ".mtx, .mtx.gz, .npy, .npz, .safetensors, .safetensors.index.json, .smtx"
FOLDERS = "a folder of .smtx files, or one with model.safetensors or model.safetensors.index.json"
LATER = (".onnx", ".pt", ".pth", ".th")


def load(path: str | PathLike[str], *, name: str | None = None) -> Csr | Network:
    """Read a sparse matrix or a network.

    Parameters
    ----------
    path : a file (``.mtx[.gz]``, ``.smtx``, ``.npy``, ``.npz``, ``.safetensors`` or its index), a folder of ``.smtx``
        files, or a folder with a safetensors checkpoint.
    name : of the network; by default what the file says, else the file's own name.

    Returns
    -------
    A :class:`~sparsim.matrix.Csr` for a matrix, a :class:`~sparsim.network.Network` for a file or folder of weights.

    Raises
    ------
    InputError
        If the file is missing, of an unknown kind, damaged, or holds nothing that can be simulated.
    """
    file = find_file(Path(path))
    try:
        return _read_folder(file, name) if file.is_dir() else _read_file(file, name)
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
    if lower.endswith(".npy"):
        return read_npy(file)
    if lower.endswith(".npz"):
        return read_npz(file, name)
    if lower.endswith(".safetensors"):
        return read_safetensors(file, name)
    if lower.endswith(INDEX):
        return read_safetensors_index(file, name)
    if lower.endswith(LATER):
        raise InputError(
            f"{file.suffix} files are not read yet", source=file, remedy="export the weights to .safetensors or .npz"
        )
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
    if not indices and not tensors and patterns:
        return read_smtx_folder(folder, patterns, name)
    found = "several safetensors files without an index" if len(tensors) > 1 else "nothing to read as one network"
    raise InputError(f"the folder holds {found}", source=folder, remedy=f"give a file ({ACCEPTED}) or {FOLDERS}")
