"""The errors sparsim raises on purpose.

::

    SparsimError
    ├── InputError      (ValueError)  a file or an array that cannot be used
    ├── ConfigError     (ValueError)  a machine, a field, a pattern or an option that does not exist or does not fit
    ├── WorkloadError   (ValueError)  operands that do not belong together
    ├── MissingExtra    (ImportError) an optional library that is not installed
    └── ModelError      (RuntimeError) a result that cannot be: a defect of the model

Each keeps its facts as attributes and builds one line from them: what is wrong, where, what to do about it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from os import PathLike

__all__ = [
    "ConfigError",
    "InputError",
    "MissingExtra",
    "ModelError",
    "SparsimError",
    "WorkloadError",
    "counted",
    "nearest",
    "one_line",
]


def nearest(word: str, known: Iterable[str]) -> str:
    """Return a hint such as ``; did you mean 'sparch'?``, or the list of what is known."""
    names = sorted(known)
    close = difflib.get_close_matches(str(word), names, n=1, cutoff=0.6)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; known: {', '.join(names)}" if names else ""


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, such as ``1 layer`` or ``2,000 layers``."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def one_line(text: str) -> str:
    """Escape what would break a line: names come from files, and files may be damaged."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


class SparsimError(Exception):
    """Root of every error that sparsim raises on purpose."""


class InputError(SparsimError, ValueError):
    """A file or an array that cannot be used as it is.

    Parameters
    ----------
    problem : what is wrong, with the offending value.
    source : the file (or the name of the array) it was found in.
    place : where in the file: a line, a key, a layer.
    remedy : what the reader can do about it.
    """

    def __init__(
        self, problem: str, *, source: str | PathLike[str] | None = None, place: str = "", remedy: str = ""
    ) -> None:
        self.problem, self.source, self.place, self.remedy = problem, source, place, remedy
        where = ", ".join(part for part in (str(source) if source is not None else "", place) if part)
        message = f"{where}: {problem}" if where else problem
        super().__init__(one_line(f"{message}; {remedy}" if remedy else message))

    def at(self, source: str | PathLike[str], place: str = "") -> InputError:
        """Return the same error with the file (and place) that a deeper function could not know."""
        return InputError(self.problem, source=source, place=place or self.place, remedy=self.remedy)


class ConfigError(SparsimError, ValueError):
    """A name or value of the configuration that is not allowed.

    Parameters
    ----------
    problem : what is wrong, with the offending value.
    key : the option or dotted field.
    allowed : what would be accepted.
    """

    def __init__(self, problem: str, *, key: str = "", allowed: str = "") -> None:
        self.problem, self.key, self.allowed = problem, key, allowed
        message = f"{key}: {problem}" if key else problem
        super().__init__(f"{message}; allowed: {allowed}" if allowed else message)


class WorkloadError(SparsimError, ValueError):
    """Operands whose shapes, types or sizes do not belong together."""


class MissingExtra(SparsimError, ImportError):
    """An optional library is needed and absent.

    Parameters
    ----------
    what : what was asked for.
    extra : the extra of sparsim that brings it.
    """

    def __init__(self, what: str, extra: str) -> None:
        self.what, self.extra = what, extra
        super().__init__(f"{what} needs an optional library; install it with: pip install 'sparsim[{extra}]'")


class ModelError(SparsimError, RuntimeError):
    """A result that cannot be, such as a stage busier than the clock: a defect of sparsim, not of the input."""
