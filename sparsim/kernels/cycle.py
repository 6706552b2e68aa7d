"""SpArch cycle by cycle and element by element (Zhang et al., HPCA 2020, section II): the oracle of the fast model.

One iteration of :func:`run_round` is one core cycle. Units decide on what they see at the start of the cycle, so what
one does is seen by the next a cycle later. Cycles in which nothing can happen are skipped.

Not modelled: values (every pair of a row and a column that is reached counts), the pre-pass that measures columns,
row pointers of A and C, pipeline depth inside a unit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sparsim.kernels import cycle_state as cs
from sparsim.kernels._jit import inner, step
from sparsim.kernels.cycle_channel import run_memory
from sparsim.kernels.cycle_dram import (
    A_READ,
    B_READ,
    BURST,
    C_WRITE,
    CHANNELS,
    INTERLEAVE,
    NEVER,
    PARTIAL_WRITE,
    STREAMS,
    next_arrival,
    next_event,
    post,
    request,
)
from sparsim.kernels.cycle_leaves import (
    ask_partials,
    choose_chunks,
    choose_moves,
    fits,
    look_at_leaf,
    look_at_waiting,
    next_chunk,
    push_chunks,
    push_moves,
    receive_partial,
)
from sparsim.kernels.cycle_prefetch import (
    come_into_view,
    last_segment,
    renew_keys,
    segment_of,
    segments,
    visit,
    visited,
)
from sparsim.kernels.cycle_tree import choose_nodes, classify, merge_layer, put_leaf

Array = npt.NDArray[Any]


@step
def run_round(
    m: Array, el: Array, a_bursts: Array, a_here: Array, b_indices: Array, partial_keys: Array, out: Array
) -> None:
    """Run one merge round, from its first request to the moment its last element is posted to the memory.

    Parameters
    ----------
    m : the state, see ``cycle_state``. ``m[NOW]`` is the round's first cycle and, in the end, the one after its last;
        ``m[ERROR]`` is set if nothing can move any more.
    el : (elements of A and one more row that is not read, ELEMENT_FIELDS), in the order they enter.
    a_bursts, a_here : addresses of the bursts that hold them, and whether they have arrived.
    b_indices : column indices of B.
    partial_keys : the elements of all partial results of the round, one result after the other.
    out : takes the keys of the result, ``m[OUT_MASK]`` + 1 of them.
    """
    _begin(m, el)
    while True:
        moved = _receive(m, el, a_here)
        moved |= choose_nodes(m, el, partial_keys)
        issued = choose_chunks(m, el)
        moved |= choose_moves(m)
        _merge(m, el, out)
        push_chunks(m, b_indices, issued)
        push_moves(m, partial_keys)
        moved |= _write(m)
        moved |= ask_partials(m)
        moved |= _enter(m, el, a_bursts, a_here)
        moved |= _prefetch(m, el)
        moved |= run_memory(m, m[cs.NOW]) > 0 and m[cs.WRITES_WAITING] > 0
        if m[cs.WRITES_WAITING] == 0 and m[cs.NEXT_WRITE] == NEVER:
            m[cs.NOW] += 1
            return
        following = m[cs.NOW] + 1 if moved or issued > 0 else next_event(m, m[cs.NOW])
        if following == NEVER:
            _loosen(m, el)
            following = m[cs.NOW] + 1
            if m[cs.ERROR]:
                return
        m[cs.NOW] = following


@inner
def _begin(m: Array, el: Array) -> None:
    """Settle what is known at the start of a round: next visits, and which leaves and nodes have nothing to bring."""
    renew_keys(m, el)
    for i in range(m[cs.WAYS]):
        leaf = m[cs.LEAF_AT] + i * cs.LEAF_FIELDS
        if m[leaf + cs.PART] < 0:
            look_at_leaf(m, el, i)
        elif m[leaf + cs.P_SIZE] == 0:
            m[m[cs.FIFO_AT] + (m[cs.WAYS] + i) * cs.FIFO_FIELDS + cs.F_END] = 1
        else:
            put_leaf(m, cs.ASK, True, i)
    for n in range(m[cs.WAYS] - 1, 0, -1):
        classify(m, n)


@inner
def _receive(m: Array, el: Array, a_here: Array) -> bool:
    """Hand the data that arrive in this cycle to those who asked for them."""
    moved = False
    tag = next_arrival(m, m[cs.NOW])
    while tag >= 0:
        moved = True
        stream, load = tag % STREAMS, tag // STREAMS
        if stream == A_READ:
            a_here[load] = 1
        elif stream == B_READ:
            look_at_waiting(m, el, load)
        else:
            receive_partial(m, load)
        tag = next_arrival(m, m[cs.NOW])
    return moved


@inner
def _merge(m: Array, el: Array, out: Array) -> None:
    """Run the chosen node of every layer, the root first: what a node pushes is not seen above before next cycle."""
    ways = m[cs.WAYS]
    for depth in range(m[cs.LAYERS]):
        n = merge_layer(m, out, depth)
        if n == 0:
            continue
        classify(m, n)
        if n > 1:
            classify(m, n >> 1)
        for f in range(2 * n, 2 * n + 2):
            leaf = m[cs.LEAF_AT] + (f - ways) * cs.LEAF_FIELDS
            if f < ways:
                classify(m, f)
            elif m[leaf + cs.PART] < 0:
                look_at_leaf(m, el, f - ways)
            elif m[leaf + cs.P_MOVED] < m[leaf + cs.P_HERE]:
                put_leaf(m, cs.MOVE, True, f - ways)


@inner
def _write(m: Array) -> bool:
    """Cut what the root produced into bursts and post them in order; the burst being filled stands in a register."""
    burst, ended = m[BURST], m[m[cs.FIFO_AT] + cs.FIFO_FIELDS + cs.F_END] != 0
    stream = C_WRITE if m[cs.LAST_ROUND] else PARTIAL_WRITE
    end = m[cs.OUT_BASE] + m[cs.PRODUCED] * m[cs.OUT_BYTES]
    moved = False
    while m[cs.NEXT_WRITE] + burst <= end or (ended and m[cs.PRODUCED] > 0 and m[cs.NEXT_WRITE] < end):
        size = min(m[cs.NEXT_WRITE] + burst, end) - max(m[cs.NEXT_WRITE], m[cs.OUT_BASE])
        request(m, m[cs.NEXT_WRITE], stream, size, m[cs.NOW])
        m[cs.WRITES_WAITING] += 1
        m[cs.HELD] += size
        m[cs.NEXT_WRITE] += burst
        moved = True
    if ended:
        m[cs.NEXT_WRITE] = NEVER
    for _ in range(m[CHANNELS]):
        if m[cs.WRITES_WAITING] == 0:
            break
        size = post(m, m[cs.POSTED] // m[INTERLEAVE] % m[CHANNELS], m[cs.NOW])
        if size < 0:
            break
        m[cs.POSTED] += burst
        m[cs.HELD] -= size
        m[cs.WRITES_WAITING] -= 1
        moved = True
    if moved:
        classify(m, 1)
    return moved


@inner
def _enter(m: Array, el: Array, a_bursts: Array, a_here: Array) -> bool:
    """Ask for elements of A as far as the look-ahead FIFO reaches, and let those that are here enter it in order."""
    moved = False
    reach = min(m[cs.ELEMENTS], m[cs.FINISHED] + m[cs.WINDOW] + m[cs.STRETCH])
    stop = min(reach, m[cs.ASKED] + cs.FETCHERS)
    while m[cs.ASKED] < stop:
        while m[cs.ASKED_BURSTS] < el[m[cs.ASKED], cs.E_BURSTS]:
            request(m, a_bursts[m[cs.ASKED_BURSTS]], A_READ, m[cs.ASKED_BURSTS], m[cs.NOW])
            m[cs.ASKED_BURSTS] += 1
        m[cs.ASKED] += 1
        moved = True
    while m[cs.HERE_BURSTS] < m[cs.ASKED_BURSTS] and a_here[m[cs.HERE_BURSTS]]:
        m[cs.HERE_BURSTS] += 1
    entering = 0
    while (
        entering < m[cs.PER_CYCLE]
        and m[cs.ENTERED] < m[cs.ASKED]
        and el[m[cs.ENTERED], cs.E_BURSTS] <= m[cs.HERE_BURSTS]
    ):
        m[cs.ENTERED] += 1
        entering += 1
        come_into_view(m, el, m[cs.ENTERED] - 1)
    m[cs.ENTRY_BUSY] += entering > 0
    return moved or entering > 0


@inner
def _prefetch(m: Array, el: Array) -> bool:
    """Move the fetch pointer over the line visits of the elements in the look-ahead FIFO, in their order."""
    visits, spare = 0, m[cs.POLICY] == cs.OFF
    while visits < cs.FETCHERS and m[cs.FETCH_ELEMENT] < m[cs.ENTERED] and m[cs.OUTSTANDING] < m[cs.RUN_AHEAD]:
        e = m[cs.FETCH_ELEMENT]
        segment = max(m[cs.FETCH_LINE], el[e, cs.E_DEMAND])
        lines = segments(m, el[e, cs.E_LENGTH])
        if segment < lines:
            if not visit(m, el, e, segment, spare):
                break
            visits += 1
            segment += 1
        m[cs.FETCH_LINE] = segment
        if segment == lines:
            m[m[cs.NEXT_USE_AT] + el[e, cs.E_K]] = el[e, cs.E_SAME]
            m[cs.FETCH_ELEMENT] += 1
            m[cs.FETCH_LINE] = 0
        i = el[e, cs.E_LEAF]
        if m[m[cs.LEAF_AT] + i * cs.LEAF_FIELDS + cs.CURRENT] == e:
            look_at_leaf(m, el, i)
    return visits > 0


@inner
def _loosen(m: Array, el: Array) -> None:
    """Nothing can move: leaves that lack elements demand the lines of their next chunk, whatever the limits say.

    If there are none, the look-ahead FIFO takes one element more than it holds. The paper does not say how the machine
    gets out; without a way out, an element whose siblings have more lines than the run-ahead stops it.
    """
    demands = 0
    for i in range(m[cs.WAYS]):
        leaf = m[cs.LEAF_AT] + i * cs.LEAF_FIELDS
        e, offset = m[leaf + cs.CURRENT], m[leaf + cs.OFFSET]
        if m[leaf + cs.PART] >= 0 or e >= m[cs.ENTERED]:
            continue
        chunk = next_chunk(m, el, i)
        if not fits(m, i, chunk):
            continue
        for segment in range(segment_of(m, offset), last_segment(m, offset, chunk) + 1):
            if not visited(m, el, e, segment):
                visit(m, el, e, segment, True)
                el[e, cs.E_DEMAND] = segment + 1
                demands += 1
        look_at_leaf(m, el, i)
    m[cs.DEMANDED] += demands
    m[cs.STUCK] += 1
    if demands == 0:
        m[cs.STRETCH] += 1
        m[cs.STRETCHES] += 1
        m[cs.ERROR] = m[cs.FINISHED] + m[cs.WINDOW] + m[cs.STRETCH] > m[cs.ELEMENTS]


@step
def drain(m: Array) -> None:
    """Run the memory until all that was posted is written."""
    m[cs.NOW] = next_event(m, m[cs.NOW] - 1)
    while m[cs.NOW] < NEVER:
        run_memory(m, m[cs.NOW])
        m[cs.NOW] = next_event(m, m[cs.NOW])


@step
def link_elements(m: Array, el: Array, position: Array, stamp: Array, first: Array, a_bursts: Array) -> None:
    """Link the elements of a round with the next of their leaf and of their row of B, and list the bursts of A.

    ``position[e]`` is the place of element ``e`` in the CSR arrays. An element brings the bursts it needs, unless an
    element of its row or of the row before brought them in this round; ``stamp[burst]`` tells.
    """
    burst, count, row = m[BURST], 0, np.int64(-1)
    mark = m[cs.ROUND] << 32
    for e in range(position.size):
        low = m[cs.A_BASE] + position[e] * m[cs.ELEMENT]
        if el[e, cs.E_ROW] != row:
            row = el[e, cs.E_ROW]
            mark += 1
        for b in range(low // burst, (low + m[cs.ELEMENT] - 1) // burst + 1):
            if stamp[b] < mark - 1 or stamp[b] == m[cs.ROUND] << 32:
                a_bursts[count] = b * burst
                count += 1
            stamp[b] = mark
        el[e, cs.E_BURSTS] = count
    for e in range(position.size - 1, -1, -1):
        leaf, next_use = el[e, cs.E_LEAF], m[cs.NEXT_USE_AT] + el[e, cs.E_K]
        el[e, cs.E_NEXT] = first[leaf]
        first[leaf] = e
        el[e, cs.E_SAME] = m[next_use]
        m[next_use] = e
