"""When the steps of SpArch's merge rounds happen: prefetcher, memory channels and buffers around them."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from sparsim.kernels.dram import add_stream
from sparsim.kernels.pipeline import run_pipeline
from sparsim.kernels.prefetch import FARTHEST, LRU, OFF, prefetch
from sparsim.kernels.records import Prefetched, PrefetchParams, Timing, TimingParams
from sparsim.machines.activity import STREAMS
from sparsim.machines.sparch_config import SpArchConfig
from sparsim.machines.sparch_rounds import A_BYTES, A_ELEMENTS, MERGED, OUTPUT, PARTIAL, PRODUCTS, SLOTS, Rounds
from sparsim.matrix import IntArray

__all__ = ["MEMORY_STAGES", "STAGES", "Tally", "quantum", "time_rounds"]

STEP_ELEMENTS = 256
TICKS = 256
PAGE = 4096
STAGES = ("fetch_a", "look_ahead", "fetch_b", "multiply", "merge", "write")
MEMORY_STAGES = [0, 2, 5]
POLICIES = {"farthest": FARTHEST, "lru": LRU, "off": OFF}


@dataclass
class Tally:
    """What one product, or several in a row, came to; every number but the last two is a sum.

    ``busy`` and ``blocked`` are cycles of the stages; a memory stage is busy for channel-cycles / channels.
    """

    cycles: int = 0
    busy: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(len(STAGES)))
    blocked: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(len(STAGES)))
    busiest_channel: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)
    layer_elements: IntArray = field(default_factory=lambda: np.zeros(1, dtype=np.int64))
    leaves: int = 0
    first_round_ways: int = 0

    def add(self, other: Tally, times: int) -> None:
        """Add ``other`` as often as ``times`` says."""
        self.cycles += times * other.cycles
        self.busy = self.busy + times * other.busy
        self.blocked = self.blocked + times * other.blocked
        self.busiest_channel += times * other.busiest_channel
        for key, value in other.counts.items():
            self.counts[key] = self.counts.get(key, 0) + times * int(value)
        self.layer_elements = self.layer_elements + times * other.layer_elements
        self.leaves = max(self.leaves, other.leaves)
        self.first_round_ways = max(self.first_round_ways, other.first_round_ways)


def _capacities(config: SpArchConfig) -> list[int]:
    """Return the elements that fit between one stage and the next; an element of A waits in one FIFO throughout."""
    return [
        config.look_ahead_fifo.elements,
        config.look_ahead_fifo.elements,
        max(config.prefetch.lines, 1) * config.prefetch.line_elements,
        config.merge.fifo_elements << config.merge.layers,
        config.writer.fifo_elements,
    ]


def quantum(config: SpArchConfig) -> int:
    """Return the elements of a step: small enough for every buffer."""
    return min(STEP_ELEMENTS, *_capacities(config))


def time_rounds(
    rounds: Rounds, row_elements: IntArray, nnz_a: int, config: SpArchConfig, widths: tuple[int, int]
) -> Tally:
    """Replay the rounds against prefetcher, memory and buffers.

    Parameters
    ----------
    row_elements : elements of each row of B.
    nnz_a : elements of A.
    widths : bytes of one element of A, B or C, and of a partial result.
    """
    steps, dram = rounds.steps, config.dram
    element, coo = widths
    base = _addresses(rounds, row_elements, nnz_a, config, widths)
    fetched = _prefetch(rounds, row_elements, config, element, base[1])
    work = np.zeros((3, steps.shape[0], dram.channels), dtype=np.int32)
    work[1] = fetched.bus_bytes[: steps.shape[0]]
    output = steps[:, OUTPUT]
    burst = (dram.burst_bytes, dram.interleave_bytes)
    bus = {
        "a": add_stream(work[0], steps[:, A_BYTES], base[0], *burst),
        "b": int(work[1].sum()),
        "partial_read": add_stream(work[0], steps[:, PARTIAL] * coo, base[2], *burst),
        "partial_write": add_stream(work[2], np.where(rounds.is_final, 0, output * coo), base[2], *burst),
        "c": add_stream(work[2], np.where(rounds.is_final, output * element, 0), base[3], *burst),
    }
    timing = _pipeline(rounds, work, config)
    cycles_per_byte = config.clock_ghz / dram.gb_s_per_channel
    busy = timing.busy / TICKS
    busy[MEMORY_STAGES] /= dram.channels
    a_elements = int(steps[:, A_ELEMENTS].sum())
    payload = {
        "a": a_elements * element,
        "b": fetched.fetched_bytes,
        "partial_read": rounds.partial_elements_read * coo,
        "partial_write": rounds.partial_elements_written * coo,
        "c": rounds.nnz_c * element,
    }
    return Tally(
        cycles=int(-(-timing.total // TICKS)),
        busy=busy,
        blocked=timing.blocked / TICKS,
        busiest_channel=float(work.sum(axis=(0, 1), dtype=np.int64).max(initial=0)) * cycles_per_byte,
        layer_elements=rounds.layer_elements,
        leaves=rounds.leaves,
        first_round_ways=rounds.first_round_ways,
        counts={
            **{f"bus_{stream}": bus[stream] for stream in STREAMS},
            **{f"payload_{stream}": payload[stream] for stream in STREAMS},
            "a_elements": a_elements,
            "products": int(steps[:, PRODUCTS].sum()),
            "slots": int(steps[:, SLOTS].sum()),
            "rounds": rounds.count,
            "partial_elements_read": rounds.partial_elements_read,
            "partial_elements_written": rounds.partial_elements_written,
            "nnz_c": rounds.nnz_c,
            "additions": rounds.additions,
            "line_hits": fetched.hits,
            "line_misses": fetched.misses,
            "steps": steps.shape[0],
        },
    )


def _addresses(
    rounds: Rounds, row_elements: IntArray, nnz_a: int, config: SpArchConfig, widths: tuple[int, int]
) -> list[int]:
    """Return where A, B, partial results and C begin, each on a page."""
    element, partial = widths
    sizes = [
        nnz_a * element,
        int(row_elements.sum()) * element + row_elements.size * config.prefetch.pointer_bytes,
        rounds.partial_elements_written * partial,
    ]
    base = [0]
    for size in sizes:
        base.append(-(-(base[-1] + size) // PAGE) * PAGE)
    return base


def _prefetch(rounds: Rounds, row_elements: IntArray, config: SpArchConfig, element: int, address: int) -> Prefetched:
    settings = config.prefetch
    params = PrefetchParams(
        lines=settings.lines,
        line_bytes=settings.line_elements * element,
        look_ahead=settings.look_ahead,
        unit_is_element=settings.look_ahead_unit == "elements",
        policy=POLICIES[settings.policy],
        element_bytes=element,
        pointer_bytes=settings.pointer_bytes,
        burst_bytes=config.dram.burst_bytes,
        interleave_bytes=config.dram.interleave_bytes,
        base_address=address,
    )
    return prefetch(rounds.trace, row_elements, np.cumsum(rounds.steps[:, PRODUCTS]), config.dram.channels, params)


def _pipeline(rounds: Rounds, work: npt.NDArray[np.int32], config: SpArchConfig) -> Timing:
    steps = rounds.steps
    service = np.zeros((steps.shape[0], len(STAGES)), dtype=np.int64)
    service[:, 1] = -(-steps[:, A_ELEMENTS] * TICKS // config.look_ahead_fifo.elements_per_cycle)
    service[:, 3] = -(-steps[:, SLOTS] * TICKS // config.multipliers.groups)
    service[:, 4] = -(-steps[:, MERGED] * TICKS // config.merge.width)
    size = np.zeros_like(service)
    size[:, :5] = steps[:, [A_ELEMENTS, A_ELEMENTS, PRODUCTS, MERGED, OUTPUT]]
    latency = int(config.dram.latency_ns * config.clock_ghz * TICKS)
    ticks_per_byte = Fraction(TICKS * config.clock_ghz / config.dram.gb_s_per_channel).limit_denominator(10**6)
    params = TimingParams(
        memory_ticks=max(ticks_per_byte.numerator, 1),
        memory_bytes=ticks_per_byte.denominator,
        latency=np.array([latency, 0, latency, 0, config.merge.layers * TICKS, 0], dtype=np.int64),
        capacity=np.array([*_capacities(config), -1], dtype=np.int64),
        window=np.full(len(STAGES), -1, dtype=np.int64),
        lanes=np.ones(len(STAGES), dtype=np.int64),
        memory=np.array([0, -1, 1, -1, -1, 2], dtype=np.int64),
        wait_stage=0,
    )
    return run_pipeline(service, size, np.zeros_like(service), rounds.wait_for, work, params)
