"""From a PyTorch module to a network, by running it once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from sparsim.errors import InputError
from sparsim.network import Layer, Network
from sparsim.torch.operations import Product
from sparsim.torch.parameters import as_array, call, canonical, evaluating
from sparsim.torch.record import EMBEDDINGS, Recorder
from sparsim.torch.trace import trace

__all__ = ["Call", "export", "layer_calls", "samples_in"]

EMBEDDING = "embedding (a table look-up, not a product)"
UNSEEN = "no product with it was seen: a path not taken, or an operation that is not known"


@dataclass(eq=False)
class Call:
    """A layer of the network and the products of one geometry that make it.

    Parameters
    ----------
    name : of the layer.
    products : the calls, at least one.
    """

    name: str
    products: list[Product] = field(default_factory=list)


def export(model: nn.Module, example_input: Any, *, name: str | None = None, batch: int | None = None) -> Network:
    """Run a model once and return it as a network.

    Every product of a parameter and something that depends on the input is a layer: ``Linear``, convolutions (a
    transposed one as the matrix ``[out * kernel, in]`` over its input positions), the projections of attention, the
    two weights of each recurrent layer (a step is a position), and calls of ``torch.nn.functional``, ``@`` or
    ``einsum`` on a parameter. A weight is taken as used, with masks and parametrizations applied. Calls of one weight
    with the same shapes are one layer with the positions of all; calls with other shapes are layers ``name#2`` and so
    on. Products without a parameter (attention scores) stand in ``Network.skipped``, with their multiplications for
    the whole batch.

    Parameters
    ----------
    model : any module; it runs in evaluation mode without gradients, and keeps its mode.
    example_input : a tensor, a tuple of arguments or a mapping of named ones; the first axis counts samples.
    name : of the network, by default the model's class.
    batch : samples in the input, if its first axis does not count them.

    Returns
    -------
    A network whose layers know geometry, positions per sample, bias and measured activation density (share of
    activations that are not zero, over this input), with its graph if ``torch.fx`` can trace the model, and all other
    parameters and buffers in ``rest``.

    Raises
    ------
    InputError
        If the model is scripted, computes no product with a parameter, or the positions are no multiple of the samples.
    """
    model = getattr(model, "_orig_mod", model)
    title = name or type(model).__name__
    if isinstance(model, torch.jit.ScriptModule):
        raise InputError("is scripted: its calls cannot be seen", source=title, remedy="export the module it came from")
    count = samples_in(example_input) if batch is None else batch
    recorder = Recorder(model)
    with evaluating(model), torch.no_grad():
        with recorder:
            call(model, example_input)
        if not recorder.products:
            raise InputError("computes no product with a parameter", source=title, remedy="give a model with layers")
        calls = layer_calls(recorder.products)
        layers = tuple(_layer(item, count) for item in calls)
        names = {id(product): item.name for item in calls for product in item.products}
        graph, reason = trace(model, example_input, recorder.products, names)
    skipped, rest = _rest(model, recorder.products)
    notes = [f"activation densities were measured on one input of {count} sample(s)"]
    notes += [reason] if reason else []
    if several := [item.name for item in calls if len(item.products) > 1]:
        notes.append(f"run several times, with the positions of all runs: {', '.join(several)}")
    if again := [item.name for item in calls if "#" in item.name]:
        notes.append(f"the same weight again, with activations of another shape: {', '.join(again)}")
    metadata = {"no_graph": reason} if reason else {}
    return Network(title, layers, metadata, skipped | _bare(recorder, count), tuple(notes), graph, rest)


def samples_in(inputs: Any) -> int:
    """Return the length of the first axis of the first tensor."""
    values = (
        inputs.values() if isinstance(inputs, Mapping) else inputs if isinstance(inputs, tuple | list) else [inputs]
    )
    for value in values:
        if isinstance(value, torch.Tensor) and value.ndim:
            return int(value.shape[0])
    raise InputError(
        "an example input without a tensor", remedy="give a tensor, a tuple of arguments or named arguments"
    )


def layer_calls(products: Sequence[Product]) -> list[Call]:
    """Group products into layers: one for each weight, bias and geometry, in order of first execution."""
    calls: list[Call] = []
    for product in products:
        alike = [item for item in calls if item.products[0].name == product.name]
        same = next((item for item in alike if _is_same(item.products[0], product)), None)
        if same is None:
            same = Call(f"{product.name}#{len(alike) + 1}" if alike else product.name)
            calls.append(same)
        same.products.append(product)
    return calls


def _is_same(first: Product, second: Product) -> bool:
    if first.geometry != second.geometry or first.owns != second.owns:
        return False
    return bool(torch.equal(first.weight, second.weight))


def _layer(item: Call, batch: int) -> Layer:
    first, columns = item.products[0], sum(product.columns for product in item.products)
    if batch < 1 or columns % batch:
        raise InputError(
            f"layer '{item.name}' multiplies {columns} columns, no multiple of {batch} samples",
            remedy="let the first axis of the input count samples, or give batch=",
        )
    positions: int | None = columns // batch
    seen = sum(product.inputs for product in item.products)
    facts: dict[str, Any] = {"stride": first.stride, "padding": first.padding, "dilation": first.dilation}
    weight = as_array(first.weight)
    if first.input_size is not None and first.padding:
        known = Layer(item.name, weight, **facts, groups=first.groups, input_size=first.input_size)
        if known.columns(1) == positions:
            facts["input_size"], positions = first.input_size, None
    elif positions == 1 and first.input_size is None:
        positions = None
    return Layer(
        item.name,
        weight,
        **facts,
        groups=first.groups,
        positions=positions,
        activation_density=sum(product.nonzeros for product in item.products) / seen if seen else 1.0,
        bias=None if first.bias is None else as_array(first.bias),
    )


def _rest(model: nn.Module, products: Sequence[Product]) -> tuple[dict[str, str], dict[str, Any]]:
    """Return why each array of the model that is part of no layer is none, and the array itself."""
    owned = {name for product in products for name in product.owns}
    parts = {name: product.name for product in products for name in product.made_of}
    tables = {id(module.weight) for module in model.modules() if isinstance(module, EMBEDDINGS)}
    state = _state(model)
    held = {id(tensor): key for key, tensor in state if canonical(key) in owned}
    skipped: dict[str, str] = {}
    rest: dict[str, Any] = {}
    for key, tensor in state:
        if canonical(key) in owned:
            continue
        if canonical(key) in parts:
            skipped[key] = f"already in the weight of '{parts[canonical(key)]}'"
        elif id(tensor) in held:
            skipped[key] = f"the same array as '{held[id(tensor)]}'"
        else:
            few = f"{tensor.ndim}-D: a bias, a scale or a counter, not a product"
            skipped[key] = EMBEDDING if id(tensor) in tables else few if tensor.ndim < 2 else UNSEEN
            rest[key] = as_array(tensor)
    return skipped, rest


def _state(model: nn.Module) -> list[tuple[str, Any]]:
    return [(key, value) for key, value in model.state_dict(keep_vars=True).items() if isinstance(value, torch.Tensor)]


def _bare(recorder: Recorder, batch: int) -> dict[str, str]:
    described: dict[str, str] = {}
    samples = f" for {batch:,} samples" if batch > 1 else ""
    for number, (operation, shapes, multiplies) in enumerate(recorder.bare, 1):
        operands = " x ".join(str(list(shape)) for shape in shapes)
        text = f"a product without a weight: {operands}, {multiplies:,} multiplications{samples}"
        described[f"{operation} ({number})"] = text
    return described
