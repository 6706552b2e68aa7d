"""The verb: a grid of networks, matrices, patterns, machines and their fields, one row a point.

Every run is known by its content: the workload, the configuration, the version of the models. What is finished is kept
in a file and never run again; see :mod:`~sparsim.sweep.store`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike
from typing import TYPE_CHECKING, Any

from sparsim.energy import DEFAULT_TABLE, load_table
from sparsim.progress import tqdm
from sparsim.sweep.cases import all_cases
from sparsim.sweep.estimate import Estimate, processes
from sparsim.sweep.grid import Grid, configurations
from sparsim.sweep.run import Engine, Inputs
from sparsim.sweep.store import Store, default_store
from sparsim.verdict import TOTAL
from sparsim.workload import DataType

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["Estimate", "Grid", "Interrupted", "default_store", "estimate", "failures", "sweep"]

LONG_S = 10.0


class Interrupted(KeyboardInterrupt):
    """A sweep was stopped from the keyboard; what is finished is in the store."""


def sweep(
    inputs: Any = None,
    *,
    grid: Grid | str | PathLike[str] | None = None,
    layers: bool = False,
    jobs: int | None = None,
    dask: str | None = None,
    store: str | PathLike[str] | None = None,
    progress: bool = True,
    **options: Any,
) -> DataFrame:
    """Simulate every point of a grid and return one row for each.

    Parameters
    ----------
    inputs : one network or matrix, or several, see :class:`Grid`.
    grid : a :class:`Grid`, or a TOML file that describes one, which ``inputs`` and ``options`` add to or replace.
    layers : also a row for every layer, before that of its network.
    jobs : processes, by default one a core; 1 runs in this one.
    dask : address of a Dask scheduler whose workers run instead, such as "tcp://host:8786".
    store : file of finished runs; by default one in the cache folder, see :func:`default_store`.
    progress : show a bar, and an estimate before a sweep that takes long.
    options : the other entries of :class:`Grid`: ``on``, ``fields``, ``granularity``, ``sparsity``, ``batch`` ...; and
        ``sample``, the share of a product to merge and time (or several) on machines that can estimate, a swept
        field of theirs.

    Returns
    -------
    A DataFrame in the order of the grid. Columns are those of :func:`~sparsim.compare.compare`'s totals
    (``layer`` is "total"), the swept fields under their names, and ``error``: "" where all went well, and why there
    are no figures (or no speed-up) where not. Speed-ups are against the stock dense twin. What failed is not kept, and
    runs again the next time.

    Raises
    ------
    ConfigError, InputError
        If the grid makes no sense, or none of the inputs can be read.
    Interrupted
        At ctrl-C; the same call goes on from there.

    Examples
    --------
    >>> import sparsim as ss
    >>> frame = ss.sweep(
    ...     "lenet300_100", on=["sparch"], fields={"merge.width": [4, 16]}, store=":memory:", jobs=1, progress=False
    ... )
    >>> bool(frame["time_s"][0] > frame["time_s"][1])
    True
    """
    import pandas as pd

    how: dict[str, Any] = {"jobs": jobs, "dask": dask, "layers": layers}
    workers = processes(jobs, dask)
    with _engine(_grid(inputs, grid, options), store, **how) as engine:
        if progress:
            _announce(engine.estimate(workers))
        with tqdm(total=engine.points, desc="sweeping", unit="point", disable=None if progress else True) as engine.bar:
            try:
                rows = list(engine.rows())
            except KeyboardInterrupt:
                done, kept = f"{engine.counts['done']:,} of {engine.points:,} points", engine.store.path
                raise Interrupted(
                    f"interrupted: {done} are finished and kept in {kept}; the same call goes on from there"
                ) from None
    return pd.DataFrame(rows)


def estimate(
    inputs: Any = None,
    *,
    grid: Grid | str | PathLike[str] | None = None,
    jobs: int | None = None,
    dask: str | None = None,
    store: str | PathLike[str] | None = None,
    **options: Any,
) -> Estimate:
    """Return what a sweep would take, without running it; parameters as in :func:`sweep`."""
    with _engine(_grid(inputs, grid, options), store) as engine:
        return engine.estimate(processes(jobs, dask))


def failures(rows: Sequence[Mapping[str, Any]]) -> int:
    """Return how many points came to nothing, or to no speed-up."""
    return sum(bool(row["error"]) for row in rows if row["layer"] == TOTAL and row.get("workload.layer") != TOTAL)


def _grid(inputs: Any, grid: Grid | str | PathLike[str] | None, options: dict[str, Any]) -> Grid:
    """Return the grid of a call, whichever way it is described."""
    given = options if inputs is None else {"inputs": inputs, **options}
    if isinstance(grid, Grid):
        return Grid.of(**{key: getattr(grid, key) for key in grid.model_fields_set} | given)
    return Grid.of(**given) if grid is None else Grid.from_toml(grid, **given)


@contextmanager
def _engine(grid: Grid, store: str | PathLike[str] | None, **how: Any) -> Iterator[Engine]:
    machines, asked = configurations(grid), all_cases(grid)
    load_table(grid.energy or DEFAULT_TABLE)
    DataType.parse(grid.dtype or DataType.FP64)
    with Store(default_store() if store is None else store) as kept:
        yield Engine(grid, machines, asked, Inputs(grid), kept, **how)


def _announce(expected: Estimate) -> None:
    """Say what a long sweep is going to take."""
    if expected.wall_s > LONG_S:
        tqdm.write(f"sweep: {expected}", file=sys.stderr)
