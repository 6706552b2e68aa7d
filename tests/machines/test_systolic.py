"""The systolic formulas against an array stepped register by register, SCALE-Sim's counts, and laws of memory."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsim.errors import ConfigError
from sparsim.machines import machine
from sparsim.machines.tiling import SLACK, Product, Widths
from sparsim.workload import DataType, Operand, Workload

SMALL = [(1, 1, 1), (4, 4, 4), (7, 9, 5), (16, 12, 8), (3, 2, 40)]


def step_weight_stationary(weights, vectors):
    """Push vectors [t, rows] through weights [rows, cols]; return the result and the cycles of load, skew and drain."""
    rows, cols = weights.shape
    count = vectors.shape[0]
    cells, cycles = np.zeros((rows, cols)), 0
    for row in weights[::-1]:  # one row of weights enters at the top a cycle and pushes the others down
        cells = np.vstack([row, cells[:-1]])
        cycles += 1
    moving, sums = np.zeros((rows, cols)), np.zeros((rows, cols))
    out, left = np.zeros((count, cols)), count * cols
    start = cycles
    while left:
        now = cycles - start
        entering = np.array([vectors[now - r, r] if 0 <= now - r < count else 0.0 for r in range(rows)])
        moving = np.column_stack([entering, moving[:, :-1]])
        sums = np.vstack([np.zeros(cols), sums[:-1]]) + moving * cells
        for c in range(cols):
            t = now - (rows - 1) - c
            if 0 <= t < count:
                out[t, c] = sums[-1, c]
                left -= 1
        cycles += 1
    return out, cycles


def step_output_stationary(a, b):
    """Push a [rows, k] from the left and b [k, cols] from the top; return the sums in the cells and the cycles."""
    (rows, k), cols = a.shape, b.shape[1]
    right, down, sums = np.zeros((rows, cols)), np.zeros((rows, cols)), np.zeros((rows, cols))
    cycles = 0
    while cycles < k or right.any() or down.any():
        left = [a[r, cycles - r] if 0 <= cycles - r < k else 0.0 for r in range(rows)]
        top = [b[cycles - c, c] if 0 <= cycles - c < k else 0.0 for c in range(cols)]
        right = np.column_stack([left, right[:, :-1]])
        down = np.vstack([top, down[:-1]])
        sums += right * down
        cycles += 1
        if np.array_equal(sums, a @ b):
            break
    return sums, cycles


def folds(dataflow, a, b, rows, cols):
    """Run a product fold by fold; return C and the cycles."""
    (m, k), n = a.shape, b.shape[1]
    pad = lambda x, r, q: np.pad(x, ((0, r - x.shape[0]), (0, q - x.shape[1])))  # noqa: E731
    if dataflow == "is":  # the other way round: B stays, A streams
        c, cycles = folds("ws", b.T, a.T, rows, cols)
        return c.T, cycles
    c, cycles = np.zeros((m, n)), 0
    if dataflow == "os":  # columns of B along the rows of the array, rows of A along its columns
        for j in range(0, n, rows):
            for i in range(0, m, cols):
                left, top = pad(b[:, j : j + rows].T, rows, k), pad(a[i : i + cols].T, k, cols)
                part, spent = step_output_stationary(left, top)
                c[i : i + cols, j : j + rows] = part.T[: m - i, : n - j]
                assert spent <= k + rows + cols - 2  # cells beyond the edge are idle, the schedule is the same
                cycles += k + rows + cols - 2
        return c, cycles
    for i in range(0, m, cols):
        for p in range(0, k, rows):
            held = pad(a[i : i + cols, p : p + rows].T, rows, cols)
            part, spent = step_weight_stationary(held, pad(b[p : p + rows].T, n, rows))
            c[i : i + cols] += part.T[: m - i]
            cycles += spent
    return c, cycles


def dense(m, n, k, dtype=DataType.FP16):
    return Workload(Operand.dense(m, k), Operand.dense(k, n), dtype=dtype)


def compute_cycles(m, n, k, **overrides):
    options = {"on_chip.bytes": 2**50, "dram.gb_s_per_channel": 1e6} | {
        f"array.{key}": value for key, value in overrides.items()
    }
    activity = machine("systolic", options).run(dense(m, n, k))
    cycles, busy = activity.details["array_cycles"], activity.stages["multiply"].busy
    assert cycles <= busy <= cycles * (1 + SLACK)
    if "count" not in overrides and overrides.get("dataflow", "best") != "best":  # one way to lie on the product
        assert cycles == busy
    return cycles


@pytest.mark.parametrize(("rows", "cols"), [(4, 4), (3, 5), (1, 2)])
@pytest.mark.parametrize(("m", "n", "k"), SMALL)
@pytest.mark.parametrize("dataflow", ["ws", "is", "os"])
def test_formula_is_the_stepped_array(m, n, k, rows, cols, dataflow):
    rng = np.random.default_rng(m + n + k)
    a, b = rng.integers(1, 9, (m, k)).astype(float), rng.integers(1, 9, (k, n)).astype(float)
    c, cycles = folds(dataflow, a, b, rows, cols)
    assert np.array_equal(c, a @ b)
    assert compute_cycles(m, n, k, rows=rows, cols=cols, dataflow=dataflow) == cycles


def test_full_output_stationary_fold_needs_every_cycle():
    rng = np.random.default_rng(0)
    a, b = rng.integers(1, 9, (4, 6)).astype(float), rng.integers(1, 9, (6, 5)).astype(float)
    assert step_output_stationary(a, b)[1] == 6 + 4 + 5 - 2


@pytest.mark.parametrize(
    ("positions", "k", "filters", "rows", "cols", "ws", "os"),
    [
        (1, 1, 1, 4, 4, 11, 7),
        (7, 5, 9, 4, 4, 102, 66),
        (10, 16, 3, 4, 4, 80, 66),
        (4, 4, 4, 3, 5, 26, 20),
        (7, 5, 9, 3, 5, 64, 66),
        (16, 8, 12, 3, 5, 225, 252),
        (3, 40, 2, 3, 5, 168, 46),
    ],
)
def test_scalesim_by_hand(positions, k, filters, rows, cols, ws, os):
    """Lengths of the demand matrices of SCALE-Sim 3.0.0; many more are in sparsim/fidelity/systolic."""
    assert compute_cycles(filters, positions, k, rows=rows, cols=cols, dataflow="ws") == ws
    assert compute_cycles(positions, filters, k, rows=rows, cols=cols, dataflow="is") == ws
    assert compute_cycles(filters, positions, k, rows=rows, cols=cols, dataflow="os") == os


@pytest.mark.parametrize(("m", "n", "k"), SMALL)
def test_best_is_the_faster_operand_to_hold(m, n, k):
    held = [compute_cycles(m, n, k, dataflow=flow, rows=2) for flow in ("ws", "is")]
    assert compute_cycles(m, n, k, dataflow="best", rows=2) == min(held)


def test_exposed_drain_and_hidden_load():
    assert compute_cycles(8, 8, 8, dataflow="os", output_drain="exposed") == 4 * (8 + 6 + 4)
    assert compute_cycles(8, 8, 8, overlap="load") == 4 + 4 * (8 + 6)
    assert compute_cycles(8, 8, 8, overlap="all", dataflow="os") == 4 * 8 + 6


def gapless(vectors, rows, cols):
    """Follow folds with a second register a cell: a load starts with the stream before it, and must end first."""
    stream = rows
    for now in vectors[:-1]:
        stream = max(stream + now, stream + rows)
    return stream + vectors[-1] + rows + cols - 2


@pytest.mark.parametrize(("m", "n", "k"), [*SMALL, (1, 1, 40), (40, 2, 1)])
def test_folds_without_gaps(m, n, k):
    for rows, cols in ((4, 4), (3, 5), (16, 2)):
        vectors = [n] * (-(-k // rows) * -(-m // cols))
        assert compute_cycles(m, n, k, rows=rows, cols=cols, dataflow="ws", overlap="all") == gapless(
            vectors, rows, cols
        )


def shared(m, n, k, rows, cols, count):
    """Deal every fold to arrays one by one and wait for the slowest; the best of all ways to place them."""
    best = math.inf
    for across in (a for a in range(1, count + 1) if count % a == 0):
        cycles = 0
        for _ in range(0, k, rows):
            for _ in range(0, m, cols * across):
                streams = [len(range(part, n, count // across)) for part in range(count // across)]
                cycles += max(2 * rows + cols + vectors - 2 for vectors in streams)
        best = min(best, cycles)
    return best


@given(*[st.integers(1, 40)] * 3, st.sampled_from([(4, 4), (3, 5), (1, 2)]), st.sampled_from([1, 2, 3, 4, 6]))
@settings(max_examples=40, deadline=None)
def test_arrays_share_the_work(m, n, k, cells, count):
    rows, cols = cells
    alone = compute_cycles(m, n, k, rows=rows, cols=cols, dataflow="ws")
    together = compute_cycles(m, n, k, rows=rows, cols=cols, dataflow="ws", count=count)
    assert together == shared(m, n, k, rows, cols, count)
    assert alone / count <= together <= alone


@given(*[st.integers(1, 200)] * 3, st.sampled_from(["ws", "is", "os", "best"]), st.sampled_from([1, 4]))
@settings(max_examples=30, deadline=None)
def test_every_multiply_is_done_once(m, n, k, dataflow, count):
    options = {"array.dataflow": dataflow, "array.count": count, "on_chip.bytes": 8192}
    activity = machine("systolic", options).run(dense(m, n, k))
    assert activity.details["performed_multiplies"] == activity.multiplies == m * n * k
    assert activity.cycles * 16 * count >= m * n * k
    assert activity.stages["multiply"].busy >= activity.details["array_cycles"] * (1 - 1e-12)
    assert sum(activity.dram_bytes.values()) >= 2 * (m * k + k * n + m * n)


MEMORIES = [2**e for e in range(14, 25)]


@pytest.mark.parametrize("name", ["systolic", "tpu_v1"])
@pytest.mark.parametrize(("m", "k", "n"), [(512, 512, 512), (64, 576, 3136), (1000, 2048, 16), (33, 4097, 65)])
def test_less_memory_never_helps(name, m, k, n):
    """Tiles are chosen within SLACK of the best time, then within SLACK of the least traffic, so up to that."""
    runs = [machine(name, {"on_chip.bytes": size}).run(dense(m, n, k, DataType.INT8)) for size in MEMORIES]
    for small, large in pairwise(runs):
        assert sum(large.dram_bytes.values()) <= sum(small.dram_bytes.values()) * (1 + SLACK)
        assert large.cycles <= small.cycles * (1 + SLACK)


@pytest.mark.parametrize("dtype", [DataType.FP16, DataType.FP32, DataType.FP64])
@pytest.mark.parametrize(("m", "n", "k"), [(768, 4096, 768), (512, 4096, 768), (768, 768, 4096), (4096, 512, 768)])
def test_traffic_does_not_cost_time(m, n, k, dtype):
    """Least traffic alone would take tiles of one or two columns, whose skew leaves the cells idle."""
    activity = machine("systolic").run(dense(m, n, k, dtype))
    assert activity.details["utilisation"] > 0.9


@pytest.mark.parametrize(("batch", "limit"), [(1, "dram"), (200, "dram"), (8192, "multiply")])
def test_few_vectors_wait_for_the_weights_of_a_tpu(batch, limit):
    built = machine("tpu_v1")
    activity = built.run(dense(4096, batch, 4096, DataType.INT8))
    assert activity.limited_by == limit
    assert activity.cycles >= activity.stages["dram"].busy
    if limit == "dram":
        weights = 4096 * 4096 / built.config.dram_bytes_per_cycle
        assert activity.stages["dram"].busy == pytest.approx(weights, rel=0.11)
        assert activity.cycles == pytest.approx(activity.stages["dram"].busy, rel=0.05)


def test_four_arrays_of_a_tpu():
    built = machine("tpu_v3")
    assert built.peak_multiplies_per_cycle(DataType.BF16) == 4 * 128 * 128
    assert built.run(dense(4096, 4096, 4096, DataType.BF16)).details["mapping"].endswith("of 4 arrays side by side")


@pytest.mark.parametrize(
    ("name", "dtype", "allowed"), [("tpu_v1", "fp16", "int8"), ("tpu_v1", "fp8", "int8"), ("tpu_v3", "int8", "bf16")]
)
def test_other_types_are_refused(name, dtype, allowed):
    built, wanted = machine(name), DataType.parse(dtype)
    for ask in (lambda: built.run(dense(2, 2, 2, wanted)), lambda: built.peak_multiplies_per_cycle(wanted)):
        with pytest.raises(ConfigError, match=rf"dtype: {name} has no {dtype}; allowed: .*{allowed}"):
            ask()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"array.dtypes": "int8, int9"}, "'int9' is no data type"),
        ({"array.dataflow": "rs"}, "'ws', 'is', 'os' or 'best'"),
        ({"array.dataflow": "is", "skip": "empty_tiles"}, "must be ws, os or best, not is"),
        ({"array.count": 0}, "array.count"),
    ],
)
def test_slips_get_one_line(options, words):
    with pytest.raises(ConfigError) as caught:
        machine("systolic", options)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("dataflow", "count", "read", "written"),
    [
        ("ws", 1, (64 + 2 * 80) * 2 + 80 * 4, 2 * 80 * 4),  # A once, B for each of two folds over m, sums of two over k
        ("ws", 2, (2 * 64 + 2 * 80) * 2 + 80 * 4, 2 * 80 * 4),  # two arrays stream other parts past the same A
        ("is", 1, (3 * 64 + 80) * 2 + 80 * 4, 2 * 80 * 4),
        ("os", 1, (3 * 64 + 2 * 80) * 2, 80 * 4),  # sums stay in the cells
    ],
)
def test_on_chip_bytes_by_hand(dataflow, count, read, written):
    built = machine("systolic", {"array.dataflow": dataflow, "array.count": count})
    product = Product(m=8, n=10, k=8, stored_a=64)
    widths = Widths(a=2, b=2, partial=4, c=2)
    assert built.array_bytes(built.mappings(product)[0], product, widths, 8, 10, 8) == (read, written)


def test_a_tile_larger_than_the_array_takes_several_folds():
    built = machine("systolic", {"array.dataflow": "ws", "skip_tile.rows": 8, "skip_tile.cols": 8})
    product = Product(m=16, n=20, k=16, stored_a=128, occupied=2, cells=4)
    assert built.array_cycles(built.mappings(product)[0], product, 16, 20, 16) == 2 * (2 * 2) * (2 * 4 + 4 + 20 - 2)
