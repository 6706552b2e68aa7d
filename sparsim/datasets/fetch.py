"""Downloads: one archive, its checksum, the matrix taken out of it.

Nobody publishes checksums of these archives, so the first download is trusted and its checksum recorded; a later
download or a changed file is compared with it.
"""

from __future__ import annotations

import gzip
import logging
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path, PurePosixPath

import numpy as np

from sparsim import io
from sparsim.datasets.registry import DLMC, PREFIX, Address, address, entries, standin_tables
from sparsim.datasets.store import VARIABLE, cache_folder, check_unchanged, locate, record, writing
from sparsim.errors import ConfigError, InputError, nearest, one_line
from sparsim.matrix import Csr

__all__ = ["fetch", "load_file"]

TIMEOUT = (10, 60)
BROKEN = (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile)


def fetch(name: str, *, progress: bool = True, base_url: str | None = None) -> Path:
    """Return the file of a public matrix, downloaded into the cache unless it is there.

    Parameters
    ----------
    name : one of :func:`~sparsim.datasets.names`; any "GROUP/NAME" of the SuiteSparse collection; or, of the Deep
        Learning Matrix Collection, a layer ("dlmc/rn50/magnitude_pruning/0.9/final_dense") or a folder of them, a
        network.
    progress : show a bar on the error output.
    base_url : a mirror, asked instead of the original servers: for ``MM/GROUP/NAME.tar.gz``, ``dlmc.tar.gz`` and
        ``facebook_combined.txt.gz`` below it.

    Returns
    -------
    A file that :func:`sparsim.load` reads (for a DLMC network, a folder), in ``SPARSIM_DATA_DIR`` if that is set, else
    in the user's cache. An archive that was put there by hand is unpacked without using the network.

    Raises
    ------
    ConfigError
        If the name is unknown.
    InputError
        If the download fails, is damaged, holds something else, or is not what it was at the first download.
    """
    place = address(name, base_url)
    here = locate(place)
    if here is not None:
        if here.is_file():
            check_unchanged(here)
        return here
    if not place.urls:
        raise ConfigError(
            f"no known matrix '{name}'{nearest(name, entries())}", key="dataset", allowed="a listed name, or GROUP/NAME"
        )
    archive = cache_folder() / place.archive
    fresh = not archive.is_file()
    if fresh:
        _download(place, archive, progress)
    try:
        path = _unpack(place, archive)
    except BROKEN as error:
        raise InputError(
            f"is truncated or no archive ({one_line(str(error))})", source=archive, remedy="remove it and fetch again"
        ) from None
    except OSError as error:
        raise InputError(f"cannot be unpacked ({one_line(str(error))})", source=archive) from None
    finally:
        # the one archive of all pruned layers is worth keeping, a matrix need not be here twice
        if fresh and not place.from_dlmc:
            archive.unlink(missing_ok=True)
    if path.is_file():
        record(path)
    return path


def load_file(
    name: str, folder: str | PathLike[str] | None = None, *, progress: bool = True, base_url: str | None = None
) -> Csr:
    """Find or fetch a matrix, read it, and check that it is the one of that name."""
    place = address(name, base_url)
    if place.layers:
        raise ConfigError(
            f"{name} is {len(place.layers)} layers, not one matrix",
            key="dataset",
            allowed="one layer; or load fetch(name)",
        )
    path = locate(place, folder)
    if path is None:
        path = fetch(name, progress=progress, base_url=base_url)
    elif path.is_file():
        check_unchanged(path)
    matrix = io.load(path)
    if not isinstance(matrix, Csr):
        raise InputError(f"holds a network of {len(matrix)} layers, not the matrix {name}", source=path)
    place.check(matrix, str(path))
    return matrix


def _download(place: Address, archive: Path, progress: bool) -> None:
    """Try each address until one gives the archive.

    Raises
    ------
    InputError
        If none does: names the last address, the cache folder, and how to do without the network.
    """
    import pooch
    from requests.exceptions import RequestException

    known = place.entry.sha256 if place.entry is not None else None
    problem = ""
    for url in place.urls:
        loader = pooch.HTTPDownloader(progressbar=progress, timeout=TIMEOUT, chunk_size=2**16)
        try:
            with _quiet(pooch.get_logger()):
                pooch.retrieve(url, known_hash=known, fname=archive.name, path=archive.parent, downloader=loader)
        except RequestException as error:
            problem = _reason(error)
            continue
        except ValueError as error:
            raise InputError(
                f"is not the known file ({one_line(str(error))})", source=url, remedy="try again, or tell the authors"
            ) from None
        except OSError as error:
            raise InputError(
                f"cannot be written ({one_line(str(error))})",
                source=archive,
                remedy=f"set {VARIABLE} to another folder",
            ) from None
        if place.from_dlmc:
            record(archive)
        return
    instead = f", or take '{PREFIX}{place.entry.name}'" if place.entry and place.entry.name in standin_tables() else ""
    raise InputError(
        f"cannot be downloaded ({problem})",
        source=place.urls[-1],
        remedy=f"save it as {archive} by hand, or set {VARIABLE} to a folder that holds the matrix{instead}",
    )


def _reason(error: Exception) -> str:
    from requests import exceptions

    response = getattr(error, "response", None)
    if isinstance(error, exceptions.HTTPError) and response is not None:
        return f"the server answered {response.status_code} {response.reason}"
    if isinstance(error, exceptions.Timeout):
        return "the server did not answer in time"
    if isinstance(error, exceptions.ChunkedEncodingError):
        return "the connection broke before the end"
    if isinstance(error, exceptions.ConnectionError):
        return "no connection"
    return one_line(str(error)) or type(error).__name__


@contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    """Keep the advice that pooch gives to programmers off the user's screen."""
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def _unpack(place: Address, archive: Path) -> Path:
    if archive.name.endswith(".txt.gz"):
        return _edges_to_market(archive, cache_folder() / f"{place.stems[0]}.mtx")
    if place.from_dlmc:
        check_unchanged(archive)
        return _unpack_layers(place, archive)
    last = place.stems[0].rsplit("/", 1)[-1]
    target = cache_folder() / f"{place.stems[0]}.mtx"
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.isfile() and PurePosixPath(member.name).name == f"{last}.mtx":
                _extract(tar, member, target)
                return target
    raise InputError(f"holds no {last}.mtx", source=archive, remedy="check the name, and what was downloaded")


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    """Write the contents of a file of the archive; its own path and rights are never used."""
    source = tar.extractfile(member)
    assert source is not None
    with source, writing(target) as file:
        shutil.copyfileobj(source, file)


def _unpack_layers(place: Address, archive: Path) -> Path:
    """Take the folder of the asked layer out of the large archive, and the tables of output positions."""
    wanted = PurePosixPath(place.name)
    folder = wanted if place.layers else wanted.parent
    with tarfile.open(archive) as tar:
        for member in tar:
            path = PurePosixPath(DLMC, *(part for part in PurePosixPath(member.name).parts if part not in (DLMC, ".")))
            inside = folder in path.parents and path.suffix == ".smtx"
            table = path.name.endswith("batchsizes.txt") and len(path.parts) == 2
            if member.isfile() and ".." not in path.parts and (inside or table):
                _extract(tar, member, cache_folder() / path)
    found = locate(place)
    if found is None:
        what = f"not all of the {len(place.layers)} layers of {place.name}" if place.layers else f"no {place.name}"
        raise InputError(f"holds {what}", source=archive, remedy="remove it and fetch it again")
    return found


def _edges_to_market(archive: Path, target: Path) -> Path:
    """Write a list of undirected edges, counted from 0, as a symmetric Matrix Market pattern."""
    with gzip.open(archive, "rt", encoding="ascii", errors="replace") as file:
        lines = [line.split() for line in file if line.strip() and not line.startswith("#")]
    try:
        edges = np.array(lines, dtype=np.int64)
        if edges.ndim != 2 or edges.shape[1] != 2:
            raise ValueError("a line without two numbers")
    except ValueError as error:
        raise InputError(f"is no list of edges ({one_line(str(error))})", source=archive) from None
    edges = np.unique(np.sort(edges, axis=1), axis=0) + 1
    size = int(edges.max())
    with writing(target) as out:
        out.write(f"%%MatrixMarket matrix coordinate pattern symmetric\n{size} {size} {len(edges)}\n".encode())
        out.write("".join(f"{high} {low}\n" for low, high in edges.tolist()).encode())
    return target
