"""A sample of the rows of A: what SpArch's merge rounds make of them, and how long cells of them take.

Exact is all that takes time in proportion to the non-zeros of A: condensed columns, products, multiplier slots, bursts
of A, the rows of B asked for and what the prefetcher makes of them. Sizes of results come from rows that are drawn and
counted in every round; they drive the merge schedule as counted ones do. Time comes from cells of consecutive rows that
run through the timing core with what the prefetcher did for them in the whole run, so that none begins with a cold
buffer. How far A may run ahead shrinks as the sample does: what is left when all of A has been fetched takes less time,
and would be most of a short run.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from sparsim.kernels.bits import WORD
from sparsim.kernels.prefetch import Prefetcher
from sparsim.kernels.records import Fetched, MergeTree, Operands, RoundRows, RowWork, StepLimits
from sparsim.kernels.symbolic import far_products, row_products
from sparsim.kernels.visits import StepVisits
from sparsim.machines.sampling import draw_cells, draw_rows
from sparsim.machines.schedule import MergeSchedule
from sparsim.machines.sparch_config import SpArchConfig
from sparsim.machines.sparch_counting import Counted, CountedPass, RoundCounter
from sparsim.machines.sparch_leaves import BoolArray, CondensedLeaves, RoundOfLeaves
from sparsim.machines.sparch_rounds import Rounds
from sparsim.machines.sparch_timing import Tally, prefetch_params, quantum, replay_key, time_rounds
from sparsim.matrix import Csr, IntArray

__all__ = ["CellClock", "SampledRound", "Survey"]

FloatArray = npt.NDArray[np.float64]

COUNTED = 8  # times as many products are counted as are timed: counting takes a fraction of the time
ELEMENT_WORK = 8  # products that an element of A weighs when rows are cut into cells
HEAVY_CELL = 1 / 4  # of the products timed: a row with more is timed in any case
FAR = 8  # elements of A for every line of the prefetcher: a row of B asked for before is not there any more
CELLS_AT_ONCE = 64
LEAST_AHEAD = 4  # steps of as many elements of A as one may have
SPARE = 2  # times as many again, in rounds of few products: which rows meet there differs most
FEW = 24  # drawn rows with which a round is estimated; with fewer it is counted whole


@dataclass(frozen=True)
class SampledRound:
    """One merge round: what is exact, what is estimated, and what the rows of the drawn cells do.

    ``cells`` are sums by cell of rows: A elements, slots, bytes of A, products, read back, merged. ``own`` are the rows
    of the drawn cells, ``own_cell`` the cell of each.
    """

    inputs: list[int]
    trace: IntArray
    partial: int
    merged: int
    entering: IntArray
    cells: FloatArray
    own: CountedPass
    own_cell: IntArray
    asked: IntArray

    @cached_property
    def without_rows(self) -> CountedPass:
        """The round of cells that have no rows in it."""
        own, none = self.own, np.zeros(0, dtype=np.int64)
        work = RowWork(none, none, none, none, none, own.work.trace[:0], own.work.vanished)
        return CountedPass(own.inputs, _only(own.rows, none), work, own.entering, 0, 0)


class Survey:
    """Runs the schedule with estimated sizes.

    ``errors`` has a row for each row sampled and a column for elements of C, of partial results, and of layers 1 on.
    """

    def __init__(self, a: Csr, ops: Operands, config: SpArchConfig, burst: tuple[int, int], rng: np.random.Generator):
        self.config, self.leaves = config, CondensedLeaves(a, ops, burst)
        work = row_products(a.indptr, a.indices, ops.b_indptr)
        self.products = int(work.sum())
        self.rows = draw_rows(work, min(COUNTED * config.sample.fraction, 1.0), rng)
        heavy = self.rows.rows[self.rows.stratum[self.rows.rows] < 0]
        heavy = heavy[work[heavy] > HEAVY_CELL * config.sample.fraction * self.products]
        far = far_products(a.indptr, a.indices, ops.b_indptr, FAR * config.prefetch.lines)
        self.cells = draw_cells(work + ELEMENT_WORK * a.row_lengths, far, config.sample.fraction, heavy, rng)
        self.cell_of = np.repeat(np.arange(self.cells.count), np.diff(self.cells.bounds))
        self.is_sampled = np.zeros(work.size, dtype=np.bool_)
        self.is_sampled[self.rows.rows] = True
        self.is_timed = np.zeros(self.cells.count, dtype=np.bool_)
        self.is_timed[self.cells.drawn] = True
        timed = self.is_timed[self.cell_of]
        self.counted = (int((self.is_sampled | timed).sum()), int(work[self.is_sampled | timed].sum()))
        self.tree = MergeTree(config.merge.layers, config.multipliers.group_width)
        self.counter = RoundCounter(ops, self.tree, self.products)
        self.rounds: list[SampledRound] = []
        self.spare = SPARE * config.sample.fraction * self.products
        self.errors = np.zeros((self.rows.rows.size, config.merge.layers + 1))
        self.first_round_ways = 0

    def run(self) -> None:
        """Run all rounds."""
        c, leaves = self.config, self.leaves
        weights = leaves.products if c.schedule.weights == "actual" else leaves.estimates
        schedule = MergeSchedule(weights, 1 << self.tree.layers, c.schedule.order, c.schedule.seed)
        self.first_round_ways = schedule.first_round_ways
        last = False
        while not last:
            inputs = schedule.next_round()
            at, error = self._round(inputs, schedule.positions(inputs))
            last = schedule.finish_round(self.rounds[-1].merged)
            self.errors[at, 0 if last else 1] += error[:, 0]
            self.errors[at, 2:] += error[:, 1:]

    def _round(self, inputs: list[int], position: IntArray) -> tuple[IntArray, FloatArray]:
        """Run one round; return which rows of the sample take part, and what they add to the error of each column."""
        count, c = self.leaves.sizes.size, self.config
        internal = np.zeros(1 << self.tree.layers, dtype=np.bool_)
        internal[: len(inputs)] = [node >= count for node in inputs]
        part = self.leaves.round(position, internal)
        rows, (work, walked) = part.rows, self.counter.walk(part, internal)
        before = [self.rounds[node - count] for node in inputs if node >= count]
        partial = sum(one.merged for one in before)
        enters = int(work.products.sum()) + partial
        at, error, total, expected = self._estimate(part, internal, walked)
        cell = self.cell_of[rows.row]
        own_at = np.flatnonzero(self.is_timed[cell])
        own, _ = self.counter.count_each(part, internal, own_at)
        expected[own_at] = own.merged
        merged = min(round(float(total[0])), enters)
        layers = np.maximum(np.minimum.accumulate(np.append(enters, np.rint(total[1:]).astype(np.int64))), merged)
        exact = (work.a_elements, work.slots, rows.bursts * c.dram.burst_bytes, work.products)
        sums = [np.bincount(cell, column, self.cells.count) for column in (*exact, expected)]
        read = np.sum([one.cells[-1] for one in before], axis=0) if before else np.zeros(self.cells.count)
        cells = np.stack([*sums[:4], read, sums[4]])
        bounds = np.searchsorted(rows.row, self.cells.bounds)
        parts = _only(rows, own_at), own, np.zeros(self.tree.layers, dtype=np.int64)
        passed = CountedPass(inputs, *parts, int(own.merged.sum()), int(own.partial.sum()))
        self.rounds.append(
            SampledRound(inputs, work.trace, partial, merged, layers, cells, passed, cell[own_at], rows.asked[bounds])
        )
        return at, error

    def _estimate(
        self, part: RoundOfLeaves, internal: BoolArray, walked: IntArray
    ) -> tuple[IntArray, FloatArray, FloatArray, FloatArray]:
        """Estimate the elements of the result, and of each layer but the first.

        Returns
        -------
        Rows of the sample that take part, what they add to the error, the sums, and merged elements of each row.
        """
        row, sample = part.rows.row, self.rows
        at = np.flatnonzero(self.is_sampled[row])
        stratum = sample.stratum[row]
        whole = int((stratum[at] >= 0).sum()) < FEW or int(walked.sum()) <= self.spare
        self.spare -= int(walked.sum()) * whole
        at = np.arange(row.size) if whole else at
        own, vanished = self.counter.count_each(part, internal, at)
        entering = own.merged[:, None] + np.cumsum(vanished[:, :0:-1], axis=1)[:, ::-1]
        y = np.column_stack((own.merged, entering[:, 1:])).astype(np.float64)
        if whole:
            nothing = np.zeros(0, dtype=np.int64)
            return nothing, np.zeros((0, y.shape[1])), y.sum(axis=0), own.merged.astype(np.float64)
        drawn = stratum >= 0
        x_total = np.bincount(stratum[drawn], walked[drawn], sample.members.size).astype(np.float64)
        places = np.searchsorted(sample.rows, row[at])
        total, error, ratio = sample.totals(places, walked[at].astype(np.float64), y, x_total)
        expected = walked.astype(np.float64) * np.where(drawn, ratio[stratum, 0] if ratio.size else 0.0, 0.0)
        expected[at] = own.merged
        return places, error, total, expected


def _only(rows: RoundRows, at: IntArray) -> RoundRows:
    """Return some of the rows."""
    first, asked = (np.append(0, np.cumsum(ends[at + 1] - ends[at])) for ends in (rows.first, rows.asked))
    return RoundRows(rows.row[at], first, asked, rows.bursts[at], rows.address[at])


class CellClock:
    """Times cells, with what the prefetcher did for them in the whole run.

    ``b_bytes`` are those moved for B, [rounds, cells].
    """

    def __init__(self, survey: Survey, row_elements: IntArray, nnz_a: int, widths: tuple[int, int]) -> None:
        self.survey, self.config, self.widths = survey, survey.config, widths
        self.row_elements, self.nnz_a = row_elements, nnz_a
        c = self.config
        self.limits = StepLimits(*quantum(c, survey.products, nnz_a), c.dram.burst_bytes)
        self.params = prefetch_params(c, widths[0], 0)
        trace = np.concatenate([one.trace for one in survey.rounds])
        sizes = np.array([one.trace.size for one in survey.rounds])
        known = np.cumsum(sizes) if c.schedule.round_barrier else sizes.sum(keepdims=True)
        replay = Prefetcher(trace, row_elements, known, self.params)
        start = np.concatenate(([0], np.cumsum(row_elements))).astype(np.int64)
        lines = StepVisits(replay, trace, start, self.params)
        cells = survey.cells.count
        products = np.concatenate([one.cells[3].astype(np.int64) for one in survey.rounds])
        b_bytes = []
        for at in range(0, products.size, CELLS_AT_ONCE):
            some = products[at : at + CELLS_AT_ONCE]
            asked = lines.of(some, at + some.size == products.size).requests
            b_bytes.append(np.bincount(asked.step, asked.size, some.size))
        self.b_bytes = np.concatenate(b_bytes).reshape(sizes.size, cells)
        self.fetched, self.fetched_bytes = replay.fetched, lines.fetched_bytes
        begin = [one.asked[1:] + done for one, done in zip(survey.rounds, np.cumsum(sizes) - sizes, strict=True)]
        self.visits = replay.visits_before(np.concatenate([[0], *begin]))

    def time(self, cells: IntArray) -> Tally:
        """Time some of the drawn cells as one product."""
        survey, rounds = self.survey, []
        taken = np.zeros(survey.cells.count, dtype=np.bool_)
        taken[cells] = True
        for one in survey.rounds:
            at = np.flatnonzero(taken[one.own_cell])
            if not at.size:
                rounds.append(one.without_rows)
                continue
            rows, work = one.own.rows, one.own.work
            spans = zip(
                *(np.searchsorted(one.own_cell, cells, side).tolist() for side in ("left", "right")), strict=True
            )
            trace = np.concatenate([work.trace[rows.asked[first] : rows.asked[stop]] for first, stop in spans])
            a_elements, products, slots, partial, merged = (column[at] for column in work[:5])
            own = RowWork(a_elements, products, slots, partial, merged, trace, work.vanished)
            sums = int(own.merged.sum()), int(own.partial.sum())
            rounds.append(CountedPass(one.inputs, _only(rows, at), own, one.own.entering, *sums))
        counted = Counted(survey.leaves.products, None, rounds, 0)
        c, share = self.config, cells.size / survey.cells.count
        ahead = max(int(share * c.look_ahead_fifo.elements), LEAST_AHEAD * self.limits.rows)
        fifo = c.look_ahead_fifo.model_copy(update={"elements": min(ahead, c.look_ahead_fifo.elements)})
        steps = Rounds(counted, self.limits, c.schedule.round_barrier, share)
        replayed = {replay_key(steps, self.params): self._fetched(cells, steps.trace.size)}
        shrunk = c.model_copy(update={"look_ahead_fifo": fifo})
        return time_rounds(steps, self.row_elements, self.nnz_a, shrunk, self.widths, replayed)

    def _fetched(self, cells: IntArray, elements: int) -> Fetched:
        """Return what the prefetcher did for the visits of some cells."""
        count, stalls, bits, done = self.survey.cells.count, [self.fetched.stalls[:0]], [np.zeros(0, dtype=np.uint8)], 0
        for number in range(len(self.survey.rounds)):
            for cell in cells.tolist():
                begin, end = self.visits[number * count + cell : number * count + cell + 2].tolist()
                if begin == end:
                    continue
                words = self.fetched.missed[begin // WORD : end // WORD + 1]
                bits.append(np.unpackbits(words.view(np.uint8), bitorder="little")[begin % WORD :][: end - begin])
                among = slice(*np.searchsorted(self.fetched.stalls[:, 0], (begin, end)))
                stalls.append(self.fetched.stalls[among] + (done - begin, 0))
                done += end - begin
        missed = np.concatenate(bits)
        packed = np.zeros((done // WORD + 1) * 8, dtype=np.uint8)
        packed[: -(-done // 8)] = np.packbits(missed, bitorder="little")
        return Fetched(elements, done, int(missed.sum()), packed.view(np.uint64), np.concatenate(stalls))
