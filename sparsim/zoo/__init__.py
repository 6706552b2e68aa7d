"""Networks that come with sparsim: two small trained ones with measured accuracies, and one block of realistic size.

================  ==============================================================================================
``lenet300_100``  trained on MNIST: 266,200 weights in three linear layers
``lenet5``        trained on MNIST: 430,500 weights in two convolutions and two linear layers
``resnet50_block``  shapes of ResNet-50 with synthetic weights: for costs, not for accuracies
================  ==============================================================================================

The trained ones are stored dense, in int8 with one scale a layer, by ``benchmarks/networks/train_lenet.py``; their
metadata says how they were trained, and what accuracy was measured for each pruned variant after fine-tuning. The
output layer was left whole, for ``in_channel`` the input layer too; :func:`pruned` makes the very mask a measured
accuracy belongs to (equal magnitudes, common among 127, are decided by position: the lower index stays). The values
after fine-tuning are not stored: a cost depends on positions only.
"""

from __future__ import annotations

import json
import math
from importlib.resources import as_file, files
from typing import Any

import numpy as np

from sparsim import io
from sparsim.errors import ConfigError, InputError, nearest
from sparsim.network import Layer, Network
from sparsim.pruning import Granularity, parse_granularity, prune

__all__ = ["accuracy", "left_whole", "load", "measured_accuracy", "names", "pruned", "resnet50_block"]

ACCURACY = "accuracy_by_variant"
LEFT_WHOLE = "left_whole"
TRAINED = ("lenet300_100", "lenet5")


def names() -> list[str]:
    """Return what :func:`load` takes."""
    return [*TRAINED, "resnet50_block"]


def load(name: str) -> Network:
    """Return the bundled network called ``name``.

    Raises
    ------
    ConfigError
        If there is none of that name.
    """
    if name == "resnet50_block":
        return resnet50_block()
    if name not in TRAINED:
        raise ConfigError(f"no bundled network '{name}'{nearest(name, names())}", key="zoo", allowed=", ".join(names()))
    with as_file(files("sparsim.zoo") / f"{name}.safetensors") as path:
        network = io.load(path)
    assert isinstance(network, Network)
    return network


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
    """Return the layers the network's own recipe does not prune, [] if it has none."""
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


def resnet50_block(seed: int = 0) -> Network:
    """Return one bottleneck block of ResNet-50's stage conv4_x, with synthetic weights.

    1x1 1024 -> 256, 3x3 256 -> 256, 1x1 256 -> 1024 on 14 x 14 positions: He et al., "Deep Residual Learning for Image
    Recognition", CVPR 2016, Table 1. Weights are normal with He's scale, times log-normal factors for each output and
    each input channel, so that channels differ in norm as trained ones do; they were never trained.

    Parameters
    ----------
    seed : of the weights.
    """
    rng = np.random.default_rng(seed)
    layers = []
    for name, out, inner, kernel in (("conv1", 256, 1024, 1), ("conv2", 256, 256, 3), ("conv3", 1024, 256, 1)):
        fan_in = inner * kernel * kernel
        weight = rng.normal(scale=np.sqrt(2 / fan_in), size=(out, inner, kernel, kernel))
        weight *= rng.lognormal(sigma=0.5, size=(out, 1, 1, 1)) * rng.lognormal(sigma=0.5, size=(1, inner, 1, 1))
        layers.append(
            Layer(
                name,
                weight.astype(np.float32),
                stride=(1, 1),
                padding=(kernel // 2,) * 2,
                dilation=(1, 1),
                input_size=(14, 14),
            )
        )
    synthetic = "weights are random (normal, He scale, log-normal channel factors), only the shapes are ResNet-50's"
    return Network(
        "resnet50_block",
        tuple(layers),
        metadata={
            "synthetic": synthetic,
            "source": "He et al. 2016, Table 1, conv4_x; 14 x 14 positions",
            "seed": str(seed),
        },
        notes=(f"synthetic: {synthetic}",),
    )
