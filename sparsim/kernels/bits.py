"""Rows as sets of bits: 64 columns a word; a union is an OR, its size a count of bits."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from numba.core.extending import intrinsic

from sparsim.kernels._jit import inner, kernel

__all__ = ["WORD", "add", "as_bits", "copy", "size_of", "unite"]

Array = npt.NDArray[Any]

WORD = 64


def _ones(word: Any) -> int:
    """Count the bits that are set."""
    return int(word).bit_count()


if not numba.config.DISABLE_JIT:

    @intrinsic
    def _ones(typing_context: Any, word: Any) -> Any:
        """Count the bits that are set, by the processor's own instruction."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.ctpop(arguments[0])

        return word(word), generate


@kernel
def as_bits(indptr: Array, indices: Array, words: int) -> Array:
    """Return the rows of a matrix as sets, uint64 [rows * words], one row after the other."""
    rows = indptr.size - 1
    bits = np.zeros(rows * words, dtype=np.uint64)
    one = np.uint64(1)
    for row in range(rows):
        for f in range(indptr[row], indptr[row + 1]):
            column = indices[f]
            bits[row * words + (column >> 6)] |= one << np.uint64(column & 63)
    return bits


@inner
def copy(into: Array, at: int, source: Array, begin: int, words: int) -> None:
    """Copy one set."""
    here, there = np.uintp(at), np.uintp(begin)  # an index that cannot be negative lets the loop become vectors
    for w in range(np.uintp(words)):
        into[here + w] = source[there + w]


@inner
def add(into: Array, at: int, source: Array, begin: int, words: int) -> None:
    """Add the elements of a set to another."""
    here, there = np.uintp(at), np.uintp(begin)
    for w in range(np.uintp(words)):
        into[here + w] |= source[there + w]


@inner
def size_of(source: Array, begin: int, words: int) -> int:
    """Return how many elements a set has."""
    there = np.uintp(begin)
    size = np.uint64(0)
    for w in range(np.uintp(words)):
        size += _ones(source[there + w])
    return np.int64(size)


@inner
def unite(into: Array, at: int, source: Array, begin: int, words: int) -> int:
    """Add the elements of a set to another, and return how many that has then."""
    here, there = np.uintp(at), np.uintp(begin)
    size = np.uint64(0)
    for w in range(np.uintp(words)):
        word = into[here + w] | source[there + w]
        into[here + w] = word
        size += _ones(word)
    return np.int64(size)
