"""The merge rounds of SpArch as pipeline steps: what they bring, what they wait for, what they read back."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from sparsim.kernels.records import StepLimits
from sparsim.kernels.steps import FIELDS, cut_steps
from sparsim.machines.sparch_counting import Counted, CountedPass
from sparsim.matrix import IntArray

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
    limits : of a step.
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
    limits: StepLimits


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


def merge_rounds(counted: Counted, limits: StepLimits, round_barrier: bool = False) -> Rounds:
    """Cut what was counted into steps; with ``round_barrier`` a round waits for the end of the one before."""
    passes = _Passes()
    barrier = round_barrier or counted.multiplied is not None
    leaves, rounds = counted.products.size, counted.rounds
    if counted.multiplied is not None:
        _multiply_first(passes, counted, limits)
    for number, one in enumerate(rounds):
        steps = _cut(one, limits)
        sources = [node - leaves for node in one.inputs if node >= leaves]
        wait = passes.barrier(steps.shape[0]) if barrier else _waits(steps, passes, sources)
        passes.add(steps, [passes.place[node] for node in one.inputs if node in passes.place], wait, one.work.trace)
        if number < len(rounds) - 1:
            passes.keep(leaves + number, one.merged_elements)
    return Rounds(
        steps=np.concatenate(passes.steps),
        starts=np.array(passes.starts, dtype=np.int64),
        reads=passes.reads,
        wait_for=np.concatenate(passes.waits),
        trace=np.concatenate(passes.trace),
        known=np.cumsum([part.size for part in passes.trace]) if barrier else np.zeros(0, dtype=np.int64),
        layer_elements=np.sum([one.entering for one in rounds], axis=0),
        leaves=leaves,
        count=len(rounds),
        first_round_ways=counted.first_round_ways,
        partial_elements_read=sum(one.partial_elements for one in rounds),
        partial_elements_written=passes.written,
        nnz_c=rounds[-1].merged_elements,
        additions=sum(int(one.entering[0]) - one.merged_elements for one in rounds),
        limits=limits,
    )


def _cut(one: CountedPass, limits: StepLimits) -> IntArray:
    steps: IntArray = cut_steps(one.rows.row, one.rows.bursts, one.rows.address, one.work, limits)
    return steps


def _multiply_first(passes: _Passes, counted: Counted, limits: StepLimits) -> None:
    """Add the multiply phase of a machine that merges afterwards: leaf after leaf, all products to memory."""
    assert counted.multiplied is not None
    steps = _cut(counted.multiplied, limits)
    steps[:, MERGED] = 0
    passes.add(steps, [], np.full(steps.shape[0], -1, dtype=np.int64), counted.multiplied.work.trace)
    for leaf, products in enumerate(counted.products):
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
