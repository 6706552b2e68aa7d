"""The products that are timed: real matrices, layers of pruned networks, the peers' workloads, generated matrices.

Every operand is a CSR matrix with values of one in 8 bytes, indices in 4 and offsets in 8, so that sparsim and scipy
hold the same thing; a dense B is a number of columns to sparsim, and a full CSR matrix to scipy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

import sparsim as ss
from sparsim import datasets, zoo
from sparsim.kernels.symbolic import product_nnz
from sparsim.matrix import Csr
from sparsim.workload import layer_workload

__all__ = ["GENERATED", "GROUPS", "QUICK", "Case", "Product", "cases", "tiny"]

GROUPS = ("real", "layers", "peers", "generated")
REAL = ("ca-CondMat", "cage10", "cage12", "facebook", "m133-b3", "p2p-Gnutella31", "wiki-Vote")
MEGA = 10**6


@dataclass(frozen=True)
class Product:
    """C = A·B; without ``b`` A·A, with ``columns`` a dense B of that width."""

    a: Csr
    b: Csr | None = None
    columns: int | None = None
    dtype: str = "fp64"

    def simulate(self, **options: Any) -> ss.Report:
        """Simulate it on SpArch, from the operands to the report."""
        return ss.simulate(self.a, self.b, on="sparch", columns=self.columns, dtype=self.dtype, **options)

    def scipy_operands(self) -> tuple[sp.csr_matrix, sp.csr_matrix]:
        """Return both operands as scipy multiplies them: int32 indices and offsets, float64 values of one."""
        left = _scipy(self.a)
        if self.columns is not None:
            return left, sp.csr_matrix(np.ones((self.a.shape[1], self.columns)))
        return left, left if self.b is None else _scipy(self.b)

    def count(self) -> int:
        """Count the elements of C and do nothing else: a stamp a product."""
        right = self.a if self.b is None else self.b
        return int(product_nnz(self.a.indptr, self.a.indices, right.indptr, right.indices, right.shape[1]))

    @property
    def multiplies(self) -> int:
        """Effectual multiplies, counted from the patterns."""
        if self.columns is not None:
            return self.a.nnz * self.columns
        right = self.a if self.b is None else self.b
        return int(right.row_lengths @ np.bincount(self.a.indices, minlength=self.a.shape[1]))

    @property
    def input_bytes(self) -> int:
        """Bytes of the operands that are held; A·A holds one."""
        held = [matrix for matrix in (self.a, self.b) if matrix is not None]
        return sum(part.nbytes for m in held for part in (m.indptr, m.indices, m.values) if part is not None)


@dataclass(frozen=True)
class Case:
    """A product by name; it is built only when asked for.

    Parameters
    ----------
    multiplies : what it has to have, None if nobody published that.
    """

    name: str
    group: str
    build: Callable[[], Product]
    multiplies: int | None = None


def cases(data: Path | None, group: str) -> Iterator[Case]:
    """Yield the cases of a group; those whose file is not in ``data`` are left out."""
    found = {"real": _real, "layers": _layers, "peers": _peers, "generated": _generated}[group](data)
    return (Case(name, group, *what) for name, *what in found)


def tiny(columns: int | None = None) -> Product:
    """Return a product that takes no time, to compile and load what the first one of its kind needs."""
    return Product(ones(datasets.banded(200, 1000, 0, bandwidth=20)), columns=columns)


def ones(matrix: Csr) -> Csr:
    """Return the pattern with values of one in 8 bytes."""
    return Csr(matrix.shape, matrix.indptr, matrix.indices, np.ones(matrix.nnz))


def _scipy(matrix: Csr) -> sp.csr_matrix:
    values = np.ones(matrix.nnz) if matrix.values is None else matrix.values
    return sp.csr_matrix((values, matrix.indices, matrix.indptr.astype(np.int32)), shape=matrix.shape, copy=False)


def _square(load: Callable[[], Csr]) -> Product:
    return Product(ones(load()))


def _real(data: Path | None) -> Iterator[tuple[Any, ...]]:
    for name in REAL:
        for path in sorted((data / "matrices").glob(f"{name}.*")) if data else ():
            yield name, partial(_square, partial(datasets.load, name, folder=path.parent, progress=False))


# name in the zoo, weights, layer, batch: convolutions and linear layers, on dense activations and on those of a ReLU
ZOO = (
    ("lenet5", "published", "conv1", 1),
    ("lenet5", "published", "fc1", 64),
    ("resnet50", "published", "layer2.0.conv2", 1),
    ("resnet50", "published", "layer3.0.conv2", 1),
    ("resnet50", "published", "layer4.0.conv2", 1),
    ("squeezenet", "published", "fire8/conv3x3_2", 1),
    ("googlenet", "published", "inception_4e/3x3", 1),
    ("bert_base", "uniform:0.1", "encoder.layer.0.intermediate.dense", 1),
    ("alexnet", "published", "conv3", 1),
    ("vgg16", "published", "conv5_1", 1),
    ("vgg16", "published", "fc7", 64),
)
# name, file below the data folder, layer (None: the file is one), columns of B
FILES = (
    ("squeezenet_han", "networks/squeezenet_han/squeezenet_pruned_decoded.npz", "fire9__conv3x3_2", 169),
    ("squeezenet_han", "networks/squeezenet_han/squeezenet_pruned_decoded.npz", "conv_final", 225),
    ("lenet_dns", "networks/lenet_dns/lenet5_sparse.npz", "ip1", 64),
    (
        "resnet20",
        "networks/resnet20_cifar10_pruned/rg_gm_sparsity98.2_L1_after_finetune_effective.npz",
        "layer1.0.conv1",
        1024,
    ),
    ("dlmc rn50 group3_1_1", "dlmc/rn50/magnitude_pruning/0.9/bottleneck_2_block_group3_1_1.smtx", None, 196),
    ("dlmc rn50 group4_1_1", "dlmc/rn50/magnitude_pruning/0.9/bottleneck_2_block_group4_1_1.smtx", None, 49),
    (
        "dlmc transformer ffn_conv1",
        "dlmc/transformer/magnitude_pruning/0.9/body_decoder_layer_0_ffn_conv1_fully_connected.smtx",
        None,
        256,
    ),
)


def _layers(data: Path | None) -> Iterator[tuple[Any, ...]]:
    for name, weights, layer, batch in ZOO:
        told = f"{name} {layer.removeprefix('encoder.')}" + (f" x {batch}" if batch > 1 else "")
        yield told, partial(_zoo_layer, name, weights, layer, batch)
    for name, file, part, columns in FILES:
        path = data / file if data else None
        if path is not None and path.exists():
            yield f"{name} {part}" if part else name, partial(_file_layer, path, part, columns)


def _zoo_layer(name: str, weights: str, layer: str, batch: int) -> Product:
    found = next(part for part in zoo.load(name, weights) if part.name == layer)
    load = layer_workload(found, batch=batch)
    a = ones(load.grouped_a.csr)
    if load.b.is_dense:
        return Product(a, columns=load.n, dtype="fp16")
    return Product(a, ones(load.b.csr), dtype="fp16")


def _file_layer(path: Path, layer: str | None, columns: int) -> Product:
    found = ss.load(path)
    matrix = found if isinstance(found, Csr) else next(part.matrix for part in found if part.name == layer)
    return Product(ones(matrix), columns=columns, dtype="fp16")


# name, side and density of A and B, multiplies
RANDOM = (
    ("g64", 64, 0.1, 2_657),
    ("g256", 256, 0.1, 167_804),
    ("g1024", 1024, 0.1, 10_735_923),
    ("g4096", 4096, 0.01, 6_867_714),
    ("g16384", 16384, 0.001, 4_396_784),
)
LAYER_MULTIPLIES = {"layer": 5_779_833, "layerd": 11_560_570}


def _peers(data: Path | None) -> Iterator[tuple[Any, ...]]:
    for name, side, density, multiplies in RANDOM:
        yield name, partial(_random_pair, side, density), multiplies
    for name, multiplies in LAYER_MULTIPLIES.items():
        yield name, partial(_peer_layer, name == "layerd"), multiplies


def _random_pair(side: int, density: float) -> Product:
    def draw(seed: int) -> Csr:
        drawn = sp.random(side, side, density, "csr", random_state=np.random.default_rng(seed))
        return ones(Csr.from_scipy(drawn))

    return Product(draw(1), draw(2))


def _peer_layer(dense: bool) -> Product:
    """512 x 4608 weights, the smallest 90 % zero; B is 4608 x 49, dense or its larger half, as after a ReLU."""
    weights = np.random.default_rng(1).standard_normal((512, 4608))
    a = ones(Csr.from_dense(_upper(weights, np.abs(weights), 0.9)))
    if dense:
        return Product(a, columns=49)
    inputs = np.random.default_rng(2).standard_normal((4608, 49))
    return Product(a, ones(Csr.from_dense(_upper(inputs, inputs, 0.5))))


def _upper(values: npt.NDArray[Any], score: npt.NDArray[Any], share: float) -> npt.NDArray[Any]:
    """Return the values without the share of them with the lowest score."""
    lowest = int(share * score.size)
    return np.where(score >= np.partition(score, lowest, axis=None)[lowest], values, 0.0)


# products aimed at, and the rows that give them with 32 elements a row in a band, 16 anywhere, 8 on average in a graph
GENERATED = {
    "banded": {10**5: 98, MEGA: 980, 10 * MEGA: 9_800, 100 * MEGA: 98_000, 200 * MEGA: 196_000},
    "uniform": {10**5: 391, MEGA: 3_910, 10 * MEGA: 39_100, 100 * MEGA: 391_000, 200 * MEGA: 782_000},
    "power law": {10**5: 370, MEGA: 1_850, 10 * MEGA: 10_000, 100 * MEGA: 51_500, 200 * MEGA: 87_500},
}


def _generated(data: Path | None) -> Iterator[tuple[Any, ...]]:
    for family, sizes in GENERATED.items():
        for products, rows in sizes.items():
            yield f"{family} {products:.0e}".replace("e+0", "e"), partial(_generate, family, rows)


def _generate(family: str, rows: int) -> Product:
    if family == "banded":
        return _square(partial(datasets.banded, rows, 32 * rows, bandwidth=32))
    if family == "uniform":
        return _square(partial(datasets.banded, rows, 16 * rows, bandwidth=rows))
    return _square(partial(datasets.rmat, rows, 8 * rows))


QUICK = ("lenet5 conv1", "lenet5 fc1 x 64", "g64", "g256", "banded 1e5", "uniform 1e5", "power law 1e5")
