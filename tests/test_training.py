"""The script that made the bundled networks still runs, on a handful of images."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sparsim import zoo
from sparsim.io import load

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "networks" / "train_lenet.py"


def images(path):
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 10
    pictures = rng.integers(0, 40, size=(120, 28, 28))
    for picture, label in zip(pictures, labels, strict=True):
        picture[2 * label : 2 * label + 6, 4:24] += 200
    arrays = {"x_train": pictures[:80], "x_test": pictures[80:]}
    saved = {key: value.astype(np.uint8) for key, value in arrays.items()}
    np.savez(path, **saved, y_train=labels[:80].astype(np.uint8), y_test=labels[80:].astype(np.uint8))


@pytest.mark.extra
def test_trains_prunes_and_stores_what_it_measured(tmp_path):
    pytest.importorskip("torch", reason="training needs sparsim[torch]")
    images(tmp_path / "mnist.npz")
    words = ["--mnist", tmp_path / "mnist.npz", "--out", tmp_path, "--network", "lenet300_100"]
    subprocess.run([sys.executable, SCRIPT, *words], check=True, capture_output=True)
    network = load(tmp_path / "lenet300_100.safetensors")
    records = zoo.accuracy(network)
    assert {"dense", "unstructured", "2:4", "block:4x4", "out_channel"} <= {r["granularity"] for r in records}
    assert zoo.measured_accuracy(network, "dense") > 0.5, "bars in ten places are easy to tell apart"
    assert zoo.measured_accuracy(network, "2:4") is not None


def test_says_what_is_missing():
    code = f"import sys, runpy; sys.modules['torch'] = None; runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    ended = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: training needs an optional library; install it with")
