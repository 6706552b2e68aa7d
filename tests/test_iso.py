"""Machines of unlike size beside each other: what they have, held equal, and what other layers leave of a speed-up."""

import json
import math
import sys

import numpy as np
import pytest

import sparsim as ss
from sparsim.cli import main
from sparsim.coverage import coverage, without_weights
from sparsim.energy import area_mm2, load_table, scale_area
from sparsim.energy.area import area_names, load_areas
from sparsim.errors import ConfigError
from sparsim.iso import RESOURCES, hold_equal
from sparsim.machines import machine, preset_names
from sparsim.other_layers import FIELDS as OTHER_FIELDS
from sparsim.resources import FIELDS, resources, unlike
from sparsim.simulate import network_workloads
from sparsim.verdict import summary_rows
from sparsim.workload import DataType

FP16 = DataType.FP16
MACHINES = ["sparch", "a100", "a100-2:4"]


def network():
    rng = np.random.default_rng(3)
    return ss.Network("tiny", (ss.Layer("fc1", rng.normal(size=(96, 64))), ss.Layer("fc2", rng.normal(size=(32, 96)))))


def compare(**options):
    options = {"on": MACHINES, "granularity": "unstructured", "sparsity": 0.8, "batch": 16} | options
    return ss.compare(network(), progress=False, **options)


@pytest.fixture(scope="module")
def held():
    return compare(iso="multipliers")


def test_the_verdict_ranks_machines_of_one_size(held):
    ranking = next(sentence for sentence in held.verdict if "held equal multipliers" in sentence)
    best = {}
    for row in (row for row in held.totals if row["granularity"] != "dense"):
        best[row["machine.name"]] = max(row["reference_speedup"], best.get(row["machine.name"], 0))
    places = [ranking.index(f" {name} {speed:.2g}x") for name, speed in sorted(best.items(), key=lambda each: -each[1])]
    assert places == sorted(places)
    assert any("clocks are each machine's own" in note for note in held.notes)


def pairs(*names, **fields):
    built = [machine(name, fields) for name in names]
    return [(each, machine(each.baseline)) for each in built]


@pytest.mark.parametrize(
    ("name", "multipliers", "area", "power", "gb_s"),
    [
        ("sparch", 16, 28.50, 9.26, 128),
        ("outerspace", 256, 86.74, 24, 128),
        ("dense", 16, 0.45 + 7.879, math.nan, 128),
        ("systolic", 16, 0.45 + 7.879, math.nan, 128),
        ("a100", 312e12 / 2 / 1.41e9, 826, 400, 1555),
        ("h200", 989.4e12 / 2 / 1.83e9, 814, 700, 4800),
        ("rtx3090", None, 628, 350, 936),
        ("cpu", None, math.nan, 73, None),
    ],
)
def test_what_machines_have(name, multipliers, area, power, gb_s):
    owned = resources(machine(name), FP16)
    for got, wanted in ((owned.multipliers, multipliers), (owned.dram_gb_s, gb_s)):
        assert wanted is None or got == pytest.approx(wanted, rel=0.01)
    assert owned.area_mm2 == pytest.approx(area, rel=1e-3, nan_ok=True)
    assert owned.power_w == pytest.approx(power, nan_ok=True)
    assert owned.copies == 1


def test_area_at_one_node():
    owned = resources(machine("a100"), FP16)
    assert owned.area_mm2_at(7) == 826
    assert owned.area_mm2_at(40) == pytest.approx(scale_area(826, 7, 40))
    assert math.isnan(resources(machine("h100"), FP16).area_mm2_at(40)), "no rule covers 4 nm"
    assert math.isnan(resources(machine("cpu"), FP16).area_mm2_at(40))


def test_a_measured_machine_has_nothing_that_is_known():
    owned = resources(machine("host"), FP16)
    assert all(math.isnan(value) for value in (owned.multipliers, owned.power_w, owned.dram_gb_s))


@pytest.mark.parametrize("name", area_names())
def test_areas_come_back_and_move_with_the_machine(name):
    table, area = load_areas(name), area_mm2(machine(name))
    assert area["total"] == pytest.approx(table.published["total"].value, rel=0.004)
    for unit in table.per_piece:
        assert area[unit] == pytest.approx(table.published[unit].value, rel=1e-4)


def test_copies_fill_the_reference_and_no_more():
    both = hold_equal(pairs(*MACHINES), ["multipliers"], None, FP16)
    (sparch, dense), (a100, _), (sparse, twin) = both.pairs
    assert both.reference == "a100"
    assert sparch.config.copies == int(resources(a100, FP16).multipliers / 16)
    assert dense.config.copies == sparch.config.copies
    assert (a100.config.copies, sparse.config.copies, twin.config.copies) == (1, 1, 1)
    assert sparch.config.dram.gb_s == 128, "bandwidth was not asked for"
    assert "sparch x 6,914 (its dense twin dense x 6,914)" in both.notes[0] or "sparch x 6,915" in both.notes[0]
    assert "DRAM bandwidth is not held equal" in both.notes[1]


def test_bandwidth_is_set_and_copies_already_there_count():
    both = hold_equal(pairs("sparch", "a100", copies=2), ["multipliers", "bandwidth"], "a100", FP16)
    (sparch, dense), (a100, _) = both.pairs
    assert [each.config.dram.gb_s for each in (sparch, dense, a100)] == pytest.approx([1555] * 3)
    assert a100.config.copies == 2
    assert sparch.config.copies == 2 * int(resources(a100, FP16).multipliers / 32 * (1 + 1e-9))
    alone = hold_equal(pairs("sparch", "a100"), ["bandwidth"], None, FP16).pairs[0][0]
    assert (alone.config.copies, alone.config.dram.gb_s) == (1, pytest.approx(1555))


def test_the_scarcest_resource_decides_and_nothing_shrinks():
    area = hold_equal(pairs("sparch", "a100"), ["area"], None, FP16).pairs[0]
    power = hold_equal(pairs("sparch", "a100"), ["power"], None, FP16).pairs[0]
    both = hold_equal(pairs("sparch", "a100"), ["area", "power"], None, FP16).pairs[0]
    assert power[0].config.copies == int(400 / 9.26) == 43
    assert both[0].config.copies == min(area[0].config.copies, 43)
    assert area[1].config.copies > area[0].config.copies, "the dense twin is smaller, so more of it fit"
    assert power[1].config.copies == 43, "its power is not known, so it follows its machine"
    small = hold_equal(pairs("sparch", "outerspace"), ["multipliers"], "sparch", FP16)
    assert [built.config.copies for built, _ in small.pairs] == [1, 1]
    assert "outerspace has 16 times the multipliers of sparch; nothing is made smaller" in small.notes


@pytest.mark.parametrize(
    ("wanted", "to", "told"),
    [
        (["size"], None, r"--iso: 'size'.*allowed: multipliers, area, power, bandwidth"),
        (["power"], None, r"--iso: the power of dense is not known; give --set device_power_w"),
        (["area"], None, r"--iso: the area of cpu is not known; leave it out"),
        (["multipliers"], "b100", r"--iso-to: 'b100' is none of the machines.*allowed: sparch, dense, cpu, a100"),
        ([], "a100", r"--iso-to: goes with --iso"),
    ],
)
def test_what_cannot_be_held_equal(wanted, to, told):
    with pytest.raises(ConfigError, match=told):
        hold_equal(pairs("sparch", "dense", "cpu", "a100"), wanted, to, FP16)
    assert set(RESOURCES) == {"multipliers", "area", "power", "bandwidth"}


def test_totals_say_what_machines_have_and_rank_against_the_reference(held):
    for row in held.totals:
        assert {key for key in FIELDS if "nm" not in key} <= row.keys()
        assert row["gflops_per_multiplier"] == pytest.approx(row["gflops"] / row["resources.multipliers"])
        assert row["reference"] == "a100"
    dense = next(row["baseline_time_s"] for row in held.totals if row["machine.name"] == "a100")
    assert all(row["reference_speedup"] == pytest.approx(dense / row["time_s"]) for row in held.totals)
    sparch = next(row for row in held.totals if row["machine.name"] == "sparch")
    assert sparch["resources.copies"] > 6000
    assert sparch["resources.power_w"] == pytest.approx(9.26 * sparch["resources.copies"])
    assert any(note.startswith("held equal to a100: multipliers") for note in held.notes)
    heads, groups = summary_rows(held.totals, "reference_speedup")
    assert heads[-3:] == MACHINES
    assert "against a100's dense weights, held equal: multipliers" in groups[0][0]


def test_machines_of_unlike_size_are_told_apart_without_iso():
    told = [note for note in compare().notes if "times the multipliers" in note]
    assert len(told) == 1
    assert "--iso" in told[0]
    assert unlike({name: resources(machine(name), FP16) for name in ("sparch", "dense")}) == ()
    assert unlike({}) == ()


def test_speed_up_stays_against_the_twin_with_as_many_copies(held):
    row = next(row for row in held.rows if row["machine.name"] == "sparch" and row["layer"] == "fc1")
    copies = next(row["resources.copies"] for row in held.totals if row["machine.name"] == "sparch")
    twin = ss.simulate(network_workloads(network(), batch=16)[0], on=machine("dense", {"copies": copies}))
    assert row["baseline_time_s"] == twin.time_s


def test_other_layers_take_the_same_bytes_on_both_sides():
    given = compare(other_bytes=1e6)
    for row in given.totals:
        built = machine(row["machine.name"])
        seconds = 16e6 / (built.config.dram.gb_s * 1e9)
        assert row["other_bytes"] == 16e6
        assert row["other_time_s"] == pytest.approx(seconds)
        assert row["network_speedup"] == pytest.approx((row["baseline_time_s"] + seconds) / (row["time_s"] + seconds))
        assert min(1, row["speedup"]) <= row["network_speedup"] <= max(1, row["speedup"])
        per_byte, watts = load_table("horowitz_45nm").dram_terms(built.config.dram.technology)
        energy = 16e6 * per_byte + watts * built.config.dram.gb_s * seconds * 1e12
        assert row["other_energy_pj"] == pytest.approx(energy)
        assert OTHER_FIELDS.keys() <= row.keys()
    said = [sentence for sentence in given.verdict if "of the network" in sentence]
    assert len(said) == 1
    assert "other layers move 16 MB" in said[0]
    assert "(dense)" not in said[0]
    assert not any("network_speedup" in row for row in compare().totals)


def test_other_bytes_can_be_estimated():
    estimated = compare(other_bytes="auto")
    assert {row["other_bytes"] for row in estimated.totals} == {2 * 2 * 16 * (96 + 32)}
    assert any("estimated" in note for note in estimated.notes)
    nothing = compare(other_bytes=0).totals
    assert all(row["network_speedup"] == pytest.approx(row["speedup"]) for row in nothing)


@pytest.mark.parametrize(
    ("asked", "training", "told"),
    [
        (-1.0, False, "--other-bytes: -1.0; allowed: bytes per sample, 0 or more, or auto"),
        (math.inf, False, "--other-bytes: inf"),
        ("all", False, "--other-bytes: 'all'"),
        (True, False, "--other-bytes: True"),
        ("auto", True, "--other-bytes: 'auto' estimates inference"),
    ],
)
def test_other_bytes_that_are_none(asked, training, told):
    with pytest.raises(ConfigError, match=told):
        compare(other_bytes=asked, training=training)


def test_coverage_counts_products_without_weights_where_their_size_is_known():
    products = network_workloads(network())
    macs = 96 * 64 + 32 * 96

    def said(*texts, training=False):
        skipped = {f"scores {i}": f"a product without a weight: {text}" for i, text in enumerate(texts)}
        return coverage(ss.Network("net", network().layers, skipped=skipped), products, training)

    assert f"{macs / (macs + 1024):.1%} of the network's" in said(
        "[2, 4] x [4, 2], 2,048 multiplications for 2 samples"
    )
    assert "an unknown share" in said("no operand is constant")
    assert "at most: the sizes of 1 of them are not known" in said("1,024 multiplications", "?")
    assert "an unknown share" in said("1,024 multiplications", training=True), "counted for inference only"
    assert "share" not in said()


@pytest.mark.parametrize(("name", "blocks", "channels"), [("bert_base", 12, 768), ("llama_7b_block", 1, 4096)])
def test_networks_of_the_zoo_know_the_products_of_attention(name, blocks, channels):
    counts = without_weights(ss.zoo.load(name, "shape"))
    assert counts == [128 * 128 * channels] * 2 * blocks, "scores and context of all heads"


@pytest.mark.parametrize(("dims", "count"), [([2, 5, 8], 100), (["batch", 5, 8], 100), (["batch", "tokens", 8], None)])
def test_onnx_tells_the_size_of_products_without_weights(dims, count, tmp_path):
    onnx = pytest.importorskip("onnx", reason="needs sparsim[onnx]")
    make = onnx.helper
    nodes = [
        make.make_node("MatMul", ["x", "w"], ["q"]),
        make.make_node("Transpose", ["q"], ["t"], perm=[0, 2, 1]),
        make.make_node("MatMul", ["q", "t"], ["s"], name="scores"),
    ]
    weight = onnx.numpy_helper.from_array(np.ones((8, 4), np.float32), "w")
    kind = onnx.TensorProto.FLOAT
    entering, leaving = make.make_tensor_value_info("x", kind, dims), make.make_tensor_value_info("s", kind, None)
    onnx.save(make.make_model(make.make_graph(nodes, "g", [entering], [leaving], [weight])), tmp_path / "net.onnx")
    assert without_weights(ss.load(tmp_path / "net.onnx")) == [count], "5 x 5 positions over 4 channels"


def test_on_the_command_line(monkeypatch, capsys, tmp_path):
    def cli(*words):
        monkeypatch.setattr(sys, "argv", ["sparsim", *words])
        with pytest.raises(SystemExit) as stop:
            main()
        assert not stop.value.code
        return capsys.readouterr().out

    page = tmp_path / "page.html"
    words = ["compare", "lenet300_100", "--on", "sparch,a100", "--iso", "area,bandwidth", "--other-bytes", "auto"]
    assert "held equal: area" in " ".join(cli(*words, "--html", str(page)).split())
    assert "held equal: area" in page.read_text("utf-8")
    assert "Throughput by what a machine has" in page.read_text("utf-8")
    rows = json.loads(cli(*words, "--json"))
    assert rows[-1]["held_equal"].startswith("area")
    assert rows[-1]["network_speedup"] > 0


def test_every_preset_tells_its_resources():
    for name in preset_names():
        dtype = DataType.INT8 if name == "tpu_v1" else FP16
        assert resources(machine(name), dtype).flat().keys() <= FIELDS.keys()


def test_what_is_not_equal_all_the_same_is_said():
    held = compare(on=["sparch", "a100"], iso=["multipliers", "area"], iso_to="a100")
    assert any("sparch x" in note and "only" in note and "times the multipliers of a100" in note for note in held.notes)
    assert not any("has only" in note for note in compare(on=["sparch", "a100"], iso=["multipliers"]).notes)


def test_what_equal_power_rests_on_is_said():
    pairs = [(machine("sparch"), machine("dense")), (machine("a100"), machine("a100"))]
    notes = " ".join(hold_equal(pairs, ["power"], None, DataType.FP16).notes)
    assert "not scaled to one process node: sparch 40, a100 7 nm" in notes
    assert "the power of dense is not known" in notes
