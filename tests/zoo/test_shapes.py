"""Shapes of published networks: against tables written down here a second time, and against themselves."""

from __future__ import annotations

import re
import tomllib
from importlib import resources
from math import prod

import numpy as np
import pytest

from sparsim import zoo
from sparsim.matrix import Csr
from sparsim.pruning.propagate import propagate
from sparsim.zoo.shape import FOLDER, read_shape, shape_names

BIB = resources.files("sparsim.energy").joinpath("references.bib").read_text("utf-8")
KEYS = set(re.findall(r"^@\w+\{([^,]+),", BIB, re.MULTILINE))
STATUS = ("published", "measured", "recalled")


@pytest.fixture(scope="module")
def shapes():
    return {name: read_shape(name) for name in shape_names()}


def table(shape):
    return [(layer.shape, layer.stride, layer.input_size, layer.columns(1)) for layer in shape.network]


# --- a second time, by rule -------------------------------------------------------------------------------------------


def convolution(out, inner, kernel, stride, size, same=True):
    positions = size // stride if same else (size - kernel) // stride + 1
    return (out, inner, kernel, kernel), (stride, stride), (size, size), positions**2


def linear(out, inner, positions=1):
    return (out, inner), (), None, positions


def vgg16():
    inner, size = 3, 224
    for out in (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M"):
        if out == "M":
            size //= 2
        else:
            yield convolution(out, inner, 3, 1, size)
            inner = out
    yield from (linear(4096, 512 * 7 * 7), linear(4096, 4096), linear(1000, 4096))


def resnet50():
    yield convolution(64, 3, 7, 2, 224)
    inner, size = 64, 56
    for width, blocks, first_stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for block in range(blocks):
            stride = first_stride if block == 0 else 1
            yield convolution(width, inner, 1, 1, size)
            yield convolution(width, width, 3, stride, size)
            yield convolution(4 * width, width, 1, 1, size // stride)
            if block == 0:
                yield convolution(4 * width, inner, 1, stride, size)
            inner, size = 4 * width, size // stride
    yield linear(1000, 2048)


def mobilenet_v1():
    yield convolution(32, 3, 3, 2, 224)
    inner, size = 32, 112
    strides = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)
    outputs = (64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
    for out, stride in zip(outputs, strides, strict=True):
        yield convolution(inner, 1, 3, stride, size)
        size //= stride
        yield convolution(out, inner, 1, 1, size)
        inner = out
    yield linear(1000, 1024)


def squeezenet():
    yield convolution(96, 3, 7, 2, 227, same=False)
    inner = 96
    for squeeze, size in ((16, 55), (16, 55), (32, 55), (32, 27), (48, 27), (48, 27), (64, 27), (64, 13)):
        yield convolution(squeeze, inner, 1, 1, size)
        yield convolution(4 * squeeze, squeeze, 1, 1, size)
        yield convolution(4 * squeeze, squeeze, 3, 1, size)
        inner = 8 * squeeze
    yield (1000, 512, 1, 1), (1, 1), (13, 13), 15**2


def bert_base():
    for _ in range(12):
        yield from [linear(768, 768, 128)] * 4
        yield from (linear(3072, 768, 128), linear(768, 3072, 128))
    yield linear(768, 768)


def llama_7b_block():
    yield from [linear(4096, 4096, 128)] * 4
    yield from (linear(11008, 4096, 128), linear(11008, 4096, 128), linear(4096, 11008, 128))


@pytest.mark.parametrize("rule", [vgg16, resnet50, mobilenet_v1, squeezenet, bert_base, llama_7b_block])
def test_shapes_follow_the_rule_of_the_network(shapes, rule):
    assert table(shapes[rule.__name__]) == list(rule())


def test_alexnet_has_groups(shapes):
    layers = shapes["alexnet"].network
    assert [layer.groups for layer in layers] == [1, 2, 1, 2, 2, 1, 1, 1]
    assert [layer.shape for layer in layers][:5] == [
        (96, 3, 11, 11),
        (256, 48, 5, 5),
        (384, 256, 3, 3),
        (384, 192, 3, 3),
        (256, 192, 3, 3),
    ]
    assert [layer.columns(1) for layer in layers] == [55**2, 27**2, 13**2, 13**2, 13**2, 1, 1, 1]


def test_inception_modules_have_the_outputs_of_the_paper(shapes):
    """Szegedy et al., Table 1, column "output size"."""
    graph = shapes["googlenet"].network.graph
    width = {layer.name: layer.shape[0] for layer in shapes["googlenet"].network}
    joined = [
        sum(width[name.removeprefix("after ")] for name in n.inputs) for n in graph.nodes if n.operation == "concat"
    ]
    assert joined == [256, 480, 512, 512, 512, 528, 832, 832, 1024]


def test_the_trained_networks_have_the_shapes_of_their_files(shapes):
    for name in ("lenet300_100", "lenet5"):
        trained = zoo.load(name)
        assert [layer.shape for layer in trained] == [layer.shape for layer in shapes[name].network]
        assert [layer.columns(1) for layer in trained] == [layer.columns(1) for layer in shapes[name].network]


# --- every file -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", shape_names())
def test_a_layer_reads_what_was_made(shapes, name):
    """Channels, spatial sizes and the products of a convolution, followed through the graph in the naive way."""
    network = shapes[name].network
    layers = {layer.name: layer for layer in network}
    document = tomllib.loads((FOLDER / f"{name}.toml").read_text("utf-8"))
    made = {}
    for node in network.graph.nodes:
        inputs = [made[each] for each in node.inputs]
        if node.operation == "input":
            made[node.name] = (document["input"][0], tuple(document["input"][1:]) or None)
        elif node.operation == "layer":
            layer = layers[node.layer]
            (channels, size), wanted = inputs[0], layer.shape[1] * layer.groups
            if layer.is_convolution:
                assert channels == wanted
                assert all(have >= need for have, need in zip(size, layer.input_size, strict=True))  # pooled at most
                made[node.name] = (layer.shape[0], layer.output_size)
            else:
                assert wanted % channels == 0
                assert size is not None or wanted == channels
                made[node.name] = (layer.shape[0], None)
        elif node.operation == "concat":
            assert len({size for _, size in inputs}) == 1
            made[node.name] = (sum(channels for channels, _ in inputs), inputs[0][1])
        elif node.operation in ("add", "mul"):
            assert len({size for _, size in inputs}) == 1
            assert len({channels for channels, _ in inputs} - {1}) == 1
            made[node.name] = max(inputs)
        else:
            made[node.name] = (node.attributes.get("channels", inputs[0][0]), inputs[0][1])
    assert network.graph.layers == [layer.name for layer in network]
    read = {each for node in network.graph.nodes for each in node.inputs}
    last = network.graph.nodes[-1]
    unread = {node.name for node in network.graph.nodes} - read - {last.name}
    assert unread <= {network.graph.outputs[0]}


@pytest.mark.parametrize("name", shape_names())
def test_sources_resolve_and_schedules_fit(shapes, name):
    document = tomllib.loads((FOLDER / f"{name}.toml").read_text("utf-8"))
    cited = [document["source"], *([document["shapes"]] if "shapes" in document else [])]
    for key, entry in document.get("schedules", {}).items():
        cited.append(entry["source"])
        assert entry["status"] in STATUS
        schedule, network = shapes[name].schedules[key], shapes[name].network
        assert len(schedule.nnz) == len(network)
        assert all(0 < kept <= layer.size for kept, layer in zip(schedule.nnz, network, strict=True))
        if schedule.activations is not None:
            assert len(schedule.activations) == len(network)
            assert schedule.activations[0] == 1.0  # images are dense
        assert schedule.by_layer == ("total" not in entry)
    assert {source.partition(",")[0] for source in cited} <= KEYS


@pytest.mark.parametrize("name", shape_names())
def test_multiplies_are_counted_as_by_hand(shapes, name):
    shape = shapes[name]
    assert shape.macs == sum(prod(weight) * positions for weight, _, _, positions in table(shape))


def test_shares_of_a_total_add_up_to_it(shapes):
    for name, total in (("googlenet", 2_000_000), ("resnet50", 7_470_000)):
        schedule = shapes[name].schedules["han2017"]
        sizes = np.array([layer.size for layer in shapes[name].network])
        assert sum(schedule.nnz) == total
        np.testing.assert_allclose(schedule.nnz, sizes * total / sizes.sum(), atol=1)


def test_a_printed_flop_share_is_weights_times_the_activations_that_enter(shapes):
    """Han et al. 2015, Table 4, column FLOP%: it tells to which layer a density of activations belongs."""
    schedule = shapes["alexnet"].schedules["han2015"]
    pairs = zip(schedule.nnz, shapes["alexnet"].network, schedule.activations, strict=True)
    share = [100 * nnz / layer.size * entering for nnz, layer, entering in pairs]
    np.testing.assert_allclose(share, [84, 33, 18, 14, 14, 3, 3, 10], atol=1)


def test_names_of_blocks_are_those_of_the_checkpoints(shapes):
    names = [layer.name for layer in shapes["resnet50"].network]
    assert names[:6] == [
        "conv1",
        "layer1.0.conv1",
        "layer1.0.conv2",
        "layer1.0.conv3",
        "layer1.0.downsample.0",
        "layer1.1.conv1",
    ]
    assert "encoder.layer.11.attention.self.query" in [layer.name for layer in shapes["bert_base"].network]


def test_shapes_take_no_memory(shapes):
    for shape in shapes.values():
        for layer in shape.network:
            assert layer.weight.base.size == 1
            assert layer.nnz == layer.size


def test_sparsity_travels_through_a_gated_block():
    """Empty rows of the gate silence the product with the up projection; empty values are not mixed into the output."""
    network = zoo.load("llama_7b_block", "uniform:0.005")
    cut = {"mlp.gate_proj": 5504, "self_attn.v_proj": 128}

    def without_first_rows(layer):
        matrix, first = layer.matrix, cut[layer.name]
        rows = [np.zeros(first + 1, dtype=np.int64), matrix.indptr[first + 1 :] - matrix.indptr[first]]
        kept = matrix.indices[matrix.indptr[first] :]
        return layer.with_weight(Csr.build(matrix.shape, np.concatenate(rows), kept))

    pruned = network.with_layers(tuple(without_first_rows(la) if la.name in cut else la for la in network))
    after = propagate(pruned).network
    for layer in after:
        columns, rows = np.bincount(layer.matrix.indices, minlength=layer.shape[1]), layer.matrix.row_lengths
        assert (columns[:5504].sum() == 0) == (layer.name == "mlp.down_proj")
        assert (columns[:128].sum() == 0) == (layer.name in ("mlp.down_proj", "self_attn.o_proj"))
        assert (rows[:128].sum() == 0) == (layer.name in ("mlp.gate_proj", "mlp.up_proj", "self_attn.v_proj"))
