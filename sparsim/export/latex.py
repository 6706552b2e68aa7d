"""LaTeX tables with the rules of the package booktabs: the few columns people read, rounded, with units."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sparsim.export.flatten import Row, columns_of
from sparsim.report import COMPONENTS, FIELDS
from sparsim.resources import FIELDS as RESOURCES
from sparsim.verdict import is_total

__all__ = ["latex_table", "write_latex"]

SWEPT = "machine.config."
MISSING = "--"
ESCAPES = str.maketrans(
    {
        **{char: f"\\{char}" for char in "&%$#_{}"},
        **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
        **{"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': "''", "\n": " "},
        **{"×": r"$\times$", "·": r"$\cdot$", "→": r"$\to$", "−": "$-$", "µ": r"$\mu$", "…": r"\ldots{}"},
    }
)
PREFIXES = ("p", "n", "µ", "m", "", "k", "M", "G", "T")
RATIOS = ("speedup", "reference_speedup", "chosen_speedup", "energy_ratio", "traffic_ratio", "propagation_gain")
AXES = {"network": "network", "batch": "batch", "workload.dtype": "data type", "layer": "layer"}
MEASURES = (
    ("time", "time_s", "s", 1.0),
    ("energy", "energy_pj.total", "J", 1e-12),
    ("DRAM", "dram_bytes.total", "B", 1.0),
)


class Column(NamedTuple):
    """A column of text: a heading, perhaps one above it that neighbours share, and a cell for every row."""

    head: str
    cells: Sequence[str]
    right: bool = False
    over: str = ""


def write_latex(rows: Sequence[Row], columns: Sequence[str] | None, path: Path) -> None:
    """Write :func:`latex_table` into a file."""
    path.write_text(latex_table(rows, columns), "utf-8")


def latex_table(rows: Sequence[Row], columns: Sequence[str] | None = None) -> str:
    r"""Return a ``tabular`` that needs ``\usepackage{booktabs}``.

    Parameters
    ----------
    rows : plain rows.
    columns : keys to show, in order, with their units; by default the few that people read of a comparison (whole
        networks only), a sweep or reports, and all of anything else.
    """
    if columns is not None:
        return _tabular([_column(key, rows) for key in columns])
    known = [{key: cell for key, cell in row.items() if cell is not None} for row in rows]
    totals = [row for row in known if is_total(row) and row.keys() >= {"granularity", "machine.name"}]
    if any("error" in row for row in known):
        return _tabular(_sweep(known))
    if totals:
        return _tabular(_comparison(totals))
    if all("time_s" in row for row in known):
        return _tabular(_reports(known))
    return _tabular([_column(key, rows) for key in columns_of(rows)])


def _comparison(totals: Sequence[Row]) -> list[Column]:
    """Return one line a variant: what it is, then speed-up and energy ratio on each machine."""
    keys = ("network", "batch", "granularity", "sparsity", "actual_sparsity")
    groups: dict[tuple[Any, ...], dict[str, Row]] = {}
    places = list(dict.fromkeys((row.get("network"), row.get("batch")) for row in totals))
    for row in sorted(totals, key=lambda row: places.index((row.get("network"), row.get("batch")))):
        groups.setdefault(tuple(row.get(key) for key in keys), {})[str(row["machine.name"])] = row
    lines = list(groups.values())
    first = [next(iter(line.values())) for line in lines]
    columns = [*_varying(first), _words("pattern", [row["granularity"] for row in first]), _zeros(first)]
    if any("accuracy" in row for row in first):
        columns.append(_numbers("accuracy [%]", first, "accuracy", lambda value: f"{100 * value:.2f}"))
    for name in dict.fromkeys(str(row["machine.name"]) for row in totals):
        mine = [line.get(name, {}) for line in lines]
        columns.append(_numbers("speed-up [×]", mine, "speedup", _digits, name))
        columns.append(_numbers("energy [×]", mine, "energy_ratio", _digits, name))
    return columns


def _sweep(rows: Sequence[Row]) -> list[Column]:
    """Return one line a point: what varies, then what it costs."""
    fields = [key for key in columns_of(rows) if key.startswith(SWEPT)]
    columns = [*_varying(rows), _words("machine", [row.get("machine.name") for row in rows])]
    if len({(row.get("granularity"), row.get("actual_sparsity")) for row in rows}) > 1:
        columns += [_words("pattern", [row.get("granularity") for row in rows]), _zeros(rows)]
    for key in fields:
        named = _column(key, rows)
        columns.append(named._replace(head=_escape(key.removeprefix(SWEPT))))
    return [*columns, *_measures(rows), _numbers("speed-up [×]", rows, "speedup", _digits)]


def _reports(rows: Sequence[Row]) -> list[Column]:
    """Return one line a report: which product on which machine, what it costs, what bounds it."""
    names = [" ".join(filter(None, (row.get("workload.name"), row.get("workload.layer")))) for row in rows]
    columns = [_words("workload", names), _words("machine", [row.get("machine.name") for row in rows])]
    rate = _numbers("throughput [GFLOP/s]", rows, "gflops", _digits)
    return [*columns, *_measures(rows), rate, _words("bound by", [row.get("bounds.limited_by") for row in rows])]


def _varying(rows: Sequence[Row]) -> list[Column]:
    return [
        _column(key, rows)._replace(head=name) for key, name in AXES.items() if len({row.get(key) for row in rows}) > 1
    ]


def _measures(rows: Sequence[Row]) -> list[Column]:
    return [
        _scaled(name, [row[key] * factor if key in row else None for row in rows], unit)
        for name, key, unit, factor in MEASURES
    ]


def _scaled(name: str, values: Sequence[float | None], unit: str) -> Column:
    """Return a column of physical figures, all in the prefix that suits the largest."""
    most = max((value for value in values if value is not None), default=0.0)
    step = min(max(math.floor(math.log10(most) / 3), -4), 4) if most > 0 else 0
    cells = [MISSING if value is None else _digits(value / 1000.0**step) for value in values]
    return Column(_escape(f"{name} [{PREFIXES[step + 4]}{unit}]"), cells, True)


def _zeros(rows: Sequence[Row]) -> Column:
    """Return the shares of zeros, and what they became where pruning made weights of other layers useless."""
    cells = []
    for row in rows:
        shares = [f"{100 * row[key]:.1f}" for key in ("actual_sparsity", "propagated_sparsity") if key in row]
        cells.append(_escape(" → ".join(dict.fromkeys(shares))) or MISSING)
    return Column(_escape("zeros [%]"), cells, True)


def _words(head: str, cells: Sequence[Any]) -> Column:
    return Column(_escape(head), [MISSING if cell is None else _escape(str(cell)) for cell in cells])


def _numbers(head: str, rows: Sequence[Row], key: str, form: Callable[[float], str], over: str = "") -> Column:
    cells = [form(row[key]) if row.get(key) is not None else MISSING for row in rows]
    return Column(_escape(head), cells, True, _escape(over))


def _column(key: str, rows: Sequence[Row]) -> Column:
    """Return a column as it stands in the rows, under its key and unit."""
    cells = [row.get(key) for row in rows]
    unit = _unit(key)
    texts = [MISSING if cell is None else _printed(cell) for cell in cells]
    numbers = all(isinstance(cell, int | float) for cell in cells if cell is not None)
    return Column(_escape(f"{key} [{unit}]" if unit else key), texts, numbers)


def _unit(key: str) -> str:
    known = next((about for prefix, about in COMPONENTS.items() if key.startswith(prefix)), ("", ""))
    return {**FIELDS, **RESOURCES}.get(key, ("×", "") if key in RATIOS else known)[0]


def _printed(cell: Any) -> str:
    if isinstance(cell, bool) or not isinstance(cell, int | float):
        return _escape(str(cell))
    return f"{cell:,}" if isinstance(cell, int) else _digits(cell, 4)


def _digits(value: float, digits: int = 3) -> str:
    """Return a figure in so many digits, with a power of ten where it is very small or large."""
    if value == 0 or 1e-3 <= abs(value) < 1e4:
        return f"{value:#.{digits}g}".rstrip(".") if value else "0"
    mantissa, _, power = f"{value:.{digits - 1}e}".partition("e")
    return f"${mantissa} \\times 10^{{{int(power)}}}$"


def _escape(text: str) -> str:
    return text.translate(ESCAPES)


def _tabular(columns: Sequence[Column]) -> str:
    layout = "".join("r" if column.right else "l" for column in columns)
    lines = [r"% needs \usepackage{booktabs}", f"\\begin{{tabular}}{{{layout}}}", r"\toprule", *_over(columns)]
    lines += [" & ".join(column.head for column in columns) + r" \\", r"\midrule"]
    lines += [" & ".join(cells) + r" \\" for cells in zip(*(column.cells for column in columns), strict=True)]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _over(columns: Sequence[Column]) -> list[str]:
    """Return the line of headings that neighbours share, with a rule under each."""
    if not any(column.over for column in columns):
        return []
    heads, rules = [], []
    at = 0
    while at < len(columns):
        over = columns[at].over
        last = at
        while over and last + 1 < len(columns) and columns[last + 1].over == over:
            last += 1
        heads.append(f"\\multicolumn{{{last - at + 1}}}{{c}}{{{over}}}" if over else "")
        rules += [f"\\cmidrule(lr){{{at + 1}-{last + 1}}}"] if over else []
        at = last + 1
    return [" & ".join(heads) + r" \\", " ".join(rules)]
