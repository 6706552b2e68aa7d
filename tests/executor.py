"""A network that runs: every node of a graph in numpy, by loops and definitions, the oracle for what travels along it.

Tensors are ``[batch, channels]`` or ``[batch, channels, height, width]``. Where a graph leaves something open (a
function of unknown name, what lies in an opaque node, how a spatial one that is not exact treats its border, a bias
nobody knows), the executor does something definite that a sound analysis may not rely on.
"""

from __future__ import annotations

import itertools
import math
from zlib import crc32

import numpy as np

from sparsim.graph import Graph, Node
from sparsim.matrix import Csr
from sparsim.network import Layer, Network

FUNCTIONS = {
    "identity": lambda x: x,
    "relu": lambda x: max(x, 0.0),
    "relu6": lambda x: min(max(x, 0.0), 6.0),
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)) if x > 0 else math.exp(x) / (1 + math.exp(x)),
    "tanh": math.tanh,
    "gelu": lambda x: x * 0.5 * (1 + math.erf(x / math.sqrt(2))),
    "silu": lambda x: x * FUNCTIONS["sigmoid"](x),
    "hardswish": lambda x: x * min(max(x + 3, 0.0), 6.0) / 6,
    "hardsigmoid": lambda x: min(max(0.2 * x + 0.5, 0.0), 1.0),
    "leaky_relu": lambda x: x if x > 0 else 0.3 * x,
    "elu": lambda x: x if x > 0 else 0.7 * (math.exp(x) - 1),
    "abs": abs,
    "neg": lambda x: -x,
}


def execute(graph: Graph, network: Network, inputs, *, biases=None, change=None):
    """Return every tensor by name.

    ``biases``: what the layers really add whose bias is None, none of them if it is not given. ``change``: by node, a
    function applied to its tensor before anybody reads it.
    """
    tensors = {}
    for node in graph.nodes:
        read = [tensors[name] for name in node.inputs]
        if node.operation == "input":
            made = inputs[node.name]
        elif node.operation == "layer":
            layer = network[node.layer]
            bias = layer.bias if layer.bias is not None else (biases or {}).get(layer.name, np.zeros(layer.shape[0]))
            made = apply_layer(layer, bias, read[0])
        else:
            made = OPERATIONS[node.operation](node, read)
        tensors[node.name] = (change or {}).get(node.name, lambda x: x)(made)
    return tensors


def apply_layer(layer: Layer, bias, x):
    if not layer.is_convolution:
        weight = layer.weight.block_diagonal(layer.groups).to_dense() if isinstance(layer.weight, Csr) else layer.weight
        if not isinstance(layer.weight, Csr):
            weight = _block_diagonal(weight, layer.groups)
        return x.reshape(len(x), -1) @ weight.T + bias
    weight = layer.weight
    out, width, *kernel = weight.shape
    stride, padding, dilation = layer.stride or (1, 1), layer.padding or (1, 1), layer.dilation or (1, 1)
    padded = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in padding)])
    size = [
        (s - d * (k - 1) - 1) // t + 1 for s, k, t, d in zip(padded.shape[2:], kernel, stride, dilation, strict=True)
    ]
    result = np.empty((len(x), out, *size))
    for o in range(out):
        first = o // (out // layer.groups) * width
        for place in itertools.product(*(range(s) for s in size)):
            total = bias[o]
            for tap in itertools.product(*(range(k) for k in kernel)):
                at = tuple(p * t + k * d for p, t, k, d in zip(place, stride, tap, dilation, strict=True))
                total = total + padded[:, first : first + width, *at] @ weight[o, :, *tap]
            result[:, o, *place] = total
    return result


def _block_diagonal(weight, groups):
    out, width = weight.shape
    whole = np.zeros((out, width * groups))
    for o in range(out):
        first = o // (out // groups) * width
        whole[o, first : first + width] = weight[o]
    return whole


def _columns(vector, x):
    return np.reshape(vector, (-1, *[1] * (x.ndim - 2))) if np.ndim(vector) else vector


def _function(node: Node, read):
    scalar = FUNCTIONS.get(node.attributes["function"], math.cos)
    return np.vectorize(scalar, otypes=[float])(read[0])


def _affine(node: Node, read):
    scale, shift = (_columns(node.attributes.get(k, d), read[0]) for k, d in (("scale", 1.0), ("shift", 0.0)))
    return read[0] * scale + shift


def _spatial(node: Node, read):
    """Global maximum if exact, else a border of ones: constants, zeros too, differ from position to position."""
    x = read[0]
    if node.attributes["exact"]:
        return x.max(axis=(2, 3), keepdims=True) if x.ndim == 4 else x
    return np.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)], constant_values=1.0) if x.ndim == 4 else np.cos(x)


def _add(node: Node, read):
    return sum(read[1:], read[0] + _columns(node.attributes.get("constant", 0.0), read[0]))


def _mul(node: Node, read):
    return math.prod(read[1:], start=read[0] * _columns(node.attributes.get("constant", 1.0), read[0]))


def _opaque(node: Node, read):
    """A dense product of all there is, different for every node."""
    features = np.concatenate([x.reshape(len(x), -1) for x in read], axis=1)
    rng = np.random.default_rng(crc32(node.name.encode()))
    return np.cos(features @ rng.normal(size=(features.shape[1], node.attributes.get("channels", 2))))


OPERATIONS = {
    "function": _function,
    "affine": _affine,
    "spatial": _spatial,
    "add": _add,
    "mul": _mul,
    "concat": lambda node, read: np.concatenate(read, axis=1),
    "slice": lambda node, read: read[0][:, node.attributes["start"] : node.attributes["stop"]],
    "flatten": lambda node, read: read[0].reshape(len(read[0]), -1),
    "opaque": _opaque,
}
