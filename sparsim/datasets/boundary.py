"""Simplicial boundary maps, which can be rebuilt exactly from their definition; m133-b3 is one of them."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from sparsim.matrix import Csr, IntArray

__all__ = ["m133_b3", "matching_boundary"]


def matching_boundary(points: int, size: int, parts: int) -> Csr:
    """Return the boundary map of the complex of disjoint subsets, entries +1 and -1.

    Row: ``parts`` disjoint ``size``-subsets of ``points`` points. Columns: the ``parts - 1`` of them that are left when
    one is dropped, with the sign (-1) ** position of the dropped one. Rows and columns are in lexicographic order.
    """
    subsets = list(combinations(range(points), size))
    masks = np.array([sum(1 << point for point in subset) for subset in subsets], dtype=np.int64)
    columns = _disjoint(masks, parts - 1)
    rows = _disjoint(masks, parts)
    weight = masks.size ** np.arange(parts - 2, -1, -1, dtype=np.int64)
    known = columns @ weight
    dropped = np.arange(parts)
    found = [np.searchsorted(known, np.delete(rows, part, axis=1) @ weight) for part in dropped]
    row = np.repeat(np.arange(len(rows)), parts)
    values = np.tile((-1.0) ** dropped, len(rows))
    return Csr.from_coo((len(rows), len(columns)), row, np.stack(found, axis=1).ravel(), values)


def _disjoint(masks: IntArray, parts: int) -> IntArray:
    """Return the ascending ``parts``-tuples of subsets that share no point, int64 of (count, parts)."""
    chosen, taken = np.zeros((1, 0), dtype=np.int64), np.zeros(1, dtype=np.int64)
    for part in range(parts):
        allowed = (taken[:, None] & masks[None, :]) == 0
        if part:
            allowed &= np.arange(masks.size)[None, :] > chosen[:, -1:]
        before, subset = np.nonzero(allowed)
        chosen, taken = np.column_stack([chosen[before], subset]), taken[before] | masks[subset]
    return chosen


def m133_b3() -> Csr:
    """Return a matrix with the definition of JGD_Homology/m133-b3: 200,200 rows and columns, 4 elements in each.

    The boundary map of four disjoint triples of 13 points. Shape, elements and their number in each row and column are
    the published ones. That it is this complex is inferred from those counts, and the numbering is not the published
    file's: the non-zeros of the square differ by 0.05 % (3,184,475 here).
    """
    return matching_boundary(13, 3, 4)
