"""What was counted of a workload serves every run that differs in buffers, widths and bandwidth, and no other."""

from __future__ import annotations

import gc
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import scipy.sparse as sp

import sparsim as ss
from sparsim.machines import remembered, sparch
from sparsim.machines.remembered import Remembered
from sparsim.simulate import product


@pytest.fixture
def counting(monkeypatch):
    """How often rounds have been counted since."""
    calls = []
    inside = sparch.count_rounds

    def count(*arguments):
        calls.append(arguments)
        return inside(*arguments)

    monkeypatch.setattr(sparch, "count_rounds", count)
    return calls


def workload():
    rng = np.random.default_rng(2)
    return product(sp.random_array((150, 150), density=0.05, rng=rng, format="csr"))


CHEAP = [
    {"prefetch.lines": 64},
    {"prefetch.lines": 64, "prefetch.run_ahead": 4},
    {"prefetch.lines": 64, "prefetch.run_ahead": 4, "prefetch.look_ahead": 2},
    {"prefetch.policy": "lru"},
    {"dram.channels": 4},
    {"merge.width": 4},
    {"merge.fifo_elements": 2},
    {"writer.fifo_elements": 64},
    {"look_ahead_fifo.elements": 64},
    {"multipliers.groups": 1},
    {"schedule.round_barrier": True},
]
DEAR = [
    {"merge.layers": 2},
    {"condense": False},
    {"schedule.order": "random"},
    {"schedule.order": "random", "schedule.seed": 1},
    {"schedule.weights": "estimate", "merge.layers": 2},
    {"merge.pipelined": False},
    {"multipliers.group_width": 4},
    {"element.index_bytes": 8},
    {"dram.burst_bytes": 32},
    {"mapping.orientation": "xtwt"},
    {"mapping.panel_columns": 40},
]


def test_cheap_fields_are_not_counted_again_and_cost_the_same(counting):
    same = workload()
    reports = [ss.simulate(same, overrides=fields).to_dict() for fields in [{}, *CHEAP]]
    assert len(counting) == 1
    fresh = [ss.simulate(workload(), overrides=fields).to_dict() for fields in [{}, *CHEAP]]
    assert len(counting) == 1 + len(fresh)
    assert reports == fresh


def test_fields_that_change_the_rounds_are_counted_anew(counting):
    same = workload()
    reports = [ss.simulate(same, overrides=fields).to_dict() for fields in [{}, *DEAR]]
    assert len(counting) >= len(reports)
    assert reports == [ss.simulate(workload(), overrides=fields).to_dict() for fields in [{}, *DEAR]]


def test_threads_at_several_workloads_do_not_take_each_other_s():
    """Equal keys of different workloads, and different keys of one, all at the same time."""
    rng = np.random.default_rng(3)
    several = [product(sp.random_array((n, n), density=0.1, rng=rng, format="csr")) for n in (20, 30, 40, 50)]
    changes = ({}, {"prefetch.lines": 4}, {"merge.layers": 2})
    jobs = [(one, fields) for _ in range(6) for one in several for fields in changes]

    def run(job):
        return ss.simulate(job[0], overrides=job[1]).to_dict()

    alone = [run((product(one.a.csr), fields)) for one, fields in jobs]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(run, jobs))
    finally:
        sys.setswitchinterval(before)
    assert together == alone


class Sized:
    def __init__(self, nbytes):
        self.nbytes = nbytes


def test_only_one_workload_is_kept_while_it_lives():
    kept = Remembered()
    first, second = workload(), workload()
    made, other = [Sized(1)], [Sized(1), Sized(1)]
    assert list(kept.parts(first, "key", iter(made))) == made
    assert list(kept.parts(first, "other", iter(other))) == other
    assert list(kept.parts(first, "key", iter([]))) == made
    assert list(kept.parts(first, "other", iter([]))) == other
    assert list(kept.parts(second, "key", iter(other))) == other
    assert list(kept.parts(first, "key", iter([]))) == []
    del first
    gc.collect()
    assert kept._current[0]() is None


def test_no_more_than_the_limit_is_kept_and_nothing_half_done(monkeypatch):
    monkeypatch.setattr(remembered, "KEPT_BYTES", 10)
    kept, one = Remembered(), workload()
    parts = [Sized(6), Sized(6)]
    assert list(kept.parts(one, "large", iter(parts))) == parts
    assert list(kept.parts(one, "large", iter([]))) == []
    list(kept.parts(one, "old", iter([Sized(6)])))
    new = [Sized(5)]
    list(kept.parts(one, "new", iter(new)))
    assert list(kept.parts(one, "new", iter([]))) == new
    assert list(kept.parts(one, "old", iter([]))) == []
    unfinished = kept.parts(one, "half", iter([Sized(1), Sized(1)]))
    next(unfinished)
    unfinished.close()
    assert list(kept.parts(one, "half", iter([]))) == []
