"""The products the host runs: what is left of a workload, how each kernel stores it, and the call that is timed."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter_ns
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from sparsim.workload import Workload

__all__ = [
    "INDEX_BYTES",
    "KERNELS",
    "Kernel",
    "Part",
    "drawn_operands",
    "multiply",
    "pack",
    "performed_multiplies",
    "stored_bytes",
]

Kernel = Literal["dense", "csr", "spgemm"]
KERNELS: tuple[Kernel, ...] = ("spgemm", "csr", "dense")  # fewest multiplies first
INDEX_BYTES = 4


class Part(NamedTuple):
    """What is left of one group: shape, and A and B as scipy matrices (None where they have no zeros)."""

    m: int
    k: int
    n: int
    a: Any
    b: Any


def pack(a: Any, b: Any, shape: tuple[int, int, int]) -> Part:
    """Leave out rows and columns of A, and columns of B, that hold nothing, and places along k empty in either."""
    m, k, n = shape
    if a is None and b is None:
        return Part(m, k, n, None, None)
    kept = np.ones(k, dtype=bool)
    if a is not None:
        kept &= np.bincount(a.indices, minlength=k) > 0
    if b is not None:
        kept &= np.diff(b.indptr) > 0
    if a is not None:
        a = a[np.diff(a.indptr) > 0][:, kept]
        m = a.shape[0]
    if b is not None:
        b = b[kept]
        b = b[:, np.bincount(b.indices, minlength=n) > 0]
        n = b.shape[1]
    k = int(kept.sum())
    full_a, full_b = a is None or a.nnz == m * k, b is None or b.nnz == k * n
    return Part(m, k, n, None if full_a else a, None if full_b else b)


def performed_multiplies(kernel: Kernel, parts: Sequence[Part]) -> int:
    """Return the multiplies of a kernel that skips at most the zeros of A."""
    stored = (p.m * p.k if kernel == "dense" or p.a is None else int(p.a.nnz) for p in parts)
    return sum(elements * part.n for elements, part in zip(stored, parts, strict=True))


def stored_bytes(kernel: Kernel, parts: Sequence[Part], workload: Workload, width: int) -> tuple[int, int, int]:
    """Return bytes of A, B and C as the kernel stores them."""

    def stored(matrix: Any, rows: int, cols: int, sparse: bool) -> int:
        nnz = rows * cols if matrix is None else int(matrix.nnz)
        return nnz * (width + INDEX_BYTES) + (rows + 1) * INDEX_BYTES if sparse else rows * cols * width

    a = sum(stored(part.a, part.m, part.k, kernel != "dense") for part in parts)
    b = sum(stored(part.b, part.k, part.n, kernel == "spgemm") for part in parts)
    c = sum(part.m * part.n * width for part in parts)
    if kernel == "spgemm":
        c = workload.nnz_c * (width + INDEX_BYTES) + sum(part.m + 1 for part in parts) * INDEX_BYTES
    return a, b, c


def drawn_operands(kernel: Kernel, parts: Sequence[Part], dtype: npt.DTypeLike, seed: int) -> list[tuple[Any, Any]]:
    """Draw the values, none of them zero, the same for every kernel."""
    rng = np.random.default_rng(seed)
    pairs = ((_drawn(p.a, (p.m, p.k), rng, dtype), _drawn(p.b, (p.k, p.n), rng, dtype)) for p in parts)
    return [(_stored(a, kernel != "dense"), _stored(b, kernel == "spgemm")) for a, b in pairs]


def _drawn(matrix: Any, shape: tuple[int, int], rng: np.random.Generator, dtype: Any) -> Any:
    from scipy.sparse import csr_array

    values = rng.random(shape if matrix is None else matrix.nnz, dtype=dtype)
    np.subtract(1, values, out=values)
    return values if matrix is None else csr_array((values, matrix.indices, matrix.indptr), shape=shape)


def _stored(matrix: Any, sparse: bool) -> Any:
    from scipy.sparse import csr_array

    if sparse:
        return csr_array(matrix)
    return matrix if isinstance(matrix, np.ndarray) else matrix.toarray()


def multiply(operands: Sequence[tuple[Any, Any]]) -> int:
    """Compute every product, drop the results one by one, and return the nanoseconds it took."""
    before = perf_counter_ns()
    for a, b in operands:
        a @ b
    return max(1, perf_counter_ns() - before)
