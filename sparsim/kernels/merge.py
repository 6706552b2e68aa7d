"""One round of the merge tree: exact sizes at every layer, and the steps it takes.

Source: Zhang et al., HPCA 2020, sections II-A and II-C.

The tree never has to be built. The elements of one row of A are visited by ascending tree position; for every column
of B the last position that met it is remembered. An element at position p meets its column's last position q at the
node where ``p >> l == q >> l``, so it is a distinct element on the layers below bit_length(p xor q) and vanishes into
a sum above. One histogram of bit lengths gives the elements entering every layer, and a column's first visit is an
element of the result.

Inputs that are results of earlier rounds are walked through their own columns again instead of being stored: no array
ever has the size of C.

Modelled: structural unions, exact; rows in order; steps of at most ``quantum`` elements. Not modelled here: time, and
values (numerical cancellation does not shrink a result).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sparsim.kernels._jit import kernel
from sparsim.kernels.records import MergeRound, MergeTree, Operands, RoundElements

__all__ = ["FIELDS", "merge_round", "multiply_round"]

Array = npt.NDArray[Any]

FIELDS = ("a_elements", "products", "slots", "partial", "merged", "output", "a_bursts", "a_address", "last_row")
A_ELEMENTS, PRODUCTS, SLOTS, PARTIAL, MERGED, OUTPUT, A_BURSTS, A_ADDRESS, LAST_ROW = range(9)


@kernel
def _row_unions(
    ops: Operands, elements: RoundElements, span: tuple[int, int], internal: Array, bits: Array, stamp: Array, base: int
) -> tuple[int, int]:
    """Add one row's elements to the histogram ``bits[1]``; return its partial elements and its merged elements.

    ``bits[0][d]`` is the bit length of d; ``bits[1]`` counts by bit length, new columns in its last entry.
    """
    length, hist = bits
    new = hist.size - 1
    partial = 0
    merged = 0
    if ops.dense_b:
        last = np.int64(-1)
        for i in range(span[0], span[1]):
            p = np.int64(elements.position[i])
            if p == last:
                continue
            if last < 0:
                merged = ops.columns
            else:
                hist[length[p ^ last]] += ops.columns
            if internal[p]:
                partial += ops.columns
            last = p
        hist[new] += merged
        return partial, merged
    for i in range(span[0], span[1]):
        p = np.int64(elements.position[i])
        k = ops.a_indices[elements.element[i]]
        mark = base | p
        distinct = 0
        for f in range(ops.b_indptr[k], ops.b_indptr[k + 1]):
            column = ops.b_indices[f]
            seen = stamp[column]
            if seen < base:
                merged += 1
                distinct += 1
                stamp[column] = mark
            elif seen != mark:
                hist[length[seen ^ mark]] += 1
                distinct += 1
                stamp[column] = mark
        if internal[p]:
            partial += distinct
    hist[new] += merged
    return partial, merged


@kernel
def _row_work(
    ops: Operands, elements: RoundElements, span: tuple[int, int], internal: Array, tree: MergeTree
) -> tuple[int, int, int, int, int]:
    """Return A elements, products, multiplier-group slots, bursts of A and the first one's address, for one row."""
    count = 0
    products = 0
    slots = 0
    bursts = 0
    address = np.int64(-1)
    for i in range(span[0], span[1]):
        if internal[elements.position[i]]:
            continue
        k = ops.a_indices[elements.element[i]]
        size = ops.columns if ops.dense_b else ops.b_indptr[k + 1] - ops.b_indptr[k]
        products += size
        slots += (size + tree.group_width - 1) // tree.group_width
        if elements.bursts[i] > 0 and (address < 0 or elements.address[i] < address):
            address = elements.address[i]
        bursts += elements.bursts[i]
        count += 1
    return count, products, slots, bursts, address


@kernel
def _emit(steps: Array, used: int, tally: Array, pieces: int, burst_bytes: int) -> tuple[Array, int]:
    """Append ``tally`` cut into ``pieces`` equal parts (to the last unit); the row is copied."""
    while used + pieces > steps.shape[0]:
        grown = np.zeros((2 * steps.shape[0], steps.shape[1]), dtype=np.int64)
        grown[:used] = steps[:used]
        steps = grown
    for piece in range(pieces):
        for field in range(A_ADDRESS):
            steps[used, field] = tally[field] * (piece + 1) // pieces - tally[field] * piece // pieces
        steps[used, A_ADDRESS] = tally[A_ADDRESS] + tally[A_BURSTS] * piece // pieces * burst_bytes
        steps[used, LAST_ROW] = tally[LAST_ROW]
        used += 1
    return steps, used


@kernel
def _append(steps: Array, used: int, tally: Array, single: Array, tree: MergeTree) -> tuple[int, Array]:
    """Add one row's work to the step being filled; a step that is full, or a row that fills several, is emitted."""
    rows, merged = single[A_ELEMENTS], single[MERGED]
    if tally[A_ELEMENTS] + rows > tree.rows or tally[MERGED] + merged > tree.quantum:
        if max(tally[A_ELEMENTS], tally[MERGED]) > 0:
            steps, used = _emit(steps, used, tally, 1, tree.burst_bytes)
        tally[:] = 0
    pieces = max((rows + tree.rows - 1) // tree.rows, (merged + tree.quantum - 1) // tree.quantum)
    if pieces > 1:
        steps, used = _emit(steps, used, single, pieces, tree.burst_bytes)
    elif pieces > 0:
        if tally[A_BURSTS] == 0:
            tally[A_ADDRESS] = single[A_ADDRESS]
        tally[:A_ADDRESS] += single[:A_ADDRESS]
        tally[LAST_ROW] = single[LAST_ROW]
    return used, steps


@kernel
def multiply_round(ops: Operands, elements: RoundElements, internal: Array, tree: MergeTree) -> Array:
    """Return the steps of multiplying without merging, one partial matrix after the other.

    One iteration is one element of A, in the order given; every product is written to memory.
    """
    steps = np.zeros((256, LAST_ROW + 1), dtype=np.int64)
    tally = np.zeros(LAST_ROW + 1, dtype=np.int64)
    single = np.zeros(LAST_ROW + 1, dtype=np.int64)
    used = 0
    for i in range(elements.row.size):
        a_elements, products, slots, bursts, address = _row_work(ops, elements, (i, i + 1), internal, tree)
        single[:] = (a_elements, products, slots, 0, products, products, bursts, address, elements.row[i])
        used, steps = _append(steps, used, tally, single, tree)
    if max(tally[A_ELEMENTS], tally[MERGED]) > 0:
        steps, used = _emit(steps, used, tally, 1, tree.burst_bytes)
    return steps[:used]


@kernel
def merge_round(
    ops: Operands, elements: RoundElements, internal: Array, tree: MergeTree, stamp: Array, serial: int
) -> tuple[MergeRound, int]:
    """Merge the inputs of one round, row by row; one iteration is one row of A.

    Parameters
    ----------
    internal : per tree position, whether the input is a result of an earlier round (else a column multiplied now).
    stamp : int64 scratch of length columns, below ``serial << layers`` everywhere; kept between rounds.
    serial : rows stamped so far; returned advanced.
    """
    ways = 1 << tree.layers
    length = np.zeros(ways, dtype=np.int64)
    for value in range(1, ways):
        length[value] = length[value >> 1] + 1
    hist = np.zeros(tree.layers + 2, dtype=np.int64)
    steps = np.zeros((256, LAST_ROW + 1), dtype=np.int64)
    tally = np.zeros(LAST_ROW + 1, dtype=np.int64)
    single = np.zeros(LAST_ROW + 1, dtype=np.int64)
    used = 0
    start = 0
    count = elements.row.size
    merged_total = 0
    partial_total = 0
    while start < count:
        row = elements.row[start]
        stop = start + 1
        while stop < count and elements.row[stop] == row:
            stop += 1
        serial += 1
        span = (start, stop)
        partial, merged = _row_unions(ops, elements, span, internal, (length, hist), stamp, serial << tree.layers)
        a_elements, products, slots, bursts, address = _row_work(ops, elements, span, internal, tree)
        single[:] = (a_elements, products, slots, partial, products + partial, merged, bursts, address, row)
        merged_total += merged
        partial_total += partial
        used, steps = _append(steps, used, tally, single, tree)
        start = stop
    if max(tally[A_ELEMENTS], tally[MERGED]) > 0:
        steps, used = _emit(steps, used, tally, 1, tree.burst_bytes)
    entering = np.zeros(tree.layers, dtype=np.int64)
    above = hist[tree.layers + 1]
    for layer in range(tree.layers - 1, -1, -1):
        above += hist[layer + 1]
        entering[layer] = above
    return MergeRound(steps[:used], entering, merged_total, partial_total), serial
