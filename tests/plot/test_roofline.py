import numpy as np
import pytest
from checks import refused

from sparsim.compare import compare
from sparsim.errors import ConfigError
from sparsim.machines import machine, preset_names
from sparsim.network import Layer, Network
from sparsim.plot import plot_roofline
from sparsim.plot.roofline import roof_of
from sparsim.plot.rows import layer_rows, total_rows
from sparsim.workload import DataType

ROOFS = ("DRAM", "compute")
MODELLED = [name for name in preset_names() if not machine(name).measured]
INT8 = ("tpu_v1",)
ONE_CYCLE = 1.02


def points(ax):
    """Return operational intensity and GFLOP/s of all points that are no roof."""
    lines = [line for line in ax.lines if line.get_marker() not in ("None", None)]
    return np.array([point for line in lines for point in zip(line.get_xdata(), line.get_ydata(), strict=True)])


def roofs(ax):
    return {line.get_label().partition(":")[0]: line for line in ax.lines if line.get_label().startswith(ROOFS)}


def flop(row):
    return 2 * row["workload.multiplies"] - row["workload.nnz_c"]


def test_points_are_layers_and_whole_networks(comparison, ax):
    assert plot_roofline(comparison, "sparch", 4, ax) is ax
    mine = [row for row in comparison.rows if row["machine.name"] == "sparch" and row["batch"] == 4]
    expected = {(flop(row) / row["dram_bytes.total"], flop(row) / row["time_s"] / 1e9) for row in mine}
    found = points(ax)
    assert len(found) == len(mine) == 8 * 3
    for x, y in expected:
        assert np.isclose(found, (x, y)).all(axis=1).any()
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert ax.get_xlabel() == "operational intensity, FLOP per byte of DRAM traffic"
    assert ax.get_ylabel() == "throughput, GFLOP/s"
    assert {"dense", "unstructured", "2:4", "block:4x4", "out_channel"} <= {
        text.get_text() for text in ax.get_legend().get_texts()
    }


@pytest.mark.parametrize("name", ["sparch", "a100"])
def test_roofs_are_those_of_the_preset(comparison, ax, name):
    plot_roofline(comparison, name, 4, ax)
    config = machine(name).config
    peak = 2 * machine(name).peak_multiplies_per_cycle(DataType.FP16) * config.clock_ghz
    drawn = roofs(ax)
    assert drawn["compute"].get_ydata() == pytest.approx([peak, peak])
    x, y = drawn["DRAM"].get_data()
    assert np.asarray(y) / np.asarray(x) == pytest.approx(config.dram.gb_s)
    assert (x[1], y[1]) == pytest.approx((peak / config.dram.gb_s, peak))
    assert ax.get_xlim()[0] < x[1] < ax.get_xlim()[1]


@pytest.fixture(scope="module")
def everywhere():
    rng = np.random.default_rng(5)
    conv = Layer("conv", rng.normal(size=(32, 16, 3, 3)), padding=(1, 1), input_size=(8, 8))
    network = Network("net", (Layer("fc", rng.normal(size=(64, 128))), conv))
    how = {"batch": 16, "granularity": ["unstructured", "2:4", "out_channel"], "sparsity": [0.75], "progress": False}
    names = {"int8": INT8, "fp16": [name for name in MODELLED if name not in INT8]}
    return {kind: compare(network, on=on, dtype=kind, **how).to_frame() for kind, on in names.items()}


@pytest.mark.parametrize("name", MODELLED)
def test_no_row_is_above_the_roofs(everywhere, name):
    frame = everywhere["int8" if name in INT8 else "fp16"]
    whole = total_rows(frame, machine=name)
    roof = roof_of(whole[0])
    rows = [*whole, *layer_rows(frame, whole)]
    assert len(rows) == 4 * 3
    assert all(row["gflops"] <= roof.at(flop(row) / row["dram_bytes.total"]) * ONE_CYCLE for row in rows)


@pytest.mark.parametrize("name", ["sparch", "a100-2:4"])
def test_no_point_is_above_the_lines(comparison, ax, name):
    plot_roofline(comparison, name, 4, ax)
    drawn = roofs(ax)
    bandwidth = drawn["DRAM"].get_ydata()[0] / drawn["DRAM"].get_xdata()[0]
    highest = drawn["compute"].get_ydata()[0]
    assert all(y <= min(highest, x * bandwidth) * ONE_CYCLE for x, y in points(ax))


def test_a_changed_machine_has_its_own_roofs(swept, ax):
    for channels in (4, 16):
        frame = swept[(swept["merge.width"] == 8) & (swept["dram.channels"] == channels)]
        (row,) = total_rows(frame, machine="sparch")
        assert roof_of(row).gb_s == 8 * channels
    plot_roofline(frame, "sparch", ax=ax)
    assert len(points(ax)) == 1


def test_rows_that_do_not_say_what_the_machine_has_are_refused(comparison, ax):
    lean = comparison.to_frame().drop(columns="resources.dram_gb_s")
    refused(lambda: plot_roofline(lean, "sparch", ax=ax), "resources.dram_gb_s", "a sweep", kind=ConfigError)


def test_a_measured_machine_has_no_roof(comparison, ax):
    frame = comparison.to_frame().assign(**{"resources.multipliers": np.nan, "resources.dram_gb_s": np.nan})
    refused(lambda: plot_roofline(frame, "sparch", ax=ax), "sparch", "measured", "roof", kind=ConfigError)


def test_layers_are_named_with_what_bounds_them(comparison, ax):
    frame = comparison.to_frame()
    one = frame[(frame["granularity"] == "block:4x4") & (frame["sparsity"] == 0.5)]
    plot_roofline(one, "sparch", 4, ax)
    bound = {
        f"{row['layer']}: {row['bounds.limited_by'].replace('_', ' ')}"
        for row in one.to_dict("records")
        if (row["machine.name"], row["batch"]) == ("sparch", 4) and row["layer"] != "total"
    }
    assert {text.get_text() for text in ax.texts} - {"all layers"} <= bound
    assert ax.texts


def test_nothing_to_do_is_an_error(comparison, ax):
    idle = comparison.to_frame().assign(gflops=0.0)
    refused(lambda: plot_roofline(idle, "sparch", ax=ax), "nothing is multiplied", kind=ConfigError)
