"""Condensing and the merge tree against naive unions; the steps a round is cut into; where A is read."""

from __future__ import annotations

import numpy as np
import reference
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import matrix_pairs

from sparsim.kernels.condense import column_products, column_sizes, gather_condensed, outer_products
from sparsim.kernels.merge import FIELDS, merge_round, multiply_round
from sparsim.kernels.records import MergeTree, Operands, RoundElements


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


def gathered(a, inputs, layers):
    """The elements of one round; an input of one leaf is multiplied, one of several is a result of an earlier round."""
    columns = int(np.diff(a.indptr).max(initial=0))
    position = np.full(columns, -1, dtype=np.int64)
    internal = np.zeros(1 << layers, dtype=np.bool_)
    for p, leaves in enumerate(inputs):
        internal[p] = len(leaves) > 1
        for leaf in leaves:
            position[leaf] = p
    rows = np.arange(a.shape[0], dtype=np.int64)
    return gather_condensed(ints(a.indptr), rows, position, internal, 0, (ELEMENT, BURST)), internal


def one_round(a, b, inputs, layers, *, quantum=256, rows=256, dense_columns=None):
    elements, internal = gathered(a, inputs, layers)
    ops = operands(a, b, dense_columns)
    stamp = np.zeros(ops.columns, dtype=np.int64)
    result, _ = merge_round(ops, elements, internal, MergeTree(layers, quantum, rows, 8, 32), stamp, 1)
    return result


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


@settings(max_examples=200, deadline=None)
@given(matrix_pairs(), st.data())
def test_sizes_at_every_layer_equal_the_naive_unions(pair, data):
    a, b = pair
    layers = data.draw(st.integers(1, 4))
    inputs = random_inputs(data.draw, int(np.diff(a.indptr).max(initial=0)), 1 << layers)
    dense = data.draw(st.sampled_from([None, b.shape[1]]))
    result = one_round(a, b, inputs, layers, dense_columns=dense)
    everything = frozenset().union(*inputs)
    assert list(result.entering) == reference.round_elements(a, b, inputs, layers, dense)
    assert result.merged_elements == reference.merged_size(a, b, everything, dense)
    partial = sum(reference.merged_size(a, b, leaves, dense) for leaves in inputs if len(leaves) > 1)
    assert result.partial_elements == partial


@settings(max_examples=150, deadline=None)
@given(matrix_pairs(), st.data())
def test_steps_add_up_to_the_round_and_stay_below_the_quantum(pair, data):
    a, b = pair
    inputs = random_inputs(data.draw, int(np.diff(a.indptr).max(initial=0)), 8)
    quantum, rows = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 12))
    result = one_round(a, b, inputs, 3, quantum=quantum, rows=rows)
    leaves = frozenset().union(*(part for part in inputs if len(part) == 1))
    total = dict(zip(FIELDS, result.steps.sum(axis=0), strict=True))
    assert total["products"] == reference.product_count(a, b, leaves)
    assert total["slots"] == reference.packing_slots(a, b, leaves, 8)
    assert total["a_elements"] == len(reference.access_order(a, leaves))
    assert total["partial"] == result.partial_elements
    assert total["merged"] == total["products"] + total["partial"] == result.entering[0]
    assert total["output"] == result.merged_elements
    bursts = reference.bursts_read(multiplied_places(a, inputs), ELEMENT, BURST)
    assert total["a_bursts"] == sum(len(asked) for asked in bursts)
    if result.steps.size:
        assert result.steps[:, FIELDS.index("merged")].max() <= quantum
        assert result.steps[:, FIELDS.index("a_elements")].max() <= rows
        assert (np.diff(result.steps[:, FIELDS.index("last_row")]) >= 0).all()


@settings(max_examples=100, deadline=None)
@given(matrix_pairs(), st.data())
def test_every_element_that_is_multiplied_has_its_bursts(pair, data):
    a, b = pair
    inputs = random_inputs(data.draw, int(np.diff(a.indptr).max(initial=0)), 8)
    elements, internal = gathered(a, inputs, 3)
    order = np.lexsort((elements.element,))
    kept = [i for i in order if not internal[elements.position[i]]]
    assert [elements.element[i] for i in kept] == multiplied_places(a, inputs)
    asked = [[int(elements.address[i]) + BURST * n for n in range(elements.bursts[i])] for i in kept]
    assert asked == reference.bursts_read(multiplied_places(a, inputs), ELEMENT, BURST)
    assert not elements.bursts[internal[elements.position]].any()
    # one step an element: each starts among the bursts
    steps = one_round(a, b, inputs, 3, rows=1).steps
    alone = steps[(steps[:, A_BURSTS] > 0) & (steps[:, FIELDS.index("a_elements")] == 1)]
    places = [at for each in asked for at in each]
    assert all(min(places) <= at <= max(places) for at in alone[:, A_ADDRESS])


@settings(max_examples=150, deadline=None)
@given(matrix_pairs(), st.integers(1, 12), st.integers(1, 12))
def test_multiplying_alone_writes_every_product(pair, quantum, rows):
    """Column after column, as a machine does that merges in a second phase."""
    a, b = pair
    columns = reference.condensed_columns(a.indptr, a.indices)
    leaf_after_leaf = [int(a.indptr[row]) + j for j, column in enumerate(columns) for row, _ in column]
    bursts = reference.bursts_read(leaf_after_leaf, ELEMENT, BURST)
    elements = RoundElements(
        ints([row for column in columns for row, _ in column]),
        np.zeros(a.nnz, dtype=np.int32),
        ints(leaf_after_leaf),
        ints([asked[0] if asked else 0 for asked in bursts]),
        ints([len(asked) for asked in bursts]),
    )
    steps = multiply_round(operands(a, b), elements, np.zeros(1, dtype=np.bool_), MergeTree(3, quantum, rows, 8, 32))
    total = dict(zip(FIELDS, steps.sum(axis=0), strict=True))
    everything = frozenset(range(len(columns)))
    assert total["products"] == total["output"] == reference.product_count(a, b, everything)
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
    products = column_products(ints(a.indptr), a.indices, ints(b.indptr), sizes.size)
    assert list(products) == [reference.product_count(a, b, frozenset({j})) for j in range(len(naive))]
    assert outer_products(a.indices, ints(b.indptr)) == reference.outer_products(a, b)


def test_contiguous_elements_of_a_share_bursts():
    a = sp.csr_array(np.ones((4, 8)))
    steps = one_round(a, sp.csr_array(np.ones((8, 2))), [frozenset({j}) for j in range(8)], 3).steps
    assert steps[:, A_BURSTS].sum() * BURST == 4 * 8 * ELEMENT
    assert steps[0, A_ADDRESS] == 0
