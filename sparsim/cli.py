"""The command line: parses, calls the verbs, prints. It holds no logic of its own.

Reports go to stdout, progress and errors to stderr. Exit codes: 0, 1 (a run failed), 2 (usage or bad input).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

import sparsim
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


class Scope(StrEnum):
    """Who shares a pruning budget."""

    LAYER = "layer"
    GLOBAL = "global"


Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Csv = Annotated[bool, typer.Option("--csv", help="Print one CSV row per result.")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Change a machine field; repeat.")]
Dtype = Annotated[str | None, typer.Option(help="fp64, fp32, fp16, bf16 or int8.")]
Energy = Annotated[str, typer.Option(help="Energy table.")]
Input = Annotated[
    list[str] | None,
    typer.Option("--input", metavar="CxHxW", help="Input size of the network, or LAYER=CxHxW of one; repeat."),
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
    pattern: Annotated[str, typer.Option(help="Of --gemm: dense, 2:4 (any N:M), density:D.")] = "dense",
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
        overrides=_overrides(fields) | _fidelity(fidelity, on),
        columns=columns,
        activation_density=activation_density,
        gemm_shape=None if gemm is None else _integers(gemm, "--gemm", 3),
        pattern=pattern,
        batch=batch,
        input_sizes=_input_sizes(input_size),
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
    source: Annotated[str, typer.Argument(metavar="INPUT", help="A network file or folder, or a bundled network.")],
    granularity: Annotated[str | None, typer.Option(help="Patterns: unstructured,2:4,block:4x4,out_channel …")] = None,
    sparsity: Annotated[str | None, typer.Option(help="Shares of zeros: 0.5,0.9 …")] = None,
    on: Annotated[str, typer.Option(help="Machines.")] = "sparch,dense,a100,a100-2:4",
    batch: Annotated[str, typer.Option(help="Samples: 1,64 …")] = "1",
    scope: Annotated[
        Scope, typer.Option(help="Every layer to the same sparsity, or one budget for all.")
    ] = Scope.LAYER,
    input_size: Input = None,
    columns: Columns = None,
    orientation: Annotated[Orientation, typer.Option(help="W·X, its transpose, or the faster.")] = Orientation.AUTO,
    baseline: Annotated[str | None, typer.Option(help="One machine all speed-ups are against.")] = None,
    dtype: Annotated[str, typer.Option(help="fp64, fp32, fp16, bf16 or int8.")] = "fp16",
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
        on=_words(on, "--on"),
        granularity=_words(granularity, "--granularity"),
        sparsity=[_number(word, "--sparsity") for word in _words(sparsity, "--sparsity")],
        scope=scope.value,
        batch=[_integers(word, "--batch", 1)[0] for word in _words(batch, "--batch")],
        input_sizes=_input_sizes(input_size),
        columns=columns,
        dtype=dtype,
        orientation=orientation.value,
        baseline=baseline,
        energy=energy,
        overrides=_overrides(fields),
        seed=seed,
        jobs=threads,
    )
    if html is not None:
        from sparsim.html import write_html

        write_html([comparison], html, title=f"sparsim: {source}")
    if as_json:
        print_json(list(comparison.rows))
    elif as_csv:
        print_csv(comparison.rows)
    else:
        print_comparison(comparison)


@app.command()
def inspect(
    source: Annotated[str, typer.Argument(metavar="FILE", help="A matrix, a network, or a bundled network.")],
    value_bytes: Annotated[int, typer.Option(min=1, max=8, help="Bytes of a stored weight, for the formats.")] = 2,
    as_json: Json = False,
) -> None:
    """List layers, shapes and sparsity, and the patterns the zeros obey."""
    from sparsim.inspect import inspect as run
    from sparsim.terminal import print_json, print_lines, print_table

    found = run(source, value_bytes=value_bytes)
    if as_json:
        print_json(found)
        return
    rows = [
        [
            layer["layer"],
            "x".join(map(str, layer["shape"])),
            f"{layer['nnz']:,}",
            f"{layer['sparsity']:.1%}",
            ", ".join(f"{p['pattern']} {p['share']:.0%}" for p in layer["patterns"]),
            f"{layer['smallest_format']} {layer['format_bytes'][layer['smallest_format']]:,}",
        ]
        for layer in found["layers"]
    ]
    heads = ["layer", "shape", "non-zeros", "zeros", "zeros obey", "smallest, bytes"]
    print_table(
        f"{found['name']}: {found['nnz']:,} of {found['weights']:,} weights are not zero", heads, rows, right=(2, 3)
    )
    print_lines(f"skipped {name}: {reason}" for name, reason in found["skipped"].items())
    print_lines(f"note: {note}" for note in found["notes"])


@app.command()
def machines(
    name: Annotated[str | None, typer.Argument(help="Show this machine with every constant and its source.")] = None,
    as_json: Json = False,
) -> None:
    """List the machines, or show one."""
    from sparsim.energy import area_mm2
    from sparsim.machines import describe, machine, preset_names
    from sparsim.terminal import print_json, print_lines, print_table

    if name is not None:
        about = describe(machine(name))
        if as_json:
            print_json(about)
            return
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
        print_lines(
            [f"paper: {about['citation']}", f"models: {about['models']}", f"not modelled: {about['not_modelled']}"]
        )
        print_lines([f"dense twin for speed-ups: {about['baseline']}"])
        area = area_mm2(machine(name))
        parts = ", ".join(f"{part} {value:.3g}" for part, value in area.items() if part != "total")
        print_lines([f"area: {area['total']:.4g} mm2 ({parts})"] if area else [])
        return
    listed = [describe(machine(each)) for each in preset_names()]
    if as_json:
        print_json(listed)
        return
    heads = ["machine", "what it is", "dense twin"]
    print_table("machines", heads, [[m["name"], m["title"], m["baseline"]] for m in listed])
    print_lines(
        ["'sparsim machines NAME' shows what a machine models, what it does not, and every constant with its source"]
    )


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
        list[str] | None, typer.Argument(metavar="[PAPER]...", help="sparch, outerspace, tensor_core; all by default.")
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


def _words(text: str | None, option: str) -> list[str]:
    if text is None:
        return []
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words:
        raise ConfigError("nothing given", key=option, allowed="one or more words with commas between them")
    return words


def _number(word: str, option: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise ConfigError(f"'{word}' is no number", key=option) from None


def _integers(text: str, option: str, count: int) -> tuple[int, ...]:
    words = text.split(",")
    try:
        numbers = tuple(int(word) for word in words)
    except ValueError:
        numbers = ()
    if len(numbers) != count:
        allowed = "a whole number" if count == 1 else f"{count} whole numbers separated by commas, such as 768,768,4096"
        raise ConfigError(f"'{text}'", key=option, allowed=allowed)
    return numbers


def _overrides(fields: Sequence[str] | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field in fields or ():
        key, equals, value = field.partition("=")
        if not equals or not key or not value:
            raise ConfigError(f"'{field}'", key="--set", allowed="FIELD=VALUE, such as prefetch.lines=512")
        found[key.strip()] = _literal(value.strip())
    return found


def _fidelity(fidelity: str | None, on: str) -> dict[str, Any]:
    """Return the field that chooses a fidelity; machines with one only have no such field."""
    from sparsim.machines import machine

    if fidelity is None or "fidelity" in machine(on).fields():
        return {} if fidelity is None else {"fidelity": fidelity}
    if fidelity != "fast":
        raise ConfigError(f"'{on}' has no '{fidelity}'", key="--fidelity", allowed="fast; cycle goes with sparch")
    return {}


def _literal(text: str) -> bool | int | float | str:
    if text in ("true", "false"):
        return text == "true"
    kinds: tuple[Callable[[str], int | float], ...] = (int, float)
    for kind in kinds:
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _input_sizes(texts: Sequence[str] | None) -> dict[str, tuple[int, ...]]:
    sizes: dict[str, tuple[int, ...]] = {}
    for text in texts or ():
        name, equals, shape = text.rpartition("=")
        parts = shape.split("x")
        sane = all(part.isascii() and part.isdecimal() and 0 < int(part) < 2**31 for part in parts)
        if not sane or not 2 <= len(parts) <= 4:
            raise ConfigError(f"'{text}'", key="--input", allowed="CxHxW or LAYER=CxHxW, such as 3x224x224")
        sizes[name if equals else ""] = tuple(int(part) for part in parts)
    return sizes


if __name__ == "__main__":
    main()
