"""The curves of a sweep: which rows can be drawn, and which of them belong to one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any

from sparsim.errors import ConfigError, nearest
from sparsim.machines import machine as build
from sparsim.machines import preset_names
from sparsim.plot.draw import is_known
from sparsim.plot.rows import SWEPT

__all__ = ["AXES", "Key", "Line", "is_numeric", "lines_of", "usable", "values_of"]

AXES = ("sparsity", "actual_sparsity", "batch")

Row = Mapping[str, Any]
Key = tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Line:
    """A curve: what tells it from the others, and its points in the order of x."""

    key: Key
    rows: list[Row]


def usable(rows: Sequence[Row], x: str, y: str) -> tuple[list[Row], list[Row]]:
    """Return the rows that have both x and y, and those of machines that lack the field.

    Raises
    ------
    ConfigError
        If x is neither a swept field nor another axis of the sweep, y is no column of numbers, or no row has both.
    """
    axes, figures = [*_swept(rows), *AXES], _figures(rows)
    if x.removeprefix(SWEPT) not in axes:
        raise ConfigError(f"'{x}' was not swept", key="x", allowed=", ".join(axes))
    if y not in figures:
        raise ConfigError(f"no column of numbers '{y}'{nearest(y, figures)}", key="y")
    known = [row for row in rows if is_known(row.get(y))]
    if not known:
        why = next((row["error"] for row in rows if row.get("error")), "nobody knows it")
        raise ConfigError(f"no point has a figure, the first: {why}", key=y)
    with_x = [row for row in known if not _missing(row.get(x))]
    if not with_x:
        raise ConfigError(f"no point that came to something has '{x}'", key="x")
    machines = {row["machine.name"] for row in with_x}
    return with_x, [row for row in known if row["machine.name"] not in machines]


def lines_of(rows: Sequence[Row], x: str) -> list[Line]:
    """Group rows by everything that differs between them but x.

    Raises
    ------
    ConfigError
        If a line has two rows for one value of x.
    """
    fields = [name for name in _swept(rows) if name != x.removeprefix(SWEPT)]
    names = ["machine.name", "network", "granularity", "sparsity", "batch", *fields]
    if x in ("sparsity", "actual_sparsity"):
        names.remove("sparsity")
    if x == "batch":
        names.remove("batch")
    found = {name: dict.fromkeys(_plain(row.get(name)) for row in rows) for name in names}
    differ = [name for name in names if len(found[name]) > 1]
    groups: dict[Key, list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple((name, _plain(row.get(name))) for name in differ), []).append(row)
    for key, members in groups.items():
        places = [row.get(x) for row in members]
        if not all(map(_missing, places)) and len(set(map(str, places))) < len(places):
            told = ", ".join(f"{name} = {value}" for name, value in key) or members[0]["machine.name"]
            raise ConfigError(f"several rows for one point of {told}", key="frame", allowed=f"one row for each '{x}'")
    order = {value: number for number, value in enumerate(values_of(rows, x))}
    return [Line(key, sorted(group, key=lambda row: order.get(row.get(x), 0))) for key, group in groups.items()]


def values_of(rows: Sequence[Row], x: str) -> list[Any]:
    """Return the values of x, numbers in order."""
    values = list(dict.fromkeys(row[x] for row in rows if not _missing(row.get(x))))
    return sorted(values) if is_numeric(values) else values


def is_numeric(values: Sequence[Any]) -> bool:
    """Tell numbers from choices and switches."""
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _figures(rows: Sequence[Row]) -> set[str]:
    """Return the columns of numbers."""
    words = {key for row in rows for key, value in row.items() if isinstance(value, str | bool)}
    return {key for row in rows for key, value in row.items() if isinstance(value, int | float)} - words


def _swept(rows: Sequence[Row]) -> list[str]:
    """Return the fields of the sweep, under the names they were given."""
    names = {row["machine.name"] for row in rows} & set(preset_names())
    fields = {field for name in names for field in build(name).fields()}
    columns = dict.fromkeys(key for row in rows for key in row)
    return list(dict.fromkeys(key.removeprefix(SWEPT) for key in columns if key in fields or key.startswith(SWEPT)))


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and isnan(value))


def _plain(value: Any) -> Any:
    return None if _missing(value) else value
