"""Which pipeline step each line visit of the prefetcher belongs to, and what the misses ask of the memory.

A visit belongs to the step that multiplies its line. Steps come in blocks, and the prefetcher is run as far as they
need it. Row pointers that miss are gathered into whole bursts: they are too small to be charged one each. One iteration
is one visit of a line.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from sparsim.kernels._jit import at, inlined, kernel
from sparsim.kernels.bits import ONE, ZERO
from sparsim.kernels.early import fetch_early
from sparsim.kernels.records import Fetched, PrefetchParams, Requests, VisitsOfSteps

__all__ = ["Replay", "StepVisits"]

Array = npt.NDArray[Any]

ELEMENT, BEGIN, DONE, VISIT, STALL, ASKED, POINTERS, STEP, COUNT = range(9)
SO_FAR = 9
READY, LATER, ROOM = range(3)
REPLAYED = 1 << 16  # elements of the trace at once
SOON = 16  # elements: where a row of B begins is asked for before it is reached


class Replay(Protocol):
    """A prefetcher at work, or what one did in an earlier run."""

    fetched: Fetched

    def go_on(self, elements: int) -> None:
        """Run the visits of some more elements of the trace."""


class StepVisits:
    """Finds the visits of one block of steps after the other.

    Parameters
    ----------
    trace : rows of B in the order in which elements of A ask for them, over all rounds.
    start : elements of B before each of its rows, int64 [rows + 1].
    """

    def __init__(self, replay: Replay, trace: Array, start: Array, params: PrefetchParams) -> None:
        self._replay, self._where = replay, (trace, start, params)
        self._ahead, self._products, self._room = max(params.run_ahead, 1), 0, 0
        self._so_far = np.zeros(SO_FAR, dtype=np.int64)

    @property
    def fetched_bytes(self) -> int:
        """Bytes of B, pointers and elements, that had to be fetched so far."""
        return int(self._so_far[ASKED])

    def of(self, products: Array, is_last: bool) -> VisitsOfSteps:
        """Return what the prefetcher does for the next steps, ``products`` being those of each.

        What is left of the trace belongs to the last step of the last block.
        """
        up_to = self._products + np.cumsum(products)
        self._products = int(up_to[-1]) if up_to.size else self._products
        visits, ahead = np.zeros(up_to.size, dtype=np.int64), np.full(up_to.size, self._ahead, dtype=np.int64)
        self._room = max(self._room, 4 * up_to.size + 2)
        found = VisitsOfSteps(up_to, visits, ahead, _requests(self._room))
        self._so_far[STEP] = self._so_far[COUNT] = 0
        while state := _assign(self._replay.fetched, *self._where, found, is_last, self._so_far):
            if state == LATER:
                self._replay.go_on(REPLAYED)
            else:
                self._room *= 2
                found = found._replace(requests=_with_room(found.requests, self._room))
        count = int(self._so_far[COUNT])
        return found._replace(requests=Requests(*(column[:count] for column in found.requests)))


def _requests(room: int) -> Requests:
    """Return room for requests."""
    return Requests(*np.empty((3, room), dtype=np.int64))


def _with_room(requests: Requests, room: int) -> Requests:
    """Return the requests with more room behind them."""
    larger = _requests(room)
    for old, new in zip(requests, larger, strict=True):
        new[: old.size] = old
    return larger


@kernel
def _assign(
    fetched: Fetched,
    trace: Array,
    start: Array,
    params: PrefetchParams,
    block: VisitsOfSteps,
    is_last: bool,
    so_far: Array,
) -> int:
    """Fill in ``block``; ``so_far`` is what has been done, STEP and COUNT (of requests) in this block.

    Returns
    -------
    READY, or what is needed to go on with this block: LATER (more of the trace has to be run) or ROOM (for requests).
    """
    behind = params.address + start[start.size - 1] * params.element_bytes
    burst = params.burst_bytes
    element, begin, done = so_far[ELEMENT], so_far[BEGIN], so_far[DONE]
    visit, stall, asked, pointers = so_far[VISIT], so_far[STALL], so_far[ASKED], so_far[POINTERS]
    step, count = so_far[STEP], so_far[COUNT]
    last, final = block.products.size - 1, trace.size - 1
    state = READY if last < 0 or element == trace.size else LATER
    while state == LATER and element < fetched.elements:
        fetch_early(start, trace[min(element + SOON, final)])
        k = trace[element]
        elements = start[at(k + 1)] - start[at(k)]
        size = params.pointer_bytes + elements * params.element_bytes
        while begin < size:
            offset = max(begin - params.pointer_bytes, 0)
            before = done + offset // params.element_bytes if offset else done
            while step < last and block.products[at(step)] <= before:
                step += 1
            if block.products[at(step)] <= before and not is_last:
                state = READY
                break
            if count + 2 > block.requests.step.size:
                state = ROOM
                break
            block.visits[at(step)] += 1
            if stall < fetched.stalls.shape[0] and fetched.stalls[stall, 0] == visit:
                block.ahead[step] = min(block.ahead[step], fetched.stalls[stall, 1])
                stall += 1
            if fetched.missed[at(visit >> 6)] & (ONE << np.uint64(visit & 63)) != ZERO:
                payload = min(params.line_bytes, size - begin)
                asked += payload
                if begin == 0:
                    payload -= params.pointer_bytes
                    pointers += params.pointer_bytes
                    if pointers >= burst:
                        whole = pointers // burst * burst
                        where = (behind - params.address + k * params.pointer_bytes) // burst * burst
                        count = _send(block.requests, count, step, params.address + where, whole, burst)
                        pointers -= whole
                if payload > 0:
                    where = params.address + start[at(k)] * params.element_bytes + offset
                    count = _send(block.requests, count, step, where, payload, burst)
            visit += 1
            begin += params.line_bytes
        if begin >= size:
            done += elements
            element += 1
            begin = 0
            if element == trace.size:
                state = READY
    if element == trace.size and pointers > 0:
        if count < block.requests.step.size:
            count = _send(block.requests, count, step, behind, 1, burst)
            pointers = 0
        else:
            state = ROOM
    so_far[ELEMENT], so_far[BEGIN], so_far[DONE] = element, begin, done
    so_far[VISIT], so_far[STALL], so_far[ASKED], so_far[POINTERS] = visit, stall, asked, pointers
    so_far[STEP], so_far[COUNT] = step, count
    return state


@inlined
def _send(requests: Requests, count: int, step: int, address: int, size: int, burst: int) -> int:
    """Append the whole bursts that hold ``size`` bytes at ``address``."""
    if burst & (burst - 1) == 0:
        begin, end = address & -burst, (address + size + burst - 1) & -burst
    else:
        begin, end = address // burst * burst, (address + size + burst - 1) // burst * burst
    requests.step[at(count)] = step
    requests.address[at(count)] = begin
    requests.size[at(count)] = end - begin
    return count + 1
