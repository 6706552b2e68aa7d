"""Weights in every format: totals and choices against brute force, and what shows them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sparsim import storage
from sparsim.cli import main
from sparsim.compare import compare
from sparsim.errors import ConfigError, InputError
from sparsim.formats import all_formats
from sparsim.inspect import inspect
from sparsim.machines import machine
from sparsim.matrix import Csr
from sparsim.n_of_m import follows_n_of_m
from sparsim.network import Layer, Network
from sparsim.pruning import prune
from sparsim.storage import best_format, layer_storage, network_storage
from sparsim.terminal import print_inspection
from sparsim.workload import DataType, Operand, Workload

masks = arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 40)), elements=st.sampled_from([False] * 5 + [True]))


def blocks(rng, rows, cols, height, width, density):
    """Return a matrix of which whole blocks are kept."""
    kept = rng.random((rows // height, cols // width)) < density
    return np.kron(kept, np.ones((height, width))) * rng.uniform(1, 2, (rows, cols))


def pairs(rng, rows, cols):
    """Return a matrix that keeps any two of every four elements of a row."""
    order = rng.permuted(np.tile([1.0, 1, 0, 0], (rows * cols // 4, 1)), axis=1)
    return order.reshape(rows, cols) * rng.uniform(1, 2, (rows, cols))


@pytest.fixture(scope="module")
def network():
    rng = np.random.default_rng(0)
    weights = {
        "dense": rng.normal(size=(16, 32)),
        "pairs": pairs(rng, 32, 64),
        "blocks": blocks(rng, 256, 256, 8, 8, 0.1),
        "rare": rng.normal(size=(64, 300)) * (rng.random((64, 300)) < 0.01),
        "channels": rng.normal(size=(64, 48)) * (np.arange(64) % 2)[:, None],
    }
    return Network("several", tuple(Layer(name, weight) for name, weight in weights.items()))


def test_public_names_are_sorted():
    assert storage.__all__ == sorted(storage.__all__)


def brute_force(layer, value_bytes):
    """Write the matrix out element by element and count bytes."""
    dense = np.zeros(layer.matrix.shape, dtype=bool)
    for row, col in zip(
        np.repeat(np.arange(dense.shape[0]), layer.matrix.row_lengths), layer.matrix.indices, strict=True
    ):
        dense[row, col] = True
    rows, cols = dense.shape
    nnz = sum(1 for row in dense for cell in row if cell)
    kept = [int(any(row)) for row in dense], [int(any(column)) for column in dense.T]
    sizes = {
        "dense": (rows * cols * value_bytes, 0),
        "bitmap": (nnz * value_bytes, -(-rows * cols // 8)),
        "csr": (nnz * value_bytes, 4 * (nnz + rows + 1)),
        "csc": (nnz * value_bytes, 4 * (nnz + cols + 1)),
    }
    if not all(kept[0] + kept[1]):
        sizes["compact"] = (sum(kept[0]) * sum(kept[1]) * value_bytes, -(-rows // 8) + -(-cols // 8))
    return sizes


@given(mask=masks, value_bytes=st.sampled_from([1, 2, 4, 8]))
def test_sizes_and_choice_equal_brute_force(mask, value_bytes):
    layer = Layer("any", mask.astype(float))
    found = layer_storage(layer, value_bytes)
    counted = {size.name: (size.value_bytes, size.index_bytes) for size in found.sizes}
    expected = brute_force(layer, value_bytes)
    assert expected.items() <= counted.items()
    assert ("compact" in counted) == ("compact" in expected)
    assert found.best.total == min(map(sum, counted.values()))
    assert found.floor_bytes == mask.sum() * value_bytes
    assert all(size.value_bytes >= found.floor_bytes for size in found.sizes)
    assert all(size.value_bytes + size.index_bytes == size.total for size in found.sizes)


@given(mask=masks, value_bytes=st.sampled_from([1, 2, 4]))
def test_the_best_alone_is_the_best_of_all(mask, value_bytes):
    layer = Layer("any", mask.astype(float))
    patterns = ["block:4x4"]
    best = best_format(layer, value_bytes, patterns)
    every = layer_storage(layer, value_bytes, patterns=patterns)
    assert best == every.best


def test_every_kind_of_zeros_finds_its_format(network):
    found = {layer.layer: layer.best for layer in network_storage(network).layers}
    assert {name: size.name for name, size in found.items()} == {
        "dense": "dense",
        "pairs": "2:4",
        "blocks": "bsr:8x8",
        "rare": "csr",
        "channels": "compact",
    }
    assert found["pairs"].total / (32 * 64 * 2) == 0.5625
    assert all(found[name] == best_format(network[name], 2) for name in found)


@pytest.mark.parametrize(
    ("value_bytes", "name", "ratio"), [(2, "2:4", 0.5625), (1, "2:4", 0.625), (4, "2:4", 0.53125), (4, "1:2", 0.5625)]
)
def test_structured_zeros_take_the_published_share(value_bytes, name, ratio):
    layer = Layer("half", np.tile([1.0, 0, 1, 0], (16, 32)))
    size = layer_storage(layer, value_bytes).take(name)
    assert size is not None
    assert size.total / (layer.size * value_bytes) == ratio


def test_of_equal_sizes_the_simpler_wins():
    found = layer_storage(Layer("half", pairs(np.random.default_rng(6), 16, 128)), 2)
    assert found.take("2:4").total == found.take("bitmap").total
    assert found.best.name == "2:4"


def test_pruned_blocks_give_bsr_its_shape():
    rng = np.random.default_rng(1)
    layer = Layer("any", rng.normal(size=(64, 128)))
    for pattern, name in [("block:4x8", "bsr:4x8"), ("vector:16", "bsr:1x16"), ("vector:8x1", "bsr:8x1")]:
        pruned = prune(Network("one", (layer,)), pattern, 0.9)[0]
        assert best_format(pruned, 4, [pattern]).name == name
    conv = prune(Network("one", (Layer("conv", rng.normal(size=(32, 32, 3, 3))),)), "kernel", 0.9)[0]
    assert best_format(conv, 4, ["kernel"]).name == "bsr:1x9"
    assert layer_storage(conv, 4).best.name == "bsr:1x9"


def test_totals_add_up(network):
    found = network_storage(network, 2)
    assert found.dense_bytes == network.size * 2
    assert found.floor_bytes == network.nnz * 2
    totals = {total.name: total for total in found.totals}
    for family, total in totals.items():
        sizes = []
        for layer in network:
            own = [s for s in layer_storage(layer, 2).sizes if s.name == family or s.name.split(":")[0] == family]
            sizes.append(min((s.total for s in own), default=layer.size * 2))
        if family != "best per layer":
            assert total.total == sum(sizes)
    assert totals["2:4"].layers == sum(follows_n_of_m(layer.matrix, 2, 4) for layer in network) < len(network)
    assert totals["csr"].layers == totals["bsr"].layers == len(network)
    best = totals["best per layer"]
    assert best == found.best == found.totals[-1]
    assert best.total == sum(layer.best.total for layer in found.layers)
    assert found.floor_bytes <= best.total <= min(total.total for total in found.totals)
    assert best.index_share == best.index_bytes / best.total
    assert best.index_overhead == best.index_bytes / best.value_bytes


def test_the_fewest_bytes_an_index():
    layer = Layer("small", np.eye(40, 300))
    fixed, least = (layer_storage(layer, 2, width).take("csr") for width in (4, "auto"))
    assert (fixed.index_bytes, least.index_bytes) == (4 * (40 + 41), 2 * 40 + 1 * 41)
    assert layer_storage(layer, 2, "auto").take("csc").index_bytes == 40 + 301
    with pytest.raises(ConfigError, match=r"1 B cannot hold index 299; allowed: 2, 4, 8 or auto"):
        layer_storage(layer, 2, 1)
    with pytest.raises(ConfigError, match=r"an index of 3 bytes; allowed: 1, 2, 4, 8 or auto"):
        layer_storage(layer, 2, 3)
    with pytest.raises(InputError, match="0 bytes a value"):
        network_storage(Network("one", (layer,)), 0)


def test_nothing_stored_and_no_layers():
    found = network_storage(Network("bare", (Layer("zero", np.zeros((4, 8))),)))
    assert found.best.total == 0
    assert found.best.index_share == found.best.index_overhead == 0
    assert json.loads(json.dumps(found.to_dict()))["totals"][-1]["times_smaller"] is None
    assert network_storage(Network("none", ())).best.total == 0


def test_inspect_tells_sizes_under_stable_keys(network, capsys):
    found = json.loads(json.dumps(inspect(network, value_bytes=2, index_bytes="auto")))
    whole = network_storage(network, 2, "auto")
    assert found["storage"] == json.loads(json.dumps(whole.to_dict()))
    for row, layer in zip(found["layers"], whole.layers, strict=True):
        assert row["storage"] == json.loads(json.dumps(layer.to_dict()))
        assert row["smallest_format"] == row["storage"]["best"]
        assert row["format_bytes"] == {name: size["bytes"] for name, size in row["storage"]["formats"].items()}
    print_inspection(found)
    shown = " ".join(capsys.readouterr().out.split())
    assert "all weights by format, 2 B a value, the fewest bytes an index" in shown
    fitting = sum(layer.take("2:4") is not None for layer in whole.layers)
    assert f"│ 2:4 │ {fitting} │ {next(t.total for t in whole.totals if t.name == '2:4'):,} │" in shown
    assert "where fewer than 5 layers take a format, the others are counted dense" in shown
    assert f"{whole.best.total:,}" in shown
    assert f"without any index: {whole.floor_bytes:,} bytes" in shown


@pytest.mark.parametrize(("width", "code"), [("auto", 0), ("4", 0), ("1", 2), ("3", 2)])
def test_the_command_line_takes_bytes_of_an_index(tmp_path, monkeypatch, capsys, width, code):
    path = tmp_path / "net.npz"
    np.savez(path, fc=np.eye(40, 300))
    monkeypatch.setattr("sys.argv", ["sparsim", "inspect", str(path), "--json", "--index-bytes", width])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == code
    told = capsys.readouterr()
    if code:
        assert "auto" in told.err
        assert "Traceback" not in told.err
    else:
        sizes = json.loads(told.out)["layers"][0]["storage"]["formats"]
        assert sizes["csr"]["index_bytes"] == (2 * 40 + 41 if width == "auto" else 4 * 81)


@pytest.fixture(scope="module")
def products():
    rng = np.random.default_rng(2)
    mask = rng.random((64, 96)) < 0.1
    mask[7], mask[:, 5] = False, False
    a = Operand.of(Csr.from_dense(mask * 1.0))
    return [Workload(a, Operand.dense(96, n), dtype=DataType.FP16) for n in (4, 300)]


@pytest.mark.parametrize(
    ("name", "fields", "told"),
    [
        ("sparch", {"mapping.orientation": "wx"}, "csr, 2+4 bytes"),
        ("sparch", {"mapping.orientation": "xtwt"}, "csc, 2+4 bytes"),
        ("outerspace", {}, "csc, 2+4 bytes"),
        ("dense", {}, "dense without empty rows and columns"),
        ("dense", {"skip": "none"}, "dense"),
        ("systolic", {}, "dense without empty rows and columns"),
    ],
)
def test_machines_tell_how_a_travels(products, name, fields, told):
    for workload in products:
        built = machine(name).with_fields({"element.value_bytes": "dtype"} if name == "outerspace" else {})
        done = built.with_fields(fields).run(workload)
        details = done.details
        assert details["a_format"] == told
        once = details["a_value_bytes"] + details["a_index_bytes"]
        assert done.payload_bytes["a"] == pytest.approx(details["a_passes"] * once)
        assert details["a_passes"] >= 1 or "xtwt" in fields.values()
        stored = workload.a.nnz if "+" in told else 64 * 96 if told == "dense" else 63 * 95
        assert details["a_value_bytes"] == 2 * stored
        if name == "outerspace":
            assert details["a_passes"] == 1


def test_skipped_tiles_bring_a_bitmap():
    rng = np.random.default_rng(3)
    a = Operand.of(Csr.from_dense(blocks(rng, 128, 128, 4, 4, 0.1)))
    done = machine("dense-block").run(Workload(a, Operand.dense(128, 512), dtype=DataType.FP16))
    assert done.details["skipped_tiles"]
    assert done.details["a_format"].endswith("tiles with a bitmap")
    assert done.details["a_value_bytes"] >= 2 * a.nnz
    assert 0 < done.details["a_index_bytes"] <= 128 * 128 // 8
    once = done.details["a_value_bytes"] + done.details["a_index_bytes"]
    assert done.payload_bytes["a"] == pytest.approx(done.details["a_passes"] * once)


def test_rows_of_a_comparison_carry_what_weights_take(monkeypatch):
    from sparsim import rows as module

    asked = []
    monkeypatch.setattr(module, "best_format", lambda *args: asked.append(args[0]) or best_format(*args))
    rng = np.random.default_rng(4)
    network = Network("two", (Layer("fc1", rng.normal(size=(32, 64))), Layer("fc2", rng.normal(size=(16, 32)))))
    found = compare(network, on=["dense", "sparch"], granularity=["2:4"], batch=[1, 4], progress=False)
    assert len(asked) == len({id(layer) for layer in asked}) == 4
    rows = [row for row in found.rows if "workload.layer" in row]
    for row in rows:
        size = 2 * network[row["layer"]].size
        best, share = ("2:4", 1 / 9) if row["granularity"] == "2:4" else ("dense", 0)
        assert row["storage.best"] == best
        assert row["storage.dense_bytes"] == size
        assert row["storage.best_bytes"] == (size * 0.5625 if best == "2:4" else size)
        assert row["storage.index_bytes"] == row["storage.best_bytes"] * row["storage.index_share"]
        assert row["storage.index_share"] == pytest.approx(share)
        assert row["details.a_value_bytes"] > 0
    for total in found.totals:
        mine = [r for r in rows if all(r[k] == total[k] for k in ("granularity", "batch", "machine.name"))]
        for key in ("best_bytes", "dense_bytes", "index_bytes"):
            assert total[f"storage.{key}"] == sum(row[f"storage.{key}"] for row in mine)
        assert total["storage.best"] == mine[0]["storage.best"]
        assert total["details.a_index_bytes"] == sum(row["details.a_index_bytes"] for row in mine)


def test_training_counts_weights_once():
    network = Network("one", (Layer("fc", np.random.default_rng(5).normal(size=(16, 32))),))
    found = compare(network, on=["dense"], training=True, progress=False)
    assert [row["storage.dense_bytes"] for row in found.totals] == [16 * 32 * 2]


def test_formats_are_listed_from_simple_to_involved():
    csr = Csr.from_dense(np.tile([1.0, 0, 1, 0], (16, 32)))
    names = [size.name for size in all_formats(csr, 2)]
    assert names == ["dense", "compact", "2:4", "bitmap", "csr", "csc", "bsr:4x4", "run_length", "eie"]


def test_one_of_two_is_tried_where_sparse_instructions_take_it():
    half = Layer("half", pairs(np.random.default_rng(6), 16, 128) * np.tile([1, 0], 64))
    names = {width: [size.name for size in layer_storage(half, width, patterns=()).sizes] for width in (2, 4)}
    assert "1:2" in names[4]
    assert "1:2" not in names[2], "two of four is what 16-bit instructions take"
