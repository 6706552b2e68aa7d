"""What is known of each public matrix: where it is, how large it must be, what squaring it costs."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from sparsim.errors import ConfigError, InputError, nearest, one_line
from sparsim.matrix import Csr

__all__ = ["Address", "Entry", "address", "dlmc_names", "entries", "standin_tables"]

DLMC = "dlmc"
PREFIX = "standin:"
SUITESPARSE = ("https://suitesparse-collection-website.herokuapp.com", "https://sparse.tamu.edu")
NAME = re.compile(r"[A-Za-z0-9_+][A-Za-z0-9_.+-]*(/[A-Za-z0-9_+][A-Za-z0-9_.+-]*)*")


@dataclass(frozen=True)
class Entry:
    """A matrix of the SpGEMM set; counts are of the matrix itself and of its square.

    Parameters
    ----------
    name, group : as in the SuiteSparse collection; no group for a matrix that is not there.
    kind : structure, in words.
    rows, nnz : of the square matrix, explicit zeros left out.
    stored_zeros : explicit zeros that the file holds besides.
    products, nnz_c : multiplications and structural non-zeros of A x A.
    counts_source, counts_status, counts_note : of ``products`` and ``nnz_c``.
    url : of a matrix outside SuiteSparse.
    sha256 : of the archive, where one is known.
    """

    name: str
    kind: str
    rows: int
    nnz: int
    products: int
    nnz_c: int
    counts_source: str
    counts_status: str
    counts_note: str = ""
    group: str | None = None
    stored_zeros: int = 0
    url: str | None = None
    sha256: str | None = None

    @property
    def sizes(self) -> tuple[int, int]:
        """Numbers of elements a correct file may have: without and with its explicit zeros."""
        return self.nnz, self.nnz + self.stored_zeros


@dataclass(frozen=True)
class Address:
    """Where a matrix comes from and what it must look like.

    Parameters
    ----------
    name : as the user wrote it.
    stems : relative paths, without suffix, under which it may lie in a folder; the first is where it is put.
    archive : file name of the download; the name to save it under by hand.
    urls : complete addresses, in the order to try.
    shape : (rows, columns), None where unknown.
    entry : of the matrices of the SpGEMM set.
    layers : relative paths, without suffix, of what a network's folder must hold; empty for one matrix.
    """

    name: str
    stems: tuple[str, ...]
    archive: str
    urls: tuple[str, ...]
    shape: tuple[int, int] | None = None
    entry: Entry | None = None
    layers: tuple[str, ...] = ()

    @property
    def from_dlmc(self) -> bool:
        """Whether it is a part of the one large archive of pruned layers."""
        return self.name.split("/")[0] == DLMC

    def check(self, matrix: Csr, source: str) -> None:
        """Refuse a matrix that cannot be the one of this name.

        Raises
        ------
        InputError
            If rows, columns or elements differ from what was published.
        """
        wanted = ""
        if self.shape is not None and matrix.shape != self.shape:
            wanted = f"{self.shape[0]:,} x {self.shape[1]:,}"
        if self.entry is not None and matrix.nnz not in self.entry.sizes:
            wanted = f"{self.entry.rows:,} x {self.entry.rows:,} with {self.entry.nnz:,} elements"
        if wanted:
            raise InputError(
                f"{matrix.shape[0]:,} x {matrix.shape[1]:,} with {matrix.nnz:,} elements is not {self.name}",
                source=source,
                remedy=f"{self.name} is {wanted}; remove the file and fetch it again",
            )


def _read(file: str) -> dict[str, Any]:
    return tomllib.loads((resources.files("sparsim.datasets") / file).read_text("utf-8"))


@cache
def entries() -> dict[str, Entry]:
    """Return the 20 matrices by name."""
    return {name: Entry(name, **table) for name, table in _read("registry.toml")["matrices"].items()}


@cache
def standin_tables() -> dict[str, dict[str, Any]]:
    """Return generator, parameters and measured counts of each stand-in."""
    tables: dict[str, dict[str, Any]] = _read("registry.toml")["standins"]
    return tables


@cache
def dlmc_names() -> dict[str, tuple[int, int]]:
    """Return the shape of every layer of the Deep Learning Matrix Collection by its name."""
    found = {}
    models = {key: value for key, value in _read("dlmc.toml").items() if isinstance(value, dict)}
    for model, table in models.items():
        for technique, has in table["techniques"].items():
            for sparsity in has["sparsities"]:
                for layer, (rows, cols) in table["layers"].items():
                    if layer in has.get("lacks", ()):
                        continue
                    name = has["embedding"] if layer == "embedding" else layer + has.get("appended", "")
                    found[f"{DLMC}/{model}/{technique}/{sparsity}/{name}"] = (rows, cols)
    return found


def address(name: str, base_url: str | None = None) -> Address:
    """Return where a matrix lies, here and on the network.

    Parameters
    ----------
    name : one of :func:`~sparsim.datasets.names`, any "GROUP/NAME" of SuiteSparse, or the folder of a DLMC network.
        A plain name that is not known has no address on the network, but may lie in a folder.
    base_url : a mirror to ask instead of the original servers.

    Raises
    ------
    ConfigError
        If that cannot be a name, or DLMC has none like it.
    """
    if not NAME.fullmatch(name):
        raise ConfigError(
            f"'{one_line(name)}' is no name of a matrix", key="dataset", allowed="wiki-Vote, GROUP/NAME, dlmc/..."
        )
    first, _, rest = name.partition("/")
    if first == DLMC:
        return _dlmc_address(name, rest, base_url)
    group, _, last = name.rpartition("/")
    entry = entries().get(last)
    if entry is not None and group in ("", entry.group):
        return _known_address(name, entry, base_url)
    servers = (SUITESPARSE if base_url is None else (base_url.rstrip("/"),)) if group else ()
    urls = tuple(f"{server}/MM/{name}.tar.gz" for server in servers)
    return Address(name, (name, f"{name}/{last}"), f"{name}.tar.gz", urls)


def _known_address(name: str, entry: Entry, base_url: str | None) -> Address:
    if entry.url is not None:
        folder, archive = entry.url.rsplit("/", 1)
        urls: tuple[str, ...] = (f"{(base_url or folder).rstrip('/')}/{archive}",)
    else:
        archive = f"{entry.name}.tar.gz"
        servers = SUITESPARSE if base_url is None else (base_url.rstrip("/"),)
        urls = tuple(f"{server}/MM/{entry.group}/{archive}" for server in servers)
    grouped = (f"{entry.group}/{entry.name}",) if entry.group else ()
    stems = (entry.name, f"{entry.name}/{entry.name}", *grouped)
    return Address(name, stems, archive, urls, (entry.rows, entry.rows), entry)


def _dlmc_address(name: str, rest: str, base_url: str | None) -> Address:
    known = dlmc_names()
    layers = tuple(other.removeprefix(f"{name}/") for other in known if other.startswith(f"{name}/"))
    if name not in known and not layers:
        raise ConfigError(
            f"DLMC has no '{rest}'{nearest(name, known) if rest.count('/') > 2 else ''}",
            key="dataset",
            allowed="dlmc/<model>/<technique>/<sparsity>/<layer>, as listed by sparsim.datasets.names()",
        )
    server, archive = _read("dlmc.toml")["url"].rsplit("/", 1)
    url = f"{(base_url or server).rstrip('/')}/{archive}"
    return Address(name, tuple(stem for stem in (name, rest) if stem), archive, (url,), known.get(name), layers=layers)
