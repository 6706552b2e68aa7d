"""Energy tables: every number has a source that exists, the SRAM line passes its points, a sum by hand agrees."""

from __future__ import annotations

import dataclasses
import re
from importlib import resources

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsim.energy import energy_pj, load_table, table_names
from sparsim.energy.model import TableEntry
from sparsim.errors import ConfigError
from sparsim.machines import STREAMS, Activity, Buffer, Stage, machine, preset_names
from sparsim.machines.base import DramConfig
from sparsim.workload import DataType

TABLES = table_names()
HBM = DramConfig(
    technology="hbm", channels=16, gb_s_per_channel=8.0, burst_bytes=32, latency_ns=100.0, interleave_bytes=256
)


def entries(table):
    for section in ("operations", "sram", "dram", "dram_static", "static"):
        for key, entry in getattr(table, section).items():
            yield f"{section}.{key}", entry


@pytest.mark.parametrize("name", TABLES)
def test_sources_resolve(name):
    text = resources.files("sparsim.energy").joinpath("references.bib").read_text("utf-8")
    known = set(re.findall(r"^@\w+\{(\w+),", text, re.MULTILINE))
    for key, entry in entries(load_table(name)):
        if entry.source == "none":
            assert entry.status == "assumed", f"{name} {key} has no source"
            continue
        source, comma, place = entry.source.partition(",")
        assert source in known, f"{name} {key}: {source}"
        assert comma, key
        assert place.strip(), key
        assert (
            entry.unit
            in {
                "operations": ("pJ",),
                "sram": ("pJ",),
                "dram": ("pJ/byte",),
                "dram_static": ("W/(GB/s)", "W per GB/s"),
                "static": ("W per byte", "W per comparator"),
            }[key.partition(".")[0]]
        )
        if entry.status in ("derived", "assumed"):
            assert entry.note, f"{name} {key}: {entry.status} needs its reason"


@pytest.mark.parametrize("name", TABLES)
def test_arithmetic_is_complete_for_every_type(name):
    table = load_table(name)
    for operation in ("multiply", "add"):
        values = [table.operation(operation, dtype) for dtype in (DataType.INT8, DataType.FP32, DataType.FP64)]
        assert values == sorted(values)
        assert all(table.operation(operation, dtype) > 0 for dtype in DataType)
    assert len({table.operation("compare", dtype) for dtype in DataType}) == 1


@pytest.mark.parametrize("name", TABLES)
def test_sram_line_passes_through_its_points(name):
    table = load_table(name)
    for size, entry in table.sram.items():
        assert table.sram_access(size, table.sram_width_bytes) == pytest.approx(entry.value)
        assert table.sram_access(size, 2 * table.sram_width_bytes) == pytest.approx(2 * entry.value)


@pytest.mark.parametrize("name", TABLES)
@given(st.integers(0, 2**30), st.integers(0, 2**30), st.integers(1, 1024))
def test_larger_sram_never_costs_less(name, one, other, width):
    table = load_table(name)
    small, large = (table.sram_access(size, width) for size in sorted((one, other)))
    assert 0 < small <= large


def test_sram_between_two_points_lies_on_the_log_log_line():
    # 10 pJ at 8 KiB and 20 pJ at 32 KiB: the square root of the size, so sqrt(2) x 10 at 16 KiB and 5 at 2 KiB.
    table = load_table("horowitz_45nm")
    assert table.sram_access(16384, 8) == pytest.approx(10 * 2**0.5)
    assert table.sram_access(2048, 8) == pytest.approx(5)
    assert table.sram_access(8192, 2) == pytest.approx(2.5)


@pytest.mark.parametrize("name", preset_names())
def test_memory_of_every_preset_is_in_the_default_table(name):
    per_byte, static = load_table().dram_terms(machine(name).config.dram.technology)
    assert per_byte > 0
    assert static >= 0


def activity(**changes):
    facts = {
        "cycles": 1000,
        "stages": {"multiply": Stage(500.0, 500.0)},
        "multiplies": 100,
        "nnz_c": 40,
        "operations": {"multiply": 100, "add": 60, "compare": 50},
        "buffers": {"rows": Buffer(8192, 8, 30, 12), "queue": Buffer(32768, 16, 1, 1)},
        "dram_bytes": dict(zip(STREAMS, (320, 640, 0, 0, 64), strict=True)),
        "payload_bytes": dict.fromkeys(STREAMS, 0),
        "element_bytes": (6, 6, 6),
        "compulsory_b": 10,
        "limited_by": "multiply",
        "reason": "a test",
    }
    return Activity(**(facts | changes))


def test_a_sum_by_hand():
    energy = energy_pj(activity(), DataType.FP16, HBM, 1e-6, load_table("horowitz_45nm"))
    expected = {
        "multiply": 100 * 1.1,
        "add": 60 * 0.9,
        "compare": 50 * 0.2,
        "rows": 42 * 10.0,
        "queue": 2 * 20.0 * 2,
        "dram_access": 1024 * 31.2,
        "dram_static": 0.0,
    }
    assert energy == pytest.approx({"total": sum(expected.values()), **expected})


def test_no_action_costs_nothing():
    idle = activity(operations={"multiply": 0, "add": 0}, buffers={}, dram_bytes=dict.fromkeys(STREAMS, 0))
    assert energy_pj(idle, DataType.FP16, HBM, 1e-6, load_table())["total"] == 0


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda: load_table("horowitz"), "horowitz_45nm"),
        (lambda: load_table().dram_terms("hbm9"), "hbm"),
        (lambda: load_table().operation("divide", DataType.FP16), "no divide for fp16"),
    ],
)
def test_what_is_missing_is_refused_in_one_line(ask, words):
    with pytest.raises(ConfigError) as caught:
        ask()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_another_family_does_not_fill_a_gap():
    table = load_table()
    left = {key: entry for key, entry in table.operations.items() if key != "multiply.fp64"}
    poorer = dataclasses.replace(table, operations=left)
    with pytest.raises(ConfigError, match=r"no multiply for fp64; allowed: bf16, fp16, fp32, int8"):
        energy_pj(activity(), DataType.FP64, HBM, 1e-6, poorer)


STATIC = dataclasses.replace(
    load_table(),
    static={
        "bytes": TableEntry(value=2.0, unit="W per byte", source="none", status="assumed", note="a test"),
        "comparators": TableEntry(value=5.0, unit="W per comparator", source="none", status="assumed", note="a test"),
    },
)


def test_power_of_what_a_machine_is_built_of():
    built = {"rows.bytes": 3, "merge.comparators": 4, "merge.bytes": 1, "merge.adders": 7, "multipliers.units": 9}
    energy = energy_pj(activity(), DataType.FP16, HBM, 1e-6, STATIC, built)
    plain = energy_pj(activity(), DataType.FP16, HBM, 1e-6, load_table())
    more = {"rows_static": 6e6, "merge_static": 22e6}
    assert energy == pytest.approx(plain | more | {"total": plain["total"] + sum(more.values())})


def test_a_machine_that_does_not_say_what_it_is_built_of_is_not_charged_nothing():
    with pytest.raises(ConfigError, match="horowitz_45nm"):
        energy_pj(activity(), DataType.FP16, HBM, 1e-6, STATIC)
    assert energy_pj(activity(), DataType.FP16, HBM, 1e-6, load_table())["total"] > 0
