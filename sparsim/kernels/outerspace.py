"""OuterSPACE's merge of one row: heads of its lists kept in order, the smallest leaves, its successor is inserted."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sparsim.kernels._jit import kernel

Array = npt.NDArray[Any]


@kernel
def _insert(heads: Array, start: int, size: int, key: int) -> tuple[int, int]:
    """Insert ``key`` into the ``size`` descending heads of a ring; return its new start and the comparisons.

    The machine walks from the small end: one comparison for each head passed and one more. Here the place is found by
    halving and the shorter side moves, since lists in step pass all heads.
    """
    mask = heads.size - 1
    low, high = 0, size
    while low < high:
        middle = (low + high) // 2
        if heads[(start + middle) & mask] > key:
            low = middle + 1
        else:
            high = middle
    if 2 * low >= size:
        for at in range(size, low, -1):
            heads[(start + at) & mask] = heads[(start + at - 1) & mask]
    else:
        start = (start - 1) & mask
        for at in range(low):
            heads[(start + at) & mask] = heads[(start + at + 1) & mask]
    heads[(start + low) & mask] = key
    return start, size - low + 1


@kernel
def insertion_merge(a_indptr: Array, a_indices: Array, b_indptr: Array, b_indices: Array) -> tuple[Array, Array]:
    """Merge the lists of every row of A·B; the lists of row i are the non-empty rows of B that row i of A asks for.

    Returns
    -------
    compares : int64, one a row: comparisons of all insertions; a single list is copied, one an element.
    merged : int64, one a row: distinct columns, the non-zeros of C.
    """
    rows = a_indptr.size - 1
    compares, merged = np.zeros(rows, dtype=np.int64), np.zeros(rows, dtype=np.int64)
    longest = 1
    for row in range(rows):
        longest = max(longest, a_indptr[row + 1] - a_indptr[row])
    slots = 1
    while slots < longest:
        slots *= 2
    heads = np.empty(slots, dtype=np.int64)
    at, stop = np.empty(longest, dtype=np.int64), np.empty(longest, dtype=np.int64)
    for row in range(rows):
        lists = 0
        for e in range(a_indptr[row], a_indptr[row + 1]):
            k = a_indices[e]
            if b_indptr[k + 1] > b_indptr[k]:
                at[lists], stop[lists] = b_indptr[k], b_indptr[k + 1]
                lists += 1
        if lists == 1:
            compares[row] = merged[row] = stop[0] - at[0]
            continue
        start = 0
        for i in range(lists):
            start, passed = _insert(heads, start, i, np.int64(b_indices[at[i]]) * lists + lists - 1 - i)
            compares[row] += passed
        size, column = lists, np.int64(-1)
        while size > 0:
            size -= 1
            key = heads[(start + size) & (slots - 1)]
            if key // lists != column:
                column = key // lists
                merged[row] += 1
            i = lists - 1 - key % lists
            at[i] += 1
            if at[i] < stop[i]:
                start, passed = _insert(heads, start, size, np.int64(b_indices[at[i]]) * lists + lists - 1 - i)
                compares[row] += passed
                size += 1
    return compares, merged
