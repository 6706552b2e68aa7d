"""The verb: pruning for a machine. Which pattern and sparsity of each layer lose least within a budget?

Every layer is pruned in every way it may be and simulated. Where layers do not depend on one another, what they cost
and what they lose adds up, and the choice is exact (:mod:`~sparsim.search.knapsack`). Where whole channels vanish,
weights of other layers go along, and whole networks are tried (:mod:`~sparsim.search.coupled`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, inf, log10
from typing import Any, Literal

from sparsim.arguments import mapping, several, whole, words
from sparsim.energy import DEFAULT_TABLE, load_table
from sparsim.errors import ConfigError, nearest
from sparsim.machines import Machine, machine
from sparsim.network import Network
from sparsim.progress import tqdm
from sparsim.pruning import Criterion, parse_granularity
from sparsim.runs import Plan
from sparsim.search import coupled, knapsack
from sparsim.search.bench import MEASURES, Bench, Costs
from sparsim.search.loss import Loss
from sparsim.search.options import Choice, Chooser, Option, Options, candidates, checked_levels, finer, parse_patterns
from sparsim.search.result import SearchResult, layer_rows
from sparsim.search.uniform import Uniform, uniform, within
from sparsim.variants import Pruning, as_network

__all__ = ["GRANULARITIES", "SPARSITIES", "SearchResult", "Uniform", "search"]

GRANULARITIES = ("unstructured", "2:4", "block:4x4")
SPARSITIES = (
    0.2,
    0.3,
    0.4,
    0.5,
    0.6,
    0.65,
    0.7,
    0.75,
    0.8,
    0.84,
    0.88,
    0.9,
    0.92,
    0.94,
    0.95,
    0.96,
    0.97,
    0.98,
    0.985,
    0.99,
)
METHODS = ("auto", "exact", "optuna")
ORIENTATIONS = ("auto", "wx", "xtwt")
REFINEMENTS = 4
ALONE = 0.01  # of a budget: what carried zeros may free before layers count as depending on one another


def search(
    source: Any,
    *,
    budget: Mapping[str, float],
    on: str | Machine = "sparch",
    granularity: str | Sequence[str] = GRANULARITIES,
    sparsity: Sequence[float] | None = None,
    criterion: str | Criterion = "magnitude",
    loss: Literal["distortion", "share", "sum"] = "distortion",
    skip: Iterable[str] = (),
    propagate: Literal["auto", "chain", "off"] = "auto",
    method: Literal["auto", "exact", "optuna"] = "auto",
    trials: int = 200,
    weights: str | None = None,
    batch: int = 1,
    input_sizes: Mapping[str, tuple[int, ...]] | None = None,
    columns: int | None = None,
    dtype: str = "fp16",
    orientation: Literal["auto", "wx", "xtwt"] = "auto",
    baseline: str | None = None,
    energy: str = "",
    overrides: Mapping[str, Any] | None = None,
    seed: int = 0,
    jobs: int | None = None,
    progress: bool = True,
) -> SearchResult:
    """Choose pattern and sparsity of every layer so that the network loses least within a budget on a machine.

    Where layers do not depend on one another this is a multiple-choice knapsack, and solved exactly (branch and bound,
    HiGHS): no other choice from the given patterns and sparsities loses less saliency.

    Parameters
    ----------
    source : a network, a file or folder, or the name of one in the zoo.
    budget : one or several of "energy", "latency" and "bytes" (of DRAM traffic), all of which must hold: shares of what
        the dense network takes on the machine's dense twin, so the ``energy_ratio``, 1 / ``speedup`` and
        ``traffic_ratio`` of :func:`~sparsim.compare.compare`.
    on : the machine.
    granularity : patterns to choose from, beside leaving a layer as it is. A machine without use for one of them makes
        it dear, and it is not chosen; machines that skip no zeros need ``out_channel`` or ``in_channel``.
    sparsity : levels to choose from; those of the uniform prunings within the budget are added. None starts with a
        dozen and adds, four times, those halfway to the neighbours of every chosen one.
    criterion : what a weight is worth; see :mod:`~sparsim.pruning.criteria`.
    loss : how the saliencies of layers are added; see :class:`~sparsim.search.loss.Loss`. "sum" is for criteria that
        estimate the rise of the network's loss, "obd" and "gradient".
    skip : layers that stay as they are; those that a bundled network's recipe leaves whole do anyway.
    propagate : whether weights that pruning made useless in other layers go too; as for ``compare``.
    method : "exact" takes the layers as independent; zeros are carried afterwards, which can only lower the costs.
        "optuna" tries whole networks, all of them where ``trials`` allows. "auto" is exact unless carrying the zeros of
        the exact choice frees more than 1 % of a budget, or nothing is within the budgets without carrying.
    trials : networks that "optuna" tries.
    weights, batch, input_sizes, columns, dtype, orientation, baseline, energy, overrides, seed, jobs : as for
        ``compare``.

    Raises
    ------
    ConfigError
        If a budget is not reached by any choice; the message says how low one gets. If an argument is not allowed.
    InputError
        If the network has no weights to choose among.
    MissingExtra
        If layers depend on one another, there are more networks than trials, and Optuna is not installed.

    Examples
    --------
    >>> how = {"granularity": "unstructured", "sparsity": (0.9, 0.95), "progress": False}
    >>> found = search("lenet300_100", budget={"energy": 0.4}, **how)
    >>> found.costs["energy"] <= 0.4
    True
    """
    for value, key, allowed in ((method, "method", METHODS), (orientation, "orientation", ORIENTATIONS)):
        if value not in allowed:
            raise ConfigError(f"'{value}'", key=key, allowed=", ".join(allowed))
    trials = whole(trials, "trials", 1)
    asked, how = _checked(budget), Pruning(propagate=propagate)
    network = as_network(source, columns, weights, seed).with_input(input_sizes or {})
    patterns = parse_patterns(several(granularity, "granularity"))
    levels = checked_levels(SPARSITIES if sparsity is None else several(sparsity, "sparsity", some=False))
    if not levels and not all(pattern.fixes_sparsity for pattern in patterns):
        raise ConfigError("nothing given", key="sparsity", allowed="one or more shares of zeros, 0 <= share < 1")
    chooser = Chooser(network, patterns, levels, Loss.of(network, criterion, loss), words(skip, "skip"))
    built = machine(on, overrides)
    plan = Plan(load_table(energy or DEFAULT_TABLE), orientation, jobs)
    with tqdm(desc="simulating", unit="run", disable=None if progress else True) as plan.bar:
        twin = machine(baseline or built.baseline)
        bench = Bench.of(network, built, twin, plan, batch=batch, dtype=dtype, columns=columns, seed=seed)
        rounds = REFINEMENTS if sparsity is None else 0
        return _Search(chooser, bench, how, asked, rounds).run(method, trials, seed, progress)


@dataclass(frozen=True, eq=False)
class _Search:
    """One search, its arguments checked."""

    chooser: Chooser
    bench: Bench
    how: Pruning
    budget: Mapping[str, float]
    refinements: int = 0

    def run(self, method: str, trials: int, seed: int, progress: bool) -> SearchResult:
        chooser, levels = self.chooser, self.chooser.levels
        rivals = uniform(chooser, levels, self.budget, self.weigh)
        options: Options = candidates(chooser.with_levels([*levels, *(rival.sparsity for rival in rivals)]), self.bench)
        options, exact = self._refined(options, knapsack.solve(options, self.budget))
        if exact is not None and method != "optuna":
            chosen = {name: option.choice for name, option in exact.items()}
            _, costs = self.weigh(chosen)
            freed = {name: sum(o.costs[name] for o in exact.values()) - costs[name] for name in self.budget}
            alone = all(freed[name] <= ALONE * share for name, share in self.budget.items())
            if within(costs, self.budget) and (alone or method == "exact"):
                return self._result(chosen, rivals, self._exactly(freed))
            if method == "exact":
                raise ConfigError(
                    "zeros carried to other layers leave nothing of one, or make the network dearer than the budget",
                    key="method",
                    allowed="auto, optuna, or exact with propagate off",
                )
        factor = knapsack.least_factor(options, self.budget)
        if method == "exact" or (method == "auto" and not self._spread(options)):
            raise self._unreachable(factor)
        found = coupled.Coupled(options, self.budget, self.weigh, trials)
        uniforms = [chooser.uniform(parse_granularity(rival.granularity), rival.sparsity) for rival in rivals]
        found.run(uniforms, seed, progress)
        if found.best is None:
            if found.nearest == inf:
                raise self._nothing_left(len(found.tried))
            raise self._unreachable(found.nearest if factor <= 1 else min(factor, found.nearest))
        return self._result(found.best[1], rivals, found.told)

    def _refined(self, options: Options, exact: dict[str, Option] | None) -> tuple[Options, dict[str, Option] | None]:
        """Return more options around the exact choice, and the exact choice among them."""
        for _ in range(self.refinements if exact is not None else 0):
            assert exact is not None
            options = finer(self.chooser, self.bench, options, exact)
            exact = knapsack.solve(options, self.budget)
        return options, exact

    def carried(self, chosen: Mapping[str, Choice]) -> Network:
        return self.how.carry(self.chooser.network_of(chosen)).network

    def weigh(self, chosen: Mapping[str, Choice]) -> tuple[float, Costs]:
        """Return the saliency lost and the costs of a network; both without end where nothing passes through it."""
        network = self.carried(chosen)
        if any(was.nnz and not layer.nnz for was, layer in zip(self.chooser.network, network, strict=True)):
            return inf, dict.fromkeys(MEASURES, inf)
        return self.chooser.loss.of_network(self.chooser.network, network), self.bench.network(network)

    def _spread(self, options: Options) -> bool:
        """Tell whether zeros of the sparsest choices reach other layers at all."""
        chosen = {name: max(mine, key=lambda option: option.choice.sparsity).choice for name, mine in options.items()}
        return self.carried(chosen).nnz < self.chooser.network_of(chosen).nnz

    def _exactly(self, freed: Mapping[str, float]) -> str:
        most = max(freed, key=lambda name: freed[name] / self.budget[name])
        told = f"chosen by {knapsack.ALGORITHM}: no other choice of these loses less"
        if freed[most] <= 0:
            return told
        share = freed[most] / self.budget[most]
        return f"{told} where layers stand alone; zeros carried to other layers then freed {share:.2%} of the {most}"

    def _nothing_left(self, tried: int) -> ConfigError:
        return ConfigError(
            f"{_words(self.budget)} cannot be reached: in each of the {tried:,} networks tried, zeros carried to other "
            "layers leave a layer without weights",
            key="budget",
            allowed="--propagate off where a layer has none from the start, or lower sparsities",
        )

    def _unreachable(self, factor: float) -> ConfigError:
        # rounded up, so that what the message offers can be reached
        least = ", ".join(f"{name}={_rounded_up(factor * share)}" for name, share in self.budget.items())
        what = "cannot be reached" if len(self.budget) == 1 else "cannot be reached together"
        return ConfigError(
            f"{_words(self.budget)} {what} on {self.bench.built.name} in these patterns and sparsities",
            key="budget",
            allowed=f"{least} or more; higher sparsities or other patterns for less",
        )

    def _result(self, chosen: Mapping[str, Choice], rivals: Sequence[Uniform], method: str) -> SearchResult:
        before, after = self.chooser.network, self.carried(chosen)
        choices = {name: (choice.granularity, choice.sparsity) for name, choice in chosen.items()}
        losses = [self.chooser.loss.of_layer(*pair) for pair in zip(before, after, strict=True)]
        costs = self.bench.layers(after.layers, after.name)
        dense = [self.bench.dense_share(layer.name) for layer in before]
        rows = layer_rows(before, after, choices, losses, costs, dense)
        total = self.bench.network(after)
        return SearchResult(
            self.bench.built.name,
            self.bench.twin.name,
            self.budget,
            choices,
            after,
            total,
            sum(losses),
            rivals,
            method,
            rows,
        )


def _words(budget: Mapping[str, float]) -> str:
    return ", ".join(f"{name}={share:g}" for name, share in budget.items())


def _rounded_up(share: float) -> str:
    """Write a share with three digits, the last rounded up."""
    digits = 2 - floor(log10(share)) if share > 0 else 3
    return f"{ceil(share * 10**digits) / 10**digits:.{max(digits, 0)}f}"


def _checked(budget: Mapping[str, float]) -> dict[str, float]:
    """Return the budget, every share a number above 0."""
    allowed = f"one or several of {', '.join(MEASURES)}, shares of the dense network's, such as energy = 0.3"
    if not mapping(budget, "budget", allowed):
        raise ConfigError("nothing given", key="budget", allowed=allowed)
    for name, share in budget.items():
        if name not in MEASURES:
            raise ConfigError(f"'{name}'{nearest(name, MEASURES)}", key="budget", allowed=allowed)
        if not 0 < share < inf:
            raise ConfigError(f"{name} = {share}", key="budget", allowed="a share above 0, such as 0.3")
    return {name: float(share) for name, share in budget.items()}
