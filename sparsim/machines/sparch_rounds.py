"""The merge rounds of SpArch: which inputs each pass takes, what they merge to, and the steps that makes.

Leaves of the merge tree are condensed columns of A, or plain ones where condensing is switched off. The schedule is
asked round by round, because a result weighs what it really merged to.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from sparsim.kernels.records import MergeTree, Operands
from sparsim.kernels.steps import FIELDS
from sparsim.machines.schedule import MergeSchedule
from sparsim.machines.sparch_config import SpArchConfig
from sparsim.machines.sparch_counting import RoundCounter, RoundResult
from sparsim.machines.sparch_leaves import ColumnLeaves, CondensedLeaves, Leaves
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
        self.trace.append(asked)
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
    leaves: Leaves = CondensedLeaves(a, ops, sizes) if config.condense else ColumnLeaves(a, ops, sizes)
    weights = leaves.products if config.schedule.weights == "actual" else leaves.estimates
    schedule = MergeSchedule(weights, 1 << tree.layers, config.schedule.order, config.schedule.seed)
    passes = _Passes()
    multiplied_before = not config.merge.pipelined
    barrier = config.schedule.round_barrier or multiplied_before
    counter = RoundCounter(ops, tree, int(leaves.products.sum()))
    if multiplied_before:
        _multiply_first(passes, leaves, counter)
    results: list[RoundResult] = []
    last = False
    while not last:
        inputs = schedule.next_round()
        internal = np.zeros(1 << tree.layers, dtype=np.bool_)
        internal[: len(inputs)] = [multiplied_before or node >= schedule.leaves for node in inputs]
        result = counter.count(leaves.round(schedule.positions(inputs), internal), internal)
        last = schedule.finish_round(result.merged_elements)
        if barrier:
            wait = passes.barrier(result.steps.shape[0])
        else:
            wait = _waits(result.steps, passes, [node - schedule.leaves for node in inputs if node >= schedule.leaves])
        passes.add(result.steps, [passes.place[node] for node in inputs if node in passes.place], wait, result.trace)
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


def _multiply_first(passes: _Passes, leaves: Leaves, counter: RoundCounter) -> None:
    """Add the multiply phase of a machine that merges afterwards: leaf after leaf, all products to memory."""
    steps, trace = counter.multiply(*leaves.one_by_one())
    steps[:, MERGED] = 0
    passes.add(steps, [], np.full(steps.shape[0], -1, dtype=np.int64), trace)
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
