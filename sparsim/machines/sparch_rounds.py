"""The merge rounds of SpArch: which inputs each pass takes, what they merge to, and the steps that makes.

Leaves of the merge tree are condensed columns of A, or plain ones where condensing is switched off. The schedule is
asked round by round, because a result weighs what it really merged to.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sparsim.kernels.condense import column_products, column_sizes, gather_condensed
from sparsim.kernels.merge import FIELDS, merge_round
from sparsim.kernels.records import MergeRound, MergeTree, Operands, RoundElements
from sparsim.machines.schedule import MergeSchedule
from sparsim.machines.sparch_config import SpArchConfig
from sparsim.matrix import Csr, IntArray

__all__ = ["Rounds", "merge_rounds"]

A_ELEMENTS, PRODUCTS, SLOTS, PARTIAL, MERGED, OUTPUT, A_BYTES, LAST_ROW = range(len(FIELDS))


@dataclass(frozen=True)
class Rounds:
    """All merge rounds of one product.

    Parameters
    ----------
    steps : int64 [steps, FIELDS], round after round; the columns are named in ``kernels/merge.py``.
    wait_for : the step that wrote the last partial result a step reads, -1 if it reads none.
    is_final : whether a step belongs to the last round, whose results are C.
    trace : rows of B in the order in which elements of A ask for them.
    layer_elements : elements entering each tree layer, leaf layer first.
    leaves : partial matrices before merging (condensed columns).
    """

    steps: IntArray
    wait_for: IntArray
    is_final: npt.NDArray[np.bool_]
    trace: IntArray
    layer_elements: IntArray
    leaves: int
    count: int
    first_round_ways: int
    partial_elements_read: int
    partial_elements_written: int
    nnz_c: int
    additions: int


def merge_rounds(a: Csr, ops: Operands, config: SpArchConfig, tree: MergeTree) -> Rounds:
    """Run the schedule to its end and return what all rounds came to."""
    leaves = _CondensedLeaves(a, ops) if config.condense else _ColumnLeaves(a, ops)
    weights = leaves.products if config.schedule.weights == "actual" else leaves.estimates
    schedule = MergeSchedule(weights, 1 << tree.layers, config.schedule.order, config.schedule.seed)
    stamp = np.zeros(ops.columns, dtype=np.int64)
    serial = 1
    results: list[MergeRound] = []
    waits: list[IntArray] = []
    trace: list[IntArray] = []
    starts = [0]
    last = False
    while not last:
        inputs = schedule.next_round()
        internal = np.zeros(1 << tree.layers, dtype=np.bool_)
        internal[: len(inputs)] = [node >= schedule.leaves for node in inputs]
        position = np.full(schedule.leaves, -1, dtype=np.int64)
        for place, node in enumerate(inputs):
            position[schedule.leaves_under(node)] = place
        elements = leaves.gather(position, tree)
        result, serial = merge_round(ops, elements, internal, tree, stamp, serial)
        last = schedule.finish_round(result.merged_elements)
        multiplied = elements.element[~internal[elements.position]]
        trace.append(ops.a_indices[multiplied].astype(np.int64))
        sources = [node - schedule.leaves for node in inputs if node >= schedule.leaves]
        waits.append(_waits(result.steps, [(starts[source], results[source].steps) for source in sources]))
        results.append(result)
        starts.append(starts[-1] + result.steps.shape[0])
    is_final = np.zeros(starts[-1], dtype=np.bool_)
    is_final[starts[-2] :] = True
    return Rounds(
        steps=np.concatenate([result.steps for result in results]),
        wait_for=np.concatenate(waits),
        is_final=is_final,
        trace=np.concatenate(trace),
        layer_elements=np.sum([result.entering for result in results], axis=0),
        leaves=schedule.leaves,
        count=schedule.rounds,
        first_round_ways=schedule.first_round_ways,
        partial_elements_read=sum(result.partial_elements for result in results),
        partial_elements_written=sum(result.merged_elements for result in results[:-1]),
        nnz_c=results[-1].merged_elements,
        additions=sum(int(result.entering[0]) - result.merged_elements for result in results),
    )


def _waits(steps: IntArray, sources: list[tuple[int, IntArray]]) -> IntArray:
    """Return for each step the latest earlier step that completes a row it reads back."""
    wait = np.full(steps.shape[0], -1, dtype=np.int64)
    needs = steps[:, PARTIAL] > 0
    rows = steps[needs, LAST_ROW]
    for start, source in sources:
        wait[needs] = np.maximum(wait[needs], start + _step_of_row(source, rows))
    return wait


def _step_of_row(steps: IntArray, rows: IntArray) -> IntArray:
    """Return the step in which each row's result is complete."""
    if not steps.shape[0]:
        return np.full(rows.shape, -1, dtype=np.int64)
    last = steps[:, LAST_ROW]
    right = np.searchsorted(last, rows, side="right")
    complete = (right > 0) & (last[np.maximum(right - 1, 0)] == rows)
    return np.where(complete, right - 1, np.minimum(right, last.size - 1))


class _CondensedLeaves:
    """Column j holds the j-th non-zero of every row."""

    def __init__(self, a: Csr, ops: Operands) -> None:
        self.a = a
        self.sizes = column_sizes(a.indptr)
        self.products = column_products(a.indptr, a.indices, ops.b_indptr, self.sizes.size)
        self.estimates = _estimates(self.sizes, ops)
        self.by_length = np.argsort(-a.row_lengths, kind="stable")

    def gather(self, position: IntArray, tree: MergeTree) -> RoundElements:
        taking = np.flatnonzero(position >= 0)
        first = int(taking[0]) if taking.size else 0
        stop = int(taking[-1]) + 1 if taking.size else 0
        longer = int(self.sizes[first]) if taking.size else 0
        rows = np.sort(self.by_length[:longer])
        return gather_condensed(self.a.indptr, rows, position[:stop], first, 1 << tree.layers)


class _ColumnLeaves:
    """Every column of A that is not empty, without condensing."""

    def __init__(self, a: Csr, ops: Operands) -> None:
        self.order = np.argsort(a.indices, kind="stable")
        self.row = np.repeat(np.arange(a.shape[0], dtype=np.int64), a.row_lengths)[self.order]
        used, counts = np.unique(a.indices, return_counts=True)
        self.ends = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
        self.products = counts * np.diff(ops.b_indptr)[used]
        self.estimates = _estimates(counts.astype(np.int64), ops)

    def gather(self, position: IntArray, tree: MergeTree) -> RoundElements:
        leaves = np.flatnonzero(position >= 0)
        spans = [np.arange(self.ends[leaf], self.ends[leaf + 1]) for leaf in leaves]
        at = np.concatenate(spans) if spans else np.zeros(0, dtype=np.int64)
        place = np.repeat(position[leaves], np.diff(self.ends)[leaves])
        order = np.lexsort((place, self.row[at]))
        return RoundElements(self.row[at][order], place[order].astype(np.int32), self.order[at][order])


def _estimates(sizes: IntArray, ops: Operands) -> IntArray:
    """Return elements x average row of B, in whole numbers: what hardware knows before it multiplies."""
    rows = ops.b_indptr.size - 1
    return sizes * int(ops.b_indptr[-1]) // rows if rows else sizes * 0
