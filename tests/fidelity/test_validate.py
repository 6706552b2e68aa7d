"""``sparsim validate``: what it asserts without data, what it skips, and how a figure that is off shows."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import sys

import pytest
from checks import refused

from sparsim.cli import main
from sparsim.errors import ConfigError
from sparsim.fidelity import PAPERS, Row, validate
from sparsim.fidelity import tensor_core as tensor_core_room
from sparsim.fidelity.bench import Bench
from sparsim.fidelity.record import ASSERTED, VALIDATING
from sparsim.fidelity.sparch import laws, oracle
from sparsim.fidelity.sparch.averages import average_rows, size_rows
from sparsim.fidelity.sparch.counts import author_code_rows, floor_rows
from sparsim.fidelity.sparch.ladder import ORDERS, STEPS, ladder_rows
from sparsim.fidelity.sparch.roofline import roofline_rows
from sparsim.fidelity.sparch.workloads import generated

PUBLIC = ("wiki-Vote", "facebook", "p2p-Gnutella31", "ca-CondMat")
FEW = (
    "banded 9",
    "power law 2^10",
    "power law, mild",
    "uniform 3 a row",
    "block diagonal 16",
    "mesh 3-D",
    "one dense row",
    "one dense column",
    "hubs",
    "tall",
    "wide",
    "layer 96 x 512, 90 %",
    "power law 2^12; merge.width=8",
    "power law 2^12; prefetch.lines=256",
    "uniform 8 a row; dram.channels=8",
)


def few():
    return tuple(case for case in generated() if case.name in FEW)


@pytest.fixture
def no_data(monkeypatch):
    """Nothing was ever downloaded; few generated cases."""
    monkeypatch.setattr("sparsim.datasets.find", lambda name, folder=None: None)
    monkeypatch.setattr(laws, "generated", few)
    monkeypatch.setattr(oracle, "generated", few)


@pytest.fixture
def sparsim(monkeypatch, capsys):
    def run(*words):
        monkeypatch.setattr(sys, "argv", ["sparsim", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            main()
        return stop.value.code or 0, *capsys.readouterr()

    return run


def test_the_list_of_few_exists():
    assert len(few()) == len(FEW)


# --- without data ----------------------------------------------------------------------------------------------------


def test_laws_hold_on_generated_matrices():
    rows = list(laws.law_rows(few()))
    assert {row.verdict for row in rows} == {"ok"}
    assert {row.certainty for row in rows} == {"law"}
    assert len(rows) == len(laws.MACHINES) * (len(laws.LAWS) + 1)


def test_a_broken_law_is_off(monkeypatch):
    broken = (
        laws.Law("twice the traffic", "x", lambda r: (r.dram_bytes, 2 * r.dram_bytes)),
        laws.Law("too little", "x", lambda r: (0.9 * r.dram_bytes, r.dram_bytes), bound=True),
        laws.Law("something of nothing", "x", lambda r: (1, 0)),
    )
    monkeypatch.setattr(laws, "LAWS", broken)
    rows = list(laws.law_rows(few()[:2]))
    assert [row.verdict for row in rows] == 2 * ["off", "off", "off", "ok"]


def test_without_data_the_rest_is_skipped(no_data):
    validation = validate(["sparch", "outerspace"], progress=False)
    skipped = [row for row in validation.rows if row.verdict == "skipped"]
    assert skipped
    assert all(row.modelled is None and "needs" in row.note for row in skipped)
    assert set(PUBLIC) < set(validation.missing)
    assert "skipped: need" in validation.summary
    assert "wiki-Vote" in validation.summary
    assert {row.certainty for row in validation.rows if row.asserted} == {"law", "oracle"}
    assert "(0 validated against" in validation.summary


def test_rows_are_whole(no_data):
    for row in validate(progress=False).rows:
        assert row.paper in PAPERS
        assert row.verdict in ("ok", "off", "shown", "skipped")
        assert all((row.certainty, row.quantity, row.workload, row.unit))
        assert (row.verdict in ("ok", "off")) == (row.role in ASSERTED and row.verdict != "skipped")
        if row.tolerance is not None and row.verdict == "ok":
            assert row.error is not None
            assert abs(row.error) <= row.tolerance


def test_area_follows_from_the_configuration():
    rows = {row.quantity: row for row in size_rows()}
    assert rows["area_mm2"].error == pytest.approx(0, abs=1e-3)
    parts = sum(row.modelled for name, row in rows.items() if name.startswith("area_mm2, "))
    assert parts == pytest.approx(rows["area_mm2"].modelled)
    assert rows["compute_roof"].modelled == 32


def test_means_with_stand_ins_are_labelled(monkeypatch, no_data):
    from sparsim.fidelity.sparch.workloads import uniform

    monkeypatch.setattr("sparsim.datasets.standin", lambda name: uniform(60, 60, 300, 0))
    monkeypatch.setattr("sparsim.datasets.standin_names", lambda: ["poisson3Da", "scircuit"])
    rows = list(average_rows(Bench(stand_ins=True)))
    means = [row for row in rows if row.published is not None and row.modelled is not None]
    assert means
    assert {row.workload for row in means} == {"2 of 20 matrices, 2 of them stand-ins"}
    assert all(row.verdict == "shown" for row in rows if row.modelled is not None)
    alone = [row for row in rows if row.published is None]
    assert {row.workload for row in alone} == {"standin:poisson3Da", "standin:scircuit"}
    assert {row.certainty for row in alone} == {"unpublished"}


# --- off -------------------------------------------------------------------------------------------------------------


def test_a_tolerance_that_does_not_hold_is_off_and_exit_code_one(monkeypatch, sparsim):
    code, out, _ = sparsim("validate", "tensor_core")
    assert code == 0
    monkeypatch.setattr(tensor_core_room, "TOLERANCE", dict.fromkeys(tensor_core_room.TOLERANCE, 0.0))
    broken, told, _ = sparsim("validate", "tensor_core")
    assert broken == 1
    assert "off: tensor_core, time, " in told
    assert "off:" not in out


def test_the_summary_counts():
    row = Row("sparch", "q", "w", "x", 1.0, 1.0, 0.0, 0.1, "paper", "check", "ok")
    rows = (
        row,
        dataclasses.replace(row, certainty="recalled"),
        dataclasses.replace(row, certainty="author_code", verdict="off"),
        dataclasses.replace(row, role="shown", verdict="shown"),
        dataclasses.replace(row, verdict="skipped", modelled=None, note="needs wiki-Vote"),
    )
    from sparsim.fidelity import Validation

    validation = Validation(rows, ("scircuit", "wiki-Vote"))
    assert validation.summary.startswith("2 of 3 asserted rows hold (1 validated")
    assert "1 skipped: need wiki-Vote" in validation.summary
    assert not validation.holds
    assert "off: sparch: q of w" in repr(validation)
    assert len(validation.to_frame()) == 5
    assert {"paper", "measured", "author_code"} == set(VALIDATING)


# --- the command ------------------------------------------------------------------------------------------------------


def test_json_and_csv_hold_every_row(sparsim):
    code, out, err = sparsim("validate", "tensor_core", "--json")
    rows = json.loads(out)
    assert (code, err) == (0, "")
    names = [field.name for field in dataclasses.fields(Row)]
    assert all(list(row) == names for row in rows)
    assert {"check", "calibrate", "excluded", "shown"} == {row["role"] for row in rows}
    _, table, _ = sparsim("validate", "tensor_core", "--csv")
    assert [line["workload"] for line in csv.DictReader(io.StringIO(table))] == [row["workload"] for row in rows]


def test_table_says_what_is_known_how_well(sparsim, no_data):
    code, out, _ = sparsim("validate", "outerspace")
    assert code == 0
    for word in ("published", "model", "error", "verdict", "third_party", "skipped", "asserted rows hold"):
        assert word in out
    assert "mm2" not in out
    assert "mm2" in sparsim("validate", "outerspace", "--all")[1]


def test_wrong_words(sparsim, tmp_path):
    refused(lambda: validate(["spach"]), "spach", "did you mean 'sparch'", kind=ConfigError)
    refused(lambda: validate(folder=tmp_path / "none"), "--data", "no folder", kind=ConfigError)
    code, _, err = sparsim("validate", "--json", "--csv")
    assert code == 2
    assert "--json" in err


# --- the oracle ------------------------------------------------------------------------------------------------------


def test_fast_model_against_the_oracle():
    *rows, mean, worst = oracle.oracle_rows(Bench(), few())
    assert len(rows) == len(FEW)
    assert mean.verdict == "ok", f"{mean.modelled:.1%} {mean.note}"
    assert worst.verdict == "ok", worst.note


def test_a_model_far_from_the_oracle_is_off(monkeypatch):
    class Run:
        cycles = 1

    monkeypatch.setattr(oracle, "run_cycles", lambda a, b, config, widths: Run())
    *rows, mean, worst = oracle.oracle_rows(Bench(), few()[:2])
    assert [row.verdict for row in rows] == ["shown", "shown"]
    assert mean.verdict == worst.verdict == "off"


# --- the public matrices ---------------------------------------------------------------------------------------------


@pytest.fixture
def public(real_data, tmp_path):
    """Some public matrices, so that a run stays short; ``sparsim validate --data`` takes all."""

    def choose(*names):
        for name in names:
            (tmp_path / f"{name}.mtx").symlink_to(real_data / "matrices" / f"{name}.mtx")
        return tmp_path

    return choose


@pytest.mark.real_data
def test_nothing_asserted_is_off_on_the_public_matrices(public):
    bench = Bench(public(*PUBLIC))
    rooms = (author_code_rows, floor_rows, roofline_rows, average_rows)
    rows = [row for room in rooms for row in room(bench)]
    assert [row for row in rows if row.verdict == "off"] == []
    assert sum(row.asserted and row.certainty in VALIDATING for row in rows) >= 30
    shown = {row.quantity: row for row in rows if row.published is not None and row.verdict == "shown"}
    assert shown["gflops"].workload == "4 of 20 matrices"
    assert all(row.note for row in rows if row.quantity == "gflops")


@pytest.mark.real_data
def test_outerspace_on_the_public_matrices(public):
    rows = validate(["outerspace"], folder=public(*PUBLIC), progress=False).rows
    assert [row for row in rows if row.verdict == "off"] == []
    assert sum(row.verdict == "ok" for row in rows) >= 12


@pytest.mark.real_data
def test_ladder_has_every_step_in_every_order(public):
    rows = list(ladder_rows(Bench(public("wiki-Vote"))))
    steps = {f"ladder_{kind}, {step}" for kind in ("traffic", "speed") for step in STEPS}
    assert {row.quantity for row in rows} == steps
    orders = [row.note.rpartition(": ")[2] for row in rows if "unscheduled" in row.note]
    assert {order: orders.count(order) for order in orders} == dict.fromkeys(ORDERS, 6)
    assert {row.workload for row in rows} == {"1 of 20 matrices"}
    by_step = {row.quantity: row.modelled for row in rows if row.quantity.startswith("ladder_traffic")}
    reports = Bench(public()).report  # the factors multiply to the whole
    whole = reports("wiki-Vote", "outerspace").dram_bytes / reports("wiki-Vote", "sparch").dram_bytes
    climbed = by_step["ladder_traffic, + prefetcher"] / by_step["ladder_traffic, pipelined only"]
    climbed *= by_step["ladder_traffic, + condensing"] * by_step["ladder_traffic, + Huffman"]
    assert climbed == pytest.approx(whole)
