"""Commands that ask what something costs: simulate, compare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sparsim.cli.arguments import (
    by_layer,
    bytes_or_auto,
    fidelity_field,
    input_sizes,
    integers,
    number,
    overrides,
    scores,
    words,
)
from sparsim.cli.options import (
    Allocation,
    Columns,
    Criterion,
    Csv,
    Density,
    Dtype,
    Energy,
    Granularity,
    Input,
    Json,
    Nnz,
    Orientation,
    Out,
    Propagate,
    Propagation,
    Saliency,
    Sample,
    Set,
    Sparsity,
    Weights,
    checked_tables,
    one_output,
    save_tables,
)
from sparsim.errors import ConfigError

__all__ = ["compare", "simulate"]


def simulate(
    a: Annotated[Path | None, typer.Argument(metavar="A", help="Left operand, or a network.")] = None,
    b: Annotated[Path | None, typer.Argument(metavar="[B]", help="Right operand; without it A·A.")] = None,
    on: Annotated[str, typer.Option(help="Machine.")] = "sparch",
    columns: Columns = None,
    activation_density: Annotated[float, typer.Option(help="Share of non-zeros of B, with --columns.")] = 1.0,
    gemm: Annotated[str | None, typer.Option(metavar="M,K,N", help="A product without a file.")] = None,
    pattern: Annotated[str, typer.Option(help="Of --gemm: dense, 2:4 (N:M), 64:2:10 (V:2:M), density:D.")] = "dense",
    batch: Annotated[int, typer.Option(help="Samples, for networks.")] = 1,
    input_size: Input = None,
    seed: Annotated[int, typer.Option(min=0, help="Of everything drawn at random.")] = 0,
    dtype: Dtype = None,
    energy: Energy = "",
    fields: Set = None,
    fidelity: Annotated[str | None, typer.Option(help="fast, or cycle: every element in every cycle.")] = None,
    sample: Sample = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads; one a core by default.")] = None,
    out: Out = None,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Say what one product (or every layer of a network) costs on one machine."""
    from sparsim.simulate import simulate_all
    from sparsim.terminal import print_csv, print_json, print_report
    from sparsim.threads import cores

    one_output(as_json, as_csv)
    tables = checked_tables(out, [a, b])
    reports = simulate_all(
        a,
        b,
        on=on,
        overrides=overrides(fields) | fidelity_field(fidelity, on),
        columns=columns,
        activation_density=activation_density,
        gemm_shape=None if gemm is None else integers(gemm, "--gemm", 3),
        pattern=pattern,
        batch=batch,
        input_sizes=input_sizes(input_size),
        seed=seed,
        dtype=dtype,
        energy=energy,
        threads=threads or cores(),
        sample=sample,
    )
    save_tables(reports, tables)
    if as_json:
        data = [report.to_dict() for report in reports]
        print_json(data[0] if len(data) == 1 else data)
    elif as_csv:
        print_csv([report.flat() for report in reports])
    else:
        for report in reports:
            print_report(report)


def compare(
    source: Annotated[str, typer.Argument(metavar="INPUT", help="A network file or folder, or a network of the zoo.")],
    granularity: Granularity = None,
    sparsity: Sparsity = None,
    density: Density = None,
    nnz: Nnz = None,
    allocation: Allocation = "uniform",
    criterion: Criterion = "magnitude",
    saliency: Saliency = None,
    propagate: Propagation = Propagate.AUTO,
    weights: Weights = None,
    lora: Annotated[int | None, typer.Option(min=1, help="Rank of a low-rank adapter, kept apart and merged.")] = None,
    training: Annotated[bool, typer.Option("--training", help="The three products of a training step.")] = False,
    on: Annotated[str, typer.Option(help="Machines.")] = "sparch,dense,a100,a100-2:4",
    batch: Annotated[str, typer.Option(help="Samples: 1,64 …")] = "1",
    input_size: Input = None,
    columns: Columns = None,
    orientation: Annotated[Orientation, typer.Option(help="W·X, its transpose, or the faster.")] = Orientation.AUTO,
    baseline: Annotated[str | None, typer.Option(help="One machine all speed-ups are against.")] = None,
    iso: Annotated[
        str | None, typer.Option(help="Hold equal, by copies side by side: multipliers, area, power, bandwidth.")
    ] = None,
    iso_to: Annotated[str | None, typer.Option(help="To this machine's; by default to the largest's.")] = None,
    other_bytes: Annotated[
        str | None, typer.Option(metavar="BYTES|auto", help="Bytes a sample that layers without products move.")
    ] = None,
    dtype: Annotated[str, typer.Option(help="fp64, fp32, tf32, fp16, bf16, int8 or fp8.")] = "fp16",
    energy: Energy = "",
    seed: Annotated[int, typer.Option(min=0, help="Of everything drawn at random.")] = 0,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads; one a core by default.")] = None,
    fields: Set = None,
    sample: Sample = None,
    html: Annotated[Path | None, typer.Option(help="Also write a one-file HTML report.")] = None,
    out: Out = None,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Prune a network in several ways and say which pattern pays on which machine."""
    from sparsim.compare import compare as run
    from sparsim.terminal import print_comparison, print_csv, print_json

    one_output(as_json, as_csv)
    if html is not None and (html.is_dir() or not html.parent.is_dir()):
        raise ConfigError(f"'{html}' cannot be written", key="--html", allowed="a file in a folder that exists")
    tables = checked_tables(out, [Path(source)])
    comparison = run(
        source,
        on=words(on, "--on"),
        granularity=words(granularity, "--granularity"),
        sparsity=[number(word, "--sparsity") for word in words(sparsity, "--sparsity")],
        density=[number(word, "--density") for word in words(density, "--density")],
        nnz=[integers(word, "--nnz", 1)[0] for word in words(nnz, "--nnz")],
        allocation=by_layer(allocation, "--allocation"),
        criterion=scores(criterion, saliency, seed),
        propagate=propagate.value,
        weights=weights,
        adapter=lora,
        training=training,
        batch=[integers(word, "--batch", 1)[0] for word in words(batch, "--batch")],
        input_sizes=input_sizes(input_size),
        columns=columns,
        dtype=dtype,
        orientation=orientation.value,
        baseline=baseline,
        iso=words(iso, "--iso"),
        iso_to=iso_to,
        other_bytes=bytes_or_auto(other_bytes, "--other-bytes"),
        energy=energy,
        overrides=overrides(fields),
        seed=seed,
        jobs=threads,
        sample=sample,
    )
    if html is not None:
        from sparsim.html import write_html

        write_html([comparison], html, title=f"sparsim: {source}")
    save_tables(comparison, tables)
    if as_json:
        print_json(comparison.told_rows)
    elif as_csv:
        print_csv(comparison.told_rows)
    else:
        print_comparison(comparison)
