"""What a sweep covers: the product of everything that is given more than one value."""

from __future__ import annotations

import tomllib
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from os import PathLike
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from sparsim.errors import ConfigError, InputError, nearest
from sparsim.machines import Machine, machine
from sparsim.machines.base import flatten
from sparsim.simulate import SAMPLE, checked_sample, without_estimates

__all__ = ["Configuration", "Grid", "configurations"]

STORED = "as stored"
Scalar = bool | int | float | str


def _several(value: Any) -> Any:
    """Make a single value a sequence of one; what is repeated counts once."""
    if isinstance(value, np.ndarray) and value.ndim == 1:
        value = value.tolist()
    if not isinstance(value, list | tuple | set | frozenset | range | Iterator):
        value = (value,)
    plain = [each.item() if isinstance(each, np.generic) else each for each in value]
    return tuple({(type(each), each if isinstance(each, Hashable) else id(each)): each for each in plain}.values())


def _inputs(value: Any) -> Any:
    """Make a single input a sequence of one; matrices are no sequences."""
    several = value if isinstance(value, list | tuple) else (value,)
    return tuple({each if isinstance(each, str) else id(each): each for each in several}.values())


Several = BeforeValidator(_several)


class Grid(BaseModel):
    """A sweep, in Python or in a TOML file of the same keys.

    Parameters
    ----------
    inputs : networks and matrices: names of the zoo, paths, Network, Csr, scipy sparse matrices, arrays. A matrix
        without ``columns`` is multiplied by itself.
    on : machines.
    fields : dotted machine fields to the values they take; a machine that lacks one has one point instead of several.
        In TOML a table, and dotted keys may be nested tables.
    granularity : patterns; "dense" is the network as it is stored, which is also what none means.
    sparsity, density, nnz : budgets, see :func:`sparsim.compare`.
    allocation, criterion, propagate, weights, input_sizes, columns, orientation, baseline, seed : as there.
    batch : samples.
    dtype : fp16 for networks and fp64 for a matrix by itself, unless said.
    energy : an energy table.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, allow_inf_nan=False)

    inputs: Annotated[tuple[Any, ...], BeforeValidator(_inputs)] = Field(min_length=1)
    on: Annotated[tuple[str | Machine, ...], Several] = Field(default=("sparch",), min_length=1)
    fields: Mapping[str, Annotated[tuple[Scalar, ...], Several, Field(min_length=1)]] = Field(default_factory=dict)
    granularity: Annotated[tuple[str, ...], Several] = ()
    sparsity: Annotated[tuple[float, ...], Several] = ()
    density: Annotated[tuple[float, ...], Several] = ()
    nnz: Annotated[tuple[int, ...], Several] = ()
    allocation: str | Mapping[str, float] = "uniform"
    criterion: Any = "magnitude"
    propagate: Literal["auto", "chain", "off"] = "auto"
    weights: str | None = None
    batch: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Several] = Field(default=(1,), min_length=1)
    input_sizes: Mapping[str, tuple[int, ...]] = Field(default_factory=dict)
    columns: Annotated[int, Field(ge=1)] | None = None
    dtype: str | None = None
    orientation: Literal["auto", "wx", "xtwt"] = "auto"
    baseline: str | None = None
    energy: str = ""
    seed: Annotated[int, Field(ge=0)] = 0

    @field_validator("fields", mode="before")
    @classmethod
    def _dotted(cls, value: Any) -> Any:
        return flatten(value) if isinstance(value, Mapping) else value

    @classmethod
    def of(cls, **options: Any) -> Grid:
        """Return the grid, or one line that says which entry is wrong; ``sample`` is short for a field.

        Raises
        ------
        ConfigError
            If an entry is unknown, of a wrong type, or an empty list.
        """
        sample, fields = options.pop("sample", None), options.get("fields", {})
        if sample is not None and isinstance(fields, Mapping):
            options["fields"] = {**flatten(fields), SAMPLE: tuple(map(checked_sample, _several(sample)))}
        try:
            return cls(**options)
        except ValidationError as error:
            first = error.errors()[0]
            place = next((str(part) for part in first["loc"] if isinstance(part, str)), "sweep")
            known = [*cls.model_fields, "sample"]
            if first["type"] == "extra_forbidden":
                hint = "; fields of a machine stand in 'fields'" if "." in place else nearest(place, known)
                raise ConfigError(f"a sweep has no '{place}'{hint}", key=place) from None
            if first["type"] == "missing":
                raise ConfigError(
                    "nothing to simulate", key="inputs", allowed="one network or matrix, or more"
                ) from None
            told = first["msg"].removeprefix("Value error, ")
            raise ConfigError(f"{told}, got {_short(first['input'])}", key=place) from None

    @classmethod
    def from_toml(cls, path: str | PathLike[str], **options: Any) -> Grid:
        """Read a grid; ``options`` replace entries of the file, whose relative paths start from its folder.

        Raises
        ------
        InputError
            If the file cannot be read or is no TOML.
        ConfigError
            If an entry is wrong.
        """
        try:
            entries = tomllib.loads(Path(path).read_text("utf-8"))
        except OSError as error:
            raise InputError(error.strerror or str(error), source=path) from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"is no TOML ({error})", source=path) from None
        inputs = [_beside(Path(path).parent, name) for name in _inputs(entries.pop("inputs", ()))]
        try:
            return cls.of(**{"inputs": inputs, **entries, **options})
        except ConfigError as error:
            raise ConfigError(f"{path}: {error.problem}", key=error.key, allowed=error.allowed) from None


def _beside(folder: Path, name: Any) -> Any:
    return str(folder / name) if isinstance(name, str) and (folder / name).exists() else name


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


@dataclass(frozen=True, eq=False)
class Configuration:
    """One machine of a sweep.

    Parameters
    ----------
    name : of the machine.
    fields : the swept fields it has, with the values of this point.
    built : the machine; None if its fields do not go together.
    twin : the stock machine that speed-ups are against.
    error : why it could not be built.
    """

    name: str
    fields: Mapping[str, Scalar]
    built: Machine | None
    twin: Machine
    error: str = ""


def configurations(grid: Grid) -> list[Configuration]:
    """Return every machine with every combination of the fields it has.

    Raises
    ------
    ConfigError
        If a machine or field is unknown, or no combination of a machine's values is one it can have.
    """
    stock = [machine(name) for name in grid.on]
    known = {field for each in stock for field in each.fields()}
    for key in grid.fields:
        if key not in known and key == SAMPLE:
            raise without_estimates(each.name for each in stock)
        if key not in known:
            raise ConfigError(f"none of the machines has a field '{key}'{nearest(key, known)}", key="--set")
    found: list[Configuration] = []
    for given, each in zip(grid.on, stock, strict=True):
        axes = {key: values for key, values in grid.fields.items() if key in each.fields()}
        twin = machine(grid.baseline or each.baseline)
        mine = [_configuration(given, each.name, twin, values) for values in _combinations(axes)]
        if all(one.built is None for one in mine):
            raise ConfigError(mine[0].error)
        found += mine
    return found


def _combinations(axes: Mapping[str, Sequence[Scalar]]) -> list[dict[str, Scalar]]:
    return [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]


def _configuration(given: str | Machine, name: str, twin: Machine, fields: Mapping[str, Scalar]) -> Configuration:
    try:
        built = given.with_fields(fields) if isinstance(given, Machine) else machine(given, fields)
    except ConfigError as error:
        return Configuration(name, fields, None, twin, f"ConfigError: {error}")
    return Configuration(name, fields, built, twin)
