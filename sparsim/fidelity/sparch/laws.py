"""Laws every run obeys, asserted on generated matrices: they hold without any data at hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from sparsim.fidelity.record import Row
from sparsim.fidelity.sparch.workloads import Case, generated
from sparsim.report import Report
from sparsim.simulate import run
from sparsim.workload import Operand, Workload

__all__ = ["LAWS", "law_rows"]

PAPER = "sparch"
MACHINES = ("sparch", "outerspace")


@dataclass(frozen=True)
class Law:
    """An equation or a bound of one report.

    Parameters
    ----------
    sides : of a report, the left and the right side.
    bound : left >= right instead of left = right.
    """

    name: str
    unit: str
    sides: Callable[[Report], tuple[float, float]]
    bound: bool = False


def _parts(section: str) -> Callable[[Report], tuple[float, float]]:
    def sides(report: Report) -> tuple[float, float]:
        parts = report[section]
        return math.fsum(value for key, value in parts.items() if key != "total"), float(parts["total"])

    return sides


LAWS = (
    Law("traffic / compulsory traffic", "x", lambda r: (r.dram_bytes, r["bounds.compulsory_bytes"]), bound=True),
    Law("cycles / roofline cycles", "x", lambda r: (r.cycles + 1, r["bounds.roofline_cycles"]), bound=True),
    Law("sum of the streams / DRAM bytes", "x", _parts("dram_bytes")),
    Law("sum of the components / energy", "x", _parts("energy_pj")),
    Law(
        "partial elements read / written",
        "x",
        lambda r: (r["details.partial_elements_read"], r["details.partial_elements_written"]),
    ),
)
EXACT = 1e-9


def law_rows(cases: Sequence[Case] | None = None) -> Iterator[Row]:
    """Yield the worst case of every law over the generated matrices, and the counts of scipy, on both machines."""
    chosen = generated() if cases is None else cases
    for machine in MACHINES:
        reports = [_report(case, machine) for case in chosen]
        yield from (_worst(law, machine, chosen, reports) for law in LAWS)
        yield _scipy(machine, chosen, reports)


def _report(case: Case, machine: str) -> Report:
    fields = case.fields if machine == "sparch" else {}
    return run(Workload(Operand.of(case.a), Operand.of(case.b), name=case.name), machine, fields)


def _worst(law: Law, machine: str, cases: Sequence[Case], reports: Sequence[Report]) -> Row:
    ratios = []
    for report in reports:
        left, right = law.sides(report)
        ratios.append(left / right if right else 1.0 if not left else math.inf)
    at = min(range(len(ratios)), key=lambda i: ratios[i] if law.bound else -abs(ratios[i] - 1))
    holds = ratios[at] >= 1 if law.bound else abs(ratios[at] - 1) <= EXACT
    note = f"worst of {len(cases)}, on {cases[at].name}"
    return _law_row(f"{machine}: {law.name}", law.unit, ratios[at], "at_least" if law.bound else "check", holds, note)


def _scipy(machine: str, cases: Sequence[Case], reports: Sequence[Report]) -> Row:
    """Compare products and structural non-zeros with those of scipy on matrices of ones."""
    wrong = 0
    for case, report in zip(cases, reports, strict=True):
        a, b = case.a.to_scipy(), case.b.to_scipy()
        a.data[:], b.data[:] = 1, 1
        c = a @ b
        wrong += (report["workload.multiplies"], report["workload.nnz_c"]) != (int(c.sum()), c.nnz)
    right = len(cases) - wrong
    name = f"{machine}: share with the products and non-zeros of scipy"
    return _law_row(name, "x", right / max(len(cases), 1), "check", not wrong, f"{right} of {len(cases)} matrices")


def _law_row(quantity: str, unit: str, modelled: float, role: str, holds: bool, note: str) -> Row:
    tolerance = EXACT if role == "check" else None
    verdict = "ok" if holds else "off"
    return Row(
        PAPER, quantity, "generated matrices", unit, 1.0, modelled, modelled - 1, tolerance, "law", role, verdict, note
    )
