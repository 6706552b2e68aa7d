import numpy as np
import pytest

from sparsim.errors import ConfigError
from sparsim.plot import plot_accuracy
from sparsim.plot.accuracy import FAINT, pareto_front
from sparsim.plot.rows import total_rows

VARIANTS = 1 + 2 + 1 + 2 + 2


@pytest.mark.parametrize(("against", "unit"), [("energy", "J"), ("time", "s"), ("speedup", "×")])
def test_accuracy_shows_measured_variants_only(measured, ax, against, unit):
    plot_accuracy(measured, "sparch", 1, ax, against=against)
    lines = [line for line in ax.lines if line.get_marker() not in ("None", None)]
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert [text for text in labels if text != "Pareto front"] == ["dense", "unstructured", "block:4x4", "out_channel"]
    assert sum(len(line.get_xdata()) for line in lines) == VARIANTS - 1
    assert ax.get_ylabel() == "accuracy, %"
    assert ax.get_xlabel().endswith(unit)
    assert "dense" in [text.get_text() for text in ax.texts]


@pytest.mark.parametrize(
    ("points", "front"),
    [
        ([(1, 5)], [True]),
        ([(1, 5), (2, 6), (3, 4)], [True, True, False]),
        ([(1, 5), (1, 4)], [True, False]),
        ([(1, 5), (2, 5)], [True, False]),
        ([(1, 5), (1, 5)], [True, True]),
        ([], []),
    ],
    ids=["one", "beaten in both", "same cost", "same worth", "equal", "none"],
)
def test_front_has_what_no_other_point_dominates(points, front):
    assert pareto_front(points) == front


@pytest.mark.parametrize(("against", "key", "sign"), [("energy", "energy_pj.total", 1), ("speedup", "speedup", -1)])
def test_dominated_variants_are_faint_and_the_front_is_a_step_line(measured, ax, against, key, sign):
    rows = [row for row in total_rows(measured, 4, "sparch") if not np.isnan(row["accuracy"])]
    best = [
        row
        for row in rows
        if not any(
            sign * o[key] <= sign * row[key]
            and o["accuracy"] >= row["accuracy"]
            and (o[key], o["accuracy"]) != (row[key], row["accuracy"])
            for o in rows
        )
    ]
    assert 1 < len(best) < len(rows)
    plot_accuracy(measured, "sparch", 4, ax, against=against)
    points = [line for line in ax.lines if line.get_marker() not in ("None", None)]
    counts = {alpha: sum(len(line.get_xdata()) for line in points if line.get_alpha() == alpha) for alpha in (1, FAINT)}
    assert counts == {1: len(best), FAINT: len(rows) - len(best)}
    (front,) = [line for line in ax.lines if line.get_label() == "Pareto front"]
    assert front.get_drawstyle() == ("steps-post" if sign > 0 else "steps-pre")
    assert sorted(front.get_ydata()) == pytest.approx(sorted({100 * row["accuracy"] for row in best}))
    assert list(front.get_xdata()) == sorted(front.get_xdata())


def test_a_single_variant_has_no_front_line(measured, ax):
    plot_accuracy(measured[measured["granularity"] == "dense"], "sparch", 4, ax)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["dense"]


def test_a_wrong_or_unknown_cost_is_named(measured, ax):
    with pytest.raises(ConfigError, match="allowed: energy, time, speedup"):
        plot_accuracy(measured, "sparch", against="joy")
    unknown = measured.assign(speedup=np.nan)
    with pytest.raises(ConfigError, match="speedup: not known for any variant on 'sparch'"):
        plot_accuracy(unknown, "sparch", ax=ax, against="speedup")


def test_labels_of_points_do_not_overlap(measured, ax):
    plot_accuracy(measured, "a100", 1, ax)
    boxes = [text.get_window_extent() for text in ax.texts]
    assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[:i])


def test_accuracy_that_nobody_measured_is_an_error(comparison):
    with pytest.raises(ConfigError, match="no accuracy was measured"):
        plot_accuracy(comparison, "sparch")


def test_a_frame_without_the_column_has_no_accuracy(comparison):
    with pytest.raises(ConfigError, match="no accuracy was measured"):
        plot_accuracy(comparison.to_frame().drop(columns="accuracy"), "sparch")
