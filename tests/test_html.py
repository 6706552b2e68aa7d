import re
from base64 import b64decode
from html.parser import HTMLParser
from importlib import resources
from io import BytesIO

import numpy as np
import pytest
from matplotlib.image import imread

from sparsim import __version__, html
from sparsim.compare import Comparison, compare
from sparsim.errors import ConfigError
from sparsim.html import write_html
from sparsim.machines import describe, machine
from sparsim.network import Layer, Network

MACHINES = ["sparch", "dense", "a100", "a100-2:4"]
EVIL = "</table><script>alert('x')</script>&\"$\\frac$"
DRAWN = html._picture
VOID = {"meta", "img", "br", "link", "hr", "input"}


class Page(HTMLParser):
    """Collects tags and text, and insists that what was opened is closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.words, self.tables = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)
        if self.open and {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def draw(what, *_):
    """Stand in for a picture, which takes long to draw."""
    return what, "data:image/png;base64,", 9.0


@pytest.fixture
def pictures(monkeypatch):
    """Draw the pictures after all."""
    monkeypatch.setattr("sparsim.html._picture", DRAWN)


@pytest.fixture(scope="module", autouse=True)
def _no_pictures():
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("sparsim.html._picture", draw)
        yield


@pytest.fixture(scope="module")
def comparison():
    rng = np.random.default_rng(0)
    conv = Layer(EVIL, rng.normal(size=(8, 4, 3, 3)), padding=(1, 1), input_size=(6, 6))
    return compare(
        Network("tiny <b>net</b>", (Layer("fc1", rng.normal(size=(32, 64))), conv), notes=("a note & <i>more</i>",)),
        batch=[1, 4],
        granularity=["unstructured", "2:4", "block:4x4", "out_channel"],
        sparsity=[0.5, 0.75],
        on=MACHINES,
        progress=False,
    )


@pytest.fixture(scope="module")
def source(comparison, tmp_path_factory):
    path = write_html([comparison], tmp_path_factory.mktemp("html") / "report.html", title="What <pays>?")
    return path.read_text("utf-8")


@pytest.fixture(scope="module")
def page(source):
    return Page(source)


def test_page_is_well_formed(source, page):
    assert source.startswith("<!DOCTYPE html>")
    assert page.open == []


def test_page_needs_nothing_from_outside(source, page):
    links = [value for _, attrs in page.tags for key, value in attrs.items() if key in ("src", "href")]
    assert links
    inner = {"#" + attrs["id"] for _, attrs in page.tags if "id" in attrs}
    assert all(link.startswith("data:image/png;base64,") or link in inner for link in links)
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.tags}
    assert not re.search(r"@import|url\(", source)


def test_names_from_files_are_escaped(source, page):
    assert "<script" not in source
    assert "<i>more" not in source
    assert EVIL in page.text
    assert "What <pays>?" in page.text
    assert "tiny <b>net</b>" in page.text


def test_verdict_coverage_notes_and_version_are_told(comparison, page):
    for sentence in comparison.verdict:
        assert " ".join(sentence.split()) in page.text
    assert comparison.coverage in page.text
    for words in comparison.notes:
        assert " ".join(words.split()) in page.text
    assert __version__ in page.text
    assert "dense twin" in page.text


@pytest.mark.parametrize("number", [0, 1])
def test_summary_has_a_row_for_each_variant_and_a_column_for_each_machine(comparison, page, number):
    summaries = [table for table in page.tables if table[0][0] == "variant"]
    assert len(summaries) == 2
    head, *rows = summaries[number]
    assert head[1:-1] == [f"{m}against {b}" for m, b in zip(MACHINES, ["dense", "dense", "a100", "a100"], strict=True)]
    names = ["dense", "unstructured at 50 %", "unstructured at 75 %", "2:4", "block:4x4 at 50 %", "block:4x4 at 75 %"]
    assert [row[0] for row in rows] == [*names, "out_channel at 50 %", "out_channel at 75 %"]
    totals = [row for row in comparison.totals if row["batch"] == (1, 4)[number]]
    cells = [cell for row in rows for cell in row[1:-1]]
    assert [cell.split("×")[0] for cell in cells] == [f"{row['speedup']:.2f}" for row in totals]


def test_drill_down_has_every_layer_of_every_variant_on_every_machine(page):
    tables = [table for table in page.tables if table[0][0] == "layer"]
    assert len(tables) == 2 * 8 * len(MACHINES)
    names = [[row[0].removesuffix("slowest") for row in table[1:]] for table in tables]
    assert all(name == ["fc1", EVIL, "total"] for name in names)


def test_drill_down_marks_the_slowest_layer_and_gives_shares_of_the_time(comparison, page):
    tables = iter([table for table in page.tables if table[0][0] == "layer"])
    layers = [row for row in comparison.rows if row["layer"] != "total"]
    for total in sorted(comparison.totals, key=lambda row: row["batch"]):
        key = ("batch", "granularity", "sparsity", "machine.name")
        mine = [row for row in layers if all(row[each] == total[each] for each in key)]
        _, *shown, _ = next(tables)
        times = [row["time_s"] for row in mine]
        assert [row[0].endswith("slowest") for row in shown] == [time == max(times) for time in times]
        assert [row[2].split("s", 1)[1] for row in shown] == [f"{100 * time / sum(times):.1f} %" for time in times]


def test_sources_stand_last_with_every_constant_and_what_it_rests_on(comparison, source, page):
    sections = [attrs["id"] for tag, attrs in page.tags if tag == "section"]
    assert sections == ["network-1", "words", "sources"]
    tables = [table for table in page.tables if table[0][0] == "constant"]
    assert len(tables) == len(MACHINES) + 1
    for name, table in zip(MACHINES, tables[:-1], strict=True):
        shown = describe(machine(name))
        rows = {row[0]: row[1:] for row in table[1:]}
        for key, constant in shown["constants"].items():
            value, *rest = rows[key]
            assert rest == [constant["status"], constant["source"], constant["note"]]
            assert str(constant["value"]).lower().removesuffix(".0") in value.lower()
        for text in (shown["citation"], shown["models"], shown["not_modelled"]):
            assert " ".join(text.split()) in page.text
        for guess in comparison.assumed[name]:
            key, _, note = guess.partition(": ")
            assert rows[key][1:] == ["assumed", rows[key][2], note]
        statuses = [row[2] for row in table[1:]]
        order = ["assumed", "recalled", "derived", "measured", "published"]
        assert statuses == sorted(statuses, key=order.index)
    assert "1.1 pJ" in [row[1] for row in tables[-1] if row[0] == "multiply.fp16"]
    assert not [row for row in tables[-1] if row[0] == "multiply.int8"]


def test_every_source_named_is_resolved(page):
    named = {row[3].partition(",")[0] for table in page.tables if table[0][0] == "constant" for row in table[1:]}
    keys = {key for key in named if key not in ("none", "")}
    assert len(keys) > 5
    last = page.text[page.text.rindex("Sources") :]
    assert all(key in last for key in keys)
    assert "SpArch: Efficient Architecture for Sparse Matrix Multiplication. HPCA. arXiv:2002.08947. 2020." in last


def test_every_reference_is_readable():
    from sparsim.html_sources import _bibliography

    text = resources.files("sparsim.energy").joinpath("references.bib").read_text("utf-8")
    assert set(_bibliography()) == set(re.findall(r"^@\w+\{(\w+),", text, re.MULTILINE))
    assert all(not set("{}\\$") & set(entry["text"]) for entry in _bibliography().values())
    assert all(len(entry["text"]) > 8 for entry in _bibliography().values())


def test_cells_are_green_above_one_and_red_below(page):
    from sparsim.html import _shade

    assert _shade(2).startswith("rgba(0, 158, 115")
    assert _shade(0.5).startswith("rgba(213, 94, 0")
    assert _shade(1).endswith(" 0.00)")
    assert _shade(float("nan")) == "none"
    styles = [attrs["style"] for tag, attrs in page.tags if tag == "td" and "style" in attrs]
    assert sum(style.startswith("background") for style in styles) == 2 * 8 * len(MACHINES) * (1 + 3)


@pytest.fixture(scope="module")
def measured(comparison):
    """The first batch on two machines, as if somebody had measured 2:4."""
    rows = [row for row in comparison.rows if row["batch"] == 1 and row["machine.name"] in ("sparch", "a100")]
    rows = [{**row, "accuracy": 0.98765 if row["granularity"] == "2:4" else None} for row in rows]
    return Comparison(rows, comparison.verdict, comparison.coverage)


def alts(page):
    return [attrs["alt"] for tag, attrs in page.tags if tag == "img"]


def test_accuracy_has_a_column_and_pictures_where_it_was_measured(measured, page, tmp_path):
    found = Page(write_html(measured, tmp_path / "report.html").read_text("utf-8"))
    table = next(table for table in found.tables if table[0][0] == "variant")
    assert [row[-2] for row in table] == ["accuracy", *["–"] * 3, "98.77 %", *["–"] * 4]
    assert "No accuracy was measured" in page.text
    assert "No accuracy was measured" not in found.text
    assert [text for text in alts(found) if "accuracy" in text] == [
        "accuracy against speed-up on sparch",
        "accuracy against speed-up on a100",
    ]
    assert not [text for text in alts(page) if "accuracy" in text]


def test_pictures_are_small_and_whole(pictures, measured, tmp_path):
    found = Page(write_html(measured, tmp_path / "report.html").read_text("utf-8"))
    data = [b64decode(attrs["src"].partition(",")[2]) for tag, attrs in found.tags if tag == "img"]
    assert len(data) == len(alts(found)) == len(set(alts(found)))
    assert max(map(len, data)) < 60_000
    for each in data:
        image = imread(BytesIO(each))
        assert image.shape[1] == 9 * 140
        assert image.std() > 0.05
    assert "No picture of" not in found.text


def test_each_chapter_shows_the_memory_footprint(page):
    assert page.text.count("Memory footprint") == 1
    assert [attrs["alt"] for tag, attrs in page.tags if tag == "img" and "weights" in attrs["alt"]] == [
        "bytes of all weights of every variant, values and indices"
    ]


def test_several_comparisons_become_chapters_that_can_be_jumped_to(comparison, page, tmp_path):
    small = Comparison([row for row in comparison.rows if row["batch"] == 1], (), "all", (), {})
    found = Page(write_html([small, small], str(tmp_path / "report.html")).read_text("utf-8"))
    assert sum(tag == "h2" for tag, _ in found.tags) == 4
    links = [attrs["href"] for tag, attrs in found.tags if tag == "a"]
    assert links == ["#network-1", "#network-2", "#words", "#sources"]
    assert set(links) <= {"#" + attrs["id"] for _, attrs in found.tags if "id" in attrs}
    assert not [tag for tag, _ in page.tags if tag == "a"]


def test_one_variant_of_one_layer_makes_a_page(pictures, tmp_path):
    network = Network("one", (Layer("fc", np.random.default_rng(0).normal(size=(16, 16))),))
    found = Page(write_html(compare(network, on=["cpu"], progress=False), tmp_path / "one.html").read_text("utf-8"))
    assert [row[0] for row in next(table for table in found.tables if table[0][0] == "layer")] == [
        "layer",
        "fc",
        "total",
    ]
    assert "speed-up of every variant" not in str(found.tags)


def test_machine_of_ones_own_shows_its_assumptions(comparison, tmp_path):
    rows = [{**row, "machine.name": "mine"} for row in comparison.rows if row["machine.name"] == "sparch"]
    own = Comparison(rows, (), "all", (), {"mine": ["merge.layers: drawn from a hat"]})
    found = Page(write_html(own, tmp_path / "own.html").read_text("utf-8"))
    table = next(table for table in found.tables if table[0][0] == "constant")
    assert table[1] == ["merge.layers", "", "assumed", "none", "drawn from a hat"]
    assert "Not a machine that sparsim ships with" in found.text


def test_energy_of_a_measured_machine_is_neither_drawn_nor_written_as_nothing(comparison, tmp_path):
    unknown = {"energy_pj.total": 0.0, "energy_ratio": float("nan")}
    rest = [{key: row[key] for key in row if not key.startswith("energy_pj.")} for row in comparison.rows]
    rows = [
        {**others, **unknown} if row["machine.name"] == "a100" else row
        for row, others in zip(comparison.rows, rest, strict=True)
    ]
    found = Page(write_html(Comparison(rows, (), "all"), tmp_path / "report.html").read_text("utf-8"))
    assert "energy by component on sparch" in alts(found)
    assert "energy by component on a100" not in alts(found)
    assert "No picture of energy by component: not known for a measured machine." in found.text
    energies = [row[4] for table in found.tables if table[0][0] == "layer" for row in table[1:]]
    assert energies.count("–") == len(energies) / len(MACHINES)


def test_zeros_that_pruning_made_elsewhere_stand_behind_an_arrow(comparison, tmp_path):
    rows = [{**row, "propagated_sparsity": row["actual_sparsity"]} for row in comparison.rows]
    for row in rows:
        if row["granularity"] == "out_channel" and row["sparsity"] == 0.75:
            row |= {"actual_sparsity": 0.75, "propagated_sparsity": 0.9375}
    found = Page(write_html(Comparison(rows, (), "all"), tmp_path / "report.html").read_text("utf-8"))
    summary = next(table for table in found.tables if table[0][0] == "variant")
    assert [row[0] for row in summary if "→" in row[-1]] == ["out_channel at 75 %"]
    assert summary[-1][-1] == "75.0 %→ 93.8 %"


def test_a_picture_that_cannot_be_drawn_is_named_with_the_reason(monkeypatch, comparison, tmp_path):
    def picture(what, *rest):
        if what == "DRAM bytes by stream on sparch":
            raise ConfigError("no <roof>")
        return draw(what, *rest)

    monkeypatch.setattr("sparsim.html._picture", picture)
    found = Page(write_html(comparison, tmp_path / "report.html").read_text("utf-8"))
    assert found.text.count("No picture of DRAM bytes by stream: no <roof>.") == 2


def test_report_of_nothing_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="at least one comparison"):
        write_html([], tmp_path / "report.html")


def test_every_energy_table_stands_on_the_page(tmp_path, page):
    network = Network("tiny", (Layer("fc", np.random.default_rng(0).normal(size=(16, 16))),))
    asked = compare(network, on=["sparch", "dense"], granularity=["2:4"], energy="all", progress=False)
    found = Page(write_html(asked, tmp_path / "all.html").read_text("utf-8"))
    text = found.text
    tables = {row["energy_table"] for row in asked.sensitivity.rows}
    assert "han_45nm" in tables
    assert len([table for table in found.tables if table[0][0] == "constant"]) == 2 + len(tables)
    assert all(name in text for name in tables)
    assert all(sentence in text for sentence in asked.sensitivity.sentences)
    assert "Does the energy depend on the table?" not in page.text
