"""Structure of a product without its values (Gustavson 1978, symbolic phase)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sparsim.kernels._jit import kernel

Array = npt.NDArray[Any]


@kernel
def product_nnz(a_indptr: Array, a_indices: Array, b_indptr: Array, b_indices: Array, columns: int) -> int:
    """Count the structural non-zeros of A·B: per row of A, the union of the rows of B it asks for.

    One iteration is one product. ``stamp[c]`` holds the last row that met column c.
    """
    stamp = np.full(columns, -1, dtype=np.int64)
    total = 0
    for row in range(a_indptr.size - 1):
        for e in range(a_indptr[row], a_indptr[row + 1]):
            k = a_indices[e]
            for f in range(b_indptr[k], b_indptr[k + 1]):
                c = b_indices[f]
                if stamp[c] != row:
                    stamp[c] = row
                    total += 1
    return total


@kernel
def row_products(a_indptr: Array, a_indices: Array, b_indptr: Array) -> Array:
    """Return the products of each row of A with B, int64 [rows]; one iteration is one element of A."""
    found = np.zeros(a_indptr.size - 1, dtype=np.int64)
    for row in range(found.size):
        products = 0
        for e in range(a_indptr[row], a_indptr[row + 1]):
            k = a_indices[e]
            products += b_indptr[k + 1] - b_indptr[k]
        found[row] = products
    return found


@kernel
def far_products(a_indptr: Array, a_indices: Array, b_indptr: Array, distance: int) -> Array:
    """Return the products, by row of A, with rows of B not asked for by the ``distance`` elements of A before.

    int64 [rows]; one iteration is one element of A.
    """
    found = np.zeros(a_indptr.size - 1, dtype=np.int64)
    latest = np.full(b_indptr.size - 1, -distance - 1, dtype=np.int64)
    for row in range(found.size):
        products = 0
        for e in range(a_indptr[row], a_indptr[row + 1]):
            k = a_indices[e]
            if e - latest[k] > distance:
                products += b_indptr[k + 1] - b_indptr[k]
            latest[k] = e
        found[row] = products
    return found
