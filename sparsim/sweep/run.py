"""Runs a grid: what the store lacks goes to the workers in windows, and every window ends in rows."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cache as cached
from typing import Any

from sparsim.errors import SparsimError
from sparsim.progress import tqdm
from sparsim.rows import Product, Row
from sparsim.sweep.cases import Case, Source, all_cases, open_source
from sparsim.sweep.estimate import Estimate, kind_of, memory_bytes, multiplies, pace
from sparsim.sweep.execute import Outcome, Pool, Task, Work, run_task
from sparsim.sweep.grid import Configuration, Grid
from sparsim.sweep.points import Part, Point, point_rows
from sparsim.sweep.store import Store, model_version
from sparsim.workload import Workload

__all__ = ["Engine", "Inputs"]

WINDOW_TASKS = 512
WINDOW_BYTES = 2**28
KEPT_BYTES = 2**28


class Lazily(Sequence[Product]):
    """The products of a case that the store knows: pruned again only where a machine has to run one."""

    def __init__(self, source: Source, case: Case) -> None:
        self._made = cached(lambda: list(source.products(case)))

    def __len__(self) -> int:
        return len(self._made())

    def __getitem__(self, number: Any) -> Any:
        return self._made()[number]


class Inputs:
    """The inputs of a sweep, loaded when they are asked for; those used last stay while they are small together."""

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self._kept: OrderedDict[int, Source] = OrderedDict()

    def __len__(self) -> int:
        return len(self.grid.inputs)

    def __getitem__(self, number: int) -> Source:
        """Return an input; what is wrong with it is raised every time."""
        if number not in self._kept:
            source = open_source(self.grid.inputs[number], self.grid)
            source.check(all_cases(self.grid))
            self._kept[number] = source
        self._kept.move_to_end(number)
        while len(self._kept) > 1 and sum(source.size_bytes for source in self._kept.values()) > KEPT_BYTES:
            self._kept.popitem(last=False)
        return self._kept[number]

    def name(self, number: int) -> str:
        """Return what rows call an input that could not be loaded."""
        entry = self.grid.inputs[number]
        return entry if isinstance(entry, str) else str(getattr(entry, "name", entry))


@dataclass
class _Window:
    """Points in the order of the grid, and the tasks they wait for."""

    points: list[Point] = field(default_factory=list)
    tasks: dict[str, Task] = field(default_factory=dict)
    workloads: dict[str, Workload] = field(default_factory=dict)

    @property
    def is_full(self) -> bool:
        held = sum(_bytes(workload) for workload in self.workloads.values())
        return len(self.tasks) >= WINDOW_TASKS or held > WINDOW_BYTES


@dataclass
class Engine:
    """One sweep.

    Parameters
    ----------
    grid, machines, cases : what it covers.
    inputs : what is loaded for it.
    store : of finished runs.
    jobs, dask : who runs, see :class:`~sparsim.sweep.execute.Pool`.
    layers : whether rows of layers are wanted too.
    bar : counts points.
    """

    grid: Grid
    machines: Sequence[Configuration]
    cases: Sequence[Case]
    inputs: Inputs
    store: Store
    jobs: int | None = None
    dask: str | None = None
    layers: bool = False
    bar: tqdm[Any] | None = None
    failed: dict[str, str] = field(default_factory=dict)
    measured: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=lambda: {"done": 0, "stored": 0, "failed": 0})

    @property
    def points(self) -> int:
        """Return how many points the grid has."""
        return len(self.inputs) * len(self.cases) * len(self.machines)

    def rows(self) -> Iterator[Row]:
        """Yield the rows of every point in the order of the grid."""
        window = _Window()
        with ExitStack() as stack:
            pool: Pool | None = None
            for number in range(len(self.inputs)):
                for case in self.cases:
                    self._add(window, number, case)
                    if window.is_full:
                        pool = pool or self._pool(stack, window)
                        yield from self._run(window, pool)
                        window = _Window()
            yield from self._run(window, pool or self._pool(stack, window))

    def _pool(self, stack: ExitStack, window: _Window) -> Pool | None:
        """Start workers once there is work for them."""
        if not any(not task.machine.measured for task in window.tasks.values()):
            return None
        work = Work(self.grid.orientation, self.grid.energy, model_version())
        return stack.enter_context(Pool(work, self.jobs, self.dask))

    def _add(self, window: _Window, number: int, case: Case) -> None:
        """Put the points of a case into the window, with those of their runs that nobody has done."""
        try:
            source = self.inputs[number]
        except (SparsimError, MemoryError) as problem:
            if len(self.inputs) == 1:
                raise
            blank = Point(self.inputs.name(number), case, self.machines[0], self.grid, error=_told(problem))
            self._put(window, blank, ())
            return
        products: list[Product] = []
        try:
            parts = self.parts(source, case)
            if parts is None:
                products = list(source.products(case))
                parts = self._keep(source, case, products)
            blank = Point(source.name, case, self.machines[0], self.grid, parts, source.is_matrix)
            self._put(window, blank, products or Lazily(source, case))
        except (SparsimError, MemoryError) as problem:
            self._put(window, Point(source.name, case, self.machines[0], self.grid, error=_told(problem)), ())

    def _put(self, window: _Window, blank: Point, products: Sequence[Product]) -> None:
        tasks: dict[str, Task] = {}
        points = [replace(blank, configuration=one) for one in self.machines]
        for point in points:
            runs = list(point.runs())
            point.waiting = set(self.store.missing(key for *_, key in runs)) - self.failed.keys() - self.measured.keys()
            for at, way, machine, key in runs:
                if key in point.waiting and key not in window.tasks and key not in tasks:
                    workload = getattr(products[at], way)
                    tasks[key] = Task(key, window.workloads.setdefault(workload.sha256, workload), machine)
        window.points += points
        window.tasks |= tasks

    def parts(self, source: Source, case: Case) -> list[Part] | None:
        """Return what the store knows of a case."""
        where = source.address(case)
        known = None if where is None else self.store.case(where)
        return None if known is None else [Part(*part) for part in known["parts"]]

    def _keep(self, source: Source, case: Case, products: Sequence[Product]) -> list[Part]:
        parts = [Part.of(product) for product in products]
        where = source.address(case)
        if where is not None:
            self.store.put_case(where, {"parts": parts})
        return parts

    def _run(self, window: _Window, pool: Pool | None) -> Iterator[Row]:
        """Run the tasks of a window, keep what comes back at once, and yield the rows."""
        waiting: dict[str, list[Point]] = {}
        for point in window.points:
            for key in point.waiting:
                waiting.setdefault(key, []).append(point)
        self._advance([point for point in window.points if not point.waiting], stored=True)
        modelled = [task for task in window.tasks.values() if not task.machine.measured]
        for outcome in pool.run(modelled) if pool is not None and modelled else ():
            self._take(outcome, waiting)
        for task in window.tasks.values():
            if task.machine.measured:
                work = Work(self.grid.orientation, self.grid.energy, model_version())
                self._take(run_task(work, task), waiting, keep=False)
        for point in window.points:
            keys = [key for *_, key in point.runs()]
            yield from point_rows(point, self.store.get(keys) | self.measured, self.failed, self.layers)

    def _take(self, outcome: Outcome, waiting: Mapping[str, list[Point]], keep: bool = True) -> None:
        if outcome.record is None:
            self.failed[outcome.key] = outcome.error
        elif keep:
            self.store.put(outcome.key, outcome.record)
        else:
            self.measured[outcome.key] = outcome.record
        done = []
        for point in waiting[outcome.key]:
            point.waiting.discard(outcome.key)
            done += [] if point.waiting else [point]
        self._advance(done)

    def _advance(self, points: Sequence[Point], stored: bool = False) -> None:
        for point in points:
            bad = point.error or point.configuration.error or any(key in self.failed for *_, key in point.runs())
            self.counts["done"] += 1
            self.counts["failed"] += bool(bad)
            self.counts["stored"] += stored and not bad
        if self.bar is not None and points:
            told = {key: count for key, count in self.counts.items() if count and key != "done"}
            self.bar.set_postfix(told, refresh=False)
            self.bar.update(len(points))

    def estimate(self, processes: int) -> Estimate:
        """Return what the sweep is going to take; inputs that cannot be loaded take nothing."""
        finished = runs = 0
        seconds = memory = 0.0
        for number in range(len(self.inputs)):
            for case in self.cases:
                try:
                    source = self.inputs[number]
                    work, kind, parts = multiplies(source, case), kind_of(source, case), self.parts(source, case)
                except (SparsimError, MemoryError):
                    if len(self.inputs) == 1:
                        raise
                    continue
                memory = max(memory, memory_bytes(source, processes))
                counted: set[str] = set()
                for one in self.machines:
                    lacking = self._lacking(source, case, one, parts, work, counted)
                    finished += parts is not None and not lacking
                    for built, counts in lacking:
                        runs += len(counts)
                        seconds += pace(built, kind).seconds(counts)
        return Estimate(self.points, finished, runs, seconds, processes, memory)

    def _lacking(
        self,
        source: Source,
        case: Case,
        one: Configuration,
        parts: Sequence[Part] | None,
        work: Sequence[float],
        counted: set[str],
    ) -> list[tuple[Any, list[float]]]:
        """Return machines with the multiplies of each run they have to do for a point, without those ``counted``."""
        if one.built is None:
            return []
        if parts is None:
            return [(one.built, list(work))]
        point = Point(source.name, case, one, self.grid, parts)
        missing = set(self.store.missing(key for *_, key in point.runs()))
        counts: dict[str, tuple[Any, list[float]]] = {}
        for at, _, machine, key in point.runs():
            if key in missing:
                mine = counts.setdefault(machine.config_sha256, (machine, []))[1]
                mine += [] if key in counted else [work[min(at, len(work) - 1)]]
                counted.add(key)
        return list(counts.values())


def _bytes(workload: Workload) -> int:
    matrices = [operand.matrix for operand in (workload.a, workload.b) if operand.matrix is not None]
    return sum(matrix.indptr.nbytes + matrix.indices.nbytes for matrix in matrices)


def _told(problem: Exception) -> str:
    return f"{type(problem).__name__}: {problem}"
