"""How good are estimates (``--sample``), and how long do they take?

    python benchmarks/speed/sampling.py --data ../shared/data --json sampling.json

Every product of ``speed.py`` that is large enough to be sampled is simulated once with everything counted and timed and
then estimated with several seeds. The table says what the estimates are off by (mean over the seeds, root mean square),
half of the stated 95 % interval, how many intervals hold the exact figure, and the estimate's time as a share of the
exact run's (medians, in turn, in one process, one thread). The default takes about three minutes.

What it shows (``sampling.json``, a twentieth of the products): cycles are off by 0.04 to 0.9 %, root mean square;
elements of C by at most 0.3 %. 388 of 396 intervals hold, 118 of 120 of the cycles. Estimates take 0.3 to 0.6 of the
exact run's time, not a tenth: what stays exact, above all the replay of the prefetcher, takes 60 to 100 ns for every
non-zero of A, an exact run only 5 to 25 ns a product. A tenth needs some hundred products for each non-zero. A
hundredth of the products takes 0.2 to 0.4 of the time, and its cycles may be off by 3 %.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
import scipy.sparse as sp
from cases import Case, Product, cases, ones
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from sparsim.matrix import Csr
from sparsim.report import Report

# of a report; one that is 0 is left out
KEYS = ("cycles.total", "workload.nnz_c", "details.partial_elements_written", "dram_bytes.total")
HEADS = ("figure", "mean error", "rms error", "95 % interval", "hold")


def blocks() -> Product:
    """Blocks along the diagonal: what the first rows of each fetch, the others find."""
    of = [sp.random(1000, 1000, 0.03, "csr", random_state=np.random.default_rng(at)) for at in range(30)]
    return Product(ones(Csr.from_scipy(sp.block_diag(of, format="csr"))))


def heavy_first() -> Product:
    """2,000 rows of 600 elements, then 98,000 of 4."""
    rng = np.random.default_rng(0)
    lengths = np.repeat([600, 4], [2_000, 98_000])
    columns = np.concatenate([np.sort(rng.choice(lengths.size, count, replace=False)) for count in lengths])
    return Product(Csr.build((lengths.size,) * 2, np.append(0, np.cumsum(lengths)), columns))


AWKWARD = (Case("blocks", "awkward", blocks), Case("heavy rows first", "awkward", heavy_first))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of real matrices and networks")
    parser.add_argument("--fraction", type=float, default=0.05)
    parser.add_argument("--seeds", type=int, default=12)
    parser.add_argument("--cases", nargs="+", help="names; all by default")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    rows = []
    for case in (*cases(options.data, "real"), *cases(options.data, "generated"), *AWKWARD):
        if not options.cases or case.name in options.cases:
            rows += [row for row in [studied(case, options.fraction, options.seeds)] if row]
    if options.json:
        options.json.write_text(json.dumps({"fraction": options.fraction, "rows": rows}, indent=1) + "\n")


def studied(case: Case, fraction: float, seeds: int) -> dict[str, Any] | None:
    """Compare estimates with the exact run; None if the product is not sampled."""
    product = case.build()
    product.simulate(threads=1)
    fields = {"sample.fraction": fraction}
    if not _told(product.simulate(threads=1, overrides=fields))["intervals"]:
        return None
    exact, exact_s = _timed(product)
    runs = [_timed(product, overrides=fields | {"sample.seed": seed}) for seed in range(seeds)]
    share = statistics.median(seconds for _, seconds in runs) / min(exact_s, _timed(product)[1])
    row = {"case": case.name, "products": exact["workload.multiplies"], "exact_s": exact_s, "time_share": share}
    for key in KEYS:
        if not exact[key]:
            continue
        truth = exact[key]
        bounds = np.array([_told(report)["intervals"][key] for report, _ in runs], dtype=np.float64)
        off = np.array([report[key] for report, _ in runs]) / truth - 1
        held = (bounds[:, 0] - 1 <= exact[key]) & (exact[key] <= bounds[:, 1] + 1)
        row[key] = {
            "mean": float(off.mean()),
            "rms": float(np.sqrt((off**2).mean())),
            "half": float((bounds[:, 1] - bounds[:, 0]).mean() / 2 / truth),
            "held": int(held.sum()),
        }
    _show(row, fraction, seeds)
    return row


def _told(report: Report) -> dict[str, Any]:
    sample: dict[str, Any] = report["details.sample"]
    return sample


def _timed(product: Any, **options: Any) -> tuple[Report, float]:
    start = time.perf_counter()
    report = product.simulate(threads=1, **options)
    return report, time.perf_counter() - start


def _show(row: dict[str, Any], fraction: float, seeds: int) -> None:
    title = f"{row['case']}, {row['products']:,} products: {fraction:.0%} in {row['time_share']:.2f} of the time"
    table = Table(title=title, title_justify="left", header_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    for head in HEADS:
        table.add_column(head, justify="left" if head == HEADS[0] else "right", no_wrap=True)
    for key in filter(row.get, KEYS):
        cell = row[key]
        numbers = [
            f"{100 * cell[name]:+.2f} %" if name == "mean" else f"{100 * cell[name]:.2f} %"
            for name in ("mean", "rms", "half")
        ]
        table.add_row(key, *numbers, f"{cell['held']} of {seeds}")
    Console(highlight=False, width=100).print(table)


if __name__ == "__main__":
    main()
