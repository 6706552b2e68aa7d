from math import nan

import pytest

from sparsim.verdict import _percent, in_short


def row(granularity, machine, speedup, sparsity=0.5, batch=1, network="net"):
    return {
        "network": network,
        "batch": batch,
        "granularity": granularity,
        "sparsity": sparsity,
        "machine.name": machine,
        "speedup": speedup,
    }


def test_in_short_names_where_each_pattern_pays_the_most_gaining_machine_first():
    rows = [row("2:4", "slow", 1.0), row("2:4", "fast", 1.5), row("unstructured", "slow", 1.2)]
    rows += [row("unstructured", "fast", 9.6), row("block:4x4", "slow", 1.04)]
    assert in_short(rows) == [
        "net, batch 1: 2:4 pays on fast (1.5x); unstructured pays on fast (9.6x), slow (1.2x); block:4x4 pays nowhere."
    ]


def test_in_short_takes_the_best_of_several_sparsities_and_says_so():
    rows = [row("unstructured", "fast", 2.0, 0.5), row("unstructured", "fast", 8.0, 0.9)]
    rows += [row("unstructured", "slow", 1.3, 0.5), row("unstructured", "slow", 0.7, 0.9)]
    told = "net, batch 1, each at the sparsity that gains most: unstructured pays on fast (8x), slow (1.3x)."
    assert in_short(rows) == [told]


def test_in_short_speaks_of_each_network_at_its_largest_batch():
    rows = [row("2:4", "fast", 3.0, batch=1), row("2:4", "fast", 1.2, batch=64), row("2:4", "fast", 150.0, network="b")]
    assert in_short(rows) == ["net, batch 64: 2:4 pays on fast (1.2x).", "b, batch 1: 2:4 pays on fast (150x)."]


@pytest.mark.parametrize(
    "left_out",
    [row("dense", "fast", 1.0), row("2:4", "fast", nan), {**row("2:4", "fast", 9.0), "workload.layer": "fc1"}],
    ids=["dense", "unknown", "layer"],
)
def test_in_short_leaves_out_dense_weights_unknown_speedups_and_layers(left_out):
    assert in_short([left_out]) == []
    assert in_short([row("as stored", "fast", 2.0), left_out]) == ["net, batch 1: its own zeros pays on fast (2x)."]


@pytest.mark.parametrize(
    ("share", "told"), [(0, "0%"), (1, "100%"), (0.5, "50%"), (0.999, "99.9%"), (0.99988, "99.99%"), (0.001, "0.1%")]
)
def test_only_all_is_called_all(share, told):
    assert _percent(share) == told
