"""The cycle-level model against the naive twins, the bounds no machine can beat, and hand-made cases."""

import numpy as np
import pytest
import reference
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import csr_matrices, matrix_pairs

from sparsim.errors import ConfigError, WorkloadError
from sparsim.io import load
from sparsim.machines import machine
from sparsim.machines.sparch_cycle import run_cycles
from sparsim.matrix import Csr

ELEMENT, COO, BURST = 12, 16, 32
QUICK = {  # a memory that is never in the way
    "dram.gb_s_per_channel": 1000.0,
    "dram.latency_ns": 0.0,
    **{f"dram.t_{name}_ns": 0.0 for name in ("ccd_l", "rcd", "rp", "ras", "rrd", "faw", "wr", "refi", "rfc")},
    "dram.read_to_write_ns": 0.0,
    "dram.write_to_read_ns": 0.0,
    "dram.interleave_bytes": 32,
}


def run(a, b, **fields):
    config = machine("sparch", {key.replace("__", "."): value for key, value in fields.items()}).config
    return run_cycles(Csr.from_scipy(sp.csr_array(a)), Csr.from_scipy(sp.csr_array(b)), config)


def scattered(rows, cols, per_row, seed=0):
    rng = np.random.default_rng(seed)
    return sp.csr_array((rng.random((rows, cols)) < per_row / cols).astype(float))


@st.composite
def machines(draw):
    """Machines whose buffers hardly hold anything, in all combinations."""
    width = draw(st.sampled_from([2, 4, 16]))
    group_width = draw(st.sampled_from([1, 3, 8]))
    return {
        "merge.layers": draw(st.integers(1, 3)),
        "merge.width": width,
        "merge.fifo_elements": max(width, group_width) + draw(st.sampled_from([0, 1, width, 48])),
        "multipliers.groups": draw(st.integers(1, 3)),
        "multipliers.group_width": group_width,
        "schedule.order": draw(st.sampled_from(["huffman", "sequential", "accumulate"])),
        "schedule.weights": draw(st.sampled_from(["actual", "estimate"])),
        "prefetch.lines": draw(st.sampled_from([0, 1, 3, 1024])),
        "prefetch.line_elements": draw(st.sampled_from([1, 2, 5, 48])),
        "prefetch.policy": draw(st.sampled_from(["farthest", "oracle", "lru", "off"])),
        "prefetch.run_ahead": draw(st.sampled_from([1, 4, 256])),
        "prefetch.pointer_bytes": draw(st.sampled_from([0, 4])),
        "look_ahead_fifo.elements": draw(st.sampled_from([1, 5, 8192])),
        "look_ahead_fifo.elements_per_cycle": draw(st.sampled_from([1, 3])),
        "partial_fifo.elements": draw(st.sampled_from([1, 7, 8192])),
        "writer.fifo_elements": width + draw(st.sampled_from([0, 1, 1000])),
        "dram.channels": draw(st.sampled_from([1, 4, 16])),
        "dram.latency_ns": draw(st.sampled_from([0.0, 100.0])),
    }


def check_bounds(outcome, fields, a_elements):
    """No unit was faster than it can be."""
    assert outcome.cycles * fields.get("multipliers.groups", 2) >= outcome.multiplier_slots
    assert outcome.cycles * fields.get("merge.width", 16) >= max(outcome.layer_elements)
    assert outcome.cycles >= max(outcome.merger_busy)
    assert outcome.cycles >= outcome.a_entry_busy
    assert outcome.a_entry_busy * fields.get("look_ahead_fifo.elements_per_cycle", 1) >= a_elements
    assert outcome.cycles >= max(outcome.channel_busy)
    assert sum(outcome.channel_busy) == sum(outcome.bytes.values()) / BURST * 4


@settings(max_examples=150, deadline=None)
@given(matrix_pairs(), machines())
def test_counts_equal_the_naive_twin_on_every_machine(pair, fields):
    a, b = pair
    outcome = run(a, b, **fields)
    order = fields["schedule.order"]
    if order != "accumulate":
        layers = fields["merge.layers"]
        naive = reference.sparch_counts(
            a,
            b,
            1 << layers,
            layers,
            fields["schedule.weights"],
            order=order,
            group_width=fields["multipliers.group_width"],
        )
        assert outcome.multiplier_slots == naive["packing_slots"]
        assert list(outcome.layer_elements) == naive["layer_elements"]
        assert outcome.partial_elements_written == naive["partial_elements_written"]
        assert len(outcome.round_ends) == (naive["merge_rounds"] if a.nnz else 0)
    c = abs(a).sign() @ abs(b).sign()
    assert (outcome.multiplies, outcome.nnz_c) == (c.sum(), c.count_nonzero())
    assert outcome.partial_elements_read == outcome.partial_elements_written
    assert list(outcome.round_ends) == sorted(set(outcome.round_ends))
    check_bounds(outcome, fields, a.nnz)


@settings(max_examples=25, deadline=None)
@given(csr_matrices(max_rows=30, max_columns=30, kinds=("hubs", "dense_row", "scattered")), machines())
def test_squares_of_larger_matrices(a, fields):
    n = min(a.shape)
    a = sp.csr_array(a[:n, :n])
    outcome = run(a, a, **fields)
    c = abs(a).sign() @ abs(a).sign()
    assert (outcome.multiplies, outcome.nnz_c) == (c.sum(), c.count_nonzero())
    check_bounds(outcome, fields, a.nnz)


@settings(max_examples=40, deadline=None)
@given(matrix_pairs())
def test_outer_products_without_condensing(pair):
    a, b = pair
    outcome = run(a, b, condense=False, merge__layers=2)
    c = abs(a).sign() @ abs(b).sign()
    assert (outcome.multiplies, outcome.nnz_c) == (c.sum(), c.count_nonzero())
    leaves = np.unique(a.indices).size
    assert len(outcome.round_ends) == (-(-max(leaves - 1, 1) // 3) if leaves else 0)


def test_a_single_element_takes_what_its_steps_take():
    """A: activation 14, data 4, latency 100. Its line of B and the row pointer share an open row: 4, then 6 apart.

    Then the leaf's FIFO, six layers and the writer, a cycle each, and the write into the open row.
    """
    one = sp.csr_array(np.ones((1, 1)))
    outcome = run(one, one)
    enters = 14 + 4 + 100
    multiplied = enters + 6 + 4 + 100
    assert outcome.round_ends == (multiplied + 6 + 1,)
    assert outcome.cycles == multiplied + 6 + 4
    assert outcome.bytes == {"a": 32, "partial_read": 0, "b": 64, "partial_write": 0, "c": 32}


def test_nothing_takes_no_time():
    nothing = sp.csr_array((3, 3))
    outcome = run(nothing, nothing)
    assert (outcome.cycles, outcome.nnz_c, sum(outcome.bytes.values())) == (0, 0, 0)


def test_with_a_quick_memory_packing_decides():
    """The tree keeps up: cycles are chunks of products over groups, whatever the depth of the FIFOs."""
    a = scattered(300, 300, 20, seed=1)
    for depth in (48, 256):
        fields = {**QUICK, "merge.fifo_elements": depth, "look_ahead_fifo.elements_per_cycle": 4}
        outcome = run(a, a, **fields)
        assert outcome.multiplies > 1e5
        assert outcome.stuck == 0
        bound = outcome.multiplier_slots / 2
        assert bound <= outcome.cycles <= 1.04 * bound


def test_with_a_quick_memory_and_short_rows_the_entry_of_a_decides():
    a = scattered(2000, 2000, 3, seed=2)
    outcome = run(a, a, **QUICK)
    assert outcome.a_entry_busy == a.nnz
    assert a.nnz <= outcome.cycles <= 1.05 * a.nnz


def test_one_channel_makes_the_bus_decide():
    a = scattered(200, 200, 10, seed=3)
    outcome = run(a, a, dram__channels=1, dram__t_refi_ns=0.0)
    assert outcome.channel_busy[0] <= outcome.cycles <= 2 * outcome.channel_busy[0]


def test_traffic_of_a_dense_square():
    """Every burst of A, B and C once; a pointer burst for eight rows."""
    n = 40
    a = sp.csr_array(np.ones((n, n)))
    outcome = run(a, a)
    elements = n * n * ELEMENT
    assert outcome.bytes["a"] == elements
    assert outcome.bytes["c"] == elements
    assert elements + n // 8 * BURST <= outcome.bytes["b"] <= elements + n * BURST + n // 8 * BURST
    assert (outcome.line_misses, outcome.line_hits) == (n, n * n - n)


def test_lines_that_survive_a_round_are_not_fetched_again():
    """Two rounds over the same rows of B: a large buffer fetches each line once, a small one again and again."""
    a = scattered(60, 60, 12, seed=4)
    large = run(a, a, merge__layers=2)
    small = run(a, a, merge__layers=2, prefetch__lines=8, prefetch__run_ahead=4)
    assert large.line_misses == np.unique(a.indices).size
    assert small.line_misses > large.line_misses
    assert large.line_hits + large.line_misses == small.line_hits + small.line_misses


def test_knowing_the_future_never_hurts_much():
    """Misses: all visits known, those in the look-ahead FIFO, none, no reuse."""
    a = scattered(400, 400, 6, seed=5)
    fields = {"prefetch.lines": 64, "prefetch.run_ahead": 16, "look_ahead_fifo.elements": 512}
    misses = [run(a, a, **{**fields, "prefetch.policy": p}).line_misses for p in ("oracle", "farthest", "lru", "off")]
    assert misses[0] <= misses[1] * 1.02
    assert misses[1] < misses[2] < misses[3]
    assert misses[3] == a.nnz


def test_a_sibling_without_elements_stops_nobody():
    """One long row far down: its condensed columns have nothing else, and the others do not wait for it."""
    n = 3000
    a = sp.lil_array((n, n))
    a[np.arange(n), (np.arange(n) * 7) % n] = 1.0
    a[n - 1, :40] = 1.0
    outcome = run(a.tocsr(), a.tocsr(), look_ahead_fifo__elements=100)
    assert outcome.stuck == 0
    assert outcome.cycles < 4 * n


def test_rows_longer_than_the_run_ahead_do_not_stop_the_machine():
    a = sp.csr_array(np.ones((24, 600)))
    b = sp.csr_array(np.ones((600, 300)))
    outcome = run(a[:, :24], b[:24], prefetch__run_ahead=2)
    assert outcome.multiplies == 24 * 24 * 300
    assert outcome.lines_demanded > 0


def test_rounds_follow_each_other_and_read_back_what_they_wrote():
    a = scattered(80, 80, 20, seed=6)
    outcome = run(a, a, merge__layers=2)
    assert len(outcome.round_ends) > 3
    assert outcome.partial_elements_written > 0
    for stream in ("partial_read", "partial_write"):
        least = outcome.partial_elements_written * COO
        assert least <= outcome.bytes[stream] <= least + len(outcome.round_ends) * 2 * BURST


def test_what_the_model_does_not_have_is_refused():
    one = sp.csr_array(np.ones((1, 1)))
    for fields, word in (
        ({"schedule.round_barrier": False}, "schedule.round_barrier"),
        ({"merge.pipelined": False}, "merge.pipelined"),
        ({"merge.fifo_elements": 8}, "merge.fifo_elements"),
        ({"writer.fifo_elements": 8}, "writer.fifo_elements"),
        ({"dram.t_refi_ns": 300.0}, "dram.t_refi_ns"),
    ):
        with pytest.raises(ConfigError, match=word):
            run(one, one, **fields)
    with pytest.raises(WorkloadError, match="inner sizes"):
        run(one, sp.csr_array(np.ones((2, 1))))


@pytest.mark.real_data
def test_a_real_matrix(real_data):
    a = load(real_data / "matrices" / "p2p-Gnutella31.mtx")
    outcome = run_cycles(a, a, machine("sparch").config)
    assert outcome.stuck == 0
    assert outcome.cycles >= a.nnz
    assert outcome.nnz_c == 537_601
