"""Covers of tiles against slices of the dense matrix, seconds by hand, and thin blocks that touch nearly every tile."""

from __future__ import annotations

import numpy as np
import pytest
from checks import refused
from hypothesis import given
from hypothesis import strategies as st
from strategies import csr_matrices

from sparsim.machines.gpu_block import BlockCover, block_cover, block_times
from sparsim.machines.gpu_csr import GpuLimits
from sparsim.matrix import Csr
from sparsim.pruning import mask
from sparsim.structure import block_fill

matrices = csr_matrices().map(Csr.from_scipy)
GPU = GpuLimits(
    sms=4, clock_ghz=1.0, shared_bytes_per_clk=128.0, l2_gb_s=1000.0, dram_gb_s=500.0, launch_us=2.0, fma_per_clk=64.0
)


def naive_cover(a: Csr, rows: int, cols: int):
    dense = a.to_dense()
    high, wide = -(-a.shape[0] // rows), -(-a.shape[1] // cols)
    grid = np.zeros((high, wide), dtype=bool)
    for row in range(high):
        for col in range(wide):
            grid[row, col] = dense[row * rows : (row + 1) * rows, col * cols : (col + 1) * cols].any()
    return grid


@given(matrices, st.integers(1, 7), st.integers(1, 7))
def test_cover_against_slices(a, rows, cols):
    cover, grid = block_cover(a, rows, cols), naive_cover(a, rows, cols)
    assert (cover.tiles, cover.cells) == (grid.sum(), grid.size)
    assert cover.per_row.tolist() == grid.sum(axis=1).tolist()
    widths = np.diff(np.append(np.arange(0, a.shape[1], cols), a.shape[1]))
    assert cover.referenced == widths[grid.any(axis=0)].sum()
    assert (cover.tiles, cover.cells) == block_fill(a, rows, cols)[:2]


@given(matrices)
def test_single_cells_cover_the_elements(a):
    assert block_cover(a, 1, 1).tiles == a.nnz


def test_a_tile_without_a_side_is_refused():
    refused(lambda: block_cover(Csr.from_dense(np.eye(2)), 0, 8), "a tile of 0 x 8", "at least 1")


def test_seconds_by_hand():
    """Two of four tiles of 32 x 8, in one row of tiles: half of the work on one multiprocessor of four."""
    cover = BlockCover((64, 16), (32, 8), 2, 4, np.array([2, 0]), 16)
    cost = block_times(cover, 64, 4, GPU, macs_per_clk=64, efficiency=0.5)
    assert cover.share == 0.5
    assert cost.imbalance == 4.0
    assert cost.multiplies == 2 * 32 * 8 * 64
    assert cost.dram_bytes == {"a": 2 * (32 * 8 * 4 + 4) + 3 * 4, "b": 16 * 64 * 4, "c": 64 * 64 * 4}
    assert cost.l2_bytes == 2 * 8 * (32 + 64) * 4
    assert cost.times["multiply"] == pytest.approx(4 * 2 * 32 * 8 * 64 / (4 * 64 * 0.5 * 1e9))
    assert cost.times["l2"] == pytest.approx(4 * cost.l2_bytes / 1000e9)
    assert cost.busy == max(cost.times["multiply"], cost.times["l2"])
    assert cost.seconds == pytest.approx(2e-6 + sum(cost.dram_bytes.values()) / 500e9 + cost.busy)


def test_columns_of_c_are_filled_up():
    cover = BlockCover((32, 8), (32, 8), 1, 1, np.array([1]), 8)
    one, full = (block_times(cover, n, 4, GPU, macs_per_clk=64, efficiency=1.0) for n in (1, 64))
    assert one.busy == full.busy
    assert one.seconds < full.seconds


@pytest.mark.parametrize(("granularity", "exponent"), [("block:32x8", 1), ("vector:32x1", 8), ("vector:8", 32)])
def test_thin_blocks_touch_more_tiles(granularity, exponent):
    """Of random blocks as wide or as high as the tile, 1 - (1 - d)^parts of the tiles hold one."""
    scores = np.random.default_rng(0).random((512, 512))
    a = Csr.from_dense(mask(scores, granularity, 512 * 512 // 20))
    assert block_cover(a, 32, 8).share == pytest.approx(1 - 0.95**exponent, rel=0.06)


def test_nothing_to_do():
    cover = block_cover(Csr.from_dense(np.zeros((40, 9))), 32, 8)
    cost = block_times(cover, 5, 2, GPU, macs_per_clk=64, efficiency=0.5)
    assert (cover.tiles, cover.cells, cost.busy, cost.multiplies) == (0, 4, 0.0, 0)
    assert block_cover(Csr.build((0, 9), [0], []), 32, 8).share == 0.0
