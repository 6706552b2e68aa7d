"""Counting the merge rounds of SpArch: which inputs each pass takes, and what every row brings to it.

The schedule is asked round by round, because a result weighs what it really merged to. Nothing here depends on time,
memory or buffers, so one count serves any number of machines that differ in those.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from queue import SimpleQueue

import numpy as np
import numpy.typing as npt

from sparsim.kernels.bits import WORD, as_bits
from sparsim.kernels.merge import (
    count_bits,
    count_bits_each,
    count_dense,
    count_dense_each,
    count_stamped,
    count_stamped_each,
    entering_layers,
    multiply_rows,
    walk_rows,
)
from sparsim.kernels.records import Listing, MergeTree, Operands, RoundRows, RowWork
from sparsim.machines.schedule import MergeSchedule
from sparsim.machines.sparch_config import SpArchConfig
from sparsim.machines.sparch_leaves import BoolArray, ColumnLeaves, CondensedLeaves, Leaves, RoundOfLeaves
from sparsim.matrix import Csr, IntArray
from sparsim.threads import in_turn, threads

__all__ = ["Counted", "CountedPass", "RoundCounter", "count_rounds"]

RUN_ELEMENTS = 1 << 15  # of A in a run of rows: what is listed of them stays in the second cache
SHARED_PRODUCTS = 1 << 21  # fewer are counted before threads have started
BITS_BYTES = 1 << 25
WORDS_A_PRODUCT = 5.0  # sets of bits pay while a row of B has fewer words than this for each of its elements


@dataclass(frozen=True)
class CountedPass:
    """What one pass over the merge tree, or a multiply phase, does: row by row, and in all.

    Parameters
    ----------
    inputs : nodes merged, in tree order; leaves first, then results of earlier rounds, as in ``schedule.py``.
    rows, work : its rows of A, and what they bring.
    entering : elements entering each tree layer, leaf layer first.
    merged_elements, partial_elements : of the result, and of the results read back.
    """

    inputs: list[int]
    rows: RoundRows
    work: RowWork
    entering: IntArray
    merged_elements: int
    partial_elements: int


@dataclass(frozen=True)
class Counted:
    """All passes of one product.

    Parameters
    ----------
    products : of each leaf with B, int64.
    multiplied : the multiply phase of a machine that merges afterwards, None if it merges what it multiplies.
    rounds : of the merge tree, in order.
    first_round_ways : inputs of the first round, were it full.
    """

    products: IntArray
    multiplied: CountedPass | None
    rounds: list[CountedPass]
    first_round_ways: int

    @property
    def nbytes(self) -> int:
        """Memory it takes."""
        passes = [*self.rounds, *([self.multiplied] if self.multiplied else [])]
        return sum(column.nbytes for one in passes for column in (*one.rows, *one.work))


def count_rounds(a: Csr, ops: Operands, config: SpArchConfig, element_bytes: int) -> Counted:
    """Run the schedule to its end; an element of A takes ``element_bytes``."""
    sizes = (element_bytes, config.dram.burst_bytes)
    leaves: Leaves = CondensedLeaves(a, ops, sizes) if config.condense else ColumnLeaves(a, ops, sizes)
    weights = leaves.products if config.schedule.weights == "actual" else leaves.estimates
    tree = MergeTree(config.merge.layers, config.multipliers.group_width)
    schedule = MergeSchedule(weights, 1 << tree.layers, config.schedule.order, config.schedule.seed)
    counter = RoundCounter(ops, tree, int(leaves.products.sum()))
    multiplied = None if config.merge.pipelined else counter.multiply(*leaves.one_by_one())
    rounds: list[CountedPass] = []
    last = False
    while not last:
        inputs = schedule.next_round()
        internal = np.zeros(1 << tree.layers, dtype=np.bool_)
        internal[: len(inputs)] = [multiplied is not None or node >= schedule.leaves for node in inputs]
        rounds.append(counter.count(inputs, leaves.round(schedule.positions(inputs), internal), internal))
        last = schedule.finish_round(rounds[-1].merged_elements)
    return Counted(leaves.products, multiplied, rounds, schedule.first_round_ways)


class RoundCounter:
    """Counts rounds of one product; rows are independent, so runs of them may be counted at the same time."""

    def __init__(self, ops: Operands, tree: MergeTree, products: int) -> None:
        self.ops, self.tree = ops, tree
        words = -(-ops.columns // WORD)
        suits = words * ops.a_indices.size <= WORDS_A_PRODUCT * products
        fits = 8 * words * (ops.b_indptr.size - 1) <= BITS_BYTES
        self.words = words if suits and fits and not ops.dense_b else 0
        self.bits = as_bits(ops.b_indptr, ops.b_indices, self.words) if self.words else np.zeros(0, dtype=np.uint64)
        self.threads = threads() if products >= SHARED_PRODUCTS else 1
        self.stamps: SimpleQueue[tuple[npt.NDArray[np.int32], int]] = SimpleQueue()
        if not self.words and not ops.dense_b:
            for _ in range(self.threads):
                self.stamps.put((np.zeros(ops.columns, dtype=np.int32), 0))

    def count(self, inputs: list[int], part: RoundOfLeaves, internal: BoolArray) -> CountedPass:
        """Merge the inputs of one round; ``internal`` says which are read back, by tree position."""
        rows, work = part.rows, self._room(part.rows)

        def count_run(run: tuple[int, int]) -> IntArray:
            own = _run_of(work, rows, run)
            self._count_run(part.listing(*run), internal, own)
            return own.vanished

        for vanished in in_turn(count_run, _runs(rows), self.threads):
            work.vanished[:] += vanished
        merged, partial = int(work.merged.sum()), int(work.partial.sum())
        return CountedPass(inputs, rows, work, entering_layers(work.vanished, merged), merged, partial)

    def walk(self, part: RoundOfLeaves, internal: BoolArray) -> tuple[RowWork, IntArray]:
        """Return what the rows of a round multiply, and the elements of B that counting each would walk through."""
        rows, work, reads_back = part.rows, self._room(part.rows), bool(internal.any())
        walked = np.empty(rows.row.size, dtype=np.int64)

        def walk_run(run: tuple[int, int]) -> None:
            listing = part.listing(*run)
            multiply_rows(self.ops, listing, internal, self.tree, _run_of(work, rows, run))
            if reads_back:
                walk_rows(self.ops, listing, walked[slice(*run)])

        for _ in in_turn(walk_run, _runs(rows), self.threads):
            pass
        return work, walked if reads_back else work.products

    def count_each(self, part: RoundOfLeaves, internal: BoolArray, at: IntArray) -> tuple[RowWork, IntArray]:
        """Count the rows of a round at places ``at``; return also what vanishes in each, [rows, layers + 1]."""
        listing = part.some(at)
        asked = part.rows.asked[at + 1] - part.rows.asked[at]
        work = self._empty(at.size, int(asked.sum()))
        each = np.zeros((at.size, self.tree.layers + 1), dtype=np.int64)
        multiply_rows(self.ops, listing, internal, self.tree, work)
        if self.ops.dense_b:
            count_dense_each(self.ops, listing, internal, self.tree, work, each)
        elif self.words:
            count_bits_each(self.ops, listing, internal, self.tree, work, self.bits, self.words, each)
        else:
            stamp, serial = self.stamps.get()
            serial = count_stamped_each(self.ops, listing, internal, self.tree, work, stamp, serial, each)
            self.stamps.put((stamp, serial))
        return work, each

    def multiply(self, rows: RoundRows, listing: Listing) -> CountedPass:
        """Multiply without merging: every product is a result and goes to memory."""
        work = self._room(rows)
        multiply_rows(self.ops, listing, np.zeros(1, dtype=np.bool_), self.tree, work)
        work.merged[:] = work.products
        work.partial[:] = 0
        return CountedPass([], rows, work, work.vanished[1:], int(work.merged.sum()), 0)

    def _count_run(self, listing: Listing, internal: BoolArray, work: RowWork) -> None:
        multiply_rows(self.ops, listing, internal, self.tree, work)
        if self.ops.dense_b:
            count_dense(self.ops, listing, internal, self.tree, work)
        elif self.words:
            count_bits(self.ops, listing, internal, self.tree, work, self.bits, self.words)
        else:
            stamp, serial = self.stamps.get()
            self.stamps.put((stamp, count_stamped(self.ops, listing, internal, self.tree, work, stamp, serial)))

    def _room(self, rows: RoundRows) -> RowWork:
        return self._empty(rows.row.size, int(rows.asked[-1]))

    def _empty(self, rows: int, asked: int) -> RowWork:
        a_elements, products, slots, partial, merged = np.empty((5, rows), dtype=np.int64)
        trace = np.empty(asked, dtype=self.ops.a_indices.dtype)
        vanished = np.zeros(self.tree.layers + 1, dtype=np.int64)
        return RowWork(a_elements, products, slots, partial, merged, trace, vanished)


def _runs(rows: RoundRows) -> list[tuple[int, int]]:
    """Cut the rows of a round into runs."""
    cuts = np.searchsorted(rows.first, np.arange(0, rows.first[-1], RUN_ELEMENTS), side="right") - 1
    return list(pairwise(np.append(np.unique(cuts), rows.row.size).tolist()))


def _run_of(work: RowWork, rows: RoundRows, run: tuple[int, int]) -> RowWork:
    """Return the part of ``work`` that belongs to a run, to be filled; what vanishes is counted apart."""
    a_elements, products, slots, partial, merged = (column[slice(*run)] for column in work[:5])
    trace = work.trace[rows.asked[run[0]] : rows.asked[run[1]]]
    return RowWork(a_elements, products, slots, partial, merged, trace, np.zeros_like(work.vanished))
