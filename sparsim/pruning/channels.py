"""What the operations of a graph, all but the layers, do to constant channels, and which channels they need."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sparsim.errors import InputError
from sparsim.graph import FUNCTIONS, Node

__all__ = ["BoolArray", "FloatArray", "Known", "any_of", "asked", "made"]

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]


class Known(NamedTuple):
    """The channels of a tensor: those that do not depend on the input, and their values.

    Parameters
    ----------
    value : NaN where it is unknown or differs from position to position, and where the channel is not constant.
    constant : True where the channel does not depend on the network's input.
    """

    value: FloatArray
    constant: BoolArray

    @classmethod
    def of(cls, value: FloatArray, constant: BoolArray) -> Known:
        """Return channels of which some are constant; ``value`` counts for those where it is finite."""
        return cls(np.where(constant & np.isfinite(value), value, np.nan), constant)

    @classmethod
    def alive(cls, count: int) -> Known:
        """Return channels that may all depend on the input."""
        return cls(np.full(count, np.nan), np.zeros(count, dtype=bool))

    @property
    def width(self) -> int:
        """Number of channels."""
        return self.value.size


Inputs = Sequence[Known | None]


def made(node: Node, inputs: Inputs) -> Known | None:
    """Return the channels of the node's tensor; None for a tensor of which not even their number is known."""
    if node.operation in ("input", "opaque"):
        return None if node.attributes.get("channels") is None else Known.alive(_number(node, "channels"))
    if node.operation in ("add", "mul"):
        return (_add if node.operation == "add" else _mul)(node, inputs)
    known = [part for part in inputs if part is not None]
    return _MAKERS[node.operation](node, known) if len(known) == len(inputs) else None


def asked(node: Node, inputs: Inputs, need: BoolArray) -> Sequence[BoolArray]:
    """Return which channels of each input are needed if those of the output in ``need`` are.

    One element stands for all channels alike, here and for a tensor of which not even their number is known.
    """
    known = [part for part in inputs if part is not None]
    if node.operation == "opaque" or len(known) < len(inputs):
        return [np.array([need.any()])] * len(inputs)
    if node.operation == "affine":
        return [need & (_per_channel(node, "scale", 1.0, need.size) != 0)]
    if node.operation in ("add", "mul"):
        parts = _factors(node, inputs, need) if node.operation == "mul" else [need] * len(inputs)
        return [
            part if part.size == now.width else np.array([part.any()]) for part, now in zip(parts, known, strict=True)
        ]
    if node.operation == "concat":
        return np.split(need, np.cumsum([part.width for part in known])[:-1])
    if node.operation == "slice":
        whole = np.zeros(known[0].width, dtype=bool)
        whole[_number(node, "start") : _number(node, "stop")] = need
        return [whole]
    if node.operation == "flatten":
        return [any_of(need.reshape(known[0].width, _number(node, "repeat")), axis=1)]
    return [need] * len(inputs)


def any_of(mask: npt.ArrayLike, axis: int) -> BoolArray:
    """Return where the mask holds for one element along the axis at least."""
    union: BoolArray = np.logical_or.reduce(mask, axis=axis)
    return union


def _function(node: Node, inputs: Sequence[Known]) -> Known:
    function = FUNCTIONS.get(str(node.attributes.get("function")))
    value = np.full(inputs[0].width, np.nan) if function is None else function(inputs[0].value)
    return Known.of(value, inputs[0].constant)


def _affine(node: Node, inputs: Sequence[Known]) -> Known:
    value, constant = inputs[0]
    scale, shift = _per_channel(node, "scale", 1.0, value.size), _per_channel(node, "shift", 0.0, value.size)
    return Known.of(np.where(scale == 0, shift, value * scale + shift), constant | (scale == 0))


def _spatial(node: Node, inputs: Sequence[Known]) -> Known:
    value, constant = inputs[0]
    return inputs[0] if node.attributes.get("exact") is True else Known(np.full(value.size, np.nan), constant)


def _concat(node: Node, inputs: Sequence[Known]) -> Known:
    return Known(np.concatenate([part.value for part in inputs]), np.concatenate([part.constant for part in inputs]))


def _slice(node: Node, inputs: Sequence[Known]) -> Known:
    part = slice(_number(node, "start"), _number(node, "stop"))
    return Known(inputs[0].value[part], inputs[0].constant[part])


def _flatten(node: Node, inputs: Sequence[Known]) -> Known:
    times = _number(node, "repeat")
    return Known(np.repeat(inputs[0].value, times), np.repeat(inputs[0].constant, times))


_MAKERS: Mapping[str, Callable[[Node, Sequence[Known]], Known]] = {
    "function": _function,
    "affine": _affine,
    "spatial": _spatial,
    "concat": _concat,
    "slice": _slice,
    "flatten": _flatten,
}


def _add(node: Node, inputs: Inputs) -> Known | None:
    terms = _together(node, inputs)
    if terms is None:
        return None
    value: FloatArray = terms.value.sum(axis=0)
    return Known.of(value + _per_channel(node, "constant", 0.0, value.size), ~any_of(~terms.constant, 0))


def _mul(node: Node, inputs: Inputs) -> Known | None:
    factors = _together(node, inputs)
    if factors is None:
        return None
    extra = _per_channel(node, "constant", 1.0, factors.value.shape[1])
    zero = (extra == 0) | any_of(factors.value == 0, 0)
    return Known.of(np.where(zero, 0.0, factors.value.prod(axis=0) * extra), ~any_of(~factors.constant, 0) | zero)


def _factors(node: Node, inputs: Inputs, need: BoolArray) -> list[BoolArray]:
    """Return which channels of each factor are needed: beside a constant zero no other is, and one zero is enough."""
    factors = _together(node, inputs)
    assert factors is not None
    need = need & (_per_channel(node, "constant", 1.0, need.size) != 0)
    zero = factors.value == 0
    first = zero & (np.cumsum(zero, axis=0) == 1)
    return [need & (row | ~any_of(zero, 0)) for row in first]


def _together(node: Node, inputs: Inputs) -> Known | None:
    """Return the inputs of a sum or product, ``[inputs, channels]``, those of one channel repeated."""
    count = max((part.width for part in inputs if part is not None and part.width != 1), default=1)
    if count == 1 and any(part is None for part in inputs):
        return None
    parts = [Known.alive(count) if part is None else part for part in inputs]
    for part in parts:
        if part.width not in (1, count):
            raise InputError(f"node '{node.name}' joins tensors of {part.width} and {count} channels")
    shape = (len(parts), count)
    together = Known(np.empty(shape), np.empty(shape, dtype=bool))
    for row, part in enumerate(parts):
        together.value[row], together.constant[row] = part
    return together


def _number(node: Node, key: str) -> int:
    value = node.attributes[key]
    if not isinstance(value, int | np.integer) or (value < 0 and node.operation != "slice"):
        raise InputError(f"node '{node.name}': {key} is {value!r}", remedy="give a whole number")
    return int(value)


def _per_channel(node: Node, key: str, default: float, count: int) -> FloatArray:
    try:
        return np.broadcast_to(np.asarray(node.attributes.get(key, default), dtype=np.float64).reshape(-1), count)
    except (TypeError, ValueError):
        raise InputError(
            f"node '{node.name}': {key} does not fit {count} channels", remedy="give one number, or one a channel"
        ) from None
