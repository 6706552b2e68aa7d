"""From what the library returns to plain rows: dotted keys, cells that are None, bool, int, float, str or a list."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from sparsim.errors import ConfigError, InputError
from sparsim.machines.base import flatten

__all__ = ["Row", "columns_of", "plain_rows"]

Row = dict[str, Any]
EXACT = 2**53  # the largest range of whole numbers in which a float has no gaps


def plain_rows(result: Any) -> list[Row]:
    """Return a result as rows under dotted keys; what is not known (NaN, None) is None.

    Whole numbers that pandas holds as floats, for a gap somewhere in the column, are whole again.

    Parameters
    ----------
    result : see :func:`~sparsim.export.save_table`.

    Raises
    ------
    ConfigError
        If it is no table, or one without a row.
    InputError
        If a cell is infinite or of no type that a table has.
    """
    rows = [_plain(number, row) for number, row in enumerate(_rows(result))]
    if not columns_of(rows):
        raise ConfigError("no rows to write", key="result", allowed="one or more")
    return rows


def columns_of(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the keys of all rows in the order of their first."""
    return list(dict.fromkeys(key for row in rows for key in row))


def _rows(result: Any) -> Iterable[Mapping[str, Any]]:
    from sparsim.compare import Comparison
    from sparsim.report import Report

    if isinstance(result, Comparison):
        return result.told_rows
    if isinstance(result, Mapping | Report):
        result = [result]
    if isinstance(result, Sequence) and all(isinstance(each, Mapping | Report) for each in result):
        return [each.flat() if isinstance(each, Report) else flatten(each) for each in result]
    from pandas import DataFrame

    if isinstance(result, DataFrame):
        return _frame_rows(result)
    if hasattr(result, "to_frame"):
        return _frame_rows(DataFrame(result.to_frame()))
    allowed = "a Comparison, a DataFrame, a Report, a mapping, or a list of reports and mappings"
    raise ConfigError(f"a {type(result).__name__} is no table", key="result", allowed=allowed)


def _frame_rows(frame: Any) -> list[Row]:
    """Return the rows of a DataFrame; an index with a name is a column, headings of several levels are joined."""
    if any(name is not None for name in frame.index.names):
        frame = frame.reset_index()
    names = [" ".join(filter(None, map(str, head))) if isinstance(head, tuple) else str(head) for head in frame.columns]
    double = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if double:
        raise InputError(f"two columns are called '{double[0]}'", source="DataFrame")
    cells = [_whole(frame.iloc[:, number]) for number in range(len(names))]
    return [dict(zip(names, row, strict=True)) for row in zip(*cells, strict=True)]


def _whole(column: Any) -> list[Any]:
    values: list[Any] = column.tolist()
    if column.dtype.kind != "f" or not column.isna().any():
        return values
    known = [value for value in values if not math.isnan(value)]
    if not all(value.is_integer() and abs(value) <= EXACT for value in known):
        return values
    return [None if math.isnan(value) else int(value) for value in values]


def _plain(number: int, row: Mapping[str, Any]) -> Row:
    found: Row = {}
    for key, cell in row.items():
        try:
            found[str(key)] = _cell(cell)
        except ValueError as problem:
            raise InputError(str(problem), source=f"row {number}", place=f"column '{key}'") from None
    return found


def _cell(cell: Any) -> Any:
    if isinstance(cell, np.generic | np.ndarray):
        cell = cell.tolist()
    if isinstance(cell, list | tuple):
        return [_cell(each) for each in cell]
    if isinstance(cell, Mapping):
        return {str(key): _cell(each) for key, each in cell.items()}
    if isinstance(cell, float):
        if math.isinf(cell):
            raise ValueError("an infinite figure")
        return None if math.isnan(cell) else cell
    if cell is None or isinstance(cell, bool | int | str):
        return cell
    if type(cell).__name__ in ("NAType", "NaTType"):
        return None
    raise ValueError(f"a {type(cell).__name__} is no cell of a table")
