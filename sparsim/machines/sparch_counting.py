"""Counting one merge round of SpArch, run of rows after run of rows, in the way that suits B."""

from __future__ import annotations

from dataclasses import dataclass
from queue import SimpleQueue

import numpy as np
import numpy.typing as npt

from sparsim.kernels.bits import WORD, as_bits
from sparsim.kernels.merge import count_bits, count_dense, count_stamped, entering_layers, multiply_rows
from sparsim.kernels.records import Listing, MergeTree, Operands, RoundRows, RowWork
from sparsim.kernels.steps import cut_steps, new_tally
from sparsim.machines.sparch_leaves import BoolArray, RoundOfLeaves
from sparsim.matrix import IntArray
from sparsim.threads import in_turn, threads

__all__ = ["RoundCounter", "RoundResult"]

RUN_ELEMENTS = 1 << 15  # of A in a run of rows: what is listed of them stays in the second cache
BITS_BYTES = 1 << 25
WORDS_A_PRODUCT = 5.0  # sets of bits pay while a row of B has fewer words than this for each of its elements


@dataclass(frozen=True)
class RoundResult:
    """What one pass of the merge tree does; ``steps`` has the columns named in ``kernels/steps.py``."""

    steps: IntArray
    trace: npt.NDArray[np.signedinteger]
    entering: IntArray
    merged_elements: int
    partial_elements: int


class RoundCounter:
    """Counts rounds of one product; rows are independent, so runs of them may be counted at the same time."""

    def __init__(self, ops: Operands, tree: MergeTree, products: int) -> None:
        self.ops, self.tree = ops, tree
        words = -(-ops.columns // WORD)
        suits = words * ops.a_indices.size <= WORDS_A_PRODUCT * products
        fits = 8 * words * (ops.b_indptr.size - 1) <= BITS_BYTES
        self.words = words if suits and fits and not ops.dense_b else 0
        self.bits = as_bits(ops.b_indptr, ops.b_indices, self.words) if self.words else np.zeros(0, dtype=np.uint64)
        self.stamps: SimpleQueue[tuple[npt.NDArray[np.int32], int]] = SimpleQueue()
        if not self.words and not ops.dense_b:
            for _ in range(threads()):
                self.stamps.put((np.zeros(ops.columns, dtype=np.int32), 0))

    def count(self, part: RoundOfLeaves, internal: BoolArray) -> RoundResult:
        """Merge the inputs of one round."""
        rows = part.rows
        cuts = np.searchsorted(rows.first, np.arange(0, rows.first[-1], RUN_ELEMENTS), side="right") - 1
        bounds = np.append(np.unique(cuts), rows.row.size)
        trace = np.empty(int(rows.asked[-1]), dtype=self.ops.a_indices.dtype)
        vanished = np.zeros(self.tree.layers + 1, dtype=np.int64)
        tally, steps, merged, partial = new_tally(), [], 0, 0

        def work_of(run: tuple[int, int]) -> RowWork:
            start, stop = run
            work = self._room(stop - start, trace[rows.asked[start] : rows.asked[stop]])
            self._count_run(part.listing(start, stop), internal, work)
            return work

        runs = list(zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True))
        for (start, stop), work in zip(runs, in_turn(work_of, runs), strict=True):
            of_run = (rows.row[start:stop], rows.bursts[start:stop], rows.address[start:stop])
            steps.append(cut_steps(*of_run, work, self.tree, tally))
            vanished += work.vanished
            merged += int(work.merged.sum())
            partial += int(work.partial.sum())
        steps.append(self._rest(tally))
        return RoundResult(np.concatenate(steps), trace, entering_layers(vanished, merged), merged, partial)

    def multiply(self, rows: RoundRows, listing: Listing) -> tuple[IntArray, npt.NDArray[np.signedinteger]]:
        """Return steps and rows of B asked for by multiplying without merging: every product is written to memory."""
        work = self._room(rows.row.size, np.empty(rows.row.size, dtype=self.ops.a_indices.dtype))
        multiply_rows(self.ops, listing, np.zeros(1, dtype=np.bool_), self.tree, work)
        work.merged[:] = work.products
        tally = new_tally()
        steps = cut_steps(rows.row, rows.bursts, rows.address, work, self.tree, tally)
        return np.concatenate((steps, self._rest(tally))), work.trace

    def _count_run(self, listing: Listing, internal: BoolArray, work: RowWork) -> None:
        multiply_rows(self.ops, listing, internal, self.tree, work)
        if self.ops.dense_b:
            count_dense(self.ops, listing, internal, self.tree, work)
        elif self.words:
            count_bits(self.ops, listing, internal, self.tree, work, self.bits, self.words)
        else:
            stamp, serial = self.stamps.get()
            self.stamps.put((stamp, count_stamped(self.ops, listing, internal, self.tree, work, stamp, serial)))

    def _room(self, rows: int, trace: npt.NDArray[np.signedinteger]) -> RowWork:
        a_elements, products, slots, partial, merged = np.zeros((5, rows), dtype=np.int64)
        vanished = np.zeros(self.tree.layers + 1, dtype=np.int64)
        return RowWork(a_elements, products, slots, partial, merged, trace, vanished)

    def _rest(self, tally: IntArray) -> IntArray:
        """Return the last step, which no row has filled."""
        none = np.zeros(0, dtype=np.int64)
        work = self._room(0, np.empty(0, dtype=self.ops.a_indices.dtype))
        return cut_steps(none, none, none, work, self.tree, tally)
