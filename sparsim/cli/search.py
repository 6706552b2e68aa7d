"""The command that prunes for a machine: search."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, cast

import typer

from sparsim.cli.arguments import input_sizes, number, overrides, refuse_to_overwrite, scores, words
from sparsim.cli.options import (
    Columns,
    Criterion,
    Csv,
    Energy,
    Granularity,
    Input,
    Json,
    Orientation,
    Propagate,
    Propagation,
    Saliency,
    Set,
    Sparsity,
    Weights,
    one_output,
)
from sparsim.errors import ConfigError

__all__ = ["search"]

ESTIMATES = ("obd", "gradient")  # of how much the network's loss rises: they add up as they are


def search(
    source: Annotated[str, typer.Argument(metavar="INPUT", help="A network file or folder, or a network of the zoo.")],
    budget: Annotated[
        str,
        typer.Option(
            metavar="MEASURE=SHARE,…", help="Of what the dense network takes: energy=0.3, latency=0.5, bytes=0.5."
        ),
    ],
    on: Annotated[str, typer.Option(help="Machine.")] = "sparch",
    granularity: Granularity = None,
    sparsity: Sparsity = None,
    criterion: Criterion = "magnitude",
    saliency: Saliency = None,
    loss: Annotated[
        str | None,
        typer.Option(help="How layers are weighed: distortion, share, sum. By default sum for obd and gradient."),
    ] = None,
    skip: Annotated[list[str] | None, typer.Option(help="Layers that stay as they are; repeat.")] = None,
    propagate: Propagation = Propagate.AUTO,
    method: Annotated[str, typer.Option(help="exact, optuna, or auto: exact where layers stand alone.")] = "auto",
    trials: Annotated[int, typer.Option(min=1, help="Networks that optuna tries.")] = 200,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="File to write the network to: .safetensors, .npz, .pt or .onnx."),
    ] = None,
    weights: Weights = None,
    batch: Annotated[int, typer.Option(min=1, help="Samples.")] = 1,
    input_size: Input = None,
    columns: Columns = None,
    dtype: Annotated[str, typer.Option(help="fp64, fp32, tf32, fp16, bf16, int8 or fp8.")] = "fp16",
    orientation: Annotated[Orientation, typer.Option(help="W·X, its transpose, or the faster.")] = Orientation.AUTO,
    baseline: Annotated[str | None, typer.Option(help="Machine of the dense network, not the dense twin.")] = None,
    energy: Energy = "",
    fields: Set = None,
    seed: Annotated[int, typer.Option(min=0, help="Of everything drawn at random.")] = 0,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads; one a core by default.")] = None,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Choose pattern and sparsity layer by layer: the least loss within a budget on a machine.

    The choice is exact (a multiple-choice knapsack) where layers stand alone.
    """
    from sparsim.io import save_network
    from sparsim.search import search as run
    from sparsim.terminal import print_csv, print_json, print_lines, print_search

    one_output(as_json, as_csv)
    if out is not None:
        refuse_to_overwrite(Path(source), out)
    levels = [number(word, "--sparsity") for word in words(sparsity, "--sparsity")]
    given: dict[str, Any] = {"granularity": words(granularity, "--granularity"), "sparsity": levels}
    found = run(
        source,
        budget=_shares(budget),
        on=on,
        **{key: value for key, value in given.items() if value},
        criterion=scores(criterion, saliency, seed),
        loss=cast("Any", loss or ("sum" if criterion in ESTIMATES else "distortion")),
        skip=[name for text in skip or () for name in words(text, "--skip")],
        propagate=propagate.value,
        method=cast("Any", method),
        trials=trials,
        weights=weights,
        batch=batch,
        input_sizes=input_sizes(input_size),
        columns=columns,
        dtype=dtype,
        orientation=orientation.value,
        baseline=baseline,
        energy=energy,
        overrides=overrides(fields),
        seed=seed,
        jobs=threads,
    )
    written = None
    if out is not None:
        written = save_network(found.network, out, template=source if out.suffix.lower() == ".onnx" else None)
    if as_json:
        print_json(found.to_dict())
    elif as_csv:
        print_csv(found.rows)
    else:
        print_search(found)
        print_lines(
            [f"{written}: {found.network.nnz:,} of {found.network.size:,} weights are not zero"] if written else []
        )


def _shares(text: str) -> dict[str, float]:
    """Return the shares given as ``MEASURE=SHARE``."""
    found: dict[str, float] = {}
    for word in words(text, "--budget"):
        name, equals, share = (part.strip() for part in word.partition("="))
        if not equals or not name:
            raise ConfigError(f"'{word}'", key="--budget", allowed="MEASURE=SHARE, such as energy=0.3")
        if name in found:
            raise ConfigError(f"'{name}' stands twice", key="--budget")
        found[name] = number(share, "--budget")
    return found
