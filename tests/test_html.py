import re
from html.parser import HTMLParser

import numpy as np
import pytest

from sparsim import __version__
from sparsim.compare import Comparison, compare
from sparsim.errors import ConfigError
from sparsim.html import write_html
from sparsim.network import Layer, Network

MACHINES = ["sparch", "dense", "a100", "a100-2:4"]
EVIL = "</table><script>alert('x')</script>&\"$\\frac$"
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
    assert all(link.startswith("data:image/png;base64,") for link in links)
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.tags}
    assert not re.search(r"@import|url\(", source)


def test_names_from_files_are_escaped(source, page):
    assert "<script" not in source
    assert "<i>more" not in source
    assert EVIL in page.text
    assert "What <pays>?" in page.text
    assert "tiny <b>net</b>" in page.text


def test_verdict_coverage_notes_assumptions_and_version_are_told(comparison, page):
    for sentence in comparison.verdict:
        assert " ".join(sentence.split()) in page.text
    assert comparison.coverage in page.text
    for words in (*comparison.notes, *(text for texts in comparison.assumed.values() for text in texts)):
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
    assert all([row[0] for row in table[1:]] == ["fc1", EVIL, "total"] for table in tables)


def test_cells_are_green_above_one_and_red_below(page):
    from sparsim.html import _shade

    assert _shade(2).startswith("rgba(0, 158, 115")
    assert _shade(0.5).startswith("rgba(213, 94, 0")
    assert _shade(1).endswith(" 0.00)")
    assert _shade(float("nan")) == "none"
    styles = [attrs["style"] for tag, attrs in page.tags if tag == "td" and "style" in attrs]
    assert len(styles) == 2 * 8 * len(MACHINES) * (1 + 3)


def test_accuracy_has_a_column_and_pictures_where_it_was_measured(comparison, page, tmp_path):
    rows = [{**row, "accuracy": 0.98765 if row["granularity"] == "2:4" else None} for row in comparison.rows]
    one = Comparison(rows, comparison.verdict, comparison.coverage)
    measured = Page(write_html(one, tmp_path / "report.html").read_text("utf-8"))
    table = next(table for table in measured.tables if table[0][0] == "variant")
    assert [row[-2] for row in table] == ["accuracy", *["–"] * 3, "98.77 %", *["–"] * 4]
    assert "No accuracy was measured" in page.text
    assert "No accuracy was measured" not in measured.text
    pictures = [sum(tag == "img" for tag, _ in found.tags) for found in (page, measured)]
    assert pictures == [1 + 2 * (1 + 2 * len(MACHINES)), 1 + 2 * (1 + 3 * len(MACHINES))]


def test_each_chapter_shows_the_memory_footprint(page):
    assert page.text.count("Memory footprint") == 1
    assert [attrs["alt"] for tag, attrs in page.tags if tag == "img" and "weights" in attrs["alt"]] == [
        "bytes of all weights of every variant, values and indices"
    ]


def test_several_comparisons_become_chapters(comparison, tmp_path):
    small = Comparison([row for row in comparison.rows if row["batch"] == 1], (), "all", (), {})
    found = Page(write_html([small, small], str(tmp_path / "report.html")).read_text("utf-8"))
    assert sum(tag == "h2" for tag, _ in found.tags) == 3


def test_report_of_nothing_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="at least one comparison"):
        write_html([], tmp_path / "report.html")


def test_every_energy_table_stands_on_the_page(tmp_path, page):
    network = Network("tiny", (Layer("fc", np.random.default_rng(0).normal(size=(16, 16))),))
    asked = compare(network, on=["sparch", "dense"], granularity=["2:4"], energy="all", progress=False)
    text = Page(write_html(asked, tmp_path / "all.html").read_text("utf-8")).text
    assert "han_45nm" in text
    assert all(sentence in text for sentence in asked.sensitivity.sentences)
    assert "Does the energy depend on the table?" not in page.text
