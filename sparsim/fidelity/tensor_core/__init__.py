"""NVIDIA's tensor cores: measured times of dense and 2:4 products."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from importlib import resources
from statistics import fmean

from sparsim.fidelity.bench import Bench
from sparsim.fidelity.record import Published, Row, compare_with, join_notes
from sparsim.machines import machine
from sparsim.workload import DataType, Operand, Workload

__all__ = ["MEAN", "TOLERANCE", "points", "rows"]

PAPER = "tensor_core"
# Largest and mean relative error of the check points. The dense times need more: cuBLAS chooses among kernels this
# model has not got, on the RTX 3090 a slower one below k = 2304.
TOLERANCE = {"a100": 0.08, "a100-2:4": 0.05, "rtx3090": 0.09, "rtx3090-2:4": 0.02}
MEAN = {"a100": 0.04, "a100-2:4": 0.03, "rtx3090": 0.04, "rtx3090-2:4": 0.005}


def points() -> list[dict[str, str]]:
    """Return the measured times as they stand in the file."""
    text = resources.files("sparsim.fidelity").joinpath("tensor_core", "published.csv").read_text("utf-8")
    return list(csv.DictReader(text.splitlines()))


def rows(bench: Bench) -> Iterator[Row]:
    """Yield every measured time beside the model's, then the mean error of each machine's check points."""
    errors: dict[str, list[float]] = {name: [] for name in MEAN}
    for point in points():
        row = _point_row(point)
        if row.role == "check" and row.error is not None:
            errors[point["machine"]].append(abs(row.error))
        yield row
    for name, values in errors.items():
        mean, limit = fmean(values), MEAN[name]
        verdict = "ok" if mean <= limit else "off"
        place = f"{name}, {len(values)} check points"
        quantity, note = "mean |error| of time", "of the points above"
        yield Row(PAPER, quantity, place, "share", None, mean, mean, limit, "measured", "check", verdict, note)


def _point_row(point: dict[str, str]) -> Row:
    m, n, k = (int(point[key]) for key in "mnk")
    a = Operand.dense(m, k) if point["pattern"] == "dense" else Operand(m, k, pattern=point["pattern"])
    built = machine(point["machine"])
    activity = built.run(Workload(a, Operand.dense(k, n), dtype=DataType.parse(point["dtype"])))
    published = Published(
        quantity="time",
        workload=f"{point['machine']} {point['dtype']} {m}x{k} times {k}x{n}",
        value=float(point["time_us"]),
        unit="us",
        source=point["source"],
        certainty="measured",
        role=point["role"],
        note=join_notes(point["note"], f"{point['role']} point" if point["role"] != "check" else ""),
        tolerance=TOLERANCE[point["machine"]],
    )
    return compare_with(PAPER, published, activity.cycles / built.config.clock_ghz / 1e3)
