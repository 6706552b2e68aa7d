"""The canonical sparse matrix: compressed rows, sorted, without duplicates.

Every reader ends here and every machine starts here, so what holds for :class:`Csr` holds everywhere: ``indptr`` and
all counts are int64, ``indices`` are int32 where the number of columns fits, columns ascend strictly within a row,
and values (if there are any) are finite. Input that breaks a rule is refused with the remedy in the message, never
repaired silently.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from sparsim.errors import InputError

__all__ = ["Csr", "IntArray", "check_shape"]

IntArray = npt.NDArray[np.int64]
MAX_ROWS = 2**31
MAX_COLUMNS = 2**40


def check_shape(rows: int, cols: int, nnz: int | None = None) -> None:
    """Refuse dimensions no computer can mean: negative, absurdly large, or fewer cells than non-zeros."""
    for name, value, most in (("rows", rows, MAX_ROWS), ("columns", cols, MAX_COLUMNS)):
        if value < 0:
            raise InputError(f"{value} {name}", remedy="a matrix dimension is at least 0")
        if value > most:
            raise InputError(f"{value} {name}, more than {most}", remedy="check the header")
    if nnz is not None and not 0 <= nnz <= rows * cols:
        raise InputError(
            f"{nnz} non-zeros do not fit into {rows} x {cols}", remedy="check the header for a lying count"
        )


def _index_type(cols: int) -> type[np.signedinteger[Any]]:
    return np.int32 if cols <= np.iinfo(np.int32).max else np.int64


@dataclass(frozen=True, eq=False, repr=False)
class Csr:
    """A sparse matrix in compressed sparse rows.

    Parameters
    ----------
    shape : (rows, columns).
    indptr : int64 of length rows + 1; row i occupies ``indices[indptr[i]:indptr[i + 1]]``.
    indices : int32 (int64 beyond 2^31 columns), strictly ascending in each row.
    values : float array of the same length, or None for a pattern.
    """

    shape: tuple[int, int]
    indptr: IntArray
    indices: npt.NDArray[Any]
    values: npt.NDArray[Any] | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        kind = "pattern" if self.values is None else str(self.values.dtype)
        return f"Csr({self.shape[0]:,} x {self.shape[1]:,}, {self.nnz:,} elements, {kind})"

    @property
    def nnz(self) -> int:
        """Number of stored elements; a stored zero counts."""
        return int(self.indptr[-1])

    @property
    def density(self) -> float:
        """Share of stored elements, 0 for a matrix without cells."""
        cells = self.shape[0] * self.shape[1]
        return self.nnz / cells if cells else 0.0

    @property
    def stored_zeros(self) -> int:
        """Number of stored elements whose value is zero: they cost like any other."""
        return 0 if self.values is None else int(self.values.size - np.count_nonzero(self.values))

    @cached_property
    def row_lengths(self) -> IntArray:
        """Stored elements of each row, int64 of length rows."""
        return np.diff(self.indptr)

    @cached_property
    def column_lengths(self) -> IntArray:
        """Stored elements of each column, int64 of length columns."""
        return np.bincount(self.indices, minlength=self.shape[1]).astype(np.int64, copy=False)

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of shape and positions; values do not matter to a cost."""
        state = hashlib.sha256(f"{self.shape[0]},{self.shape[1]}".encode())
        for part in (self.indptr, self.indices):
            state.update(np.ascontiguousarray(part).data)
        return state.digest()

    @classmethod
    def build(
        cls, shape: tuple[int, int], indptr: npt.ArrayLike, indices: npt.ArrayLike, values: npt.ArrayLike | None = None
    ) -> Csr:
        """Check the three arrays of a CSR matrix and adopt them.

        Raises
        ------
        InputError
            If pointers or indices break a rule of the format, or a value is not finite.
        """
        rows, cols = int(shape[0]), int(shape[1])
        check_shape(rows, cols)
        ptr = np.asarray(indptr)
        if ptr.dtype.kind == "f" and not np.equal(ptr, np.floor(ptr)).all():
            raise InputError("row offsets with fractions", remedy="offsets are whole numbers")
        ptr = np.ascontiguousarray(ptr, dtype=np.int64)
        idx = np.asarray(indices)
        if idx.dtype.kind not in "iu" and idx.size:
            raise InputError(f"column indices of type {idx.dtype}", remedy="indices are whole numbers")
        if ptr.ndim != 1 or ptr.size != rows + 1:
            raise InputError(f"{ptr.size} row offsets for {rows} rows", remedy=f"{rows + 1} are needed")
        if ptr[0] != 0 or (np.diff(ptr) < 0).any():
            raise InputError("row offsets do not start at 0 and ascend", remedy="rebuild the matrix")
        if idx.size != ptr[-1]:
            raise InputError(f"{idx.size} column indices, but the row offsets end at {int(ptr[-1])}")
        if idx.size and (int(idx.min()) < 0 or int(idx.max()) >= cols):
            bad = int(idx.min()) if int(idx.min()) < 0 else int(idx.max())
            raise InputError(f"column index {bad} out of range for {cols} columns (indices count from 0)")
        idx = np.ascontiguousarray(idx, dtype=_index_type(cols))
        steps = np.diff(idx)
        inner = np.ones(max(idx.size - 1, 0), dtype=bool)
        starts = ptr[1:-1]
        inner[starts[(starts > 0) & (starts < idx.size)] - 1] = False
        wrong = np.flatnonzero(inner & (steps <= 0))
        if wrong.size:
            at = int(wrong[0])
            row = int(np.searchsorted(ptr, at, side="right")) - 1
            if steps[at] == 0:
                raise InputError(
                    f"column {int(idx[at])} stands twice in row {row}",
                    remedy="sum duplicates first (scipy: A.sum_duplicates())",
                )
            raise InputError(
                f"column indices of row {row} are not sorted", remedy="sort them first (scipy: A.sort_indices())"
            )
        val = None
        if values is not None:
            val = np.ascontiguousarray(values)
            if val.shape != idx.shape:
                raise InputError(f"{val.size} values for {idx.size} column indices")
            _check_finite(val)
        return cls((rows, cols), ptr, idx, val)

    @classmethod
    def from_coo(
        cls,
        shape: tuple[int, int],
        row: npt.NDArray[Any],
        col: npt.NDArray[Any],
        values: npt.NDArray[Any] | None = None,
    ) -> Csr:
        """Sort coordinates into rows; their order carries no meaning, but a repeated pair is an error."""
        rows, cols = shape
        check_shape(rows, cols)
        if row.shape != col.shape:
            raise InputError(f"{row.size} row indices for {col.size} column indices")
        if row.size:
            for name, index, size in (("row", row, rows), ("column", col, cols)):
                low, high = int(index.min()), int(index.max())
                if low < 0 or high >= size:
                    raise InputError(f"{name} index {low if low < 0 else high} out of range for {size} {name}s")
        order = np.lexsort((col, row))
        row, col = row[order], col[order]
        indptr = np.zeros(rows + 1, dtype=np.int64)
        np.cumsum(np.bincount(row, minlength=rows), out=indptr[1:])
        return cls.build(shape, indptr, col, None if values is None else values[order])

    @classmethod
    def from_dense(cls, array: npt.ArrayLike) -> Csr:
        """Keep the non-zeros of a two-dimensional array."""
        dense = np.asarray(array)
        if dense.ndim != 2:
            raise InputError(
                f"an array of {dense.ndim} dimension(s) is no matrix", remedy="give a 2-D array (rows x columns)"
            )
        _check_finite(dense)
        row, col = np.nonzero(dense)
        indptr = np.zeros(dense.shape[0] + 1, dtype=np.int64)
        np.cumsum(np.bincount(row, minlength=dense.shape[0]), out=indptr[1:])
        return cls.build((dense.shape[0], dense.shape[1]), indptr, col, dense[row, col])

    @classmethod
    def from_scipy(cls, matrix: Any) -> Csr:
        """Adopt a scipy sparse matrix or array of any format.

        Raises
        ------
        InputError
            If a CSR or CSC input is unsorted or holds duplicates (say ``sort_indices()`` or ``sum_duplicates()``
            first), or any value is not finite.
        """
        if matrix.ndim != 2:
            raise InputError(f"a sparse array of {matrix.ndim} dimension(s) is no matrix")
        if matrix.format == "csr":
            return cls.build(matrix.shape, matrix.indptr, matrix.indices, matrix.data)
        coo = matrix.tocoo()
        return cls.from_coo(coo.shape, coo.row, coo.col, coo.data)

    def to_scipy(self) -> Any:
        """Return a ``scipy.sparse.csr_array``; a pattern gets ones."""
        from scipy.sparse import csr_array

        data = np.ones(self.nnz) if self.values is None else self.values
        return csr_array((data, self.indices, self.indptr), shape=self.shape)

    def to_dense(self) -> npt.NDArray[Any]:
        """Return the matrix as a dense array; a pattern gets ones."""
        dense: npt.NDArray[Any] = self.to_scipy().toarray()
        return dense

    def transpose(self) -> Csr:
        """Return the transpose, sorted."""
        row = np.repeat(np.arange(self.shape[0], dtype=np.int64), self.row_lengths)
        order = np.argsort(self.indices, kind="stable")
        indptr = np.zeros(self.shape[1] + 1, dtype=np.int64)
        np.cumsum(np.bincount(self.indices, minlength=self.shape[1]), out=indptr[1:])
        values = None if self.values is None else self.values[order]
        return Csr((self.shape[1], self.shape[0]), indptr, row[order].astype(_index_type(self.shape[0])), values)

    def permute_columns(self, order: IntArray) -> Csr:
        """Return the matrix whose column i is column ``order[i]`` of this one."""
        place = np.empty(self.shape[1], dtype=np.int64)
        place[order] = np.arange(self.shape[1])
        row = np.repeat(np.arange(self.shape[0], dtype=np.int64), self.row_lengths)
        return Csr.from_coo(self.shape, row, place[self.indices], self.values)

    def rows_slice(self, start: int, stop: int) -> Csr:
        """Return rows ``start`` to ``stop`` as a matrix of their own."""
        lo, hi = int(self.indptr[start]), int(self.indptr[stop])
        values = None if self.values is None else self.values[lo:hi]
        return Csr((stop - start, self.shape[1]), self.indptr[start : stop + 1] - lo, self.indices[lo:hi], values)

    def column_panels(self, width: int) -> Iterator[Csr]:
        """Cut into panels of ``width`` columns from left to right, the last one as wide as is left; at least one."""
        whole = self.transpose()
        for start in range(0, max(self.shape[1], 1), width):
            yield whole.rows_slice(start, min(start + width, self.shape[1])).transpose()

    def block_diagonal(self, groups: int) -> Csr:
        """Spread ``groups`` equal row blocks along the diagonal of a matrix ``groups`` times as wide."""
        if groups == 1:
            return self
        rows, cols = self.shape
        group_of_row = np.repeat(np.arange(rows, dtype=np.int64) // (rows // groups), self.row_lengths)
        indices = (self.indices + group_of_row * cols).astype(_index_type(cols * groups))
        return Csr((rows, cols * groups), self.indptr, indices, self.values)


def _check_finite(values: npt.NDArray[Any]) -> None:
    if values.dtype.kind not in "fiub":
        raise InputError(f"values of type {values.dtype}", remedy="values are real numbers")
    if np.issubdtype(values.dtype, np.inexact) and values.size and not np.isfinite(values).all():
        at = np.unravel_index(int(np.argmin(np.isfinite(values))), values.shape)
        position = ", ".join(str(int(i)) for i in at)
        raise InputError(
            f"value {values[at]} at position [{position}] is not finite", remedy="replace NaN and infinity first"
        )
