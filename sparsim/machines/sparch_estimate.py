"""Estimates of what SpArch does, with 95 % intervals, from a sample of the rows of A.

Every drawn cell of rows is timed alone, then all of them as one product. What that one saves is what filling and
draining the pipeline takes; the rest of the time grows with work, which is known or estimated for every cell: of DRAM,
merger, multipliers and look-ahead FIFO the busiest.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from sparsim.kernels.records import Operands
from sparsim.machines.activity import STREAMS, Activity
from sparsim.machines.sampling import CELLS, ratio_with_error
from sparsim.machines.sparch_config import SpArchConfig
from sparsim.machines.sparch_sample import CellClock, Survey
from sparsim.machines.sparch_timing import MEMORY_STAGES, STAGES, Tally
from sparsim.matrix import Csr

__all__ = ["Estimated", "exact_instead", "sampled_tally"]

FloatArray = npt.NDArray[np.float64]

LEAST_PRODUCTS = 10_000_000
LEAST_OF_ROUND = 200_000  # products: a sample of as many rounds takes as long as all of them, and says less of time
LEAST_ROWS = 64  # of a cell: what rounds wait for is not seen in fewer
A_ELEMENTS, SLOTS, A_BYTES, PRODUCTS, READ, MERGED = range(6)


@dataclass
class Estimated:
    """How far estimates may be off: ``half`` of the 95 % interval by dotted key of the report, and what was sampled."""

    rows: int = 0
    cells: int = 0
    products: int = 0
    half: dict[str, float] = field(default_factory=dict)

    def add(self, other: Estimated, times: int) -> None:
        """Add another product's, drawn independently, as often as ``times`` says."""
        self.rows += other.rows
        self.cells += other.cells
        self.products += other.products
        for key, half in other.half.items():
            self.half[key] = float(np.hypot(self.half.get(key, 0.0), times * half))

    def told(self, config: SpArchConfig, did: Activity, exact: str) -> dict[str, Any]:
        """Return what a report says of the sample; ``exact`` is why products were not sampled, "" if all were."""
        bus = did.dram_bytes
        figures = {
            "cycles.total": did.cycles,
            "workload.nnz_c": did.nnz_c,
            "dram_bytes.total": sum(bus.values()),
            **{f"dram_bytes.{stream}": bus[stream] for stream in STREAMS},
            **{f"details.{key}": did.details[key] for key in ("partial_elements_written", "partial_elements_read")},
            **{f"details.layer_elements.{at}": value for at, value in enumerate(did.details["layer_elements"])},
        }
        intervals = {
            key: [max(round(figures[key] - half), 0), round(figures[key] + half)] for key, half in self.half.items()
        }
        about: dict[str, Any] = {"fraction": config.sample.fraction, "seed": config.sample.seed, "rows": self.rows}
        about |= {"blocks": self.cells, "products_counted": self.products, "intervals": intervals}
        return about | ({"exact": exact} if exact else {})


def exact_instead(a: Csr, products: int, config: SpArchConfig) -> str:
    """Say why a product is not sampled, "" if it is."""
    fraction = config.sample.fraction
    if fraction == 1:
        return "the sample takes in everything"
    if products < LEAST_PRODUCTS:
        return f"too small to sample: {products:,} products"
    # there are as many leaves as the longest row has elements
    merged_away = (1 << config.merge.layers) - 1
    rounds = -(-(int(a.row_lengths.max()) - 1) // merged_away)
    if rounds * LEAST_OF_ROUND > products:
        return f"too small to sample: {products // rounds:,} products a merge round"
    rows = int((a.row_lengths > 0).sum())
    return f"too small to sample: {rows:,} rows" if rows * fraction < LEAST_ROWS * CELLS else ""


def sampled_tally(
    a: Csr, ops: Operands, config: SpArchConfig, widths: tuple[int, int], rng: np.random.Generator
) -> tuple[Tally, Estimated]:
    """Estimate what one product comes to, and how far that may be off.

    Parameters
    ----------
    widths : bytes of one element of A, B or C, and of a partial result.
    """
    survey = Survey(a, ops, config, (widths[0], config.dram.burst_bytes), rng)
    survey.run()
    clock = CellClock(survey, np.diff(ops.b_indptr), a.nnz, widths)
    tally = _counts(survey, clock, widths)
    half = _half_widths(survey, widths)
    half["cycles.total"] = _time(survey, clock, tally, half["dram_bytes.total"], widths)
    rows, products = survey.counted
    return tally, Estimated(rows, survey.cells.drawn.size, products, half)


def _counts(survey: Survey, clock: CellClock, widths: tuple[int, int]) -> Tally:
    """Return everything but time."""
    element, coo = widths
    rounds, burst = survey.rounds, survey.config.dram.burst_bytes
    a_elements, slots, a_bytes, products = (int(sum(one.cells[at].sum() for one in rounds)) for at in range(READ))
    written, read = sum(one.merged for one in rounds[:-1]), sum(one.partial for one in rounds)
    nnz_c, fetched = rounds[-1].merged, clock.fetched
    ends = np.cumsum([0, *(one.merged for one in rounds[:-1])]) * coo
    bus = {
        "a": a_bytes,
        "b": int(clock.b_bytes.sum()),
        "partial_read": int((-(-ends[1:] // burst) - ends[:-1] // burst)[np.diff(ends) > 0].sum()) * burst,
        "partial_write": -(-written * coo // burst) * burst,
        "c": -(-nnz_c * element // burst) * burst,
    }
    payload = {
        "a": a_elements * element,
        "b": clock.fetched_bytes,
        "partial_read": read * coo,
        "partial_write": written * coo,
        "c": nnz_c * element,
    }
    return Tally(
        layer_elements=np.sum([one.entering for one in rounds], axis=0),
        leaves=survey.leaves.sizes.size,
        first_round_ways=survey.first_round_ways,
        counts={
            **{f"bus_{stream}": bus[stream] for stream in STREAMS},
            **{f"payload_{stream}": payload[stream] for stream in STREAMS},
            "a_elements": a_elements,
            "products": products,
            "slots": slots,
            "rounds": len(rounds),
            "partial_elements_read": read,
            "partial_elements_written": written,
            "nnz_c": nnz_c,
            "additions": sum(int(one.entering[0]) - one.merged for one in rounds),
            "line_hits": fetched.visits - fetched.misses,
            "line_misses": fetched.misses,
        },
    )


def _half_widths(survey: Survey, widths: tuple[int, int]) -> dict[str, float]:
    """Return half of the 95 % intervals of counts."""
    element, coo = widths
    errors = survey.errors
    c_elements, written = errors[:, 0], errors[:, 1]
    columns = {
        "workload.nnz_c": c_elements,
        "details.partial_elements_written": written,
        "details.partial_elements_read": written,
        "details.layer_elements.0": written,
        **{f"details.layer_elements.{layer}": errors[:, 1 + layer] for layer in range(1, survey.tree.layers)},
        "dram_bytes.c": element * c_elements,
        "dram_bytes.partial_write": coo * written,
        "dram_bytes.partial_read": coo * written,
        "dram_bytes.total": element * c_elements + 2 * coo * written,
    }
    half = survey.rows.half_widths(np.column_stack(list(columns.values())))
    return dict(zip(columns, half.tolist(), strict=True))


def _time(survey: Survey, clock: CellClock, tally: Tally, dram_half: float, widths: tuple[int, int]) -> float:
    """Fill in cycles and what hangs on them; return half of the 95 % interval of the cycles."""
    c, cells = survey.config, survey.cells.drawn
    together = clock.time(cells)
    each = [clock.time(cells[at : at + 1]) for at in range(cells.size)]
    alone = np.array([one.cycles for one in each], dtype=np.float64)
    short = max(float(alone.sum()) - together.cycles, 0.0) / max(cells.size - 1, 1)
    # only where the memory decides does its efficiency matter, and there it is higher: more requests to choose from
    busiest = max(each, key=lambda one: one.dram_busy / one.cycles)
    works = [_work(survey, clock, widths, _efficiency(one)) for one in (busiest, together)]
    ratios = [ratio_with_error(alone - short, work[cells], survey.cells.weight) for work in works]
    work, (mean, _) = works[0], ratios[0]
    own, whole = float(work[cells].sum()), float(work.sum())
    pace = together.cycles * mean / float((alone - short).sum())
    _fill_in(c, tally, pace * whole, together, whole / own)
    # few cells may be alike by chance: the interval is the wider one of the two efficiencies
    drawn = max(half * float(all_of.sum()) for (_, half), all_of in zip(ratios, works, strict=True))
    # what short runs do not see may differ once more between the cells together and the whole
    parts = drawn, (pace - mean) * whole, dram_half / c.dram_bytes_per_cycle
    return float(np.sqrt(np.sum(np.square(parts))))


def _efficiency(run: Tally) -> float:
    """Return the share of its busy time in which the memory moves data."""
    return min(float(run.busy[MEMORY_STAGES].sum()) / max(run.dram_busy, 1.0), 1.0) or 1.0


def _work(survey: Survey, clock: CellClock, widths: tuple[int, int], efficiency: float) -> FloatArray:
    """Return the cycles of the busiest stage by cell of rows, summed over the rounds."""
    element, coo = widths
    c, rounds = survey.config, survey.rounds
    total = np.zeros(survey.cells.count)
    for number, one in enumerate(rounds):
        a_elements, slots, a_bytes, products, read, merged = one.cells
        width = element if number == len(rounds) - 1 else coo
        moved = a_bytes + clock.b_bytes[number] + coo * read + width * merged
        stages = (
            moved / c.dram_bytes_per_cycle / efficiency,
            (products + read) / c.merge.width,
            slots / c.multipliers.groups,
            a_elements / c.look_ahead_fifo.elements_per_cycle,
        )
        total += np.maximum.reduce(stages)
    return total


def _fill_in(c: SpArchConfig, tally: Tally, cycles: float, together: Tally, times: float) -> None:
    """Set cycles, at least those of the busiest stage, and scale up what only time tells."""
    counts = tally.counts
    moved = {stream: counts[f"bus_{stream}"] / c.dram_bytes_per_cycle for stream in STREAMS}
    busy = {
        "fetch_a": moved["a"],
        "look_ahead": counts["a_elements"] / c.look_ahead_fifo.elements_per_cycle,
        "fetch_b": moved["b"] + moved["partial_read"],
        "multiply": counts["slots"] / c.multipliers.groups,
        "merge": int(tally.layer_elements[0]) / c.merge.width,
        "write": moved["partial_write"] + moved["c"],
    }
    tally.busy = np.array([busy[name] for name in STAGES])
    tally.cycles = round(max(cycles, np.ceil(tally.busy.max()), np.ceil(sum(moved.values()))))
    tally.blocked = np.minimum(times * together.blocked, tally.cycles - tally.busy)
    tally.dram_busy = min(times * together.dram_busy, float(tally.cycles))
    tally.busiest_channel = min(times * together.busiest_channel, float(tally.cycles))
    for key in ("row_activations", "bus_turnarounds", "steps"):
        counts[key] = round(times * together.counts[key])
