"""The multiple-choice knapsack against every choice there is."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsim.search.knapsack import least_factor, solve
from sparsim.search.options import Choice, Option, undominated

MEASURES = ("energy", "latency", "bytes")
NUMBERS = st.integers(0, 12)


def option(loss, *costs):
    return Option(
        Choice("unstructured", 0.5), loss / 4, dict(zip(MEASURES, (cost / 16 for cost in costs), strict=True))
    )


OPTION = st.builds(option, NUMBERS, NUMBERS, NUMBERS, NUMBERS)
LAYERS = st.lists(st.lists(OPTION, min_size=1, max_size=5), min_size=1, max_size=4)
BUDGET = st.dictionaries(st.sampled_from(MEASURES), st.integers(1, 48).map(lambda n: n / 16), min_size=1)


def named(layers):
    return {f"layer{number}": mine for number, mine in enumerate(layers)}


def added(chosen, measure):
    return sum(each.costs[measure] for each in chosen)


@settings(max_examples=150, deadline=None)
@given(LAYERS, BUDGET)
def test_no_choice_within_the_budgets_loses_less(layers, budget):
    within = [
        chosen for chosen in product(*layers) if all(added(chosen, name) <= share for name, share in budget.items())
    ]
    found = solve(named(layers), budget)
    assert (found is None) == (not within)
    if found is not None:
        assert tuple(found) == tuple(named(layers))
        assert all(one in mine for one, mine in zip(found.values(), layers, strict=True))
        assert all(added(found.values(), name) <= share for name, share in budget.items())
        assert sum(one.loss for one in found.values()) == min(sum(one.loss for one in chosen) for chosen in within)


@settings(max_examples=100, deadline=None)
@given(LAYERS, BUDGET)
def test_the_least_factor_is_that_of_the_nearest_choice(layers, budget):
    nearest = min(max(added(chosen, name) / share for name, share in budget.items()) for chosen in product(*layers))
    assert least_factor(named(layers), budget) == pytest.approx(nearest, abs=1e-6)


def test_a_choice_over_the_budget_by_less_than_the_solvers_tolerance_is_not_taken():
    options = {"a": [option(0, 8, 0, 0), option(4, 4, 0, 0)], "b": [option(0, 8, 0, 0), option(3, 7, 0, 0)]}
    found = solve(options, {"energy": 1 - 1e-8})
    assert [one.loss for one in found.values()] == [0, 0.75]


def test_what_another_beats_or_equals_is_dropped_only_for_the_measures_that_count():
    cheap, fast, both = option(2, 1, 9, 0), option(2, 9, 1, 0), option(2, 9, 9, 0)
    assert undominated([both, fast, cheap], ["energy"]) == [cheap]
    assert undominated([both, fast, cheap, fast], ["energy", "latency"]) == [cheap, fast]
