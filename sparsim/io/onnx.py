"""ONNX models: every product with a constant operand is a layer, and the graph says how they hang together.

Read are Conv, ConvTranspose, Gemm, MatMul, LSTM, GRU, RNN, their quantised forms (QLinearConv, ConvInteger,
QLinearMatMul, MatMulInteger, DequantizeLinear of an initialiser), in subgraphs too. The sizes of activations are those
shape inference finds; an open first axis is the batch.
"""

from __future__ import annotations

import math
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sparsim.errors import InputError
from sparsim.graph import Graph
from sparsim.io.onnx_graph import build_graph, names_read
from sparsim.io.onnx_operations import OPERATIONS
from sparsim.io.onnx_products import PRODUCTS, Dims, Place, Product, find_products, name_products
from sparsim.io.onnx_tensors import Constant, find_constants, import_onnx, load_model
from sparsim.network import Layer, Network

__all__ = ["read_onnx", "read_products"]

NO_SHAPES = "shape inference failed, so the sizes of activations are unknown"
OPEN_PADDING = "has padding that depends on a size the model leaves open"
NO_WEIGHT = "a product without a weight: no operand is constant"
SUBGRAPHS = "layers of subgraphs (If, Loop, Scan) stand among the others, whichever of them runs and how often"


@dataclass(frozen=True, eq=False)
class Found:
    """The products of a model, and what the rest of it says.

    Parameters
    ----------
    products : named, in the order of the nodes, subgraphs where they stand.
    constants, shapes : of the outermost graph, by tensor.
    numbers : for the products of the outermost graph, the number of their node.
    without_weight : products of two activations, name to what is known of their size.
    """

    products: list[Product]
    constants: Mapping[str, Constant]
    shapes: Mapping[str, Dims]
    numbers: Mapping[int, int]
    without_weight: dict[str, str]


def read_onnx(path: Path, name: str | None = None) -> Network:
    """Read the layers of a model, their geometry and the graph.

    A layer is called by its weight if that has a name such as ``conv1.weight``, else by its node. ``ConvTranspose`` is
    the product [out * kernel, in] of every input position. Padding that is not the same on both sides is told as a
    number of positions.

    Raises
    ------
    InputError
        If the file is damaged, data outside of it is missing, or no product has a constant operand.
    MissingExtra
        If onnx is not installed.
    """
    model = load_model(path)
    found, notes = read_products(model, path)
    if not found.products:
        raise InputError("holds no product with a constant operand", source=path, remedy="export it with its weights")
    layers: dict[str, Layer] = {}
    for product in found.products:
        layers.setdefault(product.layer.name, product.layer)
    skipped = dict(found.without_weight)
    rest = _rest(model.graph, found, skipped)
    metadata = {item.key: item.value for item in model.metadata_props if not item.key.startswith("sparsim.")}
    return Network(
        name or path.stem, tuple(layers.values()), metadata, skipped, tuple(notes), _graph(model, found), rest
    )


def read_products(model: Any, path: Path) -> tuple[Found, list[str]]:
    """Find the products of a model, and what a reader has to know about them."""
    shapes, notes = _infer_shapes(model)
    batch = _batch(model.graph, shapes)
    without: dict[str, str] = {}
    products: list[Product] = []
    numbers: dict[int, int] = {}
    try:
        constants = find_constants(model.graph, path)
        for number, product in _walk(model.graph, path, constants, shapes, batch, without):
            numbers[len(products)] = number
            products.append(product)
    except InputError as error:
        raise error.at(path) from None
    named = name_products(products)
    open_ones = [p.layer.name for p in named if p.layer.kernel and not p.layer.padding and p.layer.positions is None]
    notes += [f"layer '{name}' {OPEN_PADDING}" for name in open_ones]
    notes += [SUBGRAPHS] if -1 in numbers.values() else []
    return Found(named, constants, shapes, numbers, without), notes


def _infer_shapes(model: Any) -> tuple[dict[str, Dims], list[str]]:
    onnx = import_onnx("reading .onnx files")
    notes: list[str] = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except Exception:  # the library raises what it likes on models it cannot follow (and above 2 GiB)
        notes.append(NO_SHAPES)
    shapes: dict[str, Dims] = {}
    _collect_shapes(model.graph, shapes)
    return shapes, notes


def _collect_shapes(graph: Any, shapes: dict[str, Dims]) -> None:
    for tensor in graph.initializer:
        shapes[tensor.name] = tuple(tensor.dims)
    for info in (*graph.input, *graph.output, *graph.value_info):
        kind = info.type.tensor_type
        if info.type.HasField("tensor_type") and kind.HasField("shape"):
            shapes[info.name] = tuple(
                dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None for dim in kind.shape.dim
            )
    for node in graph.node:
        for inner in _subgraphs(node):
            _collect_shapes(inner, shapes)


def _subgraphs(node: Any) -> Iterator[Any]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _batch(graph: Any, shapes: Mapping[str, Dims]) -> int:
    """Return the samples in one run: the first axis of the first input that is no initialiser; 1 if it is open."""
    weights = {tensor.name for tensor in graph.initializer}
    for item in graph.input:
        dims = shapes.get(item.name)
        if item.name not in weights and dims:
            return dims[0] or 1
    return 1


def _walk(
    graph: Any,
    path: Path,
    constants: Mapping[str, Constant],
    shapes: Mapping[str, Dims],
    batch: int,
    without: dict[str, str],
) -> Iterator[tuple[int, Product]]:
    """Yield the products of a graph with the number of their node (-1 in subgraphs)."""
    readers: dict[str, list[Any]] = defaultdict(list)
    for node in graph.node:
        for name in names_read(node):
            readers[name].append(node)
    place = Place(constants, shapes, batch, readers, frozenset(item.name for item in graph.output))
    for number, node in enumerate(graph.node):
        for inner in _subgraphs(node):
            known = find_constants(inner, path, constants)
            yield from (
                (-1, replace(product, inner=True)) for _, product in _walk(inner, path, known, shapes, batch, without)
            )
        if node.op_type not in (*PRODUCTS, "Einsum") or all(name in constants for name in node.output):
            continue
        try:
            found = list(find_products(node, place))
        except InputError as error:
            raise InputError(
                error.problem, place=f"node '{node.name or node.output[0]}'", remedy=error.remedy
            ) from None
        except (ValueError, IndexError, TypeError, OverflowError) as error:
            raise InputError(
                f"its operands do not fit ({error})"[:160],
                place=f"node '{node.name or node.output[0]}'",
                remedy="export the model again",
            ) from None
        if not found:
            without[node.name or node.output[0]] = _bare(node, place)
        yield from ((number, product) for product in found)


def _bare(node: Any, place: Place) -> str:
    """Say how many multiplications a sample a product of two activations takes, where all extents are known."""
    left, out = place.dims(node, 0), place.shapes.get(node.output[0])
    if node.op_type != "MatMul" or not left or not out:
        return NO_WEIGHT
    first = 1 if out[0] is None else out[0]  # an open first axis counts samples
    extents = [extent for extent in (first, *out[1:], left[-1]) if extent is not None]
    if len(extents) <= len(out):
        return NO_WEIGHT
    return f"{NO_WEIGHT}, {math.prod(extents) // place.batch:,} multiplications"


def _rest(graph: Any, found: Found, skipped: dict[str, str]) -> dict[str, Any]:
    """Return the initialisers that are no weight and no bias, and say in ``skipped`` what reads them."""
    used = {id(product.weight.root) for product in found.products}
    used |= {id(product.bias.root) for product in found.products if product.bias is not None}
    readers: dict[str, list[str]] = defaultdict(list)
    for node in graph.node:
        for name in names_read(node):
            readers[name].append(node.op_type)
    rest = {}
    for tensor in graph.initializer:
        constant = found.constants[tensor.name]
        if id(tensor) not in used and constant.root is tensor:
            operations = ", ".join(sorted(set(readers[tensor.name]))) or "nothing"
            skipped[tensor.name] = f"read by {operations}: not the weight of a product"
            if constant.array.dtype.kind in "fiub":
                rest[tensor.name] = constant.array
    return rest


def _graph(model: Any, found: Found) -> Graph:
    products: dict[int, list[Product]] = defaultdict(list)
    for number, product in enumerate(found.products):
        if found.numbers[number] >= 0:
            products[found.numbers[number]].append(product)
    return build_graph(model.graph, found.constants, found.shapes, products, OPERATIONS)
