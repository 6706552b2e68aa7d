"""The operations of PyTorch that multiply, each brought to the form weight times activations.

Everything but convolutions and recurrent layers is a contraction, written as in ``einsum`` by one letter an axis:
letters that only the weight has are its outputs, letters of both that the result lacks are its inputs, letters of all
three are groups, and the others are positions.
"""

from __future__ import annotations

import math
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from sparsim.torch.parameters import transposed_matrix

if TYPE_CHECKING:
    from sparsim.torch.record import Recorder

__all__ = ["HANDLERS", "Product"]

Arguments = tuple[Any, ...]
Options = dict[str, Any]
LETTERS = string.ascii_letters
CONVOLUTION = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
TRANSPOSED = ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")


@dataclass(eq=False)
class Product:
    """One call that multiplied a weight with activations.

    Parameters
    ----------
    weight : ``[out, in / groups, *kernel]``, as used.
    bias : ``[out]``, None if there is none.
    columns : columns of the activation matrix, all samples together.
    nonzeros, inputs : activations that are not zero, and all of them; 0 and 0 if they could not be seen.
    groups, stride, padding, dilation, input_size : as in :class:`~sparsim.network.Layer`.
    axes : axis of the input channels in the activations and of the output channels in the result; None if either is
        spread over several axes.
    squares : float64 ``[in]`` (all groups), sum of the squares of each input channel, if asked for.
    name : of the layer, see :mod:`sparsim.torch.parameters`.
    owns : names of the parameters that are its weight and bias.
    made_of : names of all parameters and buffers they are computed from.
    """

    weight: Any
    bias: Any = None
    columns: int = 0
    nonzeros: int = 0
    inputs: int = 0
    groups: int = 1
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    input_size: tuple[int, ...] | None = None
    axes: tuple[int, int] | None = None
    squares: Any = None
    name: str = ""
    owns: frozenset[str] = frozenset()
    made_of: frozenset[str] = frozenset()

    @property
    def geometry(self) -> tuple[Any, ...]:
        """What two calls of one layer agree in; calls that do not are two layers."""
        shape = tuple(self.weight.shape)
        return shape, self.groups, self.stride, self.padding, self.dilation, self.input_size, self.columns


def _linear(recorder: Recorder, name: str, result: Any, args: Arguments, options: Options) -> None:
    x, weight, bias = _bind(("input", "weight", "bias"), args, options)
    shared = LETTERS[: x.ndim - 1]
    out = "Z" if weight.ndim == 2 else ""
    _contract(recorder, name, (x, weight), (f"{shared}Y", f"{out}Y", shared + out), bias)


def _matmul(recorder: Recorder, name: str, result: Any, args: Arguments, options: Options) -> None:
    first, second = _operands(args, options)
    if name == "rmatmul":
        first, second = second, first
    _contract(recorder, name, (first, second), _matmul_letters(first.ndim, second.ndim))


def _added_matmul(recorder: Recorder, name: str, result: Any, args: Arguments, options: Options) -> None:
    bias, first, second = _operands(args, options)
    scaled = any(options.get(key, 1) != 1 for key in ("beta", "alpha"))
    letters = _matmul_letters(first.ndim, second.ndim)
    _contract(recorder, name, (first, second), letters, None if scaled else bias)


def _einsum(recorder: Recorder, name: str, result: Any, args: Arguments, options: Options) -> None:
    operands = _operands(args[1:], options)
    if len(operands) != 2:
        recorder.bare.append((name, tuple(tuple(tensor.shape) for tensor in operands), 0))
        return
    inputs, arrow, out = args[0].replace(" ", "").partition("->")
    terms = inputs.split(",")
    spare = "".join(letter for letter in LETTERS if letter not in inputs)
    wide = [tensor.ndim - len(term.replace("...", "")) for term, tensor in zip(terms, operands, strict=True)]
    run = spare[: max(wide)]
    terms = [term.replace("...", run[len(run) - width :]) for term, width in zip(terms, wide, strict=True)]
    if not arrow:
        once = sorted(letter for letter in set(inputs) - set(".,") if inputs.count(letter) == 1)
        out = "..." * ("..." in inputs) + "".join(once)
    _contract(recorder, name, (operands[0], operands[1]), (terms[0], terms[1], out.replace("...", run)))


def _tensordot(recorder: Recorder, name: str, result: Any, args: Arguments, options: Options) -> None:
    first, second, dims = _bind(("a", "b", "dims"), args, options)
    dims = 2 if dims is None else dims
    if isinstance(dims, int):
        dims = (range(first.ndim - dims, first.ndim), range(dims))
    left, right = list(LETTERS[: first.ndim]), list(LETTERS[first.ndim : first.ndim + second.ndim])
    for one, other in zip(*dims, strict=True):
        right[other] = left[one]
    out = [letter for letter in left + right if not (letter in left and letter in right)]
    _contract(recorder, name, (first, second), ("".join(left), "".join(right), "".join(out)))


def _contract(
    recorder: Recorder, name: str, operands: tuple[Any, Any], letters: tuple[str, str, str], bias: Any = None
) -> None:
    (x, weight), (at_x, at_weight, out) = operands, letters
    if recorder.is_constant(x):
        x, weight, at_x, at_weight = weight, x, at_weight, at_x
    weight, at_weight = _without_repeats(weight, at_weight, x, at_x)
    sizes = dict(zip(at_x, x.shape, strict=True)) | dict(zip(at_weight, weight.shape, strict=True))
    groups = [letter for letter in at_weight if letter in at_x and letter in out]
    inner = [letter for letter in at_weight if letter in at_x and letter not in out]
    outer = [letter for letter in at_weight if letter not in at_x]
    plain = len(sizes) == len(set(at_x) | set(at_weight)) and len(at_x) == len(set(at_x)) and set(outer) <= set(out)
    if not recorder.is_constant(weight) or not plain or len(at_weight) != len(set(at_weight)):
        recorder.bare.append((name, (tuple(x.shape), tuple(weight.shape)), math.prod(sizes.values())))
        return
    x = x.expand([sizes[letter] for letter in at_x])
    positions = [letter for letter in at_x if letter not in at_weight]
    arranged = weight.permute([at_weight.index(letter) for letter in groups + outer + inner])
    width, count = math.prod(sizes[letter] for letter in inner), math.prod(sizes[letter] for letter in groups)
    single = not groups and len(inner) == len(outer) == 1
    product = Product(
        arranged.detach().reshape(-1, width),
        bias,
        columns=math.prod(sizes[letter] for letter in positions),
        groups=count,
        axes=(at_x.index(inner[0]), out.index(outer[0])) if single else None,
    )
    x = x.permute([at_x.index(letter) for letter in positions + groups + inner]).reshape(-1, count * width)
    recorder.add(product, arranged, x, 1)


def _without_repeats(weight: Any, at_weight: str, x: Any, at_x: str) -> tuple[Any, str]:
    """Drop the axes along which a weight is the same for every group: broadcast, or expanded before."""
    for axis in reversed(range(weight.ndim)):
        repeated = weight.shape[axis] == 1 or weight.stride(axis) == 0
        if repeated and at_weight[axis] in at_x and x.shape[at_x.index(at_weight[axis])] > 1:
            weight, at_weight = weight.select(axis, 0), at_weight[:axis] + at_weight[axis + 1 :]
    return weight, at_weight


def _matmul_letters(first: int, second: int) -> tuple[str, str, str]:
    shared = LETTERS[: max(first, second, 2) - 2]
    left = shared[len(shared) - max(first - 2, 0) :] + ("XY" if first > 1 else "Y")
    right = shared[len(shared) - max(second - 2, 0) :] + ("YZ" if second > 1 else "Y")
    return left, right, shared + "X" * (first > 1) + "Z" * (second > 1)


def _convolution(recorder: Recorder, name: str, result: Any, args: Arguments, options: Options) -> None:
    x, weight, bias, stride, padding, dilation, groups = _bind(CONVOLUTION, args, options)
    axes = weight.ndim - 2
    batched = x.ndim == weight.ndim
    x = x if batched else x[None]
    columns = x.shape[0] * math.prod(result.shape[result.ndim - axes :])
    if not recorder.is_constant(weight):
        recorder.bare.append((name, (tuple(x.shape), tuple(weight.shape)), columns * weight.numel()))
        return
    steps = _each(dilation, 1, axes)
    product = Product(
        weight.detach(),
        bias,
        columns=columns,
        groups=groups or 1,
        stride=_each(stride, 1, axes),
        padding=_padding(padding, steps, tuple(weight.shape[2:])),
        dilation=steps,
        input_size=tuple(x.shape[2:]),
        axes=(1, 1) if batched else None,
    )
    recorder.add(product, weight, x, 1)


def _padding(padding: Any, dilation: tuple[int, ...], kernel: tuple[int, ...]) -> tuple[int, ...]:
    """Return the padding of each axis, () if it is not the same on both sides."""
    if padding != "same":
        return _each(0 if padding == "valid" else padding, 0, len(kernel))
    spans = [step * (size - 1) for step, size in zip(dilation, kernel, strict=True)]
    return () if any(span % 2 for span in spans) else tuple(span // 2 for span in spans)


def _transposed(recorder: Recorder, name: str, result: Any, args: Arguments, options: Options) -> None:
    x, weight, _, _, _, _, groups, _ = _bind(TRANSPOSED, args, options)
    x = x if x.ndim == weight.ndim else x[None]
    columns = x.shape[0] * math.prod(x.shape[2:])
    if not recorder.is_constant(weight):
        recorder.bare.append((name, (tuple(x.shape), tuple(weight.shape)), columns * weight.numel()))
        return
    matrix = transposed_matrix(weight.detach(), groups or 1)
    recorder.add(Product(matrix, columns=columns, groups=groups or 1), weight, x, 1)


def _attention(recorder: Recorder, name: str, result: Any, args: Arguments, options: Options) -> None:
    query, key, value = _bind(("query", "key", "value"), args, options)
    multiplies = result.numel() // result.shape[-1] * key.shape[-2] * (query.shape[-1] + value.shape[-1])
    recorder.bare.append((name, tuple(tuple(tensor.shape) for tensor in (query, key, value)), multiplies))


def _bilinear(recorder: Recorder, name: str, result: Any, args: Arguments, options: Options) -> None:
    first, second, weight, _ = _bind(("input1", "input2", "weight", "bias"), args, options)
    shapes = tuple(tuple(tensor.shape) for tensor in (first, second, weight))
    recorder.bare.append((name, shapes, first.numel() // first.shape[-1] * weight.numel()))


def _recurrent(recorder: Recorder, name: str, result: Any, args: Arguments, options: Options) -> None:
    """One layer for the inputs and one for the state, of every layer and direction; the steps are its positions."""
    packed = isinstance(args[3], list | tuple)
    x, weights, biased, layers, directions = args[0], args[3 if packed else 2], *_shape_of(args[4 if packed else 3 :])
    columns = x.numel() // x.shape[-1]
    each = len(weights) // (layers * directions)
    for start in range(0, len(weights), each):
        part = weights[start : start + each]
        biases = (*part[2:4], None) if biased else (None,) * 3
        for weight, bias in zip((*part[:2], *part[4 if biased else 2 :]), biases, strict=False):
            product = Product(weight.detach(), bias, columns=columns)
            if weight is part[0] and start < directions * each:
                recorder.add(product, weight, x.reshape(columns, -1), 1)
            else:
                recorder.add_unseen(product, weight)


def _shape_of(args: Arguments) -> tuple[bool, int, int]:
    biased, layers, _, _, both = args[:5]
    return biased, layers, 2 if both else 1


def _cell(recorder: Recorder, name: str, result: Any, args: Arguments, options: Options) -> None:
    x, state, *weights = args
    state = state[0] if isinstance(state, list | tuple) else state
    for tensor, weight, bias in zip((x, state), weights[:2], weights[2:] or (None, None), strict=True):
        rows = tensor.reshape(-1, tensor.shape[-1])
        recorder.add(Product(weight.detach(), bias, columns=rows.shape[0]), weight, rows, 1)


def _bind(names: tuple[str, ...], args: Arguments, options: Mapping[str, Any]) -> list[Any]:
    return [args[i] if i < len(args) else options.get(name) for i, name in enumerate(names)]


def _operands(args: Arguments, options: Mapping[str, Any]) -> list[Any]:
    flat = [
        item for value in (*args, *options.values()) for item in (value if isinstance(value, list | tuple) else [value])
    ]
    return [value for value in flat if isinstance(value, torch.Tensor)]


def _each(value: Any, default: int, axes: int) -> tuple[int, ...]:
    value = default if value is None else value
    values = tuple(value) if isinstance(value, list | tuple) else (value,)
    return tuple(int(item) for item in values) * (axes if len(values) == 1 else 1)


HANDLERS: Mapping[str, Callable[[Recorder, str, Any, Arguments, Options], None]] = {
    "linear": _linear,
    **dict.fromkeys(("matmul", "rmatmul", "mm", "bmm", "mv", "dot"), _matmul),
    **dict.fromkeys(("addmm", "baddbmm", "addmv"), _added_matmul),
    "einsum": _einsum,
    "tensordot": _tensordot,
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), _convolution),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), _transposed),
    "scaled_dot_product_attention": _attention,
    "bilinear": _bilinear,
    **dict.fromkeys(("lstm", "gru", "rnn_tanh", "rnn_relu"), _recurrent),
    **dict.fromkeys(("lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"), _cell),
}
