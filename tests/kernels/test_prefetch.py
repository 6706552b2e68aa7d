"""The row prefetcher against its naive twin: what it fetches, when, and where that lies in memory."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsim.kernels import next_use, visits
from sparsim.kernels.prefetch import FARTHEST, LRU, OFF, Prefetcher
from sparsim.kernels.records import PrefetchParams, Requests

POLICIES = {"farthest": FARTHEST, "lru": LRU, "off": OFF}
WIDTH, POINTER, BASE = 4, 4, 4096  # bytes of an element and of a row pointer, and where B begins


@st.composite
def traces(draw):
    rows = draw(st.integers(1, 8))
    trace = draw(st.lists(st.integers(0, rows - 1), max_size=40))
    return trace, draw(st.lists(st.integers(0, 9), min_size=rows, max_size=rows))


@st.composite
def buffers(draw):
    """Keywords of the naive buffer, line length in elements."""
    return {
        "lines": draw(st.integers(0, 6)),
        "line_elements": draw(st.integers(1, 4)),
        "look_ahead": draw(st.integers(0, 20)),
        "run_ahead": draw(st.sampled_from([0, 0, 1, 2, 3, 5, 8, 100])),
        "unit": draw(st.sampled_from(["line_ops", "elements"])),
        "policy": draw(st.sampled_from(list(POLICIES))),
    }


def run(trace, lengths, buffer, *, pointer_bytes=POINTER, burst=1, products=None, cuts=(), parts=()):
    params = PrefetchParams(
        lines=buffer["lines"],
        line_bytes=WIDTH * buffer["line_elements"],
        look_ahead=buffer["look_ahead"],
        unit_is_element=buffer["unit"] == "elements",
        policy=POLICIES[buffer["policy"]],
        run_ahead=buffer["run_ahead"],
        element_bytes=WIDTH,
        pointer_bytes=pointer_bytes,
        burst_bytes=burst,
        address=BASE,
    )
    if products is None:
        products = np.cumsum([lengths[k] for k in trace])
    row_elements = np.array(lengths, dtype=np.int64)
    rows = np.array(trace, dtype=np.int32)
    prefetcher = Prefetcher(rows, row_elements, np.array([*parts, len(trace)]), params)
    return visits_of(prefetcher, rows, row_elements, products, params, cuts)


def visits_of(prefetcher, trace, row_elements, products, params, cuts=()):
    """What a prefetcher does for steps that are cut into blocks, put together again."""
    start = np.concatenate(([0], np.cumsum(row_elements)))
    found = visits.StepVisits(prefetcher, trace, start, params)
    each = np.diff(products, prepend=0)
    bounds = [0, *sorted(cuts), len(each)]
    blocks = [found.of(each[begin:stop], stop == len(each)) for begin, stop in pairwise(bounds)]
    steps = [block.requests.step + begin for block, begin in zip(blocks, bounds, strict=False)]
    asked = [np.concatenate([block.requests[at] for block in blocks]) for at in (1, 2)]
    done = prefetcher.fetched
    return SimpleNamespace(
        hits=done.visits - done.misses,
        misses=done.misses,
        fetched_bytes=found.fetched_bytes,
        visits=np.concatenate([block.visits for block in blocks]),
        ahead=np.concatenate([block.ahead for block in blocks]),
        stalls=[tuple(stall) for stall in done.stalls.tolist()],
        requests=Requests(np.concatenate(steps), *asked),
    )


def naive(trace, lengths, buffer, *, pointer_bytes=POINTER, parts=()):
    """The naive buffer in bytes, the pointer in front of its row."""
    row_bytes = [pointer_bytes + WIDTH * length for length in lengths]
    line = WIDTH * buffer["line_elements"]
    return reference.prefetch(trace, row_bytes, **buffer | {"line_elements": line}, parts=parts)


@settings(max_examples=500, deadline=None)
@given(traces(), buffers(), st.sampled_from([0, POINTER]), st.sampled_from([1, 3, next_use.CHUNK]), st.data())
def test_equals_the_naive_buffer(case, buffer, pointer_bytes, chunk, data):
    """However much is looked up and run at once, and known at a time."""
    trace, lengths = case
    known = {
        "parts": sorted(data.draw(st.lists(st.integers(0, len(trace)), max_size=2))),
        "pointer_bytes": pointer_bytes,
    }
    expected = naive(trace, lengths, buffer, **known)
    replayed = mock.patch.object(visits, "REPLAYED", data.draw(st.sampled_from([1, 4, visits.REPLAYED])))
    with mock.patch.multiple(next_use, CHUNK=chunk, REACHES=0), replayed:
        got = run(trace, lengths, buffer, **known)
    assert (got.hits, got.misses, got.fetched_bytes) == (expected.hits, expected.misses, expected.fetched_elements)
    assert got.requests.size.sum() == expected.fetched_elements  # bursts of one byte
    assert got.visits.sum() == got.hits + got.misses
    assert got.stalls == expected.stalls


@pytest.mark.parametrize("seed", range(4))
def test_equals_the_naive_buffer_where_room_is_short(seed):
    """Few lines, short windows and chunks: every visit replaces, and all borders are crossed."""
    rng = np.random.default_rng(seed)
    for _ in range(250):
        rows = int(rng.integers(3, 9))
        trace = rng.integers(0, rows, rng.integers(20, 50)).tolist()
        lengths = (rng.integers(0, rng.choice([2, 9]), rows) * (rng.random(rows) < rng.choice([0.5, 1]))).tolist()
        buffer = {
            "lines": int(rng.integers(2, 6)),
            "line_elements": int(rng.integers(1, 5)),
            "look_ahead": int(rng.integers(0, 9)),
            "run_ahead": int(rng.choice([0, 1, 2, 4])),
            "unit": str(rng.choice(["line_ops", "elements"])),
            "policy": "farthest",
        }
        known = {"parts": sorted(rng.integers(0, len(trace), rng.integers(0, 2)).tolist())}
        known["pointer_bytes"] = int(rng.choice([0, POINTER]))
        expected = naive(trace, lengths, buffer, **known)
        replayed = mock.patch.object(visits, "REPLAYED", int(rng.integers(1, 9)))
        with mock.patch.multiple(next_use, CHUNK=int(rng.integers(1, 9)), REACHES=0), replayed:
            got = run(trace, lengths, buffer, **known)
        assert (got.misses, got.fetched_bytes) == (expected.misses, expected.fetched_elements), (trace, lengths, buffer)
        assert got.stalls == expected.stalls, (trace, lengths, buffer)


@settings(max_examples=100, deadline=None)
@given(traces(), buffers(), st.data())
def test_visits_before_an_element_are_those_of_the_elements_before(case, buffer, data):
    trace, lengths = case
    elements = sorted(data.draw(st.lists(st.integers(0, len(trace)), max_size=5)))
    line = WIDTH * buffer["line_elements"]
    seen = [element for element, _ in reference.line_visits(trace, [POINTER + WIDTH * n for n in lengths], line)]
    params = PrefetchParams(buffer["lines"], line, 8, True, FARTHEST, 4, WIDTH, POINTER, 32, 0)
    prefetcher = Prefetcher(np.array(trace, dtype=np.int32), np.array(lengths), np.array([len(trace)]), params)
    expected = [sum(element < at for element in seen) for at in elements]
    assert prefetcher.visits_before(np.array(elements, dtype=np.int64)).tolist() == expected


def bytes_asked(requests):
    return [set(range(at, at + size)) for at, size in zip(requests.address, requests.size, strict=True)]


def test_a_window_of_elements_holds_all_their_lines():
    """Three elements ahead are nine visits; the row's first line, needed first, stays, its others pass by."""
    buffer = {"lines": 1, "line_elements": 1, "look_ahead": 3, "run_ahead": 0, "unit": "elements", "policy": "farthest"}
    got = run([0, 0, 0], [2], buffer, burst=WIDTH)
    pointer, first, second = BASE + 2 * WIDTH, BASE, BASE + WIDTH
    assert list(got.requests.address) == [pointer, first, second, first, second, first, second]


@settings(max_examples=150, deadline=None)
@given(traces(), buffers(), st.data())
def test_visits_and_requests_belong_to_the_step_that_multiplies_them(case, buffer, data):
    """Without pointers, every line fetched is one request for exactly its bytes."""
    trace, lengths = case
    total = sum(lengths[k] for k in trace)
    products = sorted([*data.draw(st.lists(st.integers(0, total), max_size=data.draw(st.sampled_from([0, 5])))), total])
    cuts = data.draw(st.lists(st.integers(0, len(products) - 1), max_size=3))
    with mock.patch.object(visits, "REPLAYED", data.draw(st.integers(1, 5))):
        got = run(trace, lengths, buffer, pointer_bytes=0, products=products, cuts=cuts)
    before = np.cumsum([0, *(lengths[k] for k in trace)])
    place = np.cumsum([0, *lengths]) * WIDTH
    line = WIDTH * buffer["line_elements"]
    seen = reference.line_visits(trace, [WIDTH * length for length in lengths], line)
    step_of = [
        next(s for s, done in enumerate(products) if done > before[element] + segment * buffer["line_elements"])
        for element, (_, segment) in seen
    ]
    assert list(got.visits) == list(np.bincount(step_of, minlength=len(products)))
    stalls, ahead = naive(trace, lengths, buffer, pointer_bytes=0).stalls, max(buffer["run_ahead"], 1)
    for step in range(len(products)):
        assert got.ahead[step] == min([ahead, *(left for visit, left in stalls if step_of[visit] == step)])
    fetching = naive(trace, lengths, buffer, pointer_bytes=0).fetching
    assert list(got.requests.step) == [step_of[visit] for visit in fetching]
    lying = []
    for visit in fetching:
        row, segment = seen[visit][1]
        begin = BASE + place[row] + segment * line
        lying.append(set(range(begin, min(begin + line, BASE + place[row + 1]))))
    assert bytes_asked(got.requests) == lying


@settings(max_examples=150, deadline=None)
@given(traces(), buffers(), st.sampled_from([8, 32]))
def test_bursts_hold_what_is_fetched(case, buffer, burst):
    """And nothing is written behind the room for requests."""
    trace, lengths = case
    rooms = []

    def guarded(room):
        rooms.append(np.full((3, room + 2), -7, dtype=np.int64))
        return Requests(*rooms[-1][:, :room])

    with mock.patch.object(visits, "_requests", guarded):
        got = run(trace, lengths, buffer, burst=burst, products=[sum(lengths[k] for k in trace)])
    assert all((room[:, -2:] == -7).all() for room in rooms)
    assert (got.requests.size % burst == 0).all()
    assert (got.requests.address % burst == 0).all()
    assert (got.requests.size > 0).all()
    assert got.requests.size.sum() >= got.fetched_bytes
    assert (np.diff(got.requests.step) >= 0).all()
    place = np.cumsum([0, *lengths]) * WIDTH + BASE
    needed = {byte for row in trace for byte in range(place[row], place[row + 1])}
    assert needed <= set().union(*bytes_asked(got.requests))
    # pointers lie behind B, and are gathered into whole bursts
    segments = [segment for _, segment in naive(trace, lengths, buffer).fetched]
    pointers = segments.count(0) * POINTER
    if place[-1] % burst == 0:
        behind = got.requests.size[got.requests.address >= place[-1]].sum()
        assert behind == -(-pointers // burst) * burst


@pytest.mark.parametrize("burst", [32, 64])
def test_bursts_cost_whole_transfers(burst):
    params = PrefetchParams(0, 576, 8, True, OFF, 0, 12, 0, burst, 0)
    trace, lengths = np.array([0, 1, 1], dtype=np.int64), np.array([1, 2], dtype=np.int64)
    prefetcher = Prefetcher(trace, lengths, np.array([3]), params)
    got = visits_of(prefetcher, trace, lengths, np.array([1, 3, 5]), params)
    assert got.fetched_bytes == 12 + 24 + 24
    # bytes 12 to 36 touch two bursts of 32 or one of 64
    assert list(got.requests.size) == [burst, 64, 64]
    assert list(got.requests.address) == [0, 0, 0]


@settings(max_examples=150, deadline=None)
@given(traces(), buffers())
def test_laws_of_reuse(case, buffer):
    """What must hold: seeing everything is the optimum, no buffer fetches at every visit."""
    trace, lengths = case

    def misses(**changes):
        return run(trace, [1] * len(lengths), buffer | changes, pointer_bytes=0).misses

    best = misses(policy="farthest", look_ahead=1000, run_ahead=0)
    assert best <= misses() <= misses(policy="off")
    assert best <= misses(policy="lru", run_ahead=0)
    ahead = {"look_ahead": 1000, "run_ahead": 1000}
    if buffer["policy"] != "off":
        assert misses(policy="farthest", **ahead) == misses(policy="lru", run_ahead=0)


def test_a_step_that_stalls_twice_runs_ahead_as_far_as_at_its_worst():
    """Row 2 waits until row 0 has been used twice and leaves 2 visits waiting, row 3 for row 1 alone, and leaves 6."""
    buffer = {"lines": 2, "line_elements": 4, "look_ahead": 100, "run_ahead": 100, "unit": "elements"}
    trace = [0, 1, 0, 1, 2, 2, 2, 2, 2, 3]
    got = run(trace, [1] * 4, buffer | {"policy": "farthest"}, products=[len(trace)])
    assert [left for _, left in got.stalls] == [2, 6]
    assert list(got.ahead) == [2]


def test_a_stall_at_every_visit_costs_as_much_at_the_end_as_in_the_beginning():
    """Room for stalls is taken now and then, however often the prefetcher goes on."""
    trace, params = np.arange(3000, dtype=np.int32) % 5, PrefetchParams(2, 4, 8, True, FARTHEST, 100, 4, 0, 1, 0)
    at_once, by_and_by = (Prefetcher(trace, np.ones(5, dtype=np.int64), np.array([3000]), params) for _ in range(2))
    at_once.go_on(3000)
    rooms = [by_and_by._stalls]
    while by_and_by.fetched.elements < 3000:
        by_and_by.go_on(1)
        if by_and_by._stalls is not rooms[-1]:
            rooms.append(by_and_by._stalls)
    assert len(at_once.fetched.stalls) > 2900
    assert (at_once.fetched.stalls == by_and_by.fetched.stalls).all()
    assert len(rooms) < 30


def test_running_ahead_takes_lines_from_reuse():
    """Rows round and round, a few more than the buffer holds: what waits for its use cannot be kept for the next."""
    trace = [row for _ in range(30) for row in range(10)]
    buffer = {"lines": 8, "line_elements": 4, "look_ahead": 1000, "unit": "line_ops", "policy": "farthest"}
    misses = [run(trace, [4] * 10, buffer | {"run_ahead": n}, pointer_bytes=0).misses for n in (0, 1, 2, 4, 8, 300)]
    assert misses == sorted(misses)
    assert misses[0] < 0.4 * len(trace)
    assert misses[-1] == len(trace)
