"""Rows cut into steps, and what steps ask of stages and memory, against naive twins."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsim.kernels.records import Requests, RoundRows, RowWork, StepLimits, Visits
from sparsim.kernels.requests import (
    Rates,
    Results,
    StepRequests,
    StepWork,
    lay_out_visits,
    lay_out_work,
    read_back,
)
from sparsim.kernels.steps import FIELDS, cut_steps, pieces_of

BURST = 32
AMOUNTS = ("a_elements", "products", "slots", "partial", "merged", "output", "a_bursts")


@st.composite
def row_lists(draw):
    """Rows: number, elements of A, products, slots, elements read back, of the result, bursts of A and address."""
    rows = []
    number = address = 0
    for _ in range(draw(st.integers(0, 12))):
        number += draw(st.integers(1, 3))
        bursts = draw(st.sampled_from([0, 1, 1, 2, 5]))
        address += draw(st.integers(0, 3)) * BURST
        counts = [draw(st.integers(0, 9)), *(draw(st.integers(0, 40)) for _ in range(4))]
        rows.append((number, *counts, bursts, address if bursts else -1))
        address += bursts * BURST
    return rows


def numbers(values):
    return np.array(values, dtype=np.int64)


def as_records(rows):
    number, a_elements, products, slots, partial, output, bursts, address = map(numbers, zip(*rows, strict=True))
    none = np.zeros(rows and len(rows) + 1, dtype=np.int64)
    work = RowWork(a_elements, products, slots, partial, output, none[:0], none[:0])
    return RoundRows(number, none, none, bursts, address), work


def naive_steps(rows, limits):
    """A row joins the step before it if both limits allow; one that is too large alone is dealt out evenly."""
    steps = []
    open_step = None
    for number, a_elements, products, slots, partial, output, bursts, address in rows:
        merged = products + partial
        pieces = max(-(-a_elements // limits.rows), -(-merged // limits.quantum))
        if not pieces:
            continue
        amounts = dict(zip(AMOUNTS, (a_elements, products, slots, partial, merged, output, bursts), strict=True))
        if pieces > 1:
            steps += [open_step] if open_step else []
            open_step = None
            for piece in range(pieces):
                share = {key: (piece + 1) * n // pieces - piece * n // pieces for key, n in amounts.items()}
                begins = address + piece * bursts // pieces * BURST
                steps.append({**share, "a_address": begins, "last_row": number})
            continue
        if open_step and (
            open_step["a_elements"] + a_elements > limits.rows or open_step["merged"] + merged > limits.quantum
        ):
            steps.append(open_step)
            open_step = None
        if open_step is None:
            open_step = {**dict.fromkeys(AMOUNTS, 0), "a_address": -1}
        if not open_step["a_bursts"]:
            open_step["a_address"] = address
        for key, n in amounts.items():
            open_step[key] += n
        open_step["last_row"] = number
    return steps + ([open_step] if open_step else [])


@settings(max_examples=300, deadline=None)
@given(row_lists().filter(len), st.integers(1, 250), st.integers(1, 30), st.integers(1, 8))
def test_rows_fill_steps_and_none_is_too_large(rows, quantum, most_rows, room):
    """However many steps fit into a block."""
    limits = StepLimits(quantum, most_rows, BURST)
    records = as_records(rows)
    row, found, begun = 0, [], np.zeros(len(FIELDS), dtype=np.int64)
    while row <= len(rows):
        steps = np.full((room, len(FIELDS)), -7, dtype=np.int64)
        row, used = cut_steps(*records, limits, row, begun, steps, 0)
        found += [dict(zip(FIELDS, step, strict=True)) for step in steps[:used].tolist()]
        if row <= len(rows) and not used:
            room = 2 + pieces_of(records[1], limits, row)
    expected = naive_steps(rows, limits)
    for step in (*found, *expected):
        if not step["a_bursts"]:
            step["a_address"] = None
    assert found == expected
    assert all(step["merged"] <= quantum and step["a_elements"] <= most_rows for step in found)


def test_equal_steps_end_where_they_are_full():
    """Rows that fill a step to the last element leave no room, and take none from the next."""
    records = as_records([(row, 2, 8, 1, 0, 8, 1, row * BURST) for row in range(4)])
    steps, begun = np.zeros((9, len(FIELDS)), dtype=np.int64), np.zeros(len(FIELDS), dtype=np.int64)
    _, used = cut_steps(*records, StepLimits(16, 99, BURST), 0, begun, steps, 0)
    assert [dict(zip(FIELDS, step, strict=True))["merged"] for step in steps[:used].tolist()] == [16, 16]
    _, used = cut_steps(*records, StepLimits(99, 4, BURST), 0, begun, steps, 0)
    assert [dict(zip(FIELDS, step, strict=True))["a_elements"] for step in steps[:used].tolist()] == [4, 4]


@pytest.mark.parametrize("scale", [1, 10**8 + 7])
@settings(max_examples=300, deadline=None)
@given(st.data())
def test_partial_results_are_read_evenly(scale, data):
    """The request for the first byte b of n is asked for when b / n of all that the pass reads back is needed."""
    burst = BURST * scale
    chunk = burst * data.draw(st.integers(1, 3))
    sizes = data.draw(st.lists(st.integers(scale, 400 * scale), max_size=4))
    begins = (np.cumsum([0, *sizes])[:-1] + 5).tolist()
    ends = [-(-(begin + size) // burst) * burst for begin, size in zip(begins, sizes, strict=True)]
    partial = data.draw(st.lists(st.integers(0, 30 * scale), min_size=1, max_size=12))
    total = sum(partial)
    results = Results(numbers(begins), numbers(sizes), numbers(begins) // burst * burst, numbers(ends))
    expected, at = [], [begin // burst * burst for begin in begins]
    for step, needed in enumerate(np.cumsum(partial).tolist()):
        if partial[step]:
            for r, (begin, size, end) in enumerate(zip(begins, sizes, ends, strict=True)):
                while at[r] < end and max(at[r] - begin, 0) * total // size < needed:
                    expected.append((step, at[r], min(chunk, end - at[r])))
                    at[r] += chunk
    room = Requests(*np.zeros((3, 200), dtype=np.int64))
    cut = data.draw(st.integers(0, len(partial)))
    steps = numbers(partial)
    count = read_back(results, steps[:cut], 0, total, chunk, 0, room, 0)
    count = read_back(results, steps[cut:], int(steps[:cut].sum()), total, chunk, cut, room, count)
    assert list(zip(*(column[:count].tolist() for column in room), strict=True)) == expected
    if total:
        assert all(place >= end for place, end in zip(at, ends, strict=True))


@st.composite
def asked(draw, steps):
    """Requests by step, ascending."""
    by_step = sorted(draw(st.lists(st.integers(0, steps - 1), max_size=8)))
    found = [(step, BURST * draw(st.integers(0, 50)), BURST * draw(st.integers(1, 4))) for step in by_step]
    return found, Requests(*numbers(found).reshape(-1, 3).T.copy())


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 8), st.data())
def test_requests_stand_in_the_order_of_steps(steps, data):
    """A; what is read back, then rows of B; bursts that are full, of partial results and, from a step on, of C."""
    back, back_record = data.draw(asked(steps))
    rows, rows_record = data.draw(asked(steps))
    amounts = st.lists(st.integers(0, 20), min_size=steps, max_size=steps)
    bursts, output = data.draw(amounts), data.draw(amounts)
    final = data.draw(st.integers(0, steps))
    width = (16, 12)
    asks = StepRequests(numbers(range(steps)) * 1000, numbers(bursts), numbers(output), final, width, BURST)
    sums = [sum(output[:final]), sum(output[final:])]
    written = numbers([[5000 * BURST, 0, sums[0]], [9000 * BURST, 0, sums[1]]])
    visits = Visits(np.zeros((3, steps + 1), dtype=np.int64), *np.zeros((2, 2 * steps + 16), dtype=np.int64))
    moved = np.zeros(5, dtype=np.int64)
    lay_out_visits(asks, back_record, rows_record, visits, written, moved)

    def of(visit, step):
        here = slice(visits.first[visit, step], visits.first[visit, step + 1])
        return list(zip(visits.address[here].tolist(), visits.size[here].tolist(), strict=True))

    places, waiting, left = [5000 * BURST, 9000 * BURST], [0, 0], sums
    for step in range(steps):
        assert of(0, step) == [(1000 * step, bursts[step] * BURST)] * (bursts[step] > 0)
        assert of(1, step) == [request[1:] for request in (*back, *rows) if request[0] == step]
        stream = step >= final
        waiting[stream] += output[step] * width[stream]
        left[stream] -= output[step]
        full = waiting[stream] // BURST if left[stream] else -(-waiting[stream] // BURST)
        assert of(2, step) == [(places[stream], full * BURST)] * (full > 0)
        places[stream] += full * BURST
        waiting[stream] = max(waiting[stream] - full * BURST, 0)
    payload = [
        output_sum * each for output_sum, each in zip((sum(output[:final]), sum(output[final:])), width, strict=True)
    ]
    expected = [sum(bursts) * BURST, sum(r[2] for r in back), sum(r[2] for r in rows)]
    assert moved.tolist() == expected + [-(-size // BURST) * BURST for size in payload]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 50)] * 6, st.integers(1, 16)), min_size=1, max_size=6))
def test_stages_take_what_their_rates_say(steps):
    columns = [numbers(column) for column in zip(*steps, strict=True)]
    rates = Rates(look_ahead=2, multiply=3, merge=16, ticks=256, lines=16, partials=100, held=40 * 100)
    service, size = np.zeros((2, len(steps), 6), dtype=np.int64)
    lay_out_work(StepWork(*columns), rates, service, size)
    for s, (a_elements, slots, merged, partial, output, lines, ahead) in enumerate(steps):
        ticks = [-(-n * 256 // rate) for n, rate in ((a_elements, 2), (slots, 3), (merged, 16))]
        assert service[s].tolist() == [0, ticks[0], 0, ticks[1], ticks[2], 0]
        held = min(max(lines * 16 // ahead * 100, partial * 16), 4000)
        assert size[s].tolist() == [a_elements, a_elements, held, merged, output, 0]
