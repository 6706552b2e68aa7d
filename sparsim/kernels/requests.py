"""What the steps of the merge rounds need of the pipeline's stages, and ask of the memory in the order of the steps.

Three visits: elements of A; partial results read back, and then rows of B; what is written, partial results or C. A
written stream moves a burst with the step that fills it, and what is left with the last step that writes anything. One
iteration is one step or one request.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sparsim.kernels._jit import inner, kernel
from sparsim.kernels.records import Requests, Visits

__all__ = ["Rates", "StepRequests", "StepWork", "lay_out_visits", "lay_out_work"]

Array = npt.NDArray[Any]


class StepWork(NamedTuple):
    """Elements of each step, and lines of B: how many it uses, and how many may be fetched before they are used."""

    a_elements: Array
    slots: Array
    merged: Array
    partial: Array
    output: Array
    lines: Array
    lines_ahead: Array


class Rates(NamedTuple):
    """Elements a cycle of the three stages with servers, ticks in a cycle, and what fits before the multipliers."""

    look_ahead: int
    multiply: int
    merge: int
    ticks: int
    lines: int
    partials: int


class StepRequests(NamedTuple):
    """What the steps read of A (first byte, bursts), and the elements they write; steps from ``final`` on write C.

    ``base`` and ``width`` are where partial results and C begin, and bytes of an element of each.
    """

    a_address: Array
    a_bursts: Array
    output: Array
    final: int
    base: tuple[int, int]
    width: tuple[int, int]
    burst: int


@inner
def _take(stream: Requests, taken: int, step: int, address: Array, size: Array, at: int) -> int:
    """Copy the requests of a step, from number ``taken`` of the stream on; return how many there are."""
    begin = taken
    while taken < stream.step.size and stream.step[taken] == step:
        address[at] = stream.address[taken]
        size[at] = stream.size[taken]
        at += 1
        taken += 1
    return taken - begin


@kernel
def _write(asks: StepRequests, stream: int, begin: int, stop: int, visits: Visits, at: int) -> int:
    """Lay out what steps ``begin`` to ``stop`` write from request ``at`` on; return where the requests end."""
    base, width, burst = asks.base[stream], asks.width[stream], asks.burst
    last = stop - 1
    while last >= begin and asks.output[last] == 0:
        last -= 1
    filled = np.int64(0)  # bytes of the burst begun
    for s in range(begin, stop):
        visits.first[2, s] = at
        filled += asks.output[s] * width
        bursts = filled // burst
        filled -= bursts * burst
        if s == last and filled > 0:
            bursts += 1
            filled = 0
        if bursts > 0:
            visits.address[at] = base
            visits.size[at] = bursts * burst
            base += bursts * burst
            at += 1
    return at


@inner
def _total(size: Array, begin: int, stop: int) -> int:
    """Return the sum of ``size[begin:stop]``; numpy's own would load scipy's linear algebra with the kernel."""
    total = 0
    for index in range(begin, stop):
        total += size[index]
    return total


@kernel
def lay_out_visits(asks: StepRequests, back: Requests, rows: Requests) -> tuple[Visits, Array]:
    """Return the visits of all steps, and the bytes of A, of what is read back, of B, of partial results and of C."""
    steps = asks.a_bursts.size
    room = 2 * steps + back.step.size + rows.step.size
    address, size = np.empty(room, dtype=np.int64), np.empty(room, dtype=np.int64)
    first = np.empty((3, steps + 1), dtype=np.int64)
    visits = Visits(first, address, size, np.array([False, False, True]))
    moved = np.zeros(5, dtype=np.int64)
    at = 0
    for s in range(steps):
        first[0, s] = at
        if asks.a_bursts[s] > 0:
            address[at] = asks.a_address[s]
            size[at] = asks.a_bursts[s] * asks.burst
            at += 1
    first[0, steps] = at
    moved[0] = _total(size, 0, at)
    taken_back = taken = 0
    for s in range(steps):
        first[1, s] = at
        of_back = _take(back, taken_back, s, address, size, at)
        of_rows = _take(rows, taken, s, address, size, at + of_back)
        taken_back += of_back
        taken += of_rows
        at += of_back + of_rows
    if taken_back < back.step.size or taken < rows.step.size:
        raise ValueError("requests are not in the order of their steps")
    first[1, steps] = at
    moved[1], moved[2] = _total(back.size, 0, back.size.size), _total(rows.size, 0, rows.size.size)
    for stream, begin, stop in ((0, 0, asks.final), (1, asks.final, steps)):
        begun = at
        at = _write(asks, stream, begin, stop, visits, at)
        moved[3 + stream] = _total(size, begun, at)
    first[2, steps] = at
    return Visits(first, address[:at], size[:at], visits.is_write), moved


@kernel
def lay_out_work(work: StepWork, rates: Rates) -> tuple[Array, Array]:
    """Return [steps, 6]: ticks of the servers of each stage, and what a step puts into the buffer behind it.

    Between fetching and multiplying wait lines of B and partial results: the fuller of the two buffers decides. Where
    few lines are left to be fetched, a line takes more.
    """
    steps, ticks = work.a_elements.size, rates.ticks
    service, size = np.zeros((steps, 6), dtype=np.int64), np.zeros((steps, 6), dtype=np.int64)
    for s in range(steps):
        service[s, 1] = -(-work.a_elements[s] * ticks // rates.look_ahead)
        service[s, 3] = -(-work.slots[s] * ticks // rates.multiply)
        service[s, 4] = -(-work.merged[s] * ticks // rates.merge)
        lines, ahead = work.lines[s], work.lines_ahead[s]
        if ahead != rates.lines:
            lines = lines * rates.lines // ahead
        size[s, 0] = size[s, 1] = work.a_elements[s]
        size[s, 2] = max(lines * rates.partials, work.partial[s] * rates.lines)
        size[s, 3] = work.merged[s]
        size[s, 4] = work.output[s]
    return service, size
