"""Which pattern do the zeros obey? Found from the positions of the stored elements alone.

The names are those of pruning: ``N:M`` (at most N stored elements in every M consecutive columns), ``vector:V``
(aligned runs of V along a row), ``block:RxC``, ``kernel`` (whole kernel slices), ``out_channel`` (rows), ``in_channel``
(groups of columns). A pattern that random zeros of the same density would show as well is no finding, and not reported.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import comb, prod

import numpy as np
import numpy.typing as npt

from sparsim.errors import InputError
from sparsim.matrix import Csr, IntArray

__all__ = ["Structure", "block_fill", "detect", "empty_columns", "empty_rows", "follows_n_of_m"]

N_OF_M = ((1, 2), (2, 4), (4, 8), (1, 4), (2, 8), (1, 8), (1, 16))
BLOCKS = ((16, 16), (8, 8), (4, 4), (2, 2), (1, 16), (1, 8), (1, 4), (1, 2), (16, 1), (8, 1), (4, 1), (2, 1))
EVIDENCE = 3.0
BLOCK_FILL = 0.9
BLOCK_ZEROS = 0.95


@dataclass(frozen=True)
class Structure:
    """A pattern that the zeros of a matrix obey.

    Parameters
    ----------
    pattern : ``dense``, ``N:M``, ``vector:V``, ``block:RxC``, ``kernel``, ``out_channel``, ``in_channel`` or
        ``unstructured``.
    detail : what was counted, for people.
    share : for blocks and vectors the fill of those that are not empty; for channels the share that is empty; for N:M
        and dense 1; for unstructured the share of zeros.
    """

    pattern: str
    detail: str
    share: float


def _rows_of(csr: Csr) -> IntArray:
    return np.repeat(np.arange(csr.shape[0], dtype=np.int64), csr.row_lengths)


def follows_n_of_m(csr: Csr, n: int, m: int) -> bool:
    """Whether every row has at most ``n`` stored elements in each ``m`` consecutive, aligned columns.

    A last group of fewer than ``m`` columns counts as a group.
    """
    if not 1 <= n <= m:
        raise InputError(f"{n}:{m} is no pattern", remedy="N:M needs 1 <= N <= M")
    if csr.nnz <= n:
        return True
    group = _rows_of(csr) * -(-csr.shape[1] // m) + csr.indices // m
    return not bool((group[n:] == group[:-n]).any())


def empty_rows(csr: Csr) -> IntArray:
    """Return the rows without stored elements, int64, ascending."""
    return np.flatnonzero(csr.row_lengths == 0).astype(np.int64)


def empty_columns(csr: Csr) -> IntArray:
    """Return the columns without stored elements, int64, ascending."""
    seen = np.zeros(csr.shape[1], dtype=bool)
    seen[csr.indices] = True
    return np.flatnonzero(~seen).astype(np.int64)


def block_fill(csr: Csr, rows: int, cols: int) -> tuple[int, int, float]:
    """Tile the matrix with ``rows`` x ``cols`` blocks and count those that hold anything.

    Blocks at the lower and right edge may be smaller.

    Returns
    -------
    (blocks that are not empty, all blocks, stored elements / cells of the blocks that are not empty).
    """
    if rows < 1 or cols < 1:
        raise InputError(f"a block of {rows} x {cols}", remedy="both sides are at least 1")
    high, wide = -(-csr.shape[0] // rows), -(-csr.shape[1] // cols)
    block = (_rows_of(csr) // rows) * wide + csr.indices // cols
    if rows > 1:
        block.sort()
    taken = block[np.flatnonzero(np.diff(block, prepend=-1))] if block.size else block
    if not taken.size:
        return 0, high * wide, 0.0
    height = np.minimum(rows, csr.shape[0] - taken // wide * rows)
    width = np.minimum(cols, csr.shape[1] - taken % wide * cols)
    return int(taken.size), high * wide, csr.nnz / int((height * width).sum())


def detect(csr: Csr, kernel: tuple[int, ...] = ()) -> list[Structure]:
    """Return the patterns that the zeros obey, the most specific first.

    Parameters
    ----------
    csr : weights as ``[out, in * kernel]``.
    kernel : spatial size of the kernel, () for a linear layer.

    Notes
    -----
    N:M is reported if it holds without exception and unstructured zeros with the same number of elements in each row
    would be expected to break it at least three times (so chance explains it with probability below about 5 %).
    Blocks are reported if those that are not empty are at least 90 % full and hold at most 5 % of the zeros that empty
    rows and columns leave over.
    """
    cells = csr.shape[0] * csr.shape[1]
    zeros = cells - csr.nnz
    if not zeros:
        return [Structure("dense", f"all {cells} elements are stored", 1.0)]
    channels = _channels(csr, kernel)
    if not csr.nnz:
        return [*channels, Structure("unstructured", "no element is stored", 1.0)]
    rows, cols = csr.shape[0] - empty_rows(csr).size, csr.shape[1] - empty_columns(csr).size
    left = rows * cols - csr.nnz
    if not left and channels:
        return channels
    found = _blocks(csr, kernel, rows * cols) + _n_of_m(csr)
    if found:
        return found + channels
    return [*channels, Structure("unstructured", f"{zeros} of {cells} elements are zero", zeros / cells)]


def _channels(csr: Csr, kernel: tuple[int, ...]) -> list[Structure]:
    area = prod(kernel)
    if csr.shape[1] % area:
        raise InputError(f"{csr.shape[1]} columns are no multiple of kernel {kernel}", remedy="give the layer's kernel")
    found = []
    rows = int(empty_rows(csr).size)
    if rows:
        found.append(Structure("out_channel", f"{rows} of {csr.shape[0]} rows are empty", rows / csr.shape[0]))
    wide = csr.shape[1] // area
    seen = np.zeros(wide, dtype=bool)
    seen[csr.indices // area] = True
    empty = int(np.count_nonzero(~seen))
    if empty:
        found.append(Structure("in_channel", f"{empty} of {wide} input channels are empty", empty / wide))
    return found


def _n_of_m(csr: Csr) -> list[Structure]:
    lengths, counts = np.unique(csr.row_lengths, return_counts=True)
    found = []
    for n, m in sorted(N_OF_M, key=lambda item: (Fraction(*item), item[1])):
        broken = _expected_breaks(lengths / csr.shape[1], counts, n, m) * (csr.shape[1] // m)
        if broken >= EVIDENCE and follows_n_of_m(csr, n, m):
            detail = f"holds in every group; {broken:.0f} groups would break it by chance"
            found.append(Structure(f"{n}:{m}", detail, 1.0))
    return found


def _expected_breaks(density: npt.NDArray[np.float64], counts: npt.NDArray[np.int64], n: int, m: int) -> float:
    above = sum(comb(m, k) * density**k * (1 - density) ** (m - k) for k in range(n + 1, m + 1))
    return float((above * counts).sum())


def _blocks(csr: Csr, kernel: tuple[int, ...], reachable: int) -> list[Structure]:
    """Report the largest blocks that hold; ``reachable`` counts the cells outside empty rows and columns."""
    area = prod(kernel)
    candidates = [(1, area), *BLOCKS] if area > 1 else list(BLOCKS)
    found: list[Structure] = []
    taken: list[tuple[int, int, float]] = []
    passed: dict[int, bool] = {}
    for rows, cols in candidates:
        if any(r % rows == 0 and c % cols == 0 for r, c, _ in taken) or rows > csr.shape[0] or cols > csr.shape[1]:
            continue
        if rows > 1 and cols > 1 and not passed.setdefault(cols, block_fill(csr, 1, cols)[2] >= BLOCK_FILL):
            continue  # a full block has full rows, and those are counted without sorting
        filled, total, fill = block_fill(csr, rows, cols)
        inside = csr.nnz / fill - csr.nnz
        if any(r >= rows and c >= cols and fill <= other for r, c, other in taken):
            continue  # cut from a larger pattern that does not quite divide
        if fill >= BLOCK_FILL and inside <= (1 - BLOCK_ZEROS) * (reachable - csr.nnz):
            taken.append((rows, cols, fill))
            is_kernel = (rows, cols) == (1, area) and area > 1
            pattern = "kernel" if is_kernel else f"vector:{cols}" if rows == 1 else f"block:{rows}x{cols}"
            found.append(Structure(pattern, f"{filled} of {total} blocks {rows}x{cols}, {fill:.1%} full", fill))
    return found
