import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sparsim.errors import ConfigError
from sparsim.network import Layer, Network
from sparsim.plot import overview, plot_energy, plot_footprint, plot_speedup, plot_traffic
from sparsim.plot.draw import engineering, variant_label
from sparsim.plot.rows import total_rows
from sparsim.storage import network_storage

MACHINES = ["sparch", "dense", "a100", "a100-2:4"]
VARIANTS = 1 + 2 + 1 + 2 + 2


def shown(ax):
    ax.figure.draw_without_rendering()
    return [text.get_text() for text in (*ax.get_xticklabels(), *ax.get_legend().get_texts())]


def test_speedup_has_one_bar_for_each_variant_and_machine(comparison, ax):
    assert plot_speedup(comparison, 4, ax) is ax
    assert len(ax.patches) == VARIANTS * len(MACHINES)
    heights = sorted(patch.get_y() + patch.get_height() for patch in ax.patches)
    assert heights == pytest.approx(sorted(row["speedup"] for row in total_rows(comparison, 4)))
    assert all(patch.get_y() == 1 for patch in ax.patches)
    assert "speed-up" in ax.get_ylabel()
    assert "×" in ax.get_ylabel()
    texts = shown(ax)
    assert {"dense", "2:4", "unstr.\n50 %", "4x4\n75 %", "out ch.\n50 %"} <= set(texts)
    assert {"sparch vs dense", "a100 vs itself", "a100-2:4 vs a100"} <= set(texts)


@pytest.mark.parametrize(("factor", "scale"), [(1, "linear"), (100, "log")])
def test_speedup_axis_is_logarithmic_only_for_a_wide_range(comparison, ax, factor, scale):
    frame = comparison.to_frame()
    frame.loc[frame["granularity"] == "2:4", "speedup"] *= factor
    assert plot_speedup(frame, 1, ax).get_yscale() == scale
    assert plot_speedup(frame, 1, ax).get_xscale() == "linear"


@pytest.mark.parametrize(
    ("plot", "prefix", "key", "factor"),
    [(plot_energy, "energy_pj", "energy", 1e-12), (plot_traffic, "dram_bytes", "DRAM", 1)],
)
@pytest.mark.parametrize("machine", MACHINES)
def test_stacks_add_up_to_the_totals(comparison, ax, plot, prefix, key, factor, machine):
    plot(comparison, machine, 4, ax)
    totals = [factor * row[f"{prefix}.total"] for row in total_rows(comparison, 4, machine)]
    tops = np.zeros(VARIANTS)
    for patch in ax.patches:
        tops[round(patch.get_x() + patch.get_width() / 2)] += patch.get_height()
    assert len(ax.patches) % VARIANTS == 0
    assert tops / tops.max() == pytest.approx(np.array(totals) / max(totals))
    label = ax.get_ylabel()
    assert label.startswith(key)
    assert label.endswith(("J", "B"))
    assert any(text.startswith("dense twin on") for text in shown(ax))


def heights(ax, bars):
    """Return the heights of stacked bars by part, in units of the axis."""
    found = np.array([patch.get_height() for patch in ax.patches]).reshape(-1, bars)
    assert [text for text in shown(ax) if text in ("values", "indices")] == ["indices", "values"]
    return found


def test_footprint_of_a_comparison_stacks_values_and_indices(comparison, ax):
    assert plot_footprint(comparison, ax) is ax
    rows = total_rows(comparison, 4, "sparch")
    values, indices = heights(ax, VARIANTS)
    unit = rows[0]["storage.dense_bytes"] / max(line.get_ydata()[0] for line in ax.lines)
    assert (values + indices) * unit == pytest.approx([row["storage.best_bytes"] for row in rows])
    assert indices * unit == pytest.approx([row["storage.index_bytes"] for row in rows])
    assert ax.get_ylabel() == "memory footprint of the weights, kB"
    assert {"dense", "2:4", "4x4\n75 %"} <= set(shown(ax))
    assert [note.get_text().replace("\n", " ") for note in ax.texts] == [row["storage.best"] for row in rows]
    frame = plot_footprint(comparison.to_frame(), Figure().add_subplot())
    assert [patch.get_height() for patch in frame.patches] == [patch.get_height() for patch in ax.patches]


def test_footprint_of_a_network_has_a_bar_for_each_format(ax):
    rng = np.random.default_rng(1)
    weights = rng.normal(size=(64, 256)) * (rng.random((64, 256)) < 0.1)
    network = Network("net", (Layer("sparse", weights), Layer("full", rng.normal(size=(8, 8)))))
    found = network_storage(network, 2)
    plot_footprint(network, ax)
    values, indices = heights(ax, len(found.totals)) * 1000
    assert values == pytest.approx([total.value_bytes for total in found.totals])
    assert indices == pytest.approx([total.index_bytes for total in found.totals])
    lines = {line.get_label(): line.get_ydata()[0] * 1000 for line in ax.lines}
    assert lines["all weights, dense"] == pytest.approx(found.dense_bytes)
    assert lines["non-zero values alone"] == pytest.approx(found.floor_bytes)
    assert {"dense", "csr", "run length", "best\nper layer"} <= set(shown(ax))
    assert ax.get_title(loc="left") == "net, 2 B a value"
    same = plot_footprint(found, Figure().add_subplot())
    assert [patch.get_height() for patch in same.patches] == [patch.get_height() for patch in ax.patches]


def test_frames_and_comparisons_give_the_same_bars(comparison, ax):
    other = Figure().add_subplot()
    plot_energy(comparison, "sparch", ax=ax)
    plot_energy(comparison.to_frame(), "sparch", ax=other)
    assert [patch.get_height() for patch in ax.patches] == [patch.get_height() for patch in other.patches]


def test_batch_defaults_to_the_largest(comparison):
    assert {row["batch"] for row in total_rows(comparison)} == {4}
    assert "batch 4" in plot_speedup(comparison, ax=Figure().add_subplot()).get_title(loc="left")


def test_what_is_not_there_is_named(comparison):
    with pytest.raises(ConfigError, match="did you mean 'sparch'"):
        plot_energy(comparison, "sparc")
    with pytest.raises(ConfigError, match="allowed: 1, 4"):
        plot_speedup(comparison, 7)
    two = comparison.to_frame()
    two.loc[two.index[-1], "network"] = "other"
    with pytest.raises(ConfigError, match="one network"):
        plot_speedup(two)


def test_without_axes_a_figure_is_made_and_no_style_changed(comparison):
    from matplotlib import pyplot

    with pyplot.rc_context({"backend": "agg"}):
        before = dict(mpl.rcParams)
        axes = plot_traffic(comparison, "dense")
        assert isinstance(axes, Axes)
        assert dict(mpl.rcParams) == before
        pyplot.close(axes.figure)


@pytest.mark.parametrize("batches", [1, 2])
def test_overview_draws_every_panel(comparison, batches, tmp_path):
    rows = [row if row["granularity"] == "2:4" else {**row, "accuracy": 0.9} for row in comparison.rows]
    rows = [row for row in rows if batches == 2 or row["batch"] == 1]
    accurate = type(comparison)(rows, comparison.verdict, comparison.coverage)
    figure = overview([accurate])
    assert len(figure.axes) == batches + 1 + 2
    assert all(ax.get_ylabel() and ax.get_title(loc="left") for ax in figure.axes)
    figure.savefig(tmp_path / "overview.png", dpi=40)
    assert len(overview([comparison]).axes) == 3


def test_overview_of_nothing_is_an_error():
    with pytest.raises(ConfigError, match="at least one"):
        overview([])


@pytest.mark.parametrize(
    ("variant", "label"),
    [
        (("unstructured", 0.9), "unstr. 90 %"),
        (("2:4", 0.5), "2:4"),
        (("block:4x4", 0.875), "4x4 87.5 %"),
        (("vector:4", 0.5), "vector 4 50 %"),
        (("in_channel", 0.5), "in ch. 50 %"),
        (("dense", 0.0), "dense"),
        (("as stored", 0.3), "as stored"),
    ],
)
def test_variants_have_short_labels(variant, label):
    assert variant_label(*variant) == label


@pytest.mark.parametrize(
    ("value", "divisor", "prefix"),
    [(0, 1, ""), (1000, 1e3, "k"), (2.5e-7, 1e-9, "n"), (3e-6, 1e-6, "µ"), (1e30, 1e15, "P")],
)
def test_engineering_prefixes(value, divisor, prefix):
    assert engineering(value) == (pytest.approx(divisor), prefix)


def test_importing_the_module_does_not_import_matplotlib():
    code = "import sys, sparsim.plot; sys.exit(any(name.split('.')[0] == 'matplotlib' for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_stream_and_what_all_machines_spend_on_keep_their_colour(comparison):
    colors = {}
    for plot in (plot_energy, plot_traffic):
        for machine in MACHINES:
            axes = plot(comparison, machine, ax=Figure().add_subplot())
            for bars in axes.containers:
                colors.setdefault(bars.get_label(), set()).add(bars[0].get_facecolor())
    assert all(len(colors[name]) == 1 for name in ("DRAM access", "multiply", "add", "A (weights)", "C (results)"))


@pytest.mark.parametrize(("width", "shown"), [(12, "2:4,\ncsr,\nbsr …"), (2, "2:4 …")])
def test_footprint_names_fewer_formats_where_bars_are_narrow(comparison, width, shown):
    frame = comparison.to_frame().assign(**{"storage.best": "2:4, csr, bsr, dense"})
    axes = plot_footprint(frame, Figure(figsize=(width, 4)).add_subplot())
    assert {note.get_text() for note in axes.texts} == {shown}


def test_overview_without_any_energy_leaves_that_panel_out(comparison):
    rows = [{**row, "energy_pj.total": float("nan")} for row in comparison.rows]
    assert len(overview([type(comparison)(rows, (), "all")]).axes) == 2
