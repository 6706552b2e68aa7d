"""What people and programs see on stdout: tables, JSON, CSV."""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sparsim.compare import Comparison
from sparsim.report import Report
from sparsim.verdict import summary_rows

__all__ = ["print_comparison", "print_csv", "print_json", "print_lines", "print_report", "print_table"]


def print_json(data: Any) -> None:
    """Print JSON; a ratio that does not exist (NaN) becomes null."""
    if isinstance(data, list) and all(isinstance(row, Mapping) for row in data):
        data = [{key: _none_for_nan(cell) for key, cell in row.items()} for row in data]
    sys.stdout.write(json.dumps(data, indent=2, allow_nan=False) + "\n")


def _none_for_nan(cell: Any) -> Any:
    return None if isinstance(cell, float) and math.isnan(cell) else cell


def print_csv(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print one line per row; lists are written as JSON."""
    writer = csv.DictWriter(sys.stdout, list(dict.fromkeys(key for row in rows for key in row)))
    writer.writeheader()
    for row in rows:
        cells = {key: json.dumps(cell) if isinstance(cell, list | tuple) else cell for key, cell in row.items()}
        writer.writerow(cells)


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


def print_comparison(comparison: Comparison) -> None:
    """Print the tables, the verdict, and what it rests on."""
    heads, groups = summary_rows(comparison.totals)
    for title, rows in groups:
        print_lines([title])
        print_table(None, heads, rows, right=range(1, len(heads)))
    print_lines(f"• {sentence}" for sentence in comparison.verdict)
    print_lines([f"covers {comparison.coverage}"])
    print_lines(f"note: {note}" for note in comparison.notes)
    guesses = {name: len(values) for name, values in comparison.assumed.items() if values}
    if guesses:
        counts = ", ".join(f"{name} {count}" for name, count in guesses.items())
        print_lines([f"assumed constants: {counts} ('sparsim machines NAME' lists them with the reason)"])
