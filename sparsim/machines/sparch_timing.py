"""When the steps of SpArch's merge rounds happen: prefetcher, memory requests and the buffers between the stages."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from sparsim.kernels.dram import ACTIVATIONS, OCCUPIED, TURNS
from sparsim.kernels.pipeline import run_pipeline
from sparsim.kernels.prefetch import FARTHEST, LRU, OFF, assign_steps, prefetch
from sparsim.kernels.records import (
    Fetched,
    Prefetched,
    PrefetchParams,
    Requests,
    StepLimits,
    Timing,
    TimingParams,
    Visits,
)
from sparsim.kernels.requests import Rates, StepRequests, StepWork, lay_out_visits, lay_out_work
from sparsim.machines.activity import STREAMS
from sparsim.machines.banked import dram_params
from sparsim.machines.sparch_config import SpArchConfig
from sparsim.machines.sparch_cycle import CycleRun
from sparsim.machines.sparch_rounds import (
    A_ADDRESS,
    A_BURSTS,
    A_ELEMENTS,
    MERGED,
    OUTPUT,
    PARTIAL,
    PRODUCTS,
    SLOTS,
    Rounds,
)
from sparsim.matrix import IntArray

__all__ = ["STAGES", "Tally", "cycle_tally", "quantum", "time_rounds"]

STEP_ELEMENTS = 256
STEPS = 32
SHARES = 8  # steps that every buffer holds at least: what is inside a step does not overlap with itself
TICKS = 256
PAGE = 4096
UNLIMITED = 1 << 60
STAGES = ("fetch_a", "look_ahead", "fetch_b", "multiply", "merge", "write")
MEMORY_STAGES = [0, 2, 5]
FETCH_B = 2
POLICIES = {"farthest": FARTHEST, "oracle": FARTHEST, "lru": LRU, "off": OFF}


@dataclass
class Tally:
    """What one product, or several in a row, came to; every number but the last two is a sum.

    ``busy`` and ``blocked`` are cycles of the stages; a memory stage is busy while its data are on the bus, channel
    cycles / channels. ``dram_busy`` counts a channel while it serves anything, rows opening and turning included.
    """

    cycles: int = 0
    busy: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(len(STAGES)))
    blocked: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(len(STAGES)))
    dram_busy: float = 0.0
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
        self.dram_busy += times * other.dram_busy
        self.busiest_channel += times * other.busiest_channel
        for key, value in other.counts.items():
            self.counts[key] = self.counts.get(key, 0) + times * int(value)
        self.layer_elements = self.layer_elements + times * other.layer_elements
        self.leaves = max(self.leaves, other.leaves)
        self.first_round_ways = max(self.first_round_ways, other.first_round_ways)


def quantum(config: SpArchConfig, products: int, nnz_a: int) -> tuple[int, int]:
    """Return how many elements a step may bring to the tree, and elements of A.

    Small enough for every buffer, and for a small workload to keep several stages busy.
    """
    tree = config.merge.fifo_elements << config.merge.layers
    buffers = (tree, config.writer.fifo_elements, config.partial_fifo.elements)
    elements = min(STEP_ELEMENTS, *(size // SHARES for size in buffers), products // STEPS)
    ahead = min(config.prefetch.run_ahead, config.prefetch.lines or config.prefetch.run_ahead)
    rows = min(STEP_ELEMENTS, config.look_ahead_fifo.elements // SHARES, ahead // SHARES, nnz_a // STEPS)
    return max(elements, 1), max(rows, 1)


def time_rounds(
    rounds: Rounds,
    row_elements: IntArray,
    nnz_a: int,
    config: SpArchConfig,
    widths: tuple[int, int],
    replayed: dict[Hashable, Fetched] | None = None,
) -> Tally:
    """Replay the rounds against prefetcher, memory and buffers.

    Parameters
    ----------
    row_elements : elements of each row of B.
    nnz_a : elements of A.
    widths : bytes of one element of A, B or C, and of a partial result.
    replayed : what prefetchers did in earlier runs of the same rounds; this one's is looked up there, or put there.
    """
    steps, burst = rounds.steps, config.dram.burst_bytes
    element, coo = widths
    base = _addresses(rounds, row_elements, nnz_a, config, widths)
    params = _prefetch_params(config, element, base[1])
    fetched = _prefetch(rounds, row_elements, params, {} if replayed is None else replayed)
    asks = StepRequests(
        a_address=steps[:, A_ADDRESS],
        a_bursts=steps[:, A_BURSTS],
        output=steps[:, OUTPUT],
        final=int(rounds.starts[-2]),
        base=(base[2], base[3]),
        width=(coo, element),
        burst=burst,
    )
    visits, moved = lay_out_visits(asks, _read_back(rounds, base[2], coo, burst), fetched.requests)
    bus = dict(zip(("a", "partial_read", "b", "partial_write", "c"), moved.tolist(), strict=True))
    timing = _pipeline(rounds, fetched, visits, config)
    busy = timing.busy / TICKS
    busy[MEMORY_STAGES] /= config.dram.channels
    a_elements = int(steps[:, A_ELEMENTS].sum())
    payload = {
        "a": a_elements * element,
        "b": fetched.fetched_bytes,
        "partial_read": rounds.partial_elements_read * coo,
        "partial_write": rounds.partial_elements_written * coo,
        "c": rounds.nnz_c * element,
    }
    occupied = timing.channels[:, OCCUPIED] / TICKS
    return Tally(
        cycles=int(-(-timing.total // TICKS)),
        busy=busy,
        blocked=timing.blocked / TICKS,
        dram_busy=float(occupied.mean()),
        busiest_channel=float(occupied.max()),
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
            "row_activations": int(timing.channels[:, ACTIVATIONS].sum()),
            "bus_turnarounds": int(timing.channels[:, TURNS].sum()),
            "steps": steps.shape[0],
        },
    )


def cycle_tally(tally: Tally, run: CycleRun, config: SpArchConfig) -> Tally:
    """Return ``tally`` with everything that hangs on time, or on the order time brings, as the cycle model saw it."""
    moved = {stream: run.bytes[stream] / config.dram_bytes_per_cycle for stream in STREAMS}
    busy = {
        "fetch_a": moved["a"],
        "look_ahead": run.a_entry_busy,
        "fetch_b": moved["b"] + moved["partial_read"],
        "multiply": run.multiplier_slots / config.multipliers.groups,
        "merge": max(run.merger_busy, default=0),
        "write": moved["partial_write"] + moved["c"],
    }
    seen = {
        **{f"bus_{stream}": run.bytes[stream] for stream in STREAMS},
        "payload_b": run.b_payload,
        "line_hits": run.line_hits,
        "line_misses": run.line_misses,
        "row_activations": run.activations,
        "bus_turnarounds": run.turnarounds,
        "steps": 0,
    }
    return replace(
        tally,
        cycles=run.cycles,
        busy=np.array([float(busy[name]) for name in STAGES]),
        blocked=np.zeros(len(STAGES)),
        dram_busy=float(np.mean(run.channel_busy)),
        busiest_channel=float(max(run.channel_busy)),
        counts={**tally.counts, **seen},
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


def _prefetch_params(config: SpArchConfig, element: int, address: int) -> PrefetchParams:
    settings = config.prefetch
    return PrefetchParams(
        lines=settings.lines,
        line_bytes=settings.line_elements * element,
        look_ahead=UNLIMITED if settings.policy == "oracle" else settings.look_ahead,
        unit_is_element=settings.look_ahead_unit == "elements",
        policy=POLICIES[settings.policy] if settings.lines else OFF,
        run_ahead=settings.run_ahead,
        element_bytes=element,
        pointer_bytes=settings.pointer_bytes,
        burst_bytes=config.dram.burst_bytes,
        address=address,
    )


def _prefetch(
    rounds: Rounds, row_elements: IntArray, params: PrefetchParams, replayed: dict[Hashable, Fetched]
) -> Prefetched:
    key = (params._replace(address=0), rounds.known.size > 0)
    fetched = replayed.get(key)
    if fetched is None:
        known = rounds.known if rounds.known.size else np.array([rounds.trace.size])
        fetched = prefetch(rounds.trace, row_elements, known, params)
        replayed.clear()
        replayed[key] = fetched
    return assign_steps(fetched, rounds.trace, row_elements, np.cumsum(rounds.steps[:, PRODUCTS]), params)


def _read_back(rounds: Rounds, address: int, width: int, burst: int) -> Requests:
    """Return the requests for partial results: each input of a round is read evenly over the rows it is merged with."""
    chunk = -(-16 * width // burst) * burst
    found = []
    for number, reads in enumerate(rounds.reads):
        first, stop = rounds.starts[number], rounds.starts[number + 1]
        needed = np.cumsum(rounds.steps[first:stop, PARTIAL])
        for place, elements in reads:
            if not elements:
                continue
            begin = (address + place * width) // burst * burst
            end = -(-(address + (place + elements) * width) // burst) * burst
            at = np.arange(begin, end, chunk)
            share = (np.maximum(at - address - place * width, 0)) * needed[-1] // (elements * width)
            found.append((first + np.searchsorted(needed, share, side="right"), at, np.minimum(chunk, end - at)))
    if not found:
        return Requests(*(np.zeros(0, dtype=np.int64) for _ in range(3)))
    step, at, size = (np.concatenate(part) for part in zip(*found, strict=True))
    order = np.argsort(step, kind="stable")
    return Requests(step[order], at[order], size[order])


def _pipeline(rounds: Rounds, fetched: Prefetched, visits: Visits, config: SpArchConfig) -> Timing:
    steps = rounds.steps
    ahead, partials = max(config.prefetch.run_ahead, 1), config.partial_fifo.elements
    work = StepWork(
        a_elements=steps[:, A_ELEMENTS],
        slots=steps[:, SLOTS],
        merged=steps[:, MERGED],
        partial=steps[:, PARTIAL],
        output=steps[:, OUTPUT],
        lines=fetched.visits,
        lines_ahead=fetched.ahead,
    )
    rates = Rates(
        look_ahead=config.look_ahead_fifo.elements_per_cycle,
        multiply=config.multipliers.groups,
        merge=config.merge.width,
        ticks=TICKS,
        lines=ahead,
        partials=partials,
    )
    service, size = lay_out_work(work, rates)
    held = max(ahead, _lines_of_step(rounds.limits, config)) * partials
    np.minimum(size[:, FETCH_B], held, out=size[:, FETCH_B])
    capacity = np.array(
        [
            config.look_ahead_fifo.elements,
            config.look_ahead_fifo.elements,
            held,
            config.merge.fifo_elements << config.merge.layers,
            config.writer.fifo_elements,
            -1,
        ],
        dtype=np.int64,
    )
    latency = int(config.dram.latency_ns * config.clock_ghz * TICKS)
    params = TimingParams(
        latency=np.array([latency, 0, latency, 0, config.merge.layers * TICKS, 0], dtype=np.int64),
        capacity=capacity,
        window=np.full(len(STAGES), -1, dtype=np.int64),
        lanes=np.ones(len(STAGES), dtype=np.int64),
        memory=np.array([0, -1, 1, -1, -1, 2], dtype=np.int64),
        wait_stage=0,
    )
    dram = dram_params(config.dram, config.clock_ghz * TICKS)
    one_lane = np.zeros((0, len(STAGES)), dtype=np.int64)
    return run_pipeline(service, size, one_lane, rounds.wait_for, visits, params, dram)


def _lines_of_step(limits: StepLimits, config: SpArchConfig) -> int:
    """Return the most lines that the rows of B of a step have, but for pointers of empty rows."""
    return limits.rows + -(-limits.quantum // config.prefetch.line_elements)
