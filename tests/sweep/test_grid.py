"""What a sweep covers, and what it refuses."""

import numpy as np
import pytest
import scipy.sparse as sp

from sparsim.errors import ConfigError, InputError
from sparsim.machines import machine
from sparsim.sweep.cases import all_cases
from sparsim.sweep.grid import Grid, configurations


def test_one_value_or_several():
    grid = Grid.of(inputs="lenet5", on="sparch", sparsity=0.5, batch=np.arange(1, 4), fields={"dram.channels": 8})
    assert grid.inputs == ("lenet5",)
    assert grid.on == ("sparch",)
    assert grid.sparsity == (0.5,)
    assert grid.batch == (1, 2, 3)
    assert grid.fields == {"dram.channels": (8,)}


def test_a_matrix_is_one_input_and_not_the_sequence_of_its_rows():
    for matrix in (np.eye(3), sp.eye_array(3, format="csr"), sp.coo_array(np.eye(3))):
        (only,) = Grid.of(inputs=matrix).inputs
        assert only is matrix
        assert len(Grid.of(inputs=[matrix, matrix, np.eye(3)]).inputs) == 2


def test_repeated_values_count_once():
    grid = Grid.of(inputs=["lenet5", "lenet5"], sparsity=[0.5, 0.5], fields={"condense": [True, True, False]})
    assert (grid.inputs, grid.sparsity, grid.fields) == (("lenet5",), (0.5,), {"condense": (True, False)})


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"inputs": []}, r"^inputs: .*at least 1 item"),
        ({}, "^inputs: nothing to simulate"),
        ({"inputs": "lenet5", "fields": {"dram.channels": []}}, "^fields: .*at least 1 item"),
        ({"inputs": "lenet5", "machine": "sparch"}, "^machine: a sweep has no 'machine'; "),
        ({"inputs": "lenet5", "sparsities": [0.5]}, "a sweep has no 'sparsities'; did you mean 'sparsity'"),
        ({"inputs": "lenet5", "merge.width": [8]}, "has no 'merge.width'; fields of a machine stand in 'fields'"),
        ({"inputs": "lenet5", "batch": [0]}, "^batch: .*greater than or equal to 1, got 0"),
        ({"inputs": "lenet5", "sparsity": ["half"]}, "^sparsity: .*number.*'half'"),
        ({"inputs": "lenet5", "propagate": "on"}, "^propagate: .*'auto', 'chain' or 'off'"),
    ],
)
def test_what_is_wrong_is_named(options, told):
    with pytest.raises(ConfigError, match=told) as caught:
        Grid.of(**options)
    assert "\n" not in str(caught.value)


def test_toml_says_the_same_as_python(tmp_path):
    (tmp_path / "sweep.toml").write_text(
        """
        inputs = ["lenet5", "W.smtx"]
        on = ["sparch", "dense"]
        granularity = ["dense", "unstructured"]
        sparsity = [0.5, 0.9]
        batch = 64
        [fields]
        "dram.channels" = [8, 16]
        prefetch.lines = 512
        [fields.merge]
        width = [8, 16]
        [input_sizes]
        conv1 = [1, 28, 28]
        """
    )
    (tmp_path / "W.smtx").write_text("1, 1, 1\n0 1\n0\n")
    grid = Grid.from_toml(tmp_path / "sweep.toml")
    assert grid.inputs == ("lenet5", str(tmp_path / "W.smtx"))
    assert grid.fields == {"dram.channels": (8, 16), "prefetch.lines": (512,), "merge.width": (8, 16)}
    assert (grid.batch, grid.sparsity) == ((64,), (0.5, 0.9))
    assert grid.input_sizes == {"conv1": (1, 28, 28)}
    assert Grid.from_toml(tmp_path / "sweep.toml", inputs="lenet5", on="a100").on == ("a100",)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("inputs = [", r"sweep\.toml: is no TOML"),
        ("inputs = 'lenet5'\nonn = ['sparch']", r"sweep\.toml: a sweep has no 'onn'; did you mean 'on'"),
        ("on = ['sparch']", r"sweep\.toml: nothing to simulate|inputs: .*sweep\.toml"),
    ],
)
def test_a_bad_file_is_named_with_the_place(tmp_path, text, told):
    (tmp_path / "sweep.toml").write_text(text)
    with pytest.raises((ConfigError, InputError), match=told):
        Grid.from_toml(tmp_path / "sweep.toml")
    with pytest.raises(InputError, match="No such file"):
        Grid.from_toml(tmp_path / "other.toml")


def test_machines_take_the_fields_they_have():
    grid = Grid.of(
        inputs="lenet5", on=["sparch", "dense"], fields={"prefetch.lines": [256, 512], "dram.channels": [4, 8]}
    )
    found = configurations(grid)
    assert [one.name for one in found] == ["sparch"] * 4 + ["dense"] * 2
    assert [dict(one.fields) for one in found[4:]] == [{"dram.channels": 4}, {"dram.channels": 8}]
    assert len({one.built.config_sha256 for one in found}) == 6
    assert {one.twin.config_sha256 for one in found} == {machine("dense").config_sha256}


def test_a_combination_that_cannot_be_is_a_point_with_an_error_unless_all_are():
    fields = {"dram.write_low": [2, 60], "dram.write_high": [24]}
    good, bad = configurations(Grid.of(inputs="lenet5", fields=fields))
    assert good.built is not None
    assert bad.built is None
    assert "write_low < write_high" in bad.error
    with pytest.raises(ConfigError, match="write_low < write_high"):
        configurations(Grid.of(inputs="lenet5", fields={"dram.write_low": [50, 60], "dram.write_high": [24]}))
    with pytest.raises(ConfigError, match=r"field 'dram.chanels'; did you mean 'dram.channels'"):
        configurations(Grid.of(inputs="lenet5", fields={"dram.chanels": [4]}))


def test_built_machines_keep_what_they_have():
    small = machine("sparch", {"merge.width": 4})
    for one in configurations(Grid.of(inputs="lenet5", on=[small], fields={"dram.channels": [4, 8]})):
        assert one.built.config.merge.width == 4
        assert one.built.config.dram.channels == one.fields["dram.channels"]


def test_cases_are_what_was_asked_for():
    def labels(**options):
        return [
            (str(case.pair[0]) if case.pair else None, case.batch) for case in all_cases(Grid.of(inputs="x", **options))
        ]

    assert labels() == [(None, 1)]
    assert labels(batch=[1, 8]) == [(None, 1), (None, 8)]
    asked = {"granularity": ["dense", "2:4", "unstructured"], "sparsity": [0.5, 0.9]}
    assert labels(**asked) == [(None, 1), ("2:4", 1), ("unstructured", 1), ("unstructured", 1)]
    assert labels(granularity=["2:4"]) == [("2:4", 1)]
    with pytest.raises(ConfigError, match="needs a sparsity"):
        labels(granularity=["unstructured"])
    with pytest.raises(ConfigError, match="goes with a granularity"):
        labels(sparsity=[0.5])
