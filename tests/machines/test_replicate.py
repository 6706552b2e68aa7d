"""Copies of a machine: rows are partitioned once and fairly, actions add up, one copy is the machine itself."""

from dataclasses import replace
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsim.energy import area_mm2, load_table
from sparsim.errors import ConfigError
from sparsim.machines import STREAMS, describe, machine
from sparsim.machines.replicate import row_parts
from sparsim.matrix import Csr
from sparsim.report import build_report
from sparsim.simulate import gemm, run
from sparsim.workload import DataType, Operand, Workload

MODELLED = ["sparch", "outerspace", "dense", "dense-block", "systolic", "cpu", "a100", "a100-2:4"]


def sparse(m, k, n, density=0.3, seed=0, groups=1, b_density=1.0):
    a, b = Operand.random(m, k, density, seed), Operand.random(k * groups, n, b_density, seed + 1)
    return Workload(a, b, dtype=DataType.FP16, groups=groups)


def row_products(work):
    """Multiplies of every row, one element of A after the other."""
    lengths, csr, per_group = work.b.row_lengths, work.a.csr, work.m // work.groups
    return [
        sum(int(lengths[i // per_group * work.k + k]) for k in csr.indices[csr.indptr[i] : csr.indptr[i + 1]])
        for i in range(work.m)
    ]


def least_bottleneck(products, groups, copies):
    """Try all ways to cut rows (whole groups if there are as many as copies) into at most ``copies`` ranges."""
    per_group = len(products) // groups
    if groups > copies:
        products, forced = [sum(products[g * per_group : (g + 1) * per_group]) for g in range(groups)], set()
    else:
        forced = set(range(per_group, len(products), per_group))
    best = sum(products)
    for count in range(copies):
        for cuts in combinations(range(1, len(products)), count):
            if forced <= set(cuts):
                best = min(best, max(sum(products[i:j]) for i, j in pairwise((0, *cuts, len(products)))))
    return best


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 4),
    groups=st.integers(1, 3),
    k=st.integers(1, 6),
    copies=st.integers(1, 6),
    density=st.sampled_from([0.0, 0.2, 0.6, 1.0]),
    b_density=st.sampled_from([0.4, 1.0]),
    seed=st.integers(0, 20),
)
def test_parts_are_all_rows_in_order_and_as_even_as_ranges_can_be(rows, groups, k, copies, density, b_density, seed):
    work = sparse(rows * groups, k, 5, density, seed, groups, b_density)
    parts = row_parts(work, copies)
    assert len(parts) <= copies
    assert sum(part.multiplies for part in parts) == work.multiplies
    assert sum(part.nnz_c for part in parts) == work.nnz_c
    assert np.array_equal(np.concatenate([part.a.row_lengths for part in parts]), work.a.row_lengths)
    if work.a.matrix is not None:
        assert max(part.multiplies for part in parts) == least_bottleneck(row_products(work), groups, copies)


@pytest.mark.parametrize(("m", "copies", "sizes"), [(10, 4, [3, 3, 3, 1]), (3, 8, [1, 1, 1]), (8, 1, [8])])
def test_a_rule_is_cut_without_being_written_out(m, copies, sizes):
    for pattern in ("dense", "2:4"):
        work = Workload(Operand(m, 2**20, pattern=pattern), Operand.dense(2**20, 7))
        parts = row_parts(work, copies)
        assert [part.m for part in parts] == sizes
        assert all(part.a.matrix is None for part in parts)


def test_groups_weigh_and_cost_what_their_own_b_asks_for():
    """Two groups with one A; rows 2, 3 of the first and 0, 1 of the second meet a filled row of B."""
    a = Csr.from_dense(np.array([[1, 0], [1, 0], [0, 1], [0, 1]] * 2))
    b = np.zeros((4, 8))
    b[1:3] = 1
    work = Workload(Operand.of(a), Operand.of(Csr.from_dense(b)), groups=2)
    assert max(part.multiplies for part in row_parts(work, 4)) == 8
    b[2] = 0
    work = Workload(Operand.of(a), Operand.of(Csr.from_dense(b)), dtype=DataType.FP16, groups=2)
    done = machine("outerspace", {"copies": 2}).run(work)
    assert (done.multiplies, done.nnz_c) == (work.multiplies, work.nnz_c) == (16, 16)


def test_groups_go_to_copies_whole_where_there_are_enough():
    depthwise = sparse(6, 9, 4, 0.5, groups=6)
    wholes = row_parts(depthwise, 4)
    assert sum(part.groups for part in wholes) == 6
    assert all(part.m == part.groups for part in wholes)
    even = Workload(Operand.dense(6, 9), Operand.dense(54, 4), groups=6)
    assert [part.groups for part in row_parts(even, 4)] == [2, 2, 2]
    assert all(part.b.rows == 9 * part.groups for part in row_parts(depthwise, 4))
    few = Workload(Operand.dense(8, 9), Operand.dense(18, 4), groups=2, b_unique_elements=10)
    parts = row_parts(few, 5)
    assert [(part.m, part.groups, part.b.rows, part.b_unique_elements) for part in parts] == [(2, 1, 9, 5)] * 4


@pytest.mark.parametrize("name", MODELLED)
def test_one_copy_is_the_machine(name):
    work = gemm(48, 32, 16, pattern="density:0.4")
    plain, one = machine(name), machine(name, {"copies": 1})
    assert one.run(work) == plain.run(work)
    assert one.config_sha256 == plain.config_sha256
    assert "copies" not in describe(plain)["constants"]


@pytest.mark.parametrize("name", MODELLED)
@pytest.mark.parametrize("copies", [3, 100])
def test_actions_add_up_and_reports_hold(name, copies):
    work = sparse(40, 32, 24, 0.4)
    built = machine(name, {"copies": copies})
    report = run(work, built)  # refuses stages that do not sum, more bytes than the bus carries, less than compulsory
    assert report["workload.multiplies"] == work.multiplies
    assert report["workload.nnz_c"] == work.nnz_c
    details = report["details"]
    assert (details["copies"], 1 <= details["busy_copies"] <= copies) == (copies, True)
    assert details["load_imbalance"] >= 1
    assert report["cycles.total"] <= run(work, machine(name)).cycles * 1.01 + 1, "no worse than leaving them idle"


def test_sums_by_hand():
    """Dense rows of one length: every copy does the same on its share of the bandwidth."""
    work = gemm(64, 128, 32)
    built = machine("dense", {"copies": 4})
    done = built.run(work)
    part = Workload(Operand.dense(16, 128), Operand.dense(128, 32), dtype=DataType.FP16)
    alone = machine("dense", {"dram.gb_s_per_channel": 2.0}).run(part)
    assert done.cycles == alone.cycles
    assert done.dram_bytes == {key: 4 * alone.dram_bytes[key] for key in STREAMS}
    assert done.operations == {key: 4 * number for key, number in alone.operations.items()}
    assert done.buffers["global_buffer"].reads == 4 * alone.buffers["global_buffer"].reads
    assert done.stages["multiply"] == alone.stages["multiply"]
    assert done.details["performed_multiplies"] == work.dense_multiplies
    assert done.compulsory_b == work.b.nnz, "B is needed once, however often it is fetched"
    assert done.dram_bytes["b"] == 4 * machine("dense").run(work).dram_bytes["b"]
    assert done.details["load_imbalance"] == 1


def test_idle_copies_wait_and_copies_that_would_slow_each_other_down_do():
    few = machine("dense", {"copies": 64}).run(gemm(16, 256, 256))
    assert few.details["busy_copies"] <= 16
    busy = few.stages["multiply"]
    assert busy.busy <= few.cycles * few.details["busy_copies"] / 64
    assert busy.busy + busy.starved + busy.blocked == pytest.approx(few.cycles)
    bus = sum(few.dram_bytes.values()) / machine("dense").config.dram_bytes_per_cycle
    assert few.stages["dram"].busy == pytest.approx(bus), "idle copies leave the bandwidth to the others"
    slow = machine("sparch", {"copies": 64, "dram.gb_s_per_channel": 0.5}).run(sparse(64, 256, 256, 0.3))
    assert slow.details["busy_copies"] < 64
    assert "all would be slower" in slow.reason


def test_one_full_row_is_an_imbalance():
    """Of elements; a dense machine spends as much on every row."""
    heavy = np.zeros((64, 4096))
    heavy[:, :256], heavy[6:12] = 1, 0
    heavy[6:12, 0], heavy[5, :2048] = 1, 1
    work = Workload(Operand.of(Csr.from_dense(heavy)), Operand.dense(4096, 64), dtype=DataType.FP16)
    done = machine("sparch", {"copies": 4}).run(work)
    assert done.details["load_imbalance"] > 1.5
    assert done.cycles < machine("sparch").run(work).cycles
    assert machine("dense", {"copies": 4}).run(work).details["load_imbalance"] == pytest.approx(1)


@pytest.mark.parametrize("name", MODELLED)
def test_resources_grow_with_copies(name):
    one, ten = machine(name), machine(name, {"copies": 10})
    kind = DataType.FP16
    assert ten.peak_multiplies_per_cycle(kind) == 10 * one.peak_multiplies_per_cycle(kind)
    assert ten.inventory() == {key: 10 * number for key, number in one.inventory().items()}
    area = area_mm2(one)
    assert area_mm2(ten) == {key: pytest.approx(10 * value) for key, value in area.items()}
    assert ten.config.dram == one.config.dram


def test_power_of_all_copies_burns():
    work = gemm(64, 64, 64)
    built = machine("a100", {"copies": 2})
    report = build_report(work, built, built.run(work), load_table())
    assert report["details.device_energy_pj"] == pytest.approx(2 * 400.0 * report.time_s * 1e12)


def test_nothing_to_do_and_a_measured_machine():
    empty = run(
        Workload(Operand.random(8, 8, 0.0), Operand.dense(8, 4), dtype=DataType.FP16), machine("sparch", {"copies": 3})
    )
    assert empty["workload.multiplies"] == 0
    with pytest.raises(ConfigError, match=r"host\.copies: 2 copies of a machine that is measured; allowed: 1"):
        machine("host", {"copies": 2}).run(gemm(4, 4, 4))
    with pytest.raises(ConfigError, match=r"sparch\.copies"):
        machine("sparch", {"copies": 0})


@pytest.mark.parametrize("name", ["cpu", "a100"])
def test_further_copies_do_not_slow_a_product_down(name):
    # Time over copies has a hump: B is fetched ever more often, until few rows a copy leave out most of it.
    work = replace(sparse(1200, 1200, 1200, 0.01, b_density=0.01), dtype=DataType.FP64)
    few, many = (machine(name, {"copies": copies}).run(work).cycles for copies in (16, 64))
    assert many <= few


@pytest.mark.parametrize("name", ["dense", "systolic", "cpu", "a100", "a100-2:4"])
def test_copies_of_a_dense_machine_do_not_pack_their_rows_anew(name):
    """A share of few rows has many empty columns; skipping those would need an index that no dense machine has."""
    mask = np.random.default_rng(0).random((256, 512)) < 0.01
    mask[:, 400:] = False
    work = Workload(Operand.of(Csr.from_dense(mask)), Operand.dense(512, 64), dtype=DataType.FP16)
    one, many = (machine(name, {"copies": copies}).run(work) for copies in (1, 64))
    assert one.cycles <= 64 * many.cycles
    dense = Workload(Operand.dense(256, 512), Operand.dense(512, 64), dtype=DataType.FP16)
    assert many.cycles <= 1.1 * machine(name, {"copies": 64}).run(dense).cycles
    filled = int(mask.any(axis=0).sum())
    rows = int(mask.any(axis=1).sum())
    assert many.operations["multiply"] >= rows * filled * 64
