"""Published networks with drawn weights: every result says what it is, and masks keep the geometry."""

from __future__ import annotations

import numpy as np
import pytest
from checks import refused

from sparsim import zoo
from sparsim.compare import compare
from sparsim.errors import ConfigError
from sparsim.io import load, save_network
from sparsim.matrix import Csr
from sparsim.pruning import prune
from sparsim.workload import layer_workload
from sparsim.zoo.shape import read_shape

KINDS = ("random", "shape", "uniform:0.25", "published", "published-skewed")


@pytest.mark.parametrize("weights", KINDS)
def test_everything_drawn_is_labelled(weights):
    network = zoo.load("squeezenet", weights)
    kind = "synthetic" if weights in ("random", "shape") else "synthetic mask"
    assert network.notes[0].startswith(f"{kind}: ")
    assert "SqueezeNet 1.0" in network.notes[0]
    assert network.metadata["synthetic"] in network.notes[0]
    assert (network.metadata["weights"], network.metadata["seed"]) == (weights, "0")
    assert network.graph is not None
    assert zoo.accuracy(network) == []


def test_random_is_the_default():
    one, other = zoo.load("resnet50_block"), zoo.load("resnet50_block", "random")
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a.weight, b.weight)


def test_published_masks_have_exactly_the_published_numbers():
    shape = read_shape("squeezenet")
    for weights in ("published", "published-skewed", "published:han2016"):
        network = zoo.load("squeezenet", weights, seed=3)
        assert tuple(layer.nnz for layer in network) == shape.schedules["han2016"].nnz
        assert network.nnz == 415_921
        assert "published" in network.notes[0]
    assert "songhan_squeezenet" in network.metadata["densities"]


def test_only_a_published_total_is_spread_evenly_and_says_so():
    network = zoo.load("googlenet", "published")
    assert network.nnz == 2_000_000
    assert "uniform at the published total" in network.notes[0]
    assert "recalled" in network.notes[0]
    assert {round(layer.nnz / layer.size, 2) for layer in network} == {0.29}


def test_activations_come_with_their_masks():
    published = zoo.load("alexnet", "published")
    assert [layer.activation_density for layer in published] == [1.0, 0.88, 0.52, 0.37, 0.40, 0.34, 0.36, 0.40]
    assert {layer.activation_density for layer in zoo.load("alexnet", "shape")} == {1.0}
    assert published["fc6"].nnz == round(0.09 * 9216 * 4096)


def test_another_schedule_is_chosen_by_name():
    network = zoo.load("resnet50", "published:distiller_agp")
    assert network.nnz == 5_108_133
    assert network["conv1"].sparsity == 0
    assert {layer.activation_density for layer in network} == {1.0}
    assert "measured" in network.notes[0]


@pytest.mark.parametrize("name", ["squeezenet", "mobilenet_v1", "resnet50_block"])
def test_masks_keep_kernel_geometry_and_what_is_read(name):
    masked, dense = zoo.load(name, "uniform:0.1"), zoo.load(name, "shape")
    for one, other in zip(masked, dense, strict=True):
        assert one.shape == other.shape
        assert one.kernel == (other.kernel if other.is_convolution else ())
        assert one.nnz == round(0.1 * one.size)
        assert one.columns(3) == other.columns(3)
        assert one.unique_activations(3) == other.unique_activations(3)
        assert isinstance(one.weight, Csr) == (len(other.shape) == 2)
    workload = layer_workload(masked.layers[1])
    assert workload.multiplies == masked.layers[1].nnz * masked.layers[1].columns(1)


def test_seeds_decide():
    one, same, other = (zoo.load("squeezenet", "published", seed=seed) for seed in (1, 1, 2))
    assert all((a.weight == b.weight).all() for a, b in zip(one, same, strict=True))
    assert any((a.weight != b.weight).any() for a, b in zip(one, other, strict=True))


def test_skewed_masks_differ_more_between_rows():
    def spread(weights):
        lengths = zoo.load("googlenet", weights)["inception_5b/3x3"].matrix.row_lengths
        return lengths.std() / lengths.mean()

    assert spread("published-skewed") > 3 * spread("published")


def test_tokens_set_the_positions():
    assert [layer.columns(2) for layer in zoo.load("bert_base", "shape", tokens=384)][-2:] == [768, 2]
    assert {layer.columns(1) for layer in zoo.load("llama_7b_block", "shape")} == {128}
    assert {layer.columns(1) for layer in zoo.load("llama_7b_block", "shape", tokens=1)} == {1}


def test_what_does_not_exist_is_answered_with_what_does():
    def asked(*words, **options):
        return lambda: zoo.load(*words, **options)

    refused(asked("alexnett"), "no bundled network 'alexnett'", "did you mean 'alexnet'", kind=ConfigError)
    refused(asked("alexnet", "publishd"), "no weights 'publishd'", "did you mean 'published'", kind=ConfigError)
    refused(asked("alexnet", "published:han"), "published:han2015", kind=ConfigError)
    refused(asked("mobilenet_v1", "published"), "no weights 'published'", "uniform:D", kind=ConfigError)
    for wrong in (
        "uniform",
        "uniform:",
        "uniform:2",
        "uniform:-0.1",
        "uniform:nan",
        "uniform:x",
        "random:1",
        "shape:1",
    ):
        refused(asked("squeezenet", wrong), f"no weights '{wrong}'", kind=ConfigError)
    refused(asked("lenet5", tokens=3), "tokens", "does not run token by token", kind=ConfigError)
    refused(asked("vgg16", "shape", tokens=3), "tokens", "does not run token by token", kind=ConfigError)
    refused(asked("bert_base", "shape", tokens=0), "tokens", "1 or more", kind=ConfigError)
    refused(asked("squeezenet", seed=-1), "seed", kind=ConfigError)


@pytest.mark.parametrize("weights", ["shape", "uniform:0.5", "published", "published-skewed"])
def test_without_values_there_is_nothing_to_prune(weights):
    network = zoo.load("squeezenet", weights)
    refused(lambda: zoo.pruned(network, "unstructured", 0.5), "squeezenet", "--weights random")
    refused(lambda: zoo.left_whole(network, "2:4"), "squeezenet", "--weights random")
    assert zoo.measured_accuracy(network, "unstructured", 0.5) is None


def test_random_weights_are_pruned_like_any(tmp_path):
    network = zoo.load("squeezenet")
    assert zoo.left_whole(network, "2:4") == []
    pruned = zoo.pruned(network, "unstructured", 0.9)
    assert pruned.sparsity == pytest.approx(0.9, abs=1e-3)
    for one, other in zip(pruned, prune(network, "unstructured", 0.9), strict=True):
        np.testing.assert_array_equal(one.weight, other.weight)


def test_a_mask_can_be_kept_in_a_file(tmp_path):
    network = zoo.load("squeezenet", "published")
    again = load(save_network(network, tmp_path / "mask.safetensors"))
    for one, other in zip(network, again, strict=True):
        np.testing.assert_array_equal(one.matrix.indices, other.matrix.indices)
        assert one.output_size == other.output_size
    assert again.notes[0] == network.notes[0]


def test_names_are_listed_without_reading_a_file(monkeypatch):
    monkeypatch.setattr("tomllib.loads", None)
    assert {"alexnet", "vgg16", "googlenet", "resnet50", "squeezenet", "mobilenet_v1", "bert_base"} < set(zoo.names())
    assert len(zoo.names()) == len(set(zoo.names()))


def test_the_label_reaches_a_comparison():
    network = zoo.load("resnet50_block", "uniform:0.2")
    comparison = compare(network, on=["dense"], progress=False)
    assert network.notes[0] in comparison.notes
    assert {row["granularity"] for row in comparison.totals} == {"as stored"}
    refused(lambda: compare(network, on=["dense"], granularity=["2:4"], progress=False), "--weights random")


@pytest.mark.parametrize(
    ("weights", "label"),
    [("random", "synthetic weights"), ("uniform:0.2", "synthetic mask"), ("shape", "shapes alone")],
)
def test_the_name_in_every_row_says_what_is_synthetic(weights, label):
    assert zoo.load("resnet50_block", weights).name == f"resnet50_block ({label})"


def test_a_trained_network_can_be_drawn_too():
    drawn, trained = zoo.load("lenet5", "published"), zoo.load("lenet5")
    assert drawn.name == "lenet5 (synthetic mask)"
    assert [layer.shape for layer in drawn] == [layer.shape for layer in trained]
    assert drawn.nnz == 36_280
    assert trained.graph.layers == drawn.graph.layers == ["conv1", "conv2", "fc1", "fc2"]
