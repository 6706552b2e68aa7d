"""Asking for data before they are needed: what the rows of a matrix lead to lies in no cache, and in no order."""

from __future__ import annotations

from typing import Any

import numba
from llvmlite.ir import Constant, FunctionType, IntType, VoidType
from numba.core import types
from numba.core.extending import intrinsic

__all__ = ["fetch_early"]

READ, ALL_CACHES, DATA = 0, 3, 1


def fetch_early(array: Any, index: Any) -> None:
    """Ask for an entry of an array to be brought into the caches, and go on."""


def _generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """Write the instruction."""
    from numba.core import cgutils  # compiling alone needs these
    from numba.np.arrayobj import make_array

    kind = signature.args[0]
    held = make_array(kind)(context, builder, arguments[0])
    place = cgutils.get_item_pointer(context, builder, kind, held, [arguments[1]], wraparound=False)
    word, byte = IntType(32), IntType(8).as_pointer()
    called = FunctionType(VoidType(), [byte, word, word, word])
    prefetch = cgutils.get_or_insert_function(builder.module, called, "llvm.prefetch.p0i8")
    builder.call(prefetch, [builder.bitcast(place, byte), *(Constant(word, hint) for hint in (READ, ALL_CACHES, DATA))])
    return context.get_dummy_value()


def _typed(typing_context: Any, array: Any, index: Any) -> Any:
    """Return the types of call and answer, and what writes the instruction."""
    return types.void(array, index), _generate


if not numba.config.DISABLE_JIT:
    fetch_early = intrinsic(_typed)
