"""Sparse kernels on GPUs: unstructured zeros on CUDA cores, blocks, and V:N:M on sparse tensor cores."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from importlib import resources
from typing import Any

import numpy as np

from sparsim.fidelity.bench import Bench
from sparsim.fidelity.record import Published, Row, compare_with, read_published, unpublished
from sparsim.machines import machine
from sparsim.machines.gpu import TensorCoreConfig
from sparsim.machines.gpu_block import block_cover, block_times
from sparsim.machines.gpu_csr import CsrKernel, GpuLimits, csr_times, csr_work, expected_work
from sparsim.machines.gpu_sparse import gpu_limits
from sparsim.matrix import Csr
from sparsim.workload import DataType, Operand, Workload

__all__ = ["break_even", "card", "constants", "kernel", "limits", "rows"]

PAPER = "gpu_sparse"
FP32, FP16 = 4, 2
CUBLAS_US = 183.76
Shape = tuple[int, int, int]


@cache
def constants() -> dict[str, dict[str, dict[str, Any]]]:
    """Return chips that have no preset, with the sources of their figures, as they stand in the file."""
    text = resources.files("sparsim.fidelity").joinpath(PAPER, "cards.toml").read_text("utf-8")
    return tomllib.loads(text)


def card(name: str) -> GpuLimits:
    """Return a chip that has no preset: v100 or titan_x."""
    return GpuLimits(**{field: entry["value"] for field, entry in constants()[name].items()})


def _config(name: str) -> TensorCoreConfig:
    config = machine(name).config
    assert isinstance(config, TensorCoreConfig)
    return config


def kernel(name: str) -> CsrKernel:
    """Return the csr or the cusparse kernel, as the modes of the presets have them."""
    return CsrKernel(**_config(f"a100-{name}").csr.model_dump())


def limits(name: str) -> GpuLimits:
    """Return the limits of a tensor-core preset's CUDA cores."""
    return gpu_limits(_config(name))


def rows(bench: Bench) -> Iterator[Row]:
    """Yield every published figure beside the model's, then where unstructured zeros begin to pay on an A100."""
    models: dict[str, Callable[[Published], float]] = {
        "time, csr": _csr_us,
        "zeros where csr": lambda published: break_even(card("v100"), _parse(published.workload)[0], FP32, CUBLAS_US),
        "highest share": _peak_share,
        "time of a frame, cusparse": _frame_us,
        "time of a vector, cusparse": _frame_us,
        "dense-equivalent": _h100_tflops,
        "time, block": _block_ms,
        "time, Spatha": _spatha_us,
    }
    for published in read_published(PAPER):
        model = next(model for start, model in models.items() if published.quantity.startswith(start))
        yield compare_with(PAPER, published, model(published))
    yield from _a100()


def _parse(workload: str) -> tuple[Shape, str]:
    shape, _, pattern = workload.partition(" ")
    m, k, n = (int(side) for side in shape.split(","))
    return (m, k, n), pattern


def _drawn(shape: Shape, pattern: str) -> Csr:
    return Operand.random(shape[0], shape[1], float(pattern.removeprefix("density:"))).csr


def _csr_us(published: Published) -> float:
    shape, pattern = _parse(published.workload)
    work = csr_work(_drawn(shape, pattern), kernel("csr"))
    return csr_times(work, shape[2], FP32, card("v100"), kernel("csr")).seconds * 1e6


def _frame_us(published: Published) -> float:
    shape, pattern = _parse(published.workload)
    work = csr_work(_drawn(shape, pattern), kernel("cusparse"))
    return csr_times(work, shape[2], FP32, card("titan_x"), kernel("cusparse")).seconds * 1e6 / shape[2]


def _h100_tflops(published: Published) -> float:
    (m, k, n), pattern = _parse(published.workload)
    work = expected_work((m, k), float(pattern.removeprefix("density:")), kernel("cusparse"))
    return 2e-12 * m * k * n / csr_times(work, n, FP16, limits("h100"), kernel("cusparse")).seconds


def _peak_share(published: Published) -> float:
    gpu, shares = card("v100"), []
    for density in (0.5, 0.3, 0.2, 0.1, 0.05, 0.01):
        cost = csr_times(expected_work((4096, 4096), density, kernel("csr")), 4096, FP32, gpu, kernel("csr"))
        shares.append(cost.multiplies / (cost.seconds * gpu.sms * gpu.fma_per_clk * gpu.clock_ghz * 1e9))
    return max(shares)


def _tile() -> tuple[int, int]:
    block = _config("a100-block").block
    return block.rows, block.k_bytes // FP32


def _blocks(shape: Shape, rows: int, cols: int, density: float) -> Csr:
    """Draw blocks and write them out as the tiles of 32 x 8 that they touch, one element each."""
    tall, wide = _tile()
    down, across = -(-shape[0] // rows), -(-shape[1] // cols)
    drawn = np.random.default_rng(0).choice(down * across, round(down * across * density), replace=False)
    block_row, block_col = np.divmod(drawn, across)
    parts = -(-cols // wide)
    tile_row = np.repeat(block_row * rows // tall, parts)
    tile_col = np.repeat(block_col * cols // wide, parts) + np.tile(np.arange(parts), block_col.size)
    cell = np.unique(tile_row * shape[1] + tile_col)
    return Csr.from_coo((shape[0], shape[1]), cell // shape[1] * tall, cell % shape[1] * wide)


def _block_ms(published: Published) -> float:
    shape, pattern = _parse(published.workload)
    rows, cols = (int(side) for side in published.quantity.rpartition(" ")[2].split("x"))
    settings, gpu = _config("a100-block").block, card("v100")
    a = _blocks(shape, rows, cols, float(pattern.removeprefix("density:")))
    cover = block_cover(a, *_tile())
    cost = block_times(cover, shape[2], FP32, gpu, macs_per_clk=gpu.fma_per_clk, efficiency=settings.efficiency)
    return cost.seconds * 1e3


def _spatha_us(published: Published) -> float:
    (m, k, n), pattern = _parse(published.workload)
    v, kept, of = (int(part) for part in pattern.split(":"))
    built = machine("rtx3090-vnm")
    activity = built.run(Workload(Operand.vnm(m, k, v, kept, of), Operand.dense(k, n), dtype=DataType.FP16))
    return activity.cycles / built.config.clock_ghz / 1e3


def break_even(gpu: GpuLimits, shape: Shape, width: int, dense_us: float) -> float:
    """Return the share of zeros from which on the csr kernel takes less than ``dense_us``, random zeros given."""
    low, high = 0.0, 1.0
    for _ in range(40):
        density = (low + high) / 2
        work = expected_work((shape[0], shape[1]), density, kernel("csr"))
        if csr_times(work, shape[2], width, gpu, kernel("csr")).seconds * 1e6 < dense_us:
            low = density
        else:
            high = density
    return 1 - low


def _a100() -> Iterator[Row]:
    built, gpu = machine("a100"), limits("a100")
    for dtype in (DataType.FP32, DataType.FP16):
        for side in (1024, 4096):
            shape = (side, side, side)
            dense = built.run(Workload(Operand.dense(side, side), Operand.dense(side, side), dtype=dtype))
            share = break_even(gpu, shape, dtype.bytes, dense.cycles / built.config.clock_ghz / 1e3)
            quantity, workload = f"zeros where csr meets dense, {dtype.label}, A100", f"{side},{side},{side}"
            yield unpublished(
                PAPER, quantity, workload, "share", share, "dense on tensor cores where they take the type"
            )
