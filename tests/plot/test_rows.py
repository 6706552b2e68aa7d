import matplotlib as mpl
import numpy as np
import pytest
from checks import refused
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sparsim.errors import ConfigError, InputError
from sparsim.plot import (
    plot_accuracy,
    plot_design_space,
    plot_energy,
    plot_footprint,
    plot_heatmap,
    plot_roofline,
    plot_speedup,
    plot_stalls,
    plot_traffic,
)
from sparsim.plot.rows import all_rows, total_rows

ONE_MACHINE = [plot_energy, plot_traffic, plot_roofline, plot_heatmap, plot_stalls]


@pytest.mark.parametrize("plot", ONE_MACHINE, ids=lambda plot: plot.__name__)
def test_a_sweep_of_one_configuration_is_as_good_as_a_comparison(swept, ax, plot):
    frame = swept[(swept["dram.channels"] == 4) & ~(swept["merge.width"] < 16)]
    assert plot(frame, "sparch", 8, ax) is ax
    assert ax.get_title(loc="left").startswith("net, batch 8, sparch")


def test_speedups_of_several_machines_of_a_sweep(swept, ax):
    plot_speedup(swept[(swept["dram.channels"] == 4) & ~(swept["merge.width"] < 16)], ax=ax)
    assert len(ax.patches) == 2


@pytest.mark.parametrize("plot", ONE_MACHINE, ids=lambda plot: plot.__name__)
def test_several_configurations_of_one_name_are_refused(swept, ax, plot):
    told = [
        "'sparch' stands for 6 configurations",
        "merge.width = 4",
        "dram.channels = 4, 16",
        "frame[frame['merge.width']",
    ]
    refused(lambda: plot(swept, "sparch", ax=ax), *told, kind=ConfigError)


def test_storage_is_the_same_in_all_configurations(swept, ax):
    plot_footprint(swept, ax)
    assert len(ax.patches) == 2


def test_failed_points_of_a_sweep_are_left_out(swept):
    frame = swept.copy()
    frame["error"] = np.where(frame["merge.width"] == 8, "", "ModelError: too wide")
    frame.loc[frame["error"] != "", ["time_s", "speedup"]] = np.nan
    rows = total_rows(frame, machine="sparch", several=True)
    assert {row["merge.width"] for row in rows} == {8}
    lost = frame[frame["error"] != ""]
    refused(lambda: total_rows(lost), f"all {len(lost)} points failed", "ModelError: too wide", kind=ConfigError)


def test_a_repeated_row_is_refused(comparison):
    import pandas as pd

    frame = comparison.to_frame()
    refused(lambda: total_rows(pd.concat([frame, frame])), "2 rows of one variant", kind=ConfigError)


def test_an_unknown_speedup_leaves_a_gap(comparison):
    frame = comparison.to_frame()
    frame.loc[frame["granularity"] == "dense", "speedup"] = np.nan
    ax = plot_speedup(frame, 4, Figure().add_subplot())
    assert sum(np.isnan(patch.get_height()) for patch in ax.patches) == 4


@pytest.mark.parametrize(
    "draw",
    [
        lambda frame: plot_roofline(frame, "sparch"),
        lambda frame: plot_heatmap(frame, "sparch"),
        lambda frame: plot_stalls(frame, "sparch"),
        lambda frame: plot_design_space(frame[frame["machine.name"] == "sparch"], "batch"),
        lambda frame: plot_accuracy(frame, "sparch"),
    ],
    ids=["roofline", "heatmap", "stalls", "design space", "accuracy"],
)
def test_without_axes_a_figure_is_made_and_no_style_changed(measured, draw):
    with pyplot.rc_context({"backend": "agg"}):
        before = dict(mpl.rcParams)
        ax = draw(measured)
        assert isinstance(ax, Axes)
        assert dict(mpl.rcParams) == before
        pyplot.close(ax.figure)


def test_energy_of_a_measured_run_is_not_known_and_refused(comparison):
    frame = comparison.to_frame()
    parts = [name for name in frame if name.startswith("energy_pj.")]
    frame.loc[frame["machine.name"] == "a100", parts] = [0.0] + [np.nan] * (len(parts) - 1)
    assert parts[0] == "energy_pj.total"
    assert all(np.isnan(row["energy_pj.total"]) == (row["machine.name"] == "a100") for row in all_rows(frame))
    with pytest.raises(ConfigError, match="not known for any variant on 'a100'"):
        plot_energy(frame, "a100")
    plot_energy(frame, "sparch", ax=Figure().add_subplot())
    few = frame.loc[frame["machine.name"] == "sparch", ["layer", "energy_pj.total"]]
    assert [row["energy_pj.total"] for row in all_rows(few)] == list(few["energy_pj.total"])


@pytest.mark.parametrize("source", [None, [1], "frame.csv"], ids=str)
def test_what_is_no_comparison_is_refused(source):
    with pytest.raises(InputError, match=f"{type(source).__name__} cannot be drawn"):
        plot_speedup(source)
