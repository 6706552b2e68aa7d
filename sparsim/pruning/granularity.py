"""Which weights live and die together, on the matrix ``[out, k]`` that the hardware multiplies.

Every pattern is laid on the im2col matrix of a layer: a convolution ``[out, in / groups, kh, kw]`` is read as
``[out, (in / groups) * kh * kw]``, so "consecutive along k" runs through a kernel's columns, then its rows, then the
next input channel. That row is what a sparse format compresses and a machine streams. (A library that stores weights as
NHWC orders k as kh, kw, in: its N:M groups hold other weights, but as many.)

====================  ========================================  ========================================================
name                  what stays or goes                        how near the budget of a layer is met
====================  ========================================  ========================================================
``unstructured``      single weights                            exactly
``vector:V``          V consecutive weights of a row            half a vector
``vector:Vx1``        V consecutive weights of a column         half a vector
``block:RxC``         R rows x C columns                        half a block
``kernel``            a slice ``W[o, i]`` of all positions      half a kernel
``out_channel``       a row                                     half a row
``in_channel``        a column of kernels (of a weight known    half a column
                      only as a matrix: one column)
``head:D``            an attention head of D features           half a head of the attention block
``row_balanced``      weights, as many in every row             half the rows
``bank:B``            weights, as many in each of the B         half the rows, times B
                      equal parts of every row
``kernel_pattern:P``  weights, every kernel by one of P masks   half the kernels; each keeps at least one weight
``N:M``               at most N of M consecutive weights of a   fixes its own
                      row
``N:M+permute``       the same, in the order of the input       fixes its own
                      channels that keeps most
``V:N:M``             4 columns of every V x M block, then N    fixes its own
                      of those 4 in every row
====================  ========================================  ========================================================

Down to ``head:D`` the patterns are groups that stay or go whole, all but the heads tilings by equal rectangles. Where a
dimension is no multiple of the tile, the last tiles are smaller; a group's score is the *mean* of its weights' scores,
so that a small one is neither favoured nor punished. (Optimal Brain Damage and its kin define the saliency of a group
as a sum; groups of equal size are ranked alike by both.) The others are balanced: a number per layer, met by giving
every row, bank or kernel the same share (:mod:`~sparsim.pruning.balanced`).
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
from sparsim.n_of_m import VNM_COLUMNS, VNM_FORM, VNM_KEPT
from sparsim.pruning.criteria import Scores

__all__ = ["BoolArray", "Granularity", "parse_granularity", "spread", "tile_scores", "tile_sizes"]

BoolArray = npt.NDArray[np.bool_]
WORDS = ("unstructured", "kernel", "out_channel", "in_channel", "row_balanced")
SIZED = {
    "vector": "vector:V with V >= 1 weights along k, as vector:4, or vector:Vx1 along the outputs",
    "block": "block:RxC with R, C >= 1 (rows x columns), as block:4x4",
    "kernel_pattern": "kernel_pattern:P with P >= 1 masks, as kernel_pattern:8",
    "head": "head:D with D >= 1 features in a head, as head:64",
    "bank": "bank:B with B >= 1 banks in a row, as bank:16",
}
FORMS = (
    "unstructured, N:M (as 2:4), N:M+permute, V:N:M (as 64:2:10), vector:V, vector:Vx1, block:RxC, kernel, "
    "kernel_pattern:P, head:D, out_channel, in_channel, row_balanced, bank:B"
)


@dataclass(frozen=True)
class Granularity:
    """A pattern of pruning.

    Parameters
    ----------
    kind : "unstructured", "n:m", "n:m+permute", "v:n:m", "vector", "block", "kernel", "kernel_pattern", "head",
        "out_channel", "in_channel", "row_balanced" or "bank".
    sizes : (N, M) for N:M, (V, N, M) for V:N:M, (V,) for a vector along k and (V, 1) for one along the outputs, (R, C)
        for a block, (P,), (D,) or (B,) where the name ends in one number, () otherwise.
    """

    kind: str
    sizes: tuple[int, ...] = ()

    def __str__(self) -> str:
        if self.fixes_sparsity:
            return ":".join(map(str, self.sizes)) + "+permute" * self.kind.endswith("+permute")
        return f"{self.kind}:{'x'.join(map(str, self.sizes))}" if self.sizes else self.kind

    @property
    def fixes_sparsity(self) -> bool:
        """Whether the pattern itself says how many weights stay, so that a budget has no say."""
        return self.kind in ("n:m", "n:m+permute", "v:n:m")

    def tile(self, shape: tuple[int, ...], groups: int = 1) -> tuple[int, int]:
        """Return rows and columns of the tile for a weight of ``shape``; that of a balanced pattern is one weight.

        Parameters
        ----------
        shape : of the weight, ``[out, in / groups, *kernel]``.
        groups : of a convolution; an input channel meets only the outputs of its own group.
        """
        columns = prod(shape[1:])
        rows, cols = {
            "vector": self.sizes if len(self.sizes) == 2 else (1, *self.sizes),
            "block": self.sizes,
            "kernel": (1, prod(shape[2:])),
            "head": (*self.sizes, columns),
            "out_channel": (1, columns),
            "in_channel": (shape[0] // groups, prod(shape[2:])),
        }.get(self.kind, (1, 1))
        return max(1, min(rows, shape[0])), max(1, min(cols, columns))


def parse_granularity(text: str | Granularity) -> Granularity:
    """Return the pattern called ``text``; of two names of one pattern (``vector:1x4``) the object has the first.

    Raises
    ------
    ConfigError
        If the word is unknown, or its sizes are missing, zero or (N:M) contradict each other.
    """
    if isinstance(text, Granularity):
        return text
    word = str(text).strip().lower()
    if word in WORDS:
        return Granularity(word)
    if match := re.fullmatch(r"(\d{1,9}):(\d{1,9})(\+permute)?", word):
        kept, of = int(match[1]), int(match[2])
        if not 1 <= kept <= of:
            raise _refuse(f"'{text}' keeps {kept} of every {of} weights", "N:M with 1 <= N <= M, as 2:4")
        return Granularity("n:m" + (match[3] or ""), (kept, of))
    if match := re.fullmatch(r"(\d{1,9}):(\d{1,9}):(\d{1,9})", word):
        rows, kept, of = (int(part) for part in match.groups())
        if rows < 1 or kept != VNM_KEPT or of < VNM_COLUMNS:
            raise _refuse(f"'{text}' keeps {kept} of {of} weights in runs of {rows} rows", VNM_FORM)
        return Granularity("v:n:m", (rows, kept, of))
    kind, _, sizes = word.partition(":")
    if kind in SIZED:
        return Granularity(kind, _sizes(text, kind, sizes))
    if kind in WORDS:
        raise _refuse(f"'{text}': {kind} takes no size", kind)
    raise _refuse(f"'{text}' is no granularity{nearest(kind, (*WORDS, *SIZED))}", FORMS)


def _sizes(text: str, kind: str, sizes: str) -> tuple[int, ...]:
    match = re.fullmatch(r"(\d{1,9})(?:x(\d{1,9}))?", sizes)
    numbers = tuple(int(part) for part in match.groups() if part is not None) if match else ()
    if kind == "vector" and len(numbers) == 2 and numbers[0] == 1:
        numbers = numbers[1:]
    takes = {"block": (2,), "vector": (1, 2)}.get(kind, (1,))
    is_square = kind == "vector" and len(numbers) == 2 and numbers[1] != 1
    if len(numbers) not in takes or min(numbers) < 1 or is_square:
        raise _refuse(f"'{text}' is no size of a {kind}", SIZED[kind])
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
