import numpy as np
import pytest
from checks import refused
from matplotlib.figure import Figure

from sparsim.errors import ConfigError
from sparsim.plot import plot_design_space
from sparsim.plot.measures import measure

SHIPPED_WIDTH = 16


def curves(ax):
    """Return x and y of the lines that have points."""
    return [line.get_data() for line in ax.lines if line.get_marker() in "osD^vPX*" and len(line.get_xdata())]


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


@pytest.fixture
def sparch(swept):
    return swept[swept["machine.name"] == "sparch"].copy()


@pytest.mark.parametrize(
    ("y", "factor", "unit"),
    [
        ("gflops", 1, "throughput, GFLOP/s"),
        ("time_s", 1e9, "time, ns"),
        ("energy_pj.total", 1e-3, "energy, nJ"),
        ("dram_bytes.total", 1e-3, "DRAM traffic, kB"),
        ("speedup", 1, "speed-up against dense twin, ×"),
        ("cycles.total", 1, "time, cycles"),
        ("actual_sparsity", 100, "actual sparsity, %"),
    ],
)
def test_a_line_is_one_combination_of_the_other_fields(sparch, ax, y, factor, unit):
    assert plot_design_space(sparch, "merge.width", y, ax=ax) is ax
    found = curves(ax)
    assert len(found) == 2
    for (x, values), channels in zip(found, (4, 16), strict=True):
        mine = sparch[sparch["dram.channels"] == channels]
        assert list(x) == [4, 8, 16]
        assert values == pytest.approx(factor * mine[y].to_numpy())
    assert ax.get_ylabel() == unit
    assert ax.get_xlabel() == "merge.width, elements/cycle"
    assert ax.get_xscale() == "log"
    assert legend(ax)[:3] == ["dram.channels", "4", "16"]


def test_the_machine_as_shipped_is_marked(sparch, ax):
    plot_design_space(sparch, "merge.width", ax=ax)
    (line,) = [line for line in ax.lines if line.get_label().startswith("as shipped")]
    assert list(line.get_xdata()) == [SHIPPED_WIDTH] * 2
    assert line.get_label() == "as shipped: 16"


def test_a_machine_without_the_field_is_a_level(swept, ax):
    plot_design_space(swept, "merge.width", ax=ax)
    level = sorted(line.get_ydata()[0] for line in ax.lines if list(line.get_xdata()) == [0, 1])
    other = swept[swept["machine.name"] == "outerspace"]
    assert level == pytest.approx(sorted(other["gflops"]))
    assert "outerspace (has no merge.width)" in legend(ax)


def test_lines_of_several_machines_leave_out_what_one_lacks(swept, ax):
    plot_design_space(swept, "dram.channels", ax=ax)
    assert legend(ax)[:5] == ["machine,\nmerge.width", "sparch, 4", "sparch, 8", "sparch, 16", "outerspace"]
    assert ax.get_xlabel() == "dram.channels, channels"


@pytest.mark.parametrize("how", ["best", "stock"])
@pytest.mark.parametrize(("y", "best"), [("gflops", max), ("time_s", min)])
def test_normalised_lines_are_one_at_their_reference(sparch, ax, how, y, best):
    plot_design_space(sparch, "merge.width", y, ax=ax, normalise=how)
    for (_, values), channels in zip(curves(ax), (4, 16), strict=True):
        mine = sparch[sparch["dram.channels"] == channels]
        reference = best(mine[y]) if how == "best" else mine[y][mine["merge.width"] == SHIPPED_WIDTH].item()
        assert values == pytest.approx((mine[y] / reference).to_numpy())
    assert ax.get_ylabel().endswith(", ×")


def test_colours_tell_one_field_apart(sparch, ax):
    plot_design_space(sparch, "dram.channels", hue="merge.width", ax=ax)
    assert legend(ax)[:4] == ["merge.width", "4", "8", "16"]
    assert (
        len({str(line.get_color()) for line in ax.lines if len(line.get_xdata()) == 2 and line.get_marker() == "o"})
        == 3
    )


def test_failed_points_are_left_out_and_counted(sparch, ax):
    sparch["error"] = np.where((sparch["merge.width"] == 8) & (sparch["dram.channels"] == 4), "ModelError: no", "")
    sparch.loc[sparch["error"] != "", ["gflops", "time_s"]] = np.nan
    plot_design_space(sparch, "merge.width", ax=ax)
    assert [len(x) for x, _ in curves(ax)] == [2, 3]
    assert "1 of 6 points failed" in ax.get_title(loc="left")
    refused(lambda: plot_design_space(sparch[sparch["error"] != ""], "merge.width"), "ModelError: no", kind=ConfigError)


def test_choices_and_switches_are_named_places(sparch, ax):
    one = sparch[sparch["dram.channels"] == 16].rename(columns={"merge.width": "schedule.order"})
    one = one.drop(columns="machine.config.merge.width")
    one["schedule.order"] = ["random", "huffman", "sequential"]
    plot_design_space(one, "schedule.order", ax=ax)
    assert [text.get_text() for text in ax.get_xticklabels()] == ["random", "huffman", "sequential"]
    assert ax.get_xlabel() == "schedule.order"
    ((x, _),) = curves(ax)
    assert list(x) == [0, 1, 2]
    (line,) = [line for line in ax.lines if line.get_label() == "as shipped: huffman"]
    assert list(line.get_xdata()) == [1, 1]


@pytest.mark.parametrize(
    ("values", "scale"), [([1, 2, 3], "linear"), ([1, 10, 100], "log"), ([2, 4, 8], "log"), ([0, 1, 64], "symlog")]
)
def test_the_axis_is_logarithmic_for_powers_of_two_and_wide_ranges(sparch, ax, values, scale):
    one = sparch[sparch["dram.channels"] == 16].assign(**{"merge.width": values})
    assert plot_design_space(one, "merge.width", ax=ax).get_xscale() == scale


def test_batch_and_sparsity_are_axes_too(comparison, ax):
    frame = comparison.to_frame()
    frame = frame[(frame["machine.name"] == "sparch") & frame["granularity"].isin(["unstructured", "block:4x4"])]
    plot_design_space(frame[frame["batch"] == 4], "sparsity", "speedup", ax=ax)
    assert [list(x) for x, _ in curves(ax)] == [[50, 75]] * 2
    assert ax.get_xlabel() == "sparsity, % of weights zero"
    other = plot_design_space(frame[frame["sparsity"] == 0.5], "batch", ax=Figure().add_subplot())
    assert [list(x) for x, _ in curves(other)] == [[1, 4]] * 2


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"x": "merge.widht"}, ["'merge.widht' was not swept", "merge.width, dram.channels"]),
        ({"x": "merge.layers"}, ["was not swept"]),
        ({"y": "gflop"}, ["did you mean 'gflops'"]),
        ({"y": "slowest_layer"}, ["no column of numbers"]),
        ({"hue": "batch"}, ["do not differ", "dram.channels"]),
        ({"normalise": "worst"}, ["best, stock"]),
    ],
    ids=["x", "fixed x", "y", "words", "hue", "normalise"],
)
def test_what_is_not_there_is_named(sparch, ax, how, words):
    refused(lambda: plot_design_space(sparch, **{"x": "merge.width", "ax": ax, **how}), *words, kind=ConfigError)


def test_a_sweep_that_cannot_be_drawn_is_refused(sparch, ax):
    narrow = sparch[sparch["merge.width"] < SHIPPED_WIDTH]
    refused(lambda: plot_design_space(narrow, "merge.width", ax=ax, normalise="stock"), "as shipped", kind=ConfigError)
    twice = sparch.drop(columns=["dram.channels", "machine.config.dram.channels"])
    refused(lambda: plot_design_space(twice, "merge.width", ax=ax), "several rows", kind=ConfigError)
    many = [sparch[:1].assign(**{"dram.channels": n, "machine.config.dram.channels": n}) for n in range(21)]
    import pandas as pd

    refused(lambda: plot_design_space(pd.concat(many), "merge.width", ax=ax), "21 lines", "20", kind=ConfigError)


def test_one_point_is_drawn(sparch, ax):
    plot_design_space(sparch[:1], "merge.width", ax=ax)
    assert [list(x) for x, _ in curves(ax)] == [[4]]


@pytest.mark.parametrize(
    ("key", "unit", "better"),
    [
        ("energy_pj.dram_access", "J", False),
        ("gflops_per_w", "GFLOP/s/W", True),
        ("storage.best_bytes", "B", False),
        ("accuracy", "%", True),
        ("traffic_ratio", "×", False),
        ("details.prefetch_hit_rate", "", True),
    ],
)
def test_columns_have_units(key, unit, better):
    assert (measure(key).unit, measure(key).more_is_better) == (unit, better)
