"""Fit wave cost and rates of the tensor-core presets to the published times, and print the errors.

Run from the repository root: ``python benchmarks/fidelity/fit_tensor_core.py``. Only rows marked ``calibrate`` enter
the fit, which is relative least squares. What the rows of a chip cannot tell apart is not fitted: the launch cost
(assumed 2 us); on the RTX 3090 the rate of the whole device, as every product there fills it, and the wave cost of the
dense kernels, as cuBLAS runs another kernel below k = 2304. The first is that of a multiprocessor, the second that of
the 2:4 kernel, so tiles of both are charged by one law: a fixed cost and the store of the tile.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import least_squares

import sparsim
from sparsim.machines import machine
from sparsim.workload import DataType, Operand, Workload

POINTS = Path(sparsim.__file__).parent / "fidelity" / "tensor_core" / "published.csv"
FIELDS = ("wave_us", "sm_efficiency", "sustained")
LOW, HIGH = np.array([0.0, 0.5, 0.5]), np.array([20.0, 1.0, 1.0])
START = np.array([4.0, 0.9, 0.9])


def read_points(chip: str) -> list[dict[str, str]]:
    with POINTS.open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if row["machine"].partition("-")[0] == chip]


def run(point: dict[str, str], overrides: dict[str, Any]) -> tuple[float, dict[str, Any]]:
    """Return modelled time (us) and details."""
    m, n, k = (int(point[key]) for key in "mnk")
    a = Operand.dense(m, k) if point["pattern"] == "dense" else Operand(m, k, pattern=point["pattern"])
    built = machine(point["machine"], overrides)
    activity = built.run(Workload(a, Operand.dense(k, n), dtype=DataType.parse(point["dtype"])))
    return activity.cycles / built.config.clock_ghz / 1e3, dict(activity.details)


def fit(points: list[dict[str, str]], side: str, known: dict[str, float], one_rate: bool) -> dict[str, float]:
    """Return the values that fit one kind of kernel; the rate of the device is a share of that of its parts."""
    chosen = [p for p in points if p["role"] == "calibrate" and (p["pattern"] == "dense") == (side == "dense")]
    free = [at for at, key in enumerate(FIELDS) if key not in known and not (one_rate and key == "sustained")]

    def overrides(values: np.ndarray) -> dict[str, float]:
        found = {**known, "sustained": 1.0, **{FIELDS[at]: float(x) for at, x in zip(free, values, strict=True)}}
        found["sustained"] *= found["sm_efficiency"]
        return {f"{side}.{key}": float(f"{found[key]:.7g}") for key in FIELDS}

    def errors(values: np.ndarray) -> list[float]:
        tried = {**overrides(values), f"{side}.split_k": False}  # no jump to another kernel on the way
        return [run(point, tried)[0] / float(point["time_us"]) - 1 for point in chosen]

    best = least_squares(errors, START[free], bounds=(LOW[free], HIGH[free]), diff_step=[1e-3] * len(free))
    return {key: float(f"{value:.3g}") for key, value in overrides(best.x).items()}


def main() -> None:
    for chip in ("a100", "rtx3090"):
        points = read_points(chip)
        consumer = chip == "rtx3090"
        fitted = fit(points, "sparse", {}, consumer)
        known = {"wave_us": fitted["sparse.wave_us"]} if consumer else {}
        fitted |= fit(points, "dense", known, consumer)
        print(chip, fitted)
        errors: dict[tuple[str, str], list[float]] = {}
        for point in points:
            time, details = run(point, fitted)
            error = time / float(point["time_us"]) - 1
            errors.setdefault((point["machine"], point["role"]), []).append(error)
            kernel = f"{details['tile']} {details['waves']}"
            size = "x".join(point[key] for key in "mnk")
            print(f"  {point['machine']:12} {size:18} {point['role']:9} {error:+7.1%}  {kernel}")
        for (name, role), values in sorted(errors.items()):
            sizes = np.abs(values)
            print(f"  {name:12} {role:9} {len(values):2} points: mean {sizes.mean():.1%}, worst {sizes.max():.1%}")


if __name__ == "__main__":
    main()
