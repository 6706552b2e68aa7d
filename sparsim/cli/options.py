"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from sparsim.cli.arguments import refuse_to_overwrite
from sparsim.errors import ConfigError

__all__ = [
    "Allocation",
    "Columns",
    "Criterion",
    "Csv",
    "Density",
    "Dtype",
    "Energy",
    "Granularity",
    "IndexBytes",
    "Input",
    "Json",
    "Nnz",
    "Orientation",
    "Out",
    "Propagate",
    "Propagation",
    "Saliency",
    "Sample",
    "Set",
    "Sparsity",
    "Weights",
    "checked_tables",
    "one_output",
    "save_tables",
]


class Orientation(StrEnum):
    """How a layer is laid on a machine that can choose."""

    AUTO = "auto"
    WX = "wx"
    XTWT = "xtwt"


class Propagate(StrEnum):
    """How far sparsity is carried along the network."""

    AUTO = "auto"
    CHAIN = "chain"
    OFF = "off"


class IndexBytes(StrEnum):
    """Bytes of an index in a storage format."""

    ONE = "1"
    TWO = "2"
    FOUR = "4"
    EIGHT = "8"
    AUTO = "auto"


Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Csv = Annotated[bool, typer.Option("--csv", help="Print one CSV row per result.")]
Out = Annotated[
    list[Path] | None,
    typer.Option("--out", metavar="FILE", help="Also write the rows: .csv, .parquet, .jsonl, .json, .tex; repeat."),
]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Change a machine field; repeat.")]
Dtype = Annotated[str | None, typer.Option(help="fp64, fp32, tf32, fp16, bf16, int8 or fp8.")]
Energy = Annotated[str, typer.Option(help="Energy table, NAME@NM to scale it; with compare 'all': every one.")]
Input = Annotated[
    list[str] | None,
    typer.Option("--input", metavar="CxHxW", help="Input size of the network, or LAYER=CxHxW of one; repeat."),
]
Granularity = Annotated[
    str | None, typer.Option(help="Patterns: unstructured, 2:4, vector:4, block:4x4, kernel, out_channel, head:64 …")
]
Sparsity = Annotated[str | None, typer.Option(help="Shares of zeros: 0.5,0.9 …")]
Density = Annotated[str | None, typer.Option(help="Shares of non-zeros instead.")]
Nnz = Annotated[str | None, typer.Option(help="Numbers of non-zeros in all pruned layers instead.")]
Allocation = Annotated[
    str, typer.Option(help="Who may keep how much: uniform, global, erdos_renyi_kernel, or LAYER=SPARSITY,…")
]
Criterion = Annotated[str, typer.Option(help="What a weight is worth: magnitude, random, obd, wanda, gradient.")]
Saliency = Annotated[
    Path | None, typer.Option(help="Arrays by layer (.npz, .safetensors) that obd, wanda and gradient need.")
]
Sample = Annotated[
    float | None, typer.Option(help="Merge and time this share of a large product, 0.05 say, and estimate the rest.")
]
Propagation = Annotated[
    Propagate, typer.Option(help="Also take the weights that pruning made useless in other layers.")
]
Weights = Annotated[
    str | None,
    typer.Option(help="Of a network of the zoo: random, published[:NAME], published-skewed, uniform:D, shape."),
]
Columns = Annotated[int | None, typer.Option(help="Columns of B where nothing else says how many.")]


def one_output(as_json: bool, as_csv: bool) -> None:
    """Refuse two output formats at once."""
    if as_json and as_csv:
        raise ConfigError("goes without --csv", key="--json")


def checked_tables(out: Sequence[Path] | None, sources: Sequence[Path | None] = ()) -> list[Path]:
    """Return the files of ``--out``, checked before a run that may be long; none is one of the ``sources``."""
    if not out:
        return []
    from sparsim.export import check_table_path

    for path in out:
        for source in sources:
            if source is not None:
                refuse_to_overwrite(source, path)
    return [check_table_path(path, key="--out") for path in out]


def save_tables(result: Any, tables: Sequence[Path]) -> None:
    """Write a result into the files of ``--out``."""
    if tables:
        from sparsim.export import save_table

        for path in tables:
            save_table(result, path)
