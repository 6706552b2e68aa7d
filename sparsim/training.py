"""The three products of a training step: outputs, gradient of the inputs, gradient of the weights.

For a layer Y = W·X with the weights W ``[m, k]`` and the activations X ``[k, n]`` (a convolution's in im2col form):

==================  ===========  ======================================================================================
``forward``         W·X          as at inference
``input_gradient``  W^T·dY       ``[k, n]``; the zeros of W help as they do forward, but seen along the other axis (2:4
                                 along k is none along m). A convolution's result is in im2col form too: adding up the
                                 copies of each activation (col2im) is no product and not counted.
``weight_gradient`` dY·X^T       ``[m, k]``; the mask tells which *results* are wanted (a sampled product, SDDMM), not
                                 which operands are zero
==================  ===========  ======================================================================================

No machine here samples a product's results, so the gradient of the weights is computed for the rows and columns of
the mask that hold anything: removed channels shrink it, scattered zeros do not. Hardware that does sample would need
``nnz(W) * n`` multiplies. Methods that grow weights anew need the gradient of all weights now and then
(``dense_gradient``).

Sources: Hoefler et al., Sparsity in Deep Learning, JMLR 2021 (the three products of sparse training); Evci et al.,
Rigging the Lottery, ICML 2020, appendix on FLOPs: a step costs three times the sparse forward product, and with the
gradient of all weights twice that and once the dense one.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from sparsim.adapters import adapted
from sparsim.matrix import Csr
from sparsim.network import Layer, Network
from sparsim.workload import DataType, Operand, Workload, at_width, layer_workload

__all__ = ["PRODUCTS", "layer_training", "training_workloads"]

PRODUCTS = ("forward", "input_gradient", "weight_gradient")
BoolArray = npt.NDArray[np.bool_]


def training_workloads(
    network: Network,
    *,
    batch: int = 1,
    dtype: str | DataType | None = None,
    columns: int | None = None,
    seed: int = 0,
    dense_gradient: bool = False,
) -> list[Workload]:
    """Return the products of one training step, layer by layer in the order of :data:`PRODUCTS`.

    Layers that read nothing but the network's input need no gradient of it: those the graph shows, or the first layer
    where there is no graph. Layers with an adapter kept apart are frozen and need no gradient of their weights.

    Parameters
    ----------
    network : with its masks as zeros.
    batch : samples of the step.
    dtype : of all operands, fp16 unless said.
    columns : output positions per sample for layers whose geometry is unknown.
    seed : of random activations.
    dense_gradient : see :func:`layer_training`.

    Raises
    ------
    InputError
        If a convolution's input size is unknown, or ``batch`` is not positive.
    """
    kind = DataType.parse(dtype) if dtype else DataType.FP16
    first, frozen = _first_layers(network), adapted(network)
    found: list[Workload] = []
    for layer in network:
        found += layer_training(
            at_width(layer, columns),
            batch=batch,
            dtype=kind,
            seed=seed,
            name=network.name,
            first=layer.name in first,
            frozen=layer.name in frozen,
            dense_gradient=dense_gradient,
        ).values()
    return found


def layer_training(
    layer: Layer,
    *,
    batch: int = 1,
    dtype: DataType = DataType.FP16,
    seed: int = 0,
    name: str = "",
    first: bool = False,
    frozen: bool = False,
    dense_gradient: bool = False,
) -> dict[str, Workload]:
    """Return the products of a layer's training step, by the names of :data:`PRODUCTS`.

    The gradient of the outputs is dense; the activations keep their density, and the same zeros in all products. Of a
    grouped convolution all groups that hold anything compute the gradient of as many rows and columns as the fullest.

    Parameters
    ----------
    layer : with its mask as zeros.
    batch : samples of the step.
    dtype : of all operands.
    seed : of random activations.
    name : of the network.
    first : the layer reads the network's input, whose gradient nobody needs: no "input_gradient".
    frozen : the weights are not trained: no "weight_gradient".
    dense_gradient : compute the gradient of removed weights too, as RigL does when it updates its mask.

    Raises
    ------
    InputError
        If a convolution's input size is unknown, or ``batch`` is not positive.

    Examples
    --------
    >>> layer = Layer("fc", np.array([[1.0, 0.0, 2.0], [0.0, 0.0, 0.0]]))
    >>> {name: each.multiplies for name, each in layer_training(layer, batch=10).items()}
    {'forward': 20, 'input_gradient': 20, 'weight_gradient': 20}
    >>> layer_training(layer, batch=10, dense_gradient=True)["weight_gradient"].multiplies
    60
    """
    forward = layer_workload(layer, batch=batch, dtype=dtype, seed=seed, name=name)
    parts = {"forward": forward}
    if not first:
        parts["input_gradient"] = _input_gradient(forward)
    if not frozen:
        parts["weight_gradient"] = _weight_gradient(forward, dense_gradient)
    return {
        part: replace(workload, layer=f"{layer.name}:{part}", weight_of=layer.name) for part, workload in parts.items()
    }


def _first_layers(network: Network) -> set[str]:
    """Return the layers below which there is no other."""
    if network.graph is None:
        return {name for layer in network.layers[:1] for name in (layer.name, f"{layer.name}.lora_A")}
    above_a_layer: set[str] = set()
    first: set[str] = set()
    deeper: set[str] = set()
    for node in network.graph.nodes:
        below = not above_a_layer.isdisjoint(node.inputs)
        if node.layer is not None:
            (deeper if below else first).add(node.layer)
        if below or node.layer is not None:
            above_a_layer.add(node.name)
    return first - deeper


def _input_gradient(forward: Workload) -> Workload:
    """Return W^T·dY; of groups, each its own."""
    rows, groups = forward.m // forward.groups, forward.groups
    if forward.a.pattern == "dense":
        transposed = Operand.dense(forward.k * groups, rows)
    else:
        transposed = _transposed(forward.a, np.ones((groups, rows), dtype=bool))
    return replace(forward, a=transposed, b=Operand.dense(forward.m, forward.n), b_unique_elements=None)


def _weight_gradient(forward: Workload, dense_gradient: bool) -> Workload:
    """Return dY·X^T for the rows and columns of the mask that hold anything; its dense twin is the whole of it."""
    groups, rows = forward.groups, forward.m // forward.groups
    whole = replace(
        forward,
        a=Operand.dense(forward.m, forward.n),
        b=_transposed(forward.b, np.ones((groups, forward.k), dtype=bool)),
    )
    if dense_gradient or forward.a.is_dense:
        return whole
    mask = forward.a.csr
    row = np.repeat(np.arange(forward.m), mask.row_lengths)
    kept_rows, kept_columns = np.zeros((groups, rows), dtype=bool), np.zeros((groups, forward.k), dtype=bool)
    kept_rows.ravel()[row] = True
    kept_columns[row // max(rows, 1), mask.indices] = True
    blocks = max(1, int(kept_rows.any(axis=1).sum()))
    unique = forward.b_unique_elements
    return replace(
        whole,
        a=Operand.dense(blocks * int(kept_rows.sum(axis=1).max(initial=0)), forward.n),
        b=_transposed(forward.b, kept_columns),
        groups=blocks,
        # exact where whole input channels go: im2col repeats the activations of all of them alike
        b_unique_elements=None if unique is None else -(-unique * int(kept_columns.sum()) // max(kept_columns.size, 1)),
        dense_twin=whole,
    )


def _transposed(stacked: Operand, kept: BoolArray) -> Operand:
    """Transpose each of the blocks that lie below one another, without the rows that are not kept.

    Parameters
    ----------
    stacked : blocks of equal height, [blocks * height, n].
    kept : [blocks, height]. A block that keeps none goes (the last one stays as an empty one); the others become as
        wide as the widest.
    """
    holds = kept.any(axis=1)
    blocks, width = max(1, int(holds.sum())), int(kept.sum(axis=1).max(initial=0))
    shape = (blocks * stacked.cols, width)
    if stacked.pattern == "dense":
        return Operand.dense(*shape)
    csr = stacked.csr
    row = np.repeat(np.arange(stacked.rows), csr.row_lengths)
    stays = kept.ravel()[row]
    row, column = row[stays], csr.indices[stays].astype(np.int64)
    block, place = np.cumsum(holds) - 1, (np.cumsum(kept, axis=1) - 1).ravel()
    return Operand.of(Csr.from_coo(shape, block[row // max(kept.shape[1], 1)] * stacked.cols + column, place[row]))
