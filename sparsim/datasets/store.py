"""Files on this computer: where they are kept, found, and how a change is noticed."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import IO

from sparsim.datasets.registry import Address, address
from sparsim.errors import InputError, one_line

__all__ = ["VARIABLE", "cache_folder", "check_unchanged", "find", "record", "sha256", "writing"]

VARIABLE = "SPARSIM_DATA_DIR"
SUFFIXES = (".mtx", ".mtx.gz", ".npz", ".smtx")
CHUNK = 2**20


def cache_folder() -> Path:
    """Return the folder of downloads: ``SPARSIM_DATA_DIR`` if it is set, else the user's cache."""
    import pooch

    chosen = os.environ.get(VARIABLE)
    return Path(chosen).expanduser() if chosen else Path(pooch.os_cache("sparsim"))


def find(name: str, folder: str | PathLike[str] | None = None) -> Path | None:
    """Return the file of a matrix that is already here, None if there is none; never uses the network.

    Parameters
    ----------
    name : see :func:`~sparsim.datasets.fetch`; here also the plain name of any file.
    folder : looked through before the cache (``SPARSIM_DATA_DIR``). A matrix lies there as ``NAME.mtx``, ``.mtx.gz``,
        ``.npz`` or ``.smtx``, or unpacked as ``NAME/NAME.mtx``; a DLMC network is a folder that holds all
        its layers.
    """
    return locate(address(name), folder)


def locate(place: Address, folder: str | PathLike[str] | None = None) -> Path | None:
    """Return what :func:`find` returns, for an address."""
    for base in (*([] if folder is None else [Path(folder)]), cache_folder()):
        for stem in place.stems:
            if place.layers:
                if all((base / stem / f"{layer}.smtx").is_file() for layer in place.layers):
                    return base / stem
                continue
            for suffix in SUFFIXES:
                path = base / f"{stem}{suffix}"
                if path.is_file():
                    return path
    return None


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, as hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _sidecar(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def record(path: Path) -> None:
    """Trust a file that has just been downloaded, and write down its checksum beside it, as sha256sum does.

    Raises
    ------
    InputError
        If an earlier download of the same name was another file.
    """
    if _sidecar(path).exists():
        check_unchanged(path)
        return
    with writing(_sidecar(path)) as file:
        file.write(f"{sha256(path)}  {path.name}\n".encode())


def check_unchanged(path: Path) -> None:
    """Refuse a downloaded file that is no longer what it was; a file without a recorded checksum passes.

    Raises
    ------
    InputError
        If the checksum differs from the recorded one.
    """
    try:
        words = _sidecar(path).read_text("utf-8").split()
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read ({error})", source=_sidecar(path), remedy="remove it") from None
    recorded, found = words[0] if words else "", sha256(path)
    if recorded != found:
        raise InputError(
            f"changed since its first download (sha256 {found[:12]}..., recorded {recorded[:12] or 'nothing'}...)",
            source=path,
            remedy=f"if the new file is right, remove {_sidecar(path).name}; if not, remove both and fetch it again",
        )


@contextmanager
def writing(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that appears under its name only when it is complete."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise InputError(
            f"cannot be written ({one_line(str(error))})", source=path, remedy=f"set {VARIABLE} to a folder of yours"
        ) from None
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)
