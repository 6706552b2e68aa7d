"""sparsim: what does a pruned network cost, in time, energy and memory traffic, on which hardware?

>>> import sparsim as ss
>>> report = ss.simulate(ss.gemm(64, 64, 64, pattern="density:0.1"), on="sparch")
>>> report.limited_by in {"multiply", "merge", "look_ahead", "dram", "prefetch", "latency", "load_imbalance"}
True
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from sparsim._version import __version__

_HOME = {
    "Comparison": "compare",
    "Csr": "matrix",
    "Grid": "sweep",
    "Layer": "network",
    "Network": "network",
    "Report": "report",
    "Workload": "workload",
    "compare": "compare",
    "datasets": "datasets",
    "gemm": "simulate",
    "inspect": "inspect",
    "load": "io",
    "machine": "machines",
    "plot": "plot",
    "product": "simulate",
    "prune": "pruning",
    "save_network": "io",
    "save_table": "export",
    "search": "search",
    "simulate": "simulate",
    "sweep": "sweep",
    "torch": "torch",
    "validate": "fidelity",
    "zoo": "zoo",
}
_MODULES = ("datasets", "plot", "torch", "zoo")

__all__ = [
    "Comparison",
    "Csr",
    "Grid",
    "Layer",
    "Network",
    "Report",
    "Workload",
    "__version__",
    "compare",
    "datasets",
    "gemm",
    "inspect",
    "load",
    "machine",
    "plot",
    "product",
    "prune",
    "save_network",
    "save_table",
    "search",
    "simulate",
    "sweep",
    "validate",
    "zoo",
]

if TYPE_CHECKING:
    from sparsim import datasets, plot, zoo
    from sparsim.compare import Comparison, compare
    from sparsim.export import save_table
    from sparsim.fidelity import validate
    from sparsim.inspect import inspect
    from sparsim.io import load, save_network
    from sparsim.machines import machine
    from sparsim.matrix import Csr
    from sparsim.network import Layer, Network
    from sparsim.pruning import prune
    from sparsim.report import Report
    from sparsim.search import search
    from sparsim.simulate import gemm, product, simulate
    from sparsim.sweep import Grid, sweep
    from sparsim.workload import Workload


class _Package(ModuleType):
    """The package, which keeps its verbs: importing the module ``compare`` must not hide the function."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (isinstance(value, ModuleType) and name in _HOME and name not in _MODULES):
            super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        if name not in _HOME:
            raise AttributeError(f"module 'sparsim' has no attribute '{name}'")
        home = import_module(f"sparsim.{_HOME[name]}")
        return home if name in _MODULES else getattr(home, name)

    def __dir__(self) -> list[str]:
        return [*__all__, "__doc__", "__file__", "__path__"]


sys.modules[__name__].__class__ = _Package
