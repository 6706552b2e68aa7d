"""The command line: parses, calls the verbs, prints. It holds no logic of its own.

Reports go to stdout, progress and errors to stderr. Exit codes: 0, 1 (a run failed), 2 (usage or bad input).
"""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

import sparsim
from sparsim.arguments import (
    by_layer,
    bytes_or_auto,
    fidelity_field,
    input_sizes,
    integers,
    number,
    overrides,
    refuse_to_overwrite,
    scores,
    words,
)
from sparsim.errors import ConfigError, ModelError, SparsimError

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="What does a pruned network cost, in time, energy and memory traffic, on which hardware?",
)


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
Propagation = Annotated[
    Propagate, typer.Option(help="Also take the weights that pruning made useless in other layers.")
]
Weights = Annotated[
    str | None,
    typer.Option(help="Of a network of the zoo: random, published[:NAME], published-skewed, uniform:D, shape."),
]
Columns = Annotated[int | None, typer.Option(help="B is dense (see --activation-density) with this many columns.")]


@app.command()
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
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Say what one product (or every layer of a network) costs on one machine."""
    from sparsim.simulate import simulate_all
    from sparsim.terminal import print_csv, print_json, print_report

    _one_output(as_json, as_csv)
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
    )
    if as_json:
        data = [report.to_dict() for report in reports]
        print_json(data[0] if len(data) == 1 else data)
    elif as_csv:
        print_csv([report.flat() for report in reports])
    else:
        for report in reports:
            print_report(report)


@app.command()
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
    html: Annotated[Path | None, typer.Option(help="Also write a one-file HTML report.")] = None,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Prune a network in several ways and say which pattern pays on which machine."""
    from sparsim.compare import compare as run
    from sparsim.terminal import print_comparison, print_csv, print_json

    _one_output(as_json, as_csv)
    if html is not None and (html.is_dir() or not html.parent.is_dir()):
        raise ConfigError(f"'{html}' cannot be written", key="--html", allowed="a file in a folder that exists")
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
    )
    if html is not None:
        from sparsim.html import write_html

        write_html([comparison], html, title=f"sparsim: {source}")
    if as_json:
        print_json(comparison.told_rows)
    elif as_csv:
        print_csv(comparison.told_rows)
    else:
        print_comparison(comparison)


@app.command()
def prune(
    source: Annotated[str, typer.Argument(metavar="IN", help="A network file or folder, or a network of the zoo.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write: .safetensors, .npz, .pt or .onnx.")],
    granularity: Annotated[str, typer.Option(help="Pattern, such as unstructured, 2:4, block:4x4.")] = "unstructured",
    sparsity: Annotated[float | None, typer.Option(help="Share of zeros.")] = None,
    density: Annotated[float | None, typer.Option(help="Share of non-zeros instead.")] = None,
    nnz: Annotated[int | None, typer.Option(help="Number of non-zeros in all pruned layers instead.")] = None,
    allocation: Allocation = "uniform",
    criterion: Criterion = "magnitude",
    saliency: Saliency = None,
    skip: Annotated[list[str] | None, typer.Option(help="Layers that stay as they are; repeat.")] = None,
    propagate: Propagation = Propagate.OFF,
    weights: Weights = None,
    seed: Annotated[int, typer.Option(min=0, help="Of everything drawn at random.")] = 0,
) -> None:
    """Prune a network and write it as a checkpoint the next tool reads."""
    from sparsim.io import save_network
    from sparsim.pruning import prune as run
    from sparsim.terminal import print_pruned
    from sparsim.variants import Pruning, as_network

    refuse_to_overwrite(Path(source), out)
    network = as_network(source, weights=weights, seed=seed)
    pruned = run(
        network,
        granularity,
        sparsity,
        density=density,
        nnz=nnz,
        allocation=by_layer(allocation, "--allocation"),
        criterion=scores(criterion, saliency, seed),
        skip=[name for text in skip or () for name in words(text, "--skip")],
    )
    carried, shifted = Pruning(propagate=propagate.value).carry(pruned)
    written = save_network(carried, out, template=source if out.suffix.lower() == ".onnx" else None)
    print_pruned(written, pruned, carried, shifted)


@app.command()
def inspect(
    source: Annotated[str, typer.Argument(metavar="FILE", help="A matrix, a network, or a network of the zoo.")],
    value_bytes: Annotated[int, typer.Option(min=1, max=8, help="Bytes of a stored weight, for the formats.")] = 2,
    index_bytes: Annotated[
        IndexBytes, typer.Option(help="Bytes of an index of CSR, CSC and BSR; auto: the fewest that hold them.")
    ] = IndexBytes.FOUR,
    weights: Weights = None,
    as_json: Json = False,
) -> None:
    """List layers, shapes and sparsity, the patterns the zeros obey, and the bytes by storage format."""
    from sparsim.inspect import inspect as run
    from sparsim.terminal import print_inspection, print_json

    width: int | Literal["auto"] = "auto" if index_bytes is IndexBytes.AUTO else int(index_bytes.value)
    found = run(source, value_bytes=value_bytes, index_bytes=width, weights=weights)
    if as_json:
        print_json(found)
    else:
        print_inspection(found)


@app.command()
def machines(
    name: Annotated[str | None, typer.Argument(help="Show this machine with every constant and its source.")] = None,
    as_json: Json = False,
) -> None:
    """List the machines, or show one."""
    from sparsim.energy import area_mm2
    from sparsim.machines import describe, machine, preset_names
    from sparsim.terminal import print_json, print_machine, print_machines

    if name is not None:
        built = machine(name)
        if as_json:
            print_json(describe(built))
        else:
            print_machine(describe(built), area_mm2(built))
        return
    listed = [describe(machine(each)) for each in preset_names()]
    if as_json:
        print_json(listed)
    else:
        print_machines(listed)


@app.command()
def fetch(
    name: Annotated[str | None, typer.Argument(help="A public matrix, or GROUP/NAME of SuiteSparse.")] = None,
    folder: Annotated[Path | None, typer.Option(help="Look here first.")] = None,
) -> None:
    """Download a public matrix once and print where it is kept; without a name, list the names."""
    from sparsim import datasets
    from sparsim.terminal import print_lines

    if folder is not None and not folder.is_dir():
        raise ConfigError(f"'{folder}' is no folder", key="--folder", allowed="a folder that exists")
    if name is None:
        known = datasets.names()
        layers = [each for each in known if each.startswith("dlmc/")]
        typer.echo("\n".join(each for each in known if each not in set(layers)))
        print_lines([f"and {len(layers):,} layers of DLMC, such as {layers[0]} (sparsim.datasets.names() has all)"])
    elif name.startswith("standin:"):
        raise ConfigError(
            f"'{name}' is generated, not downloaded", key="fetch", allowed="sparsim.datasets.load in Python"
        )
    else:
        typer.echo(datasets.find(name, folder) or datasets.fetch(name))


@app.command()
def validate(
    papers: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PAPER]...",
            help="sparch, outerspace, tensor_core, gpu_sparse, systolic, cpu, networks; all by default.",
        ),
    ] = None,
    data: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Where the public matrices lie.")] = None,
    stand_ins: Annotated[
        bool, typer.Option("--stand-ins", help="Add means over 20 matrices, missing ones generated.")
    ] = False,
    every_row: Annotated[
        bool, typer.Option("--all", help="Also every oracle workload, and figures no model covers.")
    ] = False,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Hold the models against published, measured and counted figures; exit code 1 if an asserted one is off."""
    from sparsim.fidelity import validate as run
    from sparsim.terminal import print_csv, print_json, print_validation

    _one_output(as_json, as_csv)
    validation = run(papers or (), folder=data, stand_ins=stand_ins)
    rows = [row.to_dict() for row in validation.rows]
    if as_json:
        print_json(rows)
    elif as_csv:
        print_csv(rows)
    else:
        print_validation(validation, every_row)
    if not validation.holds:
        raise typer.Exit(1)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the picture and the page.")] = Path(),
    threads: Annotated[int | None, typer.Option(min=1, help="Threads; one a core by default.")] = None,
) -> None:
    """Prune bundled networks in several ways and show which pattern pays on which hardware."""
    from sparsim.demo import demo as run
    from sparsim.terminal import print_comparison, print_lines

    shown = run(out, jobs=threads)
    for comparison in shown.comparisons:
        print_comparison(comparison)
    print_lines([f"picture: {shown.picture}", f"page: {shown.page}"])


def main() -> None:
    """Run the command line; the errors sparsim raises on purpose become one line and an exit code."""
    try:
        sys.exit(app(standalone_mode=False) or 0)
    except ModelError as error:
        _fail(str(error), 1)
    except SparsimError as error:
        _fail(str(error), 2)
    except MemoryError as error:
        _fail(f"not enough memory: {error}; try fewer rows, columns or non-zeros", 1)
    except (KeyboardInterrupt, typer.Abort):
        _fail("interrupted", 1)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except OSError as error:
        _fail(f"{error.filename or 'output'}: {error.strerror or error}", 1)
    except Exception as error:
        if not hasattr(error, "format_message"):  # not a usage error of the command line
            raise
        _fail(f"{error.format_message()} See 'sparsim --help'.", 2)


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    if version:
        typer.echo(f"sparsim {sparsim.__version__}")
        raise typer.Exit()


def _fail(message: str, code: int) -> None:
    typer.echo(f"error: {' '.join(message.split())}", err=True)
    sys.exit(code)


def _one_output(as_json: bool, as_csv: bool) -> None:
    if as_json and as_csv:
        raise ConfigError("goes without --csv", key="--json")


if __name__ == "__main__":
    main()
