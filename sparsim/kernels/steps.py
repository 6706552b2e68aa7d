"""Cutting the work of rows into pipeline steps.

A step takes rows as long as it stays within its limits; a row that is larger alone is cut into
equal parts, to the last unit.
"""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from sparsim.kernels._jit import inlined, kernel
from sparsim.kernels.records import RoundRows, RowWork, StepLimits

__all__ = ["FIELDS", "cut_steps", "pieces_of"]

Array = npt.NDArray[Any]

FIELDS = ("a_elements", "products", "slots", "partial", "merged", "output", "a_bursts", "a_address", "last_row")
A_ELEMENTS, PRODUCTS, SLOTS, PARTIAL, MERGED, OUTPUT, A_BURSTS, A_ADDRESS, LAST_ROW = range(9)


@kernel
def cut_steps(
    rows: RoundRows, work: RowWork, limits: StepLimits, row: int, begun: Array, steps: Array, used: int
) -> tuple[int, int]:
    """Write down the steps that rows from number ``row`` on fill, as long as there is room for them.

    Parameters
    ----------
    begun : int64 [FIELDS], the step being filled; kept between calls, empty when all rows are through.
    steps : int64 [room, FIELDS], taken up to ``used``.

    Returns
    -------
    The row to go on with (one more than there are when all is written down) and the steps used. If none could be
    written into an empty array, a row needs ``pieces_of`` steps and one more.
    """
    while row < rows.row.size:
        a_elements = work.a_elements[row]
        merged = work.products[row] + work.partial[row]
        pieces = pieces_of(work, limits, row)
        if pieces == 0:
            row += 1
            continue
        if used + pieces >= steps.shape[0]:
            return row, used
        if begun[A_ELEMENTS] + a_elements > limits.rows or begun[MERGED] + merged > limits.quantum:
            used += _emit(begun, steps, used)
        if pieces == 1 and begun[A_BURSTS] > 0:
            first = begun[A_ADDRESS]
        else:
            first = rows.address[row]
        begun[A_ELEMENTS] += a_elements
        begun[PRODUCTS] += work.products[row]
        begun[SLOTS] += work.slots[row]
        begun[PARTIAL] += work.partial[row]
        begun[MERGED] += merged
        begun[OUTPUT] += work.merged[row]
        begun[A_BURSTS] += rows.bursts[row]
        begun[A_ADDRESS] = first
        begun[LAST_ROW] = rows.row[row]
        if pieces > 1:
            _cut(begun, steps, used, pieces, limits.burst_bytes)
            used += pieces
            for field in range(LAST_ROW + 1):
                begun[field] = 0
        row += 1
    is_empty = max(begun[A_ELEMENTS], begun[MERGED]) == 0
    if is_empty or used < steps.shape[0]:
        used += _emit(begun, steps, used)
        row += 1
    return row, used


@kernel
def pieces_of(work: RowWork, limits: StepLimits, row: int) -> int:
    """Return into how many steps a row has to be cut."""
    merged = work.products[row] + work.partial[row]
    by_elements = (work.a_elements[row] + limits.rows - 1) // limits.rows
    return max(by_elements, (merged + limits.quantum - 1) // limits.quantum)


@inlined
def _emit(tally: Array, steps: Array, used: int) -> int:
    """Write down the step being filled, if it holds anything, and empty it; return how many that are."""
    if max(tally[A_ELEMENTS], tally[MERGED]) == 0:
        return 0
    for field in range(LAST_ROW + 1):
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
