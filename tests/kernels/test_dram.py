"""External memory against its naive twin, and streams whose bandwidth is known from the data sheet alone."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from hypothesis import example, given, settings
from hypothesis import strategies as st
from strategies import drams

from sparsim.kernels.dram import (
    ACTIVATIONS,
    OCCUPIED,
    SEEN,
    TURNS,
    channel_counters,
    finish_writes,
    new_memory,
    read_request,
    serve_stream,
    write_request,
)
from sparsim.kernels.records import DramParams
from sparsim.machines import machine
from sparsim.machines.banked import dram_params

ROW, BURST, STRIPE, CHANNELS = 1024, 32, 256, 16  # bytes, and channels, of the HBM of SpArch's preset


@st.composite
def streams(draw):
    """Requests of whole bursts in the order of their times: (burst, bursts, is a write, ticks since the one before)."""
    request = st.tuples(
        st.integers(0, 60), st.integers(1, 20), st.booleans(), st.sampled_from([0, 0, 0, 0, 1, 5, 20, 70, 400])
    )
    return draw(st.lists(request, max_size=25))


def one_by_one(params, requests):
    """Ask the kernel for one request after the other; return its answers, the end and the channels."""
    memory = new_memory(params)
    answers, now = [], 0
    for first, bursts, is_write, later in requests:
        now += later
        where = (first * params.burst, bursts * params.burst, now)
        answers.append(write_request(memory, *where) if is_write else read_request(memory, *where))
    return answers, finish_writes(memory), channel_counters(memory)


@settings(max_examples=500, deadline=None)
@given(drams(), streams())
def test_every_answer_equals_the_naive_memory(fields, requests):
    params = DramParams(**fields)
    answers, end, channel = one_by_one(params, requests)
    dram = reference.Dram(params)
    now = 0
    for answer, (first, bursts, is_write, later) in zip(answers, requests, strict=True):
        now += later
        ask = dram.write if is_write else dram.read
        assert answer == ask((first * params.burst, bursts * params.burst), now)
    assert end == dram.finish()
    assert list(channel[:, SEEN]) == [one.done for one in dram.channels]
    assert list(channel[:, ACTIVATIONS]) == [len(one.activations) for one in dram.channels]
    assert list(channel[:, TURNS]) == [one.turns for one in dram.channels]
    if not params.refi:  # a channel that idles through many refreshes counts the last one only
        assert list(channel[:, OCCUPIED]) == [one.occupied for one in dram.channels]


@settings(max_examples=200, deadline=None)
@given(drams(), streams())
def test_a_stream_is_its_requests_and_no_resource_does_more_than_it_can(fields, requests):
    params = DramParams(**fields)
    _, end, channel = one_by_one(params, requests)
    first, bursts, is_write, later = (
        (list(part) for part in zip(*requests, strict=True)) if requests else ([], [], [], [])
    )
    bytes_of = np.array(bursts, dtype=np.int64) * params.burst
    address, arrival = np.array(first, dtype=np.int64) * params.burst, np.cumsum(later, dtype=np.int64)
    served, counters = serve_stream(address, bytes_of, np.array(is_write, dtype=np.bool_), arrival, params)
    assert served == end
    assert (counters == channel).all()
    moved = np.zeros(params.channels, dtype=np.int64)
    for begin, size in zip(address, bytes_of, strict=True):
        for at in range(begin, begin + size, params.burst):
            moved[at // params.interleave % params.channels] += params.burst_ticks
    assert (counters[:, OCCUPIED] >= moved).all()
    assert (counters[:, OCCUPIED] <= counters[:, SEEN]).all()
    assert (counters[:, SEEN] <= end).all()
    assert (params.rrd * (counters[:, ACTIVATIONS] - 1) <= end).all()


@settings(max_examples=100, deadline=None)
@given(drams(), streams())
@example(
    {**dict.fromkeys(DramParams._fields, 1), "low": 0, "refi": 0, "rcd": 50, "queue": 2},
    [(0, 1, False, 0), (0, 1, False, 0)],
)
def test_no_read_is_answered_before_its_row_is_open(fields, requests):
    params = DramParams(**fields)
    reads = [(first, bursts, False, later) for first, bursts, _, later in requests]
    answers, _, _ = one_by_one(params, reads)
    arrival = np.cumsum([later for *_, later in reads], dtype=np.int64)
    least = np.where(arrival == 0, params.rcd, 0) + params.burst_ticks
    assert (np.array(answers, dtype=np.int64) - arrival >= least).all()


# --- streams of known bandwidth, in nanoseconds ----------------------------------------------------------------------


def hbm(**changes):
    """HBM at 1 Gb/s a pin as SpArch's preset has it, without refresh; a tick is a nanosecond."""
    return dram_params(machine("sparch").config.dram, 1.0)._replace(**{"refi": 0, **changes})


def serve(params, address, *, size=BURST, write=False, every=0):
    """Serve requests at ``address``, one every so many ticks; return nanoseconds and counters."""
    address = np.asarray(address, dtype=np.int64)
    is_write = np.broadcast_to(np.asarray(write, dtype=np.bool_), address.shape).copy()
    sizes = np.full(address.size, size, dtype=np.int64)
    return serve_stream(address, sizes, is_write, np.arange(address.size, dtype=np.int64) * every, params)


def test_the_preset_is_the_data_sheet():
    assert dram_params(machine("sparch").config.dram, 1.0) == DramParams(
        **{"channels": 16, "interleave": 256, "burst": 32, "row": 1024, "banks": 16, "groups": 4},
        **{"queue": 32, "high": 25, "low": 6, "burst_ticks": 4, "ccd": 6, "rcd": 14, "rp": 14, "ras": 34},
        **{"rrd": 8, "faw": 40, "wr": 16, "to_write": 4, "to_read": 18, "refi": 3900, "rfc": 260},
    )


def test_ticks_are_rounded_up():
    params = dram_params(machine("sparch").config.dram, 0.25)
    assert (params.burst_ticks, params.ccd, params.rcd, params.faw) == (1, 2, 4, 10)
    assert dram_params(machine("sparch").config.dram, 256.0).faw == 40 * 256


def test_a_lone_read_opens_its_row():
    assert serve(hbm(), [0])[0] == 14 + 4
    assert serve(hbm(), [0, 32])[0] == 14 + 4  # the second burst's turn passed while the row was opened
    assert serve(hbm(), [0], size=64)[0] == 14 + 6 + 4


MANY = 4096
LINE_UP = np.arange(MANY, dtype=np.int64)
OPENING = 14 + 6 + 4  # at most what the first or the last row adds to a stream

STREAMS = {  # addresses, nanoseconds for 32 bytes
    "one row again and again: its bank group": (LINE_UP % 32 * BURST, 6),
    "row after row, in one group after the other: the bus": (LINE_UP * BURST, 4),
    "two rows of two groups in turn: the bus": (LINE_UP % 2 * ROW + LINE_UP // 2 % 32 * BURST, 4),
    "two rows of one group in turn: the group": (LINE_UP % 2 * 4 * ROW + LINE_UP // 2 % 32 * BURST, 6),
    "a new row in the next bank: four activations in 40 ns": (LINE_UP * ROW, 10),
    "a new row in the same bank: open for 34, then precharged": (LINE_UP * 16 * ROW, 34 + 14),
}


@pytest.mark.parametrize("name", STREAMS)
def test_bandwidth_of_one_channel(name):
    address, apart = STREAMS[name]
    end, _ = serve(hbm(channels=1), address)
    assert MANY * apart - 48 <= end <= MANY * apart + OPENING


def test_random_rows_are_bound_by_activations():
    address = np.random.default_rng(0).integers(0, 1 << 16, MANY) * ROW
    end, counters = serve(hbm(channels=1), address)
    assert end == pytest.approx(10 * MANY, rel=0.01)
    assert counters[0, ACTIVATIONS] > 0.99 * MANY
    # without the window of four, by their distance; with few banks, by those
    assert serve(hbm(channels=1, faw=0), address)[0] == pytest.approx(8 * MANY, rel=0.02)
    assert serve(hbm(channels=1, banks=2, groups=2), address)[0] > 20 * MANY


def test_all_channels_share_a_sequential_stream():
    end, counters = serve(hbm(), LINE_UP * BURST)
    assert end == pytest.approx(4 * MANY / CHANNELS, abs=OPENING)
    assert counters[:, SEEN].min() == pytest.approx(end, abs=OPENING)
    assert counters[:, ACTIVATIONS].sum() == MANY * BURST // ROW


def test_a_stride_of_all_stripes_hits_one_channel():
    end, counters = serve(hbm(), LINE_UP * STRIPE * CHANNELS)
    assert list(np.flatnonzero(counters[:, SEEN])) == [0]
    assert end == pytest.approx(4 * MANY, abs=OPENING)


def test_the_write_queue_spares_turns():
    """Reads and writes in turn, rows of different banks: a drain serves 25 - 6 bursts and costs two turns."""
    is_write = LINE_UP % 2 == 1
    address = np.where(is_write, (1 << 20) + 8 * ROW, 0) + LINE_UP // 2 * BURST
    queued, counters = serve(hbm(channels=1), address, write=is_write)
    turns = 2 * (MANY / 2) / (25 - 6)
    assert counters[0, TURNS] == pytest.approx(turns, abs=2)
    assert queued == pytest.approx(4 * MANY + turns / 2 * (4 + 18), rel=0.01)
    at_once, counters = serve(hbm(channels=1, high=1, low=0), address, write=is_write)
    assert counters[0, TURNS] == MANY - 1
    assert at_once == pytest.approx(4 * MANY + MANY / 2 * (4 + 18), rel=0.01)


@pytest.mark.parametrize("name", STREAMS)
def test_refresh_takes_its_share(name):
    """260 of every 3900 ns; closing and opening rows, 48 ns at most, may add to it or be saved by it."""
    address = np.tile(STREAMS[name][0], 4)
    without, _ = serve(hbm(channels=1), address)
    refreshed, counters = serve(hbm(channels=1, refi=3900, rfc=260), address)
    assert refreshed - without == pytest.approx(260 * (refreshed // 3900), abs=48 * (refreshed // 3900))
    assert counters[0, OCCUPIED] == refreshed


def test_a_refresh_closes_rows():
    params = hbm(channels=1, refi=3900, rfc=260)
    _, counters = serve(params, [0, 0], every=3000)
    assert counters[0, ACTIVATIONS] == 1
    end, counters = serve(params, [0, 0], every=4000)
    assert counters[0, ACTIVATIONS] == 2
    assert end == 3900 + 14 + 260 + 14 + 4  # closing, refreshing, opening, a burst


def test_writes_return_at_once_while_the_queue_has_room():
    params = hbm(channels=1)
    answers, end, _ = one_by_one(params, [(0, 1, True, 0)] * 24)
    assert answers == [0] * 24
    assert end == 24 * 6  # one row's bank group
    large = [(0, 8, True, 0)] * 3
    assert one_by_one(params, large)[0] == [0, 0, 0]


def test_writes_are_drained_while_the_memory_is_idle():
    params = hbm(channels=1)
    read = (0, 1, False, 0)
    go_first, _, _ = one_by_one(params, [read, *[(0, 8, True, 0)] * 3, read])
    assert go_first[-1] == 18  # while a read is under way and below the high mark, reads go first
    wait, _, _ = one_by_one(params, [*[(0, 8, True, 0)] * 3, read])
    assert wait[-1] > 24 * 4 + 18  # writes that met no read are on their way
    after, _, counters = one_by_one(params, [(0, 8, True, 0)] * 3 + [(0, 1, False, 1000)])
    assert after[-1] == 1000 + 6
    assert counters[0, TURNS] == 2
    full, _, _ = one_by_one(params, [read, *[(0, 8, True, 0)] * 4, read])
    assert full[-1] > 24 * 4 + 18  # at the high mark it waits for the drain and the turn
