"""The report of one run: activity, energy and bounds in one plain record, with a unit for every figure.

A report refuses nonsense when it is built: parts that do not sum to their total, more bytes than a bus can carry, a
machine faster than its own roofs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sparsim._version import __version__
from sparsim.energy import EnergyTable, area_mm2, energy_pj
from sparsim.errors import ModelError
from sparsim.machines import Activity, Machine
from sparsim.machines.base import flatten
from sparsim.workload import Workload

__all__ = ["FIELDS", "Report", "build_report", "energy_of", "si"]

FIELDS: dict[str, tuple[str, str]] = {
    "workload.m": ("rows", "rows of A and C"),
    "workload.k": ("columns", "columns of A, rows of B"),
    "workload.n": ("columns", "columns of B and C"),
    "workload.nnz_a": ("elements", "non-zeros of A"),
    "workload.nnz_b": ("elements", "non-zeros of B"),
    "workload.nnz_c": ("elements", "structural non-zeros of C"),
    "workload.multiplies": ("operations", "effectual multiplies"),
    "workload.additions": ("operations", "additions needed: multiplies - nnz_c"),
    "workload.dense_multiplies": ("operations", "multiplies if no zero were skipped"),
    "machine.clock_ghz": ("GHz", "clock"),
    "machine.technology_nm": ("nm", "process node"),
    "cycles.total": ("cycles", "first request to last write"),
    "cycles.ideal": ("cycles", "busy time of the busiest stage"),
    "time_s": ("s", "cycles / clock"),
    "gflops": ("GFLOP/s", "(2 · multiplies - nnz_c) / time"),
    "dram_bytes.total": ("bytes", "bytes on the DRAM bus, bursts included"),
    "dram_bytes.a": ("bytes", "reads of A"),
    "dram_bytes.b": ("bytes", "reads of B"),
    "dram_bytes.partial_read": ("bytes", "reads of partial results"),
    "dram_bytes.partial_write": ("bytes", "writes of partial results"),
    "dram_bytes.c": ("bytes", "writes of C"),
    "energy_pj.total": ("pJ", "sum of the components"),
    "bounds.compulsory_bytes": ("bytes", "referenced elements of A and B and all of C, each once"),
    "bounds.nominal_bytes": ("bytes", "12 · (nnz_a + nnz_b + nnz_c), the literature's minimum"),
    "bounds.roofline_cycles": ("cycles", "larger of multiplies / peak and compulsory bytes / bandwidth; 0: measured"),
}
# Sections whose keys differ between machines; the area is there where it is known.
COMPONENTS: dict[str, tuple[str, str]] = {
    "energy_pj.": ("pJ", "energy of this component"),
    "machine.area_mm2.": ("mm2", "area, of this unit or total, at the machine's node"),
}


@dataclass(frozen=True, eq=False, repr=False)
class Report:
    """What one workload costs on one machine.

    Parameters
    ----------
    data : the nested record that ``sparsim simulate --json`` prints; see :data:`FIELDS` for units.
    reason : a sentence that says what bounds the run.
    notes : what the reader has to know.
    """

    data: Mapping[str, Any]
    reason: str
    notes: tuple[str, ...] = field(default=())

    @property
    def machine(self) -> str:
        """Name of the machine."""
        return str(self.data["machine"]["name"])

    @property
    def cycles(self) -> int:
        """Total cycles."""
        return int(self.data["cycles"]["total"])

    @property
    def time_s(self) -> float:
        """Run time, s."""
        return float(self.data["time_s"])

    @property
    def gflops(self) -> float:
        """Throughput by SpArch's definition of a FLOP, GFLOP/s."""
        return float(self.data["gflops"])

    @property
    def dram_bytes(self) -> int:
        """Bytes on the DRAM bus."""
        return int(self.data["dram_bytes"]["total"])

    @property
    def energy_pj(self) -> float:
        """Energy, pJ."""
        return float(self.data["energy_pj"]["total"])

    @property
    def limited_by(self) -> str:
        """What bounds the run, one word."""
        return str(self.data["bounds"]["limited_by"])

    def __getitem__(self, key: str) -> Any:
        """Return a section, or a figure by dotted key."""
        node: Any = self.data
        for part in key.split("."):
            node = node[part]
        return node

    def to_dict(self) -> dict[str, Any]:
        """Return the nested record."""
        return dict(self.data)

    def to_json(self, indent: int | None = 2) -> str:
        """Return the record as JSON."""
        return json.dumps(self.data, indent=indent, allow_nan=False)

    def flat(self) -> dict[str, Any]:
        """Return the figures under dotted keys, for one row of a table."""
        return {key: value for key, value in flatten(self.data).items() if key != "machine.assumed"}

    def to_frame(self) -> Any:
        """Return the figures as a DataFrame with value, unit and description."""
        import pandas as pd

        rows = []
        for key, value in self.flat().items():
            part = next((about for prefix, about in COMPONENTS.items() if key.startswith(prefix)), ("", ""))
            unit, description = FIELDS.get(key, part)
            rows.append({"field": key, "value": value, "unit": unit, "description": description})
        return pd.DataFrame(rows).set_index("field")

    def summary(self) -> list[tuple[str, str]]:
        """Return the handful of lines a person reads first."""
        d = self.data
        w, bounds, dram = d["workload"], d["bounds"], d["dram_bytes"]
        total = max(dram["total"], 1)
        streams = ", ".join(f"{name} {dram[name] / total:.0%}" for name in dram if name != "total" and dram[name])
        moved = f", {total / max(bounds['compulsory_bytes'], 1):.2f}x compulsory: {streams}" if streams else ""
        parts = sorted(((v, k) for k, v in d["energy_pj"].items() if k != "total"), reverse=True)[:4]
        spent = ", ".join(f"{name} {value / max(self.energy_pj, 1e-30):.0%}" for value, name in parts if value)
        energy = si(self.energy_pj * 1e-12, "J") + (f": {spent}" if spent else "")
        roof = bounds["roofline_cycles"]
        lines = [
            ("workload", f"{w['name']} {w['layer']}".strip() + f": {w['m']} x {w['k']} x {w['n']}, {w['dtype']}"),
            ("non-zeros", f"A {w['nnz_a']:,}   B {w['nnz_b']:,}   C {w['nnz_c']:,}"),
            (
                "multiplies",
                f"{w['multiplies']:,} of {w['dense_multiplies']:,} ({_share(w['multiplies'], w['dense_multiplies'])})",
            ),
            ("machine", f"{self.machine} at {d['machine']['clock_ghz']:g} GHz"),
            ("time", f"{si(self.time_s, 's')}   {self.cycles:,} cycles   {si(1e9 * self.gflops, 'FLOP/s')}"),
            ("roofline", f"{roof:,.0f} cycles, {_share(roof, self.cycles)} of the time" if roof else "none"),
            ("DRAM", si(dram["total"], "B") + moved),
            ("energy", energy if len(d["energy_pj"]) > 1 else "not measured"),
            ("bound by", _bound_by(bounds["limited_by"], self.reason)),
        ]
        lines += _told_sample(d["details"].get("sample"), self.cycles)
        return lines + [("note", note) for note in self.notes]

    def __str__(self) -> str:
        return "\n".join(f"{key:>11}  {value}" for key, value in self.summary())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        from html import escape

        rows = "".join(
            f"<tr><th style='text-align:right'>{escape(key)}</th><td style='text-align:left'>{escape(value)}</td></tr>"
            for key, value in self.summary()
        )
        return f"<table>{rows}</table>"


def _bound_by(name: str, reason: str) -> str:
    """Return what bounds a run and why; some reasons begin with the name."""
    begins = reason.partition(":")[0].lower().replace(" ", "_") == name
    return reason if begins else f"{name}: {reason}"


def build_report(workload: Workload, machine: Machine, activity: Activity, table: EnergyTable) -> Report:
    """Put activity, energy and bounds together and check that they make sense.

    Raises
    ------
    ModelError
        If a figure is impossible; that is a defect of the model, never of the input.
    """
    config = machine.config
    seconds = activity.cycles / (config.clock_ghz * 1e9)
    flop = 2 * activity.multiplies - activity.nnz_c
    data = {
        "workload": _about_workload(workload, activity),
        "machine": {
            "name": machine.name,
            "clock_ghz": config.clock_ghz,
            "config": config.model_dump(mode="json"),
            "technology_nm": config.technology_nm,
            "assumed": machine.assumed,
            **({"area_mm2": area} if (area := area_mm2(machine)) else {}),
        },
        "cycles": {
            "total": activity.cycles,
            "ideal": max((float(stage.busy) for stage in activity.stages.values()), default=0.0),
            "stages": {
                name: {"busy": float(stage.busy), "starved": float(stage.starved), "blocked": float(stage.blocked)}
                for name, stage in activity.stages.items()
            },
        },
        "time_s": seconds,
        "gflops": flop / seconds / 1e9 if seconds else 0.0,
        "dram_bytes": {"total": sum(activity.dram_bytes.values()), **activity.dram_bytes},
        "energy_pj": energy_of(workload, machine, activity, table),
        "bounds": _bounds(workload, machine, activity),
        "details": _details(workload, machine, activity, seconds),
        "provenance": {
            "version": __version__,
            "workload_sha256": workload.sha256,
            "config_sha256": machine.config_sha256,
            "energy_table": table.name,
        },
    }
    _refuse_nonsense(data, math.inf if machine.measured else config.dram_bytes_per_cycle)
    return Report(data, activity.reason, (*activity.notes, *table.notes))


def energy_of(workload: Workload, machine: Machine, activity: Activity, table: EnergyTable) -> dict[str, float]:
    """Return pJ by component and their "total"; nobody knows what a measured run took."""
    if machine.measured:
        return {"total": 0.0}
    seconds = activity.cycles / (machine.config.clock_ghz * 1e9)
    return energy_pj(activity, workload.dtype, machine.config.dram, seconds, table, machine.inventory())


def _about_workload(workload: Workload, activity: Activity) -> dict[str, Any]:
    return {
        "name": workload.name,
        "layer": workload.layer,
        "m": workload.m,
        "k": workload.k,
        "n": workload.n,
        "nnz_a": workload.a.nnz,
        "nnz_b": workload.b.nnz,
        "nnz_c": activity.nnz_c,
        "multiplies": activity.multiplies,
        "additions": activity.multiplies - activity.nnz_c,
        "dense_multiplies": workload.dense_multiplies,
        "dtype": workload.dtype.label,
        "groups": workload.groups,
    }


def _bounds(workload: Workload, machine: Machine, activity: Activity) -> dict[str, Any]:
    a_bytes, b_bytes, c_bytes = activity.element_bytes
    elements = (workload.referenced_a * a_bytes, activity.compulsory_b * b_bytes, activity.nnz_c * c_bytes)
    compulsory = math.floor(sum(elements))
    compute_roof = activity.multiplies / machine.peak_multiplies_per_cycle(workload.dtype)
    dram_roof = compulsory / machine.config.dram_bytes_per_cycle
    return {
        "compulsory_bytes": compulsory,
        "nominal_bytes": 12 * (workload.a.nnz + workload.b.nnz + activity.nnz_c),
        "roofline_cycles": 0.0 if machine.measured else max(compute_roof, dram_roof),
        "limited_by": activity.limited_by,
    }


def _details(workload: Workload, machine: Machine, activity: Activity, seconds: float) -> dict[str, Any]:
    """Return the machine's own counters, and what is kept out of the comparable figures."""
    details = dict(activity.details)
    if machine.config.device_power_w is not None:
        details["device_energy_pj"] = machine.config.copies * machine.config.device_power_w * seconds * 1e12
    if workload.b_unique_elements is not None:
        width = workload.dtype.bytes
        expanded = workload.groups * workload.k * workload.n
        details["im2col_bytes"] = {"unique": workload.b_unique_elements * width, "expanded": expanded * width}
    payload, notes = dict(activity.payload_bytes), list(activity.notes)
    return details | {"payload_bytes": payload, "reason": activity.reason, "notes": notes}


def _refuse_nonsense(data: Mapping[str, Any], bytes_per_cycle: float) -> None:
    where = f"{data['machine']['name']} on {data['workload']['name']} {data['workload']['layer']}".strip()
    total = data["cycles"]["total"]
    slack = 1e-6 * max(total, 1)

    def demand(holds: bool, what: str) -> None:
        if not holds:
            raise ModelError(f"{where}: {what}; please report this, it is a defect of the model")

    for name, stage in data["cycles"]["stages"].items():
        demand(min(stage.values()) >= -slack, f"stage {name} has negative time")
        demand(stage["busy"] <= total + slack, f"stage {name} is busy {stage['busy']} of {total} cycles")
        demand(abs(sum(stage.values()) - total) <= slack, f"times of stage {name} do not sum to {total} cycles")
    demand(total + 1 >= data["bounds"]["roofline_cycles"], "faster than its roofline")
    streams = {key: value for key, value in data["dram_bytes"].items() if key != "total"}
    demand(min(streams.values()) >= 0, "negative traffic")
    demand(data["dram_bytes"]["total"] <= (total + 1) * bytes_per_cycle, "more bytes than the bus can carry")
    demand(data["dram_bytes"]["total"] >= data["bounds"]["compulsory_bytes"], "less than the compulsory traffic")
    parts = [value for key, value in data["energy_pj"].items() if key != "total"]
    demand(min(parts, default=0) >= 0, "negative energy")
    demand(math.isclose(sum(parts), data["energy_pj"]["total"], rel_tol=1e-9, abs_tol=1e-9), "energy does not sum")


def _told_sample(sample: Mapping[str, Any] | None, cycles: int) -> list[tuple[str, str]]:
    """Return the line that says what was estimated, and how well."""
    if sample is None:
        return []
    if "cycles.total" not in sample["intervals"]:
        return [("sampled", f"nothing, {sample['exact']}")]
    low, high = sample["intervals"]["cycles.total"]
    return [
        ("sampled", f"cycles {si(cycles, '')}, 95 % between {si(low, '')} and {si(high, '')}".replace(" ,", ",")),
        ("", "non-zeros of C, DRAM and energy are estimates too, see details.sample.intervals"),
    ]


def _share(part: float, whole: float) -> str:
    share = 100 * part / whole if whole else 0.0
    return f"{share:.1f}%" if share >= 0.1 or not share else f"{share:.2g}%"


def si(value: float, unit: str) -> str:
    """Format with an SI prefix, three digits."""
    if value == 0:
        return f"0 {unit}"
    exponent = min(max(math.floor(math.log10(abs(value)) / 3), -4), 4)
    prefix = {-4: "p", -3: "n", -2: "u", -1: "m", 0: "", 1: "k", 2: "M", 3: "G", 4: "T"}[exponent]
    return f"{value / 1000**exponent:.3g} {prefix}{unit}"
