"""The row prefetcher of SpArch (Zhang et al., HPCA 2020, section II-D): rows of B in lines, replaced by next use.

A row of B is a pointer and its elements, cut into lines; every row asked for visits its lines in order (an empty row
still costs its pointer). The distance list builder runs ahead by a window and knows, for every line it has seen there,
the next visit. The buffer is fully associative; the victim is the line with the farthest next use, lines without a use
in the window being infinitely far, ties by the lowest slot.

Lines are fetched ``run_ahead`` visits before they are used, and a line that waits for its use cannot be replaced: the
farther ahead, the less of the buffer is left for reuse (running ahead without limit, the farthest next use replaces as
LRU does). With ``run_ahead`` 0 a line is fetched when it is used, and passes the buffer by if it is itself no nearer
than the victim: the rule of the author's scheduler. One iteration is one visit of a line.

A line that may be replaced is a member of one of two sets: of the visits in the window, by its next use, or of the
slots, if it has none there. The victim is the lowest such slot, else the line of the highest such visit.

Not modelled here: time; fetching is always as far ahead as it may be, and the look-ahead always full.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sparsim.kernels._jit import at, inlined, kernel
from sparsim.kernels.bits import ONE, WORD, highest_below, include, leave_out, lowest
from sparsim.kernels.records import Fetched, PrefetchParams

__all__ = ["FARTHEST", "LRU", "OFF", "Prefetcher"]

Array = npt.NDArray[Any]

FARTHEST, LRU, OFF = 0, 1, 2
NEVER = 1 << 62
NOWHERE = -1


class _Buffer(NamedTuple):
    """The lines on chip and what is known of their next use.

    ``line`` holds for every line its slot and its latest visit: with LRU the latest fetched, else the latest in the
    window. ``next_use`` and ``slot_at`` are rings over the visits not used yet or in the window, ``visited`` is one
    over those not used yet (with LRU: over all). ``due`` are the visits at which a line that may be replaced is
    used next, ``idle`` the slots of those that are not used within the window; both with their summaries.
    """

    line: Array
    line_in: Array
    visited: Array
    next_use: Array
    slot_at: Array
    due: Array
    due_summary: Array
    idle: Array
    idle_summary: Array


LATEST, SLOT = 0, 1
SEEN_ELEMENT, SEEN_SEGMENT, SEEN, USED, TAKEN, LOOSE, OLDEST, VISITS, MISSES, PART = range(10)
HEAD = 10


def _power(least: int) -> int:
    """Return the smallest power of two that is not below ``least``."""
    return 1 << max(int(least) - 1, 0).bit_length()


def _sets(members: int) -> tuple[Array, Array]:
    """Return an empty set for ``members`` and its summary."""
    words = -(-members // WORD)
    return np.zeros(words + 1, dtype=np.uint64), np.zeros(-(-words // WORD) + 1, dtype=np.uint64)


@kernel
def _count_visits(trace: Array, first_line: Array, look_ahead: int) -> tuple[int, int]:
    """Return the visits of the whole trace, and the most that ``look_ahead`` elements after any one come to with it."""
    total = 0
    now = 0
    widest = 0
    for e in range(trace.size):
        lines = first_line[trace[e] + 1] - first_line[trace[e]]
        total += lines
        now += lines
        if e > look_ahead:
            gone = trace[e - look_ahead - 1]
            now -= first_line[gone + 1] - first_line[gone]
        widest = max(widest, now)
    return total, widest


def _empty_buffer(lines: int, visits: int, window: int, params: PrefetchParams) -> _Buffer:
    """Return a buffer without lines, its rings powers of two larger than what they hold."""
    waiting = min(visits, params.run_ahead) + 1
    ring = _power(window + waiting)
    due, due_summary = _sets(ring)
    idle, idle_summary = _sets(max(params.lines, 1))
    return _Buffer(
        np.full((lines, 2), NOWHERE, dtype=np.int32 if visits < 1 << 31 else np.int64),
        np.full(max(params.lines, 1), NOWHERE, dtype=np.int64),
        np.zeros(_power(visits if params.policy == LRU else waiting), dtype=np.int64),
        np.full(ring, NEVER, dtype=np.int64),
        np.zeros(ring, dtype=np.int32),
        due,
        due_summary,
        idle,
        idle_summary,
    )


def _first_lines(row_elements: Array, params: PrefetchParams) -> Array:
    """Return the first line of every row of B, int64 of length rows + 1; one entry alone if every row has one line."""
    lines = -(-(params.pointer_bytes + row_elements * params.element_bytes) // params.line_bytes)
    if (lines == 1).all():
        return np.zeros(1, dtype=np.int64)
    return np.concatenate(([0], np.cumsum(lines))).astype(np.int64)


class Prefetcher:
    """Runs the line visits of a trace through the buffer, as far as it is asked to.

    Parameters
    ----------
    trace : rows of B in the order in which elements of A ask for them, over all rounds.
    row_elements : elements of each row of B, int64.
    known : ends of the parts of the trace, ascending; a part is known only when the one before has been used up.

    Attributes
    ----------
    fetched : what has been done so far.
    """

    def __init__(self, trace: Array, row_elements: Array, known: Array, params: PrefetchParams) -> None:
        self._trace, self._known, self._params = trace, known, params
        self._first_line = first_line = _first_lines(row_elements, params)
        if first_line.size == 1:  # a line each
            visits, widest = trace.size, min(trace.size, params.look_ahead + 1)
        else:
            visits, widest = _count_visits(trace, first_line, params.look_ahead)
        window = 0
        if params.policy == FARTHEST:
            window = widest if params.unit_is_element else min(visits, params.look_ahead + 1)
        lines = row_elements.size if first_line.size == 1 else int(first_line[-1])
        self._buffer = _empty_buffer(lines, visits, window, params)
        self._head = np.zeros(HEAD, dtype=np.int64)
        missed = np.zeros(visits // WORD + 1, dtype=np.uint64)
        self.fetched = Fetched(0, 0, 0, missed, np.zeros((0, 2), dtype=np.int64))

    def go_on(self, elements: int) -> None:
        """Run the visits of some more elements of the trace."""
        begin = self.fetched.elements
        stop = min(begin + elements, self._trace.size)
        missed = self.fetched.missed
        places = (self._trace, self._first_line, self._known)
        stalls = _replay(*places, self._params, self._buffer, missed, self._head, self.fetched.stalls, begin, stop)
        self.fetched = Fetched(stop, int(self._head[VISITS]), int(self._head[MISSES]), missed, stalls)


@inlined
def _see(buffer: _Buffer, head: Array, line: int) -> None:
    """Note the visit at the head of the window as the next use of its line."""
    ring = buffer.next_use.size - 1
    seen = head[SEEN]
    latest = buffer.line[at(line), LATEST]
    if latest >= head[USED]:
        buffer.next_use[at(latest & ring)] = seen
    elif buffer.line[at(line), SLOT] >= 0:
        slot = buffer.line[at(line), SLOT]
        leave_out(buffer.idle, buffer.idle_summary, slot)
        include(buffer.due, buffer.due_summary, seen & ring)
        buffer.slot_at[at(seen & ring)] = slot
    buffer.line[at(line), LATEST] = seen
    buffer.next_use[at(seen & ring)] = NEVER
    head[SEEN] = seen + 1


@inlined
def _use(buffer: _Buffer, head: Array, visit: int, policy: int) -> None:
    """Use up the oldest fetched visit: its line may be replaced again, unless a later visit waits for it."""
    oldest = head[USED]
    head[USED] = oldest + 1
    line = buffer.visited[at(oldest & (buffer.visited.size - 1))]
    slot = buffer.line[at(line), SLOT]
    if slot < 0:
        return
    if policy == LRU:
        head[LOOSE] += buffer.line[at(line), LATEST] == oldest
        return
    ring = buffer.next_use.size - 1
    next_use = buffer.next_use[at(oldest & ring)]
    if next_use < visit:
        return
    head[LOOSE] += 1
    if next_use == NEVER:
        include(buffer.idle, buffer.idle_summary, slot)
    else:
        include(buffer.due, buffer.due_summary, next_use & ring)
        buffer.slot_at[at(next_use & ring)] = slot


@inlined
def _hold(buffer: _Buffer, head: Array, line: int, visit: int, policy: int) -> None:
    """Keep a line on chip until this visit of it is used."""
    if policy == LRU:
        head[LOOSE] -= buffer.line[at(line), LATEST] < head[USED]
    else:
        head[LOOSE] -= leave_out(buffer.due, buffer.due_summary, visit & (buffer.next_use.size - 1))


@inlined
def _take_victim(buffer: _Buffer, head: Array, nearer_than: int, policy: int) -> int:
    """Give up the slot of the line to be replaced; -1 if none is used later than ``nearer_than``."""
    if policy == LRU:
        while True:
            oldest = head[OLDEST]
            line = buffer.visited[at(oldest & (buffer.visited.size - 1))]
            head[OLDEST] = oldest + 1
            if buffer.line[at(line), LATEST] == oldest and buffer.line[at(line), SLOT] >= 0:
                head[LOOSE] -= 1
                return buffer.line[at(line), SLOT]
    if nearer_than == NEVER:
        return NOWHERE
    slot = lowest(buffer.idle, buffer.idle_summary)
    if slot >= 0:
        leave_out(buffer.idle, buffer.idle_summary, slot)
        head[LOOSE] -= 1
        return slot
    ring = buffer.next_use.size - 1
    begin = head[SEEN] & ring
    due = highest_below(buffer.due, buffer.due_summary, begin)
    if due < 0:
        due = highest_below(buffer.due, buffer.due_summary, ring + 1)
    if head[SEEN] - 1 - ((begin - 1 - due) & ring) <= nearer_than:
        return NOWHERE
    leave_out(buffer.due, buffer.due_summary, due)
    head[LOOSE] -= 1
    return np.int64(buffer.slot_at[at(due)])


@inlined
def _store(buffer: _Buffer, head: Array, line: int, visit: int, params: PrefetchParams) -> None:
    """Put a fetched line into a free slot or the victim's, unless it passes by."""
    if head[TAKEN] < params.lines:
        slot = head[TAKEN]
        head[TAKEN] = slot + 1
    else:
        nearer_than = np.int64(-1)
        if params.run_ahead == 0 and params.policy == FARTHEST:
            nearer_than = buffer.next_use[visit & (buffer.next_use.size - 1)]
        slot = _take_victim(buffer, head, nearer_than, params.policy)
        if slot < 0:
            return
        buffer.line[at(buffer.line_in[at(slot)]), SLOT] = NOWHERE
    buffer.line_in[at(slot)] = line
    buffer.line[at(line), SLOT] = slot


@kernel
def _replay(
    trace: Array,
    first_line: Array,
    known: Array,
    params: PrefetchParams,
    buffer: _Buffer,
    missed: Array,
    head: Array,
    stalls: Array,
    begin: int,
    stop: int,
) -> Array:
    """Run the visits of elements ``begin`` to ``stop``; set the bits of those that miss, return the stalls so far."""
    ring = buffer.visited.size - 1
    stalled = stalls.shape[0]
    visit, misses, part = head[VISITS], head[MISSES], head[PART]
    for e in range(begin, stop):
        while known[part] <= e:
            part += 1
            while head[USED] < visit:
                _use(buffer, head, visit, params.policy)
        k = trace[e]
        first, end = (k, k + 1) if first_line.size == 1 else (first_line[at(k)], first_line[at(k + 1)])
        for line in range(first, end):
            while head[USED] < visit and head[USED] <= visit - params.run_ahead:
                _use(buffer, head, visit, params.policy)
            if params.policy == FARTHEST:
                _look_ahead(buffer, head, trace, first_line, params, (e, visit, known[part]))
            buffer.visited[at(visit & ring)] = line
            is_hit = buffer.line[at(line), SLOT] >= 0
            if is_hit:
                _hold(buffer, head, line, visit, params.policy)
            if params.policy == LRU:
                buffer.line[at(line), LATEST] = visit
            visit += 1
            if is_hit:
                continue
            missed[at((visit - 1) >> 6)] |= ONE << np.uint64((visit - 1) & 63)
            misses += 1
            if params.policy == OFF or params.lines == 0:
                continue
            used = head[USED]
            while head[LOOSE] == 0 and head[TAKEN] == params.lines and head[USED] < visit - 1:
                _use(buffer, head, visit, params.policy)
            if head[USED] > used:
                if stalled == stalls.shape[0]:
                    stalls = np.concatenate((stalls, np.zeros((stalled + 16, 2), dtype=np.int64)))
                stalls[stalled, 0] = visit - 1
                stalls[stalled, 1] = max(visit - head[USED], 1)
                stalled += 1
            if head[TAKEN] < params.lines or head[LOOSE] > 0:
                _store(buffer, head, line, visit - 1, params)
    head[VISITS], head[MISSES], head[PART] = visit, misses, part
    return stalls[:stalled]


@inlined
def _look_ahead(
    buffer: _Buffer, head: Array, trace: Array, first_line: Array, params: PrefetchParams, now: tuple[int, int, int]
) -> None:
    """Move the head of the window on; ``now`` is the element and visit it is at, and the element it must not pass."""
    element, visit, stop = now
    while head[SEEN_ELEMENT] < stop:
        ahead = head[SEEN_ELEMENT] - element if params.unit_is_element else head[SEEN] - visit
        if ahead > params.look_ahead:
            return
        k = trace[at(head[SEEN_ELEMENT])]
        begin, end = (k, k + 1) if first_line.size == 1 else (first_line[at(k)], first_line[at(k + 1)])
        line = begin + head[SEEN_SEGMENT]
        if line == end:
            head[SEEN_ELEMENT] += 1
            head[SEEN_SEGMENT] = 0
            continue
        _see(buffer, head, line)
        head[SEEN_SEGMENT] += 1
