"""Layers and networks: the geometry of a convolution against a naive im2col, and sizes carried from layer to layer."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from checks import refused
from hypothesis import assume, given
from hypothesis import strategies as st

from sparsim.matrix import Csr
from sparsim.network import Layer, Network


def im2col(channels, size, kernel, stride, padding, dilation):
    """For every output position, the activations (channel, *position) its column holds, None in the padding."""
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    starts = [range(-p, s + p - r + 1, t) for s, p, r, t in zip(size, padding, reach, stride, strict=True)]
    columns = []
    for start in itertools.product(*starts):
        column = []
        for channel in range(channels):
            for tap in itertools.product(*(range(k) for k in kernel)):
                at = tuple(b + t * d for b, t, d in zip(start, tap, dilation, strict=True))
                column.append((channel, *at) if all(0 <= x < s for x, s in zip(at, size, strict=True)) else None)
        columns.append(column)
    return [len(r) for r in starts], columns


@st.composite
def geometries(draw):
    axes = draw(st.integers(1, 3))
    group = st.integers(1, 3)

    def draws(low, high):
        return tuple(draw(st.integers(low, high)) for _ in range(axes))

    return {
        "kernel": draws(1, 3),
        "size": draws(1, 6),
        "stride": draws(1, 3),
        "padding": draws(0, 2),
        "dilation": draws(1, 2),
        "groups": draw(group),
        "channels": draw(st.integers(1, 2)),
    }


@given(geometries(), st.integers(1, 3))
def test_geometry_equals_a_naive_im2col(g, batch):
    reach = [d * (k - 1) + 1 for k, d in zip(g["kernel"], g["dilation"], strict=True)]
    assume(all(s + 2 * p >= r for s, p, r in zip(g["size"], g["padding"], reach, strict=True)))
    layer = Layer(
        "conv",
        np.ones((2 * g["groups"], g["channels"], *g["kernel"])),
        g["stride"],
        g["padding"],
        g["dilation"],
        g["groups"],
        g["size"],
    )
    out, columns = im2col(g["channels"] * g["groups"], g["size"], g["kernel"], g["stride"], g["padding"], g["dilation"])
    assert list(layer.output_size) == out
    assert layer.columns(batch) == len(columns) * batch
    assert layer.matrix.shape[1] * g["groups"] == len(columns[0])
    touched = {at for column in columns for at in column if at is not None}
    assert layer.unique_activations(batch) == len(touched) * batch


def test_kernel_larger_than_the_input():
    refused(lambda: Layer("conv", np.ones((1, 1, 5, 5)), input_size=(3, 3)).output_size, "conv", "does not fit")


def test_input_size_is_needed():
    refused(lambda: Layer("conv", np.ones((1, 1, 5, 5))).output_size, "conv", "--input")


@pytest.mark.parametrize(
    "facts",
    [
        {"stride": (0, 1)},
        {"stride": (-1, 1)},
        {"dilation": (0, 0)},
        {"padding": (-1, 0)},
        {"input_size": (0, 4)},
        {"stride": (1,)},
        {"input_size": (4, 4, 4)},
        {"groups": 3},
        {"groups": 0},
    ],
)
def test_geometry_that_cannot_be(facts):
    refused(lambda: Layer("conv", np.ones((4, 2, 3, 3)), **facts), "conv")


@pytest.mark.parametrize("weight", [np.ones(3), np.ones((1,) * 6)])
def test_weights_have_two_to_five_dimensions(weight):
    refused(lambda: Layer("odd", weight), "odd", "2 to 5")


def test_weights_are_finite():
    refused(lambda: Layer("bad", np.array([[1.0, np.nan]])), "bad", "finite")


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (0, 0), (0, 3, 3, 3), (4, 0, 3, 3)])
def test_layers_without_weights(shape):
    layer = Layer("empty", np.zeros(shape))
    assert layer.matrix.shape == (shape[0], int(np.prod(shape[1:])))
    assert (layer.size, layer.nnz, layer.sparsity) == (0, 0, 0.0)


def test_convolution_is_a_matrix_in_the_order_of_im2col():
    weight = np.arange(2 * 3 * 2 * 2, dtype=float).reshape(2, 3, 2, 2)
    layer = Layer("conv", weight)
    assert np.array_equal(layer.matrix.to_dense(), weight.reshape(2, -1))
    assert layer.kernel == (2, 2)
    assert layer.nnz == 23
    assert layer.sparsity == pytest.approx(1 / 24)


def test_convolution_as_a_product_is_the_convolution():
    from scipy.signal import correlate

    rng = np.random.default_rng(0)
    weight, image = rng.random((2, 3, 3, 2)), rng.random((3, 6, 5))
    layer = Layer("conv", weight, input_size=(6, 5))
    _, columns = im2col(3, (6, 5), (3, 2), (1, 1), (0, 0), (1, 1))
    unrolled = np.array([[image[at] for at in column] for column in columns]).T
    direct = np.array([correlate(image, w, mode="valid")[0] for w in weight])
    assert (layer.matrix.to_dense() @ unrolled).reshape(direct.shape) == pytest.approx(direct)


def test_positions_stand_in_for_the_geometry():
    layer = Layer("smtx", Csr.from_dense(np.eye(4)), positions=49)
    assert not layer.is_convolution
    assert layer.columns(2) == 98
    assert layer.unique_activations(2) == 4 * 98


def test_other_weights_of_the_same_shape():
    layer = Layer("fc", np.eye(3), activation_density=0.5)
    other = layer.with_weight(np.zeros((3, 3)))
    assert (other.nnz, other.activation_density, layer.nnz) == (0, 0.5, 3)
    refused(lambda: layer.with_weight(np.zeros((3, 4))), "fc", "(3, 4)")


# --- networks --------------------------------------------------------------------------------------------------------


def chain(**first):
    return Network(
        "net",
        (
            Layer("one", np.ones((8, 3, 3, 3)), **({"stride": (2, 2), "padding": (1, 1)} | first)),
            Layer("two", np.ones((4, 8, 3, 3)), (1, 1), (0, 0)),
            Layer("fc", np.ones((10, 4))),
        ),
    )


def test_input_is_carried_through_strides_and_padding():
    network = chain().with_input({"": (3, 16, 12)})
    assert network["one"].output_size == (8, 6)
    assert network["two"].input_size == (8, 6)
    assert network["two"].output_size == (6, 4)
    assert network["fc"].input_size is None
    (note,) = network.notes
    assert "1 convolution(s) (two) was carried on" in note
    assert "pooling" in note
    assert chain().with_input({"one": (3, 16, 12), "two": (8, 8, 6)}).notes == ()


def test_bare_weights_for_one_of_many_channels_are_depthwise():
    """As a checkpoint has MobileNet's: nothing else takes one channel where there are many."""
    weights = {"first": (8, 3, 3, 3), "depthwise": (8, 1, 3, 3), "twice": (16, 1, 3, 3), "mixed": (4, 16, 1, 1)}
    layers = tuple(Layer(name, np.ones(shape)) for name, shape in weights.items())
    network = Network("mobile", layers).with_input({"": (3, 8, 8)})
    assert [layer.groups for layer in network] == [1, 8, 8, 1]
    assert "2 convolution(s) (depthwise, twice) have weights for one input channel" in network.notes[0]
    alone = Network("dw", layers[1:2]).with_input({"": (8, 8, 8)})
    assert alone["depthwise"].groups == 8
    grey = Network("grey", layers[1:2]).with_input({"": (1, 8, 8)})
    assert grey["depthwise"].groups == 1
    stored = Layer("depthwise", np.ones((8, 1, 3, 3)), stride=(1, 1))
    refused(lambda: Network("said", (stored,)).with_input({"": (8, 8, 8)}), "8 channels", "takes 1")


def test_unknown_strides_are_guessed_and_a_note_says_so():
    network = chain(stride=(), padding=()).with_input({"": (3, 16, 12)})
    assert network["one"].output_size == (16, 12)
    assert network["two"].input_size == (16, 12)
    (note,) = network.notes
    assert "1 convolution" in note
    assert "one" in note
    assert "same" in note


def test_one_layer_can_be_given_its_own_input():
    network = chain().with_input({"": (3, 16, 12), "two": (8, 5, 5)})
    assert network["two"].input_size == (5, 5)
    assert chain().with_input({"two": (8, 5, 5)})["one"].input_size is None


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ({"twoo": (8, 5, 5)}, ("twoo", "did you mean 'two'")),
        ({"": (4, 16, 16)}, ("4 channels", "one", "3")),
        ({"two": (3, 5, 5)}, ("3 channels", "two", "8")),
        ({"": (3, 16)}, ("input_size",)),
    ],
)
def test_inputs_that_do_not_fit(sizes, words):
    refused(lambda: chain().with_input(sizes), *words)


def test_network_is_a_list_of_layers():
    network = chain()
    assert len(network) == 3
    assert [layer.name for layer in network] == ["one", "two", "fc"]
    assert network.size == network.nnz == 8 * 27 + 4 * 72 + 40
    assert network.sparsity == 0
    assert Network("none", ()).sparsity == 0
    with pytest.raises(KeyError):
        network["three"]
    assert list(network.to_frame()["weights"]) == [216, 288, 40]
    assert "net" in network._repr_html_()
    assert network.with_layers(network.layers[:1]).size == 216


def test_one_layer_is_no_layers():
    fc = Layer("fc", np.eye(3))
    assert repr(Network("n", (fc,))) == "Network('n': 1 layer, 3 of 9 weights are not zero)"
    assert repr(Network("n", ())).startswith("Network('n': 0 layers")
