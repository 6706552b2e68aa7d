"""OuterSPACE against a naive walk through both phases, published traffic, and TeAAL's counts."""

from __future__ import annotations

import bisect
import csv
from importlib import resources

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsim.errors import ConfigError
from sparsim.io import load
from sparsim.machines import machine
from sparsim.machines.base import load_preset
from sparsim.matrix import Csr
from sparsim.network import Layer
from sparsim.simulate import product, run
from sparsim.workload import DataType, Operand, Workload, layer_workload
from tests.checks import refused
from tests.strategies import matrix_pairs

BLOCK = 64


def blocks(size):
    return -(-size // BLOCK)


def merge_row(lists):
    """Insert the lists' elements into sorted heads; return (comparisons, distinct columns)."""
    if len(lists) == 1:
        return len(lists[0]), len(lists[0])
    left = [sorted(-column for column in elements) for elements in lists]
    heads, compares, seen = [], 0, set()

    def insert(i):
        head = (left[i].pop(), i)
        at = bisect.bisect_right(heads, head)
        heads.insert(at, head)
        return len(heads) - at

    compares = sum(insert(i) for i in range(len(left)))
    while heads:
        column, i = heads.pop()
        seen.add(column)
        compares += insert(i) if left[i] else 0
    return compares, len(seen)


def naive(a, b, *, tiles=16, pes=16, merge_pes=8, latency=172.5, cache=2048):
    """Walk through both phases; 12-byte elements and products, 4-byte pointers and links, 8-byte list heads."""
    a, b = a.toarray() != 0, b.toarray() != 0
    m, k = a.shape
    payload = dict.fromkeys(("a", "b", "partial_read", "partial_write", "c"), 0)
    bus = dict(payload)
    lists = {row: [] for row in range(m)}
    made = np.zeros((tiles, pes))
    turn, task = np.zeros(tiles, dtype=int), 0
    misses = np.zeros(tiles)
    for inner in range(k):
        column, row = np.flatnonzero(a[:, inner]), np.flatnonzero(b[inner])
        for stream, part in (("a", column), ("b", row)):
            payload[stream] += 12 * len(part)
            bus[stream] += BLOCK * blocks(12 * len(part))
        if not len(column) or not len(row):
            continue
        tile = task % tiles
        task += 1
        misses[tile] += blocks(12 * len(column)) + blocks(12 * len(row))
        written = 0
        for i in column:
            lists[i].append(row)
            made[tile, turn[tile] % pes] += len(row)
            turn[tile] += 1
            written += 12 * len(row) + 4
        payload["partial_write"] += written
        bus["partial_write"] += BLOCK * blocks(written)
    for stream in ("a", "b"):
        payload[stream] += 4 * (k + 1)
        bus[stream] += BLOCK * blocks(4 * (k + 1))
    spent = np.zeros(tiles * merge_pes)
    turn, compares, nnz = 0, 0, 0
    for i in range(m):
        chunks = lists[i]
        if not chunks:
            continue
        row_compares, row_nnz = merge_row(chunks)
        compares, nnz = compares + row_compares, nnz + row_nnz
        bus["c"] += BLOCK * blocks(12 * row_nnz)
        waits = 1
        for chunk in chunks:
            bus["partial_read"] += BLOCK * blocks(12 * len(chunk) + 4)
            ahead = 2 * len(chunks) * BLOCK <= cache
            waits += 1 if ahead else blocks(12 * len(chunk) + 4)
        spent[turn % spent.size] += row_compares + latency * waits
        turn += 1
    heads = 8 * turn
    payload["partial_write"] += heads
    payload["partial_read"] = payload["partial_write"]
    payload["c"] += 12 * nnz + 4 * (m + 1)
    bus["c"] += BLOCK * blocks(4 * (m + 1))
    for stream in ("partial_read", "partial_write"):
        bus[stream] += BLOCK * blocks(heads)
    rate, in_flight = 128 / 1.5, min(128, tiles * 32)
    first = latency * (2 if task else 1) + max(
        (bus["a"] + bus["b"] + bus["partial_write"]) / rate,
        latency * (bus["a"] + bus["b"]) / BLOCK / in_flight,
        latency * misses.max() / 32,
        made.max(),
    )
    second = max(
        (bus["partial_read"] + bus["c"]) / rate, latency * bus["partial_read"] / BLOCK / 128, spent.max(initial=0)
    )
    return {"payload": payload, "bus": bus, "compares": compares, "nnz": nnz, "products": int(made.sum()),
            "made": made.max(), "spent": spent.max(initial=0), "cycles": int(np.ceil(first + second))}  # fmt: skip


def workload_of(a, b):
    return Workload(Operand.of(Csr.from_scipy(a)), Operand.of(Csr.from_scipy(b)))


def agree(a, b, want, overrides=None):
    activity = machine("outerspace", overrides).run(workload_of(a, b))
    assert activity.payload_bytes == want["payload"]
    assert activity.dram_bytes == want["bus"]
    assert activity.operations == {
        "multiply": want["products"],
        "add": want["products"] - want["nnz"],
        "compare": want["compares"],
    }
    assert activity.nnz_c == want["nnz"]
    assert activity.details["multiply_pe_cycles"] == want["made"]
    assert activity.details["merge_pe_cycles"] == pytest.approx(want["spent"])
    assert activity.cycles == pytest.approx(want["cycles"], abs=1)
    return activity


@settings(deadline=None)  # the first example compiles
@given(matrix_pairs())
def test_naive_walk(pair):
    agree(*pair, naive(*pair))


@settings(deadline=None)  # the first example compiles
@given(matrix_pairs(), st.integers(1, 3), st.integers(1, 3), st.integers(1, 2))
def test_naive_walk_of_a_few_pes(pair, tiles, pes, merge_pes):
    fields = {"tiles.count": tiles, "tiles.pes": pes, "tiles.merge_pes": merge_pes, "merge.cache_bytes": 256}
    agree(*pair, naive(*pair, tiles=tiles, pes=pes, merge_pes=merge_pes, cache=256), fields)


def test_naive_walk_of_rows_with_more_lists_than_the_cache_holds():
    rng = np.random.default_rng(0)
    a, b = (sp.csr_array((rng.random((40, 60)) < 0.6).astype(float)), sp.csr_array((rng.random((60, 90)) < 0.2) * 1.0))
    activity = agree(a, b, naive(a, b))
    assert activity.details["longest_list"] > 32
    assert activity.cycles > machine("outerspace", {"merge.cache_bytes": 2**20}).run(workload_of(a, b)).cycles


@settings(deadline=None)  # the first example compiles
@given(matrix_pairs())
def test_conservation(pair):
    work = workload_of(*pair)
    report = run(work, "outerspace")
    details, total = report["details"], report.cycles
    assert report["workload.multiplies"] == work.multiplies == details["partial_elements_written"]
    assert details["partial_elements_read"] == details["partial_elements_written"]
    assert report["workload.nnz_c"] == work.nnz_c
    assert sum(details[f"{phase}_cycles"] for phase in ("multiply", "merge")) <= total
    for stage in report["cycles"]["stages"].values():
        assert stage["busy"] + stage["starved"] + stage["blocked"] == pytest.approx(total)


@pytest.mark.parametrize("columns", [1, 2, 5])
@pytest.mark.parametrize("density", [0.0, 0.3, 1.0])
def test_dense_b_is_the_explicit_dense_matrix(columns, density):
    a = sp.csr_array((np.random.default_rng(3).random((9, 7)) < density).astype(float))
    described = machine("outerspace").run(Workload(Operand.of(Csr.from_scipy(a)), Operand.dense(7, columns)))
    want = naive(a, sp.csr_array(np.ones((7, columns))))
    assert described.operations["compare"] == want["compares"]
    assert described.dram_bytes == want["bus"]
    assert described.cycles == pytest.approx(want["cycles"], abs=1)
    full = sp.csr_array(np.ones((7, columns)))
    assert agree(a, full, want).cycles == described.cycles


def test_groups_are_a_block_diagonal_product():
    layer = Layer("grouped", np.ones((8, 2, 3, 3)), (1, 1), (1, 1), (1, 1), groups=2, input_size=(5, 5))
    work = layer_workload(layer)
    built = machine("outerspace")
    plain = Workload(work.grouped_a, work.b, dtype=work.dtype)
    assert built.run(work).dram_bytes == built.run(plain).dram_bytes
    assert built.run(work).cycles == built.run(plain).cycles


def test_element_follows_the_data_type():
    built = machine("outerspace")
    assert built.element_bytes(DataType.FP64) == (12, 12)
    assert built.element_bytes(DataType.FP16) == (6, 8)
    assert machine("outerspace", {"element.value_bytes": 8}).element_bytes(DataType.FP16) == (12, 12)


# --- what more hardware does -----------------------------------------------------------------------------------------


def skewed():
    rng = np.random.default_rng(7)
    weight = rng.zipf(1.6, 300).clip(max=60) / 60
    return workload_of(*2 * [sp.csr_array((rng.random((300, 300)) < np.outer(weight, weight) * 0.9) * 1.0)])


def cycles(work, **overrides):
    return machine("outerspace", {key.replace("__", "."): value for key, value in overrides.items()}).run(work).cycles


def test_more_is_never_slower():
    work = skewed()
    for series in (
        [{"dram__gb_s_per_channel": rate} for rate in (0.5, 1.0, 4.0, 8.0, 100.0)],
        [{"dram__latency_ns": ns} for ns in (500.0, 150.0, 115.0, 80.0, 0.0)],
        [{"tiles__merge_pes": pes} for pes in (1, 2, 4, 8, 16)],
        [{"multiply__assignment": "pe", "tiles__pes": pes} for pes in (1, 2, 4, 8, 16)],
        [{"l1__mshrs": mshrs} for mshrs in (1, 4, 32, 128)],
        [{"merge__cache_bytes": size} for size in (0, 1024, 2048, 65536)],
        [{"merge__assignment": how} for how in ("static", "balanced")],
        [{"multiply__assignment": how} for how in ("pe", "balanced")],
        [{"merge__link_latency": how} for how in (True, False)],
        [{"merge__compare": how} for how in ("scan", "insert")],
    ):
        times = [cycles(work, **fields) for fields in series]
        assert times == sorted(times, reverse=True), series


def test_a_hub_keeps_one_pe_busy():
    hub = np.zeros((400, 400))
    hub[0], hub[:, 0] = 1, 1
    work = workload_of(sp.csr_array(hub), sp.csr_array(hub))
    activity = machine("outerspace").run(work)
    assert activity.limited_by == "load_imbalance"
    assert activity.details["merge_imbalance"] > 2


def test_words_for_what_bounds():
    small = workload_of(sp.csr_array(np.eye(3)), sp.csr_array(np.eye(3)))
    assert machine("outerspace").run(small).limited_by == "latency"
    even = workload_of(*2 * [sp.csr_array(np.ones((128, 128)))])
    assert machine("outerspace").run(even).limited_by == "merge"
    assert machine("outerspace", {"dram.gb_s_per_channel": 0.01}).run(even).limited_by == "dram"
    slow = {"l1.mshrs": 1, "l1.count": 1}
    assert "miss register" in machine("outerspace", slow).run(skewed()).reason
    many = {"tiles.merge_pes": 1024, "merge.compare": "insert", "dram.latency_ns": 0.0, "dram.gb_s_per_channel": 1e5}
    one = many | {"tiles.pes": 1, "tiles.count": 1}
    assert machine("outerspace", one).run(even).limited_by == "multiply"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"tiles.pe": 4}, "tiles.pes"),
        ({"tiles.pes": 0}, "greater than or equal to 1"),
        ({"merge.compare": "sort"}, "'insert' or 'scan'"),
        ({"element.value_bytes": "wide"}, "element.value_bytes"),
        ({"l1.mshrs": 0.5}, "l1.mshrs"),
    ],
)
def test_slips_get_one_line(fields, words):
    refused(lambda: machine("outerspace", fields), words, kind=ConfigError)


# --- published -------------------------------------------------------------------------------------------------------


def published():
    text = resources.files("sparsim").joinpath("fidelity", "outerspace", "published.csv").read_text("utf-8")
    return list(csv.DictReader(text.splitlines()))


def test_published_points_are_well_formed():
    bib = resources.files("sparsim").joinpath("energy", "references.bib").read_text("utf-8")
    for row in published():
        assert None not in row, row
        assert float(row["value"]) > 0
        assert row["unit"]
        assert f"{{{row['source'].partition(',')[0]}," in bib
        assert row["certainty"] in ("paper", "author_code", "third_party", "recalled", "derived")
        assert row["role"] in ("check", "shown")


@pytest.mark.parametrize("name", ["wiki-Vote", "p2p-Gnutella31", "ca-CondMat"])
def test_published_traffic_and_comparisons(real_data, name):
    """Payload meets the published ratios; whole blocks move more where chunks are short."""
    matrix = load(real_data / "matrices" / f"{name}.mtx")
    built = machine("outerspace")
    activity = built.run(product(matrix))
    payload, bus = activity.payload_bytes, activity.dram_bytes
    partial = payload["partial_read"] + payload["partial_write"]
    minimum = payload["a"] + payload["b"] + payload["c"]
    assert sum(bus.values()) > 1.015 * sum(payload.values())
    found = {
        "traffic_total": 1 + partial / minimum,
        "traffic_total_teaal": 1 + partial / minimum,
        "traffic_partial": partial / minimum,
    }
    checked = 0
    for row in published():
        if row["workload"] == name and row["quantity"] in found:
            assert row["role"] == "check"
            assert found[row["quantity"]] == pytest.approx(float(row["value"]), rel=0.05)
            checked += 1
    assert checked == 3


@pytest.mark.parametrize("name", ["wiki-Vote", "p2p-Gnutella31", "ca-CondMat"])
def test_comparisons_are_teaals_to_the_last_digit(real_data, name):
    from sparsim.kernels.outerspace import insertion_merge

    matrix = load(real_data / "matrices" / f"{name}.mtx")
    args = (matrix.indptr, matrix.indices)
    compares, merged = insertion_merge(*args, *args)
    row = np.repeat(np.arange(matrix.shape[0]), matrix.row_lengths)
    lists = np.bincount(row[matrix.row_lengths[matrix.indices] > 0], minlength=matrix.shape[0])
    want = [r for r in published() if (r["quantity"], r["workload"]) == ("merge_comparisons_teaal", name)]
    assert compares[lists > 1].sum() == int(want[0]["value"])
    assert merged.sum() == product(matrix).nnz_c


def test_preset_says_what_remains():
    assert "remains" in load_preset("outerspace").not_modelled
