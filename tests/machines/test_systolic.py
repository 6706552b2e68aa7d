"""The systolic formula against an array stepped register by register, SCALE-Sim's counts, and published times."""

from __future__ import annotations

import numpy as np
import pytest

from sparsim.machines import machine
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
    c, cycles = np.zeros((m, n)), 0
    pad = lambda x, r, q: np.pad(x, ((0, r - x.shape[0]), (0, q - x.shape[1])))  # noqa: E731
    if dataflow == "os":
        for i in range(0, m, rows):
            for j in range(0, n, cols):
                part, spent = step_output_stationary(pad(a[i : i + rows], rows, k), pad(b[:, j : j + cols], k, cols))
                c[i : i + rows, j : j + cols] = part[: m - i, : n - j]
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


def compute_cycles(m, n, k, **overrides):
    options = {"array.stationary": "a", "on_chip.bytes": 2**50, "dram.gb_s_per_channel": 1e6} | {
        f"array.{key}": value for key, value in overrides.items()
    }
    activity = machine("systolic", options).run(Workload(Operand.dense(m, k), Operand.dense(k, n), dtype=DataType.FP16))
    return activity.stages["multiply"].busy


@pytest.mark.parametrize(("rows", "cols"), [(4, 4), (3, 5), (1, 2)])
@pytest.mark.parametrize(("m", "n", "k"), SMALL)
@pytest.mark.parametrize("dataflow", ["ws", "os"])
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
    ("m", "k", "n", "rows", "cols", "ws", "os"),
    [
        (1, 1, 1, 4, 4, 11, 7),
        (4, 4, 4, 4, 4, 14, 10),
        (7, 5, 9, 4, 4, 102, 66),
        (16, 8, 12, 4, 4, 156, 168),
        (10, 16, 3, 4, 4, 80, 66),
        (3, 40, 2, 4, 4, 130, 46),
        (4, 4, 4, 3, 5, 26, 20),
        (7, 5, 9, 3, 5, 64, 66),
        (16, 8, 12, 3, 5, 225, 252),
        (3, 40, 2, 3, 5, 168, 46),
    ],
)
def test_scalesim(m, k, n, rows, cols, ws, os):
    """Lengths of the demand matrices of SCALE-Sim 3.0.0; its ifmap [m, k] streams and its filter [k, n] stays."""
    assert compute_cycles(m, n, k, rows=rows, cols=cols, stationary="b") == ws
    assert compute_cycles(m, n, k, rows=rows, cols=cols, dataflow="os") == os


@pytest.mark.parametrize(
    ("m", "n", "k", "time_ns"),
    [
        (128, 2048, 4096, 73728), (320, 3072, 4096, 319488), (1632, 36548, 1024, 3827616), (2048, 4096, 32, 68096),
        (1024, 16, 500000, 5000960), (35, 8457, 2560, 174260), (31999, 1024, 84, 257688), (84, 1024, 4096, 40960),
        (2048, 1, 128, 2304), (256, 256, 2048, 16384),
    ],
)  # fmt: skip
def test_tpu_like_array(m, n, k, time_ns):
    """SIGMA's TPU-like baseline, times at 1 GHz in the TeAAL artifact; memory out of the way, weights preloaded."""
    cycles = compute_cycles(m, n, k, rows=128, cols=128, stationary="best", preload=True)
    # The published times leave out the load of the first fold, 5 % of a product that is one fold.
    assert cycles == pytest.approx(time_ns, rel=0.06 if n == 1 else 0.025)


def test_exposed_drain_and_preload():
    assert compute_cycles(8, 8, 8, dataflow="os", output_drain="exposed") == 4 * (8 + 6 + 4)
    assert compute_cycles(8, 8, 8, preload=True) == 4 + 4 * (8 + 6)


@pytest.mark.parametrize("dtype", [DataType.FP16, DataType.FP32, DataType.FP64])
@pytest.mark.parametrize(("m", "n", "k"), [(768, 4096, 768), (512, 4096, 768), (768, 768, 4096), (4096, 512, 768)])
def test_traffic_does_not_cost_time(m, n, k, dtype):
    """Least traffic alone would take tiles of one or two columns, whose skew leaves the cells idle."""
    activity = machine("systolic").run(Workload(Operand.dense(m, k), Operand.dense(k, n), dtype=dtype))
    assert activity.details["utilisation"] > 0.9
