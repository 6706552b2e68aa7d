"""Matrix condensing (Zhang et al., HPCA 2020, section II-B): condensed column j is the j-th non-zero of every row."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sparsim.kernels._jit import kernel
from sparsim.kernels.records import RoundRows

__all__ = ["column_products", "column_sizes", "list_rows", "orders", "outer_products", "round_rows", "rows_by_length"]

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
def rows_by_length(indptr: Array, sizes: Array) -> Array:
    """Return the rows that hold anything, the longest first, rows of one length in order.

    Parameters
    ----------
    sizes : elements of each condensed column, which are the rows longer than its number.
    """
    place = np.zeros(sizes.size + 1, dtype=np.int64)
    for length in range(sizes.size):
        place[length] = sizes[length]
    rows = np.empty(place[0], dtype=np.int64)
    for row in range(indptr.size - 1):
        length = indptr[row + 1] - indptr[row]
        if length > 0:
            rows[place[length]] = row
            place[length] += 1
    return rows


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


def orders(position: Array, first: int) -> tuple[Array, Array, Array]:
    """Return the columns of a round by tree position, once for every magnitude of row length.

    A row of n elements finds its columns, with few others, in class bit_length(n - 1): columns below that power of two.

    Parameters
    ----------
    position : tree leaf of each condensed column, -1 if it takes no part; those below ``first`` take none.

    Returns
    -------
    first entry of every class, condensed columns, their positions.
    """
    taking = first + np.flatnonzero(position[first:] >= 0)
    taking = taking[np.argsort(position[taking], kind="stable")]
    classes = max(int(position.size - 1).bit_length(), 0) + 1
    parts = [taking[taking < 1 << c] for c in range(classes)]
    bounds = np.concatenate(([0], np.cumsum([part.size for part in parts]))).astype(np.int64)
    columns = np.concatenate(parts)
    return bounds, columns.astype(np.int32), position[columns].astype(np.int32)


@kernel
def round_rows(
    a_indptr: Array, rows: Array, below: tuple[Array, Array], runs: Array, sizes: tuple[int, int]
) -> RoundRows:
    """Return what the rows of one merge round take from A.

    Elements are read in the order in which they lie, and a burst once while it is the last one read.

    Parameters
    ----------
    rows : those that hold an element of the round's first column, ascending.
    below : columns that take part, and those multiplied now, among the first n condensed columns.
    runs : first and last + 1 of every run of columns that are multiplied now, [runs, 2], ascending.
    sizes : bytes of an element and of a burst.
    """
    taking, asking = below
    element_bytes, burst_bytes = sizes
    first = np.zeros(rows.size + 1, dtype=np.int64)
    asked = np.zeros(rows.size + 1, dtype=np.int64)
    bursts = np.zeros(rows.size, dtype=np.int64)
    address = np.full(rows.size, -1, dtype=np.int64)
    read = np.int64(-1)
    for i in range(rows.size):
        start = a_indptr[rows[i]]
        length = min(a_indptr[rows[i] + 1] - start, taking.size - 1)
        first[i + 1] = first[i] + taking[length]
        asked[i + 1] = asked[i] + asking[length]
        for r in range(runs.shape[0]):
            if runs[r, 0] >= length:
                break
            begin = max((start + runs[r, 0]) * element_bytes // burst_bytes, read + 1)
            read = ((start + min(runs[r, 1], length)) * element_bytes - 1) // burst_bytes
            if begin <= read and address[i] < 0:
                address[i] = begin * burst_bytes
            bursts[i] += read - begin + 1
    return RoundRows(rows, first, asked, bursts, address)


@kernel
def list_rows(a_indptr: Array, rows: Array, order: tuple[Array, Array, Array], element: Array, position: Array) -> int:
    """List the elements of A that take part in a round, by row, then by tree position; return how many.

    ``order`` is what :func:`orders` says; ``element`` and ``position`` have room for them and one more.
    """
    bounds, columns, places = order
    last = bounds.size - 2
    count = 0
    for row in rows:
        start = a_indptr[row]
        length = a_indptr[row + 1] - start
        magnitude = 0
        while magnitude < last and length > 1 << magnitude:
            magnitude += 1
        for i in range(bounds[magnitude], bounds[magnitude + 1]):
            element[count] = start + columns[i]
            position[count] = places[i]
            count += columns[i] < length
    return count
