"""Unstructured zeros on a GPU: a CSR matrix times a dense one, on CUDA cores.

Four causes add up. The call passes first. Operands and result cross the DRAM bus, and nothing hides that: rows of B are
wanted at random. Each block of rows of A fetches every row of B that it names once from L2. Every stored element then
reads its row of B once more, from the multiprocessor's own memory, and that decides unless nearly all is zero: one
value comes in for each multiply, where a dense kernel keeps values in registers. So unstructured zeros pay against
dense CUDA cores above roughly three quarters of zeros, and against tensor cores only where almost nothing is left.

A warp lies along the columns of B. Where these are fewer than its lanes, it lies along the elements of a row too, as
kernels for a matrix times a vector do (Bell and Garland 2009, the vector kernel), and a row fills its lanes up.

A kernel that spends its instructions on finding elements is bound by those instead: its multiplies a clock and
multiprocessor do not depend on the width of a value.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import bdtrc

from sparsim.matrix import Csr, IntArray

__all__ = [
    "CsrKernel",
    "CsrWork",
    "GpuLimits",
    "SparseCost",
    "csr_times",
    "csr_work",
    "distinct_per_block",
    "expected_work",
    "imbalance",
    "row_bounds",
]

INDEX_BYTES = 4
LANES = 32
PARTS = tuple(1 << power for power in range(LANES.bit_length()))


class GpuLimits(NamedTuple):
    """What bounds a kernel on CUDA cores.

    Parameters
    ----------
    sms : streaming multiprocessors.
    clock_ghz : their clock [GHz].
    shared_bytes_per_clk : of L1 and shared memory of one multiprocessor [bytes/clock].
    l2_gb_s, dram_gb_s : bandwidths of the chip [GB/s].
    launch_us : from the call to the first block [us].
    fma_per_clk : fp32 multiply-accumulates of one multiprocessor [1/clock].
    """

    sms: int
    clock_ghz: float
    shared_bytes_per_clk: float
    l2_gb_s: float
    dram_gb_s: float
    launch_us: float
    fma_per_clk: float


class CsrKernel(NamedTuple):
    """How a library does it.

    Parameters
    ----------
    block_rows : rows of A that share one fetch of a row of B from L2.
    task_rows, task_columns : part of C that is never divided among multiprocessors.
    shared_share : share of the bandwidth of shared memory that reads of B reach; 0 if they are no limit.
    macs_per_clk : most multiplies of one multiprocessor by the kernel's instructions [1/clock]; 0 if they are no limit.
    """

    block_rows: int
    task_rows: int
    task_columns: int
    shared_share: float
    macs_per_clk: float


class CsrWork(NamedTuple):
    """What the positions of A's elements ask for.

    Parameters
    ----------
    rows, nnz : of A.
    filled : its elements if those of every row are filled up to a multiple of 1, 2, 4, 8, 16 and 32.
    fetched : distinct columns of each block of rows, summed: rows of B fetched from L2.
    referenced : distinct columns of A: rows of B that leave DRAM.
    heaviest : elements of the fullest task.
    """

    rows: int
    nnz: int
    filled: tuple[int, ...]
    fetched: int
    referenced: int
    heaviest: int


class SparseCost(NamedTuple):
    """What a sparse kernel costs.

    Parameters
    ----------
    times : seconds of ``launch``, ``dram``, ``l2``, ``shared_memory`` and ``multiply``, each by itself; the last three
        with the wait for the fullest multiprocessor.
    busy : seconds of the multiprocessors, of those three as far as they do not overlap.
    dram_bytes : payload of A (with its indices), B and C.
    l2_bytes, shared_bytes : read from L2, read from L1 or shared memory.
    multiplies : performed, with those of zeros in a tile.
    imbalance : fullest multiprocessor over the mean.
    """

    times: dict[str, float]
    busy: float
    dram_bytes: dict[str, int]
    l2_bytes: int
    shared_bytes: int
    multiplies: int
    imbalance: float

    @property
    def seconds(self) -> float:
        """From the call to the last byte: launch, DRAM and multiprocessors in turn."""
        return self.times["launch"] + self.times["dram"] + self.busy


def distinct_per_block(values: npt.NDArray[Any], bounds: IntArray, size: int) -> IntArray:
    """Return how many different values each part of an array holds, int64.

    Parameters
    ----------
    values : whole numbers from 0 to ``size`` - 1.
    bounds : where the parts begin and where the last one ends.
    """
    last = np.zeros(size, dtype=np.int32)
    counts = np.zeros(bounds.size - 1, dtype=np.int64)
    for block, (start, stop) in enumerate(zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)):
        part = values[start:stop]
        place = np.arange(part.size, dtype=np.int32)
        last[part] = place  # of equal values one place survives
        counts[block] = np.count_nonzero(last[part] == place)
    return counts


def row_bounds(a: Csr, rows: int) -> IntArray:
    """Return where each block of ``rows`` rows begins among the elements, and where the last one ends."""
    return np.append(a.indptr[:-1:rows], a.indptr[-1])


def csr_work(a: Csr, kernel: CsrKernel) -> CsrWork:
    """Count what ``kernel`` fetches for ``a``."""
    fetched = distinct_per_block(a.indices, row_bounds(a, kernel.block_rows), a.shape[1])
    seen = np.zeros(a.shape[1], dtype=bool)
    seen[a.indices] = True
    heaviest = int(np.diff(row_bounds(a, kernel.task_rows)).max(initial=0))
    lengths = a.row_lengths
    filled = tuple(int((-(-lengths // part)).sum()) * part for part in PARTS)
    return CsrWork(a.shape[0], a.nnz, filled, int(fetched.sum()), int(np.count_nonzero(seen)), heaviest)


def expected_work(shape: tuple[int, int], density: float, kernel: CsrKernel) -> CsrWork:
    """Return what independent random zeros ask for on average, without drawing them; tasks are taken for equal."""
    rows, cols = shape
    blocks, rest = divmod(rows, kernel.block_rows)
    seen = blocks * (1 - (1 - density) ** kernel.block_rows) + (1 - (1 - density) ** rest)
    nnz = round(rows * cols * density)
    heaviest = -(-nnz * min(kernel.task_rows, rows) // max(rows, 1))
    filled = (round(rows * part * bdtrc(np.arange(0, cols, part), cols, density).sum()) for part in PARTS)
    return CsrWork(rows, nnz, tuple(filled), round(cols * seen), round(cols * (1 - (1 - density) ** rows)), heaviest)


def imbalance(heaviest: float, total: float, columns: int, task_columns: int, sms: int) -> float:
    """Return the load of the fullest multiprocessor over the mean, tasks packed as well as the largest one allows.

    Parameters
    ----------
    heaviest, total : work of the heaviest task and of all tasks in one strip of ``task_columns`` columns.
    columns : of C; strips of equal work.
    """
    strips = -(-columns // task_columns)
    return max(1.0, heaviest * sms / (total * strips)) if total and strips else 1.0


def csr_times(work: CsrWork, n: int, width: int, gpu: GpuLimits, kernel: CsrKernel) -> SparseCost:
    """Return the cost of A times a dense B.

    Parameters
    ----------
    work : of A, counted with the same kernel.
    n : columns of B. So many lanes of a warp as it takes, a power of two at least, work on them, busy or not; where
        that leaves some, they take further elements of the row.
    width : bytes of a value.
    """
    wide = -(-n // LANES) * LANES if n > LANES else (n > 0) << max(n - 1, 0).bit_length()
    cycle = 1 / (gpu.sms * gpu.clock_ghz * 1e9)
    slots = work.filled[PARTS.index(max(LANES // max(wide, 1), 1))] * wide
    factor = imbalance(work.heaviest, work.nnz, n, kernel.task_columns, gpu.sms)
    rate = min(gpu.fma_per_clk, kernel.macs_per_clk or gpu.fma_per_clk)
    dram = {
        "a": work.nnz * (width + INDEX_BYTES) + (work.rows + 1) * INDEX_BYTES,
        "b": work.referenced * n * width,
        "c": work.rows * n * width,
    }
    shared_rate = kernel.shared_share * gpu.shared_bytes_per_clk
    times = {
        "launch": gpu.launch_us * 1e-6,
        "dram": sum(dram.values()) / (gpu.dram_gb_s * 1e9),
        "l2": factor * work.fetched * n * width / (gpu.l2_gb_s * 1e9),
        "shared_memory": factor * slots * width / shared_rate * cycle if shared_rate else 0.0,
        "multiply": factor * slots / rate * cycle,
    }
    return SparseCost(
        times=times,
        busy=max(times["multiply"], times["shared_memory"] + times["l2"]),
        dram_bytes=dram,
        l2_bytes=work.fetched * n * width,
        shared_bytes=slots * width,
        multiplies=work.nnz * n,
        imbalance=factor,
    )
