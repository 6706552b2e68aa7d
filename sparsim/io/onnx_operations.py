"""What single ONNX operations do to channels, as far as they keep them apart.

Every function gets the :class:`~sparsim.io.onnx_graph.Builder` and the node, and returns the tensor(s) it makes, or
None where it cannot say: the node is opaque then.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sparsim.io.onnx_graph import Builder, Tensor
from sparsim.io.onnx_products import Dims
from sparsim.io.onnx_tensors import attributes

__all__ = ["OPERATIONS"]

Made = Tensor | Sequence[Tensor] | None
FUNCTIONS = {"HardSwish": "hardswish", "LeakyRelu": "leaky_relu"} | {
    name: name.lower()
    for name in (
        "Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Celu", "Cos", "Cosh", "Elu", "Erf", "Exp",
        "Floor", "Log", "Mish", "Neg", "Reciprocal", "Relu", "Round", "Selu", "Shrink", "Sigmoid", "Sign", "Sin",
        "Sinh", "Softplus", "Softsign", "Sqrt", "Tan", "Tanh", "ThresholdedRelu",
    )
}  # fmt: skip
USUAL_SLOPES = (0.2, 1 / 6)
FLOATS = (1, 10, 11, 16)


def _tensor(builder: Builder, node: Any, operand: int = 0) -> Tensor | None:
    tensor = builder.tensors.get(node.input[operand])
    return None if tensor is None or tensor.axis is None else tensor


def _function(builder: Builder, node: Any) -> Made:
    tensor = _tensor(builder, node)
    if tensor is None:
        return None
    about, name = attributes(node), FUNCTIONS.get(node.op_type, node.op_type.lower())
    if node.op_type == "HardSigmoid":
        usual = about.get("beta", 0.5) == 0.5 and np.isclose(about.get("alpha", 0.2), USUAL_SLOPES, rtol=1e-5).any()
        name = "hardsigmoid" if usual else "hardsigmoid of another slope"
    elif node.op_type == "Gelu" and about.get("approximate", "none") != "none":
        name = "gelu_tanh"
    elif node.op_type == "Swish":
        name = "silu" if about.get("alpha", 1.0) == 1.0 else "swish"
    return builder.emit(node.output[0], "function", [tensor], tensor.axis, tensor.channels, function=name)


def _clip(builder: Builder, node: Any) -> Made:
    tensor, about = _tensor(builder, node), attributes(node)
    bounds: list[float | None] = [about.get("min"), about.get("max")]
    for operand in (1, 2):
        if operand < len(node.input) and node.input[operand]:
            value = builder.value(node, operand)
            if value is None or value.size != 1:
                return None
            bounds[operand - 1] = float(value.ravel()[0])
    if tensor is None:
        return None
    open_above = bounds[1] is None or bounds[1] >= np.finfo(np.float32).max
    if bounds[0] is None and open_above:
        return tensor
    name = "relu" if bounds[0] == 0 and open_above else "relu6" if bounds == [0, 6] else "clip"
    return builder.emit(node.output[0], "function", [tensor], tensor.axis, tensor.channels, function=name)


def _alias(builder: Builder, node: Any) -> Made:
    if len([name for name in node.output if name]) > 1:
        return None
    if node.op_type == "Cast" and attributes(node).get("to") not in FLOATS:
        return _function(builder, node)
    return builder.tensors[node.input[0]]


def _batch_norm(builder: Builder, node: Any) -> Made:
    tensor, about = _tensor(builder, node), attributes(node)
    parts = [builder.value(node, operand) for operand in range(1, 5)]
    if tensor is None or tensor.axis != 1 or about.get("training_mode") or about.get("spatial", 1) != 1:
        return None
    if any(part is None or part.shape != (tensor.channels,) for part in parts):
        return None
    scale, shift, mean, variance = (np.asarray(part, dtype=np.float64) for part in parts)
    with np.errstate(all="ignore"):
        scale = scale / np.sqrt(variance + about.get("epsilon", 1e-5))
        shift = shift - mean * scale
    if not (np.isfinite(scale).all() and np.isfinite(shift).all()):
        return None
    return builder.emit(node.output[0], "affine", [tensor], 1, tensor.channels, scale=scale, shift=shift)


def _spatial(builder: Builder, node: Any, exact: bool, axis: int | None = None) -> Made:
    tensor = _tensor(builder, node)
    if tensor is None:
        return None
    place = tensor.axis if axis is None else axis
    return builder.emit(node.output[0], "spatial", [tensor], place, tensor.channels, exact=exact)


def _pool(builder: Builder, node: Any) -> Made:
    about, tensor = attributes(node), _tensor(builder, node)
    if tensor is None or tensor.axis != 1 or len([name for name in node.output if name]) > 1:
        return None
    if node.op_type == "AveragePool":
        padded = any(about.get("pads") or ()) or about.get("auto_pad", "NOTSET").startswith("SAME")
        # ONNX leaves padding out of the average unless told otherwise; a last window that hangs over is no better known
        exact = not (padded and about.get("count_include_pad")) and not about.get("ceil_mode")
        return _spatial(builder, node, exact)
    return _spatial(builder, node, "Lp" not in node.op_type)


def _axes(builder: Builder, node: Any, operand: int, rank: int) -> list[int] | None:
    """Return the axes given as an attribute or an operand, counted from the front; None if unknown or not given."""
    axes = attributes(node).get("axes")
    if axes is None:
        value = builder.value(node, operand)
        axes = None if value is None else value.tolist()
    return None if axes is None else [axis % rank for axis in axes]


def _reduce(builder: Builder, node: Any) -> Made:
    tensor, dims = _tensor(builder, node), builder.dims(node.input[0])
    axes = None if dims is None else _axes(builder, node, 1, len(dims))
    if tensor is None or tensor.axis is None or not axes or tensor.axis in axes or 0 in axes:
        return None
    kept = attributes(node).get("keepdims", 1)
    axis = tensor.axis - (0 if kept else sum(item < tensor.axis for item in axes))
    return _spatial(builder, node, node.op_type in ("ReduceMean", "ReduceMax", "ReduceMin"), axis)


def _pad(builder: Builder, node: Any) -> Made:
    tensor, dims, about = _tensor(builder, node), builder.dims(node.input[0]), attributes(node)
    given = builder.value(node, 1)
    pads = about.get("pads") or (None if given is None else given.tolist())
    if tensor is None or tensor.axis is None or dims is None or pads is None:
        return None
    axes = _axes(builder, node, 3, len(dims)) if len(node.input) > 3 and node.input[3] else list(range(len(dims)))
    if axes is None or len(pads) != 2 * len(axes) or min(pads) < 0:
        return None
    padded = {axis: (pads[i], pads[i + len(axes)]) for i, axis in enumerate(axes) if pads[i] or pads[i + len(axes)]}
    if not padded:
        return tensor
    constant = about.get("mode", "constant") == "constant"
    if tensor.axis not in padded:
        return None if 0 in padded else _spatial(builder, node, not constant)
    value = builder.value(node, 2) if len(node.input) > 2 and node.input[2] else np.array(about.get("value", 0.0))
    if len(padded) > 1 or not constant or value is None or value.any() or not tensor.channels:
        return None
    return _zeros_around(builder, node.output[0], tensor, *padded[tensor.axis])


def _zeros_around(builder: Builder, name: str, tensor: Tensor, before: int, after: int) -> Made:
    """Add channels of zeros before and after: channels of the tensor times zero, as many as it takes."""
    channels = tensor.channels or 1

    def zeros(count: int) -> list[Tensor]:
        parts = []
        for start in range(0, count, channels):
            width = min(channels, count - start)
            part = builder.emit(f"{name}/slice", "slice", [tensor], tensor.axis, width, start=0, stop=width)
            parts.append(builder.emit(f"{name}/zeros", "mul", [part], tensor.axis, width, constant=0.0))
        return parts

    if before + after > 64 * channels:
        return None
    parts = [*zeros(before), tensor, *zeros(after)]
    return builder.emit(name, "concat", parts, tensor.axis, channels + before + after)


def _resize(builder: Builder, node: Any) -> Made:
    tensor, about = _tensor(builder, node), attributes(node)
    before, after = builder.dims(node.input[0]), builder.dims(node.output[0])
    if tensor is None or tensor.axis is None or before is None or after is None or len(before) != len(after):
        return None
    scales = builder.value(node, 1 if node.op_type == "Upsample" else 2)
    scales = np.array(about["scales"]) if "scales" in about else scales
    if scales is not None and scales.size == len(before):
        kept = scales[0] == 1 and scales[tensor.axis] == 1
    else:
        kept = before[tensor.axis] is not None and before[tensor.axis] == after[tensor.axis] and before[0] == after[0]
    crops = about.get("coordinate_transformation_mode") == "tf_crop_and_resize"
    exact = about.get("mode", "nearest") in ("nearest", "linear") and not crops
    return _spatial(builder, node, exact) if kept else None


def _concat(builder: Builder, node: Any) -> Made:
    dims = builder.dims(node.input[0])
    tensors = [_tensor(builder, node, operand) for operand in range(len(node.input))]
    known = [tensor for tensor in tensors if tensor is not None and tensor.channels is not None]
    if (
        dims is None
        or len(known) < len(tensors)
        or {tensor.axis for tensor in known} != {attributes(node)["axis"] % len(dims)}
    ):
        return None
    total = sum(tensor.channels or 0 for tensor in known)
    return builder.emit(node.output[0], "concat", known, known[0].axis, total)


def _split(builder: Builder, node: Any) -> Made:
    tensor, dims, about = _tensor(builder, node), builder.dims(node.input[0]), attributes(node)
    given = builder.value(node, 1)
    sizes = about.get("split") or (None if given is None else given.tolist())
    if tensor is None or dims is None or tensor.channels is None or (len(node.input) > 1 and sizes is None):
        return None
    if about.get("axis", 0) % len(dims) != tensor.axis:
        return None
    if not sizes:
        width = math.ceil(tensor.channels / len(node.output))
        sizes = [min(width, tensor.channels - start) for start in range(0, tensor.channels, width)]
    if len(sizes) != len(node.output) or sum(sizes) != tensor.channels or min(sizes) < 1:
        return None
    stops = np.cumsum(sizes).tolist()
    return [
        builder.emit(name, "slice", [tensor], tensor.axis, size, start=stop - size, stop=stop)
        for name, size, stop in zip(node.output, sizes, stops, strict=True)
    ]


def _slice(builder: Builder, node: Any) -> Made:
    tensor, dims, about = _tensor(builder, node), builder.dims(node.input[0]), attributes(node)
    if tensor is None or tensor.channels is None or dims is None:
        return None
    found = [about.get(key) for key in ("starts", "ends", "axes")] + [None]
    for operand in range(1, len(node.input)):
        value = builder.value(node, operand)
        if node.input[operand] and value is None:
            if operand < 3:
                found[operand - 1] = None
                continue
            return None
        found[operand - 1] = None if value is None else value.ravel().tolist()
    axes = range(len(dims)) if found[2] is None else [axis % len(dims) for axis in found[2]]
    if tensor.axis not in axes:
        return None if 0 in axes else _spatial(builder, node, True)
    if len(axes) != 1 or found[0] is None or found[1] is None or (found[3] or [1]) != [1]:
        return None
    start, stop, _ = slice(found[0][0], found[1][0]).indices(tensor.channels)
    if start >= stop:
        return None
    return builder.emit(node.output[0], "slice", [tensor], tensor.axis, stop - start, start=start, stop=stop)


def _reshape(builder: Builder, node: Any) -> Made:
    """Follow the channels through another reading of the same elements in the same order."""
    tensor = _tensor(builder, node)
    before, after = builder.dims(node.input[0]), builder.dims(node.output[0])
    if tensor is None or tensor.axis is None or tensor.channels is None or before is None or not after:
        return None
    if tensor.axis == len(before) - 1 and after[-1] == tensor.channels:
        return tensor._replace(axis=len(after) - 1)
    inner = before[tensor.axis + 1 :]
    if not all(inner):
        return None
    width = math.prod(extent for extent in inner if extent)
    for axis, extent in enumerate(after):
        if not _same_extents(before[: tensor.axis], after[:axis]):
            continue
        rest = after[axis + 1 :]
        if extent == tensor.channels and all(rest) and math.prod(item for item in rest if item) == width:
            return tensor._replace(axis=axis)
        if extent == tensor.channels * width and all(item == 1 for item in rest):
            channels = tensor.channels * width
            return builder.emit(node.output[0], "flatten", [tensor], axis, channels, repeat=width)
    return None


def _same_extents(before: Dims, after: Dims) -> bool:
    """Whether both hold the same number of elements: an open first axis is the batch in both."""
    if before and after and before[0] is None and after[0] is None:
        before, after = before[1:], after[1:]
    if not (all(before) and all(after)):
        return False
    return math.prod(item for item in before if item) == math.prod(item for item in after if item)


def _transpose(builder: Builder, node: Any) -> Made:
    tensor, dims = _tensor(builder, node), builder.dims(node.input[0])
    order = attributes(node).get("perm") or (None if dims is None else list(range(len(dims)))[::-1])
    if tensor is None or order is None or tensor.axis not in order:
        return None
    return tensor._replace(axis=list(order).index(tensor.axis))


def _arithmetic(builder: Builder, node: Any) -> Made:
    operation = {"Add": "add", "Sub": "add", "Sum": "add", "Mul": "mul", "Div": "mul"}[node.op_type]
    if len(node.input) != 2:
        return None
    first, second = (_tensor(builder, node, operand) for operand in (0, 1))
    name = node.output[0]
    if first is None or second is None:
        return _with_constant(builder, node, operation, 1 if first is None else 0)
    ranks = [builder.dims(item) for item in node.input]
    if ranks[0] is None or ranks[1] is None or len(ranks[0]) != len(ranks[1]) or first.axis != second.axis:
        return None
    channels = max(first.channels or 0, second.channels or 0)
    if not channels or {first.channels, second.channels} - {1, channels}:
        return None
    if node.op_type == "Div":
        return None
    if node.op_type == "Sub":
        second = builder.emit(f"{name}/neg", "function", [second], second.axis, second.channels, function="neg")
    return builder.emit(name, operation, [first, second], first.axis, channels)


def _with_constant(builder: Builder, node: Any, operation: str, data: int) -> Made:
    """Add or multiply one number, or one a channel, on either side."""
    tensor, value = _tensor(builder, node, data), builder.value(node, 1 - data)
    if tensor is None or value is None or value.dtype.kind not in "fiu":
        return None
    constant = _per_channel(tensor, value, builder.dims(node.input[data]))
    if constant is None:
        return None
    name = node.output[0]
    if node.op_type == "Sub":
        if data == 1:
            tensor = builder.emit(f"{name}/neg", "function", [tensor], tensor.axis, tensor.channels, function="neg")
        else:
            constant = -constant
    elif node.op_type == "Div":
        if data == 1:
            function = "reciprocal"
            tensor = builder.emit(f"{name}/inv", "function", [tensor], tensor.axis, tensor.channels, function=function)
        elif not constant.all():
            return None
        else:
            constant = 1 / constant
    if not np.isfinite(constant).all():
        return None
    number = constant if constant.size > 1 else float(constant[0])
    return builder.emit(name, operation, [tensor], tensor.axis, tensor.channels, constant=number)


def _per_channel(tensor: Tensor, value: npt.NDArray[Any], dims: Dims | None) -> npt.NDArray[np.float64] | None:
    """Return a vector of one number, or of one a channel; None if the constant is neither or adds an axis."""
    if value.size == 1 and (value.ndim < 2 or (dims is not None and value.ndim <= len(dims))):
        return np.array(value, dtype=np.float64).ravel()
    if dims is None or tensor.axis is None or value.ndim > len(dims) or value.size != tensor.channels:
        return None
    shape = (1,) * (len(dims) - value.ndim) + value.shape
    return np.array(value, dtype=np.float64).ravel() if shape[tensor.axis] == tensor.channels else None


def _power(builder: Builder, node: Any) -> Made:
    exponent = builder.value(node, 1)
    return _function(builder, node) if exponent is not None and exponent.size == 1 else None


OPERATIONS: Mapping[str, Callable[[Builder, Any], Made]] = {
    **dict.fromkeys((*FUNCTIONS, "Gelu", "HardSigmoid", "Swish"), _function),
    **dict.fromkeys(("Identity", "Dropout", "Cast"), _alias),
    **dict.fromkeys(("MaxPool", "AveragePool", "LpPool"), _pool),
    **dict.fromkeys(("GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool"), _pool),
    **dict.fromkeys(("ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum", "ReduceL1", "ReduceL2"), _reduce),
    **dict.fromkeys(("Flatten", "Reshape", "Squeeze", "Unsqueeze"), _reshape),
    **dict.fromkeys(("Add", "Sub", "Sum", "Mul", "Div"), _arithmetic),
    **dict.fromkeys(("Resize", "Upsample"), _resize),
    "BatchNormalization": _batch_norm,
    "Clip": _clip,
    "Concat": _concat,
    "Pad": _pad,
    "Pow": _power,
    "Slice": _slice,
    "Split": _split,
    "Transpose": _transpose,
}
