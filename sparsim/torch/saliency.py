"""What the criteria of pruning need besides the weights: gradients, curvature, sizes of the inputs.

All run the model in evaluation mode (no dropout, batch norms with their stored statistics) and put it back. Names are
those of :func:`~sparsim.torch.export.export`; weights that are computed in a way that cannot be undone are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from sparsim.arguments import whole
from sparsim.errors import InputError
from sparsim.torch.export import layer_calls, samples_in
from sparsim.torch.parameters import Site, call, evaluating, site
from sparsim.torch.record import Recorder

__all__ = ["fisher_diagonal", "gradients", "hessian_diagonal", "input_norms", "product_names"]

Arrays = dict[str, npt.NDArray[np.float64]]
Loss = Callable[[Any, Any], Any]
Batches = Iterable[tuple[Any, Any]]


def fisher_diagonal(model: nn.Module, batches: Batches, loss: Loss) -> Arrays:
    """Return the diagonal of the empirical Fisher matrix: the mean over samples of the squared gradient.

    For Optimal Brain Damage's h (:func:`sparsim.pruning.criteria.obd`) where the model is trained and the loss is a
    negative log-likelihood.

    Parameters
    ----------
    model : any module.
    batches : pairs of inputs (a tensor, a tuple of arguments or a mapping) and targets; first axes count samples. Every
        sample is run by itself.
    loss : from outputs and targets to a number.

    Returns
    -------
    Layer name to an array of the weight's shape, at least 0.

    Raises
    ------
    InputError
        If there are no batches, or a weight is frozen or parametrized.
    """

    def squares(parameters: list[Any], inputs: Any, targets: Any) -> Iterator[list[Any]]:
        for i in range(samples_in(inputs)):
            grown = _gradients(loss(call(model, _part(inputs, i)), _part(targets, i)), parameters)
            yield [gradient.double().square() for gradient in grown]

    return _mean(model, batches, squares)


def gradients(model: nn.Module, batches: Batches, loss: Loss) -> Arrays:
    """Return the gradient of the mean loss over all samples.

    For :func:`sparsim.pruning.criteria.gradient`; with an untrained model that is SNIP (Lee et al., ICLR 2019).

    Parameters
    ----------
    model, batches : as for :func:`fisher_diagonal`.
    loss : from outputs and targets to their mean loss.

    Returns
    -------
    Layer name to an array of the weight's shape.

    Raises
    ------
    InputError
        If there are no batches, or a weight is frozen or parametrized.
    """

    def sums(parameters: list[Any], inputs: Any, targets: Any) -> Iterator[list[Any]]:
        grown = _gradients(loss(call(model, inputs), targets), parameters)
        yield [gradient.double() * samples_in(inputs) for gradient in grown]

    return _mean(model, batches, sums)


def hessian_diagonal(model: nn.Module, batches: Batches, loss: Loss, *, samples: int = 8, seed: int = 0) -> Arrays:
    """Return Hutchinson's estimate of the diagonal of the Hessian of the mean loss: the mean of v * (H v).

    The elements of v are +1 or -1 with equal chance (Bekas, Kokiopoulou, Saad, "An estimator for the diagonal of a
    matrix", 2007). The estimate is unbiased; its variance is the sum of the squares of a row's other elements over the
    number of draws, and single values may be negative.

    Parameters
    ----------
    model, batches, loss : as for :func:`gradients`.
    samples : draws of v for each batch.
    seed : of the draws.

    Returns
    -------
    Layer name to an array of the weight's shape.

    Raises
    ------
    ConfigError
        If ``samples`` is not positive.
    InputError
        If there are no batches, or a weight is frozen or parametrized.
    """
    samples = whole(samples, "samples", 1)
    generator = torch.Generator().manual_seed(seed)

    def draws(parameters: list[Any], inputs: Any, targets: Any) -> Iterator[list[Any]]:
        with sdpa_kernel(SDPBackend.MATH):  # the fused attention kernels have no second derivative
            grown = _gradients(loss(call(model, inputs), targets), parameters, again=True)
            share = samples_in(inputs) / samples
            for _ in range(samples):
                signs = [_signs(parameter, generator) for parameter in parameters]
                slope = sum((gradient * sign).sum() for gradient, sign in zip(grown, signs, strict=True))
                curved = _gradients(slope, parameters, keep=True) if getattr(slope, "requires_grad", False) else grown
                factor = share if curved is not grown else 0.0
                yield [(h * sign).double() * factor for h, sign in zip(curved, signs, strict=True)]

    return _mean(model, batches, draws)


def input_norms(model: nn.Module, batches: Iterable[Any]) -> Arrays:
    """Return the Euclidean norm of every input channel of every layer, over all samples and positions.

    For :func:`sparsim.pruning.criteria.wanda` (Sun et al., ICLR 2024).

    Parameters
    ----------
    model : any module.
    batches : inputs, without targets.

    Returns
    -------
    Layer name to one norm for each input channel of all groups. The state and the inner layers of a fused recurrent
    module are not seen and left out.

    Raises
    ------
    InputError
        If there are no batches.
    """
    squares: dict[str, Any] = {}
    for inputs in batches:
        recorder = Recorder(model, squares=True)
        with evaluating(model), torch.no_grad(), recorder:
            call(model, inputs)
        for item in layer_calls(recorder.products):
            for product in item.products:
                if product.squares is not None:
                    squares[item.name] = squares.get(item.name, 0) + product.squares
    if not squares:
        raise InputError("no batches, or no layer in the model", remedy="give at least one batch of inputs")
    return {name: np.sqrt(np.asarray(total.cpu().numpy(), dtype=np.float64)) for name, total in squares.items()}


def product_names(model: nn.Module, inputs: Any) -> list[str]:
    """Return the layers of a model that can be written back, as :func:`~sparsim.torch.export.export` calls them."""
    recorder = Recorder(model)
    with evaluating(model), torch.no_grad(), recorder:
        call(model, inputs)
    names = [item.name for item in layer_calls(recorder.products)]
    return [name for name in names if not name.partition("#")[0].endswith(("(view)", "(computed)"))]


def _mean(model: nn.Module, batches: Batches, terms: Callable[[list[Any], Any, Any], Iterator[list[Any]]]) -> Arrays:
    """Add up what ``terms`` yields for each batch, and divide by the number of samples."""
    sites: dict[str, Site] = {}
    parameters: list[Any] = []
    totals: list[Any] = []
    count = 0
    with evaluating(model), torch.enable_grad():
        for inputs, targets in batches:
            if not sites:
                sites = {name: site(model, name) for name in product_names(model, inputs)}
                parameters = _trainable(sites)
                totals = [torch.zeros_like(parameter, dtype=torch.float64) for parameter in parameters]
            count += samples_in(inputs)
            for term in terms(parameters, inputs, targets):
                for total, value in zip(totals, term, strict=True):
                    total.add_(value.detach())
    if not count:
        raise InputError("no batches", remedy="give at least one (inputs, targets); a used-up iterator is empty")
    mean = {id(parameter): total / count for parameter, total in zip(parameters, totals, strict=True)}
    return {name: place.read(mean[id(place.parameter)]) for name, place in sites.items()}


def _trainable(sites: Mapping[str, Site]) -> list[Any]:
    for name, place in sites.items():
        if not place.parameter.requires_grad:
            raise InputError(f"the weight of layer '{name}' is frozen", remedy="set requires_grad on its parameter")
    return list({id(place.parameter): place.parameter for place in sites.values()}.values())


def _gradients(value: Any, parameters: list[Any], *, again: bool = False, keep: bool = False) -> list[Any]:
    if not isinstance(value, torch.Tensor) or value.numel() != 1:
        raise InputError("the loss is no single number", remedy="return a mean over the samples")
    grown: tuple[Any, ...] = torch.autograd.grad(
        value, parameters, create_graph=again, retain_graph=again or keep, allow_unused=True, materialize_grads=True
    )
    return list(grown)


def _signs(parameter: Any, generator: Any) -> Any:
    drawn = torch.randint(0, 2, parameter.shape, generator=generator)
    return (2 * drawn - 1).to(device=parameter.device, dtype=parameter.dtype)


def _part(value: Any, sample: int) -> Any:
    if isinstance(value, torch.Tensor):
        return value[sample : sample + 1] if value.ndim else value
    if isinstance(value, Mapping):
        return {key: _part(item, sample) for key, item in value.items()}
    return type(value)(_part(item, sample) for item in value) if isinstance(value, tuple | list) else value
