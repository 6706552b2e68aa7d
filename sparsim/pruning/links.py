"""Which channels the weights of a layer join, and what the layer makes of constant ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from sparsim.errors import InputError
from sparsim.graph import Node
from sparsim.matrix import Csr, IntArray
from sparsim.network import Layer
from sparsim.pruning.channels import BoolArray, FloatArray, Known, any_of

__all__ = ["Dense", "Run", "Sparse", "repeat"]


class Dense:
    """An array of weights; links are ``[groups, out / groups, in / groups]``.

    ``links`` is True where a weight, of all positions of the kernel, is not zero.
    """

    def __init__(self, layer: Layer) -> None:
        assert not isinstance(layer.weight, Csr)
        out, width = layer.shape[:2]
        self.stored = layer.shape
        self.shape = (layer.groups, out // layer.groups, width)
        self.blocks = layer.weight.reshape(*self.shape, prod(layer.kernel))
        self.links: BoolArray = (
            self.blocks[..., 0] != 0 if self.blocks.shape[3] == 1 else any_of(self.blocks != 0, axis=-1)
        )

    def cross(self, rows: BoolArray, columns: BoolArray) -> BoolArray:
        """Return the links from ``columns`` (of all groups) to ``rows``, absent weights included."""
        groups, height, width = self.shape
        crossing = np.repeat(columns.reshape(groups, 1, width), height, axis=1)
        crossing[~rows.reshape(groups, height)] = False
        return crossing

    def rows(self, links: BoolArray) -> BoolArray:
        """Return the outputs that have one of the links."""
        return any_of(links, axis=2).ravel()

    def columns(self, links: BoolArray) -> BoolArray:
        """Return the inputs that have one of the links."""
        return any_of(links, axis=1).ravel()

    def offset(self, value: FloatArray, links: BoolArray) -> FloatArray:
        """Return what inputs of these values, the same at all positions, add to each output through ``links``."""
        groups, height, width = self.shape
        total = np.zeros((groups, height))
        for group, inputs in enumerate(value.reshape(groups, width)):
            used = np.flatnonzero(inputs)
            if used.size:
                sums = self.blocks[group, :, used].sum(axis=-1, dtype=np.float64)
                total[group] = np.einsum("xo,xo,x->o", sums, links[group, :, used], inputs[used])
        return total.ravel()

    def without(self, dead: BoolArray) -> npt.NDArray[Any]:
        """Return the weight with zeros at the links ``dead``."""
        kept: npt.NDArray[Any] = np.where(dead[..., None], self.blocks.dtype.type(0), self.blocks)
        return kept.reshape(self.stored)


class Sparse:
    """A sparse matrix of weights; links are one a stored element. A stored zero joins nothing."""

    def __init__(self, layer: Layer) -> None:
        assert isinstance(layer.weight, Csr)
        self.matrix = layer.weight
        out, width = layer.weight.shape
        self.row: IntArray = np.repeat(np.arange(out), layer.weight.row_lengths)
        self.column: IntArray = layer.weight.indices + self.row // max(out // layer.groups, 1) * width
        self.size = (out, width * layer.groups)
        values = layer.weight.values
        self.links: BoolArray = np.ones(self.row.size, dtype=bool) if values is None else values != 0

    def cross(self, rows: BoolArray, columns: BoolArray) -> BoolArray:
        """Return the links from ``columns`` (of all groups) to ``rows``, stored zeros included."""
        return rows[self.row] & columns[self.column]

    def rows(self, links: BoolArray) -> BoolArray:
        """Return the outputs that have one of the links."""
        return np.bincount(self.row[links], minlength=self.size[0]) > 0

    def columns(self, links: BoolArray) -> BoolArray:
        """Return the inputs that have one of the links."""
        return np.bincount(self.column[links], minlength=self.size[1]) > 0

    def offset(self, value: FloatArray, links: BoolArray) -> FloatArray:
        """Return what inputs of these values add to each output through ``links``; NaN if the weights are unknown."""
        links = links & (value[self.column] != 0)
        weight = np.nan if self.matrix.values is None else self.matrix.values[links].astype(np.float64)
        part = weight * value[self.column[links]]
        return np.bincount(self.row[links], part, self.size[0]).astype(np.float64)

    def without(self, dead: BoolArray) -> Csr:
        """Return the matrix without the elements ``dead``."""
        values = None if self.matrix.values is None else self.matrix.values[~dead]
        indptr = np.concatenate([[0], np.cumsum(np.bincount(self.row[~dead], minlength=self.size[0]))])
        return Csr.build(self.matrix.shape, indptr, self.matrix.indices[~dead], values)


@dataclass(frozen=True, eq=False)
class Run:
    """A layer at one node of the graph.

    Parameters
    ----------
    node : that runs it.
    layer : with its weight in the order of the file.
    repeat : consecutive inputs of the layer that belong to one channel of the tensor before.
    constant : inputs that are constant, ``[in]`` of all groups.
    value : of the inputs; NaN where it is unknown, 0 where the input is not constant.
    bias : ``[out]``, NaN where it is unknown.
    padded : whether zero padding may stand beside an input.
    """

    node: Node
    layer: Layer
    repeat: int
    constant: BoolArray
    value: FloatArray
    bias: FloatArray
    padded: bool

    @classmethod
    def of(cls, node: Node, known: Known | None, layers: Mapping[str, Layer]) -> Run:
        """Return the run of a node whose input is ``known``.

        Raises
        ------
        InputError
            If the layer does not take so many channels.
        """
        layer = layers[str(node.layer)]
        columns = layer.shape[1] * layer.groups
        known = Known.alive(columns) if known is None else known
        times = repeat(layer, known.width)
        if times is None:
            raise InputError(
                f"layer '{layer.name}' takes {columns} inputs, but '{node.inputs[0]}' has {known.width} channels",
                place=f"node '{node.name}'",
            )
        constant = np.repeat(known.constant, times)
        value = np.where(constant, np.repeat(known.value, times), 0.0)
        if layer.bias is not None:
            bias = layer.bias.astype(np.float64)
        else:
            bias = np.full(layer.shape[0], 0.0 if node.attributes.get("bias") is False else np.nan)
        return cls(node, layer, times, constant, value, bias, _may_be_padded(layer, times))

    def weights(self) -> Dense | Sparse:
        """Return the weights; they are not kept, as the links of a large network are large too."""
        return Sparse(self.layer) if isinstance(self.layer.weight, Csr) else Dense(self.layer)

    def result(self) -> Known:
        """Return the layer's outputs: constant where every non-zero weight reads a constant input."""
        weights = self.weights()
        every = np.ones(self.layer.shape[0], dtype=bool)
        constant = ~weights.rows(weights.links & weights.cross(every, ~self.constant))
        return Known.of(self.bias + self.offset(weights, weights.links), constant)

    def offset(self, weights: Dense | Sparse, links: BoolArray) -> FloatArray:
        """Return what constant inputs add to each output through ``links``; NaN where that is no known number."""
        vague = self.value != 0 if self.padded else np.isnan(self.value)
        total = weights.offset(np.where(vague, 0.0, self.value), links)
        if vague.any():
            every = np.ones(self.layer.shape[0], dtype=bool)
            total[weights.rows(links & weights.cross(every, vague))] = np.nan
        return total


def repeat(layer: Layer, channels: int) -> int | None:
    """Return how many consecutive inputs of the layer belong to one of so many channels; None if they do not fit."""
    inputs = layer.shape[1] * layer.groups
    if inputs == channels:
        return 1
    several = isinstance(layer.weight, Csr) or not layer.is_convolution
    return inputs // channels if several and channels and inputs and inputs % channels == 0 else None


def _may_be_padded(layer: Layer, times: int) -> bool:
    if isinstance(layer.weight, Csr):  # several columns a channel may be the positions of a kernel
        return times > 1
    known = layer.padding and layer.positions is None
    return any(layer.padding) or (not known and prod(layer.kernel) > 1)
