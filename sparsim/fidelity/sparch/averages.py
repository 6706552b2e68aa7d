"""SpArch on each public matrix at hand, and the means beside the paper's averages over 20.

A mean over some of the 20 is no measurement of the published one, so nothing here passes or fails. Means are geometric,
as the paper's roofline implies; the arithmetic one stands in the note. With stand-ins there is one more mean, over all
20, labelled so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from statistics import fmean, geometric_mean

from sparsim import datasets
from sparsim.energy.area import area_mm2
from sparsim.fidelity.bench import Bench
from sparsim.fidelity.record import Row, compare_with, read_published, skipped, unpublished
from sparsim.fidelity.sparch.roofline import read_counts
from sparsim.machines import machine
from sparsim.report import Report
from sparsim.workload import DataType

__all__ = ["average_rows", "size_rows"]

PAPER = "sparch"
ENERGY = "sparch_40nm"
COMPUTATION = ("multiply", "add", "compare", "merge_static")
PER_MATRIX = {
    "traffic_vs_outerspace": "x less",
    "bandwidth_utilisation": "%",
    "gflops": "GFLOP/s",
    "outerspace_bandwidth_utilisation": "%",
    "outerspace_gflops": "GFLOP/s",
}


@dataclass(frozen=True)
class Measured:
    """What the model says of one matrix, by the quantities of ``published.csv``."""

    name: str
    figures: dict[str, float]
    notes: dict[str, str]


def average_rows(bench: Bench) -> Iterator[Row]:
    """Yield figures of every matrix at hand, then their means beside the published averages."""
    names = [each.matrix for each in read_counts()]
    real = []
    for name in names:
        if bench.has(name):
            real.append(_measure(bench, name, stand_in=False))
            yield from _matrix_rows(real[-1])
    yield from _mean_rows(real, f"{len(real)} of 20 matrices", names)
    if bench.stand_ins:
        found = {each.name: each for each in real}
        drawn = []
        for name in datasets.standin_names():
            if name in names and name not in found:
                drawn.append(_measure(bench, name, stand_in=True))
                yield from _matrix_rows(drawn[-1])
        label = f"{len(real) + len(drawn)} of 20 matrices, {len(drawn)} of them stand-ins"
        yield from _mean_rows([*real, *drawn], label, names)


def size_rows() -> Iterator[Row]:
    """Yield what follows from the configuration alone: area by unit, and the compute roof."""
    sparch = machine("sparch")
    area = area_mm2(sparch)
    figures = {"area_mm2" if unit == "total" else f"area_mm2, {unit}": value for unit, value in area.items()}
    figures["area_mm2_at_28_nm"] = area_mm2(sparch.with_fields({"technology_nm": 28}))["total"]
    figures["compute_roof"] = 2 * sparch.peak_multiplies_per_cycle(DataType.FP64) * sparch.config.clock_ghz
    for published in read_published(PAPER):
        if published.workload == "default configuration":
            yield compare_with(PAPER, published, figures[published.quantity])


def _measure(bench: Bench, name: str, *, stand_in: bool) -> Measured:
    sparch = bench.report(name, "sparch", energy=ENERGY, stand_in=stand_in)
    rival = bench.report(name, "outerspace", stand_in=stand_in)
    unbuffered = bench.report(name, "sparch", {"prefetch.policy": "off"}, stand_in=stand_in)
    work = bench.square(name, stand_in=stand_in)
    columns = int((work.a.csr.transpose().row_lengths > 0).sum())
    figures = {
        "traffic_vs_outerspace": rival.dram_bytes / sparch.dram_bytes,
        "speedup_vs_outerspace": rival.time_s / sparch.time_s,
        "gflops": sparch.gflops,
        "outerspace_gflops": rival.gflops,
        "bandwidth_utilisation": _utilisation(sparch),
        "outerspace_bandwidth_utilisation": _utilisation(rival),
        "traffic_vs_compulsory": sparch.dram_bytes / sparch["bounds.nominal_bytes"],
        "partial_matrices_saved_by_condensing": columns / sparch["details.condensed_columns"],
        "b_reads_saved_by_prefetcher": unbuffered["details.b_bytes_fetched"] / sparch["details.b_bytes_fetched"],
        "pe_utilisation": 100 * sparch["workload.multiplies"] / (_multipliers(sparch) * sparch.cycles),
        "power_w": 1e-12 * sparch.energy_pj / sparch.time_s,
    }
    flop = 2 * sparch["workload.multiplies"] - sparch["workload.nnz_c"]
    for part, picojoules in _by_class(sparch).items():
        figures[f"energy_nj_per_flop, {part}"] = 1e-3 * picojoules / flop
    notes = {quantity: rival.reason for quantity in PER_MATRIX if quantity.startswith("outerspace")}
    notes |= dict.fromkeys(("gflops", "bandwidth_utilisation"), f"{sparch.limited_by}: {sparch.reason}")
    return Measured(work.name if stand_in else name, figures, notes)


def _utilisation(report: Report) -> float:
    dram = report["machine.config"]["dram"]
    peak = 1e9 * dram["channels"] * dram["gb_s_per_channel"]
    return float(100 * report.dram_bytes / (report.time_s * peak))


def _multipliers(report: Report) -> int:
    array = report["machine.config"]["multipliers"]
    return int(array["groups"] * array["group_width"])


def _by_class(report: Report) -> dict[str, float]:
    """Return pJ by the paper's classes; what is neither arithmetic nor DRAM is SRAM."""
    classes = {"computation": 0.0, "sram": 0.0, "dram": 0.0}
    for key, value in report["energy_pj"].items():
        if key != "total":
            part = "computation" if key in COMPUTATION else "dram" if key.startswith("dram_") else "sram"
            classes[part] += value
    return classes | {"total": report.energy_pj}


def _matrix_rows(measured: Measured) -> Iterator[Row]:
    for quantity, unit in PER_MATRIX.items():
        note = measured.notes.get(quantity, "")
        yield unpublished(PAPER, quantity, measured.name, unit, measured.figures[quantity], note)


def _mean_rows(measured: list[Measured], label: str, names: list[str]) -> Iterator[Row]:
    for published in read_published(PAPER):
        if published.workload != "20 matrices" or published.role == "not_modelled":
            continue
        if not measured:
            yield skipped(PAPER, published, f"any of {', '.join(names)}")
            continue
        values = [each.figures[published.quantity] for each in measured]
        note = f"geometric mean; arithmetic mean {fmean(values):.3g}, {min(values):.3g} to {max(values):.3g}"
        yield compare_with(PAPER, replace(published, workload=label), geometric_mean(values), note)
