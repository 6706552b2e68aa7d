"""Blocks of zeros on a GPU: A is covered with the tiles that a kernel computes, and the empty ones are left out.

A kernel has a tile of its own, whatever the blocks were pruned with: a block as large as the tile leaves out what it
should, thin ones touch nearly every tile. Rows of one tile, columns of as many k as a memory sector holds, is what fits
measured kernels.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sparsim.errors import InputError
from sparsim.machines.gpu_csr import (
    INDEX_BYTES,
    GpuLimits,
    SparseCost,
    distinct_per_block,
    imbalance,
    row_bounds,
)
from sparsim.matrix import Csr, IntArray

__all__ = ["BlockCover", "block_cover", "block_times"]


class BlockCover(NamedTuple):
    """The tiles that hold anything.

    Parameters
    ----------
    shape, tile : of A, and rows and columns of a tile.
    tiles, cells : tiles that are not empty, all tiles.
    per_row : tiles that are not empty in each row of tiles, int64.
    referenced : rows of B that some tile asks for.
    """

    shape: tuple[int, int]
    tile: tuple[int, int]
    tiles: int
    cells: int
    per_row: IntArray
    referenced: int

    @property
    def share(self) -> float:
        """Tiles that are computed over all tiles, 0 for a matrix without cells."""
        return self.tiles / self.cells if self.cells else 0.0


def block_cover(a: Csr, rows: int, cols: int) -> BlockCover:
    """Lay a grid of tiles on A, from its first row and column on.

    Raises
    ------
    InputError
        If a side of the tile is less than 1.
    """
    if rows < 1 or cols < 1:
        raise InputError(f"a tile of {rows} x {cols}", remedy="both sides are at least 1")
    wide = -(-a.shape[1] // cols)
    column = a.indices // cols
    per_row = distinct_per_block(column, row_bounds(a, rows), wide)
    seen = np.zeros(wide, dtype=bool)
    seen[column] = True
    referenced = int(np.minimum(cols, a.shape[1] - np.flatnonzero(seen) * cols).sum())
    return BlockCover(a.shape, (rows, cols), int(per_row.sum()), wide * per_row.size, per_row, referenced)


def block_times(
    cover: BlockCover,
    n: int,
    width: int,
    gpu: GpuLimits,
    *,
    macs_per_clk: float,
    efficiency: float,
    task_columns: int = 64,
) -> SparseCost:
    """Return the cost of A times a dense B.

    Parameters
    ----------
    cover : tiles of A.
    n, width : columns of B, bytes of a value.
    macs_per_clk : multiplies of one multiprocessor, on the units that the kernel uses [1/clock].
    efficiency : share of those that it reaches on a full tile.
    task_columns : columns of a tile of C; it has as many rows as a tile of A.
    """
    rows, cols = cover.tile
    strips = -(-n // task_columns)
    factor = imbalance(float(cover.per_row.max(initial=0)), cover.tiles, n, task_columns, gpu.sms)
    slots = cover.tiles * rows * cols * strips * task_columns
    l2_bytes = cover.tiles * strips * cols * (rows + task_columns) * width
    dram = {
        "a": cover.tiles * (rows * cols * width + INDEX_BYTES) + (cover.per_row.size + 1) * INDEX_BYTES,
        "b": cover.referenced * n * width,
        "c": cover.shape[0] * n * width,
    }
    times = {
        "launch": gpu.launch_us * 1e-6,
        "dram": sum(dram.values()) / (gpu.dram_gb_s * 1e9),
        "l2": factor * l2_bytes / (gpu.l2_gb_s * 1e9),
        "shared_memory": 0.0,
        "multiply": factor * slots / (gpu.sms * macs_per_clk * efficiency * gpu.clock_ghz * 1e9),
    }
    return SparseCost(
        times=times,
        busy=max(times["multiply"], times["l2"]),
        dram_bytes=dram,
        l2_bytes=l2_bytes,
        shared_bytes=l2_bytes,
        multiplies=cover.tiles * rows * cols * n,
        imbalance=factor,
    )
