"""Which pattern do the zeros obey? Found from the positions of the stored elements alone.

The names are those of pruning: ``N:M`` (at most N stored elements in every M consecutive columns), ``V:N:M`` (that, and
all in 4 columns of every V rows), ``vector:V`` (aligned runs of V along a row), ``vector:Vx1`` (along a column),
``block:RxC``, ``kernel`` (whole kernel slices), ``kernel_pattern:P`` (P different masks of equally many elements),
``bank:B`` and ``row_balanced`` (as many elements in every part of every row), ``head:D`` (rows or columns in runs of
D), ``out_channel`` (rows), ``in_channel`` (groups of columns). A pattern that random zeros of the same density would
show as well is no finding, and not reported; empty rows and channels are counted whatever emptied them.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import comb, inf, lgamma, log, log1p, prod

import numpy as np
import numpy.typing as npt

from sparsim.errors import InputError
from sparsim.matrix import Csr, IntArray
from sparsim.n_of_m import VNM_COLUMNS, VNM_KEPT, VNM_MOST, follows_n_of_m, vnm_width

__all__ = [
    "Structure",
    "bank_bounds",
    "block_fill",
    "detect",
    "empty_columns",
    "empty_rows",
]

N_OF_M = ((1, 2), (2, 4), (4, 8), (1, 4), (2, 8), (1, 8), (1, 16))
VNM_HEIGHTS = (128, 64, 32, 16)
HEADS = (256, 192, 160, 128, 112, 96, 80, 72, 64, 48, 40, 32, 24, 16, 8)
BLOCKS = (
    (32, 32),
    (16, 16),
    (8, 8),
    (4, 4),
    (2, 2),
    (1, 32),
    (1, 16),
    (1, 8),
    (1, 4),
    (1, 2),
    (32, 1),
    (16, 1),
    (8, 1),
    (4, 1),
    (2, 1),
)
BLOCK_FILL = 0.9
BLOCK_ZEROS = 0.95
CHANCE = log(1e-6)
EVIDENCE = -CHANCE


@dataclass(frozen=True)
class Structure:
    """A pattern that the zeros of a matrix obey.

    Parameters
    ----------
    pattern : ``dense``, ``N:M``, ``V:N:M``, ``vector:V``, ``vector:Vx1``, ``block:RxC``, ``kernel``,
        ``kernel_pattern:P``, ``bank:B``, ``row_balanced``, ``head:D``, ``out_channel``, ``in_channel`` or
        ``unstructured``.
    detail : what was counted, for people.
    share : for blocks and vectors the fill of those that are not empty; for heads and channels the share that is empty;
        for unstructured the share of zeros; otherwise 1.
    """

    pattern: str
    detail: str
    share: float


def _rows_of(csr: Csr) -> IntArray:
    return np.repeat(np.arange(csr.shape[0], dtype=np.int64), csr.row_lengths)


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


def bank_bounds(columns: int, banks: int) -> IntArray:
    """Return where ``banks`` nearly equal parts of a row begin, and where the last one ends, int64.

    Where ``columns`` is no multiple of ``banks``, the first ``columns mod banks`` are one wider; there are at most as
    many as columns.
    """
    banks = max(1, min(banks, columns))
    number = np.arange(banks + 1, dtype=np.int64)
    return number * (columns // banks) + np.minimum(number, columns % banks)


def detect(csr: Csr, kernel: tuple[int, ...] = ()) -> list[Structure]:
    """Return the patterns that the zeros obey, the most specific first.

    Parameters
    ----------
    csr : weights as ``[out, in * kernel]``.
    kernel : spatial size of the kernel, () for a linear layer.

    Notes
    -----
    N:M is reported if it holds without exception and unstructured zeros with the same number of elements in each row
    would be expected to break it at least fourteen times (so chance explains it less than once in a million).
    V:N:M is reported if it holds without exception for M above 4 (the M that leaves the fewest columns, then the most
    rows of those that kernels take) and random zeros would fill as few columns in every block less than once in a
    million.
    Blocks are reported if those that are not empty are at least 90 % full and hold at most 5 % of the zeros that empty
    rows and columns leave over; vectors and kernels are blocks of one row or one column. Random zeros would leave as
    many blocks full, or as many empty, less than once in a million.
    Kernel patterns, balanced rows and banks, and heads are reported if they hold without exception (kernels and rows
    that are empty aside) and the odds of random zeros are below one in a million: of as many random masks of a kernel
    being so few; of every row having the count of the first, for weights drawn at the same density; of the elements of
    every row falling evenly into its banks; of as many empty rows lining up in runs. A bank is the finest that holds;
    a head the largest of the usual sizes, so that heads that went in neighbouring pairs look like one of twice the
    size. What holds within blocks is no finding about rows, and is not looked for.
    """
    cells = csr.shape[0] * csr.shape[1]
    zeros = cells - csr.nnz
    if not zeros:
        return [Structure("dense", f"all {cells} elements are stored", 1.0)]
    channels = _channels(csr, kernel)
    if not csr.nnz:
        return [*channels, Structure("unstructured", "no element is stored", 1.0)]
    rows, cols = csr.shape[0] - empty_rows(csr).size, csr.shape[1] - empty_columns(csr).size
    if rows * cols == csr.nnz and channels:
        return _heads(csr, kernel) + channels
    blocks = _blocks(csr, kernel, rows * cols)
    found = blocks + _kernel_patterns(csr, prod(kernel)) + ([] if blocks else _vnm(csr)) + _n_of_m(csr)
    if not blocks:
        found += _balanced(csr, cols)
        channels = _heads(csr, kernel) + channels
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


def _vnm(csr: Csr) -> list[Structure]:
    filled = np.setdiff1d(np.arange(csr.shape[1]), empty_columns(csr), assume_unique=True)
    rows = int(np.count_nonzero(csr.row_lengths))
    density = csr.nnz / (rows * filled.size)

    def is_evident(v: int, m: int) -> bool:
        widths, counts = np.unique(np.bincount(filled // m), return_counts=True)
        each = (_log_at_most(VNM_COLUMNS, int(width), 1 - (1 - density) ** v) for width in widths)
        return rows // v * sum(int(count) * odd for count, odd in zip(counts, each, strict=True)) <= CHANCE

    heights = [v for v in VNM_HEIGHTS if v <= rows and is_evident(v, VNM_MOST)]
    for m, v in sorted(((vnm_width(csr, v) or 0, v) for v in heights), reverse=True):
        if m > VNM_COLUMNS and is_evident(v, m):
            detail = f"{VNM_COLUMNS} columns or fewer in each block of {v} x {m}, {VNM_KEPT} elements or fewer of a row"
            return [Structure(f"{v}:{VNM_KEPT}:{m}", detail, 1.0)]
    return []


def _log_at_most(k: int, n: int, p: float) -> float:
    """Return the log of the probability of at most ``k`` successes in ``n``."""
    if n <= k:
        return 0.0
    odds = sum(comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k + 1))
    return log(odds) if odds else -inf


def _expected_breaks(density: npt.NDArray[np.float64], counts: npt.NDArray[np.int64], n: int, m: int) -> float:
    above = sum(comb(m, k) * density**k * (1 - density) ** (m - k) for k in range(n + 1, m + 1))
    return float((above * counts).sum())


def _blocks(csr: Csr, kernel: tuple[int, ...], reachable: int) -> list[Structure]:
    """Report the largest blocks that hold; ``reachable`` counts the cells outside empty rows and columns."""
    area = prod(kernel)
    candidates = [(1, area), *BLOCKS] if area > 1 else list(BLOCKS)
    most = min((1 / BLOCK_FILL - 1) * csr.nnz, (1 - BLOCK_ZEROS) * (reachable - csr.nnz))
    tallest = max(rows for rows, _ in candidates)
    part = csr.rows_slice(0, min(csr.shape[0], -(-csr.shape[0] // (4 * tallest)) * tallest))
    found: list[Structure] = []
    taken: list[tuple[int, int, float]] = []
    for rows, cols in candidates:
        if any(r % rows == 0 and c % cols == 0 for r, c, _ in taken) or rows > csr.shape[0] or cols > csr.shape[1]:
            continue
        if _zeros_inside(part, block_fill(part, rows, cols)[2]) > most:
            continue  # a quarter of the rows shows it, at a quarter of the cost
        filled, total, fill = block_fill(csr, rows, cols)
        if any(r >= rows and c >= cols and fill <= other for r, c, other in taken):
            continue  # cut from a larger pattern that does not quite divide
        inside = _zeros_inside(csr, fill)
        if inside <= most and _is_evident(csr.nnz, reachable, rows * cols, filled, inside):
            taken.append((rows, cols, fill))
            is_kernel = (rows, cols) == (1, area) and area > 1
            vector = f"vector:{cols}" if rows == 1 else f"vector:{rows}x1" if cols == 1 else ""
            pattern = "kernel" if is_kernel else vector or f"block:{rows}x{cols}"
            found.append(Structure(pattern, f"{filled} of {total} blocks {rows}x{cols}, {fill:.1%} full", fill))
    return found


def _zeros_inside(csr: Csr, fill: float) -> float:
    """Return the zeros in blocks that are not empty."""
    return csr.nnz / fill - csr.nnz if fill else 0.0


def _is_evident(nnz: int, reachable: int, size: int, filled: int, inside: float) -> bool:
    """Whether random zeros would hardly leave as many blocks full, or as many empty."""
    blocks, density = reachable / size, nnz / reachable
    full, empty = filled - inside, (reachable - nnz - inside) / size
    odds = min(_log_tail(full, blocks * density**size), _log_tail(empty, blocks * (1 - density) ** size))
    return odds <= CHANCE


def _log_tail(seen: float, expected: float) -> float:
    """Return Chernoff's bound on the log of the probability of ``seen`` or more, ``expected`` on average."""
    if seen <= expected:
        return 0.0
    return seen - expected + seen * log(expected / seen) if expected else -inf


def _kernel_patterns(csr: Csr, area: int) -> list[Structure]:
    if area == 1:
        return []
    kernel_of = _rows_of(csr) * (csr.shape[1] // area) + csr.indices // area
    starts = np.flatnonzero(np.diff(kernel_of, prepend=-1))
    counts = np.diff(starts, append=csr.nnz)
    each = int(counts[0])
    if each == area or (counts != each).any():
        return []
    positions = (csr.indices % area).reshape(-1, each)
    masks = len(np.unique(positions, axis=0))
    possible = _log_comb(area, each)
    odds = masks * possible - lgamma(masks + 1) + counts.size * (log(masks) - possible)
    if odds > CHANCE:
        return []
    detail = f"each of {counts.size} kernels has {each} of {area} elements, by one of {masks} masks"
    return [Structure(f"kernel_pattern:{masks}", detail, 1.0)]


def _balanced(csr: Csr, columns: int) -> list[Structure]:
    """Report the finest banks that hold, else balanced rows; ``columns`` counts those that are not empty."""
    lengths = csr.row_lengths[csr.row_lengths > 0]
    each = int(lengths[0])
    if each == columns or (lengths != each).any():
        return []
    density = csr.nnz / (csr.shape[0] * columns)
    alike = _log_comb(columns, each) + each * log(density) + (columns - each) * log1p(-density)
    alike -= log1p(-((1 - density) ** columns))  # an empty row is none of those compared
    for banks in (banks for banks in range(each, 1, -1) if each % banks == 0):
        bounds = bank_bounds(csr.shape[1], banks)
        widths = np.diff(bounds)
        inside = each // banks
        if int(widths[-1]) <= inside or not _fills_banks(csr, bounds, inside):
            continue
        odds = sum(_log_comb(int(width), inside) for width in widths) - _log_comb(csr.shape[1], each)
        if lengths.size * odds <= CHANCE:
            return [Structure(f"bank:{banks}", f"{inside} elements in each of {banks} banks of every row", 1.0)]
    if (lengths.size - 1) * alike > CHANCE:
        return []
    return [Structure("row_balanced", f"{each} elements in each of {lengths.size} rows", 1.0)]


def _fills_banks(csr: Csr, bounds: IntArray, inside: int) -> bool:
    """Whether every row that holds anything has ``inside`` elements in each bank, which ascending columns show."""
    per_bank = csr.indices.reshape(-1, bounds.size - 1, inside)
    for part in (per_bank[:8], per_bank):  # most rows of no such matrix agree, and the first few say so
        if (part[..., 0] < bounds[:-1]).any() or (part[..., -1] >= bounds[1:]).any():
            return False
    return True


def _heads(csr: Csr, kernel: tuple[int, ...]) -> list[Structure]:
    if prod(kernel) > 1:
        return []
    for name, empty, size in (("rows", empty_rows(csr), csr.shape[0]), ("columns", empty_columns(csr), csr.shape[1])):
        for features in HEADS:
            runs, rest = divmod(empty.size, features)
            if rest or size % features or not runs or np.unique(empty // features).size != runs:
                continue
            odds = _log_comb(size // features, runs) - _log_comb(size, empty.size)
            if odds <= CHANCE:
                detail = f"{runs} of {size // features} runs of {features} {name} are empty"
                return [Structure(f"head:{features}", detail, empty.size / size)]
    return []


def _log_comb(n: int, k: int) -> float:
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)
