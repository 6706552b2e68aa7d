"""Who may keep how much: functions from the layers and one budget to a number of weights for each.

An allocation knows no pattern; whatever the pattern, it meets each layer's number as near as it can. ``uniform`` and
``erdos_renyi_kernel`` ask for sizes only, ``global`` for the scores of all groups as well. A mapping from layers to
sparsities is an allocation and a budget in one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import floor

import numpy as np

from sparsim.arguments import share, whole
from sparsim.errors import ConfigError, nearest
from sparsim.matrix import IntArray
from sparsim.network import Network
from sparsim.pruning.criteria import Scores, weights_of
from sparsim.pruning.granularity import BoolArray

__all__ = [
    "ALLOCATIONS",
    "BY_SIZE",
    "Allocation",
    "Budget",
    "Extent",
    "Groups",
    "across_layers",
    "by_deviation",
    "erdos_renyi_kernel",
    "keep_best",
    "uniform",
]

Allocation = str | Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Groups:
    """The groups of one layer that are kept or removed whole.

    Parameters
    ----------
    scores : float64, one a group, in the order of their positions (row by row).
    sizes : int64 of the same length, weights in each group.
    """

    scores: Scores
    sizes: IntArray


@dataclass(frozen=True)
class Extent:
    """How large a layer is.

    Parameters
    ----------
    size : weights.
    axes : sum of the lengths of the weight's axes: out + in / groups + kh + kw.
    """

    size: int
    axes: int


@dataclass(frozen=True)
class Budget:
    """How many weights may stay: a share, or a number.

    Parameters
    ----------
    sparsity : share of weights to remove, 0 <= sparsity < 1.
    density : share of weights to keep, 0 < density <= 1.
    nnz : number of weights to keep.
    """

    sparsity: float | None = None
    density: float | None = None
    nnz: int | None = None

    def __post_init__(self) -> None:
        if self.sparsity is not None:
            share(self.sparsity, "sparsity", "0 <= sparsity < 1", one=False)
        if self.density is not None:
            share(self.density, "density", "0 < density <= 1", zero=False)
        if self.nnz is not None:
            whole(self.nnz, "nnz")
        given = sum(value is not None for value in (self.sparsity, self.density, self.nnz))
        if given != 1:
            raise ConfigError(
                f"{given or 'none'} of them given", key="sparsity, density, nnz", allowed="exactly one of the three"
            )

    def __str__(self) -> str:
        if self.nnz is not None:
            return f"{self.nnz:,} non-zeros"
        return f"sparsity {self.sparsity:g}" if self.sparsity is not None else f"density {self.density:g}"

    def of(self, size: int) -> int:
        """Return the weights that may stay of ``size``: its density times ``size``, rounded, or ``nnz``."""
        if self.sparsity is not None:
            return round(size * (1 - self.sparsity))
        if self.density is not None:
            return round(size * self.density)
        assert self.nnz is not None
        if self.nnz > size:
            raise ConfigError(f"{self.nnz:,}", key="nnz", allowed=f"0 to {size:,}, the weights there are")
        return int(self.nnz)


def uniform(layers: Sequence[Extent], budget: Budget) -> list[int]:
    """Give every layer the same sparsity; a number of weights is shared by size, largest remainder first."""
    if budget.nnz is None:
        return [budget.of(layer.size) for layer in layers]
    size = sum(layer.size for layer in layers)
    keep = budget.of(size)
    return _round_to([keep * layer.size / max(size, 1) for layer in layers], keep)


def erdos_renyi_kernel(layers: Sequence[Extent], budget: Budget) -> list[int]:
    """Give every layer a density proportional to (out + in + kh + kw) / (out in kh kw), at most 1.

    What a layer of density 1 cannot take goes to the others in the same proportion; the numbers add up to the budget
    exactly. Small layers stay dense, large ones pay (Evci et al., "Rigging the lottery", ICML 2020, section 3).
    """
    keep = budget.of(sum(layer.size for layer in layers))
    exact = [float(layer.size) for layer in layers]
    open_layers = [i for i, layer in enumerate(layers) if layer.size]
    while open_layers:
        left = keep - sum(layer.size for i, layer in enumerate(layers) if i not in open_layers)
        rate = left / sum(layers[i].axes for i in open_layers)
        full = [i for i in open_layers if rate * layers[i].axes >= layers[i].size]
        if not full:
            for i in open_layers:
                exact[i] = rate * layers[i].axes
            break
        open_layers = [i for i in open_layers if i not in full]
    return _round_to(exact, keep)


BY_SIZE: Mapping[str, Callable[[Sequence[Extent], Budget], list[int]]] = {
    "uniform": uniform,
    "erdos_renyi_kernel": erdos_renyi_kernel,
}
ALLOCATIONS = ("uniform", "global", "erdos_renyi_kernel")


def across_layers(layers: Sequence[Groups], budget: Budget) -> list[int]:
    """Let the groups of all layers compete: one threshold for the network, equal scores go to the earlier layer.

    Returns
    -------
    The weights of the winners in each layer. :func:`keep_best` picks the same winners from it: a layer's are the first
    of its own ranking.
    """
    if not layers:
        return []
    pool = Groups(
        np.concatenate([groups.scores for groups in layers]), np.concatenate([groups.sizes for groups in layers])
    )
    kept = keep_best(pool, budget.of(int(pool.sizes.sum())))
    ends = np.cumsum([groups.scores.size for groups in layers])[:-1]
    parts = zip(np.split(pool.sizes, ends), np.split(kept, ends), strict=True)
    return [int(sizes[alive].sum()) for sizes, alive in parts]


def by_deviation(network: Network, quality: float | Mapping[str, float]) -> dict[str, float]:
    """Return the sparsities that remove every weight below ``quality`` standard deviations of its layer's weights.

    Layers of a normal distribution lose the same share; those with many small weights lose more (Han et al., NeurIPS
    2015, section 3.3). Given to :func:`~sparsim.pruning.prune` as ``allocation``.

    Parameters
    ----------
    network : the network; zeros count as weights.
    quality : factor for all layers, or layer name to factor; layers it does not name stay whole.

    Raises
    ------
    ConfigError
        If a factor is negative or leaves a layer nothing, or a name is no layer.
    """
    names = [layer.name for layer in network]
    factors = quality if isinstance(quality, Mapping) else dict.fromkeys(names, quality)
    for name, factor in factors.items():
        if name not in names:
            raise ConfigError(f"'{name}' is no layer of '{network.name}'{nearest(name, names)}", key="quality")
        if not 0 <= factor < np.inf:
            raise ConfigError(f"{factor} for '{name}'", key="quality", allowed="0 or more standard deviations")
    sparsities = {}
    for layer in network:
        if layer.name not in factors or not layer.size:
            continue
        weights = np.asarray(weights_of(layer), dtype=np.float64)
        below = int(np.count_nonzero(np.abs(weights) < factors[layer.name] * weights.std()))
        if below == layer.size:
            raise ConfigError(
                f"{factors[layer.name]:g} standard deviations remove every weight of '{layer.name}'",
                key="quality",
                allowed="a factor that leaves some, such as 1",
            )
        sparsities[layer.name] = below / layer.size
    return sparsities


def keep_best(groups: Groups, keep: int) -> BoolArray:
    """Keep the best groups, as many as bring the kept weights nearest to ``keep`` (of two equally near, the fewer).

    Groups are ranked by score, equal ones by position, so the result is at most half a group off the budget.
    """
    kept = np.zeros(groups.scores.size, dtype=np.bool_)
    if not kept.size:
        return kept
    size = int(groups.sizes[0])
    if size and (groups.sizes == size).all():
        return _keep_highest(groups.scores, min((2 * keep + size - 1) // (2 * size), kept.size))
    order = np.argsort(-groups.scores, kind="stable")
    reachable = np.append(0, np.cumsum(groups.sizes[order]))
    kept[order[: np.argmin(np.abs(reachable - keep))]] = True
    return kept


def _keep_highest(scores: Scores, count: int) -> BoolArray:
    if count == 0:
        return np.zeros(scores.size, dtype=np.bool_)
    threshold = np.partition(scores, scores.size - count)[scores.size - count]
    kept: BoolArray = scores > threshold
    ties = np.flatnonzero(scores == threshold)
    kept[ties[: count - np.count_nonzero(kept)]] = True
    return kept


def _round_to(exact: Sequence[float], total: int) -> list[int]:
    """Round to whole numbers that add up to ``total``, the largest remainders up."""
    whole = [floor(share) for share in exact]
    by_remainder = sorted(range(len(exact)), key=lambda i: whole[i] - exact[i])
    for layer in by_remainder[: total - sum(whole)]:
        whole[layer] += 1
    return whole
