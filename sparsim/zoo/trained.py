"""The trained networks of the zoo: measured accuracies, and the masks they belong to."""

from __future__ import annotations

import json
import math
from typing import Any

from sparsim.errors import InputError
from sparsim.network import Network
from sparsim.pruning import Granularity, parse_granularity, prune

__all__ = ["accuracy", "left_whole", "measured_accuracy", "pruned"]

ACCURACY = "accuracy_by_variant"
LEFT_WHOLE = "left_whole"
NO_VALUES = "no_values"


def accuracy(network: Network) -> list[dict[str, Any]]:
    """Return the measured accuracies a network carries, [] if it carries none.

    Returns
    -------
    One record for the dense network (granularity "dense") and each variant:
        ``granularity``, ``sparsity`` (asked for), ``skip`` (layers left whole), ``actual_sparsity`` and ``nnz`` (of the
        whole network), ``accuracy`` (0 to 1, after fine-tuning), ``epochs``, ``seed``.

    Raises
    ------
    InputError
        If the metadata cannot be read.
    """
    records = _metadata(network, ACCURACY, "[]", list)
    for record in records:
        if not isinstance(record, dict) or {"granularity", "sparsity", "accuracy"} - record.keys():
            raise InputError(
                f"a record without granularity, sparsity or accuracy: {record}"[:120],
                source=network.name,
                place=f"metadata key '{ACCURACY}'",
                remedy="it is a JSON list of {granularity, sparsity, accuracy, ...}",
            )
    return list(records)


def _metadata(network: Network, key: str, default: str, kind: type) -> Any:
    try:
        value = json.loads(network.metadata.get(key, default))
    except ValueError as error:
        raise InputError(f"is no JSON ({error})", source=network.name, place=f"metadata key '{key}'") from None
    if not isinstance(value, kind):
        raise InputError(f"is no JSON {kind.__name__}", source=network.name, place=f"metadata key '{key}'")
    return value


def measured_accuracy(network: Network, granularity: str | Granularity, sparsity: float | None = None) -> float | None:
    """Return the accuracy (0 to 1) measured for a variant, None if nobody measured it.

    Parameters
    ----------
    network : a bundled one, pruned or not: the records travel with it.
    granularity : the pattern, or "dense".
    sparsity : the budget asked for; 0 is the dense network, N:M needs none.
    """
    record = _record(network, granularity, sparsity)
    return None if record is None else float(record["accuracy"])


def left_whole(network: Network, granularity: str | Granularity) -> list[str]:
    """Return the layers the network's own recipe does not prune, [] if it has none.

    Raises
    ------
    InputError
        If the network was loaded without values: none of its weights is worth more than another.
    """
    if NO_VALUES in network.metadata:
        raise InputError(
            f"{network.metadata[NO_VALUES]}: no weight is worth more than another",
            source=network.name,
            remedy="pruning needs values; load the network with --weights random",
        )
    rules = _metadata(network, LEFT_WHOLE, "{}", dict)
    skip = rules.get(str(parse_granularity(granularity)), rules.get("default", []))
    return [name for name in skip if any(layer.name == name for layer in network)]


def pruned(network: Network, granularity: str | Granularity, sparsity: float | None = None) -> Network:
    """Prune as the measured variants were: with the layers of :func:`left_whole` untouched.

    The same as a plain :func:`~sparsim.pruning.prune` for a network that brings no such rule.
    """
    return prune(network, granularity, sparsity, skip=left_whole(network, granularity))


def _record(network: Network, granularity: str | Granularity, sparsity: float | None) -> dict[str, Any] | None:
    records = accuracy(network)
    if granularity != "dense":
        pattern = parse_granularity(granularity)
        if pattern.fixes_sparsity:
            return next((r for r in records if r["granularity"] == str(pattern)), None)
        if sparsity != 0:
            same = (r for r in records if r["granularity"] == str(pattern) and sparsity is not None)
            return next((r for r in same if math.isclose(r["sparsity"], sparsity or 0, abs_tol=1e-9)), None)
    return next((r for r in records if r["granularity"] == "dense"), None)
