"""External memory: channels, banks and open rows, in the order in which requests arrive.

Addresses are dealt out to channels in pieces of ``interleave`` bytes; inside a channel, consecutive rows lie in
consecutive banks, and consecutive banks in different bank groups. A piece asks four resources, each of which serves
its work without gaps: the data bus (a burst each), its bank group (bursts ``ccd`` apart), the channel's activations
(``rrd`` apart, four in ``faw``), and its bank (precharge, activate, access). It ends with the last of them. That is
what a first-ready, first-come-first-served controller approaches with a full queue: while a piece waits for its row,
the bus serves others. A piece enters the queue when the one ``queue`` bursts before it has left.

Writes wait in a queue of their own, into which they are taken as reads are into theirs. They are served while no read
is queued, and when ``high`` are queued, until ``low`` are left (Kim et al. 2016, Ramulator, Controller.h); writes that
come meanwhile prolong it. A change of direction leaves the bus idle, a refresh closes all rows. One iteration is one
piece. Not modelled: command slots, the order of commands inside a queue.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sparsim.kernels._jit import inlined, inner, kernel, step
from sparsim.kernels.records import DramParams

__all__ = [
    "BURST_TICKS",
    "INDEX",
    "bursts_of",
    "channel_counters",
    "finish_writes",
    "new_memory",
    "read_request",
    "serve_stream",
    "write_request",
]

Array = npt.NDArray[Any]

# One array holds it all, since what is handed to a compiled function costs by the array: the parameters, in the order
# of DramParams, what follows from them, and a record for each channel.
(CHANNELS, INTERLEAVE, BURST, ROW_BYTES, BANKS, GROUPS, QUEUE, HIGH, LOW, BURST_TICKS, CCD, RCD, RP, RAS) = range(14)
(RRD, FAW, WR, TO_WRITE, TO_READ, REFI, RFC) = range(14, 21)
MOST, SLOTS, RECORD, POSTED = range(21, 25)  # largest piece, places in a ring, length of a record, last write taken
SHIFTED = 25  # whether all sizes are powers of two, which follow: a shift takes a tenth of a division's time
INTERLEAVE_BITS, CHANNEL_BITS, ROW_BITS, BURST_BITS = range(26, 30)
HEAD = 32

CHANNEL_FIELDS = 32
BUS, WRITING, REFRESH, REFRESHED, TURN, QUEUED, FIRST, LAST, READ = range(9)
WROTE, SEEN, OCCUPIED, ACTIVATIONS, TURNS = range(9, 14)
READS, WRITES = 14, 17  # the rings of places of the two kinds, each at OLDEST, REST and NEWEST
OLDEST, REST, NEWEST = range(3)
ACTS = 20  # the last four activations
RINGS = CHANNEL_FIELDS  # rings of places, reads and then writes; queued writes; bank groups; banks
PLACE_FIELDS = 2
LEFT, HELD = range(PLACE_FIELDS)  # of a place: when its bursts left the queue, how many they were
PIECE_FIELDS = 4
BANK, IN_ROW, BURSTS, ARRIVED = range(PIECE_FIELDS)
BANK_FIELDS = 4
ROW, ACTIVATED, ENDED, GROUP = range(BANK_FIELDS)  # GROUP: where the time stands at which its bank group is free

LONG_AGO = -(1 << 60)
INDEX = (1 << 48) - 1  # & INDEX tells the compiler that an index is not negative


@inner
def _bits(size: int) -> int:
    """Return the largest power of two up to ``size``."""
    bits = 0
    while 2 << bits <= size:
        bits += 1
    return bits


@kernel
def new_memory(params: DramParams) -> Array:
    """Return idle memory.

    A place in a queue is kept by the bursts of one piece until they leave; a piece takes the places of the bursts
    ``queue`` before. All begin free.
    """
    slots = 1
    while slots < params.queue:
        slots *= 2
    groups = RINGS + slots * (2 * PLACE_FIELDS + PIECE_FIELDS)
    banks = groups + params.groups
    record = banks + params.banks * BANK_FIELDS
    memory = np.zeros(HEAD + params.channels * record, dtype=np.int64)
    for i, value in enumerate(params):
        memory[i] = value
    memory[MOST] = max(params.queue // 4, 1) * params.burst
    memory[SLOTS] = slots
    memory[RECORD] = record
    sizes = (params.interleave, params.channels, params.row, params.burst, params.banks)
    memory[SHIFTED] = 1
    for i, size in enumerate(sizes):
        bits = _bits(size)
        if 1 << bits != size:
            memory[SHIFTED] = 0
        if i < 4:
            memory[INTERLEAVE_BITS + i] = bits
    for c in range(params.channels):
        at = HEAD + c * record
        memory[at + REFRESH] = params.refi if params.refi > 0 else -LONG_AGO
        memory[at + REFRESHED] = LONG_AGO
        memory[at + ACTS : at + ACTS + 4] = LONG_AGO
        for kind, ring in ((READS, RINGS), (WRITES, RINGS + slots * PLACE_FIELDS)):
            memory[at + ring + HELD] = params.queue
            memory[at + kind + REST] = params.queue
            memory[at + kind + NEWEST] = 1 % slots
        for b in range(params.banks):
            bank = at + banks + b * BANK_FIELDS
            memory[bank + ROW] = -1
            memory[bank + ACTIVATED] = LONG_AGO
            memory[bank + GROUP] = at + groups + b % params.groups
    return memory


@kernel
def channel_counters(memory: Array) -> Array:
    """Return [channels, CHANNEL_FIELDS]."""
    counters = np.empty((memory[CHANNELS], CHANNEL_FIELDS), dtype=np.int64)
    for c in range(memory[CHANNELS]):
        at = HEAD + c * memory[RECORD]
        for field in range(CHANNEL_FIELDS):
            counters[c, field] = memory[at + field]
    return counters


@inlined
def _take_places(memory: Array, at: int, kind: int, bursts: int, t: int) -> int:
    """Return when the bursts whose places are taken have left, not before ``t``."""
    ring = at + RINGS if kind == READS else at + RINGS + PLACE_FIELDS * memory[SLOTS]
    slot, rest = memory[at + kind + OLDEST], memory[at + kind + REST]
    place = (ring + PLACE_FIELDS * slot) & INDEX
    while bursts > rest:
        if rest > 0:
            t = max(t, memory[place + LEFT])
        bursts -= rest
        slot = (slot + 1) & (memory[SLOTS] - 1)
        place = (ring + PLACE_FIELDS * slot) & INDEX
        rest = memory[place + HELD]
    memory[at + kind + OLDEST] = slot
    memory[at + kind + REST] = rest - bursts
    return max(t, memory[place + LEFT])


@inlined
def _free_places(memory: Array, at: int, kind: int, bursts: int, end: int) -> None:
    """Note that so many bursts leave the queue at ``end``."""
    ring = at + RINGS if kind == READS else at + RINGS + PLACE_FIELDS * memory[SLOTS]
    slot = memory[at + kind + NEWEST]
    place = (ring + PLACE_FIELDS * slot) & INDEX
    memory[place + LEFT] = end
    memory[place + HELD] = bursts
    memory[at + kind + NEWEST] = (slot + 1) & (memory[SLOTS] - 1)


@inner
def _refresh(memory: Array, at: int, t: int) -> None:
    """Pass the refreshes that are due when the channel is done or at ``t``."""
    closing, every = memory[RP] + memory[RFC], memory[REFI]
    while max(memory[at + SEEN], t) >= memory[at + REFRESH]:
        begin = max(memory[at + SEEN], memory[at + REFRESH])
        skipped = (t - begin - closing) // every
        if skipped > 0:
            memory[at + REFRESH] += skipped * every
            continue
        end = begin + closing  # all rows are closed first
        memory[at + BUS] = end
        memory[at + SEEN] = end
        memory[at + REFRESHED] = end
        memory[at + OCCUPIED] += closing
        memory[at + REFRESH] += every
        for b in range(memory[BANKS]):
            memory[_banks(memory, at) + b * BANK_FIELDS + ROW] = -1


@inlined
def _groups(memory: Array, at: int) -> int:
    """Return where the bank groups' times begin in a channel's record."""
    return at + RINGS + memory[SLOTS] * (2 * PLACE_FIELDS + PIECE_FIELDS)


@inlined
def _banks(memory: Array, at: int) -> int:
    """Return where the banks begin in a channel's record."""
    return _groups(memory, at) + memory[GROUPS]


@inner
def _turn(memory: Array, at: int, write: int) -> None:
    """Turn the bus: it stands still when the last data have passed."""
    groups = _groups(memory, at) & INDEX
    bus = memory[at + BUS]
    for g in range(memory[GROUPS]):
        if memory[groups + g] > 0:
            bus = max(bus, memory[groups + g] - memory[CCD] + memory[BURST_TICKS])
    memory[at + BUS] = bus + (memory[TO_WRITE] if write else memory[TO_READ])
    memory[at + WRITING] = write
    memory[at + TURNS] += 1


@inlined
def _activate(memory: Array, at: int, bank: int, row: int, t: int) -> int:
    """Activate a row; return when it is."""
    turn = memory[at + TURN] & 3
    begin = max(t, memory[at + ACTS + ((turn + 3) & 3)] + memory[RRD], memory[at + ACTS + turn] + memory[FAW])
    memory[at + ACTS + turn] = begin
    memory[at + TURN] = turn + 1
    memory[at + ACTIVATIONS] += 1
    if memory[bank + ROW] >= 0:
        closed = max(t, memory[bank + ENDED], memory[bank + ACTIVATED] + memory[RAS])
        begin = max(begin, closed + memory[RP])
    memory[bank + ROW] = row
    memory[bank + ACTIVATED] = begin
    return begin


@inlined
def _access(memory: Array, at: int, bank: int, row: int, bursts: int, t: int, write: int) -> int:
    """Serve one piece that has been in the queue since ``t``; return when its last data are on the bus."""
    if max(memory[at + SEEN], t) >= memory[at + REFRESH]:
        _refresh(memory, at, t)
    t = max(t, memory[at + REFRESHED])
    if memory[at + WRITING] != write:
        _turn(memory, at, np.int64(write))
    if memory[bank + ROW] == row:
        ready = max(t, memory[bank + ACTIVATED] + memory[RCD])
    else:
        ready = _activate(memory, at, bank, row, t) + memory[RCD]
    group = memory[bank + GROUP] & INDEX
    ticks, ccd = memory[BURST_TICKS], memory[CCD]
    bus = max(memory[at + BUS], t) + bursts * ticks
    free = max(memory[group], t) + bursts * ccd
    memory[at + BUS] = bus
    memory[group] = free
    end = max(bus, free, ready + (bursts - 1) * max(ccd, ticks) + ticks)
    memory[bank + ENDED] = end + memory[WR] if write else end
    seen = memory[at + SEEN]
    memory[at + OCCUPIED] += max(end - max(seen, t), 0)
    memory[at + SEEN] = max(end, seen)
    return end


@inlined
def _write_first(memory: Array, at: int, left: int, since: int) -> None:
    """Serve the write queued first, or as many of its bursts as leave ``left`` bursts queued."""
    slots, slot, queued = memory[SLOTS], memory[at + FIRST], memory[at + QUEUED]
    piece = (at + RINGS + slots * 2 * PLACE_FIELDS + slot * PIECE_FIELDS) & INDEX
    held = memory[piece + BURSTS]
    bursts = min(held, queued - left)
    arrived = max(memory[piece + ARRIVED], since)
    end = _access(memory, at, memory[piece + BANK] & INDEX, memory[piece + IN_ROW], bursts, arrived, 1)
    _free_places(memory, at, WRITES, bursts, end)
    memory[at + WROTE] = end
    memory[at + QUEUED] = queued - bursts
    memory[piece + BURSTS] = held - bursts
    if held == bursts:
        memory[at + FIRST] = (slot + 1) & (slots - 1)


@inner
def _drain(memory: Array, at: int, left: int, t: int) -> None:
    """Serve queued writes until ``left`` bursts are queued."""
    at &= INDEX
    while memory[at + QUEUED] > left:
        _write_first(memory, at, left, t)


@inlined
def _first_begins(memory: Array, at: int) -> int:
    """Return when the write queued first can begin."""
    first = at + RINGS + memory[SLOTS] * 2 * PLACE_FIELDS + memory[at + FIRST] * PIECE_FIELDS
    return max(memory[at + SEEN], memory[(first & INDEX) + ARRIVED])


@inner
def _drain_idle(memory: Array, at: int, t: int) -> None:
    """Serve queued writes while no read has come; a drain that has begun goes on to the low mark."""
    at &= INDEX
    begun = False
    while memory[at + QUEUED] > 0:
        begin = _first_begins(memory, at)
        if begin >= t and not (begun and memory[at + QUEUED] > memory[LOW]):
            return
        begun = True
        # a piece a time: the one behind it may come too late
        _write_first(memory, at, memory[LOW] if begin >= t else 0, begin)


@inlined
def _piece(memory: Array, address: int, end: int) -> tuple[int, int, int, int, int]:
    """Return where channel and bank are kept, row of the channel, bytes and bursts of the piece at ``address``.

    A piece shares a channel and a row, is at most a quarter of a queue, and goes up to ``end``.
    """
    interleave, row_bytes = memory[INTERLEAVE], memory[ROW_BYTES]
    most = min(end - address, memory[MOST])
    if memory[SHIFTED]:
        stripe = address >> (memory[INTERLEAVE_BITS] & 63)
        turn = stripe >> (memory[CHANNEL_BITS] & 63)
        inside = turn * interleave + (address & (interleave - 1))
        row = inside >> (memory[ROW_BITS] & 63)
        b = row & (memory[BANKS] - 1)
        size = min(most, interleave - (address & (interleave - 1)), row_bytes - (inside & (row_bytes - 1)))
        bursts = size >> (memory[BURST_BITS] & 63)
    else:
        stripe = address // interleave
        turn = stripe // memory[CHANNELS]
        inside = turn * interleave + address % interleave
        row = inside // row_bytes
        b = row % memory[BANKS]
        size = min(most, interleave - address % interleave, row_bytes - inside % row_bytes)
        bursts = size // memory[BURST]
    at = (HEAD + (stripe - turn * memory[CHANNELS]) * memory[RECORD]) & INDEX
    bank = (_banks(memory, at) + b * BANK_FIELDS) & INDEX
    return at, bank, row, size, max(bursts, 1)


@inlined
def bursts_of(memory: Array, size: int) -> int:
    """Return the bursts of a request."""
    return size >> (memory[BURST_BITS] & 63) if memory[SHIFTED] else size // memory[BURST]


@step
def read_request(memory: Array, address: int, size: int, t: int) -> int:
    """Read whole bursts from ``address`` on, asked for at ``t``; return when the last data are on the bus."""
    done = t
    end = address + size
    while address < end:
        at, bank, row, length, bursts = _piece(memory, address, end)
        admitted = _take_places(memory, at, READS, bursts, t)
        if memory[at + QUEUED] > 0 and _first_begins(memory, at) < admitted:
            _drain_idle(memory, at, admitted)
        finished = _access(memory, at, bank, row, bursts, admitted, 0)
        memory[at + READ] = max(memory[at + READ], finished)
        _free_places(memory, at, READS, bursts, finished)
        done = max(done, finished)
        address += length
    return done


@step
def write_request(memory: Array, address: int, size: int, t: int) -> int:
    """Write whole bursts from ``address`` on, handed over at ``t``; return when the write queues have taken them.

    Writes are taken in the order in which they come: one that finds its queue full holds up those behind it.
    """
    t = max(t, memory[POSTED])
    end = address + size
    while address < end:
        at, bank, row, length, bursts = _piece(memory, address, end)
        if memory[at + QUEUED] > 0 and _first_begins(memory, at) < t:
            _drain_idle(memory, at, t)
        if memory[at + QUEUED] > memory[QUEUE] - bursts:
            _drain(memory, at, memory[QUEUE] - bursts, t)
        t = _take_places(memory, at, WRITES, bursts, t)
        slots, slot = memory[SLOTS], memory[at + LAST]
        piece = (at + RINGS + slots * 2 * PLACE_FIELDS + slot * PIECE_FIELDS) & INDEX
        memory[piece + BANK] = bank
        memory[piece + IN_ROW] = row
        memory[piece + BURSTS] = bursts
        memory[piece + ARRIVED] = t
        memory[at + LAST] = (slot + 1) & (slots - 1)
        queued = memory[at + QUEUED] + bursts
        memory[at + QUEUED] = queued
        left, since = queued, t
        if t >= memory[at + READ]:
            left, since = np.int64(0), np.int64(LONG_AGO)
        elif queued >= memory[HIGH] or (memory[at + WRITING] and t < memory[at + WROTE]):
            left = memory[LOW]
        if queued > left:
            _drain(memory, at, left, since)
        address += length
    memory[POSTED] = t
    return t


@step
def finish_writes(memory: Array) -> int:
    """Serve what is still queued; return when the memory is idle."""
    end = np.int64(0)
    for c in range(memory[CHANNELS]):
        at = HEAD + c * memory[RECORD]
        _drain(memory, at, np.int64(0), memory[at + SEEN])
        end = max(end, memory[at + SEEN])
    return end


@kernel
def serve_stream(address: Array, size: Array, write: Array, arrival: Array, params: DramParams) -> tuple[int, Array]:
    """Serve requests in order; return when the memory is idle, and the channels' counters.

    Parameters
    ----------
    address, size : int64 [requests], whole bursts.
    write : bool [requests].
    arrival : int64 [requests], ticks, ascending.
    """
    memory = new_memory(params)
    for i in range(address.size):
        if write[i]:
            write_request(memory, address[i], size[i], arrival[i])
        else:
            read_request(memory, address[i], size[i], arrival[i])
    end = finish_writes(memory)
    return end, channel_counters(memory)
