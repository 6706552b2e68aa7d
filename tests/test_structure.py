"""Patterns are found where they are, and not where chance made something look like one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sparsim.errors import InputError
from sparsim.matrix import Csr
from sparsim.n_of_m import follows_n_of_m
from sparsim.network import Layer
from sparsim.pruning import prune
from sparsim.pruning.criteria import wanda
from sparsim.structure import Structure, bank_bounds, block_fill, detect, empty_columns, empty_rows

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
        (32, 32, "block:32x32"),
        (4, 1, "vector:4x1"),
        (8, 1, "vector:8x1"),
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


WEIGHTS = {(): (192, 256), (3, 3): (48, 32, 3, 3), (1, 1): (192, 256, 1, 1)}
CHANNELS = {"out_channel", "in_channel"}


def pruned(granularity: str, sparsity: float, kernel: tuple[int, ...] = (), seed: int = 0, **how) -> list[str]:
    weight = np.random.default_rng(seed).normal(size=WEIGHTS[kernel])
    layer = prune(Layer("layer", weight), granularity, sparsity, **how)
    return [structure.pattern for structure in detect(layer.matrix, kernel)]


@pytest.mark.parametrize("sparsity", [0.3, 0.5, 0.75, 0.9])
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    ("granularity", "kernel"),
    [
        ("vector:4", ()),
        ("vector:4x1", ()),
        ("vector:16x1", ()),
        ("vector:2x1", (3, 3)),
        ("block:4x4", ()),
        ("block:8x8", (1, 1)),
        ("kernel", (3, 3)),
        ("kernel_pattern:4", (3, 3)),
        ("kernel_pattern:8", (3, 3)),
        ("head:16", ()),
        ("head:8", (1, 1)),
        ("row_balanced", ()),
        ("row_balanced", (3, 3)),
        ("bank:8", ()),
        ("bank:3", ()),
        ("bank:5", (3, 3)),
        ("out_channel", ()),
        ("in_channel", (3, 3)),
    ],
)
def test_what_pruning_makes_is_found_first(granularity, kernel, sparsity, seed):
    found = pruned(granularity, sparsity, kernel, seed)
    assert found[0] == granularity
    assert "unstructured" not in found


@pytest.mark.parametrize("features", [32, 64, 96, 128])
def test_heads_of_the_usual_sizes_are_found(features):
    weight = np.random.default_rng(0).normal(size=(12 * features, 64))
    layer = prune(Layer("q_proj", weight), f"head:{features}", 5 / 12)
    assert [item.pattern for item in detect(layer.matrix)] == [f"head:{features}", "out_channel"]
    also = prune(layer, "unstructured", 0.8)
    assert [item.pattern for item in detect(also.matrix)] == [f"head:{features}", "out_channel", "unstructured"]


@pytest.mark.parametrize("granularity", ["2:4", "1:4", "4:8", "1:2", "2:4+permute"])
@pytest.mark.parametrize("kernel", [(), (3, 3)])
def test_n_of_m_comes_before_the_balance_it_implies(granularity, kernel):
    found = pruned(granularity, None, kernel)
    assert found[0] == granularity.removesuffix("+permute")
    assert found[-1].startswith("bank:")


def test_balanced_rows_of_another_criterion_are_found():
    norms = {"layer": np.random.default_rng(5).random(256)}
    assert pruned("row_balanced", 0.6, criterion=wanda(norms))[0] == "row_balanced"
    assert pruned("row_balanced", 0.6, criterion="random") == ["row_balanced"]


@pytest.mark.parametrize("sparsity", [0.1, 0.3, 0.5, 0.75, 0.9, 0.98])
@pytest.mark.parametrize("kernel", [(), (3, 3), (1, 1)])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_single_weights_are_unstructured_whatever_the_kernel(sparsity, kernel, seed):
    assert set(pruned("unstructured", sparsity, kernel, seed)) - CHANNELS == {"unstructured"}


@given(st.integers(1, 24), st.integers(1, 12), st.sampled_from([1, 2, 4, 9]), st.floats(0, 1), st.integers(0, 999))
@settings(max_examples=200)
def test_random_zeros_of_small_layers_show_nothing(rows, channels, area, density, seed):
    found = patterns(random(rows, channels * area, density, seed), () if area == 1 else (1, area))
    assert set(found) - CHANNELS <= {"unstructured", "dense"}


@pytest.mark.parametrize("rare", [0, 1])
def test_a_few_lone_cells_are_no_pattern(rare):
    mask = np.full((64, 60), 1 - rare, dtype=bool)
    mask[[7, 7, 20, 40], [3, 30, 11, 50]] = rare
    assert set(patterns(mask)) - CHANNELS == {"unstructured"}
    mask[8:10, 4] = rare
    assert set(patterns(mask)) - CHANNELS == {"unstructured"}


def test_empty_rows_do_not_hide_a_balance():
    mask = np.argsort(np.random.default_rng(0).random((64, 40)), axis=1) < 12
    mask[[3, 9, 11]] = False
    assert patterns(mask) == ["row_balanced", "out_channel"]


def test_columns_of_an_output_projection_show_heads():
    mask = np.repeat(np.array([1, 0, 1, 1, 0, 0, 1, 1], dtype=bool), 32) * np.ones((40, 1), dtype=bool)
    found = detect(Csr.from_dense(mask))
    assert [item.pattern for item in found] == ["head:32", "in_channel"]
    assert found[0] == Structure("head:32", "3 of 8 runs of 32 columns are empty", 0.375)


def test_empty_rows_in_no_runs_are_no_heads():
    mask = np.ones((64, 40), dtype=bool)
    mask[np.random.default_rng(1).choice(64, 16, replace=False)] = False
    assert patterns(mask) == ["out_channel"]


def test_one_more_element_ends_a_balance():
    mask = np.argsort(np.random.default_rng(0).random((64, 40)), axis=1) < 12
    mask[5, np.flatnonzero(~mask[5])[0]] = True
    assert patterns(mask) == ["unstructured"]


def test_kernels_of_many_masks_are_no_pattern():
    mask = np.argsort(np.random.default_rng(0).random((2048, 9)), axis=1) < 4
    assert not [name for name in patterns(mask.reshape(64, 288), (3, 3)) if name.startswith("kernel")]
    large = np.argsort(np.random.default_rng(0).random((4, 1331)), axis=1) < 600
    assert patterns(large.reshape(4, 1331), (11, 11, 11)) == ["unstructured"]


def test_banks_are_the_finest_that_hold():
    mask = np.argsort(np.random.default_rng(0).random((64, 10, 6)), axis=2) < 2
    assert patterns(mask.reshape(64, 60)) == ["4:8", "bank:10"]  # 8 columns meet two banks
    assert bank_bounds(10, 4).tolist() == [0, 3, 6, 8, 10]
    assert bank_bounds(2, 4).tolist() == [0, 1, 2]
