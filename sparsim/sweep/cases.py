"""From the inputs of a sweep to products: what is loaded, how it is pruned, and by which addresses it is known."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

from sparsim import zoo
from sparsim.errors import ConfigError
from sparsim.matrix import Csr
from sparsim.network import Network
from sparsim.pruning import Granularity
from sparsim.rows import Product, Products
from sparsim.simulate import network_workloads, product
from sparsim.sweep.grid import Grid
from sparsim.sweep.store import address, digest, model_version
from sparsim.variants import AS_STORED, DENSE, Asked, Pruning, as_network, budgets, variant
from sparsim.workload import Workload

__all__ = ["Case", "Source", "all_cases", "open_source"]


class Case(NamedTuple):
    """One way to run one input.

    Parameters
    ----------
    pair : pattern and budget; None for the network as it is.
    batch : samples.
    """

    pair: tuple[Granularity, Asked] | None
    batch: int

    @property
    def label(self) -> dict[str, Any]:
        """Return what a row says of a case that came to nothing."""
        pattern, budget = self.pair or (DENSE, {})
        return {"granularity": str(pattern), **budget, "batch": self.batch}


def all_cases(grid: Grid) -> list[Case]:
    """Return the cases of every input.

    Raises
    ------
    ConfigError
        If a pattern is unknown, a budget is out of range, or one of them lacks the other.
    """
    stored = [word for word in grid.granularity if word in (DENSE, AS_STORED)]
    patterns = [word for word in grid.granularity if word not in stored]
    pairs: list[tuple[Granularity, Asked] | None] = [None] if stored or not patterns else []
    pairs += budgets(patterns, grid.sparsity, grid.density, grid.nnz, grid.allocation)
    Pruning(propagate=grid.propagate)
    return [Case(pair, batch) for pair in pairs for batch in grid.batch]


@dataclass(frozen=True, eq=False)
class Source:
    """One input, loaded.

    Parameters
    ----------
    name : of the network or the file.
    network : its layers; of a matrix by itself the one layer that is A and B.
    is_matrix : whether the matrix is multiplied by itself.
    grid : the sweep it is part of.
    """

    name: str
    network: Network
    is_matrix: bool
    grid: Grid

    @property
    def size_bytes(self) -> int:
        """Bytes of all weights."""
        return sum(_bytes(layer.weight) for layer in self.network)

    @cached_property
    def sha256(self) -> str:
        """Hash of what pruning and products depend on."""
        net = self.network
        return digest([net.name, net.layers, net.metadata, net.graph, net.notes, self.is_matrix])

    def address(self, case: Case) -> str | None:
        """Return what the case is known by, None if a criterion given as a function makes it unknowable."""
        grid = self.grid
        if not isinstance(grid.criterion, str):
            return None
        pair = None if case.pair is None else [str(case.pair[0]), dict(case.pair[1])]
        how = [grid.allocation, grid.criterion, grid.propagate, grid.columns, grid.dtype, grid.seed]
        return address(model_version(), "case", self.sha256, pair, case.batch, how)

    def products(self, case: Case) -> Iterator[Product]:
        """Prune, and yield the products."""
        finder = Products({layer.name for layer in self.network})
        if self.is_matrix:
            (layer,) = self.network
            given = product(layer.matrix, dtype=self.grid.dtype, name=self.name)
            named = replace(given, layer=layer.name, weight_of=layer.name)
            (found,) = finder.of(variant(self.network, None, self._how), case.batch, [named], [named])
            yield found._replace(run=given, before=given, dense=given)
            return
        made = variant(self.network, case.pair, self._how)
        run = self._workloads(made.network, case.batch)
        yield from finder.of(made, case.batch, run, self._workloads(made.pruned, case.batch) if made.removed else run)

    def check(self, asked: Sequence[Case]) -> None:
        """Refuse what does not go with a matrix by itself."""
        if not self.is_matrix:
            return
        if any(case.pair is not None or case.batch != 1 for case in asked):
            raise ConfigError(
                f"'{self.name}' is a matrix, which is multiplied by itself and neither pruned nor run in batches",
                key="columns",
                allowed="a number of columns, which makes it a layer's weights",
            )
        (layer,) = self.network
        product(layer.matrix, dtype=self.grid.dtype, name=self.name)  # says what a matrix that is not square needs

    @property
    def _how(self) -> Pruning:
        return Pruning(self.grid.allocation, self.grid.criterion, self.grid.propagate)

    def _workloads(self, network: Network, batch: int) -> list[Workload]:
        grid = self.grid
        return network_workloads(network, batch=batch, dtype=grid.dtype, columns=grid.columns, seed=grid.seed)


def open_source(entry: Any, grid: Grid) -> Source:
    """Load an input of the sweep."""
    network = as_network(entry, grid.columns, grid.weights, grid.seed).with_input(grid.input_sizes)
    given_whole = isinstance(entry, Network | Mapping) or (
        isinstance(entry, str | os.PathLike) and str(entry) in zoo.names()
    )
    (first, *others) = network.layers or (None,)
    alone = first is not None and not others and isinstance(first.weight, Csr) and first.name == network.name
    is_matrix = alone and not given_whole and grid.columns is None
    return Source(network.name, network, is_matrix, grid)


def _bytes(weight: Any) -> int:
    if isinstance(weight, Csr):
        arrays = (weight.indptr, weight.indices, weight.values)
        return sum(array.nbytes for array in arrays if array is not None)
    return int(weight.nbytes) if all(weight.strides) else 0
