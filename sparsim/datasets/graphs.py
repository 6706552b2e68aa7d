"""Generators of graphs as matrices: R-MAT, citations, co-purchases, the web.

Each returns a pattern of exactly the rows and elements asked for, the same one for the same seed. Row i holds the nodes
that i points to.
"""

from __future__ import annotations

import math

import numpy as np

from sparsim.datasets._draw import Draw, capacity, distinct, from_keys, off_diagonal, symmetric, unique
from sparsim.errors import ConfigError
from sparsim.matrix import Csr, IntArray

__all__ = ["citation", "copurchase", "rmat", "web"]


def rmat(
    rows: int,
    nnz: int,
    seed: int = 0,
    a: float = 0.57,
    b: float = 0.19,
    c: float = 0.19,
    *,
    undirected: bool = False,
) -> Csr:
    """Return an R-MAT graph: edges fall into quarters of the matrix, again and again, with uneven odds.

    Parameters
    ----------
    rows, nnz : nodes and distinct edges; rows need not be a power of two.
    seed : of the edges.
    a, b, c : odds of the upper left, upper right and lower left quarter; the lower right has the rest. The default
        are those of the Graph500 benchmark. Nodes keep their numbers, so the busy ones come first.
    undirected : make it symmetric without a diagonal (an odd ``nnz`` puts one element there).

    References
    ----------
    .. [1] D. Chakrabarti, Y. Zhan, C. Faloutsos, "R-MAT: A Recursive Model for Graph Mining", SDM 2004.
    """
    if min(a, b, c) < 0 or a + b + c > 1:
        raise ConfigError(f"a, b, c = {a}, {b}, {c}", key="rmat", allowed="none below 0, together at most 1")
    capacity("graph", rows, nnz, rows * rows if not undirected else rows * (rows - 1) + (1 if rows else 0))
    rng = np.random.default_rng(seed)
    levels = max(1, math.ceil(math.log2(max(rows, 1))))

    def draw(size: int) -> IntArray:
        row, col = np.zeros(size), np.zeros(size)
        for level in range(1, levels + 1):
            odds = rng.random(size)
            down = odds >= a + b
            row += down * 0.5**level
            col += (((odds >= a) & ~down) | (odds >= a + b + c)) * 0.5**level
        one, other = (row * rows).astype(np.int64), (col * rows).astype(np.int64)
        if not undirected:
            return one * rows + other
        low, high = np.minimum(one, other), np.maximum(one, other)
        keys: IntArray = (low * rows + high)[low != high]
        return keys

    if undirected:
        keys = distinct(draw, off_diagonal(rows, rng, upper=True), nnz // 2, rng)
        return symmetric(rows, keys, np.arange(nnz % 2))
    return from_keys(rows, distinct(draw, lambda size: rng.integers(0, rows * rows, size), nnz, rng))


def citation(
    rows: int,
    nnz: int,
    seed: int = 0,
    *,
    citing: float = 0.6,
    group: int = 300,
    lag: float = 0.3,
    skew: float = 1.0,
    alignment: float = 0.8,
    cross: float = 0.1,
) -> Csr:
    """Return a citation graph: nodes in order of time, each pointing back only, so strictly lower triangular.

    Nodes fall into fields at random and mostly cite their own field, some time back, the famous more often.

    Parameters
    ----------
    rows, nnz : documents and citations.
    seed : of both.
    citing : share of the documents, the last ones, whose references are known.
    group : mean number of documents in a field.
    lag : mean age of a reference, as a share of the field's documents weighted with their fame.
    skew : standard deviation of the logarithm of fame, and of how much a document cites.
    alignment : correlation of the two, -1 to 1.
    cross : share of the references to any field and time.
    """
    first = rows - min(rows, max(1, int(citing * rows)))
    capacity(f"citation graph with {rows - first} citing rows", rows, nnz, (rows + first - 1) * (rows - first) // 2)
    rng = np.random.default_rng(seed)
    fields = max(1, rows // group)
    normal = rng.standard_normal((2, rows))
    fame = np.exp(skew * normal[0])
    eager = np.exp(skew * (alignment * normal[0] + math.sqrt(1 - alignment**2) * normal[1]))
    eager[:first] = 0
    # field by field, each in order of time: what is looked up in sequence lies together
    order = np.argsort(rng.integers(0, fields, rows), kind="stable")
    fame, eager = fame[order], eager[order]
    reached, busy = np.cumsum(fame), float(eager.sum())

    def draw(size: int) -> IntArray:
        place = np.repeat(np.arange(rows), rng.poisson(size * eager / busy))
        aim = reached[place] - fame[place] - rng.exponential(lag * reached[-1] / fields, place.size)
        far = rng.random(place.size) < cross
        aim[far] = rng.random(int(far.sum())) * reached[-1]
        row, col = order[place], order[np.minimum(np.searchsorted(reached, aim), rows - 1)]
        keys: IntArray = (row * rows + col)[(aim >= 0) & (col < row)]
        return keys

    def anywhere(size: int) -> IntArray:
        row = rng.integers(first, rows, size)
        col = (rng.random(size) * row).astype(np.int64)
        return (row * rows + col)[col < row]

    return from_keys(rows, distinct(draw, anywhere, nnz, rng))


def copurchase(
    rows: int,
    nnz: int,
    seed: int = 0,
    *,
    reach: float = 3.0,
    far: float = 0.03,
    skew: float = 3.0,
    most: int = 10,
) -> Csr:
    """Return a co-purchase graph: each product points to at most ``most`` others, nearly all of them near.

    Parameters
    ----------
    rows, nnz : products and recommendations.
    seed : of both.
    reach : mean distance of a near recommendation [rows].
    far : share of the recommendations that go to popular products anywhere.
    skew : the popular product is number rows * u ** skew of a random order, for an even u.
    most : largest number of recommendations of a product.
    """
    limit = min(most, max(rows - 1, 0))
    capacity(f"co-purchase graph of at most {most} a row", rows, nnz, rows * limit)
    rng = np.random.default_rng(seed)
    full = min(1.0, max(0.0, (nnz / max(rows, 1) - (most - 1) / 2) / ((most + 1) / 2)))
    length = np.where(rng.random(rows) < full, most, rng.integers(0, most, rows))
    popular = rng.permutation(rows)
    row = np.repeat(np.arange(rows), 3 * most)
    col = row + np.rint(rng.laplace(0, reach, row.size)).astype(np.int64)
    away = rng.random(row.size) < far
    col[away] = popular[(rng.random(int(away.sum())) ** skew * rows).astype(np.int64)]
    valid = (col >= 0) & (col < rows) & (col != row)
    row, col = row[valid], col[valid]
    # a product with many recommendations is recommended more
    kept = rng.random(row.size) < (length[col] + 1) / (most + 1)
    keys = _shorten(unique((row * rows + col)[kept]), length, rng)
    keys = np.delete(keys, rng.choice(keys.size, max(0, keys.size - nnz), replace=False))
    while keys.size < nnz:
        free = np.repeat(np.arange(rows), limit - np.bincount(keys // rows, minlength=rows))
        row = rng.choice(free, min(free.size, nnz - keys.size), replace=False)
        col = rng.integers(0, rows, row.size)
        keys = unique(np.concatenate([keys, (row * rows + col)[col != row]]))
    return from_keys(rows, keys)


def _shorten(keys: IntArray, length: IntArray, rng: np.random.Generator) -> IntArray:
    """Keep at most ``length[row]`` random elements of each row, ascending."""
    row = keys // max(length.size, 1)
    mixed = np.argsort(row + rng.random(row.size))
    start = np.cumsum(np.bincount(row, minlength=length.size)) - np.bincount(row, minlength=length.size)
    kept: IntArray = np.sort(keys[mixed[np.arange(row.size) - start[row] < length[row]]])
    return kept


def web(
    rows: int,
    nnz: int,
    seed: int = 0,
    *,
    host: float = 20.0,
    tail: float = 1.5,
    local: float = 0.98,
    front: float = 2.5,
    link: float = 6.0,
    out_tail: float = 3.0,
    most: float = 2000.0,
    fame: float = 3.0,
) -> Csr:
    """Return a web graph: pages in the order of their hosts, links mostly inside a host and to its first pages.

    Parameters
    ----------
    rows, nnz : pages and links.
    seed : of hosts and links.
    host, tail : mean number of pages of a host, and the exponent of its Pareto distribution (above 1).
    local : share of the links inside a host.
    front : a link goes to the page at share u ** front of its host, for an even u; from other hosts twice that power.
    link : a page at share x of its host links exp(-link * x) as much as the first.
    out_tail, most : exponent of the power law of links from a page, and where it is cut, relative to the least.
    fame : a link to another host goes to number hosts * u ** fame of a random order.
    """
    capacity("web graph", rows, nnz, rows * max(rows - 1, 0))
    rng = np.random.default_rng(seed)
    size = (host * (tail - 1) / tail * (1 - rng.random(rows)) ** (-1 / tail)).clip(max=rows).astype(np.int64) + 1
    hosts = int(np.searchsorted(np.cumsum(size), rows)) + 1 if rows else 0
    size = size[:hosts]
    start = np.cumsum(size) - size
    size[-1:] = rows - start[-1:]
    home = np.repeat(np.arange(hosts), size)
    depth = (np.arange(rows) - start[home]) / size[home]
    links = np.minimum((1 - rng.random(rows)) ** (-1 / (out_tail - 1)), most) * np.exp(-link * depth)
    busy, famous = float(links.sum()), rng.permutation(hosts)

    def draw(count: int) -> IntArray:
        row = np.repeat(np.arange(rows), rng.poisson(count * links / busy))
        away = rng.random(row.size) >= local
        goal, power = home[row], np.where(away, 2 * front, front)
        goal[away] = famous[(hosts * rng.random(int(away.sum())) ** fame).astype(np.int64)]
        col = start[goal] + (size[goal] * rng.random(row.size) ** power).astype(np.int64)
        keys: IntArray = (row * rows + col)[col != row]
        return keys

    anywhere: Draw = off_diagonal(rows, rng)
    return from_keys(rows, distinct(draw, anywhere, nnz, rng))
