"""Sums over a network's layers."""

from __future__ import annotations

import pytest

from sparsim.rows import totals

KEY = "details.sample.intervals.cycles.total"


def row(layer, cycles, product, interval=None):
    zero = dict.fromkeys(("workload.multiplies", "workload.nnz_c", "time_s", "baseline_time_s", "energy_pj.total"), 0)
    zero |= dict.fromkeys(("dram_bytes.total", "baseline_energy_pj", "baseline_dram_bytes", "unpropagated_time_s"), 0)
    zero |= {"chosen_time_s": 0, "storage.index_bytes": 0}
    names = ("network", "granularity", "machine.name", "baseline", "propagated_sparsity", "accuracy", "workload.dtype")
    words = dict.fromkeys((*names, "provenance.energy_table", "bounds.limited_by", "details.reason"), "")
    about = {"batch": 1, "sparsity": 0.0, "actual_sparsity": 0.0, "layer": layer, "cycles.total": cycles}
    sampled = {KEY: interval, "details.sample.fraction": 0.1} if interval else {}
    return {**zero, **words, **about, "provenance.workload_sha256": product, **sampled}


def test_estimates_of_different_products_are_off_independently():
    (total,) = totals([row("one", 100, "a", [97, 103]), row("two", 200, "b", [196, 204]), row("three", 50, "c")])
    assert total["cycles.total"] == 350
    assert total[KEY] == [345, 355]  # 3 and 4 make 5
    assert total["details.sample.fraction"] == 0.1


def test_estimates_of_one_product_are_off_together():
    (total,) = totals([row("one", 100, "a", [97, 103]), row("two", 100, "a", [97, 103])])
    assert total[KEY] == [194, 206]


def test_sums_of_exact_products_have_no_intervals():
    (total,) = totals([row("one", 100, "a"), row("two", 100, "b")])
    assert not any(key.startswith("details.sample") for key in total)


@pytest.mark.parametrize("cycles", [1, 4])
def test_an_interval_is_never_below_nothing(cycles):
    (total,) = totals([row("one", cycles, "a", [0, 20])])
    assert total[KEY] == [0, cycles + 10]
