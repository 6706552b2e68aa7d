"""From the data sheet of a memory to the integers its kernel counts in."""

from __future__ import annotations

import math

from sparsim.kernels.records import DramParams
from sparsim.machines.base import BankedDramConfig

__all__ = ["dram_params"]


def dram_params(dram: BankedDramConfig, ticks_per_ns: float) -> DramParams:
    """Return the parameters of :mod:`sparsim.kernels.dram`, times rounded up to whole ticks."""

    def ticks(nanoseconds: float) -> int:
        return math.ceil(nanoseconds * ticks_per_ns - 1e-9)

    return DramParams(
        channels=dram.channels,
        interleave=dram.interleave_bytes,
        burst=dram.burst_bytes,
        row=dram.row_bytes,
        banks=dram.banks,
        groups=dram.bank_groups,
        queue=dram.queue_bursts,
        high=dram.write_high,
        low=dram.write_low,
        burst_ticks=ticks(dram.burst_bytes / dram.gb_s_per_channel),
        ccd=ticks(dram.t_ccd_l_ns),
        rcd=ticks(dram.t_rcd_ns),
        rp=ticks(dram.t_rp_ns),
        ras=ticks(dram.t_ras_ns),
        rrd=ticks(dram.t_rrd_ns),
        faw=ticks(dram.t_faw_ns),
        wr=ticks(dram.t_wr_ns),
        to_write=ticks(dram.read_to_write_ns),
        to_read=ticks(dram.write_to_read_ns),
        refi=ticks(dram.t_refi_ns),
        rfc=ticks(dram.t_rfc_ns),
    )
