"""Asks the machine what networks cost, each product once, as shares of what the dense network takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from sparsim.machines import Machine
from sparsim.network import Layer, Network
from sparsim.runs import Plan
from sparsim.simulate import network_workloads

__all__ = ["MEASURES", "ROUNDING", "Bench", "Costs", "added"]

ROUNDING = 1e-12  # what adding costs up may be off by
MEASURES = {"energy": "energy_pj", "latency": "time_s", "bytes": "dram_bytes"}

Costs = Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Bench:
    """A machine, and the dense network on its dense twin that all costs are shares of.

    Parameters
    ----------
    built, twin : the machine, and its dense one.
    plan : runs the products.
    products : ``batch``, ``dtype``, ``columns`` and ``seed`` of :func:`~sparsim.simulate.network_workloads`.
    dense : what the dense network takes: pJ, seconds and bytes by measure.
    dense_layers : the same of each of its layers.
    """

    built: Machine
    twin: Machine
    plan: Plan
    products: Mapping[str, Any]
    dense: Costs = field(repr=False)
    dense_layers: Mapping[str, Costs] = field(repr=False)

    @classmethod
    def of(cls, network: Network, built: Machine, twin: Machine, plan: Plan, **products: Any) -> Bench:
        """Measure the dense network on the twin."""
        whole = [replace(layer, weight=np.broadcast_to(np.float32(1), layer.shape)) for layer in network]
        loads = network_workloads(network.with_layers(tuple(whole)), **products)
        plan.run([(load, twin) for load in loads])
        layers = {
            layer.name: {name: float(getattr(plan.report(load, twin), key)) for name, key in MEASURES.items()}
            for layer, load in zip(network, loads, strict=True)
        }
        return cls(built, twin, plan, products, added(layers.values()), layers)

    def layers(self, layers: Sequence[Layer], name: str = "network") -> list[dict[str, float]]:
        """Return what each layer takes on the machine, as shares of the dense *network*.

        Parameters
        ----------
        layers : any, of one network or several, the same one several times too.
        name : of the network, for messages.
        """
        # equal names are no matter: products are known by their hash
        loads = network_workloads(Network(name, tuple(layers)), **self.products)
        self.plan.run([(load, self.built) for load in loads])
        reports = [self.plan.report(load, self.built) for load in loads]
        return [
            {name: _share(getattr(report, key), self.dense[name]) for name, key in MEASURES.items()}
            for report in reports
        ]

    def dense_share(self, layer: str) -> dict[str, float]:
        """Return what a dense layer takes of the dense network."""
        return {name: _share(value, self.dense[name]) for name, value in self.dense_layers[layer].items()}

    def network(self, network: Network) -> dict[str, float]:
        """Return what a network takes on the machine, as shares of the dense one."""
        return added(self.layers(network.layers, network.name))


def added(costs: Iterable[Costs]) -> dict[str, float]:
    """Return sums by measure."""
    total = dict.fromkeys(MEASURES, 0.0)
    for each in costs:
        for name in MEASURES:
            total[name] += each[name]
    return total


def _share(own: float, dense: float) -> float:
    return own / dense if dense else 0.0
