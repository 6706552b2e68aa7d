"""The decorators of compiled functions: flags and cache are decided here and nowhere else.

The cache folder is keyed by a hash of all kernel sources: Numba does not notice when a function called by a cached
one was edited in another module, and would serve the stale answer. ``SPARSIM_NUMBA_CACHE=0`` switches the cache off,
``SPARSIM_CACHE_DIR`` moves it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba
import numpy as np
from numba.core.caching import FunctionCache
from numba.core.runtime import rtsys

__all__ = ["at", "cache_folder", "inlined", "inner", "kernel", "step"]

F = TypeVar("F", bound=Callable[..., Any])
KEPT_FOLDERS = 4


def _source_hash() -> str:
    state = hashlib.sha256(numba.__version__.encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        state.update(source.name.encode() + source.read_bytes())
    return state.hexdigest()[:16]


def cache_folder() -> Path | None:
    """Return the folder compiled kernels are kept in, None if caching is off or no folder can be written."""
    if os.environ.get("SPARSIM_NUMBA_CACHE", "1") == "0":
        return None
    home = os.environ.get("SPARSIM_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    folder = Path(home) / "sparsim" / "kernels" / _source_hash()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    others = sorted((p for p in folder.parent.iterdir() if p != folder), key=lambda p: p.stat().st_mtime)
    for stale in others[:-KEPT_FOLDERS]:
        shutil.rmtree(stale, ignore_errors=True)
    return folder


_FOLDER = cache_folder()


class _Loaded(FunctionCache):
    """A cache that hands out what it holds without first making Numba ready to compile anything.

    That imports most of Numba and scipy's linear algebra, longer than all else in a first run with a warm cache.
    What compiled code itself needs is set up here; a function that has to be compiled makes Numba ready on its own.
    """

    def load_overload(self, sig: object, target_context: Any) -> Any:
        rtsys.initialize(target_context)
        with self._guard_against_spurious_io_errors():
            return self._load_overload(sig, target_context)


def _with(compiled: F, **options: object) -> F:
    if hasattr(compiled, "targetoptions"):  # not with NUMBA_DISABLE_JIT
        compiled.targetoptions.update(options)
    return compiled


def kernel(function: F) -> F:
    """Compile ``function`` in nopython mode: cached, without the GIL, never fastmath, never parallel."""
    compiled: F = numba.njit(nogil=True)(function)
    if _FOLDER is not None and hasattr(compiled, "_cache"):  # not with NUMBA_DISABLE_JIT
        compiled._cache = _cache_of(function)
    return compiled


def _cache_of(function: Callable[..., Any]) -> _Loaded:
    before = numba.config.CACHE_DIR
    try:
        numba.config.CACHE_DIR = str(_FOLDER)
        return _Loaded(function)
    finally:
        numba.config.CACHE_DIR = before


def step(function: F) -> F:
    """Compile a function that allocates nothing and never divides by zero: like ``kernel``, but cheap to call.

    References to arrays are not counted (two atomic operations for every array of every call, and there are some
    hundred calls a cycle), and divisors are not checked.
    """
    return _with(kernel(function), _nrt=False, error_model="numpy")


def inner(function: F) -> F:
    """Compile a ``step`` that is called by compiled functions only; it cannot be called from Python."""
    return _with(step(function), no_cpython_wrapper=True, no_cfunc_wrapper=True)


def inlined(function: F) -> F:
    """Compile an ``inner`` that becomes part of its callers: handing over arrays costs more than a short body."""
    return _with(inner(function), forceinline=True)


@inlined
def at(index: int) -> Any:
    """Return an index that is not negative as one that cannot be: compiled code need not look each time."""
    return np.uintp(index)
