"""Bytes of a weight matrix in the formats that sparse hardware and libraries use, counted exactly.

Values and everything else (indices, pointers, masks) are kept apart, because a narrow data type shrinks only the first.

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

import numpy as np

from sparsim.errors import InputError
from sparsim.matrix import Csr, IntArray
from sparsim.structure import block_fill, follows_n_of_m

__all__ = [
    "FormatSize", "all_formats", "bitmap_size", "bsr_size", "csr_size", "dense_size", "eie_fillers", "eie_size",
    "n_of_m_size", "run_length_fillers", "run_length_size",
]  # fmt: skip

INDEX_BYTES = 4


@dataclass(frozen=True)
class FormatSize:
    """Size of one matrix in one format.

    Parameters
    ----------
    name : ``dense``, ``csr``, ``bitmap``, ``N:M``, ``bsr:RxC``, ``run_length`` or ``eie``.
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


def _check_width(value_bytes: int) -> None:
    if value_bytes < 1:
        raise InputError(f"{value_bytes} bytes a value", remedy="a value has at least 1 byte")


def _bits(bits: int) -> int:
    return -(-bits // 8)


def dense_size(csr: Csr, value_bytes: int) -> FormatSize:
    """Every element in turn."""
    _check_width(value_bytes)
    return FormatSize("dense", csr.shape[0] * csr.shape[1] * value_bytes, 0)


def csr_size(csr: Csr, value_bytes: int, index_bytes: int = INDEX_BYTES) -> FormatSize:
    """Compressed rows: a column index for each element, rows + 1 offsets of the same width."""
    _check_width(value_bytes)
    return FormatSize("csr", csr.nnz * value_bytes, (csr.nnz + csr.shape[0] + 1) * index_bytes)


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


def bsr_size(csr: Csr, value_bytes: int, rows: int, cols: int, index_bytes: int = INDEX_BYTES) -> FormatSize:
    """Compressed rows of dense ``rows`` x ``cols`` blocks; the zeros inside a block are stored, edges are padded."""
    _check_width(value_bytes)
    filled = block_fill(csr, rows, cols)[0]
    offsets = -(-csr.shape[0] // rows) + 1
    return FormatSize(f"bsr:{rows}x{cols}", filled * rows * cols * value_bytes, (filled + offsets) * index_bytes)


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


def eie_fillers(csr: Csr, pes: int = 64, run_bits: int = 4) -> int:
    """Count the padding zeros of EIE's interleaved columns [2]_.

    Row i belongs to processing element i mod ``pes``; each of them counts the zeros between its own elements of a
    column and starts anew with the next column.
    """
    if pes < 1:
        raise InputError(f"{pes} processing elements", remedy="at least 1")
    rows = np.repeat(np.arange(csr.shape[0], dtype=np.int64), csr.row_lengths)
    own, column = rows // pes, (rows % pes) * csr.shape[1] + csr.indices
    order = np.lexsort((own, column))
    own, column = own[order], column[order]
    before = np.full(own.size, -1, dtype=np.int64)
    same = column[1:] == column[:-1]
    before[1:][same] = own[:-1][same]
    return _fillers(own - before - 1, run_bits)


def eie_size(csr: Csr, value_bytes: int, pes: int = 64, run_bits: int = 4, pointer_bytes: int = 2) -> FormatSize:
    """EIE's compressed columns [2]_: value and zero run, columns + 1 pointers for each processing element."""
    _check_width(value_bytes)
    stored = csr.nnz + eie_fillers(csr, pes, run_bits)
    return FormatSize("eie", stored * value_bytes, _bits(stored * run_bits) + pes * (csr.shape[1] + 1) * pointer_bytes)


def all_formats(
    csr: Csr,
    value_bytes: int,
    *,
    n_of_m: Sequence[tuple[int, int]] = ((2, 4),),
    blocks: Sequence[tuple[int, int]] = ((4, 4),),
) -> list[FormatSize]:
    """Return the size in every format the matrix can take; an N:M it does not follow is left out.

    Parameters
    ----------
    csr : the matrix.
    value_bytes : of one value [B].
    n_of_m : patterns to try.
    blocks : block shapes of BSR.
    """
    return [
        dense_size(csr, value_bytes),
        csr_size(csr, value_bytes),
        bitmap_size(csr, value_bytes),
        *(n_of_m_size(csr, value_bytes, n, m) for n, m in n_of_m if follows_n_of_m(csr, n, m)),
        *(bsr_size(csr, value_bytes, rows, cols) for rows, cols in blocks),
        run_length_size(csr, value_bytes),
    ]
