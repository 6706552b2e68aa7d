"""Matrix condensing drawn: the same rows before and after, one colour for each partial matrix.

Condensed column j is the j-th non-zero of every row, each keeping the column it came from, so that there are as many
partial matrices as the longest row has non-zeros (Zhang et al., SpArch, HPCA 2020, section II-B).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sparsim.errors import ConfigError
from sparsim.matrix import Csr, IntArray
from sparsim.plot.draw import PALETTE
from sparsim.simulate import as_matrix

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["condensing_example", "plot_condensing"]

LARGEST = 64
GAP = 2.5
CAPTION = 1.4  # inches
FONT_OF_CELL = 0.48
SMALLEST_FONT = 3.5
ROOM = {"across": 0.9, "above": 1.1}

EXAMPLE_ROWS = (
    (0, 1, 3, 4, 5, 7, 8, 9, 11, 12, 13, 15),
    (2, 6, 10),
    (0, 4, 5, 9, 14),
    (1, 3, 8, 12, 13, 14, 15),
    (7,),
    (2, 5, 6, 10, 11, 14),
    (),
    (0, 8, 9, 15),
    (1, 2, 3, 4, 6, 7, 10, 11, 12),
    (5, 13),
    (3, 8, 10, 14),
    (6, 9, 12),
)


def condensing_example() -> Csr:
    """Return a pattern of 12 rows and 16 columns, all in use, whose longest row has 12 non-zeros: 16 condense to 12.

    The numbers 16 and 12 are those of a talk on SpArch. Where its non-zeros lie is not known, so the positions here are
    made up; they are the same in every call.
    """
    indptr = np.cumsum([0, *map(len, EXAMPLE_ROWS)])
    return Csr.build((len(EXAMPLE_ROWS), 16), indptr, np.concatenate(EXAMPLE_ROWS).astype(np.int64))


def plot_condensing(matrix: Any, ax: Axes | None = None) -> Axes:
    """Draw a small matrix as it is and condensed, side by side on the same rows.

    Left a colour is a column, right a condensed column: each is one partial matrix. Cells hold the column of the
    original matrix, which condensing keeps, where they are large enough to be read.

    Parameters
    ----------
    matrix : a path, a scipy sparse matrix, a 2-D array or a :class:`~sparsim.matrix.Csr` of at most 64 x 64; every
        stored element counts.
    ax : where to draw; None makes a figure.

    Raises
    ------
    ConfigError
        If the matrix has more rows or columns.
    """
    a = as_matrix(matrix)
    rows, columns = a.shape
    if max(rows, columns) > LARGEST:
        raise ConfigError(
            f"{rows} x {columns} cells are too many to be told apart", key="matrix", allowed=f"{LARGEST} x {LARGEST}"
        )
    row = np.repeat(np.arange(rows), a.row_lengths)
    place = np.arange(a.nnz) - a.indptr[row]
    used = np.unique(a.indices)
    condensed = int(a.row_lengths.max(initial=0))
    right = columns + (GAP if ax is None else max(GAP, CAPTION / _cell(ax, rows) - columns))
    width = right + max(condensed, columns / 5, 6)
    ax = ax or _axes(width, rows)
    ax.set(xlim=(-0.5, width), ylim=(rows + 0.2, -1.6), aspect="equal")
    font = _font(ax, width, rows)
    _frame(ax, 0, a.shape)
    _frame(ax, right, (rows, condensed))
    _cells(ax, a.indices, row, (np.searchsorted(used, a.indices), used.size), a.indices, font)
    _cells(ax, right + place, row, (place, condensed), a.indices, font)
    if a.nnz:
        ax.annotate("", (right - 0.4, rows / 2), (columns + 0.4, rows / 2), arrowprops={"arrowstyle": "-|>"})
    _caption(ax, 0, _count(columns, "column"), used.size)
    _caption(ax, right, _count(condensed, "condensed column"), condensed)
    _ticks(ax, rows, columns, (right, condensed))
    return ax


def _axes(width: float, rows: int) -> Axes:
    from matplotlib import pyplot

    cell = min(0.3, 14 / width, 12 / (rows + 2))
    size = (max(width * cell + ROOM["across"], 6.4), max((rows + 2) * cell + ROOM["above"], 2))
    return pyplot.subplots(figsize=size, layout="constrained")[1]


def _cell(ax: Axes, rows: int) -> float:
    """Return the inches that a cell can have at most."""
    return float(ax.get_position().height * ax.figure.canvas.figure.get_figheight() / (rows + 2))


def _font(ax: Axes, width: float, rows: int) -> float:
    """Return the size of text that fits into a cell, in points."""
    figure = ax.figure.canvas.figure
    box = ax.get_position()
    across = (box.width * figure.get_figwidth()) / (width + 0.5)
    down = (box.height * figure.get_figheight()) / (rows + 2)
    return min(72 * FONT_OF_CELL * min(across, down), 10)


def _frame(ax: Axes, left: float, shape: tuple[int, int]) -> None:
    """Rule the cells of a matrix."""
    rows, columns = shape
    style: dict[str, Any] = {"color": "#D6DBE1", "linewidth": 0.5, "zorder": 0}
    if rows and columns:
        ax.hlines(np.arange(rows + 1), left, left + columns, **style)
        ax.vlines(left + np.arange(columns + 1), 0, rows, **style)


def _cells(ax: Axes, x: Any, y: Any, partial: tuple[IntArray, int], labels: IntArray, font: float) -> None:
    """Draw non-zeros in the colour of their partial matrix; ``partial`` is (number of each, how many there are)."""
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    number, many = partial
    colors = _colors(many)
    faces = [colors[int(each)] for each in number]
    squares = [Rectangle((float(left) + 0.04, float(top) + 0.04), 0.92, 0.92) for left, top in zip(x, y, strict=True)]
    ax.add_collection(PatchCollection(squares, facecolors=faces, edgecolors="none"), autolim=False)
    if font < SMALLEST_FONT:
        return
    for left, top, label, face in zip(x, y, labels, faces, strict=True):
        ink = "white" if _luminance(face) < 0.45 else "black"
        style: dict[str, Any] = {"ha": "center", "va": "center_baseline", "fontsize": font, "color": ink}
        ax.text(left + 0.5, top + 0.5, str(label), **style)


def _colors(many: int) -> list[tuple[float, float, float]]:
    """Return one colour for each partial matrix: named ones for a few, an ordered map for many."""
    from matplotlib import colormaps
    from matplotlib.colors import to_rgb

    if many <= len(PALETTE):
        return [to_rgb(color) for color in PALETTE[:many]]
    return [to_rgb(color) for color in colormaps["viridis"](np.linspace(0, 1, many))]


def _luminance(color: Sequence[float]) -> float:
    red, green, blue = color
    return 0.299 * red + 0.587 * green + 0.114 * blue


def _caption(ax: Axes, left: float, columns: str, partial: int) -> None:
    text = f"{columns},\n{_count(partial, 'partial matrix', 'partial matrices')}"
    ax.annotate(text, (left, -1.1), (0, 4), textcoords="offset points", ha="left", va="bottom", annotation_clip=False)


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


def _ticks(ax: Axes, rows: int, columns: int, condensed: tuple[float, int]) -> None:
    """Write the numbers of rows, columns and condensed columns, from 0 as in the format."""
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0, labelsize="x-small", pad=1, top=False, labeltop=False, bottom=False, labelbottom=False)
    step = 1 if max(rows, columns) <= 32 else 8
    ax.set_yticks(np.arange(0, rows, step) + 0.5, [str(at) for at in range(0, rows, step)])
    for left, many in ((0.0, columns), condensed):
        for at in range(0, many, step):
            style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": "x-small", "color": "#3D454D"}
            ax.text(left + at + 0.5, -0.45, str(at), **style)
