"""What fills the leaves of the cycle-level model: multipliers and readers of partial results.

A leaf that multiplies works through its elements of A in order, ``GROUP_WIDTH`` products (a chunk) at a time. Leaves
whose next chunk can be issued stand in the set GO; the one with the earliest element goes first (Zhang et al., HPCA
2020, section II-B, have the columns fetched in the order of rows).
"""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from sparsim.kernels import cycle_state as cs
from sparsim.kernels._jit import inner
from sparsim.kernels.cycle_dram import BURST, NEVER, PARTIAL_READ, request
from sparsim.kernels.cycle_prefetch import last_segment, release, segment_of, segments, visited
from sparsim.kernels.cycle_tree import classify, held, put_leaf

Array = npt.NDArray[Any]


@inner
def next_chunk(m: Array, el: Array, i: int) -> int:
    """Products of the leaf's next chunk, 0 if its element meets an empty row of B."""
    leaf = m[cs.LEAF_AT] + i * cs.LEAF_FIELDS
    return min(m[cs.GROUP_WIDTH], el[m[leaf + cs.CURRENT], cs.E_LENGTH] - m[leaf + cs.OFFSET])


@inner
def fits(m: Array, i: int, chunk: int) -> bool:
    """Whether the leaf's FIFO has room for a chunk."""
    leaf = m[cs.LEAF_AT] + i * cs.LEAF_FIELDS
    return held(m, m[cs.WAYS] + i) + m[leaf + cs.RESERVED] + chunk <= m[cs.CAPACITY]


@inner
def _lacks_line(m: Array, el: Array, i: int, chunk: int) -> bool:
    """Whether a line of the leaf's next chunk is not there yet; if it is on its way, wait for it.

    ``LOADED`` keeps up to where in the row all lines are known to be there.
    """
    leaf = m[cs.LEAF_AT] + i * cs.LEAF_FIELDS
    e, offset = m[leaf + cs.CURRENT], m[leaf + cs.OFFSET]
    if offset + chunk <= m[leaf + cs.LOADED] and chunk > 0:
        return False
    last = last_segment(m, offset, chunk)
    for segment in range(segment_of(m, offset), last + 1):
        if not visited(m, el, e, segment):
            return True
        slot = m[cs.SLOT_AT] + m[m[cs.SLOT_OF_AT] + el[e, cs.E_LINE] + segment] * cs.SLOT_FIELDS
        if m[slot + cs.S_FLIGHT] > 0:
            if m[leaf + cs.WAIT] == 0:
                m[leaf + cs.WAIT] = 1
                m[leaf + cs.WAIT_NEXT] = m[slot + cs.S_WAITERS]
                m[slot + cs.S_WAITERS] = i + 1
            return True
    m[leaf + cs.LOADED] = m[cs.FIRST_ELEMENTS] + last * m[cs.LINE_ELEMENTS]
    return False


@inner
def look_at_leaf(m: Array, el: Array, i: int) -> None:
    """Decide whether a leaf can issue its next chunk; elements that meet an empty row of B are used up here."""
    leaf = m[cs.LEAF_AT] + i * cs.LEAF_FIELDS
    while m[leaf + cs.CURRENT] < m[cs.ENTERED]:
        chunk = next_chunk(m, el, i)
        if _lacks_line(m, el, i, chunk):
            break
        if chunk > 0:
            put_leaf(m, cs.GO, fits(m, i, chunk), i)
            return
        release(m, el, m[leaf + cs.CURRENT], 0)
        _finish_element(m, el, leaf)
    put_leaf(m, cs.GO, False, i)
    end = m[cs.FIFO_AT] + (m[cs.WAYS] + i) * cs.FIFO_FIELDS + cs.F_END
    if m[leaf + cs.CURRENT] == m[cs.ELEMENTS] and m[leaf + cs.RESERVED] == 0 and m[end] == 0:
        m[end] = 1
        classify(m, (m[cs.WAYS] + i) >> 1)


@inner
def _finish_element(m: Array, el: Array, leaf: int) -> None:
    """Go on to the leaf's next element; the look-ahead FIFO has room for another."""
    m[leaf + cs.CURRENT] = el[m[leaf + cs.CURRENT], cs.E_NEXT]
    m[leaf + cs.OFFSET] = m[leaf + cs.LOADED] = 0
    m[cs.FINISHED] += 1
    m[cs.STRETCH] = 0


@inner
def look_at_waiting(m: Array, el: Array, s: int) -> None:
    """Count an arrived burst of a line; if it was the last, look at the leaves that wait for the line."""
    slot = m[cs.SLOT_AT] + s * cs.SLOT_FIELDS
    m[slot + cs.S_FLIGHT] -= 1
    if m[slot + cs.S_FLIGHT] > 0:
        return
    waiting = m[slot + cs.S_WAITERS]
    m[slot + cs.S_WAITERS] = 0
    while waiting > 0:
        i = waiting - 1
        leaf = m[cs.LEAF_AT] + i * cs.LEAF_FIELDS
        waiting = m[leaf + cs.WAIT_NEXT]
        m[leaf + cs.WAIT] = 0
        look_at_leaf(m, el, i)


@inner
def _first_leaf(m: Array) -> int:
    """Return the leaf in GO that is at the earliest element."""
    i, e = -1, NEVER
    for member in range(m[cs.SET_SIZES]):
        candidate = m[m[cs.LEAF_AT] + member * cs.LEAF_FIELDS + cs.GO_LIST]
        current = m[m[cs.LEAF_AT] + candidate * cs.LEAF_FIELDS + cs.CURRENT]
        if current < e:
            i, e = candidate, current
    return i


@inner
def choose_chunks(m: Array, el: Array) -> int:
    """Give every multiplier group a chunk; return how many got one."""
    issued, i = 0, -1
    while issued < m[cs.GROUPS] and m[cs.SET_SIZES] > 0:
        if i < 0 or m[m[cs.LEAF_AT] + i * cs.LEAF_FIELDS + cs.GO] == 0:
            i = _first_leaf(m)
        leaf, chunk = m[cs.LEAF_AT] + i * cs.LEAF_FIELDS, next_chunk(m, el, i)
        e, offset = m[leaf + cs.CURRENT], m[leaf + cs.OFFSET]
        place = m[cs.CHUNK_AT] + issued * cs.CHUNK_FIELDS
        m[place + cs.K_LEAF], m[place + cs.K_ROW] = i, el[e, cs.E_ROW]
        m[place + cs.K_START], m[place + cs.K_LENGTH] = (el[e, cs.E_START] + offset, chunk)
        issued += 1
        m[cs.MULTIPLIES] += chunk
        m[leaf + cs.RESERVED] += chunk
        ends = offset + chunk == el[e, cs.E_LENGTH]
        done = segments(m, offset + chunk) if ends else segment_of(m, offset + chunk)
        for segment in range(segment_of(m, offset), done):
            release(m, el, e, segment)
        m[leaf + cs.OFFSET] += chunk
        if ends:
            _finish_element(m, el, leaf)
        look_at_leaf(m, el, i)
        if ends:
            i = -1
    m[cs.CHUNKS] += issued
    return issued


@inner
def push_chunks(m: Array, b_indices: Array, issued: int) -> None:
    """Put the products of this cycle into the leaves' FIFOs."""
    mask = m[cs.RING_MASK]
    for chunk in range(issued):
        place = m[cs.CHUNK_AT] + chunk * cs.CHUNK_FIELDS
        i, row, start = (m[place + cs.K_LEAF], m[place + cs.K_ROW] << 32, m[place + cs.K_START])
        length = m[place + cs.K_LENGTH]
        f = m[cs.WAYS] + i
        tail = m[cs.FIFO_AT] + f * cs.FIFO_FIELDS + cs.F_TAIL
        ring = m[cs.RING_AT] + f * (mask + 1)
        for j in range(length):
            m[ring + ((m[tail] + j) & mask)] = row | b_indices[start + j]
        m[tail] += length
        leaf = m[cs.LEAF_AT] + i * cs.LEAF_FIELDS
        m[leaf + cs.RESERVED] -= length
        if m[leaf + cs.CURRENT] == m[cs.ELEMENTS] and m[leaf + cs.RESERVED] == 0:
            m[m[cs.FIFO_AT] + f * cs.FIFO_FIELDS + cs.F_END] = 1
        classify(m, f >> 1)


@inner
def choose_moves(m: Array) -> bool:
    """Decide how many elements of each partial result go into its leaf's FIFO in this cycle."""
    for member in range(m[cs.SET_SIZES + cs.MOVE // 2]):
        i = m[m[cs.LEAF_AT] + member * cs.LEAF_FIELDS + cs.MOVE_LIST]
        leaf = m[cs.LEAF_AT] + i * cs.LEAF_FIELDS
        room = m[cs.CAPACITY] - held(m, m[cs.WAYS] + i)
        m[leaf + cs.TAKE] = min(m[cs.WIDTH], room, m[leaf + cs.P_HERE] - m[leaf + cs.P_MOVED])
    return m[cs.SET_SIZES + cs.MOVE // 2] > 0


@inner
def push_moves(m: Array, partial_keys: Array) -> None:
    """Move elements of partial results into the leaves' FIFOs."""
    mask, member = m[cs.RING_MASK], m[cs.SET_SIZES + cs.MOVE // 2]
    while member > 0:
        member -= 1
        i = m[m[cs.LEAF_AT] + member * cs.LEAF_FIELDS + cs.MOVE_LIST]
        leaf, f = m[cs.LEAF_AT] + i * cs.LEAF_FIELDS, m[cs.WAYS] + i
        fifo = m[cs.FIFO_AT] + f * cs.FIFO_FIELDS
        ring = m[cs.RING_AT] + f * (mask + 1)
        take, at = m[leaf + cs.TAKE], m[leaf + cs.P_AT] + m[leaf + cs.P_MOVED]
        for j in range(take):
            m[ring + ((m[fifo + cs.F_TAIL] + j) & mask)] = partial_keys[at + j]
        m[leaf + cs.TAKE] = 0
        m[fifo + cs.F_TAIL] += take
        m[leaf + cs.P_MOVED] += take
        if m[leaf + cs.P_MOVED] == m[leaf + cs.P_SIZE]:
            m[fifo + cs.F_END] = 1
        if held(m, f) == m[cs.CAPACITY] or m[leaf + cs.P_MOVED] == m[leaf + cs.P_HERE]:
            put_leaf(m, cs.MOVE, False, i)
        if take > 0 and m[leaf + cs.P_ASKED] < m[leaf + cs.P_SIZE]:
            put_leaf(m, cs.ASK, True, i)
        classify(m, f >> 1)


@inner
def _advance(m: Array, i: int) -> None:
    """Let elements of a partial result that are complete from the front on move."""
    leaf = m[cs.LEAF_AT] + i * cs.LEAF_FIELDS
    here = m[leaf + cs.P_HERE]
    while m[leaf + cs.P_HEAD] < m[leaf + cs.P_REQUESTS]:
        which = m[leaf + cs.PART] * m[cs.REQUESTS] + m[leaf + cs.P_HEAD] % m[cs.REQUESTS]
        if m[m[cs.ASKED_AT] + 2 * which] > 0:
            break
        m[leaf + cs.P_HERE] = m[m[cs.ASKED_AT] + 2 * which + 1]
        m[leaf + cs.P_HEAD] += 1
    if m[leaf + cs.P_HERE] > here:
        put_leaf(m, cs.MOVE, True, i)


@inner
def receive_partial(m: Array, load: int) -> None:
    """Count a burst of a partial result that has arrived; ``load`` is leaf * REQUESTS + request."""
    i, which = load // m[cs.REQUESTS], load % m[cs.REQUESTS]
    part = m[m[cs.LEAF_AT] + i * cs.LEAF_FIELDS + cs.PART]
    m[m[cs.ASKED_AT] + 2 * (part * m[cs.REQUESTS] + which)] -= 1
    _advance(m, i)


@inner
def ask_partials(m: Array) -> bool:
    """Let every reader of a partial result that has room ask for up to REQUEST elements.

    Of a request is kept how many bursts it waits for and the element it ends at. A burst that the request before
    asked for is not asked for again.
    """
    burst, any_asked, member = m[BURST], False, m[cs.SET_SIZES + cs.ASK // 2]
    while member > 0:
        member -= 1
        i = m[m[cs.LEAF_AT] + member * cs.LEAF_FIELDS + cs.ASK_LIST]
        leaf = m[cs.LEAF_AT] + i * cs.LEAF_FIELDS
        start = m[leaf + cs.P_ASKED]
        end = min(start + min(cs.REQUEST, m[cs.SHARE]), m[leaf + cs.P_SIZE])
        if end == start or end - m[leaf + cs.P_MOVED] > m[cs.SHARE]:
            put_leaf(m, cs.ASK, False, i)
            continue
        any_asked = True
        which = m[leaf + cs.P_REQUESTS] % m[cs.REQUESTS]
        first = max(m[leaf + cs.P_BURST], m[leaf + cs.P_BASE] // burst)
        last = (m[leaf + cs.P_BASE] + end * m[cs.PARTIAL_ELEMENT] - 1) // burst
        for b in range(first, last + 1):
            request(m, b * burst, PARTIAL_READ, i * m[cs.REQUESTS] + which, m[cs.NOW])
        place = m[cs.ASKED_AT] + 2 * (m[leaf + cs.PART] * m[cs.REQUESTS] + which)
        m[place], m[place + 1] = last + 1 - first, end
        m[leaf + cs.P_BURST] = last + 1
        m[leaf + cs.P_ASKED] = end
        m[leaf + cs.P_REQUESTS] += 1
        if last < first:
            _advance(m, i)
    return any_asked
