"""How long does a simulation take beside the product itself?

    python benchmarks/speed/speed.py --data ../shared/data --json speed.json --plot scale.png

What is measured, and how:

* The yardstick is scipy's ``A @ B`` (CSR, int32 indices, float64 ones, one thread) in the same process on the same
  operands: sparsim and scipy run in turn, at least 3 times and 0.3 s each, after both have run once on a tiny product.
  The table shows medians, the ratio is that of the medians, minima are in the JSON. What is timed is ``simulate`` from
  operands to report, timing and counts of the default SpArch included. Multiplies and elements of C must be scipy's.
* One thread; where ``simulate`` takes ``threads``, two threads stand beside it. The goal is the geometric mean of the
  ratios over the seven real matrices (A·A).
* What bounds an exact simulation from below: counting the elements of C and nothing else, one stamp a product, is timed
  in the same runs (``count``, as a share of scipy's time). A simulation counts in every merge round, then replays
  prefetcher and memory.
* Parts of a simulation (merge rounds, prefetcher, pipeline) are timed in the same runs, ``stages_s`` in the JSON. The
  exact symbolic part is the first of them. Its limit is the time in which 4 bytes a product, the index of an element of
  B, can be streamed at the bandwidth that ``measure.bandwidth`` finds in the same run.
* Peak memory: a fresh process for each case, see ``memory.py``; allowed are 2 x the operands + 64 MB.
* Cold start: whole processes, see ``cold_start.py``.
* The peers' workloads (``g64`` ... ``layerd``) are drawn as they were when the peers were measured; if numpy or scipy
  draw differently today, the multiplies differ, and a warning says so. ``peers.csv`` holds the peers' times.
* Layers of networks: published shapes and densities of the zoo, pruned networks and layers of the Deep Learning Matrix
  Collection in the data folder. Activations are dense unless the zoo knows a density. Without a data folder these rows
  and the real matrices are left out.
* The generated matrices (a band, uniform, R-MAT) go from 10^5 to 2·10^8 products; ``--plot`` draws time and memory
  against products and states the slopes, exponents fitted on logarithms.

What was tried on the way from 8.2 times scipy's time (geometric mean of the real matrices) to 2.0, and what it gave:

* Rows of B as sets of bits, a union being an OR and its size a count of bits, where a row has fewer than 5 words a
  product: counting facebook's rounds 118 -> 25 ms, wiki-Vote's 45 -> 18 ms. Slower than stamps on sparser matrices
  (cage10 4 times).
* Indexes that cannot be negative (numba otherwise looks each time): stamps 3.1 -> 1.9 ns a product on cage12, and the
  loops over words become vectors (0.71 -> 0.17 ns a word).
* Stamps of 32 bits, with positions in the low bits: no other step per product. Stamps of 16 bits, a second pass that
  writes them, and counting by layer in registers gave nothing (under 5 %).
* Rows of B, where they begin, and the stamps they lead to asked for some elements ahead: uniform 10^8 3.9 -> 2.2 s
  (stamps 1.9 -> 0.8, all that goes by non-zeros of A 1.0 -> 0.4), the real matrices, which fit the caches, 5 to 10 %.
  For the steps of the timing core it gave nothing.
* Victims of the prefetcher from sets of bits (by slot, by next use) instead of a tree of keys: 150-220 -> 28-45 ns a
  line visit; a record of 8 instead of 16 bytes for each line gave 73 -> 44 ns of that on p2p-Gnutella31. Next uses
  looked up backwards, a chunk of the trace at a time, instead of following the look-ahead: 5 to 25 % of the rest.
* Timing core and memory in flat arrays, without reference counts and divisions: 0.85 us -> 27 ns a piece of DRAM
  traffic, and about 150 ns a step. This is what takes longest now.
* One count serves all machines that differ in buffers, widths or bandwidth: a point of such a sweep takes 26 to 32 ms
  where a first run takes 43 (wiki-Vote), as the steps have to be timed again.
* Fresh memory costs 2.5 us a page on the computer that measured, a fifth to a third of the large cases, scipy's too.
* Steps stream through the timing core, laid out 8,192 at a time: memory no longer grows with the steps (12 of 47 cases
  took too much before, none now that a block has room only for what it reads back). On one thread that is no faster:
  facebook a fifth, but what fresh memory no longer costs goes into copying, and matrices of short rows take up to a
  tenth longer. A block costs 0.2 ms of Python, so blocks of 1,024 take 10 to 20 % more.
* A second thread counts every other run of rows, then lays out (and runs the prefetcher for) the next block of steps
  while one is timed: cage12 0.83 -> 0.52, 10^8 products 1.3 to 1.7 times as fast. Below 2 million products threads cost
  more than they save, and one does it all.
* Loading compiled kernels without making Numba ready to compile, and presets one by one: first simulation of a process
  1.45 -> 0.6 to 0.9 s (with bytecode kept); kernels that do not use numpy's sums and slices, 31 -> 16 to 21 s with an
  empty cache.
* Estimates: see ``sampling.py``.

``--quick`` runs few, small cases to see that everything works; its times mean nothing. The JSON has no date: rows of
different commits can be laid beside one another.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numba
import numpy as np
import scale
import scipy
import tables
from cases import GROUPS, QUICK, Case, cases
from cold_start import ROOT, cold_start, fresh_install
from measure import bandwidth, measured
from memory import peak_memory

import sparsim

PARTS = (*GROUPS, "cold", "demo")


def main(arguments: Sequence[str] | None = None) -> None:
    options = _options(arguments)
    found = json.loads(options.report.read_text()) if options.report else _run(options)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    rows = found["rows"]
    if rows:
        tables.print_rows(rows)
    if any(row["group"] == "peers" for row in rows):
        tables.print_peers(rows)
    if found["cold_start_s"]:
        tables.print_cold_start(found["cold_start_s"])
    tables.print_summary(found["summary"], found["slopes"], found["stream_bytes_per_s"])
    if options.plot:
        scale.draw(rows, options.plot)


def _run(options: argparse.Namespace) -> dict[str, Any]:
    """Return everything that the JSON holds."""
    stream = bandwidth()
    rows = [_row(case, stream, options) for case in _chosen(options)]
    return {
        **_provenance(),
        "stream_bytes_per_s": stream,
        "rows": rows,
        "cold_start_s": _cold_start(options),
        "peers": tables.peer_rows(),
        "slopes": scale.slopes(rows),
        "summary": tables.summary(rows),
    }


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with matrices/, networks/ and dlmc/")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="what to run; everything")
    parser.add_argument("--case", action="append", help="run this case only; may be repeated")
    parser.add_argument("--json", type=Path, help="file for all numbers")
    parser.add_argument("--plot", type=Path, help="file for the picture of scale")
    parser.add_argument("--report", type=Path, help="run nothing, print and draw what this JSON holds")
    parser.add_argument("--quick", action="store_true", help="few, small cases, one memory measurement, no demo")
    options = parser.parse_args(arguments)
    if options.data and not options.data.is_dir():
        _tell(f"{options.data} is no folder: rows that need its files are left out")
        options.data = None
    return options


def _chosen(options: argparse.Namespace) -> list[Case]:
    """Return the cases of the chosen groups; say which groups had to leave out files."""
    found = []
    for group in (group for group in GROUPS if group in options.parts):
        mine = list(cases(options.data, group))
        if group in ("real", "layers") and options.data is None:
            _tell(f"{group}: without --data, {len(mine)} cases")
        found += mine
    if options.quick:
        found = [case for case in found if case.name in QUICK]
    return [case for case in found if not options.case or case.name in options.case]


def _row(case: Case, stream: float, options: argparse.Namespace) -> dict[str, Any]:
    row = measured(case, stream, *((2, 0.0) if options.quick else ()))
    if case.multiplies not in (None, row["products"]):
        _tell(f"{case.name}: {row['products']:,} multiplies here, {case.multiplies:,} when the peers were measured")
    if not options.quick or case.name == QUICK[0]:
        row |= peak_memory(case.name, case.group, options.data)
    _tell(f"{case.name}: scipy {row['scipy_s']:.4f} s, sparsim {row['sparsim_s']:.4f} s, ratio {row['ratio']:.2f}")
    return row


def _cold_start(options: argparse.Namespace) -> dict[str, float]:
    found: dict[str, float] = {}
    if "cold" in options.parts:
        for what, seconds in cold_start(empty=not options.quick, repeats=1 if options.quick else 5):
            found[what] = seconds
            _tell(f"{what}: {seconds:.2f} s")
    if "demo" in options.parts and not options.quick:
        try:
            for what, seconds in fresh_install():
                found[what] = seconds
                _tell(f"{what}: {seconds:.2f} s")
        except OSError as problem:
            _tell(f"the demo of a fresh install is left out: {problem}")
    return found


def _provenance() -> dict[str, Any]:
    return {
        "version": sparsim.__version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "numba": numba.__version__,
        "cpu": _cpu(),
        "cores": os.cpu_count(),
    }


def _commit() -> str | None:
    """Return the commit of this checkout, "+" behind it if it has been changed; None if it is none."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _cpu() -> str:
    known = Path("/proc/cpuinfo")
    lines = known.read_text().splitlines() if known.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
