"""Merge tree of the cycle-level model (Zhang et al., HPCA 2020, section II-A), element by element.

Nodes are numbered like a heap: node 1 is the root, node n takes from FIFO 2n and 2n + 1, and FIFO f is filled by node
f or, from the number of ways on, by a leaf. A key is row << 32 | column.

Nodes that can work stand in the set READY of their layer. If a layer has none, its merger turns to nodes that lack
elements on one side only (SHORT), provided that all which is missing is known to come later in the order; and if
there is none either, to nodes that hold back elements such a node needs to have seen (URGENT). The rows that leaves
are at are known, so hardware can know this too; without it an input with nothing in the rows under way would stop its
siblings, and with a finite look-ahead FIFO all others.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sparsim.kernels import cycle_state as cs
from sparsim.kernels._jit import inner
from sparsim.kernels.cycle_dram import NEVER

Array = npt.NDArray[Any]

NEITHER = -1  # class of a node that is in none of its layer's sets


@inner
def add(m: Array, table: int, fields: int, which: int, size: int, base: int, x: int) -> None:
    """Put row ``x`` of a table into set ``which``, whose members stand from row ``base`` on, ``m[size]`` of them."""
    place = table + x * fields + which
    if m[place] == 0:
        m[table + (base + m[size]) * fields + which + 1] = x
        m[size] += 1
        m[place] = m[size]


@inner
def drop(m: Array, table: int, fields: int, which: int, size: int, base: int, x: int) -> None:
    """Take row ``x`` of a table out of a set."""
    place = m[table + x * fields + which]
    if place > 0:
        m[size] -= 1
        last = m[table + (base + m[size]) * fields + which + 1]
        m[table + (base + place - 1) * fields + which + 1] = last
        m[table + last * fields + which] = place
        m[table + x * fields + which] = 0


@inner
def put_node(m: Array, which: int, inside: bool, n: int) -> None:
    """Put a node into a set of its layer, or take it out."""
    depth = m[m[cs.NODE_AT] + n * cs.NODE_STATE + cs.DEPTH]
    size = m[cs.LAYER_AT] + depth * cs.LAYER_FIELDS + which // 2
    if inside:
        add(m, m[cs.NODE_AT], cs.NODE_STATE, which, size, 1 << depth, n)
    else:
        drop(m, m[cs.NODE_AT], cs.NODE_STATE, which, size, 1 << depth, n)


@inner
def put_leaf(m: Array, which: int, inside: bool, i: int) -> None:
    """Put a leaf into a set, or take it out."""
    size = cs.SET_SIZES + which // 2
    if inside:
        add(m, m[cs.LEAF_AT], cs.LEAF_FIELDS, which, size, 0, i)
    else:
        drop(m, m[cs.LEAF_AT], cs.LEAF_FIELDS, which, size, 0, i)


@inner
def held(m: Array, f: int) -> int:
    """Elements in FIFO ``f``."""
    fifo = m[cs.FIFO_AT] + f * cs.FIFO_FIELDS
    return m[fifo + cs.F_TAIL] - m[fifo + cs.F_HEAD]


@inner
def key_in(m: Array, f: int, position: int) -> int:
    """Key that FIFO ``f`` received as number ``position``."""
    return m[m[cs.RING_AT] + f * (m[cs.RING_MASK] + 1) + (position & m[cs.RING_MASK])]


@inner
def _has_room(m: Array, n: int) -> bool:
    """Whether a node's output FIFO, or the writer's, takes a full window."""
    if n == 1:
        return m[cs.HELD] + m[cs.WIDTH] * m[cs.OUT_BYTES] <= m[cs.WRITER_FIFO] * m[cs.OUT_BYTES]
    return held(m, n) + m[cs.WIDTH] <= m[cs.CAPACITY]


@inner
def classify(m: Array, n: int) -> None:
    """Put a node into READY, SHORT or neither; a node whose inputs have ended empty ends, and so on upwards."""
    while n > 0:
        left = m[cs.FIFO_AT] + 2 * n * cs.FIFO_FIELDS
        right = left + cs.FIFO_FIELDS
        in_left = m[left + cs.F_TAIL] - m[left + cs.F_HEAD]
        in_right = m[right + cs.F_TAIL] - m[right + cs.F_HEAD]
        now = NEITHER
        if in_left + in_right > 0 and _has_room(m, n):
            full_left = in_left >= m[left + cs.F_NEED] or m[left + cs.F_END] != 0
            full_right = in_right >= m[right + cs.F_NEED] or m[right + cs.F_END] != 0
            if full_left and full_right:
                now = cs.READY
            elif (full_left and in_left > 0) or (full_right and in_right > 0):
                now = cs.SHORT
        node = m[cs.NODE_AT] + n * cs.NODE_STATE
        if m[node + cs.CLASS] != now:
            if m[node + cs.CLASS] != NEITHER:
                put_node(m, m[node + cs.CLASS], False, n)
            if now != NEITHER:
                put_node(m, now, True, n)
            m[node + cs.CLASS] = now
        end = m[cs.FIFO_AT] + n * cs.FIFO_FIELDS + cs.F_END
        if in_left + in_right > 0 or m[left + cs.F_END] == 0 or m[right + cs.F_END] == 0 or m[end] != 0:
            return
        m[end] = 1
        n >>= 1


@inner
def choose_nodes(m: Array, el: Array, partial_keys: Array) -> bool:
    """Choose one node for every layer's merger: the emptiest output FIFO first, then the lowest node."""
    any_chosen = False
    for depth in range(m[cs.LAYERS]):
        layer = m[cs.LAYER_AT] + depth * cs.LAYER_FIELDS
        members = m[cs.NODE_AT] + (1 << depth) * cs.NODE_STATE
        best, fill = 0, NEVER
        for i in range(m[layer + cs.READY_SIZE]):
            n = m[members + i * cs.NODE_STATE + cs.READY_LIST]
            here = held(m, n)
            if here < fill or (here == fill and n < best):
                best, fill = n, here
        if best == 0 and m[layer + cs.SHORT_SIZE] > 0:
            best = _choose_other(m, el, partial_keys, members, m[layer + cs.SHORT_SIZE], cs.SHORT)
        if best == 0 and m[layer + cs.URGENT_SIZE] > 0:
            best = _choose_other(m, el, partial_keys, members, m[layer + cs.URGENT_SIZE], cs.URGENT)
        m[layer + cs.CHOSEN] = best
        any_chosen |= best > 0
    return any_chosen


@inner
def _choose_other(m: Array, el: Array, partial_keys: Array, members: int, i: int, which: int) -> int:
    """Choose from a layer's SHORT or URGENT nodes one that can work; 0 if none can."""
    best, fill = 0, NEVER
    while i > 0:
        i -= 1
        n = m[members + i * cs.NODE_STATE + which + 1]
        here = held(m, n)
        if here > fill or (here == fill and n > best) or _is_blocked(m, n, which):
            continue
        if _is_later(m, el, partial_keys, n) if which == cs.SHORT else _can_flush(m, el, partial_keys, n):
            best, fill = n, here
    return best


@inner
def _is_blocked(m: Array, n: int, which: int) -> bool:
    """Whether what stopped a node when it was last asked about is unchanged; then it stays urgent to change it."""
    known = m[cs.NODE_AT] + n * cs.NODE_STATE + (cs.SHORT_BLOCKER if which == cs.SHORT else cs.URGENT_BLOCKER)
    blocker = m[known]
    if blocker == 0 or _version(m, blocker) != m[known + 1]:
        return False
    if held(m, blocker) > 0 and m[m[cs.NODE_AT] + (blocker >> 1) * cs.NODE_STATE + cs.URGENT] == 0:
        put_node(m, cs.URGENT, True, blocker >> 1)
    return True


@inner
def _is_later(m: Array, el: Array, partial_keys: Array, n: int) -> bool:
    """Whether all that the lacking input of a SHORT node will bring comes after the window of its sibling."""
    left = m[cs.FIFO_AT] + 2 * n * cs.FIFO_FIELDS
    full = 2 * n
    if m[left + cs.F_END] == 0 and held(m, full) < m[left + cs.F_NEED]:
        full += 1
    starved = full ^ 1
    window = min(m[cs.WIDTH], held(m, full))
    key = key_in(m, full, m[m[cs.FIFO_AT] + full * cs.FIFO_FIELDS + cs.F_HEAD] + window - 1)
    if m[m[cs.FIFO_AT] + starved * cs.FIFO_FIELDS + cs.F_BOUND] > key:
        return True
    return _ask_bound(m, el, partial_keys, n, starved, key, cs.SHORT_BLOCKER)


@inner
def _can_flush(m: Array, el: Array, partial_keys: Array, n: int) -> bool:
    """Whether an URGENT node can pass on its first element."""
    in_left, in_right = held(m, 2 * n), held(m, 2 * n + 1)
    if in_left + in_right == 0:
        put_node(m, cs.URGENT, False, n)
        return False
    if not _has_room(m, n):
        return False
    if in_left > 0 and in_right > 0:
        return True
    full = 2 * n if in_left > 0 else 2 * n + 1
    other = m[cs.FIFO_AT] + (full ^ 1) * cs.FIFO_FIELDS
    key = key_in(m, full, m[m[cs.FIFO_AT] + full * cs.FIFO_FIELDS + cs.F_HEAD])
    if m[other + cs.F_END] != 0 or m[other + cs.F_BOUND] > key:
        return True
    return _ask_bound(m, el, partial_keys, n, full ^ 1, key, cs.URGENT_BLOCKER)


@inner
def _ask_bound(m: Array, el: Array, partial_keys: Array, n: int, f: int, key: int, field: int) -> bool:
    """Whether FIFO ``f`` will bring keys above ``key`` only; if not, what stands in the way becomes urgent."""
    known = m[cs.NODE_AT] + n * cs.NODE_STATE + field
    blocker = _bound(m, el, partial_keys, f, key)
    m[known] = blocker
    if blocker == 0:
        return True
    m[known + 1] = _version(m, blocker)
    if held(m, blocker) > 0:
        put_node(m, cs.URGENT, True, blocker >> 1)
    return False


@inner
def _version(m: Array, f: int) -> int:
    """Return a number that grows whenever what FIFO ``f`` holds, or what its leaf may bring, changes."""
    fifo = m[cs.FIFO_AT] + f * cs.FIFO_FIELDS
    version = m[fifo + cs.F_HEAD] + m[fifo + cs.F_TAIL]
    if f >= m[cs.WAYS]:
        leaf = m[cs.LEAF_AT] + (f - m[cs.WAYS]) * cs.LEAF_FIELDS
        version += m[leaf + cs.P_HERE] if m[leaf + cs.PART] >= 0 else min(m[leaf + cs.CURRENT], m[cs.ENTERED])
    return version


@inner
def _bound(m: Array, el: Array, partial_keys: Array, top: int, key: int) -> int:
    """Bound from below what FIFO ``top`` will be filled with; return 0, or a FIFO that may bring ``key`` or less."""
    low, stack = NEVER, m[cs.STACK_AT]
    m[stack] = top
    stack += 1
    while stack > m[cs.STACK_AT]:
        stack -= 1
        f = m[stack]
        fifo = m[cs.FIFO_AT] + f * cs.FIFO_FIELDS
        if f != top and m[fifo + cs.F_TAIL] > m[fifo + cs.F_HEAD]:
            bound = key_in(m, f, m[fifo + cs.F_HEAD])
        elif m[fifo + cs.F_END] != 0:
            bound = NEVER
        elif m[fifo + cs.F_BOUND] > key:
            bound = m[fifo + cs.F_BOUND]
        elif f >= m[cs.WAYS]:
            bound = _next_key(m, el, partial_keys, f - m[cs.WAYS])
            m[fifo + cs.F_BOUND] = bound
        else:
            m[stack], m[stack + 1] = 2 * f, 2 * f + 1
            stack += 2
            continue
        if bound <= key:
            return f
        low = min(low, bound)
    m[m[cs.FIFO_AT] + top * cs.FIFO_FIELDS + cs.F_BOUND] = low
    return 0


@inner
def _next_key(m: Array, el: Array, partial_keys: Array, i: int) -> int:
    """Bound what a leaf brings next by the row of its current element, or of the next one to enter."""
    leaf = m[cs.LEAF_AT] + i * cs.LEAF_FIELDS
    if m[leaf + cs.PART] < 0:
        return el[min(m[leaf + cs.CURRENT], m[cs.ENTERED]), cs.E_ROW] << 32
    if m[leaf + cs.P_MOVED] < m[leaf + cs.P_HERE]:
        return partial_keys[m[leaf + cs.P_AT] + m[leaf + cs.P_MOVED]]
    return 0


@inner
def merge_layer(m: Array, out: Array, depth: int) -> int:
    """Let the chosen node of a layer consume up to WIDTH elements in key order; return the node, 0 if none.

    One iteration is one output element, of one or two inputs; a pair of equal keys is never split over two cycles. An
    input that runs empty stops the node, unless it has ended or will only bring larger keys: the bound of what it will
    bring stands behind its last element. Unsigned places spare the check for negative ones.
    """
    layer = m[cs.LAYER_AT] + depth * cs.LAYER_FIELDS
    n = m[layer + cs.CHOSEN]
    if n == 0:
        return 0
    left = m[cs.FIFO_AT] + 2 * n * cs.FIFO_FIELDS
    right = left + cs.FIFO_FIELDS
    a, a_end, b, b_end = m[left + cs.F_HEAD], m[left + cs.F_TAIL], m[right + cs.F_HEAD], m[right + cs.F_TAIL]
    mask, width, root = m[cs.RING_MASK], m[cs.WIDTH], n == 1
    in_a = m[cs.RING_AT] + 2 * n * (mask + 1)
    in_b = in_a + mask + 1
    m[in_a + (a_end & mask)] = NEVER if m[left + cs.F_END] else m[left + cs.F_BOUND]
    m[in_b + (b_end & mask)] = NEVER if m[right + cs.F_END] else m[right + cs.F_BOUND]
    to, to_mask = (
        (m[cs.PRODUCED], m[cs.OUT_MASK]) if root else (m[m[cs.FIFO_AT] + n * cs.FIFO_FIELDS + cs.F_TAIL], mask)
    )
    ring, made, taken = m[cs.RING_AT] + n * (mask + 1), 0, 0
    while taken < width:
        x, y = m[np.uint64(in_a + (a & mask))], m[np.uint64(in_b + (b & mask))]
        from_a, from_b = int(x <= y), int(y <= x)
        if a + from_a > a_end or b + from_b > b_end or (taken + from_a + from_b > width and made > 0):
            break
        if root:
            out[(to + made) & to_mask] = min(x, y)
        else:
            m[np.uint64(ring + ((to + made) & to_mask))] = min(x, y)
        a += from_a
        b += from_b
        taken += from_a + from_b
        made += 1
    m[left + cs.F_HEAD], m[right + cs.F_HEAD] = a, b
    if root:
        m[cs.PRODUCED] += made
    else:
        m[m[cs.FIFO_AT] + n * cs.FIFO_FIELDS + cs.F_TAIL] += made
    if a == a_end and b == b_end and m[left + cs.F_END] != 0 and m[right + cs.F_END] != 0:
        m[m[cs.FIFO_AT] + n * cs.FIFO_FIELDS + cs.F_END] = 1
    if m[m[cs.NODE_AT] + n * cs.NODE_STATE + cs.URGENT] != 0:
        put_node(m, cs.URGENT, False, n)
    m[layer + cs.BUSY_CYCLES] += 1
    m[layer + cs.TAKEN] += taken
    return n
