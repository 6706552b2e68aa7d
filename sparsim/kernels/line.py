"""The steps that are under way in a pipeline, and the state of its stages.

Steps come in blocks behind those at hand; those that no longer matter are forgotten when there is no room.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sparsim.kernels._jit import inlined, kernel
from sparsim.kernels.dram import INDEX
from sparsim.kernels.records import Steps, TimingParams, Visits

__all__ = ["Asked", "Line", "empty_line", "lane_of", "put", "record_of_lane"]

Array = npt.NDArray[Any]

FIELDS = 16  # of a stage, a power of two
LATENCY, CAPACITY, WINDOW, MEMORY, NEXT, READY, FLYING, LANDED = range(8)
WINDOW_FREE, BUSY, BLOCKED, WAITS, START, DEPARTED, NEEDS, LANES = range(8, 16)
LANE_FIELDS = 4
HELD, OLDEST, ROOM_FREE, FINISHED = range(LANE_FIELDS)  # all but FINISHED are of the buffer in front of the lane
ARRIVAL, ROOM, RESULT, TURN, NOTHING = range(5)  # what a stage's next step waits for; NOTHING: to be looked at
NEVER = 1 << 62
UNKNOWN = -1


class Line(NamedTuple):
    """The pipeline: what is given of the steps at hand, and what is known so far; of one dimension, stage by stage.

    ``depart`` is the service time until a step has left. ``finish`` is the same array where steps cannot overtake one
    another. An empty ``lane`` is one lane. ``left`` is when each of all steps left the last stage, ``gone`` how many
    steps came before those at hand.
    """

    stage: Array
    lanes: Array
    size: Array
    lane: Array
    wait_for: Array
    finish: Array
    depart: Array
    left: Array
    gone: int
    steps: int
    stages: int
    deepest: int


class Asked(NamedTuple):
    """What the steps at hand ask of the memory.

    Step s asks at visit v for requests ``begin[v] + first[v, s]`` to ``begin[v] + first[v, s + 1]``. Visits have their
    requests one behind the other, with room in between; the last entry of ``begin`` is where all ends.
    """

    begin: Array
    first: Array
    address: Array
    size: Array


@kernel
def _lay_out(params: TimingParams) -> tuple[Array, Array]:
    """Return the state before the first step: stages and lanes, a record of FIELDS or LANE_FIELDS for each."""
    stages, deepest = params.latency.size, 1
    for j in range(stages):
        deepest = max(deepest, params.lanes[j])
    stage = np.zeros(stages * FIELDS, dtype=np.int64)
    for j in range(stages):
        stage[j * FIELDS + LATENCY] = params.latency[j]
        stage[j * FIELDS + CAPACITY] = params.capacity[j] if j + 1 < stages else UNKNOWN
        stage[j * FIELDS + WINDOW] = params.window[j]
        stage[j * FIELDS + MEMORY] = params.memory[j]
        stage[j * FIELDS + WAITS] = j == params.wait_stage
        stage[j * FIELDS + LANES] = params.lanes[j]
        stage[j * FIELDS + READY] = NEVER
    return stage, np.zeros(stages * deepest * LANE_FIELDS, dtype=np.int64)


@inlined
def lane_of(line: Line, s: int, j: int) -> int:
    """Return the lane of stage j that serves step s."""
    return line.lane[(s * line.stages + j) & INDEX] if line.lane.size > 0 else 0


@inlined
def record_of_lane(line: Line, s: int, j: int) -> int:
    """Return where the lane is kept that serves step s at stage j."""
    return ((j * line.deepest + lane_of(line, s, j)) * LANE_FIELDS) & INDEX


@kernel
def _oldest(line: Line) -> int:
    """Return the oldest step that still matters."""
    stage, stages = line.stage, line.stages
    oldest = stage[(stages - 1) * FIELDS + NEXT]
    for j in range(stages):
        at = j * FIELDS
        if stage[at + WINDOW] >= 0:
            oldest = min(oldest, stage[at + LANDED])
        if stage[at + CAPACITY] >= 0:
            for own in range(stage[at + FIELDS + LANES]):
                oldest = min(oldest, _oldest_of_lane(line, j, own))
    return oldest


@kernel
def _oldest_of_lane(line: Line, j: int, own: int) -> int:
    """Return the oldest step in the buffer behind stage j, in front of a lane, that can still block.

    What has left the buffer before the latest start cannot, nor can what fills nothing.
    """
    stage, lanes, stages = line.stage, line.lanes, line.stages
    at, to = j * FIELDS, ((j + 1) * line.deepest + own) * LANE_FIELDS
    first = lanes[to + OLDEST]
    while first < stage[at + NEXT]:
        size, behind = line.size[first * stages + j], first * stages + j + 1
        if size > 0 and lane_of(line, first, j + 1) == own:
            left = line.depart[behind] if stage[at + MEMORY] >= 0 else line.finish[behind]
            if stage[at + FIELDS + NEXT] <= first or left > stage[at + START]:
                break
            lanes[to + HELD] -= size
        first += 1
    lanes[to + OLDEST] = first
    return first


@kernel
def _forget(line: Line, asked: Asked, oldest: int) -> None:
    """Move the steps from ``oldest`` on to the front."""
    stage, stages = line.stage, line.stages
    for j in range(stages):
        stage[j * FIELDS + NEXT] -= oldest
        stage[j * FIELDS + LANDED] = max(stage[j * FIELDS + LANDED] - oldest, 0)
    for at in range(OLDEST, line.lanes.size, LANE_FIELDS):
        line.lanes[at] = max(line.lanes[at] - oldest, 0)
    for s in range(line.steps - oldest):
        line.wait_for[s] = line.wait_for[s + oldest]
    for i in range((line.steps - oldest) * stages):
        line.size[i] = line.size[i + oldest * stages]
        line.depart[i] = line.depart[i + oldest * stages]
        if line.lane.size > 0:
            line.lane[i] = line.lane[i + oldest * stages]
            line.finish[i] = line.finish[i + oldest * stages]
    for visit in range(asked.first.shape[0]):
        gone, at = asked.first[visit, oldest], asked.begin[visit]
        for r in range(at, at + asked.first[visit, line.steps] - gone):
            asked.address[r] = asked.address[r + gone]
            asked.size[r] = asked.size[r + gone]
        for s in range(line.steps - oldest + 1):
            asked.first[visit, s] = asked.first[visit, s + oldest] - gone


@kernel
def _take_in(line: Line, asked: Asked, block: Steps, visits: Visits) -> None:
    """Put the steps of a block behind those at hand."""
    steps, count, stages = line.steps, block.wait_for.size, line.stages
    for s in range(count):
        line.wait_for[steps + s] = block.wait_for[s]
        for j in range(stages):
            line.size[(steps + s) * stages + j] = block.size[s, j]
            line.depart[(steps + s) * stages + j] = block.service[s, j]
            if line.lane.size > 0:
                line.lane[(steps + s) * stages + j] = block.lane[s, j]
    for visit in range(asked.first.shape[0]):
        begin = visits.first[visit, 0]
        behind = asked.first[visit, steps] - begin
        at = asked.begin[visit] + behind
        for r in range(begin, visits.first[visit, count]):
            asked.address[at + r] = visits.address[r]
            asked.size[at + r] = visits.size[r]
        for s in range(1, count + 1):
            asked.first[visit, steps + s] = visits.first[visit, s] + behind


def empty_line(params: TimingParams, visits: int, most: int) -> tuple[Line, Asked]:
    """Return a pipeline before its first step, whose steps may make some visits to the memory; see ``Pipeline``."""
    stages, none = params.latency.size, np.zeros(0, dtype=np.int64)
    left = np.empty(most, dtype=np.int64)
    line = Line(*_lay_out(params), none, none, none, none, none, left, 0, 0, stages, int(params.lanes.max()))
    begin, first = np.zeros(visits + 1, dtype=np.int64), np.zeros((visits, 1), dtype=np.int64)
    return line, Asked(begin, first, none, none)


def put(line: Line, asked: Asked, block: Steps, visits: Visits) -> tuple[Line, Asked]:
    """Return the pipeline with a block of steps behind those at hand; its arrays are used again if they have room."""
    count = block.wait_for.size
    more = visits.first[:, count] - visits.first[:, 0]
    if not _fits(line, asked, count, more):
        oldest = _oldest(line)
        _forget(line, asked, oldest)
        line = line._replace(gone=line.gone + oldest, steps=line.steps - oldest)
        line, asked = _with_room(line, asked, count, more)
    _take_in(line, asked, block, visits)
    return line._replace(steps=line.steps + count), asked


def _fits(line: Line, asked: Asked, count: int, more: Array) -> bool:
    """Return whether there is room for so many steps, and requests at each visit."""
    return (
        line.gone + line.steps + count <= line.left.size
        and line.steps + count <= line.wait_for.size
        and bool((asked.first[:, line.steps] + more <= np.diff(asked.begin)).all())
    )


def _with_room(line: Line, asked: Asked, count: int, more: Array) -> tuple[Line, Asked]:
    """Return the pipeline with room for so many steps, and requests at each visit."""
    steps, there = line.steps + count, asked.first[:, line.steps].copy()
    if line.gone + steps > line.left.size:
        line = line._replace(left=_larger(line.left, _with_spare(line.gone + steps)))
    if steps > line.wait_for.size:
        room = _with_spare(steps)
        each = room * line.stages
        depart = _larger(line.depart, each)
        finish, lane = depart, line.lane
        if line.deepest > 1:
            finish, lane = _larger(line.finish, each), _larger(line.lane, each)
        wait_for, size = _larger(line.wait_for, room), _larger(line.size, each)
        line = line._replace(wait_for=wait_for, size=size, depart=depart, finish=finish, lane=lane)
        asked = asked._replace(first=_larger(asked.first, room + 1))
    room = np.diff(asked.begin)
    if (there + more > room).any():
        begin = np.append(0, np.cumsum(np.maximum(room, _with_spare(there + more))))
        address, size = np.empty((2, begin[-1]), dtype=np.int64)
        for old, new, held in zip(asked.begin, begin, there, strict=False):
            address[new : new + held] = asked.address[old : old + held]
            size[new : new + held] = asked.size[old : old + held]
        asked = asked._replace(begin=begin, address=address, size=size)
    return line, asked


def _with_spare(needed: Any) -> Any:
    """Return a quarter more."""
    return needed + needed // 4


def _larger(array: Array, room: int) -> Array:
    """Return ``array`` with more room along its last axis."""
    larger = np.empty((*array.shape[:-1], room), dtype=array.dtype)
    larger[..., : array.shape[-1]] = array
    return larger
