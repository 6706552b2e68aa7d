"""V:N:M: the mask against loops, what its zeros are found to be, and drawn operands."""

from __future__ import annotations

import numpy as np
import pytest
from checks import refused
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sparsim.errors import ConfigError, WorkloadError
from sparsim.matrix import Csr
from sparsim.n_of_m import follows_n_of_m, follows_vnm, vnm_k, vnm_width
from sparsim.network import Layer, Network
from sparsim.pruning import mask, parse_granularity, prune
from sparsim.pruning.vnm import v_n_of_m
from sparsim.simulate import gemm
from sparsim.structure import detect
from sparsim.workload import Operand

matrices = hnp.arrays(
    np.float64,
    hnp.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=13),
    elements=st.integers(0, 4).map(float),
)
sizes = st.tuples(st.integers(1, 6), st.just(2), st.integers(4, 9))


def naive_mask(scores, v, n, m):
    out = np.zeros(scores.shape, dtype=bool)
    for top in range(0, scores.shape[0], v):
        rows = range(top, min(top + v, scores.shape[0]))
        for left in range(0, scores.shape[1], m):
            columns = range(left, min(left + m, scores.shape[1]))
            total = {column: sum(scores[row, column] for row in rows) for column in columns}
            four = sorted(columns, key=lambda column: (-total[column], column))[:4]
            for row in rows:
                out[row, sorted(four, key=lambda column, row=row: (-scores[row, column], column))[:n]] = True
    return out


def naive_follows(dense, v, n, m):
    for top in range(0, dense.shape[0], v):
        for left in range(0, dense.shape[1], m):
            block = dense[top : top + v, left : left + m] != 0
            if block.any(axis=0).sum() > 4 or block.sum(axis=1).max(initial=0) > n:
                return False
    return True


@given(matrices, sizes)
def test_mask_against_loops(scores, size):
    kept = v_n_of_m(scores, *size)
    np.testing.assert_array_equal(kept, naive_mask(scores, *size))
    assert follows_vnm(Csr.from_dense(kept), *size)


@given(matrices, sizes)
def test_follows_against_loops(dense, size):
    assert follows_vnm(Csr.from_dense(dense), *size) == naive_follows(dense, *size)


@given(matrices, sizes)
def test_every_row_keeps_two_of_every_m(scores, size):
    kept, m = v_n_of_m(scores, *size), size[2]
    for left in range(0, scores.shape[1], m):
        part = kept[:, left : left + m]
        assert (part.sum(axis=1) == min(2, part.shape[1])).all()


def test_columns_are_chosen_by_the_sum_of_all_rows():
    """Column 0 is highest in one row, columns 1 to 4 in the sum: row 0 must do without its best."""
    scores = np.array([[9.0, 4, 3, 1, 1], [0, 6, 7, 9, 9]])
    np.testing.assert_array_equal(mask(scores, "2:2:5").astype(int), [[0, 1, 1, 0, 0], [0, 0, 0, 1, 1]])
    np.testing.assert_array_equal(mask(scores, "1:2:5")[0].astype(int), [1, 1, 0, 0, 0])


def test_blocks_of_four_columns_are_plain_n_of_m():
    scores = np.random.default_rng(0).random((9, 23))
    np.testing.assert_array_equal(mask(scores, "3:2:4"), mask(scores, "2:4"))


@pytest.mark.parametrize("text", ["64:2:10", " 064:2:10 "])
def test_the_name_is_written_one_way(text):
    pattern = parse_granularity(text)
    assert (str(pattern), pattern.kind, pattern.sizes) == ("64:2:10", "v:n:m", (64, 2, 10))
    assert pattern.fixes_sparsity


@pytest.mark.parametrize("text", ["0:2:8", "8:1:8", "8:3:8", "8:2:3"])
def test_sizes_without_a_kernel_are_refused(text):
    refused(lambda: parse_granularity(text), f"'{text}'", "V >= 1, N = 2 and M >= 4", kind=ConfigError)
    refused(lambda: gemm(8, 8, 8, pattern=text), "--pattern", "V >= 1, N = 2 and M >= 4", kind=ConfigError)


def test_a_network_keeps_a_fifth():
    weight = np.random.default_rng(0).normal(size=(256, 320))
    pruned = prune(Network("net", (Layer("fc", weight),)), "64:2:10", 0.5)
    assert pruned.layers[0].nnz == 256 * 320 // 5
    assert any("64:2:10 fixes its own sparsity" in note for note in pruned.notes)
    found = detect(pruned.layers[0].matrix)
    assert (found[0].pattern, found[0].share) == ("64:2:10", 1.0)


@pytest.mark.parametrize(("v", "m"), [(128, 8), (64, 16), (32, 40), (16, 100)])
def test_drawn_operands_are_what_they_say(v, m):
    a = Operand.vnm(256, 200, v, 2, m, seed=1).csr
    assert vnm_width(a, v) == m
    assert follows_vnm(a, v, 2, m)
    assert follows_n_of_m(a, 2, m)
    assert vnm_k(a, v) == 200 // m * 4 + min(200 % m, 4)
    assert detect(a)[0].pattern == f"{v}:2:{m}"


@pytest.mark.parametrize(("cols", "depth", "kept"), [(10, 4, 2), (11, 5, 3), (13, 7, 4), (16, 8, 4), (3, 3, 2)])
def test_the_last_columns_of_a_ragged_row(cols, depth, kept):
    a = Operand.vnm(9, cols, 4, 2, 10).csr
    assert (a.row_lengths == kept).all()
    assert follows_vnm(a, 4, 2, 10)
    assert vnm_k(a, 4, most=10) == depth


def test_depth_of_what_is_and_what_is_not():
    two_of_four = Operand(64, 64, pattern="2:4", seed=2).csr
    assert vnm_k(two_of_four, 16) == 64
    assert vnm_k(Operand.random(64, 64, 0.5).csr, 16) is None
    assert vnm_k(Csr.from_dense(np.zeros((8, 64))), 16) == 4
    assert vnm_k(Operand.vnm(64, 64, 16, 2, 8).csr, 16) == 32
    assert vnm_k(Operand.vnm(64, 64, 16, 2, 8).csr, 32) == 64  # of half of its blocks, no more than 2:4 is left


@pytest.mark.parametrize("granularity", ["2:4", "2:8", "unstructured", "vector:16x1", "in_channel", "block:16x4"])
def test_other_zeros_are_not_mistaken(granularity):
    weight = np.random.default_rng(3).normal(size=(256, 256))
    found = [item.pattern for item in detect(prune(Layer("fc", weight), granularity, 0.9).matrix)]
    assert not any(name.count(":") == 2 for name in found)


def test_a_shape_of_a_product():
    work = gemm(256, 1000, 64, pattern="64:2:10", seed=4)
    assert (work.a.nnz, work.multiplies) == (256 * 200, 256 * 200 * 64)
    assert gemm(256, 1000, 64, pattern="64:2:10", seed=4).sha256 == work.sha256
    assert gemm(256, 1000, 64, pattern="64:2:10", seed=5).sha256 != work.sha256
    refused(lambda: gemm(10**6, 10**6, 8, pattern="64:2:10"), "elements", kind=WorkloadError)


def test_a_pattern_that_is_none_is_refused():
    a = Csr.from_dense(np.eye(4))
    refused(lambda: follows_vnm(a, 0, 2, 8), "0:2:8", "V >= 1")
    refused(lambda: follows_vnm(a, 4, 2, 3), "4:2:3", "4 <= M")
