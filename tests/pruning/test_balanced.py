"""Balanced patterns against loops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sparsim.pruning import mask
from sparsim.pruning.balanced import bank_balanced, kernel_patterns
from sparsim.structure import bank_bounds

matrices = hnp.arrays(
    np.float64,
    hnp.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=11),
    elements=st.integers(0, 4).map(float),
)


def naive_banks(columns, banks):
    """Deal the columns out to the banks one by one, and see how many each gets."""
    widths = [0] * max(1, min(banks, columns))
    for column in range(columns):
        widths[column % len(widths)] += 1
    return widths


def naive_bank_balanced(scores, banks, keep):
    rows, columns = scores.shape
    widths = naive_banks(columns, banks)
    totals = [rows * sum(min(each, width) for width in widths) for each in range(max(widths) + 1)]
    each = min(range(len(totals)), key=lambda count: (abs(totals[count] - keep), count))
    out = np.zeros(scores.shape, dtype=bool)
    for row in range(rows):
        start = 0
        for width in widths:
            best = sorted(range(start, start + width), key=lambda column: (-scores[row, column], column))
            out[row, best[:each]] = True
            start += width
    return out


def naive_kernel_patterns(kernels, patterns, keep):
    each = max(1, min(kernels.shape[1], round(keep / len(kernels))))

    def natural(kernel):
        best = sorted(range(len(kernel)), key=lambda at: (-kernel[at], at))[:each]
        return tuple(at in best for at in range(len(kernel)))

    speakers = [kernel for kernel in kernels if any(kernel)] or list(kernels)
    votes = {}
    for kernel in speakers:
        votes[natural(kernel)] = votes.get(natural(kernel), 0) + 1
    allowed = sorted(votes, key=lambda code: (-votes[code], code))[:patterns]
    chosen = [
        max(allowed, key=lambda code, kernel=kernel: (sum(kernel[list(code)]), -allowed.index(code)))
        for kernel in kernels
    ]
    return np.array(chosen, dtype=bool)


@given(st.integers(0, 50), st.integers(1, 60))
def test_banks_differ_by_one_column_at_most(columns, banks):
    assert np.diff(bank_bounds(columns, banks)).tolist() == naive_banks(columns, banks)


@given(matrices, st.integers(1, 13), st.floats(0, 1))
def test_bank_balanced_matches_the_loops(scores, banks, share):
    keep = round(scores.size * share)
    np.testing.assert_array_equal(bank_balanced(scores, banks, keep), naive_bank_balanced(scores, banks, keep))


@given(matrices, st.floats(0, 1))
def test_balanced_rows_are_one_bank(scores, share):
    keep = round(scores.size * share)
    np.testing.assert_array_equal(mask(scores, "row_balanced", keep), mask(scores, "bank:1", keep))


@given(matrices, st.integers(1, 13), st.floats(0, 1))
def test_bank_balanced_is_half_a_step_off_at_most(scores, banks, share):
    keep = round(scores.size * share)
    step = scores.shape[0] * min(banks, max(scores.shape[1], 1))
    assert abs(int(bank_balanced(scores, banks, keep).sum()) - keep) <= step / 2


def test_uneven_banks_keep_as_many_each():
    kept = bank_balanced(np.random.default_rng(0).random((50, 11)), 4, 50 * 8)  # banks of 3, 3, 3 and 2 columns
    for start, stop in [(0, 3), (3, 6), (6, 9), (9, 11)]:
        assert (kept[:, start:stop].sum(axis=1) == 2).all()


@given(
    hnp.arrays(
        np.float64,
        st.tuples(st.integers(1, 6), st.integers(1, 4), st.integers(1, 3), st.integers(2, 3)),
        elements=st.integers(0, 4).map(float),
    ),
    st.integers(1, 6),
    st.floats(0, 1),
)
def test_kernel_patterns_match_the_loops(scores, patterns, share):
    keep = round(scores.size * share)
    kernels = scores.reshape(-1, scores.shape[2] * scores.shape[3])
    expected = naive_kernel_patterns(kernels, patterns, keep).reshape(scores.shape)
    np.testing.assert_array_equal(mask(scores, f"kernel_pattern:{patterns}", keep), expected)


def test_kernel_patterns_are_few_and_keep_more_than_any_one_of_them():
    scores = np.random.default_rng(0).random((32, 16, 3, 3))
    kept = mask(scores, "kernel_pattern:8", scores.size * 4 // 9).reshape(-1, 9)
    masks = np.unique(kept, axis=0)
    assert len(masks) == 8
    assert (kept.sum(axis=1) == 4).all()
    for one in masks:
        assert (kept * scores.reshape(-1, 9)).sum() > (one * scores.reshape(-1, 9)).sum()


def test_every_kernel_keeps_at_least_one_weight():
    assert mask(np.ones((4, 4, 3, 3)), "kernel_pattern:3", 0).sum() == 16


def test_kernels_of_many_weights_have_patterns_too():
    scores = np.random.default_rng(0).random((4, 3, 11, 11))
    kept = mask(scores, "kernel_pattern:2", 12 * 30).reshape(-1, 121)
    assert (kept.sum(axis=1) == 30).all()
    assert len(np.unique(kept, axis=0)) == 2


def test_empty_kernels_have_no_say_in_the_patterns():
    scores = np.zeros((20, 1, 2, 2))
    scores[0, 0] = [[0, 0], [1, 1]]
    kept = kernel_patterns(scores.reshape(20, 4), 4, 1, 40)
    assert (kept == [False, False, True, True]).all()


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (0, 0)])
def test_nothing_stays_nothing(shape):
    assert bank_balanced(np.zeros(shape), 2, 0).shape == shape
    assert kernel_patterns(np.zeros(shape), 2, 2, 0).shape == shape
