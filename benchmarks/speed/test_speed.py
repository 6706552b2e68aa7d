"""The cases under pytest-benchmark: ``pytest -n 0 benchmarks/speed/test_speed.py``. Counts are asserted, times never.

Without options the small cases run, as ``speed.py --quick`` has them. ``SPARSIM_BENCHMARK_DATA`` names a data folder,
whose real matrices then run too.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("pytest_benchmark")

sys.path.insert(0, str(Path(__file__).resolve().parent))

import cases
import measure
import memory
import sampling
import scale
import speed
import tables

from sparsim.machines import sparch_estimate

DATA = Path(os.environ["SPARSIM_BENCHMARK_DATA"]) if "SPARSIM_BENCHMARK_DATA" in os.environ else None
SMALL = [case for group in cases.GROUPS for case in cases.cases(None, group) if case.name in cases.QUICK]
CASES = SMALL + (list(cases.cases(DATA, "real")) if DATA else [])


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def product(request):
    built = request.param.build()
    cases.tiny(built.columns).simulate()
    assert request.param.multiplies in (None, built.multiplies)
    return built


@pytest.mark.benchmark(group="simulate", min_rounds=2, max_time=0.2, warmup=False)
def test_simulate(benchmark, product):
    report = benchmark(product.simulate)
    assert report["workload.multiplies"] == product.multiplies


@pytest.mark.benchmark(group="scipy", min_rounds=2, max_time=0.2, warmup=False)
def test_scipy(benchmark, product):
    a, b = product.scipy_operands()
    c = benchmark(lambda: a @ b)
    assert c.nnz == product.simulate()["workload.nnz_c"]


def test_estimates_beside_the_exact_run(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sparch_estimate, "LEAST_PRODUCTS", 10_000)
    monkeypatch.setattr(sparch_estimate, "LEAST_ROWS", 1)
    monkeypatch.setattr(sparch_estimate, "LEAST_OF_ROUND", 0)
    out = tmp_path / "sampling.json"
    sampling.main(["--cases", "banded 1e5", "--fraction", "0.3", "--seeds", "2", "--json", str(out)])
    row, *others = json.loads(out.read_text())["rows"]
    assert not others
    assert row["case"] == "banded 1e5"
    assert abs(row["workload.nnz_c"]["mean"]) < 0.05
    assert 0 <= row["cycles.total"]["held"] <= 2
    assert "of the time" in capsys.readouterr().out


def test_the_table_the_json_and_the_plot(tmp_path, capsys):
    out, picture = tmp_path / "speed.json", tmp_path / "scale.png"
    words = ["--quick", "--parts", "peers", "generated", "--case", "g64", "--case", "banded 1e5"]
    speed.main([*words, "--json", str(out), "--plot", str(picture)])
    shown = capsys.readouterr().out
    found = json.loads(out.read_text())
    assert [row["case"] for row in found["rows"]] == ["g64", "banded 1e5"]
    assert all(part in row["stages_s"] for row in found["rows"] for part in ("rounds", "prefetch", "pipeline"))
    assert found["stream_bytes_per_s"] > 0
    assert "g64" in shown
    assert "Times slower than scipy" in shown
    assert picture.stat().st_size > 0
    speed.main(["--report", str(out)])
    assert capsys.readouterr().out == shown


def test_the_stages_are_still_where_the_benchmark_looks():
    row = measure.measured(SMALL[0], 1e9, least=1, at_least_s=0.0)
    assert None not in row["stages_s"].values()
    assert sum(row["stages_s"].values()) <= row["sparsim_s"]


def test_two_threads_stand_beside_one_where_they_can_be_chosen(monkeypatch):
    asked, simulate = [], cases.Product.simulate

    def chosen(product, **options):
        asked.append(options.pop("threads"))
        return simulate(product, **options)

    monkeypatch.setattr(measure, "takes_threads", lambda: True)
    monkeypatch.setattr(cases.Product, "simulate", chosen)
    row = measure.measured(SMALL[0], 1e9, least=1, at_least_s=0.0)
    assert asked == [1, 1, 2]  # a tiny product first
    assert row["ratio_2_threads"] == pytest.approx(row["sparsim_2_threads_s"] / row["scipy_s"])


def test_memory_is_measured_in_a_process_of_its_own():
    if not memory.STATUS.exists():
        pytest.skip("no /proc here")
    found = memory.peak_memory("uniform 1e5", "generated", None)
    assert found["memory_bytes"] >= 0
    held = next(case for case in SMALL if case.name == "uniform 1e5").build().input_bytes
    assert found["memory_allowed_bytes"] == 2 * held + 64_000_000


def test_a_count_that_differs_is_an_error(monkeypatch):
    wrong = cases.Case("wrong", "generated", cases.tiny)
    monkeypatch.setattr(cases.Product, "multiplies", 1)
    with pytest.raises(measure.MultipliesDifferError, match=r"multiplies .* 1 in scipy"):
        measure.measured(wrong, 1e9, least=1, at_least_s=0.0)


def test_slopes_are_exponents():
    rows = [
        {"case": f"banded {n}", "products": 10.0**n, "sparsim_s": 10.0**n, "scipy_s": 10.0 ** (n / 2)}
        for n in (5, 6, 7)
    ]
    assert scale.slopes(rows) == {"banded": pytest.approx({"sparsim_s": 1.0, "scipy_s": 0.5})}


def test_peers_are_numbers_beside_a_known_workload():
    known = {case.name for case in cases.cases(None, "peers")}
    peers = tables.peer_rows()
    assert {row["workload"] for row in peers} <= known
    assert all(row["cpu_s"] > 0 and row["status"] in ("measured", "extrapolated") for row in peers)


def test_goals_are_judged_on_the_right_rows():
    row = {
        "group": "real",
        "case": "x",
        "ratio": 0.2,
        "ratio_2_threads": None,
        "products": 10**7,
        "products_per_s": 2e8,
    }
    rows = [
        row | {"symbolic_ratio": 2.0, "ns_per_nonzero_of_a": None},
        row | {"case": "y", "ratio": 0.8, "symbolic_ratio": 4.0, "ns_per_nonzero_of_a": None},
        row | {"group": "layers", "products": 10, "ratio": 9.0, "symbolic_ratio": 99.0, "ns_per_nonzero_of_a": 99.0},
    ]
    found = tables.summary(rows)
    assert found["ratio"] == pytest.approx(0.4)
    assert (found["worst"], found["worst_case"]) == (0.8, "y")
    assert (found["symbolic"], found["symbolic_case"]) == (4.0, "y")
    assert "layers_products_per_s" not in found


def test_a_missing_data_folder_is_said(tmp_path, capsys):
    options = SimpleNamespace(data=None, parts=["real"], quick=False, case=None)
    assert speed._chosen(options) == []
    assert "without --data" in capsys.readouterr().err
