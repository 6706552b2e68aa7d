"""Sets as bits, 64 to a word: rows of a matrix, whose union is an OR; and sets with a summary, for the extreme member.

A summary has one bit for each word that is not empty.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from llvmlite.ir import Constant, IntType
from numba.core.extending import intrinsic

from sparsim.kernels._jit import at, inlined, kernel

__all__ = [
    "WORD",
    "add",
    "as_bits",
    "copy",
    "highest_below",
    "include",
    "leave_out",
    "size_of",
    "take_lowest",
    "unite",
]

Array = npt.NDArray[Any]

WORD = 64
ZERO, ONE = np.uint64(0), np.uint64(1)


def _ones(word: Any) -> int:
    """Count the bits that are set."""
    return int(word).bit_count()


def _zeros_above(word: Any) -> int:
    """Count the zeros above the highest bit that is set."""
    return WORD - int(word).bit_length()


def _zeros_below(word: Any) -> int:
    """Count the zeros below the lowest bit that is set."""
    return (int(word) & -int(word)).bit_length() - 1


def _instruction(generate: Any) -> Any:
    """Return a function of one word that the processor has an instruction for."""

    @intrinsic
    def of_word(typing_context: Any, word: Any) -> Any:
        return word(word), lambda context, builder, signature, arguments: generate(builder, arguments[0])

    return of_word


if not numba.config.DISABLE_JIT:
    _not_zero = Constant(IntType(1), 1)
    _ones = _instruction(lambda builder, word: builder.ctpop(word))
    _zeros_above = _instruction(lambda builder, word: builder.ctlz(word, _not_zero))
    _zeros_below = _instruction(lambda builder, word: builder.cttz(word, _not_zero))


@kernel
def as_bits(indptr: Array, indices: Array, words: int) -> Array:
    """Return the rows of a matrix as sets, uint64 [rows * words], one row after the other."""
    rows = indptr.size - 1
    bits = np.zeros(rows * words, dtype=np.uint64)
    for row in range(rows):
        for f in range(indptr[row], indptr[row + 1]):
            column = indices[f]
            bits[at(row * words + (column >> 6))] |= ONE << np.uint64(column & 63)
    return bits


@inlined
def copy(into: Array, place: int, source: Array, begin: int, words: int) -> None:
    """Copy one set."""
    here, there = at(place), at(begin)  # an index that cannot be negative lets the loop become vectors
    for w in range(at(words)):
        into[here + w] = source[there + w]


@inlined
def add(into: Array, place: int, source: Array, begin: int, words: int) -> None:
    """Add the elements of a set to another."""
    here, there = at(place), at(begin)
    for w in range(at(words)):
        into[here + w] |= source[there + w]


@inlined
def size_of(source: Array, begin: int, words: int) -> int:
    """Return how many elements a set has."""
    there = at(begin)
    size = np.uint64(0)
    for w in range(at(words)):
        size += _ones(source[there + w])
    return np.int64(size)


@inlined
def unite(into: Array, place: int, source: Array, begin: int, words: int) -> int:
    """Add the elements of a set to another, and return how many that has then."""
    here, there = at(place), at(begin)
    size = np.uint64(0)
    for w in range(at(words)):
        word = into[here + w] | source[there + w]
        into[here + w] = word
        size += _ones(word)
    return np.int64(size)


@inlined
def include(words: Array, summary: Array, member: int) -> None:
    """Put a member into a set with a summary."""
    word = member >> 6
    words[at(word)] |= ONE << np.uint64(member & 63)
    summary[at(word >> 6)] |= ONE << np.uint64(word & 63)


@inlined
def leave_out(words: Array, summary: Array, member: int) -> bool:
    """Take a member out of a set with a summary; return whether it was in."""
    word, bit = member >> 6, ONE << np.uint64(member & 63)
    before = words[at(word)]
    if before & bit == ZERO:
        return False
    words[at(word)] = before ^ bit
    if before == bit:
        summary[at(word >> 6)] ^= ONE << np.uint64(word & 63)
    return True


@inlined
def take_lowest(words: Array, summary: Array) -> int:
    """Take the lowest member out of a set with a summary and return it, -1 of an empty set."""
    for s in range(summary.size):
        part = summary[at(s)]
        if part != ZERO:
            word = s << 6 | np.int64(_zeros_below(part))
            bits = words[at(word)]
            words[at(word)] = bits & (bits - ONE)
            if words[at(word)] == ZERO:
                summary[at(s)] = part & (part - ONE)
            return word << 6 | np.int64(_zeros_below(bits))
    return -1


@inlined
def highest_below(words: Array, summary: Array, limit: int) -> int:
    """Return the highest member below ``limit``, -1 if there is none."""
    word = limit >> 6
    if limit & 63:
        part = words[at(word)] & ((ONE << np.uint64(limit & 63)) - ONE)
        if part != ZERO:
            return word << 6 | (63 - np.int64(_zeros_above(part)))
    s = word >> 6
    part = summary[at(s)] & ((ONE << np.uint64(word & 63)) - ONE) if word & 63 else ZERO
    while part == ZERO:
        s -= 1
        if s < 0:
            return -1
        part = summary[at(s)]
    word = s << 6 | (63 - np.int64(_zeros_above(part)))
    return word << 6 | (63 - np.int64(_zeros_above(words[at(word)])))
