"""Propagation against networks that run: what is removed must not matter, what stays must."""

from __future__ import annotations

from ast import literal_eval
from dataclasses import replace

import numpy as np
import pytest
from checks import refused
from executor import execute
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sparsim.graph import Graph, Node
from sparsim.matrix import Csr
from sparsim.network import Layer, Network
from sparsim.pruning import prune
from sparsim.pruning.propagate import chain_of, likely_chain, propagate

SMOOTH = ("identity", "leaky_relu", "cosine")
ALL = ("relu", "relu6", "sigmoid", "tanh", "gelu", "silu", "hardswish", "hardsigmoid", "elu", "abs", "neg", *SMOOTH)
BATCH = 5


class Builder:
    """Grows a random graph, one operation after another, and knows the shape of every tensor."""

    def __init__(self, draw, *, generic):
        self.draw, self.generic = draw, generic
        self.rng = np.random.default_rng(draw(st.integers(0, 2**16)))
        self.nodes, self.shapes, self.layers = [], {}, {}
        self.push(
            "input", (), (draw(st.integers(1, 3)), draw(st.integers(1, 4))), channels=generic or draw(st.booleans())
        )

    def push(self, operation, inputs, shape, layer=None, channels=False, **attributes):
        name = f"t{len(self.nodes)}"
        attributes |= {"channels": shape[0]} if channels else {}
        self.nodes.append(Node(name, operation, tuple(inputs), layer, attributes))
        self.shapes[name] = shape

    def pick(self, good=lambda shape: True):
        names = [name for name, shape in self.shapes.items() if good(shape)]
        return self.draw(st.sampled_from(names[-4:][::-1])) if names else None

    def step(self):
        kinds = (
            "layer",
            "layer",
            "layer",
            "layer",
            "again",
            "function",
            "affine",
            "spatial",
            "add",
            "mul",
            "concat",
            "slice",
            "flatten",
        )
        getattr(self, self.draw(st.sampled_from(kinds if self.generic else (*kinds, "opaque"))))()

    def vector(self, count):
        """Numbers of which some are 0."""
        return self.rng.uniform(0.5, 2, count) * self.rng.choice([1, 1, 0], count)

    def layer(self):
        name = self.pick()
        channels, size = self.shapes[name]
        linear = size is None
        groups = self.draw(st.sampled_from([g for g in (1, 2, 3) if channels % g == 0]))
        if self.draw(st.integers(0, 3)) == 0:
            groups = channels  # depthwise
        out = groups * self.draw(st.integers(1, 4 if groups == 1 else 2))
        kernel = () if linear else (self.draw(st.sampled_from([1, 3])),) * 2
        geometry = {} if linear else self.geometry(kernel[0])
        weight = self.pruned(self.rng.uniform(0.5, 1.5, (out, channels // groups, *kernel)))
        known = self.draw(st.sampled_from(["given", "given", "given", "none", "unknown"]))
        bias = self.vector(out) if known == "given" else None
        layer = Layer(f"l{len(self.layers)}", weight, groups=groups, bias=bias, **geometry)
        self.layers[layer.name] = layer
        self.run(layer, name, {"bias": False} if known == "none" else {})

    def geometry(self, kernel):
        if kernel == 3 and self.draw(st.booleans()):
            return {}  # unknown: the executor pads by 1
        dilation = self.draw(st.sampled_from([1, 2])) if kernel == 3 else 1
        return {
            "stride": self.draw(st.sampled_from([1, 2])) if kernel // dilation == 3 or not self.generic else 1,
            "padding": dilation * (kernel // 2) + self.draw(st.sampled_from([0, 0, 1])) * (not self.generic),
            "dilation": dilation,
        }

    def run(self, layer, name, attributes):
        size = self.shapes[name][1]
        if layer.is_convolution:
            stride, padding, dilation = ((getattr(layer, k) or (1,))[0] for k in ("stride", "padding", "dilation"))
            size = (size + 2 * padding - dilation * (layer.kernel[0] - 1) - 1) // stride + 1
        self.push("layer", [name], (layer.shape[0], size), layer.name, **attributes)

    def pruned(self, weight):
        weight = weight.copy()
        if not self.generic:
            weight *= self.rng.choice([-1, 1], weight.shape) * (
                self.rng.random(weight.shape) < self.rng.choice([1, 0.5])
            )
        share = self.rng.choice([0, 0.3, 0.5, 0.7])
        weight[self.rng.random(len(weight)) < share] = 0
        weight[:, self.rng.random(weight.shape[1]) < share] = 0
        weight[self.rng.random(weight.shape[:2]) < share] = 0
        return weight

    def again(self):
        """Run a linear layer or a convolution a second time."""
        if self.layers:
            layer = self.layers[self.draw(st.sampled_from(sorted(self.layers)))]
            fits = (layer.shape[1] * layer.groups, layer.is_convolution)
            name = self.pick(lambda shape: (shape[0], shape[1] is not None) == fits)
            first = next(node for node in self.nodes if node.layer == layer.name)
            if name is not None:
                self.run(layer, name, dict(first.attributes))

    def function(self):
        name = self.pick()
        self.push(
            "function", [name], self.shapes[name], function=self.draw(st.sampled_from(SMOOTH if self.generic else ALL))
        )

    def affine(self):
        name = self.pick()
        count = self.shapes[name][0]
        self.push("affine", [name], self.shapes[name], scale=self.vector(count), shift=self.vector(count))

    def spatial(self):
        name = self.pick(lambda shape: shape[1] is not None and shape[1] < 6)
        if name is not None:
            exact = self.generic or self.draw(st.booleans())  # a border of ones would not vary
            channels, size = self.shapes[name]
            self.push("spatial", [name], (channels, 1 if exact else size + 2), exact=exact)

    def join(self, operation):
        first = self.pick()
        channels, size = self.shapes[first]
        names = [first]
        for _ in range(self.draw(st.integers(0, 2))):
            names.append(self.pick(lambda shape: shape[1] == size and shape[0] in (1, channels)))
        attributes = {}
        if len(names) == 1 or self.draw(st.integers(0, 3)) == 0:
            attributes["constant"] = self.vector(channels) if self.draw(st.booleans()) else 1.5
        self.push(operation, names, self.shapes[first], **attributes)

    def add(self):
        self.join("add")

    def mul(self):
        self.join("mul")

    def concat(self):
        first = self.pick()
        size = self.shapes[first][1]
        names = [first, self.pick(lambda shape: shape[1] == size)]
        channels = sum(self.shapes[name][0] for name in names)
        if channels <= 8:
            self.push("concat", names, (channels, size))

    def slice(self):
        name = self.pick()
        channels, size = self.shapes[name]
        start = self.draw(st.integers(0, channels - 1))
        stop = self.draw(st.integers(start + 1, channels))
        self.push("slice", [name], (stop - start, size), start=start, stop=stop)

    def flatten(self):
        name = self.pick(lambda shape: shape[1] is not None and shape[0] * shape[1] ** 2 <= 16)
        if name is not None:
            channels, size = self.shapes[name]
            self.push("flatten", [name], (channels * size**2, None), repeat=size**2)

    def opaque(self):
        if self.draw(st.integers(0, 3)) == 0:
            name = self.pick()
            self.push("opaque", [name], (2, None), channels=self.generic or self.draw(st.booleans()))

    def network(self):
        for _ in range(self.draw(st.integers(1, 14))):
            self.step()
        names = list(self.shapes)
        outputs = {names[-1]} | set(self.draw(st.lists(st.sampled_from(names), max_size=1)))
        graph = Graph(tuple(self.nodes), tuple(sorted(outputs)))
        return Network("drawn", tuple(self.layers.values()), {"input": str(self.shapes["t0"])}, graph=graph)


@st.composite
def networks(draw, *, generic=False):
    """A pruned network with its graph. ``generic``: no weight can cancel another, no function saturates."""
    return Builder(draw, generic=generic).network()


def batch(network, seed):
    channels, size = literal_eval(network.metadata["input"])
    return {"t0": np.random.default_rng(seed).uniform(0.5, 2, (BATCH, channels, size, size))}


def hidden_biases(network):
    """What layers of unknown bias really add: an analysis cannot know it."""
    known = {n.layer for n in network.graph.nodes if n.attributes.get("bias") is False}
    return {
        layer.name: np.linspace(0.3, 1.1, layer.shape[0])
        for layer in network
        if layer.bias is None and layer.name not in known
    }


def run(network, inputs, change=None):
    return execute(network.graph, network, inputs, biases=hidden_biases(network), change=change)


def bias_maps(result, network, inputs):
    """For every run of a layer that asks for one: what the removed weights added to its first sample."""
    whole = run(network, inputs)
    change = {}
    for node in network.graph.nodes:
        if node.layer in result.bias_maps:
            pruned = replace(network, layers=result.network.layers)
            tensors = execute(
                network.graph,
                pruned,
                inputs,
                biases=hidden_biases(network),
                change={n: lambda x, n=n: whole[n] for n in node.inputs},
            )
            delta = whole[node.name][:1] - tensors[node.name][:1]
            change[node.name] = lambda x, delta=delta: x + delta
    return change


def outputs(network, tensors):
    return [tensors[name] for name in network.graph.outputs]


def same(ours, theirs):
    return all(np.allclose(a, b, rtol=1e-9, atol=1e-9) for a, b in zip(ours, theirs, strict=True))


MANY = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@MANY
@given(networks())
def test_the_outputs_stay_the_same(network):
    result = propagate(network)
    maps = bias_maps(result, network, batch(network, 1))
    inputs = batch(network, 2)
    assert same(outputs(network, run(result.network, inputs, maps)), outputs(network, run(network, inputs)))


@MANY
@given(networks())
def test_constant_channels_are_constant_and_have_their_value(network):
    result = propagate(network)
    for name, tensor in run(network, batch(network, 3)).items():
        if name not in result.channels:
            continue
        known = result.channels[name]
        channels = tensor.swapaxes(0, 1).reshape(tensor.shape[1], len(tensor), -1)
        assert np.allclose(channels[known.constant], channels[known.constant, :1], rtol=1e-12, atol=1e-12)
        told = np.isfinite(known.value)
        assert not (told & ~known.constant).any()
        assert np.allclose(channels[told], known.value[told, None, None], rtol=1e-9, atol=1e-9)


@MANY
@given(networks(generic=True))
def test_channels_that_are_not_called_constant_vary(network):
    result = propagate(network)
    for name, tensor in run(network, batch(network, 4)).items():
        varies = np.ptp(tensor, axis=0).reshape(tensor.shape[1], -1).max(axis=1) > 1e-12
        assert (varies == ~result.channels[name].constant).all(), name


@settings(MANY, max_examples=40)
@given(networks(generic=True))
def test_exactly_the_needed_channels_move_the_outputs(network):
    result = propagate(network)
    inputs = batch(network, 5)
    maps = bias_maps(result, network, inputs)
    before = outputs(network, run(result.network, inputs, maps))
    rng = np.random.default_rng(0)
    for node in network.graph.nodes:
        known = result.channels[node.name]
        for channel, needed in enumerate(known.needed):

            def shake(x, channel=channel, node=node):
                x = maps.get(node.name, lambda x: x)(x).copy()
                x[:, channel] += rng.uniform(1, 2, x[:, channel].shape)
                return x

            after = outputs(network, run(result.network, inputs, maps | {node.name: shake}))
            moved = not all(np.allclose(a, b, rtol=1e-12, atol=1e-12) for a, b in zip(before, after, strict=True))
            # a zero may be kept for a product that has another zero
            assert moved == needed or (needed and known.constant[channel]), (node.name, channel)


def randomised(network, free, seed):
    """Return the network with any weights where ``free(layer)``, a mask [out, in / groups] or [out, 1], says so."""
    rng = np.random.default_rng(seed)
    layers = []
    for layer in network:
        mask = free(layer).reshape(*free(layer).shape, *[1] * len(layer.kernel))
        layers.append(layer.with_weight(np.where(mask, rng.normal(size=layer.shape), layer.weight)))
    return network.with_layers(tuple(layers))


def nodes_of(network, layer):
    return [node for node in network.graph.nodes if node.layer == layer.name]


@MANY
@given(networks(), st.integers(0, 9))
def test_weights_of_outputs_nobody_needs_may_have_any_value(network, seed):
    result = propagate(network)
    inputs = batch(network, 6)
    maps = bias_maps(result, network, inputs)

    def free(layer):
        return ~np.logical_or.reduce([result.channels[node.name].needed for node in nodes_of(network, layer)])[:, None]

    other = randomised(result.network, free, seed)
    assert same(outputs(network, run(other, inputs, maps)), outputs(network, run(network, inputs)))


def zeros(result, layer, name):
    known = result.channels.get(name)
    return np.zeros(layer.shape[1] * layer.groups, dtype=bool) if known is None else known.value == 0


@MANY
@given(networks(), st.integers(0, 9))
def test_weights_that_read_zeros_may_have_any_value(network, seed):
    result = propagate(network)

    def free(layer):
        zero = np.logical_and.reduce([zeros(result, layer, n.inputs[0]) for n in nodes_of(network, layer)])
        return np.repeat(zero.reshape(layer.groups, -1), layer.shape[0] // layer.groups, axis=0)

    inputs = batch(network, 7)
    other = randomised(network, free, seed)
    assert same(outputs(network, run(other, inputs)), outputs(network, run(network, inputs)))


@MANY
@given(networks())
def test_a_second_time_removes_nothing(network):
    first = propagate(network)
    second = propagate(first.network)
    assert not any(second.removed.values())
    assert all(old is new for old, new in zip(first.network, second.network, strict=True))


@MANY
@given(networks())
def test_counts_belong_to_the_weights(network):
    result = propagate(network)
    for old, new in zip(network, result.network, strict=True):
        assert result.removed[old.name] == np.count_nonzero(old.weight) - np.count_nonzero(new.weight)
        assert np.array_equal(new.weight, np.where(new.weight != 0, old.weight, 0))
        pairs = (new.weight != 0).reshape(*new.shape[:2], -1).any(-1)
        assert np.array_equal(result.dead_outputs[old.name], ~pairs.any(1))
        groups = pairs.reshape(new.groups, -1, new.shape[1])
        assert np.array_equal(result.dead_inputs[old.name], ~groups.any(1).ravel())
        if new.nnz == old.nnz:
            assert new is old
    assert result.won == sum(result.removed.values()) / network.size if network.size else result.won == 0


def as_sparse(layer):
    return Layer(layer.name, layer.matrix, groups=layer.groups, bias=layer.bias)


@MANY
@given(networks())
def test_a_sparse_matrix_loses_what_the_array_loses(network):
    nodes = [replace(n, operation="add", attributes={}) if n.operation == "mul" else n for n in network.graph.nodes]
    network = replace(network, graph=Graph(tuple(nodes), network.graph.outputs))
    sparse = network.with_layers(tuple(as_sparse(layer) for layer in network))
    patterns = [replace(layer, weight=replace(layer.weight, values=None)) for layer in sparse]
    ours = propagate(network)
    for theirs in (propagate(sparse), propagate(network.with_layers(tuple(patterns)))):
        assert theirs.removed == ours.removed
        for a, b in zip(ours.network, theirs.network, strict=True):
            assert np.array_equal(a.matrix.to_dense() != 0, b.matrix.to_dense() != 0)
            assert np.array_equal(ours.dead_outputs[a.name], theirs.dead_outputs[a.name])


@MANY
@given(networks(), st.integers(0, 9))
def test_an_order_of_the_inputs_changes_the_matrix_only(network, seed):
    rng = np.random.default_rng(seed)
    ordered = [replace(layer, input_order=rng.permutation(layer.shape[1])) for layer in network]
    ours, theirs = propagate(network), propagate(network.with_layers(tuple(ordered)))
    for a, b, old in zip(ours.network, theirs.network, ordered, strict=True):
        assert np.array_equal(a.weight, b.weight)
        assert b.input_order is old.input_order


# By hand.


def linear(name, out, width, *, zero=(), bias=0.0, **geometry):
    weight = np.random.default_rng(len(name) + out).uniform(1, 2, (out, width))
    weight[list(zero)] = 0
    return Layer(name, weight, bias=np.full(out, bias), **geometry)


def conv(name, out, width, *, zero=(), bias=0.0, kernel=3, **geometry):
    weight = np.random.default_rng(len(name) + out).uniform(1, 2, (out, width, kernel, kernel))
    weight[list(zero)] = 0
    return Layer(name, weight, bias=np.full(out, bias), **({"padding": kernel // 2} | geometry))


def graph_of(*steps, outputs=None):
    """Nodes from (name, operation, inputs, attributes); an operation with a colon names its layer."""
    nodes = []
    for name, operation, *rest in steps:
        kind, _, layer = operation.partition(":")
        inputs = rest[0].split() if rest else []
        nodes.append(Node(name, kind, tuple(inputs), layer or None, rest[1] if len(rest) > 1 else {}))
    return Graph(tuple(nodes), tuple(outputs or [nodes[-1].name]))


def test_half_the_channels_in_a_chain_leave_a_quarter_of_the_inner_weights():
    rng = np.random.default_rng(0)
    layers = tuple(Layer(f"fc{i}", rng.normal(size=(32, 32))) for i in range(5))
    pruned = prune(Network("mlp", layers), "out_channel", 0.5)
    result = propagate(pruned)
    assert [layer.nnz for layer in result.network] == [512, 256, 256, 256, 256]
    assert result.removed == {"fc0": 0, "fc1": 256, "fc2": 256, "fc3": 256, "fc4": 256}
    assert result.won == pytest.approx(1024 / 5120)
    assert result.network.sparsity == pytest.approx(pruned.sparsity + result.won)
    for before, after in zip(pruned, result.network.layers[1:], strict=False):
        assert np.array_equal(result.dead_inputs[after.name], ~before.weight.any(1))
    assert "chain" in result.notes[0]
    assert "1,024 of 2,560" in result.notes[0]
    assert result.network.notes[-1] == result.notes[0]


def test_inputs_that_nobody_reads_take_the_channels_before_them_away():
    first, second = conv("a", 4, 2), conv("b", 3, 4)
    second.weight[:, [1, 3]] = 0
    result = propagate(Network("n", (first, second)))
    assert list(result.dead_outputs["a"]) == [False, True, False, True]
    assert result.removed == {"a": 2 * 2 * 9, "b": 0}
    assert result.bias_maps == ()


@pytest.mark.parametrize(("also", "gone"), [((), 0), ((1,), 4)])
def test_a_sum_loses_a_channel_only_if_both_branches_do(also, gone):
    layers = (linear("a", 4, 3, zero=[1]), linear("b", 4, 3, zero=also), linear("c", 4, 4))
    graph = graph_of(
        ("x", "input", "", {"channels": 3}), ("p", "layer:a", "x"), ("q", "layer:b", "x"),
        ("s", "add", "p q"), ("r", "function", "s", {"function": "relu"}), ("z", "layer:c", "r"),
    )  # fmt: skip
    result = propagate(Network("residual", layers), graph)
    assert result.removed == {"a": 0, "b": 0, "c": gone}
    assert result.bias_maps == ()


def test_a_tensor_of_two_readers_is_cut_only_where_both_agree():
    layers = (linear("a", 4, 3), linear("b", 2, 4), linear("c", 2, 4))
    layers[1].weight[:, [0, 1]] = 0
    layers[2].weight[:, [1, 2]] = 0
    graph = graph_of(("x", "input"), ("p", "layer:a", "x"), ("q", "layer:b", "p"), ("r", "layer:c", "p"), outputs="qr")
    result = propagate(Network("fork", layers), graph)
    assert list(result.dead_outputs["a"]) == [False, True, False, False]
    assert result.removed == {"a": 3, "b": 0, "c": 0}


def test_a_depthwise_layer_hands_on_what_is_dead():
    depthwise = conv("d", 4, 1, groups=4)
    depthwise.weight[3] = 0
    layers = (conv("a", 4, 3, zero=[0], kernel=1), depthwise, conv("b", 5, 4, kernel=1))
    result = propagate(replace(Network("mobile", layers)))
    assert result.removed == {"a": 3, "d": 9, "b": 5 * 2}
    assert list(result.dead_outputs["d"]) == [True, False, False, True]
    assert list(result.dead_outputs["a"]) == [True, False, False, True]


@pytest.mark.parametrize("flatten", [True, False])
def test_a_flattened_channel_is_as_many_columns_as_it_has_positions(flatten):
    layers = (conv("a", 3, 2, zero=[1]), linear("fc", 5, 3 * 4))
    steps = [("x", "input"), ("p", "layer:a", "x"), ("f", "flatten", "p", {"repeat": 4}), ("z", "layer:fc", "f")]
    graph = graph_of(*steps) if flatten else None
    result = propagate(Network("n", layers), graph)
    assert result.removed == {"a": 0, "fc": 5 * 4}
    assert list(np.flatnonzero(result.dead_inputs["fc"])) == [4, 5, 6, 7]
    assert result.bias_maps == (() if flatten else ("fc",))


@pytest.mark.parametrize(
    ("function", "bias", "value"),
    [
        ("relu", 2.0, 2.0),
        ("relu", -2.0, 0.0),
        ("tanh", -2.0, np.tanh(-2.0)),
        ("leaky_relu", -2.0, None),
        ("f", 2.0, None),
    ],
)
def test_a_constant_is_folded_through_an_activation(function, bias, value):
    layers = (linear("a", 3, 2, zero=[1], bias=bias), linear("b", 4, 3, bias=0.5))
    graph = graph_of(("x", "input"), ("p", "layer:a", "x"), ("r", "function", "p", {"function": function}),
                     ("z", "layer:b", "r"))  # fmt: skip
    result = propagate(Network("n", layers), graph)
    assert result.removed == {"a": 0, "b": 4}
    new = result.network["b"]
    if value is None:
        assert result.bias_maps == ("b",)
        assert "b" in result.notes[0].rpartition("(")[2]
        assert new.bias is layers[1].bias
    else:
        assert result.bias_maps == ()
        assert new.bias == pytest.approx(0.5 + layers[1].weight[:, 1] * value, rel=1e-12)
        assert ("1 constant input(s) were folded" in result.notes[0]) == (value != 0)


@pytest.mark.parametrize(
    ("geometry", "bias", "mapped"),
    [
        ({"padding": 1}, 2.0, True),
        ({"padding": 0}, 2.0, False),
        ({"padding": 1}, 0.0, False),
        ({"padding": ()}, 2.0, True),  # unknown
        ({"padding": (), "kernel": 1}, 2.0, False),
        ({"padding": 0, "positions": 9}, 2.0, True),  # so is this: the number of positions is all there is
    ],
)
def test_zero_padding_beside_a_constant_needs_a_bias_map(geometry, bias, mapped):
    layers = (conv("a", 3, 2, zero=[1], bias=bias), conv("b", 4, 3, **geometry))
    graph = graph_of(("x", "input"), ("p", "layer:a", "x"), ("z", "layer:b", "p"))
    result = propagate(Network("n", layers), graph)
    assert result.removed["b"] == layers[1].weight[:, 1].size
    assert result.bias_maps == (("b",) if mapped else ())


def test_an_unknown_bias_is_no_zero_unless_the_graph_says_so():
    layers = tuple(replace(layer, bias=None) for layer in (linear("a", 3, 2, zero=[1]), linear("b", 4, 3)))
    for attributes, maps in (({}, ("b",)), ({"bias": False}, ())):
        graph = graph_of(("x", "input"), ("p", "layer:a", "x", attributes), ("z", "layer:b", "p", attributes))
        result = propagate(Network("n", layers), graph)
        assert (result.removed, result.bias_maps) == ({"a": 0, "b": 4}, maps)
        assert result.network["b"].bias is None


@pytest.mark.parametrize("attributes", [{}, {"bias": False}])
def test_a_constant_is_folded_into_no_bias_only_if_there_is_none(attributes):
    layers = (linear("a", 3, 2, zero=[1], bias=2.0), replace(linear("b", 4, 3), bias=None))
    layers[0].bias[[0, 2]] = 0
    graph = graph_of(("x", "input"), ("p", "layer:a", "x"), ("z", "layer:b", "p", attributes))
    result = propagate(Network("n", layers), graph)
    assert result.removed == {"a": 0, "b": 4}
    if attributes:
        assert result.bias_maps == ()
        assert result.network["b"].bias == pytest.approx(2 * layers[1].weight[:, 1])
    else:
        assert result.bias_maps == ("b",)
        assert result.network["b"].bias is None


@pytest.mark.parametrize("zeros_first", [True, False])
def test_one_zero_of_a_product_is_kept_and_the_other_factors_go(zeros_first):
    one = Layer("one", np.zeros((1, 2)), bias=np.array([1.0]))
    zero = Layer("zero", np.array([[2.0]]), bias=np.array([-2.0]))  # nothing but its folded bias makes it zero
    factors = "z y" if zeros_first else "y z"
    graph = graph_of(("x", "input"), ("o", "layer:one", "x"), ("z", "layer:zero", "o"), ("y", "layer:b", "x"),
                     ("out", "mul", factors))  # fmt: skip
    result = propagate(Network("n", (one, zero, linear("b", 1, 2, bias=3.0))), graph)
    assert result.removed == {"one": 0, "zero": 1, "b": 2}
    assert result.network["zero"].bias == [0.0]
    assert (result.channels["z"].needed, result.channels["y"].needed) == ([True], [False])


def test_a_norm_of_scale_zero_is_a_pruned_channel():
    layers = (replace(conv("a", 3, 2), bias=None), conv("b", 4, 3, padding=0))
    norm = {"scale": np.array([1.0, 0.0, 2.0]), "shift": np.array([0.0, 3.0, 0.0])}
    graph = graph_of(("x", "input"), ("p", "layer:a", "x"), ("n", "affine", "p", norm), ("z", "layer:b", "n"))
    result = propagate(Network("slim", layers), graph)
    assert result.removed == {"a": 18, "b": 36}
    assert result.network["b"].bias == pytest.approx(3 * layers[1].weight[:, 1].sum(axis=(1, 2)))


def test_a_weight_of_a_layer_that_runs_twice_goes_only_if_both_runs_agree():
    layers = (linear("a", 3, 2, zero=[0, 1]), linear("b", 3, 2, zero=[1, 2]), linear("w", 4, 3))
    graph = graph_of(("x", "input"), ("p", "layer:a", "x"), ("q", "layer:b", "x"), ("r", "layer:w", "p"),
                     ("s", "layer:w", "q"), outputs="rs")  # fmt: skip
    result = propagate(Network("siamese", layers), graph)
    assert result.removed == {"a": 0, "b": 0, "w": 4}
    assert list(result.dead_inputs["w"]) == [False, True, False]
    apart = [replace(layer, bias=np.array([0.0, float(i), 0.0])) for i, layer in enumerate(layers[:2])]
    assert propagate(Network("siamese", (*apart, layers[2])), graph).bias_maps == ("w",)


def test_a_constant_before_a_weight_that_another_run_keeps_is_delivered():
    layers = tuple(Layer(name, np.array([[w]]), bias=np.array([b])) for name, w, b in
                   [("w", 2.0, 0.0), ("e", 1.0, 0.0), ("z", 0.0, 1.0), ("b", 3.0, 0.5)])  # fmt: skip
    graph = graph_of(
        ("x", "input"), ("r", "layer:w", "x"), ("out", "layer:e", "r"), ("one", "layer:z", "x"),
        ("y", "layer:b", "one"), ("s", "layer:w", "y"), outputs=["out", "s"],
    )  # fmt: skip
    result = propagate(Network("n", layers), graph)
    assert result.removed == {"w": 0, "e": 0, "z": 0, "b": 1}
    assert result.network["b"].bias == pytest.approx([3.5])


def test_each_run_needs_only_what_its_own_readers_ask_for():
    layers = (linear("a", 2, 3), linear("b", 2, 3), Layer("w", np.eye(2)))
    graph = graph_of(
        ("x", "input"), ("p", "layer:a", "x"), ("q", "layer:b", "x"), ("r", "layer:w", "p"), ("s", "layer:w", "q"),
        ("first", "slice", "r", {"start": 0, "stop": 1}), ("last", "slice", "s", {"start": 1, "stop": 2}),
        outputs=["first", "last"],
    )  # fmt: skip
    result = propagate(Network("n", layers), graph)
    assert result.removed == {"a": 3, "b": 3, "w": 0}
    assert list(result.dead_outputs["a"]) == [False, True]
    assert list(result.dead_outputs["b"]) == [True, False]


def test_a_layer_outside_the_graph_stays_as_it_is():
    network = Network("n", (linear("a", 3, 2), linear("b", 4, 9, zero=[1])))
    result = propagate(network, graph_of(("x", "input"), ("p", "layer:a", "x")))
    assert result.network["b"] is network["b"]
    assert "1 layer(s) are not in the graph" in result.notes[0]


def test_stored_zeros_go_where_a_weight_would():
    weight = Csr.build((2, 2), [0, 2, 4], [0, 1, 0, 1], np.array([1.0, 0.0, 0.0, 2.0]))
    layers = (linear("a", 2, 2, zero=[0]), Layer("b", weight))
    result = propagate(Network("n", layers))
    assert result.removed == {"a": 0, "b": 2}
    assert list(result.network["b"].weight.indices) == [1, 1]
    assert list(result.dead_outputs["b"]) == [True, False]


def test_unknown_numbers_of_channels_hold_nothing_up():
    layers = (linear("a", 2, 3, zero=[0]), linear("b", 4, 6))
    graph = graph_of(
        ("x", "input"), ("p", "layer:a", "x"), ("o", "opaque", "p"), ("s", "slice", "o", {"start": 0, "stop": 6}),
        ("f", "function", "s", {"function": "relu"}), ("z", "layer:b", "f"),
    )  # fmt: skip
    result = propagate(Network("n", layers), graph)
    assert not any(result.removed.values())
    assert "o" not in result.channels
    idle = graph_of(*[("x", "input"), ("p", "layer:a", "x"), ("o", "opaque", "p"), ("y", "layer:b", "x")])
    assert propagate(Network("n", (layers[0], linear("b", 4, 3))), idle).removed == {"a": 3, "b": 0}


def test_an_empty_network_has_nothing_to_lose():
    result = propagate(Network("nothing", ()))
    assert (result.won, dict(result.removed), result.bias_maps) == (0.0, {}, ())
    empty = propagate(Network("n", (Layer("a", np.zeros((0, 3))), Layer("b", np.zeros((2, 0))))))
    assert empty.removed == {"a": 0, "b": 0}


def test_a_large_layer_is_not_copied_unless_it_changes():
    weight = np.broadcast_to(np.float32(1), (512, 4096))
    result = propagate(Network("n", (Layer("a", weight), Layer("b", weight.T))))
    assert result.network["a"].weight is weight
    assert result.won == 0


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ((linear("a", 4, 3), linear("b", 4, 5)), ("'a' has 4 outputs", "'b' takes 5 inputs", "sparsim.torch.export")),
        ((linear("a", 4, 3), linear("b", 2, 8)), ("'a' has 4 outputs", "'b' takes 8 inputs", "ONNX")),
        ((conv("a", 4, 3), conv("b", 2, 8)), ("'a' has 4 outputs", "'b' takes 8 inputs")),
        ((conv("a", 4, 3), linear("b", 2, 9)), ("'a' has 4 outputs", "'b' takes 9 inputs")),
    ],
)
def test_layers_that_do_not_fit_are_no_chain(layers, words):
    network = Network("net", layers)
    refused(lambda: propagate(network), "'net'", *words)
    assert words[0] in likely_chain(network)


@pytest.mark.parametrize(
    ("names", "fits"),
    [
        (["conv1", "conv2", "fc"], True),
        (["features.0", "features.3", "classifier.1"], True),
        (["model.0.0", "model.1.0", "model.1.3"], True),
        (["layer1.0.conv1", "layer1.0.conv2", "fc"], False),
        (["layers.3.attn.q_proj", "layers.3.attn.k_proj", "x"], False),
        (["encoder/layer_0/query", "encoder/layer_0/key", "x"], False),
    ],
)
def test_numbered_blocks_are_not_taken_for_a_chain(names, fits):
    network = Network("net", tuple(linear(name, 3, 3) for name in names))
    reason = likely_chain(network)
    assert (reason == "") == fits
    assert fits or names[0] in reason
    assert chain_of(network).layers == names


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([("p", "layer:missing", "x")], ("missing", "no layer")),
        ([("p", "layer:a", "x"), ("z", "layer:a", "p")], ("'a' takes 3 inputs", "'p' has 4 channels", "node 'z'")),
        ([("p", "layer:a", "x"), ("z", "add", "x p")], ("'z'", "3 and 4 channels")),
        ([("z", "affine", "x", {"scale": [1.0, 2.0]})], ("'z'", "scale", "3 channels")),
        ([("z", "affine", "x", {"shift": "much"})], ("'z'", "shift", "one a channel")),
        ([("z", "flatten", "x", {"repeat": 1.5})], ("'z'", "repeat is 1.5", "whole number")),
        ([("z", "slice", "x", {"start": 0, "stop": "2"})], ("'z'", "stop is '2'")),
    ],
)
def test_a_graph_that_does_not_fit_is_refused(steps, words):
    network = Network("net", (linear("a", 4, 3),))
    refused(lambda: propagate(network, graph_of(("x", "input", "", {"channels": 3}), *steps)), *words)
