"""Every pair of workload and machine once, however often it is asked for, and the reports alone kept."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from sparsim.arguments import whole
from sparsim.energy import EnergyTable
from sparsim.errors import ConfigError
from sparsim.machines import Machine
from sparsim.progress import tqdm
from sparsim.report import Report, build_report, energy_of
from sparsim.workload import Workload

__all__ = ["Plan", "best"]

MAX_THREADS = 64


class Plan:
    """Runs pairs of workload and machine.

    Parameters
    ----------
    table : energies of all machines.
    others : tables that price the same activities again.
    orientation : how machines that can choose run a layer: "auto", "wx" or "xtwt".
    jobs : threads, None for one a core.
    """

    def __init__(
        self, table: EnergyTable, orientation: str, jobs: int | None, others: Sequence[EnergyTable] = ()
    ) -> None:
        jobs = None if jobs is None else whole(jobs, "jobs", 1)
        self.table, self.orientation, self.others = table, orientation, others
        self.jobs = min(jobs or os.cpu_count() or 1, MAX_THREADS)
        self.done: dict[tuple[str, str, str], Report] = {}
        self.priced: dict[tuple[str, str, str], Mapping[str, float]] = {}
        self.bar: tqdm[Any] | None = None

    @staticmethod
    def key(workload: Workload, built: Machine) -> tuple[str, str, str]:
        """Return what a run is known by."""
        return workload.sha256, built.name, built.config_sha256

    def report(self, workload: Workload, built: Machine) -> Report:
        """Return the report of a pair that has run."""
        return self.done[self.key(workload, built)]

    def energies(self, workload: Workload, built: Machine) -> Mapping[str, float]:
        """Return pJ of a pair that has run by energy table, the main one among them."""
        key = self.key(workload, built)
        return {self.table.name: self.done[key].energy_pj, **self.priced[key]}

    def run(self, pairs: Sequence[tuple[Workload, Machine]]) -> None:
        """Run the pairs that have not run yet; measured ones alone, after the others, one at a time."""
        from joblib import Parallel, delayed

        todo = {self.key(*pair): pair for pair in pairs if self.key(*pair) not in self.done}
        if self.bar is not None:
            self.bar.total = (self.bar.total or 0) + len(todo)
            self.bar.refresh()
        modelled = {key: pair for key, pair in todo.items() if not pair[1].measured}
        pool = Parallel(n_jobs=self.jobs, backend="threading", return_as="generator")
        price = partial(best, orientation=self.orientation, table=self.table, others=self.others)
        runs = pool(delayed(price)(*pair) for pair in modelled.values())
        for key, found in zip(modelled, runs, strict=True):
            self._keep(key, *found)
        for key, pair in todo.items():
            if key not in modelled:
                self._keep(key, *price(*pair))

    def _keep(self, key: tuple[str, str, str], report: Report, priced: Mapping[str, float]) -> None:
        self.done[key], self.priced[key] = report, priced
        if self.bar is not None:
            self.bar.update()


def best(
    workload: Workload, built: Machine, orientation: str, table: EnergyTable, others: Sequence[EnergyTable] = ()
) -> tuple[Report, dict[str, float]]:
    """Run the ways the machine can lay out a layer, and keep the fastest; a product that is no layer runs as it is.

    Returns
    -------
    Its report, and its pJ by each of the ``others``.

    Raises
    ------
    ConfigError
        If the machine has no layout of that orientation.
    """
    layouts = [
        layout
        for layout in (built.layouts(workload) if workload.layer else [{}])
        if orientation in ("auto", layout.get("mapping.orientation", orientation))
    ]
    if not layouts:
        raise ConfigError(
            f"machine '{built.name}' cannot run layer '{workload.layer}' as {orientation}", key="--orientation"
        )
    ways = [built.with_fields(layout) for layout in layouts]
    activities = [way.run(workload) for way in ways]
    reports = [build_report(workload, way, did, table) for way, did in zip(ways, activities, strict=True)]
    at = min(range(len(ways)), key=lambda number: reports[number].cycles)
    priced = {other.name: energy_of(workload, ways[at], activities[at], other)["total"] for other in others}
    return reports[at], priced
