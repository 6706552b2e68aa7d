"""Estimates: what stays exact, how often intervals hold, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import scipy.sparse as sp
from typer.testing import CliRunner

import sparsim as ss
from sparsim.cli import app
from sparsim.errors import ConfigError
from sparsim.kernels.symbolic import far_products
from sparsim.machines import Activity, machine, sampling, sparch_estimate
from sparsim.machines.sparch import _operands
from sparsim.simulate import product
from sparsim.workload import Workload

EXACT = ("a", "b")


def matrix(kind: str, rows: int = 3000, seed: int = 0) -> sp.csr_matrix:
    """Return a matrix whose A·A has some 10^5 to 10^6 products."""
    rng = np.random.default_rng(seed)
    row = np.repeat(np.arange(rows), 10)
    column = rng.integers(0, rows, row.size)
    if kind == "blocks":  # merges much in the first half, little in the second
        column = np.where(row < rows // 2, row // 25 * 25 + rng.integers(0, 25, row.size), column)
    if kind == "dense_row":
        row, column = np.append(row, np.full(rows // 2, 7)), np.append(column, np.arange(0, rows, 2))
    if kind == "sorted":
        length = np.sort(np.minimum(rng.zipf(1.6, rows) + 3, 150))[::-1]
        row = np.repeat(np.arange(rows), length)
        column = (rows * rng.random(row.size) ** 3).astype(np.int64)
    return sp.csr_matrix((np.ones(row.size), (row, column)), shape=(rows, rows))


@pytest.fixture(autouse=True)
def _sample_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sparch_estimate, "LEAST_PRODUCTS", 10_000)
    monkeypatch.setattr(sparch_estimate, "LEAST_ROWS", 4)
    monkeypatch.setattr(sparch_estimate, "LEAST_OF_ROUND", 0)


def workload(kind: str, rows: int = 3000) -> Workload:
    return product(matrix(kind, rows))


def run(of: Workload, fraction: float, seed: int = 0, **fields: object) -> Activity:
    return machine("sparch", {"sample.fraction": fraction, "sample.seed": seed, **fields}).run(of)


def figures(did: Activity) -> dict[str, float]:
    return {
        "cycles.total": did.cycles,
        "workload.nnz_c": did.nnz_c,
        "dram_bytes.total": sum(did.dram_bytes.values()),
        "dram_bytes.c": did.dram_bytes["c"],
        "details.partial_elements_written": did.details["partial_elements_written"],
        **{f"details.layer_elements.{at}": value for at, value in enumerate(did.details["layer_elements"])},
    }


@pytest.mark.parametrize("kind", ["uniform", "blocks", "dense_row", "sorted"])
def test_what_follows_from_the_elements_of_a_is_exact(kind: str) -> None:
    of = workload(kind)
    truth, found = machine("sparch").run(of), run(of, 0.1)
    assert found.multiplies == truth.multiplies
    if truth.details["merge_rounds"] <= 2:  # else estimated sizes may order the merges in another way
        for stream in EXACT:
            assert found.dram_bytes[stream] == truth.dram_bytes[stream]
        for key in ("line_hits", "line_misses", "b_bytes_fetched"):
            assert found.details[key] == truth.details[key]
    assert found.details["condensed_columns"] == truth.details["condensed_columns"]
    assert found.details["merge_rounds"] == truth.details["merge_rounds"]
    for stage in ("look_ahead", "multiply"):
        assert found.stages[stage].busy == pytest.approx(truth.stages[stage].busy, rel=1e-3)


@pytest.mark.parametrize(
    ("kind", "layers"), [("uniform", 6), ("blocks", 6), ("dense_row", 6), ("sorted", 6), ("uniform", 2), ("sorted", 3)]
)
def test_intervals_of_counts_hold(kind: str, layers: int) -> None:
    """95 % are stated; of 100 seeds 90 or more have to hold, and to be of use."""
    of = workload(kind)
    truth = figures(machine("sparch", {"merge.layers": layers}).run(of))
    held: dict[str, list[bool]] = {}
    for seed in range(100):
        for key, (value, half) in sampled_counts(of, layers, seed).items():
            held.setdefault(key, []).append(abs(value - truth[key]) <= half + 1)
            assert half <= 0.2 * max(truth[key], 1), (key, half, truth[key])
    rates = {key: np.mean(own) for key, own in held.items()}
    assert min(rates.values()) >= 0.9, rates


def sampled_counts(of: Workload, layers: int, seed: int) -> dict[str, tuple[float, float]]:
    """Return counts with half their intervals, without the time."""
    built = machine("sparch", {"sample.fraction": 0.04, "merge.layers": layers})
    a = of.a.csr
    survey = sparch_estimate.Survey(a, _operands(a, of.b), built.config, (12, 32), np.random.default_rng(seed))
    survey.run()
    half = sparch_estimate._half_widths(survey, (12, 16))
    entering = np.sum([one.entering for one in survey.rounds], axis=0)
    value = {
        "workload.nnz_c": survey.rounds[-1].merged,
        "details.partial_elements_written": sum(one.merged for one in survey.rounds[:-1]),
        **{f"details.layer_elements.{at}": elements for at, elements in enumerate(entering)},
    }
    return {key: (float(value[key]), half[key]) for key in value}


@pytest.mark.parametrize("kind", ["uniform", "blocks"])
def test_intervals_of_time_hold(kind: str) -> None:
    of = workload(kind, 8000)
    truth = machine("sparch").run(of).cycles
    held = []
    for seed in range(12):
        low, high = run(of, 0.2, seed).details["sample"]["intervals"]["cycles.total"]
        held.append(low <= truth <= high)
        assert high - low <= 0.3 * truth
    assert sum(held) >= 11


def heavy_first() -> Workload:
    """600 rows of 600 elements, then 30,000 of 4."""
    rng = np.random.default_rng(0)
    lengths = np.repeat([600, 4], [600, 30_000])
    columns = np.concatenate([np.sort(rng.choice(lengths.size, count, replace=False)) for count in lengths])
    pointers = np.append(0, np.cumsum(lengths))
    return product(sp.csr_matrix((np.ones(columns.size), columns, pointers), shape=(lengths.size,) * 2))


def memory_first(rows: int = 2000, spread: int = 500) -> Workload:
    """Rows that look for B everywhere, then blocks along the diagonal, which the multipliers decide."""
    rng = np.random.default_rng(0)
    blocks = sp.block_diag([np.ones((50, 50))] * ((rows - spread) // 50))
    first = sp.csr_matrix(
        (np.ones(spread * 60), (np.repeat(np.arange(spread), 60), rng.integers(0, rows, spread * 60)))
    )
    first.resize((spread, rows))
    return product(sp.vstack([first, sp.hstack([sp.csr_matrix((rows - spread, spread)), blocks])]).tocsr())


def test_small_samples_are_no_slower_than_the_whole() -> None:
    of = heavy_first()
    truth = machine("sparch").run(of).cycles
    errors = [run(of, 0.1, seed).cycles / truth - 1 for seed in range(4)]
    assert abs(np.mean(errors)) < 0.008


def test_the_memory_is_as_efficient_as_where_it_decides() -> None:
    """On average it is less so: where multipliers decide, it waits for single requests."""
    of = memory_first()
    truth = machine("sparch").run(of).cycles
    found = [run(of, 0.1, seed) for seed in range(8)]
    intervals = [did.details["sample"]["intervals"]["cycles.total"] for did in found]
    assert abs(np.mean([did.cycles / truth - 1 for did in found])) < 0.02
    assert sum(low <= truth <= high for low, high in intervals) >= 7


def test_seed_decides_and_threads_do_not() -> None:
    of = workload("sorted")
    first = run(of, 0.1, seed=3)
    with ss.threads.using_threads(2):
        assert run(of, 0.1, seed=3) == first
    assert run(of, 0.1, seed=4).details["sample"]["intervals"] != first.details["sample"]["intervals"]


def test_all_of_it_is_the_exact_run() -> None:
    of = workload("sorted")
    truth, found = machine("sparch").run(of), run(of, 1.0)
    assert figures(found) == figures(truth)
    assert found.details["sample"]["exact"] == "the sample takes in everything"
    assert found.details["sample"]["intervals"] == {}


def test_many_rounds_stay_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sampling hundreds of rounds of few products takes longer than counting them, and says little of their time."""
    monkeypatch.setattr(sparch_estimate, "LEAST_OF_ROUND", 100_000)
    of = workload("dense_row")
    assert run(of, 0.1).details["sample"]["exact"].endswith("products a merge round")
    assert "exact" not in run(workload("uniform"), 0.1).details["sample"]


def test_cells_weigh_what_they_stand_for() -> None:
    """Time that does not go with the size of cells is told without a lean, and its interval holds."""
    rng = np.random.default_rng(2)
    size = rng.integers(1, 30, 20_000)
    work = np.where(np.arange(size.size) < 10_000, 0.3, 1.0) * size  # merging much takes less of the memory
    time = work * np.where(np.arange(size.size) < 10_000, 1.3, 1.0)
    truth, found, held = time.sum() / work.sum(), [], []
    for seed in range(200):
        cells = sampling.draw_cells(size, size, 0.05, np.array([7]), np.random.default_rng(seed))
        of_cells = (np.add.reduceat(column, cells.bounds[:-1])[cells.drawn] for column in (time, work))
        ratio, half = sampling.ratio_with_error(*of_cells, cells.weight)
        found.append(ratio)
        held.append(abs(ratio - truth) <= half)
    assert np.mean(found) == pytest.approx(truth, rel=0.003)
    assert np.mean(held) >= 0.9


def test_what_is_small_stays_exact() -> None:
    of = workload("uniform", 500)
    found = run(of, 0.05)
    assert figures(found) == figures(machine("sparch").run(of))
    assert found.details["sample"]["exact"].startswith("too small to sample")


@pytest.mark.parametrize(
    "fields",
    [
        {"schedule.round_barrier": False},
        {"prefetch.lines": 0},
        {"prefetch.policy": "lru", "prefetch.lines": 64},
        {"merge.layers": 2},
        {"mapping.orientation": "xtwt"},
        {"schedule.order": "random"},
    ],
    ids=str,
)
def test_every_configuration_reports(fields: dict[str, object]) -> None:
    of = workload("sorted")
    truth = figures(machine("sparch", fields).run(of))
    report = ss.simulate(of, on=machine("sparch", fields), sample=0.2)
    assert report.cycles == pytest.approx(truth["cycles.total"], rel=0.3)
    assert report["workload.nnz_c"] == pytest.approx(truth["workload.nnz_c"], rel=0.1)


def test_panels_add_up() -> None:
    of = product(matrix("uniform"), columns=200, activation_density=0.5)
    truth, found = (did(of) for did in (machine("sparch", {"mapping.panel_columns": 100}).run, panelled))
    assert found.nnz_c == pytest.approx(truth.nnz_c, rel=0.05)
    assert found.details["sample"]["blocks"] == 2 * sampling.CELLS
    assert found.details["panels"] == 2


def panelled(of: Workload) -> Activity:
    return run(of, 0.1, **{"mapping.panel_columns": 100})


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"fidelity": "cycle"}, "fidelity = fast"),
        ({"condense": False}, "condense = true"),
        ({"merge.pipelined": False}, "merge.pipelined = true"),
        ({"copies": 2}, "copies = 1"),
    ],
    ids=str,
)
def test_what_cannot_be_sampled_is_refused(fields: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError, match=f"goes with {told} only"):
        machine("sparch", {"sample.fraction": 0.1, **fields})


def test_exact_machines_refuse_or_say_so(tmp_path: object) -> None:
    with pytest.raises(ConfigError, match="'dense' has no estimates"):
        ss.simulate(matrix("uniform", 50), on="dense", sample=0.1)
    comparison = ss.compare("lenet300_100", on=["sparch", "dense"], sample=0.1, batch=64, progress=False)
    assert any("estimated from 10.0%" in note and "exact: dense" in note for note in comparison.notes)


def test_totals_have_intervals_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sparch_estimate, "LEAST_ROWS", 1)
    comparison = ss.compare("lenet300_100", on="sparch", sample=0.2, batch=64, progress=False)
    *layers, total = comparison.rows
    assert total["layer"] == "total"
    key = "details.sample.intervals.cycles.total"
    halves = [(row[key][1] - row[key][0]) / 2 for row in layers if key in row]
    low, high = total[key]
    assert low < total["cycles.total"] < high
    assert len(halves) == 2
    assert (high - low) / 2 == pytest.approx(np.hypot(*halves), abs=1)
    assert total["details.sample.fraction"] == 0.2


def test_command_line(tmp_path: object) -> None:
    path = f"{tmp_path}/a.npz"
    sp.save_npz(path, matrix("uniform"))
    shown = CliRunner().invoke(app, ["simulate", path, "--sample", "0.1"])
    assert "sampled" in shown.output
    assert "95 % between" in shown.output
    told = json.loads(CliRunner().invoke(app, ["simulate", path, "--sample", "0.1", "--json"]).output)
    low, high = told["details"]["sample"]["intervals"]["cycles.total"]
    assert low <= told["cycles"]["total"] <= high
    assert told["details"]["sample"]["fraction"] == 0.1
    frame = ss.sweep(path, on=["sparch", "dense"], sample=0.1, store=":memory:", jobs=1, progress=False)
    assert frame["sample.fraction"].tolist()[0] == 0.1
    assert np.isnan(frame["sample.fraction"].tolist()[1])


def test_totals_are_unbiased_and_intervals_as_wide_as_they_spread() -> None:
    rng = np.random.default_rng(1)
    products = rng.integers(1, 2000, 4000)
    y = np.sqrt(products) * rng.random(4000) * 30
    found, widths = [], []
    for seed in range(200):
        sample = sampling.draw_rows(products, 0.1, np.random.default_rng(seed))
        drawn = sample.stratum >= 0
        known = np.bincount(sample.stratum[drawn], products[drawn], sample.members.size)
        every, x = np.arange(sample.rows.size), products[sample.rows].astype(float)
        total, error, _ = sample.totals(every, x, y[sample.rows, None], known)
        found.append(total[0])
        widths.append(sample.half_widths(error)[0])
    assert np.mean(found) == pytest.approx(y.sum(), rel=0.005)
    assert np.mean(widths) == pytest.approx(2 * np.std(found), rel=0.3)
    held = np.abs(np.array(found) - y.sum()) <= np.array(widths)
    assert held.mean() >= 0.9


def test_cells_that_fetch_are_drawn_as_often_as_there_are() -> None:
    """Every eighth cell fetches for those behind it: of twelve draws one or two, never none."""
    work = np.ones(24_000, dtype=np.int64)
    fetching = (np.arange(work.size) % 800 < 100).astype(np.int64)
    drawn = []
    for seed in range(50):
        cells = sampling.draw_cells(work, fetching, 0.05, np.zeros(0, np.int64), np.random.default_rng(seed))
        drawn.append(int((np.add.reduceat(fetching, cells.bounds[:-1])[cells.drawn] > 50).sum()))
    assert set(drawn) == {1, 2}
    assert np.mean(drawn) == pytest.approx(sampling.CELLS / 8, abs=0.2)


@pytest.mark.parametrize("distance", [0, 1, 3, 100])
def test_far_products_are_those_of_rows_not_asked_for_lately(distance: int) -> None:
    a, b = matrix("uniform", 60), matrix("blocks", 60)
    expected, asked = [], []
    for row in range(a.shape[0]):
        own = 0
        for k in a.indices[a.indptr[row] : a.indptr[row + 1]].tolist():
            own += 0 if k in asked[max(len(asked) - distance, 0) :] else int(b.indptr[k + 1] - b.indptr[k])
            asked.append(k)
        expected.append(own)
    assert far_products(a.indptr, a.indices, b.indptr, distance).tolist() == expected


def test_heavy_rows_and_cells_are_met() -> None:
    """A row with a third of all work is always counted, and drawn as a cell of its own in a third of the draws."""
    work = np.ones(6000, dtype=np.int64)
    work[1234] = 3000
    cells = 0
    for seed in range(50):
        rng = np.random.default_rng(seed)
        rows = sampling.draw_rows(work, 0.1, rng)
        assert rows.stratum[1234] == -1
        assert 1234 in rows.rows
        drawn = sampling.draw_cells(work, work, 0.1, np.array([1234]), rng)
        assert drawn.bounds[0] == 0
        assert drawn.bounds[-1] == work.size
        assert (np.diff(drawn.bounds) > 0).all()
        hit = np.searchsorted(drawn.bounds, 1234, side="right") - 1
        cells += hit in drawn.drawn
        zones = np.add.reduceat(work, drawn.bounds[:-1])
        assert zones[drawn.drawn].sum() <= work.sum()
    assert cells == 50  # it fills whole zones
