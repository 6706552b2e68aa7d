"""Attention heads: who is tied to whom, and what a head is worth."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsim.errors import ConfigError
from sparsim.matrix import Csr
from sparsim.network import Layer, Network
from sparsim.pruning import prune

NAMES = [
    ("model.layers.0.self_attn", ["q_proj", "k_proj", "v_proj", "o_proj"]),
    ("decoder.layers.3.self_attn", ["q_proj", "k_proj", "v_proj", "out_proj"]),
    ("encoder.layer.0.attention", ["self.query", "self.key", "self.value", "output.dense"]),
    ("vit.encoder.layer.0.attention", ["attention.query", "attention.key", "attention.value", "output.dense"]),
    ("down.attn1", ["to_q", "to_k", "to_v", "to_out.0"]),
    ("attn", ["to_q", "to_k", "to_v", "to_out"]),
    ("layers.0.attention", ["wq", "wk", "wv", "wo"]),
    ("transformer.layer.0.attention", ["q_lin", "k_lin", "v_lin", "out_lin"]),
    ("encoder.block.0.layer.0.SelfAttention", ["q", "k", "v", "o"]),
    ("", ["q_proj", "k_proj", "v_proj", "o_proj"]),
]
FUSED = [
    ("self_attn", "in_proj_weight", "out_proj"),
    ("self_attn", "in_proj", "out_proj"),
    ("blocks.0.attn", "qkv", "proj"),
    ("h.0.attn", "c_attn", "c_proj"),
    ("layers.0.self_attn", "qkv_proj", "o_proj"),
]


def full(parent, name):
    return f"{parent}.{name}" if parent else name


def block(heads, keys, features, seed=0, model=12, integers=False):
    """Random query, key, value and output weights."""
    rng = np.random.default_rng(seed)
    shapes = [(heads * features, model), (keys * features, model), (keys * features, model), (model, heads * features)]
    return [rng.integers(1, 4, shape).astype(float) if integers else rng.normal(size=shape) for shape in shapes]


def separate(weights, parent="attn", names=("q_proj", "k_proj", "v_proj", "o_proj")):
    return [Layer(full(parent, name), weight) for name, weight in zip(names, weights, strict=True)]


def fused(weights, parent="attn", name="qkv", out="proj"):
    return [Layer(full(parent, name), np.concatenate(weights[:3])), Layer(full(parent, out), weights[3])]


def naive_heads(weights, heads, keys, features, keep):
    """Take heads away, the worst first, and stop where the weights left are nearest to ``keep``."""
    query, key, value, out = weights
    shared = heads // keys
    worth = []
    for head in range(heads):
        own, of_key = slice(head * features, (head + 1) * features), head // shared
        rows = slice(of_key * features, (of_key + 1) * features)
        parts = [query[own], key[rows], value[rows], out[:, own]]
        worth.append(sum(np.abs(part).sum() for part in parts) / sum(part.size for part in parts))
    order = sorted(range(heads), key=lambda head: (-worth[head], head))
    states = []
    for count in range(heads + 1):
        alive = set(order[:count])
        masks = [np.zeros(weight.shape, dtype=bool) for weight in weights]
        for head in alive:
            own = slice(head * features, (head + 1) * features)
            rows = slice(head // shared * features, (head // shared + 1) * features)
            masks[0][own], masks[1][rows], masks[2][rows], masks[3][:, own] = True, True, True, True
        states.append(masks)
    return min(states, key=lambda masks: abs(sum(mask.sum() for mask in masks) - keep))


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 4), st.floats(0, 0.99), st.integers(0, 99))
def test_heads_match_the_loops(keys, shared, features, sparsity, seed):
    heads = keys * shared
    weights = block(heads, keys, features, seed, model=5, integers=True)
    keep = round(sum(weight.size for weight in weights) * (1 - sparsity))
    expected = naive_heads(weights, heads, keys, features, keep)
    pruned = prune(Network("n", tuple(separate(weights))), f"head:{features}", sparsity)
    for layer, weight, kept in zip(pruned, weights, expected, strict=True):
        np.testing.assert_array_equal(layer.weight, np.where(kept, weight, 0))
    together = prune(Network("n", tuple(fused(weights))), f"head:{features}", sparsity)
    np.testing.assert_array_equal(together[0].weight, np.concatenate([layer.weight for layer in pruned.layers[:3]]))
    np.testing.assert_array_equal(together[1].weight, pruned[3].weight)


@pytest.mark.parametrize(("parent", "names"), NAMES)
def test_projections_are_known_by_name(parent, names):
    layers = separate(block(4, 4, 3), parent, names)
    pruned = prune(Network("n", (Layer("ffn", np.ones((6, 12))), *layers)), "head:3", 0.5)
    assert [layer.sparsity for layer in pruned] == [0, 0.5, 0.5, 0.5, 0.5]
    rows = pruned[1].weight.any(axis=1)
    assert (rows.reshape(4, 3) == rows[::3, None]).all()
    np.testing.assert_array_equal(rows, pruned[4].weight.any(axis=0))
    assert pruned.notes == ("head:3 prunes attention projections: 1 other layer(s) stay whole and count in no budget",)


@pytest.mark.parametrize(("parent", "name", "out"), FUSED)
def test_fused_projections_are_known_by_name(parent, name, out):
    pruned = prune(Network("n", tuple(fused(block(4, 4, 3), parent, name, out))), "head:3", 0.5)
    rows = pruned[0].weight.any(axis=1).reshape(3, 4, 3)
    assert (rows == rows[:1, :, :1]).all()
    np.testing.assert_array_equal(rows[0].ravel(), pruned[1].weight.any(axis=0))


def test_a_shared_key_head_goes_with_the_last_of_its_queries():
    weights = block(4, 2, 3)
    for head, factor in enumerate([1.0, 9.0, 1.0, 1.0]):
        weights[0][head * 3 : head * 3 + 3] *= factor
    pruned = prune(Network("n", tuple(separate(weights))), "head:3", nnz=2 * 3 * 12 + 2 * 3 * 12)
    assert pruned[0].weight.any(axis=1).tolist() == [False] * 3 + [True] * 3 + [False] * 6
    assert pruned[1].weight.any(axis=1).tolist() == [True] * 3 + [False] * 3
    assert pruned[2].weight.any(axis=1).tolist() == [True] * 3 + [False] * 3


def test_blocks_compete_where_asked_to():
    weak, strong = block(4, 4, 3, 1), [3 * weight for weight in block(4, 4, 3, 2)]
    network = Network("n", (*separate(weak, "a"), *separate(strong, "b")))
    assert [layer.sparsity for layer in prune(network, "head:3", 0.5)] == [0.5] * 8
    assert [layer.sparsity for layer in prune(network, "head:3", 0.5, allocation="global")] == [1.0] * 4 + [0.0] * 4
    spared = prune(network, "head:3", 0.5, allocation="erdos_renyi_kernel")
    assert [layer.sparsity for layer in spared] == [0.5] * 8


def test_a_mapping_names_whole_blocks():
    network = Network("n", (*separate(block(4, 4, 3), "a"), *separate(block(4, 4, 3), "b")))
    names = [layer.name for layer in network]
    pruned = prune(network, "head:3", allocation=dict.fromkeys(names[4:], 0.25))
    assert [layer.sparsity for layer in pruned] == [0.0] * 4 + [0.25] * 4
    with pytest.raises(ConfigError, match=r"different sparsities for b\.q_proj, .* whose heads are tied"):
        prune(network, "head:3", allocation=dict.fromkeys(names[4:], 0.25) | {"b.o_proj": 0.5})


def test_a_block_with_a_skipped_projection_stays_whole():
    network = Network("n", (*separate(block(4, 4, 3), "a"), *separate(block(4, 4, 3), "b")))
    pruned = prune(network, "head:3", 0.5, skip=["a.o_proj"])
    assert [layer.sparsity for layer in pruned] == [0.0] * 4 + [0.5] * 4
    assert "3 other layer(s) stay whole" in pruned.notes[0]


def test_names_that_fit_and_shapes_that_do_not_are_no_block():
    layers = separate(block(4, 4, 3), "a")
    odd = Layer("b.o_proj", np.ones((12, 7)))
    network = Network("n", (*layers, *separate(block(4, 4, 3), "b")[:3], odd))
    assert [layer.sparsity for layer in prune(network, "head:3", 0.5)] == [0.5] * 4 + [0.0] * 4


def test_sparse_matrices_have_heads_too():
    layers = [Layer(layer.name, Csr.from_dense(layer.weight)) for layer in separate(block(4, 4, 3))]
    pruned = prune(Network("n", tuple(layers)), "head:3", 0.5)
    dense = prune(Network("n", tuple(separate(block(4, 4, 3)))), "head:3", 0.5)
    for layer, other in zip(pruned, dense, strict=True):
        np.testing.assert_array_equal(layer.weight.to_dense(), other.weight)


def test_heads_that_are_not_there_are_refused():
    network = Network("net", (Layer("conv", np.ones((8, 3, 3, 3))), Layer("fc", np.ones((8, 8)))))
    with pytest.raises(
        ConfigError, match="'net' has no attention projections that 'head:4' could cut; allowed: layers"
    ):
        prune(network, "head:4", 0.5)
    with pytest.raises(
        ConfigError, match=r"heads of 5 features do not divide the 12 of 'attn.q_proj'; allowed: head:D"
    ):
        prune(Network("n", tuple(separate(block(4, 4, 3)))), "head:5", 0.5)
    with pytest.raises(ConfigError, match=r"heads of 4 features do not divide the 6 of 'attn.k_proj'"):
        prune(Network("n", tuple(separate(block(4, 2, 3)))), "head:4", 0.5)
