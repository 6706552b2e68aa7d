import ast
import subprocess
import sys
from pathlib import Path

import pytest

import sparsim
from sparsim.machines import preset_names

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path(sparsim.__file__).parent


def test_all_is_sorted_and_true():
    assert sparsim.__all__ == sorted(sparsim.__all__)
    for name in sparsim.__all__:
        assert getattr(sparsim, name) is not None


def test_a_verb_stays_a_function_after_its_module_was_imported():
    import sparsim.compare
    import sparsim.inspect
    import sparsim.simulate

    assert callable(sparsim.compare)
    assert callable(sparsim.simulate)
    assert callable(sparsim.inspect)


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="no attribute 'simulat'"):
        _ = sparsim.simulat


HEAVY = ["joblib", "matplotlib", "numba", "pandas", "pydantic", "scipy", "torch"]


@pytest.mark.parametrize(
    ("code", "heavy"),
    [
        ("import sparsim", [*HEAVY, "numpy", "rich", "typer"]),
        ("import sparsim.cli", [*HEAVY, "numpy"]),
        ("import sparsim.simulate, sparsim.terminal", ["joblib", "matplotlib", "pandas", "scipy.sparse", "torch"]),
        ("import sparsim; sparsim.machine('sparch')", ["sparsim.machines.tensor_core", "scipy.linalg"]),
    ],
)
def test_import_loads_nothing_heavy(code, heavy):
    asked = f"{code}; import sys; print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


DECORATORS = ["kernel", "step", "inner", "inlined"]
INSTRUCTIONS = {
    "_ones",
    "_zeros_above",
    "_zeros_below",
}  # of the processor; as plain functions only where nothing is compiled


def functions(source):
    return [node for node in ast.parse(source.read_text("utf-8")).body if isinstance(node, ast.FunctionDef)]


@pytest.mark.parametrize("source", sorted((PACKAGE / "kernels").glob("[a-z]*.py")), ids=lambda path: path.stem)
def test_every_kernel_is_compiled_by_a_decorator_of_the_house_and_says_what_it_does(source):
    """What has none is called from Python, never by a kernel."""
    plain, called = set(), set()
    for node in functions(source):
        assert ast.get_docstring(node), node.name
        if node.decorator_list:
            assert [ast.unparse(d) for d in node.decorator_list] in [[name] for name in DECORATORS], node.name
            called |= {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
        else:
            plain.add(node.name)
    assert not (plain & called) - INSTRUCTIONS


def test_readme_lists_every_machine():
    readme = ROOT / "README.md"
    text = readme.read_text("utf-8")
    for name in preset_names():
        leaf, dash, mode = name.partition("-")
        assert f"`{leaf}`" in text, name
        assert not mode or f"`{name}`" in text or f"`{dash}{mode}`" in text, name
