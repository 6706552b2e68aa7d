import numpy as np
import pytest
import scipy.sparse as sp
from matplotlib.figure import Figure

import sparsim as ss
from sparsim.errors import ConfigError, WorkloadError
from sparsim.plot import condensing_example, plot_merge_tree
from sparsim.plot.merge_tree import merge_plan

WEIGHTS = [15, 15, 13, 12, 9, 7, 3, 2, 2]
ORDERS = ["huffman", "sequential", "random", "accumulate"]


@pytest.fixture
def ax():
    return Figure(figsize=(9, 4), layout="constrained").add_subplot()


@pytest.fixture(scope="module")
def square():
    return sp.random_array((60, 60), density=0.15, rng=np.random.default_rng(3), format="csr")


def test_huffman_merges_the_lightest_first():
    plan = merge_plan(WEIGHTS, ways=4)
    assert plan.rounds == ((7, 8, 6), (5, 9, 4, 3), (2, 0, 1, 10))
    assert plan.elements == (7, 35, 78)
    assert plan.written == 42
    assert "(9 − 2) mod 3 + 2 = 3" in plan.first_round


def test_two_way_huffman_has_the_weight_of_the_classic_code():
    frequencies = [5, 9, 12, 13, 16, 45]  # Cormen et al., Introduction to Algorithms, section 16.3: 224 with the root
    plan = merge_plan(frequencies, ways=2)
    assert len(plan.rounds) == 5
    assert plan.written + plan.elements[-1] == 224


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("layers", [1, 2, 6])
def test_a_matrix_merges_to_what_the_simulator_counts(square, order, layers):
    plan = merge_plan(square, ways=1 << layers, order=order)
    fields = {"schedule.order": order, "merge.layers": layers}
    report = ss.simulate(square, on="sparch", overrides=fields).to_dict()
    details = report["details"]
    assert len(plan.leaves) == details["condensed_columns"]
    assert sum(plan.leaves) == report["workload"]["multiplies"]
    assert len(plan.rounds) == details["merge_rounds"]
    assert len(plan.rounds[0]) == details["first_round_ways"]
    assert plan.written == details["partial_elements_written"]
    assert plan.elements[-1] == report["workload"]["nnz_c"]


def test_dense_operand_and_its_written_out_twin_merge_alike(square):
    full = ss.product(square, np.ones((60, 7)))
    plans = [merge_plan(square, columns=7, ways=4), merge_plan(full, ways=4)]
    assert plans[0] == plans[1]
    report = ss.simulate(square, columns=7, on="sparch", overrides={"merge.layers": 2})
    assert plans[0].written == report.to_dict()["details"]["partial_elements_written"]


def test_ways_come_from_a_machine():
    assert merge_plan(WEIGHTS).ways == 64
    assert merge_plan(WEIGHTS, ways=ss.machine("sparch", {"merge.layers": 3})).ways == 8


@pytest.mark.parametrize("weights", [[], [4], [0, 0, 0]], ids=["none", "one", "zeros"])
def test_what_fits_the_tree_is_one_round(ax, weights):
    plan = merge_plan(weights, ways=4)
    assert plan.rounds == (tuple(range(len(weights))),)
    assert plan.written == 0
    assert "nothing written" in plot_merge_tree(weights, ways=4, ax=ax).get_title("left")


def test_picture_says_order_rounds_first_round_and_traffic(ax):
    assert plot_merge_tree(WEIGHTS, ways=4, ax=ax) is ax
    title = ax.get_title("left")
    for words in ("huffman order, 4 ways, 3 rounds", "(9 − 2) mod 3 + 2 = 3", "42 elements written and read back"):
        assert words in title
    written = [text.get_text() for text in ax.texts]
    assert {"round 1\n7", "round 2\n35", "C\n78"} <= set(written)
    assert {"0:\n15", "7:\n2"} <= set(written)
    ax.figure.draw_without_rendering()


def test_every_input_is_joined_to_its_round_and_partial_results_stand_out(ax):
    plot_merge_tree(WEIGHTS, ways=4, ax=ax)
    lines = [line for line in ax.lines if len(line.get_xdata())]
    assert len(lines) == len(WEIGHTS) + 2
    widths = sorted(line.get_linewidth() for line in lines)
    assert widths[-2] == widths[-1] > widths[-3]
    assert len({line.get_color() for line in lines}) == 2


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("ways", [2, 4, 64])
def test_nodes_never_lie_on_one_another(ax, order, ways):
    rng = np.random.default_rng(0)
    plot_merge_tree(rng.integers(1, 50, size=64), ways=ways, order=order, ax=ax)
    ax.figure.draw_without_rendering()
    nodes = [text for text in ax.texts if text.get_bbox_patch() is not None]
    corners = np.array([text.get_bbox_patch().get_window_extent().extents for text in nodes]).reshape(-1, 4)
    dots = [line for line in ax.lines if line.get_marker() == "o"]
    assert len(nodes) + len(dots) == len(merge_plan([1] * 64, ways=ways, order=order).rounds)
    low, high = corners[:, :2], corners[:, 2:]
    overlap = np.minimum(high[:, None], high[None]) - np.maximum(low[:, None], low[None])
    both = (overlap > 1).all(axis=2) & ~np.eye(len(nodes), dtype=bool)
    assert not both.any()


def test_two_orders_stand_beside_each_other():
    left, right = Figure(figsize=(9, 4), layout="constrained").subplots(1, 2)
    plot_merge_tree(condensing_example(), columns=8, ways=4, ax=left)
    plot_merge_tree(condensing_example(), columns=8, ways=4, order="sequential", ax=right)
    counts = [int(one.get_title("left").split("\n")[-1].split()[0].replace(",", "")) for one in (left, right)]
    assert counts[0] < counts[1]


@pytest.mark.parametrize(
    ("source", "options", "error", "match"),
    [
        ([1] * 65, {}, ConfigError, "65 leaves"),
        (np.ones((70, 70)), {}, ConfigError, "70 leaves"),
        (np.ones((3, 4)), {}, WorkloadError, "not square"),
        ([1, -1], {}, ConfigError, "-1 is no number"),
        ([1, 2.5], {}, ConfigError, "2.5 is no number"),
        (WEIGHTS, {"columns": 3}, ConfigError, "columns"),
        (WEIGHTS, {"ways": 1}, ConfigError, "ways: 1"),
        (WEIGHTS, {"ways": "dense"}, ConfigError, "no merge tree"),
        (WEIGHTS, {"order": "hufman"}, ConfigError, "allowed: huffman"),
        (np.ones((4_000_000, 3), dtype=np.int8), {"columns": 3}, ConfigError, "products"),
        ("no such file.mtx", {}, ValueError, "no such file"),
    ],
    ids=["many", "wide", "oblong", "negative", "fraction", "columns", "ways", "machine", "order", "large", "file"],
)
def test_what_cannot_be_drawn_is_refused(ax, source, options, error, match):
    with pytest.raises(error, match=match):
        plot_merge_tree(source, ax=ax, **options)


@pytest.mark.parametrize(("leaves", "told"), [([7], "1 leaf fits into one round"), ([7, 8], "2 leaves fit into one")])
def test_few_leaves_are_told_to_fit(leaves, told):
    assert merge_plan(leaves, ways=4).first_round.startswith(told)
