"""The tiled GEMM against walks through its loops, and the laws every dense machine has to keep."""

from __future__ import annotations

import itertools
import math
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import csr_matrices

from sparsim.machines import STREAMS, machine
from sparsim.machines.gpu_sparse import CSR_TYPES
from sparsim.machines.tiling import (
    SLACK,
    Product,
    Widths,
    choose_tiling,
    occupied_tiles,
    products,
    referenced_b,
    split_sum,
)
from sparsim.matrix import Csr
from sparsim.workload import DataType, Operand, Workload

MACHINES = (
    *("dense", "dense-block", "systolic", "a100", "a100-2:4", "rtx3090-2:4"),
    *("h100-2:4", "rtx3090-vnm", "a100-block", "a100-csr"),
)


def walk(size, tile, order, widths, capacity):
    """Bytes over the bus when one tile of each operand is held until another is needed; None if tiles do not fit."""
    m, n, k = size
    steps = dict(zip("mnk", (range(0, s, t) for s, t in zip(size, tile, strict=True)), strict=True))
    extent = dict(zip("mnk", tile, strict=True))
    dims = {"a": "mk", "b": "nk", "c": "mn"}
    held_width = {"a": widths.a, "b": widths.b, "c": max(widths.partial, widths.c)}
    space = 0.0
    for x, (p, q) in dims.items():
        one = len(steps[p]) * len(steps[q]) == 1 or order[-1] not in dims[x]
        space += extent[p] * extent[q] * held_width[x] * (1 if one else 2)
    if space > capacity:
        return None
    held, started, total = {"a": None, "b": None, "c": None}, set(), 0.0
    area = lambda at: min(tile[0], m - at[0]) * min(tile[1], n - at[1])  # noqa: E731
    for at in itertools.product(*(steps[d] for d in order)):
        where = dict(zip(order, at, strict=True))
        for x, sides in (("a", (("m", m), ("k", k))), ("b", (("k", k), ("n", n)))):
            index = tuple(where[d] for d, _ in sides)
            if held[x] != index:
                held[x] = index
                cells = math.prod(min(extent[d], s - where[d]) for d, s in sides)
                total += cells * (widths.a if x == "a" else widths.b)
        c = (where["m"], where["n"])
        if held["c"] != c:
            if c in started:
                total += 2 * area(c) * widths.partial  # written when it was left, read again now
            started.add(c)
            held["c"] = c
    return total + m * n * widths.c


def array_walk(size, tile, lanes, widths):
    """Cycles and on-chip bytes of an array of lanes (p, q) that takes the tiles one by one."""
    m, n, k = size
    cycles = moved = 0
    for i, j, h in itertools.product(*(range(0, s, t) for s, t in zip(size, tile, strict=True))):
        tm, tn, tk = min(tile[0], m - i), min(tile[1], n - j), min(tile[2], k - h)
        down, across = math.ceil(tm / lanes[0]), math.ceil(tn / lanes[1])
        cycles += down * across * tk
        moved += (tm * tk * across + tk * tn * down) * widths.c + tm * tn * widths.partial * (1 if h == 0 else 2)
    return cycles, moved


@settings(max_examples=12, deadline=None)
@given(
    st.tuples(*[st.integers(1, 7)] * 3),
    st.sampled_from([60, 100, 200]),
    st.sampled_from([(2, 2, 4, 2), (8, 3.5, 8, 8)]),
    st.sampled_from([1.0, 8.0, 64.0]),
)
def test_tiling_is_as_good_as_brute_force(size, capacity, widths, rate):
    """Time within the slack of the least, then traffic within the slack of the least, then fewest on-chip bytes."""
    widths, lanes = Widths(*widths), [(4, 1), (2, 2)]
    arrays = [
        np.vectorize(lambda *tile, pq=pq: array_walk(size, [int(t) for t in tile], pq, widths), otypes=[float, float])
        for pq in lanes
    ]
    chosen, which = choose_tiling(Product(*size, 0), widths, capacity, 1, arrays, rate)
    ways = {}
    for tile in itertools.product(*({-(-s // parts) for parts in range(1, s + 1)} for s in size)):
        count = math.prod(-(-s // t) for s, t in zip(size, tile, strict=True))
        ends = tile[2] * (tile[0] * widths.a + tile[1] * widths.b) + tile[0] * tile[1] * widths.c
        costs = [array_walk(size, tile, pq, widths) for pq in lanes]
        for order in map("".join, itertools.permutations("mnk")):
            traffic = walk(size, tile, order, widths, capacity)
            for index, (cycles, moved) in enumerate(costs if traffic is not None else []):
                time = max(ends / rate + cycles, traffic / rate + cycles / count)
                ways[tile, order, index] = (time, traffic, moved + traffic)
    mine = ways[(chosen.tm, chosen.tn, chosen.tk), chosen.order, which]
    assert sum(chosen.traffic) + chosen.traffic[2] == pytest.approx(mine[1])
    left = list(ways.values())
    for criterion in (0, 1):
        limit = min(way[criterion] for way in left) * (1 + SLACK)
        assert mine[criterion] <= limit + 1e-9
        left = [way for way in left if way[criterion] <= limit - 1e-9 or way == mine]
    assert mine[2] <= min(way[2] for way in left) + 1


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 9))
def test_split_sum_counts_padded_units(length, piece, unit):
    pieces = [min(piece, length - start) for start in range(0, length, piece)]
    assert split_sum(length, piece, unit) == sum(-(-p // unit) for p in pieces)


@st.composite
def workloads(draw):
    dtype = draw(st.sampled_from([DataType.FP16, DataType.INT8, DataType.TF32]))
    a = Csr.from_scipy(draw(csr_matrices()))
    groups = draw(st.sampled_from([g for g in (1, 2, 3) if a.shape[0] % g == 0]))
    rows = a.shape[1] * groups
    if draw(st.booleans()):
        b = Operand.dense(rows, draw(st.integers(0, 6)))
    else:
        b = Operand.of(Csr.from_scipy(draw(csr_matrices(rows=rows))))
    left = Operand.of(a)
    if groups == 1 and draw(st.booleans()):
        left = Operand(*a.shape, pattern=draw(st.sampled_from(["dense", "2:4", "1:2"])))
    unique = draw(st.sampled_from([None, max(1, rows * b.cols // 3)]))
    return Workload(left, b, dtype=dtype, groups=groups, b_unique_elements=unique)


@pytest.mark.parametrize("name", MACHINES)
@settings(max_examples=60, deadline=None)
@given(work=workloads())
def test_laws(name, work):
    built = machine(name)
    if name == "a100-csr" and work.dtype not in CSR_TYPES:
        work = replace(work, dtype=DataType.FP16)
    activity = built.run(work)
    for stage in activity.stages.values():
        assert min(stage.busy, stage.starved, stage.blocked) >= -1e-9
        assert stage.busy + stage.starved + stage.blocked == pytest.approx(activity.cycles)
    assert tuple(activity.dram_bytes) == STREAMS
    assert all(activity.dram_bytes[s] >= activity.payload_bytes[s] for s in STREAMS)
    assert all(bytes_ % built.config.dram.burst_bytes == 0 for bytes_ in activity.dram_bytes.values())
    moved = sum(activity.dram_bytes.values())
    a, b, c = activity.element_bytes
    compulsory = work.a.nnz * a + activity.compulsory_b * b + work.nnz_c * c
    assert compulsory <= moved + 1e-9
    assert activity.compulsory_b <= work.referenced_b
    assert activity.cycles >= moved / built.config.dram_bytes_per_cycle - 1e-6
    assert activity.cycles >= work.multiplies / built.peak_multiplies_per_cycle(work.dtype) - 1e-6
    assert activity.operations["multiply"] >= work.multiplies
    assert activity.cycles >= activity.operations["multiply"] / built.peak_multiplies_per_cycle(work.dtype) - 1e-6
    assert activity.reason.strip()
    assert all(buffer.reads >= 0 and buffer.writes >= 0 for buffer in activity.buffers.values())


def blocks(rows, cols, keep, seed=0):
    mask = np.random.default_rng(seed).random((rows // 4, cols // 4)) < keep
    return np.kron(mask, np.ones((4, 4)))


@settings(max_examples=40, deadline=None)
@given(csr_matrices(max_rows=12, max_columns=12), st.sampled_from([(4, 4), (2, 3), (1, 5)]))
def test_occupied_tiles(matrix, tile):
    dense = matrix.toarray() != 0
    work = Workload(Operand.of(Csr.from_scipy(matrix)), Operand.dense(matrix.shape[1], 2))
    rows, cols = tile

    def count(mask):
        return sum(
            mask[i : i + rows, j : j + cols].any()
            for i in range(0, mask.shape[0], rows)
            for j in range(0, mask.shape[1], cols)
        )

    packed = dense[dense.any(axis=1)][:, dense.any(axis=0)]
    assert occupied_tiles(work, *tile)[0].sum() == min(count(dense), count(packed))


def test_pruned_channels_shrink_the_product():
    dense = np.ones((64, 96))
    dense[::2] = 0
    dense[:, :32] = 0
    pruned = Workload(Operand.of(Csr.from_dense(dense)), Operand.dense(96, 40), dtype=DataType.FP16)
    small = Workload(Operand.dense(32, 64), Operand.dense(64, 40), dtype=DataType.FP16)
    assert list(products(pruned, compact=True)) == [Product(32, 40, 64, 32 * 64)]
    for name in ("dense", "systolic", "a100"):
        assert machine(name).run(pruned).cycles == machine(name).run(small).cycles
    whole = machine("dense", {"skip": "none"}).run(pruned)
    assert whole.operations["multiply"] == 64 * 96 * 40


def test_empty_blocks_are_skipped():
    mask = blocks(256, 256, 0.25)
    work = Workload(Operand.of(Csr.from_dense(mask)), Operand.dense(256, 128), dtype=DataType.FP16)
    dense, block = machine("dense").run(work), machine("dense-block").run(work)
    assert block.details["skipped_tiles"]
    assert block.operations["multiply"] == work.multiplies
    assert dense.cycles / block.cycles == pytest.approx(dense.operations["multiply"] / work.multiplies, rel=0.05)
    assert block.payload_bytes["a"] == work.a.nnz * 2 + 64 * 64 // 8


def test_full_matrix_does_not_lose_by_skipping():
    work = Workload(Operand.dense(30, 50), Operand.dense(50, 20), dtype=DataType.FP16)
    block = machine("dense-block").run(work)
    assert block.cycles <= machine("dense").run(work).cycles
    assert not block.details["skipped_tiles"]


def test_one_column_keeps_all_multipliers_busy():
    work = Workload(Operand.dense(1024, 1024), Operand.dense(1024, 1), dtype=DataType.FP16)
    activity = machine("dense").run(work)
    assert activity.cycles < 1.05 * work.multiplies / 16
    assert activity.details["mapping"] == "16x1"


@pytest.mark.parametrize(
    ("m", "n", "k"), [(512, 784, 512), (64, 3136, 576), (1024, 64, 1024), (512, 49, 4608), (256, 196, 2304)]
)
def test_on_chip_bytes_count_between_tilings_of_equal_time(m, n, k):
    """A square array reads half as much as a 16x1 one: both operands are shared by several multipliers."""
    work = Workload(Operand.dense(m, k), Operand.dense(k, n), dtype=DataType.FP16)
    activity = machine("dense").run(work)
    buffer = activity.buffers["global_buffer"]
    assert (buffer.reads + buffer.writes) * buffer.width_bytes < 1.4 * work.multiplies
    assert activity.cycles < (1 + SLACK) * work.multiplies / 16


def test_on_chip_bytes_do_not_buy_time():
    work = Workload(Operand.dense(300, 784), Operand.dense(784, 1), dtype=DataType.FP16)
    assert machine("dense").run(work).details["mapping"] == "16x1"


def test_elements_that_are_only_read_need_no_room():
    b = np.zeros((20000, 4))
    b[7] = 1
    work = Workload(Operand.dense(16, 20000), Operand.of(Csr.from_dense(b)), dtype=DataType.FP16)
    activity = machine("dense", {"on_chip.bytes": 8192}).run(work)
    assert activity.details["tiles"] <= 4
    assert activity.payload_bytes["a"] == 16 * 20000 * 2


@pytest.mark.parametrize("pattern", ["dense", "2:4"])
def test_rules_of_huge_shapes_are_not_written_out(pattern):
    side = 10**9
    work = Workload(Operand(side, side, pattern=pattern), Operand.dense(side, side), dtype=DataType.FP16)
    tracemalloc.start()
    try:
        assert products(work, compact=True) == {Product(side, side, side, side**2): 1}
        assert referenced_b(work) == side**2
        assert tracemalloc.get_traced_memory()[1] < 10**5
    finally:
        tracemalloc.stop()


def test_long_product_does_not_overflow():
    side = 10**7
    work = Workload(Operand.dense(side, 64), Operand.dense(64, side), dtype=DataType.FP16)
    activity = machine("dense").run(work)
    assert side**2 * 4 <= activity.cycles < 1.4 * side**2 * 4
    tiling, _ = choose_tiling(
        Product(10**9, 10**9, 10**9, 10**18), Widths(2, 2, 4, 2), 801280, 16, [lambda *_: (np.zeros(1), 0)], 128.0
    )
    assert min(tiling.tm, tiling.tn) > 256


@pytest.mark.parametrize(
    ("a", "b", "groups"),
    [
        (Operand(64, 16, pattern="2:4"), Operand.dense(16, 5), 1),
        (Operand(64, 16, pattern="1:4"), Operand.dense(32, 5), 2),
        (Operand(3, 16, pattern="1:4"), Operand(16, 5, pattern="1:2"), 1),
        (Operand.dense(6, 4), Operand(8, 6, pattern="2:4"), 2),
        (Operand.dense(6, 90), Operand(90, 6, pattern="2:4"), 1),
        (Operand(0, 4, pattern="2:4"), Operand.dense(4, 3), 1),
        (Operand.dense(5, 0), Operand.dense(0, 3), 1),
        (Operand.dense(5, 4), Operand.dense(4, 0), 1),
    ],
)
@pytest.mark.parametrize("tile", [None, (4, 4)])
def test_rules_say_what_their_elements_say(a, b, groups, tile):
    ruled = Workload(a, b, groups=groups)
    written = Workload(Operand.of(a.csr), Operand.of(b.csr), groups=groups)
    full = lambda work: {p: c for p, c in products(work, True, tile).items() if p.m and p.n and p.k}  # noqa: E731
    assert full(ruled) == full(written)


def test_convolution_reads_unique_activations_once():
    work = Workload(
        Operand.dense(32, 288), Operand.dense(288, 196), dtype=DataType.FP16, b_unique_elements=32 * 14 * 14
    )
    on_chip = machine("dense").run(work).payload_bytes["b"]
    in_memory = machine("dense", {"im2col": "in_memory"}).run(work).payload_bytes["b"]
    assert on_chip == 32 * 14 * 14 * 2
    assert in_memory == 288 * 196 * 2


def test_small_memory_costs_traffic():
    work = Workload(Operand.dense(512, 512), Operand.dense(512, 512), dtype=DataType.FP16)
    traffic = [
        sum(machine("dense", {"on_chip.bytes": size}).run(work).dram_bytes.values())
        for size in (8192, 65536, 801280, 10**7)
    ]
    assert traffic == sorted(traffic, reverse=True)
    assert traffic[-1] == 3 * 512 * 512 * 2
