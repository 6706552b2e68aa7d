"""Propagation: which weights a pruned network can do without, beyond those that pruning removed.

A pruned output channel delivers a constant; whatever the next layer multiplies it with is a constant too and can be
added to its bias beforehand. An input channel that no weight reads need not be computed. Both travel from layer to
layer: this is the propagation of SparTA's sparsity attribute (Zheng et al., OSDI 2022), on whole channels, and derived
from the graph where SparTA runs the network on random inputs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sparsim.errors import InputError
from sparsim.graph import Graph, Node
from sparsim.matrix import Csr
from sparsim.network import Layer, Network
from sparsim.pruning.channels import BoolArray, FloatArray, Known, any_of, asked, made
from sparsim.pruning.links import Dense, Run, Sparse, repeat

__all__ = ["Channels", "Propagation", "chain_of", "likely_chain", "propagate"]

NUMBERED = re.compile(r"(?:[A-Za-z]+_)?\d+")
BESIDE = re.compile(
    r"lora_|shortcut|downsample|skip|residual|branch|expand|weight_[ih]h|critic|logvar"
    r"|(?:^|[._/])(?:to_|w)?(?:q|k|v|qkv|query|key|value|gate|up|mu)(?:_proj|_lin)?(?:$|[._/])"
)
NO_GRAPH = "no_graph"


@dataclass(frozen=True, eq=False)
class Channels:
    """What is known about the channels of one tensor: three arrays of one element a channel.

    Parameters
    ----------
    constant : True where the channel does not depend on the network's input.
    value : of a constant channel; NaN where it is unknown or differs from position to position, and where the channel
        is not constant.
    needed : True where the outputs of the network depend on the channel once constants are folded into biases.
    """

    constant: BoolArray
    value: FloatArray
    needed: BoolArray


@dataclass(frozen=True, eq=False)
class Propagation:
    """A network after propagation, and what it did.

    Parameters
    ----------
    network : the same layers with the useless weights set to zero and constants folded into the biases. It computes
        what the original did, but for the layers in ``bias_maps``.
    removed : non-zero weights that were set to zero, by layer.
    dead_outputs : for each layer of the graph, True for output channels that no weight leads to any more, ``[out]``.
    dead_inputs : likewise for input channels that no weight reads, ``[in]`` of all groups (``[k]`` of a matrix).
    bias_maps : layers in which one number an output channel cannot make up for the removed weights: the constant they
        multiplied is unknown, or zero padding makes it differ from position to position, or the layer runs several
        times on different constants, or its own bias is unknown. Their biases are left as they were.
    channels : what is known about each tensor of the graph whose number of channels is known.
    notes : a sentence that a reader of any result has to know: what was assumed and what came of it.
    """

    network: Network
    removed: Mapping[str, int]
    dead_outputs: Mapping[str, BoolArray] = field(repr=False)
    dead_inputs: Mapping[str, BoolArray] = field(repr=False)
    bias_maps: tuple[str, ...]
    channels: Mapping[str, Channels] = field(repr=False)
    notes: tuple[str, ...]

    @property
    def won(self) -> float:
        """Share of all weights, zeros included, that were removed: by so much the sparsity has grown."""
        return sum(self.removed.values()) / self.network.size if self.network.size else 0.0


def propagate(network: Network, graph: Graph | None = None) -> Propagation:
    """Remove the weights that cannot matter: they read a constant channel, or make a channel that nothing reads.

    Forward, in the order of the graph: an output channel is constant if all its non-zero weights read constant ones.
    Backward: a channel is needed if a surviving weight reads it for a needed output, or if an output of the network is
    made of it; of several readers one is enough. A weight survives if in some run of its layer it reads a channel that
    is not constant for an output that is needed. The backward sweep is repeated until nothing changes, which takes more
    than one sweep only where a layer runs several times.

    Parameters
    ----------
    network : pruned. A layer that is not in the graph stays as it is.
    graph : how the layers hang together; else ``network.graph``; else a chain, see :func:`chain_of`.

    Raises
    ------
    InputError
        If there is no graph and the layers do not fit as a chain, or the graph does not fit the layers.
    """
    given = network.graph if graph is None else graph
    graph = chain_of(network) if given is None else given
    layers = {layer.name: layer for layer in network}
    for name in graph.layers:
        if name not in layers:
            raise InputError(f"the graph names '{name}', which is no layer of '{network.name}'")
    known = _forward(graph, layers)
    runs = _runs(graph, layers, known)
    needed = _backward(graph, known, runs)
    folded = {name: _fold(some, needed) for name, some in runs.items()}
    changed = tuple(folded[layer.name].layer if layer.name in folded else layer for layer in network)
    removed = {old.name: 0 if new is old else old.nnz - new.nnz for old, new in zip(network, changed, strict=True)}
    maps = tuple(layer.name for layer in network if layer.name in folded and folded[layer.name].needs_map)
    counts = (sum(removed.values()), network.nnz, sum(result.constants for result in folded.values()))
    note = _note(given is None, counts, maps, len(network) - len(folded))
    return Propagation(
        replace(network, layers=changed, notes=(*network.notes, note)),
        removed,
        {name: result.dead_outputs for name, result in folded.items()},
        {name: result.dead_inputs for name, result in folded.items()},
        maps,
        {name: Channels(now.constant, now.value, needed[name]) for name, now in known.items() if now is not None},
        (note,),
    )


def chain_of(network: Network) -> Graph:
    """Return the graph in which each layer feeds the next one of the file.

    Raises
    ------
    InputError
        If the inputs of a layer are neither the outputs of the one before nor, where a convolution is flattened before
        a linear layer, a whole multiple of them.
    """
    for first, second in pairwise(network):
        outputs = first.shape[0]
        flattened = first.is_convolution or isinstance(first.weight, Csr) or isinstance(second.weight, Csr)
        times = repeat(second, outputs)
        if times is None or (times > 1 and not flattened):
            raise InputError(
                f"'{network.name}' is no chain of layers: '{first.name}' has {outputs} outputs, '{second.name}' takes "
                f"{second.shape[1] * second.groups} inputs",
                remedy="load an ONNX file or use sparsim.torch.export, which bring the graph",
            )
    return Graph.chain((layer.name, layer.shape[1] * layer.groups) for layer in network)


def likely_chain(network: Network) -> str:
    """Return "" if the layers may be taken for a chain, else the reason why not.

    Modules inside numbered blocks (``layer1.0.conv1``) usually lie beside residual connections, which a file of bare
    weights does not show; adapters, attention projections, shortcuts and recurrent weights lie beside other layers.
    A network that was exported without its graph is none either.
    """
    if network.metadata.get(NO_GRAPH):
        return network.metadata[NO_GRAPH]
    try:
        chain_of(network)
    except InputError as error:
        return error.problem
    for layer in network:
        if BESIDE.search(layer.name):
            return f"'{layer.name}' may lie beside other layers, not behind them"
        for block, inner in pairwise(re.split(r"[./]", layer.name)):
            if NUMBERED.fullmatch(block) and not NUMBERED.fullmatch(inner):
                return f"'{layer.name}' lies in a numbered block, which may have residual connections"
    return ""


def _note(chain: bool, counts: tuple[int, int, int], maps: tuple[str, ...], missing: int) -> str:
    removed, before, constants = counts
    along = "a chain of the layers in the order of the file (assumed)" if chain else "the graph"
    note = f"sparsity was propagated along {along}: {removed:,} of {before:,} non-zero weights were removed"
    if constants:
        note += f", {constants:,} constant input(s) were folded into biases"
    if maps:
        names = ", ".join(maps[:3]) + (" …" if len(maps) > 3 else "")
        note += f"; {len(maps)} layer(s) would need a bias that is not known or no single number a channel ({names})"
    if missing:
        note += f"; {missing} layer(s) are not in the graph and stay as they are"
    return note


def _forward(graph: Graph, layers: Mapping[str, Layer]) -> dict[str, Known | None]:
    """Return what is known about each tensor; None if not even the number of its channels."""
    known: dict[str, Known | None] = {}
    for node in graph.nodes:
        inputs = [known[name] for name in node.inputs]
        with np.errstate(all="ignore"):
            layer = node.operation == "layer"
            known[node.name] = Run.of(node, inputs[0], layers).result() if layer else made(node, inputs)
    return known


def _runs(graph: Graph, layers: Mapping[str, Layer], known: Mapping[str, Known | None]) -> dict[str, list[Run]]:
    runs: dict[str, list[Run]] = {}
    for node in graph.nodes:
        if node.layer is not None:
            runs.setdefault(node.layer, []).append(Run.of(node, known[node.inputs[0]], layers))
    return runs


def _backward(graph: Graph, known: Mapping[str, Known | None], runs: Mapping[str, list[Run]]) -> dict[str, BoolArray]:
    """Return which channels of each tensor are needed; one element where their number is not known."""
    needed = {name: np.zeros(1 if now is None else now.width, dtype=bool) for name, now in known.items()}
    for name in graph.outputs:
        needed[name][:] = True
    repeated = any(len(some) > 1 for some in runs.values())
    before = -1
    while before != (before := sum(int(need.sum()) for need in needed.values())):
        for node in reversed(graph.nodes):
            if node.layer is not None:
                parts: Sequence[BoolArray] = [_read(node, needed, runs[node.layer])]
            else:
                parts = asked(node, [known[name] for name in node.inputs], needed[node.name])
            for name, part in zip(node.inputs, parts, strict=True):
                needed[name] |= part.any() if known[name] is None else part
        if not repeated:
            break
    return needed


def _surviving(weights: Dense | Sparse, runs: Sequence[Run], needed: Mapping[str, BoolArray]) -> BoolArray:
    """Return the links that in some run join an input that is not constant and an output that is needed."""
    kept = [weights.cross(needed[run.node.name], ~run.constant) for run in runs]
    return kept[0] if len(kept) == 1 else any_of(kept, axis=0)


def _read(node: Node, needed: Mapping[str, BoolArray], runs: Sequence[Run]) -> BoolArray:
    """Return the channels before the layer that a surviving weight reads for a needed output of this node."""
    run = next(run for run in runs if run.node is node)
    weights = run.weights()
    links = weights.links & _surviving(weights, runs, needed)
    if len(runs) > 1:
        links &= weights.cross(needed[node.name], np.ones(run.constant.size, dtype=bool))
    read = weights.columns(links)
    return any_of(read.reshape(-1, run.repeat), axis=1) if run.repeat > 1 else read


class _Folded(NamedTuple):
    layer: Layer
    dead_outputs: BoolArray
    dead_inputs: BoolArray
    needs_map: bool
    constants: int


def _fold(runs: Sequence[Run], needed: Mapping[str, BoolArray]) -> _Folded:
    layer, weights = runs[0].layer, runs[0].weights()
    survivors = _surviving(weights, runs, needed)
    left, gone = weights.links & survivors, weights.links & ~survivors
    dead_outputs, dead_inputs = ~weights.rows(left), ~weights.columns(left)
    if not gone.any():
        return _Folded(layer, dead_outputs, dead_inputs, False, 0)
    bias, exact = _bias(weights, gone, runs, needed)
    read = any_of([weights.cross(needed[run.node.name], run.value != 0) for run in runs], axis=0)
    constants = int(np.count_nonzero(weights.columns(gone & read))) if exact else 0
    pruned = replace(layer, weight=weights.without(~survivors), bias=bias)
    return _Folded(pruned, dead_outputs, dead_inputs, not exact, constants)


def _bias(
    weights: Dense | Sparse, gone: BoolArray, runs: Sequence[Run], needed: Mapping[str, BoolArray]
) -> tuple[npt.NDArray[Any] | None, bool]:
    """Return the bias with what ``gone`` links carried, and True; the old one and False if one bias cannot do it."""
    layer = runs[0].layer
    total, settled, exact = np.zeros(layer.shape[0]), np.zeros(layer.shape[0], dtype=bool), True
    for run in runs:
        need = needed[run.node.name]
        with np.errstate(all="ignore"):
            offset = np.where(need, run.offset(weights, gone), 0.0)
        exact &= bool((np.isfinite(offset) & ((offset == 0) | np.isfinite(run.bias))).all())
        exact &= np.array_equal(offset[need & settled], total[need & settled])
        total[need] = offset[need]
        settled |= need
    if not exact or not total.any():
        return layer.bias, exact
    old = layer.bias if layer.bias is not None else np.zeros(1, getattr(layer.weight, "dtype", np.float64))
    return (old + total).astype(old.dtype if old.dtype.kind == "f" else np.float64), True
