"""How much memory a sweep over one large matrix takes, in the process that sweeps and in its workers.

Run from the repository root: ``python benchmarks/sweep/memory.py``. A banded matrix of ``--rows`` x ``--per-row``
non-zeros (ten million by default) is multiplied by itself on ``--points`` configurations of a machine by ``--jobs``
processes. A sweep over a tiny matrix comes first, in the same processes, so that imports and compiled code are
there; what counts is the proportional set size (PSS, shared pages divided among those who map them) above that.
Linux only: sizes are read from ``/proc``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

EVERY_S = 0.2
MIB = 2**20


def banded(rows: int, per_row: int):
    """Return a matrix whose row i holds columns i to i + per_row - 1, around the corner."""
    from sparsim.matrix import Csr

    columns = (np.arange(rows, dtype=np.int32)[:, None] + np.arange(per_row, dtype=np.int32)) % np.int32(rows)
    columns.sort(axis=1)
    indptr = np.arange(rows + 1, dtype=np.int64) * per_row
    return Csr.build((rows, rows), indptr, columns.ravel(), np.ones(rows * per_row))


def sweep(told: argparse.Namespace) -> None:
    """Sweep over a tiny matrix, then over the large one; say on stdout where it is."""
    import sparsim as ss

    def run(matrix, points: int):
        clocks = [1 + number / 100 for number in range(-(-points // 2))]
        fields = {"clock_ghz": clocks, "dram.channels": [8, 16]}
        return ss.sweep(matrix, on=told.on, fields=fields, store=":memory:", jobs=told.jobs, progress=False)

    run(banded(1000, 4), 2 * told.jobs)
    print("idle", flush=True)
    time.sleep(3)
    print("loading", flush=True)
    matrix = banded(told.rows, told.per_row)
    print("sweeping", flush=True)
    start = time.monotonic()
    frame = run(matrix, told.points)
    assert (frame["error"] == "").all(), frame["error"].max()
    print(f"done {len(frame)} {time.monotonic() - start:.1f}", flush=True)


def family(root: int) -> Iterator[int]:
    """Yield a process and all that descend from it."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError):
                continue
    known = [root]
    for process in known:
        yield process
        known += [child for child, parent in parents.items() if parent == process]


def pss(process: int) -> int:
    """Return the proportional set size of a process, 0 if it has ended [bytes]."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


@dataclass
class Sizes:
    """Largest sizes in one phase [bytes]."""

    process: dict[int, int] = field(default_factory=dict)
    together: int = 0

    def sample(self, root: int) -> None:
        """Look at a process and all that descend from it."""
        now = {process: pss(process) for process in family(root)}
        for process, size in now.items():
            self.process[process] = max(self.process.get(process, 0), size)
        self.together = max(self.together, sum(now.values()))


def measure(command: list[str]) -> tuple[dict[str, Sizes], int, list[str]]:
    """Run the sweep in a process of its own; return sizes by phase, that process, and what it said at the end."""
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    os.set_blocking(child.stdout.fileno(), False)
    phases: dict[str, Sizes] = {}
    said = ["starting"]
    while child.poll() is None:
        said = (child.stdout.readline() or "").split() or said
        phases.setdefault(said[0], Sizes()).sample(child.pid)
        time.sleep(EVERY_S)
    said = (child.stdout.readline() or "").split() or said
    return phases, child.pid, said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--per-row", type=int, default=10)
    parser.add_argument("--points", type=int, default=50)
    parser.add_argument("--on", default="sparch", help="machine")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.child:
        sweep(told)
        return
    phases, root, said = measure([sys.executable, *sys.argv, "--child"])
    if said[0] != "done":
        sys.exit("the sweep failed")
    from sparsim.sweep.execute import PARENT_BYTES, WORKER_BYTES

    nonzeros = told.rows * told.per_row
    idle, busy = phases["idle"], phases["sweeping"]
    print(f"{said[1]} points, {nonzeros:,} non-zeros, {told.rows:,} rows, {told.jobs} processes: {said[2]} s")
    print(f"{'':12s}{'idle MiB':>10s}{'peak MiB':>10s}{'bytes a non-zero':>18s}")
    rows = [("together", idle.together, busy.together)]
    for process, size in sorted(busy.process.items(), key=lambda item: -item[1]):
        if process in idle.process and size > 20 * MIB:
            rows.append(("parent" if process == root else "worker", idle.process[process], size))
    for name, before, peak in rows:
        print(f"{name:12s}{before / MIB:10.0f}{peak / MIB:10.0f}{(peak - before) / nonzeros:18.1f}")
    stated = (PARENT_BYTES + told.jobs * WORKER_BYTES) * nonzeros
    print(f"stated: {stated / MIB:.0f} MiB together above idle; found {(busy.together - idle.together) / MIB:.0f}")


if __name__ == "__main__":
    main()
