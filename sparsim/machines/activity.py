"""What a machine did: integer counts of actions, bytes by stream, cycles by stage. No energy, no seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["STREAMS", "Activity", "Buffer", "Stage"]

STREAMS = ("a", "b", "partial_read", "partial_write", "c")


@dataclass(frozen=True)
class Stage:
    """Cycles of one pipeline stage; the three add up to the machine's total.

    Parameters
    ----------
    busy : serving work (server-cycles / servers for a stage of several servers).
    starved : waiting for work, for memory, or filling and draining.
    blocked : holding finished work the next stage has no room for.
    """

    busy: float
    starved: float
    blocked: float = 0.0


@dataclass(frozen=True)
class Buffer:
    """Accesses to one on-chip memory.

    Parameters
    ----------
    capacity_bytes : of one instance, which is what an access has to drive.
    width_bytes : moved by one access.
    reads, writes : number of accesses, over all instances.
    """

    capacity_bytes: int
    width_bytes: int
    reads: int
    writes: int


@dataclass(frozen=True)
class Activity:
    """The cost of one workload on one machine, in actions.

    Parameters
    ----------
    cycles : total, at the machine's clock.
    stages : name to :class:`Stage`; each sums to ``cycles``.
    multiplies : effectual multiplies.
    nnz_c : structural non-zeros of C.
    operations : performed arithmetic: "multiply", "add", "compare" (of one index pair).
    buffers : name to :class:`Buffer`.
    dram_bytes : bytes on the bus by stream, bursts included; the keys are :data:`STREAMS`.
    payload_bytes : the same without what bursts bring along.
    element_bytes : bytes of one element of A, B and C in this machine's format.
    compulsory_b : elements of B that must be read at least once (before im2col where the machine expands on chip).
    limited_by : one of multiply, merge, look_ahead, dram, prefetch, latency, load_imbalance, launch, shared_memory,
        l2, power; or measured.
    reason : a sentence that says what bounds the run.
    details : counters of this machine alone.
    notes : sentences the reader has to know, such as an operand that ran dense.
    """

    cycles: int
    stages: Mapping[str, Stage]
    multiplies: int
    nnz_c: int
    operations: Mapping[str, int]
    buffers: Mapping[str, Buffer]
    dram_bytes: Mapping[str, int]
    payload_bytes: Mapping[str, int]
    element_bytes: tuple[float, float, float]
    compulsory_b: int
    limited_by: str
    reason: str
    details: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
