"""Counts of the author's scheduler and buffer model on two matrices of the paper, and GAMMA's times as a floor."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from sparsim.fidelity.bench import Bench
from sparsim.fidelity.record import Published, Row, compare_with, read_published, skipped
from sparsim.report import Report

__all__ = ["PAPER", "author_code_rows", "floor_rows"]

PAPER = "sparch"
# What the author's code counts: a window of line operations, every line fetched on demand.
AUTHORS_MODEL = {
    "prefetch.look_ahead_unit": "line_ops",
    "prefetch.run_ahead": 0,
    "schedule.round_barrier": False,
}
BUFFER = re.compile(r"(\d+) x (\d+), window (\d+|unlimited)")
UNLIMITED = 2**31


def author_code_rows(bench: Bench) -> Iterator[Row]:
    """Yield every count of the author's code beside the model's."""
    for published in read_published(PAPER):
        if published.certainty != "author_code":
            continue
        if not bench.has(published.workload):
            yield skipped(PAPER, published, published.workload)
            continue
        report = bench.report(published.workload, "sparch", _fields(published))
        yield compare_with(PAPER, published, _counted(published, report))


def _fields(published: Published) -> dict[str, Any]:
    buffer = BUFFER.search(published.quantity)
    if buffer is None:
        return AUTHORS_MODEL
    lines, elements, window = buffer.groups()
    window_size = UNLIMITED if window == "unlimited" else int(window)
    sizes = {"prefetch.lines": int(lines), "prefetch.line_elements": int(elements), "prefetch.look_ahead": window_size}
    return {**AUTHORS_MODEL, **sizes}


def _counted(published: Published, report: Report) -> float:
    quantity, _, part = published.quantity.partition(", ")
    details = report["details"]
    if quantity == "multiplies":
        return float(report["workload.multiplies"])
    if quantity == "partial_elements":
        return float(details["partial_elements_written"] + details["partial_elements_read"])
    if quantity == "layer_elements":
        return float(details["layer_elements"][int(part.removeprefix("layer ")) - 1])
    if quantity == "b_bytes":
        return float(details["b_bytes_fetched"])
    if quantity == "b_missed":
        return float(100 * (1 - details["prefetch_hit_rate"]))
    return float(details[quantity])


def floor_rows(bench: Bench) -> Iterator[Row]:
    """Yield times that SpArch, at the same bandwidth and with more traffic, must not beat."""
    for published in read_published(PAPER):
        if published.quantity != "time_us":
            continue
        if bench.has(published.workload):
            report = bench.report(published.workload, "sparch")
            yield compare_with(PAPER, published, 1e6 * report.time_s)
        else:
            yield skipped(PAPER, published, published.workload)
