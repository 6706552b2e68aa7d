"""Energy tables: every number has a source that exists, the SRAM line passes its points, a sum by hand agrees."""

from __future__ import annotations

import dataclasses
import re
from importlib import resources

import pytest
from hypothesis import given
from hypothesis import strategies as st

import sparsim
from sparsim.energy import CLASSES, energy_by_class, energy_pj, load_table, refusal, table_names
from sparsim.energy.table import TableEntry
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
        for rising in (("int8", "fp32", "fp64"), ("fp8", "bf16", "fp16", "tf32", "fp32", "fp64")):
            values = [table.operation(operation, DataType.parse(label)) for label in rising]
            assert values == sorted(values)
        assert table.operation(operation, DataType.TF32) == table.operation(operation, DataType.FP16)
        assert all(table.operation(operation, dtype) > 0 for dtype in DataType)
    assert len({table.operation("compare", dtype) for dtype in DataType}) == 1


@pytest.mark.parametrize("name", TABLES)
def test_sram_line_passes_through_its_points(name):
    table = load_table(name)
    for size, entry in table.sram.items():
        assert table.sram_access(size, table.sram_width_bytes) == pytest.approx(entry.value)
        wider = 2.0 if table.sram_width_rule == "linear" else 0.7 * 2 + 0.3
        if len(table.sram) == 1:
            size *= 2  # as many words as before
        assert table.sram_access(size, 2 * table.sram_width_bytes) == pytest.approx(wider * entry.value)


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
    # a quarter of the data, all of the address
    assert table.sram_access(8192, 2) == pytest.approx(10 * (0.7 / 4 + 0.3))


def test_one_point_grows_with_the_number_of_words():
    # 5 pJ for one of 8192 words of 4 bytes; twice the words at one width, then the same bytes in half as many words
    table = load_table("han_45nm")
    assert table.sram_access(65536, 4) == pytest.approx(5 * 2**0.78)
    assert table.sram_access(32768, 8) == pytest.approx(5 * 1.7 / 2**0.78)


@pytest.mark.parametrize("name", preset_names())
@pytest.mark.parametrize("table", TABLES)
def test_memory_of_every_preset_is_in_every_table(name, table):
    per_byte, static = load_table(table).dram_terms(machine(name).config.dram.technology)
    assert per_byte + static > 0
    assert min(per_byte, static) >= 0


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
        "queue": 2 * 20.0 * (0.7 * 2 + 0.3),
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
    with pytest.raises(ConfigError, match=r"no multiply for fp64; allowed: bf16, fp16, fp32, fp8, int8, tf32"):
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


def test_a_family_brings_its_own_memory_where_its_source_has_one():
    common, own = load_table("aladdin_40nm").dram, load_table("jouppi_7nm").dram
    assert set(common) == set(own)
    brought = {key for key in own if own[key] != common[key]}
    assert brought == {"hbm2", "gddr6", "ddr3"}
    assert own["hbm2"].value == pytest.approx((250 + 450) / 2 / 8)
    assert load_table("han_45nm").dram["ddr3"].value == pytest.approx(640 / 4)


def test_a_technology_without_a_sourced_figure_says_so():
    for name in ("hbm3", "hbm3e"):
        entry = load_table().dram[name]
        assert (entry.status, entry.value) == ("assumed", load_table().dram["hbm2"].value)


def test_one_family_may_take_the_arithmetic_of_another():
    aladdin, sparch = load_table("aladdin_40nm"), load_table("sparch_40nm")
    assert sparch.operations == aladdin.operations
    assert not set(sparch.sram) & set(aladdin.sram)
    assert sparch.static["bytes"].value != aladdin.static["bytes"].value


@pytest.mark.parametrize("name", TABLES)
def test_what_a_family_leaves_out_is_said(name):
    table = load_table(name)
    assert table.not_charged
    assert table.static or "leakage" in table.not_charged


def test_leakage_of_memories_from_the_stored_run():
    # 40.3031 mW over 102,400 bytes, on the dense machine's 801,280 bytes for a microsecond
    energy = energy_pj(activity(), DataType.FP16, HBM, 1e-6, load_table("aladdin_40nm"), machine("dense").inventory())
    assert energy["global_buffer_static"] == pytest.approx(40.3031e-3 / 102400 * 801280 * 1e6, rel=1e-3)


@pytest.mark.parametrize("name", ["dense", "systolic", "outerspace", "sparch"])
def test_memories_of_an_inventory_bear_the_names_of_the_buffers(name):
    built = machine(name)
    work = sparsim.gemm(64, 64, 32, pattern="density:0.2")
    buffers = built.run(work).buffers
    memories = {key.removesuffix(".bytes"): size for key, size in built.inventory().items() if key.endswith(".bytes")}
    # SpArch's inventory also has FIFOs that are not charged by access; OuterSPACE's private caches are its first level
    assert set(buffers) - {"private_cache"} <= set(memories)
    assert all(memories[key] >= buffer.capacity_bytes for key, buffer in buffers.items() if key in memories)


def test_outerspace_has_the_memory_its_dense_counterpart_is_given():
    memories = {key: size for key, size in machine("outerspace").inventory().items() if key.endswith(".bytes")}
    assert sum(memories.values()) == machine("dense-outerspace").config.on_chip.bytes


@given(st.dictionaries(st.sampled_from(
    ["multiply", "add", "compare", "l0", "global_buffer", "merge_static", "l0_static", "dram_access", "dram_static"]
), st.floats(0, 1e12)))  # fmt: skip
def test_classes_sum_to_the_total(parts):
    classes = energy_by_class({"total": sum(parts.values()), **parts})
    assert tuple(classes) == CLASSES
    assert sum(classes.values()) == pytest.approx(sum(parts.values()))


def test_classes_by_hand():
    parts = {"total": 63, "multiply": 1, "add": 2, "compare": 4, "l0": 8, "l0_static": 16, "dram_static": 32}
    assert energy_by_class(parts) == {"DRAM": 32, "on-chip memory": 8, "arithmetic": 7, "static": 16}


def test_refusal_names_the_machine():
    bare = machine("dense")
    assert refusal("sparch_40nm", [bare, machine("outerspace")], DataType.FP8) == ""
    bare.inventory = dict
    assert "dense" in refusal("sparch_40nm", [bare], DataType.FP8)
    assert refusal("han_45nm", [bare], DataType.FP8) == ""
