"""One row a point: the same figures as one comparison at a time, each run once, nothing lost."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

import sparsim as ss
from sparsim.errors import ConfigError, InputError, WorkloadError
from sparsim.network import Layer, Network
from sparsim.sweep import Interrupted, cases, estimate, failures, points, run
from sparsim.sweep.store import Store

QUIET = {"progress": False, "jobs": 1}


@pytest.fixture
def ran(monkeypatch):
    """Count the tasks that run in this process."""
    keys = []
    real = run.Pool.run

    def counting(self, tasks):
        for outcome in real(self, tasks):
            keys.append(outcome.key)
            yield outcome

    monkeypatch.setattr(run.Pool, "run", counting)
    return keys


def small_network(seed=0, name="small"):
    rng = np.random.default_rng(seed)
    weights = [rng.standard_normal((16, 24)) * (rng.random((16, 24)) < 0.8) for _ in range(3)]
    layers = [Layer(f"fc{number}", weight) for number, weight in enumerate(weights)]
    return Network(name, (*layers, Layer("twin of fc0", layers[0].weight)))


def small_matrix(seed=0, size=60):
    return sp.random_array((size, size), density=0.05, format="csr", rng=seed)


def test_a_row_has_the_figures_of_a_comparison(tmp_path):
    fields = {"prefetch.lines": [64, 1024], "dram.channels": [8]}
    frame = ss.sweep(
        "lenet300_100",
        on=["sparch", "a100-2:4"],
        fields=fields,
        granularity=["dense", "unstructured", "2:4"],
        sparsity=[0.9],
        batch=[1, 16],
        store=tmp_path / "s",
        **QUIET,
    )
    assert len(frame) == 3 * 2 * (2 + 1)
    assert (frame["error"] == "").all()
    for lines in (64, 1024):
        compared = ss.compare(
            "lenet300_100",
            on=["sparch", "a100-2:4"],
            granularity=["unstructured", "2:4"],
            sparsity=[0.9],
            batch=[1, 16],
            overrides={"prefetch.lines": lines, "dram.channels": 8},
            jobs=1,
            progress=False,
        )
        for total in compared.totals:
            mine = frame[
                (frame["machine.name"] == total["machine.name"])
                & (frame["granularity"] == total["granularity"])
                & (frame["batch"] == total["batch"])
                & (frame["prefetch.lines"].isin([lines]) | frame["prefetch.lines"].isna())
            ]
            (row,) = mine.to_dict("records")
            for key, value in total.items():
                assert row[key] == value or (value != value and row[key] != row[key]) or value is None, key


def test_a_matrix_by_itself_has_one_row_with_the_figures_of_simulate(tmp_path):
    matrix = small_matrix()
    frame = ss.sweep(
        matrix, on=["sparch", "outerspace"], fields={"dram.channels": [4, 16]}, store=tmp_path / "s", **QUIET
    )
    assert len(frame) == 4
    for row in frame.to_dict("records"):
        report = ss.simulate(matrix, on=row["machine.name"], overrides={"dram.channels": row["dram.channels"]})
        flat = report.flat()
        keys = [key for key in flat if not key.startswith(("machine.config", "workload.name", "workload.layer"))]
        assert {key: row[key] for key in keys} == {key: flat[key] for key in keys}
        twin = ss.simulate(matrix, on=row["baseline"])
        assert row["speedup"] == twin.time_s / report.time_s
        assert row["machine.config.dram.channels"] == row["dram.channels"]
        assert (row["layer"], row["workload.dtype"]) == ("total", "fp64")


def test_columns_make_a_matrix_a_layer_that_is_pruned(tmp_path):
    weights = np.random.default_rng(0).standard_normal((32, 64))
    options = {"granularity": ["unstructured"], "sparsity": [0.5], "columns": 10, "store": tmp_path / "s", **QUIET}
    frame = ss.sweep(weights, **options)
    assert frame["workload.multiplies"].tolist() == [32 * 64 // 2 * 10]
    assert frame["workload.dtype"].tolist() == ["fp16"]
    with pytest.raises(ConfigError, match=r"'matrix' is a matrix, .*; allowed: a number of columns"):
        ss.sweep(weights[:, :32], granularity="2:4", store=tmp_path / "s", **QUIET)


def test_equal_layers_run_once_and_a_rerun_runs_nothing(tmp_path, ran):
    options = {"on": ["sparch"], "batch": [4], "store": tmp_path / "s", **QUIET}
    first = ss.sweep(small_network(), **options)
    assert len(ran) == len(set(ran)) == 3 + 1  # three different layers on sparch, equal shapes on its dense twin
    again = ss.sweep(small_network(), **options)
    assert len(ran) == 4
    assert first.equals(again)
    wider = ss.sweep(small_network(), **options, fields={"merge.width": [16, 8]})
    assert len(ran) == 4 + 3
    assert wider["time_s"][0] == first["time_s"][0]


def test_a_rerun_does_not_even_prune(tmp_path, monkeypatch):
    options = {"granularity": "unstructured", "sparsity": [0.5, 0.9], "store": tmp_path / "s", **QUIET}
    first = ss.sweep(small_network(), **options)

    def forbidden(*_):
        raise AssertionError("pruned again")

    monkeypatch.setattr(cases, "variant", forbidden)
    assert first.equals(ss.sweep(small_network(), **options))


def test_other_content_is_another_point(tmp_path, ran):
    options = {"store": tmp_path / "s", **QUIET}
    ss.sweep(small_matrix(0), **options)
    before = len(ran)
    ss.sweep(small_matrix(0), **options, dtype="fp32")
    ss.sweep(small_matrix(1), **options)
    ss.sweep(small_matrix(0), **options, energy="han_45nm")
    assert len(ran) == len(set(ran)) == 4 * before
    ss.sweep(small_matrix(0), **options)
    assert len(ran) == 4 * before


def test_another_version_of_the_models_is_another_point(tmp_path, ran, monkeypatch):
    ss.sweep(small_matrix(), store=tmp_path / "s", **QUIET)
    before = len(ran)
    for module in (points, cases):
        monkeypatch.setattr(module, "model_version", lambda: "another")
    ss.sweep(small_matrix(), store=tmp_path / "s", **QUIET)
    assert len(ran) == 2 * before


def test_points_do_not_depend_on_the_number_of_processes(tmp_path):
    options = {"fields": {"dram.channels": [1, 2, 4]}, "granularity": "unstructured", "sparsity": [0.5, 0.9]}
    one = ss.sweep(small_network(), **options, store=tmp_path / "one", **QUIET)
    two = ss.sweep(small_network(), **options, store=tmp_path / "two", progress=False, jobs=2)
    assert one.equals(two)


def test_a_failing_point_is_a_row_and_runs_again(tmp_path, ran):
    options = {"on": ["sparch", "tpu_v1"], "batch": [4], "dtype": "fp16", "store": tmp_path / "s", **QUIET}
    frame = ss.sweep(small_network(), **options)
    good, bad = frame.to_dict("records")
    assert good["error"] == ""
    assert bad["machine.name"] == "tpu_v1"
    assert bad["error"].startswith("layer fc0: ConfigError: ")
    assert np.isnan(bad["time_s"])
    assert failures(frame.to_dict("records")) == 1
    before = len(ran)
    ss.sweep(small_network(), **options)
    assert 0 < len(ran) - before < before


def test_a_combination_that_cannot_be_built_is_a_row(tmp_path):
    fields = {"dram.write_low": [2, 60], "dram.write_high": [24]}
    frame = ss.sweep(small_matrix(), fields=fields, store=tmp_path / "s", **QUIET)
    assert [bool(error) for error in frame["error"]] == [False, True]
    assert frame["dram.write_low"].tolist() == [2, 60]


def test_a_pattern_that_does_not_fit_is_a_row(tmp_path):
    frame = ss.sweep(
        small_network(), granularity=["kernel_pattern:4", "2:4"], sparsity=0.5, store=tmp_path / "s", **QUIET
    )
    assert frame["error"].tolist()[1] == ""
    assert "kernel" in frame["error"][0]
    assert frame["granularity"].tolist() == ["kernel_pattern:4", "2:4"]


def test_one_bad_file_of_several_is_a_row_and_alone_an_error(tmp_path):
    (tmp_path / "bad.mtx").write_text("%%MatrixMarket matrix coordinate real general\n3 3 9\n1 1 1.0\n")
    frame = ss.sweep([str(tmp_path / "bad.mtx"), small_matrix()], store=tmp_path / "s", **QUIET)
    assert "bad.mtx" in frame["error"][0]
    assert frame["error"][1] == ""
    with pytest.raises(InputError, match=r"bad\.mtx"):
        ss.sweep(str(tmp_path / "bad.mtx"), store=tmp_path / "s", **QUIET)


def test_a_matrix_among_networks_is_neither_pruned_nor_batched(tmp_path):
    options = {"granularity": ["unstructured"], "sparsity": [0.5, 0.9], "store": tmp_path / "s"}
    for progress in (True, False):  # an estimate, which announces a long sweep, opens the inputs first
        frame = ss.sweep([small_matrix(), small_network()], jobs=1, progress=progress, **options)
        assert ["neither pruned nor run in batches" in error for error in frame["error"]] == [True, True, False, False]
    single = ss.sweep([small_matrix(), small_network()], batch=[1, 4], store=tmp_path / "s", **QUIET)
    assert ["run in batches" in error for error in single["error"]] == [True, True, False, False]


def test_a_matrix_that_is_not_square_is_one_line_or_a_row(tmp_path):
    wide = sp.random_array((20, 30), density=0.1, format="csr", rng=0)
    with pytest.raises(WorkloadError, match="20 x 30, not square"):
        ss.sweep(wide, store=tmp_path / "s", jobs=1)
    frame = ss.sweep([wide, small_matrix()], store=tmp_path / "s", jobs=1)
    assert ["not square" in error for error in frame["error"]] == [True, False]


def test_sample_is_an_entry_of_python_and_of_a_file(tmp_path):
    matrix = tmp_path / "a.npz"
    sp.save_npz(matrix, small_matrix())
    frame = ss.sweep(matrix, sample=[0, 0.05], fields={"prefetch.lines": 64}, store=tmp_path / "s", **QUIET)
    assert list(frame["sample.fraction"]) == [0, 0.05]
    assert list(frame["prefetch.lines"]) == [64, 64]
    (tmp_path / "grid.toml").write_text('inputs = ["a.npz"]\nsample = 0.05\n')
    frame = ss.sweep(grid=tmp_path / "grid.toml", store=tmp_path / "s", **QUIET)
    assert list(frame["sample.fraction"]) == [0.05]
    frame = ss.sweep(grid=ss.Grid.of(inputs=[str(matrix)]), sample=0.1, store=tmp_path / "s", **QUIET)
    assert list(frame["sample.fraction"]) == [0.1]


@pytest.mark.parametrize("sample", [float("nan"), -1, 1.5, "much", True])
def test_a_sample_that_is_no_share_is_one_line(tmp_path, sample):
    for call in (
        lambda: ss.sweep(small_matrix(), sample=sample, store=tmp_path / "s", **QUIET),
        lambda: ss.compare(small_network(), on=["sparch"], sample=sample),
        lambda: ss.simulate(small_matrix(), sample=sample),
    ):
        with pytest.raises(ConfigError, match=r"--sample: .*; allowed: a share from 0"):
            call()


def test_a_sample_without_machines_that_estimate_is_refused_alike(tmp_path):
    for call in (
        lambda: ss.sweep(small_matrix(), on="dense", sample=0.05, store=tmp_path / "s", **QUIET),
        lambda: ss.compare(small_network(), on=["dense"], sample=0.05),
        lambda: ss.simulate(small_matrix(), on="dense", sample=0.05),
    ):
        with pytest.raises(ConfigError, match=r"--sample: .*exact; allowed: with sparch"):
            call()


def test_a_run_that_points_share_is_estimated_once(tmp_path):
    matrix, fields = small_matrix(), {"prefetch.lines": [32, 64, 128]}
    ss.sweep(matrix, on="outerspace", store=tmp_path / "s", **QUIET)  # so that the store knows the case
    expected = estimate(matrix, fields=fields, store=tmp_path / "s", jobs=1)
    assert (expected.points, expected.finished, expected.runs) == (3, 0, 4)  # three and their dense twin


def test_layers_stand_before_their_network(tmp_path):
    frame = ss.sweep(small_network(), layers=True, batch=2, store=tmp_path / "s", **QUIET)
    assert frame["layer"].tolist() == ["fc0", "fc1", "fc2", "twin of fc0", "total"]
    assert frame["time_s"][:4].sum() == pytest.approx(frame["time_s"][4])
    assert frame["time_s"][0] == frame["time_s"][3]
    assert failures(frame.to_dict("records")) == 0


def test_the_host_is_measured_every_time_and_kept_nowhere(tmp_path):
    options = {"on": "host", "columns": 4, "dtype": "fp32", "store": tmp_path / "s", **QUIET}
    assert (ss.sweep(np.eye(32), **options)["error"] == "").all()
    with Store(tmp_path / "s") as store:
        assert len(store) == 0


def test_degenerate_inputs(tmp_path):
    for matrix in (np.zeros((4, 4)), np.ones((1, 1)), np.eye(5)):
        (row,) = ss.sweep(matrix, store=tmp_path / "s", **QUIET).to_dict("records")
        assert row["error"] == ""
        assert row["workload.multiplies"] == (matrix @ matrix).sum()


def test_estimates_know_points_runs_and_what_is_there(tmp_path):
    options = {"fields": {"dram.channels": [4, 8, 16]}, "store": tmp_path / "s"}
    before = estimate(small_matrix(), **options, jobs=2)
    assert (before.points, before.finished, before.processes) == (3, 0, 2)
    assert before.runs >= 3
    assert before.seconds > 0
    assert before.wall_s == before.seconds / 2
    ss.sweep(small_matrix(), **options, **QUIET)
    after = estimate(small_matrix(), **options)
    assert (after.points, after.finished, after.runs, after.seconds) == (3, 3, 0, 0.0)
    assert "3 points, 3 of them in the store" in str(after)


SWEEP = """
import sys, scipy.sparse as sp, sparsim as ss
matrix = sp.random_array((400, 400), density=0.02, format="csr", rng=0)
fields = {"prefetch.lines": list(range(1, 120))}
ss.sweep(matrix, fields=fields, store=sys.argv[1], jobs=int(sys.argv[2]), progress=False)
"""


def started(path, jobs):
    """Start a sweep in a process of its own; return it once some of its runs are kept."""
    child = subprocess.Popen([sys.executable, "-c", SWEEP, path, str(jobs)], stderr=subprocess.PIPE, text=True)
    kept = 0
    while kept < 10 and child.poll() is None:
        time.sleep(0.02)
        if Path(path).exists():
            with Store(path) as store:
                kept = len(store)
    assert child.poll() is None, child.stderr.read()
    return child


def test_kill_minus_nine_loses_nothing_that_was_finished(tmp_path, ran):
    path = str(tmp_path / "killed")
    child = started(path, 1)
    os.kill(child.pid, signal.SIGKILL)
    child.communicate()
    with Store(path) as store:
        kept = len(store)
    matrix = sp.random_array((400, 400), density=0.02, format="csr", rng=0)
    options = {"fields": {"prefetch.lines": list(range(1, 120))}, **QUIET}
    frame = ss.sweep(matrix, **options, store=path)
    assert len(ran) == 120 - kept  # 119 points and one dense twin
    assert frame.equals(ss.sweep(matrix, **options, store=tmp_path / "fresh"))


@pytest.mark.parametrize("jobs", [1, 2])
def test_control_c_keeps_what_is_finished(tmp_path, jobs):
    path = str(tmp_path / "interrupted")
    child = started(path, jobs)
    child.send_signal(signal.SIGINT)
    _, told = child.communicate(timeout=60)
    assert "interrupted: " in told.splitlines()[-1]
    assert "the same call goes on from there" in told.splitlines()[-1]
    with Store(path) as store:
        assert 10 <= len(store) < 120


def test_interrupted_is_a_keyboard_interrupt():
    assert issubclass(Interrupted, KeyboardInterrupt)


def test_the_command_says_the_same_as_python(sparsim, tmp_path):
    store = tmp_path / "s"
    fields = ["--set", "merge.width=4,16", "--set", "condense=true,false"]
    code, out, err = sparsim("sweep", "lenet300_100", *fields, "--jobs", 1, "--store", store, "--json")
    assert code == 0, err
    rows = json.loads(out)
    frame = ss.sweep("lenet300_100", fields={"merge.width": [4, 16], "condense": [True, False]}, store=store, **QUIET)
    assert [(row["merge.width"], row["condense"], row["time_s"]) for row in rows] == list(
        zip(frame["merge.width"], frame["condense"], frame["time_s"], strict=True)
    )
    code, out, err = sparsim("sweep", "lenet300_100", *fields, "--store", store)
    assert "merge." in out
    assert code == 0


def test_the_command_reads_a_file_and_says_what_failed(sparsim, tmp_path):
    (tmp_path / "sweep.toml").write_text("inputs = 'lenet300_100'\non = ['sparch', 'tpu_v1']\n")
    common = ["sweep", "--grid", tmp_path / "sweep.toml", "--store", tmp_path / "s"]
    code, out, err = sparsim(*common, "--jobs", 1)
    assert code == 1
    assert "failed: tpu_v1, lenet300_100: " in out
    assert err.splitlines()[-1] == "1 of 2 points failed; column 'error' says why"
    assert sparsim(*common, "--on", "sparch")[0] == 0
    code, out, err = sparsim(*common, "--dry-run", "--on", "sparch", "--set", "merge.width=2,4")
    assert out.startswith("sweep: 2 points")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nowhere.mtx"], "error: nowhere.mtx: no such file or folder"),
        (["lenet5", "--set", "dram.channels"], "error: --set: 'dram.channels'; allowed: FIELD=V1,V2"),
        (["lenet5", "--set", "dram.channels=,"], "error: --set dram.channels: nothing given"),
        (["lenet5", "--set", "merge.width=2", "--set", "merge.width=3"], "error: --set: 'merge.width' twice"),
        (["lenet5", "--on", "sparchh"], "error: machine: no machine 'sparchh'; did you mean 'sparch'?"),
        (["lenet5", "--granularity", "unstructured"], "error: --sparsity: 'unstructured' needs a sparsity"),
        ([], "error: inputs: nothing to simulate"),
        (["lenet5", "--energy", "coal"], "coal"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_two(sparsim, tmp_path, arguments, told):
    code, _, err = sparsim("sweep", *arguments, "--store", tmp_path / "s")
    assert code == 2
    assert told in err
    assert len(err.strip().splitlines()) == 1
