"""Bytes of a weight matrix in the formats that sparse hardware and libraries use, counted exactly.

Values and everything else (indices, pointers, masks) are kept apart, because a narrow data type shrinks only the first.

An index takes 4 bytes unless asked otherwise, which is what most libraries store whatever the size of the matrix. With
``index_bytes="auto"`` every array of indices or offsets takes the fewest of 1, 2, 4 or 8 bytes that hold its largest
entry.

References
----------
.. [1] A. Mishra et al., "Accelerating Sparse Deep Neural Networks", arXiv:2104.08378, 2021 (2:4: 2-bit positions).
.. [2] S. Han et al., "EIE: Efficient Inference Engine on Compressed Deep Neural Network", ISCA 2016, section III
   (4-bit zero runs, a padding zero where a run exceeds 15; columns interleaved over the processing elements).
.. [3] S. Han, H. Mao, W. J. Dally, "Deep Compression", ICLR 2016, section 2 (the same over the whole tensor).
.. [4] A. Gondimalla et al., "SparTen: A Sparse Tensor Accelerator for Convolutional Neural Networks", MICRO 2019
   (bit masks).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from sparsim.errors import ConfigError, InputError
from sparsim.matrix import Csr, IntArray
from sparsim.n_of_m import follows_n_of_m
from sparsim.structure import block_fill, empty_columns

__all__ = [
    "FormatSize", "IndexBytes", "all_formats", "bitmap_size", "bsr_size", "carried_a", "compact_size",
    "csc_size", "csr_size", "dense_size", "eie_fillers", "eie_size", "n_of_m_size", "run_length_fillers",
    "run_length_size", "shrunk_size", "smallest_format",
]  # fmt: skip

IndexBytes = int | Literal["auto"]
INDEX_BYTES = 4
INDEX_WIDTHS = (1, 2, 4, 8)
EIE_PES, EIE_RUN_BITS, EIE_POINTER_BYTES = 64, 4, 2


@dataclass(frozen=True)
class FormatSize:
    """Size of one matrix in one format.

    Parameters
    ----------
    name : ``dense``, ``compact``, ``N:M``, ``bitmap``, ``csr``, ``csc``, ``bsr:RxC``, ``run_length`` or ``eie``.
    value_bytes : of stored values, padding and fillers included [B].
    index_bytes : of all that says where the values belong [B].
    """

    name: str
    value_bytes: int
    index_bytes: int

    @property
    def total(self) -> int:
        """Bytes altogether."""
        return self.value_bytes + self.index_bytes

    @property
    def index_share(self) -> float:
        """Share of the bytes that says where the values belong (0 for nothing stored)."""
        return self.index_bytes / self.total if self.total else 0.0

    @property
    def index_overhead(self) -> float:
        """Bytes that say where the values belong for every byte of values (0 for nothing stored)."""
        return self.index_bytes / self.value_bytes if self.value_bytes else 0.0


def carried_a(size: FormatSize, payload: int) -> dict[str, Any]:
    """Return what a machine's details say about the operand A on its way from memory.

    Parameters
    ----------
    size : of A as this machine stores it, read once.
    payload : bytes of A that the run reads, without what bursts bring along.

    Returns
    -------
    ``a_format``, ``a_value_bytes`` and ``a_index_bytes`` of one pass over A, and ``a_passes``: how often that much was
    read. It need not be whole where only a part is read again.
    """
    return {
        "a_format": size.name,
        "a_value_bytes": size.value_bytes,
        "a_index_bytes": size.index_bytes,
        "a_passes": payload / size.total if size.total else 0.0,
    }


def shrunk_size(stored: int, whole: int) -> FormatSize:
    """Return the size of a dense operand of which ``stored`` of ``whole`` bytes are left; which is known beforehand."""
    return FormatSize("dense" if stored == whole else "dense without empty rows and columns", stored, 0)


def _check_width(value_bytes: int) -> None:
    if value_bytes < 1:
        raise InputError(f"{value_bytes} bytes a value", remedy="a value has at least 1 byte")


def _index_width(asked: IndexBytes, largest: int, what: str) -> int:
    """Return the bytes of an index that may be as large as ``largest``."""
    fits = next((width for width in INDEX_WIDTHS if largest < 1 << 8 * width), INDEX_WIDTHS[-1])
    if asked == "auto":
        return fits
    if asked not in INDEX_WIDTHS:
        allowed = ", ".join(map(str, INDEX_WIDTHS))
        raise ConfigError(f"an index of {asked} bytes", key="index_bytes", allowed=f"{allowed} or auto")
    if asked < fits:
        wide = ", ".join(str(width) for width in INDEX_WIDTHS if width >= fits)
        raise ConfigError(f"{asked} B cannot hold {what} {largest:,}", key="index_bytes", allowed=f"{wide} or auto")
    return int(asked)


def _bits(bits: int) -> int:
    return -(-bits // 8)


def dense_size(csr: Csr, value_bytes: int) -> FormatSize:
    """Every element in turn."""
    _check_width(value_bytes)
    return FormatSize("dense", csr.shape[0] * csr.shape[1] * value_bytes, 0)


def compact_size(csr: Csr, value_bytes: int) -> FormatSize:
    """Every element of the rows and columns that are not empty, and a bit for each row and column: kept or not."""
    _check_width(value_bytes)
    rows = int(np.count_nonzero(csr.row_lengths))
    cols = int(np.unique(csr.indices).size) if csr.nnz < csr.shape[1] else csr.shape[1] - empty_columns(csr).size
    return FormatSize("compact", rows * cols * value_bytes, _bits(csr.shape[0]) + _bits(csr.shape[1]))


def csr_size(csr: Csr, value_bytes: int, index_bytes: IndexBytes = INDEX_BYTES) -> FormatSize:
    """Compressed rows: a column index for each element, and rows + 1 offsets."""
    _check_width(value_bytes)
    return FormatSize("csr", csr.nnz * value_bytes, _compressed(csr.nnz, csr.shape, index_bytes))


def csc_size(csr: Csr, value_bytes: int, index_bytes: IndexBytes = INDEX_BYTES) -> FormatSize:
    """Compressed columns: a row index for each element, and columns + 1 offsets."""
    _check_width(value_bytes)
    return FormatSize("csc", csr.nnz * value_bytes, _compressed(csr.nnz, csr.shape[::-1], index_bytes))


def _compressed(stored: int, shape: tuple[int, int], asked: IndexBytes) -> int:
    """Return bytes of the indices of what is stored, and of the offsets of the lines they lie in."""
    lines, places = shape
    index = _index_width(asked, max(places - 1, 0), "index")
    return stored * index + (lines + 1) * _index_width(asked, stored, "offset")


def bitmap_size(csr: Csr, value_bytes: int) -> FormatSize:
    """One bit for each element, then the values [4]_; no pointers."""
    _check_width(value_bytes)
    return FormatSize("bitmap", csr.nnz * value_bytes, _bits(csr.shape[0] * csr.shape[1]))


def n_of_m_size(csr: Csr, value_bytes: int, n: int = 2, m: int = 4) -> FormatSize:
    """N values and N positions of ceil(log2 M) bits for every M columns of a row, used or not [1]_.

    Notes
    -----
    2:4 in 16 bit takes 36 of 64 bits for each group of four, in 8 bit 20 of 32. A ragged last group is padded. For 1:2
    (tf32) the hardware keeps one 4-bit code for each pair, as if it were 2:4 of half words; that is counted here.

    Raises
    ------
    InputError
        If the matrix does not obey the pattern.
    """
    _check_width(value_bytes)
    if not follows_n_of_m(csr, n, m):
        raise InputError(f"the matrix does not follow {n}:{m}", remedy=f"prune it to {n}:{m} first")
    kept = csr.shape[0] * -(-csr.shape[1] // m) * n
    position_bits = 4 if (n, m) == (1, 2) else (m - 1).bit_length()
    return FormatSize(f"{n}:{m}", kept * value_bytes, _bits(kept * position_bits))


def bsr_size(csr: Csr, value_bytes: int, rows: int, cols: int, index_bytes: IndexBytes = INDEX_BYTES) -> FormatSize:
    """Compressed rows of dense ``rows`` x ``cols`` blocks; the zeros inside a block are stored, edges are padded."""
    _check_width(value_bytes)
    filled = block_fill(csr, rows, cols)[0]
    grid = (-(-csr.shape[0] // rows), -(-csr.shape[1] // cols))
    return FormatSize(f"bsr:{rows}x{cols}", filled * rows * cols * value_bytes, _compressed(filled, grid, index_bytes))


def _fillers(gaps: IntArray, run_bits: int) -> int:
    if not 1 <= run_bits <= 32:
        raise InputError(f"a zero run of {run_bits} bits", remedy="1 to 32")
    return int((gaps >> run_bits).sum())


def run_length_fillers(csr: Csr, run_bits: int = 4) -> int:
    """Count the zeros that must be stored because a run of zeros does not fit into ``run_bits``.

    The matrix is read row after row as one sequence [3]_; a filler stands for 2^bits - 1 zeros and itself. Zeros behind
    the last element are not stored.
    """
    rows = np.repeat(np.arange(csr.shape[0], dtype=np.int64), csr.row_lengths)
    return _fillers(np.diff(rows * csr.shape[1] + csr.indices, prepend=-1) - 1, run_bits)


def run_length_size(csr: Csr, value_bytes: int, run_bits: int = 4) -> FormatSize:
    """Deep Compression's stream [3]_: a value and the number of zeros before it, fillers included; no pointers."""
    _check_width(value_bytes)
    stored = csr.nnz + run_length_fillers(csr, run_bits)
    return FormatSize("run_length", stored * value_bytes, _bits(stored * run_bits))


def eie_fillers(csr: Csr, pes: int = EIE_PES, run_bits: int = EIE_RUN_BITS) -> int:
    """Count the padding zeros of EIE's interleaved columns [2]_.

    Row i belongs to processing element i mod ``pes``; each of them counts the zeros between its own elements of a
    column and starts anew with the next column.
    """
    if pes < 1:
        raise InputError(f"{pes} processing elements", remedy="at least 1")
    rows = np.repeat(np.arange(csr.shape[0], dtype=np.int64), csr.row_lengths)
    own_bits = (max(csr.shape[0] - 1, 0) // pes).bit_length()
    place = (((rows % pes) * csr.shape[1] + csr.indices) << own_bits) + rows // pes
    if place.size and pes * csr.shape[1] << own_bits < 1 << 31:
        place = place.astype(np.int32)  # sorts in half the time
    place.sort()
    gap = np.diff(place, prepend=0) - 1
    first = np.flatnonzero(np.diff(place >> own_bits, prepend=-1))
    gap[first] = place[first] & ((1 << own_bits) - 1)
    return _fillers(gap, run_bits)


def eie_size(
    csr: Csr,
    value_bytes: int,
    pes: int = EIE_PES,
    run_bits: int = EIE_RUN_BITS,
    pointer_bytes: int = EIE_POINTER_BYTES,
) -> FormatSize:
    """EIE's compressed columns [2]_: value and zero run, columns + 1 pointers for each processing element.

    Notes
    -----
    Pointers keep the published width even where an element holds more entries than they can count.
    """
    _check_width(value_bytes)
    stored = csr.nnz + eie_fillers(csr, pes, run_bits)
    return FormatSize("eie", stored * value_bytes, _bits(stored * run_bits) + _eie_pointers(csr, pes, pointer_bytes))


def _eie_pointers(csr: Csr, pes: int, pointer_bytes: int = EIE_POINTER_BYTES) -> int:
    return pes * (csr.shape[1] + 1) * pointer_bytes


def all_formats(
    csr: Csr,
    value_bytes: int,
    *,
    n_of_m: Sequence[tuple[int, int]] = ((2, 4),),
    blocks: Sequence[tuple[int, int]] = ((4, 4),),
    index_bytes: IndexBytes = INDEX_BYTES,
) -> list[FormatSize]:
    """Return the size in every format the matrix can take, simple ones first: fixed places before lists of places.

    The compact one is left out where no row and no column is empty.

    Parameters
    ----------
    csr : the matrix.
    value_bytes : of one value [B].
    n_of_m : patterns to try; one the matrix does not follow is left out.
    blocks : block shapes of BSR.
    index_bytes : of the indices and offsets of CSR, CSC and BSR [B], or "auto" for the fewest that hold them.
    """
    return [*_without_eie(csr, value_bytes, n_of_m, blocks, index_bytes), eie_size(csr, value_bytes)]


def smallest_format(
    csr: Csr,
    value_bytes: int,
    *,
    n_of_m: Sequence[tuple[int, int]] = ((2, 4),),
    blocks: Sequence[tuple[int, int]] = (),
    index_bytes: IndexBytes = INDEX_BYTES,
) -> FormatSize:
    """Return the smallest of :func:`all_formats`, the simplest of equal ones; parameters as there.

    EIE's format, whose padding is slow to count, is left alone where even without padding it would not be smaller.
    """
    best = min(_without_eie(csr, value_bytes, n_of_m, blocks, index_bytes), key=lambda size: size.total)
    unpadded = csr.nnz * value_bytes + _bits(csr.nnz * EIE_RUN_BITS) + _eie_pointers(csr, EIE_PES)
    return best if best.total <= unpadded else min(best, eie_size(csr, value_bytes), key=lambda size: size.total)


def _without_eie(
    csr: Csr,
    value_bytes: int,
    n_of_m: Sequence[tuple[int, int]],
    blocks: Sequence[tuple[int, int]],
    index_bytes: IndexBytes,
) -> list[FormatSize]:
    dense, compact = dense_size(csr, value_bytes), compact_size(csr, value_bytes)
    return [
        dense,
        *([compact] if compact.value_bytes < dense.value_bytes else []),
        *(n_of_m_size(csr, value_bytes, n, m) for n, m in n_of_m if follows_n_of_m(csr, n, m)),
        bitmap_size(csr, value_bytes),
        csr_size(csr, value_bytes, index_bytes),
        csc_size(csr, value_bytes, index_bytes),
        *(bsr_size(csr, value_bytes, rows, cols, index_bytes) for rows, cols in blocks),
        run_length_size(csr, value_bytes),
    ]
