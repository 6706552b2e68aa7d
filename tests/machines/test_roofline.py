"""The roofline against the two quotients it is made of, counted by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsim.machines import machine
from sparsim.matrix import Csr
from sparsim.network import Layer
from sparsim.simulate import product
from sparsim.workload import DataType, Operand, Workload, layer_workload

PEAK = {"fp64": 48, "fp32": 96, "tf32": 96, "fp16": 96, "bf16": 96, "int8": 96, "fp8": 96}


def naive(a, b, dtype, built, groups=1):
    """Cycles and bytes by stream: the rows and columns that hold something, multiplied as dense matrices."""
    m, k = a.shape[0] // groups, a.shape[1]
    macs, moved = 0, [0, 0, 0]
    for group in range(groups):
        own, other = a[group * m : (group + 1) * m], b[group * k : (group + 1) * k]
        rows, columns = own.any(axis=1), own.any(axis=0)
        both = columns & other.any(axis=1)
        filled = int(other[both].any(axis=0).sum())
        moved[0] += int(rows.sum()) * int(columns.sum()) * dtype.bytes
        if rows.any() and both.any() and filled:
            macs += int(rows.sum()) * int(both.sum()) * filled
            moved[1] += int(both.sum()) * filled * dtype.bytes
            moved[2] += int(rows.sum()) * filled * dtype.bytes
    config = built.config
    bus = [-(-size // config.dram.burst_bytes) * config.dram.burst_bytes for size in moved]
    cycles = max(macs / PEAK[dtype.label], sum(bus) / (config.dram.gb_s / config.clock_ghz))
    return math.ceil(cycles), bus


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 3), st.integers(0, 9), st.integers(0, 12), st.integers(0, 7), st.floats(0, 1), st.floats(0, 1),
    st.sampled_from(list(DataType)), st.integers(0, 99),
)  # fmt: skip
def test_is_the_larger_quotient(groups, m, k, n, density_a, density_b, dtype, seed):
    rng = np.random.default_rng(seed)
    a = (rng.random((groups * m, k)) < density_a).astype(float)
    b = (rng.random((groups * k, n)) < density_b).astype(float)
    built = machine("cpu")
    operands = Operand.of(Csr.from_dense(a)), Operand.of(Csr.from_dense(b))
    activity = built.run(Workload(*operands, dtype=dtype, groups=groups))
    cycles, bus = naive(a, b, dtype, built, groups)
    assert activity.cycles == cycles
    assert [activity.dram_bytes[stream] for stream in "abc"] == bus
    assert activity.dram_bytes["partial_read"] == activity.dram_bytes["partial_write"] == 0


@pytest.mark.parametrize("dtype", DataType)
def test_peak_is_registers_times_units_times_cores(dtype):
    assert machine("cpu").peak_multiplies_per_cycle(dtype) == PEAK[dtype.label]
    assert machine("cpu", {"cores": 12}).peak_multiplies_per_cycle(dtype) == 2 * PEAK[dtype.label]


def test_both_roofs_bound():
    built = machine("cpu")
    square, vector = (
        built.run(Workload(Operand.dense(1024, 1024), Operand.dense(1024, n), dtype=DataType.FP32)) for n in (1024, 1)
    )
    assert (square.limited_by, vector.limited_by) == ("multiply", "dram")
    assert square.cycles == math.ceil(1024**3 / 96)
    assert square.stages["multiply"].starved < 1
    moved = 4 * (1024 * 1024 + 2 * 1024)
    assert vector.cycles == math.ceil(moved / (68.256 / 3.7))
    assert "68.256 GB/s" in vector.reason


def test_removed_channels_count_and_single_zeros_do_not():
    weights = np.ones((64, 128))
    rng = np.random.default_rng(0)
    scattered, thin = weights * (rng.random(weights.shape) < 0.5), weights.copy()
    thin[::2] = 0
    cycles = [
        machine("cpu").run(product(each, columns=4096, dtype="fp32")).cycles for each in (weights, scattered, thin)
    ]
    assert cycles[0] == cycles[1] == pytest.approx(2 * cycles[2], rel=0.35)


def test_convolution_reads_unique_activations():
    layer = Layer("conv", np.ones((8, 4, 3, 3)), padding=(1, 1), input_size=(16, 16))
    work = layer_workload(layer, dtype=DataType.FP32)
    assert machine("cpu").run(work).dram_bytes["b"] == 4 * 16 * 16 * 4
    unrolled = machine("cpu", {"im2col": "in_memory"}).run(work)
    assert unrolled.dram_bytes["b"] == 36 * 256 * 4
