"""The store holds what was put into it, whatever happens to the process."""

import os
import signal
import sqlite3
import subprocess
import sys
import time

import numpy as np
import pytest

from sparsim import load
from sparsim.errors import InputError
from sparsim.matrix import Csr
from sparsim.network import Layer, Network
from sparsim.sweep.store import Store, address, default_store, digest, model_version

WRITER = """
import sys
from sparsim.sweep.store import Store
with Store(sys.argv[1]) as store:
    for number in range(10**9):
        store.put(f"key {number}", {"number": number, "filler": "x" * 500})
        print(number, flush=True)
"""


def test_what_is_put_comes_back(tmp_path):
    with Store(tmp_path / "a.sqlite") as store:
        store.put("one", {"x": 1.5, "list": [1, "two", None]})
        store.put("one", {"x": 99})
        store.put_case("case", {"parts": [[{"head": 0.1}, True, "a", "b", "c"]]})
    with Store(tmp_path / "a.sqlite") as store:
        assert store.get(["one", "two"]) == {"one": {"x": 1.5, "list": [1, "two", None]}}
        assert store.missing(["two", "one", "three", "two"]) == ["two", "three"]
        assert store.case("case") == {"parts": [[{"head": 0.1}, True, "a", "b", "c"]]}
        assert store.case("other") is None
        assert len(store) == 1


def test_more_keys_than_one_statement_may_have(tmp_path):
    with Store(tmp_path / "a.sqlite") as store:
        for number in range(1200):
            store.put(str(number), {"number": number})
        found = store.get(str(number) for number in range(-5, 1200))
        assert {int(key): record["number"] for key, record in found.items()} == {n: n for n in range(1200)}


def test_a_killed_writer_loses_nothing_it_reported(tmp_path):
    path = tmp_path / "killed.sqlite"
    for wait in (0.0, 0.003, 0.02):
        with subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            for _ in range(50):
                last = int(writer.stdout.readline())
            time.sleep(wait)
            os.kill(writer.pid, signal.SIGKILL)
            reported = [last, *(int(line) for line in writer.stdout.read().splitlines() if line)]
        with Store(path) as store:
            kept = store.get(f"key {number}" for number in range(max(reported) + 1))
            assert [kept[f"key {number}"]["number"] for number in range(max(reported))] == list(range(max(reported)))
            assert store._base.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_file_of_something_else_is_refused_and_left_alone(tmp_path):
    text = tmp_path / "notes.txt"
    text.write_text("not a database, " * 100)
    with pytest.raises(InputError, match=r"notes.txt: cannot be used as a store of sweeps .*; name another file"):
        Store(text)
    assert text.read_text().startswith("not a database")
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as base:
        base.execute("CREATE TABLE runs (mine TEXT)")
    base.close()
    with pytest.raises(InputError, match="it belongs to another program"):
        Store(other)
    with pytest.raises(InputError, match="cannot be used as a store"):
        Store(tmp_path)
    with pytest.raises(InputError, match="cannot be used as a store"):
        Store(text / "below" / "a.sqlite")


def test_a_record_that_cannot_be_read_is_one_line(tmp_path):
    with Store(tmp_path / "a.sqlite") as store:
        store.put("one", {"x": 1})
        store.put_case("case", {"parts": []})
        for table in ("runs", "cases"):
            store._ask(f"UPDATE {table} SET record = x'001122'")
        for ask in (lambda: store.get(["one"]), lambda: store.case("case")):
            with pytest.raises(InputError, match=r"a.sqlite: the store of sweeps is damaged .*; delete it, or name"):
                ask()


def test_the_default_store_is_in_the_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("SPARSIM_CACHE_DIR", str(tmp_path))
    assert default_store() == tmp_path / "sparsim" / "sweeps.sqlite"


def test_addresses_tell_values_apart():
    assert address("a", 1) == address("a", 1)
    parts = [("a", 1), ("a", "1"), ("a", 1.0), ("a", True), ("a", None), ("a1",), ("a", [1]), (1, "a")]
    assert len({address(*each) for each in parts}) == len(parts)


def test_digest_depends_on_content_alone():
    weight = np.arange(6.0).reshape(2, 3)
    layer = Layer("fc", weight)
    before = digest(layer)
    assert layer.nnz == 5
    assert layer.matrix.nnz == 5
    assert digest(layer) == before == digest(Layer("fc", np.asfortranarray(weight)))
    others = [
        Layer("fd", weight),
        Layer("fc", weight + 1),
        Layer("fc", weight.T.copy()),
        Layer("fc", weight, activation_density=0.5),
        Layer("fc", weight.astype(np.float32)),
        Layer("fc", Csr.from_dense(weight)),
        Layer("fc", np.broadcast_to(np.float64(1), (2, 3))),
        Layer("fc", np.broadcast_to(np.float64(1), (3, 2))),
    ]
    assert len({before, *(digest(other) for other in others)}) == len(others) + 1


def test_digest_of_a_network_loaded_twice_is_the_same():
    from sparsim import zoo

    a, b = zoo.load("lenet300_100"), zoo.load("lenet300_100")
    assert digest([a.layers, a.graph]) == digest([b.layers, b.graph])
    assert digest(a) != digest(zoo.load("lenet5"))
    assert digest(Network("n", ())) != digest(Network("m", ()))


def test_the_model_version_is_that_of_the_models():
    version = model_version()
    assert version == model_version()
    assert len(version.partition("+")[2]) == 16
    assert callable(load)
