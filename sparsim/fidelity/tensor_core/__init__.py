"""NVIDIA's tensor cores: measured times of dense and 2:4 products, and what 2:4 gains."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from importlib import resources
from statistics import fmean

from sparsim.fidelity.bench import Bench
from sparsim.fidelity.record import Published, Row, compare_with, join_notes
from sparsim.machines import machine
from sparsim.workload import DataType, Operand, Workload

__all__ = ["GAIN", "MEAN", "TOLERANCE", "points", "rows"]

PAPER = "tensor_core"
# Largest and mean relative error. Dense times need more: cuBLAS chooses among kernels this model has not got, on the
# RTX 3090 a slower one below k = 2304; on the A100 it hides the store of C where k is short. On the H100 the library
# does not wait for full waves.
TOLERANCE = {
    "a100": 0.11, "a100-2:4": 0.05, "rtx3090": 0.13, "rtx3090-2:4": 0.025, "h100": 0.21, "h100-2:4": 0.28,
}  # fmt: skip
MEAN = {
    "a100": 0.06, "a100-2:4": 0.04, "rtx3090": 0.05, "rtx3090-2:4": 0.005, "h100": 0.08, "h100-2:4": 0.17,
}  # fmt: skip
GAIN = {"a100": 0.05, "rtx3090": 0.05, "h100": 0.1}
ROLES = ("calibrate", "check")
Point = dict[str, str]


def points() -> list[Point]:
    """Return the measured times as they stand in the file."""
    text = resources.files("sparsim.fidelity").joinpath("tensor_core", "published.csv").read_text("utf-8")
    return list(csv.DictReader(text.splitlines()))


def rows(bench: Bench) -> Iterator[Row]:
    """Yield every measured time beside the model's, then mean errors of time and of the gain from 2:4.

    Points that calibrate and points that check are summed up apart; both are asserted.
    """
    errors: dict[tuple[str, str], list[float]] = {(name, role): [] for role in ROLES for name in MEAN}
    times: dict[tuple[str, ...], dict[str, tuple[float, float]]] = {}
    for point in points():
        row = _point_row(point)
        if row.error is not None and point["role"] in ROLES:
            errors[point["machine"], point["role"]].append(abs(row.error))
            chip = point["machine"].partition("-")[0]
            pair = times.setdefault((chip, *(point[key] for key in ("dtype", "m", "n", "k"))), {})
            pair[point["pattern"]] = (float(row.modelled or 0.0), float(row.published or 0.0))
        yield row
    for (name, role), values in errors.items():
        yield _mean_row("time", f"{name}, {len(values)} {role} points", values, MEAN[name])
    for chip, limit in GAIN.items():
        pairs = [(pair["dense"], pair["2:4"]) for key, pair in times.items() if key[0] == chip and len(pair) > 1]
        gains = [abs((dense[0] / sparse[0]) / (dense[1] / sparse[1]) - 1) for dense, sparse in pairs]
        yield _mean_row("gain of 2:4 over dense", f"{chip}, {len(gains)} sizes", gains, limit)


def _mean_row(quantity: str, place: str, errors: list[float], limit: float) -> Row:
    mean = fmean(errors)
    verdict, note = "ok" if mean <= limit else "off", "of the points above"
    name = f"mean |error| of {quantity}"
    return Row(PAPER, name, place, "share", None, mean, mean, limit, "measured", "check", verdict, note)


def _point_row(point: Point) -> Row:
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
