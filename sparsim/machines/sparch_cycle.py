"""SpArch cycle by cycle: the slow, literal model that the fast one is held against.

Only structure counts: every product is made, every key is merged, every burst takes its turn on its channel. The
fast model and this one share the matrices, the schedule and the configuration, and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparsim.errors import ConfigError, ModelError, WorkloadError
from sparsim.kernels import cycle_dram as dram
from sparsim.kernels import cycle_state as cs
from sparsim.kernels.cycle import drain, link_elements, run_round
from sparsim.kernels.cycle_tree import NEITHER
from sparsim.machines.base import BankedDramConfig
from sparsim.machines.schedule import MergeSchedule
from sparsim.machines.sparch_config import SpArchConfig
from sparsim.matrix import Csr, IntArray

__all__ = ["CycleRun", "dram_parameters", "run_cycles"]

TICKS = 1000  # of the memory in a core cycle
PAGE = 4096
LARGEST = 1 << 16  # elements of a FIFO or a line
SLOWEST = 1000  # cycles of a burst
POLICIES = {"farthest": cs.FARTHEST, "oracle": cs.ORACLE, "lru": cs.LRU, "off": cs.OFF}
STREAMS = ("a", "partial_read", "b", "partial_write", "c")


@dataclass(frozen=True)
class CycleRun:
    """What one product took, in core cycles, bytes and events.

    Parameters
    ----------
    cycles : from the first request to the last data on the memory bus.
    round_ends : first cycle after each merge round.
    bytes : on the bus, whole bursts, for each of a, b, partial_read, partial_write and c.
    multiplies, nnz_c : products made, elements of C.
    partial_elements_written, partial_elements_read : of results that are not C.
    line_hits, line_misses : visits of prefetch lines that found theirs stored or on its way, or did not.
    b_payload : bytes of B fetched, without what bursts bring along.
    multiplier_slots : group-cycles in which a multiplier group worked.
    merger_busy, layer_elements : for each layer, leaves first: cycles its merger worked, elements it took.
    channel_busy : for each channel: cycles with data on the bus.
    activations, turnarounds : of all channels.
    a_entry_busy : cycles in which an element of A entered the look-ahead FIFO.
    stuck, lines_demanded, window_stretches : times nothing could move; lines then fetched outside the order of the
        prefetcher, and elements of A let in beyond the look-ahead FIFO.
    """

    cycles: int
    round_ends: tuple[int, ...]
    bytes: dict[str, int]
    multiplies: int
    nnz_c: int
    partial_elements_written: int
    partial_elements_read: int
    line_hits: int
    line_misses: int
    b_payload: int
    multiplier_slots: int
    merger_busy: tuple[int, ...]
    layer_elements: tuple[int, ...]
    channel_busy: tuple[float, ...]
    activations: int
    turnarounds: int
    a_entry_busy: int
    stuck: int
    lines_demanded: int
    window_stretches: int


def run_cycles(a: Csr, b: Csr, config: SpArchConfig, widths: tuple[int, int] = (12, 16)) -> CycleRun:
    """Simulate A times B on SpArch, cycle by cycle.

    Parameters
    ----------
    a, b : operands of shapes (m, k) and (k, n); their values do not matter.
    config : the machine. ``mapping`` and ``element`` are not looked at.
    widths : bytes of an element of A, B and C, and of a partial result.

    Raises
    ------
    WorkloadError
        If the shapes do not fit together.
    ConfigError
        If the configuration asks for something the cycle-level model does not have.
    """
    if a.shape[1] != b.shape[0]:
        raise WorkloadError(f"{a.shape[0]} x {a.shape[1]} times {b.shape[0]} x {b.shape[1]}: inner sizes differ")
    _check(config)
    return _Simulation(a, b, config, widths).run()


def dram_parameters(config: BankedDramConfig, clock_ghz: float = 1.0) -> IntArray:
    """Return the parameters of the memory as the kernels want them, int64, times in 1/1000 of a core cycle.

    A burst takes two command slots; times are rounded to ticks and act on the grid of slots.
    """
    par = np.zeros(dram.MEMORY_SCALARS, dtype=np.int64)

    def ticks(ns: float) -> int:
        return round(ns * clock_ghz * TICKS)

    slot = max(1, ticks(config.burst_bytes / config.gb_s_per_channel / 2))
    values = {
        dram.CYCLE: TICKS,
        dram.CHANNELS: config.channels,
        dram.INTERLEAVE: config.interleave_bytes,
        dram.BURST: config.burst_bytes,
        dram.ROW_BYTES: config.row_bytes,
        dram.BANKS: config.banks,
        dram.BANK_GROUPS: config.bank_groups,
        dram.QUEUE: config.queue_bursts,
        dram.HIGH: config.write_high,
        dram.LOW: config.write_low,
        dram.SLOT: slot,
        dram.BL: 2 * slot,
        dram.READ_TO_WRITE: ticks(config.read_to_write_ns),
        dram.WRITE_TO_READ: ticks(config.write_to_read_ns),
        dram.LATENCY: ticks(config.latency_ns),
    }
    names = ("ccd_l", "rcd", "ras", "rp", "rrd", "faw", "wr", "refi", "rfc")
    fields = (dram.CCD_L, dram.RCD, dram.RAS, dram.RP, dram.RRD, dram.FAW, dram.WR, dram.REFI, dram.RFC)
    values |= {field: ticks(getattr(config, f"t_{name}_ns")) for field, name in zip(fields, names, strict=True)}
    for key, value in values.items():
        par[key] = value
    return par


def _check(config: SpArchConfig) -> None:
    memory, merge = config.dram, config.merge
    widest = max(merge.width, config.multipliers.group_width)
    writer, line = config.writer.fifo_elements, config.prefetch.line_elements
    slow = memory.burst_bytes / memory.gb_s_per_channel * config.clock_ghz
    refused = (
        (not config.schedule.round_barrier, "schedule.round_barrier", "false", "true, or fidelity=fast"),
        (not merge.pipelined, "merge.pipelined", "false", "true, or fidelity=fast"),
        (
            merge.fifo_elements > LARGEST,
            "merge.fifo_elements",
            merge.fifo_elements,
            f"at most {LARGEST}, or fidelity=fast",
        ),
        (line > LARGEST, "prefetch.line_elements", line, f"at most {LARGEST}, or fidelity=fast"),
        (slow > SLOWEST, "dram.gb_s_per_channel", memory.gb_s_per_channel, "a burst in 1000 cycles, or fidelity=fast"),
        (merge.fifo_elements < widest, "merge.fifo_elements", merge.fifo_elements, f"at least {widest}"),
        (writer < merge.width, "writer.fifo_elements", writer, f"at least merge.width = {merge.width}"),
    )
    for wrong, key, value, allowed in refused:
        if wrong:
            raise ConfigError(f"{value}", key=f"sparch.{key}", allowed=str(allowed))


def _align(address: int) -> int:
    return -(-address // PAGE) * PAGE


class _Simulation:
    """State that lives from round to round: memory, prefetch buffer, partial results."""

    def __init__(self, a: Csr, b: Csr, config: SpArchConfig, widths: tuple[int, int]) -> None:
        self.a, self.b, self.config = a, b, config
        self.element, self.partial_element = widths
        self.ways = 1 << config.merge.layers
        self.row_of = np.repeat(np.arange(a.shape[0], dtype=np.int64), a.row_lengths)
        self._group_by_leaf()
        self._lines()
        self._lay_out(self._parameters())
        self.stamp = np.full(a.nnz * self.element // config.dram.burst_bytes + 2, -1, dtype=np.int64)
        self.results: dict[int, tuple[IntArray, int]] = {}
        self.written = self.read = 0

    def _group_by_leaf(self) -> None:
        """Give every element of A its leaf; leaves are condensed columns, or the columns that are not empty."""
        if self.config.condense:
            leaf = np.arange(self.a.nnz, dtype=np.int64) - np.repeat(self.a.indptr[:-1], self.a.row_lengths)
        else:
            leaf = np.unique(self.a.indices, return_inverse=True)[1].astype(np.int64)
        self.by_leaf = np.argsort(leaf, kind="stable")
        self.leaf_sizes = np.bincount(leaf).astype(np.int64)
        self.leaf_start = np.concatenate([[0], np.cumsum(self.leaf_sizes)])
        self.products = np.bincount(leaf, weights=self.b.row_lengths[self.a.indices]).astype(np.int64)

    def _lines(self) -> None:
        """Cut the rows of B into prefetch lines; without reuse every visit has a line of its own."""
        prefetch = self.config.prefetch
        self.off = prefetch.policy == "off" or prefetch.lines == 0
        line_bytes = prefetch.line_elements * self.element
        self.first_elements = max(0, line_bytes - prefetch.pointer_bytes) // self.element
        rest = np.maximum(self.b.row_lengths - self.first_elements, 0)
        self.lines_of_row = 1 + -(-rest // prefetch.line_elements)
        self.line_start = np.cumsum(self.lines_of_row) - self.lines_of_row
        self.visits = int(self.lines_of_row[self.a.indices].sum())
        self.lines = 0 if self.off else min(prefetch.lines, int(self.lines_of_row.sum()))
        a_chunk = self.config.multipliers.group_width // prefetch.line_elements + 2
        self.spare = self.ways * a_chunk + (min(prefetch.run_ahead, self.visits) if self.off else 0)

    def _parameters(self) -> IntArray:
        config, m = self.config, np.zeros(cs.SCALARS, dtype=np.int64)
        m[: dram.MEMORY_SCALARS] = dram_parameters(config.dram, config.clock_ghz)
        b_base = _align(self.a.nnz * self.element)
        pointers = b_base + self.b.nnz * self.element
        self.partial_base = _align(pointers + self.b.shape[0] * config.prefetch.pointer_bytes)
        values = {
            cs.LAYERS: config.merge.layers,
            cs.WAYS: self.ways,
            cs.WIDTH: config.merge.width,
            cs.CAPACITY: config.merge.fifo_elements,
            cs.RING_MASK: (1 << config.merge.fifo_elements.bit_length()) - 1,  # room for a sentinel
            cs.GROUPS: config.multipliers.groups,
            cs.GROUP_WIDTH: config.multipliers.group_width,
            cs.LINES: self.lines,
            cs.LINE_ELEMENTS: config.prefetch.line_elements,
            cs.FIRST_ELEMENTS: self.first_elements,
            cs.RUN_AHEAD: config.prefetch.run_ahead,
            cs.POLICY: cs.OFF if self.off else POLICIES[config.prefetch.policy],
            cs.WINDOW: config.look_ahead_fifo.elements,
            cs.PER_CYCLE: config.look_ahead_fifo.elements_per_cycle,
            cs.WRITER_FIFO: config.writer.fifo_elements,
            cs.ELEMENT: self.element,
            cs.PARTIAL_ELEMENT: self.partial_element,
            cs.POINTER: config.prefetch.pointer_bytes,
            cs.B_BASE: b_base,
            cs.POINTER_BASE: pointers,
            cs.HEAP_LIMIT: 4 * self.lines + 64,
            cs.FREE_SLOT: 0 if self.lines else -1,
            cs.FREE_SPARE: self.lines,
        }
        for key, value in values.items():
            m[key] = value
        return m

    def _lay_out(self, m: IntArray) -> None:
        """Put the tables behind the scalars; keep views of those that a round fills."""
        ways, merge = self.ways, self.config.merge
        slot = np.zeros((self.lines + self.spare, cs.SLOT_FIELDS), dtype=np.int64)
        slot[:, cs.S_LINE] = -1
        slot[:, cs.S_FREE] = np.arange(1, slot.shape[0] + 1)
        slot[[self.lines - 1, -1], cs.S_FREE] = -1
        requests = min(self.config.partial_fifo.elements, ways * int(self.products.sum())) // cs.REQUEST + 3 * ways
        lines = self.visits if self.off else int(self.lines_of_row.sum())
        tables = {
            cs.LEAF_AT: np.zeros((ways, cs.LEAF_FIELDS), dtype=np.int64),
            cs.FIFO_AT: np.zeros((2 * ways, cs.FIFO_FIELDS), dtype=np.int64),
            cs.NODE_AT: np.zeros((ways, cs.NODE_STATE), dtype=np.int64),
            cs.LAYER_AT: np.zeros((merge.layers, cs.LAYER_FIELDS), dtype=np.int64),
            cs.CHUNK_AT: np.zeros((self.config.multipliers.groups, cs.CHUNK_FIELDS), dtype=np.int64),
            cs.STACK_AT: np.zeros(2 * merge.layers + 4, dtype=np.int64),
            cs.SLOT_AT: slot,
            cs.HEAP_AT: np.zeros((m[cs.HEAP_LIMIT], 2), dtype=np.int64),
            cs.SLOT_OF_AT: np.full(lines + 1, -1, dtype=np.int64),
            cs.NEXT_USE_AT: np.full(self.b.shape[0] + 1, dram.NEVER, dtype=np.int64),
            cs.ASKED_AT: np.zeros((requests, 2), dtype=np.int64),
            cs.RING_AT: np.zeros((2 * ways, m[cs.RING_MASK] + 1), dtype=np.int64),
        }
        at = cs.SCALARS
        for key, table in tables.items():
            m[key] = at
            at += table.size
        memory, _ = dram.lay_out_memory(m, self._nodes(), at)
        self.m = np.concatenate([m, *(table.ravel() for table in tables.values()), memory])
        self.table = {key: self.m[m[key] : m[key] + table.size].reshape(table.shape) for key, table in tables.items()}

    def _nodes(self) -> int:
        """Bursts that can be under way together, counted generously."""
        config, burst = self.config, self.config.dram.burst_bytes
        products = int(self.products.sum())
        per_element = self.element // burst + 2
        per_line = config.prefetch.line_elements * self.element // burst + 3
        per_partial = self.partial_element // burst + 2
        partial = min(config.partial_fifo.elements, products) + 2 * self.ways
        return (
            (min(config.look_ahead_fifo.elements, self.a.nnz) + 2) * per_element
            + (self.lines + self.spare) * per_line
            + (partial + min(config.writer.fifo_elements, products)) * per_partial
            + 2 * config.dram.channels * config.dram.queue_bursts
            + 64
        )

    def run(self) -> CycleRun:
        """Run round after round, then wait for the last write."""
        config, leaves = self.config, int(self.leaf_sizes.size)
        ends: list[int] = []
        if leaves:
            weights = self.products
            if config.schedule.weights == "estimate":
                weights = self.leaf_sizes * self.b.nnz // self.b.shape[0]
            schedule = MergeSchedule(weights, self.ways, config.schedule.order, config.schedule.seed)
            waiting = leaves
            while not ends or waiting > 1:
                inputs = schedule.next_round()
                waiting -= len(inputs) - 1
                keys, base = self._round(inputs, leaves, len(ends), waiting == 1)
                self.results[leaves + len(ends)] = keys, base
                schedule.finish_round(int(self.m[cs.PRODUCED]))
                ends.append(int(self.m[cs.NOW]))
            drain(self.m)
        return self._report(ends)

    def _round(self, inputs: list[int], leaves: int, number: int, last: bool) -> tuple[IntArray, int]:
        """Run one merge round; return the keys of its result, if it is not the last, and where they are written."""
        columns = [(place, node) for place, node in enumerate(inputs) if node < leaves]
        partials = [(place, *self.results.pop(node)) for place, node in enumerate(inputs) if node >= leaves]
        keys = [np.zeros(0, dtype=np.int64), *(keys for _, keys, _ in partials)]
        sizes = [part.size for part in keys]
        most = int(self.products[[node for _, node in columns]].sum()) + sum(sizes)
        size = 2 * self.config.merge.width if last else min(most, self.a.shape[0] * self.b.shape[1])
        out = np.empty(1 << max(1, size - 1).bit_length(), dtype=np.int64)
        base = _align(self.partial_base) if last else self.partial_base
        self.m[cs.ROUND : cs.SCALARS] = 0
        self.m[[cs.ROUND, cs.LAST_ROUND, cs.OUT_MASK, cs.OUT_BASE]] = number, last, out.size - 1, base
        self.m[cs.OUT_BYTES] = self.element if last else self.partial_element
        burst = self.config.dram.burst_bytes
        self.m[cs.NEXT_WRITE] = self.m[cs.POSTED] = base // burst * burst
        el, a_bursts, first = self._elements(columns)
        self._tree(first, partials)
        here = np.zeros(a_bursts.size, dtype=np.uint8)
        run_round(self.m, el, a_bursts, here, self.b.indices, np.concatenate(keys), out)
        if self.m[cs.ERROR]:
            raise ModelError(f"cycle-level model: nothing can move in cycle {int(self.m[cs.NOW])} of round {number}")
        self.read += sum(sizes)
        if last:
            return out[:0], base
        produced = int(self.m[cs.PRODUCED])
        self.written += produced
        self.partial_base = base + produced * self.partial_element
        return out[:produced].copy(), base

    def _elements(self, columns: list[tuple[int, int]]) -> tuple[IntArray, IntArray, IntArray]:
        """Return the elements of A of a round in their order, the bursts they need, and each leaf's first element."""
        none = np.zeros(0, dtype=np.int64)
        parts = [self.by_leaf[self.leaf_start[node] : self.leaf_start[node + 1]] for _, node in columns]
        places = [np.full(part.size, place) for (place, _), part in zip(columns, parts, strict=True)]
        position, place = np.concatenate([none, *parts]), np.concatenate([none, *places])
        order = np.argsort(self.row_of[position] * self.ways + place, kind="stable")
        position, place = position[order], place[order]
        k = self.a.indices[position]
        el = np.zeros((position.size + 1, cs.ELEMENT_FIELDS), dtype=np.int64)
        el[:-1, cs.E_ROW], el[:-1, cs.E_LEAF], el[:-1, cs.E_K] = self.row_of[position], place, k
        el[:-1, cs.E_START], el[:-1, cs.E_LENGTH] = self.b.indptr[k], self.b.row_lengths[k]
        lines = self.lines_of_row[k]
        el[:-1, cs.E_LINE] = np.cumsum(lines) - lines if self.off else self.line_start[k]
        first = np.full(self.ways, position.size, dtype=np.int64)
        a_bursts = np.zeros(position.size * ((self.element - 1) // self.config.dram.burst_bytes + 2), dtype=np.int64)
        self.m[cs.ELEMENTS] = position.size
        self.table[cs.NEXT_USE_AT].fill(dram.NEVER)
        link_elements(self.m, el, position, self.stamp, first, a_bursts)
        return el, a_bursts, first

    def _tree(self, first: IntArray, partials: list[tuple[int, IntArray, int]]) -> None:
        """Set up inputs, FIFOs and nodes of a round.

        A FIFO must hold a full window before its node works, or so much that nothing more may fit in.
        """
        ways, merge, chunk = self.ways, self.config.merge, self.config.multipliers.group_width
        leaf, fifo, node = (self.table[key] for key in (cs.LEAF_AT, cs.FIFO_AT, cs.NODE_AT))
        leaf.fill(0)
        fifo.fill(0)
        node.fill(0)
        self.table[cs.LAYER_AT][:, : cs.BUSY_CYCLES] = 0
        leaf[:, cs.CURRENT], leaf[:, cs.PART] = first, -1
        fifo[:ways, cs.F_NEED] = min(merge.width, merge.fifo_elements - merge.width + 1)
        fifo[ways:, cs.F_NEED] = min(merge.width, merge.fifo_elements - chunk + 1)
        node[:, cs.CLASS] = NEITHER
        node[1:, cs.DEPTH] = [n.bit_length() - 1 for n in range(1, ways)]
        at = 0
        for part, (place, keys, base) in enumerate(partials):
            fifo[ways + place, cs.F_NEED] = merge.width
            leaf[place, [cs.PART, cs.P_SIZE, cs.P_BASE, cs.P_AT]] = part, keys.size, base, at
            at += keys.size
        share = max(1, self.config.partial_fifo.elements // max(1, len(partials)))
        useful = min(share, max((keys.size for _, keys, _ in partials), default=0))
        self.m[cs.SHARE], self.m[cs.REQUESTS] = share, useful // min(cs.REQUEST, max(1, useful)) + 2

    def _report(self, ends: list[int]) -> CycleRun:
        m, channels = self.m, self.config.dram.channels
        at = int(m[dram.CHANNEL_AT])
        channel = m[at : at + channels * dram.CHANNEL_FIELDS].reshape(channels, dram.CHANNEL_FIELDS)
        bursts = channel[:, dram.BURSTS : dram.BURSTS + dram.STREAMS].sum(axis=0) * self.config.dram.burst_bytes
        layer = self.table[cs.LAYER_AT][::-1]
        last_data = -(-int(m[dram.LAST_DATA]) // TICKS)
        return CycleRun(
            cycles=max([last_data, *ends]),
            round_ends=tuple(ends),
            bytes=dict(zip(STREAMS, bursts.tolist(), strict=True)),
            multiplies=int(m[cs.MULTIPLIES]),
            nnz_c=int(m[cs.PRODUCED]),
            partial_elements_written=self.written,
            partial_elements_read=self.read,
            line_hits=int(m[cs.HITS]),
            line_misses=int(m[cs.MISSES]),
            b_payload=int(m[cs.B_PAYLOAD]),
            multiplier_slots=int(m[cs.CHUNKS]),
            merger_busy=tuple(layer[:, cs.BUSY_CYCLES].tolist()),
            layer_elements=tuple(layer[:, cs.TAKEN].tolist()),
            channel_busy=tuple((channel[:, dram.BUSY] / TICKS).tolist()),
            activations=int(channel[:, dram.ACTIVATES].sum()),
            turnarounds=int(channel[:, dram.TURNS].sum()),
            a_entry_busy=int(m[cs.ENTRY_BUSY]),
            stuck=int(m[cs.STUCK]),
            lines_demanded=int(m[cs.DEMANDED]),
            window_stretches=int(m[cs.STRETCHES]),
        )
