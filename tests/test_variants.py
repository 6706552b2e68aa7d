import math
from dataclasses import replace

import numpy as np
import pytest

import sparsim as ss
from sparsim.errors import ConfigError, InputError
from sparsim.graph import Graph, Node
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


def test_layers_named_by_the_user_are_pruned_whatever_the_recipe_leaves_whole():
    network = as_network("lenet300_100")
    how = Pruning(allocation={"fc3": 0.5})
    _, pruned = variants(network, budgets(["unstructured"], allocation=how.allocation), how)
    assert pruned.pruned["fc3"].nnz == 500
    assert pruned.pruned["fc1"].nnz == network["fc1"].nnz
    with pytest.raises(ConfigError, match="allocation: says how much of each layer goes"):
        budgets(["unstructured"], [0.5], allocation=how.allocation)


def test_what_no_bias_takes_up_is_named():
    emptied = np.ones((8, 16))
    emptied[:4] = 0
    layers = (ss.Layer("a", emptied, bias=np.ones(8)), ss.Layer("b", np.ones((4, 8)), bias=np.zeros(4)))
    graph = Graph.chain([("a", 16), ("b", 8)])
    carried = Pruning().carry(ss.Network("two", layers, graph=graph))
    assert carried.network.nnz == 4 * 16 + 4 * 4
    assert carried.shifted == ("b",)
    nodes = (
        Node("x", "input", attributes={"channels": 16}),
        Node("y", "layer", ("x",), "a"),
        Node("z", "layer", ("y",), "b"),
    )
    exact = Pruning().carry(ss.Network("two", layers, graph=Graph(nodes, ("z",))))
    assert exact.shifted == ()
    np.testing.assert_array_equal(exact.network["b"].bias, 4.0)
    bare = (layers[0], replace(layers[1], bias=None))
    nodes = (*nodes[:2], replace(nodes[2], attributes={"bias": False}))
    grown = Pruning().carry(ss.Network("two", bare, graph=Graph(nodes, ("z",))))
    assert grown.shifted == ("b",), "a model without a bias has no place for one"
    assert grown.network["b"].bias is None


def test_an_exported_network_without_a_graph_is_no_chain():
    network = ss.Network("two", two_layers().layers, metadata={"no_graph": "torch.fx cannot trace the model"})
    carried = Pruning().carry(network).network
    assert carried.notes == ("removed channels were not carried to other layers: torch.fx cannot trace the model",)


def test_the_seed_draws_another_network_of_the_zoo():
    one, other = (as_network("squeezenet", weights="uniform:0.1", seed=seed) for seed in (1, 2))
    assert not np.array_equal(one["conv1"].weight, other["conv1"].weight)


def test_a_misspelt_network_is_answered_with_the_nearest():
    with pytest.raises(InputError, match="lenet6: is no file and no network of the zoo; did you mean 'lenet5'"):
        as_network("lenet6")
