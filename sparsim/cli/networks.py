"""Commands about networks: prune, inspect."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from sparsim.cli.arguments import by_layer, refuse_to_overwrite, scores, words
from sparsim.cli.options import Allocation, Criterion, IndexBytes, Json, Propagate, Propagation, Saliency, Weights

__all__ = ["inspect", "prune"]


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
