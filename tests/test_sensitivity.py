"""Every energy table on the same activities: equal to asking table by table, with a ranking that can be checked."""

import numpy as np
import pytest

import sparsim as ss
from sparsim.energy import load_table, table_names
from sparsim.errors import ConfigError
from sparsim.sensitivity import _swapped, priceable, sensitivity
from sparsim.workload import DataType

OWN = ["sparch", "dense", "outerspace"]
ASKED = {"granularity": ["unstructured", "block:4x4"], "sparsity": [0.5, 0.9], "batch": [1, 4], "progress": False}
KEYS = ("network", "batch", "granularity", "sparsity", "machine.name")


def network():
    rng = np.random.default_rng(11)
    return ss.Network("tiny", (ss.Layer("a", rng.normal(size=(24, 40))), ss.Layer("b", rng.normal(size=(40, 24)))))


@pytest.fixture(scope="module")
def comparison():
    return ss.compare(network(), on=OWN, energy="all", **ASKED)


def key(row):
    return tuple(row[name] for name in KEYS)


def test_one_table_in_one_comparison_unless_asked(comparison):
    for asked, name in (("", "horowitz_45nm"), ("han_45nm", "han_45nm")):
        plain = ss.compare(network(), on=OWN, energy=asked, **ASKED)
        assert {row["provenance.energy_table"] for row in plain.rows} == {name}
        assert plain.sensitivity is None
    assert {row["provenance.energy_table"] for row in comparison.rows} == {"horowitz_45nm"}


def test_the_rows_are_those_of_the_default_table(comparison):
    assert repr(comparison.rows) == repr(ss.compare(network(), on=OWN, **ASKED).rows)


@pytest.mark.parametrize("name", table_names())
def test_repriced_is_what_a_run_with_that_table_says(comparison, name):
    alone = {key(row): row for row in ss.compare(network(), on=OWN, energy=name, **ASKED).totals}
    mine = [row for row in comparison.sensitivity.rows if row["energy_table"] == name]
    assert len(mine) == len(alone) == 5 * 2 * 3
    for row in mine:
        assert row["energy_pj"] == pytest.approx(alone[key(row)]["energy_pj.total"])
        assert row["energy_ratio"] == pytest.approx(alone[key(row)]["energy_ratio"])


def test_ranks_follow_the_energy_within_a_batch(comparison):
    for name in table_names():
        for batch in (1, 4):
            mine = [r for r in comparison.sensitivity.rows if (r["energy_table"], r["batch"]) == (name, batch)]
            assert sorted(row["rank"] for row in mine) == list(range(1, 16))
            by_rank = sorted(mine, key=lambda row: row["rank"])
            assert [row["energy_pj"] for row in by_rank] == sorted(row["energy_pj"] for row in mine)


def test_swapped_pairs_against_two_loops():
    rng = np.random.default_rng(5)
    energies = rng.integers(1, 6, size=(4, 9)).astype(float)
    naive = 0
    for i in range(9):
        for j in range(i):
            before = any(row[i] < row[j] for row in energies)
            behind = any(row[i] > row[j] for row in energies)
            naive += before and behind
    assert _swapped(energies.tolist()) == (naive, 36)


def test_shows_itself(comparison):
    frame = comparison.sensitivity_frame()
    assert list(frame.columns) == ["energy_table", *KEYS, "energy_pj", "energy_ratio", "rank"]
    assert len(frame) == len(table_names()) * 30
    heads, groups = comparison.sensitivity.table()
    assert heads[:3] == ["machine", "pattern", "horowitz_45nm"]
    assert sorted(heads[2:]) == list(table_names())
    assert [len(rows) for _, rows in groups] == [6, 6]


def test_sentences_say_what_changes_and_what_the_figures_are(comparison):
    told = comparison.sensitivity.sentences
    for batch in (1, 4):
        about = [sentence for sentence in told if f"batch {batch}:" in sentence]
        assert any("ranking" in sentence for sentence in about)
        assert any("least energy" in sentence for sentence in about)
    assert load_table().title in told[-1]
    assert not any("Left out" in sentence for sentence in told)


def rows_of(energies):
    """Return rows of products and their prices; energies by table, machine A's and machine B's."""
    common = {
        "network": "n", "batch": 1, "granularity": "2:4", "sparsity": 0.5, "actual_sparsity": 0.5, "layer": "l",
        "baseline": "d", "propagated_sparsity": 0.5, "accuracy": None, "workload.dtype": "fp16", "time_s": 1.0,
        "provenance.energy_table": "horowitz_45nm", "baseline_time_s": 1.0, "baseline_dram_bytes": 1,
        "dram_bytes.total": 1, "unpropagated_time_s": 1.0, "workload.multiplies": 2, "workload.nnz_c": 1,
        "chosen_time_s": 1.0,
        "bounds.limited_by": "dram", "details.reason": "", "removed_weights": 0, "workload.layer": "l",
    }  # fmt: skip
    rows = [common | {"machine.name": name} for name in "AB"]
    return rows, [{name: (pair[at], 10.0) for name, pair in energies.items()} for at in (0, 1)]


def test_a_ranking_that_holds():
    found = sensitivity(*rows_of({"horowitz_45nm": (1.0, 2.0), "han_45nm": (5.0, 6.0)}), {})
    assert "same under all 2 tables" in found.sentences[0]
    assert found.sentences[1].endswith("least energy under every table: 2:4 50.0% on A.")
    assert len(found.sentences) == 3


def test_a_ranking_that_turns_and_a_table_that_is_left_out():
    prices = {"horowitz_45nm": (1.0, 2.0), "han_45nm": (20.0, 6.0)}
    found = sensitivity(*rows_of(prices), {"sparch_40nm": "it knows no A", "aladdin_40nm": "it knows no A"})
    ranking, least, turned, left_out, _ = found.sentences
    assert "1 of 1 pairs (100%)" in ranking
    assert "2:4 50.0% on A is no. 1 of 2 under horowitz_45nm and no. 2 under han_45nm" in ranking
    assert "2:4 50.0% on A under horowitz_45nm; 2:4 50.0% on B under han_45nm" in least
    assert "on A (0.10x under horowitz_45nm, 2.00x under han_45nm)" in turned
    assert left_out == "Left out: sparch_40nm, aladdin_40nm: it knows no A."


def test_families_that_do_not_know_a_machine_are_named():
    bare = ss.machine("dense")
    bare.inventory = dict
    names, refused = priceable([bare, ss.machine("sparch")], DataType.FP16)
    assert names == ["horowitz_45nm", "han_45nm", "jouppi_7nm"]
    assert set(refused) == {"aladdin_40nm", "sparch_40nm"}
    assert all("(dense)" in why and "built of" in why for why in refused.values())


def test_a_frame_needs_the_question():
    plain = ss.compare(network(), on=["dense"], progress=False)
    with pytest.raises(ConfigError, match="allowed: 'all'"):
        plain.sensitivity_frame()


def test_measured_machines_have_no_energy_to_rank():
    rows, _ = rows_of({"horowitz_45nm": (1.0, 2.0)})
    found = sensitivity(rows, [{"horowitz_45nm": (0.0, 0.0)}, {"horowitz_45nm": (3.0, 0.0)}], {})
    assert [row["machine.name"] for row in found.rows] == ["B"]
    nothing = sensitivity(rows, [{"horowitz_45nm": (0.0, 0.0)}] * 2, {})
    assert not nothing.rows
    assert nothing.table()[1] == []
    assert "not known" in nothing.sentences[-1]


def test_programs_get_the_energy_by_every_table(comparison):
    for row, plain in zip(comparison.told_rows, comparison.rows, strict=True):
        added = {key: row[key] for key in row.keys() - plain.keys()}
        wanted = {f"energy_by_table.{name}" for name in table_names()} if row["layer"] == "total" else set()
        assert added.keys() == wanted
        if added:
            assert added["energy_by_table.horowitz_45nm"] == pytest.approx(plain["energy_pj.total"])
    alone = ss.compare(network(), on=OWN, progress=False)
    assert repr(alone.told_rows) == repr(list(alone.rows))


@pytest.mark.parametrize(("low", "high", "told"), [(9.4, 10.6, True), (9.6, 10.6, False), (9.4, 10.4, False)])
def test_five_percent_of_savings_or_costs_are_worth_telling(low, high, told):
    found = sensitivity(*rows_of({"horowitz_45nm": (low, 99.0), "han_45nm": (high, 99.0)}), {})
    assert any("whether it saves energy" in sentence for sentence in found.sentences) is told
