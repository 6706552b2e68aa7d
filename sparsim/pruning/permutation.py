"""The order of the input channels in which N:M keeps most (Pool & Yu, NeurIPS 2021).

"Channel Permutations for N:M Sparsity": which weights share a group of M is an accident of the order in which the input
channels were numbered. Numbered otherwise, N:M keeps more; the layer before delivers its outputs in that order.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import gcd
from typing import Any

import numpy as np
import numpy.typing as npt

from sparsim.matrix import IntArray
from sparsim.pruning.criteria import Scores

__all__ = ["channel_order", "retained"]

Stripes = npt.NDArray[np.float32]
WORK = 2**28
PASSES = 4
CHUNK = 2**17


def retained(scores: Scores, n: int, m: int) -> float:
    """Return the sum of the scores ``[out, k]`` that N:M keeps."""
    whole = scores.shape[1] // m * m
    return float(_kept(scores[:, :whole].reshape(-1, m), n) + _kept(scores[:, whole:], n))


def channel_order(scores: Scores, channels: int, n: int, m: int) -> IntArray:
    """Return an order of the input channels in which N:M along k keeps more score, the file's order if none is found.

    Stripes of channels that fill whole groups (M channels of a linear layer) start with one strong channel each: the
    channels sorted by their total score are dealt out in turn, unless the file's order is better. Then stripes meet in
    pairs, every two once a pass, and each pair makes the one swap of two channels that gains most, if any does.

    Parameters
    ----------
    scores : ``[out, k]``, k = channels x positions of a kernel.
    channels : input channels (of one group of a grouped convolution).
    n, m : the pattern.

    Returns
    -------
    A permutation of the channels. It keeps at least as much as the file's order. Channels left over behind the last
    whole stripe stay where they are.

    Notes
    -----
    The search ends when a pass finds no swap, after 4 passes, or after 2^28 comparisons of a candidate's score with a
    group's threshold (but not before one round, in which each stripe meets one other): the work grows with the size of
    the layer up to that bound, then the quality gives way. A swap is judged by all rows, not by a sample.
    """
    identity = np.arange(channels, dtype=np.int64)
    area = scores.shape[1] // max(channels, 1)
    width = m // gcd(area, m) if area else 1
    stripes = channels // width
    if n >= m or width == 1 or stripes < 2 or not scores.size:
        return identity
    by_channel = np.ascontiguousarray(scores.reshape(-1, channels, area).swapaxes(0, 1), dtype=np.float32)
    order = max((identity, _dealt(by_channel, stripes, width)), key=lambda start: retained(_laid(scores, start), n, m))
    found = _improve(by_channel, order, (stripes, width), n, m)
    better = retained(_laid(scores, found), n, m) > retained(scores, n, m)
    return found if better else identity


def _laid(scores: Scores, order: IntArray) -> Scores:
    return scores.reshape(scores.shape[0], order.size, -1)[:, order].reshape(scores.shape)


def _dealt(by_channel: Stripes, stripes: int, width: int) -> IntArray:
    """Deal the channels out to the stripes, the strongest first; those behind the last stripe stay."""
    strength = by_channel[: stripes * width].sum(axis=(1, 2), dtype=np.float64)
    ranked = np.argsort(-strength, kind="stable").reshape(width, stripes)
    return np.append(ranked.T.ravel(), np.arange(stripes * width, len(by_channel))).astype(np.int64)


def _improve(by_channel: Stripes, order: IntArray, grid: tuple[int, int], n: int, m: int) -> IntArray:
    stripes, width = grid
    order = order.copy()
    slots = order[: stripes * width].reshape(grid)
    _, rows, area = by_channel.shape
    gains_of = _gains_of_columns if area == 1 else _gains_of_kernels
    step = max(1, CHUNK // (rows * area * width))
    per_round = stripes * width * width * rows * area * (1 if area == 1 else width)
    idle = 0
    for number, (first, second) in enumerate(_meetings(stripes)):
        if idle >= stripes or (number and number * per_round > WORK):
            break
        swapped = 0
        for start in range(0, len(first), step):
            a, b = first[start : start + step], second[start : start + step]
            gains = gains_of(by_channel[slots[a]], by_channel[slots[b]], n, m).reshape(len(a), -1)
            best = gains.argmax(axis=1)
            pays = gains[np.arange(len(a)), best] > 0
            a, b, i, j = a[pays], b[pays], best[pays] // width, best[pays] % width
            slots[a, i], slots[b, j] = slots[b, j], slots[a, i]
            swapped += len(a)
        idle = 0 if swapped else idle + 1
    return order


def _meetings(stripes: int) -> Iterator[tuple[IntArray, IntArray]]:
    """Yield rounds of pairs in which each stripe stands at most once: round robin by the circle method."""
    turn = stripes - 1 + stripes % 2
    offsets = np.arange(1, (turn + 1) // 2, dtype=np.int64)
    for number in range(PASSES * turn):
        first = np.append(turn, (number + offsets) % turn)
        second = np.append(number % turn, (number - offsets) % turn)
        present = (first < stripes) & (second < stripes)
        yield first[present], second[present]


def _gains_of_columns(first: Stripes, second: Stripes, n: int, m: int) -> npt.NDArray[np.float64]:
    """Return what each swap of a channel of one stripe for one of the other gains, ``[pairs, M, M]``.

    Taken out of a group of one row, a channel loses its lead over the N+1st if it is among the best N; put in, it gains
    its lead over the Nth of the others.
    """
    ours, theirs = first[..., 0], second[..., 0]
    our_bar, our_cost = _bars(ours, n)
    their_bar, their_cost = _bars(theirs, n)
    gains = np.empty((len(first), m, m))
    for i in range(m):
        for j in range(m):
            cleared = np.maximum(theirs[:, j], our_bar[:, i]).sum(axis=1)
            gains[:, i, j] = cleared + np.maximum(ours[:, i], their_bar[:, j]).sum(axis=1)
    return gains - our_cost[:, :, None] - their_cost[:, None, :]


def _bars(stripes: Stripes, n: int) -> tuple[Stripes, Stripes]:
    """Return the Nth best of the others ``[pairs, M, rows]``, and its sum plus the lead lost ``[pairs, M]``."""
    ranked = np.sort(stripes, axis=1)
    nth, next_best = ranked[:, -n, None], ranked[:, -n - 1, None]
    bar = np.where(stripes >= nth, next_best, nth)
    return bar, np.maximum(stripes, bar).sum(axis=2)


def _gains_of_kernels(first: Stripes, second: Stripes, n: int, m: int) -> npt.NDArray[np.float64]:
    """Return the same for channels of several weights, whose groups of M straddle kernels, by trying each swap."""
    pairs, width = first.shape[:2]
    before = _kept(_grouped(first, m), n) + _kept(_grouped(second, m), n)
    gains = np.empty((pairs, width, width))
    for i in range(width):
        for j in range(width):
            one, other = first.copy(), second.copy()
            one[:, i], other[:, j] = second[:, j], first[:, i]
            gains[:, i, j] = _kept(_grouped(one, m), n) + _kept(_grouped(other, m), n) - before
    return gains


def _grouped(stripes: Stripes, m: int) -> Stripes:
    return stripes.swapaxes(1, 2).reshape(len(stripes), -1, m)


def _kept(groups: npt.NDArray[Any], n: int) -> npt.NDArray[np.float64]:
    """Return the sum of the best n of every group ``[..., groups, M]``, over the groups."""
    best = groups if n >= groups.shape[-1] else np.partition(groups, -n, axis=-1)[..., -n:]
    kept: npt.NDArray[np.float64] = best.sum(axis=(-2, -1), dtype=np.float64)
    return kept
