"""Exact numbers of distinct positions from a random process, and the symmetric matrices made of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from sparsim.errors import InputError
from sparsim.matrix import Csr, IntArray, check_shape

__all__ = ["Draw", "capacity", "distinct", "from_keys", "off_diagonal", "split_symmetric", "symmetric", "unique"]

Draw = Callable[[int], IntArray]
"""Take a number of positions to draw, return about as many keys row * rows + column, fewer where some are invalid."""

ROUNDS = 24
LEAST_YIELD = 0.05


def capacity(what: str, rows: int, nnz: int, most: int) -> None:
    """Refuse a size that the structure cannot have."""
    check_shape(rows, rows)
    if not 0 <= nnz <= most:
        raise InputError(
            f"a {what} of {rows} rows and {nnz} elements", remedy=f"{rows} rows hold between 0 and {most} elements"
        )


def unique(keys: IntArray) -> IntArray:
    """Sort and drop duplicates; numpy's own hashes these nearly consecutive keys far slower than it sorts them."""
    keys = np.sort(keys)
    keep = np.ones(keys.size, dtype=bool)
    np.not_equal(keys[1:], keys[:-1], out=keep[1:])
    return keys[keep]


def distinct(draw: Draw, anywhere: Draw, wanted: int, rng: np.random.Generator) -> IntArray:
    """Return exactly ``wanted`` distinct keys, ascending.

    Parameters
    ----------
    draw : the process; what it repeats counts once, and a surplus is dropped evenly.
    anywhere : draws evenly from every allowed position, and fills up when the process has nothing new to give.
    wanted : at most the number of allowed positions.
    rng : decides about the surplus.
    """
    keys = np.empty(0, dtype=np.int64)
    size = wanted + wanted // 50 + 16
    for _ in range(ROUNDS):
        if keys.size >= wanted:
            break
        before = keys.size
        keys = unique(np.concatenate([keys, draw(size)]))
        fresh = max((keys.size - before) / size, LEAST_YIELD)
        size = int((wanted - keys.size) / fresh * 1.1) + 64
    while keys.size < wanted:
        keys = unique(np.concatenate([keys, anywhere(2 * (wanted - keys.size) + 4096)]))
    return np.delete(keys, rng.choice(keys.size, keys.size - wanted, replace=False))


def off_diagonal(rows: int, rng: np.random.Generator, upper: bool = False) -> Draw:
    """Return a process that draws evenly among the positions off the diagonal, or above it only."""

    def draw(size: int) -> IntArray:
        row, col = rng.integers(0, rows, size), rng.integers(0, rows, size)
        if upper:
            row, col = np.minimum(row, col), np.maximum(row, col)
        keys: IntArray = (row * rows + col)[row != col]
        return keys

    return draw


def from_keys(rows: int, keys: IntArray) -> Csr:
    """Return the square pattern of ascending keys row * rows + column."""
    row, col = np.divmod(keys, max(rows, 1))
    indptr = np.zeros(rows + 1, dtype=np.int64)
    np.cumsum(np.bincount(row, minlength=rows), out=indptr[1:])
    return Csr.build((rows, rows), indptr, col)


def split_symmetric(nnz: int, diagonal: int) -> tuple[int, int]:
    """Return how many pairs off the diagonal, and how many of ``diagonal`` places on it, make ``nnz`` elements."""
    pairs = max(0, (nnz - diagonal + 1) // 2)
    return pairs, nnz - 2 * pairs


def symmetric(rows: int, upper: IntArray, diagonal: npt.NDArray[np.int64]) -> Csr:
    """Return the symmetric pattern of keys above the diagonal and of rows with an element on it."""
    low, high = np.divmod(upper, max(rows, 1))
    return from_keys(rows, np.sort(np.concatenate([upper, high * rows + low, diagonal * (rows + 1)])))
