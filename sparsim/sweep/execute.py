"""Runs the tasks of a sweep: in this process, on processes of this computer, or on a Dask cluster.

Whatever happens to a task, it comes back as one :class:`Outcome`: a model that refuses it, a defect, a worker that is
killed under it.
"""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from sparsim.arguments import whole
from sparsim.energy import DEFAULT_TABLE, load_table
from sparsim.errors import ConfigError, ModelError, one_line
from sparsim.machines import Machine
from sparsim.matrix import Csr
from sparsim.runs import best
from sparsim.sweep.store import model_version
from sparsim.workload import Operand, Workload

if TYPE_CHECKING:
    from sparsim.sweep.dask import Cluster

__all__ = ["DIED", "Outcome", "Pool", "Task", "Work", "run_task"]

FORGOTTEN_AFTER_S = 2.0
PARENT_BYTES, WORKER_BYTES = 50, 220  # a non-zero, see Pool
DIED = "the worker process died under it (killed, or out of memory)"


class Task(NamedTuple):
    """One run.

    Parameters
    ----------
    key : address of its content, unlike that of any other task.
    workload, machine : what runs where.
    """

    key: str
    workload: Workload
    machine: Machine


class Outcome(NamedTuple):
    """What came of a task.

    Parameters
    ----------
    key : of the task.
    record : ``data``, ``reason`` and ``notes`` of its report, plain enough for JSON; None if it failed.
    error : one line that says why it failed, "" if it did not.
    seconds : it took where it ran [s]; 0 if nobody lived to tell.
    """

    key: str
    record: dict[str, Any] | None
    error: str
    seconds: float


@dataclass(frozen=True)
class Work:
    """What all tasks of a sweep share.

    Parameters
    ----------
    orientation : how machines that can choose run a layer: "auto", "wx" or "xtwt".
    energy : name of an energy table, "" for the usual one.
    model : version of the models of whoever asks; workers that have another refuse.
    """

    orientation: str
    energy: str
    model: str


def run_task(work: Work, task: Task) -> Outcome:
    """Run a task; what goes wrong is part of the outcome, and only an interrupt is raised."""
    start = time.perf_counter()
    record, error = None, ""
    try:
        record = _record(work, task)
    except Exception as problem:
        error = told(problem)
    return Outcome(task.key, record, error, time.perf_counter() - start)


def _record(work: Work, task: Task) -> dict[str, Any]:
    if work.model != model_version():
        raise ConfigError(
            f"the worker's models are version {model_version()}, the sweep's {work.model}",
            allowed="the same sparsim on all computers, installed before the sweep starts",
        )
    table = load_table(work.energy or DEFAULT_TABLE)
    report, _ = best(task.workload, task.machine, work.orientation, table)
    record = {"data": report.data, "reason": report.reason, "notes": list(report.notes)}
    try:
        json.dumps(record, allow_nan=False)
    except (TypeError, ValueError) as problem:
        raise ModelError(f"a report that cannot be kept ({problem})") from None
    return record


def told(problem: BaseException) -> str:
    """Return an error as one line: its class and its message."""
    return one_line(f"{type(problem).__name__}: {problem}").removesuffix(": ")


class Pool:
    """Whoever runs the tasks of a sweep; to be used in a ``with`` statement.

    Processes are joblib's: they start with the first tasks, serve one :meth:`run` after the other and the next sweep
    too, and those without work end after five minutes.

    Beside what idle processes take, a sweep over one large matrix by itself takes at most ``PARENT_BYTES`` in this
    process and ``WORKER_BYTES`` in each worker for every non-zero, however many points it has: the processes of a
    computer share one copy of the positions. Measured with ``benchmarks/sweep/memory.py``: this process takes 45 with
    ten million non-zeros, a SpArch worker 21. With a million and fewer, a worker took 29 to 181, most where nothing is
    condensed or merging comes after multiplying; OuterSPACE takes 44.

    Parameters
    ----------
    work : what all tasks share.
    jobs : processes on this computer, None for one a core; 1 runs in this process.
    dask : address of a Dask scheduler, such as "tcp://host:8786", whose workers run instead.

    Raises
    ------
    ConfigError
        If ``jobs`` is not positive, or no scheduler answers.
    MissingExtra
        If Dask is asked for and not installed.
    """

    def __init__(self, work: Work, jobs: int | None = None, dask: str | None = None) -> None:
        from joblib import cpu_count

        self.work, self.dask = work, dask
        self.jobs = cpu_count() if jobs is None else whole(jobs, "--jobs", 1)
        self._cluster: Cluster | None = None
        self._running: Generator[Outcome, None, None] | None = None

    def __enter__(self) -> Pool:
        if self.dask is not None:
            from sparsim.sweep.dask import Cluster

            self._cluster = Cluster(self.dask)
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self._running is not None:
                self._running.close()
        finally:
            if self._cluster is not None:
                self._cluster.close()

    def run(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        """Yield the outcome of every task once, in any order, each as it is known.

        A task whose worker dies is tried once more with no other beside it, so that only what really kills workers
        (or needs more memory than there is) ends as an error.
        """
        alone = self._cluster is None and self.jobs == 1
        self._running = self._here(tasks) if alone else self._elsewhere(tasks)
        return self._running

    def _here(self, tasks: Iterable[Task]) -> Generator[Outcome, None, None]:
        for task in tasks:
            yield run_task(self.work, task)

    def _elsewhere(self, tasks: Iterable[Task]) -> Generator[Outcome, None, None]:
        waiting = {task.key: task for task in _by_workload(tasks)}
        while waiting:
            begun: list[str] = []
            try:
                with closing(self._at_once(list(waiting.values()), begun.append)) as outcomes:
                    for outcome in outcomes:
                        if outcome.error != DIED:
                            del waiting[outcome.key]
                            yield outcome
            except Exception as problem:
                if self._cluster is not None:
                    raise self._cluster.failure(problem) from None
                if not begun:
                    raise
            for key in begun:
                if key in waiting:
                    yield self._by_itself(waiting.pop(key))

    def _by_itself(self, task: Task) -> Outcome:
        try:
            (outcome,) = self._at_once([task])
        except BrokenProcessPool:
            return Outcome(task.key, None, DIED, 0.0)
        except Exception as problem:
            if self._cluster is not None:
                raise self._cluster.failure(problem) from None
            return Outcome(task.key, None, told(problem), 0.0)
        return outcome

    def _at_once(self, tasks: Iterable[Task], begins: Callable[[str], object] = str) -> Generator[Outcome, None, None]:
        """Hand tasks out as workers become free, and say which; end with an error where workers are lost."""
        from joblib import Parallel, delayed

        sent: Iterator[tuple[str, Any, Machine]]
        if self._cluster is None:
            _start_processes(self.jobs)
            workers, sent = _processes(self.jobs), _sent(tasks)
        else:
            workers, sent = {"n_jobs": -1, "backend": self._cluster.backend()}, self._cluster.sent(tasks)

        def calls() -> Iterator[Any]:
            for key, workload, machine in sent:
                begins(key)
                yield delayed(run_remote)(self.work, key, workload, machine)

        results = Parallel(**workers, batch_size=1, return_as="generator_unordered")(calls())
        try:
            for outcome in results:  # noqa: UP028  left early, joblib's generator must not be closed: it would warn
                yield outcome
        except GeneratorExit:
            with suppress(KeyboardInterrupt):
                results.throw(KeyboardInterrupt)
            raise


def run_remote(work: Work, key: str, workload: Workload, machine: Machine) -> Outcome:
    """Run a task in a worker, which keeps what it derived from a workload for the next machine, but not for long."""
    held, timer = _last.get("workload"), _last.get("timer")
    if timer is not None:
        timer.cancel()
    if held is None or _identity(held) != _identity(workload):
        _last["workload"] = held = workload
    try:
        return run_task(work, Task(key, held, machine))
    finally:
        _last["timer"] = timer = threading.Timer(FORGOTTEN_AFTER_S, _last.clear)
        timer.daemon = True
        timer.start()


_last: dict[str, Any] = {}


def _identity(workload: Workload) -> tuple[str, ...]:
    return workload.sha256, workload.name, workload.layer, workload.weight_of


def light(workload: Workload) -> Workload:
    """Return the workload without what no model looks at: values, what it is compared with, what can be derived."""
    patterns: dict[int, Csr] = {}

    def bare(operand: Operand) -> Operand:
        matrix = operand.matrix
        if matrix is None:
            return replace(operand)
        pattern = patterns.setdefault(id(matrix), Csr(matrix.shape, matrix.indptr, matrix.indices))
        return replace(operand, matrix=pattern)

    lighter = replace(workload, a=bare(workload.a), b=bare(workload.b), dense_twin=None)
    vars(lighter)["sha256"] = workload.sha256
    return lighter


def _by_workload(tasks: Iterable[Task]) -> list[Task]:
    """Put the tasks of a workload beside one another, for workers remember one."""
    groups: dict[str, list[Task]] = {}
    for task in tasks:
        groups.setdefault(task.workload.sha256, []).append(task)
    return [task for group in groups.values() for task in group]


def _sent(tasks: Iterable[Task]) -> Iterator[Task]:
    """Yield the tasks with light workloads, each made once: joblib knows an array it has shared by its identity."""
    held: Workload | None = None
    for task in tasks:
        if held is None or held.sha256 != task.workload.sha256:
            held = light(task.workload)
        yield task._replace(workload=held)


def _processes(jobs: int) -> dict[str, Any]:
    """Return what joblib is told to run on processes; it starts new ones wherever that differs.

    Arrays are mapped so that writing to them is allowed, though nobody does: for others numba would compile everything
    once more.
    """
    return {"n_jobs": jobs, "backend": "loky", "mmap_mode": "c"}


def _start_processes(jobs: int) -> None:
    """Start those that are not there yet, deaf to ctrl-C: it is the parent that ends them."""
    from joblib import Parallel, delayed

    with _ctrl_c_blocked():
        Parallel(**_processes(jobs))([delayed(int)()])


@contextmanager
def _ctrl_c_blocked() -> Iterator[None]:
    """Block the signal where that is possible; processes started meanwhile inherit it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
