"""Systolic arrays of R x C cells: the same tiles and traffic as the tiled GEMM, but operands walk from cell to cell.

A is the weight matrix [m, k], B the activations [k, n]. Weight stationary (ws), a fold holds R x C elements of A, k
along the rows; input stationary (is), of B. It loads them in R cycles and streams the other operand's T vectors through
with a skew of one cycle a row and a column: 2R + C + T - 2 cycles. Output stationary (os), a fold holds the sums of R
columns of B by C rows of A and takes k + R + C - 2 cycles. SCALE-Sim 3.0.0 counts the same, case by case
(``sparsim validate systolic``): its demand matrices have these lengths, its report prints the index of the last cycle.

Several arrays share every fold: some of them stand side by side and hold different columns, the others take different
parts of what streams (os: other columns of B). Which way is chosen for each product, as tile sizes are.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, NamedTuple, cast

import numpy as np
from pydantic import Field, field_validator, model_validator

from sparsim.errors import ConfigError
from sparsim.machines.activity import Activity
from sparsim.machines.base import MachineConfig, Section
from sparsim.machines.tiled_gemm import DenseConfig, TiledGemm, Totals
from sparsim.machines.tiling import Product, Widths, split_sum
from sparsim.workload import DataType, Workload

__all__ = ["SystolicArray", "SystolicConfig"]


class ArrayConfig(Section):
    """The cells and how operands move through them."""

    rows: int = Field(ge=1, le=4096, description="cells along k (ws, is) or along the columns of B (os)")
    cols: int = Field(ge=1, le=4096, description="cells along the rows of A (ws, os) or the columns of B (is)")
    count: int = Field(ge=1, le=1024, description="arrays that share every product")
    dataflow: Literal["ws", "is", "os", "best"] = Field(
        description="what stays in the cells: weights (A), inputs (B), outputs; best: the faster of ws and is"
    )
    overlap: Literal["none", "load", "all"] = Field(
        description="what hides behind the fold before: nothing; the load (a second register a cell); "
        "the skew too, so that vectors of the next fold follow without a gap"
    )
    output_drain: Literal["hidden", "exposed"] = Field(
        description="os: results leave by a path of their own, or by R more cycles a fold"
    )
    dtypes: str = Field(description="data types that the cells multiply, separated by commas, or any")

    @field_validator("dtypes")
    @classmethod
    def _known_types(cls, text: str) -> str:
        for word in [] if text == "any" else text.split(","):
            DataType.parse(word.strip())
        return text

    @property
    def types(self) -> tuple[DataType, ...]:
        """The data types that the cells multiply."""
        if self.dtypes == "any":
            return tuple(DataType)
        return tuple(DataType.parse(word.strip()) for word in self.dtypes.split(","))


class SystolicConfig(DenseConfig):
    """Systolic arrays with one on-chip memory."""

    array: ArrayConfig

    @model_validator(mode="after")
    def _tiles_can_be_left_out(self) -> SystolicConfig:
        if self.skip == "empty_tiles" and self.array.dataflow == "is":
            raise ValueError("skip = empty_tiles leaves out tiles of A: array.dataflow must be ws, os or best, not is")
        return self


class Layout(NamedTuple):
    """How the arrays lie over a product: the dataflow, and how many of them stand side by side."""

    dataflow: str
    across: int


class SystolicArray(TiledGemm):
    """Systolic arrays; tiles, traffic and skipped zeros are those of :class:`TiledGemm`."""

    config_class: ClassVar[type[MachineConfig]] = SystolicConfig

    @property
    def _array(self) -> ArrayConfig:
        return cast(SystolicConfig, self.config).array

    @property
    def units(self) -> int:
        """Cells of all arrays."""
        return self._array.rows * self._array.cols * self._array.count

    @property
    def grain(self) -> int:
        """Multiple that tile sizes are rounded to, so that few of them pad the arrays."""
        return max(self._array.rows, self._array.cols) * self._array.count

    def peak_of_one(self, dtype: DataType) -> float:
        """Return the number of cells, if they multiply that type."""
        self._check(dtype)
        return super().peak_of_one(dtype)

    def run_one(self, workload: Workload) -> Activity:
        """Return what the arrays do for ``workload``.

        Raises
        ------
        ConfigError
            If the cells do not multiply its data type.
        """
        self._check(workload.dtype)
        return super().run_one(workload)

    def _check(self, dtype: DataType) -> None:
        types = self._array.types
        if dtype not in types:
            allowed = ", ".join(item.label for item in types)
            raise ConfigError(f"{self.name} has no {dtype.label}", key="dtype", allowed=allowed)

    def mappings(self, product: Product) -> list[Any]:
        """Return the dataflows and the ways to place the arrays; only A has tiles that can be left out."""
        flow, count = self._array.dataflow, self._array.count
        flows = [flow] if flow != "best" else ["ws"] if product.cells else ["ws", "is"]
        return [Layout(each, across) for each in flows for across in range(1, count + 1) if count % across == 0]

    def array_cycles(self, mapping: Any, product: Product, tm: Any, tn: Any, tk: Any) -> Any:
        """Return the cycles of all folds of all tiles."""
        if mapping.dataflow == "os":
            return self._output_cycles(mapping, product, tm, tn, tk)
        array = self._array
        skew, through = array.rows + array.cols - 2, array.count // mapping.across
        held, streamed, t_held, t_streamed = (
            (product.m, product.n, tm, tn) if mapping.dataflow == "ws" else (product.n, product.m, tn, tm)
        )
        folds = split_sum(product.k, tk, array.rows) * split_sum(held, t_held, array.cols * mapping.across)
        if product.cells:
            tile = self._dense.skip_tile
            folds = product.occupied * -(-tile.cols // array.rows) * -(-tile.rows // (array.cols * mapping.across))
        if array.overlap == "all":
            return array.rows + skew + self._gapless(folds, streamed, t_streamed, through)
        overhead, once = (skew, array.rows) if array.overlap == "load" else (skew + array.rows, 0)
        vectors = split_sum(streamed, t_streamed, through)
        return once + folds * (vectors + -(-streamed // t_streamed) * overhead)

    def _gapless(self, folds: Any, streamed: Any, piece: Any, through: int) -> Any:
        """Return cycles of folds without gaps; each takes its vectors, and all but the last at least the next load."""
        rows, vectors, rest = self._array.rows, -(-piece // through), -(-(streamed % piece) // through)
        each = streamed // piece * np.maximum(vectors, rows) + (rest > 0) * np.maximum(rest, rows)
        return folds * each - np.maximum(rows - np.where(rest > 0, rest, vectors), 0)

    def _output_cycles(self, mapping: Layout, product: Product, tm: Any, tn: Any, tk: Any) -> Any:
        array, wide = self._array, self._array.cols * mapping.across
        down = split_sum(product.n, tn, array.rows * (array.count // mapping.across))
        over, skew = split_sum(product.m, tm, wide), array.rows + array.cols - 2
        folds, depth = down * over * -(-product.k // tk), down * over * product.k
        if product.cells:
            tile = self._dense.skip_tile
            depth = product.occupied * tile.cols * -(-tile.rows // wide) * down
        gaps = skew + folds * 0 if array.overlap == "all" else folds * skew
        return depth + gaps + folds * (array.rows if array.output_drain == "exposed" else 0)

    def array_bytes(self, mapping: Any, product: Product, widths: Widths, tm: Any, tn: Any, tk: Any) -> tuple[Any, Any]:
        """Return on-chip bytes read and written: each array reads what enters at its edges and exchanges partial sums.

        A held operand is read once for each array that streams another part.
        """
        m, n, k = product.m, product.n, product.k
        rows, cols, through = self._array.rows, self._array.cols, self._array.count // mapping.across
        stored = m * k
        if product.cells:
            stored = product.occupied * self._dense.skip_tile.rows * self._dense.skip_tile.cols
        if mapping.dataflow == "os":
            over_n, over_m, sums = split_sum(n, tn, rows), split_sum(m, tm, cols), -(-k // tk)
        else:
            sums = split_sum(k, tk, rows)
            over_n = -(-n // tn) * through if mapping.dataflow == "ws" else split_sum(n, tn, cols)
            over_m = split_sum(m, tm, cols) if mapping.dataflow == "ws" else -(-m // tm) * through
        b = -(-k * n * over_m * min(stored, m * k) // (m * k))
        partial = m * n * widths.partial
        return (stored * over_n + b) * widths.c + (sums - 1) * partial, sums * partial

    def _details(self, totals: Totals, cycles: int, skipped: bool) -> dict[str, Any]:
        details = super()._details(totals, cycles, skipped)
        if totals.largest is not None:
            layout, count = totals.largest[2], self._array.count
            beside = f", {layout.across} of {count} arrays side by side" if count > 1 else ""
            details["mapping"] = f"{layout.dataflow}{beside}"
        return details
