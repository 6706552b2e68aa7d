"""The host: what it runs is the product, how often, what it refuses, and that nothing runs beside it."""

from __future__ import annotations

import math
import threading

import numpy as np
import pytest
from checks import refused
from hypothesis import given, settings
from hypothesis import strategies as st

import sparsim
from sparsim import runs
from sparsim.energy import load_table
from sparsim.errors import ConfigError
from sparsim.machines import host, machine
from sparsim.matrix import Csr
from sparsim.network import Layer
from sparsim.report import build_report
from sparsim.runs import Plan
from sparsim.simulate import gemm, product, run
from sparsim.workload import DataType, Operand, Workload, layer_workload

QUICK = {"repeats": 2, "budget_s": 0.05}


def mask(rows, cols, density, seed=0):
    return (np.random.default_rng(seed).random((rows, cols)) < density).astype(float)


def operand(array):
    return Operand.of(Csr.from_dense(array))


@pytest.fixture
def multiplied(monkeypatch):
    """Operands of every call of the timed function, in order."""
    calls = []
    really = host.multiply

    def count(operands):
        calls.append(operands)
        return really(operands)

    monkeypatch.setattr(host, "multiply", count)
    return calls


def dense(matrix):
    return matrix if isinstance(matrix, np.ndarray) else matrix.toarray()


def packed(a, b):
    """The two without rows and columns that hold nothing, element by element."""
    m, k, n = *a.shape, b.shape[1]
    inner = [p for p in range(k) if any(a[i, p] for i in range(m)) and any(b[p, j] for j in range(n))]
    rows = [i for i in range(m) if any(a[i, p] for p in range(k))]
    columns = [j for j in range(n) if any(b[p, j] for p in inner)]
    return a[np.ix_(rows, inner)], b[np.ix_(inner, columns)]


# --- what is run -----------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 3), st.integers(0, 6), st.integers(0, 7), st.integers(0, 5),
    st.sampled_from([0, 0.2, 0.6, 1]), st.sampled_from([0, 0.3, 1]), st.integers(0, 99),
)  # fmt: skip
def test_parts_are_the_groups_without_what_is_empty(groups, m, k, n, density_a, density_b, seed):
    a, b = mask(groups * m, k, density_a, seed), mask(groups * k, n, density_b, seed + 1)
    work = Workload(operand(a), operand(b), dtype=DataType.FP32, groups=groups)
    parts = machine("host")._parts(work)
    expected = [packed(a[g * m : (g + 1) * m], b[g * k : (g + 1) * k]) for g in range(groups)]
    expected = [(x, y) for x, y in expected if x.size and y.size]
    assert [(part.m, part.k, part.n) for part in parts] == [(*x.shape, y.shape[1]) for x, y in expected]
    results = []
    for kernel in host.KERNELS:
        pairs = host.drawn_operands(kernel, parts, np.float32, 0)
        assert [(dense(x) != 0).astype(float).tolist() for x, _ in pairs] == [x.tolist() for x, _ in expected]
        assert [(dense(y) != 0).astype(float).tolist() for _, y in pairs] == [y.tolist() for _, y in expected]
        results.append([dense(x @ y) for x, y in pairs])
    for one, two, three in zip(*results, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5)
        np.testing.assert_allclose(one, three, rtol=1e-5)
    if parts:
        total = sum(int((c != 0).sum()) for c in results[0])
        assert total == work.nnz_c


def test_the_product_is_really_computed(multiplied):
    a, b = mask(5, 4, 0.5), mask(4, 3, 1.0)
    machine("host", {"kernel": "csr", "repeats": 1}).run(Workload(operand(a), Operand.dense(4, 3)))
    ((left, right),) = multiplied[-1]
    x, y = dense(left), dense(right)
    naive = [[sum(x[i, p] * y[p, j] for p in range(x.shape[1])) for j in range(3)] for i in range(x.shape[0])]
    np.testing.assert_allclose(left @ right, naive)
    assert (x != 0).sum() == a.sum()
    assert b.shape[1] == y.shape[1]


@pytest.mark.parametrize("repeats", [1, 4])
def test_one_warm_up_then_the_repeats(multiplied, repeats):
    activity = machine("host", {"repeats": repeats, "kernel": "dense"}).run(gemm(8, 8, 8))
    assert len(multiplied) == 1 + repeats
    assert activity.details["repeats"] == repeats
    assert activity.cycles >= 1
    assert activity.cycles <= activity.details["median_s"] * 1e9
    assert activity.details["spread"] >= 0


def test_a_warm_up_beyond_the_budget_counts_itself(multiplied):
    assert machine("host", {"budget_s": 0}).run(gemm(8, 8, 8)).details["repeats"] == 1
    assert len(multiplied) == 1


@pytest.mark.parametrize(("budget_ns", "runs"), [(1e9, (50, 70, 40)), (151, (50, 70)), (150, (50,)), (99, (100,))])
def test_the_fastest_run_within_the_budget_counts(monkeypatch, budget_ns, runs):
    taken = iter([100, 50, 70, 40])
    monkeypatch.setattr(host, "multiply", lambda operands: next(taken))
    built = machine("host", {"repeats": 3, "budget_s": budget_ns / 1e9})
    timing = built._time("dense", [host.Part(2, 2, 2, None, None)], np.float64)
    assert timing.runs == runs
    assert timing.best == min(runs)


def test_auto_tries_what_fits_and_takes_the_fastest(monkeypatch):
    spent = {"dense": 30_000, "csr": 10_000, "spgemm": 20_000}
    monkeypatch.setattr(host.Host, "_time", lambda self, kernel, *rest: host.Timing(kernel, (spent[kernel],)))
    sparse = Workload(operand(mask(30, 40, 0.2)), operand(mask(40, 20, 0.3, 1)), dtype=DataType.FP32)
    activity = machine("host").run(sparse)
    assert activity.cycles == 10_000
    assert activity.details["kernel"] == "csr"
    assert activity.details["best_s"] == {"dense": 3e-5, "csr": 1e-5, "spgemm": 2e-5}
    assert activity.reason == "scipy's CSR x CSR 20 us, scipy's CSR x array 10 us, BLAS 30 us"
    assert activity.details["performed_multiplies"] == int(mask(30, 40, 0.2).sum()) * 20
    spent["spgemm"] = 5_000
    activity = machine("host", {"clock_ghz": 2.0}).run(sparse)
    assert (activity.cycles, activity.details["kernel"]) == (10_000, "spgemm")
    assert activity.details["performed_multiplies"] == sparse.multiplies
    assert activity.dram_bytes["c"] == sparse.nnz_c * 8 + 31 * 4


@pytest.mark.parametrize(
    ("asked", "density_a", "density_b", "tried"),
    [
        ("auto", 1, 1, ["dense"]),
        ("csr", 1, 1, ["dense"]),
        ("spgemm", 1, 0.3, ["dense"]),
        ("auto", 0.3, 1, ["csr", "dense"]),
        ("auto", 0.3, 0.3, ["spgemm", "csr", "dense"]),
        ("spgemm", 0.3, 1, ["csr"]),
        ("spgemm", 0.3, 0.3, ["spgemm"]),
        ("dense", 0.3, 0.3, ["dense"]),
    ],
)
def test_which_kernels_are_tried(asked, density_a, density_b, tried):
    """Weights without zeros run on BLAS whatever is asked, so that the twin of a comparison is the library's best."""
    work = Workload(operand(mask(20, 30, density_a)), operand(mask(30, 10, density_b, 1)), dtype=DataType.FP32)
    assert list(machine("host", QUICK | {"kernel": asked}).run(work).details["best_s"]) == tried


def test_blas_does_not_try_what_no_computer_could_win(monkeypatch):
    monkeypatch.setattr(host.Host, "_time", lambda self, kernel, *rest: host.Timing(kernel, (1000,)))
    monkeypatch.setattr(host, "BEYOND_ANY_CORE", 30 * 40 * 20 / 2e-6 / host._computer()["blas_threads"])
    work = Workload(operand(mask(30, 40, 0.01)), Operand.dense(40, 20), dtype=DataType.FP32)
    assert machine("host").run(work).details["left_out"] == []  # most of A's rows and columns are empty
    a = np.zeros((30, 40))
    a[0], a[:, 0] = 1, 1
    work = Workload(operand(a), Operand.dense(40, 20), dtype=DataType.FP32)
    assert machine("host").run(work).details["left_out"] == ["dense"]


def test_removed_channels_leave_a_dense_product():
    weights = np.ones((12, 10))
    weights[::3], weights[:, 4] = 0, 0
    built = machine("host", QUICK)
    assert built._parts(product(weights, columns=7)) == [host.Part(8, 9, 7, None, None)]
    assert list(built.run(product(weights, columns=7)).details["best_s"]) == ["dense"]


def test_groups_run_in_one_timed_region(multiplied):
    layer = Layer("grouped", mask(16, 4 * 9, 0.4).reshape(16, 4, 3, 3), groups=4, input_size=(7, 7))
    activity = machine("host", QUICK | {"kernel": "csr"}).run(layer_workload(layer))
    assert {len(operands) for operands in multiplied} == {4}
    assert activity.nnz_c == layer_workload(layer).nnz_c


def test_narrow_types_run_in_fp32_and_say_so(multiplied):
    for dtype, width in ((DataType.FP64, 8), (DataType.FP32, 4), (DataType.FP16, 4), (DataType.INT8, 4)):
        report = run(gemm(4, 6, 5, dtype=dtype.label), "host", QUICK)
        ((a, b),) = multiplied[-1]
        assert a.dtype.itemsize == b.dtype.itemsize == width
        assert report["dram_bytes.total"] == width * (24 + 30 + 20)
        assert any("fp32" in note for note in report.notes) == (dtype not in (DataType.FP64, DataType.FP32))


@pytest.mark.parametrize(
    "work",
    [
        Workload(operand(np.zeros((4, 5))), Operand.dense(5, 3)),
        Workload(Operand.dense(4, 5), operand(np.zeros((5, 3)))),
        Workload(Operand.dense(0, 5), Operand.dense(5, 3)),
        Workload(Operand.dense(4, 0), Operand.dense(0, 3)),
        Workload(Operand.dense(4, 5), Operand.dense(5, 0)),
    ],
)
def test_nothing_to_do_takes_no_time(work, multiplied):
    report = run(work, "host")
    assert (report.cycles, report.time_s, multiplied) == (0, 0, [])
    assert "nothing to multiply" in report.reason


def test_times_are_readable():
    shown = {1: "1 ns", 999: "999 ns", 1000: "1 us", 77_800_000: "77.8 ms", 10**9: "1 s", 3 * 10**12: "3e+03 s"}
    assert {ns: host._readable(ns) for ns in shown} == shown


# --- what is refused -------------------------------------------------------------------------------------------------


def test_too_large_is_refused_before_anything_is_allocated(multiplied):
    huge = gemm(2**20, 2**20, 2**10)
    refused(lambda: run(huge, "host"), "host.memory_gb", "GB to be computed", "--set memory_gb=N", kind=ConfigError)
    pattern = gemm(2**20, 2**20, 2**10, pattern="2:4")
    refused(lambda: run(pattern, "host"), "host.memory_gb", "2:4", kind=ConfigError)
    assert multiplied == []


def test_auto_leaves_out_what_does_not_fit():
    """A of 1000 x 1000 with 1 % non-zeros: 4 MB as an array, 0.1 MB as CSR."""
    work = gemm(1000, 1000, 4, pattern="density:0.01", dtype="fp32")
    report = run(work, "host", QUICK | {"memory_gb": 0.001})
    assert list(report["details.best_s"]) == ["csr"]
    assert report["details.left_out"] == ["dense"]
    only = {"memory_gb": 0.001, "kernel": "dense"}
    refused(lambda: run(work, "host", only), "needs 0.004", "at most 0.001 GB", kind=ConfigError)


def test_fields_are_checked():
    refused(lambda: machine("host", {"kernel": "mkl"}), "host.kernel", "spgemm", kind=ConfigError)
    refused(lambda: machine("host", {"repeats": 0}), "host.repeats", kind=ConfigError)


# --- what a report makes of it ---------------------------------------------------------------------------------------


def test_no_roof_no_energy_and_a_note():
    built = machine("host", QUICK)
    work = gemm(64, 64, 64, pattern="density:0.3")
    report = build_report(work, built, built.run(work), load_table("sparch_40nm"))
    assert report["energy_pj"] == {"total": 0.0}
    assert report["bounds.roofline_cycles"] == 0
    assert report.limited_by == "measured"
    assert any("differs from run to run" in note for note in report.notes)
    assert "not measured" in str(report)
    assert {"cpu", "numpy", "scipy", "blas", "blas_threads"} <= set(report["details"])
    assert math.isinf(built.peak_multiplies_per_cycle(DataType.FP32))


def test_comparison_has_speed_but_no_energy_ratio():
    weights = sparsim.Network("net", [Layer("fc", np.random.default_rng(0).normal(size=(48, 64)))])
    answer = sparsim.compare(
        weights, on=["host", "cpu"], granularity=["unstructured"], sparsity=[0.9], columns=8, progress=False,
        overrides=QUICK,
    )  # fmt: skip
    rows = {row["machine.name"]: row for row in answer.totals if row["granularity"] == "unstructured"}
    assert rows["host"]["baseline"] == "host"
    assert rows["host"]["speedup"] > 0
    assert math.isnan(rows["host"]["energy_ratio"])
    assert rows["cpu"]["energy_ratio"] > 0
    assert any(sentence.startswith("host, net, batch 1") for sentence in answer.verdict)


# --- alone -----------------------------------------------------------------------------------------------------------


def test_measured_runs_come_after_the_others_one_at_a_time(monkeypatch):
    events, running, lock = [], [], threading.Lock()

    def best(workload, built, *how, **options):
        with lock:
            running.append(built.name)
            events.append((built.name, tuple(running)))
        result = really(workload, built, *how, **options)
        with lock:
            running.remove(built.name)
        return result

    really = runs.best
    monkeypatch.setattr(runs, "best", best)
    plan = Plan(load_table(), "auto", 4)
    works = [gemm(16, 16, n, pattern="density:0.3") for n in (1, 2, 3, 4)]
    machines = [machine("host", QUICK), machine("dense"), machine("cpu")]
    plan.run([(work, built) for work in works for built in machines] * 2)
    names = [name for name, _ in events]
    assert names[-4:] == ["host"] * 4
    assert "host" not in names[:-4]
    assert {beside for name, beside in events if name == "host"} == {("host",)}
    assert len(names) == 12
    plan.run([(works[0], machines[0])])
    assert len(events) == 12  # measured once, like every other pair


def test_two_threads_never_time_at_once(monkeypatch):
    inside = []

    def multiply(operands):
        inside.append(1)
        assert len(inside) == 1
        inside.pop()
        return 1

    monkeypatch.setattr(host, "multiply", multiply)
    built = machine("host", {"repeats": 50})
    failures = []

    def attempt():
        try:
            built.run(gemm(4, 4, 4))
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=attempt) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_runs_that_differ_much_are_said(monkeypatch):
    for times, said in (((100, 101, 102), False), ((100, 160, 170), True)):
        monkeypatch.setattr(host.Host, "_time", lambda self, kernel, *rest, times=times: host.Timing(kernel, times))
        assert (host.UNSTEADY in machine("host", QUICK).run(gemm(4, 4, 4)).notes) is said
