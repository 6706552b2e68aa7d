"""Names: which parameter a layer's weight is, and the way from one to the other and back.

==============  =======================================================================================================
``conv``        parameter ``conv.weight``, also while ``torch.nn.utils.prune`` keeps it as ``conv.weight_orig``
``attn.w``      parameter ``attn.w``, multiplied as ``[out, in]``
``attn.w.T``    parameter ``attn.w`` ``[in, out]``, multiplied as ``x @ w``
``attn.w[0:8]`` its rows 0 to 7
``conv#2``      the weight of ``conv`` again, in a call of another geometry
==============  =======================================================================================================

A name ending in ``(view)`` or ``(computed)`` is a weight that is multiplied in a form from which there is no way back.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from sparsim.errors import InputError

__all__ = ["Site", "as_array", "call", "canonical", "evaluating", "site", "transposed_matrix", "weight_names"]

PARAMETRIZED = re.compile(r"(^|\.)parametrizations\.([^.]+)\.original[01]?$")
NAME = re.compile(r"(?P<base>.*?)(?:\[(?P<first>\d+):(?P<last>\d+)\])?(?P<transposed>\.T)?(?:#\d+)?")
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
RECURRENT = (nn.RNNBase, nn.RNNCellBase)


@dataclass(frozen=True, eq=False)
class Site:
    """Where in a model the weight of a layer lives.

    Parameters
    ----------
    parameter : the tensor that holds it.
    bias : the tensor that holds its bias, None if there is none.
    rows : (first, last + 1) along the first axis of the parameter, None for all.
    transposed : whether the weight is the parameter's transpose.
    groups : of a convolution.
    upsamples : whether it belongs to a transposed convolution.
    """

    parameter: Any
    bias: Any = None
    rows: tuple[int, int] | None = None
    transposed: bool = False
    groups: int = 1
    upsamples: bool = False

    def read(self, tensor: Any) -> npt.NDArray[Any]:
        """Return the layer's part of a tensor of the parameter's shape (itself, a gradient), in the weight's shape."""
        part = tensor.detach()[slice(*self.rows) if self.rows else slice(None)]
        if self.upsamples:
            part = transposed_matrix(part, self.groups)
        return np.ascontiguousarray(as_array(part.T if self.transposed else part))

    def write(self, tensor: Any, values: npt.NDArray[Any]) -> None:
        """Copy values of the weight's shape into the layer's part of a tensor of the parameter's shape."""
        part = tensor.detach()[slice(*self.rows) if self.rows else slice(None)]
        source = torch.tensor(np.ascontiguousarray(values))
        if self.upsamples:
            inner = part.shape[0] // self.groups
            source = source.reshape(self.groups, -1, inner).permute(0, 2, 1).reshape(part.shape)
        part.copy_(source.T if self.transposed else source)


def site(model: nn.Module, name: str) -> Site:
    """Return where the weight of layer ``name`` lives.

    Raises
    ------
    InputError
        If the model has no such parameter, or the weight is computed from it in a way that cannot be undone.
    """
    match = NAME.fullmatch(name)
    assert match is not None
    parameters = {canonical(key): (key, tensor) for key, tensor in _tensors(model)}
    base = match["base"]
    full = f"{base}.weight" if f"{base}.weight" in parameters else base
    if full not in parameters:
        computed = base.endswith(("(view)", "(computed)"))
        raise InputError(
            f"layer '{name}' {'cannot be written back into' if computed else 'is no parameter of'} "
            f"{type(model).__name__}",
            remedy="prune it in the code that computes it" if computed else "use the names sparsim.torch.export gives",
        )
    key, parameter = parameters[full]
    owner = model.get_submodule(full.rpartition(".")[0])
    if PARAMETRIZED.search(key):
        raise InputError(
            f"the weight of layer '{name}' is parametrized",
            remedy="call torch.nn.utils.parametrize.remove_parametrizations first",
        )
    leaf = full.rpartition(".")[2]
    bias = parameters.get(full.removesuffix(leaf) + leaf.replace("weight", "bias"), (None, None))[1]
    rows = (int(match["first"]), int(match["last"])) if match["first"] else None
    return Site(
        parameter,
        None if bias is None or "weight" not in leaf else bias[slice(*rows) if rows else slice(None)],
        rows,
        bool(match["transposed"]),
        owner.groups if isinstance(owner, CONVOLUTIONS + TRANSPOSED) else 1,
        isinstance(owner, TRANSPOSED),
    )


def weight_names(model: nn.Module) -> list[str]:
    """Return the layers that the modules of PyTorch make by themselves, in their order, each parameter once."""
    names: dict[int, str] = {}
    for prefix, module in model.named_modules():
        if isinstance(module, (nn.Linear, *CONVOLUTIONS, *TRANSPOSED)):
            wanted = ["weight"]
        elif isinstance(module, (nn.MultiheadAttention, *RECURRENT)):
            wanted = [canonical(key) for key, _ in module.named_parameters(recurse=False) if "weight" in key]
        else:
            continue
        for leaf in wanted:
            full = f"{prefix}.{leaf}" if prefix else leaf
            tensor = next((value for key, value in _tensors(model) if canonical(key) == full), None)
            if tensor is not None:
                names.setdefault(id(tensor), full.removesuffix(".weight"))
    return list(names.values())


def canonical(key: str) -> str:
    """Return the name of a parameter as it was before pruning or a parametrization renamed it."""
    return PARAMETRIZED.sub(r"\1\2", key).removesuffix("_orig")


def transposed_matrix(weight: Any, groups: int) -> Any:
    """Return the weight ``[in, out / groups, *kernel]`` of a transposed convolution as ``[out * kernel, in / groups]``.

    Its product with the inputs has one row for every output channel and tap; overlapping results are added afterwards.
    """
    inner = weight.shape[0] // groups
    return weight.reshape(groups, inner, -1).permute(0, 2, 1).reshape(-1, inner)


def as_array(tensor: Any) -> npt.NDArray[Any]:
    """Return a tensor as a numpy array of its own; bfloat16, which numpy lacks, becomes float32."""
    tensor = tensor.detach().cpu()
    return np.array(tensor.float().numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy())


def call(model: nn.Module, inputs: Any) -> Any:
    """Run a model on a tensor, a tuple or list of arguments, or a mapping of named arguments."""
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple | list) else model(inputs)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Switch every module to evaluation, and back to what each was."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _tensors(model: nn.Module) -> Iterator[tuple[str, Any]]:
    yield from model.named_parameters(remove_duplicate=False)
    yield from model.named_buffers(remove_duplicate=False)
