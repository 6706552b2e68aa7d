"""What a pruned network loses, in one number that can be added over its layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import log, prod

from sparsim.errors import ConfigError
from sparsim.matrix import Csr
from sparsim.network import Layer, Network
from sparsim.pruning import Criterion
from sparsim.pruning import criterion as named_criterion
from sparsim.pruning.criteria import score, weights_of
from sparsim.pruning.granularity import BoolArray

__all__ = ["LOSSES", "MOST", "Loss"]

LOSSES = ("distortion", "share", "sum")
EMPTY = 1e-12  # share that counts as left of a layer that nothing is left of, so that its loss is a number
MOST = -log(EMPTY)


@dataclass(frozen=True, eq=False)
class Loss:
    """Weighs the saliency that pruning took.

    Parameters
    ----------
    rule : what a weight is worth.
    kind : what is added over the layers, where s are a layer's scores:

        ==============  ==========================================================================================
        ``distortion``  -ln(kept s² / all s²). For magnitudes this is -2 ln of the cosine between a layer's weights
                        before and after, and what the scores of LAMP add up to (w² over the sum of the squares not
                        yet removed: Lee et al., "Layer-adaptive sparsity for the magnitude-based pruning",
                        ICLR 2021), which compares layers of any scale and grows without end as one empties
        ``share``       removed s² / all s²: the squared relative distortion that the bound of the same paper is made
                        of; to first order the same, 1 for a whole layer
        ``sum``         removed s / s of the whole network: for criteria that estimate how much the network's own loss
                        rises, which compare layers already (LeCun et al., "Optimal brain damage", NIPS 1989)
        ==============  ==========================================================================================

    totals : of every layer (squared, but for ``sum``).
    """

    rule: Criterion
    kind: str
    totals: Mapping[str, float] = field(repr=False)

    @classmethod
    def of(cls, network: Network, rule: str | Criterion, kind: str) -> Loss:
        """Return the loss of a criterion on a network.

        Raises
        ------
        ConfigError
            If there is no such criterion or kind.
        """
        if kind not in LOSSES:
            raise ConfigError(f"'{kind}'", key="loss", allowed=", ".join(LOSSES))
        scores = named_criterion(rule) if isinstance(rule, str) else rule
        power = 1 if kind == "sum" else 2
        totals = {layer.name: float((score(layer, scores) ** power).sum()) for layer in network}
        return cls(scores, kind, totals)

    def of_layer(self, before: Layer, after: Layer) -> float:
        """Return what was lost from ``before`` to ``after``, 0 for nothing."""
        if after is before or not self.totals[before.name]:
            return 0.0
        scores = score(before, self.rule)
        removed = scores[_cells(before) & ~_cells(after)]
        if self.kind == "sum":
            return float(removed.sum()) / sum(self.totals.values())
        lost = float((removed**2).sum()) / self.totals[before.name]
        return lost if self.kind == "share" else -log(max(1.0 - lost, EMPTY))

    def of_network(self, before: Network, after: Network) -> float:
        """Return what was lost in all layers, weights that went along with others included."""
        return sum(self.of_layer(*pair) for pair in zip(before, after, strict=True))


def _cells(layer: Layer) -> BoolArray:
    """Return which weights of the matrix ``[out, k]`` are there, whatever the order of the input channels."""
    weight = layer.weight.to_dense() if isinstance(layer.weight, Csr) else weights_of(layer)
    there: BoolArray = weight != 0
    return there.reshape(layer.shape[0], prod(layer.shape[1:]))
