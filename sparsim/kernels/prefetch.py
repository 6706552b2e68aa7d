"""The row prefetcher of SpArch (Zhang et al., HPCA 2020, section II-D): rows of B in lines, replaced by next use.

A row of B is a pointer and its elements, cut into lines; every visit touches its lines in order (an empty row still
costs its pointer). The distance list builder runs ahead of the current touch by a window and knows, for every line it
has seen there, the next touch. The buffer is fully associative; the victim is the line with the farthest next use,
lines without a use in the window being infinitely far, ties by the lowest slot. A line that is itself no nearer than
the victim is used and not stored (bypass). One iteration is one touch of a line.

Not modelled here: time. The look-ahead is continuous over merge rounds. Row pointers that miss are gathered into whole
bursts: they are too small to be charged one each.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sparsim.kernels._jit import kernel
from sparsim.kernels.dram import add_request
from sparsim.kernels.records import Prefetched, PrefetchParams

__all__ = ["FARTHEST", "LRU", "OFF", "prefetch"]

Array = npt.NDArray[Any]

FARTHEST, LRU, OFF = 0, 1, 2
NEVER = 1 << 62


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
    """Return an upper bound of the touches the window can hold at once."""
    if not params.unit_is_element:
        total = 0
        for k in trace:
            total += first_line[k + 1] - first_line[k]
        return min(total, params.look_ahead + 1)
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

    ``next_use`` is a ring over the touches in the window, ``seen_at`` and ``slot_of`` are by line, ``line_in`` by slot,
    ``tree`` holds the slots' keys under a maximum. ``head`` is the look-ahead's element, segment and touch; then the
    slots in use.
    """

    next_use: Array
    seen_at: Array
    slot_of: Array
    line_in: Array
    tree: Array
    head: Array


ELEMENT, SEGMENT, TOUCH, USED = range(4)


@kernel
def _empty_buffer(trace: Array, first_line: Array, params: PrefetchParams) -> _Buffer:
    """Return a buffer without lines, its ring a power of two larger than any window."""
    ring = 1
    while ring < _largest_window(trace, first_line, params) + 1:
        ring *= 2
    width = 1
    while width < params.lines:
        width *= 2
    count = first_line[-1]
    return _Buffer(
        np.full(ring, NEVER, dtype=np.int64),
        np.full(count, -1, dtype=np.int64),
        np.full(count, -1, dtype=np.int32),
        np.full(max(params.lines, 1), -1, dtype=np.int64),
        np.full(2 * width, -1, dtype=np.int64),
        np.zeros(4, dtype=np.int64),
    )


@kernel
def _look_ahead(buffer: _Buffer, trace: Array, first_line: Array, params: PrefetchParams, now: int, touch: int) -> None:
    """Move the head of the window on and note the next use of every line it passes."""
    next_use, seen_at, slot_of, _, tree, head = buffer
    ring = next_use.size - 1
    while head[ELEMENT] < trace.size:
        ahead = head[ELEMENT] - now if params.unit_is_element else head[TOUCH] - touch
        if ahead > params.look_ahead:
            return
        k = trace[head[ELEMENT]]
        line = first_line[k] + head[SEGMENT]
        if line == first_line[k + 1]:
            head[ELEMENT] += 1
            head[SEGMENT] = 0
            continue
        if seen_at[line] >= touch:
            next_use[seen_at[line] & ring] = head[TOUCH]
        elif slot_of[line] >= 0:
            _set_key(tree, slot_of[line], head[TOUCH])
        seen_at[line] = head[TOUCH]
        next_use[head[TOUCH] & ring] = NEVER
        head[TOUCH] += 1
        head[SEGMENT] += 1


@kernel
def _store(buffer: _Buffer, line: int, key: int, params: PrefetchParams) -> None:
    """Put a fetched line into a free slot or the victim's, unless it is bypassed."""
    if params.policy == OFF or params.lines == 0:
        return
    if buffer.head[USED] < params.lines:
        slot = buffer.head[USED]
        buffer.head[USED] += 1
    elif params.policy == LRU or key < buffer.tree[1]:
        slot = _farthest(buffer.tree)
        buffer.slot_of[buffer.line_in[slot]] = -1
    else:
        return
    buffer.line_in[slot] = line
    buffer.slot_of[line] = slot
    _set_key(buffer.tree, slot, key)


@kernel
def _move_pointers(work: Array, address: int, size: int, params: PrefetchParams) -> int:
    """Move the whole bursts in ``size`` bytes of row pointers near ``address``; return the bytes moved."""
    burst = params.burst_bytes
    at = params.base_address + address
    return add_request(work, at // burst * burst, size // burst * burst, burst, params.interleave_bytes)


@kernel
def prefetch(
    trace: Array, row_elements: Array, step_products: Array, channels: int, params: PrefetchParams
) -> Prefetched:
    """Run the touches of ``trace`` through the buffer.

    Parameters
    ----------
    trace : rows of B in the order in which elements of A ask for them, over all rounds.
    row_elements : elements of each row of B.
    step_products : products of all pipeline steps up to and including each; says which step a touch belongs to.
    """
    rows = row_elements.size
    first_line = np.zeros(rows + 1, dtype=np.int64)
    address = np.zeros(rows + 1, dtype=np.int64)
    for k in range(rows):
        size = params.pointer_bytes + row_elements[k] * params.element_bytes
        first_line[k + 1] = first_line[k] + (size + params.line_bytes - 1) // params.line_bytes
        address[k + 1] = address[k] + row_elements[k] * params.element_bytes
    buffer = _empty_buffer(trace, first_line, params)
    bus = np.zeros((max(step_products.size, 1), channels), dtype=np.int32)
    touch = 0
    hits = 0
    fetched = 0
    pointers = 0
    step = 0
    done = 0
    for e in range(trace.size):
        k = trace[e]
        size = params.pointer_bytes + row_elements[k] * params.element_bytes
        for segment in range(first_line[k + 1] - first_line[k]):
            line = first_line[k] + segment
            if params.policy == FARTHEST:
                _look_ahead(buffer, trace, first_line, params, e, touch)
            key = NEVER - touch if params.policy == LRU else buffer.next_use[touch & (buffer.next_use.size - 1)]
            touch += 1
            if buffer.slot_of[line] >= 0:
                hits += 1
                _set_key(buffer.tree, buffer.slot_of[line], key)
                continue
            _store(buffer, line, key, params)
            payload = min(params.line_bytes, size - segment * params.line_bytes)
            fetched += payload
            offset = max(segment * params.line_bytes - params.pointer_bytes, 0)
            while step < step_products.size - 1 and step_products[step] <= done + offset // params.element_bytes:
                step += 1
            if segment == 0:
                payload -= params.pointer_bytes
                pointers += params.pointer_bytes
                pointers -= _move_pointers(bus[step], address[rows] + k * params.pointer_bytes, pointers, params)
            if payload > 0:
                start = params.base_address + address[k] + offset
                add_request(bus[step], start, payload, params.burst_bytes, params.interleave_bytes)
        done += row_elements[k]
    if pointers > 0:
        _move_pointers(bus[step], address[rows], params.burst_bytes, params)
    return Prefetched(hits, touch - hits, fetched, bus)
