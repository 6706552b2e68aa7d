"""Matrix Market: what is read, and what each lie of a header is answered with."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.io import mmwrite
from scipy.sparse import coo_array

from sparsim.errors import InputError
from sparsim.io import load
from sparsim.matrix import Csr

REAL = "%%MatrixMarket matrix coordinate real general\n"


def write(folder: Path, text: str, name: str = "m.mtx") -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def matrix(path: Path) -> Csr:
    result = load(path)
    assert isinstance(result, Csr)
    return result


@pytest.mark.parametrize("name", ["m.mtx", "m.mtx.gz", "M.MTX"])
def test_real_general(tmp_path, name):
    got = matrix(write(tmp_path, REAL + "% a comment\n2 3 2\n2 1 -1.5e1\n1 3 .25\n", name))
    np.testing.assert_array_equal(got.to_dense(), [[0, 0, 0.25], [-15, 0, 0]])


def test_pattern_has_no_values_and_symmetric_is_unfolded(tmp_path):
    got = matrix(write(tmp_path, "%%MatrixMarket matrix coordinate pattern symmetric\n2 2 2\n1 1\n2 1\n"))
    assert got.values is None
    np.testing.assert_array_equal(got.to_dense(), [[1, 1], [1, 0]])


def test_skew_symmetric_changes_sign(tmp_path):
    got = matrix(write(tmp_path, "%%MatrixMarket matrix coordinate integer skew-symmetric\n2 2 1\n2 1 3\n"))
    np.testing.assert_array_equal(got.to_dense(), [[0, -3], [3, 0]])


def test_array_format_keeps_non_zeros(tmp_path):
    got = matrix(write(tmp_path, "%%MatrixMarket matrix array real general\n2 2\n1\n0\n2\n0\n"))
    np.testing.assert_array_equal(got.to_dense(), [[1, 2], [0, 0]])
    assert got.nnz == 2


def test_an_empty_matrix_is_a_matrix(tmp_path):
    assert matrix(write(tmp_path, REAL + "3 4 0\n")).shape == (3, 4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("hello\n", "line 1: is no Matrix Market file"),
        ("%%MatrixMarket matrix coordinate complex general\n1 1 1\n1 1 1 0\n", "'coordinate complex general' is not"),
        (REAL, "the file ends before its sizes"),
        (REAL + "3 3\n", "line 2: '3 3' is no size line; it must say 'rows columns entries'"),
        (REAL + "-3 3 1\n", "line 2: '-3 3 1' is no size line"),
        (REAL + "3 3 2\n1 1 1.0\n", "line 2: the header claims 2 entries, but only 8 bytes follow"),
        (REAL + "3 3 2\n1 1 1.00000\n", "line 2: the header claims 2 entries, the file holds 1; the file is truncated"),
        (REAL + "3 3 1\n1 1 1\n2 2 1\n", "line 2: the header claims 1 entries, the file holds 2"),
        (REAL + "3 3 1\n4 1 1\n", "line 3: row index out of bounds; indices count from 1"),
        (REAL + "3 3 1\n0 1 1\n", "line 3: row index out of bounds"),
        (REAL + "3 3 1\n1 9 1\n", "line 3: column index out of bounds"),
        (REAL + "3 3 1\n1 1 nan\n", "line 3: '1 1 nan' is no line of finite real numbers"),
        (REAL + "3 3 1\n1 1 1e999\n", "the entry of row 1, column 1 is inf"),
        (REAL + "3 3 1\n1 1 1.5.2\n", "line 3: '1 1 1.5.2' is no line"),
        (REAL + "3 3 1\n1 1 1-2\n", "line 3: '1 1 1-2' is no line"),
        (REAL + "3 3 1\n1 1 2e\n", "line 3: '1 1 2e' is no line"),
        (REAL + "3 3 1\n1.5 1 1\n", "line 3: invalid integer value"),
        (REAL + "3 3 2\n1 1 1 1\n2 2\n", "line 3: '1 1 1 1' does not hold 3 number(s)"),
        (REAL + "3 3 2\n2 1 1\n2 1 5\n", "the entry of row 2, column 1 stands twice; sum or drop duplicates first"),
        (REAL + "3 3 2\n1 1 1\n1 2\n3\n", "line 4: '1 2' does not hold 3 number(s)"),
        (REAL + "1 1 2\n1 1 1\n1 1 1\n", "2 entries do not fit into 1 x 1"),
        (REAL + "1000000000000 9 1\n1 1 1\n", "line 2: the header claims 1000000000000 rows, the file has only"),
        (
            REAL + "9 9 1000000000000\n1 1 1\n",
            "line 2: the header claims 1000000000000 entries, but only 6 bytes follow",
        ),
        ("%%MatrixMarket matrix array real general\n99999999 99999999\n1\n", "claims 99999999 rows"),
        (
            "%%MatrixMarket matrix array real general\n9999 9999\n1\n",
            "claims 99980001 entries, but only 2 bytes follow",
        ),
        (
            "%%MatrixMarket matrix coordinate pattern symmetric\n2 2 2\n1 2\n2 1\n",
            "stands twice; store one triangle only",
        ),
        (
            "%%MatrixMarket matrix coordinate pattern symmetric\n2 3 1\n1 2\n",
            "a symmetric matrix of 2 x 3; it must be square",
        ),
        (
            "%%MatrixMarket matrix coordinate real skew-symmetric\n2 2 1\n1 1 4\n",
            "the diagonal entry of row 1 stands in",
        ),
        ("%%MatrixMarket matrix coordinate integer general\n1 1 1\n1 1 1.5\n", "is no line of finite integer numbers"),
        ("%%MatrixMarket matrix coordinate integer general\n1 1 1\n1 1 99999999999999999999\n", "integer out of range"),
    ],
)
def test_refusals(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(InputError) as caught:
        load(path)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.mtx.gz", b"%%MatrixMarket", "is no gzip file; if it is not compressed, rename it to 'm.mtx'"),
        ("m.mtx.gz", gzip.compress(REAL.encode() * 9, mtime=0)[:-9], "the gzip stream is broken"),
        (
            "m.mtx",
            gzip.compress(b"x", mtime=0),
            "is compressed with gzip, but its name does not say so; rename it to 'm.mtx.gz'",
        ),
        ("m.mtx.gz", gzip.compress(b"", mtime=0), "the file is empty once unpacked"),
    ],
)
def test_gzip_refusals(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message.replace(".", r"\.")):
        load(tmp_path / name)


cells = st.dictionaries(st.tuples(st.integers(0, 6), st.integers(0, 4)), st.floats(-1e300, 1e300), max_size=12)


@given(cells=cells)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_scipy_writes_is_read(tmp_path, cells):
    row, col = (np.array([cell[axis] for cell in cells], dtype=np.int64) for axis in (0, 1))
    written = coo_array((np.array(list(cells.values()), dtype=float), (row, col)), shape=(7, 5))
    mmwrite(tmp_path / "m.mtx", written, precision=17, symmetry="general")
    got = matrix(tmp_path / "m.mtx")
    assert got.nnz == len(cells)
    np.testing.assert_array_equal(got.to_dense(), written.toarray())
