"""Attention heads: which rows and columns of which layers go when a head goes.

A head is tied over the projections of one attention block: its rows of the query, key and value projections and its
columns of the output projection. With grouped-query attention (Ainslie et al., EMNLP 2023) consecutive query heads
share one key and value head, which goes when the last of them goes.

The projections are recognised by the names of their modules; those of a table below stand side by side under one
parent: ``layers.0.self_attn.q_proj``, ``.k_proj``, ``.v_proj`` and ``.o_proj``. A fused projection holds the rows of
all queries, then of all keys, then of all values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sparsim.errors import ConfigError
from sparsim.matrix import IntArray
from sparsim.network import Layer
from sparsim.pruning.allocation import Extent, Groups, keep_best
from sparsim.pruning.criteria import Scores
from sparsim.pruning.units import Cut

__all__ = ["AttentionBlock", "attention_blocks"]

SEPARATE = (
    ("q_proj", "k_proj", "v_proj", ("o_proj", "out_proj")),
    ("self.query", "self.key", "self.value", ("output.dense",)),
    ("attention.query", "attention.key", "attention.value", ("output.dense", "attention.output.dense")),
    ("query", "key", "value", ("output.dense", "attention.output.dense", "out")),
    ("to_q", "to_k", "to_v", ("to_out.0", "to_out")),
    ("wq", "wk", "wv", ("wo",)),
    ("q_lin", "k_lin", "v_lin", ("out_lin",)),
    ("q", "k", "v", ("o",)),
)
FUSED = (
    ("in_proj_weight", ("out_proj",)),
    ("in_proj", ("out_proj",)),
    ("qkv_proj", ("o_proj", "out_proj")),
    ("qkv", ("proj", "out_proj")),
    ("c_attn", ("c_proj",)),
    ("to_qkv", ("to_out.0", "to_out")),
)


@dataclass(frozen=True, eq=False)
class AttentionBlock:
    """The projections of one attention block.

    Parameters
    ----------
    layers : query, key, value and output projection, or the fused projection and the output projection.
    owners : for each layer the head of each row (of the output projection: of each column), int64. Query heads count
        from 0, key and value heads go on from there.
    query_heads, key_heads : numbers of heads; query_heads is a multiple of key_heads.
    """

    layers: tuple[Layer, ...]
    owners: tuple[IntArray, ...]
    query_heads: int
    key_heads: int

    @property
    def extent(self) -> Extent:
        """Weights and axes of all projections together."""
        return Extent(sum(layer.size for layer in self.layers), sum(sum(layer.shape) for layer in self.layers))

    @property
    def _key_head(self) -> IntArray:
        return np.arange(self.query_heads, dtype=np.int64) // (self.query_heads // self.key_heads)

    def groups(self, scores: Sequence[Scores]) -> Groups:
        """Return one group for each query head: the mean score of its weights, those of its key head included.

        A shared key and value head counts in the size of the best of its query heads, the last one to go, so that
        the sizes of the heads that stay add up to the weights that stay.
        """
        heads = self.query_heads + self.key_heads
        sums, sizes = np.zeros(heads), np.zeros(heads, dtype=np.int64)
        for number, (score, owner) in enumerate(zip(scores, self.owners, strict=True)):
            axis = self._axis(number)
            sums += np.bincount(owner, weights=score.sum(axis=1 - axis), minlength=heads)
            sizes += np.bincount(owner, minlength=heads) * score.shape[1 - axis]
        own, shared = slice(None, self.query_heads), self.query_heads + self._key_head
        means = (sums[own] + sums[shared]) / np.maximum(sizes[own] + sizes[shared], 1)
        ranked = np.argsort(-means, kind="stable")
        _, first = np.unique(self._key_head[ranked], return_index=True)
        charged = sizes[own].copy()
        charged[ranked[first]] += sizes[shared][ranked[first]]
        return Groups(means, charged)

    def cuts(self, scores: Sequence[Scores], keep: int) -> list[Cut]:
        """Keep the best heads, as many as bring the block nearest to ``keep`` weights."""
        queries = keep_best(self.groups(scores), keep)
        keys = np.bincount(self._key_head[queries], minlength=self.key_heads) > 0
        stays = np.append(queries, keys)
        cuts = []
        for number, (score, owner) in enumerate(zip(scores, self.owners, strict=True)):
            alive = stays[owner] if self._axis(number) else stays[owner][:, None]
            cuts.append(Cut(np.broadcast_to(alive, score.shape)))
        return cuts

    def _axis(self, number: int) -> int:
        """Return 1 for the output projection, whose heads are columns, 0 for the others."""
        return int(number == len(self.layers) - 1)


def attention_blocks(layers: Sequence[Layer], features: int) -> list[AttentionBlock]:
    """Find the attention blocks among ``layers`` and cut them into heads of ``features``.

    Raises
    ------
    ConfigError
        If ``features`` does not divide the rows of a projection.
    """
    named = {layer.name: layer for layer in layers if set(layer.kernel) <= {1} and layer.groups == 1}
    found: list[AttentionBlock] = []
    taken: set[str] = set()
    for projections in _projections(named):
        block = None if taken & set(projections) else _block([named[name] for name in projections], features)
        if block is not None:
            found.append(block)
            taken.update(projections)
    return found


def _projections(named: Mapping[str, Layer]) -> Iterator[tuple[str, ...]]:
    """Yield the names of the projections that belong together, the output projection last."""
    for name in named:
        for query, key, value, outs in SEPARATE:
            if (parent := _parent(name, query)) is not None:
                for out in outs:
                    yield from _present((name, parent + key, parent + value, parent + out), named)
        for fused, outs in FUSED:
            if (parent := _parent(name, fused)) is not None:
                for out in outs:
                    yield from _present((name, parent + out), named)


def _parent(name: str, suffix: str) -> str | None:
    """Return what stands before ``suffix`` where it is the end of a module's path, else None."""
    return name.removesuffix(suffix) if name == suffix or name.endswith(f".{suffix}") else None


def _present(names: tuple[str, ...], named: Mapping[str, Layer]) -> Iterator[tuple[str, ...]]:
    if all(name in named for name in names):
        yield names


def _block(layers: Sequence[Layer], features: int) -> AttentionBlock | None:
    """Cut projections into heads; None if their shapes do not belong together."""
    *inputs, out = layers
    queries, fused = out.shape[1], len(inputs) == 1
    keys = (inputs[0].shape[0] - queries) // 2 if fused else inputs[1].shape[0]
    rows = (queries + 2 * keys,) if fused else (queries, keys, keys)
    if tuple(layer.shape[0] for layer in inputs) != rows or keys < 1 or queries % keys:
        return None
    for layer, size in ((inputs[0], queries), (inputs[0] if fused else inputs[1], keys)):
        if size % features:
            raise ConfigError(
                f"heads of {features} features do not divide the {size} of '{layer.name}'",
                key="granularity",
                allowed=f"head:D with D a divisor of {size}",
            )
    query_heads, key_heads = queries // features, keys // features
    query = np.repeat(np.arange(query_heads, dtype=np.int64), features)
    key = query_heads + np.repeat(np.arange(key_heads, dtype=np.int64), features)
    owners = (np.concatenate([query, key, key]), query) if fused else (query, key, key, query)
    return AttentionBlock(tuple(layers), owners, query_heads, key_heads)
