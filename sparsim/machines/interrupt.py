"""Ctrl-C while compiled code runs.

Numba takes and returns records by calling Python. An exception raised in between, as ctrl-C raises it, is not looked
for there and crashes the process; so it waits until the run is over.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["interrupt_held_back"]


@contextmanager
def interrupt_held_back() -> Iterator[None]:
    """Hold the first ctrl-C back until the end of the block; a second one goes through at once."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    held: list[int] = []

    def hold(number: int, _: FrameType | None) -> None:
        held.append(number)
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, hold)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if held:
            before(held[0], None)
