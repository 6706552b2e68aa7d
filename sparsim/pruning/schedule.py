"""When to prune how much: schedules as tables from training steps to sparsities.

A schedule is a list of moments at which the mask is made anew, with the sparsity it then has. Between two moments the
mask stands; before the first nothing is pruned. Step 0 is before the first update of the weights, step t after the
t-th.

* :func:`one_shot`: once, before training (step 0) or after (the last step).
* :func:`iterative`: prune, train on, prune more: Han, Pool, Tran, Dally, "Learning both Weights and Connections for
  Efficient Neural Networks", NeurIPS 2015, section 3.
* :func:`gradual_cubic`: during training, fast first: Zhu and Gupta, "To prune, or not to prune: exploring the efficacy
  of pruning for model compression", 2017, equation 1.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from sparsim.arguments import share, whole
from sparsim.errors import ConfigError

__all__ = ["Schedule", "gradual_cubic", "iterative", "one_shot"]


@dataclass(frozen=True)
class Schedule:
    """A sparsity for every step of a training.

    Parameters
    ----------
    updates : (step, sparsity) of each new mask; steps ascend from 0 or later, sparsities never fall, 0 <= sparsity < 1.

    Raises
    ------
    ConfigError
        If the table is empty or breaks one of these rules.
    """

    updates: tuple[tuple[int, float], ...]

    def __post_init__(self) -> None:
        if not self.updates:
            raise ConfigError("a schedule without steps", key="schedule", allowed="at least one (step, sparsity)")
        for step, sparsity in self.updates:
            whole(step, "step")
            share(sparsity, "sparsity", "0 <= sparsity < 1", one=False)
        for (step, sparsity), (following, more) in pairwise(self.updates):
            if following <= step or more < sparsity:
                raise ConfigError(
                    f"step {following}, sparsity {more:g} after step {step}, sparsity {sparsity:g}",
                    key="schedule",
                    allowed="ascending steps and sparsities that never fall: a removed weight stays removed",
                )

    @cached_property
    def _steps(self) -> list[int]:
        return [step for step, _ in self.updates]

    @property
    def last(self) -> int:
        """The step of the last mask."""
        return self.updates[-1][0]

    @property
    def final(self) -> float:
        """The sparsity of the last mask."""
        return self.updates[-1][1]

    def sparsity(self, step: int) -> float:
        """Return the sparsity that holds at ``step``, 0 before the first mask."""
        at = bisect_right(self._steps, step)
        return self.updates[at - 1][1] if at else 0.0

    def changes(self, step: int) -> bool:
        """Whether the mask is made anew at ``step``."""
        at = bisect_right(self._steps, step)
        return bool(at) and self._steps[at - 1] == step


def one_shot(sparsity: float, at: int = 0) -> Schedule:
    """Prune once.

    Parameters
    ----------
    sparsity : share of weights to remove, 0 <= sparsity < 1.
    at : the step; 0 is before training.
    """
    return Schedule(((at, sparsity),))


def iterative(sparsity: float, rounds: int, every: int, start: int = 0) -> Schedule:
    """Prune in ``rounds`` cuts with ``every`` steps of retraining after each.

    Every cut removes the same share of what is left: after cut i of n the density is ``(1 - sparsity)^(i / n)``. (Han
    et al. 2015, section 3, iterate by a quality threshold; equal relative cuts are the usual reading of it.)

    Parameters
    ----------
    sparsity : after the last cut, 0 <= sparsity < 1.
    rounds : number of cuts, at least 1.
    every : steps from one cut to the next, at least 1.
    start : step of the first cut.

    Raises
    ------
    ConfigError
        If a number is out of its range.
    """
    whole(rounds, "rounds", 1)
    whole(every, "every", 1)
    whole(start, "start")
    share(sparsity, "sparsity", "0 <= sparsity < 1", one=False)
    cuts = [min(1 - (1 - sparsity) ** (i / rounds), sparsity) for i in range(1, rounds)]  # rounding must not overshoot
    return Schedule(tuple((start + i * every, cut) for i, cut in enumerate([*cuts, sparsity])))


def gradual_cubic(initial: float, final: float, begin: int, end: int, every: int) -> Schedule:
    """Raise the sparsity during training, fast first and slower towards the end.

    ``s_t = s_f + (s_i - s_f) (1 - (t - t_0) / (n dt))^3`` at t = t_0, t_0 + dt, ..., t_0 + n dt (Zhu and Gupta 2017,
    equation 1).

    Parameters
    ----------
    initial, final : sparsities s_i at ``begin`` and s_f at ``end``, 0 <= initial <= final < 1.
    begin, end : first and last step at which the mask changes: t_0 and t_0 + n dt.
    every : steps between two masks, dt; divides ``end - begin``.

    Raises
    ------
    ConfigError
        If a number is out of its range or ``every`` does not divide the span.
    """
    whole(begin, "begin")
    whole(end, "end", begin + 1)
    whole(every, "every", 1)
    share(initial, "initial", "0 <= sparsity < 1", one=False)
    share(final, "final", "0 <= sparsity < 1", one=False)
    if final < initial:
        raise ConfigError(f"{final:g} after an initial {initial:g}", key="final", allowed="initial <= final < 1")
    if (end - begin) % every:
        raise ConfigError(f"{every} does not divide {end} - {begin}", key="every", allowed="a divisor of end - begin")
    steps = range(begin, end, every)
    rising = [(step, final + (initial - final) * (1 - (step - begin) / (end - begin)) ** 3) for step in steps]
    return Schedule(((begin, initial), *rising[1:], (end, final)))
