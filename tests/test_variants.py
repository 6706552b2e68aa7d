import math

import numpy as np
import pytest

import sparsim as ss
from sparsim.errors import ConfigError
from sparsim.graph import Graph
from sparsim.variants import Pruning, as_network, budgets, variants


def two_layers():
    rng = np.random.default_rng(7)
    return ss.Network("two", (ss.Layer("a", rng.normal(size=(8, 16))), ss.Layer("b", rng.normal(size=(4, 8)))))


def test_a_budget_is_needed_unless_the_pattern_fixes_it():
    with pytest.raises(ConfigError, match=r"'unstructured' needs a sparsity"):
        budgets(["unstructured"])
    found = variants(two_layers(), budgets(["2:4"], [0.5, 0.9]), Pruning())
    assert [v.granularity for v in found] == ["dense", "2:4"]


@pytest.mark.parametrize("asked", [{"sparsity": [0.75]}, {"density": [0.25]}, {"nnz": [40]}])
def test_one_budget_said_in_three_ways(asked):
    _, pruned = variants(two_layers(), budgets(["unstructured"], **asked), Pruning(propagate="off"))
    assert pruned.network.nnz == 40
    assert pruned.sparsity == pytest.approx(0.75)


def test_bundled_networks_carry_measured_accuracy():
    found = list(variants(as_network("lenet300_100"), budgets(["unstructured"], [0.9]), Pruning()))
    assert all(0.9 < v.accuracy < 1 for v in found)
    assert math.isclose(found[1].pruned.sparsity, 0.9, abs_tol=0.01)


@pytest.mark.parametrize("how", [Pruning(criterion="random"), Pruning(allocation="global")])
def test_an_accuracy_belongs_to_the_masks_it_was_measured_with(how):
    found = list(variants(as_network("lenet300_100"), budgets(["unstructured"], [0.9]), how))
    assert found[1].accuracy is None


def test_a_graph_decides_what_is_carried():
    network = two_layers()
    emptied = np.array(network["a"].weight)
    emptied[:4] = 0
    network = network.with_layers((network["a"].with_weight(emptied), network["b"]))
    variant = next(variants(network, [], Pruning()))
    assert variant.removed == {"b": 16}
    assert variant.pruned is network
    graph = Graph.from_json(
        '{"nodes": [{"name": "x", "operation": "input", "inputs": [], "attributes": {"channels": 16}},'
        '{"name": "y", "operation": "layer", "inputs": ["x"], "layer": "a"},'
        '{"name": "z", "operation": "opaque", "inputs": ["y"], "attributes": {"channels": 8}},'
        '{"name": "out", "operation": "layer", "inputs": ["z"], "layer": "b"}], "outputs": ["out"]}'
    )
    hidden = ss.Network("two", network.layers, graph=graph)
    assert next(variants(hidden, [], Pruning())).removed == {}
    assert next(variants(hidden, [], Pruning(propagate="chain"))).removed == {"b": 16}
    assert next(variants(network, [], Pruning(propagate="off"))).removed == {}


def test_weights_go_with_the_zoo():
    with pytest.raises(ConfigError, match="weights: goes with a network of the zoo"):
        as_network(two_layers(), weights="published")
