import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsim.kernels.prefetch import FARTHEST, LRU, OFF, prefetch
from sparsim.kernels.records import PrefetchParams

POLICIES = {"farthest": FARTHEST, "lru": LRU, "off": OFF}


@st.composite
def traces(draw):
    rows = draw(st.integers(1, 8))
    return draw(st.lists(st.integers(0, rows - 1), max_size=40)), draw(
        st.lists(st.integers(0, 9), min_size=rows, max_size=rows)
    )


@settings(max_examples=400, deadline=None)
@given(
    traces(),
    st.integers(0, 6),
    st.integers(1, 4),
    st.integers(0, 20),
    st.sampled_from(["line_ops", "elements"]),
    st.sampled_from(list(POLICIES)),
    st.sampled_from([0, 4]),
)
def test_equals_the_naive_buffer(case, lines, line_elements, look_ahead, unit, policy, pointer_bytes):
    trace, lengths = case
    element_bytes, line_bytes = 4, 4 * line_elements
    row_bytes = [pointer_bytes + element_bytes * length for length in lengths]
    expected = reference.prefetch(
        trace, row_bytes, lines=lines, line_elements=line_bytes, look_ahead=look_ahead, unit=unit, policy=policy
    )
    params = PrefetchParams(
        lines, line_bytes, look_ahead, unit == "elements", POLICIES[policy], element_bytes, pointer_bytes, 1, 16, 0
    )
    products = np.cumsum([0, *(lengths[k] for k in trace)]).astype(np.int64)[1:]
    got = prefetch(np.array(trace, dtype=np.int64), np.array(lengths, dtype=np.int64), products, 3, params)
    assert (got.hits, got.misses, got.fetched_bytes) == (expected.hits, expected.misses, expected.fetched_elements)
    assert got.bus_bytes.sum() == expected.fetched_elements  # bursts of one byte


@pytest.mark.parametrize("burst", [32, 64])
def test_bursts_cost_whole_transfers(burst):
    params = PrefetchParams(0, 576, 8, True, OFF, 12, 0, burst, 256, 0)
    trace, lengths = np.array([0, 1, 1], dtype=np.int64), np.array([1, 2], dtype=np.int64)
    got = prefetch(trace, lengths, np.array([1, 3, 5]), 16, params)
    assert got.fetched_bytes == 12 + 24 + 24
    # bytes 12 to 36 touch two bursts of 32 or one of 64
    assert list(got.bus_bytes.sum(axis=1)) == [burst, 64, 64]
