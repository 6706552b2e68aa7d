"""Every task comes back once: from this process, from others, and from under those that die."""

import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from unruly import Unruly, ended, unruly

import sparsim as ss
from sparsim.errors import ConfigError
from sparsim.machines import machine
from sparsim.matrix import Csr
from sparsim.sweep import execute
from sparsim.sweep.execute import DIED, Pool, Task, Work, light, run_remote, run_task
from sparsim.sweep.store import model_version
from sparsim.workload import Operand, Workload

WORK = Work("auto", "", model_version())


def square(seed=0, rows=60, density=0.1):
    operand = Operand.random(rows, rows, density, seed)
    return Workload(operand, operand)


def outcomes(tasks, jobs=2, work=WORK):
    with Pool(work, jobs) as pool:
        found = list(pool.run(tasks))
    assert sorted(outcome.key for outcome in found) == sorted(task.key for task in tasks)
    return {outcome.key: outcome for outcome in found}


def test_a_record_is_the_report_of_simulate():
    matrix = square().a.csr
    found = outcomes([Task("k", square(), machine("sparch"))], jobs=1)["k"]
    assert found.error == ""
    assert found.seconds > 0
    record, report = json.loads(json.dumps(found.record)), ss.simulate(matrix)
    assert {key: record["data"][key] for key in ("cycles", "dram_bytes", "energy_pj", "machine")} == {
        key: json.loads(json.dumps(report.data[key])) for key in ("cycles", "dram_bytes", "energy_pj", "machine")
    }
    assert (record["reason"], record["notes"]) == (report.reason, list(report.notes))


def test_processes_say_the_same_and_serve_one_window_after_the_other(tmp_path):
    log = tmp_path / "log"
    tasks = [
        Task(f"{seed}-{lines}", square(seed), unruly(log=log, label="run", dram__channels=lines))
        for lines in (1, 2, 64)
        for seed in range(4)
    ]
    here = outcomes(tasks, jobs=1)
    assert {process for process, _ in ended(log)} == {os.getpid()}
    log.unlink()
    with Pool(WORK, 2) as pool:
        windows = [{outcome.key: outcome.record for outcome in pool.run(tasks)} for _ in range(3)]
    assert windows == [{key: outcome.record for key, outcome in here.items()}] * 3
    processes = {process for process, _ in ended(log)}
    assert len(processes) <= 2
    assert os.getpid() not in processes
    assert len(ended(log)) == 3 * len(tasks)


def test_nothing_to_do():
    assert outcomes([]) == {}
    assert outcomes([], jobs=1) == {}


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_error_is_an_outcome_of_one_line(jobs):
    tasks = [
        Task("good", square(), machine("sparch")),
        Task("refused", square(), machine("tpu_v1")),
        Task("defect", square(), unruly("raise")),
        Task("memory", square(), unruly("exhaust")),
    ]
    found = outcomes(tasks, jobs)
    assert found["good"].error == ""
    assert found["refused"].error.startswith("ConfigError: ")
    assert found["defect"].error == "ZeroDivisionError: of my own\\nmaking"
    assert found["memory"].error == "MemoryError"
    assert [key for key, outcome in found.items() if outcome.record is not None] == ["good"]


def test_a_figure_that_is_none_is_a_defect(monkeypatch):
    real = execute.best

    def spoilt(*arguments):
        report, priced = real(*arguments)
        return type(report)({**report.data, "time_s": float("nan")}, report.reason, report.notes), priced

    monkeypatch.setattr(execute, "best", spoilt)
    found = run_task(WORK, Task("k", square(), machine("sparch")))
    assert found.record is None
    assert found.error.startswith("ModelError: a report that cannot be kept")


def test_another_version_of_the_models_is_refused():
    found = run_task(Work("auto", "", "0.0+other"), Task("k", square(), machine("sparch")))
    assert found.error.startswith(f"ConfigError: the worker's models are version {model_version()}, the sweep's 0.0+")


def test_only_what_kills_its_worker_fails(tmp_path):
    tasks = [Task(f"t{number}", square(), unruly(seconds=0.01)) for number in range(12)]
    tasks[1] = Task("t1", square(), unruly("die once", log=tmp_path / "log"))
    tasks[8] = Task("t8", square(), unruly("die"))
    found = outcomes(tasks)
    assert {key: outcome.error for key, outcome in found.items() if outcome.error} == {"t8": DIED}
    assert all(outcome.record is not None for key, outcome in found.items() if key != "t8")


def test_what_cannot_be_sent_is_an_outcome():
    stuck = unruly()
    stuck.label = threading.Lock()
    found = outcomes([Task("stuck", square(), stuck), Task("good", square(), unruly())])
    assert "PicklingError: Could not pickle" in found["stuck"].error
    assert found["good"].error == ""


def test_a_worker_keeps_what_it_derived_for_the_next_machine(monkeypatch):
    seen = []

    class Watching(Unruly):
        def run_one(self, workload):
            seen.append(workload)
            return super().run_one(workload)

    monkeypatch.setattr(execute, "_last", {})
    monkeypatch.setattr(execute, "FORGOTTEN_AFTER_S", 1.0)
    stock = machine("cpu")
    watching = Watching(stock.name, stock.preset, stock.config, stock.baseline)
    for workload in (square(0), square(0), square(1), square(0)):
        arrived = pickle.loads(pickle.dumps(light(workload)))
        assert run_remote(WORK, "k", arrived, watching).error == ""
    assert [seen.index(workload) for workload in seen] == [0, 0, 2, 3]
    assert "nnz_c" in vars(seen[0])
    deadline = time.monotonic() + 10
    while execute._last and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not execute._last


def test_a_workload_travels_light():
    matrix = Csr.from_dense(np.eye(4) * 3)
    whole = Workload(Operand.of(matrix), Operand.of(matrix), "name", layer="layer")
    whole = Workload(whole.a, whole.b, "name", layer="layer", dense_twin=whole)
    lighter = light(whole)
    assert lighter.sha256 == whole.sha256
    assert lighter.a.matrix is lighter.b.matrix
    assert lighter.a.matrix.values is None
    assert lighter.a.matrix.indices is matrix.indices
    assert lighter.dense_twin is None
    assert (lighter.name, lighter.layer, lighter.nnz_c) == ("name", "layer", 4)
    assert light(Workload(Operand.dense(2, 3), Operand.dense(3, 2))).nnz_c == 4


@pytest.mark.skipif(sys.platform == "win32", reason="looks at files by their names")
def test_large_arrays_are_shared_in_one_file_that_goes(tmp_path):
    log = tmp_path / "log"
    shift = Operand.of(Csr.build((300_000,) * 2, np.arange(300_001), (np.arange(300_000) + 1) % 300_000))
    workload = Workload(shift, shift)
    assert shift.csr.indices.nbytes > 2**20
    tasks = [Task(str(lines), workload, unruly("tell file", log=log, dram__channels=lines)) for lines in range(1, 7)]
    assert not any(outcome.error for outcome in outcomes(tasks).values())
    files = [name for _, name in ended(log)]
    assert len(files) == 6
    assert len(set(files)) == 1
    deadline = time.monotonic() + 10
    while Path(files[0]).exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not Path(files[0]).exists()


BOUND = """
import numpy as np
from pathlib import Path
from sparsim.machines import machine
from sparsim.matrix import Csr
from sparsim.sweep.execute import Task, WORKER_BYTES, Work, run_remote
from sparsim.sweep.store import model_version
from sparsim.workload import Operand, Workload

def run(rows, points):
    columns = np.sort((np.arange(rows)[:, None] + np.arange(10)) % rows, axis=1).astype(np.int32).ravel()
    operand = Operand.of(Csr.build((rows, rows), np.arange(rows + 1) * 10, columns))
    for channels in range(1, points + 1):
        work, built = Work("auto", "", model_version()), machine("sparch", {"dram.channels": channels})
        assert run_remote(work, "k", Workload(operand, operand), built).error == ""
    return operand.nnz

def size(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))

run(1000, 1)
Path("/proc/self/clear_refs").write_text("5")  # compiling took more than any run; the peak starts anew
idle = size("VmRSS:")
nonzeros = run(40_000, 2)
print((size("VmHWM:") - idle) / nonzeros, WORKER_BYTES)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_worker_takes_no_more_memory_than_stated():
    done = subprocess.run([sys.executable, "-c", BOUND], capture_output=True, text=True, check=True)
    found, stated = map(float, done.stdout.split())
    assert found < stated


def test_leaving_early_is_quiet_and_the_next_window_runs():
    tasks = [Task(str(number), square(), unruly(seconds=0.05)) for number in range(20)]
    with Pool(WORK, 2) as pool:
        next(pool.run(tasks))
    assert len(outcomes(tasks[:3])) == 3


def test_jobs_are_one_or_more():
    with pytest.raises(ConfigError, match=r"--jobs: 0; allowed: a whole number, 1 or more"):
        Pool(WORK, 0)


SWEEP = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from unruly import unruly
from sparsim.sweep.execute import Pool, Task, Work
from sparsim.sweep.store import model_version
from sparsim.workload import Operand, Workload
operand = Operand.random(60, 60, 0.1)
tasks = [
    Task(str(number), Workload(operand, operand), unruly(seconds=min(number, 30), log=sys.argv[1], label=number))
    for number in range(8)
]
try:
    with Pool(Work("auto", "", model_version()), 2) as pool:
        for outcome in pool.run(tasks):
            print(outcome.key, outcome.error, flush=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals")
def test_control_c_in_a_terminal_ends_parent_and_workers_at_once(tmp_path):
    log = tmp_path / "log"
    child = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", SWEEP, log],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    lines = [child.stdout.readline() for _ in range(2)]
    start = time.monotonic()
    os.killpg(child.pid, signal.SIGINT)
    rest, told = child.communicate(timeout=30)
    assert time.monotonic() - start < 5
    assert {line.split()[0] for line in lines} == {"0", "1"}
    assert (rest.splitlines()[-1], told, child.returncode) == ("interrupted", "", 0)
    workers = {process for process, _ in ended(log)}
    assert workers
    deadline = time.monotonic() + 5
    while any(_lives(worker) for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(_lives(worker) for worker in workers)


def _lives(process):
    with suppress(ProcessLookupError):
        os.kill(process, 0)
        return True
    return False
