"""Dispatch, and the promise that nothing but an InputError ever comes out of a bad file."""

from __future__ import annotations

import gzip
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from sparsim import io as sparsim_io
from sparsim.errors import InputError, MissingExtra
from sparsim.io import load, load_arrays, save_network
from sparsim.network import Layer, Network

SUFFIXES = (".mtx", ".mtx.gz", ".npy", ".npz", ".safetensors", ".safetensors.index.json", ".smtx")
DATA = Path(__file__).parents[2] / ".." / "shared" / "data"


def attempt(path: Path) -> None:
    try:
        load(path)
    except InputError as error:
        message = str(error)
        assert str(path) in message
        assert "\n" not in message


def test_public_names_are_sorted():
    assert sparsim_io.__all__ == sorted(sparsim_io.__all__)


def test_missing_files_suggest_a_neighbour(tmp_path):
    (tmp_path / "wiki-Vote.mtx").write_text("x")
    with pytest.raises(InputError, match=r"no such file or folder; did you mean 'wiki-Vote\.mtx'\?"):
        load(tmp_path / "wiki-vote.mtx")
    with pytest.raises(InputError, match="no such file or folder; check the path"):
        load(tmp_path / "nowhere" / "a.mtx")
    with pytest.raises(InputError, match=r"cannot be looked at|no such file"):
        load(tmp_path / "a\0b.mtx")


@pytest.mark.parametrize(
    ("suffix", "way"), [(".tflite", "tf2onnx"), (".caffemodel", ".onnx"), (".gguf", ".safetensors")]
)
def test_foreign_formats_are_told_the_way(tmp_path, suffix, way):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"x")
    with pytest.raises(InputError, match=rf"\{suffix} files are not read; .*{way}"):
        load(path)


@pytest.mark.parametrize(("suffix", "module"), [(".pt", "torch"), (".bin", "torch"), (".onnx", "onnx")])
def test_a_library_that_is_missing_is_named(tmp_path, monkeypatch, suffix, module):
    monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / f"a{suffix}").write_bytes(b"\x80\x02}.")
    with pytest.raises(MissingExtra, match=rf"pip install 'sparsim\[{module}\]'"):
        load(tmp_path / f"a{suffix}")
    network = Network("n", (Layer("a", np.eye(2)),))
    target = tmp_path / f"b{suffix.replace('.bin', '.pth')}"
    with pytest.raises(MissingExtra, match=rf"pip install 'sparsim\[{module}\]'"):
        save_network(network, target, template=tmp_path / "a.onnx" if module == "onnx" else None)


@pytest.mark.parametrize("name", ["a.xyz", "plain", "a.gz", "layers.json"])
def test_unknown_suffixes_list_the_known(tmp_path, name):
    (tmp_path / name).write_text("x")
    with pytest.raises(InputError, match=r"unknown suffix '.*'; known: \.mtx, \.mtx\.gz, \.npy, \.npz, \.onnx, \.safe"):
        load(tmp_path / name)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_empty_file(tmp_path, suffix):
    (tmp_path / f"a{suffix}").touch()
    with pytest.raises(InputError):
        load(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("suffix", SUFFIXES)
@given(content=st.binary(max_size=200))
@example(content=bytes(range(256)))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_bytes(tmp_path, suffix, content):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    attempt(path)


def test_control_characters_of_a_file_do_not_break_the_line(tmp_path):
    np.savez(tmp_path / "a.npz", **{"fc\n.weight": np.array([[np.nan]])})
    with pytest.raises(InputError) as caught:
        load(tmp_path / "a.npz")
    assert "layer 'fc\\n': the weight at [0, 0] is nan" in str(caught.value)


def good(folder: Path, suffix: str) -> bytes:
    path = folder / "good.npz"
    if suffix == ".npz":
        np.savez(path, **{"fc.weight": np.eye(3), "sparsim.layers": np.array('{"fc": {"activation_density": 0.5}}')})
        return path.read_bytes()
    if suffix == ".npy":
        np.save(folder / "good.npy", np.eye(3))
        return (folder / "good.npy").read_bytes()
    market = b"%%MatrixMarket matrix coordinate real general\n3 3 2\n1 1 1.5\n3 2 -2e3\n"
    return {
        ".mtx": market,
        ".mtx.gz": gzip.compress(market),
        ".smtx": b"3, 3, 3\n0 1 2 3\n0 1 2\n",
        ".safetensors": save({"fc.weight": np.eye(3)}, {"sparsim.layers": '{"fc": {"activation_density": 0.5}}'}),
        ".safetensors.index.json": b'{"weight_map": {"fc.weight": "other.safetensors"}}',
    }[suffix]


@pytest.mark.parametrize("suffix", SUFFIXES)
@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_files(tmp_path, suffix, data):
    content = bytearray(good(tmp_path, suffix))
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content)
    attempt(path)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_arrays_by_name(tmp_path, suffix):
    network = Network("n", (Layer("a.b", np.eye(2)),))
    path = save_network(network, tmp_path / f"n{suffix}")
    arrays = load_arrays(path)
    assert list(arrays) == ["a.b.weight"]
    np.testing.assert_array_equal(arrays["a.b.weight"], np.eye(2))
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(InputError, match=rf"n\{suffix}"):
        load_arrays(path)
    with pytest.raises(InputError, match="no such file"):
        load_arrays(tmp_path / "nowhere.npz")


def test_arrays_of_other_files(tmp_path):
    (tmp_path / "a.mtx").write_text("x")
    with pytest.raises(InputError, match=r"unknown suffix '\.mtx'; arrays by name are in \.npz, \.safetensors, \.bin"):
        load_arrays(tmp_path / "a.mtx")
    np.savez(tmp_path / "a.npz", a=np.array(["text"]))
    with pytest.raises(InputError, match=r"a\.npz: 'a' is of type <U4; real numbers are needed"):
        load_arrays(tmp_path / "a.npz")


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "rows", "nnz"),
    [("wiki-Vote.mtx", 8297, 103_689), ("facebook.mtx", 4039, 176_468), ("m133-b3.npz", 200_200, 800_800)],
)
def test_public_matrices(name, rows, nnz):
    if not (DATA / "matrices" / name).is_file():
        pytest.skip("the public matrices are not here")
    matrix = load(DATA / "matrices" / name)
    assert (matrix.shape, matrix.nnz) == ((rows, rows), nnz)


@pytest.mark.real_data
def test_small_public_matrices():
    files = sorted((DATA / "small").glob("*.mtx"))
    if not files:
        pytest.skip("the small public matrices are not here")
    for path in files:
        assert load(path).nnz > 0


def test_what_is_no_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.mtx")
    with pytest.raises(InputError, match="no regular file"):
        load(tmp_path / "pipe.mtx")
    (tmp_path / "loop.mtx").symlink_to(tmp_path / "loop.mtx")
    with pytest.raises(InputError, match="broken or circular link"):
        load(tmp_path / "loop.mtx")
