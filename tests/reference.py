"""The naive twins of the kernels: slow, obvious, written before the fast code and without looking at it.

Everything here is Python integers, lists and sets; arrays appear only as inputs. A matrix is anything with `indptr`,
`indices` and `shape` (CSR, sorted, no duplicates); values never matter, because all counts are structural. Where a
function takes `dense_columns=n`, every row of B counts as full with n columns and `b` may be None.

Words: a *leaf* is a condensed column (the j-th non-zero of every row of A), a *round* is one pass of the merge tree,
a *line* is a segment of a row of B in the prefetch buffer, a *tick* is the integer unit of time of the pipeline.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol


class Pattern(Protocol):
    """The structure of a CSR matrix."""

    indptr: Sequence[int]
    indices: Sequence[int]
    shape: tuple[int, int]


class Csr(NamedTuple):
    """A pattern drawn by hand."""

    indptr: list[int]
    indices: list[int]
    shape: tuple[int, int]


def from_picture(*rows: str) -> Csr:
    """The pattern of a picture: one string a row, `x` where there is an element."""
    columns = [[k for k, mark in enumerate(row) if mark == "x"] for row in rows]
    indptr = [sum(len(row) for row in columns[:i]) for i in range(len(rows) + 1)]
    return Csr(indptr, [k for row in columns for k in row], (len(rows), len(rows[0]) if rows else 0))


# A times A: 16 partial matrices as outer products, 12 after condensing.
SIXTEEN_TO_TWELVE = (
    ".x.xxx....xx.x.x",
    "........xx..x.xx",
    "x.x.xxxxxxxx.x..",
    "xx.xxxxxxx..xx.x",
    "xxxx...xxxx.x...",
    ".....xx.xx..x...",
    "xx.....x..x...xx",
    ".x....xx..xx..x.",
    "x.......xx.x..x.",
    "...xx.....xxxx..",
    "x.xxxx.......x..",
    "....x.x.........",
    ".xxx....xx..x...",
    ".xx...x.x.x.....",
    "...x....xx...x.x",
    "..x..xxx..x.....",
)


# ---------------------------------------------------------------------------------------------------------------------
# condensing
# ---------------------------------------------------------------------------------------------------------------------


def row_of(m: Pattern, row: int) -> list[int]:
    """Column indices of one row."""
    return [int(k) for k in m.indices[int(m.indptr[row]) : int(m.indptr[row + 1])]]


def row_count(m: Pattern) -> int:
    return len(m.indptr) - 1


def condensed_columns(indptr: Sequence[int], indices: Sequence[int]) -> list[list[tuple[int, int]]]:
    """Condensed column j is the j-th non-zero of every row, as (row, k), rows ascending."""
    columns: list[list[tuple[int, int]]] = []
    for row in range(len(indptr) - 1):
        for j, position in enumerate(range(int(indptr[row]), int(indptr[row + 1]))):
            if j == len(columns):
                columns.append([])
            columns[j].append((row, int(indices[position])))
    return columns


def access_order(a: Pattern, leaves: frozenset[int]) -> list[tuple[int, int]]:
    """Elements (row, k) of the selected condensed columns: lowest row first, then ascending condensed column."""
    order = []
    for row in range(row_count(a)):
        for j, k in enumerate(row_of(a, row)):
            if j in leaves:
                order.append((row, k))
    return order


def outer_products(a: Pattern, b: Pattern) -> int:
    """Partial matrices without condensing: non-empty columns of A that meet a non-empty row of B."""
    used = {k for row in range(row_count(a)) for k in row_of(a, row)}
    return sum(1 for k in used if row_of(b, k))


# ---------------------------------------------------------------------------------------------------------------------
# merge order
# ---------------------------------------------------------------------------------------------------------------------


def huffman_schedule(
    leaf_weights: Sequence[int],
    ways: int,
    merged_size: Callable[[frozenset[int]], int] | None = None,
    *,
    order: str = "huffman",
    permutation: Sequence[int] | None = None,
) -> list[list[int]]:
    """Inputs of every merge round, in the order they are taken.

    Leaves are 0..L-1; round r creates node L+r. The first round takes (L-2) mod (ways-1) + 2 inputs so that all later
    ones are full; with L <= ways there is one round of L inputs. `order="huffman"` takes the lightest first; among
    equals leaves before internal nodes, of leaves the lower index, of internal nodes the earlier. An internal node
    weighs `merged_size(leaves under it)`, or the sum of its inputs where that is None. `order="sequential"` takes
    leaves by index from a FIFO to whose end results are appended; `order="random"` does so with permuted leaves;
    `order="accumulate"` takes leaves by index and puts every result first in line for the next round.
    """
    count = len(leaf_weights)
    weight = [int(w) for w in leaf_weights]
    under = [frozenset({leaf}) for leaf in range(count)]
    waiting = _first_queue(count, order, permutation)
    take = count if count <= ways else (count - 2) % (ways - 1) + 2
    rounds: list[list[int]] = []
    while True:
        if order == "huffman":
            waiting.sort(key=lambda node: (weight[node], node >= count, node))
        inputs, waiting = waiting[:take], waiting[take:]
        rounds.append(inputs)
        if not waiting:
            return rounds
        below = frozenset().union(*(under[node] for node in inputs))
        under.append(below)
        weight.append(sum(weight[node] for node in inputs) if merged_size is None else merged_size(below))
        result = len(weight) - 1
        waiting = [result, *waiting] if order == "accumulate" else [*waiting, result]
        take = ways


def _first_queue(count: int, order: str, permutation: Sequence[int] | None) -> list[int]:
    if order in ("huffman", "sequential", "accumulate"):
        return list(range(count))
    if order != "random" or permutation is None or sorted(permutation) != list(range(count)):
        raise ValueError("order is huffman, sequential, accumulate, or random with a permutation of the leaves")
    return [int(leaf) for leaf in permutation]


def leaf_sets(schedule: list[list[int]], leaf_count: int) -> list[list[frozenset[int]]]:
    """The inputs of every round, each as the set of leaves under it."""
    under = [frozenset({leaf}) for leaf in range(leaf_count)]
    rounds = []
    for inputs in schedule:
        sets = [under[node] for node in inputs]
        rounds.append(sets)
        under.append(frozenset().union(*sets))
    return rounds


def b_row_trace(a: Pattern, schedule: list[list[int]], leaf_count: int) -> list[int]:
    """Rows of B asked for over the whole run: round after round, each in `access_order` of the leaves it consumes."""
    trace = []
    for inputs in schedule:
        leaves = frozenset(node for node in inputs if node < leaf_count)
        trace += [k for _, k in access_order(a, leaves)]
    return trace


# ---------------------------------------------------------------------------------------------------------------------
# multiplying and merging
# ---------------------------------------------------------------------------------------------------------------------


def b_columns(b: Pattern | None, k: int, dense_columns: int | None = None) -> list[int]:
    """Column indices of row k of B."""
    if dense_columns is not None:
        return list(range(dense_columns))
    assert b is not None
    return row_of(b, k)


def merged_keys(
    a: Pattern, b: Pattern | None, leaves: frozenset[int], dense_columns: int | None = None
) -> set[tuple[int, int]]:
    """The (row, column) pairs that the products of these condensed columns reach."""
    keys = set()
    for row, k in access_order(a, leaves):
        for column in b_columns(b, k, dense_columns):
            keys.add((row, column))
    return keys


def merged_size(a: Pattern, b: Pattern | None, leaves: frozenset[int], dense_columns: int | None = None) -> int:
    """Elements left when the products of these condensed columns are merged."""
    return len(merged_keys(a, b, leaves, dense_columns))


def product_count(a: Pattern, b: Pattern | None, leaves: frozenset[int], dense_columns: int | None = None) -> int:
    """Effectual multiplications of these condensed columns."""
    return sum(len(b_columns(b, k, dense_columns)) for _, k in access_order(a, leaves))


def round_elements(
    a: Pattern,
    b: Pattern | None,
    inputs_as_leaf_sets: Sequence[frozenset[int]],
    layers: int,
    dense_columns: int | None = None,
) -> list[int]:
    """Elements entering each layer of the tree in one round, leaf layer first, root merger last.

    Input i sits at leaf position i. Two elements of one key are one as soon as they are under the same node.
    """
    if len(inputs_as_leaf_sets) > 2**layers:
        raise ValueError("more inputs than the tree has leaves")
    keys = [merged_keys(a, b, leaves, dense_columns) for leaves in inputs_as_leaf_sets]
    entering = []
    for layer in range(layers):
        triples = {(row, at >> layer, column) for at, reached in enumerate(keys) for row, column in reached}
        entering.append(len(triples))
    return entering


def packing_slots(
    a: Pattern, b: Pattern | None, leaves: frozenset[int], group_width: int, dense_columns: int | None = None
) -> int:
    """Turns of a multiplier group: every element of A takes ceil(length of its row of B / group width)."""
    slots = 0
    for _, k in access_order(a, leaves):
        slots += -(-len(b_columns(b, k, dense_columns)) // group_width)
    return slots


def bursts_read(places: Sequence[int], element_bytes: int, burst: int) -> list[list[int]]:
    """Addresses of the bursts that each element at these places makes the memory send, one after the other.

    The last burst that was sent is still at hand, so an element that begins in it does not ask for it again.
    """
    asked = []
    last = None
    for place in places:
        first_byte, end = place * element_bytes, (place + 1) * element_bytes
        touched = list(range(first_byte // burst * burst, end, burst))
        asked.append(touched[1:] if touched[0] == last else touched)
        last = touched[-1]
    return asked


# ---------------------------------------------------------------------------------------------------------------------
# prefetch buffer
# ---------------------------------------------------------------------------------------------------------------------

Line = tuple[int, int]  # (row of B, segment)

NEVER = float("inf")


class Prefetch(NamedTuple):
    """What the buffer did: line visits that hit and missed, elements fetched, and the visits that fetched, in order.

    `stalls` are visits before which others had to be used, and how many waited for their use then, this one included.
    """

    hits: int
    misses: int
    fetched_elements: int
    fetched: list[Line]
    fetching: list[int]
    stalls: list[tuple[int, int]]


def line_visits(trace: Sequence[int], row_lengths_of_b: Sequence[int], line_elements: int) -> list[tuple[int, Line]]:
    """Which element of the trace visits which line, in order: all ceil(n / line_elements) lines of its row."""
    visits = []
    for element, row in enumerate(trace):
        for segment in range(-(-int(row_lengths_of_b[row]) // line_elements)):
            visits.append((element, (int(row), segment)))
    return visits


def prefetch(
    trace: Sequence[int],
    row_lengths_of_b: Sequence[int],
    *,
    lines: int,
    line_elements: int,
    look_ahead: int,
    run_ahead: int = 0,
    unit: str = "line_ops",
    policy: str = "farthest",
    tie: str = "keep",
    parts: Sequence[int] = (),
) -> Prefetch:
    """A fully associative buffer of `lines` lines under the trace of rows of B asked for.

    The window shows the next `look_ahead` line visits (unit "line_ops"), or the rest of this element's and all of the
    next `look_ahead` elements' line visits (unit "elements"). A miss fetches the line and stores it in the lowest free
    slot; failing that it replaces the stored line of the farthest visible next use, lowest slot among lines never seen
    again. Policy "lru" replaces the least recently visited; "off" fetches at every visit.

    `run_ahead` 0: a line is used when it is fetched, and where its own next use is farther than that of every stored
    line it passes by unstored. Neither seen again: tie "keep" passes by, "replace" replaces. "lru" stores always.
    `run_ahead` n: up to n fetched visits wait for their use, the latest one included. Their lines must stay; where all
    stored lines must, the use of the oldest is waited for until one need not. Every miss is stored.

    `parts` are ends of elements known at a time: what lies behind is not in the window, and waits for all before.
    """
    _check_choice(unit, ("line_ops", "elements"))
    _check_choice(policy, ("farthest", "lru", "off"))
    _check_choice(tie, ("keep", "replace"))
    visits = line_visits(trace, row_lengths_of_b, line_elements)
    slots: list[Line | None] = [None] * (0 if policy == "off" else lines)
    latest: dict[Line, int] = {}
    fetching: list[int] = []
    waiting: list[Line] = []  # fetched and not used yet, oldest first
    stalls: list[tuple[int, int]] = []
    ends = [*parts, len(trace)]
    for now, (element, line) in enumerate(visits):
        while ends[0] <= element:
            ends.pop(0)
            waiting.clear()
        while waiting and len(waiting) >= run_ahead:
            waiting.pop(0)
        if line not in slots:
            fetching.append(now)
            before = len(waiting)
            while slots and all(kept in waiting for kept in slots):
                waiting.pop(0)
            if len(waiting) < before:
                stalls.append((now, len(waiting) + 1))
            next_use = {} if policy == "lru" else _next_uses(visits, now, look_ahead, unit, ends[0])
            slot = _slot_for(slots, next_use, latest, waiting, policy)
            if slot is not None and (run_ahead > 0 or _worth_storing(slots[slot], line, next_use, policy, tie)):
                slots[slot] = line
        latest[line] = now
        waiting.append(line)
    fetched = [visits[visit][1] for visit in fetching]
    length = sum(min(line_elements, int(row_lengths_of_b[row]) - segment * line_elements) for row, segment in fetched)
    return Prefetch(len(visits) - len(fetched), len(fetched), length, fetched, fetching, stalls)


def _check_choice(value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{value!r} is none of {allowed}")


def _next_uses(visits: list[tuple[int, Line]], now: int, look_ahead: int, unit: str, known: int) -> dict[Line, int]:
    """First visible use after `now` of every line in the window."""
    seen: dict[Line, int] = {}
    for later in range(now + 1, len(visits)):
        distance = later - now if unit == "line_ops" else visits[later][0] - visits[now][0]
        if distance > look_ahead or visits[later][0] >= known:
            break
        seen.setdefault(visits[later][1], later)
    return seen


def _slot_for(
    slots: list[Line | None], next_use: dict[Line, int], latest: dict[Line, int], waiting: list[Line], policy: str
) -> int | None:
    """The free slot, or the one whose line goes if one has to; None without any slot."""
    if None in slots:
        return slots.index(None)
    best = None
    for slot, kept in enumerate(slots):
        assert kept is not None
        if kept in waiting:
            continue
        rank = -latest[kept] if policy == "lru" else next_use.get(kept, NEVER)
        if best is None or rank > best[0]:
            best = (rank, slot)
    return None if best is None else best[1]


def _worth_storing(victim: Line | None, line: Line, next_use: dict[Line, int], policy: str, tie: str) -> bool:
    """Whether a line that is used as it comes should take the place of the victim."""
    if victim is None or policy == "lru":
        return True
    own, other = next_use.get(line, NEVER), next_use.get(victim, NEVER)
    return own < other or (own == other == NEVER and tie == "replace")


# ---------------------------------------------------------------------------------------------------------------------
# SpArch as a whole, in counts
# ---------------------------------------------------------------------------------------------------------------------


def leaf_weight(a: Pattern, b: Pattern | None, leaf: int, weights: str, dense_columns: int | None = None) -> int:
    """Weight of a condensed column: its exact number of products, or nnz(column) * nnz(B) // rows(B)."""
    _check_choice(weights, ("actual", "estimate"))
    if weights == "actual":
        return product_count(a, b, frozenset({leaf}), dense_columns)
    rows = int(a.shape[1])
    if rows == 0:
        return 0
    nnz_b = sum(len(b_columns(b, k, dense_columns)) for k in range(rows))
    return len(access_order(a, frozenset({leaf}))) * nnz_b // rows


def sparch_counts(
    a: Pattern,
    b: Pattern | None,
    ways: int,
    layers: int,
    weights: str = "actual",
    *,
    group_width: int = 8,
    order: str = "huffman",
    permutation: Sequence[int] | None = None,
    dense_columns: int | None = None,
    pipelined: bool = True,
) -> dict[str, int | list[int]]:
    """Every count of one product that does not depend on time or on the prefetch buffer.

    Unless `pipelined`, every leaf's products are written to memory before the first round and read back in theirs.
    """
    count = len(condensed_columns(a.indptr, a.indices))
    everything = frozenset(range(count))

    def size(leaves: frozenset[int]) -> int:
        return merged_size(a, b, leaves, dense_columns)

    leaf_weights = [leaf_weight(a, b, leaf, weights, dense_columns) for leaf in range(count)]
    schedule = huffman_schedule(leaf_weights, ways, size, order=order, permutation=permutation)
    rounds = leaf_sets(schedule, count)
    layer_elements = [0] * layers
    for inputs in rounds:
        for layer, elements in enumerate(round_elements(a, b, inputs, layers, dense_columns)):
            layer_elements[layer] += elements
    partial = sum(size(frozenset().union(*inputs)) for inputs in rounds[:-1])
    if not pipelined:
        partial += product_count(a, b, everything, dense_columns)
    return {
        "condensed_columns": count,
        "first_round_ways": len(schedule[0]),
        "merge_rounds": len(schedule),
        "partial_elements_written": partial,
        "partial_elements_read": partial,  # each result of a round is an input of exactly one later round
        "layer_elements": layer_elements,
        "multiplies": product_count(a, b, everything, dense_columns),
        "nnz_c": size(everything),
        "packing_slots": packing_slots(a, b, everything, group_width, dense_columns),
    }


# ---------------------------------------------------------------------------------------------------------------------
# external memory
# ---------------------------------------------------------------------------------------------------------------------

Request = tuple[int, int]  # whatever the memory understands; here (channel, ticks) or (address, bytes)
Memory = Callable[[Request, int], int]  # (request, now) -> when it is answered


class PlainChannels:
    """Channels without banks or queues: each serves (channel, ticks) in the order asked."""

    def __init__(self, count: int) -> None:
        self.free = [0] * count

    def serve(self, request: Request, now: int) -> int:
        channel, ticks = request
        self.free[channel] = max(self.free[channel], now) + ticks
        return self.free[channel]


class Piece(NamedTuple):
    """Bursts of one request that lie together in a row of a bank."""

    channel: int
    bank: int
    row: int
    bursts: int


class Dram:
    """Banked memory asked for whole bursts, (address, bytes), by ascending time; `p` is any record with the fields.

    Addresses go round the channels in stripes of `interleave` bytes, and a channel's rows round its banks. Requests
    fall into pieces: bursts of one stripe and one row, at most a quarter of a queue.
    """

    def __init__(self, p: Any) -> None:
        self.p = p
        self.channels = [_Channel(p) for _ in range(p.channels)]
        self.posted = 0  # when the last write was taken

    def pieces(self, request: Request) -> list[Piece]:
        p = self.p
        address, size = request
        found: list[Piece] = []
        open_place = None
        for at in range(address, address + size, p.burst):
            stripe, within = divmod(at, p.interleave)
            turn, channel = divmod(stripe, p.channels)
            row_of_channel = (turn * p.interleave + within) // p.row
            if (stripe, row_of_channel) == open_place and found[-1].bursts < max(p.queue // 4, 1):
                found[-1] = found[-1]._replace(bursts=found[-1].bursts + 1)
            else:
                open_place = (stripe, row_of_channel)
                found.append(Piece(channel, row_of_channel % p.banks, row_of_channel // p.banks, 1))
        return found

    def read(self, request: Request, now: int) -> int:
        """Answered when the last data have been on the bus."""
        return max((self.channels[piece.channel].read(piece, now) for piece in self.pieces(request)), default=now)

    def write(self, request: Request, now: int) -> int:
        """Answered when the queues have taken everything, one piece after the other."""
        self.posted = max(self.posted, now)
        for piece in self.pieces(request):
            self.posted = self.channels[piece.channel].write(piece, self.posted)
        return self.posted

    def finish(self) -> int:
        """Serve what is queued; when the last channel is done."""
        return max(channel.finish() for channel in self.channels)


class _Channel:
    """One channel; times are when something is free again or has happened."""

    def __init__(self, p: Any) -> None:
        self.p = p
        self.bus = 0
        self.group: dict[int, int] = {}
        self.open_row: dict[int, int] = {}
        self.opened: dict[int, int] = {}
        self.bank_done: dict[int, int] = {}
        self.activations: list[int] = []
        self.refreshes = 0
        self.refreshed = 0
        self.last_was_write = False
        self.turns = 0
        self.bursts_left: list[int] = []  # when each read burst left the queue
        self.posted: list[tuple[Piece, int]] = []  # queued writes and when they came
        self.last_read = self.last_written = 0
        self.bursts_taken = 0
        self.bursts_written: list[int] = []  # when each write burst left the queue
        self.done = 0
        self.occupied = 0

    def read(self, piece: Piece, now: int) -> int:
        """A burst finds room when the one a queue length before it has left."""
        first = len(self.bursts_left) - self.p.queue
        ahead = [self.bursts_left[i] for i in range(first, first + piece.bursts) if i >= 0]
        admitted = max([now, *ahead])
        self.write_while_idle(admitted)
        end = self.serve(piece, admitted, is_write=False)
        self.last_read = max(self.last_read, end)
        self.bursts_left += [end] * piece.bursts
        return end

    def write(self, piece: Piece, now: int) -> int:
        """Taken when there is room; served at once when no read waits, else from the high mark down to the low."""
        self.write_while_idle(now)
        self.serve_down_to(self.p.queue - piece.bursts, now)
        first = self.bursts_taken - self.p.queue
        taken = max([now, *(self.bursts_written[i] for i in range(first, first + piece.bursts) if i >= 0)])
        self.bursts_taken += piece.bursts
        self.posted.append((piece, taken))
        if taken >= self.last_read:
            self.serve_down_to(0, 0)
        elif self.queued() >= self.p.high or (self.last_was_write and taken < self.last_written):
            self.serve_down_to(self.p.low, taken)
        return taken

    def finish(self) -> int:
        self.serve_down_to(0, self.done)
        return self.done

    def queued(self) -> int:
        return sum(piece.bursts for piece, _ in self.posted)

    def serve_down_to(self, left: int, now: int) -> None:
        """Write until `left` bursts are queued; a piece may be written in part."""
        while self.queued() > left:
            piece, came = self.posted.pop(0)
            rest = max(left - self.queued(), 0)
            if rest:
                self.posted.insert(0, (piece._replace(bursts=rest), came))
            written = piece.bursts - rest
            end = self.serve(piece._replace(bursts=written), max(came, now), is_write=True)
            self.bursts_written += [end] * written
            self.last_written = end

    def write_while_idle(self, until: int) -> None:
        """Serve writes that can begin before `until`; once begun, go on to the low mark even beyond it."""
        begun = False
        while self.posted:
            begin = max(self.done, self.posted[0][1])
            if begin >= until and not (begun and self.queued() > self.p.low):
                return
            left = self.queued() - self.posted[0][0].bursts
            self.serve_down_to(max(left, self.p.low) if begin >= until else left, begin)
            begun = True

    def serve(self, piece: Piece, since: int, *, is_write: bool) -> int:
        """Bus, bank group, activations and bank each take the piece as soon as they can; it ends with the last."""
        p = self.p
        self.refresh(since)
        since = max(since, self.refreshed)
        if is_write != self.last_was_write:
            self.bus = max([self.bus, *(free - p.ccd + p.burst_ticks for free in self.group.values())])
            self.bus += p.to_write if is_write else p.to_read
            self.last_was_write = is_write
            self.turns += 1
        accessible = self.activate(piece, since)
        group = piece.bank % p.groups
        self.bus = max(self.bus, since) + piece.bursts * p.burst_ticks
        self.group[group] = max(self.group.get(group, 0), since) + piece.bursts * p.ccd
        of_the_bank = accessible + (piece.bursts - 1) * max(p.ccd, p.burst_ticks) + p.burst_ticks
        end = max(self.bus, self.group[group], of_the_bank)
        self.bank_done[piece.bank] = end + (p.wr if is_write else 0)
        self.occupied += max(end - max(self.done, since), 0)
        self.done = max(self.done, end)
        return end

    def refresh(self, since: int) -> None:
        """Once every interval the channel stands still, as soon as it is done, and forgets its open rows."""
        p = self.p
        while p.refi and (self.refreshes + 1) * p.refi <= max(self.done, since):
            self.refreshes += 1
            self.done = self.bus = self.refreshed = max(self.done, self.refreshes * p.refi) + p.rp + p.rfc
            self.occupied += p.rp + p.rfc
            self.open_row.clear()

    def activate(self, piece: Piece, since: int) -> int:
        """When the piece's row can be accessed; its turn to be activated passes even if its bank is not ready then."""
        p, bank = self.p, piece.bank
        if self.open_row.get(bank) == piece.row:
            return max(since, self.opened[bank] + p.rcd)
        turn = since
        if self.activations:
            turn = max(turn, self.activations[-1] + p.rrd)
        if len(self.activations) >= 4:
            turn = max(turn, self.activations[-4] + p.faw)
        self.activations.append(turn)
        at = turn
        if bank in self.open_row:
            at = max(turn, max(since, self.bank_done[bank], self.opened[bank] + p.ras) + p.rp)
        self.open_row[bank], self.opened[bank] = piece.row, at
        return at + p.rcd


# ---------------------------------------------------------------------------------------------------------------------
# the timing core
# ---------------------------------------------------------------------------------------------------------------------


class Timing(NamedTuple):
    """Ticks at which step s starts, finishes and leaves stage j, and the last finish of all."""

    start: list[list[int]]
    finish: list[list[int]]
    depart: list[list[int]]
    total: int


def pipeline(
    service: Sequence[Sequence[int]],
    size: Sequence[Sequence[int]],
    lane: Sequence[Sequence[int]],
    wait_for: Sequence[int],
    wait_stage: int,
    latency: Sequence[int],
    capacity: Sequence[int],
    window: Sequence[int],
    lanes: Sequence[int],
    memory: Sequence[Memory | None],
    asks: Sequence[Sequence[Sequence[Request]]],
) -> Timing:
    """S steps pass J stages in order, simulated event by event.

    Steps start a stage in step order, and leave it in step order. A step starts as soon as

    * it has arrived: it left the stage before, `latency` ticks ago;
    * at `wait_stage`: the step it waits for has left the last stage, `latency` ticks ago;
    * its server is free (stages that are not memory): the previous step of its lane has finished;
    * the buffer behind has room for its `size`. Room is taken at the start, in the part of the buffer that belongs to
      its lane at the next stage, and given back when it *finishes* the next stage, or, where that is a memory stage
      and answers may overtake one another, when it leaves it (no buffer behind the last stage);
    * the window has room for its `size`. That is taken at the start and given back when it has left and `latency`
      ticks have passed (the `size` of the last stage matters to its window only).

    Capacity and window -1 are unlimited. A step of a memory stage has no server: it hands all its requests to the
    stage's `memory` at its start, one after the other, and finishes with the last answer.

    Within a tick: repeat { let what was due happen (finish, leave, arrive) and let all stages that are not memory, and
    memory steps without work, start, until nothing moves; then serve the ready memory request of the lowest stage }
    until nothing changes. So requests are served in the order of (time, stage, step), except that one that becomes
    ready only because another was served in this very tick comes after that one.
    """
    model = _Pipeline(service, size, lane, wait_for, wait_stage, latency, capacity, window, lanes, memory, asks)
    return model.run()


class _Pipeline:
    """What the stages, buffers and wires hold at the present tick."""

    def __init__(self, service, size, lane, wait_for, wait_stage, latency, capacity, window, lanes, memory, asks):
        self.steps, self.stages = len(service), len(latency)
        self.service, self.size, self.lane = service, size, lane
        self.wait_for, self.wait_stage = wait_for, wait_stage
        self.latency, self.capacity, self.window = latency, capacity, window
        self.memory, self.asks = memory, asks

        self.now = 0
        self.events: list[tuple[int, str, int, int]] = []  # (time, what, step, stage)
        self.next_to_start = [0] * self.stages
        self.next_to_leave = [0] * self.stages
        self.finished: list[set[int]] = [set() for _ in latency]
        # arrived[J] is the world behind the last stage
        self.arrived: list[set[int]] = [set() for _ in range(self.stages + 1)]
        self.arrived[0] = set(range(self.steps))
        self.busy = [[False] * int(count) for count in lanes]
        self.buffered = [[0] * int(count) for count in lanes[1:]]
        self.in_flight = [0] * self.stages

        self.start = [[-1] * self.stages for _ in service]
        self.finish = [[-1] * self.stages for _ in service]
        self.depart = [[-1] * self.stages for _ in service]

    def run(self) -> Timing:
        self.settle()
        while self.events:
            self.now = self.events[0][0]
            self.settle()
        if any(leaving < self.steps for leaving in self.next_to_leave):
            raise RuntimeError("deadlock: a step is larger than its buffer or window, or waits for a later one")
        total = max((tick for row in self.finish for tick in row), default=0)
        return Timing(self.start, self.finish, self.depart, total)

    def settle(self) -> None:
        """All that happens at this tick."""
        while True:
            while self.happen() or self.start_without_memory():
                pass
            if not self.serve_one_request():
                return

    def happen(self) -> bool:
        """Let one event that is due happen."""
        if not self.events or self.events[0][0] > self.now:
            return False
        _, what, step, stage = heapq.heappop(self.events)
        if what == "finish":
            self.finish_step(step, stage)
        else:
            self.in_flight[stage] -= int(self.size[step][stage])
            self.arrived[stage + 1].add(step)
        return True

    def finish_step(self, step: int, stage: int) -> None:
        if not self.memory[stage]:
            self.busy[stage][int(self.lane[step][stage])] = False
            self.give_room_back(step, stage)
        self.finished[stage].add(step)
        while self.next_to_leave[stage] in self.finished[stage]:
            leaving = self.next_to_leave[stage]
            if self.memory[stage]:
                self.give_room_back(leaving, stage)
            self.depart[leaving][stage] = self.now
            heapq.heappush(self.events, (self.now + int(self.latency[stage]), "arrive", leaving, stage))
            self.next_to_leave[stage] += 1

    def give_room_back(self, step: int, stage: int) -> None:
        if stage > 0:
            self.buffered[stage - 1][int(self.lane[step][stage])] -= int(self.size[step][stage - 1])

    def start_without_memory(self) -> bool:
        """Start one step that asks nothing of the memory."""
        for stage in range(self.stages):
            step = self.next_to_start[stage]
            if self.ready(stage) and not self.asks_memory(step, stage):
                self.begin(step, stage, self.now + (0 if self.memory[stage] else int(self.service[step][stage])))
                return True
        return False

    def serve_one_request(self) -> bool:
        for stage in range(self.stages):
            step = self.next_to_start[stage]
            if self.ready(stage) and self.asks_memory(step, stage):
                serve = self.memory[stage]
                assert serve is not None
                done = max(serve(request, self.now) for request in self.asks[step][stage])
                self.begin(step, stage, done)
                return True
        return False

    def asks_memory(self, step: int, stage: int) -> bool:
        return self.memory[stage] is not None and len(self.asks[step][stage]) > 0

    def ready(self, stage: int) -> bool:
        """Whether the next step of this stage can start now."""
        step = self.next_to_start[stage]
        if step == self.steps or step not in self.arrived[stage]:
            return False
        waits = stage == self.wait_stage and self.wait_for[step] >= 0
        if waits and int(self.wait_for[step]) not in self.arrived[self.stages]:
            return False
        if not self.memory[stage] and self.busy[stage][int(self.lane[step][stage])]:
            return False
        return self.has_room(step, stage)

    def has_room(self, step: int, stage: int) -> bool:
        size = int(self.size[step][stage])
        if stage < self.stages - 1 and self.capacity[stage] >= 0:
            held = self.buffered[stage][int(self.lane[step][stage + 1])]
            if held + size > self.capacity[stage]:
                return False
        return self.window[stage] < 0 or self.in_flight[stage] + size <= self.window[stage]

    def begin(self, step: int, stage: int, finish: int) -> None:
        self.start[step][stage], self.finish[step][stage] = self.now, finish
        self.next_to_start[stage] += 1
        self.in_flight[stage] += int(self.size[step][stage])
        if not self.memory[stage]:
            self.busy[stage][int(self.lane[step][stage])] = True
        if stage < self.stages - 1:
            self.buffered[stage][int(self.lane[step][stage + 1])] += int(self.size[step][stage])
        heapq.heappush(self.events, (finish, "finish", step, stage))
