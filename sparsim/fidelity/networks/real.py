"""What needs the real masks: are they those the zoo describes, and how unevenly do they spread their non-zeros?"""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterator
from importlib.resources import files
from math import prod
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from sparsim.fidelity.bench import Bench
from sparsim.fidelity.record import Published, Row, compare_with, read_published, skipped
from sparsim.io import load
from sparsim.matrix import Csr, IntArray
from sparsim.network import Layer, Network
from sparsim.zoo.draw import excess_variation
from sparsim.zoo.shape import read_shape

__all__ = ["channel_counts", "real_rows"]

PAPER = "networks"
SQUEEZENET = "networks/squeezenet_han/squeezenet_pruned_decoded.npz"
DLMC = "dlmc/rn50/magnitude_pruning/"
POSITIONS = "dlmc/rn50_batchsizes.txt"
NEAREST = "resnet50, DLMC at 0.7"
TOLERANCE = 0.005  # spreads are kept with three digits


def real_rows(bench: Bench) -> Iterator[Row]:
    """Yield the figures that the real files have to confirm; without the files, rows that say what is missing."""
    for published in read_published(PAPER):
        if published.quantity.startswith("real_"):
            yield _file_row(bench, published)
    document = tomllib.loads((files("sparsim.zoo") / "skew.toml").read_text("utf-8"))
    for entry in document["measured"]:
        yield from _spread_rows(bench, entry)


def _path(bench: Bench, place: str) -> Path | None:
    """Return a file or folder below the bench's folder; a missing one is remembered."""
    path = bench.folder / place if bench.folder is not None else None
    if path is not None and path.exists():
        return path
    if place not in bench.missing:
        bench.missing.append(place)
    return None


def _file_row(bench: Bench, published: Published) -> Row:
    place = f"{DLMC}0.7" if published.workload == NEAREST else SQUEEZENET
    path = _path(bench, place)
    if path is None:
        return skipped(PAPER, published, place)
    if published.workload != NEAREST:
        network = load(path)
        assert isinstance(network, Network)
        kept = sum(layer.nnz for layer in network) if published.quantity == "real_weights" else _same_layers(network)
        return compare_with(PAPER, published, kept)
    matrices = dict(bench.files(place, ".smtx"))
    if published.quantity == "real_weights":
        return compare_with(PAPER, published, sum(matrix.nnz for matrix in matrices.values()))
    positions = _path(bench, POSITIONS)
    if positions is None:
        return skipped(PAPER, published, POSITIONS)
    return compare_with(PAPER, published, _same_products(matrices, positions))


def _same_layers(real: Network) -> int:
    """Count the layers of the decoded SqueezeNet that have shape and non-zeros of the zoo's."""
    shape = read_shape("squeezenet")
    nnz = next(iter(shape.schedules.values())).nnz
    pairs = zip(real, shape.network, nnz, strict=True)
    return sum(layer.shape == kept.shape and layer.nnz == count for layer, kept, count in pairs)


def _same_products(matrices: dict[str, Csr], positions: Path) -> int:
    """Count the layers of DLMC's ResNet-50 whose matrix and number of positions are also the zoo's."""
    lines = (line.split(",") for line in positions.read_text("utf-8").split())
    columns = {name: int(count) for name, count in lines}
    real = Counter((*matrix.shape, columns.get(name, 0)) for name, matrix in matrices.items())
    kept = Counter(
        (layer.shape[0], prod(layer.shape[1:]), layer.columns(1)) for layer in read_shape("resnet50").network
    )
    return (real & kept).total()


def _spread_rows(bench: Bench, entry: dict[str, Any]) -> Iterator[Row]:
    """Yield the kept spread of rows and of channels of one set of masks beside the measured one."""
    dlmc = entry["name"].startswith("DLMC")
    place = f"{DLMC}{entry['name'].split()[-1]}" if dlmc else SQUEEZENET
    path = _path(bench, place)
    layers = [] if path is None else _dlmc_layers(bench, place) if dlmc else _network_layers(path)
    for index, kind in enumerate(("rows", "channels")):
        published = Published(
            f"spread of {kind}", entry["name"], entry[kind], "1", entry["source"], "derived", "check", "", TOLERANCE
        )
        if path is None:
            yield skipped(PAPER, published, place)
            continue
        note = f"median over {len(layers)} layers, coefficient of variation beyond binomial noise"
        yield compare_with(PAPER, published, median(layer[index] for layer in layers), note)


def channel_counts(layer: Layer) -> IntArray:
    """Return the non-zeros of each input channel (of all groups together)."""
    columns: IntArray = np.bincount(layer.matrix.indices, minlength=layer.matrix.shape[1])
    counts: IntArray = columns.reshape(-1, prod(layer.kernel)).sum(axis=1)
    return counts


def _network_layers(path: Path) -> list[tuple[float, float]]:
    """Measure the layers of a network that are less than half full."""
    network = load(path)
    assert isinstance(network, Network)
    found = []
    for layer in network:
        if layer.nnz < layer.size / 2:
            rows = excess_variation(layer.matrix.row_lengths, prod(layer.shape[1:]), layer.nnz)
            cells = layer.shape[0] * prod(layer.kernel)
            found.append((rows, excess_variation(channel_counts(layer), cells, layer.nnz)))
    return found


def _dlmc_layers(bench: Bench, place: str) -> list[tuple[float, float]]:
    """Measure the matrices of DLMC, in whose columns the input channels of a kernel position stand together."""
    found = []
    for name, matrix in bench.files(place, ".smtx"):
        if matrix.density > 0.98:
            continue
        taps = 49 if name == "initial_conv" else 9 if name.startswith("bottleneck_2_") else 1
        channels = np.bincount(matrix.indices, minlength=matrix.shape[1]).reshape(taps, -1).sum(axis=0)
        rows = excess_variation(matrix.row_lengths, matrix.shape[1], matrix.nnz)
        found.append((rows, excess_variation(channels, matrix.shape[0] * taps, matrix.nnz)))
    return found
