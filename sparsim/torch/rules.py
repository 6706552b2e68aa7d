"""What the operations of PyTorch do to single channels.

Each rule returns the tensor an operation makes, or None if it can say no more than "opaque".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from sparsim.graph import FUNCTIONS
from sparsim.torch.channels import Step, Tensors, Value
from sparsim.torch.operations import HANDLERS
from sparsim.torch.parameters import as_array

__all__ = ["channel_rule"]

OTHER_FUNCTIONS = "mish|softplus|selu|celu|hardtanh|softsign|exp|log|sqrt|erf|clamp"
PLAIN = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
POOL = re.compile(r"(adaptive_?)?(max|avg)_?pool(\d)d")
PAD = re.compile(r"(zero|constant|reflection|replication|circular)pad(\d)d")
SUBTRACTS = ("sub", "subtract")
DIVIDES = ("div", "truediv", "divide")
BINARY = {
    **dict.fromkeys(("add", *SUBTRACTS), "add"),
    **dict.fromkeys(("mul", "multiply", *DIVIDES), "mul"),
}
PASSES = "identity|contiguous|clone|detach|to|float|double|half|bfloat16|(feature_?)?(alpha_?)?dropout[123]?d?"
WITHOUT_AXIS = ("identity", "contiguous", "clone", "detach")


def channel_rule(tensors: Tensors, step: Step, inputs: list[Value]) -> Any:
    """Return what a node of a traced module makes of its inputs.

    Parameters
    ----------
    tensors : of the module so far; nodes of the graph are added here.
    step : the node.
    inputs : the tensors it reads that depend on the network's input.

    Returns
    -------
    A value, a list of values if the node makes several tensors, or None: every output may depend on every input.
    """
    if step.products:
        return _layer(tensors, step, inputs)
    first = tensors.value_of(step.node.args[0]) if step.node.args else None
    if step.kind == "getitem" and isinstance(first, list):
        return first[step.args[1]] if isinstance(step.args[1], int | slice) else None
    if step.kind in ("cat", "concat", "concatenate"):
        return _concat(tensors, step)
    if step.kind in BINARY:
        return _binary(tensors, step)
    if not isinstance(first, Value) or len(inputs) != 1 or (first.axis is None and step.kind not in WITHOUT_AXIS):
        return None
    if isinstance(step.module, nn.modules.batchnorm._BatchNorm):
        return _batch_norm(tensors, step, first)
    for pattern, rule in RULES:
        if pattern.fullmatch(step.kind):
            return rule(tensors, step, first)
    return None


def _layer(tensors: Tensors, step: Step, inputs: list[Value]) -> Value | None:
    (product, layer), *more = step.products
    if step.module is not None:
        plain = isinstance(step.module, PLAIN) and type(step.module).forward in [kind.forward for kind in PLAIN]
        bias = getattr(step.module, "bias", None)
    else:
        plain = step.kind in HANDLERS and step.kind not in ("addmm", "baddbmm", "addmv")
        bias = step.option(2, "bias") if step.kind.startswith(("linear", "conv")) else None
    if more or not plain or product.axes is None or len(inputs) != 1 or (bias is None) != (product.bias is None):
        return None
    facts = {} if product.bias is not None else {"bias": False}
    source = tensors.along(inputs[0], product.axes[0])
    name = tensors.emit(step.node.name, "layer", (source,), layer, **facts)
    return Value(tuple(step.result.shape), product.axes[1], name)


def _batch_norm(tensors: Tensors, step: Step, value: Value) -> Value | None:
    norm: Any = step.module
    if norm.running_mean is None or norm.running_var is None:
        return None
    scale = 1 / np.sqrt(as_array(norm.running_var).astype(np.float64) + norm.eps)
    scale = scale if norm.weight is None else scale * as_array(norm.weight)
    shift = 0.0 if norm.bias is None else as_array(norm.bias).astype(np.float64)
    shift = shift - as_array(norm.running_mean) * scale
    return tensors.made(step, "affine", (tensors.along(value, 1),), 1, scale=scale, shift=shift)


def _function(tensors: Tensors, step: Step, value: Value) -> Value | None:
    if value.axis is None or value.node is None:
        return None
    name = step.kind
    if step.module is not None and getattr(step.module, "approximate", "none") != "none":
        name = "gelu_tanh"
    if step.option(1, "approximate") == "tanh":
        name = "gelu_tanh"
    return tensors.made(step, "function", (value.node,), value.axis, function=name)


def _same(tensors: Tensors, step: Step, value: Value) -> Value | None:
    return tensors.seen(step, value, value.axis) if step.result.is_floating_point() else None


def _pool(tensors: Tensors, step: Step, value: Value) -> Value | None:
    match = POOL.fullmatch(step.kind)
    if match is None or not isinstance(step.result, torch.Tensor) or len(value.shape) != int(match[3]) + 2:
        return None
    padding = getattr(step.module, "padding", 0) if step.module else step.option(3, "padding", default=0)
    divisor = getattr(step.module, "divisor_override", None) if step.module else step.option(6, "divisor_override")
    padded = bool(np.any(padding)) and getattr(step.module, "count_include_pad", True)
    exact = bool(match[1]) or match[2] == "max" or (divisor is None and not padded)
    return tensors.made(step, "spatial", (tensors.along(value, 1),), 1, exact=exact)


def _resize(tensors: Tensors, step: Step, value: Value) -> Value:
    return tensors.made(step, "spatial", (tensors.along(value, 1),), 1, exact=True)


def _pad(tensors: Tensors, step: Step, value: Value) -> Value | None:
    match = PAD.fullmatch(step.kind)
    if match is not None:
        inner, mode = len(value.shape) == int(match[2]) + 2, match[1]
    else:
        inner, mode = (
            len(step.option(1, "pad")) // 2 <= len(value.shape) - 2,
            step.option(2, "mode", default="constant"),
        )
    if not inner:
        return None
    exact = mode in ("reflect", "replicate", "circular", "reflection", "replication")
    return tensors.made(step, "spatial", (tensors.along(value, 1),), 1, exact=exact)


def _mean(tensors: Tensors, step: Step, value: Value) -> Value | None:
    dims = step.option(1, "dim", "axis")
    if dims is None or value.axis is None or value.node is None or not isinstance(step.result, torch.Tensor):
        return None
    count = len(value.shape)
    gone = {dim % count for dim in ([dims] if isinstance(dims, int) else dims)}
    if value.axis in gone:
        return None
    kept = len(step.result.shape) == count
    axis = value.axis if kept else value.axis - sum(dim < value.axis for dim in gone)
    return tensors.made(step, "spatial", (value.node,), axis, exact=step.kind != "sum")


def _permute(tensors: Tensors, step: Step, value: Value) -> Value | None:
    count = len(value.shape)
    if step.kind == "permute":
        dims = step.args[1] if isinstance(step.option(1), tuple | list) else step.args[1:]
        order = [dim % count for dim in dims or step.kwargs.get("dims", ())]
    else:
        one, other = step.option(1, "dim0") % count, step.option(2, "dim1") % count
        order = list(range(count))
        order[one], order[other] = order[other], order[one]
    return tensors.seen(step, value, order.index(value.axis)) if value.axis in order else None


def _reshape(tensors: Tensors, step: Step, value: Value) -> Value | None:
    """Channels stay, or become runs of consecutive ones, wherever the same elements come before them."""
    assert value.axis is not None
    shape, channels = tuple(step.result.shape), value.shape[value.axis]
    before, after = prod(value.shape[: value.axis]), prod(value.shape[value.axis + 1 :])
    fits = [axis for axis in range(len(shape)) if prod(shape[:axis]) == before and prod(shape)]
    for axis in fits:
        if shape[axis] == channels:
            return tensors.seen(step, value, axis)
    for axis in fits:
        repeat, left = divmod(shape[axis], channels)
        if not left and repeat and after % repeat == 0 and value.node is not None:
            flat = tensors.emit(step.node.name, "flatten", (value.node,), repeat=repeat)
            return Value(shape, axis, flat, root=value.root or step.node.args[0].name)
    return None


def _chunk(tensors: Tensors, step: Step, value: Value) -> list[Value] | None:
    if value.axis is None or value.node is None:
        return None
    dim = step.option(2, "dim", default=0) % len(value.shape)
    parts, start = [], 0
    for piece in step.result:
        if dim == value.axis:
            stop = start + piece.shape[dim]
            name = tensors.emit(step.node.name, "slice", (value.node,), start=start, stop=stop)
            start = stop
            parts.append(Value(tuple(piece.shape), dim, name, root=value.root or step.node.args[0].name))
        else:
            parts.append(tensors.seen(step, value, value.axis, piece))
    return parts


def _getitem(tensors: Tensors, step: Step, value: Value) -> Value | None:
    """Follow plain indices: numbers and slices, None for a new axis."""
    index = step.args[1] if isinstance(step.args[1], tuple) else (step.args[1],)
    if any(not (item is None or item is ... or isinstance(item, slice) or type(item) is int) for item in index):
        return None
    used = sum(item is not None and item is not ... for item in index)
    fill = (slice(None),) * (len(value.shape) - used)
    if ... in index:
        at = index.index(...)
        index = (*index[:at], *fill, *index[at + 1 :])
    else:
        index = (*index, *fill)
    axis, old, found, cut = 0, 0, None, slice(None)
    for item in index:
        if item is not None and old == value.axis:
            if isinstance(item, int):
                return None
            found, cut = axis, item
        old += item is not None
        axis += not isinstance(item, int)
    start, stop, stride = cut.indices(value.shape[value.axis or 0])
    if found is None or stride != 1 or value.node is None:
        return None
    if (start, stop) == (0, value.shape[value.axis or 0]):
        return tensors.seen(step, value, found)
    name = tensors.emit(step.node.name, "slice", (value.node,), start=start, stop=max(start, stop))
    return Value(tuple(step.result.shape), found, name, root=value.root or step.node.args[0].name)


def _concat(tensors: Tensors, step: Step) -> Value | None:
    listed = step.node.args[0] if step.node.args else step.node.kwargs.get("tensors")
    values = tensors.value_of(listed) or [] if isinstance(listed, fx.Node) else [tensors.value_of(v) for v in listed]
    known = [value for value in values if isinstance(value, Value)]
    axis = next((value.axis for value in known if value.axis is not None), None)
    dim = step.option(1, "dim", "axis", default=0) % step.result.ndim
    if len(known) != len(values) or axis != dim:
        return None
    return tensors.made(step, "concat", tuple(tensors.along(value, dim) for value in known), dim)


def _binary(tensors: Tensors, step: Step) -> Value | None:
    operation = BINARY[step.kind]
    if len(step.args) != 2 or step.kwargs:
        return None
    sides = [
        actual if (value := tensors.value_of(node)) is None else value
        for node, actual in zip(step.node.args, step.args, strict=True)
    ]
    if any(isinstance(side, list) for side in sides):
        return None
    count = step.result.ndim
    known = [side for side in sides if isinstance(side, Value)]
    axis = next((v.axis + count - len(v.shape) for v in known if v.axis is not None), None)
    if axis is None or (step.kind in DIVIDES and isinstance(sides[1], Value)):
        return None
    names: list[str] = []
    facts: dict[str, Any] = {}
    for position, side in enumerate(sides):
        if isinstance(side, Value):
            own = axis - (count - len(side.shape))
            if own < 0 or side.shape[own] not in (1, step.result.shape[axis]):
                return None
            name = tensors.along(side, own)
            negative = step.kind in SUBTRACTS and position == 1
            names.append(tensors.emit(step.node.name, "mul", (name,), constant=-1.0) if negative else name)
        else:
            constant = _constant(side, axis, step.result)
            with np.errstate(all="ignore"):
                turned = -constant if step.kind in SUBTRACTS and position == 1 else constant
                facts["constant"] = 1 / turned if step.kind in DIVIDES else turned
    if len(known) == 1 and known[0].shape[axis - (count - len(known[0].shape))] != step.result.shape[axis]:
        return None
    return tensors.made(step, operation, tuple(names), axis, **facts)


def _constant(side: Any, axis: int, result: Any) -> Any:
    """Return a constant operand as one number, or one a channel; NaN if it differs from position to position."""
    if not isinstance(side, torch.Tensor):
        return np.float64(side)
    array = as_array(side).astype(np.float64)
    if array.size == 1:
        return np.float64(array.reshape(-1)[0])
    array = array.reshape((1,) * (result.ndim - array.ndim) + array.shape)
    if array.size == array.shape[axis]:
        return array.reshape(-1)
    return np.full(result.shape[axis], np.nan)


RULES: Sequence[tuple[re.Pattern[str], Callable[[Tensors, Step, Value], Any]]] = [
    (re.compile(PASSES), _same),
    (re.compile("|".join([*FUNCTIONS, OTHER_FUNCTIONS])), _function),
    (POOL, _pool),
    (re.compile("interpolate|upsample"), _resize),
    (re.compile(f"pad|{PAD.pattern}"), _pad),
    (re.compile("mean|amax|amin|sum"), _mean),
    (re.compile("permute|transpose|swapaxes|swapdims"), _permute),
    (re.compile("flatten|view|reshape|squeeze|unsqueeze|unflatten"), _reshape),
    (re.compile("chunk|split"), _chunk),
    (re.compile("getitem"), _getitem),
]
