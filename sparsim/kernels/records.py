"""The named tuples kernels take and return: integers and arrays, nothing else."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy.typing as npt

__all__ = [
    "DramParams",
    "Fetched",
    "Listing",
    "MergeTree",
    "Operands",
    "PrefetchParams",
    "Requests",
    "RoundRows",
    "RowWork",
    "StepLimits",
    "Steps",
    "Timing",
    "TimingParams",
    "Visits",
    "VisitsOfSteps",
]

Array = npt.NDArray[Any]


class Operands(NamedTuple):
    """A and B as row structures; of a dense B only ``columns`` counts and ``b_indices`` is empty."""

    a_indices: Array
    b_indptr: Array
    b_indices: Array
    columns: int
    dense_b: bool


class RoundRows(NamedTuple):
    """The rows of A that take part in one merge round, ascending.

    ``first`` counts the elements taking part in the rows before, ``asked`` those that are multiplied now (the others
    come back as results of earlier rounds). ``bursts`` of A are read for a row, from ``address`` on.
    """

    row: Array
    first: Array
    asked: Array
    bursts: Array
    address: Array


class Listing(NamedTuple):
    """Elements of A of consecutive rows in one merge round, by row, within a row by tree position.

    Row i has entries ``first[i] - first[0]`` to ``first[i + 1] - first[0]``: ``element`` of A and its ``position``.
    """

    first: Array
    element: Array
    position: Array


class RowWork(NamedTuple):
    """What rows of A bring to one merge round, int64 a row.

    ``a_elements``, ``products`` and multiplier-group ``slots`` are of elements multiplied now, ``partial`` elements
    come back from memory, ``merged`` are the row's elements of the result. ``trace`` holds the rows of B asked for, in
    order. ``vanished[l]`` counts, over all rows, the elements that end in a sum on entering layer l of the tree.
    """

    a_elements: Array
    products: Array
    slots: Array
    partial: Array
    merged: Array
    trace: Array
    vanished: Array


class MergeTree(NamedTuple):
    """The merge tree, and the products that one multiplier group makes at once."""

    layers: int
    group_width: int


class StepLimits(NamedTuple):
    """The most a step may bring: ``quantum`` elements entering the tree, ``rows`` elements of A."""

    quantum: int
    rows: int
    burst_bytes: int


class PrefetchParams(NamedTuple):
    """The row prefetcher, in bytes and elements; ``address`` is where B begins."""

    lines: int
    line_bytes: int
    look_ahead: int
    unit_is_element: bool
    policy: int
    run_ahead: int
    element_bytes: int
    pointer_bytes: int
    burst_bytes: int
    address: int


class Requests(NamedTuple):
    """Whole bursts asked of the memory, in order: the step they belong to, where they lie, how many bytes."""

    step: Array
    address: Array
    size: Array


class Steps(NamedTuple):
    """What consecutive steps need of each stage of a pipeline.

    ``service``, ``size`` and ``lane`` are int64 [steps, stages]: ticks of a server, elements put behind the stage, and
    the server that serves (no steps: stages have one lane each). ``wait_for`` is the earlier step, counted from the
    first of all, that each has to wait for, -1 for none.
    """

    service: Array
    size: Array
    lane: Array
    wait_for: Array


class Visits(NamedTuple):
    """What consecutive steps of a pipeline ask of the memory.

    Step s asks at visit v for requests ``first[v, s]`` to ``first[v, s + 1]``: ``size`` bytes (whole bursts) from
    ``address`` on. There may be more room than is used.
    """

    first: Array
    address: Array
    size: Array


class Fetched(NamedTuple):
    """What the prefetcher did for the first elements of the trace, visit by visit.

    ``missed`` has a bit for every visit, set where a line had to be fetched. ``stalls`` are visits before which others
    had to be used, and how many fetched ones were left then, the visit included; int64 [stalls, 2].
    """

    elements: int
    visits: int
    misses: int
    missed: Array
    stalls: Array


class VisitsOfSteps(NamedTuple):
    """What the prefetcher does for a block of steps.

    ``products`` are those of all steps up to and including each, from the very first on. ``visits`` are the line visits
    of each step, ``ahead`` how many could be fetched and not used when it was fetched, ``requests`` room for what it
    asks of the memory.
    """

    products: Array
    visits: Array
    ahead: Array
    requests: Requests


class DramParams(NamedTuple):
    """External memory as in :mod:`sparsim.kernels.dram`; sizes in bytes, times in ticks, queue marks in bursts."""

    channels: int
    interleave: int
    burst: int
    row: int
    banks: int
    groups: int
    queue: int
    high: int
    low: int
    burst_ticks: int
    ccd: int
    rcd: int
    rp: int
    ras: int
    rrd: int
    faw: int
    wr: int
    to_write: int
    to_read: int
    refi: int
    rfc: int


class TimingParams(NamedTuple):
    """The stages of a pipeline, one entry a stage; times in ticks, sizes in elements, -1 = unlimited.

    ``memory`` holds the number of a stage's visit to the shared memory, -1 for a stage with servers of its own.
    """

    latency: Array
    capacity: Array
    window: Array
    lanes: Array
    memory: Array
    wait_stage: int


class Timing(NamedTuple):
    """When all was done; ticks each stage was busy (a memory stage: its data on the bus) and blocked by the next.

    ``channels`` are the memory's counters, one row a channel.
    """

    total: int
    busy: Array
    blocked: Array
    channels: Array
