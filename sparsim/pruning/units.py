"""What a budget is shared among: single layers, or layers whose groups are tied to one another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import NamedTuple, Protocol

import numpy as np

from sparsim.matrix import IntArray
from sparsim.network import Layer
from sparsim.pruning.allocation import Extent, Groups, keep_best
from sparsim.pruning.balanced import bank_balanced, kernel_patterns, n_of_m
from sparsim.pruning.criteria import Scores
from sparsim.pruning.granularity import BoolArray, Granularity, spread, tile_scores, tile_sizes
from sparsim.pruning.permutation import channel_order
from sparsim.pruning.vnm import v_n_of_m

__all__ = ["Cut", "SingleLayer", "Unit"]


class Cut(NamedTuple):
    """Which weights of a layer stay, ``[out, k]``, and the order of its input channels the pattern holds in."""

    kept: BoolArray
    order: IntArray | None = None


class Unit(Protocol):
    """Layers pruned together; scores are one matrix ``[out, k]`` for each of them."""

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers."""

    @property
    def extent(self) -> Extent:
        """How large they are."""

    def groups(self, scores: Sequence[Scores]) -> Groups:
        """Return what competes with the groups of other units."""

    def cuts(self, scores: Sequence[Scores], keep: int) -> list[Cut]:
        """Bring the layers as near to ``keep`` weights as the pattern allows."""


@dataclass(frozen=True, eq=False)
class SingleLayer:
    """One layer, pruned by itself.

    Parameters
    ----------
    layer : the layer.
    pattern : any granularity.
    """

    layer: Layer
    pattern: Granularity

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layer."""
        return (self.layer,)

    @property
    def extent(self) -> Extent:
        """How large it is."""
        return Extent(self.layer.size, sum(self.layer.shape))

    @property
    def _tile(self) -> tuple[int, int]:
        return self.pattern.tile(self.layer.shape, self.layer.groups)

    def groups(self, scores: Sequence[Scores]) -> Groups:
        """Return the tiles of the layer, single weights for a balanced pattern."""
        (score,) = scores
        return Groups(
            tile_scores(score, self._tile).ravel(), tile_sizes((score.shape[0], score.shape[1]), self._tile).ravel()
        )

    def cuts(self, scores: Sequence[Scores], keep: int) -> list[Cut]:
        """Lay the pattern on the layer, as near to ``keep`` weights as it comes."""
        (score,) = scores
        kind, sizes = self.pattern.kind, self.pattern.sizes
        if kind == "n:m":
            return [Cut(n_of_m(score, *sizes))]
        if kind == "n:m+permute":
            return [self._permuted(score)]
        if kind == "v:n:m":
            return [Cut(v_n_of_m(score, *sizes))]
        if kind in ("bank", "row_balanced"):
            return [Cut(bank_balanced(score, sizes[0] if sizes else 1, keep))]
        if kind == "kernel_pattern":
            return [Cut(kernel_patterns(score, prod(self.layer.kernel), sizes[0], keep))]
        shape, tile = (score.shape[0], score.shape[1]), self._tile
        grid = (-(-shape[0] // tile[0]), -(-shape[1] // tile[1]))
        return [Cut(spread(keep_best(self.groups(scores), keep).reshape(grid), shape, tile))]

    def _permuted(self, score: Scores) -> Cut:
        n, m = self.pattern.sizes
        channels = self.layer.shape[1]
        order = channel_order(score, channels, n, m)
        if np.array_equal(order, np.arange(channels)):
            return Cut(n_of_m(score, n, m))
        by_channel = score.reshape(score.shape[0], channels, -1)
        kept = np.empty(by_channel.shape, dtype=np.bool_)
        kept[:, order] = n_of_m(by_channel[:, order].reshape(score.shape), n, m).reshape(by_channel.shape)
        return Cut(kept.reshape(score.shape), order)
