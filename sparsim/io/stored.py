"""Under which name, turned which way and in which type a layer's arrays stand in the file they came from.

Most weights are called ``<layer>.weight`` and stand as ``[out, in, ...]``. For those that are not, a network keeps a
line of JSON under its metadata key ``sparsim.arrays``, so that what is written again opens in the tool it came from::

    {"lstm.weight_ih_l0": {"layer": "lstm.weight_ih_l0"},
     "h.0.attn.c_attn.weight": {"transposed": true, "type": "BF16"}}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from sparsim.errors import InputError
from sparsim.io.geometry import parse_json

__all__ = ["KEY", "Stored", "format_stored", "merge_stored", "parse_stored"]

KEY = "sparsim.arrays"


@dataclass(frozen=True)
class Stored:
    """One array of a file.

    Parameters
    ----------
    layer : whose weight or bias it is, "" if its name says so.
    bias : whether it is the bias.
    transposed : a matrix stored as ``[in, out]``.
    type : a data type numpy does not have, which became float32: "BF16"; "" for all others.
    """

    layer: str = ""
    bias: bool = False
    transposed: bool = False
    type: str = ""


def parse_stored(text: str, source: Path) -> dict[str, Stored]:
    """Read the value of ``sparsim.arrays``."""
    entries = parse_json(text, source, KEY)
    kinds = {"layer": str, "bias": bool, "transposed": bool, "type": str}
    for entry in entries.values() if isinstance(entries, dict) else [None]:
        if not isinstance(entry, dict) or any(not isinstance(entry[key], kinds.get(key, ())) for key in entry):
            raise InputError(
                "is no object of objects", source=source, place=KEY, remedy='write {"array": {"layer": …}}'
            )
    return {key: Stored(**entry) for key, entry in entries.items()}


def format_stored(stored: Mapping[str, Stored]) -> str:
    """Write what :func:`parse_stored` reads; only what is not as usual."""
    usual = vars(Stored())
    entries = {
        key: {field: value for field, value in vars(item).items() if value != usual[field]}
        for key, item in stored.items()
    }
    return json.dumps({key: entry for key, entry in entries.items() if entry})


def merge_stored(metadata: Mapping[str, str], known: Mapping[str, Stored], source: Path) -> dict[str, Stored]:
    """Join what ``sparsim.arrays`` says with what the reader of the file ``known``: its types go first."""
    said = parse_stored(metadata.get(KEY, "{}"), source)
    result = {key: replace(item, type="") for key, item in said.items()}
    for key, item in known.items():
        result[key] = replace(said[key], type=item.type) if key in said else item
    return result
