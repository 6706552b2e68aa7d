"""The memory of the cycle-level model, fed with streams whose answer follows from the timing alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsim.kernels import cycle_dram as dram
from sparsim.kernels.cycle_channel import run_memory
from sparsim.machines import machine
from sparsim.machines.sparch_cycle import dram_parameters

TICKS = 1000
BURST, ROW, BANKS = 32, 1024, 16
READ, WRITE = dram.B_READ, dram.C_WRITE
TAG_OF_WRITE = 7


def memory(**fields):
    """An idle memory of one channel, at 1 GHz; refresh only if asked for."""
    given_fields = {"channels": 1, "t_refi_ns": 0.0, **fields}
    config = machine("sparch", {f"dram.{key}": value for key, value in given_fields.items()}).config
    m = dram_parameters(config.dram, config.clock_ghz)
    tables, _ = dram.lay_out_memory(m, 4096, m.size)
    return np.concatenate([m, tables])


def run(m, bursts, *, waiting=4):
    """Offer (address, stream) as fast as they are taken, ``waiting`` ahead; return when reads arrived, by number."""
    arrived: dict[int, int] = {}
    offered = posted = now = 0
    channels = int(m[dram.CHANNELS])
    state = m[m[dram.CHANNEL_AT] :][: channels * dram.CHANNEL_FIELDS].reshape(channels, dram.CHANNEL_FIELDS)
    while now < dram.NEVER:
        while (tag := dram.next_arrival(m, now)) >= 0:
            assert tag // dram.STREAMS not in arrived
            arrived[tag // dram.STREAMS] = now
        while offered < len(bursts) and state[:, [dram.WAITING, dram.WAITING_WRITES]].sum() < waiting:
            address, stream = bursts[offered]
            load = offered if stream < dram.READERS else TAG_OF_WRITE
            dram.request(m, address, stream, load, now)
            offered += 1
        for channel in np.flatnonzero(state[:, dram.WAITING_WRITES]):
            if (load := dram.post(m, channel, now)) >= 0:
                assert load == TAG_OF_WRITE
                posted += 1
        run_memory(m, now)
        busy = offered < len(bursts) or state[:, dram.WAITING_WRITES].any()
        now = now + 1 if busy else dram.next_event(m, now)
    writes = sum(stream >= dram.READERS for _, stream in bursts)
    assert (posted, len(arrived)) == (writes, len(bursts) - writes)
    return arrived, state


def cycles(m):
    """When the last data were on the bus."""
    return m[dram.LAST_DATA] / TICKS


def address(bank, row, burst=0):
    return (row * BANKS + bank) * ROW + burst * BURST


def test_a_single_read_takes_activation_access_data_and_latency():
    m = memory()
    arrived, _ = run(m, [(address(3, 5), READ)])
    assert cycles(m) == 14 + 4
    assert arrived == {0: 14 + 4 + 100}


@pytest.mark.parametrize(("banks", "gap"), [((0,), 6), ((0, 4), 6), ((0, 1), 4)])
def test_open_rows_run_at_the_pace_of_their_bank_groups(banks, gap):
    """Bursts of one group are t_CCD_L apart: two thirds of the bus; two groups fill it."""
    n = 600
    m = memory()
    run(m, [(address(banks[i % len(banks)], 0, i % 32), READ) for i in range(n)])
    assert n * gap <= cycles(m) <= n * gap + 60


def test_a_sequential_stream_lies_between_one_group_and_the_whole_bus():
    n = 3000
    m = memory()
    _, state = run(m, [(i * BURST, READ) for i in range(n)])
    assert n * 4 <= cycles(m) <= n * 6 + 20
    assert state[0, dram.ACTIVATES] == -(-n * BURST // ROW)


def scattered(n, rng, stream=READ):
    return [(address(int(b), int(r)), stream) for b, r in zip(rng.integers(0, 16, n), rng.permutation(n), strict=True)]


@pytest.mark.parametrize(("faw", "rrd", "pace"), [(40.0, 8.0, 10), (0.0, 8.0, 8), (80.0, 8.0, 20), (0.0, 12.0, 12)])
def test_scattered_reads_run_at_the_pace_of_activations(faw, rrd, pace):
    n = 1500
    m = memory(t_faw_ns=faw, t_rrd_ns=rrd)
    _, state = run(m, scattered(n, np.random.default_rng(1)))
    assert state[0, dram.ACTIVATES] == n
    assert (n - 4) * pace <= cycles(m) <= n * pace * 1.1 + 60


@pytest.mark.parametrize(("stream", "recovery", "gap"), [(READ, 16.0, 48), (WRITE, 16.0, 48), (WRITE, 30.0, 62)])
def test_rows_of_one_bank_follow_each_other_after_the_row_cycle(stream, recovery, gap):
    """t_RAS + t_RP; a write holds its row for t_RCD + data + t_WR if that is longer."""
    n = 200
    m = memory(t_wr_ns=recovery)
    run(m, [(address(2, i), stream) for i in range(n)])
    assert cycles(m) == (n - 1) * gap + 14 + 4


def test_single_reads_and_writes_pay_both_turnarounds():
    n = 100
    m = memory(queue_bursts=1, write_high=1, write_low=0)
    bursts = [(address(i % 2, 0, i % 32), READ if i % 2 == 0 else WRITE) for i in range(2 * n)]
    _, state = run(m, bursts, waiting=2)
    assert 2 * n - 4 <= state[0, dram.TURNS] <= 2 * n - 1
    assert cycles(m) == pytest.approx(n * (4 + 4 + 4 + 18), rel=0.02)


def test_writes_are_gathered_between_the_marks():
    """From the high to the low mark in one go: 19 writes between two turnarounds, when both sides are always ready."""
    n = 2000
    m = memory()
    rng = np.random.default_rng(0)
    bursts = [(address(int(rng.integers(0, 8)), 0, i % 32), READ if i % 2 == 0 else WRITE) for i in range(n)]
    _, state = run(m, bursts, waiting=40)
    batches = state[0, dram.TURNS] / 2
    assert n / 2 / 32 <= batches <= n / 2 / 15
    assert cycles(m) >= n * 4 + batches * (4 + 18) - 40


def test_refresh_takes_its_share():
    n = 6000
    bursts = [(address(i % 2, 0, i % 32), READ) for i in range(n)]
    without, with_it = memory(), memory(t_refi_ns=3900.0)
    run(without, bursts)
    _, state = run(with_it, bursts)
    lost = cycles(with_it) - cycles(without)
    refreshes = cycles(with_it) // 3900
    assert 260 * refreshes <= lost <= (260 + 60) * refreshes
    assert state[0, dram.ACTIVATES] == 2 * (refreshes + 1)


def test_reads_of_several_streams_take_turns():
    """With the queue full, the three readers are admitted one after the other."""
    m = memory(queue_bursts=1, write_high=1, write_low=0)
    bursts = [(address(0, 0, i % 32), stream) for stream in (0, 1, 2) for i in range(30)]
    arrived, _ = run(m, bursts, waiting=100)
    order = sorted(arrived, key=arrived.__getitem__)
    assert all({i // 30 for i in order[at : at + 3]} == {0, 1, 2} for at in range(3, 84, 3))


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_every_burst_is_served_once_and_no_faster_than_the_bus(data):
    channels = data.draw(st.sampled_from([1, 2, 4]))
    queue = data.draw(st.sampled_from([1, 2, 32]))
    high = data.draw(st.integers(1, queue))
    m = memory(
        channels=channels,
        queue_bursts=queue,
        write_high=high,
        write_low=data.draw(st.integers(0, high - 1)),
        t_refi_ns=data.draw(st.sampled_from([0.0, 700.0])),
        interleave_bytes=data.draw(st.sampled_from([32, 256])),
    )
    n = data.draw(st.integers(1, 150))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    span = data.draw(st.sampled_from([4, 256, 2**20]))
    bursts = [(int(at) * BURST, int(s)) for at, s in zip(rng.integers(0, span, n), rng.integers(0, 5, n), strict=True)]
    arrived, state = run(m, bursts, waiting=data.draw(st.integers(1, 200)))
    served = state[:, dram.BURSTS : dram.BURSTS + dram.STREAMS]
    assert served.sum(axis=0).tolist() == [sum(s == stream for _, s in bursts) for stream in range(5)]
    by_channel = [0] * channels
    for at, _ in bursts:
        by_channel[at // int(m[dram.INTERLEAVE]) % channels] += 1
    assert served.sum(axis=1).tolist() == by_channel
    assert (state[:, dram.BUSY] == 4 * TICKS * served.sum(axis=1)).all()
    assert cycles(m) >= 14 + 4 * max(by_channel)
    assert all(at >= 14 + 4 + 100 for at in arrived.values())
    assert m[dram.UNDER_WAY] == 0
