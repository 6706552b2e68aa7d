"""What blocks of SpArch's steps ask of the memory, and where it lies there."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
import scipy.sparse as sp

from sparsim.kernels.prefetch import FARTHEST, Prefetcher
from sparsim.kernels.records import Operands, PrefetchParams, StepLimits
from sparsim.kernels.requests import Rates
from sparsim.kernels.visits import StepVisits
from sparsim.machines import machine, sparch_blocks
from sparsim.machines.sparch_blocks import Addresses, Layout
from sparsim.machines.sparch_counting import count_rounds
from sparsim.machines.sparch_rounds import PARTIAL, Rounds
from sparsim.matrix import Csr

ELEMENT, PARTIAL_RESULT, BURST = 12, 16, 32


def product():
    """A of four condensed columns and B, dense enough for partial results of many chunks."""
    rng = np.random.default_rng(5)
    a = sp.csr_array(np.kron(np.ones((40, 1)), [[1, 1, 1, 1, 0, 0, 0, 0]]))
    return a, sp.random_array((8, 60), density=0.5, rng=rng, format="csr")


def rounds_of(a, b):
    """Three rounds of two inputs, in small steps."""
    config = machine("sparch", {"merge.layers": 1, "schedule.order": "sequential"}).config
    ops = Operands(a.indices.astype(np.int32), b.indptr.astype(np.int64), b.indices.astype(np.int32), b.shape[1], False)
    return Rounds(count_rounds(Csr.from_scipy(a), ops, config, ELEMENT), StepLimits(50, 3, BURST), True)


def layout_of(rounds, a, b):
    row_elements = np.diff(b.indptr).astype(np.int64)
    start = np.concatenate(([0], np.cumsum(row_elements)))
    partial = rounds.partial_elements_written * PARTIAL_RESULT
    addresses = Addresses.of((a.nnz * ELEMENT, b.nnz * ELEMENT, partial))
    params = PrefetchParams(4, 48, 8, True, FARTHEST, 4, ELEMENT, 4, BURST, addresses.b)
    lines = StepVisits(Prefetcher(rounds.trace, row_elements, rounds.known, params), rounds.trace, start, params)
    rates = Rates(look_ahead=1, multiply=2, merge=16, ticks=256, lines=4, partials=100, held=4000)
    return Layout(rounds, lines, addresses, rates, (ELEMENT, PARTIAL_RESULT), BURST), addresses


def requests_by_step(block):
    """What every step asks for at each visit, blocks of ``block`` steps being put together."""
    a, b = product()
    layout, addresses = layout_of(rounds_of(a, b), a, b)
    found = []
    with mock.patch.object(sparch_blocks, "BLOCK", block):
        for _, visits in layout.all():
            for s in range(visits.first.shape[1] - 1):
                spans = (slice(*visits.first[visit, s : s + 2]) for visit in range(3))
                found.append([list(zip(visits.address[at], visits.size[at], strict=True)) for at in spans])
    return found, addresses


@pytest.mark.parametrize("block", [1, 2, 7])
def test_steps_ask_for_the_same_in_blocks_of_any_size(block):
    assert requests_by_step(block)[0] == requests_by_step(1000)[0]


def test_partial_results_are_read_back_in_chunks_while_they_are_needed():
    """Sixteen elements at once, and to the end of a pass: the last of its steps still reads some."""
    a, b = product()
    rounds = rounds_of(a, b)
    steps = [step for block in rounds.blocks(10_000) for step in block.steps.tolist()]
    asked, addresses = requests_by_step(1000)
    back = [[size for at, size in here[1] if at >= addresses.partial] for here in asked]
    sizes = [size for here in back for size in here]
    assert max(sizes) == 16 * PARTIAL_RESULT
    assert sum(sizes) == rounds.partial_elements_read * PARTIAL_RESULT  # which fill whole bursts here
    assert all(step[PARTIAL] for step, here in zip(steps, back, strict=True) if here)
    needed = [bool(here) for step, here in zip(steps, back, strict=True) if step[PARTIAL]]
    assert sum(needed) > 0.9 * len(needed)


@pytest.mark.parametrize("block", [1, 2, 7, 1000])
def test_there_is_room_for_just_what_a_block_reads_back(block):
    """More would touch fresh memory with every block, less would not hold it."""
    rooms, made = [], sparch_blocks.read_back

    def read_back(results, partial, before, total, chunk, step, requests, count):
        count = made(results, partial, before, total, chunk, step, requests, count)
        if step == 0:
            rooms.append(None)
        rooms[-1:] = [(requests.step.size, count)]
        return count

    with mock.patch.object(sparch_blocks, "read_back", read_back):
        requests_by_step(block)
    assert len(rooms) > 1 or block == 1000
    assert all(room == count for room, count in rooms)


def test_every_operand_begins_on_a_page_of_its_own():
    assert Addresses.of((1, 4096, 4097)) == (0, 4096, 8192, 16384)
    assert Addresses.of((0, 0, 0)) == (0, 0, 0, 0)
