"""How the layers of a module hang together: its ``torch.fx`` graph, read for what happens to single channels.

The traced module is run once more, node by node, with the shapes at hand. Each tensor is followed along its channel
axis: axis 1 of an image, the last of ``[batch, tokens, features]``. Where a node mixes channels, or does something that
is not known, the result is ``opaque``; so the graph may know less than the truth, never more.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import fx, nn

from sparsim.graph import Graph
from sparsim.torch.channels import Step, Tensors
from sparsim.torch.operations import Product
from sparsim.torch.record import Recorder
from sparsim.torch.rules import channel_rule

__all__ = ["trace"]


def trace(
    model: nn.Module, inputs: Any, products: Sequence[Product], names: Mapping[int, str]
) -> tuple[Graph | None, str]:
    """Return the graph of a model, or None and the reason why there is none.

    Parameters
    ----------
    model : in evaluation mode.
    inputs : as :func:`~sparsim.torch.export.export` takes them.
    products : what the model computed for these inputs.
    names : ``id`` of each product to the name of its layer.
    """
    try:
        arguments, fixed = _arguments(model, inputs)
        traced = fx.GraphModule(model, fx.Tracer().trace(model, concrete_args=fixed))
        recorder = Recorder(model)
        reader = _Reader(traced, recorder, [names[id(product)] for product in products])
        with recorder:
            reader.run(*arguments)
    except Exception as error:  # tracing runs the user's code on stand-ins: it may raise anything
        lines = str(error).strip().splitlines()
        return None, f"no graph: torch.fx cannot trace the model ({lines[0] if lines else type(error).__name__})"
    if [_same(product) for product in recorder.products] != [_same(product) for product in products]:
        return None, "no graph: the traced model does not compute the same products"
    return Graph(tuple(reader.tensors.nodes), tuple(dict.fromkeys(reader.outputs))), ""


def _same(product: Product) -> tuple[Any, ...]:
    return product.name, product.geometry


def _arguments(model: nn.Module, inputs: Any) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments in the order of the signature, and those that are no tensors: they are fixed in tracing."""
    signature = inspect.signature(model.forward)
    given = inputs if isinstance(inputs, Mapping) else {}
    listed = () if isinstance(inputs, Mapping) else inputs if isinstance(inputs, tuple | list) else (inputs,)
    bound = signature.bind(*listed, **given)
    bound.apply_defaults()
    named = {
        name: value
        for name, value in bound.arguments.items()
        if signature.parameters[name].kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    }
    extra = [value for name in bound.arguments.keys() - named.keys() for value in bound.arguments[name]]
    return [*named.values(), *extra], {
        key: value for key, value in named.items() if not isinstance(value, torch.Tensor)
    }


class _Reader(fx.Interpreter):  # type: ignore[misc, unused-ignore]
    """Runs a traced module and translates each node."""

    def __init__(self, traced: Any, recorder: Recorder, layers: Sequence[str]) -> None:
        super().__init__(traced)
        self.extra_traceback = False
        self.tensors = Tensors()
        self.outputs: list[str] = []
        self._recorder, self._layers = recorder, layers

    def run_node(self, node: Any) -> Any:
        """Run a node, and say what it does to channels."""
        before = len(self._recorder.products)
        args, kwargs = self.fetch_args_kwargs_from_env(node)
        result = super().run_node(node)
        if node.op == "output":
            fx.node.map_arg(node.args, lambda used: self.outputs.extend(self.tensors.outputs(used)))
            return result
        module = self.fetch_attr(node.target) if node.op == "call_module" else None
        made = self._recorder.products[before:]
        named = [(product, self._layers[before + i]) for i, product in enumerate(made)]
        self.tensors.read(Step(node, module, args, kwargs, result, named), channel_rule)
        return result
