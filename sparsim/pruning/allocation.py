"""Who may keep how much: functions from the scored groups of all layers and one budget to the groups that stay.

An allocation sees no weights and no patterns, only groups with a score and a size, layer by layer; a new one (by
sensitivity, by latency) is one more function of the same signature.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import floor

import numpy as np

from sparsim.errors import ConfigError
from sparsim.matrix import IntArray
from sparsim.pruning.criteria import Scores
from sparsim.pruning.granularity import BoolArray

__all__ = ["ALLOCATIONS", "Allocation", "Budget", "Groups", "across_layers", "keep_best", "layer_by_layer"]


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

    @property
    def size(self) -> int:
        """Weights of the layer."""
        return int(self.sizes.sum())


@dataclass(frozen=True)
class Budget:
    """How many weights may stay: a share, or a number.

    Parameters
    ----------
    sparsity : share of weights to remove, 0 <= sparsity < 1.
    nnz : number of weights to keep.
    """

    sparsity: float | None = None
    nnz: int | None = None

    def __post_init__(self) -> None:
        if self.sparsity is not None and not 0 <= self.sparsity < 1:
            raise ConfigError(f"{self.sparsity}", key="sparsity", allowed="0 <= sparsity < 1")
        if self.nnz is not None and (not isinstance(self.nnz, int | np.integer) or self.nnz < 0):
            raise ConfigError(f"{self.nnz}", key="nnz", allowed="a whole number of non-zeros, 0 or more")
        if (self.sparsity is None) == (self.nnz is None):
            given = "neither" if self.nnz is None else "both"
            raise ConfigError(f"{given} given", key="sparsity, nnz", allowed="exactly one of the two")

    def __str__(self) -> str:
        return f"sparsity {self.sparsity:g}" if self.sparsity is not None else f"{self.nnz:,} non-zeros"

    def of(self, size: int) -> int:
        """Return the weights that may stay of ``size``: round(size * (1 - sparsity)), or ``nnz``."""
        if self.sparsity is not None:
            return round(size * (1 - self.sparsity))
        assert self.nnz is not None
        if self.nnz > size:
            raise ConfigError(f"{self.nnz:,}", key="nnz", allowed=f"0 to {size:,}, the weights there are")
        return int(self.nnz)

    def shares(self, sizes: Sequence[int]) -> list[int]:
        """Return the weights that may stay in each layer; a number is shared by size, largest remainder first."""
        if self.sparsity is not None:
            return [self.of(size) for size in sizes]
        total = max(sum(sizes), 1)
        keep = self.of(sum(sizes))
        exact = [keep * size / total for size in sizes]
        shares = [floor(share) for share in exact]
        by_remainder = sorted(range(len(sizes)), key=lambda i: shares[i] - exact[i])
        for layer in by_remainder[: keep - sum(shares)]:
            shares[layer] += 1
        return shares


Allocation = Callable[[Sequence[Groups], Budget], list[BoolArray]]


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


def layer_by_layer(layers: Sequence[Groups], budget: Budget) -> list[BoolArray]:
    """Give every layer the same sparsity."""
    shares = budget.shares([groups.size for groups in layers])
    return [keep_best(groups, keep) for groups, keep in zip(layers, shares, strict=True)]


def across_layers(layers: Sequence[Groups], budget: Budget) -> list[BoolArray]:
    """Let the groups of all layers compete: one threshold for the network, equal scores go to the earlier layer."""
    if not layers:
        return []
    pool = Groups(
        np.concatenate([groups.scores for groups in layers]), np.concatenate([groups.sizes for groups in layers])
    )
    ends = np.cumsum([groups.scores.size for groups in layers])
    return np.split(keep_best(pool, budget.of(pool.size)), ends[:-1])


ALLOCATIONS: dict[str, Allocation] = {"layer": layer_by_layer, "global": across_layers}
