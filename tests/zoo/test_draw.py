"""Drawn masks: exact counts, no preferred place, and the unevenness asked for."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsim.network import Layer
from sparsim.zoo.draw import draw_mask, draw_weight, excess_variation, measured_spread


def ones(*shape, groups=1):
    return Layer("layer", np.broadcast_to(np.float32(1), shape), groups=groups)


def positions(layer, mask):
    return layer.with_weight(mask).matrix


@st.composite
def tasks(draw):
    groups = draw(st.integers(1, 3))
    shape = [
        groups * draw(st.integers(1, 4)),
        draw(st.integers(1, 6)),
        *draw(st.sampled_from([(), (1, 1), (3, 3), (2,)])),
    ]
    nnz = draw(st.integers(0, prod(shape)))
    spread = draw(st.sampled_from([(0.0, 0.0), (0.3, 0.3), (2.0, 0.0), (0.0, 3.0)]))
    return ones(*shape, groups=groups if len(shape) > 2 else 1), nnz, spread, draw(st.integers(0, 5))


@settings(max_examples=150, deadline=None)
@given(tasks())
def test_the_number_is_exact_for_every_shape(task):
    layer, nnz, spread, seed = task
    mask = draw_mask(layer, nnz, np.random.default_rng(seed), spread)
    assert tuple(mask.shape) == layer.shape
    matrix = positions(layer, mask)
    assert matrix.nnz == nnz
    assert matrix.shape == (layer.shape[0], prod(layer.shape[1:]))
    dense = matrix.to_dense() != 0
    assert np.count_nonzero(dense) == nnz  # no position twice
    if layer.is_convolution:
        assert mask.dtype == bool
    else:
        assert mask.values is None


def test_independent_masks_are_all_equally_likely():
    layer, draws = ones(2, 3), 3000
    rng = np.random.default_rng(0)
    seen = {}
    for _ in range(draws):
        key = tuple(np.flatnonzero(draw_mask(layer, 2, rng).to_dense()))
        seen[key] = seen.get(key, 0) + 1
    expected = draws / 15  # 6 cells, 2 of them chosen
    assert len(seen) == 15
    chi_square = sum((count - expected) ** 2 / expected for count in seen.values())
    assert chi_square < 36.1  # 14 degrees of freedom: exceeded once in a thousand


@pytest.mark.parametrize("density", [0.04, 0.2, 0.5])
@pytest.mark.parametrize("shape", [(400, 600), (200, 150, 3, 3)])
def test_rows_and_channels_spread_as_asked(density, shape):
    """Squares are compared: some hundred factors are a draw themselves, and so is the noise that is taken off."""
    layer, taps = ones(*shape), prod(shape[2:])
    for spread in ((0.0, 0.0), (0.3, 0.0), (0.0, 0.25), (0.25, 0.3)):
        mask = positions(layer, draw_mask(layer, round(density * layer.size), np.random.default_rng(1), spread))
        channels = np.bincount(mask.indices, minlength=mask.shape[1]).reshape(-1, taps).sum(axis=1)
        for asked, counts in zip(spread, (mask.row_lengths, channels), strict=True):
            cells = layer.size // counts.size
            noise = (1 - density) / (density * cells)
            wide = 0.25 * asked**2 + 3 * np.sqrt(2 / counts.size) * noise
            assert excess_variation(counts, cells, mask.nnz) ** 2 == pytest.approx(asked**2, abs=wide)


def test_groups_have_their_own_channels():
    layer = ones(64, 40, 1, 1, groups=2)
    mask = positions(layer, draw_mask(layer, 500, np.random.default_rng(0), (0.0, 1.0)))
    halves = [np.bincount(half.indices, minlength=40) for half in (mask.rows_slice(0, 32), mask.rows_slice(32, 64))]
    assert abs(np.corrcoef(halves)[0, 1]) < 0.4


def test_variation_is_that_beyond_noise():
    rng = np.random.default_rng(0)
    noise = rng.binomial(300, 0.2, size=2000)
    assert excess_variation(noise, 300, int(noise.sum())) < 0.03
    factors = rng.lognormal(sigma=0.3, size=2000)
    counts = rng.binomial(300, 0.1 * factors)
    assert excess_variation(counts, 300, int(counts.sum())) == pytest.approx(
        np.std(factors) / np.mean(factors), rel=0.05
    )
    assert excess_variation(np.array([3, 9]), 10, 12) == pytest.approx(np.sqrt(0.18 - 0.024) / 0.6)
    assert excess_variation(np.array([5]), 10, 5) == excess_variation(np.array([0, 0]), 10, 0) == 0.0
    assert excess_variation(np.zeros(0, dtype=int), 10, 0) == 0.0


def test_kept_spreads_are_met_where_measured_and_between():
    assert measured_spread(0.1) == (0.292, 0.307)
    assert measured_spread(1.0) == (0.0, 0.0)
    assert measured_spread(0.01) == measured_spread(0.05) == (0.381, 0.438)
    rows, channels = measured_spread(np.sqrt(0.1 * 0.2))
    assert (rows, channels) == (pytest.approx((0.292 + 0.219) / 2), pytest.approx((0.307 + 0.229) / 2))
    assert measured_spread(0.0) == measured_spread(0.05)


def test_weights_have_the_scale_of_he():
    """log w^2 is the sum of log(2 / fan-in), of the log of a chi-square and of two normals of mean 0."""
    weight = draw_weight((600, 400, 3, 3), np.random.default_rng(0))
    assert weight.dtype == np.float32
    log_chi_square = -np.euler_gamma - np.log(2)
    assert np.log(weight.astype(float) ** 2).mean() == pytest.approx(np.log(2 / 3600) + log_chi_square, abs=0.2)
