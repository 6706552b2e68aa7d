"""SpArch (Zhang, Wang, Han, Dally: HPCA 2020, arXiv 2002.08947).

Five mechanisms: A's columns are condensed, products are merged while they are made, the merge order is a Huffman
tree, rows of B are prefetched by next use, and the merge tree gets by with one merger a layer. The run has three
parts: the merge rounds give exact sizes and cut the work into steps; the prefetcher replays the rows of B that the
rounds ask for; the timing core joins both with buffers and memory.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import numpy as np

from sparsim.errors import WorkloadError
from sparsim.formats import FormatSize, carried_a
from sparsim.kernels.records import Fetched, Operands, StepLimits
from sparsim.machines.activity import STREAMS, Activity, Buffer, Stage
from sparsim.machines.base import Machine, MachineConfig
from sparsim.machines.remembered import Remembered
from sparsim.machines.sparch_config import SpArchConfig
from sparsim.machines.sparch_counting import Counted, count_rounds
from sparsim.machines.sparch_cycle import CycleRun, run_cycles
from sparsim.machines.sparch_estimate import Estimated, exact_instead, sampled_tally
from sparsim.machines.sparch_rounds import Rounds
from sparsim.machines.sparch_timing import STAGES, Tally, cycle_tally, quantum, time_rounds
from sparsim.matrix import Csr, IntArray
from sparsim.workload import DataType, Operand, Workload

__all__ = ["SpArch"]

TIE = 0.02


@dataclass(frozen=True)
class _Part:
    """One of the products that a workload is run as, ``times`` over: a panel of B, or all of it.

    ``row_elements`` are those of each row of the prefetched operand, ``cycles`` what the cycle model saw of it, and
    ``replayed`` what the last prefetcher did.
    """

    counted: Counted
    row_elements: IntArray
    nnz_a: int
    times: int
    cycles: CycleRun | None
    replayed: dict[Hashable, Fetched] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        kept = sum(fetched.missed.nbytes + fetched.stalls.nbytes for fetched in list(self.replayed.values()))
        return self.counted.nbytes + self.row_elements.nbytes + kept


_COUNTED: Remembered[_Part] = Remembered()


class SpArch(Machine):
    """SpArch, with every parameter of the paper as a field."""

    config_class: ClassVar[type[MachineConfig]] = SpArchConfig
    config: SpArchConfig

    @property
    def skips_zeros(self) -> bool:
        """True: work is by element."""
        return True

    def peak_of_one(self, dtype: DataType) -> float:
        """Return the number of multipliers."""
        return float(self.config.multipliers.groups * self.config.multipliers.group_width)

    def element_bytes(self, dtype: DataType) -> tuple[int, int]:
        """Return bytes of an element of A, B or C (value, index) and of a partial result (sum, row, column).

        A sum of fp16, bf16 or int8 products is kept in 4 bytes, as dense machines keep it.
        """
        value, index = self.config.element.value_bytes, self.config.element.index_bytes
        width = dtype.bytes if value == "dtype" else value
        return width + index, max(width, 4) + 2 * index

    def layouts(self, workload: Workload) -> Sequence[Mapping[str, Any]]:
        """Return the product as given, in panels one prefetch line wide if B is much wider, and transposed if narrow.

        A panel keeps many rows of B in the buffer at once; on ResNet-50's layers it comes within 1 % of the best width
        in time and takes the least energy. Transposed, a narrow B becomes A, and the weights' long rows fill the
        multiplier groups.
        """
        line = self.config.prefetch.line_elements
        panel = line if workload.n > 4 * line else 0
        found: list[dict[str, Any]] = [{"mapping.orientation": "wx", "mapping.panel_columns": panel}]
        if workload.groups == 1:
            found.append({"mapping.orientation": "xtwt", "mapping.panel_columns": panel})
        return found if workload.n <= line else found[:1]

    def inventory_of_one(self) -> Mapping[str, float]:
        """Return memories in bytes, multipliers, and the comparators and adders of all layers' mergers.

        Elements have the configured width, double precision where it follows the workload: the published machine.
        """
        c = self.config
        element, partial = self.element_bytes(DataType.FP64)
        lines = 0 if c.prefetch.policy == "off" else c.prefetch.lines
        return {
            "look_ahead_fifo.bytes": c.look_ahead_fifo.elements * element,
            "partial_fifo.bytes": c.partial_fifo.elements * partial,
            "prefetch_buffer.bytes": lines * c.prefetch.line_elements * element,
            "multipliers.units": c.multipliers.groups * c.multipliers.group_width,
            "merge.comparators": c.merge.layers * _comparators(c.merge.width, c.merge.comparators),
            "merge.adders": c.merge.layers * c.merge.width,
            "merge_fifos.bytes": (2 ** (c.merge.layers + 1) - 2) * c.merge.fifo_elements * partial,
            "writer_fifo.bytes": c.writer.fifo_elements * partial,
            "writer.units": 1,
        }

    def run_one(self, workload: Workload) -> Activity:
        """Return what SpArch does for ``workload``; groups run as one product with a block-diagonal A."""
        transposed = self.config.mapping.orientation == "xtwt"
        if self.config.sample.fraction:
            return self._sampled(workload, transposed)
        tally = Tally()
        panels = 0
        for part in self._parts(workload, transposed):
            tally.add(self._timed(part, workload.dtype), part.times)
            panels += part.times
        return self._activity(workload, tally, transposed, panels)

    def _sampled(self, workload: Workload, transposed: bool) -> Activity:
        """Estimate what is large enough; the rest is exact."""
        c, sizes = self.config, self.element_bytes(workload.dtype)
        tally, about, exact, panels = Tally(), Estimated(), "", 0
        for a, b, times in self._products(workload, transposed):
            ops = _operands(a, b)
            why = exact_instead(a, int(a.column_lengths @ np.diff(ops.b_indptr)), c)
            if why:
                exact = why
                counted = count_rounds(a, ops, c, sizes[0])
                tally.add(self._timed(_Part(counted, np.diff(ops.b_indptr), a.nnz, times, None), workload.dtype), times)
            else:
                one, found = sampled_tally(a, ops, c, sizes, np.random.default_rng((c.sample.seed, panels)))
                tally.add(one, times)
                about.add(found, times)
            panels += times
        did = self._activity(workload, tally, transposed, panels)
        return replace(did, details={**did.details, "sample": about.told(c, did, exact)})

    def _parts(self, workload: Workload, transposed: bool) -> Iterator[_Part]:
        """Count the products that ``workload`` is run as, or remember them: time has no part in that."""
        c = self.config
        if c.fidelity == "cycle":
            return self._counted(workload, transposed)
        key = (
            (c.condense, c.schedule.order, c.schedule.weights, c.schedule.seed, c.merge.layers, c.merge.pipelined),
            (c.mapping.orientation, c.mapping.panel_columns, c.multipliers.group_width, c.dram.burst_bytes),
            self.element_bytes(workload.dtype),
        )
        return _COUNTED.parts(workload, key, self._counted(workload, transposed))

    def _counted(self, workload: Workload, transposed: bool) -> Iterator[_Part]:
        element, _ = sizes = self.element_bytes(workload.dtype)
        c = self.config
        for a, b, times in self._products(workload, transposed):
            run = run_cycles(a, b.csr, c, sizes) if c.fidelity == "cycle" else None
            ops = _operands(a, b)
            yield _Part(count_rounds(a, ops, c, element), np.diff(ops.b_indptr), a.nnz, times, run)

    def _products(self, workload: Workload, transposed: bool) -> Iterator[tuple[Csr, Operand, int]]:
        width = self.config.mapping.panel_columns or max(workload.n, 1)
        if transposed and workload.groups > 1:
            raise WorkloadError("mapping.orientation = xtwt does not run grouped products; use wx")
        left = workload.grouped_a
        weights = Operand.of(left.csr.transpose()) if transposed else left
        for part, times in _panels(workload.b, width):
            if transposed:
                flipped = Operand.dense(part.cols, part.rows) if part.is_dense else Operand.of(part.csr.transpose())
                yield flipped.csr, weights, times
            else:
                yield left.csr, part, times

    def _timed(self, part: _Part, dtype: DataType) -> Tally:
        c = self.config
        limits = StepLimits(*quantum(c, int(part.counted.products.sum()), part.nnz_a), c.dram.burst_bytes)
        barrier = c.schedule.round_barrier or part.counted.multiplied is not None
        rounds = Rounds(part.counted, limits, barrier)
        tally = time_rounds(rounds, part.row_elements, part.nnz_a, c, self.element_bytes(dtype), part.replayed)
        return tally if part.cycles is None else cycle_tally(tally, part.cycles, c)

    def _activity(self, workload: Workload, tally: Tally, transposed: bool, panels: int) -> Activity:
        counts = tally.counts
        element, _ = self.element_bytes(workload.dtype)
        swap = {"a": "b", "b": "a"} if transposed else {}
        streams = {stream: counts[f"bus_{swap.get(stream, stream)}"] for stream in STREAMS}
        stages = {
            name: _stage(tally.cycles, busy, blocked)
            for name, busy, blocked in zip(STAGES, tally.busy, tally.blocked, strict=True)
        }
        stages["dram"] = _stage(tally.cycles, min(tally.dram_busy, tally.cycles), 0.0)
        limited_by, reason = _bottleneck(tally, streams, "a" if transposed else "b")
        width, entering = self.config.merge.width, int(tally.layer_elements.sum())
        return Activity(
            cycles=tally.cycles,
            stages=stages,
            multiplies=counts["products"],
            nnz_c=counts["nnz_c"],
            operations={
                "multiply": counts["products"],
                "add": counts["additions"],
                "compare": entering * _comparators(width, self.config.merge.comparators) // width,
            },
            buffers=self._buffers(workload, tally),
            dram_bytes=streams,
            payload_bytes={stream: counts[f"payload_{swap.get(stream, stream)}"] for stream in STREAMS},
            element_bytes=(element, element, element),
            compulsory_b=workload.referenced_b,
            limited_by=limited_by,
            reason=reason,
            details=self._details(workload, tally, panels),
        )

    def _buffers(self, workload: Workload, tally: Tally) -> dict[str, Buffer]:
        """Return the on-chip memories: elements pass the FIFOs once, a group's slot reads the prefetch buffer."""
        c, counts = self.config, tally.counts
        element, partial = self.element_bytes(workload.dtype)
        port = c.multipliers.group_width * element
        lines = max(c.prefetch.lines, 1) * c.prefetch.line_elements * element
        written = counts["partial_elements_written"] + counts["nnz_c"]
        entering = int(tally.layer_elements.sum())
        a_elements = counts["a_elements"]
        return {
            "look_ahead_fifo": Buffer(c.look_ahead_fifo.elements * element, element, a_elements, a_elements),
            "prefetch_buffer": Buffer(lines, port, counts["slots"], -(-counts["payload_b"] // port)),
            "merge_fifos": Buffer(c.merge.fifo_elements * partial, partial, entering, entering),
            "writer_fifo": Buffer(c.writer.fifo_elements * partial, partial, written, written),
        }

    def _details(self, workload: Workload, tally: Tally, panels: int) -> dict[str, Any]:
        c, counts = self.config, tally.counts
        element, _ = self.element_bytes(workload.dtype)
        used_b = counts["products"] * element + counts["a_elements"] * c.prefetch.pointer_bytes
        transposed = c.mapping.orientation == "xtwt"
        return {
            "condensed_columns": tally.leaves,
            "merge_rounds": counts["rounds"],
            "first_round_ways": tally.first_round_ways,
            "partial_elements_written": counts["partial_elements_written"],
            "partial_elements_read": counts["partial_elements_read"],
            "layer_elements": [int(value) for value in tally.layer_elements],
            "b_bytes_fetched": counts["payload_b"],
            "prefetch_hit_rate": 1.0 - counts["payload_b"] / used_b if used_b else 0.0,
            "line_hits": counts["line_hits"],
            "line_misses": counts["line_misses"],
            "row_activations": counts["row_activations"],
            "bus_turnarounds": counts["bus_turnarounds"],
            "pipeline_steps": counts["steps"],
            "skips": "every zero",
            "orientation": c.mapping.orientation,
            "panels": panels,
            **carried_a(self._stored_a(workload, transposed), counts["payload_b" if transposed else "payload_a"]),
        }

    def _stored_a(self, workload: Workload, transposed: bool) -> FormatSize:
        """Return the bytes of A's elements; transposed, it is the prefetched operand, and its rows need pointers."""
        index, (element, _) = self.config.element.index_bytes, self.element_bytes(workload.dtype)
        pointers = self.config.prefetch.pointer_bytes * workload.k if transposed else 0
        nnz = workload.a.nnz
        name = f"{'csc' if transposed else 'csr'}, {element - index}+{index} bytes"
        return FormatSize(name, nnz * (element - index), nnz * index + pointers)


def _operands(a: Csr, b: Operand) -> Operands:
    dense = b.is_dense
    b_indptr = np.arange(b.rows + 1, dtype=np.int64) * b.cols if dense else b.csr.indptr
    return Operands(a.indices, b_indptr, np.empty(0, dtype=np.int32) if dense else b.csr.indices, b.cols, dense)


def _comparators(width: int, kind: Literal["hierarchical", "flat"]) -> int:
    """Return the comparators of one merger: flat, or a top array over chunks and the low arrays they meet in.

    128 for 16 x 16 as 4 x 4 over 4 x 4 (7 chunk pairs lie on the boundary), where a flat array has 256. Below 4 x 4
    two levels would take more comparators than one, so there is one.
    """
    if kind == "flat" or width < 4:
        return width * width
    top = math.isqrt(width - 1) + 1
    low = -(-width // top)
    return top * top + (2 * top - 1) * low * low


def _panels(b: Operand, width: int) -> list[tuple[Operand, int]]:
    """Cut B into panels of ``width`` columns; equal ones come once, with how often."""
    if b.is_dense:
        whole, rest = divmod(b.cols, width)
        spans = [(width, whole)] * (whole > 0) + [(rest, 1)] * (rest > 0 or b.cols == 0)
        return [(Operand.dense(b.rows, columns), times) for columns, times in spans]
    if b.cols <= width:
        return [(b, 1)]
    return [(Operand.of(panel), 1) for panel in b.csr.column_panels(width)]


def _stage(cycles: int, busy: float, blocked: float) -> Stage:
    held = min(blocked, cycles - busy)
    return Stage(busy=busy, starved=cycles - busy - held, blocked=held)


def _bottleneck(tally: Tally, streams: Mapping[str, int], prefetched: str) -> tuple[str, str]:
    """Name what bounds the run, with the share of time it is busy; ``prefetched`` names the operand in the buffer."""
    if not tally.cycles:
        return "latency", "there is nothing to multiply"
    total = tally.cycles
    busy = {name: float(tally.busy[STAGES.index(name)]) for name in ("multiply", "merge", "look_ahead")}
    busy["dram"] = tally.dram_busy
    moved = sum(streams.values())
    missed = streams[prefetched] / moved if moved else 0.0
    name = next(key for key in busy if busy[key] >= (1 - TIE) * max(busy.values()))
    share = busy[name] / total
    channel = tally.busiest_channel / total
    if share < 0.5 and channel >= 0.5:
        mean = tally.dram_busy / total
        return "load_imbalance", f"one DRAM channel is busy {channel:.0%} of the time, the mean {mean:.0%}"
    if share < 0.5:
        return "latency", f"too little work to fill the pipeline: {name}, the busiest stage, works {share:.0%} of it"
    if name == "dram" and missed >= 0.5:
        rows = f"{missed:.0%} of its bytes are parts of {prefetched.upper()} that missed the prefetch buffer"
        return "prefetch", f"DRAM is busy {share:.0%} of the time, {rows}"
    if name == "dram":
        largest = max(streams, key=lambda stream: streams[stream])
        portion = f"{largest} ({streams[largest] / moved:.0%} of {moved / 1e6:.3g} MB)"
        return "dram", f"DRAM is busy {share:.0%} of the time; its largest stream is {portion}"
    if name == "look_ahead":
        return "look_ahead", f"elements of A enter the look-ahead FIFO {share:.0%} of the time, one after the other"
    if name == "merge":
        return "merge", f"the merge tree's leaf layer is busy {share:.0%} of the time"
    packing = tally.counts["products"] / max(tally.counts["slots"], 1)
    filled = f"{packing:.1f} products in a group's slot"
    return "multiply", f"the multipliers are busy {share:.0%} of the time, with {filled}"
