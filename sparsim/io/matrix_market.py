"""Matrix Market files, ``.mtx`` and ``.mtx.gz``: real, integer or pattern; general, symmetric or skew-symmetric.

scipy's reader does the parsing (a million entries in a tenth of a second); what it lets pass is checked here: sizes
that cannot be true, more or fewer numbers on a line than the field asks for, letters inside numbers, repeated entries,
values that are not finite.

References
----------
.. [1] R. F. Boisvert, R. Pozo, K. A. Remington, "The Matrix Market Exchange Formats: Initial Design",
   NISTIR 5935, 1996.
"""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt

from sparsim.errors import InputError
from sparsim.io._files import check_claims, one_line, read_bytes
from sparsim.matrix import Csr

__all__ = ["read_matrix_market"]

BANNER = "'%%MatrixMarket matrix coordinate|array real|integer|pattern general|symmetric|skew-symmetric'"
FIELDS = {"real": "real", "double": "real", "integer": "integer", "unsigned-integer": "integer", "pattern": "pattern"}
SYMMETRIES = ("general", "symmetric", "skew-symmetric")
INTEGER_BYTES = b"0123456789+- \t\r\n"
REAL_BYTES = INTEGER_BYTES + b".eE"
Bytes = npt.NDArray[np.uint8]


class Header(NamedTuple):
    """What the first lines claim, and where the numbers begin (byte offset, 1-based line)."""

    layout: str
    field: str
    symmetry: str
    rows: int
    cols: int
    entries: int
    start: int
    line: int

    @property
    def per_line(self) -> int:
        """Numbers on each line of the body."""
        return 1 if self.layout == "array" else {"pattern": 2}.get(self.field, 3)


def read_matrix_market(path: Path) -> Csr:
    """Read one matrix; a pattern has no values, a symmetric file is unfolded.

    Raises
    ------
    InputError
        If header and entries disagree, an index is out of range or repeated, or a value is not a finite number.
    """
    data = read_bytes(path)
    try:
        header = _header(data)
        _check_body(data, header)
        parsed = _parse(data)
        return Csr.from_dense(parsed) if header.layout == "array" else _from_entries(parsed, header)
    except InputError as error:
        raise error.at(path) from None


def _header(data: bytes) -> Header:
    end = data.find(b"\n")
    first = data[: end if end >= 0 else len(data)]
    words = first.decode("latin-1").lower().split()
    if not first.startswith(b"%%MatrixMarket") or len(words) != 5 or words[1] != "matrix":
        raise InputError("is no Matrix Market file", place="line 1", remedy=f"its first line must be {BANNER}")
    layout, field, symmetry = words[2:]
    if layout not in ("coordinate", "array") or field not in FIELDS or symmetry not in SYMMETRIES:
        raise InputError(
            f"'{layout} {field} {symmetry}' is not supported"[:120], place="line 1", remedy=f"allowed is {BANNER}"
        )
    if layout == "array" and field == "pattern":
        raise InputError("an array cannot be a pattern", place="line 1", remedy="use 'coordinate pattern'")
    position, line = len(first) + 1, 2
    while position < len(data):
        end = data.find(b"\n", position)
        end = end if end >= 0 else len(data)
        text = data[position:end]
        position = end + 1
        if text.strip() and not text.startswith(b"%"):
            return _sizes(text, layout, FIELDS[field], symmetry, position, line)
        line += 1
    raise InputError("the file ends before its sizes", place=f"line {line - 1}", remedy="the file is truncated")


def _sizes(text: bytes, layout: str, field: str, symmetry: str, position: int, line: int) -> Header:
    wanted = 2 if layout == "array" else 3
    words = text.split()
    place = f"line {line}"
    if len(words) != wanted or not all(re.fullmatch(rb"\d{1,18}", word) for word in words):
        names = "'rows columns'" if layout == "array" else "'rows columns entries'"
        shown = text.decode("latin-1").strip()[:60]
        raise InputError(f"{shown!r} is no size line", place=place, remedy=f"it must say {names}")
    rows, cols = int(words[0]), int(words[1])
    if symmetry != "general" and rows != cols:
        raise InputError(f"a {symmetry} matrix of {rows} x {cols}", place=place, remedy="it must be square")
    if layout == "coordinate":
        entries = int(words[2])
    elif symmetry == "general":
        entries = rows * cols
    else:
        entries = rows * (rows + 1) // 2 if symmetry == "symmetric" else rows * (rows - 1) // 2
    return Header(layout, field, symmetry, rows, cols, entries, position, line)


def _check_body(data: bytes, header: Header) -> None:
    place = f"line {header.line}"
    check_claims(header.rows, header.cols, len(data), place)
    body = data[header.start :]
    if header.entries * 2 * header.per_line > len(body) + 1:
        raise InputError(
            f"the header claims {header.entries} entries, but only {len(body)} bytes follow",
            place=place,
            remedy="the file is truncated or the header lies",
        )
    if header.layout == "coordinate" and header.entries > header.rows * header.cols:
        raise InputError(
            f"{header.entries} entries do not fit into {header.rows} x {header.cols}",
            place=place,
            remedy="check the header",
        )
    text = np.frombuffer(b"\n" + body + b"\n", dtype=np.uint8)
    blank = text <= 32
    starts = np.flatnonzero(blank[:-1] & ~blank[1:]) + 1
    wrong = _first_misspelt(text, blank, starts, header.field)
    if wrong >= 0:
        _blame(body, header, body.count(b"\n", 0, wrong - 1), f"is no line of finite {header.field} numbers")
    if starts.size != header.entries * header.per_line:
        raise InputError(
            f"the header claims {header.entries} entries, the file holds {starts.size / header.per_line:g}",
            place=place,
            remedy="the file is truncated or the header lies",
        )
    line_of = np.searchsorted(np.flatnonzero(text == ord("\n")), starts).reshape(-1, header.per_line) - 1
    torn = (line_of != line_of[:, :1]).any(axis=1)
    torn[1:] |= line_of[1:, 0] == line_of[:-1, 0]
    if torn.any():
        _blame(body, header, int(line_of[np.argmax(torn), 0]), f"does not hold {header.per_line} number(s)")


def _first_misspelt(text: Bytes, blank: npt.NDArray[np.bool_], starts: npt.NDArray[np.intp], field: str) -> int:
    """Return where the first byte stands that belongs to no number, -1 if there is none.

    The parser below reads ``1.5.2x`` as 1.5 and says nothing, so spelling is checked here, on all bytes at once.
    """
    allowed = np.zeros(256, dtype=bool)
    allowed[list(REAL_BYTES if field == "real" else INTEGER_BYTES)] = True
    sign = (text == ord("+")) | (text == ord("-"))
    exponent = (text == ord("e")) | (text == ord("E"))
    bad = ~allowed[text]
    bad[1:] |= sign[1:] & ~(blank | exponent)[:-1] | exponent[1:] & (blank | sign)[:-1]
    bad[:-1] |= (sign | exponent)[:-1] & blank[1:]
    marks = np.flatnonzero(exponent | (text == ord(".")))
    word = np.searchsorted(starts, marks, side="right")
    again = (word[1:] == word[:-1]) & (exponent[marks[:-1]] | ~exponent[marks[1:]])
    bad[marks[1:][again]] = True
    return int(np.argmax(bad)) if bad.any() else -1


def _blame(body: bytes, header: Header, number: int, what: str) -> NoReturn:
    shown = body.split(b"\n", number + 1)[number].decode("latin-1").strip()[:40]
    raise InputError(f"{shown!r} {what}", place=f"line {header.line + 1 + number}", remedy="correct the line")


def _parse(data: bytes) -> Any:
    from scipy.io import mmread

    try:
        return mmread(io.BytesIO(data), spmatrix=False)
    except (ValueError, OverflowError, RuntimeError) as error:
        message = one_line(error)
        found = re.match(r"Line (\d+): (.*)", message)
        place, problem = (f"line {found[1]}", found[2]) if found else ("", message)
        raise InputError(problem.rstrip(".").lower(), place=place, remedy="indices count from 1") from None


def _from_entries(coo: Any, header: Header) -> Csr:
    row, col = coo.coords
    values = None if header.field == "pattern" else coo.data
    if values is not None and not np.isfinite(values).all():
        at = int(np.argmin(np.isfinite(values)))
        raise InputError(
            f"the entry of row {int(row[at]) + 1}, column {int(col[at]) + 1} is {values[at]}",
            remedy="replace NaN and infinity first",
        )
    if header.symmetry == "skew-symmetric" and (row == col).any():
        at = int(np.argmax(row == col))
        raise InputError(
            f"the diagonal entry of row {int(row[at]) + 1} stands in a skew-symmetric file",
            remedy="a skew-symmetric diagonal is zero and not stored",
        )
    try:
        return Csr.from_coo((header.rows, header.cols), row, col, values)
    except InputError as error:
        raise _from_one(error, row, col, header) from None


def _from_one(error: InputError, row: Any, col: Any, header: Header) -> InputError:
    """Say a repeated entry in the file's own counting, which starts at 1."""
    keys = np.sort(row.astype(np.int64) * header.cols + col)
    repeated = keys[1:][keys[1:] == keys[:-1]]
    if not repeated.size:
        return error
    at_row, at_col = divmod(int(repeated[0]), header.cols)
    remedy = "sum or drop duplicates first" if header.symmetry == "general" else "store one triangle only"
    return InputError(f"the entry of row {at_row + 1}, column {at_col + 1} stands twice", remedy=remedy)
