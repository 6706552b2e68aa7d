"""Commands of the cycle-level memory: what a channel puts on its command bus, slot by slot.

First-ready, first-come first-served (Rixner et al., ISCA 2000) with open rows: the oldest access to an open row that
the timing allows; else the oldest burst whose next command the timing allows.
"""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from sparsim.kernels._jit import inner, step
from sparsim.kernels.cycle_dram import (
    ACTIVATES,
    ACTIVE,
    ACTIVE_AT,
    AGE,
    BANK_AT,
    BANK_FIELDS,
    BANK_GROUPS,
    BANKS,
    BL,
    BURSTS,
    BUS,
    BUSY,
    CCD_L,
    CHANNEL_AT,
    CHANNEL_FIELDS,
    CHANNELS,
    COMMAND,
    CYCLE,
    DUE_AT,
    FAW,
    FAW_0,
    FAW_NEXT,
    FREE_NODE,
    GROUP_AT,
    HEAD,
    HIGH,
    HIT,
    LAST,
    LAST_ACTIVATE,
    LAST_DATA,
    LATENCY,
    LINK,
    LISTED,
    LOW,
    MODE,
    NEVER,
    OPEN,
    QUEUED,
    QUEUED_WRITES,
    RAS,
    RCD,
    READ,
    READ_TO_WRITE,
    REFI,
    REFRESH,
    RFC,
    ROW,
    RP,
    RRD,
    SLOT,
    STREAMS,
    TAG,
    TAIL,
    TO_ACTIVATE,
    TO_COLUMN,
    TO_PRECHARGE,
    TURNS,
    WHEEL_AT,
    WHEEL_MASK,
    WR,
    WRITE,
    WRITE_TO_READ,
    admit,
    on_slot,
)

Array = npt.NDArray[Any]

NOTHING, COLUMN, ACTIVATE, PRECHARGE = 0, 1, 2, 3


@inner
def run_channel(m: Array, channel: int, now: int) -> int:
    """Issue the commands of one channel that fall into cycle ``now``; return how many.

    One iteration is one command slot at which something may happen. Reads and writes take turns by the fill of the
    write queue.
    """
    until = (now + 1) * m[CYCLE]
    due = m[DUE_AT] + channel
    ch = m[CHANNEL_AT] + channel * CHANNEL_FIELDS
    commands = 0
    while m[due] < until:
        tick = m[due]
        if tick >= m[ch + REFRESH]:
            _refresh(m, channel)
            m[due] = max(tick, m[ch + COMMAND])
            continue
        _turn(m, channel)
        if m[ch + ACTIVE] == 0:
            m[due] = NEVER
            break
        command, bank, later = _choose(m, channel, tick)
        if command == NOTHING:
            m[due] = on_slot(m, later)
            continue
        commands += 1
        m[ch + COMMAND] = tick + m[SLOT]
        m[due] = NEVER
        if command == COLUMN:
            _access(m, channel, bank, tick, now)
            later = min(later, tick + (m[BL] if m[ch + MODE] == READ and m[ch + ACTIVE] > 0 else 0))
        elif command == ACTIVATE:
            _activate(m, channel, bank, tick)
            later = min(later, tick + m[RCD])
        else:
            at = m[BANK_AT] + (channel * m[BANKS] + bank) * BANK_FIELDS
            m[at + OPEN] = -1
            m[at + HIT] = 0
            m[at + TO_ACTIVATE] = tick + m[RP]
            later = min(later, tick + m[RP])
        m[due] = min(m[due], on_slot(m, max(later, m[ch + COMMAND])))
    return commands


@inner
def _refresh(m: Array, channel: int) -> None:
    """Close all rows once a refresh is due and block the channel until it is over."""
    ch = m[CHANNEL_AT] + channel * CHANNEL_FIELDS
    first = m[BANK_AT] + channel * m[BANKS] * BANK_FIELDS
    last = first + m[BANKS] * BANK_FIELDS
    start = max(m[ch + REFRESH], m[ch + COMMAND], m[ch + BUS])
    precharge = 0
    for bank in range(first, last, BANK_FIELDS):
        if m[bank + OPEN] >= 0:
            precharge = m[RP]
            start = max(start, m[bank + TO_PRECHARGE])
        else:
            start = max(start, m[bank + TO_ACTIVATE])
    end = on_slot(m, start + precharge + m[RFC])
    for bank in range(first, last, BANK_FIELDS):
        m[bank + OPEN] = -1
        m[bank + HIT] = 0
        m[bank + TO_ACTIVATE] = end
    m[ch + COMMAND] = end
    m[ch + REFRESH] += m[REFI]


@inner
def _turn(m: Array, channel: int) -> None:
    """Decide between reads and writes; a change rebuilds the list of banks with work."""
    ch = m[CHANNEL_AT] + channel * CHANNEL_FIELDS
    reads, writes, mode = m[ch + QUEUED], m[ch + QUEUED_WRITES], m[ch + MODE]
    if mode == READ:
        if writes >= m[HIGH] or (reads == 0 and writes > 0):
            mode = WRITE
    elif reads > 0 and writes <= m[LOW]:
        mode = READ
    if mode == m[ch + MODE]:
        return
    m[ch + MODE] = mode
    active = 0
    for number in range(m[BANKS]):
        bank = m[BANK_AT] + (channel * m[BANKS] + number) * BANK_FIELDS
        head = m[bank + HEAD + mode]
        m[bank + LISTED] = 0
        m[bank + HIT] = 0
        if head:
            m[m[ACTIVE_AT] + channel * m[BANKS] + active] = number
            active += 1
            m[bank + LISTED] = active
            m[bank + HIT] = _next_hit(m, head, m[bank + OPEN])
    m[ch + ACTIVE] = active


@inner
def _next_hit(m: Array, node: int, row: int) -> int:
    """First burst from ``node`` on that goes to ``row``, 0 if none does."""
    while node and m[node + ROW] != row:
        node = m[node + LINK]
    return node


@inner
def _choose(m: Array, channel: int, tick: int) -> tuple[int, int, int]:
    """Return command and bank for this slot, or NOTHING, and a tick before which no other bank can have a command.

    In a bank only the oldest burst and the oldest hit of the open row matter; a row is not closed while its oldest
    burst still wants it.
    """
    ch = m[CHANNEL_AT] + channel * CHANNEL_FIELDS
    kind, bus = m[ch + MODE], m[ch + BUS]
    if m[ch + LAST] != kind and m[ch + LAST] >= 0:
        bus += m[READ_TO_WRITE] if kind == WRITE else m[WRITE_TO_READ]
    activate = max(m[ch + LAST_ACTIVATE] + m[RRD], m[ch + FAW_0 + m[ch + FAW_NEXT]] + m[FAW])
    hits_at = others_at = hit_age = other_age = NEVER
    hit_bank, other_bank, other, activates, precharges = -1, -1, NOTHING, 0, 0
    active = m[ACTIVE_AT] + channel * m[BANKS]
    for i in range(active, active + m[ch + ACTIVE]):
        number = m[i]
        bank = m[BANK_AT] + (channel * m[BANKS] + number) * BANK_FIELDS
        head, hit = m[bank + HEAD + kind], m[bank + HIT]
        if hit:
            ready = max(bus, m[bank + TO_COLUMN])
            if ready <= tick:
                ready = m[m[GROUP_AT] + channel * m[BANK_GROUPS] + number % m[BANK_GROUPS]]
            if ready > tick:
                hits_at = min(hits_at, ready)
            elif m[hit + AGE] < hit_age:
                hit_bank, hit_age = number, m[hit + AGE]
        if hit != head:
            closed = m[bank + OPEN] < 0
            ready = max(activate, m[bank + TO_ACTIVATE]) if closed else m[bank + TO_PRECHARGE]
            if ready > tick:
                others_at = min(others_at, ready)
                continue
            activates += closed
            precharges += not closed
            if m[head + AGE] < other_age:
                other_bank, other_age = number, m[head + AGE]
                other = ACTIVATE if closed else PRECHARGE
    if hit_bank >= 0:
        return COLUMN, hit_bank, tick if activates + precharges > 0 else others_at
    if other == ACTIVATE:
        if activates > 1:
            others_at = min(others_at, tick + m[RRD])
        return ACTIVATE, other_bank, tick if precharges > 0 else min(hits_at, others_at)
    return other, other_bank, tick if activates + precharges > 1 else min(hits_at, others_at)


@inner
def _activate(m: Array, channel: int, number: int, tick: int) -> None:
    """Open the row that the bank's oldest burst wants."""
    ch = m[CHANNEL_AT] + channel * CHANNEL_FIELDS
    bank = m[BANK_AT] + (channel * m[BANKS] + number) * BANK_FIELDS
    head = m[bank + HEAD + m[ch + MODE]]
    m[bank + OPEN] = m[head + ROW]
    m[bank + HIT] = head
    m[bank + TO_COLUMN] = tick + m[RCD]
    m[bank + TO_PRECHARGE] = tick + m[RAS]
    m[ch + LAST_ACTIVATE] = tick
    m[ch + FAW_0 + m[ch + FAW_NEXT]] = tick
    m[ch + FAW_NEXT] = (m[ch + FAW_NEXT] + 1) % 4
    m[ch + ACTIVATES] += 1


@inner
def _access(m: Array, channel: int, number: int, tick: int, now: int) -> None:
    """Put the data of the bank's oldest hit on the bus, and a read on its way to the core."""
    ch = m[CHANNEL_AT] + channel * CHANNEL_FIELDS
    bank = m[BANK_AT] + (channel * m[BANKS] + number) * BANK_FIELDS
    kind, node, end = m[ch + MODE], m[bank + HIT], tick + m[BL]
    if m[ch + LAST] != kind:
        m[ch + TURNS] += m[ch + LAST] >= 0
        m[ch + LAST] = kind
    m[ch + BUS] = end
    m[ch + BUSY] += m[BL]
    m[ch + BURSTS + m[node + TAG] % STREAMS] += 1
    m[m[GROUP_AT] + channel * m[BANK_GROUPS] + number % m[BANK_GROUPS]] = tick + m[CCD_L]
    m[bank + TO_PRECHARGE] = max(m[bank + TO_PRECHARGE], end + (m[WR] if kind == WRITE else 0))
    m[LAST_DATA] = max(m[LAST_DATA], end)
    m[bank + HIT] = _next_hit(m, m[node + LINK], m[bank + OPEN])
    _leave(m, channel, bank, kind, node)
    if kind == WRITE:
        m[node + LINK] = m[FREE_NODE]
        m[FREE_NODE] = node
    else:
        arrival = max(now + 1, (end + m[LATENCY] + m[CYCLE] - 1) // m[CYCLE])
        wheel = m[WHEEL_AT] + (arrival & m[WHEEL_MASK])
        m[node + LINK] = m[wheel]
        m[wheel] = node
        admit(m, channel, now)


@inner
def _leave(m: Array, channel: int, bank: int, kind: int, node: int) -> None:
    """Take a burst out of its bank's list, and the bank off the list of banks with work if it was the last."""
    ch = m[CHANNEL_AT] + channel * CHANNEL_FIELDS
    m[ch + QUEUED + kind] -= 1
    before, here = 0, m[bank + HEAD + kind]
    while here != node:
        before, here = here, m[here + LINK]
    if before:
        m[before + LINK] = m[node + LINK]
    else:
        m[bank + HEAD + kind] = m[node + LINK]
    if m[node + LINK] == 0:
        m[bank + TAIL + kind] = before
    if m[bank + HEAD + kind] == 0:
        m[ch + ACTIVE] -= 1
        active = m[ACTIVE_AT] + channel * m[BANKS]
        moved = m[active + m[ch + ACTIVE]]
        m[active + m[bank + LISTED] - 1] = moved
        m[m[BANK_AT] + (channel * m[BANKS] + moved) * BANK_FIELDS + LISTED] = m[bank + LISTED]
        m[bank + LISTED] = 0


@step
def run_memory(m: Array, now: int) -> int:
    """Run the channels on which something can happen in cycle ``now``; return the number of commands."""
    until = (now + 1) * m[CYCLE]
    commands = 0
    for channel in range(m[CHANNELS]):
        if m[m[DUE_AT] + channel] < until:
            commands += run_channel(m, channel, now)
    return commands
