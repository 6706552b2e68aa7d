"""From one process node to another: energy and area of the same circuit.

Two rules for energy, far apart: the equations of Stillmaker and Baas (Integration, 2017) make logic 10.6 times cheaper
from 45 to 7 nm at one voltage of 0.8 V, while Jouppi and others (ISCA 2021) found 2.6 times between published figures
of the two nodes, each at its own voltage. Take them as bounds. Between the rows of a table everything is a straight
line in logarithms of node and value. DRAM has no node here: it is bought, not scaled.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

from sparsim.errors import ConfigError

__all__ = ["check_node", "scale_area", "scale_energy"]

Kind = Literal["logic", "sram"]
Rule = Literal["stillmaker", "jouppi"]

VOLTS = 0.8
# nm: a, b and c of energy = a V^2 + b V + c, and area relative to 45 nm; as accelergy-library-plug-in has them.
NODES: dict[int, tuple[float, float, float, float]] = {
    130: (7.171, -6.709, 2.904, 6.4),
    90: (4.762, -4.781, 2.092, 2.8),
    65: (3.755, -4.398, 1.975, 1.5),
    45: (1.103, -0.362, 0.2767, 1.0),
    32: (0.9559, -0.7823, 0.471, 0.46),
    20: (0.373, -0.1582, 0.04104, 0.21),
    16: (0.2958, -0.1241, 0.03024, 0.19),
    14: (0.2363, -0.09675, 0.02239, 0.17),
    10: (0.2068, -0.09311, 0.02375, 0.10),
    7: (0.1776, -0.09097, 0.02447, 0.059),
}
SMALLEST, LARGEST = min(NODES), max(NODES)
# Below this node a memory cell hardly shrinks: its energy falls with the square root of the node only.
SRAM_SLOWS_NM = 22
# From 45 to 7 nm: arithmetic by Jouppi's mean, memory by the mean of his three sizes (1.33, 2.35 and 7.14).
JOUPPI = {"logic": 2.6, "sram": (10 / 7.5 * 20 / 8.5 * 100 / 14) ** (1 / 3)}
JOUPPI_NODES = (7, 45)


def scale_energy(
    pj: float, from_nm: float, to_nm: float, kind: Kind = "logic", rule: Rule = "stillmaker", volts: float = VOLTS
) -> float:
    """Return what costs ``pj`` at ``from_nm`` at another node.

    Parameters
    ----------
    pj : energy at ``from_nm`` [pJ]; a power scales alike at one clock.
    from_nm, to_nm : process nodes [nm], 7 to 130; 7 to 45 with "jouppi".
    kind : memory shrinks less than logic below 22 nm ("stillmaker") or by a mean of its own ("jouppi").
    rule : the equations of one voltage, or the ratio of published figures.
    volts : of "stillmaker", at both nodes [V].

    Raises
    ------
    ConfigError
        If a node lies outside the rule's.
    """
    if rule == "jouppi":
        for nm in (from_nm, to_nm):
            check_node(nm, *JOUPPI_NODES)
        small, large = JOUPPI_NODES
        return pj * math.pow(to_nm / from_nm, math.log(JOUPPI[kind]) / math.log(large / small))
    for nm in (from_nm, to_nm):
        check_node(nm)
    of = _sram_energy if kind == "sram" else _logic_energy
    return pj * of(to_nm, volts) / of(from_nm, volts)


def scale_area(mm2: float, from_nm: float, to_nm: float) -> float:
    """Return the area at ``to_nm`` of what takes ``mm2`` at ``from_nm``; nodes from 7 to 130 nm.

    Areas of Stillmaker and Baas; the square of the node would make 7 nm 2.4 times smaller than they found.
    """
    for nm in (from_nm, to_nm):
        check_node(nm)
    return mm2 * _line(to_nm, lambda row: row[3]) / _line(from_nm, lambda row: row[3])


def check_node(nm: float, smallest: float = SMALLEST, largest: float = LARGEST) -> None:
    """Refuse a node that no rule covers."""
    if not smallest <= nm <= largest:
        raise ConfigError(
            f"{nm:g} nm is outside the scaling rule", key="technology_nm", allowed=f"{smallest} to {largest}"
        )


def _logic_energy(nm: float, volts: float) -> float:
    return _line(nm, lambda row: row[0] * volts**2 + row[1] * volts + row[2])


def _sram_energy(nm: float, volts: float) -> float:
    large = max(nm, SRAM_SLOWS_NM)
    return _logic_energy(large, volts) * math.sqrt(nm / large)


def _line(nm: float, of: Callable[[Sequence[float]], float]) -> float:
    """Interpolate between the two nodes around ``nm``, in logarithms of both."""
    nodes = sorted(NODES)
    above = next(i for i in range(1, len(nodes)) if nm <= nodes[i])
    x0, x1 = nodes[above - 1], nodes[above]
    y0, y1 = of(NODES[x0]), of(NODES[x1])
    return y0 * math.pow(y1 / y0, math.log(nm / x0) / math.log(x1 / x0))
