"""The command that runs a grid: sweep."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sparsim.cli.arguments import axes, by_layer, input_sizes, integers, number, scores, words
from sparsim.cli.options import (
    Columns,
    Csv,
    Density,
    Dtype,
    Granularity,
    Input,
    Json,
    Nnz,
    Orientation,
    Out,
    Propagate,
    Saliency,
    Sample,
    Sparsity,
    Weights,
    checked_tables,
    one_output,
    save_tables,
)

__all__ = ["sweep"]


def sweep(
    inputs: Annotated[
        list[str] | None, typer.Argument(metavar="[INPUT]...", help="Networks, of files or the zoo, and matrices.")
    ] = None,
    grid: Annotated[Path | None, typer.Option(help="A TOML file with the same entries; options replace them.")] = None,
    on: Annotated[str | None, typer.Option(help="Machines; sparch by default.")] = None,
    fields: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=V1,V2…", help="Values of a machine field, an axis of the grid; repeat."),
    ] = None,
    granularity: Granularity = None,
    sparsity: Sparsity = None,
    density: Density = None,
    nnz: Nnz = None,
    allocation: Annotated[
        str | None, typer.Option(help="uniform, global, erdos_renyi_kernel, or LAYER=SPARSITY,…")
    ] = None,
    criterion: Annotated[str | None, typer.Option(help="magnitude, random, obd, wanda, gradient.")] = None,
    saliency: Saliency = None,
    propagate: Annotated[Propagate | None, typer.Option(help="Carry zeros to other layers; auto by default.")] = None,
    weights: Weights = None,
    batch: Annotated[str | None, typer.Option(help="Samples: 1,64 …")] = None,
    input_size: Input = None,
    columns: Columns = None,
    dtype: Dtype = None,
    orientation: Annotated[Orientation | None, typer.Option(help="W·X, its transpose, or the faster.")] = None,
    fidelity: Annotated[str | None, typer.Option(help="fast, cycle or both, of machines that have them.")] = None,
    sample: Sample = None,
    baseline: Annotated[str | None, typer.Option(help="One machine all speed-ups are against.")] = None,
    energy: Annotated[str | None, typer.Option(help="Energy table, NAME@NM to scale it.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of everything drawn at random.")] = None,
    layers: Annotated[bool, typer.Option("--layers", help="Also a row for every layer.")] = False,
    jobs: Annotated[
        int | None, typer.Option("--jobs", "--threads", min=1, help="Processes; one a core by default.")
    ] = None,
    dask: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Scheduler of a Dask cluster: tcp://HOST:PORT.")
    ] = None,
    store: Annotated[
        Path | None, typer.Option(help="File of finished runs; one in the cache folder by default.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would take, and stop.")] = False,
    out: Out = None,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Simulate a grid: networks and matrices x patterns x sparsities x machines x any field of theirs.

    Finished points are kept: the same command, or a larger one, goes on where the last stopped.
    """
    from sparsim.sweep import estimate, failures
    from sparsim.sweep import sweep as run
    from sparsim.terminal import print_csv, print_json, print_lines, print_sweep

    one_output(as_json, as_csv)
    options: dict[str, Any] = {
        "inputs": list(inputs) if inputs else None,
        "on": words(on, "--on") or None,
        "fields": axes([*(fields or ()), *(f"fidelity={fidelity}" for _ in "1" if fidelity)]) or None,
        "granularity": words(granularity, "--granularity") or None,
        "sparsity": [number(word, "--sparsity") for word in words(sparsity, "--sparsity")] or None,
        "density": [number(word, "--density") for word in words(density, "--density")] or None,
        "nnz": [integers(word, "--nnz", 1)[0] for word in words(nnz, "--nnz")] or None,
        "allocation": None if allocation is None else by_layer(allocation, "--allocation"),
        "criterion": None
        if criterion is None and saliency is None
        else scores(criterion or "magnitude", saliency, seed or 0),
        "propagate": None if propagate is None else propagate.value,
        "weights": weights,
        "batch": [integers(word, "--batch", 1)[0] for word in words(batch, "--batch")] or None,
        "input_sizes": input_sizes(input_size) or None,
        "columns": columns,
        "dtype": dtype,
        "orientation": None if orientation is None else orientation.value,
        "baseline": baseline,
        "energy": energy,
        "seed": seed,
        "sample": sample,
    }
    given = {key: value for key, value in options.items() if value is not None}
    if dry_run:
        print_lines([f"sweep: {estimate(grid=grid, jobs=jobs, dask=dask, store=store, **given)}"])
        return
    tables = checked_tables(out, [grid, store, *(Path(name) for name in inputs or ())])
    frame = run(grid=grid, layers=layers, jobs=jobs, dask=dask, store=store, **given)
    save_tables(frame, tables)
    rows: list[dict[str, Any]] = [{str(key): cell for key, cell in row.items()} for row in frame.to_dict("records")]
    if as_json:
        print_json(rows)
    elif as_csv:
        print_csv(rows)
    else:
        print_sweep(rows)
    failed = failures(rows)
    if failed:
        typer.echo(f"{failed:,} of {len(frame):,} points failed; column 'error' says why", err=True)
        raise typer.Exit(1)
