"""SpArch (Zhang, Wang, Han, Dally: HPCA 2020): what is asserted, and what can only be shown.

Asserted: the counts of the author's code, sizes of the public matrices, GAMMA's times as a floor, the laws of traffic
and energy, and the cycle-by-cycle model. Shown: averages over 20 matrices of which some are at hand, the breakdown by
technique, area and energy, and what the paper's roofline must mean.
"""

from __future__ import annotations

from collections.abc import Iterator

from sparsim.fidelity.bench import Bench
from sparsim.fidelity.record import Row, not_modelled, read_published
from sparsim.fidelity.sparch.averages import average_rows, size_rows
from sparsim.fidelity.sparch.counts import author_code_rows, floor_rows
from sparsim.fidelity.sparch.ladder import ladder_rows
from sparsim.fidelity.sparch.laws import law_rows
from sparsim.fidelity.sparch.oracle import oracle_rows
from sparsim.fidelity.sparch.roofline import roofline_rows

__all__ = ["rows"]


def rows(bench: Bench) -> Iterator[Row]:
    """Yield everything SpArch is held against."""
    yield from law_rows()
    yield from author_code_rows(bench)
    yield from floor_rows(bench)
    yield from roofline_rows(bench)
    yield from size_rows()
    yield from average_rows(bench)
    yield from ladder_rows(bench)
    yield from oracle_rows(bench)
    yield from (not_modelled("sparch", p) for p in read_published("sparch") if p.role == "not_modelled")
