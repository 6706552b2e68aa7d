"""What a killed worker costs a sweep: points, runs, repeats and losses, on a Dask cluster and on processes.

Run from the repository root: ``python benchmarks/sweep/cluster.py --workers 4``. The same sweep runs on a
``LocalCluster`` and on joblib's processes, with an empty store each time, once untouched and once with a worker killed
(SIGKILL) when a third of the runs are in the store. Every run leaves a line in a log when it begins and when it ends,
from which what was done twice is counted; what is lost are rows with an error, or other figures than in the
untouched sweep.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import sparsim as ss
from sparsim.datasets import rmat
from sparsim.machines import machine
from sparsim.machines.sparch import SpArch
from sparsim.sweep.store import Store

MATRICES = 6
ROWS = 2000


class Logged(SpArch):
    """SpArch that says in a file when a run begins and ends; the file is where the environment says."""

    def run_one(self, workload: Any) -> Any:
        """Run, and say so."""
        label = f"{workload.sha256[:8]}{self.config_sha256[:8]}"
        _say("begins", label)
        time.sleep(float(os.environ["SPARSIM_BENCH_SLEEP"]))
        activity = super().run_one(workload)
        _say("ends", label)
        return activity


def _say(what: str, label: str) -> None:
    with Path(os.environ["SPARSIM_BENCH_LOG"]).open("a", encoding="utf-8") as file:
        file.write(f"{what} {label} {os.getpid()}\n")


class Result(NamedTuple):
    """What one sweep came to.

    Parameters
    ----------
    frame : its rows.
    begun, ended : how often each run did.
    seconds : it took.
    """

    frame: Any
    begun: Counter[str]
    ended: Counter[str]
    seconds: float


def kill_one(log: Path, store: Path, after: int) -> int:
    """Wait until so many runs are kept, then kill the process that ended one last; return it."""
    while True:
        if store.exists():
            with Store(store) as kept:
                if len(kept) >= after:
                    break
        time.sleep(0.02)
    process = int([line for line in log.read_text().splitlines() if line.startswith("ends")][-1].split()[2])
    os.kill(process, signal.SIGKILL)
    return process


def sweep(points: int, folder: Path, kill: bool, **who: Any) -> Result:
    """Run the sweep once, with an empty store."""
    log, store = Path(os.environ["SPARSIM_BENCH_LOG"]), folder / "store.sqlite"
    for left in (log, *folder.glob("store.sqlite*")):
        left.unlink(missing_ok=True)
    if kill:
        threading.Thread(target=kill_one, args=(log, store, points // 3), daemon=True).start()
    stock = machine("sparch")
    channels = list(range(1, points // MATRICES + 1))
    matrices = [rmat(ROWS, ROWS * 8, seed=seed).to_scipy() for seed in range(MATRICES)]
    start = time.monotonic()
    frame = ss.sweep(
        matrices,
        on=Logged(stock.name, stock.preset, stock.config, stock.baseline),
        fields={"dram.channels": channels},
        store=store,
        progress=False,
        **who,
    )
    seconds = time.monotonic() - start
    lines = [line.split() for line in log.read_text(encoding="utf-8").splitlines()]
    begun, ended = (Counter(line[1] for line in lines if line[0] == what) for what in ("begins", "ends"))
    return Result(frame, begun, ended, seconds)


def show(name: str, untouched: Result, killed: Result) -> None:
    """Print a line for each of the two sweeps."""
    for label, found in (("untouched", untouched), ("one killed", killed)):
        frame = found.frame
        lost = int((frame["error"] != "").sum() + (frame["time_s"] != untouched.frame["time_s"]).sum())
        again = sum(found.begun.values()) - len(found.begun), sum(found.ended.values()) - len(found.ended)
        print(f"{name:10s} {label:11s}{len(frame):7d}{len(found.ended):6d}", end="")
        print(f"{again[0]:13d}{again[1]:16d}{lost:6d}{found.seconds:9.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--points", type=int, default=60)
    parser.add_argument("--sleep", type=float, default=0.2, help="seconds a run takes beside its own time")
    told = parser.parse_args()
    from distributed import LocalCluster

    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    print(f"{'':22s}{'points':>7s}{'runs':>6s}{'begun again':>13s}{'finished twice':>16s}{'lost':>6s}{'seconds':>9s}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ |= {"SPARSIM_BENCH_LOG": str(folder / "log"), "SPARSIM_BENCH_SLEEP": str(told.sleep)}
        cluster = LocalCluster(
            n_workers=told.workers, threads_per_worker=1, dashboard_address=":0", silence_logs=logging.CRITICAL
        )
        with cluster:
            sweep(told.workers * MATRICES, folder, False, dask=cluster.scheduler_address)  # loads the workers
            both = [sweep(told.points, folder, kill, dask=cluster.scheduler_address) for kill in (False, True)]
        show("dask", *both)
        sweep(told.workers * MATRICES, folder, False, jobs=told.workers)
        both = [sweep(told.points, folder, kill, jobs=told.workers) for kill in (False, True)]
        show("processes", *both)


if __name__ == "__main__":
    main()
