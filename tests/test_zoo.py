import json
from dataclasses import replace
from importlib.resources import files

import numpy as np
import pytest
from safetensors.numpy import load_file

from sparsim import zoo
from sparsim.errors import ConfigError, InputError
from sparsim.pruning import prune

TRAINED = ["lenet300_100", "lenet5"]
SHAPES = {
    "lenet300_100": {"fc1": (300, 784), "fc2": (100, 300), "fc3": (10, 100)},
    "lenet5": {"conv1": (20, 1, 5, 5), "conv2": (50, 20, 5, 5), "fc1": (500, 800), "fc2": (10, 500)},
    "resnet50_block": {"conv1": (256, 1024, 1, 1), "conv2": (256, 256, 3, 3), "conv3": (1024, 256, 1, 1)},
}  # of those that can be loaded in a moment; tests/zoo has the others
VARIANTS = {("unstructured", s) for s in (0.5, 0.75, 0.9, 0.95)} | {("2:4", 0.5)}
VARIANTS |= {(g, s) for g in ("vector:4", "block:4x4", "out_channel", "in_channel") for s in (0.5, 0.75, 0.9)}


@pytest.fixture(scope="module")
def networks():
    return {name: zoo.load(name) for name in SHAPES}


@pytest.mark.parametrize("name", SHAPES)
def test_networks_load_with_their_shapes(networks, name):
    assert {layer.name: layer.shape for layer in networks[name]} == SHAPES[name]
    assert networks[name].name == name + " (synthetic weights)" * (name == "resnet50_block")
    assert networks[name].nnz == networks[name].size


def test_convolutions_know_their_geometry(networks):
    assert networks["lenet5"]["conv1"].output_size == (24, 24)
    assert networks["lenet5"]["conv2"].output_size == (8, 8)
    assert [layer.output_size for layer in networks["resnet50_block"]] == [(14, 14)] * 3


@pytest.mark.parametrize("name", TRAINED)
def test_dense_and_all_variants_were_measured(networks, name):
    records = zoo.accuracy(networks[name])
    assert {(r["granularity"], r["sparsity"]) for r in records} == VARIANTS | {("dense", 0.0)}
    assert all(0.0 <= r["accuracy"] <= 1.0 for r in records)
    assert all(r["accuracy"] > 0.9 for r in records)
    dense = zoo.measured_accuracy(networks[name], "dense")
    assert dense > 0.98
    assert zoo.measured_accuracy(networks[name], "unstructured", 0.5) == pytest.approx(dense, abs=0.003)
    for granularity in ("unstructured", "vector:4", "block:4x4", "out_channel", "in_channel"):
        assert zoo.measured_accuracy(networks[name], granularity, 0.9) < dense


def stored(name):
    return files("sparsim.zoo") / f"{name}.safetensors"


def test_the_files_are_small():
    assert sum(stored(name).stat().st_size for name in TRAINED) < 800_000


@pytest.mark.parametrize("name", TRAINED)
def test_weights_are_whole_multiples_of_a_scale(networks, name):
    arrays = load_file(stored(name))
    for layer in networks[name]:
        code = arrays[f"{layer.name}.weight"]
        scale = np.abs(layer.weight).max() / 127
        assert (code.dtype, layer.weight.dtype) == (np.int8, np.float32)
        assert np.abs(code.astype(int)).max() == 127
        np.testing.assert_array_equal(layer.weight, code * scale)


@pytest.mark.parametrize("name", TRAINED)
def test_masks_come_out_of_the_stored_weights_as_measured(networks, name):
    for record in zoo.accuracy(networks[name]):
        if record["granularity"] == "dense":
            variant = networks[name]
        else:
            variant = zoo.pruned(networks[name], record["granularity"], record["sparsity"])
        assert variant.nnz == record["nnz"]
        assert variant.sparsity == pytest.approx(record["actual_sparsity"], abs=1e-6)


@pytest.mark.parametrize("name", TRAINED)
def test_masks_are_those_of_the_integers_so_rounding_has_no_say(networks, name):
    network, arrays = networks[name], load_file(stored(name))
    codes = network.with_layers(tuple(layer.with_weight(arrays[f"{layer.name}.weight"]) for layer in network))
    for record in zoo.accuracy(network)[1:]:
        pattern, sparsity = record["granularity"], record["sparsity"]
        variants = zip(zoo.pruned(network, pattern, sparsity), zoo.pruned(codes, pattern, sparsity), strict=True)
        for one, other in variants:
            np.testing.assert_array_equal(one.weight != 0, other.weight != 0)


@pytest.mark.parametrize(("name", "first", "last"), [("lenet300_100", "fc1", "fc3"), ("lenet5", "conv1", "fc2")])
def test_the_classes_stay_whole_and_for_input_channels_the_image(networks, name, first, last):
    for record in zoo.accuracy(networks[name])[1:]:
        expected = [first, last] if record["granularity"] == "in_channel" else [last]
        assert record["skip"] == zoo.left_whole(networks[name], record["granularity"]) == expected
        variant = zoo.pruned(networks[name], record["granularity"], record["sparsity"])
        assert all(variant[layer].sparsity == 0 for layer in expected)


def test_pruning_as_measured_is_a_plain_prune_with_a_skip(networks):
    plain = prune(networks["lenet5"], "block:4x4", 0.75, skip=["fc2"])
    for one, other in zip(plain, zoo.pruned(networks["lenet5"], "block:4x4", 0.75), strict=True):
        np.testing.assert_array_equal(one.weight, other.weight)


@pytest.mark.parametrize("name", TRAINED)
def test_the_file_says_how_it_was_made(networks, name):
    assert {"architecture", "data", "training", "seed", "trained_by", "accuracy_is"} <= networks[name].metadata.keys()


def test_what_was_not_measured_is_none(networks):
    assert zoo.measured_accuracy(networks["lenet5"], "unstructured", 0.6) is None
    assert zoo.measured_accuracy(networks["lenet5"], "unstructured") is None
    assert zoo.measured_accuracy(networks["lenet5"], "1:4") is None
    assert zoo.measured_accuracy(networks["resnet50_block"], "unstructured", 0.5) is None
    assert zoo.accuracy(networks["resnet50_block"]) == []


def test_lookup_forgives_spelling_and_redundant_budgets(networks):
    network = networks["lenet300_100"]
    assert zoo.measured_accuracy(network, "2:4") == zoo.measured_accuracy(network, " 2:4 ", 0.9)
    assert zoo.measured_accuracy(network, "BLOCK:4X4", 0.5) == zoo.measured_accuracy(network, "block:4x4", 0.5)
    assert zoo.measured_accuracy(network, "vector:4", 0.0) == zoo.measured_accuracy(network, "dense")


def test_accuracies_travel_with_a_pruned_network(networks):
    variant = zoo.pruned(networks["lenet300_100"], "vector:4", 0.75)
    assert zoo.accuracy(variant) == zoo.accuracy(networks["lenet300_100"])


def test_a_plain_prune_is_the_answer_where_nothing_was_measured(networks):
    assert zoo.left_whole(networks["resnet50_block"], "unstructured") == []
    assert zoo.pruned(networks["resnet50_block"], "unstructured", 0.6).sparsity == pytest.approx(0.6, abs=1e-5)


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match="no bundled network 'lenet-5'; did you mean 'lenet5'"):
        zoo.load("lenet-5")
    with pytest.raises(ConfigError, match="did you mean 'unstructured'"):
        zoo.measured_accuracy(zoo.load("lenet5"), "unstructurd", 0.5)


@pytest.mark.parametrize("text", ["[", "{}x", "[1]", json.dumps([{"granularity": "2:4"}])])
def test_damaged_accuracies_are_named(networks, text):
    with pytest.raises(InputError, match="metadata key 'accuracy_by_variant'"):
        zoo.accuracy(replace(networks["lenet5"], metadata={"accuracy_by_variant": text}))


def test_a_strangers_accuracy_is_none_of_ours(networks):
    assert zoo.accuracy(replace(networks["lenet5"], metadata={"accuracy": "0.98"})) == []


def test_the_synthetic_block_says_so_and_is_reproducible(networks):
    block = networks["resnet50_block"]
    assert "random" in block.metadata["synthetic"]
    assert block.notes[0].startswith("synthetic")
    np.testing.assert_array_equal(zoo.load("resnet50_block")["conv2"].weight, block["conv2"].weight)
    assert (zoo.load("resnet50_block", seed=1)["conv2"].weight != block["conv2"].weight).any()


def test_channels_of_the_synthetic_block_differ_in_norm(networks):
    for layer in networks["resnet50_block"]:
        flat = layer.weight.astype(float)
        for axes in ((1, 2, 3), (0, 2, 3)):
            norms = np.sqrt((flat**2).mean(axis=axes))
            assert norms.std() / norms.mean() > 0.3
