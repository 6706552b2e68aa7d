"""The demonstration: two networks, pruned in several ways, on four machines, with a picture and a page."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from sparsim import zoo
from sparsim.compare import Comparison, compare
from sparsim.errors import ConfigError
from sparsim.html import write_html
from sparsim.plot import overview

__all__ = ["Demo", "demo"]

NETWORKS = ("lenet5", "resnet50_block")
MACHINES = ("sparch", "dense", "a100", "a100-2:4")
GRANULARITIES = ("unstructured", "2:4", "block:4x4", "out_channel")
SPARSITIES = (0.5, 0.75, 0.9)
BATCHES = (1, 64)
TITLE = "Which pruning pattern pays on which hardware?"


@dataclass(frozen=True)
class Demo:
    """What :func:`demo` made: the comparisons, and the files it wrote."""

    comparisons: tuple[Comparison, ...]
    picture: Path
    page: Path


def demo(folder: str | PathLike[str] = ".", *, jobs: int | None = None, progress: bool = True) -> Demo:
    """Compare a trained and pruned LeNet-5 and a ResNet-50-sized block on SpArch, a dense machine and an A100.

    Writes ``sparsim-demo.png`` and ``sparsim-demo.html`` into ``folder``, which is made if it does not exist.
    """
    into = Path(folder)
    if into.exists() and not into.is_dir():
        raise ConfigError(f"'{into}' is a file", key="--out", allowed="a folder")
    into.mkdir(parents=True, exist_ok=True)
    found = tuple(
        compare(
            zoo.load(name),
            on=MACHINES,
            granularity=GRANULARITIES,
            sparsity=SPARSITIES,
            batch=BATCHES,
            jobs=jobs,
            progress=progress,
        )
        for name in NETWORKS
    )
    picture = into / "sparsim-demo.png"
    overview(found).savefig(picture, dpi=150)
    return Demo(found, picture, write_html(found, into / "sparsim-demo.html", title=TITLE))
