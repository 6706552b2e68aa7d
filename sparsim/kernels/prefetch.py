"""The row prefetcher of SpArch (Zhang et al., HPCA 2020, section II-D): rows of B in lines, replaced by next use.

A row of B is a pointer and its elements, cut into lines; every row asked for visits its lines in order (an empty row
still costs its pointer). The distance list builder runs ahead by a window and knows, for every line it has seen there,
the next visit. The buffer is fully associative; the victim is the line with the farthest next use, lines without a use
in the window being infinitely far, ties by the lowest slot.

Lines are fetched ``run_ahead`` visits before they are used, and a line that waits for its use cannot be replaced: the
farther ahead, the less of the buffer is left for reuse (running ahead without limit, the farthest next use replaces as
LRU does). With ``run_ahead`` 0 a line is fetched when it is used, and passes the buffer by if it is itself no nearer
than the victim: the rule of the author's scheduler. One iteration is one visit of a line.

Not modelled here: time; fetching is always as far ahead as it may be, and the look-ahead always full.
Row pointers that miss are gathered into whole bursts: they are too small to be charged one each.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sparsim.kernels._jit import kernel
from sparsim.kernels.records import Prefetched, PrefetchParams, Requests

__all__ = ["FARTHEST", "LRU", "OFF", "prefetch"]

Array = npt.NDArray[Any]

FARTHEST, LRU, OFF = 0, 1, 2
NEVER = 1 << 62
PINNED = -1


@kernel
def _set_key(tree: Array, slot: int, key: int) -> None:
    """Write a slot's key into the maximum tree and carry the maximum up."""
    node = tree.size // 2 + slot
    tree[node] = key
    node //= 2
    while node > 0:
        best = max(tree[2 * node], tree[2 * node + 1])
        if tree[node] == best:
            return
        tree[node] = best
        node //= 2


@kernel
def _farthest(tree: Array) -> int:
    """Return the lowest slot that holds the maximum."""
    node = 1
    half = tree.size // 2
    while node < half:
        node = 2 * node if tree[2 * node] >= tree[2 * node + 1] else 2 * node + 1
    return node - half


@kernel
def _largest_window(trace: Array, first_line: Array, params: PrefetchParams) -> int:
    """Return an upper bound of the visits the window can hold at once."""
    total = 0
    for k in trace:
        total += first_line[k + 1] - first_line[k]
    if not params.unit_is_element:
        return min(total, params.look_ahead + 1)
    if params.look_ahead >= trace.size:
        return total
    widest = 0
    now = 0
    for e in range(trace.size):
        now += first_line[trace[e] + 1] - first_line[trace[e]]
        if e > params.look_ahead:
            gone = trace[e - params.look_ahead - 1]
            now -= first_line[gone + 1] - first_line[gone]
        widest = max(widest, now)
    return widest


class _Buffer(NamedTuple):
    """The lines on chip and what is known of their next use.

    ``next_use`` is a ring over the visits not used yet or in the window, ``visited`` a ring over those not used yet.
    ``seen_at``, ``fetched_at`` and ``slot_of`` are by line, ``line_in`` by slot, ``tree`` holds the slots' keys under a
    maximum. ``head`` is the look-ahead's element, segment and visit; then the slots in use and the visits used.
    """

    next_use: Array
    visited: Array
    seen_at: Array
    fetched_at: Array
    slot_of: Array
    line_in: Array
    tree: Array
    head: Array


ELEMENT, SEGMENT, VISIT, TAKEN, USED = range(5)


@kernel
def _empty_buffer(trace: Array, first_line: Array, params: PrefetchParams) -> _Buffer:
    """Return a buffer without lines, its rings powers of two larger than what they hold."""
    ahead = np.int64(0)
    for k in trace:
        ahead += first_line[k + 1] - first_line[k]
    ahead = min(ahead, params.run_ahead) + 1
    behind = 1
    while behind < ahead:
        behind *= 2
    ring = behind
    while ring < _largest_window(trace, first_line, params) + ahead:
        ring *= 2
    width = 1
    while width < params.lines:
        width *= 2
    count = first_line[-1]
    return _Buffer(
        np.full(ring, NEVER, dtype=np.int64),
        np.full(behind, -1, dtype=np.int64),
        np.full(count, -1, dtype=np.int64),
        np.full(count, -1, dtype=np.int64),
        np.full(count, -1, dtype=np.int32),
        np.full(max(params.lines, 1), -1, dtype=np.int64),
        np.full(2 * width, PINNED, dtype=np.int64),
        np.zeros(5, dtype=np.int64),
    )


@kernel
def _look_ahead(
    next_use: Array,
    seen_at: Array,
    slot_of: Array,
    tree: Array,
    head: Array,
    trace: Array,
    first_line: Array,
    params: PrefetchParams,
    now: int,
    visit: int,
    stop: int,
) -> None:
    """Move the head of the window on, up to element ``stop``, and note the next use of every line it passes."""
    ring = next_use.size - 1
    while head[ELEMENT] < stop:
        ahead = head[ELEMENT] - now if params.unit_is_element else head[VISIT] - visit
        if ahead > params.look_ahead:
            return
        k = trace[head[ELEMENT]]
        line = first_line[k] + head[SEGMENT]
        if line == first_line[k + 1]:
            head[ELEMENT] += 1
            head[SEGMENT] = 0
            continue
        if seen_at[line] >= head[USED]:
            next_use[seen_at[line] & ring] = head[VISIT]
        elif slot_of[line] >= 0:
            _set_key(tree, slot_of[line], head[VISIT])
        seen_at[line] = head[VISIT]
        next_use[head[VISIT] & ring] = NEVER
        head[VISIT] += 1
        head[SEGMENT] += 1


@kernel
def _use(
    next_use: Array, visited: Array, fetched_at: Array, slot_of: Array, tree: Array, head: Array, policy: int
) -> None:
    """Use up the oldest fetched visit: its line may be replaced again, unless a later visit waits for it."""
    oldest = head[USED]
    head[USED] += 1
    line = visited[oldest & (visited.size - 1)]
    if fetched_at[line] == oldest and slot_of[line] >= 0:
        key = NEVER - oldest if policy == LRU else next_use[oldest & (next_use.size - 1)]
        _set_key(tree, slot_of[line], key)


@kernel
def _store(
    slot_of: Array, line_in: Array, tree: Array, head: Array, line: int, key: int, params: PrefetchParams
) -> None:
    """Put a fetched line into a free slot or the victim's, unless it passes by."""
    if params.policy == OFF or params.lines == 0:
        return
    if head[TAKEN] < params.lines:
        slot = head[TAKEN]
        head[TAKEN] += 1
    elif key < tree[1] or (params.policy == LRU and tree[1] > PINNED):
        slot = _farthest(tree)
        slot_of[line_in[slot]] = -1
    else:
        return
    line_in[slot] = line
    slot_of[line] = slot
    _set_key(tree, slot, key)


class _Sent(NamedTuple):
    """Requests sent so far, arrays that grow."""

    step: Array
    address: Array
    size: Array


@kernel
def _send(sent: _Sent, count: int, step: int, address: int, size: int, burst: int) -> _Sent:
    """Append the whole bursts that hold ``size`` bytes at ``address``."""
    if count == sent.step.size:
        grown = _Sent(
            np.empty(2 * count, dtype=np.int64),
            np.empty(2 * count, dtype=np.int64),
            np.empty(2 * count, dtype=np.int64),
        )
        grown.step[:count] = sent.step
        grown.address[:count] = sent.address
        grown.size[:count] = sent.size
        sent = grown
    begin = address // burst * burst
    sent.step[count] = step
    sent.address[count] = begin
    sent.size[count] = (address + size + burst - 1) // burst * burst - begin
    return sent


@kernel
def prefetch(
    trace: Array, row_elements: Array, step_products: Array, known: Array, params: PrefetchParams
) -> Prefetched:
    """Run the line visits of ``trace`` through the buffer.

    Parameters
    ----------
    trace : rows of B in the order in which elements of A ask for them, over all rounds.
    row_elements : elements of each row of B.
    step_products : products of all pipeline steps up to and including each; says which step a visit belongs to.
    known : ends of the parts of the trace, ascending; a part is known only when the one before has been used up.
    """
    rows = row_elements.size
    first_line = np.zeros(rows + 1, dtype=np.int64)
    place = np.zeros(rows + 1, dtype=np.int64)
    for k in range(rows):
        size = params.pointer_bytes + row_elements[k] * params.element_bytes
        first_line[k + 1] = first_line[k] + (size + params.line_bytes - 1) // params.line_bytes
        place[k + 1] = place[k] + row_elements[k] * params.element_bytes
    buffer = _empty_buffer(trace, first_line, params)
    next_use, visited, seen_at, fetched_at, slot_of, line_in, tree, head = buffer
    empty = np.empty(16, dtype=np.int64)
    sent = _Sent(empty, empty.copy(), empty.copy())
    visits = np.zeros(max(step_products.size, 1), dtype=np.int64)
    ahead = np.full(visits.size, max(params.run_ahead, 1), dtype=np.int64)
    visit = np.int64(0)
    hits = 0
    count = 0
    fetched = 0
    pointers = 0
    step = 0
    done = 0
    part = 0
    for e in range(trace.size):
        while known[part] <= e:
            part += 1
            while head[USED] < visit:
                _use(next_use, visited, fetched_at, slot_of, tree, head, params.policy)
        k = trace[e]
        size = params.pointer_bytes + row_elements[k] * params.element_bytes
        for segment in range(first_line[k + 1] - first_line[k]):
            line = first_line[k] + segment
            offset = max(segment * params.line_bytes - params.pointer_bytes, 0)
            while step < step_products.size - 1 and step_products[step] <= done + offset // params.element_bytes:
                step += 1
            visits[step] += 1
            while head[USED] < visit and head[USED] <= visit - params.run_ahead:
                _use(next_use, visited, fetched_at, slot_of, tree, head, params.policy)
            if params.policy == FARTHEST:
                _look_ahead(next_use, seen_at, slot_of, tree, head, trace, first_line, params, e, visit, known[part])
            visited[visit & (visited.size - 1)] = line
            fetched_at[line] = visit
            # without running ahead a line is used as it comes, and may pass the buffer by
            key = np.int64(PINNED)
            if params.run_ahead == 0:
                key = NEVER - visit if params.policy == LRU else next_use[visit & (next_use.size - 1)]
            visit += 1
            if slot_of[line] >= 0:
                hits += 1
                _set_key(tree, slot_of[line], key)
                continue
            stored = params.policy != OFF
            while stored and tree[1] == PINNED and head[TAKEN] == params.lines and head[USED] < visit - 1:
                _use(next_use, visited, fetched_at, slot_of, tree, head, params.policy)
                ahead[step] = min(ahead[step], max(visit - head[USED], 1))
            _store(slot_of, line_in, tree, head, line, key, params)
            payload = min(params.line_bytes, size - segment * params.line_bytes)
            fetched += payload
            if segment == 0:
                payload -= params.pointer_bytes
                pointers += params.pointer_bytes
                if pointers >= params.burst_bytes:
                    whole = pointers // params.burst_bytes * params.burst_bytes
                    at = (place[rows] + k * params.pointer_bytes) // params.burst_bytes * params.burst_bytes
                    sent = _send(sent, count, step, params.address + at, whole, params.burst_bytes)
                    count += 1
                    pointers -= whole
            if payload > 0:
                sent = _send(sent, count, step, params.address + place[k] + offset, payload, params.burst_bytes)
                count += 1
        done += row_elements[k]
    if pointers > 0:
        sent = _send(sent, count, step, params.address + place[rows], 1, params.burst_bytes)
        count += 1
    requests = Requests(sent.step[:count], sent.address[:count], sent.size[:count])
    return Prefetched(hits, visit - hits, fetched, visits, ahead, requests)
