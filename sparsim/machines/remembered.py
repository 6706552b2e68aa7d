"""What was counted of the last workload, for the next run of it with other buffers, widths or bandwidth."""

from __future__ import annotations

import weakref
from collections.abc import Hashable, Iterable, Iterator
from threading import Lock
from typing import Generic, Protocol, TypeVar

from sparsim.workload import Workload

__all__ = ["Remembered"]

KEPT_BYTES = 1 << 26


class _Sized(Protocol):
    @property
    def nbytes(self) -> int:
        """Memory it takes."""


Part = TypeVar("Part", bound=_Sized)


class Remembered(Generic[Part]):
    """Keeps the parts of one workload at a time, while it lives: 64 MiB at most, those under the latest keys."""

    def __init__(self) -> None:
        self._current: tuple[weakref.ref[Workload] | None, dict[Hashable, list[Part]]] = (None, {})
        self._lock = Lock()

    def parts(self, workload: Workload, key: Hashable, made: Iterable[Part]) -> Iterator[Part]:
        """Yield the parts kept under ``key``; if there are none, those that are ``made`` now, and keep them."""
        with self._lock:  # another thread may be at another workload, or at another key of this one
            of, kept = self._current
            if of is None or of() is not workload:
                kept = {}
                self._current = (weakref.ref(workload), kept)
            known = kept.get(key)
        if known is not None:
            yield from known
            return
        parts: list[Part] | None = []
        for part in made:
            if parts is not None:
                parts.append(part)
                parts = parts if _bytes(parts) <= KEPT_BYTES else None
            yield part
        if parts is not None:
            with self._lock:
                kept[key] = parts
                while sum(map(_bytes, kept.values())) > KEPT_BYTES:
                    del kept[next(iter(kept))]


def _bytes(parts: Iterable[_Sized]) -> int:
    return sum(part.nbytes for part in parts)
