"""Who keeps how much."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsim.errors import ConfigError
from sparsim.network import Layer, Network
from sparsim.pruning import by_deviation, prune
from sparsim.pruning.allocation import (
    Budget,
    Extent,
    Groups,
    across_layers,
    erdos_renyi_kernel,
    keep_best,
    uniform,
)

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
    numbers = across_layers([groups_of(pairs) for pairs in layers], Budget(sparsity))
    pooled = [pair for pairs in layers for pair in pairs]
    total = sum(size for _, size in pooled)
    flat = [
        bool(alive) for pairs, keep in zip(layers, numbers, strict=True) for alive in keep_best(groups_of(pairs), keep)
    ]
    assert flat == naive_keep_best(pooled, round(total * (1 - sparsity)))


def test_uniform_gives_each_its_share():
    assert uniform([Extent(10, 7), Extent(20, 9)], Budget(0.5)) == [5, 10]
    assert uniform([Extent(10, 7), Extent(20, 9)], Budget(density=0.3)) == [3, 6]
    assert across_layers([groups_of([(1, 1)] * 10), groups_of([(9, 1)] * 20)], Budget(0.5)) == [0, 15]


def naive_erdos_renyi(extents, keep):
    """Find the factor between size and density by bisection."""
    low, high = 0.0, float(max(extent.size for extent in extents)) + 1
    for _ in range(200):
        rate = (low + high) / 2
        if sum(min(extent.size, rate * extent.axes) for extent in extents) < keep:
            low = rate
        else:
            high = rate
    return [min(extent.size, high * extent.axes) for extent in extents]


shapes = st.lists(st.integers(1, 40), min_size=2, max_size=4)


@given(st.lists(shapes, min_size=1, max_size=6), st.floats(0.01, 0.99))
def test_erdos_renyi_kernel_matches_bisection_and_adds_up(layers, sparsity):
    extents = [Extent(int(np.prod(shape)), sum(shape)) for shape in layers]
    budget = Budget(sparsity)
    keep = budget.of(sum(extent.size for extent in extents))
    numbers = erdos_renyi_kernel(extents, budget)
    assert sum(numbers) == keep
    for number, exact, extent in zip(numbers, naive_erdos_renyi(extents, keep), extents, strict=True):
        assert 0 <= number <= extent.size
        assert number == pytest.approx(exact, abs=1.001)


def test_erdos_renyi_kernel_by_hand():
    # 2 x 3 3x3 kernels: 6 weights a position and axes 11; 20 x 50 linear: axes 70. 106 of 1,054 weights at 10 %.
    extents = [Extent(54, 11), Extent(1000, 70)]
    assert erdos_renyi_kernel(extents, Budget(nnz=81)) == [11, 70]
    assert erdos_renyi_kernel(extents, Budget(nnz=654)) == [54, 600]
    assert erdos_renyi_kernel([*extents, Extent(0, 5)], Budget(nnz=81)) == [11, 70, 0]
    assert erdos_renyi_kernel([], Budget(0.5)) == []


def test_deviations_become_the_threshold():
    rng = np.random.default_rng(0)
    network = Network(
        "net", (Layer("conv", rng.normal(size=(8, 4, 3, 3))), Layer("fc", rng.standard_t(2, size=(20, 30))))
    )
    sparsities = by_deviation(network, 0.7)
    pruned = prune(network, "unstructured", allocation=sparsities)
    for before, after in zip(network, pruned, strict=True):
        threshold = 0.7 * before.weight.std()
        np.testing.assert_array_equal(after.weight, np.where(np.abs(before.weight) < threshold, 0, before.weight))
    assert sparsities["fc"] > sparsities["conv"] > 0.4


def test_deviations_by_layer_leave_the_others_whole():
    network = Network("net", (Layer("a", np.eye(4)), Layer("b", np.eye(4)), Layer("void", np.ones((0, 3)))))
    assert by_deviation(network, {"b": 1}) == {"b": 0.75}
    assert by_deviation(network, 0) == {"a": 0.0, "b": 0.0}
    with pytest.raises(ConfigError, match="quality: 'c' is no layer of 'net'"):
        by_deviation(network, {"c": 1})
    with pytest.raises(ConfigError, match="quality: -1 for 'a'; allowed: 0 or more"):
        by_deviation(network, -1)
    with pytest.raises(ConfigError, match="9 standard deviations remove every weight of 'a'"):
        by_deviation(network, 9)


@given(st.lists(st.integers(0, 1000), max_size=8), st.floats(0, 1))
def test_shares_of_a_number_add_up_and_follow_the_sizes(sizes, part):
    keep = int(sum(sizes) * part)
    shares = uniform([Extent(size, 2) for size in sizes], Budget(nnz=keep))
    assert sum(shares) == keep
    for share, size in zip(shares, sizes, strict=True):
        assert share <= size
        assert abs(share - keep * size / max(sum(sizes), 1)) < 1


@given(st.integers(0, 10**6), st.floats(0, 1, exclude_max=True))
def test_a_sparsity_is_rounded_once(size, sparsity):
    assert Budget(sparsity).of(size) == round(size * (1 - sparsity))
    assert Budget(density=1 - sparsity).of(size) == round(size * (1 - sparsity))


@pytest.mark.parametrize("sparsity", [1.0, -0.1, 1.5, float("nan"), float("inf")])
def test_an_impossible_sparsity_is_refused(sparsity):
    with pytest.raises(ConfigError, match="allowed: 0 <= sparsity < 1"):
        Budget(sparsity)


@pytest.mark.parametrize("density", [0.0, -0.1, 1.5, float("nan")])
def test_an_impossible_density_is_refused(density):
    with pytest.raises(ConfigError, match="allowed: 0 < density <= 1"):
        Budget(density=density)


@pytest.mark.parametrize("nnz", [-1, 2.5, float("inf")])
def test_an_impossible_number_is_refused(nnz):
    with pytest.raises(ConfigError, match=r"nnz: .*a whole number, 0 or more"):
        Budget(nnz=nnz)


def test_a_budget_is_one_of_the_three():
    with pytest.raises(ConfigError, match="none of them given; allowed: exactly one of the three"):
        Budget()
    with pytest.raises(ConfigError, match="2 of them given"):
        Budget(0.5, nnz=3)
    assert [str(b) for b in (Budget(0.5), Budget(density=0.25), Budget(nnz=1000))] == [
        "sparsity 0.5",
        "density 0.25",
        "1,000 non-zeros",
    ]
    with pytest.raises(ConfigError, match="nnz: 101; allowed: 0 to 100"):
        Budget(nnz=101).of(100)
