"""The named tuples kernels take and return: integers and arrays, nothing else."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy.typing as npt

__all__ = [
    "MergeRound",
    "MergeTree",
    "Operands",
    "PrefetchParams",
    "Prefetched",
    "RoundElements",
    "Timing",
    "TimingParams",
]

Array = npt.NDArray[Any]


class Operands(NamedTuple):
    """A and B as row structures; of a dense B only ``columns`` counts and ``b_indices`` is empty."""

    a_indices: Array
    b_indptr: Array
    b_indices: Array
    columns: int
    dense_b: bool


class RoundElements(NamedTuple):
    """Elements of A that take part in one merge round, by row, and within a row by tree position."""

    row: Array
    position: Array
    element: Array


class MergeTree(NamedTuple):
    """The tree and what limits a step.

    ``quantum`` caps the elements of a step; ``element_bytes`` and ``burst_bytes`` turn elements of A into bus bytes.
    """

    layers: int
    quantum: int
    group_width: int
    element_bytes: int
    burst_bytes: int


class MergeRound(NamedTuple):
    """What one pass of the merge tree does; ``steps`` has the columns named in ``kernels/merge.py``."""

    steps: Array
    entering: Array
    merged_elements: int
    partial_elements: int


class PrefetchParams(NamedTuple):
    """The row prefetcher and the memory it reads, in bytes and elements."""

    lines: int
    line_bytes: int
    look_ahead: int
    unit_is_element: bool
    policy: int
    element_bytes: int
    pointer_bytes: int
    burst_bytes: int
    interleave_bytes: int
    base_address: int


class Prefetched(NamedTuple):
    """What the prefetcher did; ``bus_bytes`` has one row a step and one column a channel."""

    hits: int
    misses: int
    fetched_bytes: int
    bus_bytes: Array


class TimingParams(NamedTuple):
    """The stages of a pipeline, one entry a stage; times in ticks, sizes in elements, -1 = unlimited.

    ``memory`` holds the number of a stage's visit to the shared memory, -1 for a stage with servers of its own.
    ``memory_bytes`` bytes take a memory channel ``memory_ticks`` ticks.
    """

    latency: Array
    capacity: Array
    window: Array
    lanes: Array
    memory: Array
    wait_stage: int
    memory_ticks: int
    memory_bytes: int


class Timing(NamedTuple):
    """When all was done; ticks each stage was busy (a memory stage: channel-ticks) and blocked by the next."""

    total: int
    busy: Array
    blocked: Array
