"""A dense roofline: a processor that only its arithmetic or its memory ever limits.

The time is the larger of multiplies / peak and bytes / bandwidth (Williams et al., CACM 2009), with every operand and
the result once over the bus, as if the caches were perfect. That is a bound from below on the time of any dense
library; what real ones reach of it stands in ``sparsim validate cpu``.
"""

from __future__ import annotations

import math
from typing import ClassVar, NamedTuple, cast

from pydantic import Field

from sparsim.machines.activity import STREAMS, Activity, Stage
from sparsim.machines.base import Machine, MachineConfig, Section
from sparsim.machines.tiling import activation_share, products, referenced_b
from sparsim.workload import DataType, Workload

__all__ = ["Roofline", "RooflineConfig"]

BOUND = "time and energy are bounds from below: caches are perfect, and neither they nor instructions take energy"


class SimdConfig(Section):
    """The multiply-accumulate units of one core."""

    width_bytes: int = Field(ge=1, le=1024, description="one vector register [bytes]")
    fma_units: int = Field(ge=1, le=64, description="fused multiply-adds of a whole register, a cycle")
    narrowest_bytes: int = Field(ge=1, le=8, description="narrowest value they take; narrower ones are widened [bytes]")


class RooflineConfig(MachineConfig):
    """A processor seen as two roofs."""

    cores: int = Field(ge=1, le=4096, description="cores")
    simd: SimdConfig


class Work(NamedTuple):
    """What is left to do, over all groups: multiplies, and bytes of A, B and C, each once."""

    macs: int
    a: int
    b: int
    c: int


class Roofline(Machine):
    """Dense products at the larger of two bounds."""

    config_class: ClassVar[type[MachineConfig]] = RooflineConfig

    def peak_of_one(self, dtype: DataType) -> float:
        """Return cores x units x values in a register."""
        config = cast(RooflineConfig, self.config)
        lanes = config.simd.width_bytes / max(dtype.bytes, config.simd.narrowest_bytes)
        return config.cores * config.simd.fma_units * lanes

    def run_one(self, workload: Workload) -> Activity:
        """Return what the machine does for ``workload``."""
        work = self._work(workload)
        burst, width = self.config.dram.burst_bytes, workload.dtype.bytes
        payload = dict(zip(STREAMS, (work.a, work.b, 0, 0, work.c), strict=True))
        bus = {stream: -(-size // burst) * burst for stream, size in payload.items()}
        peak = self.peak_of_one(workload.dtype)
        multiply, dram = work.macs / peak, sum(bus.values()) / self.config.dram_bytes_per_cycle
        cycles = math.ceil(max(multiply, dram))
        limited_by, reason = self._bound(work.macs, sum(bus.values()), multiply, dram)
        return Activity(
            cycles=cycles,
            stages={"multiply": Stage(multiply, cycles - multiply), "dram": Stage(dram, cycles - dram)},
            multiplies=workload.multiplies,
            nnz_c=workload.nnz_c,
            operations={"multiply": work.macs, "add": work.macs, "compare": 0},
            buffers={},
            dram_bytes=bus,
            payload_bytes=payload,
            element_bytes=(width, width, width),
            compulsory_b=int(referenced_b(workload) * activation_share(workload, self.config.im2col)),
            limited_by=limited_by,
            reason=reason,
            details={
                "skips": "empty rows and columns",
                "performed_multiplies": work.macs,
                "peak_gflops": 2 * peak * self.config.clock_ghz,
                "multiply_us": multiply / self.config.clock_ghz / 1e3,
                "dram_us": dram / self.config.clock_ghz / 1e3,
            },
            notes=(BOUND,),
        )

    def _work(self, workload: Workload) -> Work:
        """Sum over the groups what is left without empty rows and columns."""
        width, share = workload.dtype.bytes, activation_share(workload, self.config.im2col)
        macs = a = b = c = 0
        for product, count in products(workload, compact=True).items():
            macs += count * product.m * product.n * product.k
            a += count * product.stored_a * width
            if product.m and product.n and product.k:
                b += count * math.ceil(product.k * product.n * share * width)
                c += count * product.m * product.n * width
        return Work(macs, a, b, c)

    def _bound(self, macs: int, moved: int, multiply: float, dram: float) -> tuple[str, str]:
        if not macs:
            return "latency", f"nothing to multiply; {moved:,} bytes of operands are read"
        if dram > multiply:
            rate, share = self.config.dram.gb_s, multiply / dram
            return "dram", f"DRAM: {moved / 1e6:.3g} MB at {rate:g} GB/s, arithmetic takes {share:.0%} of that"
        share = dram / multiply
        return "multiply", f"arithmetic: {macs:,} multiplies at the peak rate, DRAM takes {share:.0%} of that"
