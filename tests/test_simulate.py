"""From what a user holds to a workload: paths, arrays, shapes, patterns, defaults, and one line for every mistake."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.io
import scipy.sparse as sp
from checks import refused

from sparsim.errors import ConfigError, WorkloadError
from sparsim.machines import machine
from sparsim.matrix import Csr
from sparsim.network import Layer, Network
from sparsim.simulate import as_matrix, gemm, network_workloads, product, run, simulate, simulate_all
from sparsim.workload import DataType, Operand, Workload, layer_workload

SMALL = sp.csr_array(np.array([[1.0, 0, 2], [0, 3, 0], [4, 5, 0]]))


# --- operands --------------------------------------------------------------------------------------------------------


def test_one_matrix_means_squared():
    work = product(SMALL)
    assert (work.m, work.k, work.n) == (3, 3, 3)
    assert work.dtype is DataType.FP64
    assert work.name == "product"
    assert work.multiplies == (abs(SMALL).sign() @ abs(SMALL).sign()).sum()


@pytest.mark.parametrize(
    "source", [SMALL, SMALL.toarray(), SMALL.tocoo(), SMALL.tocsc(), sp.csr_matrix(SMALL), Csr.from_scipy(SMALL)]
)
def test_anything_that_is_a_matrix(source):
    assert np.array_equal(as_matrix(source).to_dense(), SMALL.toarray())


@pytest.mark.parametrize("source", [None, 3, [[1, 2], [3, 4]], {"a": 1}, object()])
def test_what_is_no_matrix(source):
    refused(lambda: as_matrix(source), "is no matrix", "scipy sparse matrix", kind=WorkloadError)


def test_not_square_names_the_way_out():
    refused(lambda: product(np.ones((2, 3))), "2 x 3", "not square", "--columns", kind=WorkloadError)


def test_shapes_have_to_meet():
    refused(lambda: product(np.ones((2, 3)), np.ones((2, 3))), "columns of A must equal rows of B", kind=WorkloadError)
    refused(lambda: Workload(Operand.dense(3, 2), Operand.dense(4, 2), groups=2), "groups", kind=WorkloadError)
    refused(lambda: Workload(Operand.dense(2, 2), Operand.dense(0, 2), groups=0), "groups", kind=WorkloadError)


def test_columns_make_a_dense_operand():
    work = product(np.eye(4, 6), columns=5)
    assert work.dtype is DataType.FP16
    assert (work.b.rows, work.b.cols, work.b.is_dense) == (6, 5, True)
    assert work.multiplies == 4 * 5
    assert product(np.eye(4), columns=5, dtype="fp64").dtype is DataType.FP64


def test_density_makes_a_random_operand_that_the_seed_repeats():
    one, same, other = (product(np.eye(50), columns=40, activation_density=0.3, seed=s) for s in (1, 1, 2))
    assert 0.2 < one.b.nnz / 2000 < 0.4
    assert np.array_equal(one.b.csr.indices, same.b.csr.indices)
    assert one.sha256 == same.sha256 != other.sha256
    assert product(np.eye(5), columns=4, activation_density=0.0).b.nnz == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"activation_density": 0.5}, ("--activation-density", "--columns")),
        ({"b": np.eye(3), "activation_density": 0.5}, ("--activation-density", "--columns")),
        ({"b": np.eye(3), "columns": 4}, ("not both", "--columns")),
        ({"columns": 0}, ("--columns", "1 or more")),
        ({"columns": -3}, ("--columns",)),
        ({"columns": 4, "activation_density": 1.5}, ("1.5", "0 to 1")),
        ({"columns": 4, "activation_density": float("nan")}, ("nan", "0 to 1")),
        ({"dtype": "fp12"}, ("fp12", "fp64, fp32, tf32, fp16, bf16, int8, fp8")),
    ],
)
def test_options_that_do_not_fit(options, words):
    refused(lambda: product(np.eye(3), **options), *words, kind=ConfigError)


def test_data_types():
    assert [DataType.parse(name).bytes for name in ("fp64", "FP32", "fp16", "bf16", "int8")] == [8, 4, 2, 2, 1]
    assert product(np.eye(3), dtype=DataType.INT8).dtype is DataType.INT8


# --- gemm ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "nnz"),
    [("dense", 8 * 16), ("2:4", 8 * 8), ("1:4", 8 * 4), ("4:4", 8 * 16), ("density:1", 8 * 16), ("density:0", 0)],
)
def test_gemm_patterns(pattern, nnz):
    work = gemm(8, 16, 5, pattern=pattern)
    assert work.a.nnz == work.a.csr.nnz == nnz
    assert (work.multiplies, work.dtype) == (nnz * 5, DataType.FP16)
    assert pattern in work.name


@pytest.mark.parametrize(("cols", "kept"), [(1, 1), (2, 2), (3, 2), (4, 2), (5, 3), (9, 5), (10, 6)])
def test_n_of_m_holds_in_every_block_and_the_rest(cols, kept):
    work = gemm(30, cols, 2, pattern="2:4", seed=3)
    dense = work.a.csr.to_dense()
    assert (dense.sum(axis=1) == kept).all()
    assert all(dense[:, at : at + 4].sum(axis=1).max() <= 2 for at in range(0, cols, 4))
    assert len({tuple(row) for row in dense}) > 1 or cols <= 2
    assert work.nnz_c == 60


@pytest.mark.parametrize(
    "pattern",
    [
        *("abc", "", ":", "5:4", "0:4", "-1:4", "2:-4", "2:4:8", "2:", "1.5:4"),
        *("density:2", "density:-0.1", "density:x", "density:nan", "density:"),
    ],
)
def test_patterns_that_are_none(pattern):
    refused(lambda: gemm(8, 8, 8, pattern=pattern), "--pattern", "N:M", "density:D", kind=ConfigError)


@pytest.mark.parametrize("shape", [(0, 4, 4), (4, -4, 4), (4, 4, 0)])
def test_gemm_needs_positive_sizes(shape):
    refused(lambda: gemm(*shape), "--gemm", "a whole number from 1 to", kind=ConfigError)


def test_a_shape_too_large_to_draw_says_so():
    """The pattern is right, the size is not: the message must name the size."""
    refused(lambda: gemm(10**6, 10**6, 8, pattern="density:0.5"), "elements", kind=WorkloadError)
    refused(lambda: gemm(10**6, 10**6, 8, pattern="2:4").a.csr, "elements", kind=WorkloadError)


def test_a_large_dense_product_costs_nothing_to_describe():
    work = gemm(2**20, 2**20, 2**20)
    assert work.multiplies == 2**60
    assert work.nnz_c == work.referenced_b == 2**40


# --- files, layers, networks -----------------------------------------------------------------------------------------


def test_path(tmp_path):
    path = tmp_path / "small.mtx"
    scipy.io.mmwrite(path, SMALL)
    for source in (path, str(path)):
        work = product(source)
        assert work.name == "small.mtx"
        assert np.array_equal(work.a.csr.to_dense(), SMALL.toarray())
    assert product(path, name="mine").name == "mine"
    assert simulate(path)["workload.multiplies"] == work.multiplies
    assert simulate(path, path).cycles == simulate(path).cycles


def test_path_that_is_not_there(tmp_path):
    refused(lambda: simulate(tmp_path / "none.mtx"), "none.mtx")


def test_file_of_several_layers_is_no_matrix(tmp_path):
    path = tmp_path / "net.npz"
    np.savez(path, first=np.eye(4), second=np.eye(5))
    refused(lambda: as_matrix(path), "2 layers", "net.npz", kind=WorkloadError)


def conv(**facts):
    return Layer("conv", np.ones((4, 3, 3, 3)), (1, 1), (1, 1), (1, 1), **facts)


def test_layer_and_workload_go_in_as_they_are():
    layer = conv(input_size=(5, 5))
    report = simulate(layer, on="dense")
    assert report["workload.n"] == 25
    assert report["workload.dtype"] == "fp16"
    assert report["workload.layer"] == "conv"
    work = layer_workload(layer)
    assert simulate(work, on="dense").data == report.data
    assert simulate(layer, on="dense", dtype="int8")["workload.dtype"] == "int8"


@pytest.mark.parametrize("options", [{"b": np.eye(3)}, {"columns": 7}, {"activation_density": 0.5}])
@pytest.mark.parametrize("source", [conv(input_size=(5, 5)), product(np.eye(3))], ids=["layer", "workload"])
def test_options_a_layer_or_workload_cannot_take_are_refused(source, options):
    """Never ignored without a word."""
    refused(lambda: simulate(source, **options), kind=ConfigError)


def test_data_type_of_a_workload_is_not_ignored():
    refused(lambda: simulate(product(np.eye(3)), dtype="fp16"), "dtype", kind=ConfigError)


def test_layer_workload():
    layer = Layer("g", np.ones((6, 2, 3, 3)), groups=3, input_size=(4, 4), activation_density=0.5)
    work = layer_workload(layer, batch=5, seed=1, name="net")
    assert (work.m, work.k, work.n, work.groups) == (6, 18, 2 * 2 * 5, 3)
    assert work.b.rows == 54
    assert work.b_unique_elements == 6 * 16 * 5
    assert (work.name, work.layer) == ("net", "g")
    assert work.dense_multiplies == 6 * 18 * 20
    assert work.multiplies == work.b.nnz * 2  # two outputs share the inputs of a group
    refused(lambda: layer_workload(layer, batch=0), "batch", kind=ConfigError)
    refused(lambda: layer_workload(conv()), "conv", "--input")


def test_linear_layer_has_a_column_a_sample():
    work = layer_workload(Layer("fc", np.eye(4)), batch=3)
    assert (work.n, work.b_unique_elements) == (3, None)


def test_network_workloads():
    network = Network(
        "net", (conv(input_size=(5, 5)), Layer("fc", np.eye(4)), Layer("smtx", Csr.from_dense(np.eye(3))))
    )
    plain = network_workloads(network, batch=2)
    assert [work.n for work in plain] == [50, 2, 2]
    assert {work.name for work in plain} == {"net"}
    assert [work.layer for work in plain] == ["conv", "fc", "smtx"]
    assert {work.dtype for work in plain} == {DataType.FP16}
    wide = network_workloads(network, columns=7, dtype="int8")
    assert [work.n for work in wide] == [25, 7, 7]
    assert {work.dtype for work in wide} == {DataType.INT8}


def test_network_workloads_keep_groups_when_columns_stand_in_for_the_input():
    grouped = Layer("dw", np.ones((6, 1, 3, 3)), groups=6)
    (work,) = network_workloads(Network("net", (grouped,)), columns=7)
    assert (work.groups, work.m, work.k, work.n) == (6, 6, 9, 7)


# --- machines --------------------------------------------------------------------------------------------------------


def test_overrides_by_name_only():
    assert simulate(SMALL, overrides={"prefetch.lines": 7})["machine.config.prefetch.lines"] == 7
    built = machine("sparch", {"prefetch.lines": 7})
    assert simulate(SMALL, on=built)["machine.config.prefetch.lines"] == 7
    refused(lambda: simulate(SMALL, on=built, overrides={"prefetch.lines": 8}), "sparch", kind=ConfigError)
    refused(lambda: simulate(SMALL, on="sparc"), "sparch", kind=ConfigError)
    refused(lambda: simulate(SMALL, overrides={"prefetch.line": 8}), "prefetch.lines", kind=ConfigError)
    refused(lambda: simulate(SMALL, energy="nothing"), "horowitz_45nm", kind=ConfigError)


def test_a_workload_hash_sees_what_costs():
    base = product(SMALL)
    assert product(SMALL * 2).sha256 == base.sha256
    assert product(SMALL, dtype="fp32").sha256 != base.sha256
    assert product(SMALL, SMALL.T.tocsr()).sha256 != base.sha256
    assert run(base, "sparch")["provenance.workload_sha256"] == base.sha256


def test_im2col_bytes_stand_apart():
    layer = Layer("conv", np.ones((4, 3, 3, 3)), padding=(1, 1), stride=(1, 1), dilation=(1, 1), input_size=(5, 6))
    details = simulate(layer, on="dense", batch=2)["details"]
    assert details["im2col_bytes"] == {"unique": 2 * 3 * 5 * 6 * 2, "expanded": 27 * 2 * 5 * 6 * 2}


@pytest.mark.parametrize("options", [{"on": None}, {"on": 5}, {"on": ["sparch"]}, {"energy": 5}])
def test_what_is_no_name_is_unknown(options):
    with pytest.raises(ConfigError, match=r"no machine|no energy table"):
        simulate(np.eye(3), **options)


def test_networks_of_the_zoo_are_known_by_name():
    assert len(simulate_all("lenet5", on="dense")) == 4
    refused(lambda: simulate("lenet5"), "network of the zoo", "compare()", kind=WorkloadError)


def test_a_reason_does_not_repeat_what_binds():
    few = dict(simulate(gemm(4096, 4096, 1), on="a100").summary())["bound by"]
    assert few.startswith("DRAM: ")
    many = dict(simulate(gemm(8192, 8192, 8192), on="a100").summary())["time"]
    assert many.endswith(" TFLOP/s")
