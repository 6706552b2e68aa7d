"""joblib's Dask backend, made to answer for every task.

As it comes it waits for ever for a task whose worker dies each time, and the inputs it spreads are gone with the
worker that holds them. Here a failed task is a result like any other, and an input can be made again wherever it is
lost.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from typing import Any

from joblib._dask import DaskDistributedBackend

from sparsim.errors import ConfigError, MissingExtra
from sparsim.machines import Machine
from sparsim.sweep.execute import DIED, Outcome, Task, light, told
from sparsim.workload import Workload

try:
    import dask
    import distributed
except ImportError:
    raise MissingExtra("a sweep on a cluster", "dask") from None

__all__ = ["Cluster"]

ANSWERS_WITHIN_S = 8
WORKERS_WITHIN_S = 10


class Cluster:
    """A connection to a Dask scheduler.

    Parameters
    ----------
    address : of the scheduler.

    Raises
    ------
    ConfigError
        If nobody answers there.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        try:
            self._client = _Client(address, timeout=ANSWERS_WITHIN_S, set_as_default=False)
        except Exception as problem:  # whatever a server of another kind makes distributed do
            raise ConfigError(
                f"no Dask scheduler answers at '{address}' ({told(problem)})",
                key="--dask",
                allowed="the address a scheduler shows at its start, such as tcp://host:8786",
            ) from None

    def close(self) -> None:
        """Take back what has not been done, and disconnect."""
        log = logging.getLogger("distributed.client")
        level = log.level
        log.setLevel(logging.CRITICAL)  # it shows a traceback where it was about to connect again
        try:
            self._client.close()
        finally:
            log.setLevel(level)

    def failure(self, problem: Exception) -> ConfigError:
        """Return what a sweep ends with that the cluster let down."""
        if isinstance(problem, TimeoutError):
            told_of = f"no worker has joined the scheduler at '{self.address}' for {WORKERS_WITHIN_S} s"
        elif isinstance(problem, OSError | CancelledError):
            told_of = f"the scheduler at '{self.address}' is gone ({told(problem)})"
        else:
            told_of = f"the cluster of '{self.address}' failed ({told(problem)})"
        return ConfigError(told_of, key="--dask", allowed="a scheduler with workers; what is finished is kept")

    def backend(self) -> Any:
        """Return what joblib runs one window with."""
        return _Backend(client=self._client, wait_for_workers_timeout=WORKERS_WITHIN_S)

    def sent(self, tasks: Iterable[Task]) -> Iterator[tuple[str, Any, Machine]]:
        """Send each workload once, and yield the tasks with a reference in its place."""
        held, future = None, None
        for key, workload, machine in tasks:
            if workload is not held:
                held = workload
                with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1TiB"}):
                    future = self._client.submit(_same, light(workload), pure=False)
            yield key, future, machine


class _Client(distributed.Client):  # type: ignore[misc]
    """A client that leaves nothing behind if it cannot connect."""

    def start(self, **options: Any) -> None:
        """Connect."""
        try:
            super().start(**options)
        except BaseException:
            self.close(timeout=1)
            raise


def _same(workload: Workload) -> Workload:
    return workload


class _Backend(DaskDistributedBackend):  # type: ignore[misc]
    """joblib's backend, with an outcome also for tasks that failed outside :func:`~sparsim.sweep.execute.run_task`."""

    def effective_n_jobs(self, n_jobs: int) -> int:
        """Return the threads of the cluster, at least two: joblib runs in this process what only one would share."""
        return max(int(super().effective_n_jobs(n_jobs)), 2)

    def submit(self, func: Any, callback: Callable[[Any], None]) -> Any:
        """Hand out one task, and call back also where it fails."""
        ((_, (_, key, *_), _),) = func.items

        def ended(done: Any) -> None:
            problem = done.exception()
            if problem is not None:
                died = isinstance(problem, distributed.scheduler.KilledWorker)
                callback([Outcome(key, None, DIED if died else told(problem), 0.0)])

        renamed = "submit" in vars(DaskDistributedBackend)  # apply_async before joblib 1.6
        result = (super().submit if renamed else super().apply_async)(func, callback)
        result.add_done_callback(ended)
        return result

    def apply_async(self, func: Any, callback: Callable[[Any], None]) -> Any:
        """Hand out one task, as joblib before 1.5 asks."""
        return self.submit(func, callback)

    def retrieve_result_callback(self, out: Any) -> Any:
        """Return the outcomes of a batch; a task that the scheduler dropped ends the sweep."""
        if isinstance(out, BaseException):
            raise out
        return super().retrieve_result_callback(out)
