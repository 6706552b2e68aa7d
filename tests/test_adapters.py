"""Low-rank adapters: what they add to a network, against LoRA's own formulas on values."""

from __future__ import annotations

import numpy as np
import pytest
from checks import refused

from sparsim.adapters import with_adapter
from sparsim.errors import ConfigError
from sparsim.graph import Graph, Node
from sparsim.matrix import Csr
from sparsim.network import Layer, Network
from sparsim.simulate import network_workloads
from sparsim.workload import layer_workload


@pytest.fixture
def network():
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(8, 3, 3, 3)) * (rng.random((8, 3, 3, 3)) < 0.5)
    conv = Layer("conv", weight, (2, 2), (1, 1), (1, 1), input_size=(9, 9), bias=np.ones(8), activation_density=0.5)
    fc = Layer("fc", rng.normal(size=(6, 8)) * (rng.random((6, 8)) < 0.3), input_order=np.arange(8)[::-1], positions=7)
    return Network("net", (conv, fc), notes=("first",))


def test_apart_adds_two_skinny_dense_products(network):
    wide = with_adapter(network, 2, merged=False)
    assert [layer.name for layer in wide] == ["conv", "conv.lora_A", "conv.lora_B", "fc", "fc.lora_A", "fc.lora_B"]
    assert wide["conv"] is network["conv"]
    assert wide["conv.lora_A"].shape == (2, 3, 3, 3)
    assert wide["conv.lora_B"].shape == (8, 2, 1, 1)
    assert wide["fc.lora_A"].shape == (2, 8)
    assert wide["fc.lora_B"].shape == (6, 2)
    assert wide["conv.lora_A"].bias is None
    runs = {each.layer: each for each in network_workloads(wide, batch=4)}
    assert {runs[name].n for name in runs if name.startswith("conv")} == {4 * 25}
    assert {runs[name].n for name in runs if name.startswith("fc")} == {4 * 7}
    assert runs["conv.lora_A"].b.digest() == runs["conv"].b.digest(), "A reads what the layer reads"
    assert runs["conv.lora_B"].b.is_dense
    assert runs["fc.lora_A"].multiplies == 2 * 8 * 28
    assert wide.notes == ("first", "low-rank adapter of rank 2 at 2 of 2 layers, kept apart")


def test_b_after_a_is_the_update_of_a_convolution():
    """On values: B(A(x)) equals the convolution with the merged kernel B·A, position by position."""
    rng = np.random.default_rng(1)
    base = Layer("conv", rng.normal(size=(5, 2, 3, 3)), (1, 1), (0, 0), input_size=(6, 6))
    _, down, up = with_adapter(Network("n", (base,)), 2, merged=False)
    a, b = rng.normal(size=down.shape), rng.normal(size=up.shape)
    x = rng.normal(size=(2, 6, 6))
    patches = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2)).transpose(0, 3, 4, 1, 2).reshape(18, 16)
    update = (b.reshape(5, 2) @ a.reshape(2, 18)).reshape(base.shape)
    assert up.columns(1) == down.columns(1) == base.columns(1) == 16
    two_steps = b.reshape(5, 2) @ (a.reshape(2, 18) @ patches)
    np.testing.assert_allclose(two_steps, update.reshape(5, 18) @ patches)


def test_merged_is_dense_and_takes_no_memory(network):
    dense = with_adapter(network, 2, merged=True)
    assert [layer.shape for layer in dense] == [layer.shape for layer in network]
    assert dense.sparsity == 0.0
    assert dense["fc"].input_order is None
    assert dense["conv"].bias is network["conv"].bias
    assert "dense again" in dense.notes[-1]
    huge = Network("n", (Layer("w", Csr((2**17, 2**17), np.zeros(2**17 + 1, np.int64), np.zeros(0, np.int32))),))
    for merged in (True, False):
        for layer in with_adapter(huge, 16, merged=merged).layers[merged - 1 :]:
            assert layer.nnz == layer.size
            assert layer_workload(layer).a.matrix is None


def test_a_pattern_known_as_a_matrix_keeps_its_positions():
    network = Network("n", (Layer("w", Csr.from_dense(np.eye(6)), positions=11),))
    for merged in (False, True):
        runs = network_workloads(with_adapter(network, 3, merged=merged), batch=2)
        assert {each.n for each in runs} == {22}


def test_named_layers_only(network):
    assert [layer.name for layer in with_adapter(network, 3, merged=False, layers=["fc"])] == [
        "conv",
        "fc",
        "fc.lora_A",
        "fc.lora_B",
    ]
    assert with_adapter(network, 3, merged=True, layers="fc")["conv"] is network["conv"]


def test_grouped_convolutions_are_left_out_unless_asked_for():
    depthwise = Layer("dw", np.ones((4, 1, 3, 3)), (1, 1), (1, 1), groups=4, input_size=(5, 5))
    network = Network("n", (depthwise, Layer("pw", np.ones((8, 4, 1, 1)), input_size=(5, 5))))
    wide = with_adapter(network, 2, merged=False)
    assert [layer.name for layer in wide] == ["dw", "pw", "pw.lora_A", "pw.lora_B"]
    assert wide.notes[-1] == "no adapter at 1 grouped convolutions"
    refused(lambda: with_adapter(network, 1, merged=True, layers=["dw"]), "'dw'", "grouped", kind=ConfigError)


def test_the_graph_shows_the_sum():
    nodes = (
        Node("x", "input", attributes={"channels": 4}),
        Node("n1", "layer", ("x",), "a"),
        Node("n2", "layer", ("n1",), "b"),
        Node("out", "add", ("n1", "n2")),
    )
    layers = (Layer("a", np.ones((4, 4))), Layer("b", np.ones((4, 4))))
    graph = with_adapter(Network("n", layers, graph=Graph(nodes, ("out", "n1"))), 1, merged=False, layers=["a"]).graph
    assert [(node.name, node.inputs, node.layer) for node in graph.nodes[1:]] == [
        ("n1", ("x",), "a"),
        ("n1.lora_A", ("x",), "a.lora_A"),
        ("n1.lora_B", ("n1.lora_A",), "a.lora_B"),
        ("n1.lora", ("n1", "n1.lora_B"), None),
        ("n2", ("n1.lora",), "b"),
        ("out", ("n1.lora", "n2"), None),
    ]
    assert graph.outputs == ("out", "n1.lora")


def test_refusals(network):
    refused(lambda: with_adapter(network, 0, merged=True), "rank", "1 or more", kind=ConfigError)
    refused(lambda: with_adapter(network, 7, merged=False), "7", "'fc'", "1 to 6", kind=ConfigError)
    refused(lambda: with_adapter(network, 2, merged=True, layers=["fv"]), "'fv'", "known: conv, fc", kind=ConfigError)
    twice = with_adapter(network, 2, merged=False)
    refused(lambda: with_adapter(twice, 2, merged=False, layers=["fc"]), "'fc'", "already")
    sizeless = Network("n", (Layer("conv", np.ones((4, 4, 3, 3))),))
    refused(lambda: with_adapter(sizeless, 2, merged=False), "conv", "--input")
