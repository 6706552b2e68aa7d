"""Kernels of a GPU's sparse libraries as a machine's activity: CSR on CUDA cores, and tiles that hold anything.

A library takes matrices, so a convolution's activations lie unrolled in memory; writing them there is not counted.
"""

from __future__ import annotations

import math
from typing import Any

from sparsim.errors import ConfigError
from sparsim.formats import FormatSize, carried_a
from sparsim.machines.activity import STREAMS, Activity, Buffer, Stage
from sparsim.machines.gpu import TensorCoreConfig
from sparsim.machines.gpu_block import block_cover, block_times
from sparsim.machines.gpu_csr import INDEX_BYTES, CsrKernel, GpuLimits, SparseCost, csr_times, csr_work
from sparsim.machines.tiling import referenced_b
from sparsim.workload import DataType, Workload

__all__ = ["CSR_TYPES", "gpu_limits", "sparse_activity"]

CSR_TYPES = (DataType.FP32, DataType.FP16, DataType.BF16)
WORDS = {
    "launch": "launch and prologue",
    "dram": "DRAM",
    "l2": "L2",
    "shared_memory": "shared memory",
    "multiply": "multipliers",
}


def gpu_limits(gpu: TensorCoreConfig) -> GpuLimits:
    """Return what bounds a kernel on the chip's CUDA cores.

    To begin and to end takes it what a wave of the dense kernels pays: no measured time is so short that it says
    otherwise, and without it tiny sparse products would win for want of a figure.
    """
    return GpuLimits(
        sms=gpu.sms,
        clock_ghz=gpu.clock_ghz,
        shared_bytes_per_clk=gpu.shared_bytes_per_clk,
        l2_gb_s=gpu.l2_gb_s,
        dram_gb_s=gpu.dram.gb_s,
        launch_us=gpu.launch_us + gpu.dense.prologue_us,
        fma_per_clk=gpu.peak(DataType.FP32) / (gpu.sms * gpu.clock_ghz * 1e9),
    )


def sparse_activity(name: str, gpu: TensorCoreConfig, workload: Workload) -> Activity:
    """Return what the library's kernel does for ``workload``, the groups of a convolution as one block-diagonal A.

    Raises
    ------
    ConfigError
        If CSR kernels do not take the data type.
    """
    a, n, width = workload.grouped_a.csr, workload.n, workload.dtype.bytes
    if gpu.mode == "csr":
        if workload.dtype not in CSR_TYPES:
            allowed = ", ".join(each.label for each in CSR_TYPES)
            raise ConfigError(f"{name} has no kernel for {workload.dtype.label}", key="dtype", allowed=allowed)
        kernel = CsrKernel(**gpu.csr.model_dump())
        cost = csr_times(csr_work(a, kernel), n, width, gpu_limits(gpu), kernel)
        size = FormatSize("csr", a.nnz * width, (a.nnz + a.shape[0] + 1) * INDEX_BYTES)
        skips, extra = "every zero", {}
    else:
        rows, cols = gpu.block.rows, gpu.block.k_bytes // width
        cover = block_cover(a, rows, cols)
        cost = block_times(
            cover,
            n,
            width,
            gpu_limits(gpu),
            macs_per_clk=gpu.peak(workload.dtype) / (gpu.sms * gpu.clock_ghz * 1e9),
            efficiency=gpu.block.efficiency,
            task_columns=gpu.block.task_columns,
        )
        size = FormatSize(f"tiles of {rows}x{cols}", cover.tiles * rows * cols * width, cost.dram_bytes["a"])
        size = FormatSize(size.name, size.value_bytes, size.index_bytes - size.value_bytes)
        skips, extra = f"empty tiles of {rows}x{cols}", {"filled_tiles": cover.tiles, "cells": cover.cells}
    return _activity(gpu, workload, cost, size, {"skips": skips, **extra})


def _activity(
    gpu: TensorCoreConfig, workload: Workload, cost: SparseCost, size: FormatSize, details: dict[str, Any]
) -> Activity:
    clock, width, burst = gpu.clock_ghz * 1e9, workload.dtype.bytes, gpu.dram.burst_bytes
    payload = dict.fromkeys(STREAMS, 0) | cost.dram_bytes
    bus = {stream: -(-moved // burst) * burst for stream, moved in payload.items()}
    dram_s = sum(bus.values()) / (gpu.dram.gb_s * 1e9)
    seconds = cost.times["launch"] + dram_s + cost.busy
    cycles = math.ceil(seconds * clock)
    busy = {"launch": cost.times["launch"], "dram": dram_s, "multiply": cost.busy}
    limited_by, reason = _bound(cost.times | {"dram": dram_s}, seconds, cost.imbalance)
    moved = sum(bus.values())
    return Activity(
        cycles=cycles,
        stages={stage: Stage(time * clock, cycles - time * clock) for stage, time in busy.items()},
        multiplies=workload.multiplies,
        nnz_c=workload.nnz_c,
        operations={"multiply": cost.multiplies, "add": cost.multiplies, "compare": 0},
        buffers={
            "l2": Buffer(gpu.l2_bytes, 32, -(-cost.l2_bytes // 32), -(-(moved + payload["c"]) // 32)),
            "shared_memory": Buffer(gpu.shared_bytes, 128, -(-cost.shared_bytes // 128), -(-cost.l2_bytes // 128)),
        },
        dram_bytes=bus,
        payload_bytes=payload,
        element_bytes=(width, width, width),
        compulsory_b=referenced_b(workload),
        limited_by=limited_by,
        reason=reason,
        details={
            "accelerated": True,
            **details,
            "roofs": {f"{name}_us": time * 1e6 for name, time in cost.times.items()},
            "imbalance": cost.imbalance,
            "performed_multiplies": cost.multiplies,
            **carried_a(size, payload["a"]),
        },
    )


def _bound(times: dict[str, float], seconds: float, imbalance: float) -> tuple[str, str]:
    longest = max(times, key=lambda name: times[name])
    waits = f", the fullest multiprocessor has {imbalance:.1f} times the mean" if imbalance > 1.05 else ""
    return longest, f"{WORDS[longest]}: {times[longest] / seconds:.0%} of the run{waits}"
