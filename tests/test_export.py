import csv
import json
import math
import re
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import sparsim as ss
from sparsim.cli import main
from sparsim.errors import ConfigError, InputError, MissingExtra
from sparsim.export import formats, plain_rows, save_table
from sparsim.export.latex import latex_table

EXACT = (".csv", ".jsonl", ".json")
NEEDS = "needs sparsim[parquet]"


@pytest.fixture(scope="module")
def comparison():
    return ss.compare(
        "lenet300_100", on=["sparch", "a100-2:4"], granularity=["unstructured", "2:4"], sparsity=[0.9], progress=False
    )


@pytest.fixture(scope="module")
def report():
    return ss.simulate(ss.gemm(64, 64, 64, pattern="density:0.1"), on="sparch")


ODD = [
    {"count": 2**62 + 1, "share": 0.1 + 0.2, "word": 'a, "b"\nc', "list": ["x", 1, None], "flag": True, "mixed": 2},
    {"count": None, "share": math.nan, "word": "", "list": [], "flag": None, "mixed": "dtype"},
    {"share": 1e-300, "nested": {"one": 1, "two": {"three": 3}}},
]


def read(path):
    """Return the rows of a table as plain Python, gaps as None."""
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    if path.suffix == ".json":
        return json.loads(path.read_text("utf-8"))
    if path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as file:
            return [{key: _parsed(text) for key, text in row.items()} for row in csv.DictReader(file)]
    frame = pd.read_parquet(path)
    return [
        {key: None if isinstance(cell, float | type(pd.NA)) and pd.isna(cell) else cell for key, cell in row.items()}
        for row in frame.astype(object).to_dict("records")
    ]


def _parsed(text):
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"": None, "True": True, "False": False}.get(text, text)


def _same(found, row, lists_are_text):
    for key, cell in row.items():
        if isinstance(cell, list) and lists_are_text:
            assert json.loads(found[key]) == cell, key
        elif cell in (None, ""):
            assert found.get(key) in (None, ""), key
        else:
            assert (found[key], type(found[key])) == (cell, type(cell)), key


@pytest.mark.parametrize("suffix", EXACT)
def test_every_figure_of_a_comparison_comes_back(comparison, tmp_path, suffix):
    path = ss.save_table(comparison, tmp_path / f"table{suffix}")
    rows = plain_rows(comparison)
    found = read(path)
    assert len(found) == len(rows) == len(comparison.rows)
    for back, row in zip(found, rows, strict=True):
        _same(back, row, lists_are_text=suffix == ".csv")


@pytest.mark.extra
def test_parquet_keeps_figures_types_and_gaps(comparison, tmp_path):
    pytest.importorskip("pyarrow", reason=NEEDS)
    path = save_table(comparison, tmp_path / "table.parquet")
    for back, row in zip(read(path), plain_rows(comparison), strict=True):
        _same(back, row, lists_are_text=True)
    types = pd.read_parquet(path).dtypes
    some = [row.get("details.merge_rounds") for row in comparison.rows]
    assert None in some
    assert max(filter(None, some)) >= 1
    assert types["details.merge_rounds"] == "Int64"
    assert types["workload.multiplies"] == "int64"
    assert types["time_s"] == "float64"


@pytest.mark.extra
def test_parquet_holds_what_no_column_type_holds_as_text(tmp_path):
    pytest.importorskip("pyarrow", reason=NEEDS)
    first, second, third = read(save_table([*ODD[:2], {"count": 2**80}], tmp_path / "odd.parquet"))
    assert (first["count"], third["count"]) == (str(2**62 + 1), str(2**80))
    assert (first["mixed"], second["mixed"], third["mixed"]) == ("2", "dtype", None)
    assert json.loads(first["list"]) == ["x", 1, None]
    assert (first["flag"], second["flag"]) == (True, None)


def test_a_json_row_has_null_for_nan_and_lacks_what_it_lacked(tmp_path):
    first, second, third = read(save_table(ODD, tmp_path / "odd.jsonl"))
    assert first == ODD[0]
    assert second["share"] is None
    assert second["list"] == []
    assert third == {"share": 1e-300, "nested.one": 1, "nested.two.three": 3}


def test_pandas_reads_the_same_figures_from_csv(tmp_path):
    path = save_table(ODD, tmp_path / "odd.csv")
    frame = pd.read_csv(path, engine="python", dtype={"count": "Int64"})
    assert frame["count"][0] == 2**62 + 1
    assert frame["share"].tolist()[::2] == [0.1 + 0.2, 1e-300]
    assert frame["word"][0] == 'a, "b"\nc'
    assert frame["mixed"].tolist()[:2] == ["2", "dtype"]


def test_a_frame_writes_what_its_comparison_writes(comparison, tmp_path):
    one = read(save_table(comparison, tmp_path / "one.jsonl"))
    two = read(save_table(comparison.to_frame(), tmp_path / "two.jsonl"))
    assert any(None in row.values() for row in two)
    for row, other in zip(one, two, strict=True):
        assert {key: cell for key, cell in other.items() if cell is not None} == {
            key: cell for key, cell in row.items() if cell is not None
        }


def test_counts_that_pandas_made_floats_are_whole_again():
    frame = pd.DataFrame([{"lines": 64, "share": 0.5}, {"machine": "dense", "share": None}])
    assert frame["lines"].dtype == "float64"
    rows = plain_rows(frame)
    assert [type(row["lines"]) for row in rows] == [int, type(None)]
    assert rows[0]["share"] == 0.5
    assert type(plain_rows(pd.DataFrame({"share": [1.0, 2.0]}))[0]["share"]) is float


def test_an_index_with_a_name_and_headings_of_two_levels_become_columns(comparison):
    rows = plain_rows(comparison.table())
    assert {"network", "granularity", "sparch speedup", "a100-2:4 energy_ratio"} <= rows[0].keys()
    assert len(rows) == 3


class Framed:
    def to_frame(self):
        return pd.DataFrame({"paper": ["sparch"], "error": [None]})


def test_reports_and_what_makes_a_frame_are_tables_too(report, tmp_path):
    one, two = read(save_table([report, report], tmp_path / "reports.jsonl"))
    assert one == two == plain_rows(report)[0]
    assert one["details.layer_elements"] == report["details.layer_elements"]
    assert one["details.notes"] == []
    assert plain_rows(Framed()) == [{"paper": "sparch", "error": None}]


def test_columns_choose_and_order(comparison, tmp_path):
    chosen = ["speedup", "machine.name", "layer"]
    lines = save_table(comparison, tmp_path / "few.csv", columns=chosen).read_text("utf-8").splitlines()
    assert lines[0] == "speedup,machine.name,layer"
    with pytest.raises(ConfigError, match=r"columns: no column 'speedups'; did you mean 'speedup'\?"):
        save_table(comparison, tmp_path / "few.csv", columns=["speedups"])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("table.xlsx", r"'.*table\.xlsx' names no format; allowed: a file that ends in \.csv, \.parquet"),
        ("table", "names no format"),
        ("no/such/table.csv", "cannot be written; allowed: a file in a folder that exists"),
        ("folder.csv", "cannot be written"),
    ],
    ids=["suffix", "no_suffix", "no_folder", "is_a_folder"],
)
def test_a_path_that_cannot_be_is_named_before_anything_is_written(report, tmp_path, name, said):
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ConfigError, match=said):
        save_table(report, tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["folder.csv"]


@pytest.mark.parametrize(
    ("result", "error", "said"),
    [
        (3, ConfigError, "a int is no table"),
        ([], ConfigError, "no rows"),
        ([{}], ConfigError, "no rows"),
        ([{"x": 1}, {"x": math.inf}], InputError, "row 1, column 'x': an infinite figure"),
        ([{"x": object()}], InputError, "row 0, column 'x': a object is no cell"),
        (pd.DataFrame([[1, 2]], columns=["x", "x"]), InputError, "two columns are called 'x'"),
    ],
    ids=["number", "no_row", "empty_row", "infinite", "object", "double"],
)
def test_what_is_no_table_is_refused(tmp_path, result, error, said):
    with pytest.raises(error, match=said):
        save_table(result, tmp_path / "table.csv")
    assert not list(tmp_path.iterdir())


def test_without_pyarrow_the_extra_is_named(report, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"sparsim\[parquet\]"):
        save_table(report, tmp_path / "table.parquet")


def test_a_crash_leaves_the_old_file_and_no_part_of_the_new(report, tmp_path, monkeypatch):
    path = tmp_path / "table.csv"
    path.write_text("old")

    def breaks(cell):
        if isinstance(cell, float):
            raise KeyboardInterrupt
        return cell

    monkeypatch.setattr(formats, "_text", breaks)
    with pytest.raises(KeyboardInterrupt):
        save_table(report, path)
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("table.csv", "old")]


def test_numpy_cells_are_plain(tmp_path):
    cells = {"count": np.int64(3), "share": np.float32(0.5), "list": np.arange(2), "flag": np.bool_(True)}
    (row,) = read(save_table(cells, tmp_path / "cells.jsonl"))
    assert row == {"count": 3, "share": 0.5, "list": [0, 1], "flag": True}


def _cells(text):
    """Return the cells of a tabular and check that every line fills it."""
    layout = re.search(r"\\begin{tabular}{([lr]+)}", text)[1]
    lines = [line.removesuffix(r" \\") for line in text.splitlines() if line.endswith(r"\\")]
    cells = [re.split(r"(?<!\\) & ", line) for line in lines if "multicolumn" not in line]
    assert {len(row) for row in cells} == {len(layout)}
    for row in lines:
        if "multicolumn" in row:
            spans = [int(each) for each in re.findall(r"multicolumn{(\d+)}", row)]
            assert sum(spans) + row.count(" & ") + 1 - len(spans) == len(layout)
    return cells


@pytest.mark.parametrize("as_frame", [False, True], ids=["comparison", "frame"])
def test_latex_of_a_comparison_is_the_small_table(comparison, as_frame):
    text = latex_table(plain_rows(comparison.to_frame() if as_frame else comparison))
    head, *rows = _cells(text)
    both = [r"speed-up [$\times$]", r"energy [$\times$]"]
    assert head == ["pattern", r"zeros [\%]", r"accuracy [\%]", *both, *both]
    assert r"\multicolumn{2}{c}{sparch} & \multicolumn{2}{c}{a100-2:4}" in text
    row = next(r for r in comparison.totals if (r["granularity"], r["machine.name"]) == ("2:4", "sparch"))
    shown = next(each for each in rows if each[0] == "2:4")
    assert float(shown[3]) == pytest.approx(row["speedup"], rel=5e-3)
    assert float(shown[4]) == pytest.approx(row["energy_ratio"], rel=5e-3)
    assert float(shown[2]) == pytest.approx(100 * row["accuracy"], abs=0.005)


def test_latex_of_a_sweep_has_what_varies_and_what_it_costs(tmp_path):
    frame = ss.sweep(
        "lenet300_100",
        on=["sparch", "dense"],
        fields={"prefetch.lines": [64, 1024]},
        store=":memory:",
        jobs=1,
        progress=False,
    )
    head, *rows = _cells(save_table(frame, tmp_path / "sweep.tex").read_text("utf-8"))
    assert head[:2] == ["machine", "prefetch.lines"]
    assert [each.partition(" [")[0] for each in head[2:]] == ["time", "energy", "DRAM", "speed-up"]
    assert head[2].endswith("s]")
    assert head[3].endswith("J]")
    assert ["sparch", "1,024"] in [row[:2] for row in rows]
    unit = {r"$\mu$s": 1e-6, "ms": 1e-3, "ns": 1e-9}[head[2][6:-1]]
    assert [float(row[2]) * unit for row in rows] == pytest.approx(frame["time_s"].tolist(), rel=5e-3)


def test_latex_escapes_what_it_would_take_for_its_own():
    nasty = '50% & $x_1 #{\\} ~^ <|> "q" × → é\nline'
    text = latex_table([{"a_b": nasty, "time_s": 1.25e-7, "workload.multiplies": 12345, "x": None}], ["a_b", "x"])
    head, row = _cells(text)
    assert head == [r"a\_b", "x"]
    assert row[0].startswith(r"50\% \& \$x\_1 \#\{\textbackslash{}\} \textasciitilde{}\textasciicircum{}")
    assert row[1] == "--"
    plain = _cells(latex_table([{"time_s": 1.25e-7, "workload.multiplies": 12345}], ["time_s", "workload.multiplies"]))
    assert plain == [["time\\_s [s]", "workload.multiplies [operations]"], [r"$1.250 \times 10^{-7}$", "12,345"]]


def test_latex_compiles(comparison, report, tmp_path):
    if shutil.which("pdflatex") is None:
        pytest.skip("needs pdflatex")
    save_table(comparison, tmp_path / "one.tex")
    save_table([report], tmp_path / "two.tex")
    save_table([{"x_y": '50% & $_#{\\}~^<|>"× → − · µ …'}], tmp_path / "three.tex")
    tables = "\n\n".join(f"\\input{{{name}}}" for name in ("one", "two", "three"))
    head = r"\documentclass{article}\usepackage{booktabs}\begin{document}"
    (tmp_path / "all.tex").write_text(f"{head}{tables}\\end{{document}}")
    words = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    run = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, errors="replace", check=False)
    assert run.returncode == 0, run.stdout[-2000:]


def _run(monkeypatch, capsys, *words):
    monkeypatch.setattr(sys, "argv", ["sparsim", *map(str, words)])
    code = 0
    try:
        main()
    except SystemExit as stop:
        code = stop.code or 0
    return code, *capsys.readouterr()


def test_the_command_line_writes_several_files_beside_its_report(monkeypatch, capsys, tmp_path):
    line, table = tmp_path / "rows.jsonl", tmp_path / "rows.tex"
    words = ("simulate", "--gemm", "64,64,64", "--pattern", "density:0.1", "--out", line, "--out", table)
    code, out, _ = _run(monkeypatch, capsys, *words)
    assert code == 0
    assert "bound by" in out
    assert read(line)[0]["workload.multiplies"] == 25920
    assert r"\toprule" in table.read_text()


def test_compare_writes_the_rows_it_would_print(monkeypatch, capsys, tmp_path):
    path = tmp_path / "rows.csv"
    words = ("compare", "lenet300_100", "--granularity", "2:4", "--on", "sparch", "--csv", "--out", path)
    code, out, _ = _run(monkeypatch, capsys, *words)
    assert code == 0
    assert path.read_bytes().decode() == out.replace("\r\n", "\n").replace("\n", "\r\n")


def test_the_command_line_checks_the_file_before_the_run(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys.modules["sparsim.compare"], "compare", lambda *_, **__: pytest.fail("ran"))
    code, out, err = _run(monkeypatch, capsys, "compare", "lenet5", "--out", tmp_path / "no" / "rows.csv")
    assert (code, out) == (2, "")
    assert err.startswith("sparsim: --out: ") or "--out: '" in err
    assert err.count("\n") == 1


def test_the_command_line_does_not_write_over_its_input(monkeypatch, capsys, tmp_path):
    source = tmp_path / "net.csv"
    source.write_text("1,2\n")
    code, _, err = _run(monkeypatch, capsys, "compare", source, "--out", source)
    assert code == 2
    assert "is the network itself" in err
    assert source.read_text() == "1,2\n"
