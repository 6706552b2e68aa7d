"""SpArch against the naive twins, scipy, the counts of the author's scheduler, and the laws of traffic and time."""

from __future__ import annotations

import dataclasses
import math
from functools import lru_cache
from itertools import pairwise
from unittest import mock

import numpy as np
import pytest
import reference
import scipy.sparse as sp
from checks import refused
from hypothesis import given, settings
from hypothesis import strategies as st
from matrices import matching_boundary
from strategies import csr_matrices, matrix_pairs

from sparsim.energy import load_table
from sparsim.errors import ConfigError
from sparsim.kernels import visits
from sparsim.machines import STREAMS, machine, sparch_blocks
from sparsim.matrix import Csr
from sparsim.report import build_report
from sparsim.simulate import gemm, product
from sparsim.workload import DataType, Operand, Workload

ELEMENT, COO, POINTER = 12, 16, 4  # bytes at fp64
LONG = 100_000
COUNTS = (
    "condensed_columns",
    "merge_rounds",
    "first_round_ways",
    "partial_elements_written",
    "partial_elements_read",
    "layer_elements",
)


@lru_cache(maxsize=512)
def sparch(**overrides):
    return machine("sparch", overrides)


def run(work, **overrides):
    return sparch(**{key.replace("__", "."): value for key, value in overrides.items()}).run(work)


def workload(a, b, **facts):
    return Workload(Operand.of(Csr.from_scipy(a)), Operand.of(Csr.from_scipy(b)), **facts)


def scattered(rows, cols, density, seed=0):
    """A random pattern whose row lengths differ a lot, so that several rounds and buffers come into play."""
    rng = np.random.default_rng(seed)
    mask = rng.random((rows, cols)) < density * 2 * rng.random((rows, 1))
    return sp.csr_array(mask.astype(float))


@st.composite
def schedules(draw):
    return {
        "merge.layers": draw(st.integers(1, 3)),
        "schedule.weights": draw(st.sampled_from(["actual", "estimate"])),
        "schedule.order": draw(st.sampled_from(["huffman", "sequential", "random", "accumulate"])),
        "schedule.seed": draw(st.integers(0, 2)),
        "schedule.round_barrier": draw(st.booleans()),
        "merge.pipelined": draw(st.sampled_from([True, True, False])),
    }


@st.composite
def buffers(draw):
    return {
        "prefetch.lines": draw(st.integers(0, 6)),
        "prefetch.line_elements": draw(st.sampled_from([1, 2, 5, 48])),
        "prefetch.look_ahead": draw(st.sampled_from([0, 1, 3, 50])),
        "prefetch.look_ahead_unit": draw(st.sampled_from(["elements", "line_ops"])),
        "prefetch.policy": draw(st.sampled_from(["farthest", "oracle", "lru", "off"])),
        "prefetch.run_ahead": draw(st.sampled_from([0, 1, 3, 256])),
    }


def permutation(fields, leaves):
    return np.random.default_rng(fields["schedule.seed"]).permutation(leaves)


def naive_counts(a, b, fields):
    layers = fields["merge.layers"]
    return reference.sparch_counts(
        a,
        b,
        1 << layers,
        layers,
        fields["schedule.weights"],
        order=fields["schedule.order"],
        permutation=permutation(fields, int(np.diff(a.indptr).max(initial=0))),
        pipelined=fields["merge.pipelined"],
    )


# --- counts ----------------------------------------------------------------------------------------------------------


@settings(max_examples=120, deadline=None)
@given(matrix_pairs(), schedules())
def test_counts_equal_the_naive_twin_and_scipy(pair, fields):
    a, b = pair
    activity = sparch(**fields).run(workload(a, b))
    naive = naive_counts(a, b, fields)
    assert {key: activity.details[key] for key in COUNTS} == {key: naive[key] for key in COUNTS}
    assert (activity.multiplies, activity.nnz_c) == (naive["multiplies"], naive["nnz_c"])
    ones_a, ones_b = abs(a).sign(), abs(b).sign()
    c = ones_a @ ones_b
    assert activity.nnz_c == c.count_nonzero()
    assert activity.multiplies == c.sum()
    work = workload(a, b)
    assert (work.multiplies, work.nnz_c) == (activity.multiplies, activity.nnz_c)
    assert activity.operations["multiply"] == activity.multiplies
    assert activity.operations["add"] == activity.multiplies - activity.nnz_c
    assert activity.buffers["prefetch_buffer"].reads == naive["packing_slots"]


def rows_asked_for(a, fields, b):
    """Rows of B in the order of the run: rounds, rows of A, tree positions; or leaf after leaf before all rounds."""
    count = int(np.diff(a.indptr).max(initial=0))
    if not fields["merge.pipelined"]:
        return [k for column in reference.condensed_columns(a.indptr, a.indices) for _, k in column]
    weights = [reference.leaf_weight(a, b, leaf, fields["schedule.weights"]) for leaf in range(count)]
    schedule = reference.huffman_schedule(
        weights,
        1 << fields["merge.layers"],
        lambda leaves: reference.merged_size(a, b, leaves),
        order=fields["schedule.order"],
        permutation=permutation(fields, count),
    )
    trace = []
    for inputs in schedule:
        at = {node: place for place, node in enumerate(inputs) if node < count}
        for row in range(a.shape[0]):
            elements = [(at[j], k) for j, k in enumerate(reference.row_of(a, row)) if j in at]
            trace += [k for _, k in sorted(elements)]
    return trace


@settings(max_examples=120, deadline=None)
@given(matrix_pairs(), schedules(), buffers())
def test_rows_of_b_come_through_the_naive_buffer(pair, schedule, buffer):
    a, b = pair
    schedule = schedule | {"schedule.round_barrier": False}  # the twin's window sees all rounds
    activity = sparch(**schedule, **buffer).run(workload(a, b))
    row_bytes = [POINTER + ELEMENT * int(length) for length in np.diff(b.indptr)]
    oracle = buffer["prefetch.policy"] == "oracle"
    expected = reference.prefetch(
        rows_asked_for(a, schedule, b),
        row_bytes,
        lines=buffer["prefetch.lines"],
        line_elements=buffer["prefetch.line_elements"] * ELEMENT,
        look_ahead=10**6 if oracle else buffer["prefetch.look_ahead"],
        run_ahead=buffer["prefetch.run_ahead"],
        unit=buffer["prefetch.look_ahead_unit"],
        policy="farthest" if oracle else buffer["prefetch.policy"],
    )
    assert activity.details["b_bytes_fetched"] == expected.fetched_elements
    assert (activity.details["line_hits"], activity.details["line_misses"]) == (expected.hits, expected.misses)
    used = activity.multiplies * ELEMENT
    used += activity.payload_bytes["a"] // ELEMENT * POINTER
    assert activity.details["prefetch_hit_rate"] == (1 - expected.fetched_elements / used if used else 0.0)


def test_trace_follows_the_naive_one_when_leaves_stand_in_order():
    a, b = scattered(30, 20, 0.3), scattered(20, 25, 0.2)
    count = int(np.diff(a.indptr).max())
    fields = {"merge.layers": 5, "schedule.order": "sequential", "schedule.weights": "actual", "schedule.seed": 0}
    fields["merge.pipelined"] = True
    assert rows_asked_for(a, fields, b) == reference.b_row_trace(a, [list(range(count))], count)


def outer_product_counts(a, b, fields):
    """SpArch without condensing, by sets: one leaf for every column of A that is not empty."""
    by_column = {}
    for row in range(a.shape[0]):
        for k in reference.row_of(a, row):
            by_column.setdefault(k, []).append(row)
    used = sorted(by_column)
    keys = [{(row, c) for row in by_column[k] for c in reference.row_of(b, k)} for k in used]
    if fields["schedule.weights"] == "actual":
        weights = [len(reached) for reached in keys]
    else:
        weights = [len(by_column[k]) * b.nnz // b.shape[0] for k in used]

    def union(leaves):
        return set().union(*(keys[leaf] for leaf in leaves))

    layers = fields["merge.layers"]
    schedule = reference.huffman_schedule(
        weights,
        1 << layers,
        lambda leaves: len(union(leaves)),
        order=fields["schedule.order"],
        permutation=permutation(fields, len(used)),
    )
    rounds = reference.leaf_sets(schedule, len(used))
    entering = [0] * layers
    for inputs in rounds:
        for layer in range(layers):
            entering[layer] += len({(p >> layer, key) for p, leaves in enumerate(inputs) for key in union(leaves)})
    written = sum(len(union(frozenset().union(*inputs))) for inputs in rounds[:-1])
    if not fields["merge.pipelined"]:
        written += sum(len(reached) for reached in keys)
    return {
        "condensed_columns": len(used),
        "merge_rounds": len(rounds),
        "first_round_ways": len(schedule[0]),
        "partial_elements_written": written,
        "partial_elements_read": written,
        "layer_elements": entering,
    }


@settings(max_examples=80, deadline=None)
@given(matrix_pairs(max_side=8), schedules())
def test_without_condensing_every_column_is_a_partial_matrix(pair, fields):
    a, b = pair
    activity = sparch(condense=False, **fields).run(workload(a, b))
    assert {key: activity.details[key] for key in COUNTS} == outer_product_counts(a, b, fields)
    assert activity.details["condensed_columns"] == np.unique(a.indices).size
    condensed = sparch(**fields).run(workload(a, b))
    assert (activity.multiplies, activity.nnz_c) == (condensed.multiplies, condensed.nnz_c)


def leaves_of(a, condense):
    """The elements of A leaf by leaf, as (row, place in memory): A lies by rows, or by columns if not condensed."""
    if condense:
        columns = reference.condensed_columns(a.indptr, a.indices)
        return [[(row, int(a.indptr[row]) + j) for row, _ in column] for j, column in enumerate(columns)]
    by_column = sorted((k, row) for row in range(a.shape[0]) for k in reference.row_of(a, row))
    used = sorted({k for k, _ in by_column})
    return [[(row, at) for at, (k, row) in enumerate(by_column) if k == leaf] for leaf in used]


@settings(max_examples=80, deadline=None)
@given(matrix_pairs(), st.integers(1, 3), st.booleans(), st.booleans())
def test_a_is_read_in_whole_bursts_by_the_round_that_multiplies_it(pair, layers, condense, pipelined):
    a, b = pair
    leaves = leaves_of(a, condense)
    fields = {
        "schedule.order": "sequential",
        "merge.layers": layers,
        "condense": condense,
        "merge.pipelined": pipelined,
    }
    schedule = reference.huffman_schedule([0] * len(leaves), 1 << layers, order="sequential")
    if pipelined:
        asked = []
        for inputs in schedule:
            elements = [element for node in sorted(inputs) if node < len(leaves) for element in leaves[node]]
            asked.append([at for _, at in (sorted(elements) if condense else elements)])
    else:
        asked = [[at for leaf in leaves for _, at in leaf]]
    bursts = sum(len(part) for places in asked for part in reference.bursts_read(places, ELEMENT, 32))
    assert sparch(**fields).run(workload(a, b)).dram_bytes["a"] == 32 * bursts


def test_sixteen_partial_matrices_become_twelve():
    a = Operand.of(Csr.build((16, 16), *reference.from_picture(*reference.SIXTEEN_TO_TWELVE)[:2]))
    work = Workload(a, a)
    assert run(work, condense=False).details["condensed_columns"] == 16
    assert run(work).details["condensed_columns"] == 12


def test_rounds_whose_results_are_empty():
    """Four columns that meet empty rows of B leave empty results; a later round merges them with others."""
    b = np.zeros((6, 2))
    b[4:] = 1
    activity = run(product(np.ones((1, 6)), b), merge__layers=1, schedule__order="sequential")
    assert activity.details["merge_rounds"] == 5
    assert (activity.multiplies, activity.nnz_c) == (4, 2)


@pytest.mark.parametrize(("m", "k", "n"), [(0, 0, 0), (0, 3, 2), (3, 0, 2), (3, 2, 0), (3, 2, 4)])
def test_nothing_to_do_is_one_round_of_no_ways(m, k, n):
    empty = Csr.build((m, k), np.zeros(m + 1, dtype=int), np.zeros(0, dtype=int))
    activity = run(Workload(Operand.of(empty), Operand.dense(k, n)))
    assert activity.details["merge_rounds"] == 1
    assert activity.details["first_round_ways"] == activity.details["condensed_columns"] == 0
    assert activity.cycles == sum(activity.dram_bytes.values()) == 0


def test_one_leaf_is_one_round():
    details = run(product(np.eye(5))).details
    assert (details["condensed_columns"], details["merge_rounds"], details["first_round_ways"]) == (1, 1, 1)
    assert details["partial_elements_written"] == 0


# --- the ways to say and to lay the same product ----------------------------------------------------------------------


def figures(activity, *, but=()):
    record = dataclasses.asdict(activity)
    for key in but:
        del record[key]
    return record


@settings(max_examples=40, deadline=None)
@given(csr_matrices(), st.integers(0, 7), st.sampled_from([0, 2, 3]), schedules(), st.sampled_from(["wx", "xtwt"]))
def test_dense_b_costs_what_its_elements_cost(a, columns, panel, schedule, orientation):
    machine_ = sparch(**schedule, **{"mapping.panel_columns": panel, "mapping.orientation": orientation})
    left = Operand.of(Csr.from_scipy(a))
    explicit = Operand.of(Csr.from_dense(np.ones((a.shape[1], columns))))
    by_shape = machine_.run(Workload(left, Operand.dense(a.shape[1], columns)))
    assert figures(machine_.run(Workload(left, explicit))) == figures(by_shape)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Operand, "is_dense", property(lambda self: False))  # no short cut for full rows
        assert figures(machine_.run(Workload(left, explicit))) == figures(by_shape)


@settings(max_examples=60, deadline=None)
@given(matrix_pairs(), st.integers(1, 5), schedules())
def test_panels_cut_b_and_nothing_else(pair, width, schedule):
    a, b = pair
    work = workload(a, b)
    whole = sparch(**schedule).run(work)
    cut = sparch(**schedule, **{"mapping.panel_columns": width}).run(work)
    panels = max(math.ceil(b.shape[1] / width), 1)
    assert cut.details["panels"] == panels
    assert (cut.multiplies, cut.nnz_c) == (whole.multiplies, whole.nnz_c)
    assert cut.payload_bytes["a"] == panels * a.nnz * ELEMENT
    assert cut.payload_bytes["c"] == whole.payload_bytes["c"]
    assert cut.details["condensed_columns"] == whole.details["condensed_columns"]
    assert cut.details["first_round_ways"] == whole.details["first_round_ways"]
    assert cut.details["merge_rounds"] == panels * whole.details["merge_rounds"]
    assert_laws(cut, work, sparch(**schedule).config)


@settings(max_examples=60, deadline=None)
@given(matrix_pairs(), schedules())
def test_transposed_product_keeps_the_users_operands(pair, schedule):
    a, b = pair
    work = workload(a, b)
    plain = sparch(**schedule).run(work)
    turned = sparch(**schedule, **{"mapping.orientation": "xtwt"}).run(work)
    assert (turned.multiplies, turned.nnz_c) == (plain.multiplies, plain.nnz_c)
    assert turned.details["orientation"] == "xtwt"
    assert turned.payload_bytes["b"] == b.nnz * ELEMENT  # streamed as the left operand, once
    assert turned.payload_bytes["a"] == turned.details["b_bytes_fetched"]
    by_hand = sparch(**schedule).run(workload(b.T.tocsr(), a.T.tocsr()))
    assert turned.cycles == by_hand.cycles
    swap = {"a": "b", "b": "a"}
    assert turned.dram_bytes == {s: by_hand.dram_bytes[swap.get(s, s)] for s in STREAMS}


def test_transposed_run_names_the_users_streams():
    """The reason speaks of the A and B of the workload, as dram_bytes does."""
    work = workload(scattered(400, 400, 0.05), scattered(400, 40, 0.5))
    activity = run(work, mapping__orientation="xtwt", prefetch__policy="off")
    assert activity.limited_by == "prefetch"
    assert max(activity.dram_bytes, key=lambda stream: activity.dram_bytes[stream]) == "a"
    assert "rows of B" not in activity.reason


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 3), st.integers(0, 4), st.integers(0, 4), st.data())
def test_groups_run_as_a_block_diagonal(groups, rows, columns, data):
    parts = [data.draw(csr_matrices(rows=rows, columns=columns)) for _ in range(groups)]
    b = data.draw(csr_matrices(rows=columns * groups))
    stacked = sp.csr_array(sp.vstack(parts, format="csr"))
    spread = sp.csr_array(sp.block_diag(parts, format="csr"))
    stacked.sort_indices()
    spread.sort_indices()
    grouped = run(workload(stacked, b, groups=groups))
    assert figures(grouped) == figures(run(workload(spread, b)))
    assert grouped.multiplies == (abs(spread).sign() @ abs(b).sign()).sum()


@pytest.mark.parametrize(("dtype", "element"), [("fp64", 12), ("fp32", 8), ("fp16", 6), ("int8", 5)])
def test_elements_follow_the_data_type(dtype, element):
    work = product(scattered(40, 40, 0.2), dtype=dtype)
    activity = run(work, merge__layers=2)
    assert activity.payload_bytes["a"] == work.a.nnz * element
    assert activity.payload_bytes["c"] == work.nnz_c * element
    partial = max(element - 4, 4) + 8
    assert activity.payload_bytes["partial_write"] == activity.details["partial_elements_written"] * partial


# --- the matrices the project generates ------------------------------------------------------------------------------


def test_boundary_map_has_the_counts_of_its_definition():
    d3, d2 = matching_boundary(7, 2, 3), matching_boundary(7, 2, 2)
    assert d3.shape == (105, 105)
    assert d2.shape == (105, 21)
    assert set(np.diff(d3.indptr)) == {3}
    assert set(np.bincount(d3.indices)) == {3}
    assert (d3 @ d2).count_nonzero() == 0


@pytest.mark.parametrize("layers", [1, 2, 6])
def test_products_of_boundary_maps(layers):
    d3, d2 = matching_boundary(7, 2, 3), matching_boundary(7, 2, 2)
    squared = run(product(d3), merge__layers=layers)
    assert squared.multiplies == 105 * 3 * 3
    assert squared.details["condensed_columns"] == 3
    assert squared.details["merge_rounds"] == (2 if layers == 1 else 1)
    # Every pair of left-out subsets is reached twice; the two values cancel, the structure stays.
    twice = run(product(d3, d2), merge__layers=layers)
    assert (twice.multiplies, twice.nnz_c) == (105 * 3 * 2, 105 * 3)
    # Two rows share one column at most: a row meets itself and 2 others in each of its 3 columns.
    gram = run(product(d3, d3.T.tocsr()), merge__layers=layers)
    assert (gram.multiplies, gram.nnz_c) == (105 * 3 * 3, 105 * (1 + 3 * 2))


@pytest.mark.parametrize("n", [3, 10, 200])
def test_tridiagonal_squared(n):
    band = sp.diags_array([np.ones(n - 1), np.ones(n), np.ones(n - 1)], offsets=[-1, 0, 1], format="csr")
    activity = run(product(band))
    assert (activity.multiplies, activity.nnz_c) == (9 * n - 10, 5 * n - 6)
    assert activity.details["condensed_columns"] == 3


# --- conservation ----------------------------------------------------------------------------------------------------


def assert_laws(activity, work, config=None):
    config = config or sparch().config
    assert tuple(activity.dram_bytes) == tuple(activity.payload_bytes) == STREAMS
    details = activity.details
    for stream in STREAMS:
        assert activity.dram_bytes[stream] % config.dram.burst_bytes == 0
        assert activity.dram_bytes[stream] >= activity.payload_bytes[stream]
    element = activity.element_bytes[2]
    assert activity.payload_bytes["c"] == element * activity.nnz_c
    assert details["partial_elements_written"] == details["partial_elements_read"]
    for stream in ("partial_read", "partial_write"):
        assert activity.payload_bytes[stream] == details["partial_elements_written"] * (max(element - 4, 4) + 8)
    referenced = work.referenced_b * element
    fetched = activity.payload_bytes["a" if details["orientation"] == "xtwt" else "b"]
    if details["orientation"] == "wx":
        assert activity.payload_bytes["a"] == work.a.nnz * element * details["panels"]
        assert fetched >= referenced
    assert fetched == details["b_bytes_fetched"]
    assert details["layer_elements"] == sorted(details["layer_elements"], reverse=True)
    pipelined = config.merge.pipelined
    assert details["layer_elements"][0] == activity.multiplies * pipelined + details["partial_elements_read"]
    moved = sum(activity.dram_bytes.values())
    assert activity.cycles >= moved / config.dram_bytes_per_cycle - 1e-6
    for stage in activity.stages.values():
        assert 0 <= stage.busy <= activity.cycles + 1e-6
        assert min(stage.starved, stage.blocked) >= -1e-6
        assert stage.busy + stage.starved + stage.blocked == pytest.approx(activity.cycles)
    dram = activity.stages["dram"].busy
    on_the_bus = sum(activity.stages[name].busy for name in ("fetch_a", "fetch_b", "write"))
    assert on_the_bus == pytest.approx(moved / config.dram_bytes_per_cycle)
    assert dram >= on_the_bus - 1e-6
    assert (details["row_activations"] > 0) == (moved > 0)
    assert activity.stages["multiply"].busy >= activity.multiplies / 16 - 1e-6
    assert activity.stages["merge"].busy >= details["layer_elements"][0] / config.merge.width - 1e-6
    assert activity.limited_by in ("look_ahead", "multiply", "merge", "dram", "prefetch", "latency", "load_imbalance")
    assert activity.reason
    assert "\n" not in activity.reason


@settings(max_examples=100, deadline=None)
@given(matrix_pairs(), schedules(), buffers(), st.sampled_from(["wx", "xtwt"]), st.booleans())
def test_conservation(pair, schedule, buffer, orientation, condense):
    work = workload(*pair)
    options = schedule | buffer | {"mapping.orientation": orientation, "condense": condense}
    built = sparch(**options)
    assert_laws(built.run(work), work, built.config)


BIG = {
    "scattered": product(scattered(300, 300, 0.06)),
    "wide": product(scattered(60, 500, 0.1), scattered(500, 700, 0.02)),
    "boundary": product(matching_boundary(7, 2, 3)),
    "layer": gemm(64, 144, 196, pattern="density:0.3"),
}


MORE = {
    "dram.channels": (2, 4, 8, 16, 32),
    "dram.gb_s_per_channel": (1.0, 2.0, 8.0, 64.0),
    "dram.banks": (4, 8, 16, 32),
    "dram.queue_bursts": (25, 32, 64, 256),
    "prefetch.lines": (1, 16, 64, 1024),
    "partial_fifo.elements": (256, 2048, 8192),
    "multipliers.groups": (1, 2, 4),
}
SLOWER_MEMORY = {
    "dram.t_rcd_ns": (0.0, 14.0, 60.0),
    "dram.t_ccd_l_ns": (0.0, 6.0, 20.0),
    "dram.t_faw_ns": (0.0, 40.0, 200.0),
    "dram.t_rfc_ns": (0.0, 260.0, 1000.0),
    "dram.write_to_read_ns": (0.0, 18.0, 100.0),
    "dram.latency_ns": (0.0, 100.0, 400.0),
}


@pytest.mark.parametrize("name", BIG)
def test_conservation_with_several_rounds(name):
    work = BIG[name]
    variants = (
        {},
        {"merge.layers": 2},
        {"merge.layers": 2, "merge.pipelined": False},
        {"prefetch.lines": 8, "prefetch.run_ahead": 4},
        {"look_ahead_fifo.elements": 16, "partial_fifo.elements": 64},
        {"schedule.round_barrier": False, "schedule.order": "accumulate", "merge.layers": 2},
    )
    for overrides in variants:
        built = sparch(**overrides)
        assert_laws(built.run(work), work, built.config)


@pytest.mark.parametrize("name", BIG)
@pytest.mark.parametrize("field", MORE)
def test_more_of_it_is_not_slower(name, field):
    """Within 2 % and a latency: other channels, victims and memory schedules may cost a little, smaller buffers mean
    smaller steps, which overlap better.
    """
    activities = [sparch(**{field: value, "merge.layers": 3}).run(BIG[name]) for value in MORE[field]]
    for before, after in pairwise(activities):
        assert after.cycles <= 1.02 * before.cycles + 100
        if field == "prefetch.lines":
            assert after.details["b_bytes_fetched"] <= before.details["b_bytes_fetched"]


@pytest.mark.parametrize("field", SLOWER_MEMORY)
def test_slower_memory_is_not_faster(field):
    """Every row of B is fetched anew, so that memory decides."""
    fields = {"prefetch.policy": "off", "merge.layers": 3}
    cycles = [sparch(**fields | {field: value}).run(BIG["scattered"]).cycles for value in SLOWER_MEMORY[field]]
    assert all(before <= 1.02 * after for before, after in pairwise(cycles))
    assert cycles[0] < cycles[-1]


def test_rows_of_dram_are_opened_where_streams_jump():
    """A row holds 85 elements: one long row of B opens each DRAM row once, rows of two elements far more often."""
    long_row = run(Workload(Operand.dense(1, 1), Operand.dense(1, LONG)))
    read_and_written = sum(long_row.dram_bytes.values())
    assert long_row.details["row_activations"] <= 1.1 * read_and_written / 1024 + 16 * 2
    pairs = Operand.of(Csr.build((LONG, LONG), 2 * np.arange(LONG + 1), np.arange(2 * LONG) % LONG))
    rows = np.sort(np.random.default_rng(0).choice(LONG, 2000, replace=False))
    short = run(Workload(Operand.of(Csr.build((1, LONG), np.array([0, 2000]), rows)), pairs))
    assert short.details["row_activations"] > 1000
    assert sum(short.dram_bytes.values()) < 500 * 1024


@settings(max_examples=60, deadline=None)
@given(matrix_pairs(), schedules(), buffers(), st.sampled_from([1, 2, 5]))
def test_steps_may_come_in_blocks_of_any_size(pair, schedule, buffer, steps):
    whole = sparch(**schedule | buffer).run(workload(*pair))
    with mock.patch.object(sparch_blocks, "BLOCK", steps), mock.patch.object(visits, "REPLAYED", steps):
        assert sparch(**schedule | buffer).run(workload(*pair)) == whole


@settings(max_examples=60, deadline=None)
@given(matrix_pairs(), schedules(), buffers())
def test_a_round_barrier_never_saves_anything(pair, schedule, buffer):
    work = workload(*pair)
    fields = schedule | buffer
    free, stopping = (sparch(**fields | {"schedule.round_barrier": stop}).run(work) for stop in (False, True))
    # requests in another order may meet the memory once at a worse moment: less than one of its latencies;
    # a buffer full of lines that wait is emptied by the barrier, so it may be faster there
    if buffer["prefetch.lines"] > buffer["prefetch.run_ahead"]:
        assert free.cycles <= stopping.cycles + sparch().config.dram.latency_ns
    # a barrier hides the next round's rows of B from the look-ahead: what is replaced may differ, nothing else
    assert free.dram_bytes | {"b": 0} == stopping.dram_bytes | {"b": 0}
    assert {key: free.details[key] for key in COUNTS} == {key: stopping.details[key] for key in COUNTS}


@pytest.mark.parametrize("name", BIG)
def test_a_round_barrier_never_saves_anything_where_it_matters(name):
    free, stopping = (run(BIG[name], merge__layers=2, schedule__round_barrier=stop) for stop in (False, True))
    assert free.cycles <= stopping.cycles


@settings(max_examples=60, deadline=None)
@given(matrix_pairs(), schedules(), st.booleans())
def test_two_phases_write_and_read_every_product(pair, schedule, condense):
    """16 bytes each way for every product, besides the results of rounds; what the tree merges is the same."""
    work = workload(*pair)
    fields = schedule | {"condense": condense}
    one, two = (sparch(**fields | {"merge.pipelined": at_once}).run(work) for at_once in (True, False))
    for stream in ("partial_read", "partial_write"):
        assert two.payload_bytes[stream] == one.payload_bytes[stream] + COO * one.multiplies
    for stream in ("a", "c"):
        assert two.payload_bytes[stream] == one.payload_bytes[stream]
    assert (two.multiplies, two.nnz_c) == (one.multiplies, one.nnz_c)
    same = ("condensed_columns", "merge_rounds", "first_round_ways", "layer_elements")
    assert [two.details[key] for key in same] == [one.details[key] for key in same]


@pytest.mark.parametrize("name", BIG)
def test_merging_while_multiplying_saves_time(name):
    assert run(BIG[name]).cycles < run(BIG[name], merge__pipelined=False).cycles


@pytest.mark.parametrize("lines", [4, 32, 128])
def test_policies_in_the_order_of_what_they_know(lines):
    """Knowing all next uses misses least. In bytes, rows being of different lengths, it is least but for 1 %."""
    fields = {"prefetch.lines": lines, "prefetch.run_ahead": 0, "prefetch.look_ahead": 512}
    policies = ("oracle", "farthest", "lru", "off")
    details = [sparch(**fields, **{"prefetch.policy": policy}).run(BIG["scattered"]).details for policy in policies]
    misses = [d["line_misses"] for d in details]
    fetched = [d["b_bytes_fetched"] for d in details]
    assert misses[0] == min(misses)
    assert fetched[0] <= 1.01 * min(fetched)
    for some in (misses, fetched):
        assert max(some) == some[-1]


def test_running_far_ahead_leaves_nothing_to_reuse():
    """Where every line waits for its use, the farthest next use is no better than the least recent one."""
    far = {"prefetch__lines": 64, "prefetch__run_ahead": 10**6}
    farthest, lru = (run(BIG["scattered"], prefetch__policy=policy, **far) for policy in ("oracle", "lru"))
    assert farthest.details["b_bytes_fetched"] == lru.details["b_bytes_fetched"]
    near = run(BIG["scattered"], prefetch__lines=64, prefetch__run_ahead=8)
    assert near.details["b_bytes_fetched"] < 0.8 * farthest.details["b_bytes_fetched"]


@pytest.mark.parametrize("lines", [4, 32, 128])
def test_a_longer_look_ahead_fetches_less(lines):
    fetched = [
        run(BIG["scattered"], prefetch__lines=lines, prefetch__look_ahead=window, prefetch__run_ahead=0).details[
            "b_bytes_fetched"
        ]
        for window in (0, 8, 64, 512, 8192)
    ]
    assert all(after <= 1.02 * before for before, after in pairwise(fetched))
    lru = run(BIG["scattered"], prefetch__lines=lines, prefetch__policy="lru")
    off = run(BIG["scattered"], prefetch__lines=lines, prefetch__policy="off")
    assert fetched[-1] <= lru.details["b_bytes_fetched"] <= off.details["b_bytes_fetched"]


def test_condensing_and_huffman_order_save_traffic():
    work = BIG["scattered"]
    plain = run(work, condense=False, schedule__order="sequential", merge__layers=3)
    condensed = run(work, schedule__order="sequential", merge__layers=3)
    accumulated = run(work, schedule__order="accumulate", merge__layers=3)
    huffman = run(work, merge__layers=3)
    partial = [x.details["partial_elements_written"] for x in (plain, condensed, huffman)]
    assert partial[0] > partial[1] > partial[2] > 0
    # the first inputs are merged again in every round
    assert accumulated.details["partial_elements_written"] > partial[1]


def test_very_slow_memory_does_not_overflow():
    slow = run(BIG["wide"], dram__gb_s_per_channel=1e-3)
    assert slow.cycles >= sum(slow.dram_bytes.values()) / 16e-3


# --- the configuration ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"dram.interleave_bytes": 48}, ("interleave_bytes = 48", "multiples of")),
        ({"dram.row_bytes": 1000}, ("row_bytes = 1000", "multiples of")),
        ({"dram.interleave_bytes": 96, "dram.row_bytes": 256}, ("row_bytes", "multiple")),
        ({"dram.t_refi_ns": 300.0}, ("t_refi_ns = 300.0", "refreshing")),
        ({"dram.write_high": 6}, ("write_low < write_high",)),
        ({"dram.queue_bursts": 16}, ("write_high <= queue_bursts",)),
        ({"dram.bank_groups": 32}, ("bank_groups", "banks")),
        ({"prefetch.run_ahead": -1}, ("prefetch.run_ahead", "greater than or equal to 0")),
        ({"schedule.order": "shortest"}, ("schedule.order", "accumulate")),
        ({"prefetch.policy": "belady"}, ("prefetch.policy", "oracle")),
    ],
)
def test_a_memory_that_cannot_be_is_refused(fields, words):
    refused(lambda: machine("sparch", fields), "sparch", *words, kind=ConfigError)


def test_a_memory_without_refresh_has_no_refresh():
    never, seldom = (run(BIG["scattered"], dram__t_refi_ns=interval) for interval in (0.0, 1e6))
    assert never.cycles == seldom.cycles


# --- the same machine, cycle by cycle --------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(matrix_pairs())
def test_cycle_fidelity_changes_time_and_not_counts(pair):
    work = workload(*pair)
    fast, cycle = sparch().run(work), sparch(fidelity="cycle").run(work)
    assert {key: cycle.details[key] for key in COUNTS} == {key: fast.details[key] for key in COUNTS}
    assert (cycle.multiplies, cycle.nnz_c, cycle.operations) == (fast.multiplies, fast.nnz_c, fast.operations)
    build_report(work, sparch(fidelity="cycle"), cycle, load_table())  # refuses nonsense
    assert cycle.payload_bytes["b"] <= cycle.dram_bytes["b"] + 4 * work.a.nnz


def test_cycle_fidelity_takes_a_dense_operand():
    work = gemm(8, 40, 12, pattern="density:0.3")
    assert sparch(fidelity="cycle").run(work).cycles == pytest.approx(sparch().run(work).cycles, rel=0.15)


# --- a row of a hundred thousand -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["column", "row"])
def test_a_very_long_row_costs_its_slowest_stage(kind):
    """Steps of at most 256 elements overlap; store-and-forward would cost the sum of the stages."""
    ones = np.zeros(LONG, dtype=np.int64)
    row = Operand.dense(1, LONG)
    if kind == "column":
        work = Workload(row, Operand.of(Csr.build((LONG, 1), np.arange(LONG + 1), ones)))
    else:
        work = Workload(Operand.dense(1, 1), row)
    free = {"look_ahead_fifo__elements_per_cycle": 16, "schedule__round_barrier": False}
    activity = run(work, **free)
    slowest = max(stage.busy for stage in activity.stages.values())
    separate = sum(stage.busy for name, stage in activity.stages.items() if name != "dram")
    assert separate > 1.2 * slowest
    rounds = activity.details["merge_rounds"]
    assert activity.cycles <= 1.15 * slowest + 2 * rounds
    # a barrier makes every round but the first wait for two latencies at least, of reading and of reading back
    stopping = run(work, **free | {"schedule__round_barrier": True})
    assert 200 * (rounds - 1) <= stopping.cycles - activity.cycles <= 600 * (rounds - 1)


# --- the public matrices ---------------------------------------------------------------------------------------------

AUTHORS_SCHEDULER = {
    "wiki-Vote": {
        "counts": (893, 15, 11),
        "partial": 919_154,
        "layers": [5002, 4740, 4443, 3955, 3353, 2753],
        "b_bytes": 3_125_784,
    },
    "facebook": {
        "counts": (1045, 17, 37),
        "partial": 951_082,
        "layers": [19282, 14565, 10397, 7298, 5285, 4053],
        "b_bytes": 10_191_596,
    },
}
BUFFERS = {  # the same code with other buffers: hit rates by bytes, in per cent, and how far bytes lie below them
    "window 1024": ({"prefetch.look_ahead": 1024}, (82.7, 80.9), 0.155),
    "window unlimited": ({"prefetch.policy": "oracle"}, (94.6, 95.9), 0.03),
    "512 lines": ({"prefetch.lines": 512}, (86.0, 86.7), 0.03),
    "2048 lines": ({"prefetch.lines": 2048}, (97.3, 96.9), 0.08),
    "24 elements a line": ({"prefetch.line_elements": 24}, (90.1, 88.3), 0.03),
    "96 elements a line": ({"prefetch.line_elements": 96}, (95.8, 97.2), 0.03),
}
SQUARED = {  # products and non-zeros of A·A
    "wiki-Vote.mtx": (4_542_805, 1_831_112),
    "p2p-Gnutella31.mtx": (538_318, 537_601),
    "ca-CondMat.mtx": (4_127_524, 2_355_437),
    "facebook.mtx": (18_806_166, 2_896_485),
    "m133-b3.npz": (3_203_200, 3_184_475),
    "cage10.npz": (2_172_087, 942_575),
    "cage12.npz": (34_610_826, 15_231_874),
}


@pytest.mark.real_data
@pytest.mark.parametrize("name", AUTHORS_SCHEDULER)
def test_authors_scheduler(real_data, name):
    """Counts of the author's code on two matrices of the paper: 12-byte elements, window in line operations."""
    told = AUTHORS_SCHEDULER[name]
    work = product(real_data / "matrices" / f"{name}.mtx")
    activity = run(work, prefetch__look_ahead_unit="line_ops", prefetch__run_ahead=0, schedule__round_barrier=False)
    d = activity.details
    assert (d["condensed_columns"], d["merge_rounds"], d["first_round_ways"]) == told["counts"]
    assert d["partial_elements_written"] + d["partial_elements_read"] == pytest.approx(told["partial"], rel=0.02)
    assert d["layer_elements"] == pytest.approx([1000 * count for count in told["layers"]], rel=0.02)
    assert d["b_bytes_fetched"] == pytest.approx(told["b_bytes"], rel=0.05)


@pytest.mark.real_data
@pytest.mark.parametrize("buffer", BUFFERS)
def test_authors_scheduler_with_other_buffers(real_data, buffer):
    """Never more bytes than the author's code, and 3 % fewer at most, but for two rows.

    The largest miss is 15.1 % (facebook, window 1024; wiki-Vote 10.8 %), then 7.9 % (facebook, 2048 lines). Hit rates
    are told to 0.1 points, which is 1.5 % of the bytes at 97 %.
    """
    fields, rates, below = BUFFERS[buffer]
    for name, rate in zip(AUTHORS_SCHEDULER, rates, strict=True):
        authors = {"prefetch.look_ahead_unit": "line_ops", "prefetch.run_ahead": 0, "schedule.round_barrier": False}
        built = sparch(**authors | fields)
        activity = built.run(product(real_data / "matrices" / f"{name}.mtx"))
        told = (1 - rate / 100) * ELEMENT * activity.multiplies
        assert (1 - below) * told <= activity.details["b_bytes_fetched"] <= told


@pytest.mark.real_data
@pytest.mark.parametrize("name", SQUARED)
def test_public_matrices_squared(real_data, name):
    work = product(real_data / "matrices" / name)
    activity = run(work)
    assert (activity.multiplies, activity.nnz_c) == SQUARED[name]
    assert (work.multiplies, work.nnz_c) == SQUARED[name]
    assert_laws(activity, work)
    assert activity.element_bytes == (12, 12, 12)
    assert work.dtype is DataType.FP64
