"""Sparse GPU kernels against measured times, and the figures their constants come from."""

from __future__ import annotations

import math
import re
from importlib import resources

import pytest

from sparsim.fidelity import gpu_sparse
from sparsim.fidelity.bench import Bench
from sparsim.fidelity.record import read_published
from sparsim.machines import machine

ROWS = list(gpu_sparse.rows(Bench()))
PUBLISHED = {(item.quantity, item.workload): item for item in read_published("gpu_sparse")}
BIB = resources.files("sparsim.energy").joinpath("references.bib").read_text("utf-8")


def of(start: str):
    return [row for row in ROWS if row.quantity.startswith(start)]


def test_every_asserted_row_holds():
    assert not [row for row in ROWS if row.verdict == "off"]
    assert {row.role for row in ROWS} == {"check", "calibrate", "at_most", "shown"}


@pytest.mark.parametrize(
    ("start", "calibrated", "checked", "mean"),
    [
        ("time, csr", 2, 4, 0.08),
        ("time of a frame", 3, 3, 0.17),
        ("time of a vector", 0, 6, 0.22),
        ("time, block", 2, 10, 0.07),
        ("time, Spatha", 2, 12, 0.08),
    ],
)
def test_points_that_check_were_not_fitted(start, calibrated, checked, mean):
    found = of(start)
    assert [sum(row.role == role for row in found) for role in ("calibrate", "check")] == [calibrated, checked]
    errors = [abs(row.error) for row in found if row.role == "check"]
    assert sum(errors) / len(errors) < mean


def test_unstructured_zeros_pay_late():
    """Against CUDA cores near three quarters, against tensor cores above nineteen of twenty."""
    share = {(row.quantity.split(", ")[1], row.workload): row.modelled for row in ROWS if row.published is None}
    assert 0.7 < share["fp32", "1024,1024,1024"] < share["fp32", "4096,4096,4096"] < 0.8
    assert 0.95 < share["fp16", "1024,1024,1024"] < share["fp16", "4096,4096,4096"] < 0.99


def test_share_of_shared_memory_by_hand():
    times = [PUBLISHED["time, csr kernel, fp32", f"1024,1024,1024 density:{d}"].value for d in (0.5, 0.1)]
    gpu = gpu_sparse.card("v100")
    dram_us = 0.4 * 1024**2 * 8 / (gpu.dram_gb_s * 1e3)
    bytes_a_us = 0.4 * 1024**3 * 4 / (times[0] - times[1] - dram_us)
    peak = gpu.sms * gpu.clock_ghz * gpu.shared_bytes_per_clk * 1e3
    assert gpu_sparse.kernel("csr").shared_share == pytest.approx(bytes_a_us / peak, abs=1e-3)


def test_multiplies_a_clock_by_hand():
    gpu, logs = gpu_sparse.card("titan_x"), []
    for (quantity, workload), item in PUBLISHED.items():
        if quantity.startswith("time of a frame") and item.role == "calibrate":
            m, k, n = (int(side) for side in workload.split(" ")[0].split(","))
            multiplies = m * k * n * float(workload.rpartition(":")[2])
            logs.append(math.log(multiplies / (item.value * n * 1e-6 * gpu.sms * gpu.clock_ghz * 1e9)))
    assert math.exp(sum(logs) / len(logs)) == pytest.approx(gpu_sparse.kernel("cusparse").macs_per_clk, abs=0.005)


def test_the_constant_part_of_the_block_kernel_is_dram():
    """A line through 32 x 64 at 50 and 1 % of blocks meets no block at all where B and C cross the bus."""
    half, one = (
        PUBLISHED["time, block kernel, fp32, blocks 32x64", f"4096,4096,4096 density:{d}"] for d in (0.5, 0.01)
    )
    nothing_ms = one.value - (half.value - one.value) / 49
    gpu = gpu_sparse.card("v100")
    assert nothing_ms == pytest.approx(2 * 4096**2 * 4 / (gpu.dram_gb_s * 1e6), rel=0.03)


def test_constants_have_sources():
    keys = set(re.findall(r"^@\w+\{([^,]+),", BIB, re.MULTILINE))
    for name, entries in gpu_sparse.constants().items():
        for field, entry in entries.items():
            assert {"value", "unit", "source", "status"} <= set(entry), (name, field)
            assert entry["source"] == "none" or entry["source"].partition(",")[0] in keys, (name, field)
            assert entry["status"] in ("published", "measured", "derived", "recalled", "assumed")
            assert entry["status"] != "assumed" or entry["note"], (name, field)


def test_limits_of_a_preset():
    gpu = gpu_sparse.limits("a100")
    assert (gpu.sms, gpu.shared_bytes_per_clk, gpu.l2_gb_s) == (108, 128, 5288)
    assert gpu.fma_per_clk == pytest.approx(64, rel=0.01)
    assert gpu.dram_gb_s == pytest.approx(machine("a100").config.dram.gb_s)
