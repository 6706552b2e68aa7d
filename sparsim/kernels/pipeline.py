"""The timing core: steps flow in order through stages joined by finite buffers and a shared memory.

Without the memory this is a tandem queue with finite buffers, the max-plus recurrence
``finish[s, j] = max(finish[s-1, j], finish[s, j-1] + latency, finish[the step that frees the buffer, j+1]) + service``
(Altiok and Perros 1986 for the queue; Baccelli et al. 1992, *Synchronization and Linearity*, for the algebra). A stage
that asks the shared memory instead of a server of its own makes time matter: its requests are merged with those of the
other stages by the time they become ready, ties by the lower stage.

Rules, for step s at stage j (the naive twin in ``tests/reference.py`` says the same as an event simulation):

* steps start a stage in order; a step arrives ``latency`` after all earlier ones and itself left the stage before;
* space behind the stage is reserved at the start and freed when the next stage finishes the step; the buffer in front
  of a stage of several lanes is split, ``capacity`` elements for each lane;
* at most ``window`` elements are between their start and their arrival at the next stage;
* a step may wait for one earlier step to have left the last stage;
* memory: a step asks for all it needs when it starts, and ends with its last request (:mod:`sparsim.kernels.dram`): a
  read with its data on the bus, a write when it is queued. A step without memory work passes in no time.

One iteration is one step at one stage. Not modelled: anything inside a step.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sparsim.kernels._jit import inlined, inner, kernel
from sparsim.kernels.dram import (
    BURST_TICKS,
    INDEX,
    bursts_of,
    channel_counters,
    finish_writes,
    new_memory,
    read_request,
    write_request,
)
from sparsim.kernels.records import DramParams, Timing, TimingParams, Visits

__all__ = ["run_pipeline"]

Array = npt.NDArray[Any]

FIELDS = 16  # of a stage
LATENCY, CAPACITY, WINDOW, MEMORY, NEXT, READY, FLYING, LANDED = range(8)
WINDOW_FREE, BUSY, BLOCKED, WAITS, START, DEPARTED, NEEDS = range(8, 15)
LANE_FIELDS = 4
HELD, OLDEST, ROOM_FREE, FINISHED = range(LANE_FIELDS)  # all but FINISHED are of the buffer in front of the lane
ARRIVAL, ROOM, RESULT, TURN, NOTHING = range(5)  # what a stage's next step waits for; NOTHING: to be looked at
NEVER = 1 << 62
UNKNOWN = -1


class _Line(NamedTuple):
    """The pipeline: what is given of each step, and what is known so far; arrays of one dimension, stage by stage.

    ``depart`` is the service time until a step has left. ``finish`` is the same array where steps cannot overtake one
    another. An empty ``lane`` is one lane.
    """

    stage: Array
    lanes: Array
    size: Array
    lane: Array
    wait_for: Array
    finish: Array
    depart: Array
    stages: int
    deepest: int


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
        stage[j * FIELDS + READY] = NEVER
    return stage, np.zeros(stages * deepest * LANE_FIELDS, dtype=np.int64)


@inlined
def _lane(line: _Line, s: int, j: int) -> int:
    """Return the lane of stage j that serves step s."""
    return line.lane[(s * line.stages + j) & INDEX] if line.lane.size > 0 else 0


@inlined
def _of_lane(line: _Line, s: int, j: int) -> int:
    """Return where the lane is kept that serves step s at stage j."""
    return ((j * line.deepest + _lane(line, s, j)) * LANE_FIELDS) & INDEX


@inlined
def _room(line: _Line, s: int, j: int) -> int:
    """Return when the buffer behind stage j has room for step s, UNKNOWN while that hangs on a step to come."""
    stage, lanes, stages = line.stage, line.lanes, line.stages
    at, to, own = (j * FIELDS) & INDEX, _of_lane(line, s, j + 1), _lane(line, s, j + 1)
    fits = stage[at + CAPACITY] - line.size[(s * stages + j) & INDEX]
    while lanes[to + HELD] > fits:
        first = lanes[to + OLDEST]
        while first < s and _lane(line, first, j + 1) != own:
            first += 1
        if stage[at + FIELDS + NEXT] <= first:
            return UNKNOWN
        freed = (first * stages + j) & INDEX
        left = line.depart[freed + 1] if stage[at + FIELDS + MEMORY] >= 0 else line.finish[freed + 1]
        lanes[to + ROOM_FREE] = max(lanes[to + ROOM_FREE], left)
        lanes[to + HELD] -= line.size[freed]
        lanes[to + OLDEST] = first + 1
    return lanes[to + ROOM_FREE]


@inlined
def _window(line: _Line, s: int, j: int) -> int:
    """Return when the window of stage j has room for step s."""
    stage, at = line.stage, (j * FIELDS) & INDEX
    fits = stage[at + WINDOW] - line.size[(s * line.stages + j) & INDEX]
    while stage[at + FLYING] > fits and stage[at + LANDED] < s:
        landed = (stage[at + LANDED] * line.stages + j) & INDEX
        stage[at + FLYING] -= line.size[landed]
        stage[at + WINDOW_FREE] = max(stage[at + WINDOW_FREE], line.depart[landed] + stage[at + LATENCY])
        stage[at + LANDED] += 1
    return stage[at + WINDOW_FREE]


@inlined
def _ready_time(line: _Line, s: int, j: int) -> int:
    """Return when step s, which has left the stage before j, can start, UNKNOWN while that hangs on a step to come.

    What it hangs on is noted.
    """
    stage, stages, at = line.stage, line.stages, (j * FIELDS) & INDEX
    begin = stage[at + START]
    if j > 0:
        begin = max(begin, line.depart[(s * stages + j - 1) & INDEX] + stage[(at - FIELDS + LATENCY) & INDEX])
    if stage[at + WAITS] and line.wait_for[s & INDEX] >= 0:
        last = ((stages - 1) * FIELDS) & INDEX
        source = line.wait_for[s & INDEX]
        if stage[last + NEXT] <= source:
            stage[at + NEEDS] = RESULT
            return UNKNOWN
        begin = max(begin, line.depart[(source * stages + stages - 1) & INDEX] + stage[last + LATENCY])
    if stage[at + MEMORY] < 0:
        begin = max(begin, line.lanes[_of_lane(line, s, j) + FINISHED])
    unblocked = begin
    if stage[at + CAPACITY] >= 0:
        free = _room(line, s, j)
        if free == UNKNOWN:
            stage[at + NEEDS] = ROOM
            return UNKNOWN
        begin = max(begin, free)
    if stage[at + WINDOW] >= 0:
        begin = max(begin, _window(line, s, j))
    stage[at + BLOCKED] += begin - unblocked
    return begin


@inlined
def _leave(line: _Line, s: int, j: int, start: int, end: int) -> None:
    """Record that step s started stage j at ``start`` and ends at ``end``."""
    stage, at, here = line.stage, (j * FIELDS) & INDEX, (s * line.stages + j) & INDEX
    stage[at + START] = start
    line.finish[here] = end
    line.lanes[_of_lane(line, s, j) + FINISHED] = end
    left = max(end, stage[at + DEPARTED])
    line.depart[here] = left
    stage[at + DEPARTED] = left
    if stage[at + CAPACITY] >= 0:
        line.lanes[_of_lane(line, s, j + 1) + HELD] += line.size[here]
    if stage[at + WINDOW] >= 0:
        stage[at + FLYING] += line.size[here]
    stage[at + NEXT] = s + 1


@inlined
def _look_again(line: _Line, awake: Array, count: int, j: int, wait_stage: int) -> int:
    """Put the stages on the list ``awake`` that may go on when stage j has passed a step; return its length."""
    stage, at = line.stage, (j * FIELDS) & INDEX
    if j > 0 and stage[at - FIELDS + NEEDS] == ROOM:
        stage[at - FIELDS + NEEDS] = NOTHING
        awake[count & INDEX] = j - 1
        count += 1
    if stage[at + NEXT] < (stage[at - FIELDS + NEXT] if j > 0 else line.wait_for.size):
        stage[at + NEEDS] = NOTHING
        awake[count & INDEX] = j
        count += 1
    else:
        stage[at + NEEDS] = ARRIVAL
    if j + 1 < line.stages:
        if stage[at + FIELDS + NEEDS] == ARRIVAL:
            stage[at + FIELDS + NEEDS] = NOTHING
            awake[count & INDEX] = j + 1
            count += 1
    elif wait_stage >= 0 and stage[(wait_stage * FIELDS + NEEDS) & INDEX] == RESULT:
        stage[(wait_stage * FIELDS + NEEDS) & INDEX] = NOTHING
        awake[count & INDEX] = wait_stage
        count += 1
    return count


@inlined
def _soonest(stage: Array, stages: int) -> int:
    """Return the stage whose request of the memory is ready first, the lower one of two; UNKNOWN if there is none."""
    chosen, soonest = UNKNOWN, NEVER
    for j in range(stages):
        ready = stage[((j * FIELDS) & INDEX) + READY]
        chosen = j if ready < soonest else chosen
        soonest = min(ready, soonest)
    return chosen


@inlined
def _ask(visits: Visits, asked: int, stop: int, is_write: bool, now: int, memory: Array) -> tuple[int, int]:
    """Ask the memory for some requests; return when it has answered all, and their bursts."""
    end, bursts = now, np.int64(0)
    for r in range(asked, stop):
        address, size = visits.address[r & INDEX], visits.size[r & INDEX]
        if is_write:
            done = write_request(memory, address, size, now)
        else:
            done = read_request(memory, address, size, now)
        end = max(end, done)
        bursts += bursts_of(memory, size)
    return end, bursts


@inner
def _run(line: _Line, visits: Visits, awake: Array, wait_stage: int, memory: Array) -> bool:
    """Take all steps through all stages; return whether that was possible."""
    stage, stages = line.stage, line.stages
    left = line.wait_for.size * stages
    count = 1 if left > 0 else 0  # the first stage
    while left > 0:
        while count > 0:
            count -= 1
            j = awake[count]
            at = (j * FIELDS) & INDEX
            s = stage[at + NEXT]
            ready = _ready_time(line, s, j)
            if ready == UNKNOWN:
                continue
            end, visit = ready, stage[at + MEMORY]
            if visit < 0:
                service = line.depart[(s * stages + j) & INDEX]
                stage[at + BUSY] += service
                end = ready + service
            elif visits.first[visit & INDEX, (s & INDEX) + 1] > visits.first[visit & INDEX, s & INDEX]:
                stage[at + NEEDS] = TURN
                stage[at + READY] = ready
                continue
            _leave(line, s, j, ready, end)
            left -= 1
            count = _look_again(line, awake, count, j, wait_stage)
        if left == 0:
            break
        j = _soonest(stage, stages)
        if j < 0:
            return False
        at = (j * FIELDS) & INDEX
        s, now, visit = stage[at + NEXT], stage[at + READY], stage[at + MEMORY] & INDEX
        asked, stop = visits.first[visit, s & INDEX], visits.first[visit, (s & INDEX) + 1]
        end, bursts = _ask(visits, asked, stop, visits.is_write[visit], now, memory)
        stage[at + BUSY] += bursts * memory[BURST_TICKS]
        stage[at + READY] = NEVER
        _leave(line, s, j, now, end)
        left -= 1
        count = _look_again(line, awake, count, j, wait_stage)
    return True


@kernel
def run_pipeline(
    service: Array, size: Array, lane: Array, wait_for: Array, visits: Visits, params: TimingParams, dram: DramParams
) -> Timing:
    """Return when everything is done and how long each stage was busy and blocked.

    Parameters
    ----------
    service, size : int64 [steps, stages]; ticks of a server (overwritten), elements put behind the stage.
    lane : int64 [steps, stages], the server that serves; no steps: stages have one lane each.
    wait_for : int64 [steps]; the earlier step to wait for at stage ``params.wait_stage``, -1 for none.
    visits : what each step asks of the memory at each visit.
    """
    steps, stages = service.shape
    stage, lanes = _lay_out(params)
    deepest = lanes.size // (stages * LANE_FIELDS)
    depart = service.reshape(-1)
    finish = depart if deepest == 1 else np.empty(steps * stages, dtype=np.int64)
    line = _Line(stage, lanes, size.reshape(-1), lane.reshape(-1), wait_for, finish, depart, stages, deepest)
    memory = new_memory(dram)
    awake = np.zeros(stages, dtype=np.int64)
    if not _run(line, visits, awake, params.wait_stage, memory):
        raise ValueError("a pipeline step is larger than a buffer it has to pass")
    total = finish_writes(memory)
    for j in range(stages):
        total = max(total, stage[j * FIELDS + DEPARTED])
    of_stages = stage.reshape((stages, FIELDS))
    return Timing(total, of_stages[:, BUSY].copy(), of_stages[:, BLOCKED].copy(), channel_counters(memory))
