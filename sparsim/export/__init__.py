"""Tables as files: CSV, Parquet, JSON lines, JSON, LaTeX.

One rule flattens whatever the library returns to plain rows, see :func:`~sparsim.export.flatten.plain_rows`; a format
only writes them. A file appears under its name when it is complete, never before.
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any
from uuid import uuid4

from sparsim.errors import ConfigError, InputError, MissingExtra, nearest
from sparsim.export.flatten import Row, columns_of, plain_rows
from sparsim.export.formats import write_csv, write_json, write_json_lines, write_parquet
from sparsim.export.latex import latex_table, write_latex

__all__ = [
    "FORMATS",
    "check_table_path",
    "columns_of",
    "latex_table",
    "plain_rows",
    "save_table",
    "write_csv",
]

FORMATS: Mapping[str, Callable[[Sequence[Row], Sequence[str], Path], None]] = {
    ".csv": write_csv,
    ".parquet": write_parquet,
    ".jsonl": write_json_lines,
    ".json": write_json,
    ".tex": write_latex,
}


def save_table(result: Any, path: str | PathLike[str], *, columns: Sequence[str] | None = None) -> Path:
    """Write a result as a table, in the format that the suffix of the file names.

    ============ ======================================================================================================
    ``.csv``     one line a row; what is not known is empty, lists are JSON
    ``.parquet`` one typed column a key, with gaps; lists are JSON text (``pip install 'sparsim[parquet]'``)
    ``.jsonl``   one JSON object a line; what is not known is null, lists stay lists
    ``.json``    the same objects as one list
    ``.tex``     a ``tabular`` for the package booktabs with the few columns people read, rounded for print
    ============ ======================================================================================================

    All but LaTeX hold every figure exactly, and pandas reads the same numbers back (``read_csv`` before pandas 3 with
    ``float_precision="round_trip"``).

    Parameters
    ----------
    result : a :class:`~sparsim.compare.Comparison`, a DataFrame (of a comparison or a sweep), a
        :class:`~sparsim.report.Report`, anything with ``to_frame()``, a mapping, or a list of reports and mappings.
    path : the file; one that exists is replaced.
    columns : dotted keys to write, in this order; by default all, and for LaTeX a few: of a comparison pattern, zeros,
        accuracy, speed-up and energy ratio on each machine, of a sweep what it varies, time, energy, traffic, speed-up.

    Returns
    -------
    The path.

    Raises
    ------
    ConfigError
        If the suffix is none of these, the folder does not exist, or there is no such column.
    InputError
        If the file cannot be written, or a cell has no place in a table.
    MissingExtra
        If pyarrow is needed and not installed.

    Examples
    --------
    >>> import tempfile, sparsim as ss
    >>> report = ss.simulate(ss.gemm(64, 64, 64, pattern="density:0.1"), on="sparch")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = ss.save_table(report, f"{folder}/gemm.csv", columns=["machine.name", "workload.multiplies"])
    ...     path.read_text().split()
    ['machine.name,workload.multiplies', 'sparch,25920']
    """
    path = check_table_path(path)
    rows = plain_rows(result)
    known = columns_of(rows)
    for name in columns or ():
        if name not in known:
            raise ConfigError(f"no column '{name}'{nearest(name, known)}", key="columns")
    if path.suffix.lower() == ".tex":
        _complete(path, lambda part: write_latex(rows, columns, part))
    else:
        _complete(path, lambda part: FORMATS[path.suffix.lower()](rows, columns or known, part))
    return path


def check_table_path(path: str | PathLike[str], key: str = "path") -> Path:
    """Return the path of a table that can be written, before anybody waits for what goes into it.

    Parameters
    ----------
    path : the file.
    key : what errors call it.

    Raises
    ------
    ConfigError
        If the suffix names no format, the folder does not exist, or the path is a folder.
    MissingExtra
        If the format needs a library that is not installed.
    """
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise ConfigError(f"'{path}' names no format", key=key, allowed=f"a file that ends in {', '.join(FORMATS)}")
    if path.is_dir() or not path.parent.is_dir():
        raise ConfigError(f"'{path}' cannot be written", key=key, allowed="a file in a folder that exists")
    if path.suffix.lower() == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise MissingExtra("a Parquet file", "parquet")
    return path


def _complete(path: Path, write: Callable[[Path], None]) -> None:
    """Write beside the file and rename, so that no reader ever sees half of it."""
    part = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        write(part)
        part.replace(path)
    except OSError as error:
        raise InputError(f"cannot be written ({error.strerror or error})", source=path) from None
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
