import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import matrix_pairs

from sparsim.kernels.condense import column_products, column_sizes, gather_condensed, outer_products
from sparsim.kernels.merge import FIELDS, merge_round
from sparsim.kernels.records import MergeTree, Operands


def ints(array):
    return np.ascontiguousarray(array, dtype=np.int64)


def one_round(a, b, inputs, layers, *, quantum=256, dense_columns=None):
    """Run one round; an input of one leaf is multiplied, one of several is a result of an earlier round."""
    columns = int(np.diff(a.indptr).max(initial=0))
    position = np.full(columns, -1, dtype=np.int64)
    internal = np.zeros(1 << layers, dtype=np.bool_)
    for p, leaves in enumerate(inputs):
        internal[p] = len(leaves) > 1
        for leaf in leaves:
            position[leaf] = p
    rows = np.arange(a.shape[0], dtype=np.int64)
    elements = gather_condensed(ints(a.indptr), rows, position, 0, 1 << layers)
    dense = dense_columns is not None
    width = dense_columns if dense else b.shape[1]
    b_indptr = ints(np.arange(a.shape[1] + 1) * width if dense else b.indptr)
    b_indices = np.empty(0, dtype=np.int32) if dense else b.indices.astype(np.int32)
    ops = Operands(a.indices.astype(np.int32), b_indptr, b_indices, width, dense)
    tree = MergeTree(layers, quantum, 8, 12, 32)
    result, _ = merge_round(ops, elements, internal, tree, np.zeros(width, dtype=np.int64), 1)
    return result


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
    quantum = data.draw(st.integers(1, 12))
    result = one_round(a, b, inputs, 3, quantum=quantum)
    leaves = frozenset().union(*(part for part in inputs if len(part) == 1))
    total = dict(zip(FIELDS, result.steps.sum(axis=0), strict=True))
    assert total["products"] == reference.product_count(a, b, leaves)
    assert total["slots"] == reference.packing_slots(a, b, leaves, 8)
    assert total["a_elements"] == len(reference.access_order(a, leaves))
    assert total["partial"] == result.partial_elements
    assert total["merged"] == total["products"] + total["partial"] == result.entering[0]
    assert total["output"] == result.merged_elements
    assert total["a_bytes"] >= 12 * total["a_elements"]
    if result.steps.size:
        assert result.steps[:, FIELDS.index("merged")].max() <= quantum
        assert result.steps[:, FIELDS.index("a_elements")].max() <= quantum
        assert (np.diff(result.steps[:, FIELDS.index("last_row")]) >= 0).all()


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
    ones = np.ones((4, 8))
    import scipy.sparse as sp

    a = sp.csr_array(ones)
    result = one_round(a, sp.csr_array(np.ones((8, 2))), [frozenset({j}) for j in range(8)], 3)
    assert result.steps[:, FIELDS.index("a_bytes")].sum() == pytest.approx(4 * 8 * 12, abs=32)
