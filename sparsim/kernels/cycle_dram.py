"""Memory of the cycle-level model: channels, banks and open rows, one command at a time.

All state stands in one flat int64 array ``m`` (passing many arrays to small compiled functions costs more than the
work they do). Scalars and parameters have fixed places in it, tables start where an ``_AT`` entry says; times are in
ticks, ``m[CYCLE]`` of which are one core cycle. Tables of the memory:

* a row of fields for each channel, its bank groups, its banks, and a list of its banks with work;
* ``DUE_AT``: for each channel the tick before which nothing can happen there;
* nodes: bursts that wait or travel, linked lists of places in ``m`` with 0 as their end;
* ``WHEEL_AT``: for each of the next cycles the reads whose data reach the core then.

Not modelled: the command bus beyond one command a slot, bank groups in t_RRD and t_WTR, power-down.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sparsim.kernels._jit import inner, step

Array = npt.NDArray[Any]


NEVER = 1 << 62
READ, WRITE = 0, 1

# whose burst it is; the first three are reads
A_READ, PARTIAL_READ, B_READ, PARTIAL_WRITE, C_WRITE = range(5)
STREAMS = 5
READERS = 3

# fmt: off
# m: parameters, places of tables, and scalars of the memory; place 0 stays unused, as 0 ends a list
(
    _, CYCLE, CHANNELS, INTERLEAVE, BURST, ROW_BYTES, BANKS, BANK_GROUPS, QUEUE, HIGH, LOW,
    SLOT, BL, CCD_L, RCD, RAS, RP, RRD, FAW, WR, READ_TO_WRITE, WRITE_TO_READ, REFI, RFC, LATENCY,
    CHANNEL_AT, GROUP_AT, BANK_AT, ACTIVE_AT, DUE_AT, WHEEL_AT, WHEEL_MASK,
    FREE_NODE, NEXT_AGE, UNDER_WAY, LAST_DATA, MEMORY_SCALARS,
) = range(37)

# of a channel; queue lengths and waiting lists once for each reader and once for writes
(
    MODE, BUS, LAST, COMMAND, LAST_ACTIVATE, FAW_NEXT, FAW_0, FAW_1, FAW_2, FAW_3,
    REFRESH, TURN, ACTIVE, QUEUED, QUEUED_WRITES, WAITING, WAITING_WRITES, TURNS, ACTIVATES, BUSY,
    BURSTS, BURSTS_1, BURSTS_2, BURSTS_3, BURSTS_4,
    WAIT_HEAD, WAIT_HEAD_1, WAIT_HEAD_2, WAIT_HEAD_3, WAIT_TAIL, WAIT_TAIL_1, WAIT_TAIL_2, WAIT_TAIL_3,
    CHANNEL_FIELDS,
) = range(34)

# of a bank; head and tail once for reads and once for writes
(
    OPEN, TO_COLUMN, TO_PRECHARGE, TO_ACTIVATE, HIT, LISTED,
    HEAD, HEAD_WRITES, TAIL, TAIL_WRITES, BANK_FIELDS,
) = range(11)

# of a node
LINK, ROW, TAG, AGE, NODE_FIELDS = range(5)
# fmt: on


def lay_out_memory(par: Array, nodes: int, start: int) -> tuple[Array, int]:
    """Return the places of the memory's tables and what stands in them while it is idle.

    Parameters
    ----------
    par : int64, parameters by field number; the ``_AT`` entries and scalars of the memory are filled in here.
    nodes : bursts that can wait or travel at one time.
    start : place in ``m`` of the first table.

    Returns
    -------
    tables : int64, what stands from ``start`` on.
    end : the place behind them.
    """
    channels, banks, groups = int(par[CHANNELS]), int(par[BANKS]), int(par[BANK_GROUPS])
    horizon = int(par[BL] + par[LATENCY]) // int(par[CYCLE]) + 4
    wheel = 1 << horizon.bit_length()
    channel = np.zeros((channels, CHANNEL_FIELDS), dtype=np.int64)
    channel[:, [LAST_ACTIVATE, FAW_0, FAW_1, FAW_2, FAW_3]] = -NEVER // 2
    channel[:, LAST] = -1
    channel[:, REFRESH] = par[REFI] if par[REFI] else NEVER
    bank = np.zeros((channels, banks, BANK_FIELDS), dtype=np.int64)
    bank[:, :, OPEN] = -1
    node = np.zeros((nodes, NODE_FIELDS), dtype=np.int64)
    tables = {
        CHANNEL_AT: channel,
        GROUP_AT: np.zeros(channels * groups, dtype=np.int64),
        BANK_AT: bank,
        ACTIVE_AT: np.zeros(channels * banks, dtype=np.int64),
        DUE_AT: np.full(channels, NEVER, dtype=np.int64),
        WHEEL_AT: np.zeros(wheel, dtype=np.int64),
        FREE_NODE: node,
    }
    for key, table in tables.items():
        par[key] = start
        start += table.size
    node[:-1, LINK] = int(par[FREE_NODE]) + NODE_FIELDS * np.arange(1, nodes)
    par[WHEEL_MASK] = wheel - 1
    return np.concatenate([table.ravel() for table in tables.values()]), start


@step
def request(m: Array, address: int, stream: int, load: int, now: int) -> int:
    """Ask for the burst at ``address``; return its channel.

    A read enters its channel's queue, or waits outside in the order of its stream. A write only waits: ``post``
    moves it on. ``load`` is handed back with the data.
    """
    block = address // m[INTERLEAVE]
    channel = block % m[CHANNELS]
    local = block // m[CHANNELS] * m[INTERLEAVE] + address % m[INTERLEAVE]
    node = m[FREE_NODE]
    m[FREE_NODE] = m[node + LINK]
    m[node + LINK] = 0
    m[node + ROW] = local // m[ROW_BYTES]
    m[node + TAG] = load * STREAMS + stream
    ch = m[CHANNEL_AT] + channel * CHANNEL_FIELDS
    line = min(stream, READERS)
    tail = m[ch + WAIT_TAIL + line]
    if tail:
        m[tail + LINK] = node
    else:
        m[ch + WAIT_HEAD + line] = node
    m[ch + WAIT_TAIL + line] = node
    if stream < READERS:
        m[ch + WAITING] += 1
        m[UNDER_WAY] += 1
        admit(m, channel, now)
    else:
        m[ch + WAITING_WRITES] += 1
    return channel


@inner
def admit(m: Array, channel: int, now: int) -> None:
    """Let waiting reads into the queue while it has room, one reader after the other."""
    ch = m[CHANNEL_AT] + channel * CHANNEL_FIELDS
    while m[ch + WAITING] > 0 and m[ch + QUEUED] < m[QUEUE]:
        line = m[ch + TURN]
        while m[ch + WAIT_HEAD + line] == 0:
            line = (line + 1) % READERS
        m[ch + TURN] = (line + 1) % READERS
        m[ch + WAITING] -= 1
        _join(m, channel, line, READ, now)


@step
def post(m: Array, channel: int, now: int) -> int:
    """Move the first waiting write into the write queue; return its load, -1 if there is none or no room."""
    ch = m[CHANNEL_AT] + channel * CHANNEL_FIELDS
    if m[ch + WAITING_WRITES] == 0 or m[ch + QUEUED_WRITES] >= m[QUEUE]:
        return -1
    m[ch + WAITING_WRITES] -= 1
    load = m[m[ch + WAIT_HEAD + READERS] + TAG] // STREAMS
    _join(m, channel, READERS, WRITE, now)
    return load


@inner
def _join(m: Array, channel: int, line: int, kind: int, now: int) -> None:
    """Move the head of a waiting line to the end of its bank's list."""
    ch = m[CHANNEL_AT] + channel * CHANNEL_FIELDS
    node = m[ch + WAIT_HEAD + line]
    m[ch + WAIT_HEAD + line] = m[node + LINK]
    if m[node + LINK] == 0:
        m[ch + WAIT_TAIL + line] = 0
    m[node + LINK] = 0
    m[node + AGE] = m[NEXT_AGE]
    m[NEXT_AGE] += 1
    number = m[node + ROW] % m[BANKS]
    bank = m[BANK_AT] + (channel * m[BANKS] + number) * BANK_FIELDS
    tail = m[bank + TAIL + kind]
    if tail:
        m[tail + LINK] = node
    else:
        m[bank + HEAD + kind] = node
    m[bank + TAIL + kind] = node
    m[ch + QUEUED + kind] += 1
    wakes = True
    if kind == m[ch + MODE]:
        if m[bank + HIT] == 0 and m[bank + OPEN] == m[node + ROW]:
            m[bank + HIT] = node
        if m[bank + LISTED] == 0:
            m[m[ACTIVE_AT] + channel * m[BANKS] + m[ch + ACTIVE]] = number
            m[ch + ACTIVE] += 1
            m[bank + LISTED] = m[ch + ACTIVE]
    elif kind == WRITE:
        wakes = m[ch + QUEUED_WRITES] >= m[HIGH] or m[ch + QUEUED] == 0
    else:
        wakes = m[ch + QUEUED_WRITES] <= m[LOW]
    if wakes:
        due = m[DUE_AT] + channel
        m[due] = min(m[due], on_slot(m, max(now * m[CYCLE], m[ch + COMMAND])))


@inner
def on_slot(m: Array, tick: int) -> int:
    """First command slot at or after ``tick``."""
    slot = m[SLOT]
    return (tick + slot - 1) // slot * slot


@step
def next_arrival(m: Array, now: int) -> int:
    """Take the first read whose data arrive in cycle ``now`` off the wheel; return its tag, -1 if there is none."""
    wheel = m[WHEEL_AT] + (now & m[WHEEL_MASK])
    node = m[wheel]
    if node == 0:
        return -1
    m[wheel] = m[node + LINK]
    m[node + LINK] = m[FREE_NODE]
    m[FREE_NODE] = node
    m[UNDER_WAY] -= 1
    return m[node + TAG]


@step
def next_event(m: Array, now: int) -> int:
    """First cycle after ``now`` in which a channel may act or data arrive, NEVER if there is none."""
    following = NEVER
    for channel in range(m[CHANNELS]):
        following = min(following, m[m[DUE_AT] + channel])
    if following < NEVER:
        following = max(now + 1, following // m[CYCLE])
    if m[UNDER_WAY] > 0:
        for cycle in range(now + 1, min(following, now + 2 + m[WHEEL_MASK])):
            if m[m[WHEEL_AT] + (cycle & m[WHEEL_MASK])]:
                return cycle
    return following
