"""OuterSPACE (Pal and others, HPCA 2018): traffic and comparisons are asserted, times and averages shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from statistics import fmean, geometric_mean
from typing import Any

import numpy as np

from sparsim.fidelity.bench import Bench
from sparsim.fidelity.record import Published, Row, compare_with, not_modelled, read_published, skipped
from sparsim.fidelity.sparch.roofline import read_counts
from sparsim.fidelity.sparch.workloads import uniform
from sparsim.kernels.outerspace import insertion_merge
from sparsim.report import Report
from sparsim.simulate import product, run

__all__ = ["TOLERANCES", "rows"]

PAPER = "outerspace"
# Bar heights were read off a figure; TeAAL's own traffic leaves out part of the pointers. Its comparisons are counts.
TOLERANCES = {
    "traffic_total": 0.05,
    "traffic_partial": 0.05,
    "traffic_total_teaal": 0.05,
    "merge_comparisons_teaal": 0.0,
}
AVERAGED: dict[str, Callable[[Report, Report], float]] = {
    "gflops": lambda rival, sparch: rival.gflops,
    "gflops_restated": lambda rival, sparch: rival.gflops,
    "bandwidth_utilisation_restated": lambda rival, sparch: 100 * rival.dram_bytes / (rival.time_s * 128e9),
    "speedup_of_sparch": lambda rival, sparch: rival.time_s / sparch.time_s,
    "traffic_saved_by_sparch": lambda rival, sparch: rival.dram_bytes / sparch.dram_bytes,
}
UNIFORM = "uniform "


def rows(bench: Bench) -> Iterator[Row]:
    """Yield every published figure of OuterSPACE beside the model's."""
    real = [each.matrix for each in read_counts() if bench.has(each.matrix)]
    for published in read_published(PAPER):
        tolerance = published.tolerance if published.tolerance is not None else TOLERANCES.get(published.quantity)
        yield _row(bench, replace(published, tolerance=tolerance), real)


def _row(bench: Bench, published: Published, real: list[str]) -> Row:
    quantity, workload = published.quantity, published.workload
    if workload.startswith(UNIFORM):
        return compare_with(PAPER, published, _uniform_ms(workload))
    if quantity in AVERAGED:
        return _average(bench, published, real)
    if quantity not in TOLERANCES:
        return not_modelled(PAPER, published)
    if not bench.has(workload):
        return skipped(PAPER, published, workload)
    if quantity == "merge_comparisons_teaal":
        return compare_with(PAPER, published, _comparisons(bench, workload))
    return compare_with(PAPER, published, _traffic(bench.report(workload, "outerspace"), quantity))


def _traffic(report: Report, quantity: str) -> float:
    """Return bytes without what blocks bring along, over A, B and C once."""
    payload: dict[str, Any] = report["details.payload_bytes"]
    partial = payload["partial_read"] + payload["partial_write"]
    minimum = payload["a"] + payload["b"] + payload["c"]
    return float(partial / minimum + (quantity != "traffic_partial"))


def _comparisons(bench: Bench, name: str) -> int:
    """Return comparisons of the sorted insertion; a row with one list has nothing to merge."""
    a = bench.square(name).a.csr
    compares, _ = insertion_merge(a.indptr, a.indices, a.indptr, a.indices)
    row = np.repeat(np.arange(a.shape[0]), a.row_lengths)
    lists = np.bincount(row[a.row_lengths[a.indices] > 0], minlength=a.shape[0])
    return int(compares[lists > 1].sum())


def _uniform_ms(workload: str) -> float:
    """Return ms for A·A of "uniform SIZE at DENSITY"."""
    size, _, density = workload.removeprefix(UNIFORM).partition(" at ")
    side = int(size)
    matrix = uniform(side, side, round(float(density) * side * side), seed=0)
    return 1e3 * run(product(matrix, name=workload), "outerspace").time_s


def _average(bench: Bench, published: Published, real: list[str]) -> Row:
    if not real:
        return skipped(PAPER, published, "any of the 20 matrices")
    figure = AVERAGED[published.quantity]
    values = [figure(bench.report(name, "outerspace"), bench.report(name, "sparch")) for name in real]
    note = f"geometric mean; arithmetic mean {fmean(values):.3g}, {min(values):.3g} to {max(values):.3g}"
    return compare_with(PAPER, replace(published, workload=f"{len(real)} of 20 matrices"), geometric_mean(values), note)
