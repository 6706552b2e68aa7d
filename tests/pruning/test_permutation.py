"""An order of the input channels in which N:M keeps more."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsim.errors import ConfigError
from sparsim.matrix import Csr
from sparsim.n_of_m import follows_n_of_m
from sparsim.network import Layer, Network
from sparsim.pruning import mask, prune
from sparsim.pruning.permutation import _gains_of_columns, _gains_of_kernels, _meetings, channel_order, retained


def naive_retained(scores, order, n, m):
    """Lay the channels out in ``order`` and add up the best n of every m."""
    rows = scores.shape[0]
    area = scores.shape[1] // max(len(order), 1)
    laid = scores.reshape(rows, len(order), area)[:, list(order)].reshape(scores.shape)
    return sum(
        sum(sorted(laid[row, start : start + m], reverse=True)[:n])
        for row in range(rows)
        for start in range(0, laid.shape[1], m)
    )


@given(
    st.integers(1, 5), st.integers(0, 11), st.integers(1, 3), st.integers(1, 4), st.integers(0, 3), st.integers(0, 99)
)
@settings(max_examples=60)
def test_an_order_is_a_permutation_and_never_worse(rows, channels, area, n, extra, seed):
    scores = np.random.default_rng(seed).integers(0, 9, (rows, channels * area)).astype(float)
    order = channel_order(scores, channels, n, n + extra)
    assert sorted(order.tolist()) == list(range(channels))
    before = naive_retained(scores, range(channels), n, n + extra)
    assert naive_retained(scores, order, n, n + extra) >= before
    assert retained(scores, n, n + extra) == before


@pytest.mark.parametrize("seed", range(6))
def test_small_layers_come_near_the_best_of_all_orders(seed):
    scores = np.random.default_rng(seed).random((4, 6))
    kept = [naive_retained(scores, order, 1, 3) for order in permutations(range(6))]
    found = naive_retained(scores, channel_order(scores, 6, 1, 3), 1, 3)
    assert found >= np.quantile(kept, 0.9)


def test_channels_that_crowd_each_other_out_are_parted():
    scores = np.ones((8, 16))
    scores[:, :8] = 10.0  # in the file's order 8 strong channels share two groups, of which 2:4 keeps 4
    order = channel_order(scores, 16, 2, 4)
    assert retained(scores, 2, 4) == 8 * (4 * 10 + 4 * 1)
    assert retained(scores[:, order], 2, 4) == 8 * 8 * 10


def test_gains_are_what_swapping_changes():
    rng = np.random.default_rng(0)
    first, second = rng.random((3, 4, 7, 1)).astype(np.float32), rng.random((3, 4, 7, 1)).astype(np.float32)
    gains = _gains_of_columns(first, second, 2, 4)
    np.testing.assert_allclose(gains, _gains_of_kernels(first, second, 2, 4), atol=1e-5)
    for pair in range(3):
        both = np.concatenate([first[pair], second[pair]])[:, :, 0].T.astype(float)
        for i in range(4):
            for j in range(4):
                order = list(range(8))
                order[i], order[4 + j] = order[4 + j], order[i]
                gain = naive_retained(both, order, 2, 4) - naive_retained(both, range(8), 2, 4)
                assert gains[pair, i, j] == pytest.approx(gain, abs=1e-5)


@pytest.mark.parametrize("stripes", [2, 3, 6, 7])
def test_every_two_stripes_meet_once_a_pass(stripes):
    rounds = list(_meetings(stripes))
    once = rounds[: len(rounds) // 4]
    met = [frozenset(pair) for first, second in once for pair in zip(first.tolist(), second.tolist(), strict=True)]
    assert len(met) == len(set(met)) == stripes * (stripes - 1) // 2
    for first, second in rounds:
        assert len({*first.tolist(), *second.tolist()}) == 2 * len(first)


def test_a_layer_holds_the_pattern_in_its_order():
    rng = np.random.default_rng(1)
    weight = rng.normal(size=(32, 24)) * np.exp(rng.normal(size=24))
    layer = prune(Layer("fc", weight), "2:4+permute")
    assert layer.input_order is not None
    assert follows_n_of_m(layer.matrix, 2, 4)
    assert not follows_n_of_m(Csr.from_dense(layer.weight), 2, 4)
    np.testing.assert_array_equal(layer.weight[layer.weight != 0], weight[layer.weight != 0])
    assert np.abs(layer.weight).sum() > np.abs(prune(weight, "2:4")).sum()
    np.testing.assert_array_equal(
        layer.weight[:, layer.input_order] != 0, mask(np.abs(weight[:, layer.input_order]), "2:4")
    )


@pytest.mark.parametrize("shape", [(8, 16, 3, 3), (8, 16, 1, 1), (8, 16, 2, 2), (6, 7, 3), (4, 10)])
def test_convolutions_move_whole_kernels(shape):
    layer = prune(Layer("conv", np.random.default_rng(2).normal(size=shape)), "2:4+permute")
    assert follows_n_of_m(layer.matrix, 2, 4)
    if np.prod(shape[2:], dtype=int) % 4 == 0:
        assert layer.input_order is None  # a group never leaves its kernel: no order is better


def test_grouped_convolutions_share_one_order():
    layer = prune(Layer("conv", np.random.default_rng(3).normal(size=(8, 12, 1, 1)), groups=2), "1:4+permute")
    assert layer.input_order.size == 12
    assert follows_n_of_m(layer.matrix, 1, 4)


def test_a_network_notes_the_order_and_the_next_pattern_drops_it():
    rng = np.random.default_rng(4)
    network = Network("n", (Layer("fc", rng.normal(size=(16, 16))), Layer("csr", Csr.from_dense(rng.random((9, 12))))))
    pruned = prune(network, "2:4+permute", 0.9)
    assert "2:4+permute fixes its own sparsity: the budget (sparsity 0.9) was not used" in pruned.notes[0]
    assert "the pattern of 2 layer(s) holds in another order" in pruned.notes[1]
    assert all(follows_n_of_m(layer.matrix, 2, 4) for layer in pruned)
    again = prune(pruned, "unstructured", 0.6)
    assert [layer.input_order for layer in again] == [None, None]
    assert not any("in another order" in note for note in again.notes)
    skipped = prune(pruned, "unstructured", 0.6, skip=["fc"])
    assert skipped["fc"].input_order is pruned["fc"].input_order
    assert [note[:26] for note in skipped.notes if "another order" in note] == ["the pattern of 1 layer(s) "]


def test_an_array_cannot_carry_an_order():
    for array in (np.ones((4, 4)), Csr.from_dense(np.eye(4))):
        with pytest.raises(ConfigError, match=r"'2:4\+permute' reorders input channels, and an array cannot say"):
            prune(array, "2:4+permute")
    with pytest.raises(ConfigError, match="is no mask without its order"):
        mask(np.ones((4, 4)), "2:4+permute")
