"""``sparsim validate networks``: shapes and densities of the zoo against published totals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sparsim.fidelity import networks, validate
from sparsim.fidelity.bench import Bench
from sparsim.fidelity.networks import real
from sparsim.fidelity.record import VALIDATING
from sparsim.zoo.shape import read_shape


def by_name(rows):
    return {(row.quantity, row.workload): row for row in rows}


@pytest.fixture(scope="module")
def without_data():
    return by_name(networks.rows(Bench()))


def test_totals_hold_without_data(without_data):
    rows = without_data.values()
    assert [row for row in rows if row.verdict == "off"] == []
    assert sum(row.asserted for row in rows) >= 20
    exact = [row for row in rows if row.quantity == "parameters" and row.tolerance == 0]
    assert len(exact) >= 6
    assert all(row.modelled == row.published for row in exact)


def test_the_table_of_pruned_networks(without_data):
    """61 M to 6.7 M and 138 M to 10.3 M follow from the densities; the others are by construction or beside."""
    kept = {workload: row for (quantity, workload), row in without_data.items() if quantity == "kept_weights"}
    for name in ("alexnet", "vgg16", "lenet300_100", "lenet5"):
        assert kept[name].verdict == "ok"
        assert kept[name].certainty in VALIDATING
        assert 0.04 < kept[name].tolerance < 0.07
    for name in ("googlenet", "resnet50", "squeezenet", "resnet50, DLMC at 0.7"):
        assert kept[name].verdict == "shown"
    assert kept["squeezenet"].modelled == 415_921
    assert kept["googlenet"].error == kept["resnet50"].error == 0


@pytest.mark.parametrize("name", ["alexnet", "vgg16", "lenet300_100", "lenet5"])
@pytest.mark.parametrize("quantity", ["kept_weights", "effectual_multiplies"])
def test_the_interval_is_that_of_the_extremes(name, quantity):
    shape = read_shape(name)
    schedule = shape.schedules["han2015"]
    sizes = np.array([layer.size for layer in shape.network], dtype=float)
    weights = np.round(np.array(schedule.nnz) / sizes, 2)
    entering = np.array(schedule.activations)
    if quantity == "kept_weights":
        extreme = ((weights + 0.005) * sizes).sum() - (weights * sizes).sum()
    else:
        macs = np.array([layer.size * layer.columns(1) for layer in shape.network], dtype=float)
        share = ((weights + 0.005) * (entering + 0.005) * macs).sum() - (weights * entering * macs).sum()
        extreme = 100 * share / macs.sum() + 0.5
    assert networks.rounding(shape, schedule, quantity) == pytest.approx(extreme, rel=1e-2)


def test_a_wrong_layer_is_off(monkeypatch):
    """One layer more, or a density of the wrong layer, and the totals no longer hold."""

    def doubled(name):
        shape = read_shape(name)
        network = shape.network
        again = tuple(replace(layer, name=f"{layer.name} again") for layer in network)
        schedules = {
            k: replace(s, nnz=2 * s.nnz, activations=2 * (s.activations or ())) for k, s in shape.schedules.items()
        }
        many = replace(network, layers=(*network.layers, *again))
        return replace(shape, network=many, schedules=schedules, parameters=2 * shape.parameters)

    monkeypatch.setattr(networks, "read_shape", doubled)
    rows = by_name(networks.rows(Bench()))
    assert {rows[key].verdict for key in rows if key[0] in ("parameters", "weights", "multiplies")} == {"off", "shown"}
    assert rows["kept_weights", "alexnet"].verdict == rows["kept_weights", "vgg16"].verdict == "off"


def test_activations_one_layer_late_are_off(monkeypatch):
    """Read as entering their own row, as printed, they do not give the printed share of multiplies."""

    def late(name):
        shape = read_shape(name)
        turned = {
            key: replace(each, activations=(*each.activations[1:], 1.0)) if each.activations else each
            for key, each in shape.schedules.items()
        }
        return replace(shape, schedules=turned)

    monkeypatch.setattr(networks, "read_shape", late)
    rows = by_name(networks.rows(Bench()))
    assert rows["effectual_multiplies", "alexnet"].verdict == "off"
    assert rows["effectual_multiplies", "vgg16"].verdict == "off"


def test_without_files_their_rows_are_skipped(without_data, tmp_path):
    skipped = [row for row in without_data.values() if row.verdict == "skipped"]
    assert len(skipped) == 14
    assert all("needs" in row.note for row in skipped)
    validation = validate(["networks"], folder=tmp_path, progress=False)
    assert validation.holds
    assert "dlmc/rn50/magnitude_pruning/0.9" in validation.missing
    assert "squeezenet_pruned_decoded.npz" in validation.summary


def small_data(folder, channels=8):
    """A stand-in of DLMC's layout: columns kernel position by kernel position."""
    place = folder / f"{real.DLMC}0.9"
    place.mkdir(parents=True)
    rng = np.random.default_rng(0)
    factors = np.tile(np.linspace(0.1, 1.9, channels), 9)
    mask = rng.random((400, 9 * channels)) < 0.1 * factors
    pointers = np.concatenate([[0], np.cumsum(mask.sum(axis=1))])
    lines = [
        f"400, {9 * channels}, {mask.sum()}",
        " ".join(map(str, pointers)),
        " ".join(map(str, np.nonzero(mask)[1])),
    ]
    (place / "bottleneck_2_block_group1_1_1.smtx").write_text("\n".join(lines) + "\n")
    return np.linspace(0.1, 1.9, channels)


def test_channels_are_counted_over_kernel_positions(tmp_path):
    factors = small_data(tmp_path)
    rows = by_name(networks.rows(Bench(tmp_path)))
    row = rows["spread of channels", "DLMC ResNet-50, magnitude 0.9"]
    assert row.modelled == pytest.approx(np.std(factors, ddof=1) / np.mean(factors), rel=0.1)
    assert row.verdict == "off"
    assert rows["spread of rows", "DLMC ResNet-50, magnitude 0.9"].modelled < 0.15


@pytest.mark.real_data
def test_the_real_masks_are_those_described(real_data):
    rows = list(real.real_rows(Bench(real_data)))
    assert len(rows) == 14
    assert {row.verdict for row in rows} == {"ok"}
