"""The tensors of a traced module, each followed along its channel axis."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx, nn

from sparsim.graph import Node
from sparsim.torch.operations import Product

__all__ = ["Step", "Tensors", "Value"]

CLASSES = {
    "ReLU": "relu",
    "ReLU6": "relu6",
    "Sigmoid": "sigmoid",
    "Tanh": "tanh",
    "GELU": "gelu",
    "SiLU": "silu",
    "Hardswish": "hardswish",
    "Hardsigmoid": "hardsigmoid",
    "LeakyReLU": "leaky_relu",
    "ELU": "elu",
    "Mish": "mish",
    "Softplus": "softplus",
    "SELU": "selu",
    "CELU": "celu",
    "PReLU": "leaky_relu",
    "Hardtanh": "hardtanh",
    "Softsign": "softsign",
    "Identity": "identity",
    "Flatten": "flatten",
    "Unflatten": "unflatten",
    "Upsample": "interpolate",
    "UpsamplingNearest2d": "interpolate",
    "UpsamplingBilinear2d": "interpolate",
}
INPLACE = {f"i{name}": name for name in ("add", "sub", "mul", "truediv")}


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor followed along its channel axis.

    Parameters
    ----------
    shape : of the tensor.
    axis : of the channels; None while nobody has asked (an input, or something opaque).
    node : of the graph that makes it; None as long as ``axis`` is.
    sources : what an opaque tensor depends on; None for an input.
    root : the traced node whose memory it shares, "" for its own.
    """

    shape: tuple[int, ...]
    axis: int | None = None
    node: str | None = None
    sources: tuple[str, ...] | None = ()
    root: str = ""


@dataclass(frozen=True, eq=False)
class Step:
    """One node of a traced module while it runs.

    Parameters
    ----------
    node : of ``torch.fx``.
    module : what it calls, None for a function or method.
    args, kwargs : what it was called with.
    result : what came out.
    products : the products with a weight it computed, each with the name of its layer.
    """

    node: Any
    module: nn.Module | None
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    result: Any
    products: Sequence[tuple[Product, str]] = ()

    @property
    def called(self) -> str:
        """Name of the function or method as called: add_, iadd; "" for a module or a function not of PyTorch."""
        target = self.node.target
        if self.module is not None or isinstance(target, str):
            return "" if self.module is not None else str(target)
        home = getattr(target, "__module__", None) or "torch"
        return getattr(target, "__name__", "") if home.partition(".")[0] in ("torch", "_operator") else ""

    @property
    def kind(self) -> str:
        """Name of the operation: relu, add, max_pool2d."""
        if self.module is not None:
            name = type(self.module).__name__
            return CLASSES.get(name, name.lower())
        return INPLACE.get(self.called, self.called.strip("_"))

    @property
    def in_place(self) -> bool:
        """Whether it overwrites its first argument."""
        if self.module is not None:
            return bool(getattr(self.module, "inplace", False))
        flag = self.kwargs.get("inplace", len(self.args) > 1 and self.args[1] is True)  # as in F.relu(x, True)
        return self.called in INPLACE or (self.called.endswith("_") and not self.called.endswith("__")) or bool(flag)

    def option(self, position: int, *names: str, default: Any = None) -> Any:
        """Return an argument by its position in the call, or by one of its names."""
        if position < len(self.args):
            return self.args[position]
        return next((self.kwargs[name] for name in names if name in self.kwargs), default)


@dataclass(eq=False)
class Tensors:
    """The tensors of a traced module and the graph nodes that make them.

    Attributes
    ----------
    nodes : of the graph so far.
    """

    nodes: list[Node] = field(default_factory=list)
    _values: dict[str, Any] = field(default_factory=dict)
    _asked: dict[tuple[int, int], str] = field(default_factory=dict)
    _kept: list[Value] = field(default_factory=list)

    def read(self, step: Step, rule: Callable[[Tensors, Step, list[Value]], Any]) -> None:
        """Translate one node.

        Parameters
        ----------
        step : the node.
        rule : returns the value of the node (a list of values for several tensors), None if it can say nothing.
        """
        inputs = self._inputs(step)
        if step.node.op == "placeholder":
            self._values[step.node.name] = self._lazy(step.result, None)
            return
        constant = not inputs and (step.node.op == "get_attr" or step.node.all_input_nodes)
        if constant or not _holds_tensor(step.result):
            return
        value = rule(self, step, inputs)
        if value is None:
            value = self._lazy(step.result, self._depends(inputs))
        self._values[step.node.name] = value
        if step.in_place and isinstance(step.node.args[0], fx.Node):
            self._overwrite(step.node.args[0].name, value)

    def value_of(self, argument: Any) -> Any:
        """Return what is known of an argument: a value, a list of them, or None for a constant or no tensor."""
        return self._values.get(argument.name) if isinstance(argument, fx.Node) else None

    def outputs(self, node: Any) -> list[str]:
        """Return the graph's tensors that make up the value of a traced node."""
        return list(self._depends(_flat(self._values.get(node.name))))

    def _inputs(self, step: Step) -> list[Value]:
        return [value for node in step.node.all_input_nodes for value in _flat(self._values.get(node.name))]

    def _lazy(self, result: Any, sources: tuple[str, ...] | None) -> Any:
        if isinstance(result, torch.Tensor):
            return Value(tuple(result.shape), sources=sources)
        if isinstance(result, tuple | list):
            return [self._lazy(item, sources) for item in result]
        return [self._lazy(item, sources) for item in result.values()] if isinstance(result, Mapping) else None

    def emit(self, name: str, operation: str, inputs: tuple[str, ...], layer: str | None = None, **facts: Any) -> str:
        """Add a node to the graph and return its name, ``name`` with a number if that is taken."""
        taken = {node.name for node in self.nodes}
        unique = next(text for i in range(len(taken) + 1) if (text := f"{name}:{i}" if i else name) not in taken)
        self.nodes.append(Node(unique, operation, inputs, layer, facts))
        return unique

    def along(self, value: Value, axis: int) -> str:
        """Return the graph node of a tensor whose channels lie along ``axis``; opaque if they lay elsewhere."""
        if value.node is not None and value.axis == axis:
            return value.node
        key = (id(value), axis)
        if key not in self._asked:
            self._kept.append(value)  # an id is unique only among the living
            channels = value.shape[axis] if value.shape else 1
            if value.node is None and value.sources is None:
                self._asked[key] = self.emit("input", "input", (), channels=channels)
            else:
                sources = (value.node,) if value.node is not None else value.sources or ()
                self._asked[key] = self.emit("mixed", "opaque", sources, channels=channels)
        return self._asked[key]

    def _depends(self, values: Sequence[Value]) -> tuple[str, ...]:
        names: dict[str, None] = {}
        for value in values:
            if value.node is None and value.sources is not None and value.sources:
                names |= dict.fromkeys(value.sources)
            else:
                axis = value.axis if value.axis is not None else min(1, max(len(value.shape) - 1, 0))
                names[self.along(value, axis)] = None
        return tuple(names)

    def made(self, step: Step, operation: str, inputs: tuple[str, ...], axis: int, **facts: Any) -> Value:
        """Add the graph node of what ``step`` made."""
        return Value(tuple(step.result.shape), axis, self.emit(step.node.name, operation, inputs, **facts))

    def seen(self, step: Step, value: Value, axis: int | None, result: Any = None) -> Value:
        """Return the same channels in another arrangement."""
        shape = tuple((step.result if result is None else result).shape)
        source = step.node.args[0]
        return Value(shape, axis, value.node, value.sources, value.root or source.name)

    def _overwrite(self, name: str, value: Value) -> None:
        """After an in-place operation ``name`` holds ``value``, and tensors that share its memory hold anything."""
        old = self._values.get(name)
        root = (old.root or name) if isinstance(old, Value) else name
        made = self._depends(_flat(value))
        for other, known in self._values.items():
            if other != name and isinstance(known, Value) and known is not value and (known.root or other) == root:
                both = tuple(dict.fromkeys((*self._depends([known]), *made)))
                self._values[other] = Value(known.shape, sources=both, root=known.root)
        self._values[name] = value


def _holds_tensor(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return any(_holds_tensor(item) for item in value)
    if isinstance(value, Mapping):
        return any(_holds_tensor(item) for item in value.values())
    return isinstance(value, torch.Tensor)


def _flat(value: Any) -> list[Value]:
    if isinstance(value, list):
        return [inner for item in value for inner in _flat(item)]
    return [value] if isinstance(value, Value) else []
