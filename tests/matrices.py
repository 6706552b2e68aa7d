"""Matrices the project generates, with counts known without multiplying anything."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import scipy.sparse as sp

Parts = tuple[tuple[int, ...], ...]


def disjoint_subsets(points: int, size: int, parts: int) -> list[Parts]:
    """All sets of ``parts`` disjoint ``size``-subsets of ``points`` points, each in ascending order."""
    found: list[Parts] = []

    def extend(chosen: Parts, free: tuple[int, ...]) -> None:
        if len(chosen) == parts:
            found.append(chosen)
            return
        for subset in combinations(free, size):
            if not chosen or subset[0] > chosen[-1][0]:
                extend((*chosen, subset), tuple(p for p in free if p not in subset))

    extend((), tuple(range(points)))
    return found


def matching_boundary(points: int, size: int, parts: int) -> sp.csr_array:
    """The simplicial boundary map from ``parts`` disjoint subsets to ``parts - 1`` of them, entries +1 and -1.

    (13, 3, 4) is m133-b3: 200,200 rows and columns, 4 in each; (7, 2, 3) has 105 and 3. Two rows share at most one
    column, and the product of two maps in a row is numerically zero though every pair of left-out subsets reaches it.
    """
    columns = {face: index for index, face in enumerate(disjoint_subsets(points, size, parts - 1))}
    row, col, value = [], [], []
    for index, simplex in enumerate(disjoint_subsets(points, size, parts)):
        for dropped in range(parts):
            row.append(index)
            col.append(columns[simplex[:dropped] + simplex[dropped + 1 :]])
            value.append((-1.0) ** dropped)
    shape = (row[-1] + 1, len(columns))
    matrix = sp.csr_array(sp.coo_array((np.array(value), (row, col)), shape=shape))
    matrix.sort_indices()
    return matrix
