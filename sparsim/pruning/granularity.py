"""Which weights live and die together, on the matrix ``[out, k]`` that the hardware multiplies.

Every pattern is laid on the im2col matrix of a layer: a convolution ``[out, in / groups, kh, kw]`` is read as
``[out, (in / groups) * kh * kw]``, so "consecutive along k" runs through a kernel's columns, then its rows, then the
next input channel. That row is what a sparse format compresses and a machine streams. (A library that stores weights as
NHWC orders k as kh, kw, in: its N:M groups hold other weights, but as many.)

All patterns but N:M are tilings by equal rectangles, which keeps them in one place: ``unstructured`` is 1 x 1,
``vector:V`` 1 x V, ``block:RxC`` R x C, ``out_channel`` a row, ``in_channel`` a column of kernels (of a weight known
only as a matrix: one column). Where a dimension is no multiple of the tile, the last tiles are smaller; a tile's score
is the *mean* of its weights' scores, so that a small one is neither favoured nor punished.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from sparsim.errors import ConfigError, nearest
from sparsim.matrix import IntArray
from sparsim.pruning.criteria import Scores

__all__ = ["BoolArray", "Granularity", "n_of_m", "parse_granularity", "spread", "tile_scores", "tile_sizes"]

BoolArray = npt.NDArray[np.bool_]
WORDS = ("unstructured", "out_channel", "in_channel")
FORMS = "unstructured, N:M (as 2:4), vector:V, block:RxC, out_channel, in_channel"


@dataclass(frozen=True)
class Granularity:
    """A pattern of pruning.

    Parameters
    ----------
    kind : "unstructured", "n:m", "vector", "block", "out_channel" or "in_channel".
    sizes : (N, M) for N:M, (V,) for a vector, (R, C) for a block, () otherwise.
    """

    kind: str
    sizes: tuple[int, ...] = ()

    def __str__(self) -> str:
        if self.kind == "n:m":
            return f"{self.sizes[0]}:{self.sizes[1]}"
        return f"{self.kind}:{'x'.join(map(str, self.sizes))}" if self.sizes else self.kind

    @property
    def fixes_sparsity(self) -> bool:
        """Whether the pattern itself says how many weights stay, so that a budget has no say."""
        return self.kind == "n:m"

    def tile(self, shape: tuple[int, ...], groups: int = 1) -> tuple[int, int]:
        """Return rows and columns of the tile for a weight of ``shape``.

        Parameters
        ----------
        shape : of the weight, ``[out, in / groups, *kernel]``.
        groups : of a convolution; an input channel meets only the outputs of its own group.
        """
        columns = prod(shape[1:])
        rows, cols = {
            "unstructured": (1, 1),
            "vector": (1, *self.sizes),
            "block": self.sizes,
            "out_channel": (1, columns),
            "in_channel": (shape[0] // groups, prod(shape[2:])),
        }[self.kind]
        return max(1, min(rows, shape[0])), max(1, min(cols, columns))


def parse_granularity(text: str | Granularity) -> Granularity:
    """Return the pattern called ``text``.

    Raises
    ------
    ConfigError
        If the word is unknown, or its sizes are missing, zero or (N:M) contradict each other.
    """
    if isinstance(text, Granularity):
        return text
    word = text.strip().lower()
    if word in WORDS:
        return Granularity(word)
    if match := re.fullmatch(r"(\d{1,9}):(\d{1,9})", word):
        kept, of = int(match[1]), int(match[2])
        if not 1 <= kept <= of:
            raise _refuse(f"'{text}' keeps {kept} of every {of} weights", "N:M with 1 <= N <= M, as 2:4")
        return Granularity("n:m", (kept, of))
    kind, _, sizes = word.partition(":")
    if kind == "vector":
        return Granularity(kind, _sizes(text, sizes, r"(\d{1,9})", "vector:V with V >= 1 weights along k, as vector:4"))
    if kind == "block":
        return Granularity(
            kind, _sizes(text, sizes, r"(\d{1,9})x(\d{1,9})", "block:RxC with R, C >= 1 (rows x columns), as block:4x4")
        )
    if kind in WORDS:
        raise _refuse(f"'{text}': {kind} takes no size", kind)
    raise _refuse(f"'{text}' is no granularity{nearest(kind, (*WORDS, 'vector', 'block'))}", FORMS)


def _sizes(text: str, sizes: str, form: str, allowed: str) -> tuple[int, ...]:
    match = re.fullmatch(form, sizes)
    numbers = tuple(int(part) for part in match.groups()) if match else ()
    if not numbers or min(numbers) < 1:
        raise _refuse(f"'{text}' is no size of a {text.strip().lower().partition(':')[0]}", allowed)
    return numbers


def _refuse(problem: str, allowed: str) -> ConfigError:
    return ConfigError(problem, key="granularity", allowed=allowed)


def _extents(size: int, step: int) -> IntArray:
    return np.diff(np.append(np.arange(0, size, step, dtype=np.int64), size))


def tile_sizes(shape: tuple[int, int], tile: tuple[int, int]) -> IntArray:
    """Return the weights in each tile of a matrix, int64 ``[tile rows, tile columns]``."""
    return np.multiply.outer(_extents(shape[0], tile[0]), _extents(shape[1], tile[1]))


def tile_scores(scores: Scores, tile: tuple[int, int]) -> Scores:
    """Return the mean score of each tile of ``scores`` ``[out, k]``, as ``[tile rows, tile columns]``."""
    if tile == (1, 1) or not scores.size:
        return scores
    sums: Any = np.add.reduceat(scores, np.arange(0, scores.shape[1], tile[1]), axis=1)
    sums = np.add.reduceat(sums, np.arange(0, scores.shape[0], tile[0]), axis=0)
    means: Scores = sums / tile_sizes((scores.shape[0], scores.shape[1]), tile)
    return means


def spread(kept: BoolArray, shape: tuple[int, int], tile: tuple[int, int]) -> BoolArray:
    """Give every weight of a matrix of ``shape`` the fate of its tile."""
    if not kept.size:
        return np.zeros(shape, dtype=np.bool_)
    if tile == (1, 1):
        return kept
    return np.repeat(np.repeat(kept, _extents(shape[0], tile[0]), axis=0), _extents(shape[1], tile[1]), axis=1)


def n_of_m(scores: Scores, n: int, m: int) -> BoolArray:
    """Keep the ``n`` highest of every ``m`` consecutive scores of a row; equal ones by position.

    A shorter group at the end of a row keeps at most ``n``: never a lower density than the pattern's.

    Parameters
    ----------
    scores : ``[out, k]``.
    n, m : at most n non-zeros in every m consecutive weights.
    """
    rows, cols = scores.shape
    m = max(1, min(m, cols))
    padded = np.full((rows, -(-cols // m) * m), -np.inf)
    padded[:, :cols] = scores
    order = np.argsort(-padded.reshape(-1, m), axis=1, kind="stable")
    kept = np.zeros(order.shape, dtype=np.bool_)
    np.put_along_axis(kept, order[:, :n], True, axis=1)
    return kept.reshape(padded.shape)[:, :cols]
