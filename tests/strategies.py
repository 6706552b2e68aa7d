"""Hypothesis strategies: sparse matrices of every awkward shape, compatible pairs, and small pipelines."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from hypothesis import strategies as st

KINDS = ("scattered", "empty", "dense", "identity", "banded", "dense_row", "hubs")


@st.composite
def csr_matrices(
    draw: st.DrawFn,
    *,
    rows: int | None = None,
    columns: int | None = None,
    max_rows: int = 10,
    max_columns: int = 10,
    kinds: tuple[str, ...] = KINDS,
) -> sp.csr_array:
    """Sorted CSR without duplicates or stored zeros; sides may be 0; small values that can cancel in a product."""
    m = draw(st.integers(0, max_rows)) if rows is None else rows
    n = draw(st.integers(0, max_columns)) if columns is None else columns
    mask = draw(_masks(m, n, draw(st.sampled_from(kinds))))
    values = np.random.default_rng(draw(st.integers(0, 3))).choice([-2.0, -1.0, 1.0, 2.0], size=(m, n))
    matrix = sp.csr_array(np.where(mask, values, 0.0))
    matrix.sort_indices()
    return matrix


@st.composite
def _masks(draw: st.DrawFn, m: int, n: int, kind: str) -> np.ndarray:
    mask = np.zeros((m, n), dtype=bool)
    if m == 0 or n == 0 or kind == "empty":
        return mask
    if kind == "dense":
        mask[:] = True
    elif kind == "identity":
        np.fill_diagonal(mask, True)
    elif kind == "banded":
        below, above = draw(st.integers(0, 2)), draw(st.integers(0, 2))
        offset = np.arange(n)[None, :] - np.arange(m)[:, None]
        mask[(offset >= -below) & (offset <= above)] = True
    else:
        cells = draw(st.sets(st.integers(0, m * n - 1), max_size=min(m * n, 40)))
        mask.flat[sorted(cells)] = True
        if kind == "dense_row":
            mask[draw(st.integers(0, m - 1))] = True
        elif kind == "hubs":
            mask[sorted(draw(st.sets(st.integers(0, m - 1), max_size=2)))] = True
            mask[:, sorted(draw(st.sets(st.integers(0, n - 1), max_size=2)))] = True
    return mask


@st.composite
def matrix_pairs(draw: st.DrawFn, *, max_side: int = 10) -> tuple[sp.csr_array, sp.csr_array]:
    """A and B with as many rows of B as columns of A."""
    a = draw(csr_matrices(max_rows=max_side, max_columns=max_side))
    b = draw(csr_matrices(rows=a.shape[1], max_columns=max_side))
    return a, b


@st.composite
def pipelines(
    draw: st.DrawFn, *, max_steps: int = 12, max_stages: int = 5, max_lanes: int = 3, max_bursts: int = 4
) -> dict[str, Any]:
    """Arguments of `reference.pipeline` as plain lists, but that `memory` says "read", "write" or None.

    Requests are (burst, bursts): the caller says how large a burst is, or what else the numbers mean.
    No size is above its capacity or window and a step waits for earlier ones only, so nothing deadlocks. The last
    stage has no window. Small numbers make ties, zero services and zero sizes common.
    """
    steps, stages = draw(st.integers(0, max_steps)), draw(st.integers(1, max_stages))
    memory = draw(_list(st.sampled_from([None, None, "read", "write"]), stages))
    lanes = [1 if kind else draw(st.integers(1, max_lanes)) for kind in memory]
    request = st.tuples(st.integers(0, 40), st.integers(1, max_bursts))
    asks = [[draw(st.lists(request, max_size=3)) if kind else [] for kind in memory] for _ in range(steps)]
    size = draw(_list(_list(st.integers(0, 4), stages), steps))
    largest = [max((row[stage] for row in size), default=0) for stage in range(stages)]
    return {
        "service": draw(_list(_list(st.integers(0, 6), stages), steps)),
        "size": size,
        "lane": [[draw(st.integers(0, count - 1)) for count in lanes] for _ in range(steps)],
        "wait_for": [draw(st.integers(-1, step - 1)) if draw(st.booleans()) else -1 for step in range(steps)],
        "wait_stage": draw(st.integers(-1, stages - 1)),
        "latency": draw(_list(st.integers(0, 5), stages)),
        "capacity": [draw(_limit(top)) for top in largest],
        "window": [draw(_limit(top)) for top in largest[:-1]] + [-1],
        "lanes": lanes,
        "memory": memory,
        "asks": asks,
    }


@st.composite
def drams(draw: st.DrawFn) -> dict[str, int]:
    """Fields of a small banked memory: few banks and short queues, so that everything collides."""
    burst = draw(st.sampled_from([1, 4, 8]))
    interleave, row = draw(st.sampled_from([(1, 1), (1, 4), (2, 2), (2, 8), (4, 4), (8, 2), (4, 1)]))
    groups = draw(st.integers(1, 3))
    queue = draw(st.integers(1, 6))
    high = draw(st.integers(1, queue))
    small = st.integers(0, 8)
    return {
        "channels": draw(st.integers(1, 3)),
        "interleave": interleave * burst,
        "burst": burst,
        "row": row * burst,
        "banks": groups + draw(st.integers(0, 6)),
        "groups": groups,
        "queue": queue,
        "high": high,
        "low": draw(st.integers(0, high - 1)),
        "burst_ticks": draw(st.integers(1, 4)),
        "ccd": draw(small),
        "rcd": draw(small),
        "rp": draw(small),
        "ras": draw(st.integers(0, 20)),
        "rrd": draw(small),
        "faw": draw(st.integers(0, 30)),
        "wr": draw(small),
        "to_write": draw(small),
        "to_read": draw(small),
        "refi": draw(st.sampled_from([0, 0, 150, 300])),
        "rfc": draw(st.integers(1, 30)),
    }


def _list(elements: st.SearchStrategy[Any], length: int) -> st.SearchStrategy[list[Any]]:
    return st.lists(elements, min_size=length, max_size=length)


def _limit(at_least: int) -> st.SearchStrategy[int]:
    return st.one_of(st.just(-1), st.integers(at_least, at_least + 6))
