"""Topologies of SCALE-Sim: both kinds of file, its way of counting windows, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sparsim as ss
from sparsim.errors import ConfigError, InputError
from sparsim.io import load
from sparsim.io.scalesim import topology_layer
from sparsim.variants import as_network
from sparsim.workload import layer_workload

HEAD = "Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,\n"
CONVOLUTIONS = HEAD + "conv1, 227, 227, 11, 11, 3, 96, 4,\n\nDP2, 16, 14, 3, 3, 8, 2, 1,\nfc, 1, 1, 1, 1, 10, 5, 1,\n"
GEMMS = "Layer,M,N,K,\nqkv,128,768,512,\nfc,1,10,100\n"


def write(folder, text, name="net.csv"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_convolutions(tmp_path):
    network = load(write(tmp_path, CONVOLUTIONS))
    assert network.name == "net"
    conv, depthwise, fc = network
    assert (conv.shape, conv.stride, conv.input_size, conv.output_size) == (
        (96, 3, 11, 11),
        (4, 4),
        (227, 227),
        (55, 55),
    )
    assert (depthwise.shape, depthwise.groups, depthwise.output_size) == ((16, 1, 3, 3), 8, (14, 12))
    assert (fc.shape, fc.columns(1)) == ((5, 10, 1, 1), 1)
    work = layer_workload(conv)
    assert (work.m, work.k, work.n) == (96, 363, 3025)
    assert work.multiplies == 96 * 363 * 3025
    assert layer_workload(depthwise).multiplies == 8 * 2 * 9 * 14 * 12
    assert "no values" in network.notes[0]


def test_products(tmp_path):
    network = load(write(tmp_path, GEMMS, "NET.CSV"), name="mine")
    assert network.name == "mine"
    assert [(layer.shape, layer.columns(1)) for layer in network] == [((768, 512), 128), ((10, 100), 1)]


def test_shapes_cost_no_memory(tmp_path):
    network = load(write(tmp_path, "Layer, M, N, K,\nbig, 8, 1000000, 1000000,\n"))
    assert network.size == 10**12
    assert network[0].weight.strides == (0, 0)


def test_second_stride_and_sparsity(tmp_path):
    network = load(write(tmp_path, HEAD + "c, 9, 9, 3, 3, 2, 4, 1, 2, 2:4,\nd, 9, 9, 3, 3, 2, 4, 1, 1:1,\n"))
    assert network["c"].stride == (1, 2)
    assert network["d"].stride == (1, 1)
    assert [note for note in network.notes if "2:4 is not applied" in note]
    assert len(network.notes) == 2


def windows(size, kernel, stride):
    count, start = 1, 0
    while start + kernel < size:  # SCALE-Sim steps on until the edge is reached or passed
        start, count = start + stride, count + 1
    return count


@given(*[st.integers(1, 12)] * 4, st.integers(1, 5), st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_windows_are_counted_as_scalesim_does(height, width, down, across, stride, stride_width):
    down, across = min(down, height), min(across, width)
    layer = topology_layer("x", height, width, down, across, 2, 3, stride, stride_width)
    assert layer.columns(1) == windows(height, down, stride) * windows(width, across, stride_width)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b,c\n1,2,3\n", ["row 1", "is no head", "IFMAP Height", "M, N, K"]),
        (HEAD, ["no layers below the first line"]),
        (HEAD + "c, 9, 9, 3, 3, 2, 4,\n", ["row 2", "6 entries", "7 numbers", "Strides"]),
        (HEAD + "c, 9, 9, 3, 3, 2, 4, 1, 1, 1,\n", ["row 2", "9 entries"]),
        (HEAD + "c, 9, 9, 3, x, 2, 4, 1,\n", ["row 2", "Filter Width is 'x'", "integers"]),
        (HEAD + "c, 9, 9, 3, 3, 0, 4, 1,\n", ["row 2", "Channels is '0'"]),
        (HEAD + "c, 9, 9, 3, 3, 2, 99999999999, 1,\n", ["Num Filter"]),
        (HEAD + "c, 9, 9, 10, 3, 2, 4, 1,\n", ["row 2", "10 x 3", "9 x 9", "padding"]),
        (HEAD + ", 9, 9, 3, 3, 2, 4, 1,\n", ["row 2", "no layer name"]),
        (HEAD + "c, 9, 9, 3, 3, 2, 4, 1,\n" * 2, ["row 3", "second layer 'c'"]),
        ("Layer, M, N, K,\nq, 1, 2,\n", ["row 2", "2 entries", "3 numbers (M, N, K)"]),
        ("Layer, M, N, K,\nq, 1, -2, 3,\n", ["row 2", "N is '-2'"]),
        (b"\xff\xfe\x00", ["is no text"]),
        (b"", ["empty"]),
    ],
)
def test_refused_in_one_line(tmp_path, text, words):
    path = write(tmp_path, text)
    with pytest.raises(InputError) as caught:
        load(path)
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in [*words, path.name])


def test_pruning_draws_weights_and_says_so(tmp_path):
    path = write(tmp_path, CONVOLUTIONS)
    network = as_network(path, seed=3)
    assert np.unique(network[0].weight).size > 1000
    assert network.notes[0].startswith("synthetic: weights are random")
    assert network.name == "net (synthetic weights)"
    assert np.array_equal(as_network(str(path), seed=3)[0].weight, network[0].weight)
    assert as_network(path, weights="shape")[0].weight.strides == (0, 0, 0, 0)
    with pytest.raises(ConfigError, match="allowed: random, shape"):
        as_network(path, weights="published")
    comparison = ss.compare(
        path, granularity=["out_channel"], sparsity=[0.5], on=["systolic", "tpu_v3"], progress=False
    )
    assert {row["machine.name"] for row in comparison.rows} == {"systolic", "tpu_v3"}
    with pytest.raises(InputError, match="pruning needs values"):
        ss.compare(load(path), granularity=["unstructured"], sparsity=[0.5], on=["systolic"], progress=False)
