"""Row prefetcher of the cycle-level model (Zhang et al., HPCA 2020, section II-D).

A line is identified by number: ``el[e, E_LINE]`` plus its place in the row. Lines with a visit that was fetched and
not used are pinned; the others carry a key, and the line of the largest key is the next victim. Keys stand in a heap
whose outdated entries are dropped when they come up.
"""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from sparsim.kernels import cycle_state as cs
from sparsim.kernels._jit import inner
from sparsim.kernels.cycle_dram import B_READ, BURST, NEVER, request

Array = npt.NDArray[Any]

FAR = 1 << 60
SEGMENTS = 1 << 24  # more lines than a row has


@inner
def segments(m: Array, length: int) -> int:
    """Lines of a row of ``length`` elements; the first holds the row pointer too."""
    rest = length - m[cs.FIRST_ELEMENTS]
    return 1 if rest <= 0 else 1 + (rest + m[cs.LINE_ELEMENTS] - 1) // m[cs.LINE_ELEMENTS]


@inner
def segment_of(m: Array, position: int) -> int:
    """Line of the row that holds its element ``position``; of the row pointer, if that is the first thing wanted."""
    rest = position - m[cs.FIRST_ELEMENTS]
    return 0 if rest < 0 or position == 0 else 1 + rest // m[cs.LINE_ELEMENTS]


@inner
def last_segment(m: Array, offset: int, chunk: int) -> int:
    """Line that holds the last of ``chunk`` elements from ``offset`` on."""
    rest = offset + chunk - 1 - m[cs.FIRST_ELEMENTS]
    return 0 if rest < 0 or chunk == 0 else 1 + rest // m[cs.LINE_ELEMENTS]


@inner
def visited(m: Array, el: Array, e: int, segment: int) -> bool:
    """Whether a visit lies behind the fetch pointer or was demanded."""
    pointer = m[cs.FETCH_ELEMENT]
    return e < pointer or (e == pointer and segment < m[cs.FETCH_LINE]) or segment < el[e, cs.E_DEMAND]


@inner
def _key(m: Array, el: Array, s: int) -> int:
    """How willingly slot ``s`` is given up: by next visit, the unseen ones first and of them the lowest slot."""
    slot = m[cs.SLOT_AT] + s * cs.SLOT_FIELDS
    if m[cs.POLICY] == cs.LRU:
        return FAR - m[slot + cs.S_SEEN]
    e, segment = m[m[cs.NEXT_USE_AT] + m[slot + cs.S_K]], m[slot + cs.S_SEGMENT]
    if e != NEVER and visited(m, el, e, segment):
        e = el[e, cs.E_SAME]
    if e == NEVER or (m[cs.POLICY] == cs.FARTHEST and e >= m[cs.ENTERED]):
        return NEVER - s
    return e * SEGMENTS + segment


@inner
def _offer(m: Array, el: Array, s: int) -> None:
    """Give an unpinned line its key and put it on the heap."""
    slot = m[cs.SLOT_AT] + s * cs.SLOT_FIELDS
    m[slot + cs.S_KEY] = _key(m, el, s)
    if m[cs.HEAP_SIZE] == m[cs.HEAP_LIMIT]:
        _rebuild(m)
    else:
        _push(m, m[slot + cs.S_KEY], s)


@inner
def _rebuild(m: Array) -> None:
    """Drop the outdated entries of the heap."""
    m[cs.HEAP_SIZE] = 0
    for s in range(m[cs.LINES]):
        slot = m[cs.SLOT_AT] + s * cs.SLOT_FIELDS
        if m[slot + cs.S_LINE] >= 0 and m[slot + cs.S_PINS] == 0:
            _push(m, m[slot + cs.S_KEY], s)


@inner
def renew_keys(m: Array, el: Array) -> None:
    """Compute all keys afresh: a new round has new next visits."""
    for s in range(m[cs.LINES]):
        slot = m[cs.SLOT_AT] + s * cs.SLOT_FIELDS
        if m[slot + cs.S_LINE] >= 0 and m[slot + cs.S_PINS] == 0:
            m[slot + cs.S_KEY] = _key(m, el, s)
    _rebuild(m)


@inner
def _push(m: Array, key: int, s: int) -> None:
    """Put an entry, key and slot, on the heap."""
    heap, at = m[cs.HEAP_AT], m[cs.HEAP_SIZE]
    m[cs.HEAP_SIZE] += 1
    while at > 0:
        above = (at - 1) >> 1
        if m[heap + 2 * above] >= key:
            break
        m[heap + 2 * at] = m[heap + 2 * above]
        m[heap + 2 * at + 1] = m[heap + 2 * above + 1]
        at = above
    m[heap + 2 * at] = key
    m[heap + 2 * at + 1] = s


@inner
def _pop(m: Array) -> int:
    """Take the top off the heap; return its slot."""
    heap = m[cs.HEAP_AT]
    top = m[heap + 1]
    m[cs.HEAP_SIZE] -= 1
    size = m[cs.HEAP_SIZE]
    key, s = m[heap + 2 * size], m[heap + 2 * size + 1]
    at, child = 0, 1
    while child < size:
        if child + 1 < size and m[heap + 2 * child + 2] > m[heap + 2 * child]:
            child += 1
        if m[heap + 2 * child] <= key:
            break
        m[heap + 2 * at] = m[heap + 2 * child]
        m[heap + 2 * at + 1] = m[heap + 2 * child + 1]
        at, child = child, 2 * child + 1
    m[heap + 2 * at] = key
    m[heap + 2 * at + 1] = s
    return top


@inner
def _take_slot(m: Array, spare: bool) -> int:
    """Return a free slot, else the victim's; with ``spare``, else one beyond the buffer; -1 if there is none."""
    s = m[cs.FREE_SLOT]
    if s >= 0:
        m[cs.FREE_SLOT] = m[m[cs.SLOT_AT] + s * cs.SLOT_FIELDS + cs.S_FREE]
        return s
    while m[cs.HEAP_SIZE] > 0:
        key = m[m[cs.HEAP_AT]]
        s = _pop(m)
        slot = m[cs.SLOT_AT] + s * cs.SLOT_FIELDS
        if m[slot + cs.S_PINS] == 0 and m[slot + cs.S_KEY] == key:
            m[m[cs.SLOT_OF_AT] + m[slot + cs.S_LINE]] = -1
            return s
    s = m[cs.FREE_SPARE]
    if spare and s >= 0:
        m[cs.FREE_SPARE] = m[m[cs.SLOT_AT] + s * cs.SLOT_FIELDS + cs.S_FREE]
        return s
    return -1


@inner
def visit(m: Array, el: Array, e: int, segment: int, spare: bool) -> bool:
    """Fetch one line for element ``e`` unless it is there or on its way; return False if no slot can be had."""
    line = el[e, cs.E_LINE] + segment
    s = m[m[cs.SLOT_OF_AT] + line]
    if s >= 0:
        m[cs.HITS] += 1
        slot = m[cs.SLOT_AT] + s * cs.SLOT_FIELDS
    else:
        s = _take_slot(m, spare)
        if s < 0:
            return False
        m[cs.MISSES] += 1
        m[m[cs.SLOT_OF_AT] + line] = s
        slot = m[cs.SLOT_AT] + s * cs.SLOT_FIELDS
        m[slot + cs.S_LINE], m[slot + cs.S_PINS] = line, 0
        m[slot + cs.S_K], m[slot + cs.S_SEGMENT] = el[e, cs.E_K], segment
        m[slot + cs.S_START], m[slot + cs.S_LENGTH] = (el[e, cs.E_START], el[e, cs.E_LENGTH])
        _fetch(m, s)
    m[slot + cs.S_PINS] += 1
    m[slot + cs.S_KEY] = -1
    m[slot + cs.S_SEEN] = m[cs.VISITS]
    m[cs.VISITS] += 1
    m[cs.OUTSTANDING] += 1
    return True


@inner
def _fetch(m: Array, s: int) -> None:
    """Ask for the bursts of a line. Row pointers are gathered: every burst's worth of them costs one burst."""
    slot = m[cs.SLOT_AT] + s * cs.SLOT_FIELDS
    segment, start, length, burst = (m[slot + cs.S_SEGMENT], m[slot + cs.S_START], m[slot + cs.S_LENGTH], m[BURST])
    first = 0 if segment == 0 else m[cs.FIRST_ELEMENTS] + (segment - 1) * m[cs.LINE_ELEMENTS]
    end = min(m[cs.FIRST_ELEMENTS] + segment * m[cs.LINE_ELEMENTS], length)
    flight = 0
    m[cs.B_PAYLOAD] += max(end - first, 0) * m[cs.ELEMENT] + (m[cs.POINTER] if segment == 0 else 0)
    if end > first:
        low = m[cs.B_BASE] + (start + first) * m[cs.ELEMENT]
        high = m[cs.B_BASE] + (start + end) * m[cs.ELEMENT]
        for address in range(low // burst * burst, high, burst):
            request(m, address, B_READ, s, m[cs.NOW])
            flight += 1
    if segment == 0 and m[cs.POINTER] > 0:
        if m[cs.POINTERS] % max(1, burst // m[cs.POINTER]) == 0:
            address = (m[cs.POINTER_BASE] + m[slot + cs.S_K] * m[cs.POINTER]) // burst * burst
            request(m, address, B_READ, s, m[cs.NOW])
            flight += 1
        m[cs.POINTERS] += 1
    m[slot + cs.S_FLIGHT] = flight


@inner
def release(m: Array, el: Array, e: int, segment: int) -> None:
    """Note that element ``e`` is done with a line; without other visits the line may be replaced."""
    s = m[m[cs.SLOT_OF_AT] + el[e, cs.E_LINE] + segment]
    slot = m[cs.SLOT_AT] + s * cs.SLOT_FIELDS
    m[slot + cs.S_PINS] -= 1
    m[cs.OUTSTANDING] -= 1
    if m[slot + cs.S_PINS] > 0:
        return
    if s < m[cs.LINES]:
        _offer(m, el, s)
    else:
        m[m[cs.SLOT_OF_AT] + m[slot + cs.S_LINE]] = -1
        m[slot + cs.S_LINE] = -1
        m[slot + cs.S_FREE] = m[cs.FREE_SPARE]
        m[cs.FREE_SPARE] = s


@inner
def come_into_view(m: Array, el: Array, e: int) -> None:
    """Note that element ``e`` entered the look-ahead FIFO: stored lines of its row now have a next visit."""
    if m[cs.POLICY] != cs.FARTHEST or m[m[cs.NEXT_USE_AT] + el[e, cs.E_K]] != e:
        return
    at = m[cs.SLOT_OF_AT] + el[e, cs.E_LINE]
    for place in range(at, at + segments(m, el[e, cs.E_LENGTH])):
        s = m[place]
        if 0 <= s < m[cs.LINES] and m[m[cs.SLOT_AT] + s * cs.SLOT_FIELDS + cs.S_PINS] == 0:
            _offer(m, el, s)
