"""The ``.smtx`` files of the Deep Learning Matrix Collection: positions of pruned weights, no values.

Three lines of text: ``rows, columns, non-zeros``; rows + 1 offsets; column indices from 0, ascending in each row. A
convolution is stored as the matrix ``[out, in * kh * kw]``. A folder of such files is one network.

References
----------
.. [1] T. Gale, M. Zaharia, C. Young, E. Elsen, "Sparse GPU Kernels for Deep Learning", SC 2020, arXiv:2006.10901.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sparsim.errors import InputError
from sparsim.io._files import check_claims, one_line, read_bytes
from sparsim.matrix import Csr
from sparsim.network import Layer, Network

__all__ = ["read_batch_sizes", "read_smtx", "read_smtx_folder"]

TRUNCATED = "the file is truncated or the header lies"
PARENTS_SEARCHED = 4


def read_smtx(path: Path) -> Csr:
    """Read the positions of one pruned weight matrix.

    Raises
    ------
    InputError
        If the three lines do not agree with one another.
    """
    data = read_bytes(path)
    try:
        return _parse(data)
    except InputError as error:
        raise error.at(path) from None


def _parse(data: bytes) -> Csr:
    lines = data.split(b"\n")
    header = lines[0].decode("latin-1")
    found = re.fullmatch(r"\s*(\d{1,18})\s*,\s*(\d{1,18})\s*,\s*(\d{1,18})\s*", header)
    if not found:
        raise InputError(
            f"{header.strip()[:40]!r} is no .smtx header", place="line 1", remedy="it must say 'rows, columns, nnz'"
        )
    rows, cols, nnz = (int(word) for word in found.groups())
    check_claims(rows, cols, len(data), "line 1")
    if nnz > rows * cols:
        raise InputError(f"{nnz} non-zeros do not fit into {rows} x {cols}", place="line 1", remedy="check the header")
    if any(line.strip() for line in lines[3:]):
        raise InputError("more than three lines", place="line 4", remedy="an .smtx file holds one matrix, no values")
    offsets = _numbers(lines, 2, rows + 1, "row offsets", f"{rows} rows need {rows + 1}")
    descent = np.flatnonzero(np.diff(offsets) < 0)
    if descent.size:
        raise InputError(f"the offset of row {int(descent[0]) + 1} is below the one before", place="line 2")
    if offsets[0] != 0 or offsets[-1] != nnz:
        raise InputError(
            f"the row offsets run from {int(offsets[0])} to {int(offsets[-1])}, not from 0 to {nnz}",
            place="line 2",
            remedy=TRUNCATED,
        )
    columns = _numbers(lines, 3, nnz, "column indices", f"the header says {nnz}")
    beyond = np.flatnonzero(columns >= cols)
    if beyond.size:
        at = int(beyond[0])
        row = int(np.searchsorted(offsets, at, side="right")) - 1
        raise InputError(
            f"column index {int(columns[at])} of row {row} is out of range",
            place="line 3",
            remedy=f"indices run from 0 to {cols - 1}",
        )
    try:
        return Csr.build((rows, cols), offsets, columns)
    except InputError as error:
        raise InputError(error.problem, place="line 3", remedy=error.remedy) from None


def _numbers(lines: list[bytes], number: int, wanted: int, what: str, reason: str) -> npt.NDArray[np.int64]:
    line = lines[number - 1] if len(lines) >= number else b""
    strange = line.translate(None, b"0123456789 \t\r")
    if strange:
        raise InputError(
            f"{strange[:1].decode('latin-1')!r} among the {what}", place=f"line {number}", remedy="digits belong here"
        )
    numbers: npt.NDArray[np.int64] = (
        np.fromstring(line, dtype=np.int64, sep=" ") if line.strip() else np.empty(0, dtype=np.int64)
    )
    if numbers.size != wanted:
        raise InputError(f"{numbers.size} {what}, but {reason}", place=f"line {number}", remedy=TRUNCATED)
    return numbers


def read_smtx_folder(folder: Path, files: list[Path], name: str | None = None) -> Network:
    """Read a folder of ``.smtx`` files as a network, one layer each, sorted by name.

    A file ``*batchsizes.txt`` in the folder, or up to four folders above, gives the output positions per sample.
    """
    table = _find_batch_sizes(folder)
    positions = read_batch_sizes(table) if table else {}
    layers = tuple(
        Layer(path.stem, read_smtx(path), positions=positions.get(path.stem))
        for path in sorted(files, key=lambda item: item.name)
    )
    missing = [layer.name for layer in layers if layer.positions is None]
    notes: tuple[str, ...] = ()
    if table and len(missing) < len(layers):
        notes = (f"output positions per sample come from {table.name}",)
        if missing:
            notes += (f"{table.name} gives no positions for {len(missing)} layer(s), {missing[0]} first: 1 is taken",)
    return Network(name or _folder_name(folder), layers, notes=notes)


def _folder_name(folder: Path) -> str:
    """Return a name that says something: a folder called 0.9 needs its parents."""
    parts = folder.resolve().parts
    return "/".join(parts[-3:]) if re.fullmatch(r"[\d.]+", parts[-1]) else parts[-1]


def _find_batch_sizes(folder: Path) -> Path | None:
    here = folder.resolve()
    for place in (here, *here.parents[:PARENTS_SEARCHED]):
        found = sorted(place.glob("*batchsizes.txt"))
        if found:
            return found[0]
    return None


def read_batch_sizes(path: Path) -> dict[str, int]:
    """Read rows ``layer name,positions``."""
    sizes: dict[str, int] = {}
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read ({one_line(error)})", source=path, remedy="it is a text file") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        found: Any = re.fullmatch(r"\s*([^,]+?)\s*,\s*(\d{1,12})\s*", line)
        if not found or int(found[2]) < 1:
            raise InputError(
                f"{line.strip()[:40]!r} is no row",
                source=path,
                place=f"line {number}",
                remedy="it must say 'layer,count'",
            )
        sizes[found[1].removesuffix(".smtx")] = int(found[2])
    return sizes
