"""A systolic array of R x C cells: the same tiles and traffic as the tiled GEMM, but operands walk from cell to cell.

Weight stationary: a fold holds R x C elements of one operand (k along the rows), loads them in R cycles, and streams
the other operand's T vectors through with a skew of one cycle a row and a column: 2R + C + T - 2 cycles. Output
stationary: a fold holds R x C elements of C and takes k + R + C - 2 cycles. SCALE-Sim 3.0.0 counts the same (its demand
matrices have exactly these lengths; its report prints one cycle less, the index of the last).
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, cast

from pydantic import Field

from sparsim.machines.base import MachineConfig, Section
from sparsim.machines.tiled_gemm import DenseConfig, TiledGemm
from sparsim.machines.tiling import Product, Widths, split_sum

__all__ = ["SystolicArray", "SystolicConfig"]


class ArrayConfig(Section):
    """The cells and how operands move through them."""

    rows: int = Field(ge=1, le=4096, description="cells along k (weight stationary) or m (output stationary)")
    cols: int = Field(ge=1, le=4096, description="cells along m or n (weight stationary) or n (output stationary)")
    dataflow: Literal["ws", "os"] = Field(description="what stays in the cells: weights or outputs")
    stationary: Literal["a", "b", "best"] = Field(description="the operand that stays when weight stationary")
    preload: bool = Field(description="load the next fold's weights while this one runs (a second register a cell)")
    output_drain: Literal["hidden", "exposed"] = Field(
        description="output stationary: results leave by a path of their own, or by R more cycles a fold"
    )


class SystolicConfig(DenseConfig):
    """A systolic array with one on-chip memory."""

    array: ArrayConfig


class SystolicArray(TiledGemm):
    """A systolic array; tiles, traffic and skipped zeros are those of :class:`TiledGemm`."""

    config_class: ClassVar[type[MachineConfig]] = SystolicConfig

    @property
    def _array(self) -> ArrayConfig:
        return cast(SystolicConfig, self.config).array

    @property
    def units(self) -> int:
        """Cells of the array."""
        return self._array.rows * self._array.cols

    @property
    def grain(self) -> int:
        """Multiple that tile sizes are rounded to, so that few of them pad the array."""
        return max(self._array.rows, self._array.cols)

    def mappings(self, product: Product) -> list[Any]:
        """Return "os", or which operands may stay in the cells; only A has tiles that can be skipped."""
        if self._array.dataflow == "os":
            return ["os"]
        if product.cells:
            return ["ws_a"]
        return ["ws_a", "ws_b"] if self._array.stationary == "best" else [f"ws_{self._array.stationary}"]

    def array_cycles(self, mapping: Any, product: Product, tm: Any, tn: Any, tk: Any) -> Any:
        """Return the cycles of all folds of all tiles."""
        array, rows, cols = self._array, self._array.rows, self._array.cols
        skew = rows + cols - 2
        if mapping == "os":
            folds = split_sum(product.m, tm, rows) * split_sum(product.n, tn, cols) * -(-product.k // tk)
            depth = split_sum(product.m, tm, rows) * split_sum(product.n, tn, cols) * product.k
            if product.cells:
                down = -(-self._dense.skip_tile.rows // rows) * split_sum(product.n, tn, cols)
                depth = product.occupied * self._dense.skip_tile.cols * down
            return depth + folds * (skew + (rows if array.output_drain == "exposed" else 0))
        held, streamed, t_held, t_streamed = (
            (product.m, product.n, tm, tn) if mapping == "ws_a" else (product.n, product.m, tn, tm)
        )
        folds = split_sum(product.k, tk, rows) * split_sum(held, t_held, cols)
        if product.cells:
            tile = self._dense.skip_tile
            folds = product.occupied * -(-tile.cols // rows) * -(-tile.rows // cols)
        overhead, once = (skew, rows) if array.preload else (skew + rows, 0)
        return once + folds * (streamed + -(-streamed // t_streamed) * overhead)

    def array_bytes(self, mapping: Any, product: Product, widths: Widths, tm: Any, tn: Any, tk: Any) -> tuple[Any, Any]:
        """Return on-chip bytes read and written: a fold reads what enters at its edges and exchanges partial sums."""
        m, n, k = product.m, product.n, product.k
        rows, cols = self._array.rows, self._array.cols
        held_tiles = {"ws_a": -(-n // tn), "ws_b": -(-m // tm)}
        stored = m * k
        if product.cells:
            stored = product.occupied * self._dense.skip_tile.rows * self._dense.skip_tile.cols
        if mapping == "os":
            over_n, over_m, sums = split_sum(n, tn, cols), split_sum(m, tm, rows), -(-k // tk)
        else:
            sums = split_sum(k, tk, rows)
            over_n = held_tiles["ws_a"] if mapping == "ws_a" else split_sum(n, tn, cols)
            over_m = split_sum(m, tm, cols) if mapping == "ws_a" else held_tiles["ws_b"]
        b = -(-k * n * over_m * min(stored, m * k) // (m * k))
        partial = m * n * widths.partial
        return (stored * over_n + b) * widths.c + (sums - 1) * partial, sums * partial
