"""The PyTorch side: from a module to a network, and pruning while it trains.

* :func:`export` runs a model once and returns the :class:`~sparsim.network.Network` it is, with measured activations.
* :func:`fisher_diagonal`, :func:`hessian_diagonal`, :func:`gradients`, :func:`input_norms` gather what the criteria of
  :mod:`sparsim.pruning.criteria` need.
* :class:`Pruner` prunes in a training loop by a schedule (:mod:`sparsim.pruning.schedule`); :func:`apply_masks`,
  :func:`masks_of` and :func:`load_into` carry masks and weights between a model and a network.

A layer is called like its parameter without ``.weight``; ``w.T`` is a parameter used as ``x @ w``, and ``w[0:8]`` the
rows 0 to 7 of one.
"""

from sparsim.errors import MissingExtra

try:
    import torch  # noqa: F401
except ImportError:
    raise MissingExtra("sparsim.torch", "torch") from None

from sparsim.torch.export import export
from sparsim.torch.pruner import Pruner, apply_masks, load_into, masks_of
from sparsim.torch.saliency import fisher_diagonal, gradients, hessian_diagonal, input_norms

__all__ = [
    "Pruner",
    "apply_masks",
    "export",
    "fisher_diagonal",
    "gradients",
    "hessian_diagonal",
    "input_norms",
    "load_into",
    "masks_of",
]
