"""What a GPU is made of, and what its libraries' kernels need: the configuration behind every tensor-core preset."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from sparsim.machines.base import MachineConfig, Section
from sparsim.workload import DataType

__all__ = [
    "GROUPS_OF",
    "BlockConfig",
    "CsrConfig",
    "KernelConfig",
    "PowerConfig",
    "RateConfig",
    "TensorCoreConfig",
    "parse_tiles",
]

GROUPS_OF = {
    DataType.FP16: (2, 4),
    DataType.BF16: (2, 4),
    DataType.INT8: (2, 4),
    DataType.FP8: (2, 4),
    DataType.TF32: (1, 2),
}


class RateConfig(Section):
    """Peak dense rates, 10^12 operations a second (two a multiply-accumulate); 0 where there are no instructions."""

    fp64: float = Field(ge=0, description="double precision, on tensor cores [TFLOP/s]")
    fp32: float = Field(ge=0, description="single precision, on CUDA cores [TFLOP/s]")
    tf32: float = Field(ge=0, description="single precision cut to 19 bits, on tensor cores [TFLOP/s]")
    fp16: float = Field(gt=0, description="half precision, fp32 accumulation [TFLOP/s]")
    bf16: float = Field(ge=0, description="bfloat16 [TFLOP/s]")
    int8: float = Field(ge=0, description="8-bit integers [TOP/s]")
    fp8: float = Field(ge=0, description="8-bit floating point [TFLOP/s]")


class PowerConfig(Section):
    """What a multiply takes, so that a full chip may have to slow down to stay within ``device_power_w``.

    Energies are those of a dense product with random operands, everything on the chip included; 0 where no measured
    product is known to be held back.
    """

    idle_w: float = Field(ge=0, description="board and idle multiprocessors [W]")
    operand_share: float = Field(ge=0, le=1, description="share that moving operands to the multipliers takes")
    fp64: float = Field(ge=0, description="[pJ per multiply-accumulate]")
    fp32: float = Field(ge=0, description="[pJ per multiply-accumulate]")
    tf32: float = Field(ge=0, description="[pJ per multiply-accumulate]")
    fp16: float = Field(ge=0, description="[pJ per multiply-accumulate]")
    bf16: float = Field(ge=0, description="[pJ per multiply-accumulate]")
    int8: float = Field(ge=0, description="[pJ per multiply-accumulate]")
    fp8: float = Field(ge=0, description="[pJ per multiply-accumulate]")


def parse_tiles(text: str) -> list[tuple[int, int]]:
    """Return tile shapes as numbers; '256x128,128x128' is [(256, 128), (128, 128)]."""
    return [(int(rows), int(cols)) for rows, cols in (part.split("x") for part in text.split(",") if part)]


class KernelConfig(Section):
    """One library's kernels."""

    tiles: str = Field(description="tile shapes, rows x columns of C, e.g. '256x128,128x128'")
    small_tiles: str = Field(description="shapes for products that leave multiprocessors without a tile, may be empty")
    split_k: bool = Field(description="whether idle multiprocessors share the k loop of a tile")
    narrow: bool = Field(description="whether tiles shrink to a product of fewer rows or columns")
    hidden_store: bool = Field(description="whether a multiprocessor stores a tile while it computes its next one")
    prologue_us: float = Field(ge=0, description="before and after the k loop of a wave, but for the store of C [us]")
    efficiency: float = Field(gt=0, le=1, description="share of the multiprocessor's limit that its k loop reaches")

    @field_validator("tiles", "small_tiles")
    @classmethod
    def _check(cls, text: str) -> str:
        for part in text.split(",") if text else ():
            sides = part.split("x")
            if len(sides) != 2 or not all(side.isdigit() and int(side) > 0 for side in sides):
                raise ValueError(f"'{part}' is no tile such as 256x128")
        return text

    @field_validator("tiles")
    @classmethod
    def _some(cls, text: str) -> str:
        if not text:
            raise ValueError("at least one tile such as 256x128")
        return text


class CsrConfig(Section):
    """A sparse library's kernel for CSR times dense, on CUDA cores; see :mod:`~sparsim.machines.gpu_csr`."""

    block_rows: int = Field(ge=1, le=65536, description="rows of A that share one fetch of a row of B from L2")
    task_rows: int = Field(ge=1, le=65536, description="rows of C that stay on one multiprocessor")
    task_columns: int = Field(ge=1, le=65536, description="columns of C that stay on one multiprocessor")
    shared_share: float = Field(
        ge=0, le=1, description="share of shared memory's bandwidth that reads of B reach, 0 = no limit"
    )
    macs_per_clk: float = Field(ge=0, description="most multiplies of a multiprocessor, 0 = no limit [1/clock]")


class BlockConfig(Section):
    """A kernel that leaves out empty tiles of A; see :mod:`~sparsim.machines.gpu_block`."""

    rows: int = Field(ge=1, le=4096, description="rows of a tile of A")
    k_bytes: int = Field(ge=8, le=4096, description="bytes of a row of a tile of A")
    task_columns: int = Field(ge=1, le=65536, description="columns of C that stay on one multiprocessor")
    efficiency: float = Field(gt=0, le=1, description="share of the peak that it reaches on a full tile")


class TensorCoreConfig(MachineConfig):
    """A GPU with tensor cores."""

    mode: Literal["dense", "2:4", "v:n:m", "csr", "block"] = Field(description="what its kernels make of zeros in A")
    sms: int = Field(ge=1, le=4096, description="streaming multiprocessors; rates are of the whole chip, set both")
    rate: RateConfig
    power: PowerConfig
    launch_us: float = Field(ge=0, le=1000, description="from the call to the first wave [us]")
    dense: KernelConfig
    sparse: KernelConfig
    csr: CsrConfig
    block: BlockConfig
    vnm_rows: int = Field(ge=1, le=65536, description="V of the V:N:M kernels: rows of A that share their columns")
    sparse_columns: int = Field(ge=1, le=1024, description="the sparse kernels pad the columns of B to this multiple")
    l2_bytes: int = Field(ge=1, description="capacity of the L2 cache [bytes]")
    l2_gb_s: float = Field(gt=0, description="bandwidth of the L2 cache [GB/s]")
    multicast: int = Field(
        ge=1, le=16, description="multiprocessors that one read of L2 can serve, where they share it"
    )
    shared_bytes: int = Field(ge=1, description="shared memory of one multiprocessor [bytes]")
    shared_bytes_per_clk: float = Field(gt=0, description="bandwidth of that, reads and writes together [bytes/clock]")
    warp_rows: int = Field(ge=1, le=256, description="rows of C computed from one read of its operands [elements]")
    warp_cols: int = Field(ge=1, le=256, description="columns of C computed from one read of its operands [elements]")

    def peak(self, dtype: DataType) -> float:
        """Return the dense peak of all multiprocessors, multiplies a second (0 where there is none)."""
        rate: float = getattr(self.rate, dtype.label)
        return rate * 1e12 / 2

    def types(self, structured: bool) -> str:
        """Name the data types that run, or that have sparse instructions."""
        return ", ".join(t.label for t in DataType if self.peak(t) and (not structured or t in GROUPS_OF))
