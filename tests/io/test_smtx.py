"""The Deep Learning Matrix Collection's pattern files, alone and as a folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sparsim.errors import InputError
from sparsim.io import load
from sparsim.matrix import Csr
from sparsim.network import Network

GOOD = "2, 4, 3\n0 2 3\n0 3 1\n"
DLMC = Path(__file__).parents[2] / ".." / "shared" / "data" / "dlmc"


def write(folder: Path, text: str, name: str = "m.smtx") -> Path:
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize("text", [GOOD, GOOD.rstrip(), GOOD.replace("\n", "\r\n"), GOOD + "\n"])
def test_a_pattern(tmp_path, text):
    got = load(write(tmp_path, text))
    assert isinstance(got, Csr)
    assert got.values is None
    np.testing.assert_array_equal(got.to_dense(), [[1, 0, 0, 1], [0, 1, 0, 0]])


@pytest.mark.parametrize("text", ["2, 2, 0\n0 0 0\n\n", "2, 2, 0\n0 0 0"])
def test_no_non_zeros(tmp_path, text):
    assert load(write(tmp_path, text)).nnz == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("2 4\n", "line 1: '2 4' is no .smtx header; it must say 'rows, columns, nnz'"),
        ("2, 4, 3\n", "line 2: 0 row offsets, but 2 rows need 3; the file is truncated or the header lies"),
        ("2, 4, 3\n0 2 3\n", "line 3: 0 column indices, but the header says 3"),
        ("2, 4, 3\n0 2 3\n0 3\n", "line 3: 2 column indices, but the header says 3"),
        ("2, 4, 3\n0 2 3\n0 3 1 2\n", "line 3: 4 column indices, but the header says 3"),
        ("2, 4, 2\n0 2 3\n0 3 1\n", "line 2: the row offsets run from 0 to 3, not from 0 to 2"),
        ("2, 4, 3\n1 2 3\n0 3 1\n", "line 2: the row offsets run from 1 to 3"),
        ("3, 4, 3\n0 2 1 3\n0 3 1\n", "line 2: the offset of row 2 is below the one before"),
        ("2, 4, 3\n0 2 3\n0 4 1\n", "line 3: column index 4 of row 0 is out of range; indices run from 0 to 3"),
        ("2, 4, 3\n0 2 3\n0 -3 1\n", "line 3: '-' among the column indices"),
        ("2, 4, 3\n0 2 3\n0 x 1\n", "line 3: 'x' among the column indices"),
        ("2, 4, 3\n0 2 3\n3 3 1\n", "line 3: column 3 stands twice in row 0"),
        ("2, 4, 3\n0 2 3\n3 0 1\n", "line 3: column indices of row 0 are not sorted"),
        ("2, 4, 3\n0 2 3\n0 3 1\n5 6\n", "line 4: more than three lines"),
        ("2, 4, 9\n0 2 9\n0 3 1\n", "line 1: 9 non-zeros do not fit into 2 x 4"),
        ("999999999999, 4, 3\n0 2 3\n0 3 1\n", "the header claims 999999999999 rows"),
        ("2, 999999999999, 3\n0 2 3\n0 3 1\n", "the header claims 999999999999 columns"),
        ("2, 4, 3\n0 2 3\n0 3 99999999999999999999999\n", "column index"),
    ],
)
def test_refusals(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(InputError) as caught:
        load(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_is_a_network_with_positions_from_above(tmp_path):
    folder = tmp_path / "magnitude" / "0.9"
    folder.mkdir(parents=True)
    write(folder, GOOD, "b.smtx")
    write(folder, GOOD, "a.smtx")
    write(tmp_path, "a,49\nother,3\n", "toy_batchsizes.txt")
    network = load(folder)
    assert isinstance(network, Network)
    assert network.name.endswith("magnitude/0.9")
    assert [(layer.name, layer.positions) for layer in network] == [("a", 49), ("b", None)]
    assert network["a"].columns(2) == 98
    assert any("gives no positions for 1 layer(s), b first" in note for note in network.notes)
    assert load(folder, name="mine").name == "mine"


def test_a_bad_table_of_positions(tmp_path):
    write(tmp_path, GOOD)
    write(tmp_path, "m,49\nm;3\n", "batchsizes.txt")
    with pytest.raises(InputError, match=r"batchsizes\.txt, line 2: 'm;3' is no row; it must say 'layer,count'"):
        load(tmp_path)


@pytest.mark.real_data
def test_resnet50_of_the_collection():
    folder = DLMC / "rn50" / "magnitude_pruning" / "0.9"
    if not folder.is_dir():
        pytest.skip("the DLMC files are not here")
    network = load(folder)
    assert isinstance(network, Network)
    assert (len(network), network.nnz, network.size) == (54, 2_550_265, 25_502_912)
    assert network["initial_conv"].shape == (64, 147)
    assert all(layer.positions for layer in network)
