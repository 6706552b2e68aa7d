"""The JSON contract of a report, key by key, and its sense, for every machine on every kind of workload."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

import sparsim
from sparsim.energy import load_table
from sparsim.errors import ConfigError, ModelError
from sparsim.machines import Stage, machine, preset_names
from sparsim.matrix import Csr
from sparsim.network import Layer
from sparsim.report import FIELDS, build_report
from sparsim.simulate import gemm, product, run
from sparsim.workload import DataType, Operand, Workload, layer_workload

SECTIONS = {
    "workload", "machine", "cycles", "time_s", "gflops", "dram_bytes", "energy_pj", "bounds", "details", "provenance",
}  # fmt: skip
WORKLOAD = {
    "name", "layer", "m", "k", "n", "nnz_a", "nnz_b", "nnz_c", "multiplies", "additions", "dense_multiplies", "dtype",
}  # fmt: skip
STREAMS = ("a", "b", "partial_read", "partial_write", "c")
LIMITS = {
    *("look_ahead", "multiply", "merge", "dram", "prefetch", "latency", "load_imbalance", "launch", "measured"),
    *("shared_memory", "l2", "power"),
}
SPARCH_DETAILS = {
    "condensed_columns", "merge_rounds", "first_round_ways", "partial_elements_written", "partial_elements_read",
    "layer_elements", "b_bytes_fetched", "prefetch_hit_rate", "orientation",
}  # fmt: skip


def mask(rows, cols, density, seed=0):
    return (np.random.default_rng(seed).random((rows, cols)) < density).astype(float)


def empty(rows, cols):
    return Operand.of(Csr.build((rows, cols), np.zeros(rows + 1, dtype=int), np.zeros(0, dtype=int)))


def grouped_layer():
    weight = mask(16, 4 * 9, 0.4).reshape(16, 4, 3, 3)
    return Layer("grouped", weight, (1, 1), (1, 1), (1, 1), groups=4, input_size=(7, 7), activation_density=0.6)


def half_empty_b():
    b = mask(40, 30, 0.2)
    b[::2] = 0
    return b


WORKLOADS = {
    "squared_fp64": product(sp.csr_array(mask(60, 60, 0.1))),
    "layer_fp16": layer_workload(
        Layer("conv", mask(32, 16 * 9, 0.2).reshape(32, 16, 3, 3), input_size=(9, 9)), batch=2
    ),
    "gemm_2:4": gemm(64, 64, 48, pattern="2:4"),
    "gemm_int8": gemm(32, 64, 16, dtype="int8"),
    "groups": layer_workload(grouped_layer()),
    "depthwise": layer_workload(Layer("dw", np.ones((6, 1, 3, 3)), groups=6, input_size=(5, 5))),
    "one_by_one": gemm(1, 1, 1),
    "one_column": gemm(128, 96, 1, pattern="density:0.1"),
    "empty_b_rows": product(mask(50, 40, 0.2), half_empty_b(), dtype="fp16"),
    "empty_a": Workload(empty(20, 30), Operand.dense(30, 8), dtype=DataType.FP16),
    "empty_both": Workload(empty(20, 30), empty(30, 8), dtype=DataType.FP16),
    "full_a_empty_b": Workload(Operand.dense(20, 30), empty(30, 8), dtype=DataType.FP16),
    "no_rows": Workload(Operand.dense(0, 5), Operand.dense(5, 4), dtype=DataType.FP16),
    "no_columns": Workload(Operand.dense(4, 5), Operand.dense(5, 0), dtype=DataType.FP16),
    "no_inner": Workload(Operand.dense(4, 0), Operand.dense(0, 5), dtype=DataType.FP16),
    "tall": gemm(1000, 3, 2),
}


@pytest.fixture(params=preset_names())
def name(request):
    return request.param


@pytest.fixture(params=WORKLOADS)
def work(request):
    return WORKLOADS[request.param]


def report_of(work, name):
    """The report; in fp16 or int8 where the machine has no such data type and says so."""
    for dtype in (work.dtype, DataType.FP16):
        try:
            return run(dataclasses.replace(work, dtype=dtype), name)
        except ConfigError as error:
            refusal = str(error)
        assert dtype.label in refusal
        assert "\n" not in refusal
    return run(dataclasses.replace(work, dtype=DataType.INT8), name)


def plain(node):
    """Whether a record holds nothing but what JSON has."""
    if type(node) is dict:
        return all(type(key) is str and plain(value) for key, value in node.items())
    if type(node) in (list, tuple):
        return all(plain(value) for value in node)
    return node is None or (type(node) in (bool, int, str)) or (type(node) is float and math.isfinite(node))


def impure(node, path=""):
    """Where it does."""
    if isinstance(node, dict):
        return [spot for key, value in node.items() for spot in impure(value, f"{path}.{key}")]
    if isinstance(node, list | tuple):
        return [spot for at, value in enumerate(node) for spot in impure(value, f"{path}[{at}]")]
    return [] if plain(node) else [f"{path}: {type(node).__name__} {node}"]


def test_contract(work, name):
    report = report_of(work, name)
    data = report.data
    assert set(data) == SECTIONS
    assert set(data["workload"]) - {"groups"} == WORKLOAD
    assert set(data["machine"]) - {"area_mm2"} == {"name", "clock_ghz", "config", "technology_nm", "assumed"}
    assert set(data["cycles"]) == {"total", "ideal", "stages"}
    assert all(set(stage) == {"busy", "starved", "blocked"} for stage in data["cycles"]["stages"].values())
    assert tuple(data["dram_bytes"]) == ("total", *STREAMS)
    assert set(data["bounds"]) == {"compulsory_bytes", "nominal_bytes", "roofline_cycles", "limited_by"}
    assert set(data["provenance"]) == {"version", "workload_sha256", "config_sha256", "energy_table"}
    assert tuple(data["details"]["payload_bytes"]) == STREAMS
    if name == "sparch":
        assert set(data["details"]) >= SPARCH_DETAILS
    assert impure(data) == []
    assert json.loads(json.dumps(data)) == json.loads(report.to_json())
    for key in FIELDS:
        assert isinstance(report[key], int | float), key


def test_sense(work, name):
    report = report_of(work, name)
    data, total = report.data, report.cycles
    w, dram, bounds = data["workload"], data["dram_bytes"], data["bounds"]
    stages = data["cycles"]["stages"]
    assert stages
    assert data["cycles"]["ideal"] == max(stage["busy"] for stage in stages.values())
    for stage in stages.values():
        assert min(stage.values()) >= -1e-6
        assert stage["busy"] <= total + 1e-6
        assert sum(stage.values()) == pytest.approx(total)
    assert total + 1 >= bounds["roofline_cycles"]
    assert machine(name).measured or total + 1 >= dram["total"] / machine(name).config.dram_bytes_per_cycle
    assert dram["total"] == sum(dram[stream] for stream in STREAMS) >= bounds["compulsory_bytes"]
    assert all(dram[stream] >= data["details"]["payload_bytes"][stream] for stream in STREAMS)
    energy = data["energy_pj"]
    assert energy["total"] == pytest.approx(sum(value for key, value in energy.items() if key != "total"))
    assert min(energy.values()) >= 0
    assert bounds["limited_by"] in LIMITS
    assert bounds["nominal_bytes"] == 12 * (w["nnz_a"] + w["nnz_b"] + w["nnz_c"])
    assert (w["m"], w["k"], w["n"]) == (work.m, work.k, work.n)
    assert (w["nnz_a"], w["nnz_b"], w["nnz_c"]) == (work.a.nnz, work.b.nnz, work.nnz_c)
    assert w["multiplies"] == work.multiplies
    assert w["additions"] == w["multiplies"] - w["nnz_c"] >= 0
    assert w["dtype"] in (work.dtype.label, "fp16", "int8")
    assert data["time_s"] == pytest.approx(total / (data["machine"]["clock_ghz"] * 1e9))
    flop = 2 * w["multiplies"] - w["nnz_c"]
    assert report.gflops == pytest.approx(flop / data["time_s"] / 1e9 if total else 0)


def test_reason_is_one_sentence(work, name):
    reason = report_of(work, name).reason
    assert reason == reason.strip()
    assert len(reason) >= 8  # "BLAS 9 us"
    assert "\n" not in reason
    assert ". " not in reason


@pytest.mark.parametrize("name", [name for name in preset_names() if not machine(name).measured], indirect=True)
def test_deterministic(name):
    work = WORKLOADS["layer_fp16"]
    assert report_of(work, name).data == report_of(work, name).data


WITHOUT_COMPILER = """
import numpy as np
from sparsim.simulate import simulate
band = np.eye(9) + np.eye(9, k=1) + np.eye(9, k=-2)
print(simulate(band, overrides={"merge.layers": 1}).to_json(None))
"""


def test_the_same_without_compiling():
    root = str(Path(sparsim.__file__).parents[1])
    lines = []
    for switch in ("0", "1"):
        environment = os.environ | {"NUMBA_DISABLE_JIT": switch, "PYTHONPATH": root}
        command = [sys.executable, "-W", "error", "-c", WITHOUT_COMPILER]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-400:]
        lines.append(done.stdout)
    assert lines[0] == lines[1]


def test_renders(work, name):
    report = report_of(work, name)
    text, html, frame = str(report), report._repr_html_(), report.to_frame()
    assert report.machine in text
    assert html.startswith("<table>")
    assert frame.loc["cycles.total", "value"] == report.cycles
    assert (frame.loc[list(FIELDS), "unit"] != "").all()
    assert all(len(line) < 200 for line in text.splitlines())


def test_compulsory_bytes_are_the_workloads_not_the_orientations():
    work = WORKLOADS["empty_b_rows"]
    seen = {}
    for orientation in ("wx", "xtwt"):
        bounds = run(work, "sparch", {"mapping.orientation": orientation})["bounds"]
        seen[orientation] = (bounds["compulsory_bytes"], bounds["roofline_cycles"])
    assert seen["wx"] == seen["xtwt"]


def test_transposed_run_of_a_product_with_little_of_b():
    """Rows of A's transpose that meet no element of B are never read; that is less than nnz(A), and no defect."""
    b = np.zeros((100, 3))
    b[0] = 1
    report = run(product(np.ones((100, 100)), b), "sparch", {"mapping.orientation": "xtwt"})
    assert report["dram_bytes.a"] < 100 * 100 * 12
    assert report["dram_bytes.total"] >= report["bounds.compulsory_bytes"]


# --- nonsense is refused ---------------------------------------------------------------------------------------------


def doctored(name="sparch", **changes):
    work, built = WORKLOADS["squared_fp64"], machine(name)
    activity = built.run(work)
    values = {key: change(activity) for key, change in changes.items()}
    return build_report(work, built, dataclasses.replace(activity, **values), load_table())


def first_stage(activity, **changes):
    name, stage = next(iter(activity.stages.items()))
    return dict(activity.stages) | {name: dataclasses.replace(stage, **changes)}


@pytest.mark.parametrize(
    ("key", "change", "words"),
    [
        (
            "stages",
            lambda a: first_stage(a, busy=2.0 * a.cycles, starved=-1.0 * a.cycles, blocked=0.0),
            "negative time",
        ),
        ("stages", lambda a: first_stage(a, busy=2.0 * a.cycles, starved=0.0, blocked=0.0), "is busy"),
        ("stages", lambda a: first_stage(a, busy=0.0, starved=0.0, blocked=0.0), "do not sum"),
        ("dram_bytes", lambda a: dict.fromkeys(STREAMS, 1), "compulsory"),
        ("dram_bytes", lambda a: dict(a.dram_bytes) | {"a": -(10**9)}, "negative traffic"),
        ("multiplies", lambda a: 10**9, "roofline"),
        ("operations", lambda a: {"multiply": -5}, "negative energy"),
    ],
)
def test_doctored_activity_is_refused(key, change, words):
    with pytest.raises(ModelError, match=words) as caught:
        doctored(**{key: change})
    assert "\n" not in str(caught.value)


def test_machine_that_outruns_time_is_refused():
    with pytest.raises(ModelError, match="roofline"):
        doctored(cycles=lambda a: 1, stages=lambda a: {"all": Stage(1.0, 0.0)})


def test_more_bytes_than_the_bus_can_carry_are_refused():
    with pytest.raises(ModelError):
        doctored(dram_bytes=lambda a: dict(a.dram_bytes) | {"b": 10**9})


def test_undoctored_passes():
    assert doctored().cycles > 0


def test_nothing_to_do_is_told_without_parts():
    told = dict(sparsim.simulate(np.zeros((3, 3))).summary())
    assert told["DRAM"] == "0 B"
    assert told["energy"] == "0 J"
    assert told["bound by"] == "latency: there is nothing to multiply"
