import numpy as np
import pytest
from checks import refused
from matplotlib.figure import Figure

from sparsim.errors import ConfigError
from sparsim.plot import plot_stalls
from sparsim.plot.rows import total_rows
from sparsim.simulate import simulate

STATES = ("busy", "starved", "blocked")
STAGES = ("fetch_a", "look_ahead", "fetch_b", "multiply", "merge", "write", "dram")


def stacks(ax):
    """Return the heights of bars, state by bar."""
    assert [bars.get_label() for bars in ax.containers] == list(STATES)
    return np.array([[patch.get_height() for patch in bars] for bars in ax.containers])


def shares(rows):
    """Return the same from rows, in %."""
    every = [(row, stage) for row in rows for stage in STAGES]
    return [[100 * r[f"cycles.stages.{s}.{state}"] / r["cycles.total"] for r, s in every] for state in STATES]


def below(ax):
    """Return what stands under the bars."""
    ax.figure.draw_without_rendering()
    lower = [text.get_text() for axis in ax.child_axes for text in axis.get_xticklabels()]
    return [text.get_text() for text in ax.get_xticklabels()], lower


def test_bars_are_shares_of_all_cycles(comparison, ax):
    assert plot_stalls(comparison, "sparch", 4, ax) is ax
    rows = total_rows(comparison, 4, "sparch")
    assert stacks(ax) == pytest.approx(np.array(shares(rows)))
    assert stacks(ax).sum(axis=0) == pytest.approx(100)
    assert ax.get_ylabel() == "share of all cycles, %"
    assert "4x4 75 %" in [text.replace("\n", " ") for text in below(ax)[1]]


def test_the_order_of_many_narrow_bars_stands_in_the_legend(comparison, ax):
    plot_stalls(comparison, "sparch", 4, ax)
    order = next(t.get_text() for t in ax.get_legend().get_texts() if t.get_text().startswith("bars"))
    lines = [line.strip() for line in order.splitlines()[1:]]
    assert lines == ["fetch A", "look ahead", "fetch B", "multiply", "merge", "write", "DRAM"]
    assert below(ax)[0] == []


@pytest.mark.parametrize("machine", ["sparch", "a100"])
def test_one_variant_names_its_stages(comparison, ax, machine):
    plot_stalls(comparison, machine, 4, ax, granularity="unstructured", sparsity=0.75)
    stages, groups = below(ax)
    assert stages[-1] == "DRAM"
    assert ("launch" in stages) == (machine == "a100")
    assert groups == []
    assert "unstr. 75 %" in ax.get_title(loc="left")
    assert stacks(ax).shape == (3, len(stages))


def test_a_frame_has_the_stages_in_the_same_order(comparison, ax):
    plot_stalls(comparison.to_frame(), "a100", 4, ax, granularity="2:4")
    other = plot_stalls(comparison, "a100", 4, Figure().add_subplot(), granularity="2:4")
    assert below(ax) == below(other)


def test_layers_of_one_variant_are_groups(comparison, ax):
    plot_stalls(comparison, "sparch", 4, ax, granularity="2:4", by="layer")
    rows = [
        row
        for row in comparison.rows
        if (row["machine.name"], row["batch"], row["granularity"]) == ("sparch", 4, "2:4") and row["layer"] != "total"
    ]
    assert below(ax)[1] == ["fc1", "conv"]
    assert stacks(ax) == pytest.approx(np.array(shares(rows)))


def test_a_report_is_pictured_too(ax):
    report = simulate(np.eye(40) + np.roll(np.eye(40), 2, 0), on="sparch")
    plot_stalls(report, ax=ax)
    expected = [[100 * report[f"cycles.stages.{s}.{state}"] / report.cycles for s in STAGES] for state in STATES]
    assert stacks(ax) == pytest.approx(np.array(expected))
    assert ax.get_title(loc="left").endswith("sparch")
    refused(lambda: plot_stalls(report, "sparch", ax=ax), "one run", kind=ConfigError)


def test_frames_of_one_machine_need_no_name(swept, comparison, ax):
    frame = swept[(swept["machine.name"] == "sparch") & (swept["merge.width"] == 8) & (swept["dram.channels"] == 4)]
    plot_stalls(frame, ax=ax)
    assert stacks(ax).shape == (3, 7)
    refused(lambda: plot_stalls(comparison, ax=ax), "sparch", "a100", kind=ConfigError)
    refused(lambda: plot_stalls(frame, ax=ax, by="layer"), "no layers", "layers=True", kind=ConfigError)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"granularity": "unstructuerd"}, ["did you mean 'unstructured'"]),
        ({"sparsity": 0.6}, ["0.6", "0, 0.5, 0.75"]),
        ({"by": "layer"}, ["8 variants", "granularity"]),
        ({"by": "stage"}, ["variant, layer"]),
    ],
    ids=["pattern", "sparsity", "layers of all", "by"],
)
def test_what_is_not_there_is_named(comparison, ax, how, words):
    refused(lambda: plot_stalls(comparison, "sparch", 4, ax, **how), *words, kind=ConfigError)


def test_rows_without_stages_are_refused(comparison, ax):
    frame = comparison.to_frame()
    lean = frame[[name for name in frame.columns if not name.startswith("cycles.stages.")]]
    refused(lambda: plot_stalls(lean, "sparch", ax=ax), "no stages", kind=ConfigError)
