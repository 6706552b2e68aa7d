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

from sparsim.kernels._jit import kernel
from sparsim.kernels.records import DramParams

__all__ = ["finish_writes", "new_channels", "read_request", "serve_stream", "write_request"]

Array = npt.NDArray[Any]

CHANNEL_FIELDS = 18
BUS, WRITING, REFRESH, REFRESHED, ACTS, SLOT, QUEUED, FIRST, LAST = range(9)
TAKEN, LEFT, READ, WROTE, SEEN, OCCUPIED, ACTIVATIONS, TURNS, POSTED = range(9, CHANNEL_FIELDS)  # POSTED: of all
BANK_FIELDS = 4
ROW, ACTIVATED, ENDED, GROUP = range(BANK_FIELDS)  # GROUP: when bank group number b, kept beside bank b, is free
PIECE_FIELDS = 4
BANK, IN_ROW, BURSTS, ARRIVED = range(PIECE_FIELDS)
LONG_AGO = -(1 << 60)


@kernel
def new_channels(params: DramParams) -> tuple[Array, Array, Array, Array, Array]:
    """Return idle memory: channels, their banks, last activations, when queue slots are free, and queued writes.

    A slot is the one of the burst ``queue`` before; the first ``channels`` rows of slots are for reads, then writes.
    """
    channel = np.zeros((params.channels, CHANNEL_FIELDS), dtype=np.int64)
    channel[:, REFRESH] = params.refi if params.refi > 0 else -LONG_AGO
    channel[:, REFRESHED] = LONG_AGO
    bank = np.zeros((params.channels, max(params.banks, params.groups), BANK_FIELDS), dtype=np.int64)
    bank[:, :, ROW] = -1
    bank[:, :, ACTIVATED] = LONG_AGO
    acts = np.full((params.channels, 4), LONG_AGO, dtype=np.int64)
    slots = np.zeros((2 * params.channels, params.queue), dtype=np.int64)
    writes = np.zeros((params.channels, params.queue, PIECE_FIELDS), dtype=np.int64)
    return channel, bank, acts, slots, writes


@kernel
def _refresh(channel: Array, bank: Array, c: int, t: int, params: DramParams) -> int:
    """Pass the refreshes that are due when the channel is done or at ``t``; return when it can go on."""
    while max(channel[c, SEEN], t) >= channel[c, REFRESH]:
        begin = max(channel[c, SEEN], channel[c, REFRESH])
        skipped = (t - begin - params.rp - params.rfc) // params.refi
        if skipped > 0:
            channel[c, REFRESH] += skipped * params.refi
            continue
        end = begin + params.rp + params.rfc  # all rows are closed first
        channel[c, BUS] = end
        channel[c, SEEN] = end
        channel[c, REFRESHED] = end
        channel[c, OCCUPIED] += params.rp + params.rfc
        channel[c, REFRESH] += params.refi
        for b in range(bank.shape[1]):
            bank[c, b, ROW] = -1
    return max(t, channel[c, REFRESHED])


@kernel
def _open_row(channel: Array, bank: Array, acts: Array, c: int, b: int, row: int, t: int, params: DramParams) -> int:
    """Return when the row can be accessed; activate it if it is not open."""
    if bank[c, b, ROW] == row:
        return max(t, bank[c, b, ACTIVATED] + params.rcd)
    last = (channel[c, ACTS] + 3) % 4
    begin = max(t, acts[c, last] + params.rrd, acts[c, channel[c, ACTS]] + params.faw)
    acts[c, channel[c, ACTS]] = begin
    channel[c, ACTS] = (channel[c, ACTS] + 1) % 4
    channel[c, ACTIVATIONS] += 1
    if bank[c, b, ROW] >= 0:
        begin = max(begin, max(t, bank[c, b, ENDED], bank[c, b, ACTIVATED] + params.ras) + params.rp)
    bank[c, b, ROW] = row
    bank[c, b, ACTIVATED] = begin
    return begin + params.rcd


@kernel
def _access(
    channel: Array,
    bank: Array,
    acts: Array,
    c: int,
    b: int,
    row: int,
    bursts: int,
    t: int,
    write: int,
    params: DramParams,
) -> int:
    """Serve one piece that has been in the queue since ``t``; return when its last data are on the bus."""
    t = _refresh(channel, bank, c, t, params)
    if channel[c, WRITING] != write:
        for g in range(params.groups):
            if bank[c, g, GROUP] > 0:
                channel[c, BUS] = max(channel[c, BUS], bank[c, g, GROUP] - params.ccd + params.burst_ticks)
        channel[c, BUS] += params.to_write if write else params.to_read
        channel[c, WRITING] = write
        channel[c, TURNS] += 1
    ready = _open_row(channel, bank, acts, c, b, row, t, params)
    group = b % params.groups
    channel[c, BUS] = max(channel[c, BUS], t) + bursts * params.burst_ticks
    bank[c, group, GROUP] = max(bank[c, group, GROUP], t) + bursts * params.ccd
    apart = max(params.ccd, params.burst_ticks)
    end = max(channel[c, BUS], bank[c, group, GROUP], ready + (bursts - 1) * apart + params.burst_ticks)
    bank[c, b, ENDED] = end + params.wr if write else end
    if end > channel[c, SEEN]:
        channel[c, OCCUPIED] += end - max(channel[c, SEEN], t)
        channel[c, SEEN] = end
    return end


@kernel
def _drain(
    channel: Array, bank: Array, acts: Array, slots: Array, writes: Array, c: int, left: int, t: int, params: DramParams
) -> None:
    """Serve queued writes until ``left`` bursts are queued."""
    while channel[c, QUEUED] > left:
        at = channel[c, FIRST]
        b, row = writes[c, at, BANK], writes[c, at, IN_ROW]
        bursts = min(writes[c, at, BURSTS], channel[c, QUEUED] - left)
        arrived = max(writes[c, at, ARRIVED], t)
        end = _access(channel, bank, acts, c, b, row, bursts, arrived, 1, params)
        for i in range(bursts):
            slots[params.channels + c, (channel[c, LEFT] + i) % params.queue] = end
        channel[c, LEFT] += bursts
        channel[c, WROTE] = end
        channel[c, QUEUED] -= bursts
        writes[c, at, BURSTS] -= bursts
        if writes[c, at, BURSTS] == 0:
            channel[c, FIRST] = (at + 1) % params.queue


@kernel
def _drain_idle(
    channel: Array, bank: Array, acts: Array, slots: Array, writes: Array, c: int, t: int, params: DramParams
) -> None:
    """Serve queued writes while no read has come; a drain that has begun goes on to the low mark."""
    begun = False
    while channel[c, QUEUED] > 0:
        at = channel[c, FIRST]
        begin = max(channel[c, SEEN], writes[c, at, ARRIVED])
        if begin >= t and not (begun and channel[c, QUEUED] > params.low):
            return
        begun = True
        left = channel[c, QUEUED] - writes[c, at, BURSTS]
        _drain(channel, bank, acts, slots, writes, c, max(left, params.low) if begin >= t else left, begin, params)


@kernel
def _place(address: int, params: DramParams) -> tuple[int, int, int]:
    """Return channel, bank and row in the bank of an address."""
    inside = address // (params.interleave * params.channels) * params.interleave + address % params.interleave
    row = inside // params.row
    return address // params.interleave % params.channels, row % params.banks, row // params.banks


@kernel
def _piece(address: int, end: int, params: DramParams) -> int:
    """Return the bytes from ``address`` that share a channel and a row, at most a quarter of a queue, up to ``end``."""
    size = min(end, (address // params.interleave + 1) * params.interleave) - address
    inside = address // (params.interleave * params.channels) * params.interleave + address % params.interleave
    return min(size, params.row - inside % params.row, max(params.queue // 4, 1) * params.burst)


@kernel
def read_request(
    channel: Array,
    bank: Array,
    acts: Array,
    slots: Array,
    writes: Array,
    address: int,
    size: int,
    t: int,
    params: DramParams,
) -> int:
    """Read whole bursts from ``address`` on, asked for at ``t``; return when the last data are on the bus."""
    done = t
    end = address + size
    while address < end:
        length = _piece(address, end, params)
        bursts = max(length // params.burst, 1)
        c, b, row = _place(address, params)
        admitted = t
        for i in range(bursts):
            admitted = max(admitted, slots[c, (channel[c, SLOT] + i) % params.queue])
        if channel[c, QUEUED] > 0:
            _drain_idle(channel, bank, acts, slots, writes, c, admitted, params)
        finished = _access(channel, bank, acts, c, b, row, bursts, admitted, 0, params)
        channel[c, READ] = max(channel[c, READ], finished)
        for i in range(bursts):
            slots[c, (channel[c, SLOT] + i) % params.queue] = finished
        channel[c, SLOT] = (channel[c, SLOT] + bursts) % params.queue
        done = max(done, finished)
        address += length
    return done


@kernel
def write_request(
    channel: Array,
    bank: Array,
    acts: Array,
    slots: Array,
    writes: Array,
    address: int,
    size: int,
    t: int,
    params: DramParams,
) -> int:
    """Write whole bursts from ``address`` on, handed over at ``t``; return when the write queues have taken them.

    Writes are taken in the order in which they come: one that finds its queue full holds up those behind it.
    """
    t = max(t, channel[0, POSTED])
    end = address + size
    while address < end:
        length = _piece(address, end, params)
        bursts = max(length // params.burst, 1)
        c, b, row = _place(address, params)
        _drain_idle(channel, bank, acts, slots, writes, c, t, params)
        _drain(channel, bank, acts, slots, writes, c, params.queue - bursts, t, params)
        taken = t
        for i in range(bursts):
            taken = max(taken, slots[params.channels + c, (channel[c, TAKEN] + i) % params.queue])
        channel[c, TAKEN] += bursts
        at = channel[c, LAST]
        writes[c, at, BANK] = b
        writes[c, at, IN_ROW] = row
        writes[c, at, BURSTS] = bursts
        writes[c, at, ARRIVED] = taken
        channel[c, LAST] = (at + 1) % params.queue
        channel[c, QUEUED] += bursts
        if taken >= channel[c, READ]:
            _drain(channel, bank, acts, slots, writes, c, 0, LONG_AGO, params)
        elif channel[c, QUEUED] >= params.high or (channel[c, WRITING] and taken < channel[c, WROTE]):
            _drain(channel, bank, acts, slots, writes, c, params.low, taken, params)
        t = taken
        address += length
    channel[0, POSTED] = t
    return t


@kernel
def finish_writes(channel: Array, bank: Array, acts: Array, slots: Array, writes: Array, params: DramParams) -> int:
    """Serve what is still queued; return when the memory is idle."""
    end = np.int64(0)
    for c in range(params.channels):
        if channel[c, QUEUED] > 0:
            _drain(channel, bank, acts, slots, writes, c, 0, channel[c, SEEN], params)
        end = max(end, channel[c, SEEN])
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
    channel, bank, acts, slots, writes = new_channels(params)
    for i in range(address.size):
        if write[i]:
            write_request(channel, bank, acts, slots, writes, address[i], size[i], arrival[i], params)
        else:
            read_request(channel, bank, acts, slots, writes, address[i], size[i], arrival[i], params)
    end = finish_writes(channel, bank, acts, slots, writes, params)
    return end, channel
