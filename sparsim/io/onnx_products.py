"""The products of an ONNX graph that have a constant operand: each becomes a layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from sparsim.io.names import strip_weight
from sparsim.io.onnx_tensors import Constant, attributes, dequantise, quantise
from sparsim.network import Layer

__all__ = ["PRODUCTS", "QUANTISED", "RECURRENT", "Dims", "Place", "Product", "Put", "find_products", "name_products"]

Array = npt.NDArray[Any]
Put = Callable[[Array, Array], Array]
Dims = Sequence[int | None]
QUANTISED: Mapping[
    str, tuple[str, int, int | None, int | None, int | None]
] = {  # operation it is like, operands: weight, its scale, its zero point, bias
    "QLinearConv": ("Conv", 3, 4, 5, 8),
    "ConvInteger": ("Conv", 1, None, 3, None),
    "QLinearMatMul": ("MatMul", 3, 4, 5, None),
    "MatMulInteger": ("MatMul", 1, None, 3, None),
}
RECURRENT = {"LSTM": 4, "GRU": 3, "RNN": 1}
PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul", *QUANTISED, *RECURRENT)


def _same(_: Array, changed: Array) -> Array:
    return changed


@dataclass(frozen=True, eq=False)
class Product:
    """One product of a node.

    Parameters
    ----------
    node : the NodeProto.
    layer : its weight, geometry and bias.
    weight, bias : the constant operands they are made of; no bias: None.
    put, put_bias : from an operand's values and another weight (bias) to the operand's other values.
    operand : the number of the operand that is the weight.
    part : which part of the operand, where several products have one (the direction of an LSTM).
    inner : whether it stands in a subgraph.
    added : output of the ``Add`` node that brings the bias of a MatMul, "" if none does.
    left : the weight is the left operand, so that channels stand on the last axis but one; or another operand is
        turned. The graph cannot follow channels through it.
    unknown_bias : something is added to the outputs that is not one constant a channel.
    """

    node: Any
    layer: Layer
    weight: Constant
    put: Put = _same
    bias: Constant | None = None
    put_bias: Put = _same
    operand: int = 1
    part: int = 0
    added: str = ""
    inner: bool = False
    left: bool = False
    unknown_bias: bool = False


@dataclass(frozen=True, eq=False)
class Place:
    """What is known where a node stands.

    Parameters
    ----------
    constants : by tensor.
    shapes : by tensor; None for an extent that is not fixed.
    batch : samples in one run of the model.
    readers : by tensor, the nodes that read it.
    outputs : tensors that leave the graph.
    """

    constants: Mapping[str, Constant]
    shapes: Mapping[str, Dims]
    batch: int
    readers: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    outputs: frozenset[str] = frozenset()

    def constant(self, node: Any, operand: int | None) -> Constant | None:
        """Return an operand if it is there and constant."""
        given = operand is not None and operand < len(node.input)
        return self.constants.get(node.input[operand]) if given else None

    def dims(self, node: Any, operand: int) -> Dims | None:
        """Return the shape of an operand if it is known."""
        return self.shapes.get(node.input[operand]) if operand < len(node.input) else None


def find_products(node: Any, place: Place) -> Iterator[Product]:
    """Return the products of a node; layers are called by what tells several of one node apart.

    Raises
    ------
    InputError
        If the operands do not fit the operation.
    """
    if node.op_type in RECURRENT:
        yield from _recurrent(node, place)
        return
    operation, number, scale, zero, bias = QUANTISED.get(node.op_type, (node.op_type, 1, None, None, 2))
    weight = place.constant(node, number)
    if weight is None:
        if operation in ("MatMul", "Gemm") and node.op_type == operation and place.constant(node, 0) is not None:
            yield from _left(node, place)
        return
    if node.op_type in QUANTISED:
        factors = [place.constant(node, operand) for operand in (scale, zero)]
        weight = _dequantised(weight, factors[0], factors[1], 0 if operation == "Conv" else -1)
        product = _PLAIN[operation](node, weight, None, place)
        brought = place.constant(node, bias)
        yield from (replace(item, operand=number, unknown_bias=brought is not None) for item in product)
    else:
        yield from _PLAIN[operation](node, weight, place.constant(node, bias) if operation != "MatMul" else None, place)


def _dequantised(code: Constant, scale: Constant | None, zero: Constant | None, axis: int) -> Constant:
    def spread(factor: Constant | None, default: float) -> Array:
        array = np.float32(default) if factor is None else factor.array
        shape = [1] * code.array.ndim
        if array.ndim == 1 and array.size > 1:
            shape[axis] = array.size
        return np.asarray(array).reshape(shape)

    factors = spread(scale, 1.0), spread(zero, 0.0)
    kind = code.array.dtype
    return code.then(dequantise(code.array, *factors), lambda changed: quantise(changed, *factors, kind))


def _convolution(node: Any, weight: Constant, bias: Constant | None, place: Place) -> Iterator[Product]:
    about, array = attributes(node), weight.array
    if array.ndim > 2:
        geometry = _geometry(about, array.shape[2:], place.dims(node, 0), place.shapes.get(node.output[0]))
        layer = Layer("", array, bias=_vector(bias, array.shape[0]), **geometry)
        yield Product(node, layer, weight, bias=bias, unknown_bias=_unknown(node, bias, layer))


def _unknown(node: Any, bias: Constant | None, layer: Layer) -> bool:
    given = len(node.input) > 2 and bool(node.input[2])
    return given and (bias is None or layer.bias is None)


def _vector(bias: Constant | None, size: int) -> Array | None:
    """Return the bias as one number an output; None if it is anything else."""
    if bias is None or bias.array.size not in (1, size) or bias.array.dtype.kind != "f":
        return None
    if bias.array.size == size and bias.array.ndim and bias.array.shape[-1] != size:
        return None
    return np.array(np.broadcast_to(bias.array.ravel(), (size,)))


def _geometry(about: Mapping[str, Any], kernel: tuple[int, ...], dims: Dims | None, out: Dims | None) -> dict[str, Any]:
    axes = len(kernel)
    stride = tuple(about.get("strides") or (1,) * axes)
    dilation = tuple(about.get("dilations") or (1,) * axes)
    known = dims is not None and len(dims) == axes + 2 and all(dims[2:])
    size = tuple(int(extent) for extent in dims[2:] if extent) if known and dims is not None else None
    geometry: dict[str, Any] = {"stride": stride, "dilation": dilation, "groups": about.get("group", 1)}
    pads = _pads(about, kernel, stride, dilation, size)
    if pads is not None and pads[:axes] == pads[axes:]:
        return geometry | {"padding": pads[:axes], "input_size": size}
    if out is not None and len(out) == axes + 2 and all(out[2:]):
        geometry["positions"] = math.prod(extent for extent in out[2:] if extent)
    return geometry


def _pads(
    about: Mapping[str, Any],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
    size: tuple[int, ...] | None,
) -> tuple[int, ...] | None:
    """Return the padding before, then after, each axis; None if it depends on a size that is not known."""
    mode = about.get("auto_pad", "NOTSET")
    if not mode.startswith("SAME"):
        return tuple(about.get("pads") or ()) if mode == "NOTSET" and about.get("pads") else (0,) * (2 * len(kernel))
    if size is None and max(stride) > 1:
        return None
    total = []
    for axis, width in enumerate(kernel):
        extent = (width - 1) * dilation[axis] + 1
        rest = size[axis] % stride[axis] if size is not None else 0
        total.append(max(extent - (rest or stride[axis]), 0))
    less, more = tuple(item // 2 for item in total), tuple(item - item // 2 for item in total)
    return less + more if mode == "SAME_UPPER" else more + less


def _transposed(node: Any, weight: Constant, bias: Constant | None, place: Place) -> Iterator[Product]:
    """Yield ConvTranspose as the product it is: every input position times [out x kernel, in]."""
    array, groups = weight.array, attributes(node).get("group", 1)
    if array.ndim < 3 or groups < 1 or array.shape[0] % groups:
        return
    shape = (groups, array.shape[0] // groups, math.prod(array.shape[1:]))

    def put(operand: Array, changed: Array) -> Array:
        return changed.reshape(groups, shape[2], shape[1]).transpose(0, 2, 1).reshape(operand.shape)

    matrix = np.ascontiguousarray(array.reshape(shape).transpose(0, 2, 1)).reshape(groups * shape[2], shape[1])
    dims = place.dims(node, 0)
    known = dims is not None and len(dims) == array.ndim and all(dims[2:])
    positions = math.prod(extent for extent in dims[2:] if extent) if known and dims is not None else None
    layer = Layer("", matrix, groups=groups, positions=positions)
    yield Product(node, layer, weight, put, unknown_bias=bias is not None or _unknown(node, bias, layer))


def _gemm(node: Any, weight: Constant, bias: Constant | None, place: Place) -> Iterator[Product]:
    about, array = attributes(node), weight.array
    if array.ndim != 2:
        return
    alpha, beta = (np.float64(about.get(key, 1.0)) for key in ("alpha", "beta"))
    matrix = array if about.get("transB") else array.T

    def put(operand: Array, changed: Array) -> Array:
        values = changed / alpha if alpha not in (0, 1) else changed
        return values if about.get("transB") else values.T

    def put_bias(operand: Array, changed: Array) -> Array:
        return (changed / beta if beta not in (0, 1) else changed).reshape(operand.shape)

    dims = place.dims(node, 0)
    turned = bool(about.get("transA"))
    rows = _rows(dims[::-1] if turned and dims is not None else dims, place.batch)
    vector = _vector(bias, matrix.shape[0])
    vector = vector if vector is None or beta == 1 else np.asarray(vector * beta, dtype=vector.dtype)
    matrix = matrix if alpha == 1 else np.asarray(matrix * alpha, dtype=array.dtype)
    layer = Layer("", np.ascontiguousarray(matrix), positions=rows, bias=vector)
    yield Product(node, layer, weight, put, bias, put_bias, left=turned, unknown_bias=_unknown(node, bias, layer))


def _matmul(node: Any, weight: Constant, _: Constant | None, place: Place) -> Iterator[Product]:
    array = weight.array
    if array.ndim < 2 or math.prod(array.shape[:-2]) != 1:
        return
    matrix = np.ascontiguousarray(array.reshape(array.shape[-2:]).T)
    bias, added = _added(node, place, matrix.shape[0])
    layer = Layer("", matrix, positions=_rows(place.dims(node, 0), place.batch), bias=_vector(bias, matrix.shape[0]))
    yield Product(
        node,
        layer,
        weight,
        lambda operand, changed: changed.T.reshape(operand.shape),
        bias,
        lambda operand, changed: changed.reshape(operand.shape),
        added=added,
    )


def _added(node: Any, place: Place, size: int) -> tuple[Constant | None, str]:
    """Return the constant that the only reader of the product adds to it, and what that reader makes."""
    name = node.output[0]
    readers = place.readers.get(name, ())
    if len(readers) != 1 or readers[0].op_type != "Add" or name in place.outputs:
        return None, ""
    other = [item for item in readers[0].input if item != name]
    bias = place.constants.get(other[0]) if len(other) == 1 else None
    if bias is None or bias.array.shape[-1:] != (size,) or bias.array.size != size or bias.array.dtype.kind != "f":
        return None, ""
    return bias, str(readers[0].output[0])


def _left(node: Any, place: Place) -> Iterator[Product]:
    """Yield a product whose weight stands on the left: W X, one column a position."""
    weight, about, dims = place.constants[node.input[0]], attributes(node), place.dims(node, 1)
    array = weight.array
    if array.ndim < 2 or math.prod(array.shape[:-2]) != 1 or about.get("alpha", 1.0) != 1.0:
        return
    turned = bool(about.get("transA"))
    matrix = array.reshape(array.shape[-2:])
    columns = None
    if dims is not None and len(dims) > 1:
        across = dims[-2] if about.get("transB") else dims[-1]
        columns = _rows([*dims[:-2], across, 1], place.batch) if len(dims) > 2 else across

    def put(operand: Array, changed: Array) -> Array:
        return (changed.T if turned else changed).reshape(operand.shape)

    layer = Layer("", np.ascontiguousarray(matrix.T if turned else matrix), positions=columns)
    yield Product(node, layer, weight, put, operand=0, left=True, unknown_bias=len(node.input) > 2)


def _rows(dims: Dims | None, batch: int) -> int | None:
    """Return the rows of the activations a sample brings: all axes but the last. An open first axis is the batch."""
    if dims is None or len(dims) < 2:
        return None
    first, *others = dims[:-1]
    if not all(others):
        return None
    rows = math.prod(int(extent) for extent in others if extent) * (batch if first is None else first)
    return rows // batch if rows and rows % batch == 0 else None


def _recurrent(node: Any, place: Place) -> Iterator[Product]:
    """Yield the input and the recurrent weights of each direction; they run once a time step."""
    dims, layout = place.dims(node, 0), attributes(node).get("layout", 0)
    steps = dims[layout] if dims is not None and len(dims) == 3 else None
    bias = place.constant(node, 3)
    for operand, label in ((1, "W"), (2, "R")):
        weight = place.constant(node, operand)
        if weight is None or weight.array.ndim != 3:
            continue
        rows = weight.array.shape[1]
        has_bias = bias is not None and bias.array.shape == (weight.array.shape[0], 2 * rows)
        for direction in range(weight.array.shape[0]):
            part = slice((operand - 1) * rows, operand * rows)
            layer = Layer(
                label + ("_reverse" if direction else ""),
                weight.array[direction],
                positions=steps or None,
                bias=np.array(bias.array[direction, part]) if has_bias and bias is not None else None,
            )
            brought = bias if has_bias else None
            puts = _put_at(direction), _put_at((direction, part))
            yield Product(node, layer, weight, puts[0], brought, puts[1], operand=operand, part=direction)


def _put_at(place: Any) -> Put:
    def put(operand: Array, changed: Array) -> Array:
        operand = operand.copy()
        operand[place] = changed
        return operand

    return put


_PLAIN: Mapping[str, Callable[[Any, Constant, Constant | None, Place], Iterator[Product]]] = {
    "Conv": _convolution,
    "ConvTranspose": _transposed,
    "Gemm": _gemm,
    "MatMul": _matmul,
}


def name_products(products: Sequence[Product]) -> list[Product]:
    """Name the layers by their initialiser, if it is called like a weight, else by the node.

    Products of one initialiser with one geometry and one bias are one layer; a name that is taken gets ``#2``.
    """
    named: list[Product] = []
    known: dict[str, Product] = {}
    for product in products:
        root, node, label = product.weight.root, product.node, product.layer.name
        short = strip_weight(root.name) if root is not None else ""
        base = short if short and short != root.name else node.name or node.output[0]
        base = f"{base}/{label}" if label else base
        name, number = base, 1
        while name in known and not _is_same(known[name], product):
            number += 1
            name = f"{base}#{number}"
        known.setdefault(name, product)
        named.append(replace(product, layer=replace(product.layer, name=name)))
    return _shared(named)


def _shared(products: list[Product]) -> list[Product]:
    """Give products of one initialiser one layer where nothing tells them apart."""
    first: dict[int, list[Product]] = {}
    result = []
    for product in products:
        root = id(product.weight.root) if product.weight.root is not None else id(product.weight)
        twins = [twin for twin in first.setdefault(root, []) if _is_same(twin, product)]
        if twins:
            product = replace(product, layer=twins[0].layer)
        else:
            first[root].append(product)
        result.append(product)
    return result


def _is_same(one: Product, other: Product) -> bool:
    if one.weight.root is not other.weight.root or one.weight.root is None or one.inner != other.inner:
        return False
    a, b = one.layer, other.layer
    keys = ("shape", "stride", "padding", "dilation", "groups", "input_size", "positions")
    if any(getattr(a, key) != getattr(b, key) for key in keys):
        return False
    if a.bias is None or b.bias is None:
        return a.bias is b.bias and np.array_equal(np.asarray(a.weight), np.asarray(b.weight))
    return np.array_equal(a.bias, b.bias) and np.array_equal(np.asarray(a.weight), np.asarray(b.weight))
