"""SCALE-Sim's counts are whole and equal to the model's; SIGMA's times follow from one formula."""

from __future__ import annotations

import pytest

from sparsim.fidelity import systolic, validate
from sparsim.fidelity.bench import Bench
from sparsim.fidelity.record import read_published
from sparsim.io.scalesim import topology_layer
from sparsim.machines import machine
from sparsim.workload import layer_workload

CASES = systolic.cases()


def test_counts_cover_layers_dataflows_and_arrays():
    assert len({case["layer"] for case in CASES}) >= 50
    assert {case["dataflow"] for case in CASES} == {"ws", "is", "os"}
    arrays = {(case["rows"], case["cols"]) for case in CASES}
    assert {("4", "4"), ("8", "8"), ("16", "32"), ("32", "16"), ("128", "128")} <= arrays
    whole = [layer for layer in {case["layer"] for case in CASES} if _dataflows(layer) == 3]
    assert len(whole) >= 40
    assert {case["version"] for case in CASES} == {"3.0.0"}


def _dataflows(layer):
    return len({case["dataflow"] for case in CASES if case["layer"] == layer})


def test_reports_of_whole_runs_print_the_last_index():
    whole = [case for case in CASES if case["report"]]
    assert len(whole) >= 100
    assert all(int(case["report"]) == int(case["cycles"]) - 1 for case in whole)


def test_every_case_is_equal_to_the_cycle():
    wrong = [case for case in CASES if systolic.scalesim_cycles(case) != int(case["cycles"])]
    assert not wrong


@pytest.mark.parametrize("case", CASES[::25], ids=lambda case: f"{case['layer']}, {case['dataflow']}")
def test_a_machine_whose_memory_holds_all_takes_the_same(case):
    fields = {f"array.{key}": int(case[key]) for key in ("rows", "cols")} | {"array.dataflow": case["dataflow"]}
    roomy = {"on_chip.bytes": 2**50, "dram.gb_s_per_channel": 1e6}
    layer = topology_layer(case["layer"], *(int(case[key]) for key in systolic.SHAPE))
    activity = machine("systolic", fields | roomy).run(layer_workload(layer))
    assert activity.stages["multiply"].busy == int(case["cycles"])


def test_sigmas_array_by_its_own_formula():
    """Folds x (T + min(k, 128) + 128), the better of holding A or B: derived from the ten times, exact for all."""
    times = [figure for figure in read_published("systolic") if figure.quantity == "tpu_like_time"]
    assert len(times) == 10
    for figure in times:
        m, n, k = (int(word) for word in figure.workload.split("x"))
        fold = min(k, 128) + 128
        held = [-(-k // 128) * -(-stays // 128) * (streams + fold) for stays, streams in ((m, n), (n, m))]
        assert min(held) == figure.value


def test_a_wrong_count_is_off(monkeypatch):
    case = CASES[0]
    monkeypatch.setattr(systolic, "cases", lambda: [case, case | {"cycles": str(int(case["cycles"]) + 1)}])
    rows = [row for row in systolic.rows(Bench()) if row.quantity.startswith("layers with")]
    assert [(row.published, row.modelled, row.verdict) for row in rows] == [(2, 1, "off")]


def test_rows_hold():
    validation = validate(["systolic"], progress=False)
    assert validation.holds
    assert len([row for row in validation.rows if row.role == "detail"]) == len(CASES)
    assert len([row for row in validation.rows if row.asserted]) == 15 + 10 + 2
    assert "(0 validated against" in validation.summary
