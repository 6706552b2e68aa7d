"""Times of sparsim and scipy side by side, the parts of a simulation, and the bandwidth that bounds one of them."""

from __future__ import annotations

import gc
import inspect
import operator
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np
from cases import Case, Product, tiny

import sparsim as ss

__all__ = ["MultipliesDifferError", "bandwidth", "measured", "takes_threads"]

# the functions between which a simulation divides its time, where their callers look them up
STAGES = {
    "rounds": ("sparsim.machines.sparch", "count_rounds"),
    "prefetch": ("sparsim.kernels.prefetch", "_replay"),
    "pipeline": ("sparsim.kernels.pipeline", "_go_on"),
}
STREAMED_BYTES = 2**28
INDEX_BYTES = 4


class MultipliesDifferError(Exception):
    """A simulation counted other multiplies or elements of C than the product has."""


class Stages:
    """Seconds spent in each of ``STAGES``; one that is no longer called there is told as None."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Time every call while the block runs."""
        kept = []
        for name, (module, function) in STAGES.items():
            home = import_module(module)
            if hasattr(home, function):
                kept.append((home, function, getattr(home, function)))
                setattr(home, function, self._timed(name, getattr(home, function)))
        try:
            yield
        finally:
            for home, function, original in kept:
                setattr(home, function, original)

    def _timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

        return call

    def taken(self) -> dict[str, float | None]:
        """Return the seconds since the last call, and start again."""
        found = {name: self.seconds.get(name) for name in STAGES}
        self.seconds = {}
        return found


def takes_threads() -> bool:
    """Whether ``simulate`` lets the number of threads be chosen."""
    return "threads" in inspect.signature(ss.simulate).parameters


def bandwidth() -> float:
    """Return the bytes a second at which one thread streams int32 from memory.

    The best of several passes of ``numpy.bitwise_xor.reduce`` over an array far larger than any cache: it reads every
    element once, writes nothing, and takes less time to combine than to read.
    """
    streamed = np.zeros(STREAMED_BYTES // INDEX_BYTES, dtype=np.int32)
    streamed += 1  # pages that were never written to are all the same one
    return STREAMED_BYTES / min(_seconds(lambda: np.bitwise_xor.reduce(streamed))[0] for _ in range(7))


def _seconds(call: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def measured(case: Case, stream_bytes_per_s: float, least: int = 3, at_least_s: float = 0.3) -> dict[str, Any]:
    """Return one row: both libraries in turn, at least ``least`` times and ``at_least_s`` seconds each.

    Raises
    ------
    MultipliesDifferError
        If sparsim and scipy do not agree on the product.
    """
    product = case.build()
    a, b = product.scipy_operands()
    threads = {"threads": 1} if takes_threads() else {}
    warm = tiny(product.columns)
    warm.simulate(**threads)
    operator.matmul(*warm.scipy_operands())
    stages, parts = Stages(), []
    ours: list[float] = []
    theirs: list[float] = []
    two: list[float] = []
    alone: list[float] = []
    gc.collect()
    gc.disable()
    try:
        while len(ours) < least or min(sum(ours), sum(theirs)) < at_least_s:
            with stages.watched():
                seconds, report = _seconds(lambda: product.simulate(**threads))
            ours.append(seconds)
            parts.append(stages.taken())
            seconds, c = _seconds(lambda: a @ b)
            theirs.append(seconds)
            counted = {"multiplies": (report["workload.multiplies"], product.multiplies)}
            counted["nnz_c"] = (report["workload.nnz_c"], c.nnz)
            del c
            if threads:
                two.append(_seconds(lambda: product.simulate(threads=2))[0])
            if product.columns is None:
                alone.append(_seconds(product.count)[0])
            for what, (found, expected) in counted.items():
                if found != expected:
                    raise MultipliesDifferError(f"{case.name}: {what} {found:,} simulated, {expected:,} in scipy's")
    finally:
        gc.enable()
    row = _sizes(case, product, counted["nnz_c"][1]) | _times(ours, theirs, two, alone)
    row |= _rates(row, product)
    row["stages_s"] = {name: _median([part[name] for part in parts]) for name in STAGES}
    return row | _symbolic(row, product, stream_bytes_per_s)


def _sizes(case: Case, product: Product, nnz_c: int) -> dict[str, Any]:
    m, k = product.a.shape
    right = product.a if product.b is None else product.b
    dense = product.columns is not None
    return {
        "case": case.name,
        "group": case.group,
        "m": m,
        "k": k,
        "n": product.columns if dense else right.shape[1],
        "nnz_a": product.a.nnz,
        "nnz_b": k * (product.columns or 0) if dense else right.nnz,
        "dense_b": dense,
        "nnz_c": nnz_c,
        "products": product.multiplies,
        "products_expected": case.multiplies,
        "input_bytes": product.input_bytes,
    }


def _times(ours: list[float], theirs: list[float], two: list[float], alone: list[float]) -> dict[str, Any]:
    row: dict[str, Any] = {"repeats": len(ours)}
    for name, times in (("sparsim", ours), ("scipy", theirs), ("sparsim_2_threads", two), ("count", alone)):
        row |= {f"{name}_s": _median(times), f"{name}_min_s": min(times, default=None)}
    row["ratio"] = row["sparsim_s"] / row["scipy_s"]
    row["ratio_2_threads"] = row["sparsim_2_threads_s"] / row["scipy_s"] if two else None
    row["count_ratio"] = row["count_s"] / row["scipy_s"] if alone else None
    return row


def _rates(row: dict[str, Any], product: Product) -> dict[str, Any]:
    dense = product.columns is not None
    return {
        "products_per_s": row["products"] / row["sparsim_s"],
        "ns_per_nonzero_of_a": 1e9 * row["sparsim_s"] / product.a.nnz if dense else None,
    }


def _symbolic(row: dict[str, Any], product: Product, stream_bytes_per_s: float) -> dict[str, Any]:
    """Return the time of the exact symbolic part beside the time in which B's indices can be streamed.

    Each product needs the column index of an element of B, 4 bytes that are read for this product; whoever reads the
    rows of B once for each element of A reads products x 4 bytes, however little is done with them. At the bandwidth
    measured in the same run this takes products x 4 / bandwidth. It bounds neither rows that stay in a cache nor a
    dense B, which has no indices.
    """
    seconds = row["stages_s"]["rounds"]
    limit = None if product.columns is not None else row["products"] * INDEX_BYTES / stream_bytes_per_s
    known = seconds is not None and limit
    return {"symbolic_s": seconds, "symbolic_limit_s": limit, "symbolic_ratio": seconds / limit if known else None}


def _median(times: list[Any]) -> float | None:
    known = [seconds for seconds in times if seconds is not None]
    return statistics.median(known) if known else None
