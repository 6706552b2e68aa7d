"""The rows a picture is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sparsim.compare import Comparison
from sparsim.errors import ConfigError, nearest
from sparsim.verdict import TOTAL

if TYPE_CHECKING:
    from pandas import DataFrame

    Source = Comparison | DataFrame

__all__ = ["total_rows"]


def total_rows(source: Source, batch: int | None = None, machine: str | None = None) -> list[Mapping[str, Any]]:
    """Return the rows of whole networks for one batch size and, where asked, one machine.

    Parameters
    ----------
    source : a comparison or its DataFrame, of one network.
    batch : samples; None takes the largest there is.
    machine : name; None takes all.

    Raises
    ------
    ConfigError
        If there is nothing of that batch or machine, or more than one network.
    """
    rows: Sequence[Mapping[Any, Any]] = source.rows if isinstance(source, Comparison) else source.to_dict("records")
    rows = [row for row in rows if row["layer"] == TOTAL and not isinstance(row.get("workload.layer"), str)]
    networks = {row["network"] for row in rows}
    if len(networks) != 1:
        found = ", ".join(sorted(networks)) or "none"
        raise ConfigError(f"a plot shows one network, found: {found}", key="network", allowed="the rows of one network")
    batches = sorted({row["batch"] for row in rows})
    batch = batches[-1] if batch is None else batch
    if batch not in batches:
        raise ConfigError(f"nothing was compared at {batch}", key="batch", allowed=", ".join(map(str, batches)))
    machines = [row["machine.name"] for row in rows]
    if machine is not None and machine not in machines:
        raise ConfigError(f"'{machine}' is not in the comparison{nearest(machine, set(machines))}", key="machine")
    return [row for row in rows if row["batch"] == batch and machine in (None, row["machine.name"])]
