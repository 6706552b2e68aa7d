"""Generators of matrices with a geometry: meshes, roads, bands, circuits.

Each returns a pattern of exactly the rows and elements asked for, the same one for the same seed.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from sparsim.arguments import whole
from sparsim.datasets._draw import capacity, distinct, from_keys, off_diagonal, split_symmetric, symmetric, unique
from sparsim.errors import InputError
from sparsim.matrix import Csr, IntArray

__all__ = ["banded", "circuit", "mesh3d", "mixed_mesh2d", "road"]

MORTON_BITS = 20


def banded(rows: int, nnz: int, seed: int = 0, *, bandwidth: int) -> Csr:
    """Return a matrix whose elements lie evenly within a band around the diagonal.

    Parameters
    ----------
    rows, nnz : size and number of elements.
    seed : of the random positions.
    bandwidth : largest distance of an element from the diagonal [columns].

    Raises
    ------
    ConfigError
        If ``bandwidth`` is no whole number.
    InputError
        If the band has fewer places.
    """
    band = min(whole(bandwidth, "bandwidth"), max(rows - 1, 0))
    capacity(f"band of {bandwidth} columns", rows, nnz, rows * (2 * band + 1) - band * (band + 1) if rows else 0)
    rng = np.random.default_rng(seed)

    def draw(size: int) -> IntArray:
        row = rng.integers(0, rows, size)
        col = row + rng.integers(-band, band + 1, size)
        return (row * rows + col)[(col >= 0) & (col < rows)]

    return from_keys(rows, distinct(draw, draw, nnz, rng))


def circuit(
    rows: int,
    nnz: int,
    seed: int = 0,
    *,
    reach: float = 6.0,
    nets: float = 0.05,
    hubs: float = 0.004,
    skew: float = 2.0,
) -> Csr:
    """Return a circuit's admittance pattern: symmetric, full diagonal, two-terminal devices and a few large nets.

    Parameters
    ----------
    rows, nnz : nodes and elements; the diagonal is filled first.
    seed : of the devices.
    reach : mean distance of two nodes that a device joins [rows].
    nets : share of devices with one terminal on a large net, such as a supply or a clock.
    hubs : share of the nodes that are large nets.
    skew : the net is number hubs * u ** skew for an even u: the higher, the larger the largest.
    """
    capacity("circuit", rows, nnz, rows * rows)
    rng = np.random.default_rng(seed)
    net = rng.permutation(rows)[: max(1, int(hubs * rows))]

    def draw(size: int) -> IntArray:
        one = rng.integers(0, rows, size)
        other = one + np.rint(rng.laplace(0, reach, size)).astype(np.int64)
        far = rng.random(size) < nets
        other[far] = net[(net.size * rng.random(int(far.sum())) ** skew).astype(np.int64)]
        low, high = np.minimum(one, other), np.maximum(one, other)
        keys: IntArray = (low * rows + high)[(low >= 0) & (high < rows) & (low != high)]
        return keys

    pairs, diagonal = split_symmetric(nnz, rows)
    keys = distinct(draw, off_diagonal(rows, rng, upper=True), pairs, rng)
    return symmetric(rows, keys, np.arange(diagonal))


def mesh3d(rows: int, nnz: int, seed: int = 0, *, spread: float = 0.0, softness: float = 0.2, unused: int = 0) -> Csr:
    """Return a mesh in three dimensions, as finite elements make it: symmetric, full diagonal, near points joined.

    Points lie in the cells of a cube's grid, one in each, and are numbered along a Morton curve. The pairs with the
    smallest distance over the geometric mean of their two sizes are joined.

    Parameters
    ----------
    rows, nnz : points and elements; the diagonal is filled first.
    seed : of the positions.
    spread : standard deviation of the logarithm of a point's size; 0 makes the degrees nearly equal.
    softness : standard deviation of the logarithm of what multiplies a distance; 0 joins strictly the nearest.
    unused : rows, evenly spread, without any element.
    """
    used = rows - unused
    capacity(f"mesh with {unused} unused rows", rows, nnz, max(used, 0) ** 2)
    rng = np.random.default_rng(seed)
    pairs, diagonal = split_symmetric(nnz, used)
    keys = np.empty(0, dtype=np.int64)
    if pairs:
        keys, distance = _near_pairs(_points(used, rng), pairs)
        low, high = np.divmod(keys, used)
        size = np.exp(spread * rng.standard_normal(used))
        score = distance / np.sqrt(size[low] * size[high]) * np.exp(softness * rng.standard_normal(keys.size))
        keys = np.sort(keys[np.argpartition(score, pairs - 1)[:pairs]])
    low, high = np.divmod(keys, max(used, 1))
    place = np.sort(rng.choice(rows, used, replace=False))
    return symmetric(rows, place[low] * rows + place[high], place[:diagonal])


def _points(count: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Return one point in each of ``count`` cells of a cube, in the order of a Morton curve."""
    side = math.ceil(count ** (1 / 3) - 1e-9)
    cells = np.sort(rng.choice(side**3, count, replace=False))
    points = (np.stack(np.unravel_index(cells, (side,) * 3), axis=1) + rng.random((count, 3))) / side
    scaled = (points * 2**MORTON_BITS).astype(np.int64)
    code = np.zeros(count, dtype=np.int64)
    for bit in range(MORTON_BITS):
        for axis in range(3):
            code |= ((scaled[:, axis] >> bit) & 1) << (3 * bit + axis)
    ordered: npt.NDArray[np.float64] = points[np.argsort(code, kind="stable")]
    return ordered


def _near_pairs(points: npt.NDArray[np.float64], pairs: int) -> tuple[IntArray, npt.NDArray[np.float64]]:
    """Return keys and distances of pairs of near points, at least twice as many as are needed where there are."""
    from scipy.spatial import cKDTree

    count = len(points)
    neighbours = min(count - 1, math.ceil(5 * pairs / count) + 3)
    tree = cKDTree(points)
    while True:
        found = tree.query(points, k=np.arange(2, neighbours + 2))
        distance, other = np.asarray(found[0]), np.asarray(found[1])
        one = np.repeat(np.arange(count), neighbours)
        keys = np.minimum(one, other.ravel()) * count + np.maximum(one, other.ravel())
        keys, first = np.unique(keys, return_index=True)
        if keys.size >= pairs:
            return keys, distance.ravel()[first]
        neighbours = min(count - 1, 2 * neighbours)


def mixed_mesh2d(rows: int, nnz: int | None = None, seed: int = 0) -> Csr:
    """Return a mixed finite-element problem on triangles: fluxes on edges, pressures in triangles, a zero block.

    Lowest-order Raviart-Thomas elements of a Darcy flow, as in GHS_indef/mario002: the row of an edge holds the edges
    and the pressures of its two triangles, the row of a triangle its three edges. A square grid, each square cut along
    a random diagonal; edges are numbered before triangles. Rows that no square fills hold their diagonal alone.

    Parameters
    ----------
    rows : edges plus triangles, five to a square.
    nnz : elements; pairs off the diagonal are dropped at random until it fits. None keeps all, about 5.4 a row.
    seed : of the diagonals, and of what is dropped.

    Raises
    ------
    InputError
        If ``nnz`` is more than the mesh has.
    """
    capacity("mesh", rows, nnz or 0, rows * rows)
    rng = np.random.default_rng(seed)
    width = max(1, math.isqrt(rows // 5))
    squares = max(0, (rows - width) // 5)
    while squares and _unknowns(squares, width) > rows:
        squares -= 1
    triangles = _triangles(squares, width, rng)
    edges, inner = int(triangles.max(initial=-1)) + 1, len(triangles)
    one, two, three = triangles.T
    number = edges + np.arange(inner)
    low = np.concatenate([np.minimum(one, two), np.minimum(one, three), np.minimum(two, three), one, two, three])
    high = np.concatenate([np.maximum(one, two), np.maximum(one, three), np.maximum(two, three), *(number,) * 3])
    keys = unique(low * rows + high)
    places = np.concatenate([np.arange(edges), np.arange(edges + inner, rows)])
    most = 2 * keys.size + places.size
    if nnz is not None and nnz > most:
        raise InputError(f"a mixed mesh of {rows} rows and {nnz} elements", remedy=f"it has {most}, ask for fewer")
    pairs, diagonal = split_symmetric(most if nnz is None else nnz, places.size)
    keys = np.sort(rng.choice(keys, pairs, replace=False))
    return symmetric(rows, keys, places[:diagonal])


def _unknowns(squares: int, width: int) -> int:
    """Return edges plus triangles of a grid ``width`` squares wide whose last row may be incomplete."""
    return 5 * squares + min(squares, width) + math.ceil(squares / width)


def _triangles(squares: int, width: int, rng: np.random.Generator) -> IntArray:
    """Return the three edges of each triangle, int64 of (2 * squares, 3), numbered without gaps."""
    square = np.arange(squares)
    y, x = np.divmod(square, width)
    lines = int(y[-1]) + 1 if squares else 0
    bottom, left = square, (lines + 1) * width + y * (width + 1) + x
    diagonal = (lines + 1) * width + lines * (width + 1) + square
    top, right = bottom + width, left + 1
    flip = rng.random(squares) < 0.5
    first = np.stack([bottom, np.where(flip, left, right), diagonal], axis=1)
    second = np.stack([top, np.where(flip, right, left), diagonal], axis=1)
    triangles = np.stack([first, second], axis=1).reshape(-1, 3)
    numbered: IntArray = np.searchsorted(unique(triangles.ravel()), triangles)
    return numbered


def road(rows: int, nnz: int, seed: int = 0, *, diagonals: float = 0.07) -> Csr:
    """Return a road network: the edges that are left of a square grid, some crossing a block diagonally.

    Symmetric, planar, without a diagonal (an odd ``nnz`` puts one element there), crossings numbered line by line.

    Parameters
    ----------
    rows, nnz : crossings and elements, two to a road.
    seed : of the roads that are kept.
    diagonals : share of the roads that join diagonal neighbours.

    Raises
    ------
    InputError
        If the grid has fewer roads.
    """
    rng = np.random.default_rng(seed)
    width = max(1, math.ceil(math.sqrt(rows)))
    crossing = np.arange(rows)
    inner = crossing % width < width - 1

    def roads(ahead: int, start: npt.NDArray[np.bool_]) -> IntArray:
        here = crossing[start & (crossing + ahead < rows)]
        return here * rows + here + ahead

    grid = np.concatenate([roads(1, inner), roads(width, np.ones(rows, dtype=bool))])
    across = roads(width + 1, inner)
    capacity("road network", rows, nnz, 2 * (grid.size + across.size) + (1 if rows else 0))
    pairs, odd = divmod(nnz, 2)
    slanted = max(min(round(diagonals * pairs), across.size), pairs - grid.size)
    keys = [rng.choice(grid, pairs - slanted, replace=False), rng.choice(across, slanted, replace=False)]
    return symmetric(rows, np.sort(np.concatenate(keys)), np.arange(odd))
