"""V:N:M: columns go block by block, and what is left of them is N:4, so that 2:4 instructions do any M.

Every V rows x M columns keep 4 columns, every row N of the 4; a kernel gathers the 4 and sees a 2:4 product of depth
4 k / M (Castro et al., VENOM, SC 2023).
"""

from __future__ import annotations

import numpy as np

from sparsim.n_of_m import VNM_COLUMNS
from sparsim.pruning.balanced import n_of_m
from sparsim.pruning.criteria import Scores
from sparsim.pruning.granularity import BoolArray

__all__ = ["v_n_of_m"]


def v_n_of_m(scores: Scores, v: int, n: int, m: int) -> BoolArray:
    """Keep 4 columns of every ``v`` x ``m`` block, those of the highest sums, then the ``n`` highest of each row.

    Equal sums and equal scores are decided by position: the lower index stays. Blocks at the lower and right edge are
    smaller; one of fewer than 4 columns keeps them all, and a row never more than ``n``.

    Parameters
    ----------
    scores : ``[out, k]``.
    v, n, m : rows of a block, elements of a row in it, columns of a block.
    """
    if not scores.size:
        return np.zeros(scores.shape, dtype=np.bool_)
    sums = np.add.reduceat(scores.astype(np.float64), np.arange(0, scores.shape[0], v), axis=0)
    columns = np.repeat(n_of_m(sums, VNM_COLUMNS, m), v, axis=0)[: scores.shape[0]]
    kept: BoolArray = n_of_m(np.where(columns, scores, -np.inf), n, m) & columns
    return kept
