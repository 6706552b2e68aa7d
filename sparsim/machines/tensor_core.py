"""A GPU with dense and 2:4 tensor cores: waves of tiles over its multiprocessors, or the traffic of its memory.

A kernel's tiles of C are dealt out in waves, one tile a multiprocessor (SM). A wave pays a prologue, k steps and the
store of its tiles; a launch pays once. A step runs at a share of the peak rate of one SM, or of the whole device where
that is slower: a full chip lowers its clock. Waves that are not full and the fixed cost of each explain most of why 2:4
gains 1.2 to 1.8 times instead of twice.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import ClassVar, Literal, NamedTuple, cast

import numpy as np
from pydantic import Field, ValidationInfo, field_validator

from sparsim.errors import ConfigError
from sparsim.machines.activity import STREAMS, Activity, Buffer, Stage
from sparsim.machines.base import Machine, MachineConfig, Section
from sparsim.machines.tiling import Product, activation_share, filled_columns, products, referenced_b, select
from sparsim.structure import follows_n_of_m
from sparsim.workload import DataType, Operand, Workload

__all__ = ["TensorCore", "TensorCoreConfig"]

MMA_ROWS, DENSE_COLUMNS, DENSE_K_BYTES = 16, 8, 32
POOR_UTILISATION = 0.5
RESIDENT_TILES = 16
SPLITS = range(2, 9)
ACCUMULATOR_BYTES = 4
Bytes = dict[str, int]
GROUPS_OF = {DataType.FP16: (2, 4), DataType.BF16: (2, 4), DataType.INT8: (2, 4), DataType.FP32: (1, 2)}


class RateConfig(Section):
    """Peak dense tensor rates, 10^12 operations a second (two a multiply-accumulate)."""

    fp64: float = Field(ge=0, description="double precision, 0 where tensor cores have none [TFLOP/s]")
    fp32: float = Field(gt=0, description="single precision, run as tf32 [TFLOP/s]")
    fp16: float = Field(gt=0, description="half precision, fp32 accumulation [TFLOP/s]")
    bf16: float = Field(gt=0, description="bfloat16 [TFLOP/s]")
    int8: float = Field(gt=0, description="8-bit integers [TOP/s]")


class KernelConfig(Section):
    """One library's kernels."""

    tiles: str = Field(description="tile shapes, rows x columns of C, e.g. '256x128,128x128'")
    split_k: bool = Field(description="whether idle multiprocessors share the k loop of a tile")
    narrow: bool = Field(description="whether tiles shrink to a product of fewer rows or columns")
    wave_us: float = Field(ge=0, description="fixed cost of a wave, on top of the store of its tiles [us]")
    sm_efficiency: float = Field(gt=0, le=1, description="share of its peak that a multiprocessor's k loop reaches")
    sustained: float = Field(gt=0, le=1, description="share of the device's peak that all of them reach together")

    @field_validator("tiles")
    @classmethod
    def _check(cls, text: str) -> str:
        for part in text.split(","):
            sides = part.split("x")
            if len(sides) != 2 or not all(side.strip().isdigit() and int(side) > 0 for side in sides):
                raise ValueError(f"'{part}' is no tile such as 256x128")
        return text

    @field_validator("sustained")
    @classmethod
    def _order(cls, share: float, info: ValidationInfo) -> float:
        if share > info.data.get("sm_efficiency", 1.0):
            raise ValueError("the device cannot sustain more than its multiprocessors reach (sm_efficiency)")
        return share

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Tile shapes as numbers."""
        return [(int(rows), int(cols)) for rows, cols in (part.split("x") for part in self.tiles.split(","))]


class TensorCoreConfig(MachineConfig):
    """A GPU with tensor cores."""

    structured: Literal["none", "2:4"] = Field(description="whether the sparse instructions are used")
    sms: int = Field(ge=1, le=4096, description="streaming multiprocessors")
    rate: RateConfig
    launch_us: float = Field(ge=0, le=1000, description="from the call to the first wave [us]")
    dense: KernelConfig
    sparse: KernelConfig
    sparse_columns: int = Field(ge=1, le=1024, description="the sparse kernels pad the columns of B to this multiple")
    l2_bytes: int = Field(ge=1, description="capacity of the L2 cache [bytes]")
    l2_gb_s: float = Field(gt=0, description="bandwidth of the L2 cache [GB/s]")
    shared_bytes: int = Field(ge=1, description="shared memory of one multiprocessor [bytes]")
    warp_tile: int = Field(ge=1, le=256, description="side of the square of C that one warp computes [elements]")


class Kernel(NamedTuple):
    """One kernel for all products of a workload, and its cost in seconds but for DRAM.

    A multiprocessor holds as many small tiles at a time as fit in the place of the first shape (at most
    :data:`RESIDENT_TILES`, a limit of the hardware): they share one prologue and the rate. ``rounds`` are tiles a
    multiprocessor has to do, ``waves`` the prologues it pays; ``reduction_s`` is a second kernel that reads
    the sums of a split k loop, which the first one wrote.
    """

    tile: tuple[int, int]
    split: int
    tiles: int
    waves: int
    rounds: int
    fixed_s: float
    loop_s: float
    reduction_s: float
    l2_read: float
    shared_read: float
    slots: float

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.fixed_s + self.loop_s + self.reduction_s


class Plan(NamedTuple):
    """One way to run a workload: the kernel, its DRAM traffic, and seconds of each part."""

    work: list[tuple[Product, int]]
    kernel: Kernel
    payload: Bytes
    bus: Bytes
    times: dict[str, float]

    @property
    def seconds(self) -> float:
        """From the call to the last byte."""
        return self.times["launch"] + max(self.times["multiply"], self.times["dram"])


class TensorCore(Machine):
    """A GPU that runs A·B on tensor cores; A is the operand that 2:4 may compress."""

    config_class: ClassVar[type[MachineConfig]] = TensorCoreConfig

    @property
    def _gpu(self) -> TensorCoreConfig:
        return cast(TensorCoreConfig, self.config)

    def peak_multiplies_per_cycle(self, dtype: DataType) -> float:
        """Return the dense rate: 2:4 doubles the multiplies a dense kernel would need, not those that are done."""
        return self._rate(dtype) / 2 / (self.config.clock_ghz * 1e9)

    def _rate(self, dtype: DataType) -> float:
        rate: float = getattr(self._gpu.rate, dtype.label)
        if not rate:
            raise ConfigError(f"{self.name} has no tensor cores for {dtype.label}", key="dtype", allowed=self._types())
        return rate * 1e12

    def _types(self) -> str:
        held = self._gpu.rate.model_dump()
        return ", ".join(
            t.label for t in DataType if held[t.label] and (self._gpu.structured == "none" or t in GROUPS_OF)
        )

    def run(self, workload: Workload) -> Activity:
        """Return what the machine does for ``workload``.

        Raises
        ------
        ConfigError
            If the tensor cores (or their sparse instructions) do not take the workload's data type.
        """
        dtype = workload.dtype
        self._rate(dtype)
        asked = self._gpu.structured == "2:4"
        if asked and dtype not in GROUPS_OF:
            raise ConfigError(f"{self.name} has no 2:4 for {dtype.label}", key="dtype", allowed=self._types())
        plan = dense = self._plan(workload, products(workload, compact=True), accelerated=False)
        kept_k = _structured_k(workload, *GROUPS_OF[dtype]) if asked else None
        if kept_k is not None:
            plan = self._plan(workload, _with_k(products(workload, compact=True), kept_k), accelerated=True)
        notes: tuple[str, ...] = ()
        if asked and kept_k is None:
            kept, of = GROUPS_OF[dtype]
            notes = (f"A is not {kept}:{of} along k, so {dtype.label} ran dense, without sparse instructions",)
        elif plan.seconds > dense.seconds:
            sparse_us, dense_us = plan.seconds * 1e6, dense.seconds * 1e6
            notes = (f"the 2:4 kernel takes {sparse_us:.3g} us here, the dense one would take {dense_us:.3g} us",)
        return self._activity(workload, plan, kept_k is not None, notes)

    def _plan(self, workload: Workload, parts: Mapping[Product, int], accelerated: bool) -> Plan:
        """Return what the kernel for ``parts`` costs, in closed form."""
        gpu = self._gpu
        work = [(p, count) for p, count in parts.items() if p.m and p.n and p.k]
        kernel = self._kernel(work, workload.dtype, accelerated)
        payload = self._dram(workload, parts, kernel.tile, accelerated)
        bus = {stream: -(-size // gpu.dram.burst_bytes) * gpu.dram.burst_bytes for stream, size in payload.items()}
        dram_s = sum(bus.values()) / (gpu.dram.gb_s * 1e9)
        times = {"launch": gpu.launch_us * 1e-6, "multiply": kernel.seconds, "dram": dram_s}
        return Plan(work, kernel, payload, bus, times)

    def _padded(self, product: Product, dtype: DataType, accelerated: bool) -> tuple[int, int, int]:
        """Return m, n, k as the instructions see them."""
        columns = self._gpu.sparse_columns if accelerated else DENSE_COLUMNS
        depth = DENSE_K_BYTES // dtype.bytes * (2 if accelerated else 1)
        units = (MMA_ROWS, columns, depth)
        m, n, k = (-(-size // unit) * unit for size, unit in zip(product[:3], units, strict=True))
        return m, n, k

    def _kernel(self, work: list[tuple[Product, int]], dtype: DataType, accelerated: bool) -> Kernel:
        """Return the library's kernel; all products of a workload go in one launch.

        Shapes are tried from the first on until one gives every multiprocessor a tile; the fastest of those runs, with
        the k loop cut in the number of parts that is fastest where a shape leaves multiprocessors without a tile.
        """
        settings = self._gpu.sparse if accelerated else self._gpu.dense
        deepest = max((self._padded(product, dtype, accelerated)[2] for product, _ in work), default=0)
        kernels: list[Kernel] = []
        for tile in settings.shapes:
            kernels.append(self._cost(work, dtype, accelerated, tile, split=1))
            if kernels[-1].tiles >= self._gpu.sms:
                break
            parts = [split for split in SPLITS if settings.split_k and split * DENSE_K_BYTES <= deepest * dtype.bytes]
            kernels += [self._cost(work, dtype, accelerated, tile, split) for split in parts]
        return min(kernels, key=lambda kernel: kernel.seconds)

    def _cost(
        self, work: list[tuple[Product, int]], dtype: DataType, accelerated: bool, tile: tuple[int, int], split: int
    ) -> Kernel:
        gpu, width = self._gpu, dtype.bytes
        settings = gpu.sparse if accelerated else gpu.dense
        padded = [(self._padded(product, dtype, accelerated), count) for product, count in work]
        rows, cols = tile
        if settings.narrow and padded:
            rows, cols = min(rows, max(mnk[0] for mnk, _ in padded)), min(cols, max(mnk[1] for mnk, _ in padded))
        tiles, steps = 0, 0
        for (m, n, k), count in padded:
            here = count * -(-m // rows) * -(-n // cols)
            tiles, steps = tiles + here, steps + here * k
        resident = min(RESIDENT_TILES, max(1, math.prod(settings.shapes[0]) // (rows * cols)))
        rounds, waves = -(-tiles * split // gpu.sms), -(-tiles * split // (gpu.sms * resident))
        store_s = resident * rows * cols * width * gpu.sms / (gpu.l2_gb_s * 1e9)
        partial_bytes = split * ACCUMULATOR_BYTES * sum(count * m * n for (m, n, _), count in padded)
        ratio = _stored_share(dtype) if accelerated else 1.0
        operand_bytes = width * (rows * ratio + cols)
        per_sm = self._rate(dtype) / 2 / gpu.sms * (2 if accelerated else 1)
        active = min(tiles * split, gpu.sms) / gpu.sms
        step_s = max(
            rows * cols / per_sm * max(1 / settings.sm_efficiency, active / settings.sustained),
            operand_bytes * gpu.sms / (gpu.l2_gb_s * 1e9),
        )
        a_reads, b_reads = max(1, cols // gpu.warp_tile), max(1, rows // gpu.warp_tile)
        return Kernel(
            tile=(rows, cols),
            split=split,
            tiles=tiles,
            waves=waves,
            rounds=rounds,
            fixed_s=waves * (settings.wave_us * 1e-6 + store_s),
            loop_s=rounds * (steps / max(tiles, 1) / split) * step_s,
            reduction_s=gpu.launch_us * 1e-6 + 2 * partial_bytes / (gpu.l2_gb_s * 1e9) if split > 1 else 0.0,
            l2_read=steps * operand_bytes + partial_bytes * (split > 1),
            shared_read=steps * width * (rows * ratio * a_reads + cols * b_reads),
            slots=steps * rows * cols / (2 if accelerated else 1),
        )

    def _dram(self, workload: Workload, parts: Mapping[Product, int], tile: tuple[int, int], compressed: bool) -> Bytes:
        """Return payload bytes by stream."""
        width, share = workload.dtype.bytes, activation_share(workload, self.config.im2col)
        payload = dict.fromkeys(STREAMS, 0)
        for product, count in parts.items():
            a = _compressed_bytes(product, workload.dtype) if compressed else product.stored_a * width
            b = math.ceil(product.k * product.n * share * width) if product.m else 0
            passes_a, passes_b = self._passes(product, tile, a, b)
            payload["a"] += count * a * passes_a
            payload["b"] += count * b * passes_b
            payload["c"] += count * product.m * product.n * width * (product.k > 0)
        return payload

    def _passes(self, product: Product, tile: tuple[int, int], a: int, b: int) -> tuple[int, int]:
        """Return how often A and B are read: once if they fit L2, else once a patch of tiles along the other side of C.

        A wave is a rectangle of tiles of C, at most one a multiprocessor, of the shape with the least traffic.
        """
        down, across = max(1, -(-product.m // tile[0])), max(1, -(-product.n // tile[1]))
        height = np.arange(1, min(down, self._gpu.sms) + 1)
        length = np.minimum(across, self._gpu.sms // height)
        passes_a = -(-across // length) if a > self._gpu.l2_bytes else np.ones_like(height)
        passes_b = -(-down // height) if b > self._gpu.l2_bytes else np.ones_like(height)
        best = int(np.argmin(passes_a * float(a) + passes_b * float(b)))
        return int(passes_a[best]), int(passes_b[best])

    def _activity(self, workload: Workload, plan: Plan, accelerated: bool, notes: tuple[str, ...]) -> Activity:
        gpu, dtype, width = self._gpu, workload.dtype, workload.dtype.bytes
        work, kernel, payload, bus, times = plan
        moved = sum(bus.values())
        clock = gpu.clock_ghz * 1e9
        cycles = math.ceil(plan.seconds * clock)
        padded = [self._padded(product, dtype, accelerated) for product, _ in work]
        macs = sum(count * math.prod(mnk) for (_, count), mnk in zip(work, padded, strict=True))
        macs = macs // 2 if accelerated else macs
        limited_by, reason = self._bound(times, kernel, macs, moved)
        share = activation_share(workload, self.config.im2col)
        return Activity(
            cycles=cycles,
            stages={name: Stage(time * clock, cycles - time * clock) for name, time in times.items()},
            multiplies=workload.multiplies,
            nnz_c=workload.nnz_c,
            operations={"multiply": macs, "add": macs, "compare": 0},
            buffers=self._buffers(kernel, moved, payload["c"]),
            dram_bytes=bus,
            payload_bytes=payload,
            element_bytes=(width, width, width),
            compulsory_b=int(referenced_b(workload) * share),
            limited_by=limited_by,
            reason=reason,
            details={
                "accelerated": accelerated,
                "skips": ("2:4 and " if gpu.structured == "2:4" else "") + "empty rows and columns",
                "tile": "x".join(map(str, kernel.tile)),
                "tiles": kernel.tiles,
                "split_k": kernel.split,
                "waves": kernel.waves,
                "launch_us": gpu.launch_us,
                "wave_us": kernel.fixed_s * 1e6,
                "k_loop_us": kernel.loop_s * 1e6,
                "reduction_us": kernel.reduction_s * 1e6,
                "dram_us": times["dram"] * 1e6,
                "padded_mnk": list(max(padded, key=math.prod)) if padded else [0, 0, 0],
                "performed_multiplies": macs,
            },
            notes=notes,
        )

    def _buffers(self, kernel: Kernel, moved: int, written: int) -> dict[str, Buffer]:
        gpu = self._gpu
        sectors = (math.ceil(kernel.l2_read / 32), math.ceil((moved + written) / 32))
        lines = (math.ceil(kernel.shared_read / 128), math.ceil(kernel.l2_read / 128))
        return {"l2": Buffer(gpu.l2_bytes, 32, *sectors), "shared_memory": Buffer(gpu.shared_bytes, 128, *lines)}

    def _bound(self, times: Mapping[str, float], kernel: Kernel, macs: int, moved: int) -> tuple[str, str]:
        gpu, total = self._gpu, times["launch"] + max(times["multiply"], times["dram"])
        if times["launch"] >= max(times["multiply"], times["dram"]):
            return "launch", f"launch: {gpu.launch_us:g} us of {total * 1e6:.3g} us pass before the first wave"
        if times["dram"] > times["multiply"]:
            part = times["dram"] / total
            return "dram", f"DRAM: {moved / 1e6:.3g} MB at {gpu.dram.gb_s:g} GB/s take {part:.0%} of the run"
        busy = kernel.tiles * kernel.split / max(kernel.rounds * gpu.sms, 1)
        useful = busy * macs / max(kernel.slots, 1.0)
        waves = f"{kernel.tiles * kernel.split} tiles of {kernel.tile[0]}x{kernel.tile[1]} in {kernel.waves} wave(s)"
        if useful < POOR_UTILISATION:
            return "load_imbalance", f"tiles: {waves} of {gpu.sms} leave {1 - useful:.0%} of the tensor cores idle"
        part = times["multiply"] / total
        return "multiply", f"tensor cores: {waves} take {part:.0%} of the run, {kernel.fixed_s / total:.0%} fixed cost"


def _bits(dtype: DataType) -> int:
    """Return metadata bits of one kept value: 2 name one of four places; tf32 takes 4 for one of two."""
    return 4 if dtype is DataType.FP32 else 2


def _stored_share(dtype: DataType) -> float:
    """Return compressed over dense bytes: 0.5625 at 16 bits and for tf32, 0.625 at 8 bits."""
    kept, of = GROUPS_OF[dtype]
    return kept / of * (1 + _bits(dtype) / (8 * dtype.bytes))


def _compressed_bytes(product: Product, dtype: DataType) -> int:
    """Return bytes of A's kept values and their positions."""
    kept, of = GROUPS_OF[dtype]
    slots = product.m * (product.k // of * kept + min(kept, product.k % of))
    return slots * dtype.bytes + -(-slots * _bits(dtype) // 8)


def _with_k(parts: Mapping[Product, int], k: int) -> Counter[Product]:
    """Return the products with all k steps of a compressed A, whether or not a row of B is empty."""
    changed: Counter[Product] = Counter()
    for product, count in parts.items():
        changed[product._replace(k=k)] += count
    return changed


def _follows(operand: Operand, kept: int, of: int) -> bool:
    """Return whether an operand is N:M; a rule is judged by its name where that decides."""
    if operand.cols <= kept or not operand.nnz:
        return True
    if operand.pattern == "dense":
        return False
    if operand.pattern != "explicit":
        n, m = (int(part) for part in operand.pattern.split(":"))
        if (n <= kept and m % of == 0) or (of % m == 0 and of // m * n <= kept):
            return True
    return follows_n_of_m(operand.csr, kept, of)


def _structured_k(workload: Workload, kept: int, of: int) -> int | None:
    """Return the k that A has as an N:M operand (without its empty columns if it still is one), None if it is none."""
    a = workload.a
    if workload.groups == 1 and a.matrix is not None and a.nnz:
        packed = select(a.csr, a.row_lengths > 0, filled_columns(a, 1)[0])
        if follows_n_of_m(packed, kept, of):
            return packed.shape[1]
    return a.cols if _follows(a, kept, of) else None
