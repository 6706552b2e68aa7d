"""What people and programs see on stdout: tables, JSON, CSV."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sparsim.breakdown import energy_rows
from sparsim.export import columns_of, plain_rows, write_csv
from sparsim.report import Report, si
from sparsim.verdict import summary_rows

if TYPE_CHECKING:
    from sparsim.compare import Comparison
    from sparsim.fidelity import Row, Validation
    from sparsim.network import Network
    from sparsim.search import SearchResult

__all__ = [
    "print_comparison",
    "print_csv",
    "print_inspection",
    "print_json",
    "print_lines",
    "print_machine",
    "print_machines",
    "print_pruned",
    "print_report",
    "print_search",
    "print_sweep",
    "print_table",
    "print_validation",
]


def print_json(data: Any) -> None:
    """Print JSON; a ratio that does not exist (NaN) becomes null."""
    if isinstance(data, list) and all(isinstance(row, Mapping) for row in data):
        data = [{key: _none_for_nan(cell) for key, cell in row.items()} for row in data]
    sys.stdout.write(json.dumps(data, indent=2, allow_nan=False) + "\n")


def _none_for_nan(cell: Any) -> Any:
    return None if isinstance(cell, float) and math.isnan(cell) else cell


def print_csv(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print one line per row; lists are written as JSON, nothing for what is not known."""
    flat = plain_rows(rows)
    write_csv(flat, columns_of(flat), sys.stdout)


def print_table(
    title: str | None, heads: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()
) -> None:
    """Print a table; columns numbered in ``right`` are set flush right."""
    table = Table(title=None if title is None else Text(title), title_justify="left", header_style="bold")
    for number, head in enumerate(heads):
        table.add_column(head, justify="right" if number in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console(highlight=False).print(table)


def print_lines(lines: Iterable[str]) -> None:
    """Print sentences, wrapped to the terminal."""
    console = Console(highlight=False)
    for line in lines:
        console.print(Text(line))


def print_report(report: Report) -> None:
    """Print what a person reads first of a report."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(justify="right", style="bold")
    table.add_column(overflow="fold")
    for key, value in report.summary():
        table.add_row(key, Text(value))
    Console(highlight=False).print(table, "")


def print_inspection(found: Mapping[str, Any]) -> None:
    """Print what :func:`~sparsim.inspect.inspect` found: layers, skipped arrays, notes."""
    rows = [
        [
            layer["layer"],
            "x".join(map(str, layer["shape"])),
            f"{layer['nnz']:,}",
            f"{layer['sparsity']:.1%}",
            ", ".join(f"{p['pattern']} {p['share']:.0%}" for p in layer["patterns"]),
            f"{layer['storage']['best']} {layer['storage']['best_bytes']:,}",
            f"{layer['storage']['index_share']:.1%}",
        ]
        for layer in found["layers"]
    ]
    heads = ["layer", "shape", "non-zeros", "zeros", "zeros obey", "smallest, bytes", "indices"]
    title = f"{found['name']}: {found['nnz']:,} of {found['weights']:,} weights are not zero"
    print_table(title, heads, rows, right=(2, 3, 6))
    if found["layers"]:
        _print_storage(found["storage"], len(found["layers"]))
    print_lines(f"skipped {name}: {reason}" for name, reason in found["skipped"].items())
    print_lines(f"note: {note}" for note in found["notes"])


def _print_storage(storage: Mapping[str, Any], layers: int) -> None:
    """Print the bytes of all weights by format."""
    rows = [
        [
            total["format"],
            f"{total['layers']:,}",
            f"{total['bytes']:,}",
            f"{total['index_share']:.1%}",
            f"{total['index_overhead']:.1%}",
            "" if total["times_smaller"] is None else f"{total['times_smaller']:.2f}x",
        ]
        for total in storage["totals"]
    ]
    width, index = storage["bytes_per_value"], storage["bytes_per_index"]
    indices = "the fewest bytes an index" if index == "auto" else f"{index} B an index"
    title = f"all weights by format, {width} B a value, {indices}"
    heads = ["format", "layers", "bytes", "indices", "indices / values", "dense / this"]
    print_table(title, heads, rows, right=(1, 2, 3, 4, 5))
    if any(total["layers"] < layers for total in storage["totals"]):
        print_lines([f"where fewer than {layers:,} layers take a format, the others are counted dense in its row"])
    print_lines([f"values that are not zero, without any index: {storage['floor_bytes']:,} bytes"])


def print_pruned(written: Path, pruned: Network, carried: Network, shifted: Sequence[str]) -> None:
    """Print what was written, what sparsity took along, and the layers whose outputs shift for it."""
    print_lines([f"{written}: {carried.nnz:,} of {carried.size:,} weights are not zero ({carried.sparsity:.1%} zeros)"])
    if carried.nnz < pruned.nnz:
        print_lines([f"{pruned.nnz - carried.nnz:,} more went because other layers no longer need or feed them"])
    if shifted:
        named = ", ".join(shifted[:3]) + " …" * (len(shifted) > 3)
        print_lines(
            [f"the outputs of {len(shifted)} layer(s) shift by constants no bias takes up ({named}): fine-tune"]
        )
    print_lines(f"note: {note}" for note in carried.notes)


def print_machine(about: Mapping[str, Any], area: Mapping[str, float] | None) -> None:
    """Print every constant of a machine with its source, what it models and its area [mm2] by part."""
    rows = [
        [
            key,
            f"{c['value']} {c['unit']}".removesuffix(" choice"),
            c["status"],
            f"{c['source']}. {c['note']}".strip(". "),
        ]
        for key, c in about["constants"].items()
    ]
    print_table(f"{about['name']}: {about['title']}", ["field", "value", "status", "source and note"], rows)
    print_lines([f"paper: {about['citation']}", f"models: {about['models']}", f"not modelled: {about['not_modelled']}"])
    print_lines([f"dense twin for speed-ups: {about['baseline']}"])
    if area:
        parts = ", ".join(f"{part} {value:.3g}" for part, value in area.items() if part != "total")
        print_lines([f"area: {area['total']:.4g} mm2{f' ({parts})' if parts else ''}"])


def print_machines(listed: Sequence[Mapping[str, Any]]) -> None:
    """Print one line a machine, its modes beside it, and what each mode is once."""
    modes: dict[str, list[str]] = {}
    notes: dict[tuple[str, str], None] = {}
    for each in listed:
        leaf, dash, mode = each["name"].partition("-")
        modes.setdefault(leaf, []).extend([dash + mode] if mode else [])
        if mode:
            notes[dash + mode, each["title"].partition("; ")[2]] = None
    rows = [
        [each["name"], each["title"], "" if each["baseline"] == each["name"] else each["baseline"]]
        for each in listed
        if "-" not in each["name"]
    ]
    print_table(
        "machines", ["machine", "what it is", "dense twin", "modes"], [[*r, ", ".join(modes[r[0]])] for r in rows]
    )
    print_table("modes, such as a100-2:4", ["mode", "what it changes"], [list(pair) for pair in notes])
    print_lines(
        ["'sparsim machines NAME' shows what a machine models, what it does not, and every constant with its source"]
    )


def print_comparison(comparison: Comparison) -> None:
    """Print the speed-ups, the verdict, where the energy goes, and what all that rests on."""
    variant = 3 if any(row["accuracy"] is not None for row in comparison.totals) else 2
    _print_groups(*summary_rows(comparison.totals), leading=variant)
    if any("reference" in row for row in comparison.totals):
        _print_groups(*summary_rows(comparison.totals, "reference_speedup"), leading=variant)
    print_lines(f"• {sentence}" for sentence in comparison.verdict)
    _print_groups(*energy_rows(comparison.totals), leading=2, words=2)
    if comparison.sensitivity is not None:
        _print_groups(*comparison.sensitivity.table(), leading=2, words=2)
        print_lines(f"• {sentence}" for sentence in comparison.sensitivity.sentences)
    print_lines([f"covers {comparison.coverage}"])
    print_lines(f"note: {note}" for note in comparison.notes)
    guesses = {name: len(values) for name, values in comparison.assumed.items() if values}
    if guesses:
        counts = ", ".join(f"{name} {count}" for name, count in guesses.items())
        print_lines([f"assumed constants: {counts} ('sparsim machines NAME' lists them with the reason)"])


def _print_groups(
    heads: Sequence[str], groups: Sequence[tuple[str, Sequence[Sequence[str]]]], leading: int, words: int = 1
) -> None:
    """Print a title and a table for each group, or several that repeat ``leading`` columns where one is too wide.

    The first ``words`` columns are words, the others numbers.
    """
    for title, rows in groups:
        print_lines([title])
        for columns in _fitting(heads, rows, leading, Console().width):
            cells = [[row[number] for number in columns] for row in rows]
            print_table(None, [heads[number] for number in columns], cells, right=range(words, len(columns)))


def _fitting(heads: Sequence[str], rows: Sequence[Sequence[str]], leading: int, width: int) -> Iterator[list[int]]:
    """Yield the columns of one table after the other, the first ``leading`` in each, none wider than ``width``."""
    wide = [3 + max(map(len, column)) for column in zip(heads, *rows, strict=True)]  # two blanks and a rule
    columns, room = list(range(leading)), width - 1 - sum(wide[:leading])
    free = room
    for number in range(leading, len(heads)):
        if len(columns) > leading and wide[number] > free:
            yield columns
            columns, free = list(range(leading)), room
        columns.append(number)
        free -= wide[number]
    yield columns


SWEPT = "machine.config."
MANY_TIMES = 1000
MEASURES = (
    ("time", "time_s", "s", 1.0),
    ("energy", "energy_pj.total", "J", 1e-12),
    ("DRAM", "dram_bytes.total", "B", 1.0),
)


def print_sweep(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print one line a point (and layer): what it is, what it costs, or why it failed."""
    fields = [key.removeprefix(SWEPT) for key in rows[0] if key.startswith(SWEPT)]
    names = {"network": "input", "layer": "layer", "batch": "batch", "machine.name": "machine"}
    shown = [key for key in names if key == "machine.name" or len({str(row.get(key)) for row in rows}) > 1]
    table = Table(header_style="bold", box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for head in (*(names[key] for key in shown), "pattern"):
        table.add_column(head, no_wrap=head == "machine", overflow="fold")
    for head in ("zeros", *(key.replace(".", ".\n") for key in fields), *(name for name, *_ in MEASURES), "speed-up"):
        table.add_column(head, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, _sweep_cells(row, shown, fields)))
    Console(highlight=False).print(table)
    told = dict.fromkeys(f"{row['machine.name']}, {row['network']}: {row['error']}" for row in rows if row["error"])
    print_lines(f"failed: {each}" for each in told)


def _sweep_cells(row: Mapping[str, Any], shown: Sequence[str], fields: Sequence[str]) -> list[str]:
    def known(key: str) -> bool:
        return not (row.get(key) is None or row[key] != row[key])

    zeros = next((f"{row[key]:.1%}" for key in ("propagated_sparsity", "sparsity") if known(key)), "")
    values = [_swept(row[key]) if known(key) else "" for key in fields]
    costs = [si(row[key] * factor, unit) if known(key) else "–" for _, key, unit, factor in MEASURES]
    speed = _factor(row["speedup"]) if known("speedup") else "–"
    return [*(str(row.get(key, "")) for key in shown), str(row["granularity"]), zeros, *values, *costs, speed]


def _factor(value: float) -> str:
    return f"{value:,.0f}x" if value >= MANY_TIMES else f"{value:.3g}x"


def _swept(value: Any) -> str:
    """Write the value of a field; whole numbers are floats in a column where other machines have none."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def print_search(found: SearchResult) -> None:
    """Print the choice of every layer, what it loses and costs (as shares of the dense network), and the verdict."""
    rows = [
        [
            row["layer"],
            row["granularity"],
            f"{row['actual_sparsity']:.1%}",
            f"{row['saliency_lost']:.3g}",
            *(f"{row[name]:.2%}" for name in found.costs),
        ]
        for row in found.rows
    ]
    heads = ["layer", "pattern", "zeros", "loses", *found.costs]
    print_table(f"{found.network.name}, shares of the dense network", heads, rows, right=range(2, len(heads)))
    print_lines(f"• {sentence}" for sentence in found.verdict)
    print_lines(f"note: {note}" for note in found.network.notes)


def print_validation(validation: Validation, every_row: bool = False) -> None:
    """Print one table a paper, what is off, and the summary; without ``every_row`` the ones a person reads."""
    rows = validation.rows if every_row else validation.main_rows
    for paper in dict.fromkeys(row.paper for row in rows):
        table = Table(title=Text(paper), title_justify="left", header_style="bold", box=SIMPLE_HEAD, pad_edge=False)
        table.add_column("figure", overflow="fold", ratio=1)
        for head in ("published", "model", "error"):
            table.add_column(head, justify="right", no_wrap=True)
        table.add_column("verdict", no_wrap=True)
        for row in rows:
            if row.paper == paper:
                table.add_row(*_validation_cells(row))
        Console(highlight=False).print(table)
    print_lines(f"off: {row.paper}, {row.quantity}, {row.workload}: {row.note}" for row in validation.off)
    print_lines([validation.summary])


def _validation_cells(row: Row) -> list[Text]:
    """Return what, published, modelled, error over what is allowed, verdict over certainty."""
    allowed = ""
    if row.tolerance is not None:
        allowed = f"±{row.tolerance:.1%}" if row.tolerance >= 1e-6 else "exact"
    elif row.role == "at_least":
        allowed = "≥ 0"
    elif row.role == "at_most":
        allowed = "≤ 0"
    figure = Text(f"{row.workload}: {row.quantity}" + (f" [{row.unit}]" if row.unit != "x" else ""))
    if row.note:
        figure.append(f"\n{row.note}", style="dim")
    error = "" if row.error is None else f"{row.error:+.1%}"
    numbers = ("" if value is None else _short(value) for value in (row.published, row.modelled))
    return [figure, *map(Text, numbers), Text(f"{error}\n{allowed}"), Text(f"{row.verdict}\n{row.certainty}")]


def _short(value: float) -> str:
    """Write a count in full and anything else with four digits."""
    return f"{value:,.0f}" if abs(value) >= 1000 or (value == int(value) and abs(value) >= 100) else f"{value:.4g}"
