"""Sizes of storage formats against naive writers, and against a published compressed network."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sparsim import formats
from sparsim.errors import InputError
from sparsim.formats import (
    FormatSize,
    all_formats,
    bitmap_size,
    bsr_size,
    csr_size,
    dense_size,
    eie_fillers,
    eie_size,
    n_of_m_size,
    run_length_fillers,
    run_length_size,
)
from sparsim.io import load
from sparsim.matrix import Csr

SQUEEZENET = Path(__file__).parents[1] / ".." / "shared" / "data" / "networks" / "squeezenet_han"
masks = arrays(bool, st.tuples(st.integers(1, 7), st.integers(1, 90)), elements=st.sampled_from([False] * 15 + [True]))


def naive_fillers(sequence: np.ndarray, run_bits: int) -> int:
    fillers = run = 0
    longest = 2**run_bits - 1
    pending = 0
    for stored in sequence:
        if stored:
            fillers, run, pending = fillers + pending, 0, 0
        elif run == longest:
            pending, run = pending + 1, 0
        else:
            run += 1
    return fillers


def test_public_names_are_sorted():
    assert formats.__all__ == sorted(formats.__all__)


@given(mask=masks, run_bits=st.integers(1, 5))
def test_run_length_fillers_equal_the_naive_encoder(mask, run_bits):
    assert run_length_fillers(Csr.from_dense(mask), run_bits) == naive_fillers(mask.ravel(), run_bits)


@given(mask=masks, pes=st.integers(1, 4), run_bits=st.integers(1, 3))
def test_eie_fillers_equal_the_naive_encoder(mask, pes, run_bits):
    tall = mask.T
    expected = sum(naive_fillers(tall[pe::pes, col], run_bits) for pe in range(pes) for col in range(tall.shape[1]))
    assert eie_fillers(Csr.from_dense(tall), pes, run_bits) == expected


def test_a_run_of_fifteen_needs_no_filler_and_sixteen_needs_one():
    for zeros, fillers in [(15, 0), (16, 1), (31, 1), (32, 2)]:
        row = np.zeros((1, zeros + 1))
        row[0, -1] = 1
        assert run_length_fillers(Csr.from_dense(row)) == fillers


def test_sizes_of_a_small_matrix():
    csr = Csr.from_dense(np.array([[1, 0, 2, 0, 0], [0, 0, 0, 0, 0], [0, 3, 0, 0, 4]]))
    assert dense_size(csr, 2) == FormatSize("dense", 30, 0)
    assert csr_size(csr, 2) == FormatSize("csr", 8, 32)
    assert bitmap_size(csr, 2) == FormatSize("bitmap", 8, 2)
    assert n_of_m_size(csr, 2) == FormatSize("2:4", 24, 3)
    assert bsr_size(csr, 2, 2, 2) == FormatSize("bsr:2x2", 32, 28)
    assert run_length_size(csr, 1) == FormatSize("run_length", 4, 2)
    assert eie_size(csr, 1, pes=2) == FormatSize("eie", 4, 2 + 2 * 6 * 2)
    assert csr_size(csr, 2).total == 40


@pytest.mark.parametrize(
    ("value_bytes", "n", "m", "bits"), [(2, 2, 4, 36), (1, 2, 4, 20), (4, 1, 2, 36), (2, 4, 8, 76), (2, 1, 4, 18)]
)
def test_bits_of_one_group(value_bytes, n, m, bits):
    csr = Csr.from_dense(np.tile(np.arange(m) < n, (8, 1)))
    assert n_of_m_size(csr, value_bytes, n, m).total == bits


def test_all_formats_leaves_out_what_does_not_fit():
    names = [size.name for size in all_formats(Csr.from_dense(np.ones((4, 4))), 2)]
    assert names == ["dense", "csr", "bitmap", "bsr:4x4", "run_length"]
    names = [size.name for size in all_formats(Csr.from_dense(np.eye(4)), 2, n_of_m=((1, 4), (2, 4)), blocks=())]
    assert names == ["dense", "csr", "bitmap", "1:4", "2:4", "run_length"]


def test_a_huge_empty_matrix_costs_nothing_to_measure():
    csr = Csr.build((3, 2**30), [0, 0, 0, 0], [])
    assert all_formats(csr, 8, n_of_m=())[0].total == 3 * 2**33


def test_refusals():
    csr = Csr.from_dense(np.ones((4, 4)))
    with pytest.raises(InputError, match="the matrix does not follow 2:4; prune it to 2:4 first"):
        n_of_m_size(csr, 2)
    with pytest.raises(InputError, match="0 bytes a value"):
        dense_size(csr, 0)
    with pytest.raises(InputError, match="a zero run of 0 bits"):
        run_length_fillers(csr, 0)
    with pytest.raises(InputError, match="0 processing elements"):
        eie_fillers(csr, 0)


@pytest.mark.real_data
def test_fillers_of_the_published_squeezenet():
    """The decoder counted what the published file stores; every one of its 26 layers must agree."""
    archive = SQUEEZENET / "squeezenet_pruned_decoded.npz"
    if not archive.is_file():
        pytest.skip("the published SqueezeNet is not here")
    table = json.loads((SQUEEZENET / "layers.json").read_text())
    expected = {entry["layer"].replace("/", "__"): entry["stored"] - entry["nnz"] for entry in table}
    assert {layer.name: run_length_fillers(layer.matrix) for layer in load(archive)} == expected
    assert sum(expected.values()) == 6162
