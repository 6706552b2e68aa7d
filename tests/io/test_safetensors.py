"""Checkpoints: number formats, shards, corrupt headers, and what is written comes back."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from sparsim.errors import InputError
from sparsim.io import load, save_network
from sparsim.matrix import Csr
from sparsim.network import Layer, Network


def pack(header: dict[str, object], data: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensor(kind: str, data: bytes, shape: list[int]) -> bytes:
    return pack({"fc.weight": {"dtype": kind, "shape": shape, "data_offsets": [0, len(data)]}}, data)


def refused(path: Path, *parts: str) -> None:
    with pytest.raises(InputError) as caught:
        load(path)
    for part in (str(path), *parts):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "data", "expected"),
    [
        ("BF16", struct.pack("<4H", 0x3F80, 0xBF80, 0, 0x4049), [[1, -1], [0, 3.140625]]),
        ("F16", np.array([1, -1, 0, 0.5], dtype="<f2").tobytes(), [[1, -1], [0, 0.5]]),
        ("F64", np.array([1, -1, 0, 0.5]).tobytes(), [[1, -1], [0, 0.5]]),
        ("F8_E5M2", bytes([0x3C, 0xBC, 0, 0x40]), [[1, -1], [0, 2]]),
        ("F8_E4M3", bytes([0x38, 0xB8, 0x01, 0x7E]), [[1, -1], [2**-9, 448]]),
        ("I8", bytes([1, 255, 0, 7]), [[1, -1], [0, 7]]),
        ("U8", bytes([1, 255, 0, 7]), [[1, 255], [0, 7]]),
        ("BOOL", bytes([1, 1, 0, 1]), [[1, 1], [0, 1]]),
    ],
)
def test_number_formats(tmp_path, kind, data, expected):
    (tmp_path / "n.safetensors").write_bytes(tensor(kind, data, [2, 2]))
    network = load(tmp_path / "n.safetensors")
    np.testing.assert_array_equal(network["fc"].weight, expected)
    assert network["fc"].nnz == np.count_nonzero(expected)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"abc", "is no valid safetensors file"),
        (struct.pack("<Q", 10**15) + b"{}", "header too large"),
        (tensor("F32", bytes(16), [2, 2])[:-1], "is no valid safetensors file"),
        (tensor("F32", bytes(16), [10**12]), "is no valid safetensors file"),
        (tensor("F32", b"", [10**12, 0]), "holds no weights: 1 arrays, 'fc.weight' (holds no elements)"),
        (tensor("X9", bytes(16), [2, 2]), "is no valid safetensors file"),
        (tensor("C64", bytes(32), [2, 2]), "'fc.weight' is of type C64; known: BF16"),
        (
            tensor("F32", np.array([1, np.nan], dtype="<f4").tobytes(), [1, 2]),
            "layer 'fc': the weight at [0, 1] is nan",
        ),
        (pack({"__metadata__": {"sparsim.notes": "5"}}, b""), "sparsim.notes: is no list"),
    ],
)
def test_refusals(tmp_path, content, message):
    (tmp_path / "n.safetensors").write_bytes(content)
    refused(tmp_path / "n.safetensors", message)


def test_layers_come_in_counting_order(tmp_path):
    save_file({f"l.{i}.weight": np.ones((2, 2), dtype=np.float32) for i in (10, 2, 1)}, tmp_path / "n.safetensors")
    assert [layer.name for layer in load(tmp_path / "n.safetensors")] == ["l.1", "l.2", "l.10"]


def shards(folder: Path) -> Path:
    save_file({"a.weight": np.eye(2, dtype=np.float32)}, folder / "model-1.safetensors")
    save_file({"b.weight_orig": np.ones((2, 2)), "b.weight_mask": np.eye(2)}, folder / "model-2.safetensors")
    names = {"a.weight": 1, "b.weight_orig": 2, "b.weight_mask": 2}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {key: f"model-{i}.safetensors" for key, i in names.items()}}))
    return index


def test_shards_by_index_and_by_folder(tmp_path):
    index = shards(tmp_path)
    for path in (index, tmp_path):
        network = load(path)
        assert network.name == tmp_path.name
        assert {layer.name: layer.nnz for layer in network} == {"a": 2, "b": 2}


def test_shard_refusals(tmp_path):
    index = shards(tmp_path)
    text = json.loads(index.read_text())
    text["weight_map"]["c.weight"] = "model-1.safetensors"
    index.write_text(json.dumps(text))
    refused(index, "'c.weight' is not in 'model-1.safetensors'; fetch the shard again")
    for wrong in ("model-3.safetensors", "../model-1.safetensors"):
        text["weight_map"]["c.weight"] = wrong
        index.write_text(json.dumps(text))
        refused(index, f"the shard '{wrong}' is not in this folder; fetch all shards")
    for content, message in [("{", "is no JSON"), ("[]", "has no 'weight_map'"), ('{"weight_map": {}}', "has no")]:
        index.write_text(content)
        refused(index, message)


def test_folders(tmp_path):
    refused(tmp_path, "the folder holds nothing to read as one network; give a file (.mtx", "a folder of .smtx files")
    save_file({"a.weight": np.eye(2)}, tmp_path / "model.safetensors")
    assert load(tmp_path).name == tmp_path.name
    save_file({"a.weight": np.eye(2)}, tmp_path / "one.safetensors")
    assert load(tmp_path).nnz == 2
    (tmp_path / "model.safetensors").rename(tmp_path / "two.safetensors")
    refused(tmp_path, "several safetensors files without an index")


def example() -> Network:
    rng = np.random.default_rng(0)
    conv = rng.random((4, 3, 3, 3)) * (rng.random((4, 3, 3, 3)) < 0.5)
    csr = Csr.from_dense(np.eye(3, 7))
    layers = (
        Layer("z", conv, (2, 2), (1, 1), (1, 1), 2, (8, 9), activation_density=0.25),
        Layer("embed.weight", np.eye(4, dtype=np.float16)),
        Layer("kernel", np.ones((2, 3), dtype=np.int8)),
        Layer("a_mask", csr, positions=49),
        Layer("pattern", Csr(csr.shape, csr.indptr, csr.indices)),
    )
    return Network("toy net", layers, {"top1": "75.3"}, notes=("a note",))


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_what_is_saved_comes_back(tmp_path, suffix):
    network = example()
    path = save_network(network, tmp_path / f"x{suffix}")
    got = load(path)
    assert isinstance(got, Network)
    assert (got.name, dict(got.metadata), got.notes) == (network.name, network.metadata, network.notes)
    assert load(path, name="other").name == "other"
    assert len(got) == len(network)
    for old, new in zip(network, got, strict=True):
        for key in ("name", "shape", "stride", "padding", "dilation", "groups", "input_size", "positions"):
            assert getattr(old, key) == getattr(new, key)
        assert old.activation_density == new.activation_density
        assert type(old.weight) is type(new.weight)
        np.testing.assert_array_equal(old.matrix.indptr, new.matrix.indptr)
        np.testing.assert_array_equal(old.matrix.indices, new.matrix.indices)
        assert (old.matrix.values is None) == (new.matrix.values is None)
        if old.matrix.values is not None:
            np.testing.assert_array_equal(old.matrix.values, new.matrix.values)
            assert old.matrix.values.dtype == new.matrix.values.dtype


names = st.lists(st.text("ab.w_/ight:0", min_size=1, max_size=9), min_size=1, max_size=4, unique=True)


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
@given(names=names, ndim=st.integers(2, 5))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_names_come_back(tmp_path, suffix, names, ndim):
    network = Network("n", tuple(Layer(name, np.full((1,) * ndim, i + 1.0)) for i, name in enumerate(names)))
    got = load(save_network(network, tmp_path / f"n{suffix}"))
    assert [(layer.name, layer.shape, layer.weight.item()) for layer in got] == [
        (layer.name, layer.shape, layer.weight.item()) for layer in network
    ]


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_int8_rounds_to_the_nearest_and_keeps_positions(tmp_path, suffix, kind):
    rng = np.random.default_rng(0)
    weight = (rng.normal(size=(20, 3, 5, 5)) * (rng.random((20, 3, 5, 5)) < 0.4)).astype(kind)
    network = Network("n", (Layer("conv", weight, (2, 2), (1, 1), (1, 1), input_size=(9, 9)),), {"top1": "75"})
    got = load(save_network(network, tmp_path / f"n{suffix}", int8=True))
    layer, step = got["conv"], np.abs(got["conv"].weight).max() / 127
    assert layer.weight.dtype == np.float32
    assert (layer.stride, layer.input_size, got.metadata) == ((2, 2), (9, 9), {"top1": "75"})
    np.testing.assert_array_equal(layer.weight != 0, weight != 0)
    assert step == pytest.approx(float(np.abs(weight).max()) / 127, rel=1e-4)
    error = np.abs(layer.weight - weight)
    assert error.max() <= step
    assert error[np.abs(weight) > step / 2].max() <= step / 2 * (1 + 1e-6)
    again = load(save_network(got, tmp_path / f"again{suffix}", int8=True))
    np.testing.assert_array_equal(again["conv"].weight, layer.weight)


def test_int8_takes_a_byte_a_weight(tmp_path):
    network = Network("n", (Layer("fc", np.random.default_rng(0).normal(size=(100, 100))),))
    assert save_network(network, tmp_path / "n.safetensors", int8=True).stat().st_size < 10_500


@pytest.mark.parametrize("weight", [np.zeros((2, 3)), np.zeros((2, 3), dtype=np.float16), np.zeros((0, 3))])
def test_int8_of_zeros_has_scale_1(tmp_path, weight):
    network = Network("n", (Layer("fc", weight), Layer("full", np.eye(3))))
    path = save_network(network, tmp_path / "n.npz", int8=True)
    with np.load(path) as arrays:
        assert json.loads(str(arrays["sparsim.layers"]))["fc"] == {"scale": 1.0}
        assert not arrays["fc.weight"].any()


@pytest.mark.parametrize("size", [1e-300, 1e-40, 1e-10, 1e38])
def test_int8_of_any_size_stays_finite_and_non_zero(tmp_path, size):
    network = Network("n", (Layer("fc", np.array([[size, -size / 2]])),))
    weight = load(save_network(network, tmp_path / "n.npz", int8=True))["fc"].weight
    assert np.isfinite(weight).all()
    assert weight.all()


def test_int8_leaves_integers_and_sparse_layers_alone(tmp_path):
    network = example()
    got = load(save_network(network, tmp_path / "x.safetensors", int8=True))
    for name in ("kernel", "a_mask"):
        np.testing.assert_array_equal(network[name].matrix.values, got[name].matrix.values)
        assert network[name].matrix.values.dtype == got[name].matrix.values.dtype
    assert got["pattern"].matrix.values is None


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int32])
def test_integers_are_multiplied_by_their_scale(tmp_path, kind):
    path = tmp_path / "n.safetensors"
    save_file({"fc.weight": np.array([[0, 1, 127]], dtype=kind)}, path, {"sparsim.layers": '{"fc": {"scale": 0.5}}'})
    weight = load(path)["fc"].weight
    assert weight.dtype == np.float32
    np.testing.assert_array_equal(weight, [[0, 0.5, 63.5]])


@pytest.mark.parametrize("scale", ["0", "-1", "NaN", "Infinity", "1e999", "1e-50", "1e39", "true", "[1]", "null"])
def test_bad_scales(tmp_path, scale):
    path = tmp_path / "n.safetensors"
    about = {"sparsim.layers": f'{{"fc": {{"scale": {scale}}}}}'}
    save_file({"fc.weight": np.ones((2, 2), dtype=np.int8)}, path, about)
    refused(path, "sparsim.layers, layer 'fc': scale is ", "it must be a positive number that a float32 can hold")


def test_a_scale_of_400_digits(tmp_path):
    path = tmp_path / "n.safetensors"
    about = {"sparsim.layers": f'{{"fc": {{"scale": {10**400}}}}}'}
    save_file({"fc.weight": np.ones((2, 2), dtype=np.int8)}, path, about)
    refused(path, "layer 'fc': scale is 1000")


def test_a_scale_needs_integers_and_a_finite_result(tmp_path):
    path = tmp_path / "n.safetensors"
    about = {"sparsim.layers": '{"fc": {"scale": 3e38}}'}
    for weight, message in [
        (np.ones((2, 2), dtype=np.float16), "layer 'fc' has a scale, but its weight is of type float16"),
        (np.ones((2, 2), dtype=bool), "but its weight is of type bool; a scale belongs to a dense weight"),
        (np.full((1, 2), 2, dtype=np.int8), "layer 'fc': the weight at [0, 0] is inf"),
    ]:
        save_file({"fc.weight": weight}, path, about)
        refused(path, message)
    rows = {f"fc.weight.{part}": np.arange(size) for part, size in (("crow_indices", 2), ("col_indices", 1))}
    save_file(rows, path, {"sparsim.layers": '{"fc": {"scale": 1, "csr": [1, 1]}}'})
    refused(path, "layer 'fc' has a scale, but its weight is of compressed rows")


def test_saving_refusals(tmp_path):
    with pytest.raises(InputError, match=r"cannot write '\.txt'; name it \.safetensors, \.npz, \.pt"):
        save_network(example(), tmp_path / "x.txt")
    twins = Network("n", (Layer("a", np.eye(2)), Layer("a", np.eye(2))))
    with pytest.raises(InputError, match="two layers are called 'a'"):
        save_network(twins, tmp_path / "x.npz")
    with pytest.raises(InputError, match="cannot be written"):
        save_network(example(), tmp_path / "no" / "folder.npz")
