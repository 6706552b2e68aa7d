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
from sparsim.errors import ConfigError, InputError
from sparsim.formats import (
    FormatSize,
    all_formats,
    bitmap_size,
    bsr_size,
    carried_a,
    compact_size,
    csc_size,
    csr_size,
    dense_size,
    eie_fillers,
    eie_size,
    n_of_m_size,
    run_length_fillers,
    run_length_size,
    shrunk_size,
    smallest_format,
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
    assert compact_size(csr, 2) == FormatSize("compact", 2 * 4 * 2, 1 + 1)
    assert csr_size(csr, 2) == FormatSize("csr", 8, 32)
    assert csr_size(csr, 2, "auto") == FormatSize("csr", 8, 4 + 4)
    assert csc_size(csr, 2) == FormatSize("csc", 8, 40)
    assert csc_size(csr, 2, 2) == FormatSize("csc", 8, 20)
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
    assert names == ["dense", "bitmap", "csr", "csc", "bsr:4x4", "run_length", "eie"]
    names = [size.name for size in all_formats(Csr.from_dense(np.eye(4)), 2, n_of_m=((1, 4), (2, 4)), blocks=())]
    assert names == ["dense", "1:4", "2:4", "bitmap", "csr", "csc", "run_length", "eie"]


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


def test_shares_of_indices():
    size = csr_size(Csr.from_dense(np.eye(4)), 2)
    assert (size.index_share, size.index_overhead) == (36 / 44, 36 / 8)
    assert FormatSize("dense", 0, 0).index_share == FormatSize("dense", 0, 0).index_overhead == 0


@pytest.mark.parametrize(("largest", "bytes_"), [(256, 1), (257, 2), (65536, 2), (65537, 4), (2**30, 4)])
def test_auto_takes_the_fewest_bytes_that_hold_the_last_index(largest, bytes_):
    csr = Csr.build((1, largest), [0, 1], [largest - 1])
    assert csr_size(csr, 1, "auto").index_bytes == bytes_ + 2


def test_an_offset_counts_as_much_as_an_index():
    csr = Csr.from_dense(np.ones((2, 200)))
    assert csr_size(csr, 1, "auto").index_bytes == 400 + 3 * 2
    with pytest.raises(ConfigError, match="1 B cannot hold offset 400; allowed: 2, 4, 8 or auto"):
        csr_size(csr, 1, 1)


@given(mask=masks, value_bytes=st.integers(1, 8))
def test_the_smallest_needs_no_padding_counted_that_cannot_win(mask, value_bytes):
    csr = Csr.from_dense(mask)
    every = all_formats(csr, value_bytes, blocks=())
    assert smallest_format(csr, value_bytes) == min(every, key=lambda size: size.total)


def test_eie_is_the_smallest_where_runs_within_its_share_are_short():
    rng = np.random.default_rng(0)
    csr = Csr.from_dense(rng.random((4096, 128)) < 0.025)
    assert smallest_format(csr, 2).name == "eie"


def test_what_a_machine_says_of_its_operand():
    size = FormatSize("csr, 8+4 bytes", 80, 40)
    told = {"a_format": "csr, 8+4 bytes", "a_value_bytes": 80, "a_index_bytes": 40, "a_passes": 2.5}
    assert carried_a(size, 300) == told
    assert carried_a(FormatSize("dense", 0, 0), 0)["a_passes"] == 0
    assert shrunk_size(10, 10).name == "dense"
    assert shrunk_size(8, 10) == FormatSize("dense without empty rows and columns", 8, 0)


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
