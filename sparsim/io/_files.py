"""What every reader does first: open the file, and disbelieve its header.

A header is a claim. Nothing is allocated from one before the size of the file has been found large enough to hold what
it promises.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sparsim.errors import InputError

__all__ = ["check_claims", "find_file", "numeric", "one_line", "read_bytes"]

ALWAYS_ALLOWED = 2**24
GZIP_MAGIC = b"\x1f\x8b"


def one_line(error: BaseException) -> str:
    """Return a library's message folded into one line."""
    return " ".join(str(error).split()) or type(error).__name__


def find_file(path: Path) -> Path:
    """Return ``path`` if it exists; else name the nearest file of its folder."""
    try:
        if path.is_file() or path.is_dir():
            return path
        if path.is_symlink():
            raise InputError("is a broken or circular link", source=path, remedy="check what it points to")
        if path.exists():
            raise InputError("is no regular file", source=path, remedy="give a file or a folder")
        names = [item.name for item in path.parent.iterdir()] if path.parent.is_dir() else []
    except InputError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(f"cannot be looked at ({one_line(error)})", source=path, remedy="check the path") from None
    close = difflib.get_close_matches(path.name, names, n=1, cutoff=0.6)
    remedy = f"did you mean '{close[0]}'?" if close else "check the path"
    raise InputError("no such file or folder", source=path, remedy=remedy)


def read_bytes(path: Path) -> bytes:
    """Return the whole file, unpacked if its name ends in ``.gz``.

    Raises
    ------
    InputError
        If the file is empty, cannot be read, or is not what its suffix says.
    """
    import gzip
    import zlib

    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot be read ({one_line(error)})", source=path, remedy="check its rights") from None
    if not data:
        raise InputError("the file is empty", source=path, remedy="export or download it again")
    packed = data.startswith(GZIP_MAGIC)
    if path.suffix.lower() != ".gz":
        if packed:
            raise InputError(
                "is compressed with gzip, but its name does not say so",
                source=path,
                remedy=f"rename it to '{path.name}.gz' or unpack it",
            )
        return data
    if not packed:
        raise InputError("is no gzip file", source=path, remedy=f"if it is not compressed, rename it to '{path.stem}'")
    try:
        unpacked = gzip.decompress(data)
    except (EOFError, OSError, zlib.error) as error:
        raise InputError(
            f"the gzip stream is broken ({one_line(error)})", source=path, remedy="download the file again"
        ) from None
    if not unpacked:
        raise InputError("the file is empty once unpacked", source=path, remedy="export or download it again")
    return unpacked


def check_claims(rows: int, cols: int, size: int, place: str = "") -> None:
    """Refuse dimensions that would make us allocate far more than the file could ever fill.

    Parameters
    ----------
    rows, cols : claimed by the header.
    size : of the file, unpacked [bytes].
    place : where the header stands.
    """
    limit = max(ALWAYS_ALLOWED, size)
    for name, value in (("rows", rows), ("columns", cols)):
        if value < 0:
            raise InputError(f"{value} {name}", place=place, remedy="a matrix dimension is at least 0")
        if value > limit:
            raise InputError(
                f"the header claims {value} {name}, the file has only {size} bytes",
                place=place,
                remedy="check the header",
            )


def numeric(array: npt.NDArray[Any], what: str) -> npt.NDArray[Any]:
    """Return a real array in this machine's byte order; ``what`` names it in the error."""
    if array.dtype.kind not in "fiub":
        raise InputError(
            f"{what} is of type {array.dtype}", remedy="real numbers are needed (float, int, uint or bool)"
        )
    if array.dtype.itemsize > 8:
        return array.astype(np.float64)
    return array.astype(array.dtype.newbyteorder("="), copy=False)
