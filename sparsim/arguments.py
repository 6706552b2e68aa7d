"""What callers give: one check for each kind of value, one line if it is wrong. numpy's numbers count like Python's."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from numbers import Integral, Real
from typing import Any

from sparsim.errors import ConfigError

__all__ = ["mapping", "overridden", "several", "share", "whole", "words"]


def whole(value: Any, key: str, least: int = 0, most: int | None = None) -> int:
    """Return a whole number.

    Raises
    ------
    ConfigError
        If it is none, or out of range.
    """
    if isinstance(value, Integral) and not isinstance(value, bool):
        number = int(value)
        if least <= number and (most is None or number <= most):
            return number
    extent = f", {least} or more" if most is None else f" from {least} to {most:,}"
    raise ConfigError(f"{value!r}", key=key, allowed=f"a whole number{extent}")


def share(value: Any, key: str, allowed: str = "0 to 1", *, zero: bool = True, one: bool = True) -> float:
    """Return a number from 0 to 1; ``zero`` and ``one`` say whether these are taken themselves.

    Raises
    ------
    ConfigError
        If it is none.
    """
    if isinstance(value, Real) and not isinstance(value, bool):
        number = float(value)
        if 0 <= number <= 1 and (zero or number > 0) and (one or number < 1):
            return number
    raise ConfigError(f"{value!r}", key=key, allowed=allowed)


def words(value: Any, key: str) -> list[str]:
    """Return one word or several as a list.

    Raises
    ------
    ConfigError
        If they are something else.
    """
    several: list[Any] = [value] if isinstance(value, str) else list(value) if isinstance(value, Iterable) else [None]
    if all(isinstance(word, str) for word in several):
        return several
    raise ConfigError(f"{value!r}", key=key, allowed="a word, or several")


def several(value: Any, key: str, some: bool = True) -> list[Any]:
    """Return one value or several as a list without repetitions, which would be counted twice.

    Raises
    ------
    ConfigError
        If there is none where ``some`` are needed.
    """
    found = list(value) if isinstance(value, Iterable) and not isinstance(value, str) else [value]
    if some and not found:
        raise ConfigError("nothing given", key=key, allowed="one or more")
    return list(dict.fromkeys(found)) if all(isinstance(one, Hashable) for one in found) else found


def mapping(value: Any, key: str, allowed: str) -> Mapping[str, Any]:
    """Return a mapping, an empty one for None.

    Raises
    ------
    ConfigError
        If it is something else.
    """
    if value is None or isinstance(value, Mapping):
        return value or {}
    raise ConfigError(f"{value!r}", key=key, allowed=allowed)


def overridden(value: Any) -> Mapping[str, Any]:
    """Return the fields of a machine to replace; see :func:`mapping`."""
    return mapping(value, "overrides", 'a mapping such as {"prefetch.lines": 512}')
