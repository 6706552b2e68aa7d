"""Schedules: exact end points, the formulas of the papers between them, and what is refused."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsim.errors import ConfigError
from sparsim.pruning.schedule import Schedule, gradual_cubic, iterative, one_shot

sparsities = st.floats(0, 1, exclude_max=True, allow_subnormal=False)


def test_one_shot_prunes_once():
    schedule = one_shot(0.9, at=3)
    assert [schedule.sparsity(t) for t in range(6)] == [0, 0, 0, 0.9, 0.9, 0.9]
    assert [schedule.changes(t) for t in range(6)] == [False, False, False, True, False, False]
    assert (schedule.last, schedule.final) == (3, 0.9)
    assert one_shot(0.5).changes(0)


def test_iterative_halves_what_is_left_three_times():
    schedule = iterative(0.875, rounds=3, every=10, start=5)
    assert [step for step, _ in schedule.updates] == [5, 15, 25]
    assert [sparsity for _, sparsity in schedule.updates] == pytest.approx([0.5, 0.75, 0.875], abs=1e-15)
    assert schedule.sparsity(4) == 0
    assert schedule.sparsity(24) == pytest.approx(0.75)


@given(st.floats(0, 0.999), st.integers(1, 30), st.integers(1, 50), st.integers(0, 50))
def test_iterative_ends_exactly_and_cuts_the_same_share_each_time(sparsity, rounds, every, start):
    schedule = iterative(sparsity, rounds, every, start)
    assert schedule.final == schedule.sparsity(schedule.last) == schedule.sparsity(10**9) == sparsity
    assert schedule.last == start + (rounds - 1) * every
    densities = [1.0, *(1 - value for _, value in schedule.updates)]
    for before, after in pairwise(densities):
        assert after / before == pytest.approx((1 - sparsity) ** (1 / rounds), rel=1e-6)


def test_the_cubic_follows_equation_one_of_zhu_and_gupta():
    schedule = gradual_cubic(0.1, 0.9, begin=4, end=12, every=2)
    assert [step for step, _ in schedule.updates] == [4, 6, 8, 10, 12]
    for step, sparsity in schedule.updates:
        assert sparsity == pytest.approx(0.9 + (0.1 - 0.9) * (1 - (step - 4) / (4 * 2)) ** 3)
    assert (schedule.sparsity(3), schedule.sparsity(4), schedule.sparsity(5), schedule.sparsity(12)) == (
        0,
        0.1,
        0.1,
        0.9,
    )


@given(st.tuples(sparsities, sparsities).map(sorted), st.integers(0, 20), st.integers(1, 20), st.integers(1, 9))
def test_the_cubic_starts_and_ends_exactly_and_never_falls(ends, begin, count, every):
    schedule = gradual_cubic(*ends, begin=begin, end=begin + count * every, every=every)
    assert schedule.sparsity(begin) == ends[0]
    assert schedule.sparsity(begin + count * every) == schedule.final == ends[1]
    values = [schedule.sparsity(t) for t in range(begin, begin + count * every + 3)]
    assert values == sorted(values)
    assert sum(schedule.changes(t) for t in range(begin + count * every + 3)) == count + 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: one_shot(1.0), "sparsity: 1.0; allowed: 0 <= sparsity < 1"),
        (lambda: one_shot(float("nan")), "sparsity: nan"),
        (lambda: one_shot(0.5, at=-1), "step: -1; allowed: a whole number, 0 or more"),
        (lambda: iterative(0.5, 0, 1), "rounds: 0; allowed: a whole number, 1 or more"),
        (lambda: iterative(0.5, 2, 0), "every: 0"),
        (lambda: iterative(-0.1, 2, 1), "sparsity: -0.1"),
        (lambda: gradual_cubic(0.5, 0.2, 0, 10, 1), "final: 0.2 after an initial 0.5"),
        (lambda: gradual_cubic(0, 0.9, 10, 10, 1), "end: 10; allowed: a whole number, 11 or more"),
        (lambda: gradual_cubic(0, 0.9, 0, 10, 3), "every: 3 does not divide 10 - 0"),
        (lambda: Schedule(()), "a schedule without steps"),
        (lambda: Schedule(((3, 0.5), (3, 0.6))), "ascending steps"),
        (lambda: Schedule(((3, 0.5), (4, 0.4))), "a removed weight stays removed"),
    ],
)
def test_what_is_refused_says_what_is_allowed(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
