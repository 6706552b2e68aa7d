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
slots, if it has none there. The victim is the lowest such slot, else the line of the highest such visit. A slot whose
next use has come into the window changes sets only when it would be the victim.

Not modelled here: time; fetching is always as far ahead as it may be, and the look-ahead always full.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sparsim.kernels._jit import at, inlined, inner, kernel
from sparsim.kernels.bits import ONE, WORD, highest_below, include, leave_out, take_lowest
from sparsim.kernels.early import fetch_early
from sparsim.kernels.next_use import END, NEVER, Uses, find_uses, first_use, next_use, no_uses, window_end
from sparsim.kernels.records import Fetched, PrefetchParams

__all__ = ["FARTHEST", "LRU", "OFF", "Prefetcher"]

Array = npt.NDArray[Any]

FARTHEST, LRU, OFF = 0, 1, 2
NOWHERE = -1
HELD = -1
SOON, LATER = 8, 24  # elements: what an element needs is asked for before it is reached


class _Buffer(NamedTuple):
    """The lines on chip and what is known of their next use.

    ``slot_of`` is the slot of a line, ``line_in`` the line of a slot, and ``due_at`` its next use, HELD while a fetched
    visit waits for it. ``visited`` and ``next_use`` are rings over the visits not used yet (with LRU ``visited`` is one
    over all). ``due`` are the visits at which a line that may be replaced is used next, in a ring over the window, with
    their slots in ``slot_at``; ``idle`` the slots of the others; both with their summaries. ``latest`` is with LRU the
    latest visit of a line.
    """

    slot_of: Array
    line_in: Array
    due_at: Array
    visited: Array
    next_use: Array
    slot_at: Array
    due: Array
    due_summary: Array
    idle: Array
    idle_summary: Array
    latest: Array


USED, TAKEN, LOOSE, OLDEST, VISITS, MISSES, PART, STALLS = range(8)
HEAD = 8


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
    is_lru = params.policy == LRU
    return _Buffer(
        slot_of=np.full(lines, NOWHERE, dtype=np.int32),
        line_in=np.full(max(params.lines, 1), NOWHERE, dtype=np.int64),
        due_at=np.full(max(params.lines, 1), HELD, dtype=np.int64),
        visited=np.zeros(_power(visits if is_lru else waiting), dtype=np.int64),
        next_use=np.full(_power(waiting), NEVER, dtype=np.int64),
        slot_at=np.zeros(ring, dtype=np.int32),
        due=due,
        due_summary=due_summary,
        idle=idle,
        idle_summary=idle_summary,
        latest=np.full(lines if is_lru else 0, NOWHERE, dtype=np.int64),
    )


def _first_lines(row_elements: Array, params: PrefetchParams) -> Array:
    """Return the first line of every row of B, int64 of length rows + 1; one entry alone if every row has one line."""
    lines = -(-(params.pointer_bytes + row_elements * params.element_bytes) // params.line_bytes)
    if (lines == 1).all():
        return np.zeros(1, dtype=np.int64)
    return np.concatenate(([0], np.cumsum(lines))).astype(np.int64)


@kernel
def _visits_before(trace: Array, first_line: Array, elements: Array) -> Array:
    """Return the visits of the trace before each of some elements, ascending."""
    before = np.empty(elements.size, dtype=np.int64)
    total = 0
    e = 0
    for i in range(elements.size):
        while e < elements[i]:
            total += first_line[at(trace[e] + 1)] - first_line[at(trace[e])]
            e += 1
        before[i] = total
    return before


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
        looked_at = trace if params.policy == FARTHEST else trace[:0]
        self._uses = no_uses(looked_at, np.diff(first_line), row_elements.size, params)
        self._head = np.zeros(HEAD, dtype=np.int64)
        missed = np.zeros(visits // WORD + 1, dtype=np.uint64)
        self._stalls = np.empty((0, 2), dtype=np.int64)
        self.fetched = Fetched(0, 0, 0, missed, self._stalls)

    def visits_before(self, elements: Array) -> Array:
        """Return how many visits come before those of each of some elements of the trace, ascending."""
        return elements if self._first_line.size == 1 else _visits_before(self._trace, self._first_line, elements)

    def go_on(self, elements: int) -> None:
        """Run the visits of some more elements of the trace."""
        begin = self.fetched.elements
        stop = min(begin + elements, self._trace.size)
        missed = self.fetched.missed
        places = (self._trace, self._first_line, self._known)
        state = (self._buffer, self._uses, missed, self._head, self._stalls)
        self._stalls = _replay(*places, self._params, *state, begin, stop)
        visits, misses, stalls = self._head[[VISITS, MISSES, STALLS]].tolist()
        self.fetched = Fetched(stop, visits, misses, missed, self._stalls[:stalls])


@inlined
def _let_go(buffer: _Buffer, used: int, visit: int, seen: int, policy: int) -> int:
    """Use up a fetched visit; return whether its line may be replaced now: not if a later visit waits for it."""
    line = buffer.visited[at(used & (buffer.visited.size - 1))]
    slot = buffer.slot_of[at(line)]
    if slot < 0:
        return 0
    if policy == LRU:
        return np.int64(buffer.latest[at(line)] == used)
    next_use = buffer.next_use[at(used & (buffer.next_use.size - 1))]
    if next_use < visit:
        return 0
    buffer.due_at[at(slot)] = next_use
    if next_use < seen:
        _put_due(buffer, slot, next_use)
    else:
        include(buffer.idle, buffer.idle_summary, slot)
    return 1


@inlined
def _put_due(buffer: _Buffer, slot: int, next_use: int) -> None:
    """Note that the line of a slot is used next at a visit in the window."""
    place = next_use & (buffer.slot_at.size - 1)
    include(buffer.due, buffer.due_summary, place)
    buffer.slot_at[at(place)] = slot


@inlined
def _hold(buffer: _Buffer, slot: int, line: int, visit: int, used: int, policy: int) -> int:
    """Keep a line on chip until this visit of it is used; return whether it could be replaced before."""
    if policy == LRU:
        return np.int64(buffer.latest[at(line)] < used)
    if buffer.due_at[at(slot)] == HELD:
        return 0
    buffer.due_at[at(slot)] = HELD
    if not leave_out(buffer.due, buffer.due_summary, visit & (buffer.slot_at.size - 1)):
        leave_out(buffer.idle, buffer.idle_summary, slot)
    return 1


@inlined
def _oldest_victim(buffer: _Buffer, head: Array) -> int:
    """Return the slot of the line visited longest ago."""
    while True:
        oldest = head[OLDEST]
        line = buffer.visited[at(oldest & (buffer.visited.size - 1))]
        head[OLDEST] = oldest + 1
        if buffer.latest[at(line)] == oldest and buffer.slot_of[at(line)] >= 0:
            return np.int64(buffer.slot_of[at(line)])


@inlined
def _farthest_victim(buffer: _Buffer, seen: int, nearer_than: int) -> int:
    """Give up the slot of the line used last in the window up to visit ``seen``, or not at all.

    -1 if none is used later than ``nearer_than``, a use beyond the window being as good as none.
    """
    if nearer_than >= seen:
        return NOWHERE
    slot = take_lowest(buffer.idle, buffer.idle_summary)
    while slot >= 0:
        if buffer.due_at[at(slot)] >= seen:
            return slot
        _put_due(buffer, slot, buffer.due_at[at(slot)])
        slot = take_lowest(buffer.idle, buffer.idle_summary)
    ring = buffer.slot_at.size - 1
    begin = seen & ring
    due = highest_below(buffer.due, buffer.due_summary, begin)
    if due < 0:
        due = highest_below(buffer.due, buffer.due_summary, ring + 1)
    if seen - 1 - ((begin - 1 - due) & ring) <= nearer_than:
        return NOWHERE
    leave_out(buffer.due, buffer.due_summary, due)
    return np.int64(buffer.slot_at[at(due)])


@inlined
def _put(buffer: _Buffer, slot: int, line: int) -> None:
    """Put a fetched line into a slot, in place of what is there."""
    if buffer.line_in[at(slot)] >= 0:
        buffer.slot_of[at(buffer.line_in[at(slot)])] = NOWHERE
    buffer.line_in[at(slot)] = line
    buffer.slot_of[at(line)] = slot
    buffer.due_at[at(slot)] = HELD


@inlined
def _first_use(uses: Uses, first_line: Array, line: int) -> int:
    """Return the first visit of a line from the chunk's begin on, NEVER if it is not known."""
    if first_line.size == 1:
        return first_use(uses, line, 0)
    row, behind = 0, first_line.size - 1  # searched for here: numpy's own would load scipy's linear algebra
    while behind - row > 1:
        middle = (row + behind) >> 1
        if first_line[at(middle)] <= line:
            row = middle
        else:
            behind = middle
    return first_use(uses, row, line - first_line[at(row)])


@inner
def _know_more(buffer: _Buffer, uses: Uses, first_line: Array, used: int, visit: int) -> None:
    """Look up the next use of fetched visits and lines where it lay beyond what was known."""
    ring = buffer.visited.size - 1
    for waiting in range(used, visit):
        if buffer.next_use[at(waiting & ring)] == NEVER:
            buffer.next_use[at(waiting & ring)] = _first_use(uses, first_line, buffer.visited[at(waiting & ring)])
    for slot in range(buffer.line_in.size):
        if buffer.due_at[slot] == NEVER:
            buffer.due_at[slot] = _first_use(uses, first_line, buffer.line_in[slot])


@kernel
def _with_room(stalls: Array) -> Array:
    """Return the stalls with room behind them; little, as there may be one for every visit."""
    larger = np.empty((stalls.shape[0] + stalls.shape[0] // 4 + 64, 2), dtype=np.int64)
    for stall in range(stalls.shape[0]):
        larger[stall, 0], larger[stall, 1] = stalls[stall, 0], stalls[stall, 1]
    return larger


@kernel
def _replay(
    trace: Array,
    first_line: Array,
    known: Array,
    params: PrefetchParams,
    buffer: _Buffer,
    uses: Uses,
    missed: Array,
    head: Array,
    stalls: Array,
    begin: int,
    stop: int,
) -> Array:
    """Run the visits of elements ``begin`` to ``stop``; set the bits of those that miss.

    Returns the stalls, or, if there was no room left for them, larger ones with the same before.
    """
    policy, lines, is_farthest = params.policy, params.lines, params.policy == FARTHEST
    ring, final = buffer.visited.size - 1, trace.size - 1
    visit, misses, part, stalled = head[VISITS], head[MISSES], head[PART], head[STALLS]
    used, taken, loose, seen = head[USED], head[TAKEN], head[LOOSE], visit
    for e in range(begin, stop):
        if is_farthest and e == uses.span[END]:
            find_uses(uses, trace, first_line, e, visit)
            _know_more(buffer, uses, first_line, used, visit)
        while known[part] <= e:
            part += 1
            while used < visit:
                loose += _let_go(buffer, used, visit, seen, policy)
                used += 1
        if first_line.size == 1:
            fetch_early(buffer.slot_of, trace[min(e + SOON, final)])
        else:
            fetch_early(first_line, trace[min(e + LATER, final)])
            fetch_early(buffer.slot_of, first_line[trace[min(e + SOON, final)]])
        k = trace[e]
        first, end = (k, k + 1) if first_line.size == 1 else (first_line[at(k)], first_line[at(k + 1)])
        for line in range(first, end):
            used_next = NEVER
            if is_farthest:
                seen = window_end(uses, params, e, visit, known[part])
                used_next = next_use(uses, e, line - first)
            while used < visit and used <= visit - params.run_ahead:
                loose += _let_go(buffer, used, visit, seen, policy)
                used += 1
            buffer.visited[at(visit & ring)] = line
            buffer.next_use[at(visit & (buffer.next_use.size - 1))] = used_next
            slot = np.int64(buffer.slot_of[at(line)])
            if slot >= 0:
                loose -= _hold(buffer, slot, line, visit, used, policy)
            if policy == LRU:
                buffer.latest[at(line)] = visit
            visit += 1
            if slot >= 0:
                continue
            missed[at((visit - 1) >> 6)] |= ONE << np.uint64((visit - 1) & 63)
            misses += 1
            if policy == OFF or lines == 0:
                continue
            begun = used
            while loose == 0 and taken == lines and used < visit - 1:
                loose += _let_go(buffer, used, visit, seen, policy)
                used += 1
            if used > begun:
                if stalled == stalls.shape[0]:
                    stalls = _with_room(stalls)
                stalls[stalled, 0] = visit - 1
                stalls[stalled, 1] = visit - used
                stalled += 1
            if taken < lines:
                _put(buffer, taken, line)
                taken += 1
            elif loose > 0:
                if policy == LRU:
                    slot = _oldest_victim(buffer, head)
                else:
                    slot = _farthest_victim(buffer, seen, used_next if params.run_ahead == 0 else -1)
                if slot >= 0:
                    loose -= 1
                    _put(buffer, slot, line)
    head[VISITS], head[MISSES], head[PART], head[STALLS] = visit, misses, part, stalled
    head[USED], head[TAKEN], head[LOOSE] = used, taken, loose
    return stalls
