"""The merge rounds of SpArch: which inputs each pass takes, what they merge to, and the steps that makes.

Leaves of the merge tree are condensed columns of A, or plain ones where condensing is switched off. The schedule is
asked round by round, because a result weighs what it really merged to.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from sparsim.kernels.condense import column_products, column_sizes, gather_condensed
from sparsim.kernels.merge import FIELDS, merge_round, multiply_round
from sparsim.kernels.records import MergeRound, MergeTree, Operands, RoundElements
from sparsim.machines.schedule import MergeSchedule
from sparsim.machines.sparch_config import SpArchConfig
from sparsim.matrix import Csr, IntArray

__all__ = ["Rounds", "merge_rounds"]

A_ELEMENTS, PRODUCTS, SLOTS, PARTIAL, MERGED, OUTPUT, A_BURSTS, A_ADDRESS, LAST_ROW = range(len(FIELDS))


@dataclass(frozen=True)
class Rounds:
    """All merge rounds of one product.

    Parameters
    ----------
    steps : int64 [steps, FIELDS], round after round; the columns are named in ``kernels/merge.py``.
    starts : first step of each pass (the multiply phase, if there is one, then the rounds), and the end.
    reads : for each pass the partial results it reads back, as (first element, elements).
    wait_for : the step that has to be done before a step begins, -1 if none.
    trace : rows of B in the order in which elements of A ask for them.
    known : where in ``trace`` a round ends whose successor is not known before; empty if all is known.
    layer_elements : elements entering each tree layer, leaf layer first.
    leaves : partial matrices before merging (condensed columns).
    """

    steps: IntArray
    starts: IntArray
    reads: list[list[tuple[int, int]]]
    wait_for: IntArray
    trace: IntArray
    known: IntArray
    layer_elements: IntArray
    leaves: int
    count: int
    first_round_ways: int
    partial_elements_read: int
    partial_elements_written: int
    nnz_c: int
    additions: int

    @property
    def is_final(self) -> npt.NDArray[np.bool_]:
        """Whether a step belongs to the last round, whose results are C."""
        final: npt.NDArray[np.bool_] = np.arange(self.steps.shape[0]) >= self.starts[-2]
        return final


@dataclass
class _Passes:
    """The passes run so far, and where in memory their results lie."""

    steps: list[IntArray] = field(default_factory=list)
    reads: list[list[tuple[int, int]]] = field(default_factory=list)
    waits: list[IntArray] = field(default_factory=list)
    trace: list[IntArray] = field(default_factory=list)
    starts: list[int] = field(default_factory=lambda: [0])
    place: dict[int, tuple[int, int]] = field(default_factory=dict)
    written: int = 0

    def add(self, steps: IntArray, reads: list[tuple[int, int]], wait: IntArray, asked: IntArray) -> None:
        self.steps.append(steps)
        self.reads.append(reads)
        self.waits.append(wait)
        self.trace.append(asked.astype(np.int64))
        self.starts.append(self.starts[-1] + steps.shape[0])

    def keep(self, node: int, elements: int) -> None:
        """Note where the elements of a partial result have been written."""
        self.place[node] = (self.written, elements)
        self.written += elements

    def barrier(self, steps: int) -> IntArray:
        """Return what to wait for if everything before has to be done."""
        wait = np.full(steps, -1, dtype=np.int64)
        wait[:1] = self.starts[-1] - 1
        return wait


def merge_rounds(a: Csr, ops: Operands, config: SpArchConfig, tree: MergeTree, sizes: tuple[int, int]) -> Rounds:
    """Run the schedule to its end and return what all rounds came to; ``sizes`` are bytes of an element and a burst."""
    leaves = _CondensedLeaves(a, ops, sizes) if config.condense else _ColumnLeaves(a, ops, sizes)
    weights = leaves.products if config.schedule.weights == "actual" else leaves.estimates
    schedule = MergeSchedule(weights, 1 << tree.layers, config.schedule.order, config.schedule.seed)
    passes = _Passes()
    multiplied_before = not config.merge.pipelined
    barrier = config.schedule.round_barrier or multiplied_before
    if multiplied_before:
        _multiply_first(passes, leaves, ops, tree)
    stamp = np.zeros(ops.columns, dtype=np.int64)
    serial = 1
    results: list[MergeRound] = []
    last = False
    while not last:
        inputs = schedule.next_round()
        internal = np.zeros(1 << tree.layers, dtype=np.bool_)
        internal[: len(inputs)] = [multiplied_before or node >= schedule.leaves for node in inputs]
        position = np.full(schedule.leaves, -1, dtype=np.int64)
        for at, node in enumerate(inputs):
            position[schedule.leaves_under(node)] = at
        elements = leaves.gather(position, internal)
        result, serial = merge_round(ops, elements, internal, tree, stamp, serial)
        last = schedule.finish_round(result.merged_elements)
        asked = ops.a_indices[elements.element[~internal[elements.position]]]
        if barrier:
            wait = passes.barrier(result.steps.shape[0])
        else:
            wait = _waits(result.steps, passes, [node - schedule.leaves for node in inputs if node >= schedule.leaves])
        passes.add(result.steps, [passes.place[node] for node in inputs if node in passes.place], wait, asked)
        if not last:
            passes.keep(schedule.leaves + len(results), result.merged_elements)
        results.append(result)
    return Rounds(
        steps=np.concatenate(passes.steps),
        starts=np.array(passes.starts, dtype=np.int64),
        reads=passes.reads,
        wait_for=np.concatenate(passes.waits),
        trace=np.concatenate(passes.trace),
        known=np.cumsum([part.size for part in passes.trace]) if barrier else np.zeros(0, dtype=np.int64),
        layer_elements=np.sum([result.entering for result in results], axis=0),
        leaves=schedule.leaves,
        count=schedule.rounds,
        first_round_ways=schedule.first_round_ways,
        partial_elements_read=sum(result.partial_elements for result in results),
        partial_elements_written=passes.written,
        nnz_c=results[-1].merged_elements,
        additions=sum(int(result.entering[0]) - result.merged_elements for result in results),
    )


def _multiply_first(passes: _Passes, leaves: _CondensedLeaves | _ColumnLeaves, ops: Operands, tree: MergeTree) -> None:
    """Add the multiply phase of a machine that merges afterwards: leaf after leaf, all products to memory."""
    elements = leaves.one_by_one()
    steps = multiply_round(ops, elements, np.zeros(1, dtype=np.bool_), tree)
    steps[:, MERGED] = 0
    passes.add(steps, [], np.full(steps.shape[0], -1, dtype=np.int64), ops.a_indices[elements.element])
    for leaf, products in enumerate(leaves.products):
        passes.keep(leaf, int(products))


def _waits(steps: IntArray, passes: _Passes, sources: list[int]) -> IntArray:
    """Return for each step the latest earlier step that completes a row it reads back."""
    wait = np.full(steps.shape[0], -1, dtype=np.int64)
    needs = steps[:, PARTIAL] > 0
    rows = steps[needs, LAST_ROW]
    for source in sources:
        wait[needs] = np.maximum(wait[needs], passes.starts[source] + _step_of_row(passes.steps[source], rows))
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

    def __init__(self, a: Csr, ops: Operands, sizes: tuple[int, int]) -> None:
        self.a, self.element_and_burst = a, sizes
        self.sizes = column_sizes(a.indptr)
        self.products = column_products(a.indptr, a.indices, ops.b_indptr, self.sizes.size)
        self.estimates = _estimates(self.sizes, ops)
        self.by_length = np.argsort(-a.row_lengths, kind="stable")

    def gather(self, position: IntArray, internal: npt.NDArray[np.bool_]) -> RoundElements:
        """List the elements under the round's inputs."""
        taking = np.flatnonzero(position >= 0)
        first = int(taking[0]) if taking.size else 0
        stop = int(taking[-1]) + 1 if taking.size else 0
        longer = int(self.sizes[first]) if taking.size else 0
        rows = np.sort(self.by_length[:longer])
        return gather_condensed(self.a.indptr, rows, position[:stop], internal, first, self.element_and_burst)

    def one_by_one(self) -> RoundElements:
        """List all elements leaf after leaf."""
        row = np.repeat(np.arange(self.a.shape[0], dtype=np.int64), self.a.row_lengths)
        order = np.lexsort((row, np.arange(self.a.nnz) - self.a.indptr[row]))
        return _listed(row[order], np.zeros(self.a.nnz, dtype=np.int32), order, order, self.element_and_burst)


class _ColumnLeaves:
    """Every column of A that is not empty, without condensing; A lies in memory column by column."""

    def __init__(self, a: Csr, ops: Operands, sizes: tuple[int, int]) -> None:
        self.element_and_burst = sizes
        self.order = np.argsort(a.indices, kind="stable")
        self.row = np.repeat(np.arange(a.shape[0], dtype=np.int64), a.row_lengths)[self.order]
        used, counts = np.unique(a.indices, return_counts=True)
        self.ends = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
        self.products = counts * np.diff(ops.b_indptr)[used]
        self.estimates = _estimates(counts.astype(np.int64), ops)

    def gather(self, position: IntArray, internal: npt.NDArray[np.bool_]) -> RoundElements:
        """List the elements under the round's inputs."""
        leaves = np.flatnonzero(position >= 0)
        spans = [np.arange(self.ends[leaf], self.ends[leaf + 1]) for leaf in leaves]
        at = np.concatenate(spans) if spans else np.zeros(0, dtype=np.int64)
        place = np.repeat(position[leaves], np.diff(self.ends)[leaves])
        listed = _listed(self.row[at], place, self.order[at], at, self.element_and_burst)
        multiplied = ~internal[place]
        asked = _listed(
            self.row[at][multiplied],
            place[multiplied],
            self.order[at][multiplied],
            at[multiplied],
            self.element_and_burst,
        )
        listed.bursts[:] = 0
        listed.address[multiplied], listed.bursts[multiplied] = asked.address, asked.bursts
        order = np.lexsort((place, self.row[at]))
        return RoundElements(*(column[order] for column in listed))

    def one_by_one(self) -> RoundElements:
        """List all elements leaf after leaf."""
        at = np.arange(self.order.size, dtype=np.int64)
        return _listed(self.row, np.zeros(at.size, dtype=np.int32), self.order, at, self.element_and_burst)


def _listed(
    row: IntArray, position: IntArray, element: IntArray, at: IntArray, element_and_burst: tuple[int, int]
) -> RoundElements:
    """Return elements that are read one after the other from places ``at`` of A, a burst once while it is the last."""
    width, burst = element_and_burst
    first, final = at * width // burst, ((at + 1) * width - 1) // burst
    if at.size:
        first[1:] += first[1:] == final[:-1]
    return RoundElements(row, position.astype(np.int32), element, first * burst, final - first + 1)


def _estimates(sizes: IntArray, ops: Operands) -> IntArray:
    """Return elements x average row of B, in whole numbers: what hardware knows before it multiplies."""
    rows = ops.b_indptr.size - 1
    return sizes * int(ops.b_indptr[-1]) // rows if rows else sizes * 0
