"""Writers that hold every figure exactly: CSV, JSON, JSON lines, Parquet."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TextIO

from sparsim.export.flatten import Row

__all__ = ["write_csv", "write_json", "write_json_lines", "write_parquet"]

INT64 = range(-(2**63), 2**63)


def write_csv(rows: Iterable[Row], columns: Sequence[str], file: Path | TextIO) -> None:
    """Write one line a row; lists as JSON, nothing for what is not known.

    Parameters
    ----------
    rows : plain rows.
    columns : keys, in order.
    file : a path, or an open text file.
    """
    if isinstance(file, Path):
        with file.open("x", encoding="utf-8", newline="") as opened:
            write_csv(rows, columns, opened)
        return
    writer = csv.writer(file)
    writer.writerow(columns)
    writer.writerows([_text(row.get(key)) for key in columns] for row in rows)


def write_json(rows: Iterable[Row], columns: Sequence[str], path: Path) -> None:
    """Write a list of objects; a row has no key that it lacks."""
    path.write_text(json.dumps(_chosen(rows, columns), indent=2, allow_nan=False) + "\n", "utf-8")


def write_json_lines(rows: Iterable[Row], columns: Sequence[str], path: Path) -> None:
    """Write one object a line; a row has no key that it lacks."""
    lines = (json.dumps(row, allow_nan=False) + "\n" for row in _chosen(rows, columns))
    path.write_text("".join(lines), "utf-8")


def write_parquet(rows: Sequence[Row], columns: Sequence[str], path: Path) -> None:
    """Write typed columns: whole numbers with gaps stay whole; lists are JSON text.

    Columns of several types, such as a field that is a number or a word, and whole numbers beyond 64 bits become text.
    """
    import pandas as pd

    made = {key: pd.Series(*_typed([row.get(key) for row in rows])) for key in columns}
    pd.DataFrame(made).to_parquet(path, engine="pyarrow", index=False)


def _chosen(rows: Iterable[Row], columns: Sequence[str]) -> list[Row]:
    return [{key: row[key] for key in columns if key in row} for row in rows]


def _text(cell: Any) -> Any:
    return json.dumps(cell, allow_nan=False) if isinstance(cell, list | dict) else cell


def _typed(cells: Sequence[Any]) -> tuple[list[Any], None, str]:
    """Return the cells of a column, no index, and the type of pandas that holds them all."""
    kinds = {type(cell) for cell in cells if cell is not None}
    gaps = None in cells
    if not kinds or kinds == {float}:
        return list(cells), None, "float64"
    if kinds == {bool}:
        return list(cells), None, "boolean" if gaps else "bool"
    if kinds == {int} and all(cell is None or cell in INT64 for cell in cells):
        return list(cells), None, "Int64" if gaps else "int64"
    if kinds == {int, float} and all(cell is None or float(cell) == cell for cell in cells):
        return list(cells), None, "float64"
    texts = [_text(cell) for cell in cells]
    return [cell if cell is None or isinstance(cell, str) else str(cell) for cell in texts], None, "string"
