"""The leaves of SpArch's merge tree: condensed columns of A, or plain ones where condensing is switched off."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from sparsim.kernels.condense import column_products, column_sizes, list_rows, orders, round_rows, rows_by_length
from sparsim.kernels.records import Listing, Operands, RoundRows
from sparsim.matrix import Csr, IntArray

__all__ = ["ColumnLeaves", "CondensedLeaves", "Leaves", "RoundOfLeaves"]

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class RoundOfLeaves:
    """The part of A under one merge round: its rows, and ways to list the elements of some.

    ``listing`` takes the first row and the end, ``some`` the places of any rows, ascending.
    """

    rows: RoundRows
    listing: Callable[[int, int], Listing]
    some: Callable[[IntArray], Listing]


class Leaves(Protocol):
    """What the merge rounds need to know of A.

    ``products`` and ``estimates`` weigh every leaf: products with B, and what hardware knows before it multiplies.
    """

    products: IntArray
    estimates: IntArray

    def round(self, position: IntArray, internal: BoolArray) -> RoundOfLeaves:
        """Return what lies under a round's inputs.

        Parameters
        ----------
        position : tree position of each leaf, -1 if it takes no part.
        internal : per tree position, whether it is a result of an earlier round (else it is multiplied now).
        """

    def one_by_one(self) -> tuple[RoundRows, Listing]:
        """List all elements leaf after leaf, each as a row of its own."""


class CondensedLeaves:
    """Column j holds the j-th non-zero of every row."""

    def __init__(self, a: Csr, ops: Operands, sizes: tuple[int, int]) -> None:
        self.a, self.element_and_burst = a, sizes
        self.sizes = column_sizes(a.indptr)
        self.products = column_products(a.indptr, a.indices, ops.b_indptr, self.sizes.size)
        self.estimates = _estimates(self.sizes, ops)
        self.lengths = a.row_lengths
        self.by_length = rows_by_length(a.indptr, self.sizes)

    def round(self, position: IntArray, internal: BoolArray) -> RoundOfLeaves:
        """Return what lies under a round's inputs."""
        taking = np.flatnonzero(position >= 0)
        first = int(taking[0]) if taking.size else 0
        position = position[: int(taking[-1]) + 1 if taking.size else 0]
        longer = int(self.sizes[first]) if taking.size else 0
        few = 16 * longer < self.lengths.size
        chosen = np.sort(self.by_length[:longer]) if few else np.flatnonzero(self.lengths > first)
        multiplied = (position >= 0) & ~internal[position]
        below = (_counts_below(position >= 0), _counts_below(multiplied))
        edges = np.flatnonzero(np.diff(multiplied, prepend=False, append=False))
        rows = round_rows(self.a.indptr, chosen, below, edges.reshape(-1, 2), self.element_and_burst)
        order = orders(position, first)

        def listing(start: int, stop: int) -> Listing:
            size = int(rows.first[stop] - rows.first[start]) + 1
            element, place = np.empty(size, dtype=np.int64), np.empty(size, dtype=np.int32)
            list_rows(self.a.indptr, chosen[start:stop], order, element, place)
            return Listing(rows.first[start : stop + 1], element, place)

        def some(at: IntArray) -> Listing:
            ends = np.append(0, np.cumsum(rows.first[at + 1] - rows.first[at]))
            element, place = np.empty(int(ends[-1]) + 1, dtype=np.int64), np.empty(int(ends[-1]) + 1, dtype=np.int32)
            list_rows(self.a.indptr, chosen[at], order, element, place)
            return Listing(ends, element, place)

        return RoundOfLeaves(rows, listing, some)

    def one_by_one(self) -> tuple[RoundRows, Listing]:
        """List all elements leaf after leaf."""
        row = np.repeat(np.arange(self.a.shape[0], dtype=np.int64), self.lengths)
        order = np.lexsort((row, np.arange(self.a.nnz) - self.a.indptr[row]))
        return _each_alone(row[order], order, *_reads(order, self.element_and_burst))


class ColumnLeaves:
    """Every column of A that is not empty, without condensing; A lies in memory column by column."""

    def __init__(self, a: Csr, ops: Operands, sizes: tuple[int, int]) -> None:
        self.element_and_burst = sizes
        self.order = np.argsort(a.indices, kind="stable")
        self.row = np.repeat(np.arange(a.shape[0], dtype=np.int64), a.row_lengths)[self.order]
        used, counts = np.unique(a.indices, return_counts=True)
        self.ends = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
        self.products = counts * np.diff(ops.b_indptr)[used]
        self.estimates = _estimates(counts.astype(np.int64), ops)

    def round(self, position: IntArray, internal: BoolArray) -> RoundOfLeaves:
        """Return what lies under a round's inputs."""
        leaves = np.flatnonzero(position >= 0)
        spans = [np.arange(self.ends[leaf], self.ends[leaf + 1]) for leaf in leaves]
        at = np.concatenate(spans) if spans else np.zeros(0, dtype=np.int64)
        place = np.repeat(position[leaves], np.diff(self.ends)[leaves])
        multiplied = ~internal[place]
        address, bursts = np.full(at.size, -1, dtype=np.int64), np.zeros(at.size, dtype=np.int64)
        address[multiplied], bursts[multiplied] = _reads(at[multiplied], self.element_and_burst)
        order = np.lexsort((place, self.row[at]))
        row = self.row[at][order]
        starts = np.flatnonzero(np.diff(row, prepend=-1))
        asked = _counts_below(multiplied[order])
        lowest = np.where(bursts > 0, address, np.iinfo(np.int64).max)[order]
        total = np.add.reduceat(bursts[order], starts) if starts.size else bursts
        least = np.minimum.reduceat(lowest, starts) if starts.size else lowest
        rows = RoundRows(
            row[starts],
            np.append(starts, row.size).astype(np.int64),
            np.append(asked[starts], asked[-1]),
            total,
            np.where(total > 0, least, -1),
        )
        element, position_of = self.order[at][order], place[order].astype(np.int32)

        def listing(start: int, stop: int) -> Listing:
            first = rows.first[start : stop + 1]
            return Listing(first, element[first[0] : first[-1]], position_of[first[0] : first[-1]])

        def some(at: IntArray) -> Listing:
            taken = np.concatenate([np.arange(rows.first[i], rows.first[i + 1]) for i in at] or [at])
            ends = np.append(0, np.cumsum(rows.first[at + 1] - rows.first[at]))
            return Listing(ends, element[taken], position_of[taken])

        return RoundOfLeaves(rows, listing, some)

    def one_by_one(self) -> tuple[RoundRows, Listing]:
        """List all elements leaf after leaf."""
        at = np.arange(self.order.size, dtype=np.int64)
        return _each_alone(self.row, self.order, *_reads(at, self.element_and_burst))


def _counts_below(flags: BoolArray) -> IntArray:
    """Return how many of the first n flags are set, for n = 0 to all."""
    return np.concatenate(([0], np.cumsum(flags))).astype(np.int64)


def _reads(at: IntArray, element_and_burst: tuple[int, int]) -> tuple[IntArray, IntArray]:
    """Return address and bursts of elements read in turn from places ``at``, a burst once while it is the last."""
    width, burst = element_and_burst
    first, final = at * width // burst, ((at + 1) * width - 1) // burst
    if at.size:
        first[1:] += first[1:] == final[:-1]
    return first * burst, final - first + 1


def _each_alone(row: IntArray, element: IntArray, address: IntArray, bursts: IntArray) -> tuple[RoundRows, Listing]:
    """Return elements as rows of one element each."""
    first = np.arange(row.size + 1, dtype=np.int64)
    rows = RoundRows(row, first, first, bursts, np.where(bursts > 0, address, -1))
    return rows, Listing(first, element, np.zeros(row.size, dtype=np.int32))


def _estimates(sizes: IntArray, ops: Operands) -> IntArray:
    """Return elements x average row of B, in whole numbers: what hardware knows before it multiplies."""
    rows = ops.b_indptr.size - 1
    return sizes * int(ops.b_indptr[-1]) // rows if rows else sizes * 0
