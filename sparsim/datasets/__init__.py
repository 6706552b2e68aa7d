"""Public matrices by name, and generated stand-ins for those that are not at hand.

>>> from sparsim import datasets
>>> datasets.fetch("wiki-Vote")  # doctest: +SKIP
>>> datasets.load("p2p-Gnutella31", folder="matrices")  # doctest: +SKIP

:func:`names` lists the 20 matrices on which OuterSPACE and SpArch report A x A, from the SuiteSparse collection [1]_
and SNAP [2]_, and the pruned layers of the Deep Learning Matrix Collection [3]_. :func:`find` looks on this computer
only, :func:`fetch` downloads once and keeps the file, :func:`load` reads it and checks its size against the published
one.

:func:`standin` generates a matrix with the rows, the elements and the kind of structure of a real one, and
:func:`standin_facts` says how much its square costs beside the real one's. A stand-in is only a workload: report it as
``standin:NAME``, the name :func:`load` takes too, and keep it out of every average that reproduces a published one. The
generators (:func:`rmat`, :func:`mesh3d`, :func:`road`, ...) serve any size. :func:`m133_b3` is no stand-in: it follows
the matrix's definition.

References
----------
.. [1] S. Kolodziej et al., "The SuiteSparse Matrix Collection Website Interface", JOSS 4(35), 2019.
.. [2] J. Leskovec, A. Krevl, "SNAP Datasets: Stanford Large Network Dataset Collection", 2014.
.. [3] T. Gale, M. Zaharia, C. Young, E. Elsen, "Sparse GPU Kernels for Deep Learning", SC 2020, arXiv:2006.10901.
"""

from __future__ import annotations

from os import PathLike

from sparsim.datasets.boundary import m133_b3, matching_boundary
from sparsim.datasets.fetch import fetch, load_file
from sparsim.datasets.graphs import citation, copurchase, rmat, web
from sparsim.datasets.meshes import banded, circuit, mesh3d, mixed_mesh2d, road
from sparsim.datasets.registry import PREFIX, Entry, dlmc_names, entries
from sparsim.datasets.standins import StandinFacts, standin, standin_facts, standin_names
from sparsim.datasets.store import cache_folder, find
from sparsim.errors import ConfigError
from sparsim.matrix import Csr

__all__ = [
    "Entry",
    "StandinFacts",
    "banded",
    "cache_folder",
    "circuit",
    "citation",
    "copurchase",
    "facts",
    "fetch",
    "find",
    "load",
    "m133_b3",
    "matching_boundary",
    "mesh3d",
    "mixed_mesh2d",
    "names",
    "rmat",
    "road",
    "standin",
    "standin_facts",
    "standin_names",
    "web",
]


def names() -> list[str]:
    """Return every known name: the 20 matrices first, then the layers "dlmc/<model>/<technique>/<sparsity>/<layer>"."""
    return [*entries(), *dlmc_names()]


def facts(name: str) -> Entry:
    """Return what is published or known of one of the 20 matrices: its sizes, and the counts of its square.

    Raises
    ------
    ConfigError
        If it is none of them.
    """
    if name not in entries():
        raise ConfigError(f"no facts about '{name}'", key="dataset", allowed=", ".join(entries()))
    return entries()[name]


def load(
    name: str,
    *,
    folder: str | PathLike[str] | None = None,
    progress: bool = True,
    base_url: str | None = None,
) -> Csr:
    """Return a public matrix: found in a folder or the cache, else fetched.

    Parameters
    ----------
    name : see :func:`fetch`; "standin:NAME" gives the stand-in.
    folder : looked through first, see :func:`find`.
    progress, base_url : see :func:`fetch`.

    Raises
    ------
    ConfigError
        If the name is unknown.
    InputError
        If the file can be neither found nor fetched, cannot be read, or differs in size from the matrix of that name.
    """
    if name.startswith(PREFIX):
        return standin(name)
    return load_file(name, folder, progress=progress, base_url=base_url)
