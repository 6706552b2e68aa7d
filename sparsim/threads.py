"""How many threads one run may use. Results never depend on it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import islice
from typing import TypeVar

from sparsim.arguments import whole

__all__ = ["cores", "in_turn", "one_ahead", "threads", "using_threads"]

T = TypeVar("T")
R = TypeVar("R")

_THREADS: ContextVar[int] = ContextVar("threads", default=1)


def cores() -> int:
    """Return the cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads() -> int:
    """Return the threads a run may use; 1 unless :func:`using_threads` says more."""
    return _THREADS.get()


@contextmanager
def using_threads(count: int) -> Iterator[None]:
    """Let the runs inside use ``count`` threads.

    Raises
    ------
    ConfigError
        If ``count`` is below 1.
    """
    token = _THREADS.set(whole(count, "--threads", 1))
    try:
        yield
    finally:
        _THREADS.reset(token)


def in_turn(function: Callable[[T], R], items: Sequence[T], at_once: int | None = None) -> Iterator[R]:
    """Return ``function`` of every item, in order; ``at_once``, or :func:`threads`, are worked on, and few wait."""
    count = min(at_once or threads(), len(items))
    if count < 2:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(count) as pool:
        rest = iter(items)
        ahead = [pool.submit(function, item) for item in islice(rest, 2 * count)]
        while ahead:
            done = ahead.pop(0)
            ahead.extend(pool.submit(function, item) for item in islice(rest, 1))
            yield done.result()


def one_ahead(items: Iterator[T]) -> Iterator[T]:
    """Return the items; with two threads or more, the next one is made while the last one is used."""
    if threads() < 2:
        yield from items
        return
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(next, items, None)
        while (item := following.result()) is not None:
            following = pool.submit(next, items, None)
            yield item
