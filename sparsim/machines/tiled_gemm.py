"""A tiled dense GEMM engine: the baseline a sparse accelerator of the same size has to beat.

Multipliers stand as rows x columns over a tile of C and take one step of k a cycle. Tiles are double buffered, so a run
takes the longer of two chains: first load, all arithmetic, last store; or all transfers and one tile's arithmetic.
Tile sizes are chosen for least DRAM traffic among those within 5 % of the best time; between equals, for fewest on-chip
bytes. Below the on-chip memory there are only the accumulators of the array: every pass of the array reads its operands
from the on-chip memory, so its energy is an upper bound for a machine with operand registers.

``details.array_cycles`` are the cycles of the array alone, its products not cut to fit on chip.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, Literal, cast

from pydantic import Field

from sparsim.formats import FormatSize, carried_a, shrunk_size
from sparsim.machines.activity import STREAMS, Activity, Buffer, Stage
from sparsim.machines.base import Machine, MachineConfig, Section
from sparsim.machines.tiling import (
    Product,
    Tiling,
    Widths,
    activation_share,
    choose_tiling,
    products,
    referenced_b,
    split_sum,
)
from sparsim.workload import DataType, Workload

__all__ = ["DenseConfig", "TiledGemm", "TiledGemmConfig"]

POOR_UTILISATION = 0.5


class OnChipConfig(Section):
    """The memory that holds the tiles."""

    bytes: int = Field(ge=8192, description="capacity for all tiles [bytes]")
    width_bytes: int = Field(ge=1, le=4096, description="moved by one access [bytes]")


SKIPS = {
    "none": "nothing",
    "empty_rows_cols": "empty rows and columns",
    "empty_tiles": "empty rows, columns and tiles",
}


class SkipTile(Section):
    """A tile of A that can be left out as a whole, by ``skip = empty_tiles``."""

    rows: int = Field(ge=1, le=16, description="rows of A")
    cols: int = Field(ge=1, le=16, description="columns of A")


class DenseConfig(MachineConfig):
    """What dense machines with one on-chip memory have in common."""

    on_chip: OnChipConfig
    skip: Literal["none", "empty_rows_cols", "empty_tiles"] = Field(description="which zeros are left out")
    skip_tile: SkipTile


class TiledGemmConfig(DenseConfig):
    """A tiled dense GEMM engine."""

    multipliers: int = Field(ge=1, le=2**20, description="multiply-accumulate units")


@dataclass
class Totals:
    """Sums over the products of a workload: cycles (also uncut), multiplies, tiles, bytes (of A, also read once)."""

    compute: int = 0
    uncut: int = 0
    macs: int = 0
    tiles: int = 0
    load: float = 0.0
    store: float = 0.0
    read: int = 0
    written: int = 0
    a_values: int = 0
    a_indices: int = 0
    payload: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STREAMS, 0))
    largest: tuple[Product, Tiling, Any] | None = None


class TiledGemm(Machine):
    """Dense GEMM in tiles; subclasses say how an array takes a tile (:meth:`mappings` and the two that follow)."""

    config_class: ClassVar[type[MachineConfig]] = TiledGemmConfig

    @property
    def _dense(self) -> DenseConfig:
        return cast(DenseConfig, self.config)

    @property
    def units(self) -> int:
        """Multiply-accumulate units."""
        return cast(TiledGemmConfig, self.config).multipliers

    def inventory_of_one(self) -> Mapping[str, float]:
        """Return the on-chip memory in bytes and the multipliers; accumulators are not modelled."""
        return {"global_buffer.bytes": self._dense.on_chip.bytes, "multipliers.units": self.units}

    @property
    def grain(self) -> int:
        """Multiple that tile sizes are rounded to, so that few of them pad the array."""
        return min(self.units, 64)

    @property
    def skips_zeros(self) -> bool:
        """Whether empty tiles are left out."""
        return self._dense.skip == "empty_tiles"

    def peak_of_one(self, dtype: DataType) -> float:
        """Return the number of multipliers: none of them works on more than one product a cycle, whatever the type."""
        return float(self.units)

    def mappings(self, product: Product) -> list[Any]:
        """Return the ways the array can be laid over a tile: here all rows x columns that use every multiplier."""
        return [(p, self.units // p) for p in range(1, self.units + 1) if self.units % p == 0]

    def array_cycles(self, mapping: Any, product: Product, tm: Any, tn: Any, tk: Any) -> Any:
        """Return the cycles of all tiles, padded to the array.

        With tiles skipped, the rows of the array take the weights of one tile of A (an adder tree sums along k) and
        its columns as many columns of B.
        """
        rows, cols = mapping
        if product.cells:
            tile = self._dense.skip_tile
            return product.occupied * -(-tile.rows * tile.cols // rows) * split_sum(product.n, tn, cols)
        return split_sum(product.m, tm, rows) * split_sum(product.n, tn, cols) * product.k

    def array_bytes(self, mapping: Any, product: Product, widths: Widths, tm: Any, tn: Any, tk: Any) -> tuple[Any, Any]:
        """Return on-chip bytes read and written by the array; operands are broadcast along its rows and columns."""
        rows, cols = mapping
        over_n, k_tiles = split_sum(product.n, tn, cols), -(-product.k // tk)
        cells = product.m * product.n
        if product.cells:
            tile = self._dense.skip_tile
            a = product.occupied * tile.rows * tile.cols * over_n
            b = product.occupied * tile.cols * product.n
            sums = product.occupied * tile.rows * product.n
        else:
            a = product.m * product.k * over_n
            b = product.k * product.n * split_sum(product.m, tm, rows)
            sums = cells * k_tiles
        return (a + b) * widths.c + (sums - cells) * (sums > cells) * widths.partial, sums * widths.partial

    def run_one(self, workload: Workload) -> Activity:
        """Return what the machine does for ``workload``."""
        mode, tile = self._dense.skip, self._dense.skip_tile
        totals = self._totals(workload, products(workload, mode != "none"))
        skipped = False
        if mode == "empty_tiles":
            tiled = self._totals(workload, products(workload, True, (tile.rows, tile.cols)))
            skipped = self._cycles(tiled) < self._cycles(totals)
            totals = tiled if skipped else totals
        return self._activity(workload, totals, skipped)

    def _best(self, product: Product, widths: Widths) -> tuple[Tiling, Any]:
        options = self.mappings(product)
        tiling, chosen = choose_tiling(
            product,
            widths,
            self._dense.on_chip.bytes,
            self.grain,
            [partial(self._cost, option, product, widths) for option in options],
            self.config.dram_bytes_per_cycle,
        )
        return tiling, options[chosen]

    def _cost(self, mapping: Any, product: Product, widths: Widths, tm: Any, tn: Any, tk: Any) -> tuple[Any, Any]:
        """Return the arithmetic cycles and the on-chip bytes of the array."""
        cycles = self.array_cycles(mapping, product, tm, tn, tk)
        return cycles, sum(self.array_bytes(mapping, product, widths, tm, tn, tk))

    def _totals(self, workload: Workload, parts: Mapping[Product, int]) -> Totals:
        totals = Totals()
        for product, count in parts.items():
            self._add(totals, workload, product, count)
        return totals

    def _add(self, totals: Totals, workload: Workload, product: Product, count: int) -> None:
        width, share = workload.dtype.bytes, activation_share(workload, self.config.im2col)
        elements, stored, marks = product.m * product.k, product.stored_a * width, -(-product.cells // 8)
        if product.cells:
            elements = product.occupied * self._dense.skip_tile.rows * self._dense.skip_tile.cols
            stored = elements * width + marks
        totals.a_values += count * (stored - marks)
        totals.a_indices += count * marks
        if not (product.m and product.n and product.k and elements):
            totals.payload["a"] += count * stored
            return
        widths = Widths(stored / (product.m * product.k), width * share, max(4, width), width)
        tiling, mapping = self._best(product, widths)
        a, b, sums, c = (math.ceil(value) for value in tiling.traffic)
        for stream, moved in zip(STREAMS, (max(a, stored), b, sums, sums, c), strict=True):
            totals.payload[stream] += count * moved
        totals.compute += count * int(self.array_cycles(mapping, product, *tiling[:3]))
        totals.uncut += count * min(
            int(self.array_cycles(option, product, *product[:3])) for option in self.mappings(product)
        )
        totals.macs += count * elements * product.n
        totals.tiles += count * tiling.tiles
        read, written = self.array_bytes(mapping, product, widths, *tiling[:3])
        totals.read += count * (read + sums + c)
        totals.written += count * (written + max(a, stored) + b + sums)
        totals.load, totals.store = max(totals.load, tiling.first_load), max(totals.store, tiling.last_store)
        if totals.largest is None or product.m * product.n * product.k > math.prod(totals.largest[0][:3]):
            totals.largest = product, tiling, mapping

    def _bus(self, totals: Totals) -> dict[str, int]:
        burst = self.config.dram.burst_bytes
        return {stream: -(-payload // burst) * burst for stream, payload in totals.payload.items()}

    def _cycles(self, totals: Totals) -> int:
        """Return the longer of the two chains of a double-buffered run."""
        bus, rate = sum(self._bus(totals).values()), self.config.dram_bytes_per_cycle
        latency = self.config.dram.latency_ns * self.config.clock_ghz if bus else 0.0
        arithmetic = (totals.load + totals.store) / rate + totals.compute
        transfers = bus / rate + totals.compute / max(totals.tiles, 1)
        return math.ceil(latency + max(arithmetic, transfers))

    def _activity(self, workload: Workload, totals: Totals, skipped: bool) -> Activity:
        bus, cycles = self._bus(totals), self._cycles(totals)
        dram = sum(bus.values()) / self.config.dram_bytes_per_cycle
        limited_by, reason = self._bound(totals, cycles, sum(bus.values()), dram)
        width, chip = workload.dtype.bytes, self._dense.on_chip
        share = activation_share(workload, self.config.im2col)
        words = (-(-totals.read // chip.width_bytes), -(-totals.written // chip.width_bytes))
        return Activity(
            cycles=cycles,
            stages={
                "dram": Stage(dram, cycles - dram),
                "multiply": Stage(float(totals.compute), float(cycles - totals.compute)),
            },
            multiplies=workload.multiplies,
            nnz_c=workload.nnz_c,
            operations={"multiply": totals.macs, "add": totals.macs, "compare": 0},
            buffers={"global_buffer": Buffer(chip.bytes, chip.width_bytes, *words)},
            dram_bytes=bus,
            payload_bytes=totals.payload,
            element_bytes=(width, width, width),
            compulsory_b=int(referenced_b(workload) * share),
            limited_by=limited_by,
            reason=reason,
            details=self._details(totals, cycles, skipped)
            | carried_a(self._stored_a(workload, totals, skipped), totals.payload["a"]),
            notes=self._notes(skipped),
        )

    def _stored_a(self, workload: Workload, totals: Totals, skipped: bool) -> FormatSize:
        """Return the bytes of A read once; which rows and columns are left out is known beforehand and costs none."""
        if not skipped:
            return shrunk_size(totals.a_values, workload.m * workload.k * workload.dtype.bytes)
        tile = self._dense.skip_tile
        return FormatSize(f"{tile.rows}x{tile.cols} tiles with a bitmap", totals.a_values, totals.a_indices)

    def _notes(self, skipped: bool) -> tuple[str, ...]:
        if self._dense.skip == "empty_tiles" and not skipped:
            return ("skipping empty tiles would not be faster here, so the product ran dense",)
        return ()

    def _bound(self, totals: Totals, cycles: int, moved: int, dram: float) -> tuple[str, str]:
        if not totals.compute:
            return "latency", f"nothing to multiply; {moved:,} bytes of operands are read"
        busy = totals.macs / (totals.compute * self.units)
        if max(dram, totals.compute) < 0.6 * cycles:
            share = 1 - max(dram, totals.compute) / cycles
            return "latency", f"latency: too few tiles to overlap, {share:.0%} of the run is load or store in the open"
        if dram > totals.compute:
            share = dram / cycles
            return "dram", f"DRAM: {moved / 1e6:.3g} MB at {self.config.dram.gb_s:g} GB/s take {share:.0%} of the run"
        share = totals.compute / cycles
        if busy < POOR_UTILISATION:
            return "load_imbalance", f"array: the shape leaves {1 - busy:.0%} of {self.units} multipliers idle"
        return "multiply", f"multipliers: {totals.macs:,} multiplies on {self.units} units take {share:.0%} of the run"

    def _details(self, totals: Totals, cycles: int, skipped: bool) -> dict[str, Any]:
        details: dict[str, Any] = {
            "tiles": totals.tiles,
            "array_cycles": totals.uncut,
            "performed_multiplies": totals.macs,
            "utilisation": totals.macs / (cycles * self.units) if cycles else 0.0,
            "skipped_tiles": skipped,
            "skips": SKIPS[self._dense.skip],
        }
        if totals.largest is not None:
            product, tiling, mapping = totals.largest
            details |= {
                "product_mnk": [product.m, product.n, product.k],
                "tile_mnk": [tiling.tm, tiling.tn, tiling.tk],
                "loop_order": tiling.order,
                "passes_abc": list(tiling.passes),
                "mapping": mapping if isinstance(mapping, str) else "x".join(map(str, mapping)),
            }
        return details
