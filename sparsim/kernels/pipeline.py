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

from sparsim.kernels._jit import kernel
from sparsim.kernels.dram import finish_writes, new_channels, read_request, write_request
from sparsim.kernels.records import DramParams, Timing, TimingParams, Visits

__all__ = ["run_pipeline"]

Array = npt.NDArray[Any]


class _State(NamedTuple):
    """Where every step is: [steps, stages, STEP_FIELDS], [stages, STAGE_FIELDS], [stages, lanes, POOL_FIELDS]."""

    step: Array
    stage: Array
    pool: Array


STEP_FIELDS = 8
SERVICE, SIZE, LANE, START, FINISH, DEPART, BEFORE, AFTER = range(STEP_FIELDS)
STAGE_FIELDS = 12
(LATENCY, CAPACITY, WINDOW, MEMORY, NEXT, READY, FLYING, LANDED, WINDOW_FREE, BUSY, BLOCKED, WAITS) = range(
    STAGE_FIELDS
)
POOL_FIELDS = 3
HELD, OLDEST, ROOM_FREE = range(POOL_FIELDS)


@kernel
def _lay_out(service: Array, size: Array, lane: Array, visits: Visits, params: TimingParams) -> _State:
    """Return the state before the first step: lanes linked by step order, everything else empty.

    A memory stage's service is 1 if the step has requests, else 0.
    """
    steps, stages = lane.shape
    deepest = 1
    for j in range(stages):
        deepest = max(deepest, params.lanes[j])
    step = np.zeros((steps, stages, STEP_FIELDS), dtype=np.int64)
    stage = np.zeros((stages, STAGE_FIELDS), dtype=np.int64)
    pool = np.zeros((stages, deepest, POOL_FIELDS), dtype=np.int64)
    for j in range(stages):
        stage[j, LATENCY] = params.latency[j]
        stage[j, CAPACITY] = params.capacity[j]
        stage[j, WINDOW] = params.window[j]
        stage[j, MEMORY] = params.memory[j]
        stage[j, READY] = -1
        stage[j, WAITS] = j == params.wait_stage
        newest = np.full(deepest, -1, dtype=np.int64)
        pool[j, :, OLDEST] = -1
        for s in range(steps):
            own = lane[s, j]
            last = newest[own]
            step[s, j, SERVICE] = service[s, j]
            step[s, j, SIZE] = size[s, j]
            step[s, j, LANE] = own
            step[s, j, BEFORE] = last
            step[s, j, AFTER] = -1
            if last >= 0:
                step[last, j, AFTER] = s
            else:
                pool[j, own, OLDEST] = s
            newest[own] = s
            if params.memory[j] >= 0:
                visit = params.memory[j]
                step[s, j, SERVICE] = visits.first[visit, s + 1] > visits.first[visit, s]
    return _State(step, stage, pool)


@kernel
def _ready_time(step: Array, stage: Array, pool: Array, wait_for: Array, j: int) -> int:
    """Return when the next step of stage j can start, -1 while that hangs on something still unknown."""
    s = stage[j, NEXT]
    last = stage.shape[0] - 1
    if j > 0 and stage[j - 1, NEXT] <= s:
        return -1
    begin = step[s, j - 1, DEPART] + stage[j - 1, LATENCY] if j > 0 else np.int64(0)
    if s > 0:
        begin = max(begin, step[s - 1, j, START])
    if stage[j, WAITS] and wait_for[s] >= 0:
        if stage[last, NEXT] <= wait_for[s]:
            return -1
        begin = max(begin, step[wait_for[s], last, DEPART] + stage[last, LATENCY])
    if stage[j, MEMORY] < 0 and step[s, j, BEFORE] >= 0:
        begin = max(begin, step[step[s, j, BEFORE], j, FINISH])
    unblocked = begin
    size = step[s, j, SIZE]
    if j < last and stage[j, CAPACITY] >= 0:
        to = step[s, j + 1, LANE]
        while pool[j, to, HELD] + size > stage[j, CAPACITY]:
            first = pool[j + 1, to, OLDEST]
            if stage[j + 1, NEXT] <= first:
                return -1
            freed = step[first, j + 1, DEPART if stage[j + 1, MEMORY] >= 0 else FINISH]
            pool[j, to, HELD] -= step[first, j, SIZE]
            pool[j, to, ROOM_FREE] = max(pool[j, to, ROOM_FREE], freed)
            pool[j + 1, to, OLDEST] = step[first, j + 1, AFTER]
        begin = max(begin, pool[j, to, ROOM_FREE])
    if stage[j, WINDOW] >= 0:
        while stage[j, FLYING] + size > stage[j, WINDOW]:
            first = stage[j, LANDED]
            stage[j, FLYING] -= step[first, j, SIZE]
            stage[j, WINDOW_FREE] = max(stage[j, WINDOW_FREE], step[first, j, DEPART] + stage[j, LATENCY])
            stage[j, LANDED] += 1
        begin = max(begin, stage[j, WINDOW_FREE])
    stage[j, BLOCKED] += begin - unblocked
    return begin


@kernel
def _leave(step: Array, stage: Array, pool: Array, j: int, end: int) -> None:
    """Record that the next step of stage j started when ready and ends at ``end``."""
    s = stage[j, NEXT]
    step[s, j, START] = stage[j, READY]
    step[s, j, FINISH] = end
    step[s, j, DEPART] = max(end, step[s - 1, j, DEPART]) if s > 0 else end
    if j + 1 < stage.shape[0]:
        pool[j, step[s, j + 1, LANE], HELD] += step[s, j, SIZE]
    stage[j, FLYING] += step[s, j, SIZE]
    stage[j, READY] = -1
    stage[j, NEXT] = s + 1


@kernel
def _advance(step: Array, stage: Array, pool: Array, wait_for: Array, j: int) -> int:
    """Pass as many steps through stage j as need no memory and are not held up; return how many."""
    passed = 0
    while stage[j, NEXT] < step.shape[0]:
        if stage[j, READY] < 0:
            stage[j, READY] = _ready_time(step, stage, pool, wait_for, j)
            if stage[j, READY] < 0:
                break
        service = step[stage[j, NEXT], j, SERVICE]
        if stage[j, MEMORY] >= 0:
            if service > 0:
                break
        else:
            stage[j, BUSY] += service
        _leave(step, stage, pool, j, stage[j, READY] + service)
        passed += 1
    return passed


@kernel
def run_pipeline(
    service: Array, size: Array, lane: Array, wait_for: Array, visits: Visits, params: TimingParams, dram: DramParams
) -> Timing:
    """Return when everything is done and how long each stage was busy and blocked.

    Parameters
    ----------
    service, size, lane : int64 [steps, stages]; ticks of a server, elements put behind the stage, server that serves.
    wait_for : int64 [steps]; the earlier step to wait for at stage ``params.wait_stage``, -1 for none.
    visits : what each step asks of the memory at each visit.
    """
    steps, stages = service.shape
    step, stage, pool = _lay_out(service, size, lane, visits, params)
    first, address, length, is_write = visits
    channel, bank, acts, slots, writes = new_channels(dram)
    left = steps * stages
    while left > 0:
        passed = 0
        for j in range(stages):
            if stage[j, READY] < 0 and stage[j, NEXT] < (stage[j - 1, NEXT] if j > 0 else steps):
                passed += _advance(step, stage, pool, wait_for, j)
        left -= passed
        if passed > 0:
            continue
        chosen = -1
        for j in range(stages):
            waiting = stage[j, MEMORY] >= 0 and stage[j, READY] >= 0
            if waiting and (chosen < 0 or stage[j, READY] < stage[chosen, READY]):
                chosen = j
        if chosen < 0:
            raise ValueError("a pipeline step is larger than a buffer it has to pass")
        visit, now = stage[chosen, MEMORY], stage[chosen, READY]
        end = now
        for r in range(first[visit, stage[chosen, NEXT]], first[visit, stage[chosen, NEXT] + 1]):
            if is_write[visit]:
                done = write_request(channel, bank, acts, slots, writes, address[r], length[r], now, dram)
            else:
                done = read_request(channel, bank, acts, slots, writes, address[r], length[r], now, dram)
            end = max(end, done)
            stage[chosen, BUSY] += length[r] // dram.burst * dram.burst_ticks
        _leave(step, stage, pool, chosen, end)
        left -= 1
    total = finish_writes(channel, bank, acts, slots, writes, dram)
    for j in range(stages):
        if steps > 0:
            total = max(total, step[steps - 1, j, DEPART])
    return Timing(total, stage[:, BUSY].copy(), stage[:, BLOCKED].copy(), channel)
