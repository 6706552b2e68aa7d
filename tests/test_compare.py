import math
import re

import numpy as np
import pytest
import scipy.sparse as sp

import sparsim as ss
from sparsim.compare import as_network, budgets, variants
from sparsim.errors import ConfigError
from sparsim.pruning import prune
from sparsim.simulate import network_workloads, run
from sparsim.verdict import TOTAL, summary_rows

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


def test_a_budget_is_needed_unless_the_pattern_fixes_it():
    with pytest.raises(ConfigError, match=r"'unstructured' needs a sparsity"):
        budgets(["unstructured"], [])
    found = variants(tiny_network(), budgets(["2:4"], [0.5, 0.9]))
    assert [v.granularity for v in found] == ["dense", "2:4"]


def test_bundled_networks_carry_measured_accuracy():
    found = list(variants(as_network("lenet300_100"), budgets(["unstructured"], [0.9])))
    assert all(0.9 < v.accuracy < 1 for v in found)
    assert math.isclose(found[1].network.sparsity, 0.9, abs_tol=0.01)


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
        ({"scope": "foo"}, "scope: 'foo'; allowed: layer, global"),
        ({"orientation": "foo"}, "orientation: 'foo'"),
        ({"on": []}, "on: nothing given"),
        ({"batch": []}, "batch: nothing given"),
        ({"jobs": 0}, "threads: 0"),
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
