"""The verb: what does this product cost on this machine?"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from sparsim import zoo
from sparsim.arguments import overridden, share, whole
from sparsim.energy import load_table
from sparsim.errors import ConfigError, WorkloadError
from sparsim.io import load
from sparsim.machines import Machine, machine
from sparsim.matrix import Csr
from sparsim.n_of_m import VNM_COLUMNS, VNM_FORM, VNM_KEPT
from sparsim.network import Layer, Network
from sparsim.report import Report, build_report
from sparsim.threads import using_threads
from sparsim.workload import MAX_SIDE, DataType, Operand, Workload, at_width, layer_workload

__all__ = [
    "SAMPLE",
    "as_matrix",
    "checked_sample",
    "gemm",
    "network_workloads",
    "product",
    "run",
    "simulate",
    "simulate_all",
    "without_estimates",
]

SAMPLE = "sample.fraction"


def as_matrix(source: Any) -> Csr:
    """Return the canonical matrix of a path, a scipy sparse matrix, an array, or a :class:`~sparsim.matrix.Csr`.

    Raises
    ------
    WorkloadError
        If a path holds a network instead of one matrix.
    """
    if isinstance(source, Csr):
        return source
    if isinstance(source, str | PathLike):
        if str(source) in zoo.names() and not Path(source).exists():
            told = f"'{source}' is a network of the zoo; ask compare() about it, or simulate() a layer of zoo.load()"
            raise WorkloadError(told)
        loaded = load(source)
        if isinstance(loaded, Network):
            if len(loaded) == 1:
                return loaded.layers[0].matrix
            raise WorkloadError(f"{source}: holds a network of {len(loaded)} layers where one matrix is needed")
        return loaded
    if isinstance(source, np.ndarray):
        return Csr.from_dense(source)
    if isinstance(source, Network):
        raise WorkloadError(f"'{source.name}' is a network; ask compare() about it, or simulate() one of its layers")
    if hasattr(source, "tocoo"):
        return Csr.from_scipy(source)
    raise WorkloadError(f"{type(source).__name__} is no matrix: give a path, a scipy sparse matrix or a 2-D array")


def product(
    a: Any,
    b: Any = None,
    *,
    columns: int | None = None,
    activation_density: float = 1.0,
    seed: int = 0,
    dtype: str | DataType | None = None,
    name: str | None = None,
) -> Workload:
    """Describe C = A·B.

    Parameters
    ----------
    a, b : anything :func:`as_matrix` takes; ``b`` left out means A·A for a square A.
    columns : width of a dense B (or a random one) instead of ``b``.
    activation_density, seed : of that B.
    dtype : fp64 for two given matrices, fp16 for weights with ``columns``, unless said.
    """
    left = as_matrix(a)
    label = name or (Path(a).name if isinstance(a, str | PathLike) else "product")
    if b is not None and columns is not None:
        raise ConfigError("give B or a number of columns, not both", key="--columns")
    if columns is not None:
        right = Operand.random(left.shape[1], whole(columns, "--columns", 1), activation_density, seed)
    elif activation_density != 1.0:
        raise ConfigError("a density needs a number of columns", key="--activation-density", allowed="with --columns")
    elif b is not None:
        right = Operand.of(as_matrix(b))
    elif left.shape[0] != left.shape[1]:
        raise WorkloadError(
            f"{label}: A is {left.shape[0]} x {left.shape[1]}, not square, so A·A does not exist; give B or --columns N"
        )
    else:
        right = Operand.of(left)
    default = DataType.FP64 if columns is None else DataType.FP16
    return Workload(Operand.of(left), right, name=label, dtype=DataType.parse(dtype) if dtype else default)


def gemm(
    m: int, k: int, n: int, *, pattern: str = "dense", seed: int = 0, dtype: str | DataType | None = None
) -> Workload:
    """Describe an M x K x N product without a file.

    Parameters
    ----------
    pattern : of A: "dense", "N:M" such as "2:4", "V:N:M" such as "64:2:10", or "density:D".
    """
    m, k, n = (whole(size, f"--gemm, {axis}", 1, MAX_SIDE) for axis, size in (("M", m), ("K", k), ("N", n)))
    a = _gemm_operand(m, k, pattern, whole(seed, "seed"))
    kind = DataType.parse(dtype) if dtype else DataType.FP16
    return Workload(a, Operand.dense(k, n), name=f"gemm {m},{k},{n} {pattern}", dtype=kind)


def _gemm_operand(m: int, k: int, pattern: str, seed: int) -> Operand:
    allowed = f"dense, N:M with 1 <= N <= M (2:4), {VNM_FORM}, density:D with 0 <= D <= 1"
    if pattern == "dense":
        return Operand.dense(m, k)
    head, _, tail = str(pattern).partition(":")
    if match := re.fullmatch(r"(\d{1,9}):(\d{1,9}):(\d{1,9})", str(pattern)):
        v, kept, of = (int(part) for part in match.groups())
        if v < 1 or kept != VNM_KEPT or of < VNM_COLUMNS:
            raise ConfigError(f"'{pattern}' keeps {kept} of {of} in runs of {v} rows", key="--pattern", allowed=allowed)
        return Operand.vnm(m, k, v, kept, of, seed)
    try:
        density = float(tail) if head == "density" else 0.0
        kept, of = (0, 0) if head == "density" else (int(head), int(tail))
    except ValueError:
        raise ConfigError(f"'{pattern}' is no pattern", key="--pattern", allowed=allowed) from None
    if head == "density":
        if not 0 <= density <= 1:
            raise ConfigError(f"{density} is no density", key="--pattern", allowed=allowed)
        return Operand.random(m, k, density, seed)
    if not 1 <= kept <= of:
        raise ConfigError(f"'{pattern}' keeps {kept} of every {of}", key="--pattern", allowed=allowed)
    return Operand.dense(m, k) if kept == of else Operand(m, k, pattern=f"{kept}:{of}", seed=seed)


def network_workloads(
    network: Network, *, batch: int = 1, dtype: str | DataType | None = None, columns: int | None = None, seed: int = 0
) -> list[Workload]:
    """Turn every layer into its product; ``columns`` is the width for layers whose geometry is unknown."""
    kind = DataType.parse(dtype) if dtype else DataType.FP16
    return [
        layer_workload(at_width(layer, columns), batch=batch, dtype=kind, seed=seed, name=network.name)
        for layer in network
    ]


def simulate_all(
    a: str | PathLike[str] | None,
    b: Any = None,
    *,
    on: str | Machine = "sparch",
    overrides: Mapping[str, Any] | None = None,
    columns: int | None = None,
    activation_density: float = 1.0,
    gemm_shape: tuple[int, ...] | None = None,
    pattern: str = "dense",
    batch: int = 1,
    input_sizes: Mapping[str, tuple[int, ...]] | None = None,
    seed: int = 0,
    dtype: str | DataType | None = None,
    energy: str = "",
    threads: int = 1,
    sample: float | None = None,
) -> list[Report]:
    """Simulate whatever a path holds: one product, or every layer of a network; or ``gemm_shape`` without a path.

    Raises
    ------
    ConfigError, WorkloadError, InputError
        If the operands are missing, too many, or do not fit.
    """
    on, overrides = _sampled(on, overrides, sample)
    given = {
        "--columns": columns is not None,
        "--activation-density": activation_density != 1.0,
        "--batch": batch != 1,
        "--input": bool(input_sizes),
    }
    if gemm_shape is not None:
        _refuse(given, "--gemm describes both operands")
        if a is not None:
            raise ConfigError("describes both operands; leave the files out", key="--gemm")
        m, k, n = gemm_shape
        with using_threads(threads):
            return [run(gemm(m, k, n, pattern=pattern, seed=seed, dtype=dtype), on, overrides, energy)]
    if pattern != "dense":
        raise ConfigError("goes with --gemm; a file has its own zeros", key="--pattern")
    if a is None:
        raise ConfigError("no operand", key="simulate", allowed="a file, or --gemm M,K,N")
    loaded = zoo.load(a) if isinstance(a, str) and a in zoo.names() and not Path(a).exists() else load(a)
    if isinstance(loaded, Network) and b is None:
        _refuse({"--activation-density": given["--activation-density"]}, "a network's layers bring their own")
        network = loaded.with_input(input_sizes or {})
        loads = network_workloads(network, batch=batch, dtype=dtype, columns=columns, seed=seed)
    else:
        _refuse({key: given[key] for key in ("--batch", "--input")}, "it goes with a network, this is one matrix")
        left = loaded if isinstance(loaded, Csr) else a
        options: dict[str, Any] = {"columns": columns, "activation_density": activation_density, "seed": seed}
        loads = [product(left, b, dtype=dtype, name=Path(a).name, **options)]
    built = machine(on, overrides)
    with using_threads(threads):
        return [run(workload, built, None, energy) for workload in loads]


def _sampled(
    on: str | Machine, overrides: Mapping[str, Any] | None, sample: float | None
) -> tuple[str | Machine, Mapping[str, Any] | None]:
    """Return machine and overrides with the share of a product to sample.

    Raises
    ------
    ConfigError
        If the machine is always exact.
    """
    if sample is None:
        return on, overrides
    if SAMPLE not in (built := machine(on)).fields():
        raise ConfigError(f"'{built.name}' has no estimates, it is exact", key="--sample", allowed="with sparch")
    own = {SAMPLE: checked_sample(sample)}
    return (on.with_fields(own), overrides) if isinstance(on, Machine) else (on, {**overridden(overrides), **own})


def checked_sample(sample: Any) -> float:
    """Return the share of a product to sample.

    Raises
    ------
    ConfigError
        If it is no share.
    """
    return share(sample, "--sample", "a share from 0 (everything, exactly) to 1, such as 0.05")


def without_estimates(names: Iterable[str]) -> ConfigError:
    """Return what to say where none of the machines has estimates."""
    named = ", ".join(f"'{name}'" for name in names)
    return ConfigError(f"no estimates by {named}, always exact", key="--sample", allowed="with sparch")


def _refuse(given: Mapping[str, bool], why: str) -> None:
    for option, present in given.items():
        if present:
            raise ConfigError(f"does not fit here: {why}", key=option)


def run(workload: Workload, on: str | Machine, overrides: Mapping[str, Any] | None = None, energy: str = "") -> Report:
    """Simulate one workload on one machine."""
    built = machine(on, overrides)
    table = load_table(energy) if energy else load_table()
    return build_report(workload, built, built.run(workload), table)


def simulate(
    a: Any,
    b: Any = None,
    *,
    on: str | Machine = "sparch",
    overrides: Mapping[str, Any] | None = None,
    columns: int | None = None,
    activation_density: float = 1.0,
    batch: int = 1,
    seed: int = 0,
    dtype: str | DataType | None = None,
    energy: str = "",
    threads: int = 1,
    sample: float | None = None,
) -> Report:
    """Return what C = A·B costs on a machine.

    Parameters
    ----------
    a, b : paths, scipy sparse matrices or arrays, or one :class:`~sparsim.workload.Workload`; without ``b``, A·A.
    on : a machine's name (``sparsim machines`` lists them) or a built machine.
    overrides : dotted fields of the machine to change, such as ``{"prefetch.lines": 512}``.
    columns, activation_density, seed : a dense or random B of that width instead of ``b``.
    batch : samples, for a layer.
    dtype : fp64, fp32, tf32, fp16, bf16, int8 or fp8.
    energy : name of the energy table.
    threads : that count rows of one product at the same time; the result is the same with any number.
    sample : share of a product to merge and time; the rest is estimated, see ``report["details.sample"]`` for 95 %
        intervals. Of machines with a field ``sample.fraction``.

    Examples
    --------
    >>> import numpy as np
    >>> report = simulate(np.eye(64), columns=49, on="sparch")
    >>> report["workload.multiplies"], report["workload.dtype"]
    (3136, 'fp16')
    """
    if isinstance(a, Workload | Layer) and (b is not None or columns is not None or activation_density != 1.0):
        raise ConfigError("a layer or workload brings its own B", key="b, columns, activation_density")
    if isinstance(a, Workload):
        if dtype is not None and DataType.parse(dtype) is not a.dtype:
            raise ConfigError(f"the workload is {a.dtype.label}", key="dtype")
        workload = a
    elif isinstance(a, Layer):
        workload = layer_workload(a, batch=batch, seed=seed, dtype=DataType.parse(dtype or "fp16"))
    elif batch != 1:
        raise ConfigError("a batch goes with a layer; say columns=", key="batch")
    else:
        workload = product(a, b, columns=columns, activation_density=activation_density, seed=seed, dtype=dtype)
    on, overrides = _sampled(on, overrides, sample)
    with using_threads(threads):
        return run(workload, on, overrides, energy)
