"""What README and notebooks show has to run."""

import ast
import json
import re
from pathlib import Path

import matplotlib
import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
EXTRAS = {"04_your_checkpoint_from_pytorch": "torch"}
ALLOWED = {"collections", "matplotlib", "numpy", "pandas", "pathlib", "scipy", "sparsim", "tempfile", "torch"}
PUBLIC_MODULES = {"sparsim", "sparsim.torch"}


@pytest.fixture(autouse=True)
def _no_screen(monkeypatch):
    from matplotlib import pyplot

    matplotlib.use("Agg")
    yield
    pyplot.close("all")


def _needs(path):
    return [pytest.mark.extra] if path.stem in EXTRAS else []


def _cells(path, kind):
    cells = json.loads(path.read_text("utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == kind]


def test_the_python_of_the_readme_runs():
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.S)
    assert blocks
    space = {}  # later blocks go on where earlier ones stopped
    for block in blocks:
        exec(compile(block, "README.md", "exec"), space)


@pytest.mark.extra
def test_the_pytorch_of_the_readme_runs():
    pytest.importorskip("torch", reason="needs sparsim[torch]")
    (block,) = re.findall(r"```py\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.S)
    exec(compile(block, "README.md", "exec"), {})


@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem, marks=_needs(path)) for path in NOTEBOOKS])
def test_a_notebook_runs_and_its_conclusion_holds(path):
    if path.stem in EXTRAS:
        pytest.importorskip(EXTRAS[path.stem], reason=f"needs sparsim[{EXTRAS[path.stem]}]")
    space = {}
    for source in _cells(path, "code"):
        exec(compile(source, path.name, "exec"), space)


def test_notebooks_are_numbered_without_a_gap():
    assert [path.stem[:3] for path in NOTEBOOKS] == [f"{number:02}_" for number in range(1, len(NOTEBOOKS) + 1)]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stripped(path):
    for cell in json.loads(path.read_text("utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            assert not cell["outputs"], "strip the outputs"
            assert cell["execution_count"] is None


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_asks_says_what_it_needs_concludes_and_checks_itself(path):
    cells = json.loads(path.read_text("utf-8"))["cells"]
    first = "".join(cells[0]["source"])
    assert cells[0]["cell_type"] == "markdown"
    assert first.startswith("# ")
    assert "?" in first
    assert re.search(r"[Nn]eeds .*\d+ seconds and \d+ MB", first)
    assert any("**Conclusion.**" in text for text in _cells(path, "markdown"))
    assert cells[-1]["cell_type"] == "code"
    assert any(isinstance(node, ast.Assert) for node in ast.walk(ast.parse("".join(cells[-1]["source"]))))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_uses_the_public_api_only(path):
    import sparsim

    for source in _cells(path, "code"):
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            else:
                modules = [node.module] if isinstance(node, ast.ImportFrom) else []
            assert {module.partition(".")[0] for module in modules} <= ALLOWED
            assert {module for module in modules if module.startswith("sparsim")} <= PUBLIC_MODULES
            if isinstance(node, ast.Attribute):
                assert not node.attr.startswith("_"), node.attr
                if isinstance(node.value, ast.Name) and node.value.id == "ss":
                    assert node.attr in {*sparsim.__all__, "torch"}, node.attr


def test_the_pictures_of_the_readme_are_there():
    for link in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", (ROOT / "README.md").read_text("utf-8")):
        assert (ROOT / link).is_file(), link


def test_top_level_is_what_was_agreed():
    agreed = {"README.md", "benchmarks", "notebooks", "pyproject.toml", "sparsim", "tests"}
    found = {path.name for path in ROOT.iterdir() if not path.name.startswith((".", "sparsim-demo"))}
    assert found - {"build", "dist"} == agreed
