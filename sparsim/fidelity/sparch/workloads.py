"""Products for the oracle: small enough for a cycle-by-cycle model, of every kind that stresses another part.

Everything is drawn from fixed seeds. A case has 10^4 to 3 x 10^5 products, but for the tiny ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sparsim.matrix import Csr

if TYPE_CHECKING:
    from sparsim.fidelity.bench import Bench

__all__ = ["Case", "from_files", "generated"]

Ints = npt.NDArray[np.int64]
MOST_PRODUCTS = 1_000_000
LEAST_PRODUCTS = 3_000
COLUMNS = 49
LAYERS = ("dlmc/rn50/magnitude_pruning/0.9", "dlmc/rn50/variational_dropout/0.9")
LAYERS_A_FOLDER = 6


@dataclass(frozen=True, eq=False)
class Case:
    """One product and the configuration it runs with.

    Parameters
    ----------
    name : kind of the matrix, then what differs from the default configuration.
    a, b : operands.
    fields : dotted fields of SpArch.
    """

    name: str
    a: Csr
    b: Csr
    fields: Mapping[str, Any] = field(default_factory=dict)


# --- kinds of matrices ------------------------------------------------------------------------------------------------


def pattern(rows: int, cols: int, row: Ints, col: Ints) -> Csr:
    """Return the pattern of the given positions; repeated ones count once, those outside are dropped."""
    inside = (row >= 0) & (row < rows) & (col >= 0) & (col < cols)
    flat = np.unique(row[inside] * cols + col[inside])
    return Csr.from_coo((rows, cols), flat // cols, flat % cols)


def uniform(rows: int, cols: int, nnz: int, seed: int) -> Csr:
    """Positions drawn independently."""
    rng = np.random.default_rng(seed)
    return pattern(rows, cols, rng.integers(0, rows, nnz), rng.integers(0, cols, nnz))


def banded(size: int, offsets: tuple[int, ...]) -> Csr:
    """Full diagonals at the given offsets."""
    row = np.repeat(np.arange(size), len(offsets))
    return pattern(size, size, row, row + np.tile(offsets, size))


def power_law(scale: int, nnz: int, seed: int, corner: float = 0.57) -> Csr:
    """R-MAT: every bit of a position falls into one of four quadrants, the first with probability ``corner``."""
    rng = np.random.default_rng(seed)
    row, col = np.zeros(nnz, dtype=np.int64), np.zeros(nnz, dtype=np.int64)
    other = (1 - corner) * 0.442  # 0.19 each for the usual 0.57
    for _ in range(scale):
        draw = rng.random(nnz)
        right = ((draw >= corner) & (draw < corner + other)) | (draw >= corner + 2 * other)
        row, col = 2 * row + (draw >= corner + other), 2 * col + right
    return pattern(1 << scale, 1 << scale, row, col)


def blocks(size: int, block: int) -> Csr:
    """Full square blocks on the diagonal."""
    row = np.repeat(np.arange(size), block)
    return pattern(size, size, row, row // block * block + np.tile(np.arange(block), size))


def mesh(*sides: int) -> Csr:
    """Link every point of a grid to itself and its neighbours, diagonal ones too, as in finite elements."""
    points = np.stack(np.meshgrid(*(np.arange(side) for side in sides), indexing="ij"), axis=-1).reshape(-1, len(sides))
    steps = np.stack(np.meshgrid(*([[-1, 0, 1]] * len(sides)), indexing="ij"), axis=-1).reshape(-1, len(sides))
    other = points[:, None] + steps
    inside = ((other >= 0) & (other < sides)).all(axis=-1)
    weights = np.cumprod([1, *sides[:0:-1]])[::-1]
    row = np.broadcast_to((points @ weights)[:, None], inside.shape)
    size = len(points)
    return pattern(size, size, row[inside], (other @ weights)[inside])


def join(*parts: Csr) -> Csr:
    """Return the union of patterns of one shape."""
    rows, cols = parts[0].shape
    row = np.concatenate([np.repeat(np.arange(rows), part.row_lengths) for part in parts])
    return pattern(rows, cols, row, np.concatenate([part.indices for part in parts]).astype(np.int64))


def line(size: int, at: int, along: str) -> Csr:
    """Return one full row or column of a square matrix."""
    here, there = np.full(size, at), np.arange(size)
    return pattern(size, size, *((here, there) if along == "row" else (there, here)))


def dense(rows: int, cols: int) -> Csr:
    """Return a full matrix as a pattern."""
    return pattern(rows, cols, np.repeat(np.arange(rows), cols), np.tile(np.arange(cols), rows))


def some_rows(matrix: Csr, every: int) -> Csr:
    """Empty all rows but every ``every``-th."""
    row = np.repeat(np.arange(matrix.shape[0]), matrix.row_lengths)
    kept = row % every == 0
    return pattern(*matrix.shape, row[kept], matrix.indices[kept].astype(np.int64))


# --- the list ---------------------------------------------------------------------------------------------------------


@cache
def generated() -> tuple[Case, ...]:
    """Return the generated cases: every kind with the default configuration, and some kinds with others."""
    kinds = _kinds()
    cases = [Case(name, a, b) for name, (a, b) in kinds.items()]
    for name, variants in VARIED.items():
        for fields in variants:
            changed = ", ".join(f"{key}={value}" for key, value in fields.items())
            cases.append(Case(f"{name}; {changed}", *kinds[name], fields))
    return tuple(cases)


def _kinds() -> dict[str, tuple[Csr, Csr]]:
    squares = {
        "banded 3": banded(8000, (-1, 0, 1)),
        "banded 9": banded(2500, tuple(range(-4, 5))),
        "banded 25": banded(400, tuple(range(-12, 13))),
        "scattered diagonals": banded(4000, (-900, -40, -1, 0, 1, 40, 900)),
        "power law 2^10": power_law(10, 6_000, 1),
        "power law 2^12": power_law(12, 9_000, 2),
        "power law 2^14": power_law(14, 13_000, 3),
        "power law, mild": power_law(12, 18_000, 4, corner=0.4),
        "power law, steep": power_law(11, 6_000, 5, corner=0.65),
        "uniform 1 a row": uniform(30_000, 30_000, 30_000, 6),
        "uniform 3 a row": uniform(12_000, 12_000, 36_000, 7),
        "uniform 8 a row": uniform(3_000, 3_000, 24_000, 8),
        "uniform 20 a row": uniform(600, 600, 12_000, 9),
        "uniform, a third full": uniform(90, 90, 3_300, 10),
        "block diagonal 4": blocks(4_000, 4),
        "block diagonal 16": blocks(800, 16),
        "block diagonal 64": blocks(64, 64),
        "mesh 2-D": mesh(45, 45),
        "mesh 3-D": mesh(8, 8, 9),
        "one dense row": join(banded(3_000, (0, 7)), line(3_000, 100, "row")),
        "one dense column": join(banded(3_000, (0, 7)), line(3_000, 100, "column")),
        "arrow": join(banded(300, (0,)), line(300, 0, "row"), line(300, 0, "column")),
        "hubs": join(uniform(2_000, 2_000, 5_000, 11), some_rows(uniform(2_000, 2_000, 600_000, 12), 100)),
        "empty rows": some_rows(uniform(6_000, 6_000, 90_000, 13), 4),
        "identity": banded(20_000, (0,)),
        "tiny": uniform(10, 10, 30, 14),
        "small": uniform(60, 60, 500, 15),
    }
    pairs = {
        "tall": (uniform(20_000, 100, 40_000, 16), uniform(100, 200, 500, 17)),
        "wide": (uniform(100, 8_000, 10_000, 18), uniform(8_000, 4_000, 80_000, 19)),
        "inner": (uniform(64, 20_000, 20_000, 20), uniform(20_000, 64, 100_000, 21)),
        "outer": (uniform(3_000, 8, 6_000, 22), uniform(8, 3_000, 400, 23)),
        "dense": (dense(48, 48), dense(48, 48)),
        "few wide rows": (uniform(12, 3_000, 1_200, 24), uniform(3_000, 20_000, 240_000, 25)),
        "layer 64 x 576, 90 %": (uniform(64, 576, 3_700, 26), dense(576, COLUMNS)),
        "layer 96 x 512, 90 %": (uniform(96, 512, 5_000, 27), dense(512, COLUMNS)),
        "layer, 70 %": (uniform(64, 256, 5_000, 28), dense(256, COLUMNS)),
        "layer, 1 column": (uniform(512, 2_048, 60_000, 29), dense(2_048, 1)),
    }
    return {name: (a, a) for name, a in squares.items()} | pairs


_SIZES: list[dict[str, Any]] = [
    {"merge.width": 4},
    {"merge.width": 8},
    {"merge.layers": 3},
    {"merge.layers": 5},
    {"merge.fifo_elements": 96},
    {"multipliers.groups": 4},
    {"prefetch.lines": 64},
    {"prefetch.lines": 256},
    {"prefetch.policy": "lru"},
    {"prefetch.policy": "off"},
    {"dram.channels": 4},
    {"dram.channels": 8},
    {"dram.interleave_bytes": 1024},
    {"dram.interleave_bytes": 4096},
]
VARIED: dict[str, list[dict[str, Any]]] = {
    "power law 2^12": _SIZES,
    "uniform 8 a row": _SIZES,
    "hubs": [{"merge.layers": 3}, {"prefetch.lines": 64}, {"prefetch.look_ahead": 256}, {"condense": False}],
    "mesh 2-D": [{"merge.width": 4}, {"prefetch.policy": "off"}, {"dram.channels": 4}],
    "layer 96 x 512, 90 %": [{"merge.layers": 3}, {"prefetch.lines": 256}, {"look_ahead_fifo.elements_per_cycle": 4}],
}


def from_files(bench: Bench) -> Iterator[Case]:
    """Yield small real matrices times themselves and pruned layers times dense columns, where the bench has them."""
    yield from (
        Case(name, matrix, matrix)
        for name, matrix in bench.files("small", ".mtx")
        if matrix.shape[0] == matrix.shape[1] and LEAST_PRODUCTS <= _products(matrix, matrix) <= MOST_PRODUCTS
    )
    for folder in LAYERS:
        layers = (
            Case(f"{folder}/{name}, {COLUMNS} columns", matrix, dense(matrix.shape[1], COLUMNS))
            for name, matrix in bench.files(folder, ".smtx")
            if LEAST_PRODUCTS <= matrix.nnz * COLUMNS <= MOST_PRODUCTS
        )
        yield from islice(layers, LAYERS_A_FOLDER)


def _products(a: Csr, b: Csr) -> int:
    return int(b.row_lengths[a.indices].sum())
