"""The oracle's workloads: many kinds, the same every time, small."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from sparsim.fidelity.bench import Bench
from sparsim.fidelity.sparch.workloads import (
    banded,
    blocks,
    from_files,
    generated,
    line,
    mesh,
    power_law,
    some_rows,
    uniform,
)
from sparsim.machines import machine
from sparsim.matrix import Csr


def products(case):
    return int(case.b.row_lengths[case.a.indices].sum())


def test_enough_of_every_kind():
    cases = generated()
    assert len(cases) >= 60
    assert len({case.name for case in cases}) == len(cases)
    fields = {key for case in cases for key in case.fields}
    assert {"merge.width", "merge.layers", "prefetch.lines", "prefetch.policy", "dram.channels"} <= fields
    for case in cases:
        machine("sparch", case.fields)
        assert case.a.shape[1] == case.b.shape[0]
        assert products(case) <= 300_000, case.name
    small = [case.name for case in cases if products(case) < 10_000]
    assert set(small) == {"tiny", "small"}


def test_matrices_are_canonical_and_the_same_every_time():
    once = generated()
    generated.cache_clear()
    for one, two in zip(once, generated(), strict=True):
        for left, right in ((one.a, two.a), (one.b, two.b)):
            Csr.build(left.shape, left.indptr, left.indices)  # refuses unsorted or repeated columns
            assert np.array_equal(left.indptr, right.indptr)
            assert np.array_equal(left.indices, right.indices)
        assert dataclasses.asdict(one)["fields"] == dataclasses.asdict(two)["fields"]


def test_kinds_are_what_they_say():
    assert banded(50, (-2, 0, 1)).to_dense().sum() == 48 + 50 + 49
    assert (blocks(12, 4).to_dense() == np.kron(np.eye(3), np.ones((4, 4)))).all()
    assert set(mesh(5, 4).row_lengths) == {4, 6, 9}
    assert mesh(3, 3, 3).row_lengths[13] == 27
    plane = mesh(4, 3).to_dense()
    assert (plane == plane.T).all()
    assert plane[0, :].nonzero()[0].tolist() == [0, 1, 3, 4]
    assert line(5, 2, "row").row_lengths.tolist() == [0, 0, 5, 0, 0]
    assert (line(5, 2, "column").to_dense()[:, 2] == 1).all()
    assert set(some_rows(uniform(40, 40, 400, 0), 4).row_lengths[1:4]) == {0}
    skewed, even = power_law(10, 5000, 0), power_law(10, 5000, 0, corner=0.25)
    assert skewed.row_lengths.max() > 3 * even.row_lengths.max()


def test_files_of_the_bench(real_data):
    cases = list(from_files(Bench(real_data)))
    assert len({case.name for case in cases}) == len(cases) >= 20
    assert any("columns" in case.name for case in cases)


@pytest.mark.parametrize("folder", [None, "empty"])
def test_no_files_no_cases(tmp_path, folder):
    assert list(from_files(Bench(tmp_path if folder else None))) == []
