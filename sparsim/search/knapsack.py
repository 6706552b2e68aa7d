"""The exact choice where layers are independent: a multiple-choice knapsack.

One option for every layer, the sums of their costs within the budgets, the least sum of losses (Sinha, Zoltners, "The
multiple-choice knapsack problem", Operations Research 27(3), 1979). It is solved to optimality by branch and bound on
the linear relaxation: HiGHS, by way of :func:`scipy.optimize.milp`, with no gap allowed. Options that others of the
same layer dominate are dropped first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sparsim.search.bench import ROUNDING
from sparsim.search.options import Option, Options, undominated

__all__ = ["ALGORITHM", "least_factor", "solve"]

ALGORITHM = "a multiple-choice knapsack, solved exactly by branch and bound (HiGHS)"


def solve(options: Options, budget: Mapping[str, float]) -> dict[str, Option] | None:
    """Return the option of every layer that loses least within the budgets, None if nothing is within them.

    Parameters
    ----------
    options : of every layer, at least one.
    budget : measures, with the share of the dense network's that may be taken.
    """
    kept = {name: undominated(mine, budget) for name, mine in options.items()}
    every = [option for mine in kept.values() for option in mine]
    loss = np.array([option.loss for option in every])
    loss /= max(loss.max(), 1e-300)
    rows, most = _within(every, budget), np.ones(len(budget))
    while (found := _milp(loss, _one_each(kept), rows, most)) is not None:
        chosen = found > 0.5
        picked = [every[number] for number in np.flatnonzero(chosen)]
        if all(sum(one.costs[name] for one in picked) <= share * (1 + ROUNDING) for name, share in budget.items()):
            return dict(zip(kept, picked, strict=True))
        # within the solver's tolerance and yet over: anything but these together
        rows, most = np.vstack([rows, chosen]), np.append(most, len(kept) - 1)
    return None


def least_factor(options: Options, budget: Mapping[str, float]) -> float:
    """Return by what all budgets have to be multiplied at least, so that some choice is within them."""
    if len(budget) == 1:
        ((name, share),) = budget.items()
        return sum(min(option.costs[name] for option in mine) for mine in options.values()) / share
    every = [option for mine in options.values() for option in mine]
    one_each = np.pad(_one_each(options), ((0, 0), (0, 1)))
    rows = np.pad(_within(every, budget), ((0, 0), (0, 1)), constant_values=-1)
    factor = np.append(np.zeros(len(every)), 1.0)
    found = _milp(factor, one_each, rows, np.zeros(len(budget)), free=1)
    assert found is not None, "a factor large enough allows everything"
    return float(found[-1])


def _milp(objective: Any, one_each: Any, rows: Any, most: Any, free: int = 0) -> Any:
    """Return x of the least ``objective @ x`` with ``one_each @ x == 1`` and ``rows @ x <= most``, None if none is.

    Its elements are 0 or 1, but for the last ``free``, which are any number from 0.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array, vstack

    binary = np.arange(len(objective)) < len(objective) - free
    found = milp(
        objective,
        integrality=binary.astype(int),
        bounds=Bounds(np.zeros(len(objective)), np.where(binary, 1.0, np.inf)),
        constraints=LinearConstraint(
            vstack([csr_array(one_each), csr_array(rows)], format="csr"),
            np.concatenate([np.ones(len(one_each)), np.full(len(rows), -np.inf)]),
            np.concatenate([np.ones(len(one_each)), most]),
        ),
        options={"mip_rel_gap": 0.0},
    )
    return found.x


def _one_each(options: Options) -> Any:
    layer = np.repeat(np.arange(len(options)), [len(mine) for mine in options.values()])
    return (layer[None, :] == np.arange(len(options))[:, None]).astype(float)


def _within(every: Sequence[Option], budget: Mapping[str, float]) -> Any:
    return np.array([[option.costs[name] / share for option in every] for name, share in budget.items()])
