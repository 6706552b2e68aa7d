"""The verb: which pattern pays on which machine?

Every layer of a network is pruned in every way asked for and simulated on every machine. Speed-up is against the
machine's own dense twin running the same layer with all its weights, so that machines of different sizes can stand in
one table.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tqdm.auto import tqdm

from sparsim import zoo
from sparsim.energy import EnergyTable, load_table
from sparsim.errors import ConfigError, nearest
from sparsim.io import load
from sparsim.machines import Machine, machine
from sparsim.matrix import Csr
from sparsim.network import Layer, Network
from sparsim.pruning import Granularity, parse_granularity, prune
from sparsim.report import Report, build_report
from sparsim.simulate import as_matrix, network_workloads
from sparsim.verdict import TOTAL, is_total, verdict
from sparsim.workload import Operand, Workload

__all__ = ["Comparison", "Variant", "as_network", "budgets", "compare", "variants"]

MAX_THREADS = 64
DEFAULT_MACHINES = ("sparch", "dense", "a100", "a100-2:4")
SUMMED = ("workload.", "dram_bytes.", "energy_pj.", "cycles.total", "time_s", "bounds.compulsory_bytes")
LEADING = ("network", "batch", "granularity", "sparsity", "actual_sparsity", "layer", "machine.name", "baseline")


@dataclass(frozen=True)
class Variant:
    """One way a network is pruned.

    Parameters
    ----------
    granularity : pattern, "dense", or "as stored".
    sparsity : asked for; what the pattern fixes for N:M.
    network : after pruning.
    accuracy : measured, 0 to 1, None if nobody measured it.
    """

    granularity: str
    sparsity: float
    network: Network
    accuracy: float | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """The answer of :func:`compare`.

    Parameters
    ----------
    rows : one mapping per layer, variant, batch and machine, and one per network with layer = "total".
    verdict : the answer in sentences.
    coverage : what share of the network the figures stand for.
    notes : what the reader has to know.
    assumed : constants in force that are guesses, by machine.
    """

    rows: Sequence[Mapping[str, Any]] = field(repr=False)
    verdict: tuple[str, ...]
    coverage: str
    notes: tuple[str, ...] = ()
    assumed: Mapping[str, Sequence[str]] = field(default_factory=dict, repr=False)

    @property
    def totals(self) -> list[Mapping[str, Any]]:
        """The rows of whole networks."""
        return [row for row in self.rows if is_total(row)]

    def to_frame(self) -> Any:
        """Return all rows as a DataFrame."""
        import pandas as pd

        return pd.DataFrame(self.rows)

    def table(self) -> Any:
        """Return the totals as a small DataFrame for people: one row per variant, one speed-up column per machine."""
        import pandas as pd

        frame = pd.DataFrame(self.totals)
        index = ["network", "batch", "granularity", "sparsity", "actual_sparsity", "accuracy"]
        frame["accuracy"] = frame["accuracy"].astype(float).fillna(float("nan"))
        wide = frame.pivot_table(
            index=index, columns="machine.name", values=["speedup", "energy_ratio"], sort=False, dropna=False
        )
        return wide.dropna(how="all").reorder_levels([1, 0], axis=1).sort_index(axis=1, level=0, sort_remaining=False)

    def __repr__(self) -> str:
        return "\n".join(("Comparison", *(f"  {sentence}" for sentence in self.verdict), f"  covers {self.coverage}"))

    def _repr_html_(self) -> str:
        from html import escape

        verdict = "".join(f"<li>{escape(sentence)}</li>" for sentence in self.verdict)
        return f"<ul>{verdict}</ul>{self.table().to_html(float_format=lambda value: f'{value:.3g}')}"


def as_network(source: Any, columns: int | None = None) -> Network:
    """Return a network.

    Parameters
    ----------
    source : a network, the name of a bundled one, a file or folder, a mapping of names to weights, or one matrix.
    columns : output positions per sample of a matrix that is its only layer.
    """
    if isinstance(source, Network):
        return source
    if isinstance(source, Mapping):
        return Network("network", tuple(Layer(name, np.asarray(weight)) for name, weight in source.items()))
    if isinstance(source, str) and source in zoo.names():
        return zoo.load(source)
    is_path = isinstance(source, str | os.PathLike)
    loaded = load(source) if is_path else as_matrix(source)
    if isinstance(loaded, Csr):
        name = Path(source).name if is_path else "matrix"
        return Network(name, (Layer(name, loaded, positions=columns),))
    return loaded


def budgets(granularity: Sequence[str], sparsity: Sequence[float]) -> list[tuple[Granularity, float | None]]:
    """Pair every pattern with every sparsity; N:M fixes its own and comes once.

    Raises
    ------
    ConfigError
        If a pattern that needs a sparsity gets none, or a sparsity has no pattern to go with.
    """
    for share in sparsity:
        if not 0 <= share < 1:
            raise ConfigError(f"{share}", key="sparsity", allowed="0 <= sparsity < 1")
    if sparsity and not granularity:
        raise ConfigError("goes with a granularity, such as unstructured", key="sparsity")
    pairs: list[tuple[Granularity, float | None]] = []
    for text in granularity:
        pattern = parse_granularity(text)
        shares: Sequence[float | None] = [None] if pattern.fixes_sparsity else list(sparsity)
        if not shares:
            raise ConfigError(f"'{text}' needs a sparsity", key="--sparsity", allowed="0 <= sparsity < 1, such as 0.9")
        pairs += [(pattern, share) for share in shares]
    return pairs


def variants(
    network: Network, pairs: Sequence[tuple[Granularity, float | None]], scope: Literal["layer", "global"] = "layer"
) -> Iterator[Variant]:
    """Yield the network as it is, then pruned to every pair of pattern and budget; only one is held at a time."""
    stored = "as stored" if network.sparsity > 0.01 else "dense"
    accuracy = zoo.measured_accuracy(network, "dense") if stored == "dense" else None
    yield Variant(stored, network.sparsity, network, accuracy)
    for pattern, budget in pairs:
        if scope == "global":
            pruned = prune(network, pattern, budget, scope=scope, skip=zoo.left_whole(network, pattern))
        else:
            pruned = zoo.pruned(network, pattern, budget)
        asked = pruned.sparsity if budget is None else budget
        accuracy = zoo.measured_accuracy(network, pattern, budget) if scope == "layer" else None
        yield Variant(str(pattern), asked, pruned, accuracy)


def compare(
    source: Any,
    *,
    on: Sequence[str | Machine] = DEFAULT_MACHINES,
    granularity: Sequence[str] = (),
    sparsity: Sequence[float] = (),
    scope: Literal["layer", "global"] = "layer",
    batch: int | Sequence[int] = 1,
    input_sizes: Mapping[str, tuple[int, ...]] | None = None,
    columns: int | None = None,
    dtype: str = "fp16",
    orientation: Literal["auto", "wx", "xtwt"] = "auto",
    baseline: str | None = None,
    energy: str = "",
    overrides: Mapping[str, Any] | None = None,
    seed: int = 0,
    jobs: int | None = None,
    progress: bool = True,
) -> Comparison:
    """Prune a network in several ways and ask several machines what each costs.

    Parameters
    ----------
    source : a network, a file or folder, or the name of a bundled network.
    on : machines.
    granularity, sparsity : patterns, and the shares of zeros for those that do not fix their own; none = as stored.
    batch : samples, one number or several.
    input_sizes : ``{"": (C, H, W)}`` or per layer, for convolutions whose file does not say.
    columns : output positions per sample for layers known only as matrices.
    orientation : how machines that can choose run a layer, as W·X or transposed; "auto" tries both.
    baseline : machine all speed-ups are against, instead of each machine's dense twin.
    overrides : dotted fields, applied to every machine that has them; one that nobody has is an error.
    jobs : threads, by default one per core.
    """
    network = as_network(source, columns).with_input(input_sizes or {})
    batches = _several(batch, "batch")
    machines = _configured(_several(on, "on"), overrides or {})
    _choice(scope, "scope", ("layer", "global"))
    _choice(orientation, "orientation", ("auto", "wx", "xtwt"))
    pairs = budgets(_several(granularity, "granularity", some=False), _several(sparsity, "sparsity", some=False))
    plan = _Plan(load_table(energy) if energy else load_table(), orientation, jobs)
    twins = [machine(baseline or built.baseline) for built in machines]
    rows: list[dict[str, Any]] = []
    with tqdm(total=1 + len(pairs), desc="simulating", unit="variant", disable=None if progress else True) as bar:
        for variant in variants(network, pairs, scope):
            for size in batches:
                layers = network_workloads(variant.network, batch=size, dtype=dtype, columns=columns, seed=seed)
                plan.run([(w, m) for w in layers for m in machines] + [(_dense(w), m) for w in layers for m in twins])
                rows += [
                    _row(variant, size, workload, plan.report(workload, built), plan.report(_dense(workload), twin))
                    for workload in layers
                    for built, twin in zip(machines, twins, strict=True)
                ]
            bar.update()
    rows += _totals(rows)
    assumed = {built.name: built.assumed for built in machines}
    coverage = _coverage(network, columns)
    return Comparison(rows, tuple(verdict(rows)), coverage, (*network.notes, *_notes(rows)), assumed)


def _several(value: Any, key: str, some: bool = True) -> list[Any]:
    """Return one value or several as a list without repetitions, which would be counted twice."""
    several = list(value) if isinstance(value, Iterable) and not isinstance(value, str) else [value]
    if some and not several:
        raise ConfigError("nothing given", key=key, allowed="one or more")
    return list(dict.fromkeys(several))


def _choice(value: str, key: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ConfigError(f"'{value}'", key=key, allowed=", ".join(allowed))


def _notes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Gather the runs' own notes: what, on which machine, for how many layers."""
    layers: dict[tuple[str, str], set[str]] = {}
    for row in rows:
        for note in row.get("details.notes", ()):
            layers.setdefault((row["machine.name"], note), set()).add(row["layer"])
    return [
        f"{name}, {', '.join(sorted(found)[:3])}{' …' * (len(found) > 3)}: {note}"
        for (name, note), found in layers.items()
    ]


def _configured(on: Sequence[str | Machine], overrides: Mapping[str, Any]) -> list[Machine]:
    """Build the machines; each takes the overrides it has fields for."""
    built = [machine(name) for name in on]
    names = [each.name for each in built]
    if len(set(names)) < len(names):
        raise ConfigError("two machines of one name; compare them in two calls", key="on")
    for key in overrides:
        known = [field for each in built for field in each.fields()]
        if key not in known:
            raise ConfigError(f"none of the machines has a field '{key}'{nearest(key, known)}", key="--set")
    own = [{key: value for key, value in overrides.items() if key in each.fields()} for each in built]
    return [
        each.with_fields(values) if isinstance(name, Machine) else machine(name, values)
        for name, each, values in zip(on, built, own, strict=True)
    ]


def _dense(workload: Workload) -> Workload:
    """Return the same layer with all its weights; those that stay dense anyway are not copied."""
    if workload.a.is_dense:
        return workload
    dense = Operand.dense(workload.m, workload.k)
    return Workload(
        dense, workload.b, workload.name, workload.layer, workload.dtype, workload.groups, workload.b_unique_elements
    )


class _Plan:
    """Runs every pair of workload and machine once, however often it is asked for; keeps the reports alone."""

    def __init__(self, table: EnergyTable, orientation: str, jobs: int | None) -> None:
        if jobs is not None and jobs < 1:
            raise ConfigError(f"{jobs}", key="threads", allowed="1 or more")
        self.table, self.orientation = table, orientation
        self.jobs = min(jobs or os.cpu_count() or 1, MAX_THREADS)
        self.done: dict[tuple[str, str, str], Report] = {}

    @staticmethod
    def key(workload: Workload, built: Machine) -> tuple[str, str, str]:
        return workload.sha256, built.name, built.config_sha256

    def report(self, workload: Workload, built: Machine) -> Report:
        return self.done[self.key(workload, built)]

    def run(self, pairs: Sequence[tuple[Workload, Machine]]) -> None:
        from joblib import Parallel, delayed

        todo = {self.key(*pair): pair for pair in pairs if self.key(*pair) not in self.done}
        reports = Parallel(n_jobs=self.jobs, backend="threading")(delayed(self.best)(*pair) for pair in todo.values())
        self.done.update(zip(todo, reports, strict=True))

    def best(self, workload: Workload, built: Machine) -> Report:
        """Return the fastest of the ways the machine can lay out the product."""
        layouts = [
            layout
            for layout in built.layouts(workload)
            if self.orientation in ("auto", layout.get("mapping.orientation", self.orientation))
        ]
        if not layouts:
            raise ConfigError(
                f"machine '{built.name}' cannot run layer '{workload.layer}' as {self.orientation}", key="--orientation"
            )
        ways = [built.with_fields(layout) for layout in layouts]
        reports = [build_report(workload, way, way.run(workload), self.table) for way in ways]
        return min(reports, key=lambda report: report.cycles)


def _row(variant: Variant, batch: int, workload: Workload, report: Report, twin: Report) -> dict[str, Any]:
    """Return one row; equal layers share a report, so names come from the workload."""
    flat = report.flat() | {"workload.name": workload.name, "workload.layer": workload.layer}
    row: dict[str, Any] = {
        "network": variant.network.name,
        "batch": batch,
        "granularity": variant.granularity,
        "sparsity": variant.sparsity,
        "actual_sparsity": variant.network.sparsity,
        "layer": flat["workload.layer"],
        "machine.name": report.machine,
        "baseline": twin.machine,
        "accuracy": variant.accuracy,
        "baseline_time_s": twin.time_s,
        "baseline_energy_pj": twin.energy_pj,
        "baseline_dram_bytes": twin.dram_bytes,
    }
    row |= {key: value for key, value in flat.items() if not key.startswith("machine.config")}
    row.setdefault("details.orientation", "wx")
    return _with_ratios(row)


def _with_ratios(row: dict[str, Any]) -> dict[str, Any]:
    for name, own, twin in (
        ("speedup", "time_s", "baseline_time_s"),
        ("energy_ratio", "energy_pj.total", "baseline_energy_pj"),
        ("traffic_ratio", "dram_bytes.total", "baseline_dram_bytes"),
    ):
        over, under = (row[twin], row[own]) if name == "speedup" else (row[own], row[twin])
        row[name] = over / under if under else float("nan")
    return row


def _totals(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in LEADING if key != "layer"), []).append(row)
    totals = []
    for members in groups.values():
        slowest = max(members, key=lambda row: row["time_s"])
        total = {key: slowest[key] for key in (*LEADING, "accuracy", "workload.dtype", "provenance.energy_table")}
        total["layer"] = TOTAL
        keys = dict.fromkeys(key for row in members for key in row)
        for key in keys:
            if key.startswith(("baseline_", *SUMMED)) and not isinstance(slowest.get(key, 0), str):
                total[key] = sum(row.get(key, 0) for row in members)
        for axis in ("m", "k", "n", "groups", "layer"):
            total.pop(f"workload.{axis}", None)
        flop = 2 * total["workload.multiplies"] - total["workload.nnz_c"]
        total["gflops"] = flop / total["time_s"] / 1e9 if total["time_s"] else 0.0
        total["slowest_layer"] = slowest["layer"]
        total["bounds.limited_by"] = slowest["bounds.limited_by"]
        total["details.reason"] = slowest["details.reason"]
        total["details.skips"] = slowest.get("details.skips", "")
        totals.append(_with_ratios(total))
    return totals


def _coverage(network: Network, columns: int | None) -> str:
    layers = network_workloads(network, columns=columns)
    macs = sum(workload.dense_multiplies for workload in layers)
    skipped = f"; {len(network.skipped)} arrays of the file are no matrix products" if network.skipped else ""
    return f"{len(layers)} layers with {macs:,} multiply-accumulates a sample, all products the file holds{skipped}"
