"""The merge tree of a schedule drawn: which partial matrices each round takes, and what goes to DRAM and back.

Leaves are condensed columns of A, multiplied in the round that takes them. A round's result is written and read back,
all but the last, which is C (Zhang et al., SpArch, HPCA 2020, section II-C).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from sparsim.arguments import whole
from sparsim.errors import ConfigError
from sparsim.machines import Machine, machine
from sparsim.machines.base import flatten
from sparsim.machines.schedule import MergeSchedule, Order
from sparsim.matrix import Csr, IntArray
from sparsim.plot.draw import PALETTE, engineering
from sparsim.simulate import product
from sparsim.workload import Workload

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["MergePlan", "merge_plan", "plot_merge_tree"]

MOST_LEAVES = 64
MOST_PRODUCTS = 10_000_000
LEAF, PARTIAL, RESULT = PALETTE[0], PALETTE[4], PALETTE[2]
EDGES = (("#9AA4AE", 0.9, "multiplied in this round"), (PARTIAL, 2.0, "written to DRAM, read back"))
NARROW, TWO_LINES, ONE_LINE = 0.42, 0.34, 0.13  # inches of labels
LABELS = 0.5  # inches below the leaves
EXACT_BELOW = 10_000


@dataclass(frozen=True)
class MergePlan:
    """The rounds of a merge, run to the end.

    Parameters
    ----------
    order : "huffman", "sequential", "random" or "accumulate".
    ways : inputs of a full round.
    leaves : elements of each partial matrix before merging.
    rounds : inputs of each round: leaf j as j, the result of round r as len(leaves) + r.
    elements : what each round produces, the last one C.
    """

    order: str
    ways: int
    leaves: tuple[int, ...]
    rounds: tuple[tuple[int, ...], ...]
    elements: tuple[int, ...]

    @property
    def written(self) -> int:
        """Elements of partial results written to DRAM, and read back once: of all rounds but the last."""
        return sum(self.elements[:-1])

    @property
    def first_round(self) -> str:
        """How many inputs the first round takes, as the formula that makes all later rounds full."""
        many = len(self.leaves)
        if many <= self.ways:
            return f"{many} {'leaf fits' if many == 1 else 'leaves fit'} into one round"
        return f"first round: ({many} − 2) mod {self.ways - 1} + 2 = {len(self.rounds[0])} inputs"


def merge_plan(
    source: Any,
    *,
    columns: int | None = None,
    ways: int | str | Machine = "sparch",
    order: Order = "huffman",
    weights: Literal["actual", "estimate"] = "estimate",
    seed: int = 0,
) -> MergePlan:
    """Run a merge schedule; parameters and errors as in :func:`plot_merge_tree`."""
    width = _ways(ways)
    if order not in get_args(Order):
        raise ConfigError(f"'{order}'", key="order", allowed=", ".join(get_args(Order)))
    if weights not in ("actual", "estimate"):
        raise ConfigError(f"'{weights}'", key="weights", allowed="actual, estimate")
    listed = _listed(source)
    merge: _Sums | _Unions
    if listed is None:
        merge = _Unions(_work(source, columns))
    elif columns is not None:
        raise ConfigError("goes with a matrix, not with a list of leaves", key="columns")
    else:
        merge = _Sums(listed)
    leaves = merge.leaves
    schedule = MergeSchedule(leaves if weights == "actual" else merge.estimates, width, order, seed)
    rounds: list[tuple[int, ...]] = []
    elements: list[int] = []
    last = False
    while not last:
        inputs = schedule.next_round()
        rounds.append(tuple(inputs))
        elements.append(merge.size(schedule.leaves_under(schedule.leaves + schedule.rounds - 1)))
        last = schedule.finish_round(elements[-1])
    return MergePlan(order, width, tuple(leaves.tolist()), tuple(rounds), tuple(elements))


def plot_merge_tree(
    source: Any,
    *,
    columns: int | None = None,
    ways: int | str | Machine = "sparch",
    order: Order = "huffman",
    weights: Literal["actual", "estimate"] = "estimate",
    seed: int = 0,
    ax: Axes | None = None,
) -> Axes:
    """Draw the merge tree of a product: leaves below, above them one node for each round.

    A node says what its round produces, where there is room for text.

    Parameters
    ----------
    source : A, as :func:`~sparsim.simulate.product` takes it, or a workload of A and B, with at most 64 condensed
        columns: a leaf has as many elements as products, a merge produces the exact union. Or a list of what leaves
        have: a merge then produces the sum, as if no two partial matrices met in an element.
    columns : width of a dense B; None means A·A.
    ways : inputs of a full round; or a machine of the SpArch family or its name, whose tree is taken.
    order : "huffman", "sequential", "random" or "accumulate", as in the field ``schedule.order`` of SpArch.
    weights : what Huffman's order knows of a leaf: its products, or their estimate non-zeros x average row of B, which
        is all there is before multiplying and SpArch's setting here; see ``schedule.weights``.
    seed : of the random order.
    ax : where to draw; None makes a figure.

    Raises
    ------
    ConfigError
        If there are more leaves, the ways are fewer than 2, a weight is no whole number from 0, or the machine has no
        merge tree.
    WorkloadError
        If A is no matrix, or is not square and ``columns`` is missing.
    """
    plan = merge_plan(source, columns=columns, ways=ways, order=order, weights=weights, seed=seed)
    places = _layout(plan)
    top = max(y for _, y in places)
    ax = ax or _axes(top)
    many, rounds = len(plan.leaves), len(plan.rounds)
    traffic = f"{plan.written:,} elements written and read back" if rounds > 1 else "nothing written and read back"
    head = f"{plan.order} order, {plan.ways} ways, {rounds} round{'s' if rounds > 1 else ''}"
    ax.set_title(f"{head}\n{plan.first_round}\n{traffic}", loc="left", fontsize="medium")
    inches = ax.get_position().height * ax.figure.canvas.figure.get_figheight()
    below = (top + 0.35) * LABELS / max(inches - LABELS, LABELS)
    ax.set(xlim=(-0.7, max(many, 1) - 0.3), ylim=(-below, top + 0.35), xticks=[])
    _edges(ax, plan, places)
    _nodes(ax, plan, places)
    name = "condensed\ncolumn" if _listed(source) is None else "leaf"
    ax.set_yticks([0] if many else [], [f"{name}:\nelements"] if many else [], fontsize="x-small")
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return ax


def _ways(ways: int | str | Machine) -> int:
    if isinstance(ways, str | Machine):
        built = machine(ways)
        if "merge.layers" not in built.fields():
            raise ConfigError(f"'{built.name}' has no merge tree", key="ways", allowed="a number, sparch")
        return 1 << int(flatten(built.config.model_dump())["merge.layers"])
    return whole(ways, "ways", 2)


def _listed(source: Any) -> IntArray | None:
    """Return a list of weights as such, or None for what has to be a matrix."""
    if not isinstance(source, Sequence | np.ndarray) or isinstance(source, str):
        return None
    if isinstance(source, np.ndarray) and source.ndim != 1:
        return None
    for weight in source:
        if not isinstance(weight, int | np.integer) or isinstance(weight, bool) or weight < 0:
            raise ConfigError(f"{weight!r} is no number of elements", key="source", allowed="whole numbers from 0")
    return np.array(source, dtype=np.int64)


def _work(source: Any, columns: int | None) -> Workload:
    if not isinstance(source, Workload):
        return product(source, columns=columns)
    if source.groups > 1:
        raise ConfigError(f"{source.groups} products", key="source", allowed="one product, so one merge tree")
    if columns is not None:
        raise ConfigError("goes with a matrix, not with a workload, which has its B", key="columns")
    return source


def _readable(leaves: int) -> None:
    if leaves > MOST_LEAVES:
        raise ConfigError(f"{leaves} leaves", key="source", allowed=f"{MOST_LEAVES} leaves, for a tree to be read")


class _Sums:
    """Partial matrices known by their sizes: no two meet in an element."""

    def __init__(self, weights: IntArray) -> None:
        _readable(weights.size)
        self.leaves = self.estimates = weights

    def size(self, leaves: IntArray) -> int:
        """Return the elements these leaves merge to."""
        return int(self.leaves[leaves].sum())


class _Unions:
    """Partial matrices of a product, as sets of positions of C; for a dense B of its rows, which are full."""

    def __init__(self, work: Workload) -> None:
        columns = int(work.a.row_lengths.max(initial=0))
        _readable(columns)
        if work.multiplies > MOST_PRODUCTS:
            raise ConfigError(f"{work.multiplies:,} products", key="source", allowed=f"at most {MOST_PRODUCTS:,}")
        a, b = work.a.csr, None if work.b.is_dense else work.b.csr
        self.each = work.n if b is None else 1
        row = np.repeat(np.arange(a.shape[0], dtype=np.int64), a.row_lengths)
        place = np.arange(a.nnz) - a.indptr[row]
        self.keys = [
            row[place == j] if b is None else _positions(row[place == j], a.indices[place == j], b)
            for j in range(columns)
        ]
        self.leaves = np.array([keys.size * self.each for keys in self.keys], dtype=np.int64)
        self.estimates = np.bincount(place, minlength=columns) * work.b.nnz // max(work.b.rows, 1)

    def size(self, leaves: IntArray) -> int:
        """Return the elements these leaves merge to."""
        union = reduce(np.union1d, (self.keys[leaf] for leaf in leaves), np.zeros(0, dtype=np.int64))
        return int(union.size) * self.each


def _positions(row: IntArray, k: IntArray, b: Csr) -> IntArray:
    """Return the positions in C, row-major, of the products of elements (row, k) of A with their rows of B."""
    lengths = b.row_lengths[k]
    ends = np.cumsum(lengths)
    at = np.arange(int(lengths.sum())) + np.repeat(b.indptr[k] - ends + lengths, lengths)
    positions: IntArray = np.repeat(row, lengths) * b.shape[1] + b.indices[at]
    return positions


def _axes(levels: float) -> Axes:
    from matplotlib import pyplot

    return pyplot.subplots(figsize=(9, min(max(4.0, 1.6 + 0.4 * levels), 12)), layout="constrained")[1]


def _layout(plan: MergePlan) -> list[tuple[float, float]]:
    """Return x and y of leaves and rounds: leaves side by side as the tree takes them, a round above its inputs."""
    many = len(plan.leaves)
    places = [(0.0, 0.0)] * (many + len(plan.rounds))
    taken = 0
    waiting = [many + len(plan.rounds) - 1]
    while waiting:
        node = waiting.pop()
        if node < many:
            places[node] = (float(taken), 0.0)
            taken += 1
        else:
            waiting.extend(reversed(plan.rounds[node - many]))
    for number, inputs in enumerate(plan.rounds):
        x = [places[node][0] for node in inputs] or [0.0]
        y = max((places[node][1] for node in inputs), default=0.0) + 1
        places[many + number] = ((min(x) + max(x)) / 2, y)
    return places


def _edges(ax: Axes, plan: MergePlan, places: Sequence[tuple[float, float]]) -> None:
    """Join every round to its inputs, thick where they come back from DRAM; right angles keep clear of other nodes."""
    many = len(plan.leaves)
    for kind, (color, width, text) in enumerate(EDGES):
        inputs = [
            (places[node], places[many + number])
            for number, taken in enumerate(plan.rounds)
            for node in taken
            if (node >= many) == bool(kind)
        ]
        lines = [[start, (start[0], end[1]), end] for start, end in inputs]
        for line in lines:
            ax.plot(*zip(*line, strict=True), color=color, linewidth=width, zorder=1 + kind, solid_joinstyle="miter")
        if lines:
            ax.plot([], [], color=color, linewidth=width, label=text)
    style: dict[str, Any] = {"frameon": False, "fontsize": "x-small", "handlelength": 1.2}
    if many:
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, 0), ncols=2, borderaxespad=0.2, **style)


def _nodes(ax: Axes, plan: MergePlan, places: Sequence[tuple[float, float]]) -> None:
    many = len(plan.leaves)
    inches = ax.get_position().width * ax.figure.canvas.figure.get_figwidth() / max(many, 1)
    if many:
        x, y = zip(*places[:many], strict=True)
        ax.scatter(x, y, s=26, marker="s", color=LEAF, zorder=3)
    for leaf, weight in enumerate(plan.leaves):
        narrow = inches < NARROW
        text = f"{leaf}: {_short(weight)}" if narrow else f"{leaf}:\n{_short(weight)}"
        style: dict[str, Any] = {"ha": "center", "va": "top", "fontsize": "x-small" if many <= 40 else 5.5}
        style["rotation"] = 90 if narrow else 0
        ax.annotate(text, places[leaf], (0, -5), textcoords="offset points", **style)
    for number, elements in enumerate(plan.elements):
        across = [places[node][0] for node in plan.rounds[number]] or [0.0]
        color = RESULT if number == len(plan.rounds) - 1 else PARTIAL
        name = "C" if color == RESULT else f"round {number + 1}"
        _node(ax, places[many + number], (name, _short(elements)), color, inches * (max(across) - min(across) + 1))


def _node(ax: Axes, at: tuple[float, float], texts: tuple[str, str], color: str, inches: float) -> None:
    """Write a round's name and size where there is room for both, else the size, else a dot."""
    low, high = ax.get_ylim()
    level = ax.get_position().height * ax.figure.canvas.figure.get_figheight() / (high - low)
    both = level > TWO_LINES and inches > NARROW
    if not both and level < ONE_LINE:
        ax.plot(*at, "o", color=color, markersize=3, zorder=4)
        return
    box = {"boxstyle": f"round,pad={0.25 if both else 0.12}", "facecolor": "white", "edgecolor": color}
    style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": "x-small" if both else 5.5, "zorder": 4}
    ax.text(*at, "\n".join(texts) if both else texts[1], bbox=box, **style)


def _short(elements: int) -> str:
    """Write a small count as it is and a large one in three digits."""
    if elements < EXACT_BELOW:
        return str(elements)
    divisor, prefix = engineering(elements)
    return f"{elements / divisor:.3g}{prefix}"
