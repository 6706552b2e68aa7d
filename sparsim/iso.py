"""Machines made equal in what they have: the smaller ones stand side by side until they have as much as the largest.

Copies share rows of A and the DRAM (see :mod:`~sparsim.machines.replicate`). Whole copies only, so what is held equal
is equal but for the last copy that does not fit. Nothing is made smaller.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sparsim.errors import ConfigError, nearest
from sparsim.machines import Machine
from sparsim.resources import NODE_NM, Resources, resources
from sparsim.workload import DataType

__all__ = ["RESOURCES", "Held", "against_reference", "hold_equal"]

Pair = tuple[Machine, Machine]
MOST_COPIES = 65536
EXCEEDS = 1.05
SHORT = 0.95

RESOURCES: Mapping[str, tuple[Callable[[Resources], float], str, str]] = {  # amount, unit, what to do if it is unknown
    "multipliers": (lambda owned: owned.multipliers, "multiplies/cycle", "leave it out"),
    "area": (lambda owned: owned.area_mm2_at(NODE_NM), f"mm2 at {NODE_NM} nm", "leave it out"),
    "power": (
        lambda owned: owned.power_w,
        "W",
        "give --set device_power_w=WATTS (every machine takes it), build it with that in Python, or leave it out",
    ),
    "bandwidth": (lambda owned: owned.dram_gb_s, "GB/s", "leave it out"),
}


@dataclass(frozen=True)
class Held:
    """Machines with one resource, or several, held equal.

    Parameters
    ----------
    pairs : machines, each with the one its dense weights run on.
    reference : name of the machine whose resources all have; "" if nothing is held equal.
    what : resources, in words.
    notes : how many copies of which machine, and what is not equal all the same.
    """

    pairs: Sequence[Pair]
    reference: str = ""
    what: str = ""
    notes: tuple[str, ...] = ()


def hold_equal(pairs: Sequence[Pair], wanted: Sequence[str], to: str | None, dtype: DataType) -> Held:
    """Replicate every smaller machine, and its dense twin, until it has as much as the reference.

    Parameters
    ----------
    pairs : machines, each with the one its dense weights run on.
    wanted : of :data:`RESOURCES`. Of several, the one that allows the fewest copies decides; with "bandwidth" every
        machine gets the reference's, without it each shares its own.
    to : name of the reference; by default the machine with most of the first resource.
    dtype : in which multipliers are counted.

    Raises
    ------
    ConfigError
        If a resource or the reference has another name, or a machine's resource is not known.
    """
    for name in wanted:
        if name not in RESOURCES:
            raise ConfigError(f"'{name}'{nearest(name, RESOURCES)}", key="--iso", allowed=", ".join(RESOURCES))
    if not wanted:
        if to is not None:
            raise ConfigError("goes with --iso, which says what is held equal", key="--iso-to")
        return Held(pairs)
    names = [built.name for built, _ in pairs]
    if to is not None and to not in names:
        problem = f"'{to}' is none of the machines{nearest(to, names)}"
        raise ConfigError(problem, key="--iso-to", allowed=", ".join(names))
    owned = {built.name: resources(built, dtype) for built, _ in pairs}
    _refuse_unknown(owned, wanted)
    first = RESOURCES[wanted[0]][0]
    reference = to or max(names, key=lambda name: first(owned[name]))
    target = owned[reference]
    equal = [_equal_pair(pair, target, wanted, dtype) for pair in pairs]
    amounts = (f"{name} ({_figure(RESOURCES[name][0](target))} {RESOURCES[name][1]})" for name in wanted)
    what = " and ".join(amounts)
    grown = {built.name: resources(built, dtype) for built, _ in equal}
    notes = (
        *_notes(equal, owned, reference, what, wanted),
        *_basis(equal, wanted, dtype),
        *_short(grown, target, reference, wanted),
    )
    return Held(equal, reference, what, notes)


def against_reference(totals: Sequence[dict[str, Any]], held: Held) -> None:
    """Give rows of networks their speed against the dense weights of the reference, so that machines rank."""
    dense = {row["batch"]: row["baseline_time_s"] for row in totals if row["machine.name"] == held.reference}
    for row in totals:
        row["reference"], row["held_equal"] = held.reference, held.what
        time = row["time_s"]
        row["reference_speedup"] = dense[row["batch"]] / time if time and dense[row["batch"]] else math.nan


def _figure(amount: float) -> str:
    return f"{amount:,.0f}" if amount >= 100 else f"{amount:.3g}"


def _refuse_unknown(owned: Mapping[str, Resources], wanted: Sequence[str]) -> None:
    for name in wanted:
        amount, _, remedy = RESOURCES[name]
        without = [machine for machine, each in owned.items() if math.isnan(amount(each))]
        if without:
            one = len(without) == 1
            told = remedy if one else remedy.replace(" it", " them")
            raise ConfigError(f"the {name} of {', '.join(without)} is not known; {told}", key="--iso")


def _equal_pair(pair: Pair, target: Resources, wanted: Sequence[str], dtype: DataType) -> Pair:
    """Return a machine and its twin with as much as ``target``; a twin of unknown size takes its machine's copies."""
    built, twin = pair
    copies = _copies(resources(built, dtype), target, wanted)
    own = resources(twin, dtype)
    known = not any(math.isnan(RESOURCES[name][0](own)) for name in wanted)
    twins = _copies(own, target, wanted) if known else copies
    return _grown(built, copies, target, wanted), _grown(twin, twins, target, wanted)


def _copies(own: Resources, target: Resources, wanted: Sequence[str]) -> int:
    """Return how many of a machine fit into ``target``, at least one."""
    replicated = [RESOURCES[name][0] for name in wanted if name != "bandwidth"]
    fitting = min((math.floor(amount(target) / amount(own) * (1 + 1e-9)) for amount in replicated), default=1)
    return min(max(fitting, 1), MOST_COPIES // own.copies)


def _grown(built: Machine, copies: int, target: Resources, wanted: Sequence[str]) -> Machine:
    dram = built.config.dram
    change: dict[str, float] = {}
    if copies > 1:
        change["copies"] = built.config.copies * copies
    if "bandwidth" in wanted and dram.gb_s != target.dram_gb_s and not built.measured:
        change["dram.gb_s_per_channel"] = target.dram_gb_s / dram.channels
    return built.with_fields(change)


def _notes(
    pairs: Sequence[Pair], owned: Mapping[str, Resources], reference: str, what: str, wanted: Sequence[str]
) -> tuple[str, ...]:
    counts = ", ".join(
        f"{built.name} x {built.config.copies:,}"
        + ("" if twin.name == built.name else f" (its dense twin {twin.name} x {twin.config.copies:,})")
        for built, twin in pairs
    )
    notes = [f"held equal to {reference}: {what}; machines side by side: {counts}"]
    if "bandwidth" not in wanted:
        rates = ", ".join(f"{built.name} {built.config.dram.gb_s:g}" for built, _ in pairs)
        notes.append(f"DRAM bandwidth is not held equal, copies share their machine's: {rates} GB/s")
    for name in wanted:
        amount = RESOURCES[name][0]
        for machine, each in owned.items():
            more = amount(each) / amount(owned[reference])
            if name != "bandwidth" and more > EXCEEDS:
                notes.append(f"{machine} has {more:.3g} times the {name} of {reference}; nothing is made smaller")
    return tuple(notes)


def _basis(pairs: Sequence[Pair], wanted: Sequence[str], dtype: DataType) -> list[str]:
    """Say what equal amounts rest on: unlike clocks, power at unlike process nodes, twins of which one is not known."""
    notes = []
    clocks = {built.name: built.config.clock_ghz for built, _ in pairs}
    if "multipliers" in wanted and len(set(clocks.values())) > 1:
        each = ", ".join(f"{name} {ghz:g}" for name, ghz in clocks.items())
        notes.append(f"multipliers are counted a cycle, clocks are each machine's own: {each} GHz")
    nodes = {built.name: built.config.technology_nm for built, _ in pairs}
    if "power" in wanted and len(set(nodes.values())) > 1:
        each = ", ".join(f"{name} {nm:g}" for name, nm in nodes.items())
        notes.append(f"power is each machine's own, as published, not scaled to one process node: {each} nm")
    for name in wanted:
        amount = RESOURCES[name][0]
        unknown = dict.fromkeys(twin.name for _, twin in pairs if math.isnan(amount(resources(twin, dtype))))
        if unknown:
            notes.append(f"the {name} of {', '.join(unknown)} is not known: a dense twin has its machine's copies")
    return notes


def _short(grown: Mapping[str, Resources], target: Resources, reference: str, wanted: Sequence[str]) -> list[str]:
    """Say which machines have less than the reference all the same: whole copies only, and no resource may exceed."""
    notes = []
    for name in wanted:
        amount = RESOURCES[name][0]
        for machine, each in grown.items():
            share = amount(each) / amount(target)
            if name != "bandwidth" and share < SHORT:
                held = f"{machine} x {each.copies:,}"
                notes.append(f"{held} has only {share:.2g} times the {name} of {reference}: no further copy fits")
    return notes
