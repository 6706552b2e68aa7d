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
from typing import NamedTuple, Protocol


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
    leaves by index from a FIFO to whose end results are appended; `order="random"` does so with permuted leaves.
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
        waiting.append(len(weight) - 1)
        take = ways


def _first_queue(count: int, order: str, permutation: Sequence[int] | None) -> list[int]:
    if order in ("huffman", "sequential"):
        return list(range(count))
    if order != "random" or permutation is None or sorted(permutation) != list(range(count)):
        raise ValueError("order is huffman, sequential, or random with a permutation of the leaves")
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


# ---------------------------------------------------------------------------------------------------------------------
# prefetch buffer
# ---------------------------------------------------------------------------------------------------------------------

Line = tuple[int, int]  # (row of B, segment)

NEVER = float("inf")


class Prefetch(NamedTuple):
    """What the buffer did: line operations that hit and missed, elements fetched, lines fetched in order."""

    hits: int
    misses: int
    fetched_elements: int
    fetched: list[Line]


def prefetch(
    trace: Sequence[int],
    row_lengths_of_b: Sequence[int],
    *,
    lines: int,
    line_elements: int,
    look_ahead: int,
    unit: str = "line_ops",
    policy: str = "farthest",
    tie: str = "keep",
) -> Prefetch:
    """A fully associative buffer of `lines` lines under the trace of rows of B asked for.

    A visit to a row touches its ceil(n / line_elements) lines in order. The window shows the next `look_ahead` line
    operations (unit "line_ops"), or the rest of this element's and all of the next `look_ahead` elements' line
    operations (unit "elements"). A miss fetches the line and stores it in the lowest free slot; failing that it
    replaces the stored line of the farthest visible next use, lowest slot among lines never seen again, unless its own
    next use is farther still: then it passes by unstored. Both unseen: tie "keep" passes by, "replace" replaces.
    Policy "lru" replaces the least recently used and stores always; "off" fetches at every touch.
    """
    _check_choice(unit, ("line_ops", "elements"))
    _check_choice(policy, ("farthest", "lru", "off"))
    _check_choice(tie, ("keep", "replace"))
    touches: list[tuple[int, Line]] = []  # (which element of A asks, which line)
    for element, row in enumerate(trace):
        for segment in range(-(-int(row_lengths_of_b[row]) // line_elements)):
            touches.append((element, (int(row), segment)))

    slots: list[Line | None] = [None] * (0 if policy == "off" else lines)
    last_use: dict[Line, int] = {}
    hits = 0
    fetched: list[Line] = []
    for now, (_, line) in enumerate(touches):
        if line in slots:
            hits += 1
        else:
            fetched.append(line)
            if policy == "lru":
                slot = _least_recent_slot(slots, last_use)
            else:
                slot = _farthest_slot(slots, line, _next_uses(touches, now, look_ahead, unit), tie)
            if slot is not None:
                slots[slot] = line
        last_use[line] = now
    length = sum(min(line_elements, int(row_lengths_of_b[row]) - segment * line_elements) for row, segment in fetched)
    return Prefetch(hits, len(fetched), length, fetched)


def _check_choice(value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{value!r} is none of {allowed}")


def _next_uses(touches: list[tuple[int, Line]], now: int, look_ahead: int, unit: str) -> dict[Line, int]:
    """First visible use after `now` of every line in the window."""
    seen: dict[Line, int] = {}
    for later in range(now + 1, len(touches)):
        distance = later - now if unit == "line_ops" else touches[later][0] - touches[now][0]
        if distance > look_ahead:
            break
        seen.setdefault(touches[later][1], later)
    return seen


def _farthest_slot(slots: list[Line | None], line: Line, next_use: dict[Line, int], tie: str) -> int | None:
    """Slot to overwrite, or None to let the line pass by."""
    if None in slots:
        return slots.index(None)
    if not slots:
        return None
    stored = [next_use.get(kept, NEVER) for kept in slots if kept is not None]
    farthest = max(stored)
    own = next_use.get(line, NEVER)
    if own > farthest or (own == farthest == NEVER and tie == "keep"):
        return None
    return stored.index(farthest)


def _least_recent_slot(slots: list[Line | None], last_use: dict[Line, int]) -> int | None:
    if None in slots:
        return slots.index(None)
    return min(range(len(slots)), key=lambda slot: last_use[slots[slot]], default=None)


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
) -> dict[str, int | list[int]]:
    """Every count of one product that does not depend on time or on the prefetch buffer."""
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
    memory: Sequence[bool],
    memory_work: Sequence[Sequence[Sequence[int]]],
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

    Capacity and window -1 are unlimited. A step of a memory stage has no server: it asks the channels it has work on at
    its start, each serves what it is asked in the order asked, and the step finishes with the last of them.

    Within a tick: repeat { let what was due happen (finish, leave, arrive) and let all stages that are not memory, and
    memory steps without work, start, until nothing moves; then serve the ready memory request of the lowest stage }
    until nothing changes. So requests are served in the order of (time, stage, step), except that one that becomes
    ready only because another was served in this very tick comes after that one.
    """
    model = _Pipeline(service, size, lane, wait_for, wait_stage, latency, capacity, window, lanes, memory, memory_work)
    return model.run()


class _Pipeline:
    """What the stages, buffers, wires and channels hold at the present tick."""

    def __init__(self, service, size, lane, wait_for, wait_stage, latency, capacity, window, lanes, memory, work):
        self.steps, self.stages = len(service), len(latency)
        self.service, self.size, self.lane = service, size, lane
        self.wait_for, self.wait_stage = wait_for, wait_stage
        self.latency, self.capacity, self.window = latency, capacity, window
        self.memory, self.work = memory, work

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
        self.channel_free = [0] * (len(work[0][0]) if self.steps else 0)

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
                done = self.now
                for channel, ticks in enumerate(self.work[step][stage]):
                    if ticks > 0:
                        self.channel_free[channel] = max(self.now, self.channel_free[channel]) + int(ticks)
                        done = max(done, self.channel_free[channel])
                self.begin(step, stage, done)
                return True
        return False

    def asks_memory(self, step: int, stage: int) -> bool:
        return bool(self.memory[stage]) and any(ticks > 0 for ticks in self.work[step][stage])

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
