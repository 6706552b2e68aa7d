"""What a network weighs in every storage format: values and indices apart, and the best format of every layer.

Only weights count: no biases, no activations. A layer that cannot take a format (its zeros do not obey N:M) stays dense
in that format's total. Formats are tried from simple to involved, and of equal sizes the simpler wins.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from sparsim.formats import INDEX_BYTES, FormatSize, IndexBytes, all_formats, smallest_format
from sparsim.network import Layer, Network
from sparsim.structure import detect

__all__ = ["FormatTotal", "LayerStorage", "NetworkStorage", "best_format", "layer_storage", "network_storage"]

BEST = "best per layer"
ORDER = ("dense", "compact", "N:M", "bitmap", "csr", "csc", "bsr", "run_length", "eie")
TF32_BYTES = 4


@dataclass(frozen=True)
class LayerStorage:
    """Bytes of one layer's weights in every format they can take.

    Parameters
    ----------
    layer : its name.
    floor_bytes : of the non-zero values alone, which no format that keeps every value goes below [B].
    sizes : by format, simple ones first.
    """

    layer: str
    floor_bytes: int
    sizes: tuple[FormatSize, ...]

    @property
    def dense(self) -> FormatSize:
        """All weights, zeros included."""
        return self.sizes[0]

    @property
    def best(self) -> FormatSize:
        """The smallest, the simplest of equal ones."""
        return min(self.sizes, key=lambda size: size.total)

    def take(self, family: str) -> FormatSize | None:
        """Return the smallest size in a format, None if the layer cannot take it; "bsr" stands for every block."""
        mine = [size for size in self.sizes if _family(size) == family]
        return min(mine, key=lambda size: size.total, default=None)

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON shows of a layer."""
        return {
            "best": self.best.name,
            "best_bytes": self.best.total,
            "dense_bytes": self.dense.total,
            "floor_bytes": self.floor_bytes,
            "index_bytes": self.best.index_bytes,
            "index_share": self.best.index_share,
            "index_overhead": self.best.index_overhead,
            "formats": {
                size.name: {"bytes": size.total, "value_bytes": size.value_bytes, "index_bytes": size.index_bytes}
                for size in self.sizes
            },
        }


@dataclass(frozen=True)
class FormatTotal(FormatSize):
    """A whole network in one format.

    Parameters
    ----------
    layers : that take the format; the others stay dense.
    """

    layers: int = 0


@dataclass(frozen=True)
class NetworkStorage:
    """Bytes of all weights of a network.

    Parameters
    ----------
    name : of the network.
    layers : one entry each.
    bytes_per_value, bytes_per_index : what was asked for [B]; "auto" is the fewest that hold the largest index.
    """

    name: str
    layers: tuple[LayerStorage, ...]
    bytes_per_value: int
    bytes_per_index: IndexBytes

    @property
    def dense_bytes(self) -> int:
        """All weights, zeros included [B]."""
        return sum(layer.dense.total for layer in self.layers)

    @property
    def floor_bytes(self) -> int:
        """Non-zero values alone [B]."""
        return sum(layer.floor_bytes for layer in self.layers)

    @property
    def best(self) -> FormatTotal:
        """Every layer in its own best format."""
        return _sum(BEST, [layer.best for layer in self.layers], len(self.layers))

    @property
    def totals(self) -> list[FormatTotal]:
        """The network in one format throughout, for each format that a layer takes; then in the best of each layer."""
        found = []
        families = dict.fromkeys(_family(size) for layer in self.layers for size in layer.sizes)
        for family in sorted(families, key=lambda family: ORDER.index(family if family in ORDER else "N:M")):
            taken = [layer.take(family) for layer in self.layers]
            chosen = [size or layer.dense for size, layer in zip(taken, self.layers, strict=True)]
            found.append(_sum(family, chosen, sum(size is not None for size in taken)))
        return [*found, self.best]

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON shows of a network, its layers aside."""
        return {
            "bytes_per_value": self.bytes_per_value,
            "bytes_per_index": self.bytes_per_index,
            "dense_bytes": self.dense_bytes,
            "floor_bytes": self.floor_bytes,
            "totals": [
                {
                    "format": total.name,
                    "layers": total.layers,
                    "bytes": total.total,
                    "value_bytes": total.value_bytes,
                    "index_bytes": total.index_bytes,
                    "index_share": total.index_share,
                    "index_overhead": total.index_overhead,
                    "times_smaller": self.dense_bytes / total.total if total.total else None,
                }
                for total in self.totals
            ],
        }


def _family(size: FormatSize) -> str:
    return "bsr" if size.name.startswith("bsr:") else size.name


def _sum(name: str, sizes: Sequence[FormatSize], layers: int) -> FormatTotal:
    return FormatTotal(name, sum(size.value_bytes for size in sizes), sum(size.index_bytes for size in sizes), layers)


def _shapes(patterns: Iterable[str], area: int) -> list[tuple[int, int]]:
    """Return the blocks that patterns are made of, in elements: of ``vector:4`` it is 1 x 4, of a kernel 1 x area."""
    shapes = []
    for pattern in patterns:
        if match := re.fullmatch(r"(?:block|vector):(\d+)x(\d+)", pattern):
            shapes.append((int(match[1]), int(match[2])))
        elif match := re.fullmatch(r"vector:(\d+)", pattern):
            shapes.append((1, int(match[1])))
        elif pattern == "kernel" and area > 1:
            shapes.append((1, area))
    return shapes


def _groups(patterns: Iterable[str], value_bytes: int) -> list[tuple[int, int]]:
    """Return the N:M worth a try: what hardware takes at this width (1:2 for 4 bytes), and what patterns name."""
    always = [(1, 2), (2, 4)] if value_bytes == TF32_BYTES else [(2, 4)]
    named = [match for pattern in patterns if (match := re.fullmatch(r"(\d+):(\d+)(?:\+permute)?", pattern))]
    return list(dict.fromkeys([*always, *((int(match[1]), int(match[2])) for match in named)]))


def layer_storage(
    layer: Layer, value_bytes: int = 2, index_bytes: IndexBytes = INDEX_BYTES, patterns: Sequence[str] | None = None
) -> LayerStorage:
    """Return the bytes of a layer's weights in every format they can take.

    Parameters
    ----------
    layer : its non-zeros are stored, and nothing is said about them but their places.
    value_bytes : of one value [B].
    index_bytes : of one index or offset of CSR, CSC and BSR [B], or "auto" for the fewest that hold them.
    patterns : that the zeros obey, named as :func:`~sparsim.structure.detect` names them; None looks for them. Blocks
        that are found give BSR its shapes, beside 4 x 4.
    """
    if patterns is None:
        patterns = [found.pattern for found in detect(layer.matrix, layer.kernel)]
    sizes = all_formats(
        layer.matrix,
        value_bytes,
        n_of_m=_groups(patterns, value_bytes),
        blocks=list(dict.fromkeys([*_shapes(patterns, prod(layer.kernel)), (4, 4)])),
        index_bytes=index_bytes,
    )
    return LayerStorage(layer.name, layer.nnz * value_bytes, tuple(sizes))


def network_storage(network: Network, value_bytes: int = 2, index_bytes: IndexBytes = INDEX_BYTES) -> NetworkStorage:
    """Return the bytes of a network's weights in every format; parameters as in :func:`layer_storage`."""
    layers = tuple(layer_storage(layer, value_bytes, index_bytes) for layer in network)
    return NetworkStorage(network.name, layers, value_bytes, index_bytes)


def best_format(
    layer: Layer, value_bytes: int, patterns: Sequence[str] | None = None, index_bytes: IndexBytes = INDEX_BYTES
) -> FormatSize:
    """Return the best format alone, which is quicker; a layer without zeros is best dense, whatever its size.

    Parameters
    ----------
    layer, value_bytes, index_bytes : as in :func:`layer_storage`.
    patterns : to try BSR and N:M with, such as the one the layer was pruned to; None looks for them.
    """
    if layer.nnz == layer.size:
        return FormatSize("dense", layer.size * value_bytes, 0)
    if patterns is None:
        patterns = [found.pattern for found in detect(layer.matrix, layer.kernel)]
    return smallest_format(
        layer.matrix,
        value_bytes,
        n_of_m=_groups(patterns, value_bytes),
        blocks=_shapes(patterns, prod(layer.kernel)),
        index_bytes=index_bytes,
    )
