"""Patterns in which every group of weights keeps the same number of them: functions from scores to a mask.

Equal scores are decided by position everywhere: the lower index stays.
"""

from __future__ import annotations

import numpy as np

from sparsim.pruning.criteria import Scores
from sparsim.pruning.granularity import BoolArray
from sparsim.structure import bank_bounds

__all__ = ["bank_balanced", "kernel_patterns", "n_of_m"]

PATTERN_CHUNK = 2**22


def n_of_m(scores: Scores, n: int, m: int) -> BoolArray:
    """Keep the ``n`` highest of every ``m`` consecutive scores of a row; equal ones by position.

    A shorter group at the end of a row keeps at most ``n``: never a lower density than the pattern's.

    Parameters
    ----------
    scores : ``[out, k]``.
    n, m : at most n non-zeros in every m consecutive weights.
    """
    rows, cols = scores.shape
    m = max(1, min(m, cols))
    if n >= m or not scores.size:
        return np.full(scores.shape, n > 0)
    if n == 0:
        return np.zeros(scores.shape, dtype=np.bool_)
    padded = np.full((rows, -(-cols // m) * m), -np.inf)
    padded[:, :cols] = scores
    chunks = padded.reshape(-1, m)
    threshold = np.partition(chunks, m - n, axis=1)[:, m - n, None]
    kept: BoolArray = chunks >= threshold
    tied = np.flatnonzero(np.count_nonzero(kept, axis=1) > n)
    above, ties = chunks[tied] > threshold[tied], chunks[tied] == threshold[tied]
    kept[tied] = above | (ties & (np.cumsum(ties, axis=1) <= n - above.sum(axis=1, keepdims=True)))
    return kept.reshape(padded.shape)[:, :cols]


def bank_balanced(scores: Scores, banks: int, keep: int) -> BoolArray:
    """Keep the same number of the highest scores in each of ``banks`` equal parts of every row (Cao et al., FPGA 2019).

    That number is the one whose total comes nearest to ``keep``, of two the lower. Where k is no multiple of
    ``banks``, the first ``k mod banks`` banks are one column wider than the others; a bank narrower than the number
    keeps all it has, and there are never more banks than columns.

    Parameters
    ----------
    scores : ``[out, k]``.
    banks : parts of a row; 1 balances the rows.
    keep : weights that should stay.
    """
    rows, cols = scores.shape
    if not scores.size:
        return np.zeros(scores.shape, dtype=np.bool_)
    bounds = bank_bounds(cols, banks)
    widths = np.diff(bounds)
    wide, narrow = int(widths[0]), int(widths[-1])
    split = int(bounds[np.count_nonzero(widths > narrow)])
    totals = rows * np.array([np.minimum(each, widths).sum() for each in range(wide + 1)])
    each = int(np.argmin(np.abs(totals - keep)))
    return np.concatenate([n_of_m(scores[:, :split], each, wide), n_of_m(scores[:, split:], each, narrow)], axis=1)


def kernel_patterns(scores: Scores, area: int, patterns: int, keep: int) -> BoolArray:
    """Give every kernel one of at most ``patterns`` masks of equally many weights (PCONV, PatDNN).

    Every kernel keeps ``round(keep / kernels)`` weights, at least one. A kernel's natural mask is that of its highest
    scores; the ``patterns`` natural masks that occur most often are allowed, and every kernel takes the allowed one
    that keeps the most score. Of masks equally frequent the lower comes first, read as a binary number whose highest
    bit is the kernel's first position; of masks that keep the same score a kernel takes the one that comes first.
    Kernels whose scores are all zero have no natural mask.

    Parameters
    ----------
    scores : ``[out, in / groups * area]``.
    area : positions of a kernel.
    patterns : masks allowed in the layer, at least 1.
    keep : weights that should stay.

    References
    ----------
    Ma et al., "PCONV", AAAI 2020; Niu et al., "PatDNN", ASPLOS 2020.
    """
    kernels = scores.reshape(-1, area)
    if not kernels.size:
        return np.zeros(scores.shape, dtype=np.bool_)
    each = max(1, min(area, round(keep / len(kernels))))
    natural = n_of_m(kernels, each, area)
    speaks = kernels.any(axis=1)
    voters = natural[speaks] if speaks.any() else natural
    codes, votes = np.unique(np.packbits(voters, axis=1), axis=0, return_counts=True)
    frequent = np.argsort(-votes, kind="stable")[:patterns]
    allowed = np.unpackbits(codes[frequent], axis=1, count=area).astype(np.bool_)
    weights = allowed.T.astype(np.float64)
    kept = np.empty_like(natural)
    step = max(1, PATTERN_CHUNK // len(allowed))
    for start in range(0, len(kernels), step):
        part = kernels[start : start + step]
        kept[start : start + step] = allowed[np.argmax(part @ weights, axis=1)]
    return kept.reshape(scores.shape)
