"""Condensing and the merge tree against naive unions; the steps a round is cut into; where A is read."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
import reference
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import matrix_pairs

from sparsim.kernels.condense import column_products, column_sizes, outer_products, rows_by_length
from sparsim.kernels.records import MergeTree, Operands, StepLimits
from sparsim.kernels.steps import FIELDS
from sparsim.machines import sparch_counting
from sparsim.machines.sparch_counting import Counted, RoundCounter
from sparsim.machines.sparch_leaves import CondensedLeaves
from sparsim.machines.sparch_rounds import Rounds
from sparsim.matrix import Csr
from sparsim.threads import using_threads


def ints(array):
    return np.ascontiguousarray(array, dtype=np.int64)


ELEMENT, BURST = 12, 32
A_BURSTS, A_ADDRESS = FIELDS.index("a_bursts"), FIELDS.index("a_address")


def operands(a, b, dense_columns=None):
    dense = dense_columns is not None
    width = dense_columns if dense else b.shape[1]
    b_indptr = ints(np.arange(a.shape[1] + 1) * width if dense else b.indptr)
    b_indices = np.empty(0, dtype=np.int32) if dense else b.indices.astype(np.int32)
    return Operands(a.indices.astype(np.int32), b_indptr, b_indices, width, dense)


def counter_of(a, b, layers, dense_columns=None):
    """A counter, and the leaves it counts."""
    ops = operands(a, b, dense_columns)
    leaves = CondensedLeaves(Csr.from_scipy(a), ops, (ELEMENT, BURST))
    return RoundCounter(ops, MergeTree(layers, 8), int(leaves.products.sum())), leaves


def places(a, inputs, layers):
    """Tree positions of the leaves; an input of one leaf is multiplied, one of several is an earlier result."""
    position = np.full(int(np.diff(a.indptr).max(initial=0)), -1, dtype=np.int64)
    internal = np.zeros(1 << layers, dtype=np.bool_)
    for p, leaves in enumerate(inputs):
        internal[p] = len(leaves) > 1
        for leaf in leaves:
            position[leaf] = p
    return position, internal


def one_round(a, b, inputs, layers, dense_columns=None):
    counter, leaves = counter_of(a, b, layers, dense_columns)
    position, internal = places(a, inputs, layers)
    return counter.count([], leaves.round(position, internal), internal)


def steps_of(counted, quantum=256, rows=256, room=64):
    """Cut a pass into blocks of ``room`` steps, or as many as a row has, and put them together."""
    limits = StepLimits(quantum, rows, BURST)
    whole = Counted(np.zeros(0, dtype=np.int64), None, [counted], 0)
    blocks = [block.steps.copy() for block in Rounds(whole, limits, False).blocks(room)]
    assert all(block.size for block in blocks[:-1])
    return np.concatenate(blocks)


def multiplied_places(a, inputs):
    """Where in A the elements multiplied in this round lie, in that order."""
    leaves = frozenset().union(*(part for part in inputs if len(part) == 1))
    return [int(a.indptr[r]) + j for r in range(a.shape[0]) for j in range(len(reference.row_of(a, r))) if j in leaves]


def random_inputs(draw, columns, ways):
    leaves = draw(st.permutations(range(columns)))
    inputs, at = [], 0
    while at < len(leaves) and len(inputs) < ways:
        size = draw(st.integers(1, 3))
        inputs.append(frozenset(leaves[at : at + size]))
        at += size
    return inputs


WAYS = {"stamps": 0.0, "bits": np.inf}


@settings(max_examples=300, deadline=None)
@given(matrix_pairs(), st.sampled_from(sorted(WAYS)), st.data())
def test_sizes_at_every_layer_equal_the_naive_unions(pair, way, data):
    a, b = pair
    layers = data.draw(st.integers(1, 4))
    inputs = random_inputs(data.draw, int(np.diff(a.indptr).max(initial=0)), 1 << layers)
    dense = data.draw(st.sampled_from([None, b.shape[1]]))
    with mock.patch.object(sparch_counting, "WORDS_A_PRODUCT", WAYS[way]):
        result = one_round(a, b, inputs, layers, dense_columns=dense)
    everything = frozenset().union(*inputs)
    assert list(result.entering) == reference.round_elements(a, b, inputs, layers, dense)
    assert result.merged_elements == reference.merged_size(a, b, everything, dense)
    partial = sum(reference.merged_size(a, b, leaves, dense) for leaves in inputs if len(leaves) > 1)
    assert result.partial_elements == partial


@pytest.mark.parametrize("density", [0.0, 0.02, 0.2, 1.0])
def test_wide_rows_are_counted_alike_in_every_way(density):
    """Sets of several words, rows of B on both sides of what counts as long, one round after the other."""
    rng = np.random.default_rng(3)
    a = sp.random_array((40, 90), density=0.6, rng=rng, format="csr")
    b = sp.random_array((90, 300), density=density, rng=rng, format="csr")
    inputs = [frozenset({j}) if j % 3 else frozenset({j, 30 + j}) for j in range(16)]
    seen = []
    for way in WAYS.values():
        with mock.patch.object(sparch_counting, "WORDS_A_PRODUCT", way):
            counter, leaves = counter_of(a, b, 4)
            position, internal = places(a, inputs, 4)
            seen += [counter.count([], leaves.round(position, internal), internal) for _ in range(2)]
    for result in seen:
        assert list(result.entering) == reference.round_elements(a, b, inputs, 4, None)
        assert all(np.array_equal(*columns) for columns in zip(result.work, seen[0].work, strict=True))


def test_stamps_begin_anew_before_they_overflow():
    rng = np.random.default_rng(4)
    a, b = (sp.random_array((30, 30), density=0.3, rng=rng, format="csr") for _ in range(2))
    with mock.patch.object(sparch_counting, "WORDS_A_PRODUCT", 0.0):
        counter, leaves = counter_of(a, b, 20)
    inputs = [frozenset({j}) for j in range(int(np.diff(a.indptr).max()))]
    position, internal = places(a, inputs, 20)
    for _ in range(2**11 // 30 + 2):
        result = counter.count([], leaves.round(position, internal), internal)
        assert result.merged_elements == (a @ b).nnz


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("way", sorted(WAYS))
def test_runs_of_rows_and_threads_change_nothing(way, threads):
    rng = np.random.default_rng(5)
    a, b = (sp.random_array((200, 200), density=0.05, rng=rng, format="csr") for _ in range(2))
    inputs = [frozenset({j}) for j in range(int(np.diff(a.indptr).max()))]
    position, internal = places(a, inputs, 6)
    whole = one_round(a, b, inputs, 6)
    with (
        mock.patch.object(sparch_counting, "WORDS_A_PRODUCT", WAYS[way]),
        mock.patch.object(sparch_counting, "RUN_ELEMENTS", 17),
        mock.patch.object(sparch_counting, "SHARED_PRODUCTS", 0),
        using_threads(threads),
    ):
        counter, leaves = counter_of(a, b, 6)
        cut = counter.count([], leaves.round(position, internal), internal)
    assert all(np.array_equal(*columns) for columns in zip(cut.work, whole.work, strict=True))
    assert (cut.merged_elements, cut.partial_elements) == (whole.merged_elements, whole.partial_elements)


@settings(max_examples=150, deadline=None)
@given(matrix_pairs(), st.data())
def test_steps_add_up_to_the_round_and_stay_below_the_quantum(pair, data):
    a, b = pair
    inputs = random_inputs(data.draw, int(np.diff(a.indptr).max(initial=0)), 8)
    quantum, rows = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 12))
    result = one_round(a, b, inputs, 3)
    steps = steps_of(result, quantum, rows)
    assert np.array_equal(steps, steps_of(result, quantum, rows, room=data.draw(st.sampled_from([1, 2, 5]))))
    leaves = frozenset().union(*(part for part in inputs if len(part) == 1))
    total = dict(zip(FIELDS, steps.sum(axis=0), strict=True))
    assert total["products"] == reference.product_count(a, b, leaves)
    assert total["slots"] == reference.packing_slots(a, b, leaves, 8)
    assert total["a_elements"] == len(reference.access_order(a, leaves))
    assert total["partial"] == result.partial_elements
    assert total["merged"] == total["products"] + total["partial"] == result.entering[0]
    assert total["output"] == result.merged_elements
    bursts = reference.bursts_read(multiplied_places(a, inputs), ELEMENT, BURST)
    assert total["a_bursts"] == sum(len(asked) for asked in bursts)
    if steps.size:
        assert steps[:, FIELDS.index("merged")].max() <= quantum
        assert steps[:, FIELDS.index("a_elements")].max() <= rows
        assert (np.diff(steps[:, FIELDS.index("last_row")]) >= 0).all()


@settings(max_examples=100, deadline=None)
@given(matrix_pairs(), st.data())
def test_every_row_lists_its_elements_by_position_and_reads_its_bursts(pair, data):
    a, b = pair
    inputs = random_inputs(data.draw, int(np.diff(a.indptr).max(initial=0)), 8)
    position, internal = places(a, inputs, 3)
    part = counter_of(a, b, 3)[1].round(position, internal)
    rows, listing = part.rows, part.listing(0, part.rows.row.size)
    place_of = {leaf: p for p, leaves in enumerate(inputs) for leaf in leaves}
    asked = iter(reference.bursts_read(multiplied_places(a, inputs), ELEMENT, BURST))
    for i, row in enumerate(rows.row):
        js = sorted((j for j in range(len(reference.row_of(a, row))) if j in place_of), key=lambda j: (place_of[j], j))
        listed = slice(rows.first[i], rows.first[i + 1])
        assert list(listing.element[listed]) == [a.indptr[row] + j for j in js]
        assert list(listing.position[listed]) == [place_of[j] for j in js]
        now = [j for j in js if not internal[place_of[j]]]
        assert rows.asked[i + 1] - rows.asked[i] == len(now)
        bursts = [at for _ in now for at in next(asked)]
        assert rows.bursts[i] == len(bursts)
        assert rows.address[i] == min(bursts, default=-1)


@settings(max_examples=150, deadline=None)
@given(matrix_pairs(), st.integers(1, 12), st.integers(1, 12))
def test_multiplying_alone_writes_every_product(pair, quantum, rows):
    """Column after column, as a machine does that merges in a second phase."""
    a, b = pair
    columns = reference.condensed_columns(a.indptr, a.indices)
    leaf_after_leaf = [int(a.indptr[row]) + j for j, column in enumerate(columns) for row, _ in column]
    bursts = reference.bursts_read(leaf_after_leaf, ELEMENT, BURST)
    counter, leaves = counter_of(a, b, 3)
    counted = counter.multiply(*leaves.one_by_one())
    steps = steps_of(counted, quantum, rows)
    assert list(counted.work.trace) == [a.indices[at] for at in leaf_after_leaf]
    total = dict(zip(FIELDS, steps.sum(axis=0), strict=True))
    everything = frozenset(range(len(columns)))
    assert total["products"] == total["merged"] == total["output"] == reference.product_count(a, b, everything)
    assert total["a_elements"] == a.nnz
    assert total["slots"] == reference.packing_slots(a, b, everything, 8)
    assert total["a_bursts"] == sum(len(asked) for asked in bursts)
    assert total["partial"] == 0
    assert steps[:, FIELDS.index("output")].max(initial=0) <= quantum
    assert steps[:, FIELDS.index("a_elements")].max(initial=0) <= rows


@settings(deadline=None)
@given(matrix_pairs())
def test_condensed_columns_equal_the_naive_ones(pair):
    a, b = pair
    naive = reference.condensed_columns(a.indptr, a.indices)
    sizes = column_sizes(ints(a.indptr))
    assert [len(column) for column in naive] == list(sizes)
    lengths = np.diff(a.indptr)
    by_length = sorted(np.flatnonzero(lengths), key=lambda row: (-lengths[row], row))
    assert list(rows_by_length(ints(a.indptr), sizes)) == by_length
    products = column_products(ints(a.indptr), a.indices, ints(b.indptr), sizes.size)
    assert list(products) == [reference.product_count(a, b, frozenset({j})) for j in range(len(naive))]
    assert outer_products(a.indices, ints(b.indptr)) == reference.outer_products(a, b)


def test_contiguous_elements_of_a_share_bursts():
    a = sp.csr_array(np.ones((4, 8)))
    steps = steps_of(one_round(a, sp.csr_array(np.ones((8, 2))), [frozenset({j}) for j in range(8)], 3))
    assert steps[:, A_BURSTS].sum() * BURST == 4 * 8 * ELEMENT
    assert steps[0, A_ADDRESS] == 0
