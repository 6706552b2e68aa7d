"""Matrix condensing (Zhang et al., HPCA 2020, section II-B): condensed column j is the j-th non-zero of every row."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sparsim.kernels._jit import kernel
from sparsim.kernels.records import RoundElements

__all__ = ["column_products", "column_sizes", "gather_condensed", "outer_products"]

Array = npt.NDArray[Any]


@kernel
def column_sizes(indptr: Array) -> Array:
    """Return the elements of each condensed column; as many columns as the longest row has elements."""
    longest = 0
    for row in range(indptr.size - 1):
        longest = max(longest, indptr[row + 1] - indptr[row])
    sizes = np.zeros(longest + 1, dtype=np.int64)
    for row in range(indptr.size - 1):
        sizes[indptr[row + 1] - indptr[row]] += 1
    for j in range(longest - 1, -1, -1):
        sizes[j] += sizes[j + 1]
    return sizes[1:]


@kernel
def column_products(a_indptr: Array, a_indices: Array, b_indptr: Array, columns: int) -> Array:
    """Return the products each condensed column of A makes with B."""
    products = np.zeros(columns, dtype=np.int64)
    for row in range(a_indptr.size - 1):
        start = a_indptr[row]
        for e in range(start, a_indptr[row + 1]):
            k = a_indices[e]
            products[e - start] += b_indptr[k + 1] - b_indptr[k]
    return products


@kernel
def outer_products(a_indices: Array, b_indptr: Array) -> int:
    """Count the partial matrices without condensing: columns of A in use that meet a non-empty row of B."""
    used = np.zeros(b_indptr.size - 1, dtype=np.uint8)
    for e in range(a_indices.size):
        used[a_indices[e]] = 1
    count = 0
    for k in range(used.size):
        if used[k] == 1 and b_indptr[k + 1] > b_indptr[k]:
            count += 1
    return count


@kernel
def gather_condensed(
    a_indptr: Array, rows: Array, position: Array, internal: Array, first: int, sizes: tuple[int, int]
) -> RoundElements:
    """List the elements of A that take part in one merge round, by row, then by tree position.

    Elements are read in the order in which they lie, and a burst once while it is the last one read.

    Parameters
    ----------
    rows : the rows longer than ``first``, ascending.
    position : tree leaf of each condensed column, -1 if it takes no part; columns below ``first`` take none.
    internal : per tree leaf, whether it is a result of an earlier round, whose elements are not multiplied again.
    sizes : bytes of an element and of a burst.
    """
    last = position.size
    element_bytes, burst_bytes = sizes
    total = 0
    for row in rows:
        for j in range(first, min(last, a_indptr[row + 1] - a_indptr[row])):
            if position[j] >= 0:
                total += 1
    out = RoundElements(
        np.empty(total, dtype=np.int64),
        np.empty(total, dtype=np.int32),
        np.empty(total, dtype=np.int64),
        np.zeros(total, dtype=np.int64),
        np.zeros(total, dtype=np.int64),
    )
    out_row, out_position, out_element, out_address, out_bursts = out
    bucket = np.zeros(internal.size + 1, dtype=np.int64)
    done = 0
    read = np.int64(-1)
    for row in rows:
        start = a_indptr[row]
        stop = min(last, a_indptr[row + 1] - start)
        bucket[:] = 0
        for j in range(first, stop):
            if position[j] >= 0:
                bucket[position[j] + 1] += 1
        for p in range(internal.size):
            bucket[p + 1] += bucket[p]
        count = bucket[internal.size]
        for j in range(first, stop):
            p = position[j]
            if p >= 0:
                at = done + bucket[p]
                bucket[p] += 1
                out_row[at] = row
                out_position[at] = p
                out_element[at] = start + j
                if not internal[p]:
                    begin = max((start + j) * element_bytes // burst_bytes, read + 1)
                    read = ((start + j + 1) * element_bytes - 1) // burst_bytes
                    out_address[at] = begin * burst_bytes
                    out_bursts[at] = read - begin + 1
        done += count
    return out
