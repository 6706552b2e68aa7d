"""A GPU with dense and 2:4 tensor cores: a kernel's waves of tiles, the traffic of its memory, or its power.

A launch pays once; then the slowest of three decides: the kernel on the multiprocessors
(:mod:`~sparsim.machines.gemm_kernel`), the bytes over the DRAM bus, and the power that all multiplies take, since a
full chip lowers its clock. Why 2:4 does not gain twice follows: waves that are not full and the fixed cost of each,
operand B at full width through shared memory, and half of the multiplies but more than half of the power.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple, cast

import numpy as np

from sparsim.errors import ConfigError
from sparsim.formats import FormatSize, carried_a, shrunk_size
from sparsim.machines.activity import STREAMS, Activity, Buffer, Stage
from sparsim.machines.base import Machine, MachineConfig
from sparsim.machines.gemm_kernel import Kernel, best_kernel, compressed_bytes, padded
from sparsim.machines.gpu import GROUPS_OF, TensorCoreConfig
from sparsim.machines.gpu_sparse import sparse_activity
from sparsim.machines.tiling import Product, activation_share, kept_columns, products, referenced_b, select
from sparsim.n_of_m import follows_n_of_m, vnm_k
from sparsim.workload import DataType, Operand, Workload

__all__ = ["TensorCore", "TensorCoreConfig"]

POOR_UTILISATION = 0.5
SKIPS = {"2:4": "2:4 and ", "v:n:m": "V:2:M and ", "csr": "", "block": "", "dense": ""}
Bytes = dict[str, int]


class Plan(NamedTuple):
    """One way to run a workload: the kernel, its DRAM traffic, and seconds of each part."""

    work: list[tuple[Product, int]]
    sparse: bool
    kernel: Kernel
    multiplies: int
    stored: FormatSize
    payload: Bytes
    bus: Bytes
    times: dict[str, float]

    @property
    def seconds(self) -> float:
        """From the call to the last byte."""
        return self.times["launch"] + max(self.times["multiply"], self.times["dram"], self.times["power"])


class TensorCore(Machine):
    """A GPU that runs A·B on tensor cores, or by its sparse libraries; A is the operand that may have zeros."""

    config_class: ClassVar[type[MachineConfig]] = TensorCoreConfig

    @property
    def _gpu(self) -> TensorCoreConfig:
        return cast(TensorCoreConfig, self.config)

    @property
    def skips_zeros(self) -> bool:
        """Whether its kernels work by element, or by tiles that hold anything."""
        return self._gpu.mode in ("csr", "block")

    def peak_of_one(self, dtype: DataType) -> float:
        """Return the dense rate: 2:4 doubles the multiplies a dense kernel would need, not those that are done."""
        self._check(dtype)
        return self._gpu.peak(dtype) / (self.config.clock_ghz * 1e9)

    def _check(self, dtype: DataType) -> None:
        structured = self._gpu.mode in ("2:4", "v:n:m")
        if not self._gpu.peak(dtype):
            raise ConfigError(f"{self.name} has no {dtype.label}", key="dtype", allowed=self._gpu.types(structured))
        if structured and dtype not in GROUPS_OF:
            raise ConfigError(
                f"{self.name} has no {self._gpu.mode} for {dtype.label}", key="dtype", allowed=self._gpu.types(True)
            )

    def run_one(self, workload: Workload) -> Activity:
        """Return what the machine does for ``workload``.

        Raises
        ------
        ConfigError
            If the tensor cores (or their sparse instructions) do not take the workload's data type.
        """
        gpu, dtype = self._gpu, workload.dtype
        self._check(dtype)
        parts = products(workload, compact=True)
        dense = self._plan(workload, parts)
        if gpu.mode in ("csr", "block") and not workload.a.is_dense:
            return _beside(sparse_activity(self.name, gpu, workload), dense)
        if gpu.mode not in ("2:4", "v:n:m"):
            return self._activity(workload, dense, ())
        depth = self._depth(workload)
        if depth is None:
            kept, of = GROUPS_OF[dtype]
            wanted = f"{gpu.vnm_rows}:2:M" if gpu.mode == "v:n:m" else f"{kept}:{of} along k"
            note = f"A is not {wanted}, so {dtype.label} ran dense, without sparse instructions"
            return self._activity(workload, dense, (note,))
        plan = self._plan(workload, parts, depth)
        notes: tuple[str, ...] = ()
        if plan.seconds > dense.seconds:
            sparse_us, dense_us = plan.seconds * 1e6, dense.seconds * 1e6
            kind = f"the {gpu.mode.upper() if gpu.mode == 'v:n:m' else gpu.mode} kernel"
            notes = (f"{kind} takes {sparse_us:.3g} us here, the dense one would take {dense_us:.3g} us",)
        return _beside(self._activity(workload, plan, notes), dense)

    def _depth(self, workload: Workload) -> int | None:
        """Return the k that is left to a 2:4 kernel, None if A does not have the pattern."""
        gpu = self._gpu
        if gpu.mode == "2:4":
            return _structured_k(workload, *GROUPS_OF[workload.dtype])
        if workload.groups > 1 or workload.a.pattern == "dense":
            return None
        return vnm_k(workload.a.csr, gpu.vnm_rows)

    def _plan(self, workload: Workload, parts: Mapping[Product, int], depth: int | None = None) -> Plan:
        """Return what the kernel for ``parts`` costs, in closed form; a sparse one takes ``depth`` steps of k."""
        gpu, dtype, sparse = self._gpu, workload.dtype, depth is not None
        steps = parts if depth is None else _with_k(parts, depth)
        work = [(p, count) for p, count in steps.items() if p.m and p.n and p.k]
        kernel = best_kernel(gpu, work, dtype, sparse)
        dense_multiplies = sum(count * math.prod(padded(gpu, product, dtype, sparse)) for product, count in work)
        stored = self._stored(workload, steps, sparse)
        read = parts if gpu.mode == "v:n:m" else steps  # a gather may want any row of B
        payload = self._dram(workload, read, kernel.tile, stored.total if sparse else None)
        bus = {stream: -(-size // gpu.dram.burst_bytes) * gpu.dram.burst_bytes for stream, size in payload.items()}
        joules = dense_multiplies * kernel.power_share * getattr(gpu.power, dtype.label) * 1e-12
        limit_w = gpu.device_power_w
        times = {
            "launch": gpu.launch_us * 1e-6,
            "multiply": kernel.seconds,
            "dram": sum(bus.values()) / (gpu.dram.gb_s * 1e9),
            "power": joules / (limit_w - gpu.power.idle_w) if limit_w is not None else 0.0,
        }
        return Plan(work, sparse, kernel, dense_multiplies // (2 if sparse else 1), stored, payload, bus, times)

    def _stored(self, workload: Workload, steps: Mapping[Product, int], sparse: bool) -> FormatSize:
        """Return the bytes of A; V:N:M names 4 columns in every block of rows, a byte each."""
        gpu, dtype = self._gpu, workload.dtype
        if not sparse:
            stored = sum(count * product.stored_a for product, count in steps.items()) * dtype.bytes
            return shrunk_size(stored, workload.m * workload.k * dtype.bytes)
        sizes = [(compressed_bytes(product.m, product.k, dtype), product, count) for product, count in steps.items()]
        values, places = (sum(count * size[part] for size, _, count in sizes) for part in (0, 1))
        if gpu.mode == "v:n:m":
            places += sum(count * -(-product.m // gpu.vnm_rows) * product.k for _, product, count in sizes)
        return FormatSize("{}:{}".format(*GROUPS_OF[dtype]) if gpu.mode == "2:4" else "v:n:m", values, places)

    def _dram(
        self, workload: Workload, parts: Mapping[Product, int], tile: tuple[int, int], compressed: int | None
    ) -> Bytes:
        """Return payload bytes by stream; ``compressed`` are the bytes of a sparse A, all groups together."""
        width, share = workload.dtype.bytes, activation_share(workload, self.config.im2col)
        payload = dict.fromkeys(STREAMS, 0)
        for product, count in parts.items():
            a = product.stored_a * width
            if compressed is not None:
                a = -(-compressed // workload.groups)
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

    def _activity(self, workload: Workload, plan: Plan, notes: tuple[str, ...]) -> Activity:
        gpu, width = self._gpu, workload.dtype.bytes
        clock = gpu.clock_ghz * 1e9
        cycles = math.ceil(plan.seconds * clock)
        limited_by, reason = self._bound(plan)
        share = activation_share(workload, self.config.im2col)
        busy = {name: time for name, time in plan.times.items() if name != "power"}
        return Activity(
            cycles=cycles,
            stages={name: Stage(time * clock, cycles - time * clock) for name, time in busy.items()},
            multiplies=workload.multiplies,
            nnz_c=workload.nnz_c,
            operations={"multiply": plan.multiplies, "add": plan.multiplies, "compare": 0},
            buffers=self._buffers(plan),
            dram_bytes=plan.bus,
            payload_bytes=plan.payload,
            element_bytes=(width, width, width),
            compulsory_b=int(referenced_b(workload) * share),
            limited_by=limited_by,
            reason=reason,
            details=self._details(workload.dtype, plan),
            notes=notes,
        )

    def _details(self, dtype: DataType, plan: Plan) -> dict[str, Any]:
        gpu, kernel, times = self._gpu, plan.kernel, plan.times
        sizes = [padded(gpu, product, dtype, plan.sparse) for product, _ in plan.work]
        roofs = {f"{name}_us": seconds * 1e6 for name, seconds in kernel.roofs_s.items()}
        dynamic_w = times["power"] * ((gpu.device_power_w or 0.0) - gpu.power.idle_w) / plan.seconds
        return {
            "accelerated": plan.sparse,
            "skips": SKIPS[gpu.mode] + "empty rows and columns",
            "tile": "x".join(map(str, kernel.tile)),
            "tiles": kernel.tiles,
            "split_k": kernel.split,
            "waves": kernel.waves,
            "launch_us": gpu.launch_us,
            "prologue_us": kernel.prologue_s * 1e6,
            "store_us": kernel.store_s * 1e6,
            "k_loop_us": kernel.loop_s * 1e6,
            "reduction_us": kernel.reduction_s * 1e6,
            "roofs": roofs | {"dram_us": times["dram"] * 1e6, "power_us": times["power"] * 1e6},
            **({"power_w": gpu.power.idle_w + dynamic_w} if times["power"] else {}),
            "padded_mnk": list(max(sizes, key=math.prod)) if sizes else [0, 0, 0],
            "performed_multiplies": plan.multiplies,
            **carried_a(plan.stored, plan.payload["a"]),
        }

    def _buffers(self, plan: Plan) -> dict[str, Buffer]:
        gpu, kernel = self._gpu, plan.kernel
        moved, written = sum(plan.bus.values()), plan.payload["c"]
        sectors = (math.ceil(kernel.l2_bytes / 32), math.ceil((moved + written) / 32))
        lines = (math.ceil((kernel.shared_bytes - kernel.l2_bytes) / 128), math.ceil(kernel.l2_bytes / 128))
        return {"l2": Buffer(gpu.l2_bytes, 32, *sectors), "shared_memory": Buffer(gpu.shared_bytes, 128, *lines)}

    def _bound(self, plan: Plan) -> tuple[str, str]:
        """Return what takes longest, in a word and in a sentence."""
        gpu, kernel, times, total = self._gpu, plan.kernel, plan.times, plan.seconds
        longest = max(times, key=lambda name: times[name])
        if longest == "launch":
            return "launch", f"launch: {gpu.launch_us:g} us of {total * 1e6:.3g} us pass before the first wave"
        if longest == "dram":
            moved, part = sum(plan.bus.values()), times["dram"] / total
            return "dram", f"DRAM: {moved / 1e6:.3g} MB at {gpu.dram.gb_s:g} GB/s take {part:.0%} of the run"
        if longest == "power":
            slower = 1 - times["multiply"] / times["power"]
            return "power", f"power: the multiplies at {gpu.device_power_w:g} W slow the kernel by {slower:.0%}"
        busy = kernel.tiles * kernel.split / max(kernel.rounds * gpu.sms, 1)
        useful = busy * plan.multiplies / max(kernel.slots, 1.0)
        count, s = kernel.tiles * kernel.split, "s" * (kernel.tiles * kernel.split == 1)
        waves = f"{count} tile{'s' * (count != 1)} of {kernel.tile[0]}x{kernel.tile[1]} in "
        waves += f"{kernel.waves} wave{'s' * (kernel.waves != 1)}"
        if useful < POOR_UTILISATION:
            return "load_imbalance", f"tiles: {waves} of {gpu.sms} leave{s} {1 - useful:.0%} of the tensor cores idle"
        fixed = (kernel.prologue_s + kernel.store_s) / total
        if fixed > POOR_UTILISATION:
            return "latency", f"prologue and store of tiles: {waves} take {fixed:.0%} of the run, the k loop is short"
        roof = max(kernel.roofs_s, key=lambda name: kernel.roofs_s[name])
        name = {"multiply": "tensor cores", "shared_memory": "shared memory", "l2": "L2"}[roof]
        return roof, f"{name}: {waves} take{s} {times['multiply'] / total:.0%} of the run, {fixed:.0%} fixed cost"


def _beside(sparse: Activity, dense: Plan) -> Activity:
    """Return the activity with what the dense kernel would have taken, for who may choose for each layer."""
    return replace(sparse, details={**sparse.details, "dense_kernel_us": dense.seconds * 1e6})


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
        packed = select(a.csr, a.row_lengths > 0, kept_columns(workload)[0])
        if follows_n_of_m(packed, kept, of):
            return packed.shape[1]
    return a.cols if _follows(a, kept, of) else None
