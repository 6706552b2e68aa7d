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

Steps come in blocks and are forgotten when they have left. What a stage does may hang on steps to come, so a block goes
on only until the first stage has passed its last step.
"""

from __future__ import annotations

from typing import Any

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
from sparsim.kernels.line import (
    ARRIVAL,
    BLOCKED,
    BUSY,
    CAPACITY,
    DEPARTED,
    FIELDS,
    FINISHED,
    FLYING,
    HELD,
    LANDED,
    LATENCY,
    MEMORY,
    NEEDS,
    NEVER,
    NEXT,
    NOTHING,
    OLDEST,
    READY,
    RESULT,
    ROOM,
    ROOM_FREE,
    START,
    TURN,
    UNKNOWN,
    WAITS,
    WINDOW,
    WINDOW_FREE,
    Asked,
    Line,
    empty_line,
    lane_of,
    put,
    record_of_lane,
)
from sparsim.kernels.records import DramParams, Steps, Timing, TimingParams, Visits

__all__ = ["Pipeline"]

Array = npt.NDArray[Any]


@inlined
def _room(line: Line, s: int, j: int) -> int:
    """Return when the buffer behind stage j has room for step s, UNKNOWN while that hangs on a step to come."""
    stage, lanes, stages = line.stage, line.lanes, line.stages
    at, to, own = (j * FIELDS) & INDEX, record_of_lane(line, s, j + 1), lane_of(line, s, j + 1)
    fits = stage[at + CAPACITY] - line.size[(s * stages + j) & INDEX]
    while lanes[to + HELD] > fits:
        first = lanes[to + OLDEST]
        while first < s and lane_of(line, first, j + 1) != own:
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
def _window(line: Line, s: int, j: int) -> int:
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
def _ready_time(line: Line, s: int, j: int) -> int:
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
        if stage[last + NEXT] + line.gone <= source:
            stage[at + NEEDS] = RESULT
            return UNKNOWN
        begin = max(begin, line.left[source & INDEX] + stage[last + LATENCY])
    if stage[at + MEMORY] < 0:
        begin = max(begin, line.lanes[record_of_lane(line, s, j) + FINISHED])
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
def _leave(line: Line, s: int, j: int, start: int, end: int) -> None:
    """Record that step s started stage j at ``start`` and ends at ``end``."""
    stage, at, here = line.stage, (j * FIELDS) & INDEX, (s * line.stages + j) & INDEX
    stage[at + START] = start
    line.finish[here] = end
    line.lanes[record_of_lane(line, s, j) + FINISHED] = end
    left = max(end, stage[at + DEPARTED])
    line.depart[here] = left
    stage[at + DEPARTED] = left
    if stage[at + CAPACITY] >= 0:
        line.lanes[record_of_lane(line, s, j + 1) + HELD] += line.size[here]
    if stage[at + WINDOW] >= 0:
        stage[at + FLYING] += line.size[here]
    if j + 1 == line.stages:
        line.left[(line.gone + s) & INDEX] = left
    stage[at + NEXT] = s + 1


@inlined
def _look_again(line: Line, awake: Array, count: int, j: int, wait_stage: int) -> int:
    """Put the stages on the list ``awake`` that may go on when stage j has passed a step; return its length."""
    stage, at = line.stage, (j * FIELDS) & INDEX
    if j > 0 and stage[at - FIELDS + NEEDS] == ROOM:
        stage[at - FIELDS + NEEDS] = NOTHING
        awake[count & INDEX] = j - 1
        count += 1
    if stage[at + NEXT] < (stage[at - FIELDS + NEXT] if j > 0 else line.steps):
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
def _ask(asked: Asked, visit: int, s: int, is_write: bool, now: int, memory: Array) -> tuple[int, int]:
    """Ask the memory for what step s needs at a visit; return when it has answered all, and the bursts."""
    end, bursts = now, np.int64(0)
    begin = asked.begin[visit]
    for r in range(begin + asked.first[visit, s & INDEX], begin + asked.first[visit, (s & INDEX) + 1]):
        address, size = asked.address[r & INDEX], asked.size[r & INDEX]
        if is_write:
            done = write_request(memory, address, size, now)
        else:
            done = read_request(memory, address, size, now)
        end = max(end, done)
        bursts += bursts_of(memory, size)
    return end, bursts


@inner
def _run(line: Line, asked: Asked, is_write: Array, awake: Array, wait_stage: int, memory: Array, more: bool) -> None:
    """Take the steps at hand through the stages, if there are ``more`` only until the first stage has passed them."""
    stage, stages = line.stage, line.stages
    count = 1 if stage[NEXT] < line.steps and stage[NEEDS] == ARRIVAL else 0  # the first stage
    while True:
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
            elif asked.first[visit & INDEX, (s & INDEX) + 1] > asked.first[visit & INDEX, s & INDEX]:
                stage[at + NEEDS] = TURN
                stage[at + READY] = ready
                continue
            _leave(line, s, j, ready, end)
            count = _look_again(line, awake, count, j, wait_stage)
        j = _soonest(stage, stages)
        if j < 0 or (more and stage[NEXT] == line.steps):
            return
        at = (j * FIELDS) & INDEX
        s, now, visit = stage[at + NEXT], stage[at + READY], stage[at + MEMORY] & INDEX
        end, bursts = _ask(asked, visit, s, is_write[visit], now, memory)
        stage[at + BUSY] += bursts * memory[BURST_TICKS]
        stage[at + READY] = NEVER
        _leave(line, s, j, now, end)
        count = _look_again(line, awake, count, j, wait_stage)


@kernel
def _go_on(line: Line, asked: Asked, is_write: Array, wait_stage: int, memory: Array, more: bool) -> None:
    """Do what ``_run`` does, with room for its list."""
    _run(line, asked, is_write, np.zeros(line.stages, dtype=np.int64), wait_stage, memory, more)


class Pipeline:
    """A pipeline that steps are fed to.

    Parameters
    ----------
    is_write : for each visit that a step may make to the memory, whether it writes; bool [visits].
    most : steps there will be at most, as far as is known.
    """

    def __init__(self, params: TimingParams, dram: DramParams, is_write: Array, most: int = 0) -> None:
        self._line, self._asked = empty_line(params, is_write.size, most)
        self._is_write, self._wait_stage, self._memory = is_write, params.wait_stage, new_memory(dram)

    def feed(self, block: Steps, visits: Visits) -> None:
        """Take in some steps, and go on until the first stage has passed them all."""
        self._line, self._asked = put(self._line, self._asked, block, visits)
        _go_on(self._line, self._asked, self._is_write, self._wait_stage, self._memory, True)

    def finish(self) -> Timing:
        """Take all steps to the end; return when everything is done, and how long stages were busy and blocked.

        Raises
        ------
        ValueError
            If a step is larger than a buffer it has to pass.
        """
        _go_on(self._line, self._asked, self._is_write, self._wait_stage, self._memory, False)
        of_stages = self._line.stage.reshape(-1, FIELDS)
        if of_stages[-1, NEXT] < self._line.steps:
            raise ValueError("a pipeline step is larger than a buffer it has to pass")
        total = max(int(finish_writes(self._memory)), int(of_stages[:, DEPARTED].max()))
        return Timing(total, of_stages[:, BUSY].copy(), of_stages[:, BLOCKED].copy(), channel_counters(self._memory))
