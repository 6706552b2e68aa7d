"""The files of published figures: every figure has a source that resolves, a certainty and a role."""

from __future__ import annotations

import csv
import re
from importlib import resources

import pytest
from checks import refused

from sparsim import datasets
from sparsim.fidelity import PAPERS
from sparsim.fidelity.record import CERTAINTIES, ROLES, Published, compare_with, parse_published, read_published
from sparsim.fidelity.sparch.roofline import intensities, read_counts

BIB = resources.files("sparsim.energy").joinpath("references.bib").read_text("utf-8")
KEYS = set(re.findall(r"^@\w+\{([^,]+),", BIB, re.MULTILINE))
CSV_PAPERS = [paper for paper in PAPERS if paper != "tensor_core"]
LINE = {
    "quantity": "time",
    "workload": "w",
    "value": "2",
    "unit": "s",
    "source": "zhang2020sparch, abstract",
    "certainty": "paper",
    "role": "shown",
    "note": "",
}


@pytest.mark.parametrize("paper", CSV_PAPERS)
def test_figures_are_well_formed(paper):
    figures = read_published(paper)
    assert figures
    for figure in figures:
        assert figure.source.partition(",")[0] in KEYS, figure
        assert figure.certainty in CERTAINTIES
        assert figure.role in ROLES
        assert figure.unit, figure
        assert figure.workload, figure
    names = [(figure.quantity, figure.workload) for figure in figures]
    assert len(set(names)) == len(names)


def test_what_is_asserted_says_how_closely():
    asserted = [figure for figure in read_published("sparch") if figure.role == "check"]
    assert asserted
    assert all(figure.tolerance is not None for figure in asserted)
    wide = [figure for figure in asserted if (figure.tolerance or 0) > 0.035]
    assert all(len(figure.note) > 60 for figure in wide)  # a wide tolerance gives its reason


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"certainty": ""}, ("certainty ''", "recalled", "row 7")),
        ({"certainty": "sure"}, ("certainty 'sure'",)),
        ({"certainty": None}, ("no certainty",)),
        ({"role": "maybe"}, ("role 'maybe'", "check")),
        ({"value": "many"}, ("value 'many'",)),
        ({"value": "nan"}, ("value 'nan'",)),
        ({"source": ""}, ("no source",)),
        ({"tolerance": "-1"}, ("tolerance '-1'",)),
        ({"tolerance": "5 %"}, ("tolerance '5 %'",)),
    ],
)
def test_a_line_without_its_facts_is_refused(change, words):
    assert parse_published(LINE, "x.csv", "row 7").value == 2
    refused(lambda: parse_published({**LINE, **change}, "x.csv", "row 7"), "x.csv", *words)


def test_verdicts_follow_role_and_tolerance():
    def verdict(role, modelled, tolerance=None, value=100.0):
        figure = Published("q", "w", value, "u", "zhang2020sparch", "paper", role, tolerance=tolerance)
        return compare_with("sparch", figure, modelled).verdict

    assert verdict("check", 104, 0.05) == verdict("check", 100, 0.0) == verdict("at_least", 100) == "ok"
    assert verdict("check", 106, 0.05) == verdict("check", 100, None) == verdict("at_least", 99) == "off"
    assert verdict("shown", 1) == verdict("calibrate", 1) == "shown"
    assert verdict("check", 0, 0.0, value=0) == "ok"
    assert verdict("check", 1, 0.5, value=0) == "off"
    assert verdict("at_most", 100) == "ok"
    assert verdict("at_most", 101) == "off"
    assert verdict("check", float("nan"), 0.5) == verdict("at_least", float("nan")) == "off"
    assert verdict("at_most", float("nan")) == "off"


def test_the_twenty_matrices():
    text = resources.files("sparsim.fidelity").joinpath("sparch", "matrices.csv").read_text("utf-8")
    lines = list(csv.DictReader(text.splitlines()))
    assert len(lines) == len(read_counts()) == len({line["matrix"] for line in lines}) == 20
    for line in lines:
        assert None not in line
        assert line["source"].partition(",")[0] in KEYS
        assert {line[f"{kind}_certainty"] for kind in ("size", "products", "nnz_c")} <= set(CERTAINTIES)
        assert int(line["nnz"]) <= int(line["products"])
        assert int(line["nnz_c"]) <= int(line["products"])
        known = datasets.facts(line["matrix"])
        told = tuple(int(line[key]) for key in ("rows", "nnz", "products", "nnz_c"))
        assert told == (known.rows, known.nnz, known.products, known.nnz_c)


def test_one_definition_gives_the_published_roofline():
    """23.9 GFLOP/s at 128 GB/s; half a percent is what three digits of 23.9 leave."""
    near = [key for key, value in intensities(read_counts()).items() if abs(value / (23.9 / 128) - 1) < 0.005]
    assert near == [("2 products - nnz(C)", 12, "geometric")]
