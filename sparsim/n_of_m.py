"""N:M and V:N:M: what is left in groups of consecutive columns, as sparse tensor cores take it.

N:M has at most N elements of a row in every M columns. V:N:M besides has them in 4 columns of every V rows, so that a
kernel gathers those and sees N:4 (Castro et al., VENOM, SC 2023).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from sparsim.errors import InputError
from sparsim.matrix import Csr

__all__ = [
    "VNM_COLUMNS",
    "VNM_FORM",
    "VNM_KEPT",
    "VNM_MOST",
    "follows_n_of_m",
    "follows_vnm",
    "vnm_k",
    "vnm_width",
]

VNM_COLUMNS, VNM_KEPT = 4, 2
VNM_FORM = "V:N:M with V >= 1, N = 2 and M >= 4, as 64:2:10"
VNM_MOST = 128


def follows_n_of_m(csr: Csr, n: int, m: int) -> bool:
    """Whether every row has at most ``n`` stored elements in each ``m`` consecutive, aligned columns.

    A last group of fewer than ``m`` columns counts as a group.
    """
    if not 1 <= n <= m:
        raise InputError(f"{n}:{m} is no pattern", remedy="N:M needs 1 <= N <= M")
    if csr.nnz <= n:
        return True
    rows = np.repeat(np.arange(csr.shape[0], dtype=np.int64), csr.row_lengths)
    group = rows * -(-csr.shape[1] // m) + csr.indices // m
    return not bool((group[n:] == group[:-n]).any())


def _filled_in(part: npt.NDArray[Any], columns: int) -> npt.NDArray[Any]:
    """Return the columns among ``part``, ascending."""
    if 8 * part.size < columns:
        return np.unique(part)
    seen = np.zeros(columns, dtype=bool)
    seen[part] = True
    return np.flatnonzero(seen)


def follows_vnm(csr: Csr, v: int, n: int, m: int) -> bool:
    """Whether every aligned block of ``v`` rows x ``m`` columns holds elements in at most 4 columns, ``n`` of a row.

    Blocks at the lower and right edge may be smaller.
    """
    if v < 1 or not 1 <= n <= VNM_COLUMNS <= m:
        raise InputError(f"{v}:{n}:{m} is no pattern", remedy="V:N:M needs V >= 1, 1 <= N <= 4 <= M")
    bounds = np.append(csr.indptr[:-1:v], csr.nnz).tolist()
    for start, stop in pairwise(bounds):
        group = _filled_in(csr.indices[start:stop], csr.shape[1]) // m
        if (group[VNM_COLUMNS:] == group[:-VNM_COLUMNS]).any():
            return False
    return follows_n_of_m(csr, n, m)


def vnm_width(csr: Csr, v: int, most: int = VNM_MOST) -> int | None:
    """Return the M from 4 to ``most`` for which a matrix is V:2:M with the fewest columns left, None if there is none.

    Of several that leave as many (the last group is a shorter one), it is the smallest.
    """
    columns, longest, found = csr.shape[1], int(csr.row_lengths.max(initial=0)), None
    fullest = int(np.diff(csr.indptr[::v]).argmax()) * v if csr.shape[0] >= v else 0
    part = csr.rows_slice(fullest, min(fullest + v, csr.shape[0]))  # most that fails fails here
    for m in range(max(VNM_COLUMNS, min(most, columns)), VNM_COLUMNS - 1, -1):
        if found is not None and _vnm_depth(columns, m) > _vnm_depth(columns, found):
            return found
        short = longest <= VNM_KEPT * -(-columns // m)
        if short and follows_vnm(part, v, VNM_KEPT, m) and follows_vnm(csr, v, VNM_KEPT, m):
            found = m
    return found


def _vnm_depth(columns: int, m: int) -> int:
    return columns // m * VNM_COLUMNS + min(VNM_COLUMNS, columns % m)


def vnm_k(csr: Csr, v: int, most: int = VNM_MOST) -> int | None:
    """Return the depth of the 2:4 product that is left of a matrix when 4 columns of every V x M block are gathered.

    Parameters
    ----------
    csr : left operand.
    v : rows that share their columns.
    most : largest M that a kernel takes.

    Returns
    -------
    4 columns of every M, of a shorter last group what it has; None if the matrix is not V:2:M for any M from 4 on.
    """
    m = vnm_width(csr, v, most)
    return None if m is None else _vnm_depth(csr.shape[1], m)
