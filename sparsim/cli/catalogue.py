"""Commands that show what there is and how true it is: machines, fetch, validate, demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sparsim.cli.options import Csv, Json, one_output
from sparsim.errors import ConfigError

__all__ = ["demo", "fetch", "machines", "validate"]


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

    one_output(as_json, as_csv)
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
