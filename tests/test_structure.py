"""Patterns are found where they are, and not where chance made something look like one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sparsim.errors import InputError
from sparsim.matrix import Csr
from sparsim.structure import Structure, block_fill, detect, empty_columns, empty_rows, follows_n_of_m

masks = arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 19)))


def patterns(mask: np.ndarray, kernel: tuple[int, ...] = ()) -> list[str]:
    return [structure.pattern for structure in detect(Csr.from_dense(mask), kernel)]


def n_of_m(rows: int, cols: int, n: int, m: int, seed: int = 0) -> np.ndarray:
    scores = np.random.default_rng(seed).random((rows, cols // m, m))
    return (np.argsort(np.argsort(scores, axis=2), axis=2) < n).reshape(rows, cols)


def random(rows: int, cols: int, density: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((rows, cols)) < density


@given(mask=masks, n=st.integers(1, 4), extra=st.integers(0, 6))
def test_n_of_m_equals_counting(mask, n, extra):
    m = n + extra
    expected = all(row[start : start + m].sum() <= n for row in mask for start in range(0, mask.shape[1], m))
    assert follows_n_of_m(Csr.from_dense(mask), n, m) == expected


@given(mask=masks)
def test_empty_rows_and_columns(mask):
    csr = Csr.from_dense(mask)
    np.testing.assert_array_equal(empty_rows(csr), np.flatnonzero(~mask.any(axis=1)))
    np.testing.assert_array_equal(empty_columns(csr), np.flatnonzero(~mask.any(axis=0)))


@given(mask=masks, rows=st.integers(1, 10), cols=st.integers(1, 20))
def test_block_fill_equals_counting(mask, rows, cols):
    blocks = [
        mask[i : i + rows, j : j + cols] for i in range(0, mask.shape[0], rows) for j in range(0, mask.shape[1], cols)
    ]
    filled = [block for block in blocks if block.any()]
    fill = sum(block.sum() for block in filled) / sum(block.size for block in filled) if filled else 0.0
    assert block_fill(Csr.from_dense(mask), rows, cols) == (len(filled), len(blocks), pytest.approx(fill))


@pytest.mark.parametrize(("n", "m"), [(1, 2), (2, 4), (4, 8), (1, 4), (2, 8)])
def test_n_of_m_is_found_and_comes_first(n, m):
    found = patterns(n_of_m(32, 64, n, m))
    assert found[0] == f"{n}:{m}"
    assert "unstructured" not in found
    assert "dense" not in found


def test_one_violation_ends_n_of_m():
    mask = n_of_m(32, 64, 2, 4)
    mask[5, 8:11] = True
    assert patterns(mask) == ["unstructured"]


@pytest.mark.parametrize("density", [0.0, 0.001, 0.05, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_random_zeros_are_unstructured(density, seed):
    found = detect(Csr.from_dense(random(64, 64, density, seed)))
    assert found[-1].pattern == "unstructured"
    assert {structure.pattern for structure in found} <= {"unstructured", "out_channel", "in_channel"}
    assert found[-1].share == pytest.approx(1 - density, abs=0.05)


def test_dense():
    assert detect(Csr.from_dense(np.ones((2, 3)))) == [Structure("dense", "all 6 elements are stored", 1.0)]
    assert patterns(np.zeros((0, 3))) == ["dense"]


@pytest.mark.parametrize(
    ("rows", "cols", "name"),
    [
        (2, 2, "block:2x2"),
        (4, 4, "block:4x4"),
        (8, 8, "block:8x8"),
        (16, 16, "block:16x16"),
        (1, 4, "vector:4"),
        (1, 8, "vector:8"),
        (4, 1, "block:4x1"),
        (8, 1, "block:8x1"),
    ],
)
def test_blocks(rows, cols, name):
    mask = np.kron(random(128 // rows, 128 // cols, 0.4), np.ones((rows, cols), dtype=bool))
    found = detect(Csr.from_dense(mask))
    assert (found[0].pattern, found[0].share) == (name, 1.0)
    assert [item.pattern for item in found if item.pattern not in ("out_channel", "in_channel")] == [name]


def test_blocks_that_are_not_quite_full():
    mask = np.kron(random(32, 32, 0.3), np.ones((4, 4), dtype=bool)) & random(128, 128, 0.98, 1)
    found = detect(Csr.from_dense(mask))
    assert found[0].pattern == "block:4x4"
    assert found[0].share == pytest.approx(0.98, abs=0.01)


def test_whole_kernels():
    mask = np.kron(random(32, 32, 0.4), np.ones((1, 9), dtype=bool))
    assert patterns(mask, (3, 3)) == ["kernel"]


def test_channels():
    mask = np.ones((8, 27), dtype=bool)
    mask[[1, 4]] = False
    assert detect(Csr.from_dense(mask), (3, 3)) == [Structure("out_channel", "2 of 8 rows are empty", 0.25)]
    mask[:, 9:18] = False
    assert patterns(mask, (3, 3)) == ["out_channel", "in_channel"]
    assert detect(Csr.from_dense(mask), (3, 3))[1].detail == "1 of 3 input channels are empty"
    mask[0, 0] = False
    assert patterns(mask, (3, 3)) == ["out_channel", "in_channel", "unstructured"]


def test_nothing_stored():
    assert patterns(np.zeros((2, 2))) == ["out_channel", "in_channel", "unstructured"]


@given(mask=masks)
@settings(max_examples=60)
def test_something_is_always_said(mask):
    found = detect(Csr.from_dense(mask))
    assert found
    assert all(0 <= structure.share <= 1 for structure in found)
    assert ([item.pattern for item in found] == ["dense"]) == mask.all()


def test_refusals():
    csr = Csr.from_dense(np.eye(4))
    for n, m in [(0, 4), (5, 4)]:
        with pytest.raises(InputError, match=f"{n}:{m} is no pattern; N:M needs 1 <= N <= M"):
            follows_n_of_m(csr, n, m)
    with pytest.raises(InputError, match="a block of 0 x 4; both sides are at least 1"):
        block_fill(csr, 0, 4)
    with pytest.raises(InputError, match="4 columns are no multiple of kernel"):
        detect(csr, (3, 3))
