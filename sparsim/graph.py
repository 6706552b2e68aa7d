"""How the layers of a network hang together, as far as sparsity travels along it.

A graph is a list of nodes in an order in which each comes after its inputs. Every node makes one tensor of channels
(axis 1 of ``[batch, channels, ...]``; the features of a linear layer). An operation says no more than what it does to
single channels:

=============  ========================================================================================================
``input``      a tensor from outside; ``channels``
``layer``      the product with the weight of :class:`~sparsim.network.Layer` ``layer``, plus its bias; ``bias``: False
               says that a layer without a bias really has none (else it counts as unknown). A weight of no spatial axes
               takes ``f`` consecutive features of every channel where the tensor has not been flattened
``function``   one function of every element; ``function``: its name, if possible a key of :data:`FUNCTIONS`
``affine``     ``scale`` (else 1) and ``shift`` (else 0) per channel (a batch norm at inference)
``spatial``    works inside each channel (pooling, resizing, padding); ``exact``: a constant channel keeps its value
``add``        sum of the inputs and of ``constant`` per channel (or one for all); an input of one channel goes to all
``mul``        product of the inputs and of ``constant``, likewise
``concat``     channels of the inputs one after the other
``slice``      channels ``start`` to ``stop`` of the input
``flatten``    every channel becomes ``repeat`` consecutive ones
``opaque``     anything else: every output may depend on every input; ``channels`` if known
=============  ========================================================================================================
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from sparsim.errors import InputError, nearest

__all__ = ["FUNCTIONS", "OPERATIONS", "Graph", "Node"]

FloatArray = npt.NDArray[np.float64]

OPERATIONS: Mapping[str, tuple[str, ...]] = {
    "input": ("channels",),
    "layer": ("bias",),
    "function": ("function",),
    "affine": ("scale", "shift"),
    "spatial": ("exact",),
    "add": ("constant",),
    "mul": ("constant",),
    "concat": (),
    "slice": ("start", "stop"),
    "flatten": ("repeat",),
    "opaque": ("channels",),
}
NEEDED = {"slice": ("start", "stop"), "flatten": ("repeat",)}
SEVERAL_INPUTS = ("add", "mul", "concat")


def _sigmoid(x: FloatArray) -> FloatArray:
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-x))


def _normal_distribution(x: FloatArray) -> FloatArray:
    return np.array([0.5 * math.erfc(-value / math.sqrt(2)) for value in x])


def _where(known: Callable[[FloatArray], npt.NDArray[np.bool_]], function: Callable[[FloatArray], FloatArray]) -> Any:
    return lambda x: np.where(known(x), function(x), np.nan)


FUNCTIONS: Mapping[str, Callable[[FloatArray], FloatArray]] = {
    "identity": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "sigmoid": _sigmoid,
    "tanh": np.tanh,
    "gelu": lambda x: x * _normal_distribution(x),
    "silu": lambda x: x * _sigmoid(x),
    "hardswish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "hardsigmoid": _where(lambda x: (np.abs(x) >= 3) | (x == 0), lambda x: np.clip(x / 6 + 0.5, 0, 1)),
    "leaky_relu": _where(lambda x: x >= 0, lambda x: x),
    "elu": _where(lambda x: x >= 0, lambda x: x),
    "abs": np.abs,
    "neg": np.negative,
}
"""Functions of a vector whose value for a constant is known. NaN, for an unknown constant, gives NaN.

Those with a parameter that the graph does not keep are known only where its usual values agree: a leaky ReLU (any
slope) from zero on, an ELU likewise, a hard sigmoid (slope 1/6 in PyTorch, 0.2 in ONNX) at zero and where both are
saturated. ``gelu`` is the exact one. A function of another name may be used; its values are unknown.
"""


@dataclass(frozen=True, eq=False)
class Node:
    """One operation and the tensor it makes.

    Parameters
    ----------
    name : of the node and its tensor, unique in the graph.
    operation : a key of :data:`OPERATIONS`.
    inputs : names of the tensors it reads.
    layer : name of the layer, for operation "layer".
    attributes : what the operation needs, numbers, strings or arrays per channel; see the module.
    """

    name: str
    operation: str
    inputs: tuple[str, ...] = ()
    layer: str | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.operation not in OPERATIONS:
            raise InputError(
                f"node '{self.name}': no operation '{self.operation}'{nearest(self.operation, OPERATIONS)}"
            )
        if unknown := self.attributes.keys() - set(OPERATIONS[self.operation]):
            raise InputError(f"node '{self.name}': {self.operation} has no attribute '{min(unknown)}'")
        if (self.layer is not None) != (self.operation == "layer"):
            raise InputError(f"node '{self.name}': exactly the nodes of operation 'layer' name a layer")
        for key in NEEDED.get(self.operation, ()):
            if key not in self.attributes:
                raise InputError(f"node '{self.name}': {self.operation} needs the attribute '{key}'")
        least = 0 if self.operation in ("input", "opaque") else 1
        most = {"input": 0, "opaque": None}.get(self.operation, None if self.operation in SEVERAL_INPUTS else 1)
        if len(self.inputs) < least or (most is not None and len(self.inputs) > most):
            raise InputError(f"node '{self.name}': {self.operation} cannot have {len(self.inputs)} inputs")


@dataclass(frozen=True, eq=False)
class Graph:
    """Nodes in execution order, and the tensors that leave the network.

    Parameters
    ----------
    nodes : each after all its inputs.
    outputs : names of the tensors somebody outside reads.
    """

    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for node in self.nodes:
            if node.name in seen:
                raise InputError(f"two nodes of the graph are called '{node.name}'", remedy="names must differ")
            for name in node.inputs:
                if name not in seen:
                    raise InputError(f"node '{node.name}' reads '{name}', which no earlier node makes")
            seen.add(node.name)
        for name in self.outputs:
            if name not in seen:
                raise InputError(f"the output '{name}' is made by no node of the graph")

    @property
    def layers(self) -> list[str]:
        """Names of the layers the graph runs, in order; one that runs twice stands twice."""
        return [node.layer for node in self.nodes if node.layer is not None]

    @classmethod
    def chain(cls, layers: Iterable[tuple[str, int]]) -> Graph:
        """Return the graph of layers that feed one another.

        What lies between two of them is taken for something that works inside each channel and is otherwise unknown:
        activations, norms, pooling. A channel that does not depend on the network's input still does not after any of
        them; its value is not known.

        Parameters
        ----------
        layers : name and input channels of each, in order.
        """
        nodes: list[Node] = []
        for name, channels in layers:
            if not nodes:
                nodes.append(Node("input", "input", attributes={"channels": channels}))
            else:
                nodes.append(Node(f"before {name}", "spatial", (nodes[-1].name,), attributes={"exact": False}))
            nodes.append(Node(f"layer {name}", "layer", (nodes[-1].name,), name))
        return cls(tuple(nodes), (nodes[-1].name,) if nodes else ())

    def to_json(self) -> str:
        """Return the graph as text that :meth:`from_json` turns back into it."""
        nodes: list[dict[str, Any]] = []
        for node in self.nodes:
            entry: dict[str, Any] = {"name": node.name, "operation": node.operation, "inputs": list(node.inputs)}
            if node.layer is not None:
                entry["layer"] = node.layer
            entry |= {"attributes": {key: _plain(value) for key, value in node.attributes.items()}}
            nodes.append(entry)
        return json.dumps({"nodes": nodes, "outputs": list(self.outputs)})

    @classmethod
    def from_json(cls, text: str) -> Graph:
        """Read the graph :meth:`to_json` wrote.

        Raises
        ------
        InputError
            If the text is no such graph.
        """
        try:
            data = json.loads(text)
            nodes = tuple(
                Node(
                    str(entry["name"]),
                    str(entry["operation"]),
                    _names(entry["inputs"]),
                    entry.get("layer"),
                    {key: _array(value) for key, value in entry.get("attributes", {}).items()},
                )
                for entry in data["nodes"]
            )
            return cls(nodes, _names(data["outputs"]))
        except InputError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise InputError(
                "is no graph", place="sparsim.graph", remedy='write {"nodes": [{"name", "operation", "inputs"}], …}'
            ) from None


def _names(value: Sequence[str]) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError
    return tuple(str(name) for name in value)


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def _array(value: Any) -> Any:
    return np.asarray(value, dtype=np.float64) if isinstance(value, list) else value
