"""The tensor cores: published times, the 2:4 rules, and what each cost is due to."""

from __future__ import annotations

import csv
import itertools
from importlib import resources

import numpy as np
import pytest

from sparsim.errors import ConfigError
from sparsim.fidelity.tensor_core import GAIN, MEAN, TOLERANCE
from sparsim.machines import machine
from sparsim.machines.gemm_kernel import compressed_bytes
from sparsim.matrix import Csr
from sparsim.workload import DataType, Operand, Workload

TEXT = resources.files("sparsim").joinpath("fidelity", "tensor_core", "published.csv").read_text("utf-8")
POINTS = list(csv.DictReader(TEXT.splitlines()))


def product(m, n, k, pattern="dense", dtype=DataType.FP16):
    a = Operand.dense(m, k) if pattern == "dense" else Operand(m, k, pattern=pattern)
    return Workload(a, Operand.dense(k, n), dtype=dtype)


def time_us(name, work, **overrides):
    built = machine(name, overrides)
    return built.run(work).cycles / built.config.clock_ghz / 1e3


def error(point):
    m, n, k = (int(point[key]) for key in "mnk")
    work = product(m, n, k, point["pattern"], DataType.parse(point["dtype"]))
    return time_us(point["machine"], work) / float(point["time_us"]) - 1


@pytest.mark.parametrize(
    "point", [p for p in POINTS if p["role"] == "check"], ids=lambda p: "-".join(p[key] for key in ("machine", *"mnk"))
)
def test_check_points(point):
    assert abs(error(point)) <= TOLERANCE[point["machine"]]


@pytest.mark.parametrize("role", ["calibrate", "check"])
@pytest.mark.parametrize("name", MEAN)
def test_mean_of_points(name, role):
    errors = [abs(error(p)) for p in POINTS if p["machine"] == name and p["role"] == role]
    assert sum(errors) / len(errors) <= MEAN[name]


@pytest.mark.parametrize("chip", GAIN)
def test_mean_of_gains(chip):
    used = [p for p in POINTS if p["role"] in ("calibrate", "check")]
    sparse = {tuple(p[key] for key in ("dtype", *"mnk")): p for p in used if p["machine"] == f"{chip}-2:4"}
    errors = []
    for dense in (p for p in used if p["machine"] == chip):
        twin = sparse.get(tuple(dense[key] for key in ("dtype", *"mnk")))
        if twin is not None:
            errors.append(abs((1 + error(dense)) / (1 + error(twin)) - 1))
    assert len(errors) >= 3
    assert sum(errors) / len(errors) <= GAIN[chip]


def test_about_half_of_the_points_are_kept_for_checks():
    for name in TOLERANCE:
        roles = [p["role"] for p in POINTS if p["machine"] == name]
        assert roles.count("calibrate") <= roles.count("check") + 1


def test_waves_quantise_time():
    one, two = (machine("a100-2:4").run(product(256 * tiles, 128, 4096, "2:4")) for tiles in (108, 109))
    assert (one.details["waves"], two.details["waves"]) == (1, 2)
    for part in ("prologue_us", "store_us"):
        assert two.details[part] == pytest.approx(2 * one.details[part])


@pytest.mark.parametrize("name", ["a100", "rtx3090"])
@pytest.mark.parametrize("dtype", [DataType.FP16, DataType.INT8])
def test_gain_is_below_two(name, dtype):
    sizes = itertools.product((256, 1000, 16384), (64, 1000, 16384), (16, 64, 256, 3072, 16384))
    for m, n, k in sizes:
        work = product(m, n, k, "2:4", dtype)
        assert time_us(name, work) < 2 * time_us(f"{name}-2:4", work), (m, n, k)
    work = product(4096, 4096, 4096, "2:4", dtype)
    assert time_us(name, work) > 1.2 * time_us(f"{name}-2:4", work)


def test_power_holds_back_a_full_device_only():
    few, full = (machine("a100").run(product(256 * rows, 128 * cols, 16384)) for rows, cols in ((72, 1), (108, 20)))
    assert few.limited_by == "multiply"
    assert full.limited_by == "power"
    assert few.details["power_w"] < full.details["power_w"] == pytest.approx(400, rel=0.01)
    free = machine("a100", {"device_power_w": 4000.0}).run(product(256 * 108, 128 * 20, 16384))
    assert free.limited_by == "multiply"
    assert free.cycles < 0.9 * full.cycles
    assert "power_w" not in machine("rtx3090").run(product(4096, 4096, 4096)).details


def test_each_roof_can_be_the_one_that_binds():
    work = product(8192, 8192, 8192, "2:4", DataType.FP8)
    free = {"device_power_w": 4000.0}
    assert machine("h100-2:4").run(work).limited_by == "power"
    assert machine("h100-2:4", free).run(work).limited_by == "shared_memory"
    fast = machine("h100-2:4", {**free, "shared_bytes_per_clk": 1e6}).run(work)
    assert fast.cycles < machine("h100-2:4", free).run(work).cycles
    assert machine("a100", {"l2_gb_s": 500.0}).run(product(8192, 8192, 8192)).limited_by == "l2"
    assert machine("a100", {"dram.gb_s_per_channel": 0.5}).run(product(8192, 8192, 8192)).limited_by == "dram"


@pytest.mark.parametrize("k", [64, 4096])
def test_persistent_kernels_hide_all_stores_but_the_last(k):
    """Sixteen rounds of tiles: where k is long, 15 stores cost nothing, where it is short they take its place."""
    work = product(128 * 132, 256 * 16, k)
    shown, hidden = (
        machine("h100", {"dense.hidden_store": hides, "device_power_w": 1e6, "l2_bytes": 10**12}).run(work)
        for hides in (False, True)
    )
    one_us = 128 * 256 * 2 * 132 / (machine("h100").config.l2_gb_s * 1e3)
    gained = (shown.cycles - hidden.cycles) / machine("h100").config.clock_ghz / 1e3
    loop_us = max(hidden.details["roofs"][f"{name}_us"] for name in ("multiply", "shared_memory", "l2"))
    if k == 4096:
        assert gained == pytest.approx(15 * one_us, rel=0.02)
    else:
        assert 0.9 * loop_us < gained < 15 * one_us


def test_hopper_gains_less_than_ampere():
    gains = {}
    for chip in ("a100", "h100", "rtx3090"):
        dense, sparse = (time_us(name, product(8192, 8192, 8192, "2:4")) for name in (chip, f"{chip}-2:4"))
        gains[chip] = dense / sparse
    assert 1.0 < gains["h100"] < gains["a100"] < gains["rtx3090"] < 2


@pytest.mark.parametrize(
    ("name", "like", "field"),
    [("a100_80gb", "a100", "dram"), ("h200", "h100", "dram"), ("h100_pcie", "h100", "sms")],
)
def test_relatives_differ_where_they_should(name, like, field):
    own, other = machine(name).config, machine(like).config
    assert getattr(own, field) != getattr(other, field)
    assert own.dense == other.dense
    assert machine(f"{name}-2:4").baseline == name


def test_split_k_shares_a_long_loop_without_a_jump():
    times = [time_us("rtx3090", product(m, 3072, 16384, dtype=DataType.INT8)) for m in (128, 160, 256)]
    whole = time_us("rtx3090", product(256, 3072, 16384, dtype=DataType.INT8), **{"dense.split_k": False})
    assert times == sorted(times)
    assert times[1] < 2 * times[0]
    assert times[2] < whole
    split = machine("rtx3090").run(product(128, 3072, 16384, dtype=DataType.INT8)).details
    assert split["split_k"] > 1
    assert split["reduction_us"] > machine("rtx3090").config.launch_us
    assert machine("rtx3090").run(product(4096, 4096, 16384)).details["reduction_us"] == 0


@pytest.mark.parametrize(("less", "more"), [((1673, 123, 8), (1673, 133, 8)), ((101, 2018, 3), (134, 2018, 3))])
def test_only_tiles_that_there_are_pay_for_their_store(less, more):
    # As many narrow tiles as fit share a multiprocessor; those that do not exist store nothing.
    fewer, further = (time_us("a100", product(*mnk, dtype=DataType.TF32)) for mnk in (less, more))
    assert fewer <= further * 1.01


def test_short_loops_are_not_blamed_on_a_roof():
    activity = machine("a100").run(product(2048, 2048, 32))
    assert activity.limited_by == "latency"
    assert "prologue and store" in activity.reason


def test_a_slower_sparse_kernel_runs_and_says_so():
    lossy = machine("a100-2:4").run(product(512, 64, 4096, "2:4"))
    assert lossy.details["accelerated"] is True
    assert "the 2:4 kernel takes" in lossy.notes[0]
    assert f"{time_us('a100', product(512, 64, 4096)):.3g}" in lossy.notes[0]
    assert machine("a100-2:4").run(product(4096, 4096, 4096, "2:4")).notes == ()


def test_compressed_bytes():
    work = product(1024, 1024, 1024, "2:4")
    activity = machine("a100-2:4").run(work)
    assert activity.payload_bytes["a"] == 1024 * 1024 * 2 * 0.5625
    assert machine("a100-2:4").run(product(1024, 1024, 1024, "2:4", DataType.INT8)).payload_bytes["a"] == 655360
    tf32 = machine("a100-2:4").run(product(1024, 1024, 1024, "1:2", DataType.TF32))
    assert tf32.payload_bytes["a"] == 1024 * 1024 * 4 * 0.5625
    assert activity.operations["multiply"] == work.multiplies
    assert compressed_bytes(3, 7, DataType.FP16) == (3 * 4 * 2, 3), "a last group of three keeps two"
    assert compressed_bytes(1, 5, DataType.FP16) == (3 * 2, 1), "a last group of one keeps it"


def test_padding():
    sparse = machine("a100-2:4").run(product(4096, 1, 4096, "2:4"))
    assert sparse.details["padded_mnk"] == [4096, 32, 4096]
    assert sparse.payload_bytes["b"] == 4096 * 2
    assert machine("a100").run(product(4090, 1, 4090)).details["padded_mnk"] == [4096, 8, 4096]


def test_unstructured_runs_dense_and_says_so():
    dense = np.random.default_rng(0).random((64, 64)) < 0.5
    work = Workload(Operand.of(Csr.from_dense(dense)), Operand.dense(64, 64), dtype=DataType.FP16)
    activity = machine("a100-2:4").run(work)
    assert activity.details["accelerated"] is False
    assert "ran dense" in activity.notes[0]
    assert activity.cycles == machine("a100").run(work).cycles
    assert machine("a100").run(product(64, 64, 64, "2:4")).details["accelerated"] is False


def test_two_of_four_is_not_one_of_two():
    assert machine("a100-2:4").run(product(64, 64, 64, "2:4", DataType.TF32)).details["accelerated"] is False
    assert machine("a100-2:4").run(product(64, 64, 64, "1:2", DataType.TF32)).details["accelerated"] is True


def test_pruned_channels_of_a_sparse_matrix_shrink_it():
    mask = Operand(512, 512, pattern="2:4").csr.to_dense()
    mask[256:] = 0
    mask[:, :256] = 0
    work = Workload(Operand.of(Csr.from_dense(mask)), Operand.dense(512, 512), dtype=DataType.FP16)
    activity = machine("a100-2:4").run(work)
    assert activity.details["accelerated"] is True
    assert activity.details["padded_mnk"] == [256, 512, 256]


def test_types_without_instructions_are_refused():
    with pytest.raises(ConfigError, match=r"no 2:4 for fp64.*tf32, fp16, bf16, int8"):
        machine("a100-2:4").run(product(8, 8, 8, "2:4", DataType.FP64))
    with pytest.raises(ConfigError, match="rtx3090 has no fp64"):
        machine("rtx3090").run(product(8, 8, 8, dtype=DataType.FP64))


def test_a_large_rule_is_not_written_out():
    assert machine("a100-2:4").run(product(65536, 4096, 65536, "2:4")).details["accelerated"] is True


def test_what_limits():
    assert machine("a100").run(product(16, 16, 16)).limited_by in ("launch", "load_imbalance")
    assert machine("a100").run(product(4096, 1, 4096)).limited_by == "dram"
    assert machine("a100").run(product(8192, 8192, 8192)).limited_by == "power"
    assert machine("rtx3090").run(product(8192, 8192, 8192)).limited_by == "multiply"


def sparse_product(m, n, k, density, dtype=DataType.FP32):
    return Workload(Operand.random(m, k, density), Operand.dense(k, n), dtype=dtype)


def test_unstructured_zeros_pay_late():
    def gain(zeros, dtype):
        work = sparse_product(2048, 2048, 2048, 1 - zeros, dtype)
        return time_us("a100", work) / time_us("a100-csr", work)

    assert gain(0.5, DataType.FP32) < 0.7
    assert gain(0.85, DataType.FP32) > 1
    assert gain(0.9, DataType.FP16) < 0.5
    assert gain(0.995, DataType.FP16) > 1


def test_libraries_differ():
    work = sparse_product(512, 256, 512, 0.2)
    assert time_us("a100-cusparse", work) > 2 * time_us("a100-csr", work)
    csr, block = (machine(f"a100-{mode}").run(work) for mode in ("csr", "block"))
    assert csr.operations["multiply"] == work.multiplies
    assert block.operations["multiply"] == 512 * 512 * 256  # at this density no tile is empty
    assert csr.payload_bytes["a"] == work.a.nnz * 8 + 513 * 4
    assert csr.details["a_index_bytes"] == work.a.nnz * 4 + 513 * 4


def test_empty_tiles_are_left_out():
    mask = np.zeros((256, 256))
    mask[32:64, 16:32] = 1
    work = Workload(Operand.of(Csr.from_dense(mask)), Operand.dense(256, 64), dtype=DataType.FP16)
    activity = machine("a100-block").run(work)
    assert activity.details["filled_tiles"] == 1
    assert activity.details["cells"] == 8 * 16
    assert activity.operations["multiply"] == 32 * 16 * 64


def test_v_n_of_m_gathers_columns():
    a = Operand.vnm(1024, 4608, 64, 2, 20)
    work = Workload(a, Operand.dense(4608, 4096), dtype=DataType.FP16)
    activity = machine("rtx3090-vnm").run(work)
    assert activity.details["accelerated"] is True
    assert activity.details["padded_mnk"] == [1024, 4096, 928]  # 4 of 20 columns, whole instructions
    assert activity.details["a_value_bytes"] == 1024 * 2 * 231 * 2
    assert time_us("rtx3090", work) > 5 * time_us("rtx3090-vnm", work)
    plain = machine("rtx3090-vnm").run(sparse_product(64, 64, 64, 0.5, DataType.FP16))
    assert plain.details["accelerated"] is False
    assert "A is not 64:2:M" in plain.notes[0]


@pytest.mark.parametrize("mode", ["csr", "cusparse", "block", "vnm", "2:4"])
def test_every_mode_runs_what_has_no_zeros_dense(mode):
    work = product(256, 64, 256)
    assert time_us(f"a100-{mode}", work) == time_us("a100", work)


@pytest.mark.parametrize("mode", ["csr", "block"])
def test_groups_are_one_diagonal(mode):
    rng = np.random.default_rng(0)
    one = Csr.from_dense(rng.random((64, 32)) < 0.3)
    grouped = Workload(Operand.of(one), Operand.dense(64, 128), dtype=DataType.FP16, groups=2)
    whole = Workload(grouped.grouped_a, Operand.dense(64, 128), dtype=DataType.FP16)
    assert time_us(f"a100-{mode}", grouped) == time_us(f"a100-{mode}", whole)


def test_csr_kernels_take_few_types():
    with pytest.raises(ConfigError, match=r"a100-csr has no kernel for int8.*fp32, fp16, bf16"):
        machine("a100-csr").run(sparse_product(8, 8, 8, 0.5, DataType.INT8))
