"""What the paper's FLOP and its compulsory bytes must mean: 23.9 GFLOP/s of memory roof at 128 GB/s is 0.187 FLOP/byte.

Six definitions (three of a FLOP, two sizes of an element of C), averaged over the 20 matrices in three ways.
``matrices.csv`` holds their sizes, products and non-zeros of A·A, each with its certainty; where a matrix is at hand it
is counted, and the count stands beside the one of the file.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from statistics import fmean, geometric_mean, harmonic_mean
from typing import Any

from sparsim.fidelity.bench import Bench
from sparsim.fidelity.record import Published, Row, compare_with, read_published

__all__ = ["Counts", "intensities", "read_counts", "roofline_rows"]

PAPER = "sparch"
ELEMENT = 12
BANDWIDTH = 128.0
FLOPS: dict[str, Callable[[int, int], int]] = {
    "2 products": lambda products, nnz_c: 2 * products,
    "2 products - nnz(C)": lambda products, nnz_c: 2 * products - nnz_c,
    "products": lambda products, nnz_c: products,
}
SIZES = ("rows", "nnz", "products", "nnz_c")
C_BYTES = (12, 16)
MEANS: dict[str, Callable[[list[float]], float]] = {
    "geometric": geometric_mean,
    "arithmetic": fmean,
    "harmonic": harmonic_mean,
}
USED = ("2 products - nnz(C)", 12, "geometric")


@dataclass(frozen=True)
class Counts:
    """Sizes of one matrix and of its square, each with its certainty."""

    matrix: str
    rows: int
    nnz: int
    products: int
    nnz_c: int
    size_certainty: str
    products_certainty: str
    nnz_c_certainty: str
    source: str
    note: str = ""


@cache
def read_counts() -> tuple[Counts, ...]:
    """Return the 20 matrices of the paper."""
    text = resources.files("sparsim.fidelity").joinpath("sparch", "matrices.csv").read_text("utf-8")
    found = []
    for line in csv.DictReader(text.splitlines()):
        typed: dict[str, Any] = {key: int(value) if key in SIZES else value for key, value in line.items()}
        found.append(Counts(**typed))
    return tuple(found)


def intensities(counts: tuple[Counts, ...]) -> dict[tuple[str, int, str], float]:
    """Return FLOP per compulsory byte by FLOP definition, bytes of an element of C, and mean."""
    found: dict[tuple[str, int, str], float] = {}
    for name, flop in FLOPS.items():
        for c_bytes in C_BYTES:
            values = [flop(c.products, c.nnz_c) / (2 * ELEMENT * c.nnz + c_bytes * c.nnz_c) for c in counts]
            found |= {(name, c_bytes, mean): average(values) for mean, average in MEANS.items()}
    return found


def roofline_rows(bench: Bench) -> Iterator[Row]:
    """Yield the counts that can be made here, the six definitions with them, and what they say."""
    counts = []
    for each in read_counts():
        if not bench.has(each.matrix):
            counts.append(each)
            continue
        work = bench.square(each.matrix)
        counted = replace(each, nnz=work.a.nnz, products=work.multiplies, nnz_c=work.nnz_c)
        counts.append(counted)
        yield from _count_rows(each, counted)
    yield from _definition_rows(tuple(counts), sum(bench.has(each.matrix) for each in counts))


def _count_rows(told: Counts, counted: Counts) -> Iterator[Row]:
    figures = (
        ("nnz", told.nnz, counted.nnz, told.size_certainty),
        ("products of A·A", told.products, counted.products, told.products_certainty),
        ("non-zeros of A·A", told.nnz_c, counted.nnz_c, told.nnz_c_certainty),
    )
    for quantity, value, here, certainty in figures:
        role = "check" if certainty in ("author_code", "third_party") else "shown"
        published = Published(
            quantity, told.matrix, value, "elements", told.source, certainty, role, told.note, tolerance=0.0
        )
        yield compare_with(PAPER, published, here)


def _definition_rows(counts: tuple[Counts, ...], exact: int) -> Iterator[Row]:
    published = next(p for p in read_published(PAPER) if p.quantity == "operational_intensity")
    roof = next(p for p in read_published(PAPER) if p.quantity == "memory_roof")
    found = intensities(counts)
    nearness = sorted(found, key=lambda key: abs(math.log(found[key] / published.value)))
    place = f"20 matrices, {exact} counted here"
    for name in FLOPS:
        for c_bytes in C_BYTES:
            quantity = f"operational_intensity, FLOP = {name}, C of {c_bytes} B"
            others = ", ".join(f"{mean} mean {found[name, c_bytes, mean]:.3f}" for mean in MEANS if mean != USED[2])
            here = replace(published, quantity=quantity, workload=place)
            yield compare_with(PAPER, here, found[name, c_bytes, USED[2]], f"geometric mean; {others}")
    modelled = BANDWIDTH * found[USED]
    yield compare_with(PAPER, replace(roof, workload=place), modelled, _finding(found, nearness, published.value))


def _finding(found: dict[tuple[str, int, str], float], nearness: list[tuple[str, int, str]], published: float) -> str:
    """Say which definition comes nearest, and how far the next one is."""

    def told(key: tuple[str, int, str]) -> str:
        name, c_bytes, mean = key
        return f"FLOP = {name} with C of {c_bytes} B, {mean} mean ({found[key] / published - 1:+.1%})"

    first, second = nearness[:2]
    agrees = "the one used here" if first == USED else "NOT the one used here"
    return f"nearest of {len(found)} definitions: {told(first)}, {agrees}; next: {told(second)}"
