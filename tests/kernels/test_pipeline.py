import numpy as np
import reference
from hypothesis import given, settings
from strategies import pipelines

from sparsim.kernels.pipeline import run_pipeline
from sparsim.kernels.records import TimingParams


def run_fast(case):
    steps, stages = len(case["service"]), len(case["latency"])
    channels = len(case["memory_work"][0][0]) if steps else 1
    visits = [j for j in range(stages) if case["memory"][j]]
    ticks = np.zeros((max(len(visits), 1), steps, channels), dtype=np.int32)
    for v, j in enumerate(visits):
        for s in range(steps):
            ticks[v, s] = case["memory_work"][s][j]
    grid = lambda name: np.array(case[name], dtype=np.int64).reshape(steps, stages)  # noqa: E731
    line = lambda name: np.array(case[name], dtype=np.int64)  # noqa: E731
    memory = np.array([visits.index(j) if case["memory"][j] else -1 for j in range(stages)], dtype=np.int64)
    limits = (line("latency"), line("capacity"), line("window"), line("lanes"))
    params = TimingParams(*limits, memory, case["wait_stage"], 1, 1)
    return run_pipeline(grid("service"), grid("size"), grid("lane"), line("wait_for"), ticks, params)


@settings(max_examples=400, deadline=None)
@given(pipelines())
def test_equals_the_event_simulation(case):
    expected = reference.pipeline(**case)
    timing = run_fast(case)
    assert timing.total == expected.total
    for j, is_memory in enumerate(case["memory"]):
        if not is_memory:
            assert timing.busy[j] == sum(row[j] for row in case["service"])


def tandem(steps, service, capacity):
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
        "memory": [False] * stages,
        "memory_work": [[[0]] * stages] * steps,
    }


def test_a_row_of_a_hundred_thousand_elements_costs_its_slowest_stage():
    steps, service = 100_000 // 256, (16, 32, 8)
    timing = run_fast(tandem(steps, service, capacity=512))
    assert timing.total == steps * max(service) + 16 + 8


def test_blocked_time_belongs_to_the_stage_before_the_slow_one():
    timing = run_fast(tandem(100, (1, 10), capacity=256))
    assert timing.blocked[0] > 80 * 9
    assert timing.blocked[1] == 0
