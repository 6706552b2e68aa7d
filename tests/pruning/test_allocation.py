"""Who keeps how much."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsim.errors import ConfigError
from sparsim.pruning.allocation import Budget, Groups, across_layers, keep_best, layer_by_layer

group_lists = st.lists(st.tuples(st.integers(0, 5), st.integers(1, 7)), max_size=30)


def groups_of(pairs):
    return Groups(np.array([float(s) for s, _ in pairs]), np.array([n for _, n in pairs], dtype=np.int64))


def naive_keep_best(pairs, keep):
    order = sorted(range(len(pairs)), key=lambda g: (-pairs[g][0], g))
    reachable = [sum(pairs[g][1] for g in order[:count]) for count in range(len(pairs) + 1)]
    count = min(range(len(reachable)), key=lambda c: (abs(reachable[c] - keep), c))
    return [g in order[:count] for g in range(len(pairs))]


@given(group_lists, st.integers(0, 250))
def test_keep_best_matches_the_loop(pairs, keep):
    assert keep_best(groups_of(pairs), keep).tolist() == naive_keep_best(pairs, keep)


@given(st.lists(st.integers(0, 5), max_size=40), st.integers(1, 9), st.integers(0, 400))
def test_keep_best_of_equal_groups_matches_the_loop(scores, size, keep):
    pairs = [(score, size) for score in scores]
    assert keep_best(groups_of(pairs), keep).tolist() == naive_keep_best(pairs, keep)


@given(st.lists(group_lists, max_size=5), st.floats(0, 0.999))
def test_global_is_one_ranking_over_all_layers(layers, sparsity):
    kept = across_layers([groups_of(pairs) for pairs in layers], Budget(sparsity))
    pooled = [pair for pairs in layers for pair in pairs]
    total = sum(size for _, size in pooled)
    flat = [bool(alive) for layer in kept for alive in layer]
    assert flat == naive_keep_best(pooled, round(total * (1 - sparsity)))
    assert [len(layer) for layer in kept] == [len(pairs) for pairs in layers]


def test_layer_by_layer_gives_each_its_share():
    layers = [groups_of([(1, 1)] * 10), groups_of([(9, 1)] * 20)]
    assert [int(kept.sum()) for kept in layer_by_layer(layers, Budget(0.5))] == [5, 10]
    assert [int(kept.sum()) for kept in across_layers(layers, Budget(0.5))] == [0, 15]


@given(st.lists(st.integers(0, 1000), max_size=8), st.floats(0, 1))
def test_shares_of_a_number_add_up_and_follow_the_sizes(sizes, part):
    keep = int(sum(sizes) * part)
    shares = Budget(nnz=keep).shares(sizes)
    assert sum(shares) == keep
    for share, size in zip(shares, sizes, strict=True):
        assert share <= size
        assert abs(share - keep * size / max(sum(sizes), 1)) < 1


@given(st.integers(0, 10**6), st.floats(0, 1, exclude_max=True))
def test_a_sparsity_is_rounded_once(size, sparsity):
    assert Budget(sparsity).of(size) == round(size * (1 - sparsity))


@pytest.mark.parametrize("sparsity", [1.0, -0.1, 1.5, float("nan"), float("inf")])
def test_an_impossible_sparsity_is_refused(sparsity):
    with pytest.raises(ConfigError, match="allowed: 0 <= sparsity < 1"):
        Budget(sparsity)


@pytest.mark.parametrize("nnz", [-1, 2.5, float("inf")])
def test_an_impossible_number_is_refused(nnz):
    with pytest.raises(ConfigError, match="whole number of non-zeros"):
        Budget(nnz=nnz)


def test_a_budget_is_one_of_the_two():
    with pytest.raises(ConfigError, match="neither given; allowed: exactly one of the two"):
        Budget()
    with pytest.raises(ConfigError, match="both given"):
        Budget(0.5, 3)
    with pytest.raises(ConfigError, match="nnz: 101; allowed: 0 to 100"):
        Budget(nnz=101).of(100)
