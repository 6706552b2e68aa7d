"""The canonical matrix: what it refuses, and what it does, against scipy."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from checks import refused
from hypothesis import given
from hypothesis import strategies as st
from strategies import csr_matrices

from sparsim.matrix import Csr, check_shape


def same(ours, theirs):
    assert ours.shape == theirs.shape
    assert np.array_equal(ours.to_dense(), theirs.toarray())
    again = Csr.build(ours.shape, ours.indptr, ours.indices, ours.values)  # every rule still holds
    assert ours.indptr.dtype == np.int64
    assert ours.indices.dtype == again.indices.dtype == np.int32


@pytest.mark.parametrize(
    ("indptr", "indices", "values", "words"),
    [
        ([0, 2, 2], [1, 1], None, ("column 1", "twice", "row 0", "sum_duplicates")),
        ([0, 1, 3], [2, 1, 0], None, ("row 1", "not sorted", "sort_indices")),
        ([0, 1, 2], [0, 3], None, ("3", "out of range", "3 columns")),
        ([0, 1, 2], [0, -1], None, ("-1", "out of range")),
        ([0, 1], [0], None, ("2 row offsets", "3 are needed")),
        ([1, 1, 2], [0, 1], None, ("start at 0",)),
        ([0, 2, 1], [0], None, ("ascend",)),
        ([0, 1, 2], [0], None, ("1 column indices", "2")),
        ([0, 1, 2], [0, 1], [1.0], ("1 values", "2")),
        ([0, 1, 2], [0, 1], [1.0, np.nan], ("nan", "[1]", "not finite")),
        ([0, 1, 2], [0, 1], [-np.inf, 1.0], ("inf", "[0]", "not finite")),
        ([0, 1, 2], [0.5, 1.0], None, ("float64", "whole numbers")),
        ([0, 1.5, 2], [0, 1], None, ("offsets", "whole numbers")),
        ([0, 1, 2], [0, 1], [1j, 1.0], ("complex",)),
    ],
)
def test_arrays_that_break_a_rule(indptr, indices, values, words):
    refused(lambda: Csr.build((2, 3), indptr, indices, values), *words)


def test_the_same_column_in_the_next_row_is_no_duplicate():
    assert Csr.build((4, 3), [0, 1, 1, 3, 4], [2, 0, 2, 0]).nnz == 4


@pytest.mark.parametrize("shape", [(-1, 2), (2, -1), (10**13, 2), (2, 10**13), (10**12, 2)])
def test_shapes_no_one_means(shape):
    refused(lambda: check_shape(*shape))
    none = np.zeros(0, dtype=int)
    refused(lambda: Csr.from_coo(shape, none, none))


def test_more_elements_than_cells():
    refused(lambda: check_shape(2, 3, 7), "7", "2 x 3")
    check_shape(2, 3, 6)


@pytest.mark.parametrize(
    ("row", "col", "words"),
    [
        ([0, 0], [1, 1], ("twice",)),
        ([2], [0], ("row index 2", "2 rows")),
        ([0], [3], ("column index 3", "3 columns")),
        ([-1], [0], ("row index -1",)),
        ([0, 1], [0], ("2", "1")),
    ],
)
def test_coordinates_that_break_a_rule(row, col, words):
    refused(lambda: Csr.from_coo((2, 3), np.array(row), np.array(col)), *words)


def test_coordinates_in_any_order():
    ours = Csr.from_coo((2, 3), np.array([1, 0, 0]), np.array([0, 2, 1]), np.array([5.0, 6.0, 7.0]))
    assert np.array_equal(ours.to_dense(), [[0, 7, 6], [5, 0, 0]])


@pytest.mark.parametrize("array", [np.ones(3), np.ones((2, 2, 2)), np.float64(1)])
def test_arrays_that_are_no_matrix(array):
    refused(lambda: Csr.from_dense(array), "dimension")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_dense_arrays_have_finite_values(bad):
    array = np.zeros((2, 3))
    array[1, 2] = bad
    refused(lambda: Csr.from_dense(array), "1, 2", "not finite")


def test_text_is_no_matrix():
    refused(lambda: Csr.from_dense(np.array([["a", "b"]])))


def test_scipy_in_disorder_is_refused_not_repaired():
    unsorted = sp.csr_array((np.ones(2), [1, 0], [0, 2]), shape=(1, 2))
    refused(lambda: Csr.from_scipy(unsorted), "not sorted")
    twice = sp.csr_array((np.ones(2), [1, 1], [0, 2]), shape=(1, 2))
    refused(lambda: Csr.from_scipy(twice), "twice")
    refused(lambda: Csr.from_scipy(sp.coo_array((np.ones(2), ([0, 0], [1, 1])), shape=(1, 2))), "twice")
    refused(lambda: Csr.from_scipy(sp.coo_array(np.ones(3))), "dimension")


@given(csr_matrices())
def test_round_trips(matrix):
    ours = Csr.from_scipy(matrix)
    same(ours, matrix)
    same(Csr.from_dense(matrix.toarray()), matrix)
    same(Csr.from_scipy(matrix.tocoo()), matrix)
    same(Csr.from_scipy(matrix.tocsc()), matrix)
    assert (ours.to_scipy() != matrix).nnz == 0
    assert ours.nnz == matrix.nnz
    cells = matrix.shape[0] * matrix.shape[1]
    assert ours.density == (matrix.nnz / cells if cells else 0)
    assert list(ours.row_lengths) == list(np.diff(matrix.indptr))


@given(csr_matrices(), st.data())
def test_transpose_and_slices(matrix, data):
    ours = Csr.from_scipy(matrix)
    same(ours.transpose(), sp.csr_array(matrix.T))
    same(ours.transpose().transpose(), matrix)
    start = data.draw(st.integers(0, matrix.shape[0]))
    stop = data.draw(st.integers(start, matrix.shape[0]))
    same(ours.rows_slice(start, stop), matrix[start:stop])
    width = data.draw(st.integers(1, matrix.shape[1] + 1))
    panels = list(ours.column_panels(width))
    assert len(panels) == max(1, -(-matrix.shape[1] // width))
    for number, panel in enumerate(panels):
        same(panel, matrix[:, number * width : (number + 1) * width])


@given(st.integers(1, 4), st.integers(0, 4), st.integers(0, 4), st.data())
def test_block_diagonal(groups, rows, columns, data):
    parts = [data.draw(csr_matrices(rows=rows, columns=columns)) for _ in range(groups)]
    stacked = sp.csr_array(sp.vstack(parts, format="csr"))
    same(Csr.from_scipy(stacked).block_diagonal(groups), sp.csr_array(sp.block_diag(parts, format="csr")))


def test_patterns_have_ones_and_stored_zeros_are_counted():
    pattern = Csr.build((1, 3), [0, 2], [0, 2])
    assert np.array_equal(pattern.to_dense(), [[1, 0, 1]])
    assert pattern.transpose().values is None
    assert pattern.stored_zeros == 0
    assert Csr.build((1, 3), [0, 2], [0, 2], [0.0, 1.0]).stored_zeros == 1


def test_wide_matrices_have_wide_indices():
    wide = Csr.build((1, 2**33), [0, 2], [5, 2**32])
    assert wide.indices.dtype == np.int64
    assert wide.nnz == 2


@given(csr_matrices())
def test_lengths_and_hash_are_found_once(matrix):
    ours = Csr.from_scipy(matrix)
    assert ours.row_lengths.tolist() == np.diff(matrix.indptr).tolist()
    assert ours.column_lengths.tolist() == np.bincount(matrix.indices, minlength=matrix.shape[1]).tolist()
    assert ours.column_lengths.dtype == np.int64
    for kept in ("row_lengths", "column_lengths", "digest"):
        assert getattr(ours, kept) is getattr(ours, kept)
