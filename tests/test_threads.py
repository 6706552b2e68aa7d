"""Threads change how long a run takes and nothing else."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import scipy.sparse as sp

import sparsim as ss
from sparsim.errors import ConfigError
from sparsim.machines import sparch_blocks, sparch_counting, sparch_timing
from sparsim.threads import cores, in_turn, one_ahead, threads, using_threads


def test_answers_come_in_the_order_of_the_questions():
    def late(item):
        time.sleep(0.002 * (item % 3))
        return item * item

    for count in (1, 2, 5):
        with using_threads(count):
            assert list(in_turn(late, range(20))) == [item * item for item in range(20)]


def test_as_many_at_once_as_allowed_and_none_inside_another():
    seen = []

    def look(_):
        seen.append((threading.get_ident(), threads()))
        time.sleep(0.005)

    with using_threads(3):
        list(in_turn(look, range(12)))
    assert {inside for _, inside in seen} == {1}
    assert 1 < len({thread for thread, _ in seen}) <= 3
    assert threads() == 1
    assert cores() >= 1


def test_an_error_in_a_thread_is_raised():
    def fail(item):
        raise ValueError(f"item {item}")

    with using_threads(2), pytest.raises(ValueError, match="item 0"):
        list(in_turn(fail, range(4)))
    with using_threads(2), pytest.raises(ValueError, match="item 0"):
        list(one_ahead(map(fail, range(4))))


def test_one_item_is_made_while_another_is_used():
    made = []

    def make(item):
        made.append((item, threading.get_ident()))
        return item

    for count in (1, 2):
        made.clear()
        with using_threads(count):
            items = one_ahead(map(make, range(1, 5)))
            assert next(items) == 1
            for _ in range(200 * (count - 1)):
                time.sleep(0.005 * (len(made) < count))
            assert [item for item, _ in made] == list(range(1, count + 1))
            assert list(items) == [2, 3, 4]
        assert (made[0][1] == threading.get_ident()) == (count == 1)


@pytest.mark.parametrize("count", [0, -1, 1.5, "2"])
def test_impossible_numbers_of_threads(count):
    with pytest.raises(ConfigError, match=r"--threads: .*; allowed: a whole number, 1 or more"):
        ss.simulate(np.eye(4), threads=count)


@pytest.mark.parametrize("overrides", [{}, {"merge.layers": 2}, {"condense": False}])
def test_reports_do_not_depend_on_threads(monkeypatch, overrides):
    monkeypatch.setattr(sparch_counting, "RUN_ELEMENTS", 100)
    monkeypatch.setattr(sparch_counting, "SHARED_PRODUCTS", 0)
    for module in (sparch_blocks, sparch_timing):
        monkeypatch.setattr(module, "BLOCK", 20)
    rng = np.random.default_rng(1)
    matrix = sp.random_array((300, 300), density=0.03, rng=rng, format="csr")
    one, three = (ss.simulate(matrix, overrides=overrides, threads=count).to_dict() for count in (1, 3))
    assert one == three
