"""Scaling between nodes: the cited rows come back, there and back is the same, and a scaled family is the family."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

import sparsim
from sparsim.energy import load_table, scale_area, scale_energy, scale_table, table_names
from sparsim.energy.scaling import NODES
from sparsim.errors import ConfigError
from sparsim.workload import DataType

NODE = st.floats(7, 130)


def energy(node, volts=0.8):
    a, b, c, _ = NODES[node]
    return a * volts**2 + b * volts + c


@pytest.mark.parametrize("node", NODES)
def test_rows_of_the_table_come_back(node):
    assert scale_energy(3.0, 45, node) == pytest.approx(3.0 * energy(node) / energy(45))
    assert scale_energy(3.0, 45, node, volts=1.0) == pytest.approx(3.0 * energy(node, 1.0) / energy(45, 1.0))
    assert scale_area(2.0, 45, node) == pytest.approx(2.0 * NODES[node][3])


def test_the_two_rules_lie_far_apart():
    assert 1 / scale_energy(1, 45, 7) == pytest.approx(10.6, abs=0.01)
    assert 1 / scale_energy(1, 45, 7, rule="jouppi") == pytest.approx(2.6)
    assert 1 / scale_energy(1, 45, 7, "sram", "jouppi") == pytest.approx((4 / 3 * 40 / 17 * 50 / 7) ** (1 / 3))


def test_memory_shrinks_by_the_root_below_22_nm():
    assert scale_energy(1, 45, 22, "sram") == scale_energy(1, 45, 22)
    assert scale_energy(1, 22, 7, "sram") == pytest.approx(math.sqrt(7 / 22))
    assert scale_energy(1, 45, 7, "sram") > scale_energy(1, 45, 7)


def test_between_two_rows_on_the_log_log_line():
    middle = math.sqrt(32 * 45)
    assert scale_area(1, 45, middle) == pytest.approx(math.sqrt(0.46))
    assert scale_energy(1, 45, middle) == pytest.approx(math.sqrt(energy(32) / energy(45)))


@given(NODE, NODE, NODE, st.sampled_from(["logic", "sram"]))
def test_there_and_back_and_by_way_of_another(one, two, three, kind):
    there = scale_energy(7.0, one, two, kind)
    assert scale_energy(there, two, one, kind) == pytest.approx(7.0)
    assert scale_energy(there, two, three, kind) == pytest.approx(scale_energy(7.0, one, three, kind))
    assert scale_area(scale_area(7.0, one, two), two, three) == pytest.approx(scale_area(7.0, one, three))


@given(NODE, NODE, st.sampled_from(["logic", "sram"]))
def test_a_smaller_node_never_costs_more(one, two, kind):
    small, large = sorted((one, two))
    assert scale_energy(1.0, large, small, kind) <= 1.0 + 1e-9
    assert scale_area(1.0, large, small) <= 1.0 + 1e-9


@pytest.mark.parametrize(
    "ask",
    [
        lambda: scale_energy(1, 45, 5),
        lambda: scale_energy(1, 180, 45),
        lambda: scale_area(1, 45, 6.9),
        lambda: scale_energy(1, 65, 45, rule="jouppi"),
        lambda: load_table("horowitz_45nm@5"),
        lambda: load_table("horowitz_45nm@small"),
        lambda: load_table("horowitz_45nm@"),
        lambda: load_table("horowitz_45nm@nan"),
        lambda: load_table("horowits@7"),
        lambda: load_table("all"),
    ],
)
def test_what_no_rule_covers_is_refused_in_one_line(ask):
    with pytest.raises(ConfigError, match=r"allowed: |did you mean") as caught:
        ask()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", table_names())
def test_a_family_at_its_own_node_is_the_family(name):
    table = load_table(name)
    same = scale_table(table, table.technology_nm)
    for section in ("operations", "sram", "static"):
        before, after = getattr(table, section), getattr(same, section)
        assert {key: entry.value for key, entry in after.items()} == pytest.approx(
            {key: entry.value for key, entry in before.items()}
        )


def test_a_scaled_family_keeps_its_name_and_says_what_it_is():
    table, scaled = load_table("horowitz_45nm"), load_table("horowitz_45nm@7")
    assert scaled.name == "horowitz_45nm@7"
    assert scaled.operation("multiply", DataType.FP16) == pytest.approx(1.1 * energy(7) / energy(45))
    assert scaled.sram_access(8192, 8) == pytest.approx(scale_energy(10.0, 45, 7, "sram"))
    assert scaled.dram == table.dram, "memory is bought, not scaled"
    assert {entry.status for entry in (*scaled.operations.values(), *scaled.sram.values())} == {"derived"}
    assert all("1.1 pJ at 45 nm" in scaled.operations[key].note for key in ("multiply.fp16", "multiply.tf32"))


def test_a_report_says_that_its_energies_are_scaled():
    work = sparsim.gemm(32, 32, 32)
    plain, scaled = (sparsim.simulate(work, on="dense", energy=f"horowitz_45nm{at}") for at in ("", "@7"))
    assert scaled["provenance.energy_table"] == "horowitz_45nm@7"
    assert any("45 to 7 nm" in note for note in scaled.notes)
    assert scaled["energy_pj.multiply"] < scaled["energy_pj.global_buffer"] < plain["energy_pj.global_buffer"]
    assert scaled["energy_pj.dram_access"] == plain["energy_pj.dram_access"]
    assert scaled.cycles == plain.cycles
