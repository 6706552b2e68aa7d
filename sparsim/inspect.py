"""The verb: what does this file hold, and which patterns do its zeros obey?"""

from __future__ import annotations

from os import PathLike
from typing import Any

from sparsim.formats import all_formats
from sparsim.network import Layer, Network
from sparsim.structure import detect
from sparsim.variants import as_network

__all__ = ["inspect"]


def inspect(
    source: Network | str | PathLike[str], *, value_bytes: int = 2, weights: str | None = None
) -> dict[str, Any]:
    """Describe a matrix or a network.

    Parameters
    ----------
    source : a network, a file or folder, or the name of a bundled network.
    value_bytes : of a stored weight, for the sizes by format.
    weights : of a network in the zoo, see :func:`sparsim.zoo.load`.

    Returns
    -------
    ``name``, ``weights``, ``nnz``, ``sparsity``, ``layers`` (one mapping each, with ``patterns`` and bytes by format),
    ``skipped``, ``notes`` and ``metadata``.
    """
    network = as_network(source, weights=weights)
    notes = list(network.notes)
    stored = {layer.name: layer.matrix.stored_zeros for layer in network if layer.matrix.stored_zeros}
    for name, count in stored.items():
        notes.append(f"layer '{name}' stores {count:,} zeros; they cost like non-zeros (scipy: eliminate_zeros())")
    return {
        "name": network.name,
        "weights": network.size,
        "nnz": network.nnz,
        "sparsity": network.sparsity,
        "layers": [_layer(layer, value_bytes) for layer in network],
        "skipped": dict(network.skipped),
        "notes": notes,
        "metadata": dict(network.metadata),
    }


def _layer(layer: Layer, value_bytes: int) -> dict[str, Any]:
    matrix = layer.matrix
    sizes = {size.name: size.total for size in all_formats(matrix, value_bytes)}
    lengths = matrix.row_lengths
    return {
        "layer": layer.name,
        "shape": list(layer.shape),
        "groups": layer.groups,
        "weights": layer.size,
        "nnz": layer.nnz,
        "sparsity": layer.sparsity,
        "longest_row": int(lengths.max(initial=0)),
        "empty_rows": int((lengths == 0).sum()),
        "patterns": [
            {"pattern": s.pattern, "detail": s.detail, "share": s.share} for s in detect(matrix, layer.kernel)
        ],
        "format_bytes": sizes,
        "smallest_format": min(sizes, key=lambda name: sizes[name]),
    }
