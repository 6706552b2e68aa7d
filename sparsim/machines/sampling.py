"""Samples of a product's rows, and totals estimated from them with 95 % intervals.

Rows are sorted by size class and, within one, as they lie in the matrix, and cut into strata of equal work; the same
number is drawn from each, one of each part of it, so that heavy rows are drawn more often, and what varies along the
matrix does not widen the interval. A total is, for a few strata at a time, a ratio to something known of every row
(Cochran 1977, Sampling Techniques, sections 5.5 and 6.10 to 6.12).

Cells are runs of consecutive rows of about equal size, for what depends on the order of rows. One is drawn from each of
several zones along the matrix, and along how much of the work has to be fetched, with a chance in proportion to its
size; cells of heavy rows are taken in any case. Time is a ratio to what is known of all cells, each weighing as many as
it stands for (Cochran, sections 6.8 and 9A.7).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sparsim.matrix import IntArray

__all__ = ["CELLS", "CellSample", "RowSample", "draw_cells", "draw_rows", "quantile", "ratio_with_error"]

FloatArray = npt.NDArray[np.float64]

DRAWN = 4  # rows of a stratum
POOLED = 8  # strata with one ratio: of fewer rows, it leans to one side
CLASSES = 8  # of row sizes in each power of two
HEAVY = 1 / 32  # of the rows drawn: a row with more products is taken in any case
MOST_STRATA = 1000  # intervals of counts are then far narrower than those of time
ALIKE = np.array([0.5, 1.5, 3.0, 6.0])  # times the mean share of fetching, between which cells are alike
CELLS = 12
LEAST_FREEDOM = 2


@dataclass(frozen=True)
class RowSample:
    """Rows drawn from all that have any work.

    Parameters
    ----------
    rows : those taken, ascending.
    stratum : of every row of the matrix; -1 for rows that are taken in any case, or have no work.
    members : rows of each stratum.
    """

    rows: IntArray
    stratum: IntArray
    members: IntArray

    def totals(
        self, at: IntArray, x: FloatArray, y: FloatArray, x_total: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Estimate the sums of several columns over all rows.

        Parameters
        ----------
        at : which of ``rows`` have values; the others have none.
        x : what is known of every row, here of these.
        y : the columns, [rows, columns].
        x_total : sums of ``x`` over all rows of each stratum.

        Returns
        -------
        The sums; what each of these rows adds to their error, [rows, columns]; and what of ``y`` a unit of ``x``
        stands for, [strata, columns].
        """
        stratum = self.stratum[self.rows[at]]
        drawn = stratum >= 0
        of, groups = stratum[drawn], -(-self.members.size // POOLED)
        weight = self.members[of] / DRAWN
        known = np.bincount(of // POOLED, weight * x[drawn], groups)
        seen = np.stack([np.bincount(of // POOLED, weight * column, groups) for column in y[drawn].T], axis=1)
        overall = seen.sum(axis=0) / max(known.sum(), 1.0)
        by_group = np.where(known[:, None] > 0, seen / np.maximum(known, 1.0)[:, None], overall)
        group = np.arange(self.members.size) // POOLED
        stands_for = np.bincount(group, x_total, groups) / np.maximum(known, 1.0)
        ratio = by_group[group]
        error = np.zeros(y.shape)
        error[drawn] = (weight * stands_for[group[of]])[:, None] * (y[drawn] - ratio[of] * x[drawn, None])
        return y[~drawn].sum(axis=0) + x_total @ ratio, error, ratio

    def half_widths(self, error: FloatArray) -> FloatArray:
        """Return half of the 95 % interval of every column, given what each of ``rows`` adds to its error."""
        stratum = self.stratum[self.rows]
        drawn = stratum >= 0
        strata = self.members.size
        unseen = 1 - DRAWN / np.maximum(self.members, DRAWN)
        squares = np.stack([np.bincount(stratum[drawn], column**2, strata) for column in error[drawn].T], axis=1)
        parts = (unseen * DRAWN / (DRAWN - 1))[:, None] * squares
        variance, spread = parts.sum(axis=0), (parts**2).sum(axis=0) / (DRAWN - 1)
        freedom = np.divide(variance**2, spread, out=np.full_like(spread, np.inf), where=spread > 0)
        return np.asarray(quantile(freedom) * np.sqrt(variance), dtype=np.float64)


@dataclass(frozen=True)
class CellSample:
    """Cells of rows: row ``bounds[c]`` to ``bounds[c + 1]`` are cell c.

    ``drawn`` are some of them, ascending, and ``weight`` says how many cells each of these stands for.
    """

    bounds: IntArray
    drawn: IntArray
    weight: FloatArray

    @property
    def count(self) -> int:
        """Cells in all."""
        return self.bounds.size - 1


def draw_rows(work: IntArray, share: float, rng: np.random.Generator) -> RowSample:
    """Draw rows that come to about a ``share`` of the work, int64 [rows], and not more than are of use."""
    stratum = np.full(work.size, -1, dtype=np.int64)
    order = np.flatnonzero((work > 0) & (work <= HEAVY * share * float(work.sum())))
    classes = np.floor(CLASSES * np.log2(work[order])).astype(np.int16)
    order = order[np.argsort(classes, kind="stable")]
    size = work[order].astype(np.float64)
    light = max(float(size.sum()), 1.0)
    strata = min(max(int(share * light**2 / max(DRAWN * float((size**2).sum()), 1.0)), 1), MOST_STRATA)
    of = np.minimum((np.cumsum(size) - size / 2) * (strata / light), strata - 1).astype(np.int64)
    members = np.bincount(of, minlength=strata)
    large = members >= 2 * DRAWN
    number = np.where(large, np.cumsum(large) - 1, -1)
    stratum[order] = number[of]
    begin, members = (np.cumsum(members) - members)[large], members[large]
    place = (np.arange(DRAWN) + rng.random((members.size, DRAWN))) * members[:, None] / DRAWN
    taken = (stratum < 0) & (work > 0)
    taken[order[(begin[:, None] + place.astype(np.int64)).ravel()]] = True
    return RowSample(np.flatnonzero(taken), stratum, members)


def draw_cells(
    work: IntArray, fetching: IntArray, share: float, heavy: IntArray, rng: np.random.Generator
) -> CellSample:
    """Cut rows into cells, and draw ones that come to about a ``share`` of the work; those of ``heavy`` rows always.

    Cells with like shares of ``fetching`` in their work stand together, by position, before zones are cut.
    """
    ends = np.cumsum(work, dtype=np.float64)
    count = max(round(CELLS / share), CELLS)
    at = np.searchsorted(ends, np.arange(1, count) * ends[-1] / count)
    bounds = np.unique(np.concatenate(([0], at, [work.size])))
    size = np.add.reduceat(work, bounds[:-1]).astype(np.float64)
    fetched = np.add.reduceat(fetching, bounds[:-1])
    mean = size * (fetched.sum() / ends[-1])
    order = np.argsort((fetched[:, None] > ALIKE * mean[:, None]).sum(axis=1), kind="stable")
    place = (np.arange(CELLS) + rng.random(CELLS)) * ends[-1] / CELLS
    drawn = order[np.minimum(np.searchsorted(np.cumsum(size[order]), place, side="right"), order.size - 1)]
    certain = np.searchsorted(bounds, heavy, side="right") - 1
    cells = np.union1d(drawn, certain)
    chance = np.where(np.isin(cells, certain), 1.0, size[cells] * CELLS / ends[-1])
    return CellSample(bounds, cells, 1 / np.minimum(chance, 1.0))


def ratio_with_error(y: FloatArray, x: FloatArray, weight: FloatArray) -> tuple[float, float]:
    """Return the ratio of two weighted sums over drawn cells, and half of its 95 % interval."""
    known = max(float(weight @ x), 1.0)
    ratio = float(weight @ y) / known
    drawn = int((weight > 1).sum())
    if drawn < 2:
        return ratio, 0.0
    unseen = 1 - 1 / weight
    error = np.sqrt(drawn / (drawn - 1) * (unseen * np.square(weight * (y - ratio * x))).sum()) / known
    return ratio, float(quantile(np.array(drawn - 1.0)) * error)


def quantile(freedom: FloatArray) -> FloatArray:
    """Return Student's 97.5 % quantile."""
    from scipy.special import stdtrit

    return np.asarray(stdtrit(np.clip(freedom, LEAST_FREEDOM, 1e6), 0.975), dtype=np.float64)
