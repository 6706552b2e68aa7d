"""Networks as lists of weight tensors, and the step from a convolution to a matrix.

A convolution weight ``[out, in / groups, kh, kw]`` becomes the matrix ``[out, (in / groups) * kh * kw]``: the order
of im2col, of DLMC and of cuDNN's implicit GEMM. Its product with the unrolled activations has one column per output
position and sample.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from sparsim.errors import InputError, counted, nearest
from sparsim.graph import Graph
from sparsim.matrix import Csr, IntArray

__all__ = ["Layer", "Network"]


@dataclass(frozen=True, eq=False)
class Layer:
    """One weight tensor and what is known about the activations it meets.

    Parameters
    ----------
    name : unique in its network.
    weight : array ``[out, in]`` (linear), array ``[out, in / groups, kh, kw]`` or ``[out, in / groups, kw]``
        (convolution), or a :class:`~sparsim.matrix.Csr` already flattened to ``[out, k]``.
    stride, padding, dilation : per spatial axis, as many as the kernel has axes (or one int for all); () if unknown.
    groups : number of independent products; ``in`` and ``out`` are cut into as many parts.
    input_size : spatial size of the activations, None if unknown.
    positions : output positions per sample, for layers whose geometry is not known beyond this number.
    activation_density : share of non-zero activations entering the layer (1 = dense).
    bias : added to the outputs, ``[out]``; None if there is none or it is unknown.
    input_order : a permutation of the input channels: position i of the matrix's rank k holds channel
        ``input_order[i]`` (of every group). A pattern such as 2:4 may hold in this order only; the layer before (or a
        gather) delivers the activations in it.
    """

    name: str
    weight: npt.NDArray[Any] | Csr = field(repr=False)
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    groups: int = 1
    input_size: tuple[int, ...] | None = None
    positions: int | None = None
    activation_density: float = 1.0
    bias: npt.NDArray[Any] | None = field(default=None, repr=False)
    input_order: IntArray | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name in ("stride", "padding", "dilation"):
            if isinstance(getattr(self, name), int):
                object.__setattr__(self, name, (getattr(self, name),) * len(self.kernel))
        if not isinstance(self.weight, Csr):
            if not 2 <= self.weight.ndim <= 5:
                raise InputError(
                    f"layer '{self.name}' has a {self.weight.ndim}-D weight", remedy="a weight has 2 to 5 dimensions"
                )
            if not np.isfinite(_without_repeats(self.weight)).all():
                raise InputError(f"weights of layer '{self.name}' are not finite", remedy="replace NaN and infinity")
        if self.groups < 1 or self.shape[0] % self.groups:
            raise InputError(f"layer '{self.name}': {self.shape[0]} outputs cannot be cut into {self.groups} groups")
        for name in ("stride", "padding", "dilation", "input_size"):
            value = getattr(self, name)
            if value and len(value) != len(self.kernel):
                shape = (
                    "C" + "x".join(["", *"DHW"[3 - len(self.kernel) :]]) if len(self.kernel) <= 3 else "C and each axis"
                )
                remedy = f"give --input {shape}" if name == "input_size" else ""
                raise InputError(
                    f"layer '{self.name}': {name} {value} for a kernel of {len(self.kernel)} axes", remedy=remedy
                )
            if value and min(value) < (0 if name == "padding" else 1):
                raise InputError(f"layer '{self.name}': {name} {value} is too small")
        if self.bias is not None and (self.bias.shape != self.shape[:1] or not np.isfinite(self.bias).all()):
            raise InputError(
                f"layer '{self.name}': a bias of shape {self.bias.shape} for {self.shape[0]} outputs",
                remedy="a bias is one finite number an output",
            )
        order = self.input_order
        if order is not None and not np.array_equal(np.sort(order), np.arange(self.shape[1])):
            raise InputError(f"layer '{self.name}': input_order is no permutation of {self.shape[1]} input channels")

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the weight as stored."""
        return tuple(self.weight.shape)

    @property
    def kernel(self) -> tuple[int, ...]:
        """Spatial size of the kernel; () for a linear layer or one known only as a matrix."""
        return () if isinstance(self.weight, Csr) else self.shape[2:]

    @property
    def is_convolution(self) -> bool:
        """Whether the weight has spatial axes."""
        return bool(self.kernel)

    @property
    def size(self) -> int:
        """Number of weights, zeros included."""
        return int(np.prod(self.shape, dtype=np.int64))

    @cached_property
    def nnz(self) -> int:
        """Number of non-zero weights."""
        if isinstance(self.weight, Csr):
            return self.weight.nnz
        distinct = _without_repeats(self.weight)
        return int(np.count_nonzero(distinct)) * (self.size // max(distinct.size, 1))

    @property
    def sparsity(self) -> float:
        """Share of zero weights."""
        return 1.0 - self.nnz / self.size if self.size else 0.0

    @cached_property
    def matrix(self) -> Csr:
        """The weight as ``[out, in / groups * kernel]``, in ``input_order``; groups lie below one another."""
        weight, order = self.weight, self.input_order
        if isinstance(weight, Csr):
            return weight if order is None else weight.permute_columns(order)
        ordered = weight if order is None else weight[:, order]
        return Csr.from_dense(ordered.reshape(self.shape[0], math.prod(self.shape[1:])))

    @property
    def output_size(self) -> tuple[int, ...]:
        """Spatial size of the result; needs ``input_size``."""
        if self.input_size is None:
            raise InputError(
                f"convolution '{self.name}' has no input size",
                remedy=f"give --input CxHxW, or --input {self.name}=CxHxW for this layer alone",
            )
        sizes = []
        for axis, (size, kernel) in enumerate(zip(self.input_size, self.kernel, strict=True)):
            stride, padding, dilation = self._geometry(axis)
            out = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
            if out < 1:
                raise InputError(f"convolution '{self.name}': kernel {self.kernel} does not fit into {self.input_size}")
            sizes.append(out)
        return tuple(sizes)

    def _geometry(self, axis: int) -> tuple[int, int, int]:
        return (
            self.stride[axis] if self.stride else 1,
            self.padding[axis] if self.padding else 0,
            self.dilation[axis] if self.dilation else 1,
        )

    def columns(self, batch: int) -> int:
        """Columns of the activation matrix for ``batch`` samples: positions x batch."""
        if self.positions is not None:
            return self.positions * batch
        return int(np.prod(self.output_size, dtype=np.int64)) * batch if self.is_convolution else batch

    def unique_activations(self, batch: int) -> int:
        """Activations the layer really reads, each counted once; im2col repeats them up to kernel-size times."""
        if not self.is_convolution or self.input_size is None:
            return self.shape[1] * self.groups * self.columns(batch)
        count = self.shape[1] * self.groups * batch
        for axis, (size, out) in enumerate(zip(self.input_size, self.output_size, strict=True)):
            stride, padding, dilation = self._geometry(axis)
            taps = np.arange(out)[:, None] * stride - padding + np.arange(self.kernel[axis])[None, :] * dilation
            count *= np.unique(taps[(taps >= 0) & (taps < size)]).size
        return count

    def with_weight(self, weight: npt.NDArray[Any] | Csr) -> Layer:
        """Return the layer with other weights of the same shape."""
        if tuple(weight.shape) != self.shape:
            raise InputError(f"layer '{self.name}': weights of shape {weight.shape} replace {self.shape}")
        return replace(self, weight=weight)


def _without_repeats(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the array with every axis along which numpy repeats one element (``broadcast_to``) cut to length 1."""
    return array[tuple(slice(1) if stride == 0 else slice(None) for stride in array.strides)]


@dataclass(frozen=True, eq=False)
class Network:
    """A named list of layers.

    Parameters
    ----------
    name : of the network or the file it came from.
    layers : in the order of the file.
    metadata : whatever the checkpoint says about itself (accuracy, training), strings.
    skipped : arrays of the file that are no layers (biases, norms), name to reason.
    notes : sentences a reader of any result has to know.
    graph : how the layers hang together, None if nobody said.
    rest : the skipped arrays themselves, so that a file can be written again; empty if they were not kept.
    """

    name: str
    layers: tuple[Layer, ...]
    metadata: Mapping[str, str] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict, repr=False)
    notes: tuple[str, ...] = ()
    graph: Graph | None = field(default=None, repr=False)
    rest: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        known = [layer.name for layer in self.layers]
        for name in self.graph.layers if self.graph is not None else ():
            if name not in known:
                raise InputError(f"the graph of '{self.name}' names '{name}', which is no layer{nearest(name, known)}")

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, name: str | int) -> Layer:
        """Return a layer by name or number."""
        if isinstance(name, int):
            return self.layers[name]
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise KeyError(f"{name}{nearest(name, [layer.name for layer in self.layers])}")

    def __repr__(self) -> str:
        return (
            f"Network({self.name!r}: {counted(len(self), 'layer')}, {self.nnz:,} of {self.size:,} weights are not zero)"
        )

    @property
    def size(self) -> int:
        """Number of weights, zeros included."""
        return sum(layer.size for layer in self.layers)

    @property
    def nnz(self) -> int:
        """Number of non-zero weights."""
        return sum(layer.nnz for layer in self.layers)

    @property
    def sparsity(self) -> float:
        """Share of zero weights."""
        return 1.0 - self.nnz / self.size if self.size else 0.0

    def with_layers(self, layers: tuple[Layer, ...]) -> Network:
        """Return the network with other layers."""
        return replace(self, layers=layers)

    def with_input(self, sizes: Mapping[str, tuple[int, ...]]) -> Network:
        """Set the activations' geometry: ``{"": (C, H, W)}`` for the network, ``{layer: (C, H, W)}`` for one layer.

        A checkpoint of bare weights does not say where a network strides or pools. The size is carried from one
        convolution to the next through the stride and padding the file gives; where it gives none, stride 1 and
        "same" padding are taken and a note says so. There a convolution with weights for one input channel that gets
        many is taken for a depthwise one, with a note.

        Raises
        ------
        InputError
            If a name is not a layer, or the channels do not fit.
        """
        known = {layer.name for layer in self.layers}
        for name in sizes:
            if name and name not in known:
                raise InputError(f"--input names '{name}', which is no layer of '{self.name}'{nearest(name, known)}")
        layers: list[Layer] = []
        guessed: list[str] = []
        carried: list[str] = []
        depthwise: list[str] = []
        size = sizes.get("")
        first = True
        for layer in self.layers:
            if layer.is_convolution and layer.positions is None:
                if _is_depthwise(layer, sizes.get(layer.name, size or (0,))[0]):
                    depthwise.append(layer.name)
                    layer = replace(layer, groups=sizes.get(layer.name, size or (1,))[0])
                named = sizes.get(layer.name, size if first else None)
                if named is not None and named[0] != layer.shape[1] * layer.groups:
                    raise InputError(
                        f"--input says {named[0]} channels, layer '{layer.name}' takes {layer.shape[1] * layer.groups}"
                    )
                if layer.name in sizes:
                    layer = replace(layer, input_size=sizes[layer.name][1:])
                elif layer.input_size is None and size is not None:
                    if not layer.stride:
                        guessed.append(layer.name)
                        layer = replace(layer, padding=tuple(width // 2 for width in layer.kernel))
                    elif not first:
                        carried.append(layer.name)
                    layer = replace(layer, input_size=size[1:])
                if layer.input_size is not None:
                    size = (layer.shape[0], *layer.output_size)
                first = False
            layers.append(layer)
        notes = self.notes
        if depthwise:
            notes += (
                f"{len(depthwise)} convolution(s) ({_first(depthwise)}) have weights for one input channel and get "
                "many: taken for depthwise; the file does not say so (see the entry 'sparsim.layers')",
            )
        if guessed:
            notes += (
                f"the file gives no stride for {len(guessed)} convolution(s) ({_first(guessed)}): stride 1, "
                "no pooling and 'same' padding were taken; say --input LAYER=CxHxW where that is wrong",
            )
        elif carried:
            notes += (
                f"the input size of {len(carried)} convolution(s) ({_first(carried)}) was carried on from the "
                "one before by stride and padding; the file knows no pooling between them: say --input LAYER=CxHxW",
            )
        return replace(self, layers=tuple(layers), notes=notes)

    def to_frame(self) -> Any:
        """Return one row per layer: shape, weights, non-zeros, sparsity."""
        import pandas as pd

        return pd.DataFrame(
            [
                {
                    "layer": layer.name,
                    "shape": "x".join(map(str, layer.shape)),
                    "groups": layer.groups,
                    "weights": layer.size,
                    "nnz": layer.nnz,
                    "sparsity": layer.sparsity,
                }
                for layer in self.layers
            ]
        )

    def _repr_html_(self) -> str:
        html: str = self.to_frame().to_html(index=False, float_format=lambda value: f"{value:.3f}")
        return f"<p><b>{self.name}</b>: {self.nnz:,} of {self.size:,} weights are not zero</p>{html}"


def _is_depthwise(layer: Layer, channels: int) -> bool:
    """Whether bare weights for one input channel can only be a depthwise convolution of so many channels."""
    bare = not layer.stride and layer.groups == 1 and layer.shape[1] == 1
    return bare and channels > 1 and layer.shape[0] % channels == 0


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + " …" * (len(names) > 3)
