"""The oracles themselves, against hand-computed examples, brute force and scipy."""

from __future__ import annotations

import random
from functools import cache
from itertools import combinations, pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import reference as ref
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import csr_matrices, matrix_pairs, pipelines

A = ref.from_picture("x.x", "...", "xxx", ".x.")
B = ref.from_picture("xx..", "....", ".xxx")


def all_leaves(a: ref.Pattern) -> frozenset[int]:
    return frozenset(range(len(ref.condensed_columns(a.indptr, a.indices))))


# ---------------------------------------------------------------------------------------------------------------------
# condensing
# ---------------------------------------------------------------------------------------------------------------------


def test_condensed_columns_by_hand():
    assert ref.condensed_columns(A.indptr, A.indices) == [[(0, 0), (2, 0), (3, 1)], [(0, 2), (2, 1)], [(2, 2)]]


def test_access_order_is_row_by_row():
    assert ref.access_order(A, frozenset({1, 2})) == [(0, 2), (2, 1), (2, 2)]
    assert ref.access_order(A, frozenset({0})) == [(0, 0), (2, 0), (3, 1)]


@given(csr_matrices())
def test_condensing_keeps_every_element(a):
    columns = ref.condensed_columns(a.indptr, a.indices)
    rows, ks = a.nonzero()
    assert sorted(element for column in columns for element in column) == sorted(zip(rows, ks, strict=True))
    assert len(columns) == np.diff(a.indptr).max(initial=0)
    assert all(len(long) >= len(short) for long, short in pairwise(columns))
    assert ref.access_order(a, all_leaves(a)) == list(zip(rows, ks, strict=True))


def test_sixteen_outer_products_condense_to_twelve_columns():
    a = ref.from_picture(*ref.SIXTEEN_TO_TWELVE)
    assert ref.outer_products(a, a) == 16
    assert len(ref.condensed_columns(a.indptr, a.indices)) == 12


def test_where_the_sixteen_to_twelve_matrix_comes_from():
    rng = random.Random(2020)
    while True:
        picture = tuple("".join("x" if rng.random() < 0.4 else "." for _ in range(16)) for _ in range(16))
        a = ref.from_picture(*picture)
        if ref.outer_products(a, a) == 16 and max(row.count("x") for row in picture) == 12:
            break
    assert picture == ref.SIXTEEN_TO_TWELVE


# ---------------------------------------------------------------------------------------------------------------------
# merge order
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weights", "ways", "rounds"),
    [
        ([], 4, [[]]),
        ([7], 4, [[0]]),
        ([3, 1, 2], 4, [[1, 2, 0]]),
        ([3, 1, 2], 3, [[1, 2, 0]]),
        ([1, 2, 3, 4, 5], 3, [[0, 1, 2], [3, 4, 5]]),
        ([1, 1, 1, 1], 3, [[0, 1], [2, 3, 4]]),  # equal leaves: the lower index first
        ([2, 1, 1], 2, [[1, 2], [0, 3]]),  # equal: a leaf before an internal node
        ([1, 1, 1, 1], 2, [[0, 1], [2, 3], [4, 5]]),  # equal internal nodes: the earlier first
        ([9, 9, 1, 1, 1, 1, 1], 4, [[2, 3, 4, 5], [6, 7, 0, 1]]),
    ],
)
def test_huffman_by_hand(weights, ways, rounds):
    assert ref.huffman_schedule(weights, ways) == rounds


def test_internal_nodes_can_weigh_their_merged_size():
    assert ref.huffman_schedule([2, 2, 3, 3], 2) == [[0, 1], [2, 3], [4, 5]]
    assert ref.huffman_schedule([2, 2, 3, 3], 2, lambda leaves: 2) == [[0, 1], [4, 2], [5, 3]]


def test_fifo_orders():
    assert ref.huffman_schedule([5, 4, 3, 2], 2, order="sequential") == [[0, 1], [2, 3], [4, 5]]
    assert ref.huffman_schedule([5, 4, 3, 2], 3, order="sequential") == [[0, 1], [2, 3, 4]]
    assert ref.huffman_schedule([5, 4, 3, 2], 2, order="random", permutation=[2, 0, 3, 1]) == [[2, 0], [3, 1], [4, 5]]
    assert ref.huffman_schedule([5, 4, 3, 2], 2, order="accumulate") == [[0, 1], [4, 2], [5, 3]]
    assert ref.huffman_schedule([5, 4, 3, 2], 3, order="accumulate") == [[0, 1], [4, 2, 3]]
    with pytest.raises(ValueError, match="permutation"):
        ref.huffman_schedule([5, 4], 2, order="random", permutation=[0, 0])


@given(
    st.lists(st.integers(0, 9), max_size=20),
    st.integers(2, 6),
    st.sampled_from(["huffman", "sequential", "accumulate"]),
)
def test_every_node_but_the_root_is_merged_once_and_later_rounds_are_full(weights, ways, order):
    rounds = ref.huffman_schedule(weights, ways, order=order)
    nodes = sorted(node for inputs in rounds for node in inputs)
    assert nodes == list(range(len(weights) + len(rounds) - 1))
    assert all(len(inputs) == ways for inputs in rounds[1:])
    assert len(rounds[0]) <= ways
    assert len(weights) < 2 or len(rounds[0]) >= 2
    assert all(max(inputs, default=-1) < len(weights) + r for r, inputs in enumerate(rounds))


def least_written(weights: tuple[int, ...], ways: int) -> int:
    """Least weight written by any tree of at most `ways` inputs a round (the root is not written)."""
    if len(weights) <= ways:
        return 0
    costs = []
    for taken in range(2, ways + 1):
        for chosen in combinations(range(len(weights)), taken):
            merged = sum(weights[i] for i in chosen)
            rest = tuple(w for i, w in enumerate(weights) if i not in chosen)
            costs.append(merged + least_written((*rest, merged), ways))
    return min(costs)


@settings(max_examples=30)
@given(st.lists(st.integers(0, 9), max_size=5), st.integers(2, 4))
def test_huffman_writes_least_when_nothing_merges(weights, ways):
    rounds = ref.leaf_sets(ref.huffman_schedule(weights, ways), len(weights))
    written = sum(weights[leaf] for inputs in rounds[:-1] for leaves in inputs for leaf in leaves)
    assert written == least_written(tuple(weights), ways)


# ---------------------------------------------------------------------------------------------------------------------
# multiplying and merging
# ---------------------------------------------------------------------------------------------------------------------


def test_merging_by_hand():
    assert ref.merged_keys(A, B, frozenset({0})) == {(0, 0), (0, 1), (2, 0), (2, 1)}
    assert ref.merged_keys(A, B, frozenset({1, 2})) == {(0, 1), (0, 2), (0, 3), (2, 1), (2, 2), (2, 3)}
    assert ref.merged_size(A, B, frozenset({0, 1, 2})) == 8
    assert ref.product_count(A, B, frozenset({0, 1, 2})) == 10
    assert ref.merged_size(A, None, frozenset({0, 1, 2}), dense_columns=5) == 15
    assert ref.packing_slots(A, B, frozenset({0, 1, 2}), 2) == 1 + 1 + 2 + 2
    assert ref.packing_slots(A, None, frozenset({0}), 4, dense_columns=5) == 6


def test_round_elements_by_hand():
    leaves = [frozenset({0}), frozenset({1}), frozenset({2})]
    # leaf layer: {0} 4 + {1} 3 + {2} 3; root: {0,1} has row 0: 4, row 2: 2, and {2} stays 3
    assert ref.round_elements(A, B, leaves, 2) == [10, 9]
    assert ref.round_elements(A, B, leaves, 3) == [10, 9, 8]
    with pytest.raises(ValueError, match="leaves"):
        ref.round_elements(A, B, leaves, 1)


def ones(m: sp.csr_array) -> sp.csr_array:
    return sp.csr_array((np.ones(m.nnz), m.indices, m.indptr), shape=m.shape)


@given(matrix_pairs())
def test_totals_agree_with_scipy(pair):
    a, b = pair
    leaves = all_leaves(a)
    product = (ones(a) @ ones(b)).tocoo()
    assert ref.merged_size(a, b, leaves) == product.nnz
    assert ref.product_count(a, b, leaves) == product.data.sum()
    assert ref.packing_slots(a, b, leaves, 1) == product.data.sum()
    assert ref.outer_products(a, b) == np.count_nonzero(ones(a).sum(axis=0) * np.diff(b.indptr))


@given(csr_matrices(), st.integers(0, 4))
def test_a_dense_operand_is_a_full_matrix(a, n):
    full = sp.csr_array(np.ones((a.shape[1], n)))
    leaves = all_leaves(a)
    for leaf in leaves:
        assert ref.merged_size(a, None, frozenset({leaf}), n) == ref.merged_size(a, full, frozenset({leaf}))
    assert ref.sparch_counts(a, None, 2, 1, dense_columns=n) == ref.sparch_counts(a, full, 2, 1)
    estimate = ref.sparch_counts(a, full, 2, 1, "estimate")
    assert ref.sparch_counts(a, None, 2, 1, "estimate", dense_columns=n) == estimate


@given(matrix_pairs(), st.integers(0, 2))
def test_round_elements_are_what_a_tree_of_set_unions_sees(pair, spare):
    a, b = pair
    inputs = [frozenset({leaf}) for leaf in sorted(all_leaves(a))]
    layers = max(len(inputs) - 1, 0).bit_length() + spare
    level = [ref.merged_keys(a, b, leaves) for leaves in inputs] + [set()] * (2**layers - len(inputs))
    seen = []
    while len(level) > 1:
        seen.append(sum(len(keys) for keys in level))
        level = [left | right for left, right in zip(level[::2], level[1::2], strict=True)]
    assert ref.round_elements(a, b, inputs, layers) == seen
    assert len(level[0]) == ref.merged_size(a, b, all_leaves(a))


def test_sparch_counts_by_hand():
    counts = ref.sparch_counts(A, B, 2, 1, group_width=2)
    # weights 4, 3, 3: the first round merges columns 2 and 1 into 6 elements, the second adds column 0
    assert counts == {
        "condensed_columns": 3,
        "first_round_ways": 2,
        "merge_rounds": 2,
        "partial_elements_written": 6,
        "partial_elements_read": 6,
        "layer_elements": [3 + 3 + 4 + 6],
        "multiplies": 10,
        "nnz_c": 8,
        "packing_slots": 6,
    }
    # estimates 3*5//3, 2*5//3, 1*5//3 = 5, 3, 1
    assert [ref.leaf_weight(A, B, leaf, "estimate") for leaf in range(3)] == [5, 3, 1]


def test_two_phases_write_and_read_every_product():
    one, two = ref.sparch_counts(A, B, 2, 1), ref.sparch_counts(A, B, 2, 1, pipelined=False)
    assert two["partial_elements_written"] == two["partial_elements_read"] == 10 + 6
    same = set(one) - {"partial_elements_written", "partial_elements_read"}
    assert {key: one[key] for key in same} == {key: two[key] for key in same}


def test_bursts_of_elements_one_after_the_other():
    # three elements of 12 bytes lie in bytes 0 to 36: the third begins in the burst at hand and needs one more
    assert ref.bursts_read([0, 1, 2], 12, 32) == [[0], [], [32]]
    assert ref.bursts_read([2, 5, 3], 12, 32) == [[0, 32], [64], [32]]
    assert ref.bursts_read([0, 2, 0], 4, 1) == [[0, 1, 2, 3], [8, 9, 10, 11], [0, 1, 2, 3]]


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0), (3, 3)])
def test_sparch_counts_of_nothing(shape):
    empty = sp.csr_array(shape)
    counts = ref.sparch_counts(empty, sp.csr_array((shape[1], 2)), 4, 2, "estimate")
    assert counts.pop("merge_rounds") == 1
    assert counts.pop("layer_elements") == [0, 0]
    assert set(counts.values()) == {0}


@given(matrix_pairs(), st.sampled_from(["actual", "estimate"]))
def test_sparch_counts_hang_together(pair, weights):
    a, b = pair
    counts = ref.sparch_counts(a, b, 4, 2, weights)
    entering = counts["layer_elements"]
    assert entering[0] == counts["multiplies"] + counts["partial_elements_read"]
    assert entering[0] >= entering[1] >= counts["nnz_c"] + counts["partial_elements_written"]


# ---------------------------------------------------------------------------------------------------------------------
# prefetch buffer
# ---------------------------------------------------------------------------------------------------------------------


def run_buffer(trace: list[int], lines: int, look_ahead: int, lengths: list[int] | None = None, **options: Any):
    return ref.prefetch(trace, lengths or [1] * 10, lines=lines, line_elements=4, look_ahead=look_ahead, **options)


def test_rows_are_cut_into_lines_of_their_real_length():
    done = run_buffer([0, 1, 0, 2], 8, 0, lengths=[9, 0, 4])
    assert done.fetched == [(0, 0), (0, 1), (0, 2), (2, 0)]
    assert done[:3] == (3, 4, 13)
    assert done.fetching == [0, 1, 2, 6]


def test_the_farthest_visible_line_goes():
    # at the 3rd touch: 1 is used at 3, 2 at 4, 3 never again
    assert run_buffer([1, 2, 3, 1, 2], 2, 9).fetched == [(1, 0), (2, 0), (3, 0)]
    # the window of one shows the use of 1 only, so 2 is infinitely far: tie
    assert run_buffer([1, 2, 3, 1, 2], 2, 1, tie="keep").misses == 3
    assert run_buffer([1, 2, 3, 1, 2], 2, 1, tie="replace").misses == 4


def test_among_lines_never_seen_again_the_lowest_slot_goes():
    # 3 replaces 1 (slot 0), not 2
    assert run_buffer([1, 2, 3, 2, 1], 2, 0, tie="replace").fetched == [(1, 0), (2, 0), (3, 0), (1, 0)]
    # 3 is seen again, 1 and 2 are not: 3 replaces 1 whatever the tie rule
    assert run_buffer([1, 2, 3, 3, 2], 2, 1).fetched == [(1, 0), (2, 0), (3, 0)]


def test_look_ahead_in_elements_sees_whole_rows():
    # row 0 and 1 have 2 lines each; while (1, 0) is fetched, (0, 0) is 2 line operations but 1 element away
    trace, lengths = [0, 1, 0], [8, 8]
    by_element = run_buffer(trace, 2, 1, lengths, unit="elements")
    assert by_element.fetched == [(0, 0), (0, 1), (1, 0), (1, 1)]
    by_line = run_buffer(trace, 2, 1, lengths, unit="line_ops", tie="replace")
    assert by_line.fetched == [(0, 0), (0, 1), (1, 0), (1, 1), (0, 0)]
    # with no look-ahead an element still sees its own other line
    own_line = run_buffer([0, 1, 1], 1, 0, [8, 4], unit="elements", tie="replace")
    assert own_line.fetched == [(0, 0), (0, 1), (1, 0)]


def test_other_policies():
    assert run_buffer([1, 2, 1, 3, 2, 1], 2, 9, policy="lru").fetched == [(1, 0), (2, 0), (3, 0), (2, 0), (1, 0)]
    assert run_buffer([1, 1, 1], 2, 9, policy="off").misses == 3
    for policy in ("farthest", "lru", "off"):
        assert run_buffer([1, 1, 1], 0, 9, policy=policy).misses == 3


def test_lines_that_wait_for_their_use_stay():
    # 1 and 2 wait when 3 comes: the use of 1 is waited for and its line goes, though it is the next one needed
    assert run_buffer([1, 2, 3, 1], 2, 9, run_ahead=9).fetched == [(1, 0), (2, 0), (3, 0), (1, 0)]
    # one visit ahead, only the latest has to stay: 2, never used again, goes
    assert run_buffer([1, 2, 3, 1], 2, 9, run_ahead=1).fetched == [(1, 0), (2, 0), (3, 0)]
    # two ahead: 2 waits when 3 comes, so 1 has to go
    assert run_buffer([1, 2, 3, 1], 2, 9, run_ahead=2).misses == 4
    # a visit that hits makes its line wait again: 2 goes instead of 1
    assert run_buffer([1, 2, 1, 3, 2], 2, 9, run_ahead=2).fetched == [(1, 0), (2, 0), (3, 0), (2, 0)]


def test_a_line_fetched_ahead_cannot_pass_by():
    assert run_buffer([1, 2, 1], 1, 9, run_ahead=0).fetched == [(1, 0), (2, 0)]
    assert run_buffer([1, 2, 1], 1, 9, run_ahead=1).fetched == [(1, 0), (2, 0), (1, 0)]


@given(st.lists(st.integers(0, 5), max_size=20), st.integers(1, 4))
def test_far_enough_ahead_the_farthest_next_use_is_the_least_recent_one(trace, lines):
    far = {"run_ahead": len(trace) + 1}
    assert run_buffer(trace, lines, 99, **far).fetched == run_buffer(trace, lines, 99, policy="lru", **far).fetched


@pytest.mark.parametrize("option", ["unit", "policy", "tie"])
def test_unknown_options_are_refused(option):
    with pytest.raises(ValueError, match="none of"):
        run_buffer([1], 1, 1, **{option: "nonsense"})


def fewest_misses(trace: tuple[int, ...], lines: int) -> int:
    """The optimum over all ways to store, replace or pass by."""

    @cache
    def search(at: int, held: frozenset[int]) -> int:
        if at == len(trace):
            return 0
        line = trace[at]
        if line in held:
            return search(at + 1, held)
        options = [held, *(held - {old} | {line} for old in held)]
        if len(held) < lines:
            options.append(held | {line})
        return 1 + min(search(at + 1, option) for option in options)

    return search(0, frozenset())


@given(st.lists(st.integers(0, 5), max_size=14), st.integers(0, 4), st.sampled_from(["keep", "replace"]))
def test_seeing_everything_is_the_optimum(trace, lines, tie):
    assert run_buffer(trace, lines, len(trace), tie=tie).misses == fewest_misses(tuple(trace), lines)


@given(st.lists(st.integers(0, 5), max_size=20), st.integers(0, 4), st.integers(0, 6))
def test_units_agree_where_every_row_is_one_line(trace, lines, look_ahead):
    assert run_buffer(trace, lines, look_ahead) == run_buffer(trace, lines, look_ahead, unit="elements")


def test_the_trace_of_a_run():
    a = ref.from_picture("xx.x", ".xx.", "...x")
    schedule = ref.huffman_schedule([3, 2, 1], 2)
    assert schedule == [[2, 1], [0, 3]]
    assert ref.b_row_trace(a, schedule, 3) == [1, 3, 2, 0, 1, 3]


# ---------------------------------------------------------------------------------------------------------------------
# the timing core
# ---------------------------------------------------------------------------------------------------------------------


def line_of(service: list[list[int]], **changes: Any) -> ref.Timing:
    """A pipeline without limits, latencies and memory, except for the changes."""
    steps, stages = len(service), len(service[0]) if service else 1
    memory_work = changes.pop("memory_work", [])
    channels = ref.PlainChannels(len(memory_work[0][0]) if memory_work else 0)
    changes["memory"] = [channels.serve if is_memory else None for is_memory in changes.pop("memory", [False] * stages)]
    if memory_work:
        changes["asks"] = [[busy_channels(ticks) for ticks in row] for row in memory_work]
    arguments: dict[str, Any] = {
        "service": service,
        "size": [[1] * stages for _ in range(steps)],
        "lane": [[0] * stages for _ in range(steps)],
        "wait_for": [-1] * steps,
        "wait_stage": -1,
        "latency": [0] * stages,
        "capacity": [-1] * stages,
        "window": [-1] * stages,
        "lanes": [1] * stages,
        "asks": [[[] for _ in range(stages)] for _ in range(steps)],
    }
    return ref.pipeline(**(arguments | changes))


def busy_channels(ticks: list[int]) -> list[ref.Request]:
    return [(channel, work) for channel, work in enumerate(ticks) if work > 0]


def column(table: list[list[int]], stage: int) -> list[int]:
    return [row[stage] for row in table]


def test_no_steps_take_no_time():
    assert line_of([]) == ([], [], [], 0)


def test_one_stage_is_the_sum():
    timing = line_of([[3], [0], [5]])
    assert timing.total == 8
    assert column(timing.start, 0) == [0, 3, 3]
    assert timing.finish == timing.depart


def test_two_stages_with_room_overlap():
    timing = line_of([[2, 5], [2, 1], [2, 1], [9, 1]])
    assert column(timing.start, 1) == [2, 7, 8, 15]
    assert timing.total == 16


def test_a_long_row_in_quanta_costs_its_slowest_stage():
    quanta = [[4, 8, 2]] * 10
    assert line_of(quanta).total == 4 + 10 * 8 + 2
    assert line_of(quanta, capacity=[1, 1, -1]).total == 4 + 10 * (4 + 8) - 4 + 2  # store and forward
    assert line_of(quanta, capacity=[2, 2, -1]).total == 4 + 10 * 8 + 2
    assert line_of([[40, 80, 20]]).total == 140


def test_a_full_buffer_blocks():
    timing = line_of([[1, 10]] * 4, capacity=[2, -1])
    # step 2 needs the room of step 0, which is given back at 11
    assert column(timing.start, 0) == [0, 1, 11, 21]
    assert timing.total == 41
    sizes = line_of([[1, 10]] * 3, capacity=[4, -1], size=[[3, 0], [1, 0], [2, 0]])
    assert column(sizes.start, 0) == [0, 1, 11]


def test_latency_delays_without_occupying():
    timing = line_of([[1, 1]] * 3, latency=[10, 7])
    assert column(timing.start, 1) == [11, 12, 13]
    assert timing.total == 14


def test_a_window_bounds_what_is_in_flight():
    timing = line_of([[1, 1]] * 4, latency=[9, 0], window=[2, -1])
    # step 2 waits until step 0 has arrived at 10
    assert column(timing.start, 0) == [0, 1, 10, 11]


def test_the_fullest_lane_holds_up_the_others():
    lane = [[0, 0], [0, 0], [0, 0], [0, 1]]
    timing = line_of([[1, 5]] * 4, lane=lane, lanes=[1, 2], capacity=[2, -1])
    # the third step of lane 0 waits for room in its queue, and the fourth, of lane 1, behind it
    assert column(timing.start, 0) == [0, 1, 6, 7]
    assert column(timing.start, 1) == [1, 6, 11, 11]
    assert column(timing.finish, 1) == [6, 11, 16, 16]


def test_steps_start_and_leave_in_order():
    timing = line_of([[9, 1], [1, 1], [1, 1]], lane=[[0, 0], [1, 0], [1, 0]], lanes=[2, 1])
    assert column(timing.start, 0) == [0, 0, 1]
    assert column(timing.finish, 0) == [9, 1, 2]
    assert column(timing.depart, 0) == [9, 9, 9]
    assert column(timing.start, 1) == [9, 10, 11]


def test_a_step_can_wait_for_an_earlier_one():
    timing = line_of([[1, 4], [1, 4], [1, 4]], wait_for=[-1, -1, 0], wait_stage=0, latency=[0, 3])
    assert column(timing.start, 0) == [0, 1, 8]
    behind = line_of([[1, 4], [1, 4], [1, 4]], wait_for=[-1, 0, -1], wait_stage=1)
    assert column(behind.start, 1) == [1, 5, 9]


def test_memory_is_shared_by_time_then_stage_then_step():
    work = [[[4], [0], [3]]] * 3
    timing = line_of([[0, 2, 0]] * 3, memory=[True, False, True], memory_work=work)
    # all reads are asked at 0, before the first write at 6
    assert column(timing.finish, 0) == [4, 8, 12]
    assert column(timing.start, 2) == [6, 10, 14]
    assert column(timing.finish, 2) == [15, 18, 21]
    # with room for one, the second read is asked at 6, like the first write, and goes first
    tight = line_of([[0, 2, 0]] * 3, memory=[True, False, True], memory_work=work, capacity=[1, -1, -1])
    assert column(tight.start, 0) == [0, 6, 12]
    assert column(tight.finish, 0) == [4, 10, 17]
    assert column(tight.finish, 2) == [13, 20, 23]


def test_channels_are_independent_and_a_step_needs_all_of_its_own():
    timing = line_of([[0]] * 4, memory=[True], memory_work=[[[5, 0]], [[0, 2]], [[1, 1]], [[0, 0]]])
    assert column(timing.start, 0) == [0, 0, 0, 0]
    assert column(timing.finish, 0) == [5, 2, 6, 0]
    assert column(timing.depart, 0) == [5, 5, 6, 6]


def test_a_step_that_overtakes_in_memory_gives_its_room_back_in_order():
    # Stage 1 is done with step 1, which has no work there, at 0; but it leaves after step 0, at 5.
    work = [[[0], [5]], [[0], [0]], [[3], [0]]]
    timing = line_of([[0, 0]] * 3, memory=[True, True], memory_work=work, capacity=[2, -1])
    assert column(timing.start, 0) == [0, 0, 5]
    assert column(timing.finish, 1)[:2] == [5, 0]
    assert timing.finish[2] == [8, 8]


def test_what_can_never_start_is_a_deadlock():
    with pytest.raises(RuntimeError, match="deadlock"):
        line_of([[1, 1]], capacity=[0, -1])
    with pytest.raises(RuntimeError, match="deadlock"):
        line_of([[1], [1]], wait_for=[1, -1], wait_stage=0)


def may_start(case: dict[str, Any], timing: ref.Timing, s: int, j: int, t: int) -> bool:
    """The rules read as a statement about a finished schedule, with no simulation."""
    start, finish, depart, _ = timing
    latency, size, lane, last = case["latency"], case["size"], case["lane"], len(case["latency"]) - 1
    holds = [t >= 0, s == 0 or start[s - 1][j] <= t, j == 0 or depart[s][j - 1] + latency[j - 1] <= t]
    if j == case["wait_stage"] and case["wait_for"][s] >= 0:
        holds.append(depart[case["wait_for"][s]][last] + latency[last] <= t)
    if not case["memory"][j]:
        holds += [finish[e][j] <= t for e in range(s) if lane[e][j] == lane[s][j]]
    if j < last and case["capacity"][j] >= 0:
        leaves = depart if case["memory"][j + 1] else finish
        held = [size[e][j] for e in range(s) if lane[e][j + 1] == lane[s][j + 1] and leaves[e][j + 1] > t]
        holds.append(sum(held) + size[s][j] <= case["capacity"][j])
    if case["window"][j] >= 0:
        flying = [size[e][j] for e in range(s) if depart[e][j] + latency[j] > t]
        holds.append(sum(flying) + size[s][j] <= case["window"][j])
    return all(holds)


def plain(case: dict[str, Any]) -> dict[str, Any]:
    """The drawn pipeline on two plain channels."""
    channels = ref.PlainChannels(2)
    asks = [[[(at % 2, ticks) for at, ticks in asked] for asked in row] for row in case["asks"]]
    return case | {"memory": [channels.serve if kind else None for kind in case["memory"]], "asks": asks}


@settings(max_examples=150, deadline=None)
@given(pipelines())
def test_every_step_starts_as_soon_as_the_rules_allow(case):
    case = plain(case)
    timing = ref.pipeline(**case)
    steps, stages = len(case["service"]), len(case["latency"])
    for s in range(steps):
        for j in range(stages):
            at = timing.start[s][j]
            assert may_start(case, timing, s, j, at)
            assert not may_start(case, timing, s, j, at - 1)
            assert timing.depart[s][j] == max(timing.finish[e][j] for e in range(s + 1))
            if not case["memory"][j]:
                assert timing.finish[s][j] == at + case["service"][s][j]
    assert timing.total == max((tick for row in timing.finish for tick in row), default=0)


@settings(max_examples=100, deadline=None)
@given(pipelines())
def test_requests_are_served_by_time_stage_and_step(case):
    # a step without work may set a request free within the tick (see above), so every step gets some
    case["asks"] = [[asked or [(s, 1)] for asked in row] for s, row in enumerate(case["asks"])]
    case = plain(case)
    timing = ref.pipeline(**case)
    asked = sorted(
        (timing.start[s][j], j, s)
        for s in range(len(case["service"]))
        for j, serve in enumerate(case["memory"])
        if serve
    )
    again = ref.PlainChannels(2)
    for t, j, s in asked:
        assert timing.finish[s][j] == max(again.serve(request, t) for request in case["asks"][s][j])


# ---------------------------------------------------------------------------------------------------------------------
# external memory
# ---------------------------------------------------------------------------------------------------------------------

PEACEFUL = {
    **{
        "channels": 1,
        "interleave": 64,
        "burst": 4,
        "row": 16,
        "banks": 4,
        "groups": 2,
        "queue": 8,
        "high": 4,
        "low": 1,
    },
    **{"burst_ticks": 2, "ccd": 3, "rcd": 10, "rp": 10, "ras": 25, "rrd": 4, "faw": 30, "wr": 5},
    **{"to_write": 2, "to_read": 7, "refi": 0, "rfc": 20},
}


def memory(**changes: int) -> ref.Dram:
    return ref.Dram(SimpleNamespace(**(PEACEFUL | changes)))


def test_requests_fall_into_pieces_of_a_stripe_and_a_row():
    assert memory().pieces((8, 16)) == [(0, 0, 0, 2), (0, 1, 0, 2)]
    assert memory(queue=1, high=1, low=0).pieces((0, 8)) == [(0, 0, 0, 1)] * 2
    striped = memory(channels=2, interleave=8)
    # stripes 0, 2 and 4 are channel 0's bytes 0 to 24, the third of them in its second row
    assert striped.pieces((4, 32)) == [(0, 0, 0, 1), (1, 0, 0, 2), (0, 0, 0, 2), (1, 0, 0, 2), (0, 1, 0, 1)]
    assert memory().pieces((16 * 7, 4)) == [(0, 3, 1, 1)]


def test_an_open_row_answers_at_the_rate_of_its_group():
    dram = memory()
    assert dram.read((0, 4), 0) == 10 + 2
    assert dram.read((0, 4), 20) == 20 + 3
    assert [dram.read((0, 4), 40) for _ in range(3)] == [43, 46, 49]
    # two groups share the bus
    assert dram.read((16, 4), 60) == 60 + 10 + 2
    assert [dram.read((at, 4), 80) for at in (0, 16, 0, 16)] == [83, 84, 86, 88]


def test_another_row_is_precharged_and_activated():
    dram = memory()
    assert dram.read((0, 4), 0) == 12
    assert dram.read((64, 4), 12) == 25 + 10 + 10 + 2  # the first row stays open for 25
    # activations are 4 apart, and the fifth 30 after the first
    other = memory(banks=8, groups=8)
    assert [other.read((16 * bank, 4), 0) for bank in range(5)] == [12, 16, 20, 24, 42]


def test_a_burst_waits_for_room_in_the_queue():
    dram = memory(queue=2, high=2, low=0)
    assert [dram.read((0, 4), 0) for _ in range(2)] == [12, 12]
    assert dram.read((0, 4), 0) == 12 + 3
    assert dram.read((0, 8), 0) == 15 + 2 * 3


def test_writes_are_posted_and_drained():
    dram = memory()
    assert dram.read((0, 4), 0) == 12
    assert [dram.write((0, 4), 0) for _ in range(3)] == [0, 0, 0]
    assert dram.channels[0].queued() == 3  # a read is under way
    assert dram.write((0, 4), 0) == 0
    assert dram.channels[0].queued() == 1  # the high mark, down to the low one
    assert dram.channels[0].turns == 1
    dram.finish()
    assert dram.channels[0].queued() == 0


def test_writes_that_meet_no_read_go_out_at_once():
    dram = memory()
    assert [dram.write((0, 4), 0) for _ in range(3)] == [0, 0, 0]
    assert dram.channels[0].queued() == 0
    assert dram.channels[0].bus == 2 + 3 * 2  # turned once, three bursts of an opened row
    assert dram.finish() == dram.channels[0].done
    assert dram.channels[0].turns == 1


def test_idle_memory_writes_before_a_later_read():
    dram = memory()
    dram.write((0, 4), 0)
    assert dram.read((0, 4), 100) == 100 + 3
    assert dram.channels[0].turns == 2
    busy = memory()
    busy.write((0, 4), 5)
    assert busy.read((0, 4), 5) >= 5 + 12  # the write is on its way
    assert busy.channels[0].queued() == 0


def test_refresh_closes_rows_and_holds_up():
    dram = memory(refi=100)
    assert dram.read((0, 4), 0) == 12
    assert dram.read((0, 4), 99) == 102
    assert dram.read((0, 4), 103) == 102 + PEACEFUL["rp"] + 20 + 10 + 2
    assert dram.channels[0].occupied == 12 + 3 + PEACEFUL["rp"] + 20 + 12
