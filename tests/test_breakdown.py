"""Where the energy goes: classes sum to the total, and the table has few rows a machine."""

import numpy as np
import pytest

import sparsim as ss
from sparsim.breakdown import energy_classes, energy_rows, telling


@pytest.fixture(scope="module")
def comparison():
    weights = np.random.default_rng(3).normal(size=(32, 64))
    network = ss.Network("tiny", (ss.Layer("fc", weights),))
    asked = {"granularity": ["unstructured", "block:4x4", "out_channel"], "sparsity": [0.5, 0.9], "batch": [1, 8]}
    return ss.compare(network, on=["sparch", "dense", "outerspace"], **asked, progress=False)


def test_parts_of_every_row_sum_to_its_energy(comparison):
    for row in comparison.rows:
        assert sum(energy_classes(row).values()) == pytest.approx(row["energy_pj.total"])
    shared = energy_classes(comparison.totals[0])
    assert min(shared["DRAM"], shared["on-chip memory"], shared["arithmetic"]) > 0


def test_dense_and_cheapest_of_each_machine(comparison):
    rows = telling(comparison.totals)
    assert len(rows) == 2 * 2 * 3
    for first, least in zip(rows[::2], rows[1::2], strict=True):
        assert first["granularity"] == "dense"
        assert (first["machine.name"], first["batch"]) == (least["machine.name"], least["batch"])
        mine = [row for row in comparison.totals if (row["machine.name"], row["batch"]) ==
                (first["machine.name"], first["batch"])]  # fmt: skip
        assert least["energy_pj.total"] == min(row["energy_pj.total"] for row in mine)


def test_table_for_people(comparison):
    heads, groups = energy_rows(comparison.totals)
    assert heads == ["machine", "pattern", "energy", "DRAM", "on-chip memory", "arithmetic"]
    assert [title.split(":")[0] for title, _ in groups] == ["tiny, batch 1", "tiny, batch 8"]
    for _, rows in groups:
        assert [row[0] for row in rows] == ["sparch"] * 2 + ["dense"] * 2 + ["outerspace"] * 2
        for row in rows:
            assert sum(int(cell.rstrip("%")) for cell in row[3:]) in (99, 100, 101)


def test_power_of_what_is_built_gets_a_column_where_the_table_has_it():
    network = ss.Network("one", (ss.Layer("fc", np.eye(16)),))
    comparison = ss.compare(network, on=["dense"], energy="aladdin_40nm", progress=False)
    heads, groups = energy_rows(comparison.totals)
    assert heads[-1] == "static"
    assert [row[:2] for _, rows in groups for row in rows] == [["dense", "as stored 93.8%"]]
