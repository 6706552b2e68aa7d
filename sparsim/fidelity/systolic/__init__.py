"""Systolic arrays: SCALE-Sim's cycles layer by layer, the times of SIGMA's TPU-like array, and the peaks of two TPUs.

``scalesim.csv`` is what ``benchmarks/fidelity/run_scalesim.py`` wrote. The model's side is ``array_cycles`` of the
preset ``systolic`` with the array and dataflow of the case, its layer built by the reader of SCALE-Sim's topologies.

SIGMA's array of 128 x 128 cells takes, for each product, the better of holding A or B, and for each fold
T + min(k, 128) + 128 cycles; all ten times follow from that. Here it is an array whose weights load behind the fold
before: T + 254 cycles a fold and 128 for the first load.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterator
from importlib import resources

from sparsim.fidelity.bench import Bench
from sparsim.fidelity.record import Published, Row, compare_with, read_published
from sparsim.io.scalesim import topology_layer
from sparsim.machines import machine
from sparsim.workload import DataType, Operand, Workload, layer_workload

__all__ = ["SHAPE", "TPU_LIKE", "cases", "rows", "scalesim_cycles"]

PAPER = "systolic"
SOURCE = "samajdar2018scalesim, release"
SHAPE = ("ifmap_height", "ifmap_width", "filter_height", "filter_width", "channels", "filters", "stride")
# No memory between the array and its operands, as in SIGMA's comparison.
TPU_LIKE = {
    "array.rows": 128, "array.cols": 128, "array.overlap": "load", "on_chip.bytes": 2**50, "dram.gb_s_per_channel": 1e6,
}  # fmt: skip
Case = dict[str, str]


def cases() -> list[Case]:
    """Return what SCALE-Sim counted: layer, shape, array, dataflow, cycles, and what its report says."""
    text = resources.files("sparsim.fidelity").joinpath(PAPER, "scalesim.csv").read_text("utf-8")
    return list(csv.DictReader(text.splitlines()))


def scalesim_cycles(case: Case) -> int:
    """Return the model's cycles for one of SCALE-Sim's cases."""
    fields = {"array.rows": int(case["rows"]), "array.cols": int(case["cols"]), "array.dataflow": case["dataflow"]}
    layer = topology_layer(case["layer"], *(int(case[key]) for key in SHAPE))
    cycles: int = machine("systolic", fields).run(layer_workload(layer)).details["array_cycles"]
    return cycles


def rows(bench: Bench) -> Iterator[Row]:
    """Yield how many of SCALE-Sim's cases are equal to the cycle, by dataflow and array, then the published figures."""
    groups: dict[str, list[bool]] = defaultdict(list)
    found = cases()
    for case in found:
        row = _case_row(case)
        groups[f"{case['dataflow']}, {case['rows']}x{case['cols']} cells"].append(row.modelled == row.published)
        yield row
    for name, equal in sorted(groups.items()):
        figure = Published(
            "layers with SCALE-Sim's cycles", name, len(equal), "layers", f"{SOURCE} {found[0]['version']}",
            "third_party", "check", tolerance=0.0,
        )  # fmt: skip
        yield compare_with(PAPER, figure, sum(equal))
    for figure in read_published(PAPER):
        yield compare_with(PAPER, figure, _peak(figure) if figure.quantity == "peak" else _time_ns(figure))


def _case_row(case: Case) -> Row:
    place = f"{case['layer']}, {case['dataflow']}, {case['rows']}x{case['cols']} cells"
    told, cycles = int(case["cycles"]), scalesim_cycles(case)
    error = cycles / told - 1
    return Row(PAPER, "array_cycles", place, "cycles", told, cycles, error, None, "third_party", "detail", "shown")


def _time_ns(figure: Published) -> float:
    m, n, k = (int(word) for word in figure.workload.split("x"))
    built = machine("systolic", TPU_LIKE)
    activity = built.run(Workload(Operand.dense(m, k), Operand.dense(k, n), dtype=DataType.FP16))
    return activity.stages["multiply"].busy / built.config.clock_ghz


def _peak(figure: Published) -> float:
    built = machine(figure.workload)
    dtype = DataType.INT8 if figure.workload == "tpu_v1" else DataType.BF16
    return 2 * built.peak_multiplies_per_cycle(dtype) * built.config.clock_ghz / 1e3
