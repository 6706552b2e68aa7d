"""The verb: which pattern pays on which machine?

Every layer of a network is pruned in every way asked for and simulated on every machine. Speed-up is against the
machine's own dense twin running the same layer with all its weights, so that machines of different sizes can stand in
one table.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sparsim.arguments import overridden, several, whole, words
from sparsim.coverage import coverage
from sparsim.energy import ALL_TABLES, DEFAULT_TABLE, EnergyTable, load_table
from sparsim.errors import ConfigError, nearest
from sparsim.iso import Held, against_reference, hold_equal
from sparsim.machines import Machine, machine
from sparsim.other_layers import ESTIMATED, OtherBytes, add_other_layers, check_other_bytes, network_sentences
from sparsim.progress import tqdm
from sparsim.pruning import Criterion
from sparsim.resources import normalised, resources, unlike
from sparsim.rows import Products, Table, totals
from sparsim.runs import Plan
from sparsim.sensitivity import Sensitivity, priceable, sensitivity
from sparsim.simulate import SAMPLE, checked_sample, network_workloads, without_estimates
from sparsim.training import training_workloads
from sparsim.variants import Pruning, as_network, budgets, variants
from sparsim.verdict import is_total, verdict
from sparsim.workload import DataType

__all__ = ["Comparison", "compare"]

FIGURE = re.compile(r"\d+(\.\d+)?(e[-+]?\d+)?(?= [a-z]*s\b)")  # of a time, which differs from layer to layer
DEFAULT_MACHINES = ("sparch", "dense", "a100", "a100-2:4")


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
    sensitivity : the same under every energy table, with ``energy="all"``.
    """

    rows: Sequence[Mapping[str, Any]] = field(repr=False)
    verdict: tuple[str, ...]
    coverage: str
    notes: tuple[str, ...] = ()
    assumed: Mapping[str, Sequence[str]] = field(default_factory=dict, repr=False)
    sensitivity: Sensitivity | None = field(default=None, repr=False)

    @property
    def totals(self) -> list[Mapping[str, Any]]:
        """The rows of whole networks."""
        return [row for row in self.rows if is_total(row)]

    @property
    def told_rows(self) -> list[Mapping[str, Any]]:
        """The rows as programs get them: with every energy table asked for, totals have the energy by each."""
        return list(self.rows) if self.sensitivity is None else self.sensitivity.beside(self.rows)

    def to_frame(self) -> Any:
        """Return all rows as a DataFrame."""
        import pandas as pd

        return pd.DataFrame(self.rows)

    def sensitivity_frame(self) -> Any:
        """Return energy, ratio and rank of every variant and machine by energy table as a DataFrame."""
        if self.sensitivity is None:
            raise ConfigError("only one energy table was asked for", key="energy", allowed=f"'{ALL_TABLES}' for this")
        return self.sensitivity.to_frame()

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


def compare(
    source: Any,
    *,
    on: Sequence[str | Machine] = DEFAULT_MACHINES,
    granularity: Sequence[str] = (),
    sparsity: Sequence[float] = (),
    density: Sequence[float] = (),
    nnz: Sequence[int] = (),
    allocation: str | Mapping[str, float] = "uniform",
    criterion: str | Criterion = "magnitude",
    propagate: Literal["auto", "chain", "off"] = "auto",
    adapter: int | None = None,
    training: bool = False,
    weights: str | None = None,
    batch: int | Sequence[int] = 1,
    input_sizes: Mapping[str, tuple[int, ...]] | None = None,
    columns: int | None = None,
    dtype: str = "fp16",
    orientation: Literal["auto", "wx", "xtwt"] = "auto",
    baseline: str | None = None,
    energy: str = "",
    iso: str | Sequence[str] = (),
    iso_to: str | None = None,
    other_bytes: OtherBytes = None,
    overrides: Mapping[str, Any] | None = None,
    seed: int = 0,
    jobs: int | None = None,
    sample: float | None = None,
    progress: bool = True,
) -> Comparison:
    """Prune a network in several ways and ask several machines what each costs.

    Parameters
    ----------
    source : a network, a file or folder, or the name of one in the zoo.
    on : machines.
    granularity : patterns; none = as stored.
    sparsity, density, nnz : budgets for the patterns that do not fix their own: shares of zeros, shares of non-zeros,
        numbers of non-zeros in all layers that are pruned together.
    allocation, criterion : who may keep how much, and what a weight is worth; see :func:`~sparsim.pruning.prune`.
    propagate : "auto" takes away, for all machines alike, the weights that pruning made useless in other layers, where
        the file says how layers hang together or a chain may be assumed; "chain" takes the layers as a chain; "off".
    adapter : rank of a low-rank adapter; every variant is then also shown with one, kept apart and merged.
    training : the three products of a training step instead of the one of inference.
    weights : of a network in the zoo, see :func:`sparsim.zoo.load`.
    batch : samples, one number or several.
    input_sizes : ``{"": (C, H, W)}`` or per layer, for convolutions whose file does not say.
    columns : output positions per sample for layers known only as matrices.
    orientation : how machines that can choose run a layer, as W·X or transposed; "auto" tries both.
    baseline : machine all speed-ups are against, instead of each machine's dense twin.
    energy : an energy table, NAME@NODE for one scaled to another process node, or "all": the default one, and
        :attr:`Comparison.sensitivity` says how far the energies depend on it.
    iso : resources held equal: "multipliers", "area", "power", "bandwidth", one or several. Smaller machines stand side
        by side until they have as much, see :func:`~sparsim.iso.hold_equal`; total rows then also have
        ``reference_speedup``, the speed against the dense weights of the largest.
    iso_to : the machine whose resources all get, instead of the one with most of the first resource.
    other_bytes : bytes a sample that layers without products move, or "auto"; see :mod:`~sparsim.other_layers`.
    overrides : dotted fields, applied to every machine that has them; one that nobody has is an error.
    jobs : threads, by default one per core.
    sample : share of a product to merge and time on machines with a field ``sample.fraction``, which then estimate;
        the others stay exact. Rows have 95 % intervals under ``details.sample.intervals``.
    """
    network = as_network(source, columns, weights, seed).with_input(input_sizes or {})
    batches = [whole(size, "batch", 1) for size in several(batch, "batch")]
    machines = _configured(
        several(on, "on"), {**overridden(overrides), **({} if sample is None else {SAMPLE: checked_sample(sample)})}
    )
    _choice(orientation, "orientation", ("auto", "wx", "xtwt"))
    pairs = budgets(
        several(granularity, "granularity", some=False),
        several(sparsity, "sparsity", some=False),
        several(density, "density", some=False),
        several(nnz, "nnz", some=False),
        allocation,
    )
    if not pairs and (allocation != "uniform" or criterion != "magnitude"):
        raise ConfigError("goes with a granularity", key="criterion" if allocation == "uniform" else "allocation")
    how = Pruning(allocation, criterion, propagate, adapter)
    twins = [machine(baseline or built.baseline) for built in machines]
    kind = DataType.parse(dtype)
    check_other_bytes(other_bytes, training)
    held = hold_equal(list(zip(machines, twins, strict=True)), list(dict.fromkeys(words(iso, "iso"))), iso_to, kind)
    (first, *others), refused = _tables(energy, [*machines, *twins], dtype)
    plan = Plan(first, orientation, jobs, others)
    table = Table(plan, held.pairs, Products({layer.name for layer in network}))
    products = training_workloads if training else network_workloads
    options: dict[str, Any] = {"dtype": dtype, "columns": columns, "seed": seed}
    rows: list[dict[str, Any]] = []
    notes = dict.fromkeys(network.notes)
    with tqdm(desc="simulating", unit="run", disable=None if progress else True) as plan.bar:
        for variant in variants(network, pairs, how):
            for size in batches:
                run = products(variant.network, batch=size, **options)
                before = products(variant.pruned, batch=size, **options) if variant.removed else run
                rows += table.rows(variant, size, run, before)
            notes |= dict.fromkeys(variant.network.notes)
    found = sensitivity(rows, table.priced, refused) if energy == ALL_TABLES else None
    overall = totals(rows)
    told = [*notes, *_sampled(machines, sample), *first.notes, *_sized(overall, held, kind), *_notes(rows)]
    rows += overall
    if other_bytes is not None:
        add_other_layers(rows, other_bytes, held.pairs, kind, first)
        told += [ESTIMATED] if other_bytes == "auto" else []
    assumed = {built.name: built.assumed for built in machines}
    covers = coverage(network, products(network, **options), training)
    sentences = (*verdict(rows), *network_sentences(rows))
    return Comparison(rows, sentences, covers, tuple(told), assumed, found)


def _tables(energy: str, machines: Sequence[Machine], dtype: str) -> tuple[list[EnergyTable], dict[str, str]]:
    """Return the tables to price by, the one of the main columns first, and why others are left out."""
    if energy != ALL_TABLES:
        return [load_table(energy or DEFAULT_TABLE)], {}
    names, refused = priceable(machines, DataType.parse(dtype))
    if not names:
        why = "; ".join(f"{name}: {reason}" for name, reason in refused.items())
        raise ConfigError(f"no table knows all machines and the data type ({why})", key="--energy")
    return [load_table(name) for name in names], refused


def _choice(value: str, key: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ConfigError(f"'{value}'", key=key, allowed=", ".join(allowed))


def _sampled(machines: Sequence[Machine], sample: float | None) -> list[str]:
    """Say which machines estimate and which do not."""
    if not sample:
        return []
    names = [built.name for built in machines if SAMPLE in built.fields()]
    exact = [built.name for built in machines if built.name not in names]
    told = f"{', '.join(names)}: estimated from {sample:.1%} of the products of large layers"
    return [f"{told}; exact: {', '.join(exact)}" if exact else told]


def _sized(overall: Sequence[dict[str, Any]], held: Held, dtype: DataType) -> Sequence[str]:
    """Give total rows what their machines have, and the speed against the reference; return what to know of it."""
    owned = {built.name: resources(built, dtype) for built, _ in held.pairs}
    for row in overall:
        row |= normalised(row, owned[row["machine.name"]])
    if not held.reference:
        return unlike(owned)
    against_reference(overall, held)
    return held.notes


def _notes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Gather the runs' own notes: what, on which machine, for how many layers."""
    layers: dict[tuple[str, str], dict[str, set[str]]] = {}
    for row in rows:
        for note in row.get("details.notes", ()):
            alike = layers.setdefault((row["machine.name"], FIGURE.sub("", note)), {})
            alike.setdefault(note, set()).add(row["layer"])
    told = []
    for (name, _), alike in layers.items():
        (note, found), *others = alike.items()
        rest = set().union(*(more for _, more in others)) - found
        other = f"; other figures for {_first(rest)}" if rest else "; other figures in other runs" if others else ""
        told.append(f"{name}, {_first(found)}: {note}{other}")
    return told


def _first(names: Iterable[str]) -> str:
    ordered = sorted(names)
    return ", ".join(ordered[:3]) + " …" * (len(ordered) > 3)


def _configured(on: Sequence[str | Machine], overrides: Mapping[str, Any]) -> list[Machine]:
    """Build the machines; each takes the overrides it has fields for."""
    built = [machine(name) for name in on]
    names = [each.name for each in built]
    if len(set(names)) < len(names):
        raise ConfigError("two machines of one name; compare them in two calls", key="on")
    for key in overrides:
        known = [field for each in built for field in each.fields()]
        if key not in known and key == SAMPLE:
            raise without_estimates(names)
        if key not in known:
            raise ConfigError(f"none of the machines has a field '{key}'{nearest(key, known)}", key="--set")
    own = [{key: value for key, value in overrides.items() if key in each.fields()} for each in built]
    return [
        each.with_fields(values) if isinstance(name, Machine) else machine(name, values)
        for name, each, values in zip(on, built, own, strict=True)
    ]
