"""Fit the constants of the tensor-core presets to the published times, and print the errors.

Run from the repository root: ``python benchmarks/fidelity/fit_tensor_core.py``. Only rows marked ``calibrate`` enter,
by relative least squares, every kind of kernel on every chip with the same weight. One set of constants serves A100 and
RTX 3090: what a kernel loses in its k loop and around it, the launch, and what a multiply takes on the A100. The H100
has three of its own, as its kernels and its power are others: energies at 16 and 8 bit, and the loss of the 2:4 kernel.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import least_squares

import sparsim
from sparsim.machines import machine
from sparsim.workload import DataType, Operand, Workload

POINTS = Path(sparsim.__file__).parent / "fidelity" / "tensor_core" / "published.csv"
AMPERE = {  # field: first guess, bounds
    "launch_us": (2.0, 0.0, 6.0),
    "dense.prologue_us": (3.0, 0.0, 10.0),
    "sparse.prologue_us": (3.0, 0.0, 10.0),
    "dense.efficiency": (0.95, 0.5, 1.0),
    "sparse.efficiency": (0.85, 0.5, 1.0),
    "power.fp16": (2.8, 1.0, 5.0),
    "power.operand_share": (0.5, 0.1, 0.9),
}
HOPPER = {"power.bf16": (1.6, 0.8, 3.0), "power.fp8": (1.1, 0.5, 3.0), "sparse.efficiency": (0.9, 0.5, 1.0)}
A100_ONLY = ("power.fp16",)


def read_points() -> list[dict[str, str]]:
    with POINTS.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def chip(point: dict[str, str]) -> str:
    return point["machine"].partition("-")[0]


def time_us(point: dict[str, str], overrides: dict[str, Any]) -> float:
    m, n, k = (int(point[key]) for key in "mnk")
    a = Operand.dense(m, k) if point["pattern"] == "dense" else Operand(m, k, pattern=point["pattern"])
    skipped = A100_ONLY if chip(point) == "rtx3090" else ()
    built = machine(point["machine"], {key: value for key, value in overrides.items() if key not in skipped})
    activity = built.run(Workload(a, Operand.dense(k, n), dtype=DataType.parse(point["dtype"])))
    return activity.cycles / built.config.clock_ghz / 1e3


def fit(points: Sequence[dict[str, str]], fields: dict[str, tuple[float, float, float]]) -> dict[str, float]:
    """Return the values with the least relative squares; each machine's rows weigh as much as another's."""
    count = {name: sum(p["machine"] == name for p in points) for name in {p["machine"] for p in points}}
    start, low, high = (np.array(column) for column in zip(*fields.values(), strict=True))

    def errors(values: np.ndarray) -> list[float]:
        tried = {key: float(f"{value:.7g}") for key, value in zip(fields, values, strict=True)}
        tried["dense.split_k"] = False  # no jump to another kernel on the way
        return [(time_us(p, tried) / float(p["time_us"]) - 1) / math.sqrt(count[p["machine"]]) for p in points]

    best = least_squares(errors, start, bounds=(low, high), diff_step=1e-3)
    return {key: float(f"{value:.3g}") for key, value in zip(fields, best.x, strict=True)}


def main() -> None:
    points = read_points()
    errors: dict[tuple[str, str], list[float]] = {}
    for chips, fields in ((("a100", "rtx3090"), AMPERE), (("h100",), HOPPER)):
        chosen = [p for p in points if chip(p) in chips]
        fitted = fit([p for p in chosen if p["role"] == "calibrate"], fields)
        print(*chips, fitted)
        for point in chosen:
            error = time_us(point, fitted) / float(point["time_us"]) - 1
            errors.setdefault((point["machine"], point["role"]), []).append(error)
            size = "x".join(point[key] for key in "mnk")
            print(f"  {point['machine']:12} {point['dtype']} {size:18} {point['role']:9} {error:+7.1%}")
    for (name, role), values in sorted(errors.items()):
        sizes = np.abs(values)
        print(f"  {name:12} {role:9} {len(values):2} points: mean {sizes.mean():.1%}, worst {sizes.max():.1%}")


if __name__ == "__main__":
    main()
