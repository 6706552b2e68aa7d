"""SpArch at 40 nm: published areas and energies come back, derived figures follow, and both move for a cause."""

from __future__ import annotations

import math
import re
from importlib import resources
from itertools import pairwise

import pytest
import scipy.sparse

import sparsim
from sparsim.energy import area_mm2, energy_pj, load_table
from sparsim.energy.area import area_names, load_areas
from sparsim.errors import ConfigError
from sparsim.machines import STREAMS, Activity, Buffer, Stage, machine
from sparsim.workload import DataType

TABLE = load_table("sparch_40nm")
# Published averages: throughput, and energy by class.
GFLOPS = 10.4
NJ = {"compute": 0.26, "sram": 0.34, "dram": 0.29}
# FLOP and products a compulsory byte; elements entering the tree's layers a product, wiki-Vote and facebook.
PRODUCTS = 0.130 / 0.187 * GFLOPS
LAYERS = (24246 / 4542.805 + 70880 / 18806.166) / 2
COMPUTE = ("multiply", "add", "compare", "merge_static")
DRAM = ("dram_access", "dram_static")


def sparch(**changes):
    return machine("sparch", {key.replace("__", "."): value for key, value in changes.items()})


def average(ns=1_000_000):
    """Return what the published average does in ``ns`` nanoseconds at 1 GHz."""
    products = round(PRODUCTS * ns)
    nnz_c = round((2 * PRODUCTS - GFLOPS) * ns)
    entering = round(PRODUCTS * LAYERS * ns)
    return Activity(
        cycles=ns,
        stages={"multiply": Stage(float(ns), 0.0)},
        multiplies=products,
        nnz_c=nnz_c,
        operations={"multiply": products, "add": products - nnz_c, "compare": 8 * entering},
        buffers={
            "prefetch_buffer": Buffer(589824, 96, round(products / 6.2), round(0.38 * 12 * products / 96)),
            "merge_fifos": Buffer(768, 16, entering, entering),
            "writer_fifo": Buffer(16384, 16, nnz_c, nnz_c),
        },
        dram_bytes=dict.fromkeys(STREAMS, 0),
        payload_bytes=dict.fromkeys(STREAMS, 0),
        element_bytes=(12, 12, 12),
        compulsory_b=0,
        limited_by="dram",
        reason="the published average",
    )


def classes(energy, flop):
    compute, dram = (sum(energy.get(key, 0.0) for key in keys) for keys in (COMPUTE, DRAM))
    return {
        name: pj / flop / 1e3
        for name, pj in (("compute", compute), ("sram", energy["total"] - compute - dram), ("dram", dram))
    }


def energy_of(built, activity):
    seconds = activity.cycles / built.config.clock_ghz / 1e9
    return energy_pj(activity, DataType.FP64, built.config.dram, seconds, TABLE, built.inventory())


def test_published_energy_comes_back_at_the_published_average():
    activity = average()
    energy = energy_of(sparch(), activity)
    assert classes(energy, GFLOPS * activity.cycles) == pytest.approx(NJ, rel=5e-3)
    assert energy["total"] / activity.cycles == pytest.approx(9.26e3, rel=3e-3)  # pJ a ns = mW
    assert energy["total"] / activity.cycles / GFLOPS == pytest.approx(0.89e3, rel=3e-3)


def test_dram_is_peak_power_times_time():
    per_byte, watts = TABLE.dram_terms("hbm")
    assert per_byte == 0
    assert watts * 128 == pytest.approx(128 / 42.6, rel=1e-5)
    assert watts * 128 / GFLOPS == pytest.approx(NJ["dram"], abs=0.005)
    one, two = (energy_of(sparch(), average(ns))["dram_static"] for ns in (1000, 2000))
    assert two == pytest.approx(2 * one)
    assert TABLE.dram_terms("gddr6x") == load_table().dram_terms("gddr6x"), "the source has HBM alone"


def test_published_area_comes_back():
    area, table = area_mm2(sparch()), load_areas("sparch")
    units = {key: entry.value for key, entry in table.published.items() if key != "total"}
    assert area == pytest.approx(units | {"total": 28.50}, abs=1e-4)
    assert area["total"] == pytest.approx(table.published["total"].value, abs=0.02)
    assert table.published["total"].value * (28 / 40) ** 2 == pytest.approx(13.96, abs=5e-3)
    # the square of the node, as ACES has it, and the areas of Stillmaker and Baas agree from 40 to 28 nm
    assert area_mm2(sparch(technology_nm=28))["total"] == pytest.approx(13.96, rel=0.02)


def test_sources_of_areas_resolve():
    text = resources.files("sparsim.energy").joinpath("references.bib").read_text("utf-8")
    known = set(re.findall(r"^@\w+\{(\w+),", text, re.MULTILINE))
    for name in area_names():
        table = load_areas(name)
        pieces = {f"{unit} {key}": entry for unit, found in table.per_piece.items() for key, entry in found.items()}
        for key, entry in {**table.published, **pieces}.items():
            assert entry.source.partition(",")[0] in known, key
            assert entry.unit.startswith("mm2"), key
            assert entry.note or entry.status == "recalled", key
        assert set(table.per_piece) == set(table.published) - {"total"}


def test_every_piece_of_the_inventory_but_none_twice_has_an_area():
    pieces = [key for found in load_areas("sparch").per_piece.values() for key in found]
    assert sorted(pieces) == sorted(sparch().inventory())


@pytest.mark.parametrize(
    ("change", "unit", "factor"),
    [
        ({"prefetch__lines": 512}, "row_prefetcher", 0.5),
        ({"prefetch__line_elements": 96}, "row_prefetcher", 2.0),
        ({"prefetch__policy": "off"}, "row_prefetcher", 0.0),
        ({"multipliers__groups": 4}, "multiplier_array", 2.0),
        ({"look_ahead_fifo__elements": 16384, "partial_fifo__elements": 16384}, "column_fetcher", 2.0),
    ],
)
def test_area_in_proportion(change, unit, factor):
    before, after = area_mm2(sparch()), area_mm2(sparch(**change))
    assert after[unit] == pytest.approx(factor * before[unit])
    assert {key for key in after if after[key] != before[key]} == {unit, "total"}
    assert after["total"] - before["total"] == pytest.approx(after[unit] - before[unit])


def test_flat_merger_has_twice_the_comparators():
    flat = sparch(merge__comparators="flat")
    assert flat.inventory()["merge.comparators"] == 6 * 256 == 2 * sparch().inventory()["merge.comparators"]
    grown = area_mm2(flat)["merge_tree"] - area_mm2(sparch())["merge_tree"]
    assert grown == pytest.approx(768 * 0.02001297)
    counts = {kind: report(merge__comparators=kind) for kind in ("hierarchical", "flat")}
    for part in ("compare", "merge_static"):
        flat_pj, two_levels = (counts[kind][f"energy_pj.{part}"] for kind in ("flat", "hierarchical"))
        assert flat_pj == pytest.approx(2 * two_levels)
    assert counts["flat"].cycles == counts["hierarchical"].cycles


@pytest.mark.parametrize("field", ["merge__width", "merge__layers"])
def test_tree_grows_faster_than_its_mergers_are_wide_but_slower_than_squared(field):
    sizes = (4, 8, 16, 32) if field == "merge__width" else (4, 5, 6, 7)
    trees = [area_mm2(sparch(**{field: size}))["merge_tree"] for size in sizes]
    ratios = [b / a for a, b in pairwise(trees)]
    assert all(1 < ratio < (4 if field == "merge__width" else 2) for ratio in ratios)
    assert trees == sorted(trees)


def test_small_mergers():
    # Two levels of 2 x 2 cost as much as one of 4 x 4: 4 + 3 x 4.
    for width in (1, 2, 4, 8, 16, 64):
        flat, levels = (
            sparch(merge__width=width, merge__comparators=kind).inventory()["merge.comparators"]
            for kind in ("flat", "hierarchical")
        )
        assert flat == 6 * width * width
        assert levels < flat if width > 4 else levels == flat


def report(**changes):
    return sparsim.simulate(random_square(), on=sparch(**changes), energy="sparch_40nm")


def random_square():
    return scipy.sparse.random_array((300, 300), density=0.02, rng=1, format="csr")


def test_report_has_area_and_energy_by_component():
    built = report()
    assert built["machine.area_mm2.total"] == pytest.approx(28.5, abs=1e-3)
    frame = built.to_frame()
    assert frame.loc["machine.area_mm2.merge_tree", "unit"] == "mm2"
    assert frame.loc["energy_pj.merge_static", "unit"] == "pJ"
    parts = {key: value for key, value in built["energy_pj"].items() if key != "total"}
    assert {"multiply", "merge_static", "prefetch_buffer", "prefetch_buffer_static", "dram_static"} <= set(parts)
    assert math.isclose(sum(parts.values()), built.energy_pj, rel_tol=1e-9)


def test_power_stays_within_everything_busy():
    # All multipliers, adders and comparators in every cycle, and every buffer's ports: 96 elements through the layers'
    # FIFOs, 2 slots and 128 bytes through the prefetch buffer, 16 elements through the writer's FIFO.
    built = report()
    watts = built.energy_pj * 1e-12 / built.time_s
    floor = 3.005 + sum(TABLE.static_watts(sparch().inventory()).values())
    assert floor <= watts <= floor + (16 * 113.8 + 96 * 43.75 + 768 * 0.059) * 1e-3 + 4.2


def test_a_machine_without_inventory_is_refused_by_the_table():
    dense = machine("dense")
    work = sparsim.product(random_square())
    activity = dense.run(work)
    assert energy_of(dense, activity)["global_buffer_static"] > 0
    dense.inventory = dict
    with pytest.raises(ConfigError, match="sparch_40nm"):
        energy_of(dense, activity)
    with pytest.raises(ConfigError, match="no areas of 'desne'; did you mean 'dense'"):
        load_areas("desne")


@pytest.mark.parametrize("name", ["wiki-Vote", "facebook"])
def test_classes_of_a_real_matrix_lie_around_the_published_average(real_data, name):
    built = sparsim.simulate(real_data / "matrices" / f"{name}.mtx", on="sparch", energy="sparch_40nm")
    found = classes(built["energy_pj"], built.gflops * built.time_s * 1e9)
    scale = GFLOPS / built.gflops
    for part, published in NJ.items():
        assert 0.9 * min(scale, 1) * published <= found[part] <= 1.5 * max(scale, 1) * published
    assert 7 <= built.energy_pj * 1e-12 / built.time_s <= 14
