"""Finished runs, kept in one SQLite file under addresses made of their content.

A write-ahead log makes every insert all or nothing: a process killed at any moment leaves a file that opens, with all
runs that were reported before. Only the process that sweeps writes; two sweeps may share a file on one computer.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from sparsim._version import __version__
from sparsim.errors import ConfigError, InputError

__all__ = ["Store", "address", "default_store", "digest", "model_version"]

SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (key TEXT PRIMARY KEY, record BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS cases (key TEXT PRIMARY KEY, record BLOB NOT NULL) WITHOUT ROWID;
"""
APPLICATION_ID = 0x5370536D  # "SpSm", so that no other program's file is taken for a store
ASKED_AT_ONCE = 500
PRESENTATION = ("cli", "plot", "sweep", "search", "fidelity", "export.py", "html.py", "terminal.py", "demo.py")


@cache
def model_version() -> str:
    """Return the version of the models: a hash of everything in the package that can change a figure."""
    root = Path(__file__).parents[1]
    state = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root)
        if path.suffix in (".py", ".toml", ".safetensors") and name.parts[0] not in PRESENTATION:
            state.update(name.as_posix().encode() + path.read_bytes())
    return f"{__version__}+{state.hexdigest()[:16]}"


def address(*parts: Any) -> str:
    """Return the SHA-256 of plain values, told apart by type and order."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def digest(value: Any) -> str:
    """Return the SHA-256 of a value made of records, mappings, sequences, arrays, words and numbers.

    Equal content gives equal hashes, whatever was computed from it and kept beside it.
    """
    state = hashlib.sha256()
    for part in _parts(value):
        state.update(part)
    return state.hexdigest()


def _parts(value: Any) -> Iterator[bytes]:
    if isinstance(value, np.ndarray):
        distinct = value[tuple(slice(1) if stride == 0 else slice(None) for stride in value.strides)]
        yield f"{value.dtype.str}{value.shape}{distinct.shape}".encode()
        yield np.ascontiguousarray(distinct).tobytes()
    elif is_dataclass(value) and not isinstance(value, type):
        yield f"({type(value).__name__}".encode()
        for field in fields(value):
            yield f"{field.name}=".encode()
            yield from _parts(getattr(value, field.name))
        yield b")"
    elif isinstance(value, Mapping):
        yield b"{"
        for key in sorted(value, key=str):
            yield repr(key).encode() + b":"
            yield from _parts(value[key])
        yield b"}"
    elif isinstance(value, list | tuple):
        yield b"["
        for item in value:
            yield from _parts(item)
            yield b","
        yield b"]"
    else:
        yield repr(value).encode()


def default_store() -> Path:
    """Return the file sweeps are kept in unless another is named; ``SPARSIM_CACHE_DIR`` moves it."""
    home = os.environ.get("SPARSIM_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "sparsim" / "sweeps.sqlite"


class Store:
    """An open file of finished runs.

    Parameters
    ----------
    path : the file, made if it does not exist; ":memory:" keeps nothing.

    Raises
    ------
    InputError
        If the file is something else, damaged, or cannot be written.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        if not isinstance(path, str | PathLike):
            raise ConfigError(f"{path!r}", key="store", allowed="a file, or ':memory:'")
        self.path = str(path)
        try:
            if self.path != ":memory:":
                Path(self.path).parent.mkdir(parents=True, exist_ok=True)
            self._base = sqlite3.connect(self.path, timeout=60, isolation_level=None)
            self._open()
        except (OSError, sqlite3.Error) as error:
            raise InputError(
                f"cannot be used as a store of sweeps ({error})", source=self.path, remedy="name another file"
            ) from None

    def _open(self) -> None:
        (identity,) = self._base.execute("PRAGMA application_id").fetchone()
        (tables,) = self._base.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if identity != APPLICATION_ID and tables:
            raise sqlite3.DatabaseError("it belongs to another program")
        self._base.execute("PRAGMA journal_mode=WAL")
        self._base.execute("PRAGMA synchronous=NORMAL")
        self._base.execute(f"PRAGMA application_id={APPLICATION_ID}")
        self._base.executescript(SCHEMA)

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self._base.close()

    def __len__(self) -> int:
        """Return the number of finished runs."""
        return int(self._ask("SELECT count(*) FROM runs")[0][0])

    def put(self, key: str, record: Mapping[str, Any]) -> None:
        """Keep a finished run; one that is there already stays."""
        self._ask("INSERT OR IGNORE INTO runs VALUES (?, ?)", (key, _packed(record)))

    def get(self, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Return the runs that are there."""
        return {key: self._unpacked(record) for key, record in self._select("key, record", keys)}

    def missing(self, keys: Iterable[str]) -> list[str]:
        """Return the keys without a run, each once, in their order."""
        asked = dict.fromkeys(keys)
        known = {key for (key,) in self._select("key", asked)}
        return [key for key in asked if key not in known]

    def _select(self, columns: str, keys: Iterable[str]) -> Iterator[Sequence[Any]]:
        asked = list(dict.fromkeys(keys))
        for start in range(0, len(asked), ASKED_AT_ONCE):
            some = asked[start : start + ASKED_AT_ONCE]
            marks = ", ".join("?" * len(some))
            yield from self._ask(f"SELECT {columns} FROM runs WHERE key IN ({marks})", some)

    def _ask(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        try:
            return self._base.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            first = "free space" if isinstance(error, sqlite3.OperationalError) else "delete it"
            raise InputError(
                f"the store of sweeps fails ({error})", source=self.path, remedy=f"{first}, or name another file"
            ) from None

    def put_case(self, key: str, record: Mapping[str, Any]) -> None:
        """Keep what is known of a case: the heads of its rows, and the content of its products."""
        self._ask("INSERT OR IGNORE INTO cases VALUES (?, ?)", (key, _packed(record)))

    def case(self, key: str) -> dict[str, Any] | None:
        """Return what is known of a case."""
        found = self._ask("SELECT record FROM cases WHERE key = ?", (key,))
        return self._unpacked(found[0][0]) if found else None

    def _unpacked(self, record: bytes) -> dict[str, Any]:
        try:
            unpacked: dict[str, Any] = json.loads(zlib.decompress(record))
        except (zlib.error, ValueError) as error:
            raise InputError(
                f"the store of sweeps is damaged ({error})", source=self.path, remedy="delete it, or name another file"
            ) from None
        return unpacked


def _packed(record: Mapping[str, Any]) -> bytes:
    return zlib.compress(json.dumps(record, allow_nan=False).encode(), 1)
