"""The choice where layers depend on one another.

Removed channels take weights of other layers along: a network then costs less, and loses more, than its layers' options
add up to. Every trial prunes the whole network, carries the zeros along and asks the machine. It begins at exact
choices for the budgets as they are and looser, which the carried zeros may bring within them, and at the uniform ones;
Optuna's tree-structured Parzen estimator goes on from there (Akiba et al., "Optuna", KDD 2019; Bergstra et al.,
"Algorithms for hyper-parameter optimization", NIPS 2011), and whatever is the best so far has its neighbours tried.
Where there are no more networks than trials, all are tried.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, product
from math import inf, prod
from typing import Any

from sparsim.errors import MissingExtra
from sparsim.progress import tqdm
from sparsim.search.knapsack import solve
from sparsim.search.loss import MOST
from sparsim.search.options import Choice, Option, Options
from sparsim.search.uniform import Weigh, within

__all__ = ["ALGORITHM", "Coupled", "begin", "load_optuna"]

ALGORITHM = "Optuna's tree-structured Parzen estimator on the whole network"
HALVINGS = 8
LOOSEST = 8.0
FARTHEST = 1e6
STEPS = 3
NEIGHBOURS = 16

Chosen = Mapping[str, Choice]


@dataclass
class Coupled:
    """A search among whole networks.

    Parameters
    ----------
    options : of every layer.
    budget : measures, with the share of the dense network's that may be taken.
    weigh : from a choice for every layer to the saliency that the network loses and its costs.
    trials : networks to try.
    best : that loses least within the budgets, None while none is within them.
    nearest : to the budgets, by the factor that they would have to be larger.
    tried : networks weighed, with what they lose and by how much of each budget they are over.
    finished : whether all trials were made.
    """

    options: Options
    budget: Mapping[str, float]
    weigh: Weigh
    trials: int
    best: tuple[float, Chosen] | None = None
    nearest: float = inf
    tried: dict[tuple[Choice, ...], tuple[float, dict[str, float]]] = field(default_factory=dict)
    finished: bool = True

    def ask(self, chosen: Chosen) -> tuple[float, dict[str, float]]:
        """Return the saliency lost and the excess over each budget, as its share; 0 or less is within it."""
        key = tuple(chosen[name] for name in self.options)
        if key not in self.tried:
            lost, costs = self.weigh(chosen)
            over = {name: min(costs[name] / share - 1, FARTHEST) for name, share in self.budget.items()}
            if lost < inf:
                self.nearest = min(self.nearest, 1 + max(over.values()))
            if within(costs, self.budget) and (self.best is None or lost < self.best[0]):
                self.best = lost, chosen
            self.tried[key] = min(lost, MOST * len(self.options)), over
        return self.tried[key]

    @property
    def is_small(self) -> bool:
        """Whether there are no more networks than may be tried."""
        return prod(len(mine) for mine in self.options.values()) <= self.trials

    @property
    def told(self) -> str:
        """How the choice was made."""
        if self.is_small and self.finished:
            return f"the best of all {len(self.tried):,} networks there are to choose from, each tried"
        how = "" if self.is_small else f" by {ALGORITHM}"
        early = "" if self.finished else ", interrupted"
        return f"found{how}: the best of {len(self.tried):,} networks{early}, which need not be the best of all"

    def run(self, starts: Sequence[Chosen] = (), seed: int = 0, progress: bool = False) -> None:
        """Try networks, the exact choices and the ``starts`` first; ctrl-C ends it once something was found.

        Raises
        ------
        MissingExtra
            If there are too many to try all, and Optuna is not installed.
        """
        total = prod(len(mine) for mine in self.options.values()) if self.is_small else self.trials
        if not self.is_small:
            load_optuna()
        with tqdm(total=total, desc="searching", unit="network", disable=None if progress else True) as bar:
            try:
                if self.is_small:
                    for every in product(*self.options.values()):
                        self.ask(dict(zip(self.options, (option.choice for option in every), strict=True)))
                        bar.update()
                else:
                    self._sample([*begin(self), *starts], seed, bar)
            except KeyboardInterrupt:
                if self.best is None:
                    raise
                self.finished = False

    def _sample(self, starts: Sequence[Chosen], seed: int, bar: tqdm[Any]) -> None:
        optuna = load_optuna()
        study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=len(starts) + 10))
        space = _Space(self.options)
        for number, chosen in enumerate(starts):
            if chosen not in starts[:number]:
                study.enqueue_trial(space.parameters(chosen))
        around: Chosen | None = None

        def objective(trial: Any) -> float:
            lost, over = self.ask(space.chosen(trial))
            for name, excess in over.items():
                trial.set_constraint(name, excess)
            return lost

        def after(*_: Any) -> None:
            nonlocal around
            bar.update()
            if self.best is not None and self.best[1] is not around:
                around = self.best[1]
                for chosen in self.neighbours(around):
                    study.enqueue_trial(space.parameters(chosen))

        study.optimize(objective, self.trials, callbacks=[after])

    def neighbours(self, chosen: Chosen) -> list[Chosen]:
        """Return untried choices near one: one layer loses less, or another loses more for it.

        Those come first that would lose less if layers stood alone, the least dear of them before others.
        """
        now = {name: next(o for o in mine if o.choice == chosen[name]) for name, mine in self.options.items()}
        better, worse = [], []
        for name, mine in self.options.items():
            steps = sorted((option for option in mine if option is not now[name]), key=lambda o: o.loss)
            better += [(name, option) for option in steps if option.loss < now[name].loss][-STEPS:]
            worse += [(name, option) for option in steps if option.loss > now[name].loss][:STEPS]
        moves: list[tuple[tuple[str, Option], ...]] = [(one,) for one in better]
        moves += [(up, down) for up in better for down in worse if up[0] != down[0]]
        ranked = []
        for move in moves:
            lost = sum(option.loss - now[name].loss for name, option in move)
            dearer = max(
                sum(option.costs[measure] - now[name].costs[measure] for name, option in move) / share
                for measure, share in self.budget.items()
            )
            ranked.append((lost >= 0, dearer if lost < 0 else lost, move))
        ranked.sort(key=lambda each: each[:2])
        found = ({**chosen, **{name: option.choice for name, option in move}} for *_, move in ranked)
        untried = (each for each in found if tuple(each[name] for name in self.options) not in self.tried)
        return list(islice(untried, NEIGHBOURS))


def begin(search: Coupled) -> list[Chosen]:
    """Return exact choices, for the budgets as they are and up to the loosest that carried zeros bring within them."""
    starts: list[Chosen] = [{name: min(mine, key=_dearness).choice for name, mine in search.options.items()}]
    low, high = 1 / LOOSEST, LOOSEST
    for number in range(HALVINGS):
        factor = 1.0 if number == 0 else (low * high) ** 0.5
        found = solve(search.options, {name: factor * share for name, share in search.budget.items()})
        if found is None:
            low = factor
            continue
        starts.append({name: option.choice for name, option in found.items()})
        _, over = search.ask(starts[-1])
        low, high = (factor, high) if max(over.values()) <= 0 else (low, factor)
    return starts


def _dearness(option: Option) -> float:
    return sum(option.costs.values())


def load_optuna() -> Any:
    """Return the library, silent.

    Raises
    ------
    MissingExtra
        If it is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise MissingExtra("a search whose layers depend on one another", "search") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


class _Space:
    """What Optuna chooses from: a pattern for every layer, and the number of a level within it."""

    def __init__(self, options: Options) -> None:
        self.levels: dict[str, dict[str, list[Choice]]] = {}
        for name, mine in options.items():
            for option in mine:
                self.levels.setdefault(name, {}).setdefault(option.choice.granularity, []).append(option.choice)

    def chosen(self, trial: Any) -> dict[str, Choice]:
        found = {}
        for name, patterns in self.levels.items():
            pattern = trial.suggest_categorical(name, list(patterns)) if len(patterns) > 1 else next(iter(patterns))
            many = len(patterns[pattern])
            number = trial.suggest_int(f"{name}/{pattern}", 0, many - 1) if many > 1 else 0
            found[name] = patterns[pattern][number]
        return found

    def parameters(self, chosen: Chosen) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, choice in chosen.items():
            if len(self.levels[name]) > 1:
                found[name] = choice.granularity
            if len(self.levels[name][choice.granularity]) > 1:
                found[f"{name}/{choice.granularity}"] = self.levels[name][choice.granularity].index(choice)
        return found
