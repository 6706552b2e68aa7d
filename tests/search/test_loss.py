"""What pruning loses, in one number."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sparsim import Layer, Network, prune
from sparsim.errors import ConfigError
from sparsim.matrix import Csr
from sparsim.search.loss import MOST, Loss

BEFORE = np.array([[1.0, -2.0, 3.0, 4.0]])
AFTER = np.array([[0.0, 0.0, 3.0, 4.0]])


def network(scale=1.0, weight=BEFORE):
    return Network("net", (Layer("a", weight * scale), Layer("b", np.full((2, 2), 5.0))))


@pytest.mark.parametrize(("kind", "lost"), [("distortion", -math.log(25 / 30)), ("share", 5 / 30), ("sum", 3 / 30)])
def test_the_kinds_by_hand(kind, lost):
    loss = Loss.of(network(), "magnitude", kind)
    assert loss.of_network(network(), network(weight=AFTER)) == pytest.approx(lost)
    assert loss.of_network(network(), network()) == 0


def test_distortion_is_the_angle_between_the_weights_and_does_not_depend_on_the_scale_of_a_layer():
    cosine = float((BEFORE * AFTER).sum() / np.linalg.norm(BEFORE) / np.linalg.norm(AFTER))
    for scale in (1.0, 1e-3):
        loss = Loss.of(network(scale), "magnitude", "distortion")
        assert loss.of_network(network(scale), network(scale, AFTER)) == pytest.approx(-2 * math.log(cosine))


def test_distortion_is_what_the_lamp_scores_of_small_weights_add_up_to():
    weight = np.random.default_rng(0).normal(size=(64, 256))
    layer = Layer("a", weight)
    squares = np.sort(weight.ravel() ** 2)
    lamp = squares / np.cumsum(squares[::-1])[::-1]  # equation (3) of Lee et al.
    lost = Loss.of(Network("net", (layer,)), "magnitude", "distortion").of_layer(
        layer, prune(layer, "unstructured", 0.8)
    )
    assert lost == pytest.approx(lamp[: round(0.8 * weight.size)].sum(), rel=1e-3)


def test_an_emptied_layer_loses_a_finite_number():
    loss = Loss.of(network(), "magnitude", "distortion")
    assert loss.of_network(network(), network(weight=0 * BEFORE)) == pytest.approx(MOST)


def test_matrices_and_convolutions_are_weighed_alike():
    weight = np.random.default_rng(1).normal(size=(8, 3, 3, 3))
    conv, matrix = Layer("a", weight), Layer("a", Csr.from_dense(weight.reshape(8, 27)))
    lost = [
        Loss.of(Network("net", (each,)), "magnitude", "distortion").of_layer(each, prune(each, "unstructured", 0.5))
        for each in (conv, matrix)
    ]
    assert lost[0] == pytest.approx(lost[1])


def test_an_unknown_kind_is_refused():
    with pytest.raises(ConfigError, match="loss: 'l1'; allowed: distortion, share, sum"):
        Loss.of(network(), "magnitude", "l1")
