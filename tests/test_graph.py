"""Graphs: what is refused, what a text keeps, and the functions whose constants are known."""

from __future__ import annotations

import json

import numpy as np
import pytest
from checks import refused
from executor import FUNCTIONS as NAIVE
from hypothesis import given
from hypothesis import strategies as st

from sparsim.graph import FUNCTIONS, OPERATIONS, Graph, Node

ATTRIBUTES = {
    "input": {"channels": 3},
    "layer": {"bias": False},
    "function": {"function": "relu"},
    "affine": {"scale": np.array([1.0, 0.0, -2.5]), "shift": np.array([0.1, 1e-30, 3.0])},
    "spatial": {"exact": True},
    "add": {"constant": 1.5},
    "mul": {"constant": np.array([2.0, 0.0, 1.0])},
    "concat": {},
    "slice": {"start": 1, "stop": 3},
    "flatten": {"repeat": 4},
    "opaque": {"channels": 7},
}


def of_every_operation():
    nodes = [Node("input", "input", attributes=ATTRIBUTES["input"])]
    for operation in OPERATIONS:
        if operation != "input":
            layer = "fc" if operation == "layer" else None
            nodes.append(Node(operation, operation, (nodes[-1].name,), layer, ATTRIBUTES[operation]))
    return Graph(tuple(nodes), ("opaque", "slice"))


def test_a_text_keeps_everything():
    graph = of_every_operation()
    again = Graph.from_json(graph.to_json())
    assert again.outputs == graph.outputs
    assert again.layers == graph.layers == ["fc"]
    for old, new in zip(graph.nodes, again.nodes, strict=True):
        assert (new.name, new.operation, new.inputs, new.layer) == (old.name, old.operation, old.inputs, old.layer)
        assert new.attributes.keys() == old.attributes.keys()
        for key, value in old.attributes.items():
            assert type(new.attributes[key]) is type(value)
            assert np.array_equal(new.attributes[key], value)


def test_numbers_of_numpy_become_plain_ones():
    node = Node("x", "input", attributes={"channels": np.int64(3)})
    assert json.loads(Graph((node,), ("x",)).to_json())["nodes"][0]["attributes"] == {"channels": 3}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "null",
        '{"nodes": [], "outputs": "x"}',
        '{"nodes": [{"name": "x"}], "outputs": []}',
        '{"nodes": [{"name": "x", "operation": "input", "inputs": "y"}], "outputs": []}',
        '{"nodes": [{"name": "x", "operation": "input", "inputs": [], "attributes": 3}], "outputs": []}',
        "[" * 100_000,
    ],
)
def test_other_texts_are_no_graph(text):
    refused(lambda: Graph.from_json(text), "sparsim.graph", "is no graph")


@pytest.mark.parametrize(
    ("node", "words"),
    [
        (("x", "rleu"), ("'x'", "no operation 'rleu'")),
        (("x", "inputs"), ("did you mean 'input'?",)),
        (("x", "input", (), None, {"size": 3}), ("'x'", "input has no attribute 'size'")),
        (("x", "layer", ("y",)), ("'x'", "name a layer")),
        (("x", "add", ("y",), "fc"), ("'x'", "name a layer")),
        (("x", "input", ("y",)), ("'x'", "input cannot have 1 inputs")),
        (("x", "layer", (), "fc"), ("'x'", "layer cannot have 0 inputs")),
        (("x", "function", ("y", "z")), ("'x'", "function cannot have 2 inputs")),
        (("x", "concat"), ("'x'", "concat cannot have 0 inputs")),
        (("x", "flatten", ("y",)), ("'x'", "flatten needs the attribute 'repeat'")),
        (("x", "slice", ("y",), None, {"start": 1}), ("'x'", "slice needs the attribute 'stop'")),
    ],
)
def test_a_wrong_node_is_refused(node, words):
    refused(lambda: Node(*node), *words)


def test_an_opaque_node_may_read_anything_or_nothing():
    nodes = (Node("x", "input"), Node("c", "opaque"), Node("y", "opaque", ("x", "c", "x")))
    assert Graph(nodes, ("y",)).layers == []


@pytest.mark.parametrize(
    ("nodes", "outputs", "words"),
    [
        ((Node("x", "input"), Node("x", "input")), (), ("two nodes", "'x'")),
        ((Node("y", "opaque", ("x",)), Node("x", "input")), (), ("'y' reads 'x'", "no earlier node")),
        ((Node("y", "opaque", ("y",)),), (), ("'y' reads 'y'",)),
        ((Node("x", "input"),), ("z",), ("output 'z'",)),
    ],
)
def test_a_wrong_graph_is_refused(nodes, outputs, words):
    refused(lambda: Graph(nodes, outputs), *words)


def test_a_chain_says_nothing_of_what_lies_between_its_layers():
    graph = Graph.chain([("a", 3), ("b", 4)])
    assert [(node.operation, node.inputs) for node in graph.nodes] == [
        ("input", ()),
        ("layer", ("input",)),
        ("spatial", ("layer a",)),
        ("layer", ("before b",)),
    ]
    assert graph.layers == ["a", "b"]
    assert graph.outputs == ("layer b",)
    assert Graph.chain([]).nodes == ()


@given(st.sampled_from(sorted(FUNCTIONS)), st.lists(st.floats(-1e3, 1e3), max_size=5))
def test_functions_give_what_their_definition_says_or_that_it_is_unknown(name, values):
    result = FUNCTIONS[name](np.array([*values, 0.0, np.nan]))
    assert np.isnan(result[-1])
    assert np.isfinite(result[-2])
    for value, ours in zip(values, result, strict=False):
        assert np.isnan(ours) or ours == pytest.approx(NAIVE[name](value), rel=1e-12, abs=1e-12)


def test_only_functions_with_a_parameter_may_be_unknown():
    values = np.linspace(-8, 8, 33)
    unknown = {name for name, function in FUNCTIONS.items() if np.isnan(function(values)).any()}
    assert unknown == {"leaky_relu", "elu", "hardsigmoid"}
