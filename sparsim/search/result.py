"""What a search found, beside what uniform pruning reaches within the same budgets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sparsim.network import Network
from sparsim.search.bench import MEASURES, Costs
from sparsim.search.uniform import Uniform

__all__ = ["SearchResult"]


@dataclass(frozen=True, eq=False, repr=False)
class SearchResult:
    """The answer of :func:`~sparsim.search.search`.

    Parameters
    ----------
    machine, baseline : that the network was pruned for, and its dense twin, which runs the dense network.
    budget : measures, with the share of the dense network's that was allowed.
    choices : layer to (granularity, sparsity asked for); ("dense", 0), or ("as stored", 0), for one left as it was.
    network : pruned, and without the weights that pruning made useless elsewhere.
    costs : energy, latency and bytes as shares of the dense network's on the machine's dense twin.
    saliency_lost : sum over the layers, see :class:`~sparsim.search.loss.Loss`.
    uniform : of every pattern that meets the budgets with one sparsity for all layers, the least such sparsity.
    method : how the choice was made.
    rows : one mapping a layer.
    """

    machine: str
    baseline: str
    budget: Mapping[str, float]
    choices: Mapping[str, tuple[str, float]]
    network: Network = field(repr=False)
    costs: Costs
    saliency_lost: float
    uniform: Sequence[Uniform]
    method: str
    rows: Sequence[Mapping[str, Any]] = field(repr=False)

    @property
    def verdict(self) -> tuple[str, ...]:
        """The answer in sentences."""
        asked = " and ".join(f"{_percent(share)} of the {name}" for name, share in self.budget.items())
        taken = ", ".join(f"{name} {share:.1%}" for name, share in self.costs.items())
        dense = f"of the dense network on {self.baseline}"
        told = [f"within {asked} {dense}: loses {self.saliency_lost:.4g} of saliency{self._against()}"]
        told.append(f"takes on {self.machine}, {dense}: {taken}; {self.network.sparsity:.1%} of the weights are zero")
        return (*told, self.method)

    def _against(self) -> str:
        if not self.uniform:
            return "; no uniform pruning in these patterns and sparsities is within it"
        held = sorted(self.uniform, key=lambda each: each.saliency_lost)
        return ", uniform " + ", ".join(f"{u.granularity} {u.saliency_lost:.4g} at {u.sparsity:.1%}" for u in held)

    def to_frame(self) -> Any:
        """Return one row a layer as a DataFrame: what was chosen, what is left, what it loses and costs.

        ``energy``, ``latency`` and ``bytes`` are shares of the dense *network's*, ``dense_energy`` ... what the dense
        layer takes of it.
        """
        import pandas as pd

        return pd.DataFrame(self.rows)

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the weights as plain values."""
        return {
            "network": self.network.name,
            "machine": self.machine,
            "budget": dict(self.budget),
            "costs": dict(self.costs),
            "sparsity": self.network.sparsity,
            "saliency_lost": self.saliency_lost,
            "method": self.method,
            "uniform": [{**u._asdict(), "costs": dict(u.costs)} for u in self.uniform],
            "layers": [dict(row) for row in self.rows],
        }

    def __repr__(self) -> str:
        chosen = [f"  {name}: {_told(*choice)}" for name, choice in self.choices.items()]
        return "\n".join(("SearchResult", *(f"  {sentence}" for sentence in self.verdict), *chosen))

    def _repr_html_(self) -> str:
        from html import escape

        told = "".join(f"<li>{escape(sentence)}</li>" for sentence in self.verdict)
        table: str = self.to_frame().to_html(index=False, float_format=lambda value: f"{value:.3g}")
        return f"<ul>{told}</ul>{table}"


def layer_rows(
    before: Network,
    after: Network,
    choices: Mapping[str, tuple[str, float]],
    losses: Sequence[float],
    costs: Sequence[Costs],
    dense: Sequence[Costs],
) -> list[dict[str, Any]]:
    """Return one row a layer.

    Parameters
    ----------
    losses, costs : of every layer of ``after``.
    dense : of every layer with all its weights, costs as shares of the network's, as ``costs`` are.
    """
    return [
        {
            "layer": old.name,
            "granularity": choices[old.name][0],
            "sparsity": choices[old.name][1],
            "actual_sparsity": new.sparsity,
            "weights": new.size,
            "nnz": new.nnz,
            "saliency_lost": loss,
            **{name: cost[name] for name in MEASURES},
            **{f"dense_{name}": whole[name] for name in MEASURES},
        }
        for old, new, loss, cost, whole in zip(before, after, losses, costs, dense, strict=True)
    ]


def _percent(share: float) -> str:
    return f"{100 * share:.4g} %"


def _told(granularity: str, sparsity: float) -> str:
    return f"{granularity} at {sparsity:.1%}" if sparsity else granularity
