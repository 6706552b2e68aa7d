"""Write the weights of a network into a copy of the ONNX model it came from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from sparsim.errors import InputError, nearest
from sparsim.io.onnx import Found, read_products
from sparsim.io.onnx_products import QUANTISED, Product
from sparsim.io.onnx_tensors import FOLDS, Constant, import_onnx, load_model, set_root
from sparsim.network import Layer, Network

__all__ = ["write_onnx"]

LARGEST_FILE = 2**31 - 2**20
FLOATS = (1, 10, 11)


def write_onnx(network: Network, path: Path, template: Path) -> None:
    """Replace the weights and biases of ``template`` by those of the layers of the same names.

    What did not change stays bit for bit; quantised weights are rounded to the template's scale, in which zero stays
    zero. A weight whose initialiser somebody else reads too (an embedding tied to the output layer) gets one of its
    own, ``<layer>.weight``. Beyond 2 GiB the tensors go into ``<path>.data``.

    Raises
    ------
    InputError
        If layers and template do not fit, or the template has no place for a weight or a bias.
    """
    onnx = import_onnx("writing .onnx files")
    model = load_model(template)
    found = read_products(model, template)[0]
    onnx.external_data_helper.load_external_data_for_model(model, str(template.resolve().parent))
    layers = {layer.name: layer for layer in network}
    known = {product.layer.name for product in found.products}
    for name in layers.keys() ^ known:
        who = "the template" if name in layers else f"'{network.name}'"
        raise InputError(f"{who} has no layer '{name}'{nearest(name, known)}", source=template, remedy="another model?")
    try:
        for product in found.products:
            _check(product, layers[product.layer.name])
        others = _read_by_others(model, found)
        _write_weights(model, found, layers, others)
        _write_biases(found, layers, others)
    except InputError as error:
        raise error.at(template) from None
    large = model.ByteSize() > LARGEST_FILE
    onnx.save(model, str(path), save_as_external_data=large, location=f"{path.name}.data" if large else None)


def _check(product: Product, layer: Layer) -> None:
    if not isinstance(layer.weight, np.ndarray) or layer.shape != product.layer.shape:
        raise InputError(f"layer '{layer.name}' has the shape {layer.shape}, not {product.layer.shape}")
    if layer.bias is None or product.layer.bias is not None or not layer.bias.any():
        return
    raise InputError(f"layer '{layer.name}' has a bias, the template has none", remedy="drop the bias")


def _write_weights(model: Any, found: Found, layers: dict[str, Layer], others: set[int]) -> None:
    by_root: dict[int, list[Product]] = defaultdict(list)
    for product in found.products:
        by_root[id(product.weight.root)].append(product)
    for products in by_root.values():
        if all(np.array_equal(np.asarray(p.layer.weight), np.asarray(layers[p.layer.name].weight)) for p in products):
            continue
        root = products[0].weight.root
        parts: dict[int, list[Any]] = defaultdict(list)
        for product in products:
            parts[product.part].append(layers[product.layer.name].weight)
        agree = all(np.array_equal(some[0], weight) for some in parts.values() for weight in some[1:])
        if root is None or id(root) in others or not agree or any(p.weight.pieces for p in products):
            _own(model, products, layers)
            continue
        operand = products[0].weight.array
        for product in products:
            operand = product.put(operand, np.asarray(layers[product.layer.name].weight))
        set_root(root, products[0].weight.back(operand))


def _own(model: Any, products: list[Product], layers: dict[str, Layer]) -> None:
    """Give every node an initialiser of its own."""
    onnx = import_onnx("writing .onnx files")
    operands: dict[tuple[int, int], tuple[Product, Any]] = {}
    for product in products:
        key = id(product.node), product.operand
        values = operands[key][1] if key in operands else product.weight.array
        operands[key] = product, product.put(values, np.asarray(layers[product.layer.name].weight))
    for number, (product, values) in enumerate(operands.values()):
        name = product.layer.name
        if product.node.op_type in QUANTISED or (
            product.weight.root is not None and product.weight.root.data_type not in FLOATS
        ):
            raise InputError(f"layer '{name}' shares its codes with another", remedy="export the model unquantised")
        new = f"{name}.weight" if number == 0 else f"{name}.weight#{number + 1}"
        values = np.ascontiguousarray(values, dtype=product.weight.array.dtype)
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, new))
        product.node.input[product.operand] = new


def _read_by_others(model: Any, found: Found) -> set[int]:
    """Return the roots that something else than products and the folded nodes before them reads."""
    added = {product.added for product in found.products if product.added}
    products = {id(product.node) for product in found.products}
    roots = {name: id(constant.root) for name, constant in found.constants.items()}
    result = {roots[item.name] for item in model.graph.output if item.name in roots}
    for node in _nodes(model.graph):
        folded = node.op_type in FOLDS and all(name in found.constants for name in node.output)
        for name in node.input:
            if name in roots and not folded and id(node) not in products and node.output[0] not in added:
                result.add(roots[name])
    return result


def _nodes(graph: Any) -> Iterator[Any]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                yield from _nodes(inner)


def _write_biases(found: Found, layers: dict[str, Layer], others: set[int]) -> None:
    values: dict[int, Any] = {}
    seen: dict[tuple[int, int, int], tuple[str, Any]] = {}
    for product in found.products:
        layer, old = layers[product.layer.name], product.bias
        if layer.bias is None or old is None or product.layer.bias is None:
            continue
        key = (id(old.root), product.operand, product.part)
        name, bias = seen.setdefault(key, (layer.name, layer.bias))
        if not np.array_equal(bias, layer.bias):
            raise InputError(f"layers '{name}' and '{layer.name}' share one bias but differ", remedy="keep the biases")
        if np.array_equal(layer.bias, product.layer.bias):
            continue
        if old.root is None or id(old.root) in others:
            raise InputError(f"layer '{name}' shares its bias with other operations", remedy="keep its bias")
        _write_bias(product, old, layer, values)


def _write_bias(product: Product, old: Constant, layer: Layer, values: dict[int, Any]) -> None:
    if old.pieces or layer.bias is None or old.array.size % layer.bias.size:
        raise InputError(f"the template has no place for the bias of layer '{layer.name}'", remedy="keep its bias")
    operand = product.put_bias(values.get(id(old.root), old.array), layer.bias)
    values[id(old.root)] = operand
    set_root(old.root, old.back(operand))
