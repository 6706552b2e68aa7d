"""What stands beside what: published figures read from CSV files, and rows that hold a modelled one against them.

A published figure keeps its certainty: ``paper`` (read in the paper), ``measured``, ``author_code`` (counted by code of
the paper's author), ``third_party``, ``derived`` (arithmetic on other figures), ``recalled`` (never seen in print by
whoever wrote it down). Two more stand in rows only: ``law`` (must hold by definition), ``oracle`` (our own slower and
finer model). ``unpublished`` marks a figure with nothing beside it.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib import resources
from typing import Any

from sparsim.errors import InputError

__all__ = [
    "ASSERTED",
    "BOUNDS",
    "CERTAINTIES",
    "ROLES",
    "VALIDATING",
    "Published",
    "Row",
    "compare_with",
    "join_notes",
    "not_modelled",
    "parse_published",
    "read_published",
    "skipped",
    "unpublished",
]

CERTAINTIES = ("paper", "measured", "author_code", "third_party", "derived", "recalled")
VALIDATING = ("paper", "measured", "author_code")
ROLES = ("check", "at_least", "at_most", "calibrate", "shown", "excluded", "not_modelled")
BOUNDS = ("at_least", "at_most")
ASSERTED = ("check", *BOUNDS)
COLUMNS = ("quantity", "workload", "value", "unit", "source", "certainty", "role", "note")


@dataclass(frozen=True)
class Published:
    """One published figure.

    Parameters
    ----------
    quantity, workload : what was measured or counted, on what.
    value, unit : the figure.
    source : key of the reference list, then the place.
    certainty : one of :data:`CERTAINTIES`.
    role : ``check`` (asserted within ``tolerance``), ``at_least``, ``at_most`` (a bound from below, from above,
        asserted), ``calibrate`` (the model was fitted to it), ``shown`` (beside the model, neither pass nor fail),
        ``excluded`` (shown, with the reason in the note), ``not_modelled`` (kept as data only).
    note : how it was read; why a tolerance is as wide as it is.
    tolerance : largest relative error, None if nothing is asserted.
    """

    quantity: str
    workload: str
    value: float
    unit: str
    source: str
    certainty: str
    role: str
    note: str = ""
    tolerance: float | None = None


@dataclass(frozen=True)
class Row:
    """A published and a modelled figure side by side.

    Parameters
    ----------
    paper : the room of ``sparsim.fidelity`` it belongs to.
    published, modelled : the figures, in ``unit``; None where there is none.
    error : modelled / published - 1, None if not comparable.
    tolerance : largest ``abs(error)`` that holds, None if the row is only shown.
    verdict : "ok", "off", "shown" or "skipped" (its matrix or part is missing).
    """

    paper: str
    quantity: str
    workload: str
    unit: str
    published: float | None
    modelled: float | None
    error: float | None
    tolerance: float | None
    certainty: str
    role: str
    verdict: str
    note: str = ""

    @property
    def asserted(self) -> bool:
        """Whether the row can fail."""
        return self.verdict in ("ok", "off")

    def to_dict(self) -> dict[str, Any]:
        """Return the row as a plain record."""
        return asdict(self)


def join_notes(*notes: str) -> str:
    """Return the notes that say something, in one line."""
    return "; ".join(note for note in notes if note)


def compare_with(paper: str, published: Published, modelled: float, note: str = "") -> Row:
    """Hold a modelled figure against a published one and judge it by its role and tolerance."""
    value = published.value
    error = modelled / value - 1 if value else (0.0 if modelled == 0 else math.inf)
    if published.role == "check":
        holds = published.tolerance is not None and abs(error) <= published.tolerance
        verdict = "ok" if holds else "off"
    elif published.role == "at_least":
        verdict = "ok" if modelled >= value else "off"
    elif published.role == "at_most":
        verdict = "ok" if modelled <= value else "off"
    else:
        verdict = "shown"
    return _row(paper, published, modelled, error, verdict, note)


def skipped(paper: str, published: Published, missing: str) -> Row:
    """Return the row of a figure that cannot be modelled here, with what is missing."""
    return _row(paper, replace(published, note=""), None, None, "skipped", f"needs {missing}")


def not_modelled(paper: str, published: Published) -> Row:
    """Return the row of a figure the model says nothing about."""
    return _row(paper, replace(published, role="not_modelled"), None, None, "shown", "")


def unpublished(paper: str, quantity: str, workload: str, unit: str, modelled: float, note: str = "") -> Row:
    """Return a row of the model alone: nothing is published beside it."""
    shown = Published(quantity, workload, 0.0, unit, "", "unpublished", "shown", note)
    return replace(_row(paper, shown, modelled, None, "shown", ""), published=None)


def _row(paper: str, p: Published, modelled: float | None, error: float | None, verdict: str, note: str) -> Row:
    tolerance = p.tolerance if p.role == "check" else None
    notes = join_notes(p.note, note)
    return Row(
        paper, p.quantity, p.workload, p.unit, p.value, modelled, error, tolerance, p.certainty, p.role, verdict, notes
    )


@cache
def read_published(paper: str, name: str = "published.csv") -> tuple[Published, ...]:
    """Read the published figures of one room.

    Raises
    ------
    InputError
        If a row lacks its certainty or role, or has one that does not exist.
    """
    place = resources.files("sparsim.fidelity").joinpath(paper, name)
    reader = csv.DictReader(place.read_text("utf-8").splitlines())
    lines = enumerate(reader, start=2)
    return tuple(parse_published(line, f"{paper}/{name}", f"row {number}") for number, line in lines)


def parse_published(line: Mapping[str, str | None], source: str, place: str) -> Published:
    """Return one line of a file of published figures, checked."""

    def demand(holds: bool, problem: str, allowed: str) -> None:
        if not holds:
            raise InputError(problem, source=source, place=place, remedy=f"allowed: {allowed}")

    missing = [column for column in COLUMNS if line.get(column) is None]
    demand(not missing, f"no {', '.join(missing)}", f"the columns {', '.join(COLUMNS)} and perhaps tolerance")
    certainty, role, quantity = str(line["certainty"]), str(line["role"]), str(line["quantity"])
    demand(bool(quantity and line["source"]), "no quantity or no source", "both named")
    demand(certainty in CERTAINTIES, f"certainty '{certainty}'", ", ".join(CERTAINTIES))
    demand(role in ROLES, f"role '{role}'", ", ".join(ROLES))
    value, tolerance = _number(line["value"]), _number(line.get("tolerance"))
    demand(value is not None, f"value '{line['value']}'", "a finite number")
    sane = not line.get("tolerance") or (tolerance is not None and tolerance >= 0)
    demand(sane, f"tolerance '{line.get('tolerance')}'", "empty, or 0 or more")
    texts = {key: str(line[key]) for key in COLUMNS if key != "value"}
    return Published(value=value or 0.0, tolerance=tolerance, **texts)


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None
