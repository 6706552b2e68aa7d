"""The computer at hand: the product is really computed, by numpy's BLAS and by scipy's sparse kernels, and timed.

What is left of the product without empty rows and columns is drawn with the workload's zeros, run once to warm up, then
several times; the fastest run counts. An A without zeros goes to BLAS. One with zeros goes to whichever kernel is
faster, so that a comparison says whether skipping single zeros pays on this computer.

A measured machine has no roofs: caches may beat any bandwidth one could name. Traffic is each operand and the result
once, energy is not measured, and two runs are never quite the same.
"""

from __future__ import annotations

import math
import os
import platform
from functools import cache
from pathlib import Path
from statistics import median
from threading import Lock
from typing import Any, ClassVar, Literal, NamedTuple, cast

import numpy as np
import numpy.typing as npt
from pydantic import Field

from sparsim.errors import ConfigError
from sparsim.machines.activity import STREAMS, Activity, Stage
from sparsim.machines.base import Machine, MachineConfig
from sparsim.machines.host_products import (
    INDEX_BYTES,
    KERNELS,
    Kernel,
    Part,
    drawn_operands,
    multiply,
    pack,
    performed_multiplies,
    stored_bytes,
)
from sparsim.workload import DataType, Operand, Workload

__all__ = ["Host", "HostConfig"]

CALLED = {"dense": "BLAS", "csr": "scipy's CSR x array", "spgemm": "scipy's CSR x CSR"}
SKIPS = {
    "auto": "empty rows and columns, and single zeros of A where that is faster",
    "dense": "empty rows and columns",
    "csr": "zeros of A",
    "spgemm": "zeros of A and of B",
}
DRAWING_BYTES = 24  # a score, its rank and its place, for each element of an operand that follows N:M
NOTE = "measured on this computer, differs from run to run; energy is not measured, bytes are each operand and C once"
WIDENED = "numpy and scipy have no fast product of such narrow values, so it ran in fp32"
UNSTEADY = "half of the runs of a product took at least half as long again as the fastest: was the computer busy?"
BUSY = 1.5
BEYOND_ANY_CORE = 512e9  # multiplies a second; two 512-bit units at 6 GHz do 192e9 in single precision
ALONE = Lock()  # two products timed at once would slow each other down


class HostConfig(MachineConfig):
    """How the product is run and timed. The fields of memory and technology bound nothing here."""

    kernel: Literal["auto", "dense", "csr", "spgemm"] = Field(description="what multiplies an A that has zeros")
    repeats: int = Field(ge=1, le=10_000, description="timed runs of each kernel, at most")
    budget_s: float = Field(
        ge=0, le=86_400, description="no further run of a kernel after this time; a longer warm-up counts itself [s]"
    )
    memory_gb: float = Field(gt=0, le=1e6, description="a kernel whose operands and result need more is left out [GB]")
    seed: int = Field(ge=0, description="of the values")


class Timing(NamedTuple):
    """Nanoseconds of each timed run of a kernel."""

    kernel: Kernel
    runs: tuple[int, ...]

    @property
    def best(self) -> int:
        """The fastest run."""
        return min(self.runs)


class Host(Machine):
    """The computer sparsim runs on."""

    config_class: ClassVar[type[MachineConfig]] = HostConfig
    measured: ClassVar[bool] = True

    @property
    def assumed(self) -> list[str]:
        """Nothing: what the preset assumes says how to measure, or bounds nothing."""
        return []

    @property
    def _host(self) -> HostConfig:
        return cast(HostConfig, self.config)

    def peak_of_one(self, dtype: DataType) -> float:
        """Return infinity: nobody has said what this computer could do at best."""
        return math.inf

    def run_one(self, workload: Workload) -> Activity:
        """Compute the product and return what it took.

        Raises
        ------
        ConfigError
            If no kernel fits into ``memory_gb``.
        """
        width = 8 if workload.dtype is DataType.FP64 else 4
        parts = self._parts(workload)
        sizes = {kernel: stored_bytes(kernel, parts, workload, width) for kernel in self._kernels(parts)}
        most = self._host.memory_gb * 1e9
        fitting = [kernel for kernel, size in sizes.items() if sum(size) <= most]
        if not fitting:
            self._refuse(workload, min(map(sum, sizes.values())))
        timings: list[Timing] = []
        for kernel in fitting if parts else ():
            if not timings or _least_ns(kernel, parts) < min(timing.best for timing in timings):
                timings.append(self._time(kernel, parts, np.dtype(f"f{width}")))
        return self._activity(workload, parts, timings, sizes)

    def _refuse(self, workload: Workload, needed: float) -> None:
        place = f"{workload.name} {workload.layer}".strip()
        raise ConfigError(
            f"{place} needs {needed / 1e9:.3g} GB to be computed",
            key=f"{self.name}.memory_gb",
            allowed=f"at most {self._host.memory_gb:g} GB; --set memory_gb=N where the computer has more",
        )

    def _kernels(self, parts: list[Part]) -> list[Kernel]:
        """Return the kernels to try: BLAS alone for an A without zeros; CSR x CSR only where B has zeros."""
        if all(part.a is None for part in parts):
            return ["dense"]
        asked = KERNELS if self._host.kernel == "auto" else (self._host.kernel,)
        sparse_b = any(part.b is not None for part in parts)
        return list(dict.fromkeys("csr" if kernel == "spgemm" and not sparse_b else kernel for kernel in asked))

    def _parts(self, workload: Workload) -> list[Part]:
        """Return what is left of every group without empty rows and columns."""
        a, b = self._positions(workload, workload.a), self._positions(workload, workload.b)
        m, k = workload.m // workload.groups, workload.k
        parts = []
        for group in range(workload.groups):
            own_a = None if a is None else a[group * m : (group + 1) * m]
            own_b = None if b is None else b[group * k : (group + 1) * k]
            part = pack(own_a, own_b, (m, k, workload.n))
            if part.m and part.k and part.n:
                parts.append(part)
        return parts

    def _positions(self, workload: Workload, operand: Operand) -> Any:
        """Return an operand's non-zeros as a scipy matrix, None if it has no zeros."""
        if operand.is_dense:
            return None
        needed = operand.rows * operand.cols * DRAWING_BYTES
        if operand.matrix is None and needed > self._host.memory_gb * 1e9:
            self._refuse(workload, needed)
        return operand.csr.to_scipy()

    def _time(self, kernel: Kernel, parts: list[Part], dtype: npt.DTypeLike) -> Timing:
        """Run a kernel on all parts, one after the other: once to warm up, then as often as repeats and time allow."""
        operands = drawn_operands(kernel, parts, dtype, self._host.seed)
        with ALONE:
            warm_up = multiply(operands)
            runs: list[int] = []
            while len(runs) < self._host.repeats and warm_up + sum(runs) < self._host.budget_s * 1e9:
                runs.append(multiply(operands))
        return Timing(kernel, tuple(runs or [warm_up]))

    def _activity(
        self,
        workload: Workload,
        parts: list[Part],
        timings: list[Timing],
        sizes: dict[Kernel, tuple[int, int, int]],
    ) -> Activity:
        best = min(timings, key=lambda timing: timing.best, default=Timing("dense", (0,)))
        width = 8 if workload.dtype is DataType.FP64 else 4
        cycles = math.ceil(best.best * self.config.clock_ghz)
        a, b, c = sizes.get(best.kernel, (0, 0, 0))
        moved = dict(zip(STREAMS, (a, b, 0, 0, c), strict=True))
        macs = workload.multiplies if best.kernel == "spgemm" else performed_multiplies(best.kernel, parts)
        indexed = width + INDEX_BYTES
        return Activity(
            cycles=cycles,
            stages={"product": Stage(float(cycles), 0.0)},
            multiplies=workload.multiplies,
            nnz_c=workload.nnz_c,
            operations={"multiply": macs, "add": macs, "compare": 0},
            buffers={},
            dram_bytes=moved,
            payload_bytes=moved,
            element_bytes=(
                width if best.kernel == "dense" else indexed,
                *((indexed, indexed) if best.kernel == "spgemm" else (width, width)),
            ),
            compulsory_b=workload.referenced_b,
            limited_by="measured",
            reason=_reason(timings),
            details=self._details(best, timings, list(sizes)) | {"performed_multiplies": macs},
            notes=_notes(workload, timings),
        )

    def _details(self, best: Timing, timings: list[Timing], asked: list[Kernel]) -> dict[str, Any]:
        tried = [timing.kernel for timing in timings]
        return {
            "skips": SKIPS[self._host.kernel],
            "kernel": best.kernel if timings else "none",
            "repeats": len(best.runs) if timings else 0,
            "median_s": median(best.runs) / 1e9,
            "spread": max(best.runs) / best.best - 1 if timings else 0.0,
            "best_s": {timing.kernel: timing.best / 1e9 for timing in timings},
            "left_out": [kernel for kernel in asked if tried and kernel not in tried],
            **_computer(),
        }


def _least_ns(kernel: Kernel, parts: list[Part]) -> float:
    """Return a time that no computer with as many threads could beat, so that BLAS need not try what is hopeless."""
    threads = _computer()["blas_threads"] if kernel == "dense" else 1
    return performed_multiplies(kernel, parts) / (BEYOND_ANY_CORE * threads) * 1e9


def _reason(timings: list[Timing]) -> str:
    if not timings:
        return "nothing to multiply, so nothing was run"
    return ", ".join(f"{CALLED[timing.kernel]} {_readable(timing.best)}" for timing in timings)


def _readable(nanoseconds: int) -> str:
    unit = min(len(str(nanoseconds)) - 1, 9) // 3
    return f"{nanoseconds / 1000**unit:.3g} {('ns', 'us', 'ms', 's')[unit]}"


def _notes(workload: Workload, timings: list[Timing]) -> tuple[str, ...]:
    notes = [NOTE]
    if workload.dtype not in (DataType.FP64, DataType.FP32):
        notes.append(WIDENED)
    if any(median(timing.runs) > BUSY * timing.best for timing in timings):
        notes.append(UNSTEADY)
    threads = _computer()["blas_threads"]
    if threads > 1 and any(timing.kernel != "dense" for timing in timings):
        notes.append(f"scipy's sparse products run on one core, BLAS on up to {threads}")
    return tuple(notes)


@cache
def _computer() -> dict[str, Any]:
    """Return what the times stand for: processor, threads that BLAS may use, versions of the libraries."""
    import scipy

    blas = cast(dict[str, Any], np.show_config(mode="dicts"))["Build Dependencies"]["blas"]
    return {
        "cpu": _processor(),
        "blas_threads": _threads(),
        "blas": f"{blas.get('name', '')} {blas.get('version', '')}".strip(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
    }


def _processor() -> str:
    """Return the processor's name as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


def _threads() -> int:
    """Return what the environment asks for, or the cores this process may run on, which is what BLAS takes then."""
    for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
        if os.environ.get(name, "").isdigit():
            return max(1, int(os.environ[name]))
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
