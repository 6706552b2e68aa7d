"""One product C = A·B, described by what a machine may need to know of it.

An operand is a matrix of explicit non-zeros, or a shape whose non-zeros follow from a rule (dense, or N:M along k),
so that a dense 16384 x 16384 weight costs nothing until a machine asks for its positions. Effectual multiplies and
the structural non-zeros of C belong to the workload, not to a machine: they are the same on all of them.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from sparsim.arguments import share, whole
from sparsim.errors import ConfigError, WorkloadError
from sparsim.kernels.symbolic import product_nnz
from sparsim.matrix import Csr, IntArray, check_shape
from sparsim.n_of_m import VNM_COLUMNS
from sparsim.network import Layer

__all__ = ["MAX_SIDE", "DataType", "Operand", "Workload", "at_width", "layer_workload"]

MAX_MATERIALISED = 2**31
DRAWN_AT_ONCE = 2**22
MAX_SIDE = 2**31
NUMPY_NAMES = {"float64": "fp64", "float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}


class DataType(Enum):
    """Number formats of values: name and bytes of one value."""

    FP64 = ("fp64", 8)
    FP32 = ("fp32", 4)
    TF32 = ("tf32", 4)
    FP16 = ("fp16", 2)
    BF16 = ("bf16", 2)
    INT8 = ("int8", 1)
    FP8 = ("fp8", 1)

    def __init__(self, label: str, width: int) -> None:
        self.label = label
        self.bytes = width

    @classmethod
    def parse(cls, text: Any) -> DataType:
        """Return the type called ``text``, which may also be a numpy type or its name."""
        if isinstance(text, DataType):
            return text
        name = str(getattr(text, "__name__", text)).lower()
        for item in cls:
            if item.label == NUMPY_NAMES.get(name, name):
                return item
        labels = [item.label for item in cls]
        raise ConfigError(f"'{name}' is no data type", key="dtype", allowed=", ".join(labels))


@dataclass(frozen=True, eq=False)
class Operand:
    """A matrix, or a shape with a rule that says where its non-zeros are.

    Parameters
    ----------
    rows, cols : shape.
    matrix : the explicit non-zeros, None if they follow from ``pattern``.
    pattern : "explicit", "dense", or "N:M": N of every M consecutive elements of a row, drawn with ``seed``.
    """

    rows: int
    cols: int
    matrix: Csr | None = field(default=None, repr=False)
    pattern: str = "explicit"
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", int(self.rows))
        object.__setattr__(self, "cols", int(self.cols))
        check_shape(self.rows, self.cols)
        if max(self.rows, self.cols) > MAX_SIDE:
            raise WorkloadError(
                f"an operand of {self.rows:,} x {self.cols:,}; a side has at most {MAX_SIDE:,} elements"
            )

    @classmethod
    def of(cls, matrix: Csr) -> Operand:
        """Wrap explicit non-zeros."""
        return cls(*matrix.shape, matrix=matrix)

    @classmethod
    def dense(cls, rows: int, cols: int) -> Operand:
        """Describe a dense operand by its shape alone."""
        return cls(rows, cols, pattern="dense")

    @classmethod
    def random(cls, rows: int, cols: int, density: float, seed: int = 0) -> Operand:
        """Draw independent non-zeros with probability ``density`` (1 gives the dense operand)."""
        density, seed = share(density, "density"), whole(seed, "seed")
        check_shape(rows, cols)
        if density == 1:
            return cls.dense(rows, cols)
        _refuse_absurd(max(rows, int(rows * cols * density)), "a random operand")
        rng = np.random.default_rng(seed)
        lengths = rng.binomial(cols, density, size=rows)
        indptr = np.zeros(rows + 1, dtype=np.int64)
        np.cumsum(lengths, out=indptr[1:])
        indices = np.empty(int(indptr[-1]), dtype=np.int64)
        for row in range(rows):
            indices[indptr[row] : indptr[row + 1]] = np.sort(rng.choice(cols, size=lengths[row], replace=False))
        return cls.of(Csr.build((rows, cols), indptr, indices))

    @classmethod
    def vnm(cls, rows: int, cols: int, v: int, n: int, m: int, seed: int = 0) -> Operand:
        """Draw V:N:M non-zeros: 4 columns of every ``v`` x ``m`` block, then ``n`` of those 4 in every row.

        A last group of fewer columns holds as many elements a row as it can, ``n`` at most.
        """
        check_shape(rows, cols)
        _refuse_absurd(max(rows, rows * cols // m * n), f"a {v}:{n}:{m} operand of {rows} x {cols}")
        indices = _draw_vnm(rows, cols, (v, n, m), np.random.default_rng(seed))
        return cls.of(Csr.build((rows, cols), np.arange(rows + 1) * indices.shape[1], indices.ravel()))

    @property
    def is_dense(self) -> bool:
        """Whether every element is stored."""
        return self.pattern == "dense" or (self.matrix is not None and self.matrix.nnz == self.rows * self.cols)

    @cached_property
    def _kept_per_row(self) -> int:
        if self.pattern == "dense":
            return self.cols
        kept, of = (int(part) for part in self.pattern.split(":"))
        return self.cols // of * kept + min(kept, self.cols % of)

    @property
    def nnz(self) -> int:
        """Number of non-zeros."""
        return self.matrix.nnz if self.matrix is not None else self.rows * self._kept_per_row

    @property
    def row_lengths(self) -> IntArray:
        """Non-zeros of each row, int64 of length rows."""
        if self.matrix is not None:
            return self.matrix.row_lengths
        return np.full(self.rows, self._kept_per_row, dtype=np.int64)

    @cached_property
    def column_lengths(self) -> IntArray:
        """Non-zeros of each column, int64 of length cols."""
        if self.pattern == "dense":
            return np.full(self.cols, self.rows, dtype=np.int64)
        return self.csr.column_lengths

    @cached_property
    def csr(self) -> Csr:
        """The explicit non-zeros; a rule is carried out here, with its seed.

        Raises
        ------
        WorkloadError
            If writing out the rule would need more than 2^31 elements.
        """
        if self.matrix is not None:
            return self.matrix
        _refuse_absurd(self.nnz, f"a {self.pattern} operand of {self.rows} x {self.cols}")
        indptr = np.arange(self.rows + 1, dtype=np.int64) * self._kept_per_row
        if self.pattern == "dense":
            indices = np.tile(np.arange(self.cols, dtype=np.int64), self.rows)
        else:
            indices = _draw_n_of_m(self.rows, self.cols, self.pattern, self.seed)
        return Csr.build((self.rows, self.cols), indptr, indices)

    def digest(self) -> bytes:
        """Return a hash of shape and positions; values do not matter to a cost."""
        state = hashlib.sha256(f"{self.rows},{self.cols},{self.pattern},{self.seed}".encode())
        if self.matrix is not None:
            state.update(self.matrix.digest)
        return state.digest()


def _sum_where(lengths: IntArray, other: IntArray) -> int:
    """Return the sum of the lengths whose counterpart is not zero; a product takes a quarter of a selection's time."""
    return int((lengths * (other > 0)).sum())


def _refuse_absurd(elements: int, what: str) -> None:
    if elements > MAX_MATERIALISED:
        raise WorkloadError(f"{what} would hold {elements:,} elements, more than {MAX_MATERIALISED:,}")


def _draw_n_of_m(rows: int, cols: int, pattern: str, seed: int) -> IntArray:
    kept, of = (int(part) for part in pattern.split(":"))
    rng = np.random.default_rng(seed)
    blocks, slab = -(-cols // of), max(1, DRAWN_AT_ONCE // max(cols, 1))
    parts = []
    for start in range(0, rows, slab):
        height = min(slab, rows - start)
        scores = rng.random((height, blocks, of))
        scores.reshape(height, blocks * of)[:, cols:] = 2.0
        chosen = np.sort(np.argsort(scores, axis=2)[:, :, :kept], axis=2) + np.arange(blocks)[None, :, None] * of
        flat = chosen.reshape(height, blocks * kept)
        parts.append(flat[flat < cols])
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)


def _draw_vnm(rows: int, cols: int, sizes: tuple[int, int, int], rng: np.random.Generator) -> IntArray:
    v, n, m = sizes
    whole, rest = divmod(cols, m)
    parts = []
    for start, groups, wide in ((0, whole, m), (whole * m, min(rest, 1), rest)):
        if not groups:
            continue
        columns = np.sort(np.argsort(rng.random((-(-rows // v), groups, wide)), axis=2)[:, :, :VNM_COLUMNS], axis=2)
        columns = np.repeat(columns, v, axis=0)[:rows]
        chosen = np.sort(np.argsort(rng.random(columns.shape), axis=2)[:, :, :n], axis=2)
        inside = np.take_along_axis(columns, chosen, axis=2) + np.arange(groups)[None, :, None] * wide + start
        parts.append(inside.reshape(rows, -1))
    return np.concatenate(parts, axis=1) if parts else np.zeros((rows, 0), dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Workload:
    """One product C = A·B, or ``groups`` products that lie below one another.

    Parameters
    ----------
    a : left operand, [m, k]; with groups, the row blocks of the products stacked.
    b : right operand, [groups * k, n].
    name, layer : where it came from.
    dtype : of the values of all operands.
    groups : number of independent products (grouped and depthwise convolutions).
    b_unique_elements : elements of B before im2col repeats them, None if B is not unrolled.
    kept_columns : columns of A by group, [groups, k], that count as filled although they may be empty here: those that
        the larger product fills whose rows were divided. None if this is no part of one.
    weight_of : name of the layer whose weight (or its gradient) takes part; ``layer`` unless said.
    dense_twin : the product with all the layer's weights, where dense A in place of A is not the same. What a product
        is compared with does not change its cost: no part of :attr:`sha256`.
    """

    a: Operand
    b: Operand
    name: str = "product"
    layer: str = ""
    dtype: DataType = DataType.FP64
    groups: int = 1
    b_unique_elements: int | None = None
    weight_of: str = ""
    dense_twin: Workload | None = field(default=None, repr=False)
    kept_columns: npt.NDArray[np.bool_] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "weight_of", self.weight_of or self.layer)
        if self.groups < 1:
            raise WorkloadError(f"{self.groups} groups; a product has at least 1")
        if self.b.rows != self.a.cols * self.groups:
            times = f" x {self.groups} groups" if self.groups > 1 else ""
            raise WorkloadError(
                f"A is {self.a.rows} x {self.a.cols}{times}, B is {self.b.rows} x {self.b.cols}: "
                "columns of A must equal rows of B"
            )
        if self.a.rows % self.groups:
            raise WorkloadError(f"{self.a.rows} rows of A cannot be cut into {self.groups} groups")

    @property
    def m(self) -> int:
        """Rows of A and C."""
        return self.a.rows

    @property
    def k(self) -> int:
        """Columns of A (of one group)."""
        return self.a.cols

    @property
    def n(self) -> int:
        """Columns of B and C."""
        return self.b.cols

    @property
    def dense_multiplies(self) -> int:
        """Multiplies of the product without any zero skipped."""
        return self.m * self.k * self.n

    @cached_property
    def grouped_a(self) -> Operand:
        """A with its groups spread along a diagonal, so that one plain product says the same."""
        return self.a if self.groups == 1 else Operand.of(self.a.csr.block_diagonal(self.groups))

    @cached_property
    def multiplies(self) -> int:
        """Effectual multiplies: both factors stored."""
        if self.b.pattern == "dense":
            return self.a.nnz * self.n
        if self.a.pattern == "dense":
            return self.b.nnz * (self.m // self.groups)
        return int(self.grouped_a.column_lengths @ self.b.row_lengths)

    @cached_property
    def nnz_c(self) -> int:
        """Structural non-zeros of C (no numerical cancellation)."""
        if self.b.pattern == "dense":
            rows = int(np.count_nonzero(self.a.row_lengths)) if self.a.matrix is not None else self.m * (self.a.nnz > 0)
            return rows * self.n
        a, b = self.grouped_a.csr, self.b.csr
        return int(product_nnz(a.indptr, a.indices, b.indptr, b.indices, self.n))

    @cached_property
    def referenced_b(self) -> int:
        """Elements of those rows of B that some element of A asks for."""
        if self.a.pattern == "dense":
            return self.b.nnz if self.m else 0
        return _sum_where(self.b.row_lengths, self.grouped_a.column_lengths)

    @cached_property
    def referenced_a(self) -> int:
        """Elements of A that meet at least one element of B."""
        if self.b.pattern == "dense":
            return self.a.nnz if self.n else 0
        return _sum_where(self.grouped_a.column_lengths, self.b.row_lengths)

    @property
    def flop(self) -> int:
        """Multiplies and additions needed: 2 · multiplies - nnz(C), the definition SpArch's figures imply."""
        return 2 * self.multiplies - self.nnz_c

    @cached_property
    def sha256(self) -> str:
        """Hash of everything a cost can depend on."""
        state = hashlib.sha256(self.a.digest() + self.b.digest())
        state.update(f"{self.dtype.label},{self.groups},{self.b_unique_elements}".encode())
        if self.kept_columns is not None:
            state.update(np.packbits(self.kept_columns).tobytes())
        return state.hexdigest()


def at_width(layer: Layer, columns: int | None) -> Layer:
    """Return the layer with ``columns`` output positions per sample if nothing else says how many it has."""
    known = layer.positions is not None or (layer.is_convolution and layer.input_size is not None)
    columns = None if columns is None else whole(columns, "--columns", 1)
    if columns is None or known:
        return layer
    density = layer.activation_density
    return Layer(layer.name, layer.matrix, groups=layer.groups, positions=columns, activation_density=density)


def layer_workload(
    layer: Layer, *, batch: int = 1, dtype: DataType = DataType.FP16, seed: int = 0, name: str = ""
) -> Workload:
    """Turn a layer into its product with the activations of ``batch`` samples.

    Raises
    ------
    ConfigError
        If ``batch`` is no whole number from 1.
    InputError
        If a convolution's input size is unknown.
    """
    batch = whole(batch, "--batch", 1)
    k = math.prod(layer.shape[1:])
    columns = layer.columns(batch)
    return Workload(
        a=Operand.dense(layer.shape[0], k) if layer.nnz == layer.size else Operand.of(layer.matrix),
        b=Operand.random(k * layer.groups, columns, layer.activation_density, seed),
        name=name or layer.name,
        layer=layer.name,
        dtype=dtype,
        groups=layer.groups,
        b_unique_elements=layer.unique_activations(batch) if layer.is_convolution else None,
    )
