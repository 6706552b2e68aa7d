"""One round of the merge tree: exact sizes at every layer, row by row.

Source: Zhang et al., HPCA 2020, sections II-A and II-C.

The tree never has to be built, and no array ever has the size of C: inputs that are results of earlier rounds are
walked through their own columns again instead of being stored. Rows do not touch one another, so a round can be cut
into runs of rows that are counted in any order, or at once. There are three ways to count, with equal results:

* ``count_stamped``: elements are visited by ascending tree position, and every column of B remembers the last one that
  met it. An element at position p meets its column's last position q at the node where ``p >> l == q >> l``, so it is a
  distinct element on the layers below bit_length(p xor q) and vanishes into a sum above: a histogram of p xor q gives
  the elements entering every layer. One iteration is one product.
* ``count_bits``: rows of B are sets of bits, and a node is closed when the last element below it has come. One
  iteration is 64 columns of a node with two inputs.
* ``count_dense``: every row of B is full, so a union is a row. One iteration is one element of A.

Modelled: structural unions, exact. Not modelled here: time, and values (numerical cancellation does not shrink a
result).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sparsim.kernels._jit import at, inlined, kernel
from sparsim.kernels.bits import add, copy, size_of, unite
from sparsim.kernels.early import fetch_early
from sparsim.kernels.records import Listing, MergeTree, Operands, RowWork

__all__ = [
    "count_bits",
    "count_bits_each",
    "count_dense",
    "count_dense_each",
    "count_stamped",
    "count_stamped_each",
    "entering_layers",
    "multiply_rows",
    "walk_rows",
]

Array = npt.NDArray[Any]

# from this many elements of a row of B on, guessing whether a column is new costs more than counting without a branch,
# with four counters in turns, as one would wait for itself
LONG = 12
SOON, LATER = 4, 12  # elements of A: what their rows of B lead to is asked for before they are reached
WIDE = 1 << 18  # columns: from here on stamps are not in the second cache


@kernel
def multiply_rows(ops: Operands, listing: Listing, internal: Array, tree: MergeTree, work: RowWork) -> None:
    """Fill in, for every row, what is multiplied now: elements of A, products, slots and the rows of B asked for."""
    asked = 0
    final = listing.first[listing.first.size - 1] - listing.first[0] - 1
    for row in range(listing.first.size - 1):
        begin = asked
        products = 0
        slots = 0
        for i in range(listing.first[row] - listing.first[0], listing.first[row + 1] - listing.first[0]):
            fetch_early(ops.b_indptr, ops.a_indices[listing.element[min(i + LATER, final)]])
            if internal[listing.position[i]]:
                continue
            k = ops.a_indices[listing.element[i]]
            size = ops.columns if ops.dense_b else ops.b_indptr[k + 1] - ops.b_indptr[k]
            products += size
            slots += (size + tree.group_width - 1) // tree.group_width
            work.trace[asked] = k
            asked += 1
        work.a_elements[row] = asked - begin
        work.products[row] = products
        work.slots[row] = slots


@kernel
def walk_rows(ops: Operands, listing: Listing, walked: Array) -> None:
    """Fill in for every row the elements of B that counting it walks through, results of earlier rounds included."""
    for row in range(listing.first.size - 1):
        elements = 0
        for i in range(listing.first[row] - listing.first[0], listing.first[row + 1] - listing.first[0]):
            k = ops.a_indices[listing.element[i]]
            elements += ops.columns if ops.dense_b else ops.b_indptr[k + 1] - ops.b_indptr[k]
        walked[row] = elements


@kernel
def count_stamped(
    ops: Operands, listing: Listing, internal: Array, tree: MergeTree, work: RowWork, stamp: Array, serial: int
) -> int:
    """Count rows by remembering who met a column last.

    Parameters
    ----------
    stamp : int32 scratch of length columns, below ``serial << layers`` everywhere; kept between calls.
    serial : rows stamped so far; returned advanced (it begins again at 1, with clean stamps, before it overflows).
    """
    ways = np.int32(1 << tree.layers)
    stride = at(ways) + at(1)
    last_serial = (1 << (31 - tree.layers)) - 1
    hist = np.zeros(4 * (np.int64(ways) + 1), dtype=np.int64)
    final = listing.first[listing.first.size - 1] - listing.first[0] - 1
    is_wide = stamp.size > WIDE
    for row in range(listing.first.size - 1):
        if serial == last_serial:
            stamp[:] = 0
            serial = 0
        serial += 1
        merged = 0
        partial = 0
        for i in range(listing.first[row] - listing.first[0], listing.first[row + 1] - listing.first[0]):
            position = listing.position[i]
            k = ops.a_indices[listing.element[i]]
            start, stop = at(ops.b_indptr[k]), at(ops.b_indptr[k + 1])
            later = ops.a_indices[listing.element[min(i + SOON, final)]]
            fetch_early(ops.b_indptr, ops.a_indices[listing.element[min(i + LATER, final)]])
            fetch_early(ops.b_indices, ops.b_indptr[later])
            if is_wide:
                follows = ops.a_indices[listing.element[min(i + 1, final)]]
                for f in range(at(ops.b_indptr[follows]), at(ops.b_indptr[follows + 1])):
                    fetch_early(stamp, at(ops.b_indices[f]))
            mark = np.int32(serial << tree.layers | position)
            if internal[position]:
                for f in range(start, stop):
                    column = at(ops.b_indices[f])
                    apart = stamp[column] ^ mark
                    stamp[column] = mark
                    merged += apart >= ways
                    partial += apart != 0
                    hist[at(min(apart, ways))] += 1
            elif stop - start < at(LONG):
                for f in range(start, stop):
                    column = at(ops.b_indices[f])
                    apart = stamp[column] ^ mark
                    stamp[column] = mark
                    if apart >= ways:
                        merged += 1
                    else:
                        hist[at(apart)] += 1
            else:
                for f in range(start, stop):
                    column = at(ops.b_indices[f])
                    apart = stamp[column] ^ mark
                    stamp[column] = mark
                    merged += apart >= ways
                    hist[(f & at(3)) * stride + at(min(apart, ways))] += 1
        work.merged[row] = merged
        work.partial[row] = partial
    length = 0
    for apart in range(1, ways):
        if apart >> length:
            length += 1
        for turn in range(4):
            work.vanished[length] += hist[turn * (np.int64(ways) + 1) + apart]
    return serial


@kernel
def count_bits(
    ops: Operands, listing: Listing, internal: Array, tree: MergeTree, work: RowWork, bits: Array, words: int
) -> None:
    """Count rows by uniting sets, a node of the tree at a time; ``bits`` holds the rows of B, ``words`` each.

    ``node[l]`` is the node of layer l that is being filled; a node with one input takes over its set and size.
    """
    node = np.zeros((tree.layers + 1) * words, dtype=np.uint64)
    slot = np.arange(tree.layers + 1) * words
    size = np.full(tree.layers + 1, -1, dtype=np.int64)  # -1: nothing below this node yet
    for row in range(listing.first.size - 1):
        partial = 0
        i, end = listing.first[row] - listing.first[0], listing.first[row + 1] - listing.first[0]
        while i < end:
            position = np.int64(listing.position[i])
            k = np.int64(ops.a_indices[listing.element[i]])
            copy(node, slot[0], bits, k * words, words)
            size[0] = ops.b_indptr[k + 1] - ops.b_indptr[k]
            i += 1
            if internal[position]:
                while i < end and listing.position[i] == position:
                    add(node, slot[0], bits, np.int64(ops.a_indices[listing.element[i]]) * words, words)
                    i += 1
                size[0] = size_of(node, slot[0], words)
                partial += size[0]
            after = np.int64(listing.position[i]) if i < end else position ^ ((1 << tree.layers) - 1)
            _close(node, slot, size, words, position ^ after, work.vanished)
        work.merged[row] = max(size[tree.layers], 0)
        work.partial[row] = partial
        size[tree.layers] = -1


@inlined
def _close(node: Array, slot: Array, size: Array, words: int, apart: int, vanished: Array) -> None:
    """Hand the nodes that get no more inputs to the next layer, one layer for each bit of ``apart``."""
    layer = 0
    while apart >> layer:
        above = layer + 1
        if size[above] < 0:
            slot[layer], slot[above] = slot[above], slot[layer]
            size[above] = size[layer]
        else:
            together = unite(node, slot[above], node, slot[layer], words)
            vanished[above] += size[above] + size[layer] - together
            size[above] = together
        size[layer] = -1
        layer = above


@kernel
def count_dense(ops: Operands, listing: Listing, internal: Array, tree: MergeTree, work: RowWork) -> None:
    """Count rows where B is dense: what is distinct is the position."""
    length = np.zeros(1 << tree.layers, dtype=np.int64)
    for apart in range(1, length.size):
        length[apart] = length[apart >> 1] + 1
    for row in range(listing.first.size - 1):
        last = np.int64(-1)
        inputs = 0
        for i in range(listing.first[row] - listing.first[0], listing.first[row + 1] - listing.first[0]):
            position = np.int64(listing.position[i])
            if position == last:
                continue
            if last >= 0:
                work.vanished[length[position ^ last]] += ops.columns
            if internal[position]:
                inputs += 1
            last = position
        work.merged[row] = ops.columns if last >= 0 else 0
        work.partial[row] = inputs * ops.columns


@kernel
def _alone(listing: Listing, work: RowWork, row: int, vanished: Array) -> tuple[Listing, RowWork]:
    """Return one row alone; what vanishes there is counted in ``vanished``."""
    begin, end = listing.first[row] - listing.first[0], listing.first[row + 1] - listing.first[0]
    one = slice(row, row + 1)
    own = RowWork(
        work.a_elements[one],
        work.products[one],
        work.slots[one],
        work.partial[one],
        work.merged[one],
        work.trace,
        vanished,
    )
    return Listing(listing.first[row : row + 2], listing.element[begin:end], listing.position[begin:end]), own


@kernel
def count_stamped_each(
    ops: Operands,
    listing: Listing,
    internal: Array,
    tree: MergeTree,
    work: RowWork,
    stamp: Array,
    serial: int,
    each: Array,
) -> int:
    """Count as ``count_stamped`` does; what vanishes is told row by row, ``each`` [rows, layers + 1]."""
    for row in range(listing.first.size - 1):
        one, own = _alone(listing, work, row, each[row])
        serial = count_stamped(ops, one, internal, tree, own, stamp, serial)
    return serial


@kernel
def count_bits_each(
    ops: Operands,
    listing: Listing,
    internal: Array,
    tree: MergeTree,
    work: RowWork,
    bits: Array,
    words: int,
    each: Array,
) -> None:
    """Count as ``count_bits`` does; what vanishes is told row by row, ``each`` [rows, layers + 1]."""
    for row in range(listing.first.size - 1):
        one, own = _alone(listing, work, row, each[row])
        count_bits(ops, one, internal, tree, own, bits, words)


@kernel
def count_dense_each(
    ops: Operands, listing: Listing, internal: Array, tree: MergeTree, work: RowWork, each: Array
) -> None:
    """Count as ``count_dense`` does; what vanishes is told row by row, ``each`` [rows, layers + 1]."""
    for row in range(listing.first.size - 1):
        one, own = _alone(listing, work, row, each[row])
        count_dense(ops, one, internal, tree, own)


def entering_layers(vanished: Array, merged: int) -> Array:
    """Return the elements entering every layer, leaf layer first: those of the result and those that vanish above."""
    return merged + np.cumsum(vanished[:0:-1])[::-1]
