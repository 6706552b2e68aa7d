"""The study of the time of pruning runs, on a short training, and its methods prune when they say."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.extra
SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "pruning" / "when_to_prune.py"


def test_prints_accuracies_and_a_cost():
    pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    command = [sys.executable, SCRIPT, "--quick", "--steps", "60"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    found = {line.split()[0]: float(line.split()[1]) for line in lines[2:8]}
    assert list(found) == ["dense", "random", "snip", "gradual", "one_shot", "iterative"]
    assert found["dense"] > 60, "images of ten digits are easy to tell apart"
    assert found["gradual"] > found["random"], "weights that were trained beat weights drawn at random"
    assert "sparch" in lines[-1]
    assert "% zeros" in lines[-1]


def test_the_schedules_are_what_the_table_says():
    pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    schedule_of = runpy.run_path(str(SCRIPT))["schedule_of"]
    for steps in (40, 60, 301):
        assert schedule_of("snip", 0.9, steps).updates == ((0, 0.9),)
        assert schedule_of("one_shot", 0.9, steps).updates == ((steps // 2, 0.9),)
        gradual, iterative = schedule_of("gradual", 0.9, steps), schedule_of("iterative", 0.9, steps)
        assert (gradual.updates[0][0], gradual.final) == (steps // 4, 0.9)
        assert gradual.last <= 3 * steps // 4 + 1
        assert len(iterative.updates) == 5
        assert iterative.last < 0.85 * steps


def test_says_what_is_missing():
    code = f"import sys, runpy; sys.modules['sklearn'] = None; runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    ended = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: training needs an optional library; install it with")
