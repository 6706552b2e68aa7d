"""What a search is held against: one pattern at one sparsity for all layers, within the same budgets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

from sparsim.pruning import Granularity
from sparsim.search.bench import ROUNDING, Costs
from sparsim.search.options import Choice, Chooser, fixed_sparsity

__all__ = ["Uniform", "Weigh", "uniform", "within"]

FINEST = 2**-10

Weigh = Callable[[Mapping[str, Choice]], tuple[float, Costs]]


class Uniform(NamedTuple):
    """The uniform pruning of a pattern that loses least within the budgets.

    Parameters
    ----------
    granularity, sparsity : the same for all layers that are pruned.
    saliency_lost : by the same measure as the search's.
    costs : shares of the dense network's.
    """

    granularity: str
    sparsity: float
    saliency_lost: float
    costs: Costs


def uniform(chooser: Chooser, levels: Sequence[float], budget: Mapping[str, float], weigh: Weigh) -> list[Uniform]:
    """Return the least sparsity of every pattern that meets the budgets, to 1/1024; those that never do are left out.

    Found by bisection, first over ``levels``, whose products have run already, then between two of them: costs fall
    with sparsity, but for steps of whole groups.

    Parameters
    ----------
    levels : in order; the last is the sparsest that is tried.
    weigh : from a choice for every layer to the saliency that the network loses and its costs.
    """
    found = []
    for pattern in chooser.patterns:
        tried = _Tried(chooser, pattern, budget, weigh)
        if pattern.fixes_sparsity:
            tried.at(fixed_sparsity(pattern))
        else:
            tried.bisect(levels)
        found += [] if tried.best is None else [tried.best]
    return found


@dataclass
class _Tried:
    """The sparsities of one pattern that were tried, and the least of them that meets the budgets."""

    chooser: Chooser
    pattern: Granularity
    budget: Mapping[str, float]
    weigh: Weigh
    best: Uniform | None = None

    def at(self, level: float) -> bool:
        """Tell whether a sparsity is high enough: it meets the budgets, or nothing passes through the network."""
        lost, costs = self.weigh(self.chooser.uniform(self.pattern, level))
        if within(costs, self.budget):
            self.best = Uniform(str(self.pattern), level, lost, costs)
        return lost == inf or within(costs, self.budget)

    def bisect(self, levels: Sequence[float]) -> None:
        low, high = -1, len(levels)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.at(levels[middle]) else (middle, high)
        if high == len(levels):
            return
        over, enough = levels[low] if low >= 0 else 0.0, levels[high]
        while enough - over > FINEST:
            between = (over + enough) / 2
            over, enough = (over, between) if self.at(between) else (between, enough)


def within(costs: Costs, budget: Mapping[str, float]) -> bool:
    """Tell whether costs meet the budgets, but for what rounding adds to a sum."""
    return all(costs[name] <= share * (1 + ROUNDING) for name, share in budget.items())
