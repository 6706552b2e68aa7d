"""What dense machines share: which part of a sparse product is left to do, and how it is cut to fit on chip.

A dense machine cannot skip a single zero, but it can leave out empty rows and columns (a pruned channel shrinks the
product) and, with an index, empty tiles. What is left is one dense product a group. Its tiles, their loop order and how
the array lies on them are chosen for time, then for DRAM traffic, then for accesses to the on-chip memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import permutations
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sparsim.matrix import Csr
from sparsim.workload import Operand, Workload

__all__ = [
    "Product",
    "Tiling",
    "Widths",
    "activation_share",
    "choose_tiling",
    "filled_columns",
    "kept_columns",
    "occupied_tiles",
    "products",
    "referenced_b",
    "select",
    "split_sum",
]

Array = npt.NDArray[Any]
DIMENSIONS = "mnk"
ORDERS = ["".join(order) for order in permutations(DIMENSIONS)]
UNINDEXED = {"a": "n", "b": "m", "c": "k"}
NEGLIGIBLE = 1e-6
SLACK = 0.05


class Product(NamedTuple):
    """One dense product that is left of a group.

    Parameters
    ----------
    m, n, k : rows and columns of C, and the contracted dimension.
    stored_a : elements of A as stored; read at least once, even where they then meet an empty row of B.
    occupied : non-empty tiles of A (0 unless tiles are skipped).
    cells : tiles of A, empty or not.
    """

    m: int
    n: int
    k: int
    stored_a: int
    occupied: int = 0
    cells: int = 0


class Tiling(NamedTuple):
    """Tile sizes in elements, the loop order (outermost first) and what they cost.

    Parameters
    ----------
    passes : how often A, B and C go over the bus; C is written that often and read once less.
    traffic : bytes of A, B, partial sums (one way) and C.
    first_load, last_store : bytes that cannot hide behind arithmetic.
    """

    tm: int
    tn: int
    tk: int
    order: str
    tiles: int
    passes: tuple[int, int, int]
    traffic: tuple[float, float, float, float]
    first_load: float
    last_store: float


class Widths(NamedTuple):
    """Bytes of one element of A, B (both with what their format saves or adds), partial sums and C."""

    a: float
    b: float
    partial: int
    c: int


def activation_share(workload: Workload, im2col: str) -> float:
    """Return the share of B's elements that comes over the bus: im2col on chip repeats the others."""
    elements = workload.b.rows * workload.n
    if im2col != "on_chip" or workload.b_unique_elements is None or not elements:
        return 1.0
    return min(1.0, workload.b_unique_elements / elements)


def _fills(operand: Operand, groups: int) -> bool:
    """Return whether a rule leaves no row and no column of any group empty; nothing is written out to tell."""
    if operand.matrix is not None or not operand.nnz:
        return False
    if operand.pattern == "dense":
        return True
    kept, of = (int(part) for part in operand.pattern.split(":"))
    return groups * operand.cols * (1 - kept / of) ** (operand.rows // groups) < NEGLIGIBLE


def filled_columns(operand: Operand, groups: int) -> npt.NDArray[np.bool_]:
    """Return which columns of each group of A hold an element, [groups, k]; write out a rule only where it matters."""
    if _fills(operand, groups):
        return np.ones((groups, operand.cols), dtype=bool)
    filled = np.zeros((groups, operand.cols), dtype=bool)
    if operand.nnz:
        group = np.repeat(np.arange(operand.rows) // (operand.rows // groups), operand.csr.row_lengths)
        filled[group, operand.csr.indices] = True
    return filled


def kept_columns(workload: Workload) -> npt.NDArray[np.bool_]:
    """Return which columns of each group of A a dense machine multiplies, [groups, k].

    Those that hold an element; in a part of a larger product those that do so anywhere, as no machine packs its share
    of the rows anew.
    """
    filled = filled_columns(workload.a, workload.groups)
    return filled if workload.kept_columns is None else filled | workload.kept_columns


def _filled_rows(operand: Operand) -> npt.NDArray[np.bool_]:
    """Return which rows hold an element; a rule gives each row the same number."""
    if operand.matrix is None:
        return np.full(operand.rows, operand.nnz > 0)
    filled: npt.NDArray[np.bool_] = operand.row_lengths > 0
    return filled


def referenced_b(workload: Workload) -> int:
    """Return :attr:`Workload.referenced_b` without writing out a rule that leaves no column of A empty."""
    if _fills(workload.a, workload.groups) or (workload.m and filled_columns(workload.a, workload.groups).all()):
        return workload.b.nnz
    return workload.referenced_b


def _filled_b(workload: Workload, kept: npt.NDArray[np.bool_]) -> Array:
    """Return the number of columns of B that hold an element in the kept rows of each group."""
    groups, k = kept.shape
    if workload.b.pattern == "dense" or not workload.n or (_fills(workload.b, groups) and kept.all()):
        return np.full(groups, workload.n)
    b = workload.b.csr
    row = np.repeat(np.arange(workload.b.rows), b.row_lengths)
    row, column = row[kept.ravel()[row]], b.indices[kept.ravel()[row]]
    filled = np.zeros((groups, workload.n), dtype=bool)
    filled[row // max(k, 1), column] = True
    counts: Array = filled.sum(axis=1)
    return counts


def _filled(workload: Workload) -> tuple[Array, Array, Array, Array]:
    """Return by group: filled rows and columns of A, filled columns of B, and places along k filled in both."""
    a, b, groups = workload.a, workload.b, workload.groups
    bare = b.matrix is None and not b.nnz
    if a.matrix is None and not a.nnz:
        counts = (0, 0, workload.n, 0)
    elif _fills(a, groups) and (bare or _fills(b, groups)):
        counts = (workload.m // groups, workload.k, workload.n, 0 if bare else workload.k)
    else:
        of_a = kept_columns(workload)
        kept = of_a & _filled_rows(b).reshape(groups, -1)
        rows = _filled_rows(a).reshape(groups, -1).sum(axis=1)
        return rows, of_a.sum(axis=1), _filled_b(workload, kept), kept.sum(axis=1)
    rows, depth, columns, both = (np.full(groups, count) for count in counts)
    return rows, depth, columns, both


def products(workload: Workload, compact: bool, tile: tuple[int, int] | None = None) -> Counter[Product]:
    """Return the dense products to be done, with how many groups share each.

    Parameters
    ----------
    workload : the sparse product.
    compact : leave out empty rows and columns of A, and of B.
    tile : rows and columns of the tiles of A whose emptiness is used as well.
    """
    m, k, n = workload.m // workload.groups, workload.k, workload.n
    if not compact:
        return Counter({Product(m, n, k, m * k): workload.groups})
    rows, depth, columns, both = _filled(workload)
    parts = [rows, columns, both, rows * depth]
    if tile is not None:
        parts = [rows, columns, depth, rows * depth, *occupied_tiles(workload, *tile)]
    return Counter(Product(*values) for values in zip(*(part.tolist() for part in parts), strict=True))


def occupied_tiles(workload: Workload, rows: int, cols: int) -> tuple[Array, Array]:
    """Return non-empty and all tiles of A, by group.

    The grid lies on A as given or on A without its empty rows and columns, whichever leaves fewer tiles (blocks
    pruned in place fit the first, pruned channels the second).
    """
    a, groups = workload.a, workload.groups
    m = workload.m // groups
    if a.pattern == "dense" or not a.nnz:
        cells = np.full(groups, -(-m // rows) * -(-a.cols // cols))
        return (cells if a.nnz else 0 * cells), cells
    csr = a.csr
    row = np.repeat(np.arange(workload.m), csr.row_lengths)
    group = row // m
    plain = _tiles_of(group, row % m, csr.indices, np.full(groups, m), np.full(groups, a.cols), rows, cols)
    held, filled = (a.row_lengths > 0).reshape(groups, m), filled_columns(a, groups)
    new_row, new_col = np.cumsum(held, axis=1) - 1, np.cumsum(filled, axis=1) - 1
    packed = _tiles_of(
        group, new_row[group, row % m], new_col[group, csr.indices], held.sum(axis=1), filled.sum(axis=1), rows, cols
    )
    return packed if packed[0].sum() < plain[0].sum() else plain


def _tiles_of(group: Array, row: Array, column: Array, m: Array, k: Array, rows: int, cols: int) -> tuple[Array, Array]:
    tall, wide = -(-m // rows), -(-k // cols)
    down, across = int(tall.max(initial=1)), int(wide.max(initial=1))
    cell = np.unique((group * down + row // rows) * across + column // cols)
    return np.bincount(cell // (down * across), minlength=m.size), tall * wide


def split_sum(length: Any, piece: Any, unit: int) -> Any:
    """Return how many units cover a dimension cut into pieces, each padded to whole units."""
    whole, rest = length // piece, length % piece
    return whole * -(-piece // unit) + -(-rest // unit)


def _candidates(length: int, grain: int) -> Array:
    """Return tile sizes worth a try: near-equal parts, padded to whole grains, and powers of two below a grain."""
    parts = np.unique([p for e in range(length.bit_length()) for p in (2**e, 3 * 2**e // 2, 5 * 2**e // 4)])
    sizes = -(-length // parts)
    sizes = np.minimum(-(-sizes // grain) * grain, length)
    small = 2 ** np.arange(min(grain, length).bit_length())
    return np.unique(np.concatenate([sizes, small[small <= length]]))


def _passes(operand: str, order: str, trips: dict[str, Array]) -> Array:
    """Return how often an operand crosses the bus if one tile of it is held until another is needed."""
    skipped = UNINDEXED[operand]
    inner = order[order.index(skipped) + 1 :]
    moves = np.any([trips[dimension] > 1 for dimension in inner], axis=0) if inner else np.zeros(1, dtype=bool)
    return np.where(moves, trips[skipped], 1)


def _space(order: str, tile: dict[str, Array], trips: dict[str, Array], held: dict[str, float]) -> Array:
    """Return on-chip bytes: one buffer for the stationary operand or one that is a single tile, two for others."""
    needed: Array = np.zeros(tile["m"].shape)
    for operand, width in held.items():
        first, second = (d for d in DIMENSIONS if d != UNINDEXED[operand])
        single = (trips[first] * trips[second] == 1) | (order[-1] == UNINDEXED[operand])
        needed = needed + tile[first] * tile[second] * width * np.where(single, 1, 2)
    return needed


class _Ways(NamedTuple):
    """All tile sizes (on a grid), and every loop order and place on the grid that fits on chip, one entry a way."""

    grid: dict[str, Array]
    at: Array
    order: Array
    trips: dict[str, Array]
    passes: dict[str, Array]


def _ways(product: Product, widths: Widths, capacity: int, grain: int) -> _Ways:
    lengths = dict(zip(DIMENSIONS, product[:3], strict=True))
    axes = np.meshgrid(*(_candidates(length, grain) for length in lengths.values()), indexing="ij")
    # Sizes are floats, which are exact here and do not wrap around in the products of huge shapes.
    tile = {d: axis.ravel().astype(np.float64) for d, axis in zip(DIMENSIONS, axes, strict=True)}
    trips = {d: -(-length // tile[d]) for d, length in lengths.items()}
    held = {"a": min(widths.a, widths.c), "b": widths.b, "c": max(widths.partial, widths.c)}
    fits = [np.flatnonzero(_space(order, tile, trips, held) <= capacity) for order in ORDERS]
    every = np.concatenate(fits)
    passes = {
        x: np.concatenate(
            [np.broadcast_to(_passes(x, o, trips), axes[0].size)[at] for o, at in zip(ORDERS, fits, strict=True)]
        )
        for x in "abc"
    }
    return _Ways(
        grid=tile,
        at=every,
        order=np.repeat(np.arange(len(ORDERS)), [at.size for at in fits]),
        trips={d: trips[d][every] for d in DIMENSIONS},
        passes=passes,
    )


def choose_tiling(
    product: Product,
    widths: Widths,
    capacity: int,
    grain: int,
    arrays: Sequence[Callable[[Array, Array, Array], tuple[Array, Array]]],
    bytes_per_cycle: float,
) -> tuple[Tiling, int]:
    """Return tile sizes and loop order, and which of the ways to lay the array on a tile goes with them.

    The innermost loop says what is stationary (k: C, n: A, m: B); partial sums of C travel where k is not innermost.
    Of all that fits, what takes at most :data:`SLACK` longer than the fastest remains; of that, what moves at most
    :data:`SLACK` more over the DRAM bus than the least. Then the fewest on-chip bytes win, then the fewest tiles along
    k (partial sums change places on chip between them), then time.

    Parameters
    ----------
    product : a product with no empty dimension.
    widths : bytes of an element.
    capacity : on-chip bytes for all tiles.
    grain : tiles are whole multiples of it, or the whole dimension, or smaller.
    arrays : for each way to lay the array, its arithmetic cycles and on-chip bytes for tile sizes (tm, tn, tk).
    bytes_per_cycle : of DRAM.
    """
    m, n, k = product[:3]
    grid, at, order, trips, passes = _ways(product, widths, capacity, grain)
    tile = {d: sizes[at] for d, sizes in grid.items()}
    bus_a, bus_b = passes["a"] * (widths.a * m * k), passes["b"] * (widths.b * k * n)
    partial, c = (passes["c"] - 1.0) * m * n * widths.partial, float(m * n * widths.c)
    traffic = bus_a + bus_b + 2 * partial + c
    load = tile["m"] * tile["k"] * widths.a + tile["k"] * tile["n"] * widths.b
    store = tile["m"] * tile["n"] * float(widths.c)
    count = trips["m"] * trips["n"] * trips["k"]
    left = []
    for which, array in enumerate(arrays):
        costs = array(grid["m"], grid["n"], grid["k"])
        cycles, moved = (np.broadcast_to(cost, grid["m"].size)[at] for cost in costs)
        time = np.maximum((load + store) / bytes_per_cycle + cycles, traffic / bytes_per_cycle + cycles / count)
        near = np.flatnonzero(time <= time.min() * (1 + SLACK))
        on_chip = np.rint(moved + traffic)[near]
        left.append(np.stack([time[near], traffic[near], on_chip, trips["k"][near], near, np.full(near.size, which)]))
    table = np.concatenate(left, axis=1)
    for criterion in (0, 1):
        table = table[:, table[criterion] <= table[criterion].min() * (1 + SLACK)]
    t, which = (int(value) for value in table[4:, np.lexsort(table[[4, 1, 0, 3, 2]])[0]])
    chosen = Tiling(
        tm=int(tile["m"][t]),
        tn=int(tile["n"][t]),
        tk=int(tile["k"][t]),
        order=ORDERS[order[t]],
        tiles=int(count[t]),
        passes=(int(passes["a"][t]), int(passes["b"][t]), int(passes["c"][t])),
        traffic=(float(bus_a[t]), float(bus_b[t]), float(partial[t]), c),
        first_load=float(load[t]),
        last_store=float(store[t]),
    )
    return chosen, which


def select(csr: Csr, rows: npt.NDArray[np.bool_], columns: npt.NDArray[np.bool_]) -> Csr:
    """Return the matrix of the rows and columns marked true; nothing outside them may be stored."""
    renumbered = np.cumsum(columns) - 1
    shape = (int(rows.sum()), int(columns.sum()))
    pointers = np.concatenate([csr.indptr[:1], csr.indptr[1:][rows]])
    return Csr(shape, pointers, renumbered[csr.indices].astype(csr.indices.dtype))
