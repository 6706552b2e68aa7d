"""OuterSPACE (Pal and others, HPCA 2018): outer products through memory in two phases.

Multiply: column k of A times row k of B gives one chunk of products for each element of the column; chunks of one row
of C form a linked list in memory. Merge: half of the PEs read the lists back, one row of C a PE, and insert element by
element into a sorted list of heads. Phases do not overlap. A phase takes as long as its slowest resource: the bus in
whole blocks, the read misses that the caches can have in flight, or the fullest PE (its share of the work is fixed
beforehand; in the merge it also waits for every link of a list, and for blocks it had no room to fetch ahead).

On uniform random matrices bandwidth alone is 3.1 to 8.5 times too fast; these causes leave a factor of 2.2 to 4.4.
Blocks that cannot be fetched ahead matter most there, assignment and comparisons only on skewed matrices. What remains
stands, cause by cause, in the preset's ``not_modelled``; no constant was fitted to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from sparsim.formats import FormatSize, carried_a
from sparsim.kernels.outerspace import insertion_merge
from sparsim.machines.activity import STREAMS, Activity, Buffer, Stage
from sparsim.machines.base import Machine, MachineConfig
from sparsim.machines.outerspace_config import OuterSpaceConfig
from sparsim.matrix import IntArray
from sparsim.workload import DataType, Operand, Workload

__all__ = ["OuterSpace"]

FloatArray = npt.NDArray[np.float64]
UNEVEN = 0.5


@dataclass(frozen=True)
class Rows:
    """Rows of C before and after their merge, one entry a row.

    Parameters
    ----------
    lists : non-empty chunks.
    products : elements of all chunks.
    blocks : blocks that the chunks take; each chunk starts a block.
    compares : comparisons of the merge.
    merged : non-zeros of C.
    """

    lists: IntArray
    products: IntArray
    blocks: IntArray
    compares: IntArray
    merged: IntArray


@dataclass(frozen=True)
class Phase:
    """Cycles of one phase by resource; the largest decides.

    Parameters
    ----------
    startup : before the first operand is there.
    bus : bytes in whole blocks at peak bandwidth.
    requests : read misses at the number that can be in flight.
    slowest, mean : of the PEs.
    waiting : share of the slowest PE's time in which it waits for memory.
    """

    startup: float
    bus: float
    requests: float
    slowest: float
    mean: float
    waiting: float = 0.0

    @property
    def cycles(self) -> float:
        """Cycles of the phase."""
        return self.startup + max(self.bus, self.requests, self.slowest)


class OuterSpace(Machine):
    """OuterSPACE; every zero of A and B is skipped."""

    config_class: ClassVar[type[MachineConfig]] = OuterSpaceConfig
    config: OuterSpaceConfig

    @property
    def skips_zeros(self) -> bool:
        """True: work is by element."""
        return True

    def peak_of_one(self, dtype: DataType) -> float:
        """Return the number of processing elements, whatever the type."""
        return float(self.config.tiles.count * self.config.tiles.pes)

    def element_bytes(self, dtype: DataType) -> tuple[int, int]:
        """Return bytes of an element of A, B or C and of a product (at least 4 for the value, as on other machines)."""
        value, index = self.config.element.value_bytes, self.config.element.index_bytes
        width = dtype.bytes if value == "dtype" else value
        return width + index, max(width, 4) + index

    def inventory_of_one(self) -> Mapping[str, float]:
        """Return memories in bytes and multipliers; the private caches of the merge are the tiles' first level."""
        c = self.config
        merging = c.tiles.count * c.tiles.merge_pes
        return {
            "l0.bytes": max(c.tiles.count * c.l0.bytes, merging * c.merge.cache_bytes),
            "l1.bytes": c.l1.count * c.l1.bytes,
            "scratchpad.bytes": merging * c.merge.scratchpad_bytes,
            "multipliers.units": c.tiles.count * c.tiles.pes,
        }

    def run_one(self, workload: Workload) -> Activity:
        """Return what OuterSPACE does for ``workload``; groups run as one product with a block-diagonal A."""
        a, b = workload.grouped_a, workload.b
        element, partial = self.element_bytes(workload.dtype)
        columns, b_rows = a.column_lengths, b.row_lengths
        rows = self._rows(a, b, partial)
        payload, bus = self._traffic(columns, b_rows, rows, element, partial)
        multiply = self._multiply(columns, b_rows, bus, element)
        merge = self._merge(rows, bus)
        return self._activity(workload, rows, (multiply, merge), payload, bus)

    def _rows(self, a: Operand, b: Operand, partial: int) -> Rows:
        link = self.config.element.link_bytes
        if b.is_dense:
            width = b.cols
            lists = a.row_lengths * (width > 0)
            # Lists in step: an element passes the heads of all others, those of its own column and of the next.
            compares = np.where(lists > 1, lists + max(width - 1, 0) * lists * lists, lists * width)
            blocks = lists * -(-(width * partial + link) // self.config.block_bytes)
            rows = Rows(lists, lists * width, blocks, compares, width * (lists > 0).astype(np.int64))
        else:
            left, right = a.csr, b.csr
            chunk = right.row_lengths[left.indices]
            row = np.repeat(np.arange(a.rows, dtype=np.int64), left.row_lengths)
            blocks = -(-(chunk * partial + link) // self.config.block_bytes) * (chunk > 0)
            compares, merged = insertion_merge(left.indptr, left.indices, right.indptr, right.indices)
            lists, products, taken = (_sum_by(row, values, a.rows) for values in (chunk > 0, chunk, blocks))
            rows = Rows(lists, products, taken, compares, merged)
        if self.config.merge.compare == "scan":
            return Rows(rows.lists, rows.products, rows.blocks, rows.products * rows.lists, rows.merged)
        return rows

    def _traffic(
        self, columns: IntArray, b_rows: IntArray, rows: Rows, element: int, partial: int
    ) -> tuple[dict[str, int], dict[str, int]]:
        """Return bytes by stream, without and with what whole blocks bring along.

        A column of A, a row of B, the products of one outer product, a chunk read back and a row of C each start a
        block; pointers and list heads are arrays.
        """
        c, block = self.config.element, self.config.block_bytes
        pointers = c.pointer_bytes * (columns.size + 1)
        c_pointers = c.pointer_bytes * (rows.lists.size + 1)
        heads = c.head_bytes * int(np.count_nonzero(rows.lists))
        links = c.link_bytes * columns * (b_rows > 0)
        written = columns * b_rows * partial + links
        whole = {
            "a": (columns * element, pointers),
            "b": (b_rows * element, pointers),
            "partial_write": (written, heads),
            "c": (rows.merged * element, c_pointers),
        }
        payload = {stream: int(parts.sum()) + extra for stream, (parts, extra) in whole.items()}
        bus = {
            stream: (int((-(-parts // block)).sum()) + -(-extra // block)) * block
            for stream, (parts, extra) in whole.items()
        }
        payload["partial_read"] = payload["partial_write"]
        bus["partial_read"] = (int(rows.blocks.sum()) + -(-heads // block)) * block
        return {name: payload[name] for name in STREAMS}, {name: bus[name] for name in STREAMS}

    @property
    def _latency(self) -> float:
        return self.config.dram.latency_ns * self.config.clock_ghz

    def _in_flight(self, of_tile: int) -> int:
        return min(self.config.tiles.count * of_tile, self.config.l1.count * self.config.l1.mshrs)

    def _multiply(self, columns: IntArray, b_rows: IntArray, bus: dict[str, int], element: int) -> Phase:
        c, block = self.config, self.config.block_bytes
        task = (columns > 0) & (b_rows > 0)
        taken, lengths = columns[task], b_rows[task]
        of_tile = min(c.tiles.pes * c.tiles.outstanding, c.l0.mshrs)
        misses = -(-taken * element // block) + -(-lengths * element // block)
        read = (bus["a"] + bus["b"]) / block
        fullest_tile = _fullest(misses, c.tiles.count, True)
        pes = c.tiles.count * c.tiles.pes
        products = taken * lengths
        if c.multiply.assignment == "tile":
            slowest = _dealt(taken, lengths, c.tiles.count, c.tiles.pes)
        elif c.multiply.assignment == "pe":
            slowest = _fullest(products, pes, True)
        else:
            slowest = max(float(products.sum()) / pes, float(lengths.max(initial=0)))
        return Phase(
            startup=self._latency * (c.multiply.dependent_accesses if taken.size else 1),
            bus=(bus["a"] + bus["b"] + bus["partial_write"]) / c.dram_bytes_per_cycle,
            requests=self._latency * max(read / self._in_flight(of_tile), fullest_tile / of_tile),
            slowest=slowest,
            mean=float(products.sum()) / pes,
        )

    def _merge(self, rows: Rows, bus: dict[str, int]) -> Phase:
        c = self.config
        has = rows.lists > 0
        lists, compares = rows.lists[has], rows.compares[has]
        pes = c.tiles.count * c.tiles.merge_pes
        links = (lists + 1) * c.merge.link_latency
        # A list's next block is fetched ahead if the cache holds two blocks of every list.
        late = (rows.blocks[has] - lists) * (2 * lists * c.block_bytes > c.merge.cache_bytes)
        waits = self._latency * (links + late)
        work = waits + compares
        static = c.merge.assignment == "static"
        slowest = _fullest(work, pes, static)
        return Phase(
            startup=0.0,
            bus=(bus["partial_read"] + bus["c"]) / c.dram_bytes_per_cycle,
            requests=self._latency
            * bus["partial_read"]
            / c.block_bytes
            / self._in_flight(c.tiles.merge_pes * c.tiles.outstanding),
            slowest=slowest,
            mean=float(work.sum()) / pes,
            waiting=float(waits.sum() / work.sum()) if work.size else 0.0,
        )

    def _activity(
        self,
        workload: Workload,
        rows: Rows,
        phases: tuple[Phase, Phase],
        payload: dict[str, int],
        bus: dict[str, int],
    ) -> Activity:
        c, (multiply, merge) = self.config, phases
        cycles = int(np.ceil(multiply.cycles + merge.cycles))
        products, nnz_c, compares = (int(part.sum()) for part in (rows.products, rows.merged, rows.compares))
        element, _ = self.element_bytes(workload.dtype)
        busy = {
            "multiply": products / self.peak_of_one(workload.dtype),
            "merge": compares / (c.tiles.count * c.tiles.merge_pes),
            "dram": sum(bus.values()) / c.dram_bytes_per_cycle,
        }
        limited_by, reason = _bottleneck(multiply, merge, cycles, bus)
        return Activity(
            cycles=cycles,
            stages={name: Stage(busy=value, starved=cycles - value) for name, value in busy.items()},
            multiplies=products,
            nnz_c=nnz_c,
            operations={"multiply": products, "add": products - nnz_c, "compare": compares},
            buffers=self._buffers(workload, rows, bus),
            dram_bytes=bus,
            payload_bytes=payload,
            element_bytes=(element, element, element),
            compulsory_b=workload.referenced_b,
            limited_by=limited_by,
            reason=reason,
            details=self._details(rows, phases, element) | carried_a(self._stored_a(workload), payload["a"]),
        )

    def _stored_a(self, workload: Workload) -> FormatSize:
        """Return the bytes of A by columns, with a pointer to each."""
        c, (element, _) = self.config.element, self.element_bytes(workload.dtype)
        width, nnz = element - c.index_bytes, workload.a.nnz
        pointers = c.pointer_bytes * (workload.k * workload.groups + 1)
        return FormatSize(f"csc, {width}+{c.index_bytes} bytes", nnz * width, nnz * c.index_bytes + pointers)

    def _buffers(self, workload: Workload, rows: Rows, bus: dict[str, int]) -> dict[str, Buffer]:
        """Return the on-chip memories.

        An element of B is read from the tile's cache for every product, and products gather to blocks there; in the
        merge it stands as private caches. Every block passes the next level once. A comparison reads one head of the
        scratchpad and moves it.
        """
        c = self.config
        element, partial = self.element_bytes(workload.dtype)
        products, compares = int(rows.products.sum()), int(rows.compares.sum())
        chunks = int(rows.lists.sum())
        fill = -(-(bus["a"] + bus["b"]) // element)
        blocks = sum(bus.values()) // c.block_bytes
        return {
            "l0": Buffer(c.l0.bytes, element, products + chunks, fill + products),
            "private_cache": Buffer(c.merge.cache_bytes, partial, products, -(-bus["partial_read"] // partial)),
            "l1": Buffer(c.l1.bytes, c.block_bytes, blocks, blocks),
            "scratchpad": Buffer(c.merge.scratchpad_bytes, partial, compares, compares),
        }

    def _details(self, rows: Rows, phases: tuple[Phase, Phase], element: int) -> dict[str, Any]:
        products = int(rows.products.sum())
        heads = self.config.merge.scratchpad_bytes // element
        details: dict[str, Any] = {
            "partial_elements_written": products,
            "partial_elements_read": products,
            "chunks": int(rows.lists.sum()),
            "longest_list": int(rows.lists.max(initial=0)),
            "products_beyond_scratchpad": int(rows.products[rows.lists > heads].sum()),
            "skips": "every zero",
        }
        for name, phase in zip(("multiply", "merge"), phases, strict=True):
            details |= {
                f"{name}_cycles": phase.cycles,
                f"{name}_bus_cycles": phase.bus,
                f"{name}_request_cycles": phase.requests,
                f"{name}_pe_cycles": phase.slowest,
                f"{name}_imbalance": phase.slowest / phase.mean if phase.mean else 1.0,
            }
        return details | {"merge_waiting": phases[1].waiting}


def _sum_by(row: IntArray, values: npt.NDArray[Any], rows: int) -> IntArray:
    """Sum whole numbers by row; float64 is exact to 2^53."""
    return np.bincount(row, weights=values, minlength=rows).astype(np.int64)


def _fullest(work: npt.NDArray[Any], servers: int, static: bool) -> float:
    """Return the largest sum of work a server gets: in turn, or where there is room (no less than mean and largest)."""
    if static:
        return float(np.bincount(np.arange(work.size) % servers, weights=work, minlength=1).max())
    return max(float(work.sum()) / servers, float(work.max(initial=0)))


def _dealt(taken: IntArray, lengths: IntArray, tiles: int, pes: int) -> float:
    """Return the most products a PE makes if tiles take outer products in turn and a tile's PEs their chunks in turn.

    Parameters
    ----------
    taken, lengths : elements of the column and of the row of each outer product.
    """
    rounds = -(-taken.size // tiles)
    chunks, length = (np.zeros((rounds, tiles), dtype=np.int64) for _ in range(2))
    chunks.flat[: taken.size], length.flat[: taken.size] = taken, lengths
    first = np.cumsum(chunks, axis=0) - chunks
    share, rest = np.divmod(chunks, pes)
    most = [(((share + ((pe - first) % pes < rest)) * length).sum(axis=0)).max(initial=0) for pe in range(pes)]
    return float(max(most))


def _bottleneck(multiply: Phase, merge: Phase, cycles: int, bus: dict[str, int]) -> tuple[str, str]:
    """Name what bounds the longer phase."""
    name, phase = max((("multiply", multiply), ("merge", merge)), key=lambda pair: pair[1].cycles)
    share = phase.cycles / max(cycles, 1)
    where = f"the {name} phase takes {share:.0%} of the run"
    if not phase.slowest or phase.startup > 0.5 * phase.cycles:
        return "latency", f"too little work to hide the latency of memory: {where}"
    if phase.bus >= max(phase.requests, phase.slowest):
        moved = sum(bus.values())
        partial = (bus["partial_read"] + bus["partial_write"]) / max(moved, 1)
        return "dram", f"{where} and fills the bus; {partial:.0%} of {moved / 1e6:.3g} MB are products on their way"
    if phase.requests >= phase.slowest:
        return "latency", f"{where}, and its reads wait for a free miss register of the caches"
    if phase.mean < UNEVEN * phase.slowest:
        return "load_imbalance", f"{where}, and its fullest PE has {phase.slowest / phase.mean:.1f} times the mean work"
    if phase.waiting > 0.5:
        return "latency", f"{where}, and its PEs wait {phase.waiting:.0%} of the time for the next chunk or block"
    work = "insert into sorted heads" if name == "merge" else "make one product a cycle"
    return name, f"{where}, in which the PEs {work}"
