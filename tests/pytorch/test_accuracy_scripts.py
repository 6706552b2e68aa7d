"""The accuracy studies run on a few digits, go on where they stopped, and say what their numbers say."""

from __future__ import annotations

import csv
import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs sparsim[train]")
pytest.importorskip("sklearn", reason="training needs sparsim[train]")
pytestmark = pytest.mark.extra

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks" / "accuracy"


@pytest.fixture(scope="module")
def scripts():
    """The modules of the folder, which are no package."""
    sys.path.insert(0, str(FOLDER))
    names = ("study", "pareto", "transfer")
    yield [importlib.import_module(name) for name in names]
    sys.path.remove(str(FOLDER))
    for name in names:
        sys.modules.pop(name, None)


def row(granularity, sparsity, accuracy, speedup=1.0, energy=1.0, seed=0.0, network="net"):
    """A row of the file, equal on all machines."""
    costs = {
        f"{m}.{key}": value
        for m in ("sparch", "dense", "a100", "a100-2:4")
        for key, value in (("speedup", speedup), ("energy_ratio", energy), ("time_s", 1.0), ("energy_pj", 1.0))
    }
    head = {"network": network, "seed": seed, "granularity": granularity, "sparsity": sparsity, "accuracy": accuracy}
    return head | costs


ROWS = [
    row("dense", 0.0, 0.99),
    row("unstructured", 0.5, 0.989, 1.5, 0.9),
    row("unstructured", 0.9, 0.985, 2.0, 0.5),
    row("out_channel", 0.5, 0.98, 1.4, 0.6),
    row("out_channel", 0.9, 0.90, 4.0, 0.2),
]


def test_findings_name_who_leads_and_where_the_lead_changes(scripts):
    pareto = scripts[1]
    assert pareto.leaders(ROWS, "dense", "speedup") == (
        "dense from 0.00 points of loss (1.00x), unstructured 50 % from 0.10 points of loss (1.50x), "
        "out_channel 90 % from 9.00 points of loss (4.00x)"
    )
    assert [r["sparsity"] for r in pareto.frontier(ROWS, "dense", "speedup")] == [0.0, 0.5, 0.9, 0.9]
    assert pareto.within(ROWS, "a100", "speedup", 1.0) == "unstructured 90 % 2.00x"
    assert pareto.within(ROWS, "a100", "energy_ratio", 5.0) == "unstructured 90 % 2.00x"
    assert pareto.within(ROWS, "a100", "speedup", 0.05) == "nothing keeps it"
    lucky = [*ROWS, row("kernel", 0.5, 0.995, 1.2), row("in_channel", 0.5, 0.98, 2.01)]
    assert pareto.leaders(lucky, "dense", "speedup").startswith("kernel 50 % from 0.00 points of loss (1.20x), unstr")
    assert "in_channel" not in pareto.leaders(lucky, "dense", "speedup"), "half a percent is not worth a loss"
    text = "\n".join(pareto.findings(ROWS))
    assert "net: dense 99.00%" in text
    assert "out_channel   50 %: 98.00%  90 %: 90.00%" in text


@pytest.mark.parametrize(
    ("fine", "coarse", "said"),
    [
        ((1, 1, 1), (2, 2, 2), "at every sparsity"),
        ((1, 1, 1), (1, 1, 1), "never"),
        ((2, 2, 1), (1, 3, 3), "from 70 % on"),
        ((1, 2, 2), (3, 1, 1), "up to 50 %"),
        ((1, 2, 1), (3, 1, 2), "at 50 %, 90 %"),
    ],
)
def test_a_duel_names_the_sparsities_the_coarse_pattern_wins(scripts, fine, coarse, said):
    rows = [
        row(name, share, 0.5, speedup)
        for name, speedups in (("unstructured", fine), ("kernel", coarse))
        for share, speedup in zip((0.5, 0.7, 0.9), speedups, strict=True)
    ]
    assert said in scripts[1].duel(rows, "sparch", "speedup", "kernel")


def test_spread_is_over_the_seeds_of_one_cell(scripts):
    rows = [row("kernel", 0.9, value, seed=seed) for seed, value in enumerate((0.9, 0.92, 0.94))]
    assert scripts[1].spread([*rows, ROWS[0]]) == ["net, kernel 90 %: 92.00 +- 2.00 % (3 seeds)"]


def test_removed_outputs_take_bias_and_batch_norm_along(scripts):
    study, _, _ = scripts
    model = study.build("resnet8", 0)
    data = study.load_data(None, 64, 64)
    network = study.network_of(model, data, "resnet8")
    assert {layer.name for layer in network} >= {"conv1", "block1.conv2", "block3.conv3", "fc"}
    first = network["block1.conv1"]
    weight = np.array(first.weight)
    weight[3] = 0.0
    layers = tuple(layer.with_weight(weight) if layer is first else layer for layer in network)
    masks = study.masks_of(model, network.with_layers(layers))
    for name in ("block1.bn1.weight", "block1.bn1.bias"):
        assert masks[name].tolist() == [float(i != 3) for i in range(16)]
    tuned = study.tuned(model, network.with_layers(layers), data, 1, 1e-3, 0)
    assert not tuned.block1.bn1.bias[3].any()
    assert tuned.block1.bn1.bias[2].any()
    assert not model.block1.conv1.weight[3].eq(0).all(), "the model itself stays as it was"


def test_classes_are_numbered_anew(scripts):
    data = scripts[0].load_data(None, 100, 50)
    half = data.classes(range(5, 10))
    keep = data.labels >= 5
    assert half.labels.tolist() == (data.labels[keep] - 5).tolist()
    assert torch.equal(half.images, data.images[keep])
    assert half.images.shape[1:] == (1, 28, 28)
    assert float(data.images.max()) == 1.0
    assert len(half.first(7).images) == 7


def test_pareto_runs_and_goes_on_where_it_stopped(scripts, tmp_path, capsys):
    pareto = scripts[1]
    words = ["--out", str(tmp_path), "--quick", "--network", "resnet8"]
    pareto.main(words)
    path = tmp_path / "pareto.csv"
    lines = path.read_text().splitlines()
    rows = list(csv.DictReader(lines))
    assert len(rows) == 1 + len(pareto.GRANULARITIES)
    assert all(0 <= float(r["accuracy"]) <= 1 and float(r["sparch.speedup"]) > 0 for r in rows)
    scattered = next(r for r in rows if r["granularity"] == "unstructured")
    channels = next(r for r in rows if r["granularity"] == "out_channel")
    assert float(channels["dense.speedup"]) > 1.5 * float(scattered["dense.speedup"])
    assert float(channels["propagated_sparsity"]) > float(channels["actual_sparsity"]) > 0.7
    assert (tmp_path / "pareto.png").stat().st_size > 10_000
    assert "resnet8, dense, speed: " in capsys.readouterr().out

    path.write_text("\n".join(lines[:-1]) + "\n")
    pareto.main(words)
    assert path.read_text().splitlines() == lines

    path.write_text("\n".join([lines[0], lines[1].replace(f",{rows[0]['accuracy']},", ",0.123,", 1)]) + "\n")
    with pytest.raises(SystemExit, match="it holds another run"):
        pareto.main(words)


def test_transfer_prints_every_mask(scripts, capsys):
    scripts[2].main(["--quick", "--granularity", "unstructured", "out_channel"])
    lines = capsys.readouterr().out.splitlines()
    assert [tuple(line.split()[:2]) for line in lines[2:]] == [
        ("dense", "none"),
        *((pattern, mask) for pattern in ("unstructured", "out_channel") for mask in ("source", "target", "random")),
    ]


@pytest.mark.parametrize("script", [1, 2])
def test_scripts_say_what_is_wrong(scripts, script, tmp_path):
    bad = tmp_path / "bad.npz"
    bad.write_bytes(b"no zip")
    with pytest.raises(SystemExit, match=r"bad\.npz: is no readable \.npz file"):
        scripts[script].main(["--mnist", str(bad)])
    np.savez(bad, x_train=np.zeros((1, 28, 28)))
    with pytest.raises(SystemExit, match=r"has no array 'y_train'"):
        scripts[script].main(["--mnist", str(bad)])


def test_a_file_of_other_columns_is_refused(scripts, tmp_path):
    (tmp_path / "pareto.csv").write_text("a,b\n1,2\n")
    with pytest.raises(SystemExit, match="other columns"):
        scripts[1].main(["--out", str(tmp_path), "--report"])
    with pytest.raises(SystemExit, match="holds no rows"):
        scripts[1].main(["--out", str(tmp_path / "empty"), "--report"])
