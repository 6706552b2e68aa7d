import re
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp

import sparsim as ss
from sparsim.compare import _notes
from sparsim.errors import ConfigError
from sparsim.pruning import prune
from sparsim.simulate import network_workloads, run
from sparsim.terminal import _fitting
from sparsim.verdict import TOTAL, _factor, _rise, summary_rows

MACHINES = ["sparch", "dense", "a100", "a100-2:4"]
PATTERNS = ["unstructured", "2:4", "block:4x4", "out_channel"]


def tiny_network():
    rng = np.random.default_rng(7)
    return ss.Network(
        "tiny",
        (
            ss.Layer("conv", rng.normal(size=(8, 4, 3, 3)), input_size=(6, 6)),
            ss.Layer("fc", rng.normal(size=(32, 128))),
        ),
    )


@pytest.fixture(scope="module")
def comparison():
    return ss.compare(
        tiny_network(), on=MACHINES, granularity=PATTERNS, sparsity=[0.5, 0.75], batch=[1, 4], progress=False
    )


def pick(comparison, **wanted):
    names = {"machine": "machine.name"}
    found = [r for r in comparison.rows if all(r[names.get(k, k)] == v for k, v in wanted.items())]
    assert found
    return found


def test_one_row_for_each_layer_variant_batch_and_machine(comparison):
    count = 1 + 2 + 1 + 2 + 2  # dense, unstructured, 2:4 once, block, out_channel
    assert len(comparison.rows) == count * 2 * len(MACHINES) * (2 + 1)
    assert len(comparison.totals) == count * 2 * len(MACHINES)
    assert len(pick(comparison, granularity="2:4", machine="a100", batch=1, layer="fc")) == 1


def test_a_total_is_the_sum_of_its_layers(comparison):
    for total in comparison.totals:
        same = {key: total[key] for key in ("granularity", "sparsity", "batch")}
        layers = [r for r in pick(comparison, machine=total["machine.name"], **same) if r["layer"] != TOTAL]
        for key in ("time_s", "energy_pj.total", "dram_bytes.total", "workload.multiplies", "baseline_time_s"):
            assert total[key] == pytest.approx(sum(row[key] for row in layers))
        assert total["speedup"] == pytest.approx(total["baseline_time_s"] / total["time_s"])


def test_the_twin_runs_the_layer_with_all_its_weights(comparison):
    network = tiny_network()
    pruned = prune(network, "unstructured", 0.75)
    dense = run(network_workloads(network, batch=4)[1], "dense")
    row = pick(comparison, granularity="unstructured", sparsity=0.75, machine="sparch", batch=4, layer="fc")[0]
    assert row["baseline"] == "dense"
    assert row["baseline_time_s"] == dense.time_s
    assert row["workload.nnz_a"] == pruned["fc"].nnz


def test_a_dense_network_is_its_own_twin_on_dense_machines(comparison):
    for name in ("dense", "a100", "a100-2:4"):
        assert pick(comparison, granularity="dense", machine=name, layer=TOTAL)[0]["speedup"] == pytest.approx(1)


def test_rows_have_the_documented_keys(comparison):
    wanted = {"layer", "granularity", "sparsity", "baseline", "speedup", "accuracy", "time_s", "cycles.total"}
    wanted |= {"workload.m", "dram_bytes.a", "energy_pj.total", "bounds.limited_by", "details.orientation"}
    row = pick(comparison, machine="sparch", layer="fc")[0]
    assert wanted <= row.keys()


def test_verdict_names_every_machine_and_the_notes_say_what_ran_dense(comparison):
    for name in MACHINES:
        assert any(sentence.startswith(f"{name},") for sentence in comparison.verdict)
    assert any("ran dense" in note for note in comparison.notes)
    assert "2 layers" in comparison.coverage


def test_shows_itself(comparison):
    heads, groups = summary_rows(comparison.totals)
    assert heads == ["pattern", "zeros", *MACHINES], "nobody measured an accuracy"
    assert [len(rows) for _, rows in groups] == [8, 8]
    assert len(comparison.table()) == 16
    assert "<table" in comparison._repr_html_()
    assert len(comparison.to_frame()) == len(comparison.rows)


def test_auto_takes_the_faster_orientation():
    network = ss.Network("n", (ss.Layer("fc", np.random.default_rng(0).normal(size=(64, 200))),))
    times = {
        way: ss.compare(network, on=["sparch"], orientation=way, progress=False).totals[0]["time_s"]
        for way in ("auto", "wx", "xtwt")
    }
    assert times["auto"] == min(times["wx"], times["xtwt"])
    assert times["xtwt"] < times["wx"], "one column leaves seven of eight multipliers idle"


def test_one_baseline_for_all():
    comparison = ss.compare(tiny_network(), on=["sparch", "a100"], baseline="systolic", progress=False)
    assert {row["baseline"] for row in comparison.rows} == {"systolic"}


def test_overrides_reach_the_machines_that_have_the_field():
    plain = ss.compare(tiny_network(), on=["sparch", "dense"], progress=False)
    slow = ss.compare(tiny_network(), on=["sparch", "dense"], overrides={"multipliers.groups": 1}, progress=False)
    assert (
        pick(slow, machine="sparch", layer=TOTAL)[0]["time_s"] > pick(plain, machine="sparch", layer=TOTAL)[0]["time_s"]
    )
    assert (
        pick(slow, machine="dense", layer=TOTAL)[0]["time_s"] == pick(plain, machine="dense", layer=TOTAL)[0]["time_s"]
    )
    with pytest.raises(ConfigError, match=r"none of the machines has a field 'multipliers\.grops'"):
        ss.compare(tiny_network(), on=["sparch"], overrides={"multipliers.grops": 1}, progress=False)


def test_a_pruned_network_is_compared_as_stored():
    network = prune(tiny_network(), "unstructured", 0.8)
    comparison = ss.compare(network, on=["sparch"], progress=False)
    assert [row["granularity"] for row in comparison.totals] == ["as stored"]
    assert comparison.totals[0]["actual_sparsity"] == pytest.approx(0.8, abs=0.01)


def test_results_do_not_depend_on_the_number_of_threads():
    rows = [
        ss.compare(tiny_network(), on=MACHINES, granularity=["2:4"], jobs=jobs, progress=False).rows for jobs in (1, 4)
    ]
    assert repr(rows[0]) == repr(rows[1])


def test_weights_come_in_many_shapes(tmp_path):
    weight = np.random.default_rng(5).normal(size=(8, 12))
    for source in (weight, sp.csr_array(weight), {"fc": weight}):
        assert ss.compare(source, on="dense", progress=False).totals[0]["speedup"] == pytest.approx(1)


def test_a_repetition_is_not_counted_twice():
    once = ss.compare(tiny_network(), on=["dense"], granularity=["unstructured"], sparsity=[0.5], progress=False)
    twice = ss.compare(
        tiny_network(),
        on=["dense", "dense"],
        granularity=["unstructured"] * 2,
        sparsity=[0.5, 0.5],
        batch=[1, 1],
        progress=False,
    )
    assert repr(once.rows) == repr(twice.rows)


def test_two_machines_of_one_name_are_refused():
    with pytest.raises(ConfigError, match="two machines of one name"):
        ss.compare(tiny_network(), on=["sparch", ss.machine("sparch", {"prefetch.lines": 4})], progress=False)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"allocation": "foo", "granularity": "unstructured", "sparsity": 0.5}, "allocation: 'foo'"),
        ({"allocation": "global"}, "allocation: goes with a granularity"),
        ({"criterion": "random"}, "criterion: goes with a granularity"),
        ({"propagate": "foo"}, "propagate: 'foo'; allowed: auto, chain, off"),
        ({"weights": "published"}, "weights: goes with a network of the zoo"),
        ({"granularity": "unstructured", "density": [1.5]}, "density: 1.5"),
        ({"orientation": "foo"}, "orientation: 'foo'"),
        ({"on": []}, "on: nothing given"),
        ({"batch": []}, "batch: nothing given"),
        ({"jobs": 0}, "jobs: 0"),
        ({"sparsity": [0.5]}, "goes with a granularity"),
        ({"granularity": "2:4", "sparsity": [7.0]}, "sparsity: 7.0"),
        ({"granularity": "2:4", "sparsity": float("nan")}, "sparsity: nan"),
    ],
)
def test_options_are_checked(wrong, says):
    with pytest.raises(ConfigError, match=re.escape(says)):
        ss.compare(tiny_network(), **{"on": ["dense"], "progress": False, **wrong})


def test_notes_say_which_machine_and_layers(comparison):
    assert any(note.startswith("a100-2:4, conv, fc: A is not 2:4") for note in comparison.notes)


def test_equal_layers_keep_their_own_names():
    weight = np.ones((8, 12))
    comparison = ss.compare({"first": weight, "second": weight}, on=["dense"], progress=False)
    assert [row["layer"] for row in comparison.rows] == ["first", "second", TOTAL]
    assert comparison.totals[0]["time_s"] == pytest.approx(2 * comparison.rows[0]["time_s"])


def chain():
    """Four layers of which pruning output channels takes half of the next one's weights along."""
    rng = np.random.default_rng(1)
    return ss.Network("chain", tuple(ss.Layer(f"fc{i}", rng.normal(size=(64, 64)) + 3) for i in range(4)))


def test_removed_channels_take_weights_of_other_layers_along_on_every_machine():
    asked = {"granularity": "out_channel", "sparsity": 0.5, "on": MACHINES, "progress": False}
    carried, alone = ss.compare(chain(), **asked), ss.compare(chain(), propagate="off", **asked)
    for row, plain in zip(carried.rows, alone.rows, strict=True):
        assert plain["removed_weights"] == 0
        assert plain["propagation_gain"] == pytest.approx(1)
        assert row["unpropagated_time_s"] == pytest.approx(plain["time_s"])
        if row["granularity"] == "out_channel" and row["layer"] not in ("fc0", TOTAL):
            assert row["removed_weights"] == 32 * 32
            assert row["workload.nnz_a"] == 32 * 32
    total = pick(carried, granularity="out_channel", layer=TOTAL, machine="dense")[0]
    assert total["removed_weights"] == 3 * 32 * 32
    assert total["actual_sparsity"] == pytest.approx(0.5)
    assert total["propagated_sparsity"] == pytest.approx(1 - (32 * 64 + 3 * 32 * 32) / (4 * 64 * 64))
    assert total["propagation_gain"] > 1.2
    assert any("take weights of other layers along" in sentence for sentence in carried.verdict)
    assert any("chain of the layers in the order of the file" in note for note in carried.notes)
    assert summary_rows(carried.totals)[1][0][1][1][1] == "50.0% → 68.8%"


def test_nothing_is_carried_where_the_file_may_hide_a_shortcut():
    layers = tuple(replace(layer, name=f"layer1.{i}.conv1") for i, layer in enumerate(chain()))
    comparison = ss.compare(
        ss.Network("net", layers), granularity="out_channel", sparsity=0.5, on=["dense"], progress=False
    )
    assert all(row["removed_weights"] == 0 for row in comparison.rows)
    assert any("not carried to other layers" in note for note in comparison.notes)
    forced = ss.compare(
        ss.Network("net", layers),
        granularity="out_channel",
        sparsity=0.5,
        on=["dense"],
        propagate="chain",
        progress=False,
    )
    assert any(row["removed_weights"] for row in forced.rows)


def test_an_adapter_kept_apart_costs_two_skinny_products_and_merged_all_zeros():
    comparison = ss.compare(
        chain(), granularity="unstructured", sparsity=0.9, adapter=4, on=["sparch"], batch=64, progress=False
    )
    totals = {row["granularity"]: row for row in comparison.totals}
    base, apart, merged = (totals[f"unstructured{word}"] for word in ("", " + LoRA 4 apart", " + LoRA 4 merged"))
    assert apart["workload.multiplies"] == base["workload.multiplies"] + 4 * 2 * 4 * 64 * 64
    assert merged["workload.multiplies"] == merged["workload.dense_multiplies"]
    assert base["time_s"] < apart["time_s"] < merged["time_s"]
    assert base["baseline_time_s"] == apart["baseline_time_s"] == merged["baseline_time_s"]


def test_training_has_three_products_a_layer_and_shrinks_with_whole_rows_only():
    asked = {"sparsity": 0.5, "training": True, "batch": 32, "on": ["dense"], "progress": False, "propagate": "off"}
    rows = {
        pattern: ss.compare(chain(), granularity=pattern, **asked).rows for pattern in ("unstructured", "out_channel")
    }
    gradient = {
        pattern: next(r for r in found if r["granularity"] == pattern and r["layer"] == "fc1:weight_gradient")
        for pattern, found in rows.items()
    }
    assert gradient["unstructured"]["speedup"] == pytest.approx(1)
    assert gradient["out_channel"]["speedup"] > 1.5
    assert sum(r["layer"].endswith("input_gradient") for r in rows["unstructured"]) == 2 * 3, "not of the first layer"


def test_with_an_adapter_apart_the_base_is_frozen_in_training():
    comparison = ss.compare(chain(), adapter=4, training=True, on=["dense"], progress=False)
    apart = {row["layer"] for row in comparison.rows if row["granularity"].endswith("apart")}
    assert "fc1:weight_gradient" not in apart
    assert {"fc1:forward", "fc1:input_gradient", "fc1.lora_A:weight_gradient"} <= apart
    totals = {row["granularity"]: row for row in comparison.totals}
    whole = totals["dense"]["baseline_time_s"]
    assert all(row["baseline_time_s"] == whole for row in totals.values()), "against the whole dense training step"
    frozen = totals["dense + LoRA 4 apart"]
    assert frozen["speedup"] == pytest.approx(whole / frozen["time_s"])


def test_an_emptied_network_is_named_not_ranked():
    comparison = ss.compare(tiny_network(), granularity="unstructured", nnz=0, on=["dense"], progress=False)
    assert summary_rows(comparison.totals)[1][0][1][1][-1] == ""
    assert not any("nan" in sentence for sentence in comparison.verdict)
    assert any("was removed" in note for note in comparison.notes)


def test_says_which_products_it_does_not_cover():
    skipped = {"scores (1)": "a product without a weight: [2, 4] x [4, 2], 16 multiplications", "norm": "1-D: a bias"}
    network = ss.Network("net", tiny_network().layers, skipped=skipped)
    said = ss.compare(network, on=["dense"], progress=False).coverage
    assert "all products with weights; 1 kind(s) of products without weights are left out with 16 more" in said
    assert "of the network's; 1 arrays" in said


def test_a_note_that_differs_in_its_times_alone_is_said_once():
    notes = ("the kernel takes 6.9 us here, the other 5.17 us", "the kernel takes 12 us here, the other 5e-01 us")
    rows = [
        {"machine.name": "a", "layer": f"l{i}", "details.notes": (note, "x is 2:4")} for i, note in enumerate(notes)
    ]
    assert _notes(rows) == [f"a, l0: {notes[0]}; other figures for l1", "a, l0, l1: x is 2:4"]
    assert _notes([{**row, "layer": "l"} for row in rows])[0] == f"a, l: {notes[0]}; other figures in other runs"


@pytest.mark.parametrize(("times", "text"), [(1.234, "1.2x"), (12.4, "12x"), (99.4, "99x"), (367.37, "367x")])
def test_large_speed_ups_are_written_in_full(times, text):
    assert _factor(times) == text


def test_shares_of_zeros_that_differ_look_different():
    assert _rise(0.5, 0.6) == "from 50.0% to 60.0% zeros"
    assert _rise(0.88953, 0.89012) == "from 88.95% to 89.01% zeros"


@pytest.mark.parametrize("width", [20, 40, 80, 300])
def test_tables_wider_than_the_terminal_are_cut_into_several(width):
    heads = ["pattern", "zeros", *"abcdefgh"]
    rows = [["dense", "0.0%", *["1.00x"] * 8], ["2:4", "50.0%", *["12.00x"] * 8]]
    tables = list(_fitting(heads, rows, 2, width))
    assert [number for columns in tables for number in columns[2:]] == list(range(2, 10))
    for columns in tables:
        assert columns[:2] == [0, 1]
        wide = 1 + sum(3 + max(len(row[number]) for row in (heads, *rows)) for number in columns)
        assert wide <= width or len(columns) == 3
    assert len(tables) == 1 or width < 300


def test_the_dense_kernel_may_be_chosen_layer_by_layer():
    rng = np.random.default_rng(0)
    sizes = {"small": (512, 64), "large": (4096, 4096)}
    layers = tuple(ss.Layer(name, rng.normal(size=size), positions=4096) for name, size in sizes.items())
    result = ss.compare(ss.Network("two", layers), on=["a100-2:4"], granularity="2:4", progress=False)
    rows = {row["layer"]: row for row in result.rows if row["granularity"] == "2:4"}
    small, large, total = (rows[name] for name in ("small", "large", "total"))
    assert small["chosen_time_s"] == small["details.dense_kernel_us"] / 1e6 < small["time_s"]
    assert large["chosen_time_s"] == large["time_s"] < large["details.dense_kernel_us"] / 1e6
    assert total["chosen_time_s"] == small["chosen_time_s"] + large["chosen_time_s"]
    assert total["chosen_speedup"] > total["speedup"]
    dense = [row for row in result.rows if row["granularity"] == "dense"]
    assert all(row["chosen_time_s"] == row["time_s"] for row in dense)


def test_two_names_of_one_variant_count_once():
    """90 % zeros are 10 % non-zeros, and a vector of four rows has two names."""
    given = {"on": ["dense"], "progress": False}
    once = ss.compare(tiny_network(), granularity=["unstructured"], sparsity=[0.75], **given).totals
    twice = ss.compare(tiny_network(), granularity=["unstructured"], sparsity=[0.75], density=[0.25], **given).totals
    assert len(once) == len(twice) == 2
    assert [row["time_s"] for row in once] == [row["time_s"] for row in twice]
    named = ss.compare(tiny_network(), granularity=["vector:4", "vector:1x4"], sparsity=[0.5], **given).totals
    assert len(named) == 2


def test_what_is_slower_than_dense_is_not_said_to_be_skipped():
    given = {"granularity": ["unstructured"], "sparsity": [0.5], "progress": False}
    layer = ss.Layer("fc", np.random.default_rng(0).standard_normal((512, 512)))
    told = " ".join(ss.compare(ss.Network("n", (layer,)), on=["a100-csr"], batch=512, baseline="a100", **given).verdict)
    assert "nothing pays, at best unstructured" in told
    assert "skips" not in told
