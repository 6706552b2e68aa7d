"""The rows a picture is made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import nan
from typing import TYPE_CHECKING, Any

from sparsim.compare import Comparison
from sparsim.errors import ConfigError, InputError, nearest
from sparsim.plot.draw import is_known
from sparsim.verdict import TOTAL

if TYPE_CHECKING:
    from pandas import DataFrame

    Source = Comparison | DataFrame

__all__ = ["SWEPT", "all_rows", "alone", "failed", "is_whole", "layer_rows", "of_variant", "total_rows"]

SWEPT = "machine.config."
ENERGY = "energy_pj.total"
SHOWN = 4

Row = Mapping[str, Any]


def all_rows(source: Source) -> list[Row]:
    """Return the rows of a comparison or of a frame; the energy of a measured run, which has no components, is NaN.

    Raises
    ------
    InputError
        If it is neither.
    """
    if not (isinstance(source, Comparison) or hasattr(source, "to_dict")):
        raise InputError(f"{type(source).__name__} cannot be drawn: give a comparison or the DataFrame of one")
    rows: Iterable[Mapping[Any, Any]] = source.rows if isinstance(source, Comparison) else source.to_dict("records")
    return [{**row, ENERGY: nan} if _is_without_energy(row) else row for row in rows]


def _is_without_energy(row: Row) -> bool:
    """Tell a sum of nothing from the energy of a product without any work."""
    parts = (key for key in row if key.startswith("energy_pj.") and key != ENERGY)
    return row.get(ENERGY) == 0 and not any(is_known(row[key]) for key in parts)


def is_whole(row: Row) -> bool:
    """Tell a network's sum from a layer, even one that is called "total"."""
    return bool(row["layer"] == TOTAL) and not isinstance(row.get("workload.layer"), str)


def failed(row: Row) -> bool:
    """Tell whether this point of a sweep came to nothing."""
    return "time_s" in row and not is_known(row["time_s"])


def total_rows(
    source: Source, batch: int | None = None, machine: str | None = None, several: bool = False
) -> list[Row]:
    """Return the rows of whole networks for one batch size and, where asked, one machine.

    Points of a sweep that failed are left out.

    Parameters
    ----------
    source : a comparison or its DataFrame, or that of a sweep, of one network.
    batch : samples; None takes the largest there is.
    machine : name; None takes all.
    several : whether a machine may stand for several configurations.

    Raises
    ------
    ConfigError
        If there is nothing of that batch or machine, more than one network, or one machine's name stands for several
        configurations.
    """
    whole = [row for row in all_rows(source) if is_whole(row)]
    rows = _of_network([row for row in whole if not failed(row)], whole)
    batches = sorted({row["batch"] for row in rows})
    batch = batches[-1] if batch is None else batch
    if batch not in batches:
        raise ConfigError(f"nothing was compared at {batch}", key="batch", allowed=", ".join(map(str, batches)))
    machines = [row["machine.name"] for row in rows]
    if machine is not None and machine not in machines:
        raise ConfigError(f"'{machine}' is not in the comparison{nearest(machine, set(machines))}", key="machine")
    rows = [row for row in rows if row["batch"] == batch and machine in (None, row["machine.name"])]
    if not rows:
        raise ConfigError(f"'{machine}' has nothing at {batch}", key="batch")
    if not several:
        _one_configuration(rows)
    return rows


def layer_rows(source: Source, total: Sequence[Row]) -> list[Row]:
    """Return the rows of the layers that the rows ``total`` sum; none for a sweep without them."""
    wanted = {_variant(row) for row in total}
    return [row for row in all_rows(source) if not is_whole(row) and _variant(row) in wanted and not failed(row)]


def alone(source: Source) -> str:
    """Return the one machine of a comparison.

    Raises
    ------
    ConfigError
        If there are several.
    """
    names = list(dict.fromkeys(row["machine.name"] for row in all_rows(source)))
    if len(names) != 1:
        raise ConfigError("a plot of one machine needs its name", key="machine", allowed=", ".join(names) or "none")
    return str(names[0])


def of_variant(rows: Sequence[Row], granularity: str | None, sparsity: float | None) -> list[Row]:
    """Return the rows of a pattern, of a sparsity as it was asked for, or of both.

    Raises
    ------
    ConfigError
        If there are none.
    """
    patterns = list(dict.fromkeys(row["granularity"] for row in rows))
    if granularity is not None and granularity not in patterns:
        hint = nearest(granularity, set(patterns))
        raise ConfigError(f"'{granularity}' is not in the comparison{hint}", key="granularity")
    rows = [row for row in rows if granularity in (None, row["granularity"])]
    sparsities = list(dict.fromkeys(row["sparsity"] for row in rows))
    rows = [row for row in rows if sparsity in (None, row["sparsity"])]
    if not rows:
        known = ", ".join(f"{each:g}" for each in sorted(sparsities))
        raise ConfigError(f"nothing has {sparsity:g}", key="sparsity", allowed=known)
    return rows


def _variant(row: Row) -> tuple[Any, ...]:
    return tuple(row[key] for key in ("network", "batch", "granularity", "sparsity", "machine.name"))


def _of_network(rows: list[Row], whole: Sequence[Row]) -> list[Row]:
    networks = {row["network"] for row in rows}
    if whole and not rows:
        why = next((row["error"] for row in whole if row.get("error")), "no time in any row")
        raise ConfigError(f"all {len(whole)} points failed, the first with: {why}", key="error")
    if len(networks) != 1:
        found = ", ".join(sorted(networks)) or "none"
        raise ConfigError(f"a plot shows one network, found: {found}", key="network", allowed="the rows of one network")
    return rows


def _one_configuration(rows: Sequence[Row]) -> None:
    """Refuse a sweep's rows that differ in more than a plot tells apart."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault((*_variant(row), row.get("baseline")), []).append(row)
    largest = max(groups.values(), key=len)
    if len(largest) == 1:
        return
    values = {key: list(dict.fromkeys(row[key] for row in largest)) for key in largest[0] if key.startswith(SWEPT)}
    differ = {key.removeprefix(SWEPT): found for key, found in values.items() if len(found) > 1}
    told = "; ".join(
        f"{key} = {', '.join(map(str, found[:SHOWN]))}{' …' * (len(found) > SHOWN)}" for key, found in differ.items()
    )
    what = f"{len(largest)} configurations ({told})" if differ else f"{len(largest)} rows of one variant"
    allowed = "the rows of one configuration"
    if differ:
        (key, found) = next(iter(differ.items()))
        allowed += f", such as frame[frame[{key!r}] == {found[0]!r}]"
    raise ConfigError(f"'{largest[0]['machine.name']}' stands for {what}", key="machine.name", allowed=allowed)
