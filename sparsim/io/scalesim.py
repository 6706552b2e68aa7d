"""The topologies of SCALE-Sim: ``.csv`` files with one layer a row, shapes without weights.

Convolutions::

    Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,
    conv1, 227, 227, 11, 11, 3, 96, 4,

A second stride (width, after height) may follow, and a sparsity such as 2:4 (2 of 4 weights stay), which is noted and
not applied: no weights, nothing to remove. Padding is part of the height and width. As in SCALE-Sim, windows
step on until one reaches or passes the edge, and a layer with ``DP`` in its name is depthwise: each channel has
``Num Filter`` filters of its own. Products have ``Layer, M, N, K,`` instead: M positions, N outputs, K inputs.

The layers have shapes and no values, at no cost of memory.

References
----------
.. [1] A. Samajdar, Y. Zhu, P. Whatmough, M. Mattina, T. Krishna, "SCALE-Sim: Systolic CNN Accelerator Simulator",
   arXiv:1811.02883; release 3.0.0, ``topology_utils.py``.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sparsim.errors import InputError
from sparsim.io._files import read_bytes
from sparsim.network import Layer, Network

__all__ = ["read_scalesim", "topology_layer"]

CONVOLUTION = (
    "IFMAP Height", "IFMAP Width", "Filter Height", "Filter Width", "Channels", "Num Filter", "Strides",
)  # fmt: skip
GEMM = ("M", "N", "K")
HEADERS = f"Layer name, {', '.join(CONVOLUTION)},' or 'Layer, {', '.join(GEMM)},'"
LARGEST = 2**31 - 1
UNVALUED = {
    "synthetic": "weights are dense and have no values; the file holds shapes only",
    "weights": "shape",
    "no_values": "its weights are all alike",
}


def topology_layer(
    name: str, height: int, width: int, filter_height: int, filter_width: int, channels: int, filters: int,
    stride: int, stride_width: int | None = None,
) -> Layer:  # fmt: skip
    """Return one row of a convolution topology as a layer without values.

    Parameters
    ----------
    height, width : of the image, padding included.
    filters : outputs; of each channel if ``DP`` in the name makes the layer depthwise.
    stride_width : if it differs from the stride along the height.
    """
    strides = (stride, stride_width or stride)
    groups = channels if "DP" in name else 1
    shape = (filters * groups, channels // groups, filter_height, filter_width)
    down, across = -(-(height - filter_height) // strides[0]) + 1, -(-(width - filter_width) // strides[1]) + 1
    layer = Layer(name, _ones(*shape), stride=strides, padding=(0, 0), groups=groups, input_size=(height, width))
    return layer if layer.output_size == (down, across) else replace(layer, positions=down * across)


def _ones(*shape: int) -> npt.NDArray[np.float32]:
    return np.broadcast_to(np.float32(1), shape)


def read_scalesim(path: Path, name: str | None = None) -> Network:
    """Read a topology file of SCALE-Sim, of convolutions or of products.

    Raises
    ------
    InputError
        If the first line is no head of such a file, or a row has missing, extra or impossible entries.
    """
    try:
        lines = read_bytes(path).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise InputError("is no text", source=path, remedy="a topology is a text file") from None
    gemm = _is_gemm(lines[0] if lines else "", path)
    layers: list[Layer] = []
    notes: list[str] = []
    seen: set[str] = set()
    for number, line in enumerate(lines[1:], start=2):
        if line.strip(" ,\t"):
            place = f"row {number}"
            label, numbers, sparsity = _fields(line, gemm, path, place)
            if label in seen:
                raise InputError(f"a second layer '{label}'", source=path, place=place, remedy="names are unique")
            seen.add(label)
            layers.append(_gemm(label, *numbers) if gemm else _convolution(label, numbers, path, place))
            if sparsity not in ("", "1:1"):
                notes.append(f"layer '{label}': the file's sparsity {sparsity} is not applied; give --granularity")
    if not layers:
        raise InputError("no layers below the first line", source=path, place="row 2", remedy="one layer a row")
    return Network(
        name or path.stem,
        tuple(layers),
        metadata=UNVALUED | {"source": f"SCALE-Sim topology {path.name}"},
        notes=(f"a SCALE-Sim topology: {UNVALUED['synthetic']}", *notes),
    )


def _is_gemm(head: str, path: Path) -> bool:
    titles = [re.sub(r"\s+", " ", title).strip().lower() for title in head.split(",")]
    if titles[1:4] == ["m", "n", "k"]:
        return True
    if len(titles) >= 8 and titles[1].startswith("ifmap") and titles[3].startswith("filter"):
        return False
    raise InputError(
        f"{head.strip()[:60]!r} is no head of a SCALE-Sim topology",
        source=path,
        place="row 1",
        remedy=f"it must say '{HEADERS}",
    )


def _fields(line: str, gemm: bool, path: Path, place: str) -> tuple[str, list[int], str]:
    """Return a row's name, its numbers, and its sparsity as N:M ("" if it has none)."""
    words = [word.strip() for word in line.split(",")]
    while words and not words[-1]:
        words.pop()
    label, *rest = words or [""]
    sparsity = rest.pop() if rest and re.fullmatch(r"\d{1,6}\s*:\s*\d{1,6}", rest[-1]) else ""
    titles = GEMM if gemm else CONVOLUTION
    wanted = f"{len(titles)} numbers ({', '.join(titles)})"
    if not label or not (len(rest) == len(titles) or (not gemm and len(rest) == len(titles) + 1)):
        problem = f"{len(rest)} entries after the name" if label else "no layer name"
        allowed = f"a name and {wanted}" + (", perhaps a second stride" if not gemm else "") + ", perhaps N:M"
        raise InputError(problem, source=path, place=place, remedy=f"allowed: {allowed}")
    for title, word in zip((*titles, "second stride"), rest, strict=False):
        if not re.fullmatch(r"\d{1,10}", word) or not 1 <= int(word) <= LARGEST:
            raise InputError(
                f"{title} is {word[:20]!r}", source=path, place=place, remedy=f"allowed: integers, 1 to {LARGEST}"
            )
    return label, [int(word) for word in rest], sparsity


def _convolution(name: str, numbers: list[int], path: Path, place: str) -> Layer:
    height, width, filter_height, filter_width = numbers[:4]
    if filter_height > height or filter_width > width:
        raise InputError(
            f"a filter of {filter_height} x {filter_width} on an image of {height} x {width}",
            source=path,
            place=place,
            remedy="a filter is no larger than the image, whose size includes the padding",
        )
    return topology_layer(name, *numbers)


def _gemm(name: str, m: int, n: int, k: int) -> Layer:
    return Layer(name, _ones(n, k), positions=m)
