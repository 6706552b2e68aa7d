"""The verb: what does this file hold, and which patterns do its zeros obey?"""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Any

from sparsim.arguments import whole
from sparsim.formats import INDEX_BYTES, IndexBytes
from sparsim.network import Layer, Network
from sparsim.storage import LayerStorage, NetworkStorage, layer_storage
from sparsim.structure import Structure, detect
from sparsim.variants import as_network

__all__ = ["inspect"]


def inspect(
    source: Network | str | PathLike[str],
    *,
    value_bytes: int = 2,
    index_bytes: IndexBytes = INDEX_BYTES,
    weights: str | None = None,
) -> dict[str, Any]:
    """Describe a matrix or a network.

    Parameters
    ----------
    source : a network, a file or folder, or the name of a bundled network.
    value_bytes : of a stored weight, for the sizes by format.
    index_bytes : of an index or offset in CSR, CSC and BSR, or "auto" for the fewest that hold them.
    weights : of a network in the zoo, see :func:`sparsim.zoo.load`.

    Returns
    -------
    ``name``, ``weights``, ``nnz``, ``sparsity``, ``layers`` (one mapping each, with ``patterns`` and ``storage``: bytes
    by format), ``storage`` (totals by format), ``skipped``, ``notes`` and ``metadata``.
    """
    value_bytes = whole(value_bytes, "--value-bytes", 1, 8)
    network = as_network(source, weights=weights)
    notes = list(network.notes)
    stored = {layer.name: layer.matrix.stored_zeros for layer in network if layer.matrix.stored_zeros}
    for name, count in stored.items():
        notes.append(f"layer '{name}' stores {count:,} zeros; they cost like non-zeros (scipy: eliminate_zeros())")
    found = [detect(layer.matrix, layer.kernel) for layer in network]
    sizes = tuple(
        layer_storage(layer, value_bytes, index_bytes, [structure.pattern for structure in structures])
        for layer, structures in zip(network, found, strict=True)
    )
    return {
        "name": network.name,
        "weights": network.size,
        "nnz": network.nnz,
        "sparsity": network.sparsity,
        "layers": [_layer(*parts) for parts in zip(network, found, sizes, strict=True)],
        "storage": NetworkStorage(network.name, sizes, value_bytes, index_bytes).to_dict(),
        "skipped": dict(network.skipped),
        "notes": notes,
        "metadata": dict(network.metadata),
    }


def _layer(layer: Layer, found: Sequence[Structure], storage: LayerStorage) -> dict[str, Any]:
    lengths = layer.matrix.row_lengths
    return {
        "layer": layer.name,
        "shape": list(layer.shape),
        "groups": layer.groups,
        "weights": layer.size,
        "nnz": layer.nnz,
        "sparsity": layer.sparsity,
        "longest_row": int(lengths.max(initial=0)),
        "empty_rows": int((lengths == 0).sum()),
        "patterns": [{"pattern": s.pattern, "detail": s.detail, "share": s.share} for s in found],
        "format_bytes": {size.name: size.total for size in storage.sizes},
        "smallest_format": storage.best.name,
        "storage": storage.to_dict(),
    }
