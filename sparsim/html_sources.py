"""What the figures of a page rest on: machines, energies and publications, each constant with its source."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

from sparsim.compare import Comparison
from sparsim.energy import load_table
from sparsim.energy.area import area_names, load_areas
from sparsim.machines import describe, machine, preset_names

__all__ = ["energy_sources", "machine_sources", "references", "status_counts"]

ENTRY = re.compile(r"^@(\w+)\{(\w+), *(.*)\}\s*$", re.MULTILINE)
ADDRESS = re.compile(r"\\url\{([^}]*)\}")
ACCENTS = {r"{\"a}": "ä", r"{\"o}": "ö", r"{\"u}": "ü", r"{\'e}": "é", r"{\`e}": "è", r"\_": "_", r"\&": "&"}
STATUSES = ("published", "measured", "derived", "recalled", "assumed")
PRINTED = ("title", "booktitle", "journal", "school", "howpublished", "note")


def machine_sources(comparisons: Sequence[Comparison]) -> list[dict[str, Any]]:
    """Return every machine of the page, dense twins too, with what it models and all constants of its preset.

    Of a machine of the reader's own, ``shipped`` is False and the assumed constants are all there is.
    """
    rows = [row for comparison in comparisons for row in comparison.totals]
    names = dict.fromkeys([*(row["machine.name"] for row in rows), *(row["baseline"] for row in rows)])
    assumed = {name: told for comparison in comparisons for name, told in comparison.assumed.items()}
    return [_machine(name, assumed.get(name, ())) for name in names]


def _machine(name: str, assumed: Sequence[str]) -> dict[str, Any]:
    if name not in preset_names():
        told = [guess.partition(": ") for guess in assumed]
        rows = [
            {"field": key, "value": "", "status": "assumed", "source": "none", "note": note} for key, _, note in told
        ]
        return {"name": name, "shipped": False, "constants": rows, "counts": status_counts(rows)}
    built = machine(name)
    shown = describe(built)
    rows = [_row(field, **constant) for field, constant in shown["constants"].items()]
    if built.preset.name in area_names():
        areas = load_areas(built.preset.name)
        rows += [_row(f"area of {unit}", **entry.model_dump()) for unit, entry in areas.published.items()]
        rows += [
            _row(f"area of {unit}: {key}", **entry.model_dump())
            for unit, pieces in areas.per_piece.items()
            for key, entry in pieces.items()
        ]
    return {**shown, "shipped": True, "constants": _weakest_first(rows), "counts": status_counts(rows)}


def _row(field: str, *, value: Any, unit: str, status: str, source: str, note: str) -> dict[str, str]:
    """Return a constant as text: a whole number stays whole, a name or a switch has no unit."""
    text = f"{value:.6g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)
    told = text if unit in ("", "choice", "flag", "seed", "name") else f"{text} {unit}"
    return {"field": field, "value": told, "status": status, "source": source, "note": note}


def energy_sources(comparisons: Sequence[Comparison]) -> list[dict[str, Any]]:
    """Return every energy table of the page with the entries that its data types and machines can have used."""
    used: dict[str, set[str]] = {}
    for comparison in comparisons:
        first = comparison.totals[0]
        names = [first["provenance.energy_table"]]
        if comparison.sensitivity is not None:
            names += [row["energy_table"] for row in comparison.sensitivity.rows]
        for name in names:
            used.setdefault(name, set()).add(str(first["workload.dtype"]))
    kinds = {name for comparison in comparisons for row in comparison.totals for name in _memories(row)}
    return [_table(name, dtypes, kinds) for name, dtypes in used.items()]


def _memories(row: Mapping[str, Any]) -> set[str]:
    names = {row["machine.name"], row["baseline"]} & set(preset_names())
    return {machine(name).config.dram.technology for name in names}


def _table(name: str, dtypes: set[str], memories: set[str]) -> dict[str, Any]:
    table = load_table(name)
    entries = {
        key: entry for key, entry in table.operations.items() if "." not in key or key.rpartition(".")[2] in dtypes
    }
    entries |= {f"SRAM of {size:,} B, {table.sram_width_bytes} B wide": entry for size, entry in table.sram.items()}
    entries |= {f"DRAM {kind}": entry for kind, entry in table.dram.items() if kind in memories}
    entries |= {f"DRAM {kind}, at rest": entry for kind, entry in table.dram_static.items() if kind in memories}
    entries |= {f"at rest, {kind}": entry for kind, entry in table.static.items()}
    rows = [_row(key, **entry.model_dump()) for key, entry in entries.items()]
    return {
        "name": name,
        "title": table.title,
        "not_charged": table.not_charged,
        "notes": table.notes,
        "constants": _weakest_first(rows),
        "counts": status_counts(rows),
    }


def _weakest_first(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: -STATUSES.index(row["status"]))


def status_counts(rows: Iterable[Mapping[str, Any]]) -> list[tuple[str, int]]:
    """Return (status, constants that have it), the best proven first."""
    counts = Counter(row["status"] for row in rows)
    return [(status, counts[status]) for status in STATUSES if counts[status]]


def references(tables: Iterable[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return the publications that the constants of machines and energy tables name, by key."""
    keys = {row["source"].partition(",")[0].strip() for table in tables for row in table["constants"]}
    return [{"key": key, **_bibliography()[key]} for key in sorted(keys) if key in _bibliography()]


@cache
def _bibliography() -> dict[str, dict[str, str]]:
    """Return text and address of every entry of ``references.bib``."""
    text = resources.files("sparsim.energy").joinpath("references.bib").read_text("utf-8")
    return {key: _entry(_fields(body)) for _, key, body in ENTRY.findall(text)}


def _fields(body: str) -> dict[str, str]:
    """Cut "author = {…}, title = {…}" at the commas outside of braces."""
    fields: dict[str, str] = {}
    depth, start = 0, 0
    for at, char in enumerate(f"{body},"):
        depth += (char == "{") - (char == "}")
        if char == "," and depth == 0:
            name, _, value = body[start:at].partition("=")
            fields[name.strip()] = value.strip()
            start = at + 1
    return fields


def _entry(fields: Mapping[str, str]) -> dict[str, str]:
    """Write an entry as a line: who, what, where, when."""
    address = ADDRESS.search(fields.get("howpublished", ""))
    people = [_name(person) for person in _plain(fields.get("author", "")).split(" and ") if person]
    who = ", ".join(people[:3]) + (" and others" if len(people) > 3 or "others" in people else "")
    where = [_plain(ADDRESS.sub("", fields.get(key, ""))) for key in PRINTED]
    parts = [who.replace(", others", ""), *where, fields.get("year", "").strip("{}")]
    return {"text": ". ".join(part for part in parts if part) + ".", "address": address.group(1) if address else ""}


def _name(person: str) -> str:
    last, comma, first = person.partition(",")
    return f"{first.strip()} {last.strip()}" if comma else person.strip()


def _plain(text: str) -> str:
    for written, shown in ACCENTS.items():
        text = text.replace(written, shown)
    return text.replace("{", "").replace("}", "").replace("$", "").strip()
