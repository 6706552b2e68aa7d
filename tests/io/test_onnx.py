"""ONNX models: layers, geometry, graph; what is written runs, checked against ONNX's reference implementation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sparsim.errors import InputError
from sparsim.io import load, save_network
from sparsim.network import Layer
from sparsim.pruning.propagate import propagate

pytest.importorskip("onnx")
pytestmark = pytest.mark.extra

import executor  # noqa: E402
import onnx  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

FLOAT = TensorProto.FLOAT


MANY = 60
NETWORKS = Path(__file__).parents[2] / ".." / "shared" / "data" / "networks"


def tensor(name, array):
    return numpy_helper.from_array(np.asarray(array), name)


def weights(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def model(nodes, initialisers, inputs, outputs, **more):
    """``inputs``: name to shape (a str for an open extent); ``outputs``: names. Opset 17."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, FLOAT, None) for name in outputs],
        [tensor(name, array) for name, array in initialisers.items()],
        **more,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def save(path, *args, **more):
    onnx.save(model(*args, **more), str(path))
    return path


def run(path, **inputs):
    from onnx.reference import ReferenceEvaluator

    return ReferenceEvaluator(str(path)).run(None, inputs)


def node(operation, inputs, outputs, **attributes):
    return helper.make_node(operation, inputs.split(), outputs.split(), name=f"n_{outputs.split()[0]}", **attributes)


def attempt(path):
    try:
        load(path)
    except InputError as error:
        message = str(error)
        assert str(path) in message
        assert "\n" not in message


def operations(network):
    return [item.operation for item in network.graph.nodes]


def one_layer(path, nodes, arrays, inputs, name=None):
    save(path, nodes, arrays, inputs, [nodes[-1].output[0]])
    network = load(path)
    return network, network[name or 0]


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"pads": [1, 1, 1, 1]}, {"padding": (1, 1), "input_size": (9, 8), "positions": None}),
        ({"pads": [1, 2, 1, 2], "strides": [2, 1]}, {"stride": (2, 1), "padding": (1, 2), "output_size": (5, 10)}),
        ({"pads": [0, 0, 1, 1], "strides": [2, 2]}, {"padding": (), "input_size": None, "positions": 16}),
        ({"dilations": [2, 3]}, {"dilation": (2, 3), "padding": (0, 0), "output_size": (5, 2)}),
        ({"auto_pad": "SAME_UPPER"}, {"padding": (1, 1), "output_size": (9, 8)}),
        ({"auto_pad": "SAME_LOWER", "strides": [2, 2]}, {"padding": (), "positions": 5 * 4}),
        ({"auto_pad": "VALID"}, {"padding": (0, 0), "output_size": (7, 6)}),
        ({"group": 2}, {"groups": 2}),
    ],
)
def test_geometry_of_a_convolution(tmp_path, more, expected):
    weight = weights(4, 2 if "group" in more else 4, 3, 3)
    nodes = [node("Conv", "x c.weight c.bias", "y", **more)]
    arrays = {"c.weight": weight, "c.bias": weights(4)}
    _, layer = one_layer(tmp_path / "a.onnx", nodes, arrays, {"x": [1, 4, 9, 8]})
    assert layer.name == "c"
    np.testing.assert_array_equal(layer.weight, weight)
    np.testing.assert_array_equal(layer.bias, arrays["c.bias"])
    for key, value in expected.items():
        assert getattr(layer, key) == value
    x = weights(1, 4, 9, 8)
    assert layer.columns(1) == np.prod(run(tmp_path / "a.onnx", x=x)[0].shape[2:])


def test_an_open_batch_is_one_sample_and_open_sizes_stay_unknown(tmp_path):
    nodes = [node("Conv", "x w", "y", pads=[1, 1, 1, 1])]
    _, layer = one_layer(tmp_path / "a.onnx", nodes, {"w": weights(4, 4, 3, 3)}, {"x": ["N", 4, 6, 6]})
    assert layer.columns(3) == 3 * 36
    _, layer = one_layer(tmp_path / "a.onnx", nodes, {"w": weights(4, 4, 3, 3)}, {"x": ["N", 4, "H", 6]})
    assert (layer.input_size, layer.padding) == (None, (1, 1))
    nodes = [node("Conv", "x w", "y", auto_pad="SAME_UPPER", strides=[2, 2])]
    network, layer = one_layer(tmp_path / "a.onnx", nodes, {"w": weights(4, 4, 3, 3)}, {"x": ["N", 4, "H", 6]})
    assert (layer.padding, layer.positions) == ((), None)
    assert "padding that depends on a size" in network.notes[0]


@pytest.mark.parametrize("groups", [1, 2])
def test_a_transposed_convolution_is_the_product_it_is(tmp_path, groups):
    weight = weights(4, 6 // groups, 2, 3)
    nodes = [node("ConvTranspose", "x w", "y", strides=[2, 3], group=groups)]
    network, layer = one_layer(tmp_path / "a.onnx", nodes, {"w": weight}, {"x": [1, 4, 3, 5]})
    assert (layer.shape, layer.groups, layer.positions) == ((6 * 2 * 3, 4 // groups), groups, 15)
    x = weights(1, 4, 3, 5, seed=1)
    # stride = kernel: each input position makes its own patch, so the product says everything
    columns = layer.matrix.block_diagonal(groups).to_dense() @ x.reshape(4, 15)
    patches = columns.reshape(6, 2, 3, 3, 5).transpose(0, 3, 1, 4, 2).reshape(6, 6, 15)
    expected = np.zeros((6, 6, 15))
    for i, o, y, column in np.ndindex(4, 6 // groups, 6, 15):
        out = i // (4 // groups) * (6 // groups) + o
        expected[out, y, column] += x[0, i, y // 2, column // 3] * weight[i, o, y % 2, column % 3]
    np.testing.assert_allclose(expected, patches, rtol=1e-4, atol=1e-5)
    if groups == 1:  # the reference implementation has no others
        np.testing.assert_allclose(run(tmp_path / "a.onnx", x=x)[0][0], patches, rtol=1e-4, atol=1e-5)
    changed = network.with_layers((layer.with_weight(layer.weight * 2),))
    again = load(save_network(changed, tmp_path / "b.onnx", template=tmp_path / "a.onnx"))
    np.testing.assert_array_equal(again[0].weight, layer.weight * 2)


@pytest.mark.parametrize("turned", [False, True])
def test_gemm(tmp_path, turned):
    weight, bias = weights(5, 3), weights(5, seed=1)
    nodes = [node("Gemm", "x fc.weight fc.bias", "y", alpha=2.0, beta=0.5, transB=int(turned))]
    arrays = {"fc.weight": weight if turned else weight.T.copy(), "fc.bias": bias}
    network, layer = one_layer(tmp_path / "a.onnx", nodes, arrays, {"x": [4, 3]})
    assert layer.columns(1) == 1
    x = weights(4, 3, seed=2)
    np.testing.assert_allclose(x @ layer.weight.T + layer.bias, run(tmp_path / "a.onnx", x=x)[0], rtol=1e-5, atol=1e-6)
    assert operations(network) == ["input", "layer"]


def test_matmul_on_tokens_with_its_bias_in_an_add(tmp_path):
    weight, bias = weights(3, 5), weights(5, seed=1)
    nodes = [node("MatMul", "x w", "h"), node("Add", "b h", "z"), node("Relu", "z", "y")]
    network, layer = one_layer(tmp_path / "a.onnx", nodes, {"w": weight, "b": bias}, {"x": ["N", 7, 3]})
    assert (layer.name, layer.shape, layer.positions) == ("n_h", (5, 3), 7)
    np.testing.assert_array_equal(layer.bias, bias)
    assert operations(network) == ["input", "opaque", "layer", "function"]
    assert network.graph.outputs == ("y",)


def test_a_bias_that_others_read_is_no_bias(tmp_path):
    nodes = [node("MatMul", "x w", "h"), node("Add", "h b", "y"), node("Relu", "h", "z")]
    save(tmp_path / "a.onnx", nodes, {"w": weights(3, 5), "b": weights(5)}, {"x": [2, 3]}, ["y", "z"])
    network = load(tmp_path / "a.onnx")
    assert network[0].bias is None
    assert operations(network) == ["input", "layer", "add", "function"]


def test_a_weight_on_the_left(tmp_path):
    weight = weights(5, 3)
    network, layer = one_layer(tmp_path / "a.onnx", [node("MatMul", "w x", "y")], {"w": weight}, {"x": [2, 3, 7]})
    assert (layer.shape, layer.positions) == ((5, 3), 7)
    np.testing.assert_array_equal(layer.weight, weight)
    assert operations(network) == ["input", "opaque", "layer", "opaque"]


def test_recurrent_layers(tmp_path):
    hidden, width, steps = 3, 4, 6
    arrays = {"w": weights(2, 4 * hidden, width), "r": weights(2, 4 * hidden, hidden), "b": weights(2, 8 * hidden)}
    nodes = [node("LSTM", "x w r b", "y", hidden_size=hidden, direction="bidirectional")]
    save(tmp_path / "a.onnx", nodes, arrays, {"x": [steps, 1, width]}, ["y"])
    network = load(tmp_path / "a.onnx")
    assert [layer.name for layer in network] == ["n_y/W", "n_y/W_reverse", "n_y/R", "n_y/R_reverse"]
    np.testing.assert_array_equal(network["n_y/R_reverse"].weight, arrays["r"][1])
    np.testing.assert_array_equal(network["n_y/R_reverse"].bias, arrays["b"][1, 4 * hidden :])
    assert all(layer.columns(1) == steps for layer in network)
    assert network.graph.layers == [layer.name for layer in network]
    assert operations(network) == ["input", *["opaque", "layer"] * 4, "opaque"]
    assert propagate(network).won == 0
    changed = network.with_layers(tuple(replace(layer, weight=layer.weight * 0) for layer in network))
    again = load(save_network(changed, tmp_path / "b.onnx", template=tmp_path / "a.onnx"))
    assert again.nnz == 0
    np.testing.assert_array_equal(again["n_y/W"].bias, network["n_y/W"].bias)


@pytest.mark.parametrize("per_channel", [False, True])
def test_dequantised_weights_and_back(tmp_path, per_channel):
    code = np.random.default_rng(0).integers(-5, 6, (4, 3, 1, 1)).astype(np.int8)
    scale = np.array([0.5, 0.25, 1, 2] if per_channel else 0.5, dtype=np.float32)
    arrays = {"c.weight": code, "s": scale, "z": np.full(scale.shape, 2, dtype=np.int8)}
    nodes = [node("DequantizeLinear", "c.weight s z", "w", axis=0), node("Conv", "x w", "y")]
    network, layer = one_layer(tmp_path / "a.onnx", nodes, arrays, {"x": [1, 3, 2, 2]}, "c")
    np.testing.assert_array_equal(layer.weight, (code - 2.0) * scale.reshape((-1, 1, 1, 1) if per_channel else ()))
    mask = np.arange(4)[:, None, None, None] % 2
    pruned = network.with_layers((layer.with_weight(layer.weight * mask),))
    again = load(save_network(pruned, tmp_path / "b.onnx", template=tmp_path / "a.onnx"))
    np.testing.assert_array_equal(again["c"].weight, layer.weight * mask)
    assert onnx.load(str(tmp_path / "b.onnx")).graph.initializer[0].data_type == onnx.TensorProto.INT8


def test_integer_products(tmp_path):
    code = np.arange(12, dtype=np.uint8).reshape(4, 3)
    arrays = {"w": code.reshape(4, 3, 1, 1), "zx": np.uint8(0), "zw": np.uint8(3), "v": code.T.copy()}
    nodes = [node("ConvInteger", "x w zx zw", "y"), node("MatMulInteger", "u v zx zw", "z")]
    save(tmp_path / "a.onnx", nodes, arrays, {"x": [1, 3, 2, 2], "u": [2, 3]}, ["y", "z"])
    network = load(tmp_path / "a.onnx")
    np.testing.assert_array_equal(network["n_y"].weight[:, :, 0, 0], code - 3.0)
    np.testing.assert_array_equal(network["n_z"].weight, code - 3.0)


def test_bfloat16_and_sparse_initialisers(tmp_path):
    values = np.array([[1.5, 0], [0, -2]], dtype=np.float32)
    bits = (values.view(np.uint32) >> 16).astype("<u2").tobytes()
    graph = onnx.helper.make_graph(
        [node("MatMul", "x a", "h"), node("MatMul", "h b", "y")],
        "g",
        [onnx.helper.make_tensor_value_info("x", 1, [1, 2])],
        [onnx.helper.make_tensor_value_info("y", 1, None)],
        [onnx.helper.make_tensor("a", onnx.TensorProto.BFLOAT16, [2, 2], bits, raw=True)],
        sparse_initializer=[
            onnx.helper.make_sparse_tensor(
                tensor("b", np.array([3, 4], dtype=np.float32)), tensor("i", np.array([0, 3])), [2, 2]
            )
        ],
    )
    onnx.save(onnx.helper.make_model(graph), str(tmp_path / "a.onnx"))
    network = load(tmp_path / "a.onnx")
    np.testing.assert_array_equal(network["n_h"].weight, values.T)
    np.testing.assert_array_equal(network["n_y"].weight, np.diag([3, 4]))
    halved = network.with_layers((replace(network[0], weight=network[0].weight * 0.5), network[1]))
    again = load(save_network(halved, tmp_path / "b.onnx", template=tmp_path / "a.onnx"))
    np.testing.assert_array_equal(again["n_h"].weight, values.T / 2)
    assert onnx.load(str(tmp_path / "b.onnx")).graph.initializer[0].data_type == onnx.TensorProto.BFLOAT16


def test_one_initialiser_of_several_nodes(tmp_path):
    weight = weights(3, 3, 1, 1)
    nodes = [
        node("Conv", "x s.weight", "a"),
        node("Conv", "a s.weight", "b"),
        node("MaxPool", "b", "p", kernel_shape=[2, 2]),
    ]
    nodes.append(node("Conv", "p s.weight", "y"))
    save(tmp_path / "a.onnx", nodes, {"s.weight": weight}, {"x": [1, 3, 4, 4]}, ["y"])
    network = load(tmp_path / "a.onnx")
    assert [(layer.name, layer.input_size) for layer in network] == [("s", (4, 4)), ("s#2", (3, 3))]
    assert network.graph.layers == ["s", "s", "s#2"]
    changed = network.with_layers((network["s"].with_weight(weight * 0), network["s#2"]))
    save_network(changed, tmp_path / "b.onnx", template=tmp_path / "a.onnx")
    again = load(tmp_path / "b.onnx")
    assert [layer.nnz for layer in again] == [0, 0, 9]  # they differ now, so every node has its own


def test_a_tied_embedding_keeps_its_table(tmp_path):
    nodes = [node("Gather", "table ids", "e"), node("Transpose", "table", "t", perm=[1, 0]), node("MatMul", "e t", "y")]
    table = weights(5, 3)
    graph = onnx.helper.make_graph(
        nodes,
        "g",
        [onnx.helper.make_tensor_value_info("ids", onnx.TensorProto.INT64, [1, 4])],
        [onnx.helper.make_tensor_value_info("y", 1, None)],
        [tensor("table", table)],
    )
    onnx.save(onnx.helper.make_model(graph), str(tmp_path / "a.onnx"))
    network = load(tmp_path / "a.onnx")
    np.testing.assert_array_equal(network["n_y"].weight, table)
    changed = network.with_layers((network[0].with_weight(table * (np.arange(5) > 1)[:, None]),))
    save_network(changed, tmp_path / "b.onnx", template=tmp_path / "a.onnx")
    ids = np.array([[0, 1, 2, 4]])
    expected = table[ids] @ changed[0].weight.T
    np.testing.assert_allclose(run(tmp_path / "b.onnx", ids=ids)[0], expected, rtol=1e-5, atol=1e-6)


def residual(path, kernel=3):
    """A network with all that keeps channels apart."""
    arrays = {f"c{i}.{part}": weights(*shape, seed=i) for i, (out, width) in enumerate([(6, 3), (6, 6), (4, 6), (4, 6)])
              for part, shape in (("weight", (out, width, kernel, kernel)), ("bias", (out,)))}  # fmt: skip
    arrays |= {"d.weight": weights(6, 1, 3, 3, seed=9), "d.bias": weights(6, seed=8)}
    arrays |= {f"bn.{part}": np.abs(weights(6, seed=i)) for i, part in enumerate(("s", "b", "m", "v"))}
    arrays |= {"fc.weight": weights(5, 8 * 3 * 3), "fc.bias": weights(5), "six": weights(1, 6, 1, 1)}
    arrays |= {"pads": np.array([0, 0, 0, 0, 0, 2, 0, 0]), "half": np.array([3, 3])}
    arrays |= {"zero": np.array([0]), "four": np.array([4]), "one": np.array([1])}
    pads = [kernel // 2] * 4
    nodes = [
        node("Conv", "x c0.weight c0.bias", "a0", pads=pads),
        node("BatchNormalization", "a0 bn.s bn.b bn.m bn.v", "a1"),
        node("Relu", "a1", "a2"),
        node("Conv", "a2 d.weight d.bias", "a3", group=6),
        node("Clip", "a3", "a4"),
        node("Mul", "a4 six", "a5"),
        node("Conv", "a5 c1.weight c1.bias", "a6", pads=pads),
        node("Add", "a6 a5", "a7"),
        node("Split", "a7 half", "l r", axis=1),
        node("Concat", "r l", "a8", axis=1),
        node("Conv", "a8 c2.weight c2.bias", "b1", pads=pads),
        node("Conv", "a7 c3.weight c3.bias", "b2", pads=pads),
        node("Sub", "b1 b2", "b3"),
        node("Slice", "b2 zero four one", "b4"),
        node("Concat", "b3 b4", "b5", axis=1),
        node("MaxPool", "b5", "b6", kernel_shape=[2, 2], strides=[2, 2]),
        node("Flatten", "b6", "b7"),
        node("Gemm", "b7 fc.weight fc.bias", "y", transB=1),
    ]
    return save(path, nodes, arrays, {"x": [2, 3, 8, 8]}, ["y"])


def test_the_graph_of_a_network_that_keeps_channels_apart(tmp_path):
    network = load(residual(tmp_path / "a.onnx"))
    assert "opaque" not in operations(network)
    assert network.graph.layers == ["c0", "d", "c1", "c2", "c3", "fc"]
    affine = next(item for item in network.graph.nodes if item.operation == "affine")
    scale, shift, mean, variance = (np.abs(weights(6, seed=i)).astype(float) for i in range(4))
    np.testing.assert_allclose(affine.attributes["scale"], scale / np.sqrt(variance + 1e-5), rtol=1e-5)
    np.testing.assert_allclose(affine.attributes["shift"], shift - mean * affine.attributes["scale"], rtol=1e-4)
    assert {"pads", "six"} <= network.rest.keys()
    assert network.skipped["six"] == "read by Mul: not the weight of a product"


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_network_after_propagation_computes_the_same(tmp_path, data):
    network = load(residual(tmp_path / "a.onnx", kernel=1))
    layers = []
    for layer in network:
        dead = data.draw(st.lists(st.booleans(), min_size=layer.shape[0], max_size=layer.shape[0]), label=layer.name)
        alive = ~np.array(dead) if layer.name != "fc" else np.ones(5, dtype=bool)
        keep = data.draw(st.booleans())
        weight = layer.weight * alive.reshape(-1, *[1] * (layer.weight.ndim - 1))
        layers.append(replace(layer, weight=weight, bias=layer.bias if keep else layer.bias * alive))
    pruned = network.with_layers(tuple(layers))
    result = propagate(pruned)
    x = weights(2, 3, 8, 8, seed=5)
    save_network(pruned, tmp_path / "p.onnx", template=tmp_path / "a.onnx")
    expected = run(tmp_path / "p.onnx", x=x)[0]
    save_network(result.network, tmp_path / "q.onnx", template=tmp_path / "a.onnx")
    assert result.bias_maps == ()  # without padding constants are constant everywhere
    np.testing.assert_allclose(run(tmp_path / "q.onnx", x=x)[0], expected, rtol=1e-3, atol=1e-3)


def test_the_graph_computes_what_the_model_computes(tmp_path):
    arrays = {
        "a.weight": weights(6, 4),
        "a.bias": weights(6),
        "b.weight": weights(6, 6),
        "k": weights(6),
        "s": np.float32(3),
    }
    arrays |= {"h": np.array([2, 4]), "c.weight": weights(3, 6, seed=4), "m": np.array([1, -1, 6, 1])}
    nodes = [
        node("Gemm", "x a.weight a.bias", "a", transB=1),
        node("Sub", "k a", "b"),
        node("Div", "b s", "c"),
        node("Elu", "c", "d", alpha=0.7),
        node("Gemm", "d b.weight", "e", transB=1),
        node("Mul", "e d", "f"),
        node("Split", "f h", "g1 g2", axis=-1),
        node("Concat", "g2 g1", "i", axis=1),
        node("Reshape", "i m", "j"),
        node("Transpose", "j", "t", perm=[0, 3, 2, 1]),
        node("Transpose", "t", "u", perm=[0, 3, 2, 1]),
        node("Flatten", "u", "v"),
        node("Identity", "v", "w"),
        node("Gemm", "w c.weight", "y", transB=1),
    ]
    save(tmp_path / "a.onnx", nodes, arrays, {"x": [1, 4]}, ["y"])
    network = load(tmp_path / "a.onnx")
    x = weights(1, 4, seed=7)
    tensors = executor.execute(network.graph, network, {"x": x})
    np.testing.assert_allclose(
        tensors[network.graph.outputs[0]], run(tmp_path / "a.onnx", x=x)[0], rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ([node("Softmax", "a", "y", axis=1)], "opaque"),
        ([node("AveragePool", "a", "y", kernel_shape=[2, 2])], True),
        ([node("AveragePool", "a", "y", kernel_shape=[2, 2], pads=[1] * 4, count_include_pad=1)], False),
        ([node("GlobalAveragePool", "a", "y")], True),
        ([node("ReduceMean", "a", "y", axes=[2, 3], keepdims=0)], True),
        ([node("ReduceMean", "a", "y", axes=[1])], "opaque"),
        ([node("ReduceSum", "a hw", "y")], False),
        ([node("Pad", "a border", "y")], False),
        ([node("Pad", "a border", "y", mode="reflect")], True),
        ([node("Pad", "a more", "y")], "concat"),
        ([node("Pad", "a more v", "y")], "opaque"),
        ([node("Resize", "a  scales".replace("  ", " nil "), "y", mode="nearest")], True),
        ([node("Resize", "a nil cubes", "y")], "opaque"),
        ([node("Slice", "a zero one two", "y")], True),
        ([node("Slice", "a zero one channels two", "y")], "opaque"),
        ([node("DepthToSpace", "a", "y", blocksize=2)], "opaque"),
        ([node("Add", "a image", "y")], "opaque"),
        ([node("Add", "a five", "y")], "opaque"),
        ([node("Reshape", "a mixed", "y")], "opaque"),
        ([node("Concat", "a a", "y", axis=2)], "opaque"),
        ([node("Cast", "a", "y", to=7)], "function"),
        ([node("Shape", "a", "s"), node("Reshape", "a s", "y")], "layer"),
    ],
)
def test_what_becomes_of_a_node(tmp_path, nodes, expected):
    arrays = {"w": weights(4, 4, 1, 1), "border": np.array([0, 0, 1, 1, 0, 0, 0, 0]), "v": np.float32(1)}
    arrays |= {
        "more": np.array([0, 3, 0, 0, 0, 2, 0, 0]),
        "hw": np.array([2, 3]),
        "nil": np.array([], dtype=np.float32),
    }
    arrays |= {"scales": np.array([1, 1, 2, 2], dtype=np.float32), "cubes": np.array([1, 2, 2, 2], dtype=np.float32)}
    arrays |= {"zero": np.array([0]), "one": np.array([3]), "two": np.array([2]), "channels": np.array([1])}
    arrays |= {"image": weights(1, 1, 4, 4), "five": weights(1, 1, 1, 1, 1), "mixed": np.array([1, 8, 2, 4])}
    save(tmp_path / "a.onnx", [node("Conv", "x w", "a"), *nodes], arrays, {"x": [1, 4, 4, 4]}, ["y"])
    network = load(tmp_path / "a.onnx")
    last = next(item for item in network.graph.nodes if item.name == network.graph.outputs[0])
    assert (last.attributes["exact"] if last.operation == "spatial" else last.operation) == expected


def test_shapes_that_are_read_do_not_hold_channels(tmp_path):
    nodes = [
        node("Conv", "x w", "a"),
        node("Shape", "a", "s"),
        node("Slice", "s two four", "t"),
        node("Cast", "t", "u", to=7),
    ]
    nodes += [node("Concat", "front u", "v", axis=0), node("Resize", "a nil nil v", "y", mode="nearest")]
    arrays = {"w": weights(4, 4, 1, 1), "two": np.array([2]), "four": np.array([4]), "front": np.array([1, 4])}
    save(tmp_path / "a.onnx", nodes, arrays | {"nil": np.array([], dtype=np.float32)}, {"x": [1, 4, 4, 4]}, ["y"])
    assert operations(load(tmp_path / "a.onnx"))[:2] == ["input", "layer"]


def subgraph(path):
    def branch(name):
        inner = [onnx.helper.make_node("Conv", ["x", name], ["out_" + name], name="conv_" + name)]
        outputs = [onnx.helper.make_tensor_value_info("out_" + name, 1, None)]
        return onnx.helper.make_graph(inner, name, [], outputs, [tensor(name, weights(2, 2, 1, 1))])

    nodes = [
        node("Conv", "x outer", "c"),
        node("If", "flag", "y", then_branch=branch("a"), else_branch=branch("b")),
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "g",
        [onnx.helper.make_tensor_value_info("x", 1, [1, 2, 3, 3]), onnx.helper.make_tensor_value_info("flag", 9, [])],
        [onnx.helper.make_tensor_value_info("y", 1, None), onnx.helper.make_tensor_value_info("c", 1, None)],
        [tensor("outer", weights(2, 2, 1, 1))],
    )
    onnx.save(onnx.helper.make_model(graph), str(path))
    return path


def test_layers_in_subgraphs(tmp_path):
    network = load(subgraph(tmp_path / "a.onnx"))
    assert {layer.name for layer in network} == {"n_c", "conv_a", "conv_b"}
    assert network["conv_a"].input_size == (3, 3)
    assert network.graph.layers == ["n_c"]
    opaque = network.graph.nodes[-1]
    assert (opaque.operation, "x" in opaque.inputs) == ("opaque", True)
    assert "subgraphs" in network.notes[0]
    pruned = network.with_layers(tuple(layer.with_weight(layer.weight * 0) for layer in network))
    assert load(save_network(pruned, tmp_path / "b.onnx", template=tmp_path / "a.onnx")).nnz == 0


def test_products_of_activations_are_named(tmp_path):
    nodes = [node("MatMul", "x x", "a"), node("MatMul", "a w", "y")]
    network, _ = one_layer(tmp_path / "a.onnx", nodes, {"w": weights(3, 2)}, {"x": [3, 3]})
    assert "n_a" in network.skipped
    assert len(network) == 1


def test_external_data(tmp_path):
    path = residual(tmp_path / "a.onnx")
    onnx.save(
        onnx.load(str(path)), str(tmp_path / "e.onnx"), save_as_external_data=True, location="e.data", size_threshold=0
    )
    np.testing.assert_array_equal(load(tmp_path / "e.onnx")["c1"].weight, load(path)["c1"].weight)
    saved = save_network(load(tmp_path / "e.onnx"), tmp_path / "f.onnx", template=tmp_path / "e.onnx")
    np.testing.assert_array_equal(load(saved)["fc"].weight, load(path)["fc"].weight)
    content = (tmp_path / "e.data").read_bytes()
    (tmp_path / "e.data").write_bytes(content[:100])
    with pytest.raises(InputError, match=r"initialiser '.*': its external data 'e.data' is truncated; fetch that file"):
        load(tmp_path / "e.onnx")
    (tmp_path / "e.data").unlink()
    with pytest.raises(
        InputError, match=r"e.onnx, initialiser '.*': its external data 'e.data' is not beside the model"
    ):
        load(tmp_path / "e.onnx")


def test_refusals(tmp_path):
    path = tmp_path / "a.onnx"
    for content, message in [(b"", "the file is empty"), (b"\xff" * 40, "is no readable ONNX model")]:
        path.write_bytes(content)
        with pytest.raises(InputError, match=message):
            load(path)
    save(path, [node("Relu", "x", "y")], {}, {"x": [1]}, ["y"])
    with pytest.raises(InputError, match="holds no product with a constant operand"):
        load(path)
    save(path, [node("Conv", "x w", "y")], {"w": np.full((1, 1, 1, 1), np.nan, np.float32)}, {"x": [1, 1, 1, 1]}, ["y"])
    with pytest.raises(InputError, match=r"node 'n_y': .*not finite"):
        load(path)
    save(path, [node("Conv", "x w", "y", group=3)], {"w": weights(4, 1, 1, 1)}, {"x": [1, 3, 1, 1]}, ["y"])
    with pytest.raises(InputError, match=r"node 'n_y': .*4 outputs cannot be cut into 3 groups"):
        load(path)


def test_a_template_that_does_not_fit(tmp_path):
    path = residual(tmp_path / "a.onnx")
    network = load(path)
    other = Layer("c7", weights(2, 2))
    with pytest.raises(InputError, match=r"the template has no layer 'c7'; known: c0, c1"):
        save_network(network.with_layers((*network.layers, other)), tmp_path / "b.onnx", template=path)
    with pytest.raises(InputError, match="has no layer 'fc'"):
        save_network(replace(network, layers=network.layers[:-1], graph=None), tmp_path / "b.onnx", template=path)
    wrong = tuple(replace(layer, weight=weights(2, 2), bias=None) if layer.name == "fc" else layer for layer in network)
    with pytest.raises(InputError, match=r"layer 'fc' has the shape \(2, 2\), not \(5, 72\)"):
        save_network(network.with_layers(wrong), tmp_path / "b.onnx", template=path)
    for more in ({}, {"template": path}):
        with pytest.raises(InputError, match=r"an \.onnx file is written from the \.onnx file the network came from"):
            save_network(network, tmp_path / ("b.npz" if more else "b.onnx"), **more)


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_a_model_in_other_formats(tmp_path, suffix):
    network = load(residual(tmp_path / "a.onnx"))
    again = load(save_network(network, tmp_path / f"b{suffix}"))
    assert [(layer.name, layer.shape, layer.padding) for layer in again] == [
        (layer.name, layer.shape, layer.padding) for layer in network
    ]
    assert again.graph.to_json() == network.graph.to_json()
    assert (dict(again.skipped), again.rest.keys()) == (dict(network.skipped), network.rest.keys())
    np.testing.assert_array_equal(again["c2"].bias, network["c2"].bias)


@given(data=st.data())
@settings(max_examples=MANY, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_files(tmp_path, data):
    if not (tmp_path / "good.onnx").exists():
        nodes = [node("Conv", "x w b", "a"), node("Reshape", "a s", "f"), node("MatMul", "f v", "y")]
        arrays = {"w": weights(2, 2, 1, 1), "b": weights(2), "s": np.array([1, 8]), "v": weights(8, 2)}
        save(tmp_path / "good.onnx", nodes, arrays, {"x": [1, 2, 2, 2]}, ["y"])
    content = bytearray((tmp_path / "good.onnx").read_bytes())
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "bad.onnx"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content)
    attempt(path)


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "layers", "nnz", "size"),
    [
        ("mediapipe/face_detection_full_range_sparse.onnx", 91, 176_276, 500_092),
        ("silero_vad/silero_vad_16k_op15.onnx", 8, 305_791, 308_224),
    ],
)
def test_published_models(name, layers, nnz, size):
    if not (NETWORKS / name).is_file():
        pytest.skip("the published networks are not here")
    network = load(NETWORKS / name)
    assert (len(network), network.nnz, network.size) == (layers, nnz, size)
