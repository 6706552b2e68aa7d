"""The merge rounds of SpArch as pipeline steps: what they bring, what they wait for, what they read back.

Steps are cut a block at a time: there are as many as products, in the end, and each is needed once. So that few are
under way, a step also waits for the one that many steps before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from sparsim.kernels.records import StepLimits
from sparsim.kernels.steps import FIELDS, cut_steps, pieces_of
from sparsim.machines.sparch_counting import Counted, CountedPass
from sparsim.matrix import IntArray

__all__ = ["Read", "Rounds", "StepBlock"]

A_ELEMENTS, PRODUCTS, SLOTS, PARTIAL, MERGED, OUTPUT, A_BURSTS, A_ADDRESS, LAST_ROW = range(len(FIELDS))
UNDER_WAY, STEPS_UNDER_WAY = 1 << 22, 1 << 18  # elements; merging alone, A would run ahead of it by whole rounds
LEAST_UNDER_WAY = 1024  # steps, in a sample

Read = tuple[int, int]  # of a partial result: place in memory, elements


@dataclass(frozen=True)
class StepBlock:
    """Consecutive steps.

    Parameters
    ----------
    steps : int64 [steps, FIELDS]; overwritten by the next block.
    wait_for : the step, counted from the first of all, that has to be done before a step begins, -1 if none.
    passes : number of each pass that has steps here, its first one and the end, counted from the block's first.
    is_last : whether no steps follow.
    """

    steps: IntArray
    wait_for: IntArray
    passes: list[tuple[int, int, int]]
    is_last: bool


@dataclass(frozen=True)
class Rounds:
    """All passes of one product (the multiply phase, if there is one, then the merge rounds) as steps.

    Parameters
    ----------
    limits : of a step.
    barrier : whether a round waits for the end of the one before.
    share : of a larger product that this is a sample of; fewer steps are under way then.
    """

    counted: Counted
    limits: StepLimits
    barrier: bool
    share: float = 1.0

    @cached_property
    def passes(self) -> list[CountedPass]:
        """All passes, in order."""
        first = [] if self.counted.multiplied is None else [self.counted.multiplied]
        return [*first, *self.counted.rounds]

    @property
    def trace(self) -> IntArray:
        """Rows of B in the order in which elements of A ask for them."""
        return self.passes[0].work.trace if len(self.passes) == 1 else self._traces

    @cached_property
    def _traces(self) -> IntArray:
        return np.concatenate([one.work.trace for one in self.passes])

    @property
    def known(self) -> IntArray:
        """Ends of the parts of ``trace`` that are known at once, ascending."""
        parts = np.array([one.work.trace.size for one in self.passes], dtype=np.int64)
        return np.cumsum(parts) if self.barrier else parts.sum(keepdims=True)

    @cached_property
    def reads(self) -> list[list[Read]]:
        """The partial results that each pass reads back."""
        return [[self._written[node] for node in one.inputs if node in self._written] for one in self.passes]

    @cached_property
    def _written(self) -> dict[int, Read]:
        """Where in memory each partial result lies."""
        leaves = self.counted.products
        each = {} if self.counted.multiplied is None else dict(enumerate(leaves.tolist()))
        each |= {leaves.size + i: one.merged_elements for i, one in enumerate(self.counted.rounds[:-1])}
        places = np.cumsum([0, *each.values()]).tolist()
        return {node: (place, each[node]) for node, place in zip(each, places, strict=False)}

    @property
    def partial_elements_read(self) -> int:
        """Elements read back, in all rounds."""
        return sum(one.partial_elements for one in self.counted.rounds)

    @property
    def partial_elements_written(self) -> int:
        """Elements of partial results, written for a later round."""
        return sum(elements for _, elements in self._written.values())

    @property
    def nnz_c(self) -> int:
        """Elements of C, written by the last pass."""
        return self.counted.rounds[-1].merged_elements

    @cached_property
    def most_steps(self) -> int:
        """Steps there are at most: a row ends one, and is cut into as many as its elements fill."""
        filled = sum(
            2 * one.rows.row.size
            + int(one.work.a_elements.sum()) // self.limits.rows
            + int(one.work.products.sum() + one.work.partial.sum()) // self.limits.quantum
            for one in self.passes
        )
        return filled + len(self.passes)

    def blocks(self, most: int) -> Iterator[StepBlock]:
        """Cut all passes into blocks of ``most`` steps, or as many as a row has if these are more."""
        steps = np.empty((most, len(FIELDS)), dtype=np.int64)
        wait_for = np.empty(most, dtype=np.int64)
        waits = _Waits(self)
        used, spans = 0, []
        for number, one in enumerate(self.passes):
            row, begun = 0, np.zeros(len(FIELDS), dtype=np.int64)
            while row <= one.rows.row.size:
                first = used
                row, used = cut_steps(one.rows, one.work, self.limits, row, begun, steps, used)
                if used > first:
                    if one is self.counted.multiplied:
                        steps[first:used, MERGED] = 0
                    wait_for[first:used] = waits.of(number, steps[first:used])
                    spans.append((number, first, used))
                if row > one.rows.row.size:
                    break
                if used:
                    yield StepBlock(steps[:used], wait_for[:used], spans, is_last=False)
                    used, spans = 0, []
                else:
                    most = 2 + pieces_of(one.work, self.limits, row)
                    steps, wait_for = np.empty((most, len(FIELDS)), dtype=np.int64), np.empty(most, dtype=np.int64)
        yield StepBlock(steps[:used], wait_for[:used], spans, is_last=True)


class _Waits:
    """What the steps have to wait for, found as they are cut."""

    def __init__(self, rounds: Rounds) -> None:
        self.rounds = rounds
        most = min(UNDER_WAY // rounds.limits.quantum, STEPS_UNDER_WAY)
        self.most = most if rounds.share == 1 else max(int(rounds.share * most), LEAST_UNDER_WAY)
        self.starts: dict[int, int] = {}
        self.last_rows: dict[int, list[npt.NDArray[np.integer]]] = {}
        rows = max(int(one.rows.row[-1]) if one.rows.row.size else 0 for one in rounds.passes)
        self.row_type = np.int32 if rows < 1 << 31 else np.int64
        self.done = 0

    def of(self, number: int, steps: IntArray) -> IntArray:
        """Return for further steps of pass ``number`` the earlier step that each waits for, -1 for none."""
        wait: IntArray = np.maximum(np.arange(self.done, self.done + steps.shape[0]) - self.most, -1)
        if self.rounds.barrier:
            if number and number not in self.starts:
                wait[0] = self.done - 1
        else:
            self._wait_for_rows(number, steps, wait)
            if number < len(self.rounds.passes) - 1:
                self.last_rows.setdefault(number, []).append(steps[:, LAST_ROW].astype(self.row_type))
        self.starts.setdefault(number, self.done)
        self.done += steps.shape[0]
        return wait

    def _wait_for_rows(self, number: int, steps: IntArray, wait: IntArray) -> None:
        """Wait for the latest earlier step that completes a row which is read back."""
        leaves = self.rounds.counted.products.size
        sources = [node - leaves for node in self.rounds.passes[number].inputs if node - leaves in self.starts]
        needs = steps[:, PARTIAL] > 0
        rows = steps[needs, LAST_ROW]
        for source in sources:
            if len(self.last_rows[source]) > 1:
                self.last_rows[source] = [np.concatenate(self.last_rows[source])]
            for last in self.last_rows[source]:
                wait[needs] = np.maximum(wait[needs], self.starts[source] + _step_of_row(last, rows))


def _step_of_row(last: npt.NDArray[np.integer], rows: IntArray) -> IntArray:
    """Return the step in which each row's result is complete, ``last`` being the last row of each."""
    right = np.searchsorted(last, rows, side="right")
    complete = (right > 0) & (last[np.maximum(right - 1, 0)] == rows)
    return np.where(complete, right - 1, np.minimum(right, last.size - 1))
