"""What callers give: numpy's numbers are as good as Python's, and everything else gets one line."""

from __future__ import annotations

import json

import numpy as np
import pytest

import sparsim as ss
from sparsim.arguments import several, share, whole, words
from sparsim.errors import ConfigError
from sparsim.network import Layer, Network

WRONG = ["x", None, [1], {"a": 1}, b"x", float("nan"), object()]


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3)])
def test_whole_numbers(value):
    assert type(whole(value, "key", 3, 3)) is int


@pytest.mark.parametrize("value", [*WRONG, 1.5, 2, 9, True, np.bool_(True), np.float64(3)])
def test_no_whole_numbers(value):
    with pytest.raises(ConfigError, match=r"^key: .*; allowed: a whole number from 3 to 8$"):
        whole(value, "key", 3, 8)


@pytest.mark.parametrize("value", [0, 1, 0.5, np.float32(0.5)])
def test_shares(value):
    assert share(value, "key") == value


@pytest.mark.parametrize("value", [*WRONG, -0.1, 1.1, True, float("inf")])
def test_no_shares(value):
    with pytest.raises(ConfigError, match=r"^key: .*; allowed: 0 to 1$"):
        share(value, "key")


def test_shares_may_leave_out_an_end():
    assert share(1, "key", zero=False) == 1
    assert share(0, "key", one=False) == 0
    for value, ends in ((0, {"zero": False}), (1, {"one": False})):
        with pytest.raises(ConfigError):
            share(value, "key", **ends)


def test_words_and_several_take_one_or_many():
    assert words("all", "key") == ["all"]
    assert words(iter(["a", "b"]), "key") == ["a", "b"]
    assert several("ab", "key") == ["ab"]
    assert several((2, 1, 2), "key") == [2, 1]
    assert several([{"a": 1}], "key") == [{"a": 1}]
    assert several((), "key", some=False) == []
    for wrong in (3, None, [3], b"ab"):
        with pytest.raises(ConfigError, match="allowed: a word, or several"):
            words(wrong, "key")


def network():
    return Network("net", (Layer("fc", np.eye(8)),))


@pytest.mark.parametrize("on", ["sparch", "dense", "a100"])
def test_numbers_of_numpy_are_taken_everywhere(on):
    matrix, two = np.eye(6), np.int64(2)
    assert (
        ss.simulate(matrix, columns=two, on=on)["cycles.total"] == ss.simulate(matrix, columns=2, on=on)["cycles.total"]
    )
    given = {"on": [on], "progress": False, "jobs": 1}
    rows = ss.compare(network(), batch=two, columns=two, seed=np.int32(1), **given).rows
    assert json.dumps(rows) == json.dumps(ss.compare(network(), batch=2, columns=2, seed=1, **given).rows)


WRONG_CALLS = {
    "batch": lambda: ss.simulate(network().layers[0], batch=1.5),
    "activation_density": lambda: ss.simulate(np.eye(3), columns=2, activation_density="x"),
    "seed": lambda: ss.simulate(np.eye(3), columns=2, activation_density=0.5, seed="x"),
    "threads": lambda: ss.simulate(np.eye(3), threads="2"),
    "overrides": lambda: ss.simulate(np.eye(3), overrides=[("prefetch.lines", 4)]),
    "energy": lambda: ss.simulate(np.eye(3), energy=["horowitz_45nm"]),
    "gemm": lambda: ss.gemm(8, 1.5, 8),
    "pattern": lambda: ss.gemm(8, 8, 8, pattern=0.5),
    "granularity": lambda: ss.prune(np.eye(4), None, 0.5),
    "sparsity": lambda: ss.prune(np.eye(4), "unstructured", "0.5"),
    "allocation": lambda: ss.prune(np.eye(4), "unstructured", 0.5, allocation=None),
    "criterion": lambda: ss.prune(np.eye(4), "unstructured", 0.5, criterion=3),
    "skip": lambda: ss.prune(network(), "unstructured", 0.5, skip=None),
    "columns": lambda: ss.compare(network(), columns=0),
    "jobs": lambda: ss.compare(network(), jobs="all"),
    "iso": lambda: ss.compare(network(), iso=1),
    "rank": lambda: ss.compare(network(), adapter=1.5),
    "--jobs": lambda: ss.sweep(np.eye(3), jobs=1.5, store=":memory:"),
    "store": lambda: ss.sweep(np.eye(3), store=5),
    "on": lambda: ss.sweep(np.eye(3), on={"sparch": 1}, store=":memory:"),
    "budget": lambda: ss.search(network(), budget=0.5),
    "trials": lambda: ss.search(network(), budget={"energy": 0.5}, trials=None),
    "value-bytes": lambda: ss.inspect(network(), value_bytes=1.5),
    "bandwidth": lambda: ss.datasets.banded(9, 9, bandwidth="wide"),
    "zoo": lambda: ss.zoo.load(3),
    "tokens": lambda: ss.zoo.load("bert_base", "shape", tokens="all"),
}


@pytest.mark.parametrize("word", WRONG_CALLS)
def test_values_of_another_kind_get_one_line(word):
    with pytest.raises(ConfigError) as caught:
        WRONG_CALLS[word]()
    assert word.replace("activation_", "") in str(caught.value)
    assert "\n" not in str(caught.value)
