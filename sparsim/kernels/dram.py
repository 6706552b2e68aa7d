"""Where bytes land in external memory: bursts, and the channels that addresses are dealt out to.

A request moves whole bursts; ``interleave`` consecutive bytes share a channel, then comes the next. Timing belongs to
the pipeline, which serves each channel's bytes in order. Not modelled: banks, open rows, read-write turnaround,
refresh.
"""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from sparsim.kernels._jit import kernel

__all__ = ["add_request", "add_stream"]

Array = npt.NDArray[Any]


@kernel
def add_request(work: Array, address: int, size: int, burst: int, interleave: int) -> int:
    """Spread the bursts that hold ``size`` bytes at ``address`` over the channels; return the bytes on the bus."""
    at = address // burst * burst
    end = (address + size + burst - 1) // burst * burst
    moved = end - at
    while at < end:
        upto = min(end, (at // interleave + 1) * interleave)
        work[at // interleave % work.size] += upto - at
        at = upto
    return moved


@kernel
def add_stream(work: Array, sizes: Array, address: int, burst: int, interleave: int) -> int:
    """Spread a sequential stream over the channels, step by step; return the bytes on the bus.

    ``sizes`` are the bytes of each step; a burst moves with the step that fills it, the last one with the last step.
    """
    passed = 0
    moved = 0
    for s in range(sizes.size):
        begin = (passed + burst - 1) // burst * burst
        passed += sizes[s]
        end = (passed + burst - 1) // burst * burst
        if end > begin:
            moved += add_request(work[s], address + begin, end - begin, burst, interleave)
    return moved
