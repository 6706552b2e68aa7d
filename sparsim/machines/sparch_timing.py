"""When the steps of SpArch's merge rounds happen: prefetcher, memory requests and the buffers between the stages."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from sparsim.kernels.dram import ACTIVATIONS, OCCUPIED, TURNS
from sparsim.kernels.pipeline import Pipeline
from sparsim.kernels.prefetch import FARTHEST, LRU, OFF, Prefetcher
from sparsim.kernels.records import Fetched, PrefetchParams, TimingParams
from sparsim.kernels.requests import Rates
from sparsim.kernels.visits import Replay, StepVisits
from sparsim.machines.activity import STREAMS
from sparsim.machines.banked import dram_params
from sparsim.machines.sparch_blocks import BLOCK, Addresses, Layout
from sparsim.machines.sparch_config import SpArchConfig
from sparsim.machines.sparch_cycle import CycleRun
from sparsim.machines.sparch_rounds import Rounds
from sparsim.matrix import IntArray
from sparsim.threads import one_ahead

__all__ = [
    "MEMORY_STAGES",
    "STAGES",
    "Tally",
    "cycle_tally",
    "prefetch_params",
    "quantum",
    "replay_key",
    "time_rounds",
]

STEP_ELEMENTS = 256
STEPS = 32
SHARES = 8  # steps that every buffer holds at least: what is inside a step does not overlap with itself
TICKS = 256
UNLIMITED = 1 << 60
STAGES = ("fetch_a", "look_ahead", "fetch_b", "multiply", "merge", "write")
MEMORY_STAGES = [0, 2, 5]
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
    element, coo = widths
    start = np.concatenate(([0], np.cumsum(row_elements))).astype(np.int64)
    size_b = int(start[-1]) * element + row_elements.size * config.prefetch.pointer_bytes
    addresses = Addresses.of((nnz_a * element, size_b, rounds.partial_elements_written * coo))
    params = prefetch_params(config, element, addresses.b)
    replay = _replay(rounds, row_elements, params, {} if replayed is None else replayed)
    lines = StepVisits(replay, rounds.trace, start, params)
    rates, pipeline = _pipeline(rounds, config)
    layout = Layout(rounds, lines, addresses, rates, widths, config.dram.burst_bytes)
    steps = 0
    blocks = layout.all()
    if rounds.most_steps > BLOCK:
        blocks = one_ahead(blocks)
    for work, visits in blocks:
        pipeline.feed(work, visits)
        steps += work.wait_for.size
    timing, fetched = pipeline.finish(), replay.fetched
    if replayed is not None:
        replayed.clear()
        replayed[replay_key(rounds, params)] = fetched
    busy = timing.busy / TICKS
    busy[MEMORY_STAGES] /= config.dram.channels
    rows = [one.work for one in rounds.passes]
    a_elements = sum(int(one.a_elements.sum()) for one in rows)
    moved = dict(zip(("a", "partial_read", "b", "partial_write", "c"), layout.moved.tolist(), strict=True))
    payload = {
        "a": a_elements * element,
        "b": lines.fetched_bytes,
        "partial_read": rounds.partial_elements_read * coo,
        "partial_write": rounds.partial_elements_written * coo,
        "c": rounds.nnz_c * element,
    }
    occupied = timing.channels[:, OCCUPIED] / TICKS
    counted = rounds.counted
    return Tally(
        cycles=int(-(-timing.total // TICKS)),
        busy=busy,
        blocked=timing.blocked / TICKS,
        dram_busy=float(occupied.mean()),
        busiest_channel=float(occupied.max()),
        layer_elements=np.sum([one.entering for one in counted.rounds], axis=0),
        leaves=counted.products.size,
        first_round_ways=counted.first_round_ways,
        counts={
            **{f"bus_{stream}": moved[stream] for stream in STREAMS},
            **{f"payload_{stream}": payload[stream] for stream in STREAMS},
            "a_elements": a_elements,
            "products": sum(int(one.products.sum()) for one in rows),
            "slots": sum(int(one.slots.sum()) for one in rows),
            "rounds": len(counted.rounds),
            "partial_elements_read": rounds.partial_elements_read,
            "partial_elements_written": rounds.partial_elements_written,
            "nnz_c": rounds.nnz_c,
            "additions": sum(int(one.entering[0]) - one.merged_elements for one in counted.rounds),
            "line_hits": fetched.visits - fetched.misses,
            "line_misses": fetched.misses,
            "row_activations": int(timing.channels[:, ACTIVATIONS].sum()),
            "bus_turnarounds": int(timing.channels[:, TURNS].sum()),
            "steps": steps,
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


def prefetch_params(config: SpArchConfig, element: int, address: int) -> PrefetchParams:
    """Return the prefetcher of a configuration; elements have ``element`` bytes, and B begins at ``address``."""
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


@dataclass
class _Replayed:
    """What a prefetcher did in an earlier run."""

    fetched: Fetched

    def go_on(self, elements: int) -> None:
        raise AssertionError("an earlier run came to its end")


def replay_key(rounds: Rounds, params: PrefetchParams) -> Hashable:
    """Return what decides, for rounds counted once, what the prefetcher does."""
    return params._replace(address=0), rounds.barrier


def _replay(
    rounds: Rounds, row_elements: IntArray, params: PrefetchParams, replayed: dict[Hashable, Fetched]
) -> Replay:
    fetched = replayed.get(replay_key(rounds, params))
    if fetched is not None:
        return _Replayed(fetched)
    return Prefetcher(rounds.trace, row_elements, rounds.known, params)


def _pipeline(rounds: Rounds, config: SpArchConfig) -> tuple[Rates, Pipeline]:
    """Return the stages' rates, and the pipeline before the first step.

    The buffer of lines and partial results holds at least a step of whole rows of B.
    """
    ahead, partials = max(config.prefetch.run_ahead, 1), config.partial_fifo.elements
    lines_of_step = rounds.limits.rows + -(-rounds.limits.quantum // config.prefetch.line_elements)
    rates = Rates(
        look_ahead=config.look_ahead_fifo.elements_per_cycle,
        multiply=config.multipliers.groups,
        merge=config.merge.width,
        ticks=TICKS,
        lines=ahead,
        partials=partials,
        held=max(ahead, lines_of_step) * partials,
    )
    capacity = np.array(
        [
            config.look_ahead_fifo.elements,
            config.look_ahead_fifo.elements,
            rates.held,
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
    return rates, Pipeline(params, dram, np.array([False, False, True]), rounds.most_steps)
