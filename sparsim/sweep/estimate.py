"""How long a sweep will take and how much memory, before it starts."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from sparsim.arguments import whole
from sparsim.energy import DEFAULT_TABLE, load_table
from sparsim.errors import SparsimError, counted
from sparsim.machines import Machine
from sparsim.report import si
from sparsim.runs import best
from sparsim.sweep.cases import Case, Source
from sparsim.sweep.execute import PARENT_BYTES, WORKER_BYTES
from sparsim.workload import DataType, Operand, Workload, at_width

__all__ = ["Estimate", "Kind", "Pace", "kind_of", "memory_bytes", "multiplies", "pace", "pilot", "processes"]

FIRST_ROWS, GROWTH, LAST_ROWS = 64, 4, 1024
ENOUGH_S = 0.02
DEPTH = 576
MOST_COLUMNS = 10  # as a power of two


@dataclass(frozen=True)
class Estimate:
    """What a sweep is going to take.

    Parameters
    ----------
    points : of the grid.
    finished : points whose every run is in the store.
    runs : that are to do, at most: equal layers, known once all is pruned, run once.
    seconds : of all of them, one after the other [s].
    processes : that share them; 0 if a cluster does.
    memory_bytes : of this process and its workers together, above idle ones.
    """

    points: int
    finished: int
    runs: int
    seconds: float
    processes: int
    memory_bytes: float

    @property
    def wall_s(self) -> float:
        """Return the time it takes with its processes [s]."""
        return self.seconds / max(self.processes, 1)

    def __str__(self) -> str:
        kept = f", {self.finished:,} of them in the store" if self.finished else ""
        where = "one after the other" if self.processes <= 1 else f"on {self.processes} processes"
        points, runs = counted(self.points, "point"), counted(self.runs, "run")
        return (
            f"{points}{kept}; at most {runs}, about {_duration(self.wall_s)} {where}, "
            f"up to {si(self.memory_bytes, 'B')} beside what idle processes take"
        )


@dataclass(frozen=True)
class Pace:
    """How fast a machine is simulated: seconds of a run, and of one multiply more."""

    run_s: float
    multiply_s: float

    def seconds(self, multiplies: Iterable[float]) -> float:
        """Return the time for runs of so many multiplies [s]."""
        return sum(self.run_s + self.multiply_s * each for each in multiplies)


def processes(jobs: int | None, dask: str | None) -> int:
    """Return how many processes share the runs; 0 if that is the cluster's affair."""
    from joblib import cpu_count

    return 0 if dask is not None else cpu_count() if jobs is None else whole(jobs, "--jobs", 1)


def memory_bytes(source: Source, workers: int) -> float:
    """Return what an input takes at most above idle processes [bytes]; a cluster's workers are not counted."""
    nnz = sum(layer.nnz for layer in source.network)
    return float((PARENT_BYTES + WORKER_BYTES * workers) * nnz)


def multiplies(source: Source, case: Case) -> list[float]:
    """Return about how many effectual multiplies each product of a case has; nothing is pruned for it."""
    if source.is_matrix:
        (layer,) = source.network
        matrix = layer.matrix
        return [float(Operand.of(matrix).column_lengths @ matrix.row_lengths)]
    counts = [float(layer.nnz) for layer in source.network]
    if case.pair is not None:
        counts = _kept(counts, [layer.size for layer in source.network], case)
    return [
        count * _columns(source, number, case.batch) * layer.activation_density
        for number, (layer, count) in enumerate(zip(source.network, counts, strict=True))
    ]


def _columns(source: Source, number: int, batch: int) -> int:
    return at_width(source.network.layers[number], source.grid.columns).columns(batch)


def _kept(counts: Sequence[float], sizes: Sequence[int], case: Case) -> list[float]:
    assert case.pair is not None
    pattern, budget = case.pair
    whole = max(sum(sizes), 1)
    if pattern.fixes_sparsity:
        share = pattern.sizes[-2] / pattern.sizes[-1]
    elif "nnz" in budget:
        share = budget["nnz"] / whole
    else:
        share = budget["density"] if "density" in budget else 1 - budget.get("sparsity", 0.0)
    return [min(count, size * share) for count, size in zip(counts, sizes, strict=True)]


class Kind(NamedTuple):
    """What the products of a sweep are like.

    Parameters
    ----------
    columns : of the activations, a power of two; 0 for a sparse matrix by itself.
    density : of the activations, 1 or less.
    """

    columns: int
    density: float = 1.0


def kind_of(source: Source, case: Case) -> Kind:
    """Return what most products of a case are like, weighted by multiplies."""
    if source.is_matrix:
        return Kind(0)
    counts = multiplies(source, case)
    whole = max(sum(counts), 1.0)
    columns = sum(count * _columns(source, number, case.batch) for number, count in enumerate(counts)) / whole
    density = sum(count * layer.activation_density for count, layer in zip(counts, source.network, strict=True)) / whole
    return Kind(2 ** min(round(math.log2(max(columns, 1.0))), MOST_COLUMNS), 1.0 if density > 0.9 else 0.5)


def pilot(rows: int, kind: Kind) -> Workload:
    """Return a small product of a kind."""
    if not kind.columns:
        square = Operand.random(rows * 8, rows * 8, min(1.0, 1 / rows), 0)
        return Workload(square, square, "pilot")
    weights = Operand.random(rows, DEPTH, 0.25, 0)
    activations = Operand.random(DEPTH, kind.columns, kind.density, 0)
    return Workload(weights, activations, "pilot", "pilot", DataType.FP16)


def pace(built: Machine, kind: Kind) -> Pace:
    """Time small products, growing until one takes long enough; the first run compiles and is not timed."""
    return _pace(_Hashed(built, built.name + built.config_sha256), kind)


class _Hashed:
    """A machine that is known by its configuration."""

    def __init__(self, built: Machine, key: str) -> None:
        self.built, self.key = built, key

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Hashed) and other.key == self.key


@cache
def _pace(machine: _Hashed, kind: Kind) -> Pace:
    rows, built = FIRST_ROWS, machine.built
    try:
        _timed(built, pilot(rows, kind))
        first, small = _timed(built, pilot(rows, kind))
        last, large = first, small
        while last < ENOUGH_S and rows < LAST_ROWS:
            rows *= GROWTH
            last, large = _timed(built, pilot(rows, kind))
    except SparsimError:
        return Pace(0.0, 0.0)
    if large == small:
        return Pace(0.0, first / max(small, 1))
    slope = max(last - first, 0.0) / (large - small)
    return Pace(max(first - slope * small, 0.0), slope)


def _timed(built: Machine, workload: Workload) -> tuple[float, int]:
    table = load_table(DEFAULT_TABLE)
    start = time.perf_counter()
    best(workload, built, "auto", table)
    return time.perf_counter() - start, workload.multiplies


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
