"""The tensors of an ONNX model that do not depend on its inputs, and the way back from a changed one to the file."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sparsim.errors import InputError, MissingExtra
from sparsim.io._files import one_line

__all__ = [
    "FOLDS",
    "Constant",
    "attributes",
    "dequantise",
    "find_constants",
    "import_onnx",
    "load_model",
    "quantise",
    "set_root",
]

Array = npt.NDArray[Any]
Back = Callable[[Array], Array]
ALWAYS_ALLOWED = 2**26
MOST_ZEROS = 256
BFLOAT16 = 16


@dataclass(frozen=True, eq=False)
class Constant:
    """A tensor that is an initialiser (or the value of a ``Constant`` node) but for casts, turns and a scale.

    Parameters
    ----------
    array : its values; types numpy does not have (bfloat16, 8-bit floats, 4-bit integers) as float32.
    root : the TensorProto it is made of.
    back : from other values of the tensor to those of the root.
    pieces : it is cut out of the root, or put together from several: there is no way back.
    """

    array: Array
    root: Any
    back: Back = lambda array: array
    pieces: bool = False

    def then(self, array: Array, back: Back | None) -> Constant:
        """Return what one more operation makes of it; one without a way back takes pieces of it."""
        if back is None:
            return Constant(array, self.root, pieces=True)
        return Constant(array, self.root, lambda changed: self.back(back(changed)), self.pieces)


def import_onnx(what: str) -> Any:
    """Return the module ``onnx`` with those of its submodules that are used."""
    try:
        import onnx
        import onnx.external_data_helper
        import onnx.numpy_helper
        import onnx.shape_inference
    except ImportError:
        raise MissingExtra(what, "onnx") from None
    return onnx


def load_model(path: Path) -> Any:
    """Return the ModelProto, its external data not yet read, its sparse initialisers made dense.

    Raises
    ------
    InputError
        If the file is empty, no ONNX model, or one without nodes.
    MissingExtra
        If onnx is not installed.
    """
    if not path.stat().st_size:
        raise InputError("the file is empty", source=path, remedy="export or download it again")
    onnx = import_onnx("reading .onnx files")
    try:
        model = onnx.load(str(path), format="protobuf", load_external_data=False)
    except MemoryError:
        raise
    except Exception as error:  # protobuf raises types of its own
        raise InputError(
            f"is no readable ONNX model ({one_line(error)[:120]})", source=path, remedy="export or download it again"
        ) from None
    if not model.graph.node:
        raise InputError("holds no graph", source=path, remedy="export or download it again")
    if not all(isinstance(text, str) for text in _texts(model.graph)):
        raise InputError("holds names that are no text", source=path, remedy="export or download it again")
    sparse = list(model.graph.sparse_initializer)
    del model.graph.sparse_initializer[:]
    for tensor in sparse:
        name = tensor.values.name
        try:
            array = _densify(tensor, path)
        except InputError as error:
            raise error.at(path, f"sparse initialiser '{name}'") from None
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return model


def _texts(graph: Any) -> Iterator[Any]:
    """Yield every name; in a damaged file protobuf hands some out as bytes."""
    for item in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        yield item.name
    for node in graph.node:
        yield from (node.op_type, node.name, *node.input, *node.output)
        for attribute in node.attribute:
            yield attribute.name
            for inner in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                yield from _texts(inner)


def _densify(tensor: Any, path: Path) -> Array:
    shape = tuple(tensor.dims)
    if math.prod(shape) > max(ALWAYS_ALLOWED, MOST_ZEROS * path.stat().st_size) or min(shape, default=0) < 1:
        raise InputError(f"claims the shape {shape}", remedy="export the model again")
    values, indices = (_to_array(part, path) for part in (tensor.values, tensor.indices))
    if indices.ndim == 2 and indices.shape[1] == len(shape):
        if indices.size and ((indices < 0) | (indices >= np.array(shape))).any():
            raise InputError(f"an index lies outside of {shape}", remedy="export the model again")
        indices = np.ravel_multi_index(tuple(indices.T), shape)
    if indices.shape != values.shape or (indices.size and not 0 <= indices.min() <= indices.max() < math.prod(shape)):
        raise InputError(f"{indices.shape} indices for {values.shape} values", remedy="export the model again")
    dense = np.zeros(math.prod(shape), dtype=values.dtype)
    dense[indices] = values
    return dense.reshape(shape)


def _to_array(tensor: Any, path: Path) -> Array:
    """Return the values of a TensorProto, wherever they are kept."""
    onnx = import_onnx("reading .onnx files")
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        _check_external(tensor, path)
    try:
        array = onnx.numpy_helper.to_array(tensor, str(path.resolve().parent))
    except MemoryError:
        raise
    except Exception as error:  # the library checks little: any error may surface
        raise InputError(
            f"its data cannot be read ({one_line(error)[:120]})", remedy="export the model again"
        ) from None
    return np.asarray(array if array.dtype.kind in "fiubcOSU" else array.astype(np.float32))


def _check_external(tensor: Any, path: Path) -> None:
    about = {entry.key: entry.value for entry in tensor.external_data}
    location = about.get("location", "")
    folder = path.resolve().parent
    file = (folder / location).resolve()
    if not location or not file.is_relative_to(folder) or not file.is_file():
        raise InputError(f"its external data '{location}' is not beside the model", remedy="fetch that file too")
    numbers = [about.get(key, "0") for key in ("offset", "length")]
    if not all(number.isdecimal() for number in numbers) or sum(map(int, numbers)) > file.stat().st_size:
        raise InputError(f"its external data '{location}' is truncated", remedy="fetch that file again")


def attributes(node: Any) -> dict[str, Any]:
    """Return the attributes of a node by name; bytes become text."""
    onnx = import_onnx("reading .onnx files")
    result = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
    return {
        key: value.decode("utf-8", "replace") if isinstance(value, bytes) else value for key, value in result.items()
    }


def find_constants(graph: Any, path: Path, outer: Mapping[str, Constant] | None = None) -> dict[str, Constant]:
    """Return every tensor of a graph that is constant: initialisers, and what simple nodes make of them.

    Parameters
    ----------
    graph : the GraphProto.
    path : of the model, for external data and errors.
    outer : of the graphs around this one.
    """
    constants = dict(outer or {})
    for tensor in graph.initializer:
        try:
            constants[tensor.name] = Constant(_to_array(tensor, path), tensor)
        except InputError as error:
            raise error.at(path, f"initialiser '{tensor.name}'") from None
    for node in graph.node:
        if node.op_type == "Constant" and len(node.output) == 1:
            value = next((item.t for item in node.attribute if item.name == "value" and item.HasField("t")), None)
            if value is not None:
                constants[node.output[0]] = Constant(_to_array(value, path), value)
            else:
                _plain_constant(node, constants)
        elif node.op_type in FOLDS and node.input and node.input[0] in constants and len(node.output) == 1:
            folded = _fold(node, constants)
            if folded is not None:
                constants[node.output[0]] = folded
    return constants


def _plain_constant(node: Any, constants: dict[str, Constant]) -> None:
    for key, value in attributes(node).items():
        if key in ("value_float", "value_floats", "value_int", "value_ints"):
            kind = np.float32 if "float" in key else np.int64
            constants[node.output[0]] = Constant(np.array(value, dtype=kind), None)


def _fold(node: Any, constants: Mapping[str, Constant]) -> Constant | None:
    operands = [constants.get(name) for name in node.input]
    if any(operand is None and name for operand, name in zip(operands, node.input, strict=True)):
        return None
    try:
        first, *others = (None if operand is None else operand.array for operand in operands)
        folded = FOLDS[node.op_type](first, others, attributes(node))
        return None if folded is None or operands[0] is None else operands[0].then(*folded)
    except (ValueError, IndexError, TypeError, KeyError, OverflowError, MemoryError):
        return None  # a shape that does not fit: the node stays an operation like any other


Folded = tuple[Array, Back | None] | None


def _identity(array: Array, _: list[Any], __: Mapping[str, Any]) -> Folded:
    return array, lambda changed: changed


def _cast(array: Array, _: list[Any], about: Mapping[str, Any]) -> Folded:
    kind = np.dtype(import_onnx("reading .onnx files").helper.tensor_dtype_to_np_dtype(about["to"]))
    kind = kind if kind.kind in "fiub" else np.dtype(np.float32)
    whole = array.dtype.kind in "iu"
    return array.astype(kind), lambda changed: (np.rint(changed) if whole else changed).astype(array.dtype)


def _transpose(array: Array, _: list[Any], about: Mapping[str, Any]) -> Folded:
    order = list(about.get("perm") or range(array.ndim)[::-1])
    return array.transpose(order), lambda changed: changed.transpose(np.argsort(order))


def _reshape(array: Array, others: list[Any], about: Mapping[str, Any]) -> Folded:
    shape = [int(extent) for extent in others[0]]
    if not about.get("allowzero"):
        shape = [array.shape[axis] if extent == 0 else extent for axis, extent in enumerate(shape)]
    return array.reshape(shape), lambda changed: changed.reshape(array.shape)


def _squeeze(array: Array, others: list[Any], about: Mapping[str, Any]) -> Folded:
    axes = about.get("axes") or (others[0].tolist() if others and others[0] is not None else None)
    result = np.squeeze(array) if axes is None else np.squeeze(array, tuple(axes))
    return result, lambda changed: changed.reshape(array.shape)


def _unsqueeze(array: Array, others: list[Any], about: Mapping[str, Any]) -> Folded:
    axes = about.get("axes") or others[0].tolist()
    return np.expand_dims(array, tuple(axes)), lambda changed: changed.reshape(array.shape)


def _slice(array: Array, others: list[Any], about: Mapping[str, Any]) -> Folded:
    given = [None if part is None else part.ravel().tolist() for part in others]
    starts, stops, axes, steps = (*(given or [about["starts"], about["ends"], about.get("axes")]), None, None)[:4]
    chosen = [slice(None)] * array.ndim
    for number, start in enumerate(starts or []):
        step = steps[number] if steps else 1
        if step < 1:
            return None
        chosen[axes[number] if axes else number] = slice(start, (stops or [])[number], step)
    return array[tuple(chosen)], None


def _concat(array: Array, others: list[Any], about: Mapping[str, Any]) -> Folded:
    return np.concatenate([array, *others], axis=about["axis"]), None


def _dequantize(array: Array, others: list[Any], about: Mapping[str, Any]) -> Folded:
    scale, zero = _factors(array, others, about)
    return dequantise(array, scale, zero), lambda changed: quantise(changed, scale, zero, array.dtype)


def _quantize(array: Array, others: list[Any], about: Mapping[str, Any]) -> Folded:
    scale, zero = _factors(array, others, about)
    kind = others[1].dtype if len(others) > 1 and others[1] is not None else np.dtype(np.uint8)
    return quantise(array, scale, zero, kind), lambda changed: dequantise(changed, scale, zero).astype(array.dtype)


def _factors(array: Array, others: list[Any], about: Mapping[str, Any]) -> tuple[Array, Array]:
    """Return scale and zero point spread over the axis (or over blocks along it)."""
    axis, block = about.get("axis", 1), about.get("block_size", 0)
    scale = np.asarray(others[0])
    zero = np.zeros_like(scale) if len(others) < 2 or others[1] is None else np.asarray(others[1])
    if block:
        return tuple(np.repeat(part, block, axis).take(range(array.shape[axis]), axis) for part in (scale, zero))  # type: ignore[return-value]
    if scale.ndim == 1 and scale.size > 1:
        shape = [1] * array.ndim
        shape[axis] = scale.size
        return scale.reshape(shape), zero.reshape(shape)
    return scale.reshape(()), zero.reshape(())


def dequantise(code: Array, scale: Array, zero: Array) -> Array:
    """Return (code - zero) * scale in float32."""
    return np.asarray((code.astype(np.float32) - zero.astype(np.float32)) * scale, dtype=np.float32)


def quantise(values: Array, scale: Array, zero: Array, kind: np.dtype[Any]) -> Array:
    """Return the nearest codes of the type ``kind``; what is zero becomes the zero point."""
    code = np.rint(values / np.where(scale == 0, 1, scale)) + zero.astype(np.float64)
    if kind.kind in "iu":
        code = np.clip(code, np.iinfo(kind).min, np.iinfo(kind).max)
    return np.asarray(code, dtype=kind)


FOLDS: Mapping[str, Callable[[Any, list[Any], Mapping[str, Any]], Folded]] = {
    "Cast": _cast,
    "Concat": _concat,
    "DequantizeLinear": _dequantize,
    "Identity": _identity,
    "QuantizeLinear": _quantize,
    "Reshape": _reshape,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}


def set_root(root: Any, values: Array) -> None:
    """Replace the values of a TensorProto, in its own type.

    Raises
    ------
    InputError
        If the type is one numpy and onnx cannot write.
    """
    onnx = import_onnx("writing .onnx files")
    kind, name = root.data_type, root.name
    shape: Iterable[int] = root.dims
    values = np.ascontiguousarray(values.reshape(tuple(shape)))
    if kind == BFLOAT16:
        bits = values.astype(np.float32).view(np.uint32)
        raw = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2").tobytes()
        tensor = onnx.helper.make_tensor(name, kind, values.shape, raw, raw=True)
    else:
        target = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind))
        if target.kind not in "fiub":
            known = onnx.helper.tensor_dtype_to_string(kind)
            raise InputError(f"'{name}' is of type {known}", remedy="convert the template to float32 or int8 first")
        tensor = onnx.numpy_helper.from_array(values.astype(target), name)
    root.CopyFrom(tensor)
