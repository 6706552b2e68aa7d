"""What README and notebooks show has to run."""

import json
import re
from pathlib import Path

import matplotlib
import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture(autouse=True)
def _no_screen(monkeypatch):
    from matplotlib import pyplot

    matplotlib.use("Agg")
    yield
    pyplot.close("all")


def test_the_python_of_the_readme_runs():
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.S)
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})


@pytest.mark.extra
def test_the_pytorch_of_the_readme_runs():
    pytest.importorskip("torch", reason="needs sparsim[torch]")
    (block,) = re.findall(r"```py\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.S)
    exec(compile(block, "README.md", "exec"), {})


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stripped_and_runs(path):
    cells = json.loads(path.read_text("utf-8"))["cells"]
    space = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            assert not cell["outputs"], "strip the outputs"
            exec(compile("".join(cell["source"]), path.name, "exec"), space)


def test_the_pictures_of_the_readme_are_there():
    for link in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", (ROOT / "README.md").read_text("utf-8")):
        assert (ROOT / link).is_file(), link


def test_top_level_is_what_was_agreed():
    agreed = {"README.md", "benchmarks", "notebooks", "pyproject.toml", "sparsim", "tests"}
    found = {path.name for path in ROOT.iterdir() if not path.name.startswith((".", "sparsim-demo"))}
    assert found - {"build", "dist"} == agreed
