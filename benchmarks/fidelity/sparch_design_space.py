"""Redraw SpArch's breakdown by technique and its design-space figures, over every matrix at hand.

Run from the repository root: ``python benchmarks/fidelity/sparch_design_space.py --data FOLDER``. FOLDER holds matrices
as ``.mtx`` or ``.npz`` (without it, three generated ones of different kinds serve as an example). Every finished point
is a line of ``points.csv`` in the output folder, so an interrupted run goes on where it stopped; after a
change of the model, start with an empty folder. Two pictures are drawn from it:

* ``breakdown.png``: OuterSPACE, then SpArch with one technique after the other. The order in which the paper merges
  before it has the Huffman scheduler is unknown, so every order is drawn, beside the published factors.
* ``design_space.png``: prefetch buffer (lines x elements a line), look-ahead, merger width, layers of the merge tree.

Averages are geometric, over the matrices on which all points of a figure have been run.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from joblib import Parallel, delayed
from tqdm import tqdm

from sparsim.io import load
from sparsim.machines import machine
from sparsim.matrix import Csr
from sparsim.workload import Operand, Workload

matplotlib.use("Agg")
import matplotlib.pyplot as plt

Point = tuple[str, dict[str, Any]]

ORDERS = ("sequential", "random", "accumulate")
STEPS = ("OuterSPACE", "pipelined\nonly", "+ condensing", "+ Huffman", "+ prefetcher")
# Zhang et al., HPCA 2020: traffic by the abstract (5.4, 1.8, 1.5, 2.8 in all); throughput recalled
PUBLISHED = {
    "traffic": (1.0, 5.4 * 1.8 * 1.5 / 2.8, 1.8 * 1.5 / 2.8, 1.5 / 2.8, 1 / 2.8),
    "throughput": (1.0, 1 / 5.7, 8.8 / 5.7, 8.8 * 1.5 / 5.7, 8.8 * 1.5 * 1.8 / 5.7),
}
LINES, LINE_ELEMENTS = (256, 512, 1024, 2048, 4096), (24, 48, 96, 192)
AXES: dict[str, tuple[str, tuple[int, ...]]] = {
    "look-ahead [elements of A]": ("prefetch.look_ahead", (1024, 2048, 4096, 8192, 16384)),
    "merger width [elements/cycle]": ("merge.width", (1, 2, 4, 8, 16, 32)),
    "layers of the merge tree": ("merge.layers", (2, 3, 4, 5, 6, 7)),
}
ACCUMULATE_AT_MOST = 10_000  # rounds x result is quadratic in the leaves
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00")


def ladder(order: str) -> list[Point]:
    plain = {"prefetch.policy": "off", "schedule.order": order}
    return [
        ("outerspace", {}),
        ("sparch", {**plain, "condense": False}),
        ("sparch", plain),
        ("sparch", {"prefetch.policy": "off"}),
        ("sparch", {}),
    ]


def buffer_points() -> list[Point]:
    return [
        ("sparch", {"prefetch.lines": lines, "prefetch.line_elements": elements})
        for elements in LINE_ELEMENTS
        for lines in LINES
    ]


def axis_points(field: str, values: tuple[int, ...]) -> list[Point]:
    if field == "prefetch.look_ahead":  # the FIFO is what gives the window
        return [("sparch", {field: value, "look_ahead_fifo.elements": value}) for value in values]
    return [("sparch", {field: value}) for value in values]


def all_points() -> list[Point]:
    points = [point for order in ORDERS for point in ladder(order)] + buffer_points()
    points += [point for field, values in AXES.values() for point in axis_points(field, values)]
    return list({key(point): point for point in points}.values())


def key(point: Point) -> str:
    return f"{point[0]} {json.dumps(point[1], sort_keys=True)}"


def examples() -> dict[str, Csr]:
    """Return three generated matrices, for a run without data."""
    from sparsim.datasets import banded, mesh3d, rmat

    return {
        "rmat (generated)": rmat(4096, 40_000, seed=0),
        "mesh (generated)": mesh3d(8000, 120_000, seed=0),
        "banded (generated)": banded(8000, 96_000, bandwidth=12, seed=0),
    }


def run(matrix: Csr, name: str, point: Point) -> dict[str, Any]:
    built = machine(point[0], point[1])
    operand = Operand.of(matrix)
    work = Workload(operand, operand, name=name)
    activity = built.run(work)
    return {
        "matrix": name,
        "point": key(point),
        "config": built.config_sha256,
        "bytes": sum(activity.dram_bytes.values()),
        "seconds": activity.cycles / built.config.clock_ghz / 1e9,
        "flop": 2 * activity.multiplies - activity.nnz_c,
        "limited_by": activity.limited_by,
    }


def too_long(matrix: Csr, point: Point) -> bool:
    fields = point[1]
    return (
        fields.get("schedule.order") == "accumulate"
        and not fields.get("condense", True)
        and np.unique(matrix.indices).size > ACCUMULATE_AT_MOST
    )


def finish(matrices: dict[str, Csr], out: Path, jobs: int) -> dict[tuple[str, str], dict[str, Any]]:
    """Run what ``points.csv`` does not have yet, write each point as it is finished, and return all of them."""
    table = out / "points.csv"
    done: dict[tuple[str, str], dict[str, Any]] = {}
    if table.exists():
        with table.open(encoding="utf-8", newline="") as file:
            done = {(row["matrix"], row["point"]): row for row in csv.DictReader(file)}
    todo = [
        (name, point)
        for name, matrix in matrices.items()
        for point in all_points()
        if not too_long(matrix, point)
        and done.get((name, key(point)), {}).get("config") != machine(point[0], point[1]).config_sha256
    ]
    results = Parallel(n_jobs=jobs, return_as="generator_unordered")(
        delayed(run)(matrices[name], name, point) for name, point in todo
    )
    for row in tqdm(results, total=len(todo), unit="point"):
        done[row["matrix"], row["point"]] = row
        new = not table.exists()
        with table.open("a", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(row))
            if new:
                writer.writeheader()
            writer.writerow(row)
    return done


def means(done: dict[tuple[str, str], dict[str, Any]], names: list[str], points: list[Point]) -> dict[str, Any]:
    """Return geometric means over the matrices that have every point: bytes per FLOP, GFLOP/s; and those matrices."""
    complete = [name for name in names if all((name, key(point)) in done for point in points)]

    def mean(value: Any) -> list[float]:
        rows = [[done[name, key(point)] for name in complete] for point in points]
        return [math.exp(float(np.mean([math.log(value(row)) for row in column]))) for column in rows]

    return {
        "matrices": complete,
        "traffic": mean(lambda row: float(row["bytes"]) / float(row["flop"])) if complete else [],
        "gflops": mean(lambda row: float(row["flop"]) / float(row["seconds"]) / 1e9) if complete else [],
    }


def draw_breakdown(done: dict[tuple[str, str], dict[str, Any]], names: list[str], path: Path) -> None:
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    at = np.arange(len(STEPS))
    for place, order in enumerate(ORDERS):
        found = means(done, names, ladder(order))
        if not found["matrices"]:
            continue
        label = f"merged {order}, {len(found['matrices'])} matrices"
        for ax, values in zip(axes, (found["traffic"], found["gflops"]), strict=True):
            ax.bar(at + 0.26 * (place - 1), np.array(values) / values[0], 0.26, label=label, color=COLORS[place])
        print(f"{label}: {', '.join(found['matrices'])}")
        for step, traffic, gflops in zip(STEPS, found["traffic"], found["gflops"], strict=True):
            plain = step.replace("\n", " ")
            print(f"  {plain:16s} {traffic / found['traffic'][0]:8.3f}x DRAM bytes {gflops:8.3f} GFLOP/s")
    for ax, title, what in zip(axes, ("DRAM bytes", "throughput"), PUBLISHED.values(), strict=True):
        ax.plot(at, what, "k_", markersize=34, markeredgewidth=2, label="published, 20 matrices")
        ax.set(xticks=at, xticklabels=STEPS, yscale="log", ylabel=f"{title} relative to OuterSPACE")
        ax.grid(axis="y", alpha=0.3)
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, fontsize=9, markerscale=0.4
    )
    figure.savefig(path, dpi=150)
    plt.close(figure)


def draw_design_space(done: dict[tuple[str, str], dict[str, Any]], names: list[str], path: Path) -> None:
    figure, axes = plt.subplots(2, 4, figsize=(14, 6), layout="constrained", sharey="row")
    found = means(done, names, buffer_points())
    for place, elements in enumerate(LINE_ELEMENTS):
        part = slice(place * len(LINES), (place + 1) * len(LINES))
        for ax, values in zip(axes[:, 0], (found["traffic"], found["gflops"]), strict=True):
            ax.plot(LINES, values[part], "o-", color=COLORS[place], label=f"{elements} elements a line")
    axes[0, 0].legend(fontsize=8)
    axes[1, 0].set_xlabel("lines of the prefetch buffer")
    for column, (label, (field, values)) in enumerate(AXES.items(), start=1):
        found = means(done, names, axis_points(field, values))
        axes[0, column].plot(values, found["traffic"], "o-", color=COLORS[0])
        axes[1, column].plot(values, found["gflops"], "o-", color=COLORS[0])
        axes[1, column].set_xlabel(label)
    for ax in axes.flat:
        ax.set_xscale("log" if ax not in axes[:, 3] else "linear", base=2) if ax not in axes[:, 3] else None
        ax.set_ylim(bottom=0)
        ax.grid(alpha=0.3)
    for ax, values in zip(axes[0], [LINES, *(values for _, values in AXES.values())], strict=True):
        for each in (ax, axes[1, list(axes[0]).index(ax)]):
            each.set_xticks(values, [f"{v // 1024}k" if v >= 1024 else str(v) for v in values], minor=False)
    axes[0, 0].set_ylabel("DRAM bytes per FLOP")
    axes[1, 0].set_ylabel("GFLOP/s")
    figure.suptitle(
        f"SpArch, geometric mean over {len(found['matrices'])} matrices: {', '.join(found['matrices'])}", size=10
    )
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of matrices")
    parser.add_argument("--out", type=Path, default=Path("sparch_design_space"), help="folder for table and pictures")
    parser.add_argument("--jobs", type=int, default=-1, help="processes, one a core by default")
    told = parser.parse_args()
    told.out.mkdir(parents=True, exist_ok=True)
    if told.data is None:
        matrices = examples()
    else:
        files = sorted(path for path in told.data.iterdir() if path.suffix in (".mtx", ".npz"))
        loaded = {path.stem: load(path) for path in files}
        matrices = {name: found for name, found in loaded.items() if isinstance(found, Csr)}
        if not matrices:
            parser.error(f"no .mtx or .npz matrix in {told.data}")
    done = finish(matrices, told.out, told.jobs)
    draw_breakdown(done, list(matrices), told.out / "breakdown.png")
    draw_design_space(done, list(matrices), told.out / "design_space.png")
    print(f"pictures and points.csv are in {told.out}")


if __name__ == "__main__":
    main()
