"""When the rows of B that a trace asks for are used next, looked up a chunk of the trace at a time.

Going through a chunk backwards, and through as much behind it as the look-ahead reaches, the element at which a row was
met last is the one at which it is used next. One iteration is one element.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sparsim.kernels._jit import at, inlined, inner
from sparsim.kernels.records import PrefetchParams

__all__ = ["END", "NEVER", "Uses", "find_uses", "first_use", "next_use", "no_uses", "window_end"]

Array = npt.NDArray[Any]

NEVER = 1 << 62
CHUNK, REACHES = 1 << 16, 4  # elements at least, and as often what is looked up behind
BEGIN, END, STOP = range(3)


class Uses(NamedTuple):
    """What is known of the uses of a chunk and of what lies in the look-ahead behind it.

    ``span`` says where the chunk begins and ends, and where what lies behind it ends. ``first`` is where a row is met
    first (or was in a chunk before), ``later`` the next element with the same row, -1 if there is none, and ``visits``
    the line visits before each element, empty if every row has one line. A chunk has ``chunk`` elements, and ``reach``
    behind it.
    """

    span: Array
    first: Array
    later: Array
    visits: Array
    chunk: int
    reach: int


def no_uses(trace: Array, lines: Array, rows: int, params: PrefetchParams) -> Uses:
    """Return the state before the first chunk.

    Parameters
    ----------
    lines : lines of each row of B, empty if every row has one.
    rows : of B.
    """
    reach = min(params.look_ahead, trace.size)
    chunk = min(max(CHUNK, params.lines, REACHES * reach), trace.size)
    if not params.unit_is_element and (lines == 0).any():
        chunk = trace.size  # any number of rows without lines may lie between two visits
    dtype = np.int32 if trace.size < 1 << 31 else np.int64
    span, room = np.zeros(3, dtype=np.int64), min(chunk + reach, trace.size)
    visits = np.zeros(room + 1 if lines.size else 0, dtype=np.int64)
    return Uses(span, np.full(rows, -1, dtype=dtype), np.empty(room, dtype=dtype), visits, chunk, reach)


@inner
def find_uses(uses: Uses, trace: Array, first_line: Array, begin: int, visit: int) -> None:
    """Look up the uses of the chunk that begins at an element, which has ``visit`` visits before it."""
    end = min(begin + uses.chunk, trace.size)
    stop = min(end + uses.reach, trace.size)
    uses.span[BEGIN], uses.span[END], uses.span[STOP] = begin, end, stop
    for e in range(stop - 1, begin - 1, -1):
        k = trace[at(e)]
        later = uses.first[at(k)]
        uses.later[at(e - begin)] = later if later > e else -1
        uses.first[at(k)] = e
    if uses.visits.size == 0:
        return
    uses.visits[0] = visit
    for e in range(begin, stop):
        k = trace[e]
        visit += first_line[at(k + 1)] - first_line[at(k)]
        uses.visits[at(e - begin + 1)] = visit


@inlined
def _visit_at(uses: Uses, element: int, line: int) -> int:
    """Return which visit that of a row's line number ``line`` is."""
    if uses.visits.size == 0:
        return element
    return np.int64(uses.visits[at(element - uses.span[BEGIN])] + line)


@inlined
def next_use(uses: Uses, element: int, line: int) -> int:
    """Return the next visit of a line that an element of the chunk visits, NEVER if it is not known."""
    later = np.int64(uses.later[at(element - uses.span[BEGIN])])
    return _visit_at(uses, later, line) if later >= 0 else NEVER


@inlined
def first_use(uses: Uses, row: int, line: int) -> int:
    """Return the first visit of a line from the chunk's begin on, NEVER if it is not known."""
    first = np.int64(uses.first[at(row)])
    return _visit_at(uses, first, line) if first >= uses.span[BEGIN] else NEVER


@inlined
def window_end(uses: Uses, params: PrefetchParams, element: int, visit: int, known: int) -> int:
    """Return the first visit that is not in the window at a visit of an element; ``known`` ends what may be looked at.

    The window is what is left of the element and the ``look_ahead`` elements behind it, or as many visits.
    """
    if params.unit_is_element:
        return _visit_at(uses, min(element + uses.reach + 1, known), 0)
    return min(visit + params.look_ahead + 1, _visit_at(uses, min(known, uses.span[STOP]), 0))
