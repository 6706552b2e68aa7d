"""Each pattern against loops that say what it means."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sparsim.errors import ConfigError, InputError
from sparsim.pruning import Granularity, mask, parse_granularity

COARSE = [
    "unstructured",
    "vector:1",
    "vector:3",
    "vector:2x1",
    "vector:3x1",
    "block:2x3",
    "block:4x4",
    "block:9x99",
    "kernel",
    "out_channel",
    "in_channel",
]


def naive_groups(shape, name):
    """Positions (row, column) of each group on [out, k], in reading order of the groups' first weights."""
    pattern = parse_granularity(name)
    kernel = int(np.prod(shape[2:], dtype=int))
    down, along = pattern.sizes if len(pattern.sizes) == 2 else (1, *pattern.sizes, 1)[:2]
    groups = {}
    for row in range(shape[0]):
        for column in range(int(np.prod(shape[1:], dtype=int))):
            key = {
                "unstructured": lambda r, c: (r, c),
                "vector": lambda r, c: (r // down, c // along),
                "kernel": lambda r, c: (r, c // kernel),
                "block": lambda r, c: (r // pattern.sizes[0], c // pattern.sizes[-1]),
                "out_channel": lambda r, c: (r, 0),
                "in_channel": lambda r, c: (0, c // kernel),
            }[pattern.kind](row, column)
            groups.setdefault(key, []).append((row, column))
    return [groups[key] for key in sorted(groups)]


def naive_mask(scores, name, keep):
    flat = scores.reshape(scores.shape[0], int(np.prod(scores.shape[1:], dtype=int)))
    groups = naive_groups(scores.shape, name)
    means = [sum(flat[at] for at in group) / len(group) for group in groups]
    order = sorted(range(len(groups)), key=lambda g: (-means[g], g))
    best, kept, chosen = 0, 0, 0
    for number, group in enumerate(order, start=1):
        kept += len(groups[group])
        if abs(kept - keep) < abs(best - keep):
            best, chosen = kept, number
    out = np.zeros(flat.shape, dtype=bool)
    for group in order[:chosen]:
        for at in groups[group]:
            out[at] = True
    return out.reshape(scores.shape)


def naive_n_of_m(scores, n, m):
    flat = scores.reshape(scores.shape[0], int(np.prod(scores.shape[1:], dtype=int)))
    out = np.zeros(flat.shape, dtype=bool)
    for row in range(flat.shape[0]):
        for start in range(0, flat.shape[1], m):
            chunk = range(start, min(start + m, flat.shape[1]))
            for column in sorted(chunk, key=lambda c: (-flat[row, c], c))[:n]:
                out[row, column] = True
    return out.reshape(scores.shape)


def scores(min_side=0, max_side=9):
    """Few distinct whole numbers, so that ties are the rule and sums are exact."""
    shapes = hnp.array_shapes(min_dims=2, max_dims=2, min_side=min_side, max_side=max_side) | hnp.array_shapes(
        min_dims=3, max_dims=5, min_side=max(min_side, 1), max_side=4
    )
    return hnp.arrays(np.float64, shapes, elements=st.integers(0, 4).map(float))


@given(scores(), st.sampled_from(COARSE), st.floats(0, 1))
def test_coarse_mask_matches_the_loops(values, name, share):
    keep = round(values.size * share)
    np.testing.assert_array_equal(mask(values, name, keep), naive_mask(values, name, keep))


@given(scores(), st.integers(1, 6), st.integers(0, 6))
def test_n_of_m_matches_the_loops(values, n, extra):
    m = n + extra
    np.testing.assert_array_equal(mask(values, f"{n}:{m}"), naive_n_of_m(values, n, m))


@given(scores(), st.data())
def test_unstructured_keeps_exactly_the_budget(values, data):
    keep = data.draw(st.integers(0, values.size))
    assert mask(values, "unstructured", keep).sum() == keep


@given(scores(min_side=1), st.sampled_from(COARSE), st.data())
def test_coarse_is_at_most_half_a_group_off(values, name, data):
    keep = data.draw(st.integers(0, values.size))
    largest = max(len(group) for group in naive_groups(values.shape, name))
    assert abs(int(mask(values, name, keep).sum()) - keep) <= largest / 2


@pytest.mark.parametrize(
    "name",
    [
        "unstructured",
        "vector:4",
        "vector:4x1",
        "block:4x4",
        "kernel",
        "out_channel",
        "in_channel",
        "2:4",
        "row_balanced",
        "bank:2",
        "head:4",
    ],
)
def test_equal_scores_stay_in_order_of_position(name):
    kept = mask(np.ones((8, 8)), name, 32)
    first = {
        "block:4x4": np.arange(64).reshape(8, 8) // 32 == 0,
        "in_channel": np.arange(64).reshape(8, 8) % 8 < 4,
        "row_balanced": np.arange(64).reshape(8, 8) % 8 < 4,
        "bank:2": np.arange(64).reshape(8, 8) % 4 < 2,
        "2:4": np.arange(64).reshape(8, 8) % 4 < 2,
    }.get(name, np.arange(64).reshape(8, 8) < 32)
    np.testing.assert_array_equal(kept, first)


def test_a_ragged_block_is_ranked_by_its_mean():
    values = np.array([[3.0, 3.0, 3.0, 3.0, 4.0]])
    np.testing.assert_array_equal(mask(values, "vector:4", 1), [[False, False, False, False, True]])
    values[0, 4] = 2.0
    np.testing.assert_array_equal(mask(values, "vector:4", 4), [[True, True, True, True, False]])


def test_in_channel_of_a_convolution_is_a_kernel_wide():
    values = np.zeros((2, 3, 2, 2))
    values[:, 1] = 1.0
    kept = mask(values, "in_channel", 8)
    np.testing.assert_array_equal(kept, values == 1)


def test_in_channel_of_a_grouped_convolution_stays_in_its_group():
    values = np.zeros((4, 2, 1, 1))
    values[:2, 0] = 1.0
    values[2:, 1] = 1.0
    np.testing.assert_array_equal(mask(values, "in_channel", 4, groups=2), values == 1)


def test_n_of_m_runs_along_the_flattened_kernel():
    values = np.arange(8.0).reshape(1, 2, 2, 2)
    np.testing.assert_array_equal(mask(values, "1:8").ravel(), np.arange(8) == 7)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        (" 2:4 ", "2:4"),
        ("BLOCK:4X2", "block:4x2"),
        ("vector:04", "vector:4"),
        ("Unstructured", "unstructured"),
        ("vector:1x4", "vector:4"),
        ("vector:4x1", "vector:4x1"),
        ("vector:1x1", "vector:1"),
        ("block:4x1", "block:4x1"),
        ("2:4+Permute", "2:4+permute"),
        ("kernel", "kernel"),
        ("kernel_pattern:8", "kernel_pattern:8"),
        ("head:064", "head:64"),
        ("Row_balanced", "row_balanced"),
        ("bank:16", "bank:16"),
    ],
)
def test_names_are_read_leniently_and_written_one_way(text, canonical):
    pattern = parse_granularity(text)
    assert str(pattern) == canonical
    assert parse_granularity(pattern) is pattern
    assert parse_granularity(canonical) == pattern


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("5:4", "'5:4' keeps 5 of every 4 weights; allowed: N:M with 1 <= N <= M"),
        ("0:4", "keeps 0 of every 4"),
        ("2:0", "1 <= N <= M"),
        ("block", "block:RxC"),
        ("block:4", "block:RxC with R, C >= 1"),
        ("block:0x4", "R, C >= 1"),
        ("block:4x4x4", "block:RxC"),
        ("vector:0", "'vector:0' is no size of a vector; allowed: vector:V with V >= 1"),
        ("vector:-1", "vector:V"),
        ("vector", "vector:V"),
        ("vector:4x4", "'vector:4x4' is no size of a vector; allowed: vector:V with V >= 1"),
        ("vector:4x0", "vector:Vx1"),
        ("bank", "bank:B with B >= 1 banks"),
        ("bank:0", "'bank:0' is no size of a bank"),
        ("head:8x8", "head:D with D >= 1"),
        ("kernel_pattern", "kernel_pattern:P"),
        ("kernel:3", "kernel takes no size"),
        ("row_balanced:2", "row_balanced takes no size"),
        ("5:4+permute", "keeps 5 of every 4"),
        ("2:4+permuted", "is no granularity"),
        ("heads:64", "did you mean 'head'?"),
        ("vector:99999999999", "vector:V"),
        ("unstructured:3", "unstructured takes no size"),
        ("unstructred", "did you mean 'unstructured'?"),
        ("channel", "did you mean 'in_channel'?"),
        ("", "unstructured, N:M (as 2:4)"),
        ("2:4:8", "'2:4:8' keeps 4 of 8 weights in runs of 2 rows; allowed: V:N:M with V >= 1, N = 2 and M >= 4"),
    ],
)
def test_a_wrong_name_says_what_is_allowed(text, message):
    with pytest.raises(ConfigError) as caught:
        parse_granularity(text)
    assert message in str(caught.value)
    assert str(caught.value).startswith("granularity: ")


def test_huge_sizes_cost_nothing():
    values = np.array([[1.0, 2.0, 3.0]])
    np.testing.assert_array_equal(mask(values, "1:999999999"), [[False, False, True]])
    assert mask(values, "block:999999999x999999999", 3).all()


def test_a_vector_along_the_outputs_is_a_block_one_wide():
    values = np.random.default_rng(0).random((10, 6))
    np.testing.assert_array_equal(mask(values, "vector:4x1", 30), mask(values, "block:4x1", 30))


def test_a_kernel_of_a_linear_layer_is_one_weight():
    values = np.random.default_rng(0).random((6, 6))
    np.testing.assert_array_equal(mask(values, "kernel", 13), mask(values, "unstructured", 13))


def test_a_head_of_a_single_matrix_is_a_run_of_rows():
    values = np.repeat([1.0, 3.0, 2.0], 4)[:, None] * np.ones((12, 5))
    np.testing.assert_array_equal(mask(values, "head:4", 40), values > 1)
    with pytest.raises(
        ConfigError, match=r"heads of 5 features do not divide the 12 rows of 'weight'; allowed: head:D"
    ):
        mask(values, "head:5", 40)


@pytest.mark.parametrize("keep", [None, -1, 10])
def test_mask_refuses_an_impossible_number(keep):
    with pytest.raises(ConfigError, match=r"keep: .*allowed: 0 to 9 weights"):
        mask(np.ones((3, 3)), "unstructured", keep)


def test_mask_refuses_what_is_no_weight():
    with pytest.raises(InputError, match="1 dimension"):
        mask(np.ones(3), "unstructured", 1)
    with pytest.raises(InputError, match="not finite"):
        mask(np.array([[1.0, np.nan]]), "unstructured", 1)


def test_granularity_is_a_value():
    assert Granularity("n:m", (2, 4)) == parse_granularity("2:4")
    assert Granularity("n:m", (2, 4)).fixes_sparsity
    assert not parse_granularity("block:4x4").fixes_sparsity
