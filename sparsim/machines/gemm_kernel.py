"""A GPU library's matrix-product kernel in closed form: tiles, waves, and the roof that its k loop runs into.

Tiles of C are dealt out in waves. A wave pays a prologue (pipelines fill and drain), its k steps, and the store of its
tiles; persistent kernels store a tile behind the k steps of the next one, so that only the last store shows. A step
takes as long as the slowest of three: the multipliers, the shared memory that feeds them (operands come in once and are
read once for each part of the tile that a warp computes), and L2, which feeds all multiprocessors. 2:4 halves the
multiplies and nearly halves A, but B passes at full width, so shared memory is what is left of the gain where
multipliers are fast (Hopper) and a good part of it elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from sparsim.machines.gpu import GROUPS_OF, KernelConfig, TensorCoreConfig, parse_tiles
from sparsim.machines.tiling import Product
from sparsim.workload import DataType

__all__ = ["Kernel", "best_kernel", "compressed_bytes", "padded", "stored_share"]

MMA_ROWS, DENSE_COLUMNS, DENSE_K_BYTES = 16, 8, 32
RESIDENT_TILES = 16
SPLITS = range(2, 9)
ACCUMULATOR_BYTES = 4
Work = Sequence[tuple[Product, int]]


class Kernel(NamedTuple):
    """One kernel for all products of a workload: seconds by cause, and what it moves.

    Parameters
    ----------
    tile, split, tiles : shape of a tile of C, in how many parts its k loop is cut, number of tiles.
    waves, rounds : prologues that a multiprocessor pays, tiles it has to do. It holds as many small tiles at a time as
        fit in the place of a large one; they share a prologue.
    prologue_s, store_s, loop_s : fixed cost of the waves, their stores of C as far as they show, all k steps.
    reduction_s : a second kernel that adds the sums of a split k loop.
    roofs_s : seconds of the k steps if multipliers, shared memory or L2 were the only limit.
    l2_bytes, shared_bytes : read from L2; written to and read from shared memory.
    slots : multiplies that the tiles have room for.
    power_share : energy of a step against a dense step of the same shape.
    """

    tile: tuple[int, int]
    split: int
    tiles: int
    waves: int
    rounds: int
    prologue_s: float
    store_s: float
    loop_s: float
    reduction_s: float
    roofs_s: dict[str, float]
    l2_bytes: float
    shared_bytes: float
    slots: float
    power_share: float

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.prologue_s + self.store_s + self.loop_s + self.reduction_s


def _bits(dtype: DataType) -> int:
    """Return metadata bits of one kept value: 2 name one of four places; tf32 takes 4 for one of two."""
    return 4 if dtype is DataType.TF32 else 2


def stored_share(dtype: DataType) -> float:
    """Return compressed over dense bytes: 0.5625 at 16 bits and for tf32, 0.625 at 8 bits."""
    kept, of = GROUPS_OF[dtype]
    return kept / of * (1 + _bits(dtype) / (8 * dtype.bytes))


def compressed_bytes(m: int, k: int, dtype: DataType) -> tuple[int, int]:
    """Return bytes of the kept values of an m x k matrix, and of their positions."""
    kept, of = GROUPS_OF[dtype]
    slots = m * (k // of * kept + min(kept, k % of))
    return slots * dtype.bytes, -(-slots * _bits(dtype) // 8)


def padded(gpu: TensorCoreConfig, product: Product, dtype: DataType, sparse: bool) -> tuple[int, int, int]:
    """Return m, n, k as the instructions see them."""
    columns = gpu.sparse_columns if sparse else DENSE_COLUMNS
    depth = DENSE_K_BYTES // dtype.bytes * (2 if sparse else 1)
    m, n, k = (-(-size // unit) * unit for size, unit in zip(product[:3], (MMA_ROWS, columns, depth), strict=True))
    return m, n, k


def best_kernel(gpu: TensorCoreConfig, work: Work, dtype: DataType, sparse: bool) -> Kernel:
    """Return the fastest kernel; all products of a workload go in one launch.

    Smaller tiles, and k loops shared by several multiprocessors, are tried where the large ones leave some idle.
    """
    settings = gpu.sparse if sparse else gpu.dense
    sizes = [(padded(gpu, product, dtype, sparse), count) for product, count in work]
    kernels = [_kernel(gpu, settings, sizes, dtype, sparse, tile) for tile in parse_tiles(settings.tiles)]
    if max(kernel.tiles for kernel in kernels) < gpu.sms:
        kernels += [_kernel(gpu, settings, sizes, dtype, sparse, tile) for tile in parse_tiles(settings.small_tiles)]
        deepest = max((mnk[2] for mnk, _ in sizes), default=0)
        splits = [split for split in SPLITS if settings.split_k and split * DENSE_K_BYTES <= deepest * dtype.bytes]
        kernels += [
            _kernel(gpu, settings, sizes, dtype, sparse, whole.tile, split)
            for whole in list(kernels)
            for split in splits
            if whole.tiles < gpu.sms
        ]
    return min(kernels, key=lambda kernel: kernel.seconds)


def _kernel(
    gpu: TensorCoreConfig,
    settings: KernelConfig,
    sizes: Sequence[tuple[tuple[int, int, int], int]],
    dtype: DataType,
    sparse: bool,
    tile: tuple[int, int],
    split: int = 1,
) -> Kernel:
    rows, cols = tile
    if settings.narrow and sizes:
        rows, cols = min(rows, max(mnk[0] for mnk, _ in sizes)), min(cols, max(mnk[1] for mnk, _ in sizes))
    width, ratio = dtype.bytes, stored_share(dtype) if sparse else 1.0
    tiles, steps, cells, operands = 0, 0, 0, 0.0
    for (m, n, k), count in sizes:
        here = count * -(-m // rows) * -(-n // cols)
        tiles, steps, cells = tiles + here, steps + here * k, cells + count * m * n
        operands += count * (m * k * ratio + k * n)
    resident = min(RESIDENT_TILES, max(1, math.prod(parse_tiles(settings.tiles)[0]) // (rows * cols)))
    rounds, waves = -(-tiles * split // gpu.sms), -(-tiles * split // (gpu.sms * resident))
    roofs = _step_roofs(gpu, (rows, cols), dtype, sparse, min(tiles * split, gpu.sms))
    depth = rounds * (steps / max(tiles, 1) / split)
    inside = max(roofs["multiply"], roofs["shared_memory"]) / settings.efficiency
    fits = (operands + cells) * width <= gpu.l2_bytes
    store_gb_s = gpu.l2_gb_s if fits else gpu.dram.gb_s
    partial_bytes = split * ACCUMULATOR_BYTES * cells
    fed, dense_fed = _fed(gpu, (rows, cols), ratio), _fed(gpu, (rows, cols), 1.0)
    share = gpu.power.operand_share
    loop_s = depth * max(inside, roofs["l2"])
    return Kernel(
        tile=(rows, cols),
        split=split,
        tiles=tiles,
        waves=waves,
        rounds=rounds,
        prologue_s=waves * settings.prologue_us * 1e-6,
        store_s=_shown(rounds, rows * cols * width * gpu.sms / (store_gb_s * 1e9), loop_s, settings.hidden_store),
        loop_s=loop_s,
        reduction_s=gpu.launch_us * 1e-6 + 2 * partial_bytes / (gpu.l2_gb_s * 1e9) if split > 1 else 0.0,
        roofs_s={name: depth * seconds for name, seconds in roofs.items()},
        l2_bytes=steps * width * (rows * ratio + cols) + partial_bytes * (split > 1),
        shared_bytes=steps * width * fed,
        slots=steps * rows * cols / (2 if sparse else 1),
        power_share=(1 - share) / 2 + share * fed / dense_fed if sparse else 1.0,
    )


def _shown(rounds: int, store_s: float, loop_s: float, hidden: bool) -> float:
    """Return the seconds of all stores, without what hides behind the k steps of other tiles."""
    last = min(rounds, 1) * store_s
    behind = (rounds * store_s) - last
    return last + (max(behind - loop_s, 0.0) if hidden else behind)


def _fed(gpu: TensorCoreConfig, tile: tuple[int, int], ratio: float) -> float:
    """Return elements that pass shared memory for one step of k: written once, read once a warp tile."""
    rows, cols = tile
    return rows * ratio * (1 + max(1, cols / gpu.warp_cols)) + cols * (1 + max(1, rows / gpu.warp_rows))


def _step_roofs(
    gpu: TensorCoreConfig, tile: tuple[int, int], dtype: DataType, sparse: bool, active: int
) -> dict[str, float]:
    """Return the seconds of one step of k of one tile by each limit alone, ``active`` multiprocessors at work."""
    (rows, cols), width = tile, dtype.bytes
    ratio = stored_share(dtype) if sparse else 1.0
    per_sm = gpu.peak(dtype) / gpu.sms * (2 if sparse else 1)
    small, large = sorted((rows * ratio, float(cols)))
    return {
        "multiply": rows * cols / per_sm,
        "shared_memory": width * _fed(gpu, tile, ratio) / (gpu.shared_bytes_per_clk * gpu.clock_ghz * 1e9),
        "l2": width * (small + large / gpu.multicast) * active / (gpu.l2_gb_s * 1e9),
    }
