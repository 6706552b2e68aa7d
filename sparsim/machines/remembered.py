"""What was counted of the last workload, for the next run of it with other buffers, widths or bandwidth."""

from __future__ import annotations

import weakref
from collections.abc import Hashable, Iterable, Iterator
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
        self._of: weakref.ref[Workload] | None = None
        self._kept: dict[Hashable, list[Part]] = {}

    def parts(self, workload: Workload, key: Hashable, made: Iterable[Part]) -> Iterator[Part]:
        """Yield the parts kept under ``key``; if there are none, those that are ``made`` now, and keep them."""
        if self._of is None or self._of() is not workload:
            self._of, self._kept = weakref.ref(workload), {}
        kept = self._kept
        if key in kept:
            yield from kept[key]
            return
        parts: list[Part] | None = []
        for part in made:
            if parts is not None:
                parts.append(part)
                parts = parts if _bytes(parts) <= KEPT_BYTES else None
            yield part
        if parts is not None:
            kept[key] = parts
            while sum(map(_bytes, kept.values())) > KEPT_BYTES:
                del kept[next(iter(kept))]


def _bytes(parts: Iterable[_Sized]) -> int:
    return sum(part.nbytes for part in parts)
