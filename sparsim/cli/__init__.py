"""The command line: parses, calls the verbs, prints. It holds no logic of its own.

Reports go to stdout, progress and errors to stderr. Exit codes: 0, 1 (a run failed), 2 (usage or bad input).
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

import sparsim
from sparsim.cli import catalogue, costs, networks, search, sweep
from sparsim.errors import ModelError, SparsimError

__all__ = ["app", "main"]

INTERRUPTED = 130  # what typer makes of ctrl-C, without a word

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="What does a pruned network cost, in time, energy and memory traffic, on which hardware?",
)
for command in (
    costs.simulate,
    costs.compare,
    sweep.sweep,
    search.search,
    networks.prune,
    networks.inspect,
    catalogue.machines,
    catalogue.fetch,
    catalogue.validate,
    catalogue.demo,
):
    app.command()(command)


def main() -> None:
    """Run the command line; the errors sparsim raises on purpose become one line and an exit code."""
    try:
        code = app(standalone_mode=False) or 0
        if code == INTERRUPTED:
            raise KeyboardInterrupt
        sys.exit(code)
    except ModelError as error:
        _fail(str(error), 1)
    except SparsimError as error:
        _fail(str(error), 2)
    except MemoryError as error:
        _fail(f"not enough memory: {error}; try fewer rows, columns or non-zeros", 1)
    except (KeyboardInterrupt, typer.Abort) as error:
        _fail(str(error) or "interrupted", 1)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except OSError as error:
        _fail(f"{error.filename or 'output'}: {error.strerror or error}", 1)
    except Exception as error:
        if not hasattr(error, "format_message"):  # not a usage error of the command line
            raise
        _fail(f"{error.format_message().rstrip('.')}; see 'sparsim --help'", 2)


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
