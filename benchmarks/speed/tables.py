"""The tables and the sentences under them."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

__all__ = ["GOALS", "peer_rows", "print_cold_start", "print_peers", "print_rows", "print_summary", "summary"]

Row = Mapping[str, Any]
PEERS = Path(__file__).with_name("peers.csv")
WIDTH = 180
GOALS = {"ratio": 0.35, "worst": 1.0, "symbolic": 3.0, "layers_products_per_s": 1e8, "ns_per_nonzero_of_a": 10.0}
FEW = 10**6  # products below which the fixed cost of a call is all there is to see
MODES = {"Spada": "spada", "STONNE": "SpGEMM", "SAM": "matmul_kij", "TeAAL": "Gamma"}


def peer_rows() -> list[dict[str, Any]]:
    """Return the peers' measured rows; what was not measured is None."""
    with PEERS.open(newline="") as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    numbers = ("cpu_s", "multiplies_per_s", "times_slower_than_scipy")
    return [{key: (float(cell) if cell else None) if key in numbers else cell for key, cell in r.items()} for r in rows]


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """Return what the rows come to: the measures that have a goal, with their worst case.

    Rates and limits are judged on cases of at least 10^6 products, ratios and memory on all.
    """
    found: dict[str, Any] = {}
    real = [row for row in rows if row["group"] == "real"]
    if real:
        found |= {"ratio": statistics.geometric_mean(row["ratio"] for row in real), "real_matrices": len(real)}
        found |= _worst(real, "ratio", "worst", max)
    if real and all(row["ratio_2_threads"] for row in real):
        found["ratio_2_threads"] = statistics.geometric_mean(row["ratio_2_threads"] for row in real)
    if real and all(row.get("count_ratio") for row in real):
        found["count_ratio"] = statistics.geometric_mean(row["count_ratio"] for row in real)
    many = [row for row in rows if row["products"] >= FEW]
    layers = [row for row in many if row["group"] == "layers"]
    if layers:
        found["layers_mean_products_per_s"] = statistics.geometric_mean(row["products_per_s"] for row in layers)
    found |= _worst(layers, "products_per_s", "layers_products_per_s", min)
    for name in ("symbolic_ratio", "ns_per_nonzero_of_a"):
        found |= _worst([row for row in many if row[name]], name, name.removesuffix("_ratio"), max)
    known = [row for row in rows if row.get("memory_bytes") is not None]
    if known:
        found |= {"memory_failed": [row["case"] for row in known if not row["memory_ok"]], "memory_cases": len(known)}
    return found


def _worst(rows: Sequence[Row], field: str, name: str, pick: Any) -> dict[str, Any]:
    if not rows:
        return {}
    row = pick(rows, key=lambda one: one[field])
    return {name: row[field], f"{name}_case": row["case"]}


def print_rows(rows: Sequence[Row]) -> None:
    """Print one line a case, group after group; times are medians."""
    heads = (
        "products",
        "scipy",
        "sparsim",
        "ratio",
        "2 threads",
        "count",
        "M products/s",
        "ns/nnz A",
        "symbolic",
        "÷ limit",
    )
    table = _table(
        "Simulating on SpArch beside computing with scipy", ["case", *heads, "memory MB", "allowed MB", "fits"]
    )
    for before, row in zip([None, *rows], rows, strict=False):
        if before is not None and before["group"] != row["group"]:
            table.add_section()
        stands = {True: "yes", False: "NO", None: "-"}[row.get("memory_ok")]
        table.add_row(*map(Text, (row["case"], *_cells(row), stands)))
    _print(table)


def _cells(row: Row) -> Iterator[str]:
    yield f"{row['products']:,}"
    yield _seconds(row["scipy_s"])
    yield _seconds(row["sparsim_s"])
    yield f"{row['ratio']:.2f}"
    yield _number(row["ratio_2_threads"], ".2f")
    yield _number(row.get("count_ratio"), ".2f")
    yield f"{row['products_per_s'] / 1e6:.1f}"
    yield _number(row["ns_per_nonzero_of_a"], ".1f")
    yield _seconds(row["symbolic_s"])
    yield _number(row["symbolic_ratio"], ".1f")
    for name in ("memory_bytes", "memory_allowed_bytes"):
        yield _number(row.get(name), ".0f", 1e-6)


def print_peers(rows: Sequence[Row]) -> None:
    """Print how many times slower than scipy the peers are on their workloads, beside sparsim here and now."""
    peers = peer_rows()
    table = _table("Times slower than scipy's A @ B", ["workload", "products", "scipy", "sparsim", "sparsim", *MODES])
    for row in rows:
        if row["group"] != "peers":
            continue
        cells = []
        for peer, mode in MODES.items():
            mine = [r for r in peers if (r["peer"], r["mode"], r["workload"]) == (peer, mode, row["case"])]
            known = mine and mine[0]["times_slower_than_scipy"]
            marks = known and ("*" * (mine[0]["same_draw"] == "no") + "+" * (mine[0]["status"] == "extrapolated"))
            cells.append(f"{known:,.0f} x{marks}" if known else "-")
        times = (_seconds(row["scipy_s"]), _seconds(row["sparsim_s"]), f"{row['ratio']:.2f} x")
        table.add_row(row["case"], f"{row['products']:,}", *times, *cells)
    _print(table)
    _say("Peers: measured once on another day, see peers.csv; * own operands of these sizes, + extrapolated.")


def print_cold_start(seconds: Mapping[str, float]) -> None:
    """Print the seconds of each start."""
    table = _table("Cold start, whole processes", ["start", "time"])
    for what, time in seconds.items():
        table.add_row(what, _seconds(time))
    _print(table)


def print_summary(found: Mapping[str, Any], scale: Mapping[str, Mapping[str, float]], stream: float) -> None:
    """Say how each measure stands against its goal."""
    if "ratio" in found:
        two = f", {found['ratio_2_threads']:.2f} with two threads" if "ratio_2_threads" in found else ""
        _say(f"Geometric mean over {found['real_matrices']} real matrices: {found['ratio']:.2f}{two}; ", "ratio", found)
        if "count_ratio" in found:
            _say(f"Counting C's elements alone, a stamp a product: {found['count_ratio']:.2f} of scipy's time.")
        _say(f"Worst real matrix: {found['worst']:.2f}, {found['worst_case']}; ", "worst", found)
    if "layers_products_per_s" in found:
        rate, case = found["layers_products_per_s"] / 1e6, found["layers_products_per_s_case"]
        mean = found["layers_mean_products_per_s"] / 1e6
        told = f"Layers: {mean:.0f} M products/s in the geometric mean, {rate:.0f} M at least, {case}; "
        _say(told, "layers_products_per_s", found)
    if "ns_per_nonzero_of_a" in found:
        worst, case = found["ns_per_nonzero_of_a"], found["ns_per_nonzero_of_a_case"]
        _say(f"Dense B: {worst:.1f} ns a non-zero of A at most, {case}; ", "ns_per_nonzero_of_a", found)
    if "symbolic" in found:
        limit = f"limit is 4 bytes a product at {stream / 1e9:.1f} GB/s, {4e9 / stream:.2f} ns"
        worst = f"Symbolic part: {found['symbolic']:.1f} x its limit at most, {found['symbolic_case']} ({limit}); "
        _say(worst, "symbolic", found)
    if "memory_failed" in found:
        over = ", ".join(found["memory_failed"]) or "none"
        _say(f"Memory above 2 x operands + 64 MB: {over}, of {found['memory_cases']} cases.")
    for family, slope in scale.items():
        told = ", ".join(f"{name.partition('_')[0]} {value:.2f}" for name, value in slope.items())
        _say(f"Slope against products, {family}: {told}.")


def _say(text: str, goal: str = "", found: Mapping[str, Any] | None = None) -> None:
    if found is not None:
        least = goal == "layers_products_per_s"
        met = (found[goal] >= GOALS[goal]) if least else (found[goal] <= GOALS[goal])
        bound = f"{GOALS[goal] / 1e6:g} M" if least else f"{GOALS[goal]:g}"
        text += f"goal {'at least' if least else 'at most'} {bound}, {'met' if met else 'NOT met'}."
    _console().print(Text(text))


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1e3 * seconds:.3g} ms"


def _number(value: float | None, shape: str, scale: float = 1.0) -> str:
    return "-" if value is None else f"{value * scale:{shape}}"


def _table(title: str, heads: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", header_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column(heads[0], overflow="ellipsis", no_wrap=True, max_width=40)
    for head in heads[1:]:
        table.add_column(head, justify="right", min_width=max(len(head), 8), no_wrap=True)
    return table


def _console() -> Console:
    return Console(highlight=False, width=max(WIDTH, Console().width))


def _print(table: Table) -> None:
    _console().print(table)
