"""Cutting the work of rows into pipeline steps.

A step takes rows as long as it stays within its limits; a row that is larger alone is cut into
equal parts, to the last unit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sparsim.kernels._jit import inlined, kernel
from sparsim.kernels.records import RowWork, StepLimits

__all__ = ["FIELDS", "cut_steps"]

Array = npt.NDArray[Any]

FIELDS = ("a_elements", "products", "slots", "partial", "merged", "output", "a_bursts", "a_address", "last_row")
A_ELEMENTS, PRODUCTS, SLOTS, PARTIAL, MERGED, OUTPUT, A_BURSTS, A_ADDRESS, LAST_ROW = range(9)


@kernel
def cut_steps(row: Array, bursts: Array, address: Array, work: RowWork, limits: StepLimits) -> Array:
    """Return the steps that the work of some rows fills, int64 [steps, FIELDS].

    Parameters
    ----------
    row, bursts, address : number of each row, bursts of A it reads, and the first one's address.
    """
    count = _walk(row, bursts, address, work, limits, np.zeros((0, LAST_ROW + 1), dtype=np.int64))
    steps = np.zeros((count, LAST_ROW + 1), dtype=np.int64)
    _walk(row, bursts, address, work, limits, steps)
    return steps


@kernel
def _walk(row: Array, bursts: Array, address: Array, work: RowWork, limits: StepLimits, steps: Array) -> int:
    """Count the steps, and write them down if there is room for any."""
    tally = np.zeros(LAST_ROW + 1, dtype=np.int64)
    used = 0
    writes = steps.shape[0] > 0
    for i in range(row.size):
        a_elements = work.a_elements[i]
        merged = work.products[i] + work.partial[i]
        if tally[A_ELEMENTS] + a_elements > limits.rows or tally[MERGED] + merged > limits.quantum:
            used += _emit(tally, steps, used, writes)
        pieces = max((a_elements + limits.rows - 1) // limits.rows, (merged + limits.quantum - 1) // limits.quantum)
        if pieces == 0:
            continue
        if pieces == 1 and tally[A_BURSTS] > 0:
            first = tally[A_ADDRESS]
        else:
            first = address[i]
        tally[A_ELEMENTS] += a_elements
        tally[PRODUCTS] += work.products[i]
        tally[SLOTS] += work.slots[i]
        tally[PARTIAL] += work.partial[i]
        tally[MERGED] += merged
        tally[OUTPUT] += work.merged[i]
        tally[A_BURSTS] += bursts[i]
        tally[A_ADDRESS] = first
        tally[LAST_ROW] = row[i]
        if pieces > 1:
            if writes:
                _cut(tally, steps, used, pieces, limits.burst_bytes)
            used += pieces
            for field in range(LAST_ROW + 1):
                tally[field] = 0
    return used + _emit(tally, steps, used, writes)


@inlined
def _emit(tally: Array, steps: Array, used: int, writes: bool) -> int:
    """Write down the step being filled, if it holds anything, and empty it; return how many that are."""
    if max(tally[A_ELEMENTS], tally[MERGED]) == 0:
        return 0
    for field in range(LAST_ROW + 1):
        if writes:
            steps[used, field] = tally[field]
        tally[field] = 0
    return 1


@inlined
def _cut(tally: Array, steps: Array, used: int, pieces: int, burst_bytes: int) -> None:
    """Write down ``tally`` in ``pieces`` equal parts (to the last unit); the row is copied."""
    for field in range(A_ADDRESS):
        each, rest = tally[field] // pieces, tally[field] % pieces
        left = 0
        for piece in range(pieces):
            left += rest
            more = left >= pieces
            steps[used + piece, field] = each + more
            left -= pieces * more
    address = tally[A_ADDRESS]
    for piece in range(pieces):
        steps[used + piece, A_ADDRESS] = address
        steps[used + piece, LAST_ROW] = tally[LAST_ROW]
        address += steps[used + piece, A_BURSTS] * burst_bytes
