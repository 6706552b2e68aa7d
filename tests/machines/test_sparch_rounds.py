"""What the steps of merge rounds wait for, against a naive twin that sees all of them."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import matrix_pairs

from sparsim.kernels.records import Operands, StepLimits
from sparsim.machines import machine, sparch_rounds
from sparsim.machines.sparch_counting import count_rounds
from sparsim.machines.sparch_rounds import LAST_ROW, PARTIAL, Rounds
from sparsim.matrix import Csr


def counted_of(a, b, layers):
    config = machine("sparch", {"merge.layers": layers, "schedule.order": "sequential"}).config
    ops = Operands(a.indices.astype(np.int32), b.indptr.astype(np.int64), b.indices.astype(np.int32), b.shape[1], False)
    return count_rounds(Csr.from_scipy(a), ops, config, 12)


def cut(rounds, most):
    """All steps by pass, and what they wait for, cut into blocks of ``most`` steps."""
    passes, waits, done = [[] for _ in rounds.passes], [], 0
    for block in rounds.blocks(most):
        for number, first, stop in block.passes:
            passes[number] += [(done + s, step) for s, step in enumerate(block.steps.tolist()) if first <= s < stop]
        waits += block.wait_for.tolist()
        done += len(block.steps)
    return passes, waits


def naive_waits(rounds, passes, under_way):
    """A row that is read back is complete with the last step that ends in it, else with the first that goes past it."""
    leaves = rounds.counted.products.size
    waits = []
    for number, steps in enumerate(passes):
        for s, step in steps:
            wait = max(s - under_way, -1)
            if rounds.barrier:
                wait = max(wait, s - 1) if number and s == steps[0][0] else wait
            elif step[PARTIAL]:
                for node in rounds.passes[number].inputs:
                    earlier = passes[node - leaves] if node >= leaves else []
                    ends = [at for at, other in earlier if other[LAST_ROW] == step[LAST_ROW]]
                    past = [at for at, other in earlier if other[LAST_ROW] > step[LAST_ROW]]
                    wait = max([wait, *ends[-1:]] if ends else [wait, *(past[:1] or [at for at, _ in earlier][-1:])])
            waits.append(wait)
    return waits


@settings(max_examples=200, deadline=None)
@given(
    matrix_pairs(),
    st.integers(1, 2),
    st.sampled_from([(8, 2), (16, 99), (400, 400)]),
    st.integers(1, 6),
    st.sampled_from([1, 4, 1000]),
    st.booleans(),
)
def test_steps_wait_for_rows_read_back_and_for_what_is_under_way(pair, layers, limits, most, under_way, barrier):
    rounds = Rounds(counted_of(*pair, layers), StepLimits(*limits, 32), barrier)
    with mock.patch.object(sparch_rounds, "STEPS_UNDER_WAY", under_way):
        passes, waits = cut(rounds, most)
    assert waits == naive_waits(rounds, passes, under_way)
    assert rounds.most_steps >= len(waits)


@pytest.mark.parametrize(("share", "most"), [(1.0, 2000), (0.7, 1400), (0.01, 1024)])
def test_few_elements_are_under_way_and_in_a_sample_fewer(share, most):
    whole = counted_of(sp.csr_array(np.ones((3, 40))), sp.csr_array(np.ones((40, 3000))), 6)
    rounds = Rounds(whole, StepLimits(10, 99, 32), False, share)
    with mock.patch.object(sparch_rounds, "UNDER_WAY", 20_000):
        _, waits = cut(rounds, 500)
    assert waits[most - 1 : most + 2] == [-1, 0, 1]
