"""From the nodes of an ONNX graph to a :class:`~sparsim.graph.Graph` of channels. In doubt a node is opaque."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy.typing as npt

from sparsim.graph import Graph, Node
from sparsim.io.onnx_products import RECURRENT, Dims, Product
from sparsim.io.onnx_tensors import Constant

__all__ = ["Builder", "Tensor", "build_graph", "names_read"]

RANDOM = ("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike")
SHAPES = ("Shape", "Size")


class Tensor(NamedTuple):
    """One tensor on the way: the node that makes it, and where its channels stand.

    Parameters
    ----------
    node : name in the graph.
    axis : of the channels; None if no axis is worth following.
    channels : their number, None if unknown.
    """

    node: str
    axis: int | None
    channels: int | None


class Builder:
    """What is built so far. An operation (see :mod:`sparsim.io.onnx_operations`) gets it and the ONNX node.

    Parameters
    ----------
    constants, shapes : by tensor.
    """

    def __init__(self, constants: Mapping[str, Constant], shapes: Mapping[str, Dims]) -> None:
        self.constants, self.shapes = constants, shapes
        self.tensors: dict[str, Tensor] = {}
        self.nodes: list[Node] = []
        self._names: set[str] = set()

    def emit(
        self,
        name: str,
        operation: str,
        inputs: Sequence[Tensor],
        axis: int | None,
        channels: int | None,
        layer: str | None = None,
        **more: Any,
    ) -> Tensor:
        """Add a node and return its tensor."""
        unique, number = name, 1
        while unique in self._names:
            number += 1
            unique = f"{name}#{number}"
        self._names.add(unique)
        if operation in ("input", "opaque") and channels is not None:
            more["channels"] = channels
        self.nodes.append(Node(unique, operation, tuple(tensor.node for tensor in inputs), layer, more))
        return Tensor(unique, axis, channels)

    def opaque(self, name: str, inputs: Sequence[Tensor], axis: int | None, channels: int | None) -> Tensor:
        """Add a node of which nothing is known but perhaps the channels."""
        return self.emit(name, "opaque", inputs, axis, channels)

    def aligned(self, name: str, axis: int, channels: int) -> Tensor:
        """Return a tensor with its channels on ``axis``; one whose channels stand elsewhere goes through an opaque."""
        tensor = self.tensors[name]
        if (tensor.axis, tensor.channels) == (axis, channels):
            return tensor
        return self.opaque(f"{name}/as {channels} channels", [tensor], axis, channels)

    def dims(self, name: str) -> Dims | None:
        """Return the shape of a tensor if its rank is known."""
        return self.shapes.get(name)

    def value(self, node: Any, operand: int) -> npt.NDArray[Any] | None:
        """Return the values of a constant operand."""
        constant = self.constants.get(node.input[operand]) if operand < len(node.input) else None
        return None if constant is None else constant.array

    def add_input(self, name: str) -> None:
        """Add a tensor from outside; its channels are on axis 1."""
        dims = self.dims(name)
        channels = dims[1] if dims is not None and len(dims) > 1 else None
        self.tensors[name] = self.emit(name, "input", [], 1, channels)

    def add_opaque(self, node: Any, reads: Sequence[Tensor]) -> None:
        """Add a node that mixes everything it reads."""
        for output in node.output:
            if output:
                dims = self.dims(output)
                channels = dims[1] if dims is not None and len(dims) > 1 else None
                self.tensors[output] = self.opaque(output, reads, 1, channels)


def build_graph(
    graph: Any,
    constants: Mapping[str, Constant],
    shapes: Mapping[str, Dims],
    products: Mapping[int, Sequence[Product]],
    operations: Mapping[str, Callable[[Builder, Any], Tensor | Sequence[Tensor] | None]],
) -> Graph:
    """Build the graph.

    Parameters
    ----------
    graph : the GraphProto, its nodes in order.
    constants, shapes : by tensor.
    products : by the number of the node in the graph.
    operations : by operation, a function that adds a node and returns its tensor(s); None if it cannot follow channels.
    """
    builder = Builder(constants, shapes)
    for tensor in graph.input:
        if tensor.name not in constants:
            builder.add_input(tensor.name)
    added = {product.added: product for some in products.values() for product in some if product.added}
    for number, node in enumerate(graph.node):
        reads = [builder.tensors[name] for name in names_read(node) if name in builder.tensors]
        if node.op_type in SHAPES or not (reads or node.op_type in RANDOM):
            continue  # depends on no data: a constant, or arithmetic on shapes
        if node.output[0] in added:
            builder.tensors[node.output[0]] = builder.tensors[added[node.output[0]].node.output[0]]
        elif number in products:
            _add_products(builder, node, products[number], reads)
        else:
            made = operations[node.op_type](builder, node) if node.op_type in operations and reads else None
            if made is None:
                builder.add_opaque(node, reads)
            else:
                tensors = [made] if isinstance(made, Tensor) else made
                builder.tensors |= dict(zip(node.output, tensors, strict=False))
    outputs = dict.fromkeys(builder.tensors[item.name].node for item in graph.output if item.name in builder.tensors)
    return Graph(tuple(builder.nodes), tuple(outputs))


def names_read(node: Any) -> list[str]:
    """Return the tensors a node reads, those its subgraphs take from outside included."""
    names = [name for name in node.input if name]
    for attribute in node.attribute:
        for graph in [attribute.g] if attribute.HasField("g") else attribute.graphs:
            made = {item.name for item in (*graph.input, *graph.initializer)}
            for inner in graph.node:
                names += [name for name in names_read(inner) if name not in made]
                made |= set(inner.output)
            names += [item.name for item in graph.output if item.name not in made]
    return list(dict.fromkeys(names))


def _add_products(builder: Builder, node: Any, products: Sequence[Product], reads: Sequence[Tensor]) -> None:
    if node.op_type in RECURRENT:
        _add_recurrent(builder, node, products, reads)
        return
    product = products[0]
    layer, output = product.layer, node.output[0]
    weight_first = product.left and builder.value(node, 0) is not None
    data = node.input[1 if weight_first else 0]
    if data not in builder.tensors:
        builder.add_opaque(node, reads)
        return
    dims = builder.dims(data)
    inputs = layer.shape[1] * layer.groups
    axis: int | None = 1 if "Conv" in node.op_type or node.op_type == "Gemm" else len(dims) - 1 if dims else None
    if product.left or axis is None:
        read = builder.opaque(f"{data}/as {inputs} channels", [builder.tensors[data]], None, inputs)
    else:
        read = builder.aligned(data, axis, inputs)
    more = {"bias": False} if layer.bias is None and not product.unknown_bias else {}
    made = builder.emit(output, "layer", [read], axis, layer.shape[0], layer.name, **more)
    others = [tensor for tensor in reads if tensor != builder.tensors[data]]
    if product.left or node.op_type == "ConvTranspose" or axis is None or others:
        dims = builder.dims(output)
        channels = dims[1] if dims is not None and len(dims) > 1 else None
        made = builder.opaque(f"{output}/opaque", [made, *others], 1, channels)
    builder.tensors[output] = made


def _add_recurrent(builder: Builder, node: Any, products: Sequence[Product], reads: Sequence[Tensor]) -> None:
    """Add the input product of each direction, then the recurrent one, which reads a state it has made itself."""
    made = list(reads)
    for product in products:
        layer, label = product.layer, f"{node.output[0] or node.name}/{product.layer.name}"
        if node.input[1] in builder.constants and product.weight is builder.constants[node.input[1]]:
            if node.input[0] not in builder.tensors:
                continue
            read = builder.aligned(node.input[0], 2, layer.shape[1])
        else:
            read = builder.opaque(f"{label}/state", made, None, layer.shape[1])
        made.append(builder.emit(label, "layer", [read], None, layer.shape[0], layer.name))
    builder.add_opaque(node, made)
