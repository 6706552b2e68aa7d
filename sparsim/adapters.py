"""Low-rank adapters (LoRA): what fine-tuning a pruned network with one does to its zeros.

A frozen weight W ``[out, k]`` gets an update B·A of rank r, A ``[r, k]`` and B ``[out, r]`` (Hu et al., LoRA: Low-Rank
Adaptation of Large Language Models, ICLR 2022, section 4.1). Kept apart, W stays as sparse as it was and two skinny
dense products come on top; merged into W + B·A for inference, nothing is added and no zero is left.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from sparsim.arguments import whole
from sparsim.errors import ConfigError, InputError, nearest
from sparsim.graph import Graph, Node
from sparsim.network import Layer, Network

__all__ = ["adapted", "with_adapter"]


def with_adapter(network: Network, rank: int, *, merged: bool, layers: Iterable[str] | None = None) -> Network:
    """Return the network with a low-rank adapter at its layers.

    Parameters
    ----------
    network : the base.
    rank : r, from 1 to the smaller side of every layer's matrix ``[out, k]``.
    merged : True: the layers' weights become dense, known by their shape alone (their values are all 1 and take no
        memory). False: the layers stay, each followed by the dense layers ``<name>.lora_A`` and ``<name>.lora_B``. For
        a convolution A has its kernel and geometry, ``[r, in, *kernel]``, and B is a 1x1 convolution ``[out, r]``.
    layers : names of those that get one, by default all; grouped convolutions are then left out, with a note.

    Returns
    -------
    A network whose graph, if it has one, shows the adapters.

    Raises
    ------
    ConfigError
        If the rank is 0 or larger than a layer's matrix, a name is no layer, or a named layer is grouped.
    InputError
        If a convolution's input size is unknown, or a layer has an adapter already.
    """
    rank = whole(rank, "rank", 1)
    chosen = _chosen(network, layers)
    for layer in (layer for layer in network if layer.name in chosen):
        _check(network, layer, rank)
    found: list[Layer] = []
    for layer in network:
        if layer.name not in chosen:
            found.append(layer)
        elif merged:
            found.append(replace(layer, weight=_ones(*layer.shape), input_order=None))
        else:
            found += [layer, *_adapter(layer, rank)]
    state = "merged into the weights, which are dense again" if merged else "kept apart"
    notes = [f"low-rank adapter of rank {rank} at {len(chosen)} of {len(network)} layers, {state}"]
    if layers is None and len(chosen) < len(network):
        notes.append(f"no adapter at {len(network) - len(chosen)} grouped convolutions")
    graph = network.graph if merged or network.graph is None else _graph(network.graph, chosen)
    return replace(network, layers=tuple(found), graph=graph, notes=(*network.notes, *notes))


def adapted(network: Network) -> set[str]:
    """Return the layers that have an adapter kept apart: training moves the adapter, their own weights are frozen."""
    names = {layer.name for layer in network}
    return {name for name in names if f"{name}.lora_A" in names}


def _chosen(network: Network, layers: Iterable[str] | None) -> set[str]:
    if layers is None:
        return {layer.name for layer in network if layer.groups == 1}
    known = {layer.name: layer for layer in network}
    chosen = {layers} if isinstance(layers, str) else set(layers)
    for name in sorted(chosen):
        if name not in known:
            raise ConfigError(f"'{name}' is no layer of '{network.name}'{nearest(name, known)}", key="layers")
        if known[name].groups > 1:
            raise ConfigError(f"'{name}' is a grouped convolution, which takes no adapter", key="layers")
    return chosen


def _check(network: Network, layer: Layer, rank: int) -> None:
    smaller = min(layer.shape[0], int(np.prod(layer.shape[1:], dtype=np.int64)))
    if rank > smaller:
        allowed = f"1 to {smaller}; or name the layers that get an adapter"
        raise ConfigError(f"{rank} is larger than a side of layer '{layer.name}'", key="rank", allowed=allowed)
    if any(other.name.startswith(f"{layer.name}.lora_") for other in network):
        raise InputError(f"layer '{layer.name}' has an adapter already", remedy="name other layers")


def _ones(*shape: int) -> npt.NDArray[np.float32]:
    return np.broadcast_to(np.float32(1), shape)


def _adapter(layer: Layer, rank: int) -> tuple[Layer, Layer]:
    """Return A, which does at every position what the layer does, and B, which mixes channels."""
    down = replace(
        layer, name=f"{layer.name}.lora_A", weight=_ones(rank, *layer.shape[1:]), bias=None, input_order=None
    )
    needs_size = layer.is_convolution and layer.positions is None
    up = Layer(
        f"{layer.name}.lora_B",
        _ones(layer.shape[0], rank, *(1,) * len(layer.kernel)),
        input_size=layer.output_size if needs_size else None,
        positions=layer.positions,
    )
    return down, up


def _graph(graph: Graph, chosen: set[str]) -> Graph:
    """Return the graph with A and B beside every run of a chosen layer, their sum in its place."""
    nodes: list[Node] = []
    instead: dict[str, str] = {}
    for node in graph.nodes:
        node = replace(node, inputs=tuple(instead.get(name, name) for name in node.inputs))
        nodes.append(node)
        if node.layer in chosen:
            down, up, total = (f"{node.name}.{part}" for part in ("lora_A", "lora_B", "lora"))
            nodes += [
                Node(down, "layer", node.inputs, f"{node.layer}.lora_A"),
                Node(up, "layer", (down,), f"{node.layer}.lora_B"),
                Node(total, "add", (node.name, up)),
            ]
            instead[node.name] = total
    return Graph(tuple(nodes), tuple(instead.get(name, name) for name in graph.outputs))
