"""Copies of one machine side by side, each with rows of A of its own, behind one DRAM.

This is how a machine of 16 multipliers grows to the size of a GPU. Widening its mergers instead is no design: a merger
of w elements a cycle needs of the order of w^2 comparators (w^1.5 in two levels), and it merges one stream of rows.

Contiguous rows of A go to copies so that the largest number of products is as small as it can be. A copy multiplies its
rows by all of B on its own: it gets an equal share of the bandwidth, reads the rows of B it needs itself, and what
several copies read is read several times. The slowest copy sets the time. Where all copies together are slower than
half of them, or a quarter and so on, because they fetch B more often, only so many work. Not modelled: copies that
finish early (the others then have more bandwidth), a shared cache, reads of B that copies could have in common.

Grouped products: whole groups go to copies where there are at least as many groups as copies, else no copy has rows
of two groups. Rows that follow a rule make equal parts, which cost one run; other parts are all run, so a sparse A
costs about twice as many runs of a small product as there are copies, or rows if those are fewer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from sparsim.machines.activity import STREAMS, Activity, Buffer, Stage
from sparsim.machines.tiling import activation_share, filled_columns, referenced_b
from sparsim.matrix import IntArray
from sparsim.workload import Operand, Workload

__all__ = ["Site", "row_parts", "run_copies"]

UNEVEN = 2.0
SUMMED = ("performed_multiplies", "a_value_bytes", "a_index_bytes")
COUNTERS = "counters under details are those of the slowest copy, but for sums of multiplies and of bytes of A"


class Site(NamedTuple):
    """What there is to run on.

    Parameters
    ----------
    copies : machines side by side.
    alone : from how many of them work, and so share the bandwidth, to how one runs a product.
    peak : multiplies that one can do at most [1/cycle].
    im2col : where they unroll the activations of convolutions.
    skips_zeros : whether single zeros cost them nothing, so that a row's share is its multiplies.
    """

    copies: int
    alone: Callable[[int], Callable[[Workload], Activity]]
    peak: float
    im2col: str
    skips_zeros: bool


class Part(NamedTuple):
    """What one copy did, and how many copies did the same."""

    activity: Activity
    times: int


def run_copies(site: Site, workload: Workload) -> Activity:
    """Return what all copies of a machine do for ``workload``."""
    best = _run_parts(site, workload, site.copies)
    most = sum(part.times for part in best)
    working = most // 2
    while working and workload.multiplies < working * site.peak * _cycles(best):
        fewer = _run_parts(site, workload, working)
        best = fewer if _cycles(fewer) < _cycles(best) else best
        working //= 2
    return _together(site, workload, best, most)


def _run_parts(site: Site, workload: Workload, copies: int) -> list[Part]:
    """Run the rows on as many copies; equal parts once."""
    parts = row_parts(workload, copies, site.skips_zeros)
    run_one = site.alone(len(parts))
    equal: dict[bytes, list[Workload]] = {}
    for part in parts:
        equal.setdefault(_content(part, workload), []).append(part)
    return [Part(run_one(same[0]), len(same)) for same in equal.values()]


def _cycles(parts: Sequence[Part]) -> int:
    return max(part.activity.cycles for part in parts)


def _content(part: Workload, whole: Workload) -> bytes:
    """Return what tells parts with the same cost; B is one for all but groups with a B of their own."""
    own_b = part.b.digest() if whole.groups > 1 else b""
    kept = b"" if part.kept_columns is None else np.packbits(part.kept_columns).tobytes()
    return part.a.digest() + own_b + kept + str(part.groups).encode()


def row_parts(workload: Workload, copies: int, by_multiplies: bool = True) -> list[Workload]:
    """Return the products of at most ``copies`` contiguous ranges of rows, in order.

    The largest number of multiplies (or else of rows that hold anything) is the least that contiguous ranges allow;
    rows of a rule count alike. An N:M rule
    is drawn anew for every range, with its seed, so that equal ranges are equal; but only beside a dense B, where the
    positions change no count of products.
    """
    work = _explicit(workload)
    if not work.m:
        return [work]
    whole_groups = work.groups > copies
    per_group = work.m // work.groups
    items = work.groups if whole_groups else work.m
    edges = [items] if whole_groups else list(range(per_group, work.m + 1, per_group))
    if work.kept_columns is None and work.a.pattern != "dense":
        work = replace(work, kept_columns=filled_columns(work.a, work.groups))
    cuts = _cuts(work, items, edges, copies, by_multiplies)
    return [_part(work, start, stop, whole_groups) for start, stop in pairwise(cuts)]


def _explicit(workload: Workload) -> Workload:
    """Write rules out where positions decide how many products there are."""
    a, b = workload.a, workload.b
    if a.pattern not in ("explicit", "dense") and b.pattern != "dense":
        a = Operand.of(a.csr)
    if workload.groups > 1 and b.pattern not in ("explicit", "dense"):
        b = Operand.of(b.csr)
    return replace(workload, a=a, b=b)


def _cuts(work: Workload, items: int, edges: Sequence[int], copies: int, by_multiplies: bool) -> list[int]:
    """Return where ranges of rows, or of groups, begin and end."""
    if work.a.matrix is None and (work.b.matrix is None or work.groups == 1):
        step = -(-edges[0] // max(copies // len(edges), 1))
        return [0, *(cut for start, end in pairwise((0, *edges)) for cut in (*range(start + step, end, step), end))]
    before = _products_before(work) if by_multiplies else _rows_before(work)
    total = before[:: work.m // items]
    largest = int(np.diff(total).max())
    least, most = max(largest, -(-int(total[-1]) // copies)), int(total[-1])
    best = None
    while best is None or least < most:
        cap = (least + most) // 2 if best is not None else most
        found = _filled(total, edges, cap, copies)
        if found is None:
            least = cap + 1
        else:
            best, most = found, cap
    return best


def _rows_before(work: Workload) -> IntArray:
    """Return the rows that hold anything before each row, and all of them at the end."""
    return np.concatenate([[0], np.cumsum(work.a.row_lengths > 0)]).astype(np.int64)


def _products_before(work: Workload) -> IntArray:
    """Return the multiplies of all rows before each row, and of all at the end."""
    csr, lengths = work.a.csr, work.b.row_lengths
    column = csr.indices.astype(np.int64)
    if work.groups > 1:
        column += np.repeat(np.arange(work.m) // (work.m // work.groups), csr.row_lengths) * work.k
    before = np.zeros(csr.nnz + 1, dtype=np.int64)
    np.cumsum(lengths[column], out=before[1:])
    return before[csr.indptr]


def _filled(total: IntArray, edges: Sequence[int], cap: int, copies: int) -> list[int] | None:
    """Fill ranges in order with up to ``cap`` products, none across an edge; None if there are not enough copies."""
    cuts = [0]
    for end in edges:
        while cuts[-1] < end:
            if len(cuts) > copies:
                return None
            cuts.append(min(int(np.searchsorted(total, total[cuts[-1]] + cap, side="right")) - 1, end))
    return cuts


def _part(work: Workload, start: int, stop: int, whole_groups: bool) -> Workload:
    """Return the product of rows (or groups) ``start`` to ``stop``."""
    per_group = work.m // work.groups
    first, groups = (start, stop - start) if whole_groups else (start // per_group, 1)
    rows = (start * per_group, stop * per_group) if whole_groups else (start, stop)
    unique = work.b_unique_elements
    return replace(
        work,
        a=_slice(work.a, *rows),
        b=_slice(work.b, first * work.k, (first + groups) * work.k),
        groups=groups,
        kept_columns=None if work.kept_columns is None else work.kept_columns[first : first + groups],
        b_unique_elements=None if unique is None else -(-unique * groups // work.groups),
    )


def _slice(operand: Operand, start: int, stop: int) -> Operand:
    if (start, stop) == (0, operand.rows):
        return operand
    if operand.matrix is None:
        return replace(operand, rows=stop - start)
    return Operand.of(operand.matrix.rows_slice(start, stop))


def _together(site: Site, workload: Workload, parts: Sequence[Part], most: int) -> Activity:
    """Add up what the copies did; those that wait for the slowest are starved. There are rows for ``most`` of them."""
    copies, busy = site.copies, sum(part.times for part in parts)
    slowest = max((part.activity for part in parts), key=lambda activity: activity.cycles)
    mean = sum(part.times * part.activity.cycles for part in parts) / busy
    imbalance = slowest.cycles / mean if mean else 1.0
    limited_by, reason = _bound(slowest, imbalance, (busy, most, copies))
    once = int(referenced_b(workload) * activation_share(workload, site.im2col))
    details = dict(slowest.details)
    for key in details.keys() & set(SUMMED):
        details[key] = sum(part.times * part.activity.details[key] for part in parts)
    return Activity(
        cycles=slowest.cycles,
        stages={name: _mean_stage(name, parts, slowest.cycles, copies) for name in slowest.stages},
        multiplies=sum(part.times * part.activity.multiplies for part in parts),
        nnz_c=sum(part.times * part.activity.nnz_c for part in parts),
        operations={key: sum(p.times * p.activity.operations[key] for p in parts) for key in slowest.operations},
        buffers={name: _sum_buffer(name, parts) for name in slowest.buffers},
        dram_bytes={key: sum(p.times * p.activity.dram_bytes[key] for p in parts) for key in STREAMS},
        payload_bytes={key: sum(p.times * p.activity.payload_bytes[key] for p in parts) for key in STREAMS},
        element_bytes=slowest.element_bytes,
        compulsory_b=min(once, sum(part.times * part.activity.compulsory_b for part in parts)),
        limited_by=limited_by,
        reason=reason,
        details=details | {"copies": copies, "busy_copies": busy, "load_imbalance": imbalance},
        notes=tuple(dict.fromkeys((*(note for part in parts for note in part.activity.notes), COUNTERS))),
    )


def _bound(slowest: Activity, imbalance: float, working: tuple[int, int, int]) -> tuple[str, str]:
    """Name what bounds the run: the slowest copy's reason, unless too few copies have rows or theirs are too unlike."""
    busy, most, copies = working
    if busy < most:
        return slowest.limited_by, f"{busy} of {copies} copies work, all would be slower: {slowest.reason}"
    if UNEVEN * busy <= copies:
        return "load_imbalance", f"there are rows for {busy} of {copies} copies only; slowest: {slowest.reason}"
    if imbalance >= UNEVEN:
        return "load_imbalance", f"the slowest of {busy} copies takes {imbalance:.1f} times their mean"
    return slowest.limited_by, f"slowest of {copies} copies: {slowest.reason}"


def _mean_stage(name: str, parts: Sequence[Part], cycles: int, copies: int) -> Stage:
    """Return the mean over all copies; over those with rows for the DRAM, whose bandwidth they share."""
    servers = sum(part.times for part in parts) if name == "dram" else copies
    busy = sum(part.times * part.activity.stages[name].busy for part in parts) / servers
    blocked = sum(part.times * part.activity.stages[name].blocked for part in parts) / servers
    return Stage(busy, cycles - busy - blocked, blocked)


def _sum_buffer(name: str, parts: Sequence[Part]) -> Buffer:
    """Add the accesses; the memories of all copies have one size."""
    reads = sum(part.times * part.activity.buffers[name].reads for part in parts)
    writes = sum(part.times * part.activity.buffers[name].writes for part in parts)
    return replace(parts[0].activity.buffers[name], reads=reads, writes=writes)
