"""The accuracy study of searched networks runs on a few digits, and says what its numbers say."""

from __future__ import annotations

import csv
import importlib
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="training needs sparsim[train]")
pytest.importorskip("sklearn", reason="training needs sparsim[train]")
pytest.importorskip("optuna", reason="needs sparsim[search]")
pytestmark = pytest.mark.extra

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def script():
    """The module, which is part of no package."""
    folders = [str(BENCHMARKS / name) for name in ("search", "accuracy")]
    sys.path[:0] = folders
    yield importlib.import_module("against_uniform")
    for folder in folders:
        sys.path.remove(folder)
    for name in ("against_uniform", "study"):
        sys.modules.pop(name, None)


def row(way, pruned, tuned, network="net"):
    where = {"network": network, "machine": "sparch", "measure": "energy", "budget": "0.3"}
    return where | {"way": way, "choice": "90%", "pruned": str(pruned), "tuned": str(tuned)}


def test_findings_hold_the_best_uniform_pruning_against_the_search(script):
    rows = [
        row("dense", 0.99, 0.99),
        row("search", 0.5, 0.9),
        row("unstructured", 0.4, 0.8),
        row("block:4x4", 0.3, 0.85),
    ]
    first, second = script.findings(rows)
    assert first == "net: dense 99.00%"
    assert "search 50.00% pruned" in second
    assert "uniform 40.00% pruned (unstructured" in second
    assert "uniform 85.00% tuned (block:4x4" in second


def test_it_runs(script, tmp_path, capsys):
    words = ["--out", str(tmp_path), "--quick", "--network", "lenet300_100"]
    script.main(words)
    with (tmp_path / "against_uniform.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [r["way"] for r in rows][:3] == ["dense", "search", "unstructured"]
    assert all(float(r["cost"]) <= float(r["budget"]) for r in rows[1:])
    assert all(0 <= float(r[when]) <= 1 for r in rows for when in ("pruned", "tuned"))
    assert (tmp_path / "against_uniform.png").stat().st_size > 10_000
    told = capsys.readouterr().out
    script.main([*words, "--report"])
    assert capsys.readouterr().out == told


def test_it_says_what_is_missing(script, tmp_path):
    with pytest.raises(SystemExit, match="run without --report"):
        script.main(["--out", str(tmp_path), "--report"])
