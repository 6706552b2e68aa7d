"""CSR on CUDA cores: counts against loops over sets, seconds by hand, and what has to hold whatever the constants."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import csr_matrices

from sparsim.machines.gpu_csr import (
    CsrKernel,
    GpuLimits,
    csr_times,
    csr_work,
    distinct_per_block,
    expected_work,
    imbalance,
)
from sparsim.matrix import Csr
from sparsim.workload import Operand

matrices = csr_matrices().map(Csr.from_scipy)
GPU = GpuLimits(
    sms=10, clock_ghz=1.0, shared_bytes_per_clk=128.0, l2_gb_s=1000.0, dram_gb_s=500.0, launch_us=2.0, fma_per_clk=64.0
)
KERNEL = CsrKernel(block_rows=4, task_rows=2, task_columns=64, shared_share=0.5, macs_per_clk=0.0)


def naive_work(a: Csr, kernel: CsrKernel):
    rows = [set(a.indices[a.indptr[row] : a.indptr[row + 1]].tolist()) for row in range(a.shape[0])]
    fetched = sum(len(set().union(*rows[at : at + kernel.block_rows])) for at in range(0, len(rows), kernel.block_rows))
    tasks = [sum(map(len, rows[at : at + kernel.task_rows])) for at in range(0, len(rows), kernel.task_rows)]
    filled = tuple(sum(-(-len(row) // part) * part for row in rows) for part in (1, 2, 4, 8, 16, 32))
    return len(rows), sum(map(len, rows)), filled, fetched, len(set().union(*rows)), max(tasks, default=0)


@given(matrices, st.integers(1, 9), st.integers(1, 9))
def test_work_against_sets(a, block, task):
    kernel = KERNEL._replace(block_rows=block, task_rows=task)
    assert tuple(csr_work(a, kernel)) == naive_work(a, kernel)


@given(st.lists(st.lists(st.integers(0, 5), max_size=9), max_size=6))
def test_distinct_values_of_each_part(parts):
    bounds = np.cumsum([0, *map(len, parts)])
    values = np.array([value for part in parts for value in part], dtype=np.int64)
    assert distinct_per_block(values, bounds, 6).tolist() == [len(set(part)) for part in parts]


@given(matrices, st.integers(1, 6))
def test_fetches_lie_between_one_a_column_and_one_an_element(a, block):
    work = csr_work(a, KERNEL._replace(block_rows=block))
    assert work.referenced <= work.fetched <= work.nnz
    assert csr_work(a, KERNEL._replace(block_rows=1)).fetched == a.nnz
    assert csr_work(a, KERNEL._replace(block_rows=max(1, a.shape[0]))).fetched == work.referenced


@pytest.mark.parametrize("density", [0.01, 0.1, 0.5])
def test_expected_work_is_the_mean_of_drawn_ones(density):
    kernel = KERNEL._replace(block_rows=48)
    drawn = csr_work(Operand.random(512, 1000, density, seed=1).csr, kernel)
    mean = expected_work((512, 1000), density, kernel)
    assert mean.nnz == pytest.approx(drawn.nnz, rel=0.05)
    assert mean.fetched == pytest.approx(drawn.fetched, rel=0.05)
    assert mean.referenced == pytest.approx(drawn.referenced, rel=0.01)
    assert mean.heaviest <= drawn.heaviest
    assert mean.filled == pytest.approx(drawn.filled, rel=0.02)


def test_seconds_by_hand():
    """8 rows of 4 elements in 4 columns, 64 columns of B: 8 kB read a row, in two blocks of rows."""
    a = Csr.from_dense(np.ones((8, 4)))
    cost = csr_times(csr_work(a, KERNEL), 64, 4, GPU, KERNEL)
    assert cost.imbalance == 10 * 8 / 32  # 4 tasks on 10 multiprocessors
    assert cost.dram_bytes == {"a": 32 * 8 + 9 * 4, "b": 4 * 64 * 4, "c": 8 * 64 * 4}
    assert (cost.l2_bytes, cost.shared_bytes, cost.multiplies) == (2 * 4 * 64 * 4, 32 * 64 * 4, 32 * 64)
    assert cost.times["launch"] == pytest.approx(2e-6)
    assert cost.times["dram"] == pytest.approx(sum(cost.dram_bytes.values()) / 500e9)
    assert cost.times["l2"] == pytest.approx(2.5 * 2048 / 1000e9)
    assert cost.times["shared_memory"] == pytest.approx(2.5 * 8192 / (10 * 64 * 1e9))
    assert cost.times["multiply"] == pytest.approx(2.5 * 2048 / (10 * 64 * 1e9))
    assert cost.busy == pytest.approx(cost.times["l2"] + cost.times["shared_memory"])
    assert cost.seconds == pytest.approx(cost.times["launch"] + cost.times["dram"] + cost.busy)


def test_instructions_bind_whatever_the_width():
    kernel = KERNEL._replace(shared_share=0.0, macs_per_clk=1.5)
    work = expected_work((4096, 4096), 0.1, kernel)
    wide, narrow = (csr_times(work, 256, width, GPU, kernel) for width in (4, 2))
    assert wide.times["shared_memory"] == 0.0
    assert wide.busy == narrow.busy == wide.times["multiply"]
    assert wide.busy == pytest.approx(wide.imbalance * wide.multiplies / (10 * 1.5 * 1e9))


@given(matrices, st.integers(33, 200), st.sampled_from([1, 2, 4, 8]))
def test_more_columns_cost_more_and_lanes_are_filled_up(a, n, width):
    cost = csr_times(csr_work(a, KERNEL), n, width, GPU, KERNEL)
    full = csr_times(csr_work(a, KERNEL), -(-n // 32) * 32, width, GPU, KERNEL)
    assert cost.shared_bytes == full.shared_bytes
    assert cost.seconds <= full.seconds + 1e-15
    assert cost.multiplies == a.nnz * n


@given(matrices, st.integers(0, 32), st.sampled_from([2, 4]))
def test_few_columns_leave_lanes_to_further_elements_of_the_row(a, n, width):
    cost = csr_times(csr_work(a, KERNEL), n, width, GPU, KERNEL)
    lanes = next((size for size in (1, 2, 4, 8, 16, 32) if size >= n), None) if n else 0
    slots = 0
    for length in a.row_lengths.tolist():
        warps = -(-length * lanes // 32)  # each of 32 lanes, all of them busy or not
        slots += 32 * warps
    assert cost.shared_bytes == slots * width
    assert cost.multiplies == a.nnz * n


def test_a_vector_takes_no_32_columns():
    """Rows of 410 elements: 13 warps of a row do what takes 410 of them with 32 columns."""
    work = expected_work((4096, 4096), 0.1, KERNEL)
    one, full = (csr_times(work, n, 4, GPU, KERNEL) for n in (1, 32))
    assert 28 < full.busy / one.busy <= 32


def test_one_full_row_holds_the_others_up():
    even = np.zeros((64, 640))
    even[:, :10] = 1
    skewed = np.zeros((64, 640))
    skewed[0] = 1
    costs = [csr_times(csr_work(Csr.from_dense(array), KERNEL), 64, 4, GPU, KERNEL) for array in (even, skewed)]
    assert [cost.imbalance for cost in costs] == [1.0, 10.0]
    assert costs[1].busy > costs[0].busy
    assert imbalance(8, 32, 128, 64, 10) == 10 * 8 / (2 * 32), "two strips of columns make twice the tasks"


def test_nothing_to_do_is_a_launch_and_the_zeros_of_c():
    a = Csr.from_dense(np.zeros((8, 8)))
    cost = csr_times(csr_work(a, KERNEL), 32, 4, GPU, KERNEL)
    assert cost.busy == 0
    assert cost.dram_bytes["b"] == 0
    assert cost.seconds == pytest.approx(2e-6 + (36 + 8 * 32 * 4) / 500e9)
    assert imbalance(0, 0, 64, 64, 10) == 1.0


def test_positions_alone_decide():
    a = Csr.from_dense(np.eye(9))
    assert csr_work(a, KERNEL) == csr_work(dataclasses.replace(a, values=None), KERNEL)
