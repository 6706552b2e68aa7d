"""What blocks of SpArch's steps need of the stages and ask of the memory, one block at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from sparsim.kernels.records import Requests, Steps, Visits
from sparsim.kernels.requests import (
    Rates,
    Results,
    StepRequests,
    StepWork,
    lay_out_visits,
    lay_out_work,
    read_back,
)
from sparsim.kernels.visits import StepVisits
from sparsim.machines.sparch_rounds import (
    A_ADDRESS,
    A_BURSTS,
    A_ELEMENTS,
    MERGED,
    OUTPUT,
    PARTIAL,
    PRODUCTS,
    SLOTS,
    Read,
    Rounds,
    StepBlock,
)
from sparsim.matrix import IntArray

__all__ = ["Addresses", "Layout"]

BLOCK = 8192  # steps
CHUNK_ELEMENTS = 16  # of a partial result are read back at once
PAGE = 4096
STAGES = 6


class Addresses(NamedTuple):
    """Where A, B, partial results and C begin, each on a page."""

    a: int
    b: int
    partial: int
    c: int

    @classmethod
    def of(cls, sizes: tuple[int, int, int]) -> Addresses:
        """Lay out A, B and partial results of some bytes, and C, one behind the other."""
        base = [0]
        for size in sizes:
            base.append(-(-(base[-1] + size) // PAGE) * PAGE)
        return cls(*base)


class Layout:
    """Lays out one block after the other.

    Parameters
    ----------
    lines : what the prefetcher does for the steps.
    widths : bytes of one element of A, B or C, and of a partial result.
    burst : bytes that the memory moves at once.

    Attributes
    ----------
    moved : bytes of A, of what is read back, of B, of partial results and of C so far, int64 [5].
    """

    def __init__(
        self, rounds: Rounds, lines: StepVisits, addresses: Addresses, rates: Rates, widths: tuple[int, int], burst: int
    ) -> None:
        element, coo = widths
        self._rounds, self._lines, self._rates = rounds, lines, rates
        self._width, self._burst = (coo, element), burst
        self._chunk = -(-CHUNK_ELEMENTS * coo // burst) * burst
        self._results = [_results(reads, addresses.partial, coo, burst) for reads in rounds.reads]
        self._read = [0] * len(rounds.passes)
        left = (rounds.partial_elements_written, rounds.nnz_c)
        self._written = np.array([[addresses.partial, 0, left[0]], [addresses.c, 0, left[1]]], dtype=np.int64)
        self.moved = np.zeros(5, dtype=np.int64)

    def all(self) -> Iterator[tuple[Steps, Visits]]:
        """Return for one block after the other what its steps need of the stages, and what they ask of the memory."""
        return map(self._lay_out, self._rounds.blocks(BLOCK))

    def _lay_out(self, block: StepBlock) -> tuple[Steps, Visits]:
        steps, last = block.steps, len(self._rounds.passes) - 1
        lines = self._lines.of(steps[:, PRODUCTS], block.is_last)
        asks = StepRequests(
            a_address=steps[:, A_ADDRESS],
            a_bursts=steps[:, A_BURSTS],
            output=steps[:, OUTPUT],
            final=next((first for number, first, _ in block.passes if number == last), len(steps)),
            width=self._width,
            burst=self._burst,
        )
        back = self._read_back(block)
        room = 2 * len(steps) + back.step.size + lines.requests.step.size
        visits = Visits(np.empty((3, len(steps) + 1), dtype=np.int64), *np.empty((2, room), dtype=np.int64))
        lay_out_visits(asks, back, lines.requests, visits, self._written, self.moved)
        work = StepWork(
            a_elements=steps[:, A_ELEMENTS],
            slots=steps[:, SLOTS],
            merged=steps[:, MERGED],
            partial=steps[:, PARTIAL],
            output=steps[:, OUTPUT],
            lines=lines.visits,
            lines_ahead=lines.ahead,
        )
        service, size = np.empty((2, len(steps), STAGES), dtype=np.int64)
        lay_out_work(work, self._rates, service, size)
        return Steps(service, size, np.zeros((0, STAGES), dtype=np.int64), block.wait_for.copy()), visits

    def _read_back(self, block: StepBlock) -> Requests:
        """Return the requests for partial results, by step."""
        spans = [span for span in block.passes if self._results[span[0]].at.size]
        asked = [self._asked(number, block.steps[first:stop, PARTIAL]) for number, first, stop in spans]
        requests, count = Requests(*np.empty((3, sum(asked)), dtype=np.int64)), 0
        for number, first, stop in spans:
            partial = block.steps[first:stop, PARTIAL]
            done, needs = self._read[number], self._rounds.passes[number].partial_elements
            count = read_back(self._results[number], partial, done, needs, self._chunk, first, requests, count)
            self._read[number] += int(partial.sum())
        return Requests(*(column[:count] for column in requests))

    def _asked(self, number: int, partial: IntArray) -> int:
        """Return for how many requests a pass needs room when it has read back ``partial`` more."""
        results = self._results[number]
        done, needs = self._read[number] + int(partial.sum()), self._rounds.passes[number].partial_elements
        behind = [-(-done * size // max(needs, 1)) for size in results.size.tolist()]  # may take more than 64 bits
        until = results.address + np.array(behind, dtype=np.int64)
        left = np.minimum(results.end, until) - results.at
        return int(-(-np.maximum(left, 0) // self._chunk).sum())


def _results(reads: list[Read], address: int, width: int, burst: int) -> Results:
    place, elements = np.array([read for read in reads if read[1]], dtype=np.int64).reshape(-1, 2).T
    begin, size = address + place * width, elements * width
    return Results(begin, size, begin // burst * burst, -(-(begin + size) // burst) * burst)
