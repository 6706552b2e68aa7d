"""What a weight is worth, by each criterion."""

import numpy as np
import pytest

from sparsim.errors import ConfigError, InputError
from sparsim.matrix import Csr
from sparsim.network import Layer, Network
from sparsim.pruning import criterion, prune
from sparsim.pruning.criteria import gradient, magnitude, obd, random, wanda


@pytest.fixture
def layer():
    weight = np.random.default_rng(0).normal(size=(4, 3, 2, 2))
    weight[0, 0] = 0
    return Layer("conv", weight)


def test_magnitude_is_the_absolute_value_in_double():
    scores = magnitude(Layer("fc", np.array([[-2.0, 0.0, 0.5]], dtype=np.float16)))
    assert scores.dtype == np.float64
    np.testing.assert_array_equal(scores, [[2.0, 0.0, 0.5]])


def test_magnitude_of_the_most_negative_integer_does_not_overflow():
    np.testing.assert_array_equal(magnitude(Layer("fc", np.array([[-128, 127]], dtype=np.int8))), [[128.0, 127.0]])


def test_magnitude_of_a_sparse_matrix():
    dense = np.array([[0.0, -3.0], [1.0, 0.0]])
    np.testing.assert_array_equal(magnitude(Layer("fc", Csr.from_dense(dense))), np.abs(dense))


def test_random_depends_on_seed_and_name_only(layer):
    other = Layer("other", layer.weight)
    first = random(3)(layer)
    np.testing.assert_array_equal(first, random(3)(layer))
    assert (first[layer.weight == 0] == 0).all()
    assert ((first[layer.weight != 0] > 0) & (first[layer.weight != 0] <= 1)).all()
    for different in (random(4)(layer), random(3)(other)):
        assert (first[layer.weight != 0] != different[layer.weight != 0]).all()


def test_random_of_one_layer_is_the_same_whatever_else_is_pruned(layer):
    other = Layer("other", np.ones((3, 3)))
    alone = prune(Network("a", (layer,)), "unstructured", 0.5, criterion="random")
    both = prune(Network("b", (other, layer)), "unstructured", 0.5, criterion="random")
    np.testing.assert_array_equal(alone["conv"].weight, both["conv"].weight)


def test_obd_and_gradient_are_their_formulas(layer):
    given = np.random.default_rng(1).normal(size=layer.shape)
    np.testing.assert_allclose(obd({"conv": given**2})(layer), given**2 * layer.weight**2 / 2)
    np.testing.assert_allclose(gradient({"conv": given})(layer), np.abs(given * layer.weight))


def test_obd_is_the_rise_of_a_quadratic_loss():
    """Of 1/2 sum h (w - w0)^2, the loss after one weight is removed, the others as they were."""
    weight, h = np.array([[3.0, -1.0, 0.5]]), np.array([[0.1, 2.0, 9.0]])
    rise = [0.5 * h[0, i] * weight[0, i] ** 2 for i in range(3)]
    np.testing.assert_allclose(obd({"fc": h})(Layer("fc", weight))[0], rise)
    kept = prune(Network("n", (Layer("fc", weight),)), "unstructured", nnz=2, criterion=obd({"fc": h}))["fc"].weight
    np.testing.assert_array_equal(kept, [[0.0, -1.0, 0.5]])


def test_wanda_is_the_norm_of_what_a_weight_contributes():
    rng = np.random.default_rng(2)
    weight, samples = rng.normal(size=(3, 5)), rng.normal(size=(20, 5))
    scores = wanda({"fc": np.linalg.norm(samples, axis=0)})(Layer("fc", weight))
    for row in range(3):
        for column in range(5):
            assert scores[row, column] == pytest.approx(np.linalg.norm(samples[:, column] * weight[row, column]))


def test_wanda_takes_norms_by_channel_or_by_column(layer):
    channel = np.array([1.0, 2.0, 3.0])
    by_channel = wanda({"conv": channel})(layer)
    np.testing.assert_allclose(by_channel, np.abs(layer.weight) * channel[None, :, None, None])
    np.testing.assert_allclose(wanda({"conv": np.repeat(channel, 4)})(layer), by_channel)
    column = np.arange(12.0)
    np.testing.assert_allclose(
        wanda({"conv": column})(layer).reshape(4, 12), np.abs(layer.weight).reshape(4, 12) * column
    )


def test_wanda_of_a_grouped_convolution_has_norms_for_all_groups():
    layer = Layer("grouped", np.ones((4, 2, 3)), groups=2)
    scores = wanda({"grouped": np.array([1.0, 2.0, 3.0, 4.0])})(layer)
    np.testing.assert_array_equal(scores[:, :, 0], [[1, 2], [1, 2], [3, 4], [3, 4]])
    assert wanda({"grouped": np.arange(12.0)})(layer)[3].ravel().tolist() == [6, 7, 8, 9, 10, 11]


def test_wanda_with_balanced_rows_keeps_the_same_of_every_output():
    rng = np.random.default_rng(3)
    network = Network("n", (Layer("fc", rng.normal(size=(16, 40)) * np.arange(1, 17)[:, None]),))
    norms = rng.random(40)
    pruned = prune(network, "row_balanced", 0.5, criterion=wanda({"fc": norms}))["fc"].weight
    scores = np.abs(network["fc"].weight) * norms
    for row in range(16):
        best = np.argsort(-scores[row])[:20]
        assert set(np.flatnonzero(pruned[row])) == set(best)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (obd({"fc": np.ones(3)}), r"layer 'conv' has no Hessian diagonal.*known: fc; give them, or skip the layer"),
        (gradient({"conv1": np.ones(3)}), r"layer 'conv' has no gradient; did you mean 'conv1'"),
        (gradient({"conv": np.ones((4, 12))}), r"gradient of shape \(4, 12\) for a weight of \(4, 3, 2, 2\)"),
        (gradient({"conv": np.full((4, 3, 2, 2), np.nan)}), "layer 'conv': gradient with values that are no finite"),
        (wanda({"conv": np.ones(4)}), r"input norms of shape \(4,\); give one for each of 3 channels or 12 columns"),
        (wanda({"conv": -np.ones(3)}), "layer 'conv': a negative input norm"),
    ],
)
def test_a_wrong_array_names_its_layer(layer, rule, message):
    with pytest.raises(InputError, match=message):
        rule(layer)


def test_criteria_by_name(layer):
    arrays = {"conv": np.full(layer.shape, 2.0)}
    np.testing.assert_array_equal(criterion("magnitude")(layer), magnitude(layer))
    np.testing.assert_array_equal(criterion("random", seed=5)(layer), random(5)(layer))
    np.testing.assert_array_equal(criterion("obd", arrays)(layer), obd(arrays)(layer))
    np.testing.assert_array_equal(criterion("gradient", arrays)(layer), gradient(arrays)(layer))
    norms = {"conv": np.ones(3)}
    np.testing.assert_array_equal(criterion("wanda", norms)(layer), magnitude(layer))


def test_criteria_by_name_are_checked():
    with pytest.raises(ConfigError, match=r"criterion: 'wnda'; did you mean 'wanda'.*allowed: magnitude, random, obd"):
        criterion("wnda")
    with pytest.raises(ConfigError, match="criterion: 'wanda' needs an array for each layer"):
        criterion("wanda")
    with pytest.raises(ConfigError, match="'magnitude' uses no saliency arrays; allowed: obd, wanda, gradient"):
        criterion("magnitude", {})
    with pytest.raises(ConfigError, match="seed: -1; allowed: a whole number, 0 or more"):
        criterion("random", seed=-1)


def test_what_has_no_values_cannot_be_scored():
    with pytest.raises(InputError, match="layer 'fc' has positions but no values"):
        random()(Layer("fc", Csr.build((2, 3), [0, 1, 2], [0, 2])))


def test_a_zero_weight_never_outranks_a_live_one_of_negative_saliency():
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(8, 16))
    weight[:, ::2] = 0
    layer = Layer("fc", weight)
    for saliency in (rng.normal(size=weight.shape), np.zeros(weight.shape), -np.ones(weight.shape)):
        again = prune(Network("net", (layer,)), "unstructured", 0.5, criterion=obd({"fc": saliency}))
        np.testing.assert_array_equal(again["fc"].weight, weight)
        assert prune(Network("net", (layer,)), "unstructured", 0.75, criterion=obd({"fc": saliency})).nnz == 32
