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

__all__ = ["Rates", "Results", "StepRequests", "StepWork", "lay_out_visits", "lay_out_work", "read_back"]

Array = npt.NDArray[Any]

BASE, FILLED, LEFT = range(3)


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
    """Elements a cycle of the three stages with servers, ticks in a cycle, and what fits before the multipliers.

    ``lines`` and ``partials`` are how many of each may wait, ``held`` is the most that they come to together.
    """

    look_ahead: int
    multiply: int
    merge: int
    ticks: int
    lines: int
    partials: int
    held: int


class StepRequests(NamedTuple):
    """What the steps read of A (first byte, bursts), and the elements they write; steps from ``final`` on write C.

    ``width`` are bytes of an element of a partial result, and of C.
    """

    a_address: Array
    a_bursts: Array
    output: Array
    final: int
    width: tuple[int, int]
    burst: int


class Results(NamedTuple):
    """Partial results that a pass reads back, and how far that has come; int64, one entry a result.

    ``address`` is where it begins, ``size`` its bytes, ``at`` and ``end`` what is left to be asked for.
    """

    address: Array
    size: Array
    at: Array
    end: Array


@inner
def _share(behind: int, total: int, size: int) -> int:
    """Return ``behind * total // size`` where the product takes more than 64 bits, by long division; size < 2^39."""
    whole, rest = total // size, total % size
    high = (behind >> 16) * rest
    low = ((high % size) << 16) + (behind & 0xFFFF) * rest
    return np.int64(behind * whole + ((high // size) << 16) + low // size)


@kernel
def read_back(
    results: Results, partial: Array, before: int, total: int, chunk: int, step: int, requests: Requests, count: int
) -> int:
    """Ask for partial results: each is read evenly over the rows it is merged with.

    Parameters
    ----------
    partial : elements that each of some consecutive steps, the first being ``step``, reads back.
    before, total : elements that the steps before read back, and all steps of the pass.
    chunk : bytes of a request.
    requests : filled from ``count`` on; what is asked then is returned.
    """
    soonest = before
    needed = before
    exact = (np.int64(1) << 62) // max(total, 1)
    for s in range(partial.size):
        needed += partial[s]
        if needed <= soonest:
            continue
        soonest = np.int64(1) << 62
        for r in range(results.at.size):
            while results.at[r] < results.end[r]:
                behind = max(results.at[r] - results.address[r], 0)
                share = behind * total // results.size[r] if behind <= exact else _share(behind, total, results.size[r])
                if share >= needed:
                    soonest = min(soonest, share)
                    break
                requests.step[count] = step + s
                requests.address[count] = results.at[r]
                requests.size[count] = min(chunk, results.end[r] - results.at[r])
                results.at[r] += chunk
                count += 1
    return count


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
def _write(asks: StepRequests, stream: int, begin: int, stop: int, visits: Visits, at: int, written: Array) -> int:
    """Lay out what steps ``begin`` to ``stop`` write from request ``at`` on; return where the requests end."""
    width, burst = asks.width[stream], asks.burst
    base, filled, left = written[stream, BASE], written[stream, FILLED], written[stream, LEFT]
    for s in range(begin, stop):
        visits.first[2, s] = at
        filled += asks.output[s] * width
        left -= asks.output[s]
        bursts = filled // burst
        filled -= bursts * burst
        if left == 0 and filled > 0:
            bursts += 1
            filled = 0
        if bursts > 0:
            visits.address[at] = base
            visits.size[at] = bursts * burst
            base += bursts * burst
            at += 1
    written[stream, BASE], written[stream, FILLED], written[stream, LEFT] = base, filled, left
    return at


@inner
def _total(size: Array, begin: int, stop: int) -> int:
    """Return the sum of ``size[begin:stop]``; numpy's own would load scipy's linear algebra with the kernel."""
    total = 0
    for index in range(begin, stop):
        total += size[index]
    return total


@kernel
def lay_out_visits(
    asks: StepRequests, back: Requests, rows: Requests, visits: Visits, written: Array, moved: Array
) -> int:
    """Lay out what a block of steps asks of the memory; return how many requests that are.

    Parameters
    ----------
    back, rows : partial results and rows of B, by step.
    visits : room for 2 requests a step, ``back`` and ``rows``; filled.
    written : int64 [2, 3], for partial results and for C: where the next burst goes (BASE), bytes of it that are there
        already (FILLED), and elements to come (LEFT); kept between blocks.
    moved : int64 [5]; bytes of A, of what is read back, of B, of partial results and of C are added.
    """
    steps = asks.a_bursts.size
    first, address, size = visits.first, visits.address, visits.size
    at = 0
    for s in range(steps):
        first[0, s] = at
        if asks.a_bursts[s] > 0:
            address[at] = asks.a_address[s]
            size[at] = asks.a_bursts[s] * asks.burst
            at += 1
    first[0, steps] = at
    moved[0] += _total(size, 0, at)
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
    moved[1] += _total(back.size, 0, back.size.size)
    moved[2] += _total(rows.size, 0, rows.size.size)
    for stream, begin, stop in ((0, 0, asks.final), (1, asks.final, steps)):
        begun = at
        at = _write(asks, stream, begin, stop, visits, at, written)
        moved[3 + stream] += _total(size, begun, at)
    first[2, steps] = at
    return at


@kernel
def lay_out_work(work: StepWork, rates: Rates, service: Array, size: Array) -> None:
    """Fill in [steps, 6]: ticks of the servers of each stage, and what a step puts into the buffer behind it.

    Between fetching and multiplying wait lines of B and partial results: the fuller of the two buffers decides. Where
    few lines are left to be fetched, a line takes more. A step that needs more than the buffer holds takes it whole.
    """
    ticks = rates.ticks
    for s in range(work.a_elements.size):
        lines, ahead = work.lines[s], work.lines_ahead[s]
        if ahead != rates.lines:
            lines = lines * rates.lines // ahead
        held = max(lines * rates.partials, work.partial[s] * rates.lines)
        service[s, 0] = service[s, 2] = service[s, 5] = size[s, 5] = 0
        service[s, 1] = -(-work.a_elements[s] * ticks // rates.look_ahead)
        service[s, 3] = -(-work.slots[s] * ticks // rates.multiply)
        service[s, 4] = -(-work.merged[s] * ticks // rates.merge)
        size[s, 0] = size[s, 1] = work.a_elements[s]
        size[s, 2] = min(held, rates.held)
        size[s, 3] = work.merged[s]
        size[s, 4] = work.output[s]
