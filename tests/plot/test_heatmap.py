import numpy as np
import pytest
from checks import refused
from matplotlib.figure import Figure

from sparsim.errors import ConfigError
from sparsim.plot import plot_heatmap
from sparsim.plot.rows import total_rows


def cells(ax):
    """Return the cells' numbers, pattern by sparsity, NaN where blank."""
    (mesh,) = ax.collections
    return np.ma.filled(mesh.get_array(), np.nan)


def names(ax, axis):
    return [text.get_text() for text in (ax.get_xticklabels() if axis == "x" else ax.get_yticklabels())]


@pytest.mark.parametrize("figure", ["speedup", "chosen_speedup", "energy_ratio", "traffic_ratio"])
def test_cells_are_the_figures_of_the_rows(comparison, ax, figure):
    assert plot_heatmap(comparison, "sparch", 4, ax, figure=figure) is ax
    assert names(ax, "y") == ["unstr.", "2:4", "4x4", "out ch."]
    assert names(ax, "x") == ["50", "75"]
    value = {(row["granularity"], row["sparsity"]): row[figure] for row in total_rows(comparison, 4, "sparch")}
    expected = [
        [value["unstructured", 0.5], value["unstructured", 0.75]],
        [value["2:4", 0.5], np.nan],
        [value["block:4x4", 0.5], value["block:4x4", 0.75]],
        [value["out_channel", 0.5], value["out_channel", 0.75]],
    ]
    assert cells(ax) == pytest.approx(np.array(expected), nan_ok=True)
    assert ax.patch.get_hatch()
    bar = ax.figure.axes[1]
    assert bar.get_ylabel().endswith("×")
    assert ax.get_xlabel() == "sparsity, % of weights zero"
    assert any(text.get_text().startswith("dense: ") for text in ax.texts)


@pytest.mark.parametrize(("figure", "good"), [("speedup", 4.0), ("energy_ratio", 0.25)])
def test_one_is_the_middle_of_the_colours_and_blue_is_good(comparison, ax, figure, good):
    frame = comparison.to_frame()
    frame[figure] = np.where(frame["granularity"] == "2:4", good, 1.0)
    plot_heatmap(frame, "sparch", 4, ax, figure=figure)
    (mesh,) = ax.collections
    assert mesh.norm(1.0) == pytest.approx(0.5)
    assert mesh.norm.vmin * mesh.norm.vmax == pytest.approx(1)
    red, _, blue, _ = mesh.cmap(mesh.norm(good))
    assert blue > red
    assert "4.0×" in [text.get_text() for text in ax.texts] or "0.25×" in [text.get_text() for text in ax.texts]


def test_a_small_effect_does_not_get_strong_colours(comparison, ax):
    frame = comparison.to_frame().assign(speedup=1.05)
    plot_heatmap(frame, "sparch", 4, ax)
    assert ax.collections[0].norm.vmax == 2


def test_a_fixed_sparsity_has_its_own_column_where_no_other_is_near(comparison, ax):
    frame = comparison.to_frame()
    frame = frame[(frame["sparsity"] != 0.5) | (frame["granularity"] == "2:4")]
    frame["sparsity"] = np.where(frame["granularity"] == "2:4", 0.494, frame["sparsity"])
    plot_heatmap(frame, "sparch", 4, ax)
    assert names(ax, "x") == ["50", "75"]
    assert np.isnan(cells(ax)).sum() == 4


@pytest.mark.parametrize(("pattern", "label"), [("dense", "0"), ("2:4", "50")])
def test_one_variant_is_one_cell(comparison, ax, pattern, label):
    frame = comparison.to_frame()
    plot_heatmap(frame[frame["granularity"] == pattern], "a100", 4, ax)
    assert cells(ax).shape == (1, 1)
    assert names(ax, "x") == [label]


def test_what_is_unknown_is_refused(comparison, ax):
    refused(lambda: plot_heatmap(comparison, "sparch", figure="joy"), "joy", "chosen_speedup", kind=ConfigError)
    refused(lambda: plot_heatmap(comparison, "sparch", figure="reference_speedup"), "reference_speedup", "sparch",
            kind=ConfigError)  # fmt: skip
    unknown = comparison.to_frame().assign(energy_ratio=np.nan)
    refused(lambda: plot_heatmap(unknown, "sparch", ax=ax, figure="energy_ratio"), "energy_ratio", kind=ConfigError)


def test_a_partly_unknown_figure_leaves_cells_blank(comparison):
    frame = comparison.to_frame()
    frame.loc[frame["granularity"] == "block:4x4", "speedup"] = np.nan
    ax = plot_heatmap(frame, "sparch", 4, Figure().add_subplot())
    assert np.isnan(cells(ax)[2]).all()
    assert names(ax, "y")[2] == "4x4"
