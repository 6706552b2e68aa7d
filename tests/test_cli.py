import csv
import io
import json
import sys

import numpy as np
import pytest
import scipy.io
import scipy.sparse as sp

from sparsim.cli import main


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(3)
    square = sp.random_array((40, 40), density=0.1, rng=rng, format="coo")
    scipy.io.mmwrite(tmp_path / "A.mtx", square)
    sp.save_npz(tmp_path / "W.npz", sp.random_array((24, 32), density=0.3, rng=rng, format="csr"))
    sp.save_npz(tmp_path / "X.npz", sp.random_array((32, 10), density=0.5, rng=rng, format="csr"))
    (tmp_path / "W.smtx").write_text("3, 4, 5\n0 2 3 5\n0 2 1 0 3\n")
    np.savez(
        tmp_path / "net.npz", **{"conv.weight": rng.normal(size=(4, 3, 3, 3)), "fc.weight": rng.normal(size=(8, 16))}
    )
    return tmp_path


def test_product_of_a_matrix_with_itself(sparsim, files):
    code, out, err = sparsim("simulate", files / "A.mtx", "--on", "sparch", "--json")
    data = json.loads(out)
    pattern = scipy.io.mmread(files / "A.mtx", spmatrix=False).tocsr()
    pattern.data[:] = 1
    assert (code, err) == (0, "")
    assert data["workload"]["nnz_c"] == (pattern @ pattern).nnz
    assert data["workload"]["dtype"] == "fp64"
    assert data["machine"]["name"] == "sparch"


def test_weights_times_dense_columns(sparsim, files):
    code, out, _ = sparsim("simulate", files / "W.smtx", "--on", "sparch", "--columns", 196, "--json")
    work = json.loads(out)["workload"]
    assert code == 0
    assert (work["m"], work["k"], work["n"], work["multiplies"], work["nnz_c"]) == (3, 4, 196, 5 * 196, 3 * 196)


def test_two_files_on_a_dense_machine(sparsim, files):
    code, out, _ = sparsim("simulate", files / "W.npz", files / "X.npz", "--on", "dense", "--json")
    work = json.loads(out)["workload"]
    assert code == 0
    assert (work["m"], work["k"], work["n"]) == (24, 32, 10)


def test_shape_without_a_file(sparsim):
    words = ("simulate", "--gemm", "768,768,4096", "--pattern", "2:4", "--on", "a100-2:4", "--json")
    code, out, _ = sparsim(*words)
    data = json.loads(out)
    assert code == 0
    assert data["workload"]["nnz_a"] * 2 == 768 * 768
    assert data["details"]["accelerated"]


def test_a_network_file_gives_a_list(sparsim, files):
    words = ("simulate", files / "net.npz", "--input", "3x8x8", "--batch", 2, "--on", "dense", "--json")
    code, out, _ = sparsim(*words)
    assert code == 0
    assert [report["workload"]["layer"] for report in json.loads(out)] == ["conv", "fc"]


def test_fields_can_be_set(sparsim, files):
    words = ("simulate", files / "A.mtx", "--json", "--set", "prefetch.lines=8", "--set", "condense=false")
    _, out, _ = sparsim(*words)
    config = json.loads(out)["machine"]["config"]
    assert config["prefetch"]["lines"] == 8
    assert config["condense"] is False


def test_tables_for_people(sparsim, files):
    code, out, _ = sparsim("simulate", files / "A.mtx")
    assert code == 0
    assert "bound by" in out
    code, out, _ = sparsim("inspect", files / "net.npz")
    assert code == 0
    assert "4x3x3x3" in out
    code, out, _ = sparsim("machines")
    assert code == 0
    assert "a100-2:4" in out
    code, out, _ = sparsim("machines", "sparch")
    assert code == 0
    assert "prefetch.look_ahead" in out
    assert "recalled" in out


def test_compare_prints_rows_as_csv_json_and_words(sparsim, files):
    words = ("compare", files / "net.npz", "--input", "3x8x8", "--granularity", "2:4", "--on", "dense,a100-2:4")
    code, out, _ = sparsim(*words)
    assert code == 0
    assert "covers 2 layers" in out
    _, out, _ = sparsim(*words, "--csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert {"layer", "granularity", "speedup"} <= rows[0].keys()
    _, out, _ = sparsim(*words, "--json", "--html", files / "page.html")
    assert len(json.loads(out)) == len(rows)
    assert (files / "page.html").read_text().startswith("<!")


def test_inspect_and_machines_as_json(sparsim, files):
    found = json.loads(sparsim("inspect", files / "W.smtx", "--json")[1])
    assert found["layers"][0]["nnz"] == 5
    constants = json.loads(sparsim("machines", "a100-2:4", "--json")[1])["constants"]
    assert constants["dram.technology"]["value"] == "hbm2"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("simulate {}/none.mtx", "no such file"),
        ("simulate {}/A.foo", "suffix"),
        ("simulate {}/A.mtx --on sparhc", "did you mean 'sparch'"),
        ("simulate {}/A.mtx --set prefetch.line=3", "did you mean 'prefetch.lines'"),
        ("simulate {}/A.mtx --set prefetch.lines=-3", "prefetch.lines"),
        ("simulate {}/A.mtx --set prefetch.lines", "FIELD=VALUE"),
        ("simulate {}/A.mtx --columns -3", "--columns"),
        ("simulate {}/A.mtx --columns 3 --activation-density 1.5", "0 to 1"),
        ("simulate {}/W.npz", "not square"),
        ("simulate {}/W.npz {}/W.npz", "columns of A must equal rows of B"),
        ("simulate --gemm 1,2", "3 whole numbers"),
        ("simulate --gemm 0,2,3", "M: 0"),
        ("simulate --gemm 8,8,8 --pattern 5:4", "5 of every 4"),
        ("simulate --gemm 8,8,8 --dtype fp7", "fp16"),
        ("simulate --gemm 8,8,8 --energy horowits", "did you mean"),
        ("simulate", "a file, or --gemm"),
        ("simulate {}/net.npz", "--input"),
        ("compare {}/net.npz --input 3x8x8 --granularity 5:4", "1 <= N <= M"),
        ("compare {}/net.npz --input 3x8x8 --granularity unstructured --sparsity 1.5", "0 <= sparsity < 1"),
        ("compare {}/net.npz --input 3x8x8 --granularity unstructured --sparsity half", "no number"),
        ("compare {}/net.npz --input 3by8", "CxHxW"),
        ("compare {}/net.npz --input 5x8x8", "channels"),
        ("compare {}/net.npz --input 3x8x8 --batch 0", "batch"),
        ("compare {}/net.npz --input 3x8x8 --baseline nobody", "no machine"),
        ("compare {}/net.npz --input 3x8x8 --sparsity 0.5", "granularity"),
        ("compare {}/net.npz --input 3x8x8 --on ,", "--on"),
        ("compare {}/net.npz --input 3x8x8 --html {}/none/page.html", "--html"),
        ("compare {}/net.npz --input 3x8x8 --json --csv", "--csv"),
        ("compare {}/net.npz --input ³x8x8", "CxHxW"),
        ("compare {}/net.npz --input 3x8", "--input CxHxW"),
        ("compare {}/net.npz --threads 0", "--threads"),
        ("simulate {}/A.mtx --columns abc", "--columns"),
        ("simulate {}/A.mtx --batch 4", "--batch"),
        ("simulate --gemm 8,8,8 --batch 4", "--batch"),
        ("simulate --gemm 8,8,8 --activation-density 0.5", "--activation-density"),
        ("simulate --gemm 9999999999,8,8 --on dense", "from 1 to"),
        ("simulate --gemm 1000000000,1000000000,8 --pattern density:0.5", "more than"),
        ("simulate {}/net.npz --input 3x8x8 --activation-density 0.5", "--activation-density"),
        ("simulate {}/A.mtx --set dram.latency_ns=inf", "dram.latency_ns"),
        ("simulate {}/A.mtx --set prefetch.lines=true", "prefetch.lines"),
        ("simulate {}/A.mtx --set element.value_bytes=-1", "element.value_bytes"),
        ("simulat {}/A.mtx", "simulat"),
        ("demo --out {}/A.mtx", "--out"),
        ("inspect {}/A.foo", "suffix"),
        ("machines sparhc", "did you mean 'sparch'"),
    ],
)
def test_bad_input_gets_one_line_and_exit_code_2(sparsim, files, words, says):
    (files / "A.foo").write_text("?")
    code, out, err = sparsim(*words.format(files, files).split())
    assert code == 2
    assert out == ""
    lines = [line for line in err.splitlines() if not line.startswith("simulating")]
    assert len(lines) == 1, err
    assert lines[0].startswith("error: ")
    assert says in lines[0]


def test_version(sparsim):
    assert sparsim("--version")[:2] == (0, "sparsim 0.1.0\n")


def test_prune_writes_what_the_next_tool_reads(sparsim, files):
    code, out, err = sparsim("prune", files / "net.npz", "-o", files / "out.safetensors", "--sparsity", 0.75)
    assert (code, err) == (0, "")
    assert "59 of 236 weights are not zero (75.0% zeros)" in " ".join(out.split())
    code, out, _ = sparsim("inspect", files / "out.safetensors", "--json")
    assert json.loads(out)["nnz"] == 59


def test_prune_takes_scores_and_shares_from_outside(sparsim, files):
    np.savez(files / "norms.npz", conv=np.ones(3), fc=np.array([1.0] * 4 + [0.0] * 12))
    words = ["--criterion", "wanda", "--saliency", files / "norms.npz", "--allocation", "fc=0.75"]
    assert sparsim("prune", files / "net.npz", "-o", files / "out.npz", *words)[0] == 0
    found = json.loads(sparsim("inspect", files / "out.npz", "--json")[1])
    assert [layer["nnz"] for layer in found["layers"]] == [108, 32]
    assert "in_channel" in {pattern["pattern"] for pattern in found["layers"][1]["patterns"]}


def test_prune_carries_on_when_asked(sparsim, files):
    np.savez(files / "chain.npz", **{"a.weight": np.ones((4, 4)), "b.weight": np.ones((4, 4))})
    words = ["--granularity", "out_channel", "--sparsity", 0.5, "--propagate", "chain"]
    _, out, _ = sparsim("prune", files / "chain.npz", "-o", files / "out.npz", *words)
    said = " ".join(out.split())
    assert "12 of 32 weights" in said
    assert "4 more went because other layers no longer need or feed them" in said


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("prune {}/net.npz -o {}/net.npz --sparsity 0.5", "is the network itself; allowed: another file"),
        ("prune {}/net.npz -o {}/none/net.npz --sparsity 0.5", "cannot be written"),
        ("prune {}/net.npz -o {}/net.onnx --sparsity 0.5", "no graph to write"),
        ("prune {}/net.npz -o {}/net.txt --sparsity 0.5", "cannot write '.txt'"),
        ("prune {}/net.npz -o {}/out.npz", "exactly one of the three"),
        ("prune {}/net.npz -o {}/out.npz --sparsity 0.5 --criterion wanda", "--saliency FILE"),
        ("prune {}/net.npz -o {}/out.npz --sparsity 0.5 --skip fcc", "did you mean 'fc'"),
        ("prune {}/net.npz -o {}/out.npz --allocation fc=x", "'x' is no number"),
        ("compare {}/net.npz --weights published", "goes with a network of the zoo"),
        ("compare lenet5 --weights publishd", "did you mean 'published'"),
        ("compare lenet5 --other-bytes AUTO --on dense", "bytes per sample, 0 or more, or auto"),
        ("compare lenet5 --lora 99 --on dense", "larger than a side of layer"),
    ],
)
def test_bad_pruning_gets_one_line_and_exit_code_2(sparsim, files, words, says):
    before = (files / "net.npz").read_bytes()
    code, out, err = sparsim(*words.replace("{}", str(files)).split())
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert says in err
    assert (files / "net.npz").read_bytes() == before
    assert not list(files.glob("*.part"))


def test_interrupted_is_told_and_exit_code_one(monkeypatch, capsys):
    """Ctrl-C before a verb can say what it keeps: typer alone ends with 130 and no word."""

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("sparsim.machines.preset_names", interrupted)
    monkeypatch.setattr(sys, "argv", ["sparsim", "machines"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert capsys.readouterr().err.strip() == "error: interrupted"
