"""The products of a training step against gradients by finite differences, and their sizes against counting."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from checks import refused
from hypothesis import given
from hypothesis import strategies as st

from sparsim.errors import ConfigError
from sparsim.graph import Graph, Node
from sparsim.matrix import Csr
from sparsim.network import Layer, Network
from sparsim.simulate import network_workloads, run
from sparsim.training import PRODUCTS, layer_training, training_workloads
from sparsim.workload import Operand, Workload, at_width


def masked(rng, shape, keep):
    weight = rng.uniform(0.5, 2, size=shape)
    return np.where(rng.random(shape) < keep, weight, 0.0)


def unrolled(x, layer):
    """Activations [channels, batch, h, w] as [channels * kh * kw, batch * positions], by loops."""
    (kh, kw), (sh, sw), (ph, pw) = layer.kernel, layer.stride, layer.padding
    padded = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    height, width = layer.output_size
    columns = []
    for sample, i, j in itertools.product(range(x.shape[1]), range(height), range(width)):
        columns.append(padded[:, sample, i * sh : i * sh + kh, j * sw : j * sw + kw].ravel())
    return np.array(columns).T


def folded(columns, x, layer):
    """The opposite of `unrolled`: the copies of each activation added up."""
    labels = unrolled(np.arange(1, x.size + 1, dtype=float).reshape(x.shape), layer).astype(int)
    sums = np.zeros(x.size + 1)
    np.add.at(sums, labels, columns)
    return sums[1:].reshape(x.shape)


def product(workload, a, b):
    """Multiply values of the shapes the workload announces, group by group."""
    assert (workload.a.rows, workload.a.cols, workload.b.rows, workload.b.cols) == (*a.shape, *b.shape)
    parts = zip(np.split(a, workload.groups), np.split(b, workload.groups), strict=True)
    return np.vstack([left @ right for left, right in parts])


def slope(loss, at):
    """Gradient by central differences; exact for the quadratic losses here up to rounding."""
    gradient = np.zeros_like(at)
    for index in np.ndindex(at.shape):
        step = np.zeros_like(at)
        step[index] = 1e-3
        gradient[index] = (loss(at + step) - loss(at - step)) / 2e-3
    return gradient


def check_step(layer, x, as_matrix, from_matrix):
    """Run the three products on values and compare with the slopes of half the squared output."""
    weight, groups = np.asarray(layer.weight), layer.groups
    flat = weight.reshape(weight.shape[0], -1)
    parts = layer_training(layer, batch=x.shape[1])
    forward = parts["forward"]

    def output(flat, x):
        return product(forward, flat, as_matrix(x))

    def loss(flat, x):
        return 0.5 * (output(flat, x) ** 2).sum()

    y = output(flat, x)
    transposed = np.vstack([block.T for block in np.split(flat, groups)])
    dx = from_matrix(product(parts["input_gradient"], transposed, y))
    np.testing.assert_allclose(dx, slope(lambda value: loss(flat, value), x), rtol=1e-6, atol=1e-6)

    wanted = slope(lambda value: loss(value, x), flat)
    whole = layer_training(layer, batch=x.shape[1], dense_gradient=True)["weight_gradient"]
    columns = np.vstack([block.T for block in np.split(as_matrix(x), groups)])
    np.testing.assert_allclose(product(whole, y, columns), wanted, rtol=1e-6, atol=1e-6)
    check_kept(parts["weight_gradient"], flat, y, as_matrix(x), wanted, groups)


def check_kept(workload, flat, y, x, wanted, groups):
    """The gradient without empty rows and columns holds the gradient of every weight that stayed."""
    blocks = [
        (np.flatnonzero(w.any(axis=1)), np.flatnonzero(w.any(axis=0)), w, dy, rows_of_x, dw)
        for w, dy, rows_of_x, dw in zip(*(np.split(each, groups) for each in (flat, y, x, wanted)), strict=True)
        if w.any()
    ]
    tall, wide = (max(len(block[side]) for block in blocks) for side in (0, 1))
    a = np.vstack([np.pad(dy[r], ((0, tall - len(r)), (0, 0))) for r, _, _, dy, _, _ in blocks])
    b = np.vstack([np.pad(rows_of_x[c].T, ((0, 0), (0, wide - len(c)))) for _, c, _, _, rows_of_x, _ in blocks])
    found = product(workload, a, b)
    for part, (r, c, w, _, _, dw) in zip(np.split(found, len(blocks)), blocks, strict=True):
        mine = np.zeros_like(dw)
        mine[np.ix_(r, c)] = part[: len(r), : len(c)]
        np.testing.assert_allclose(mine * (w != 0), dw * (w != 0), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("shape", [(5, 4), (1, 1), (3, 7)])
def test_a_linear_layer_steps_along_its_gradients(shape):
    rng = np.random.default_rng(1)
    weight = masked(rng, shape, 0.6)
    weight[0, 0] = 1.0
    weight[1:2] = 0.0
    layer = Layer("fc", weight)
    check_step(layer, rng.normal(size=(shape[1], 3)), lambda x: x, lambda dx: dx)


@pytest.mark.parametrize(
    ("groups", "stride", "padding", "emptied"),
    [(1, (1, 1), (0, 0), 2), (1, (2, 1), (1, 2), 0), (2, (1, 1), (1, 1), 0), (4, (2, 2), (0, 1), 1)],
)
def test_a_convolution_steps_along_its_gradients(groups, stride, padding, emptied):
    rng = np.random.default_rng(groups)
    weight = masked(rng, (4, 4 // groups, 2, 3), 0.7)
    weight[:emptied] = 0.0
    weight[-1, 0, 0, 0] = 1.0
    layer = Layer("conv", weight, stride, padding, groups=groups, input_size=(4, 3))
    x = rng.normal(size=(4, 2, 4, 3))
    check_step(layer, x, lambda x: unrolled(x, layer), lambda dx: folded(dx, x, layer))


def test_channels_shrink_the_gradient_of_the_weights_and_scattered_zeros_do_not():
    weight = np.ones((8, 6))
    weight[2] = 0.0
    weight[:, [1, 4]] = 0.0
    channels = layer_training(Layer("fc", weight), batch=10)["weight_gradient"]
    assert (channels.m, channels.k, channels.n) == (7, 10, 4)
    assert (channels.dense_twin.m, channels.dense_twin.n) == (8, 6)
    scattered = np.ones((8, 6))
    scattered.flat[::5] = 0.0
    whole = layer_training(Layer("fc", scattered), batch=10)
    assert (whole["weight_gradient"].m, whole["weight_gradient"].n) == (8, 6)
    assert whole["weight_gradient"].multiplies > 10 * np.count_nonzero(scattered), "results are not sampled"


def test_a_step_costs_what_rigl_counts():
    """Evci et al. 2020: 3 sparse products a step, or 2 sparse and 1 dense when the mask grows."""
    rng = np.random.default_rng(0)
    layer = Layer("fc", masked(rng, (20, 30), 0.2))
    sparse, dense = layer.nnz * 7, 20 * 30 * 7
    steps = layer_training(layer, batch=7, dense_gradient=True)
    assert [steps[name].multiplies for name in PRODUCTS] == [sparse, sparse, dense]
    unpruned = layer_training(layer.with_weight(np.ones((20, 30))), batch=7)
    assert sum(each.multiplies for each in unpruned.values()) == 3 * dense


@given(
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 4),
    st.sampled_from([0.0, 0.4, 1.0]),
    st.data(),
)
def test_all_products_share_one_pattern_of_activations(groups, rows, channels, batch, density, data):
    cells = data.draw(st.lists(st.booleans(), min_size=groups * rows * channels, max_size=groups * rows * channels))
    weight = np.array(cells, dtype=float).reshape(groups * rows, channels)
    layer = Layer("fc", weight, groups=groups, activation_density=density)
    parts = layer_training(layer, batch=batch, seed=3)
    x = np.split(parts["forward"].b.csr.to_dense() != 0, groups)
    blocks = list(zip(np.split(weight != 0, groups), x, strict=True))
    assert parts["forward"].multiplies == sum(int((w @ x.astype(int)).sum()) for w, x in blocks)
    assert parts["input_gradient"].multiplies == np.count_nonzero(weight) * batch
    kept = [(int(w.any(axis=1).sum()), w.any(axis=0), x) for w, x in blocks if w.any()]
    tallest, widest = (
        max((value(k) for k in kept), default=0) for value in (lambda k: k[0], lambda k: int(k[1].sum()))
    )
    gradient = parts["weight_gradient"]
    if density == 1.0:
        assert gradient.multiplies == len(kept) * tallest * widest * batch
    else:
        assert gradient.multiplies == sum(tallest * int(x[columns].sum()) for _, columns, x in kept)
    every = layer_training(layer, batch=batch, seed=3, dense_gradient=True)["weight_gradient"]
    assert every.multiplies == rows * sum(int(x.sum()) for _, x in blocks)
    assert gradient.multiplies <= (gradient.dense_twin or gradient).multiplies == every.multiplies


def test_im2col_repeats_only_the_kept_channels():
    weight = np.ones((4, 6, 3, 3))
    weight[:, 2:] = 0.0
    layer = Layer("conv", weight, (1, 1), (1, 1), input_size=(8, 8))
    parts = layer_training(layer, batch=2)
    assert parts["weight_gradient"].b_unique_elements == 2 * 2 * 64
    assert parts["weight_gradient"].dense_twin.b_unique_elements == 2 * 6 * 64
    assert parts["input_gradient"].b_unique_elements is None


@pytest.mark.parametrize("machine", ["sparch", "dense", "a100", "a100-2:4"])
@pytest.mark.parametrize("empty", [False, True])
def test_machines_run_a_step(machine, empty):
    weight = np.zeros((8, 16)) if empty else masked(np.random.default_rng(0), (8, 16), 0.5)
    for part in layer_training(Layer("fc", weight, activation_density=0.5), batch=4).values():
        report = run(part, machine)
        assert report["workload.multiplies"] == part.multiplies
        assert report.cycles >= 0


def test_names_say_product_and_weight():
    network = Network("net", (Layer("a", np.ones((4, 3))), Layer("b", np.ones((2, 4)))))
    steps = training_workloads(network, batch=2, dtype="fp32")
    assert [each.layer for each in steps] == [
        "a:forward",
        "a:weight_gradient",
        "b:forward",
        "b:input_gradient",
        "b:weight_gradient",
    ]
    assert [each.weight_of for each in steps] == ["a", "a", "b", "b", "b"]
    assert {each.name for each in steps} == {"net"}
    assert {each.dtype.label for each in steps} == {"fp32"}
    assert all(each.weight_of == each.layer for each in network_workloads(network))


def test_the_graph_tells_which_layers_read_the_input():
    nodes = (
        Node("x", "input", attributes={"channels": 3}),
        Node("r", "function", ("x",), attributes={"function": "relu"}),
        Node("a", "layer", ("r",), "a"),
        Node("b", "layer", ("x",), "b"),
        Node("sum", "add", ("a", "b")),
        Node("c", "layer", ("sum",), "c"),
        Node("twice1", "layer", ("x",), "twice"),
        Node("twice2", "layer", ("twice1",), "twice"),
    )
    layers = tuple(Layer(name, np.ones((3, 3))) for name in ("c", "a", "b", "twice"))
    network = Network("net", layers, graph=Graph(nodes, ("c", "twice2")))
    have = {each.weight_of for each in training_workloads(network) if each.layer.endswith("input_gradient")}
    assert have == {"c", "twice"}


def test_a_width_is_for_layers_that_do_not_know_theirs():
    bare, known = Layer("w", np.ones((2, 3))), Layer("p", np.ones((2, 3)), positions=5)
    network = Network("net", (bare, known, Layer("c", np.ones((2, 3, 1, 1)), input_size=(4, 4))))
    for step, forward in zip(
        [each for each in training_workloads(network, columns=9) if each.layer.endswith("forward")],
        network_workloads(network, columns=9),
        strict=True,
    ):
        assert step.sha256 == forward.sha256
    assert at_width(bare, None) is bare
    assert at_width(known, 9) is known


def test_a_twin_is_no_part_of_the_cost():
    a, b = Operand.dense(2, 3), Operand.dense(3, 4)
    twin = Workload(Operand.dense(5, 3), b)
    assert Workload(a, b).sha256 == Workload(a, b, weight_of="fc", dense_twin=twin).sha256
    assert Workload(a, b).dense_twin is None


def test_the_two_to_four_of_a_weight_is_none_along_its_other_axis():
    weight = np.tile([1.0, 1.0, 0.0, 0.0], (8, 4))
    parts = layer_training(Layer("fc", weight), batch=64)
    assert run(parts["forward"], "a100-2:4")["details.accelerated"]
    assert not run(parts["input_gradient"], "a100-2:4")["details.accelerated"]


def test_shape_alone_stays_shape_alone():
    layer = Layer("fc", np.broadcast_to(np.float32(1), (2**16, 2**16)))
    for part in layer_training(layer, batch=2**12).values():
        assert part.a.matrix is None
        assert part.b.matrix is None


def test_patterns_without_values_train_alike():
    weight = masked(np.random.default_rng(2), (6, 5), 0.4)
    csr = Csr.from_dense(weight)
    bare = Csr(csr.shape, csr.indptr, csr.indices)
    for dense, pattern in zip(
        layer_training(Layer("w", weight)).values(), layer_training(Layer("w", bare)).values(), strict=True
    ):
        assert dense.sha256 == pattern.sha256


def test_refusals():
    refused(lambda: layer_training(Layer("conv", np.ones((2, 2, 3, 3)))), "conv", "--input")
    refused(lambda: layer_training(Layer("fc", np.ones((2, 2))), batch=0), "batch: 0", kind=ConfigError)
    refused(lambda: training_workloads(Network("n", ()), dtype="fp7"), "fp7", kind=ConfigError)
    assert training_workloads(Network("n", ())) == []
