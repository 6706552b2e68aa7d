"""EIE's measured CPU times against the roofline: none lies below it, and what is kept as data is kept whole."""

from __future__ import annotations

import dataclasses

import pytest

from sparsim.fidelity import cpu, validate
from sparsim.fidelity.bench import Bench
from sparsim.fidelity.record import Published
from sparsim.zoo.shape import read_shape

ROWS = list(cpu.rows(Bench()))


def test_no_measured_time_lies_below_the_roof():
    bounds = [row for row in ROWS if row.role == "at_most"]
    assert len(bounds) == 12
    assert {row.verdict for row in bounds} == {"ok"}
    assert all("roof was reached" in row.note for row in bounds)
    assert {row.certainty for row in bounds} == {"measured"}


def test_share_reached_by_hand():
    """Alex-7 at batch 1: 4096 x 4096 weights and two vectors of 4 bytes at 68.256 GB/s, 6187.1 us measured."""
    row = next(row for row in ROWS if row.workload == "Alex-7" and row.quantity.endswith("dense, batch 1"))
    microseconds = 4 * (4096 * 4096 + 2 * 4096) / 68.256e3
    assert row.modelled == pytest.approx(microseconds, rel=1e-6)
    assert "16% of the dram roof" in row.note


def test_sparse_times_are_data_only():
    kept = [row for row in ROWS if row.role == "not_modelled"]
    assert len(kept) == 12
    assert all(row.modelled is None and row.verdict == "shown" for row in kept)


def test_a_roof_above_a_measured_time_is_off():
    figure = Published("time of a frame, dense, batch 1", "Alex-7", 900.0, "us", "x", "measured", "at_most")
    assert cpu._row(figure).verdict == "off"
    assert cpu._row(dataclasses.replace(figure, value=1000.0)).verdict == "ok"


def test_shapes_are_the_zoos():
    for network, prefix in (("alexnet", "Alex"), ("vgg16", "VGG")):
        last = [layer.shape for layer in read_shape(network).network][-3:]
        assert [cpu.LAYERS[f"{prefix}-{number}"] for number in (6, 7, 8)] == last


def test_a_bound_that_holds_validates_nothing():
    validation = validate(["cpu"], progress=False)
    assert validation.holds
    assert "12 of 12 asserted rows hold (0 validated" in validation.summary
