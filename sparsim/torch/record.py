"""Watching a model run: every product it computes, with the weight really used and the activations that met it.

A mode of PyTorch's function override sees each call of the library from Python, so modules, ``torch.nn.functional`` and
``x @ self.w`` look alike. What the model computes from its parameters alone (masks, parametrizations, low-rank sums)
stays a weight; a product of two tensors that both depend on the input has none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from sparsim.torch.operations import HANDLERS, Product
from sparsim.torch.parameters import canonical

__all__ = ["EMBEDDINGS", "Recorder"]

EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)
WRITES = ("__setitem__", "__iadd__", "__isub__", "__imul__", "__itruediv__")
OPENED = ("multi_head_attention_forward",)


@dataclass(frozen=True, eq=False)
class _Constant:
    """A tensor that does not depend on the input: a parameter, a buffer, or computed from them."""

    name: str
    tensor: Any
    trained: bool
    made_of: frozenset[str]


class Recorder(TorchFunctionMode):  # type: ignore[misc, unused-ignore]
    """Lists the products of everything that runs inside it.

    Parameters
    ----------
    model : whose parameters are weights.
    squares : whether to sum the squares of the activations of each channel.

    Attributes
    ----------
    products : those with a weight, in order of execution.
    bare : (operation, shapes of the operands, multiplications) of those without.
    """

    def __init__(self, model: nn.Module, *, squares: bool = False) -> None:
        super().__init__()
        self.products: list[Product] = []
        self.bare: list[tuple[str, tuple[tuple[int, ...], ...], int]] = []
        self._squares = squares
        self._constants: dict[int, list[_Constant]] = {}
        modules = sorted(model.named_modules(), key=lambda entry: isinstance(entry[1], EMBEDDINGS))
        for prefix, module in modules:  # tables last: one that is tied to a linear layer is called like the layer
            own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
            own += [(key, value) for key, value in vars(module).items() if isinstance(value, torch.Tensor)]
            for key, tensor in own:
                name = canonical(f"{prefix}.{key}" if prefix else key)
                known = _Constant(name, tensor, isinstance(tensor, nn.Parameter), frozenset([name]))
                self._constants.setdefault(_storage(tensor), []).append(known)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run ``func`` and note what it multiplied."""
        kwargs = dict(kwargs or {})
        called = getattr(func, "__name__", "")
        name = called.strip("_")
        if name in OPENED:
            with self:
                return _opened(func)(*args, **kwargs)
        result = func(*args, **kwargs)
        operands = list(_tensors_in((args, kwargs)))
        if operands and all(self.is_constant(tensor) for tensor in operands):
            self._derive(operands, result)
        elif operands and self.is_constant(operands[0]) and (called in WRITES or re.fullmatch(r".*[^_]_", called)):
            del self._constants[_storage(operands[0])]  # a buffer that holds activations from here on, as a cache does
        elif name in HANDLERS:
            HANDLERS[name](self, name, result, args, kwargs)
        return result

    def is_constant(self, tensor: Any) -> bool:
        """Whether a tensor is a parameter, a buffer, or computed from them alone."""
        return _storage(tensor) in self._constants

    def _derive(self, operands: list[Any], result: Any) -> None:
        sources = [self._constants[_storage(tensor)][0] for tensor in operands]
        sources.sort(key=lambda source: not source.trained)
        made_of = frozenset().union(*(source.made_of for source in sources))
        for tensor in _tensors_in(result):
            if self.is_constant(tensor):
                continue
            alike = [source.name for source in sources if source.tensor.shape == tensor.shape]
            name = alike[0] if alike else f"{sources[0].name.removesuffix('(computed)')}(computed)"
            self._constants[_storage(tensor)] = [_Constant(name, tensor, sources[0].trained, made_of)]

    def _name(self, view: Any) -> tuple[str, _Constant]:
        """Name the layer whose weight is this view of a constant, and return the constant."""
        known = self._constants[_storage(view)]
        for constant in known:
            for turned, suffix in ((view, ""), (view.T, ".T")) if view.ndim == 2 else ((view, ""),):
                rows = _rows(turned, constant.tensor)
                if rows is not None:
                    cut = f"{rows}{suffix}"
                    return constant.name + cut if cut else constant.name.removesuffix(".weight"), constant
        return f"{known[0].name}(view)", known[0]

    def add(self, product: Product, view: Any, x: Any, *channel_axes: int) -> None:
        """Note a product.

        Parameters
        ----------
        product : what it is; its counts and names are filled in here.
        view : the tensor its weight was arranged from.
        x : the activations.
        channel_axes : axes of ``x`` that hold the input channels of all groups.
        """
        product.nonzeros, product.inputs = int(torch.count_nonzero(x)), x.numel()
        if self._squares:
            rest = [axis for axis in range(x.ndim) if axis not in channel_axes]
            squares = x.detach().double().square()
            product.squares = (squares.sum(rest) if rest else squares).flatten()
        self.add_unseen(product, view)

    def add_unseen(self, product: Product, view: Any) -> None:
        """Note a product whose activations stay inside a fused operation."""
        product.name, constant = self._name(view)
        owns, made_of = {constant.name}, constant.made_of
        bias = product.bias
        if bias is not None and self.is_constant(bias) and tuple(bias.shape) == tuple(product.weight.shape[:1]):
            constant = self._constants[_storage(bias)][0]
            owns, made_of = owns | {constant.name}, made_of | constant.made_of
        else:
            product.bias = None
        product.owns, product.made_of = frozenset(owns), made_of
        self.products.append(product)


def _rows(view: Any, base: Any) -> str | None:
    """Return "" if ``view`` is all of ``base``, "[first:last]" if it is a run of its rows, else None."""
    if view.ndim != base.ndim or view.shape[1:] != base.shape[1:] or view.stride() != base.stride() or not view.numel():
        return None
    first, left = divmod(view.storage_offset() - base.storage_offset(), max(base.stride(0), 1))
    if left or not 0 <= first <= base.shape[0] - view.shape[0]:
        return None
    return "" if view.shape == base.shape else f"[{first}:{first + view.shape[0]}]"


def _storage(tensor: Any) -> int:
    try:
        return int(tensor.untyped_storage().data_ptr())
    except (NotImplementedError, RuntimeError):
        return 0  # sparse and other tensors without a storage


def _tensors_in(value: Any) -> Iterator[Any]:
    if isinstance(value, torch.Tensor):
        if value.numel() and _storage(value):
            yield value
    elif isinstance(value, Mapping):
        yield from _tensors_in(tuple(value.values()))
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _tensors_in(item)


def _opened(func: Any) -> Any:
    """Return a composite function of PyTorch that does not hand itself to the mode, so that its parts are seen."""
    seen = {key: _never for key in func.__globals__ if key.startswith("has_torch_function")}
    opened = FunctionType(func.__code__, func.__globals__ | seen, func.__name__, func.__defaults__, func.__closure__)
    opened.__kwdefaults__ = func.__kwdefaults__
    return opened


def _never(*tensors: Any) -> bool:
    return False
