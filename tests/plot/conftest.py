"""One small comparison for all pictures, and Axes that no pyplot knows of."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from sparsim.compare import compare
from sparsim.network import Layer, Network
from sparsim.sweep import sweep


@pytest.fixture(scope="session")
def comparison():
    rng = np.random.default_rng(0)
    conv = Layer("conv", rng.normal(size=(8, 4, 3, 3)), padding=(1, 1), input_size=(6, 6))
    network = Network("$tiny$ \\frac", (Layer("fc1", rng.normal(size=(32, 64))), conv))
    return compare(
        network,
        batch=[1, 4],
        granularity=["unstructured", "2:4", "block:4x4", "out_channel"],
        sparsity=[0.5, 0.75],
        on=["sparch", "dense", "a100", "a100-2:4"],
        progress=False,
    )


@pytest.fixture(scope="session")
def measured(comparison):
    """The same as a frame, with accuracies as if somebody had measured all but 2:4."""
    frame = comparison.to_frame()
    lost = frame["granularity"].map({"unstructured": 0.02, "block:4x4": 0.1, "out_channel": 0.2}).fillna(0)
    frame["accuracy"] = np.where(frame["granularity"] == "2:4", np.nan, 0.99 - lost * frame["sparsity"])
    return frame


@pytest.fixture
def ax():
    return Figure(figsize=(9, 4), layout="constrained").add_subplot()


@pytest.fixture(scope="session")
def swept():
    """A sweep of two fields; OuterSPACE has only one of them."""
    layer = Layer("fc", np.random.default_rng(3).normal(size=(32, 64)))
    return sweep(
        Network("net", (layer,)),
        on=["sparch", "outerspace"],
        fields={"merge.width": [4, 8, 16], "dram.channels": [4, 16]},
        batch=8,
        granularity=["unstructured"],
        sparsity=[0.9],
        store=":memory:",
        jobs=1,
        progress=False,
    )
