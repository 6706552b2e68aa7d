"""The timing core against the event simulation, with the naive memory behind it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import drams, pipelines

from sparsim.kernels.dram import ACTIVATIONS, SEEN
from sparsim.kernels.pipeline import Pipeline
from sparsim.kernels.records import DramParams, Steps, TimingParams, Visits

# a memory that is nothing but channels: no rows to open, nothing queued, no turns
PLAIN = DramParams(**dict.fromkeys(DramParams._fields, 0))._replace(
    **{"channels": 2, "interleave": 4, "burst": 4, "row": 1 << 20, "banks": 1, "groups": 1, "burst_ticks": 3},
    **{"queue": 64, "high": 1},
)


def run_fast(case, dram=PLAIN, cuts=()):
    """Run a drawn pipeline, its steps cut into blocks; its requests, (burst, bursts), are asked of ``dram``."""
    steps, stages = len(case["service"]), len(case["latency"])
    kinds = [(j, kind) for j, kind in enumerate(case["memory"]) if kind]
    memory = np.full(stages, -1, dtype=np.int64)
    for visit, (j, _) in enumerate(kinds):
        memory[j] = visit
    line = lambda name: np.array(case[name], dtype=np.int64)  # noqa: E731
    params = TimingParams(*map(line, ("latency", "capacity", "window", "lanes")), memory, case["wait_stage"])
    is_write = np.array([kind == "write" for _, kind in kinds] or [False], dtype=np.bool_)
    pipeline = Pipeline(params, dram, is_write)
    for begin, stop in pairwise([0, *sorted(cuts), steps]):
        first = np.zeros((is_write.size, stop - begin + 1), dtype=np.int64)
        asked = []
        for visit, (j, _) in enumerate(kinds):
            for s in range(begin, stop):
                first[visit, s - begin] = len(asked)
                asked += case["asks"][s][j]
            first[visit, stop - begin] = len(asked)
        requests = np.array(asked, dtype=np.int64).reshape(-1, 2) * dram.burst
        grid = lambda name: np.array(case[name][begin:stop], dtype=np.int64).reshape(-1, stages)  # noqa: B023, E731
        block = Steps(grid("service"), grid("size"), grid("lane"), line("wait_for")[begin:stop])
        pipeline.feed(block, Visits(first, requests[:, 0].copy(), requests[:, 1].copy()))
        assert pipeline._line.left.size >= stop  # room for when each step left
    return pipeline.finish()


def run_slow(case, dram):
    """The same by events; ``dram`` is the naive memory."""
    serve = {None: None, "read": dram.read, "write": dram.write}
    size = dram.p.burst
    asks = [[[(at * size, bursts * size) for at, bursts in asked] for asked in row] for row in case["asks"]]
    return reference.pipeline(**case | {"memory": [serve[kind] for kind in case["memory"]], "asks": asks})


@settings(max_examples=400, deadline=None)
@given(pipelines(), drams(), st.data())
def test_equals_the_event_simulation(case, fields, data):
    """However the steps are cut into blocks."""
    params = DramParams(**fields)
    dram = reference.Dram(params)
    expected = run_slow(case, dram)
    steps = len(case["service"])
    some = st.lists(st.integers(0, steps), max_size=4)
    timing = run_fast(case, params, data.draw(st.one_of(some, st.just(range(1, steps)))))
    assert timing.total == max(expected.total, dram.finish())
    assert list(timing.channels[:, SEEN]) == [channel.done for channel in dram.channels]
    assert list(timing.channels[:, ACTIVATIONS]) == [len(channel.activations) for channel in dram.channels]
    for j, kind in enumerate(case["memory"]):
        if kind:
            bursts = sum(count for row in case["asks"] for _, count in row[j])
            assert timing.busy[j] == bursts * params.burst_ticks
        else:
            assert timing.busy[j] == sum(row[j] for row in case["service"])


@settings(max_examples=150, deadline=None)
@given(pipelines())
def test_memory_without_banks_is_plain_channels(case):
    """Reads wait for the data, so with nothing to open a channel serves one request after the other."""
    case["memory"] = [kind and "read" for kind in case["memory"]]
    channels = reference.PlainChannels(PLAIN.channels)

    def serve(request, now):
        first, bursts = request
        return max(channels.serve((at % PLAIN.channels, PLAIN.burst_ticks), now) for at in range(first, first + bursts))

    expected = reference.pipeline(**case | {"memory": [serve if kind else None for kind in case["memory"]]})
    assert run_fast(case).total == expected.total


def tandem(steps, service, capacity, memory=None, asks=None):
    stages = len(service)
    return {
        "service": [list(service)] * steps,
        "size": [[256] * stages] * steps,
        "lane": [[0] * stages] * steps,
        "wait_for": [-1] * steps,
        "wait_stage": 0,
        "latency": [0] * stages,
        "capacity": [capacity] * (stages - 1) + [-1],
        "window": [-1] * stages,
        "lanes": [1] * stages,
        "memory": memory or [None] * stages,
        "asks": [asks or [[]] * stages] * steps,
    }


def test_a_row_of_a_hundred_thousand_elements_costs_its_slowest_stage():
    steps, service = 100_000 // 256, (16, 32, 8)
    timing = run_fast(tandem(steps, service, capacity=512))
    assert timing.total == steps * max(service) + 16 + 8


def test_blocked_time_belongs_to_the_stage_before_the_slow_one():
    timing = run_fast(tandem(100, (1, 10), capacity=256))
    assert timing.blocked[0] > 80 * 9
    assert timing.blocked[1] == 0


def test_writes_leave_when_they_are_queued_and_count_until_they_are_written():
    # each step multiplies for 1 tick and writes 2 bursts, one on each channel
    case = tandem(10, (1, 0), 256, memory=[None, "write"], asks=[[], [(0, 2)]])
    posted = run_fast(case)
    assert posted.total == 1 + 10 * 3
    assert posted.busy[1] == 10 * 2 * 3
    assert posted.blocked[0] == 0


def test_a_step_larger_than_its_buffer_is_refused():
    with pytest.raises(ValueError, match="larger than a buffer"):
        run_fast(tandem(1, (1, 1), capacity=255))


@pytest.mark.parametrize("fills", [lambda at: at % 2, lambda at: at == 0], ids=["in turns", "at first"])
def test_steps_that_have_left_are_forgotten(fills):
    """Room is taken for what is under way, however many steps go through, a full buffer and empty steps included."""
    params = TimingParams(*np.array([[0, 0], [64, -1], [-1, -1], [1, 1], [-1, -1]]), -1)
    pipeline = Pipeline(params, PLAIN, np.array([False]))
    none, nothing = np.zeros(0, dtype=np.int64), np.zeros((1, 101), dtype=np.int64)
    for at in range(50):
        service, size = np.ones((2, 100, 2), dtype=np.int64)
        size[:] = fills(at)
        block = Steps(service, size, np.zeros((0, 2), dtype=np.int64), np.full(100, -1, dtype=np.int64))
        pipeline.feed(block, Visits(nothing, none, none))
    assert pipeline.finish().total == 50 * 100 + 1
    assert pipeline._line.wait_for.size <= 1000
