"""Every shipped preset loads, its sources resolve, its guesses are explained; a slip of the hand gets one line."""

from __future__ import annotations

import csv
import re
from importlib import resources

import pytest

from sparsim.errors import ConfigError
from sparsim.machines import describe, machine, preset_names
from sparsim.machines.base import Constant, load_preset

LEAVES = sorted({name.partition("-")[0] for name in preset_names()})
HERE = resources.files("sparsim")


def keys() -> set[str]:
    text = HERE.joinpath("energy", "references.bib").read_text("utf-8")
    found = re.findall(r"^@\w+\{(\w+),", text, re.MULTILINE)
    assert len(found) == len(set(found))
    return set(found)


@pytest.mark.parametrize("name", preset_names())
def test_loads(name):
    built = machine(name)
    assert built.name == name
    assert machine(built.baseline).baseline == built.baseline
    assert built.preset.title
    assert built.preset.citation


def test_one_machine_is_found_without_reading_the_presets_of_all(monkeypatch):
    monkeypatch.setattr("sparsim.machines.preset_names", None)
    assert machine("a100-2:4").preset is load_preset("a100")


@pytest.mark.parametrize("name", ["sparch-", "sparch-2:4", "-2:4", "", "a100-2:4-", "../a100"])
def test_names_that_are_almost_right(name):
    with pytest.raises(ConfigError, match=f"no machine '{re.escape(name)}'"):
        machine(name)


def test_changing_a_field_leaves_the_shipped_machine_alone():
    plain = machine("a100-2:4")
    changed = machine("a100-2:4", {"clock_ghz": 1.0})
    assert changed.config.clock_ghz == 1.0
    assert (machine("a100-2:4").config, plain.baseline, changed.baseline) == (plain.config, "a100", "a100")
    assert machine("a100-2:4").config_sha256 == plain.config_sha256 != changed.config_sha256


def every_constant(leaf):
    preset = load_preset(leaf)
    return [(field, one) for mode in ("", *preset.modes) for field, one in preset.constants_in(mode).items()]


@pytest.mark.parametrize("leaf", LEAVES)
def test_modes_change_words_and_constants(leaf):
    """A bare number would have neither unit nor source."""
    for mode, entries in load_preset(leaf).modes.items():
        assert all(isinstance(entry, str | Constant) for entry in entries.values()), mode


@pytest.mark.parametrize("leaf", LEAVES)
def test_sources_resolve(leaf):
    known = keys()
    for field, constant in every_constant(leaf):
        assert constant.unit, field
        if constant.source == "none":
            assert constant.status == "assumed", f"{leaf}.{field} has no source"
            continue
        key, comma, place = constant.source.partition(",")
        assert key in known, f"{leaf}.{field}: {key}"
        assert comma, field
        assert place.strip(), field


@pytest.mark.parametrize("leaf", LEAVES)
def test_guesses_have_reasons(leaf):
    for field, constant in every_constant(leaf):
        if constant.status == "assumed":
            assert constant.note, f"{leaf}.{field}"


def test_guesses_are_those_in_force():
    """A mode brings its own, and what somebody sets is no guess of the preset's."""
    plain = machine("a100-csr")
    assert "csr.macs_per_clk: no limit but the lanes" in plain.assumed
    assert not any(told.startswith("csr.macs_per_clk") for told in machine("a100-cusparse").assumed)
    assert not any(
        told.startswith("csr.macs_per_clk") for told in machine("a100-csr", {"csr.macs_per_clk": 2.0}).assumed
    )
    assert any(told.startswith("sparse.prologue_us") for told in machine("a100-vnm").assumed)
    assert not any(told.startswith("sparse.prologue_us") for told in machine("rtx3090-vnm").assumed)


def test_constants_of_a_mode_are_described_with_their_source():
    told = describe(machine("a100-cusparse"))["constants"]
    assert (told["csr.macs_per_clk"]["value"], told["csr.macs_per_clk"]["unit"]) == (1.5, "multiplies/clock")
    assert told["csr.macs_per_clk"]["source"].startswith("han2016eie")
    changed = describe(machine("a100-cusparse", {"csr.macs_per_clk": 2.0}))["constants"]["csr.macs_per_clk"]
    assert changed["value"] == 2.0
    assert changed["note"].startswith("set by the mode or by --set")


def test_published_points_name_known_machines_and_sources():
    text = HERE.joinpath("fidelity", "tensor_core", "published.csv").read_text("utf-8")
    known = keys()
    for row in csv.DictReader(text.splitlines()):
        assert row["machine"] in preset_names()
        assert row["source"].partition(",")[0] in known
        assert row["role"] in ("calibrate", "check", "excluded", "shown")
        assert row["role"] not in ("excluded", "shown") or row["note"]


@pytest.mark.parametrize(
    ("name", "overrides", "words"),
    [
        ("dense", {"multiplier": 4}, "multipliers"),
        ("dense", {"multipliers": 0}, "greater than or equal to 1"),
        ("dense", {"skip": "zeros"}, "empty_rows_cols"),
        ("dense", {"on_chip.bytes": -1}, "on_chip.bytes"),
        ("systolic", {"array.dataflow": "rs"}, "array.dataflow"),
        ("systolic", {"array.row": 8}, "array.rows"),
        ("a100", {"dense.tiles": "256by128"}, "256x128"),
        ("a100", {"dense.sm_efficiency": 1.5}, "dense.sm_efficiency"),
        ("a100", {"clock_ghz": "fast"}, "clock_ghz"),
        ("a100-4:2", {}, "a100-2:4"),
        ("danse", {}, "dense"),
    ],
)
def test_slips_get_one_line(name, overrides, words):
    with pytest.raises(ConfigError) as caught:
        machine(name, overrides)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_built_machine_checks_changes_too():
    with pytest.raises(ConfigError, match=r"sparch\.prefetch\.lines: .*, got -1"):
        machine("sparch").with_fields({"prefetch.lines": -1})
    with pytest.raises(ConfigError, match=r"did you mean 'prefetch\.lines'"):
        machine("sparch").with_fields({"prefetch.line": 1})
    assert machine("sparch").with_fields({"prefetch.lines": 8}).config.prefetch.lines == 8
