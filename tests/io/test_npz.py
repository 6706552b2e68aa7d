"""numpy's files: sparse matrices in every format of scipy, networks, and broken archives."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array, csr_array, save_npz

from sparsim.errors import InputError
from sparsim.io import load
from sparsim.matrix import Csr
from sparsim.network import Network

NETWORKS = Path(__file__).parents[2] / ".." / "shared" / "data" / "networks"


def refused(path: Path, *parts: str) -> None:
    with pytest.raises(InputError) as caught:
        load(path)
    for part in (str(path), *parts):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["csr", "csc", "coo", "bsr", "dia"])
@given(seed=st.integers(0, 2**20), density=st.sampled_from([0.0, 0.1, 0.5, 1.0]))
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_scipy_round_trip(tmp_path, kind, seed, density):
    rng = np.random.default_rng(seed)
    dense = rng.random((6, 4)) * (rng.random((6, 4)) < density)
    matrix = csr_array(dense).asformat(kind)
    if kind == "bsr":
        matrix.sort_indices()  # scipy may leave the blocks of a row in any order
    save_npz(tmp_path / "a.npz", matrix)
    got = load(tmp_path / "a.npz")
    assert isinstance(got, Csr)
    np.testing.assert_array_equal(got.to_dense(), dense)


def test_blocks_keep_the_zeros_they_store(tmp_path):
    save_npz(tmp_path / "a.npz", csr_array(np.eye(4)).tobsr((2, 2)))
    assert load(tmp_path / "a.npz").nnz == 8


def test_sparse_refusals(tmp_path):
    path = tmp_path / "a.npz"
    good = {"format": "csr", "shape": [2, 3], "indptr": [0, 1, 2], "indices": [0, 2], "data": [1.0, 2.0]}
    for change, message in [
        ({"indices": [0, 3]}, "column index 3 out of range for 3 columns"),
        ({"indptr": [0, 1]}, "2 row offsets for 2 rows; 3 are needed"),
        ({"indices": [2, 0], "indptr": [0, 2, 2]}, "not sorted; sort them first (scipy: A.sort_indices())"),
        ({"indices": [1, 1], "indptr": [0, 2, 2]}, "column 1 stands twice in row 0; sum duplicates first"),
        ({"data": [1.0, np.nan]}, "is not finite"),
        ({"data": [1.0, 2j]}, "'data' is of type complex128"),
        ({"indices": [0.0, 2.0]}, "'indices' is of type float64; whole numbers are needed"),
        ({"indices": [[0, 2]]}, "'indices' has 2 dimension(s)"),
        ({"shape": [10**12, 3]}, "'shape': the header claims 1000000000000 rows"),
        ({"shape": [6]}, "a sparse array of shape (6,) is no matrix"),
        ({"format": "lil"}, "sparse format 'lil'; known: bsr, coo, csc, csr, dia"),
        ({"format": "bsr"}, "'data' has 1 dimension(s)"),
        ({"format": "coo"}, "lacks its array 'row'"),
    ]:
        np.savez(path, **(good | change))
        refused(path, message)


def test_duplicates_of_coordinates_are_refused(tmp_path):
    save_npz(tmp_path / "a.npz", coo_array(([1.0, 2.0], ([0, 0], [1, 1])), shape=(2, 2)))
    refused(tmp_path / "a.npz", "column 1 stands twice in row 0")


def test_npy(tmp_path):
    np.save(tmp_path / "a.npy", np.asfortranarray(np.diag([1.0, 2.0])))
    np.testing.assert_array_equal(load(tmp_path / "a.npy").to_dense(), np.diag([1.0, 2.0]))
    np.save(tmp_path / "big_endian.npy", np.eye(2, dtype=">f4"))
    assert load(tmp_path / "big_endian.npy").values.dtype.isnative


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones(3), "the array has 1 dimension(s); an .npy file holds one matrix (2-D)"),
        (np.ones((2, 2, 2)), "the array has 3 dimension(s)"),
        (np.array([[1.0, np.nan]]), "value nan at position [0, 1] is not finite"),
        (np.array([[1, None]]), "holds Python objects or records (object); pickles are never loaded"),
        (np.array([["a"]]), "the array is of type <U1; real numbers are needed"),
        (np.zeros((2, 2), dtype=[("a", "f4")]), "holds Python objects or records"),
    ],
)
def test_npy_refusals(tmp_path, array, message):
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    refused(tmp_path / "a.npy", message)


def header(shape: tuple[int, ...], descr: str = "<f8") -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})
    return stream.getvalue()


def test_a_header_that_claims_too_much_allocates_nothing(tmp_path):
    (tmp_path / "a.npy").write_bytes(header((10**12, 10**3)))
    refused(tmp_path / "a.npy", "claims shape (1000000000000, 1000) of float64, 0 bytes follow; the file is truncated")
    (tmp_path / "b.npy").write_bytes(header((10**12, 0)))
    refused(tmp_path / "b.npy", "the header claims 1000000000000 rows")
    (tmp_path / "c.npy").write_bytes(header((-2, -2)) + bytes(32))
    refused(tmp_path / "c.npy", "claims shape (-2, -2)")
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.writestr("fc.weight.npy", header((10**6, 10**6)) + bytes(16))
    refused(tmp_path / "d.npz", "array 'fc.weight': its header claims shape (1000000, 1000000)")


def test_broken_archives(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, **{"fc.weight": np.ones((4, 4))})
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    refused(path, "is no readable .npz archive", "save it again with numpy.savez")
    path.write_bytes(b"PK")
    refused(path, "is no readable .npz archive")
    np.savez(path, allow_pickle=True, w=np.array([None]))
    refused(path, "array 'w': holds Python objects")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    refused(path, "array 'readme.txt': is no numpy array")


def test_names_with_and_without_weight(tmp_path):
    path = tmp_path / "net.npz"
    np.savez(path, **{"conv1": np.ones((4, 3, 2, 2)), "fc1_w": np.ones((2, 16)), "fc1_b": np.ones(2)})
    network = load(path)
    assert isinstance(network, Network)
    assert network.name == "net"
    assert [layer.name for layer in network] == ["conv1", "fc1_w"]
    assert network.skipped == {}
    assert network["conv1"].bias is None
    np.testing.assert_array_equal(network["fc1_w"].bias, np.ones(2))
    np.savez(path, **{"conv1.weight": np.ones((4, 3, 2, 2)), "running": np.ones((2, 2)), "h/w": np.ones((2, 2))})
    network = load(path)
    assert [layer.name for layer in network] == ["conv1", "h"]
    assert network.skipped == {"running": "its name does not end in weight, w or kernel"}


def test_other_reasons_to_skip(tmp_path):
    path = tmp_path / "net.npz"
    arrays = {
        "fc.weight": np.ones((2, 2)),
        "embed_tokens.weight": np.ones((9, 2)),
        "big.weight": np.ones((1,) * 6),
        "void.weight": np.ones((2, 0)),
        "words.weight": np.array([["a"]]),
        "attn_mask": np.ones((4, 4)),
    }
    np.savez(path, **arrays)
    assert load(path).skipped == {
        "embed_tokens.weight": "embedding (a table look-up, not a product)",
        "big.weight": "6-D: a weight has 2 to 5 dimensions",
        "void.weight": "holds no elements",
        "words.weight": "type <U1: no real numbers",
        "attn_mask": "a mask without a weight of its name and shape",
    }


def test_masks_are_multiplied_out(tmp_path):
    path = tmp_path / "net.npz"
    weight, mask = np.arange(1.0, 5).reshape(2, 2), np.array([[1, 0], [0, 1]])
    for stored, kept in [
        ({"a.weight_orig": weight, "a.weight_mask": mask, "a.bias_orig": weight[0], "a.bias_mask": mask[0]}, "a"),
        ({"a.weight": weight, "a.mask": mask}, "a"),
        ({"a": weight, "a_mask": mask.astype(bool)}, "a"),
    ]:
        np.savez(path, **stored)
        network = load(path)
        assert [layer.name for layer in network] == [kept]
        np.testing.assert_array_equal(network[kept].weight, weight * mask)
    np.savez(path, **{"a.weight_orig": weight})
    refused(path, "'a.weight_orig': has no 'a.weight_mask' beside it", "torch.nn.utils.prune.remove")
    np.savez(path, **{"a.weight_orig": weight, "a.weight_mask": mask[:1]})
    refused(path, "'a.weight_mask': mask of shape (1, 2) for weights of shape (2, 2)")


def test_axes_of_tensorflow(tmp_path):
    path = tmp_path / "net.npz"
    kernel = np.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5)
    np.savez(path, **{"c/kernel": kernel, "d/kernel": np.ones((7, 9)), "c/depthwise/kernel": np.ones((3, 3, 8, 1))})
    network = load(path)
    assert network["c"].shape == (5, 4, 2, 3)
    assert network["c"].weight[4, 3, 1, 2] == kernel[1, 2, 3, 4]
    assert network["d"].shape == (9, 7)
    assert "depthwise" in network.skipped["c/depthwise/kernel"]
    assert any("[kh, kw, in, out]" in note for note in network.notes)
    np.savez(path, m__conv2d_1__Conv2D_dequantize=np.ones((8, 1, 1, 32), dtype=np.float16))
    assert load(path).layers[0].shape == (8, 32, 1, 1)


def test_geometry_in_the_archive(tmp_path):
    path = tmp_path / "net.npz"
    entry = {"stride": [2, 2], "padding": [1, 1], "groups": 2, "input_size": [8, 8], "activation_density": 0.5}
    arrays = {"c.weight": np.ones((4, 3, 3, 3)), "sparsim.layers": np.array(json.dumps({"c": entry}))}
    np.savez(path, **arrays)
    layer = load(path)["c"]
    assert (layer.stride, layer.groups, layer.output_size, layer.activation_density) == ((2, 2), 2, (4, 4), 0.5)
    for text, message in [
        ("{", "sparsim.layers: is no JSON"),
        ("[1]", "sparsim.layers: is no object"),
        ('{"c": 3}', "sparsim.layers, layer 'c': is no object"),
        ('{"c": {"strides": [1]}}', "layer 'c': unknown key 'strides'; did you mean 'stride'?"),
        ('{"c": {"stride": [0, 1]}}', "layer 'c': stride is [0, 1]; it must be a list of whole numbers from 1"),
        ('{"c": {"groups": 0}}', "groups is 0; it must be a whole number from 1"),
        ('{"c": {"groups": 3}}', "layer 'c': 4 outputs cannot be cut into 3 groups"),
        ('{"c": {"activation_density": 2}}', "activation_density is 2; it must be a number from 0 to 1"),
        ('{"c": {"stride": [1]}}', "layer 'c': stride (1,) for a kernel of 2 axes"),
        ('{"cc": {}}', "sparsim.layers: names 'cc', which is no array of this file"),
    ]:
        np.savez(path, **(arrays | {"sparsim.layers": np.array(text)}))
        refused(path, message)


def test_geometry_for_something_that_is_no_weight(tmp_path):
    for array in (np.ones(3), np.ones((2, 0)), np.ones((1,) * 6)):
        np.savez(tmp_path / "net.npz", **{"c": array, "sparsim.layers": np.array('{"c": {}}')})
        refused(
            tmp_path / "net.npz", f"the weight of layer 'c' has shape {array.shape}; a weight has 2 to 5 dimensions"
        )
    np.savez(tmp_path / "net.npz", **{"c.weight": np.array([["a"]]), "sparsim.layers": np.array('{"c": {}}')})
    refused(tmp_path / "net.npz", "layer 'c' is of type <U1; real numbers are needed")


def test_geometry_beside_the_archive(tmp_path):
    path = tmp_path / "net.npz"
    np.savez(path, **{"f__c.weight": np.ones((4, 3, 3, 3)), "g.weight": np.ones((4, 3, 3, 3))})
    table = [
        {"layer": "f/c", "shape": [4, 3, 3, 3], "stride": 2, "pad": 1},
        {"layer": "g", "shape": [4, 3, 5, 5], "stride": 2, "pad": 1},
    ]
    (tmp_path / "layers.json").write_text(json.dumps(table))
    network = load(path)
    assert (network["f__c"].stride, network["f__c"].padding, network["g"].stride) == ((2, 2), (1, 1), ())
    assert network.notes == ("stride and padding come from layers.json beside the file",)
    (tmp_path / "layers.json").write_text("[")
    with pytest.raises(InputError, match=r"layers\.json: is no JSON"):
        load(path)


def test_weights_that_are_not_finite_and_archives_without_weights(tmp_path):
    path = tmp_path / "net.npz"
    np.savez(path, **{"fc.weight": np.array([[1.0, 2.0], [np.inf, 0.0]])})
    refused(path, "layer 'fc': the weight at [1, 0] is inf; replace NaN and infinity first")
    np.savez(path, bias=np.ones(3))
    refused(path, "holds no weights: 1 arrays, 'bias' (1-D: a bias, a scale or a counter, not a product) first")


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "layers", "nnz", "size"),
    [
        ("squeezenet_han/squeezenet_pruned_decoded.npz", 26, 415_921, 1_244_448),
        ("lenet_dns/lenet5_sparse.npz", 4, 3_977, 430_500),
        ("mediapipe/pose_detection_sparse_tensors.npz", 38, 680_895, 2_723_584),
    ],
)
def test_published_pruned_networks(name, layers, nnz, size):
    if not (NETWORKS / name).is_file():
        pytest.skip("the published networks are not here")
    network = load(NETWORKS / name)
    assert (len(network), network.nnz, network.size) == (layers, nnz, size)
