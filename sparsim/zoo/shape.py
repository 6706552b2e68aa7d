"""Published networks as the shapes of their layers: one TOML file each under ``shapes``, with its sources.

==============================  ======================================================================================
key                             meaning
==============================  ======================================================================================
``source``, ``shapes``          where the network was published, and where its shapes were read; keys of the references
``input``                       channels and spatial size of what enters
``tokens``                      positions of every linear layer, of networks that run token by token
``nodes``                       in order. A layer: ``name``, ``out``, ``in`` (of all groups), ``kernel``, ``stride``,
                                ``padding``, ``groups``, ``size`` (spatial, of what enters), ``positions``. A join:
                                ``add``, ``mul``, ``concat`` or ``opaque`` with the names it reads. ``function``. Each
                                reads the node before it, or the one named by ``from``
``blocks``                      lists of nodes that ``nodes`` repeats: ``{block, names}``. Inside, "input" is what
                                enters the block
``hidden_operations``           true (default): activations, norms and pooling follow the layers and are not written
                                down; they work inside each channel
``biases``, ``batch_norm``,     what else the network learns; it is counted, nothing more. ``copies``: of the nodes
``other_parameters``, ``copies``
``schedules``                   published prunings: densities of the layers as ``weights``, or non-zeros as ``nnz``, or
                                only their ``total``; ``activations``: densities of what *enters* each layer; ``status``
                                is published, measured or recalled (not seen in print by whoever wrote it down)
==============================  ======================================================================================
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np

from sparsim.graph import Graph, Node
from sparsim.network import Layer, Network

__all__ = ["Schedule", "Shape", "read_shape", "shape_names"]

JOINS = ("add", "mul", "concat", "opaque")
FOLDER = files("sparsim.zoo") / "shapes"


@dataclass(frozen=True)
class Schedule:
    """One published pruning of a network.

    Parameters
    ----------
    name, source, status, note : what it is, where it stands, how sure it is, what else to know.
    nnz : non-zero weights of each layer, in order.
    activations : share of non-zeros entering each layer, None if nobody published it.
    by_layer : whether densities of single layers were published; if not, all have the same.
    """

    name: str
    source: str
    status: str
    note: str
    nnz: tuple[int, ...]
    activations: tuple[float, ...] | None = None
    by_layer: bool = True


@dataclass(frozen=True, eq=False)
class Shape:
    """A network of known shapes.

    Parameters
    ----------
    title, source : what it is, where it was published.
    network : its layers with weights of 1, which take no memory, and its graph.
    parameters : everything the network learns: weights, biases, norms, embeddings, in all copies.
    tokens : positions of the linear layers, None if the network does not run token by token.
    schedules : published prunings by name, the usual one first.
    """

    title: str
    source: str
    network: Network
    parameters: int
    tokens: int | None = None
    schedules: Mapping[str, Schedule] = field(default_factory=dict)

    @property
    def macs(self) -> int:
        """Multiplies of all layers for one sample."""
        return sum(layer.size * layer.columns(1) for layer in self.network)


class _Step(NamedTuple):
    """One node with its full name, its operation and the full names it reads."""

    name: str
    operation: str
    reads: list[str]
    entry: Mapping[str, Any]


def shape_names() -> list[str]:
    """Return the names of all files, without reading them."""
    return sorted(place.name.removesuffix(".toml") for place in FOLDER.iterdir() if place.name.endswith(".toml"))


def read_shape(name: str, tokens: int | None = None) -> Shape:
    """Read the file of one network.

    Parameters
    ----------
    name : one of :func:`shape_names`.
    tokens : positions of the linear layers instead of those of the file, for networks that run token by token.
    """
    document = tomllib.loads((FOLDER / f"{name}.toml").read_text("utf-8"))
    steps = list(_steps(document))
    positions = document.get("tokens")
    if positions is not None and tokens is not None:
        positions = tokens
    layers = tuple(_layer(step, positions) for step in steps if step.operation == "layer")
    notes = (document["note"],) if "note" in document else ()
    network = Network(name, layers, skipped=_bare(steps, positions), notes=notes, graph=_graph(document, steps))
    schedules = {key: _schedule(key, entry, network) for key, entry in document.get("schedules", {}).items()}
    parameters = _parameters(document, network)
    return Shape(document["title"], document["source"], network, parameters, positions, schedules)


def _steps(document: Mapping[str, Any]) -> Iterator[_Step]:
    """Yield the nodes with blocks written out."""
    last = "input"
    for outer in document["nodes"]:
        blocks = [(f"{name}.", document["blocks"][outer["block"]]) for name in outer.get("names", ())]
        for prefix, nodes in blocks or [("", [outer])]:
            entering = last if prefix else "input"
            for entry in nodes:
                join = next((key for key in JOINS if key in entry), None)
                names = entry[join] if join else [entry["from"]] if "from" in entry else None
                reads = [last] if names is None else [entering if n == "input" else prefix + n for n in names]
                last = prefix + entry["name"]
                yield _Step(last, join or ("function" if "function" in entry else "layer"), reads, entry)


def _layer(step: _Step, tokens: int | None) -> Layer:
    entry = step.entry
    groups, kernel = entry.get("groups", 1), entry.get("kernel")
    shape = (entry["out"], entry["in"] // groups) + ((kernel, kernel) if kernel else ())
    ones = np.broadcast_to(np.float32(1), shape)
    if not kernel:
        return Layer(step.name, ones, positions=entry.get("positions", tokens))
    return Layer(
        step.name,
        ones,
        stride=(entry.get("stride", 1),) * 2,
        padding=(entry.get("padding", 0),) * 2,
        dilation=(1, 1),
        groups=groups,
        input_size=(entry["size"],) * 2,
    )


def _bare(steps: list[_Step], tokens: int | None) -> dict[str, str]:
    """Return the products of two activations: positions x positions over ``inner`` channels, all heads together."""
    return {
        step.name: f"a product without a weight: {tokens} x {tokens} positions over {step.entry['inner']} channels, "
        f"{tokens**2 * step.entry['inner']:,} multiplications"
        for step in steps
        if tokens and "inner" in step.entry
    }


def _graph(document: Mapping[str, Any], steps: list[_Step]) -> Graph:
    nodes = [Node("input", "input", attributes={"channels": document["input"][0]})]
    seen = {"input": "input"}  # the tensor that readers of a node get
    for name, operation, reads, entry in steps:
        attributes: dict[str, Any] = {key: entry[key] for key in ("function", "channels") if key in entry}
        if operation == "layer" and not _has_bias(document, "kernel" in entry):
            attributes["bias"] = False
        inputs = tuple(seen[read] for read in reads)
        nodes.append(Node(name, operation, inputs, name if operation == "layer" else None, attributes))
        seen[name] = name
        if document.get("hidden_operations", True):
            seen[name] = f"after {name}"
            nodes.append(Node(f"after {name}", "spatial", (name,), attributes={"exact": False}))
    return Graph(tuple(nodes), (steps[-1].name,))


def _has_bias(document: Mapping[str, Any], convolution: bool) -> bool:
    return bool(document["biases"] == "all" or (document["biases"] == "linear" and not convolution))


def _parameters(document: Mapping[str, Any], network: Network) -> int:
    per_output = [
        _has_bias(document, layer.is_convolution) + 2 * (document.get("batch_norm", False) and layer.is_convolution)
        for layer in network
    ]
    learnt = network.size + sum(layer.shape[0] * each for layer, each in zip(network, per_output, strict=True))
    return int(document.get("copies", 1) * learnt + sum(document.get("other_parameters", {}).values()))


def _schedule(name: str, entry: Mapping[str, Any], network: Network) -> Schedule:
    sizes = np.array([layer.size for layer in network])
    if "nnz" in entry:
        nnz = np.array(entry["nnz"])
    elif "weights" in entry:
        nnz = np.rint(sizes * np.array(entry["weights"])).astype(np.int64)
    else:  # shares of the running sum, so that the parts make exactly the total
        nnz = np.diff(np.rint(np.cumsum(sizes) * (entry["total"] / sizes.sum())), prepend=0).astype(np.int64)
    activations = tuple(entry["activations"]) if "activations" in entry else None
    texts = {key: entry[key] for key in ("source", "status", "note")}
    return Schedule(name, **texts, nnz=tuple(nnz.tolist()), activations=activations, by_layer="total" not in entry)
