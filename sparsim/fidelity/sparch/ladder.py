"""The paper's breakdown: OuterSPACE, then SpArch with one technique after the other.

In which order SpArch merges before it has the Huffman scheduler is unknown, so every order is shown. The steps before
the prefetcher read rows of B without reuse. ``benchmarks/fidelity/sparch_design_space.py`` redraws the whole figure;
here, larger matrices are left out, as a run without condensing takes longer than all others together.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from statistics import geometric_mean
from typing import Any

from sparsim.fidelity.bench import Bench
from sparsim.fidelity.record import Published, Row, compare_with, read_published, skipped
from sparsim.fidelity.sparch.roofline import read_counts
from sparsim.report import Report

__all__ = ["ORDERS", "STEPS", "ladder_rows"]

PAPER = "sparch"
ORDERS = ("sequential", "random", "accumulate")
STEPS = ("pipelined only", "+ condensing", "+ Huffman", "+ prefetcher")
PRODUCTS_AT_MOST = 20_000_000
ACCUMULATED_AT_MOST = 10_000  # each round reads the last one's result again: quadratic in the partial matrices


def ladder_rows(bench: Bench) -> Iterator[Row]:
    """Yield the factor of every step in traffic and in speed, for every order of the unscheduled steps."""
    names = [each.matrix for each in read_counts()]
    real = [name for name in names if bench.has(name) and bench.square(name).multiplies <= PRODUCTS_AT_MOST]
    climbs: dict[str, list[list[Report]]] = {order: [] for order in ORDERS}
    for name in real:
        for order in ORDERS:
            if order != "accumulate" or bench.square(name).k <= ACCUMULATED_AT_MOST:
                climbs[order].append(_climb(bench, name, order))
    for published in read_published(PAPER):
        kind, _, step = published.quantity.partition(", ")
        if not kind.startswith("ladder_"):
            continue
        if not real:
            yield skipped(PAPER, published, f"any of {', '.join(names)}")
        elif step == STEPS[-1]:
            yield _step_row(published, climbs[ORDERS[0]], "")
        else:
            yield from (_step_row(published, climbs[order], order) for order in ORDERS if climbs[order])


def _climb(bench: Bench, name: str, order: str) -> list[Report]:
    """Return the reports of OuterSPACE and of every step."""
    unscheduled = {"prefetch.policy": "off", "schedule.order": order}
    fields: list[dict[str, Any]] = [{**unscheduled, "condense": False}, unscheduled, {"prefetch.policy": "off"}, {}]
    return [bench.report(name, "outerspace"), *(bench.report(name, "sparch", step) for step in fields)]


def _step_row(published: Published, climbs: list[list[Report]], order: str) -> Row:
    kind, _, step = published.quantity.partition(", ")
    at = STEPS.index(step) + 1
    factors = []
    for reports in climbs:
        before, after = reports[at - 1], reports[at]
        if kind == "ladder_traffic":
            factors.append(before.dram_bytes / after.dram_bytes)
        else:
            factors.append(before.time_s / after.time_s)
    if at == 1:  # the only step that is published as a loss
        factors = [1 / factor for factor in factors]
    merged = f"; unscheduled merges: {order}" if order else ""
    note = f"geometric mean, {min(factors):.3g} to {max(factors):.3g}{merged}"
    return compare_with(
        PAPER, replace(published, workload=f"{len(climbs)} of 20 matrices"), geometric_mean(factors), note
    )
