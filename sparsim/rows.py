"""The rows of a comparison: one per layer, variant, batch and machine, and their sums over the network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import hypot
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from sparsim.formats import FormatSize
from sparsim.machines import Machine
from sparsim.network import Layer
from sparsim.report import Report
from sparsim.runs import Plan
from sparsim.storage import best_format
from sparsim.variants import Variant
from sparsim.verdict import TOTAL
from sparsim.workload import Operand, Workload

__all__ = ["Product", "Products", "Table", "product_row", "totals"]

SUMMED = (
    *("workload.", "dram_bytes.", "energy_pj.", "cycles.total", "cycles.stages.", "time_s", "bounds.compulsory_bytes"),
    *("baseline_", "removed_weights", "unpropagated_time_s", "chosen_time_s"),
    *("storage.best_bytes", "storage.dense_bytes", "storage.index_bytes", "details.a_value_bytes"),
    "details.a_index_bytes",
)
SAMPLE, INTERVALS = "details.sample.fraction", "details.sample.intervals."
CARRIED = ("propagated_sparsity", "accuracy", "workload.dtype", "provenance.energy_table")
LEADING = ("network", "batch", "granularity", "sparsity", "actual_sparsity", "layer", "machine.name", "baseline")

Row = dict[str, Any]


def _dense(workload: Workload) -> Workload:
    """Return the same layer with all its weights; those that stay dense anyway are not copied."""
    if workload.dense_twin is not None:
        return workload.dense_twin
    if workload.a.is_dense:
        return workload
    dense = Operand.dense(workload.m, workload.k)
    return Workload(
        dense, workload.b, workload.name, workload.layer, workload.dtype, workload.groups, workload.b_unique_elements
    )


class Product(NamedTuple):
    """One product of a variant, and what its rows say whatever the machine.

    Parameters
    ----------
    head : columns known before any machine runs; plain values.
    has_twin : whether the dense network has this product too; an adapter's layers have no twin.
    run : the product.
    before : the same without propagated sparsity.
    dense : the same with all weights.
    """

    head: Mapping[str, Any]
    has_twin: bool
    run: Workload
    before: Workload
    dense: Workload


@dataclass(frozen=True)
class Products:
    """Finds the products of a variant.

    Parameters
    ----------
    known : layers of the network as it came.
    stored : the best storage format of every layer that is still around.
    """

    known: Collection[str]
    stored: WeakKeyDictionary[Layer, FormatSize] = field(default_factory=WeakKeyDictionary, repr=False)

    def of(
        self, variant: Variant, batch: int, run: Sequence[Workload], before: Sequence[Workload]
    ) -> Iterator[Product]:
        """Yield one for each of ``run``; ``before`` are the products without propagated sparsity."""
        for workload, unpropagated in zip(run, before, strict=True):
            head = self._head(variant, batch, workload)
            yield Product(head, workload.weight_of in self.known, workload, unpropagated, _dense(workload))

    def _head(self, variant: Variant, batch: int, workload: Workload) -> dict[str, Any]:
        forward = workload.layer in (workload.weight_of, f"{workload.weight_of}:forward")
        return {
            "network": variant.network.name,
            "batch": batch,
            "granularity": variant.granularity,
            "sparsity": variant.sparsity,
            "actual_sparsity": variant.pruned.sparsity,
            "propagated_sparsity": variant.network.sparsity,
            "layer": workload.layer,
            "accuracy": variant.accuracy,
            "removed_weights": variant.removed.get(workload.weight_of, 0) if forward else 0,
            **(self._storage(variant, workload) if forward else {}),
            "workload.name": workload.name,
            "workload.layer": workload.layer,
        }

    def _storage(self, variant: Variant, workload: Workload) -> dict[str, Any]:
        """Return what a layer's weights take in their best format, whichever product they are part of."""
        layer, width = variant.network[workload.weight_of], workload.dtype.bytes
        if layer not in self.stored:
            label = variant.granularity.partition(" + ")[0]
            self.stored[layer] = best_format(layer, width, None if label == "as stored" else [label])
        best = self.stored[layer]
        return {
            "storage.best": best.name,
            "storage.best_bytes": best.total,
            "storage.dense_bytes": layer.size * width,
            "storage.index_bytes": best.index_bytes,
            "storage.index_share": best.index_share,
        }


def product_row(head: Mapping[str, Any], report: Report, before: Report, baseline: str, twin: Report | None) -> Row:
    """Return the row of one product on one machine; equal layers share a report, so names come from the head.

    Parameters
    ----------
    head : of the :class:`Product`.
    report, before : of the product with and without propagated sparsity.
    baseline : name of the dense twin.
    twin : what the dense weights cost there, None if there is no such product.
    """
    flat = {key: value for key, value in report.flat().items() if not key.startswith("machine.config")}
    row = {
        **head,
        "machine.name": report.machine,
        "baseline": baseline,
        "baseline_time_s": twin.time_s if twin else 0.0,
        "baseline_energy_pj": twin.energy_pj if twin else 0.0,
        "baseline_dram_bytes": twin.dram_bytes if twin else 0,
        "unpropagated_time_s": before.time_s,
        "chosen_time_s": min(report.time_s, flat.get("details.dense_kernel_us", float("inf")) / 1e6),
        "details.orientation": "wx",
    }
    return _with_ratios({**row, **flat, **head})


@dataclass(frozen=True)
class Table:
    """Makes the rows of a variant.

    Parameters
    ----------
    plan : runs the products.
    machines : each with the machine its dense weights run on.
    products : finds the products.
    priced : for every row in order, energy tables to pJ of the product and of its dense twin.
    """

    plan: Plan
    machines: Sequence[tuple[Machine, Machine]]
    products: Products
    priced: list[Mapping[str, tuple[float, float]]] = field(default_factory=list)

    def rows(
        self, variant: Variant, batch: int, run: Sequence[Workload], before: Sequence[Workload]
    ) -> list[dict[str, Any]]:
        """Return one row per product and machine; ``before`` are the products without propagated sparsity."""
        found = list(self.products.of(variant, batch, run, before))
        every = {id(workload): workload for workload in (*run, *before)}.values()
        self.plan.run(
            [(w, m) for w in every for m, _ in self.machines] + [(p.dense, t) for p in found for _, t in self.machines]
        )
        return [self._row(product, *pair) for product in found for pair in self.machines]

    def _row(self, product: Product, built: Machine, other: Machine) -> Row:
        own, twins = self.plan.energies(product.run, built), self.plan.energies(product.dense, other)
        self.priced.append({name: (pj, twins[name] if product.has_twin else 0.0) for name, pj in own.items()})
        report, before = self.plan.report(product.run, built), self.plan.report(product.before, built)
        twin = self.plan.report(product.dense, other)
        return product_row(product.head, report, before, twin.machine, twin if product.has_twin else None)


def _with_ratios(row: dict[str, Any]) -> dict[str, Any]:
    for name, own, twin in (
        ("speedup", "time_s", "baseline_time_s"),
        ("chosen_speedup", "chosen_time_s", "baseline_time_s"),
        ("energy_ratio", "energy_pj.total", "baseline_energy_pj"),
        ("traffic_ratio", "dram_bytes.total", "baseline_dram_bytes"),
    ):
        over, under = (row[twin], row[own]) if name.endswith("speedup") else (row[own], row[twin])
        row[name] = over / under if under and row[twin] else float("nan")
    own_time = row["time_s"]
    row["propagation_gain"] = row["unpropagated_time_s"] / own_time if own_time else float("nan")
    return row


def totals(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return one row per network, variant, batch and machine: sums over its products, and what took longest."""
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in LEADING if key != "layer"), []).append(row)
    sums = []
    baselines: dict[tuple[Any, ...], dict[str, Any]] = {}
    for members in groups.values():
        slowest = max(members, key=lambda row: row["time_s"])
        total = {key: slowest[key] for key in (*LEADING, *CARRIED)}
        total["layer"] = TOTAL
        keys = dict.fromkeys(key for row in members for key in row)
        for key in keys:
            if key.startswith(SUMMED) and not isinstance(slowest.get(key, 0), str):
                total[key] = sum(row.get(key, 0) for row in members)
        whole = {key: value for key, value in total.items() if key.startswith("baseline_")}
        # the first variant runs all products; one with an adapter trains fewer, against the same dense network
        total |= baselines.setdefault((total["batch"], total["machine.name"]), whole)
        for axis in ("m", "k", "n", "groups", "layer"):
            total.pop(f"workload.{axis}", None)
        flop = 2 * total["workload.multiplies"] - total["workload.nnz_c"]
        total["gflops"] = flop / total["time_s"] / 1e9 if total["time_s"] else 0.0
        total["slowest_layer"] = slowest["layer"]
        total["bounds.limited_by"] = slowest["bounds.limited_by"]
        total["details.reason"] = slowest["details.reason"]
        total["details.skips"] = slowest.get("details.skips", "")
        total |= _stored(members, total)
        total |= _estimated(members, total)
        sums.append(_with_ratios(total))
    return sums


def _estimated(rows: Sequence[Mapping[str, Any]], total: Mapping[str, Any]) -> dict[str, Any]:
    """Return the 95 % intervals of sums of estimates; runs of different products are off independently."""
    halves: dict[str, dict[Any, float]] = {}
    for row in rows:
        for key, value in row.items():
            name = key.removeprefix(INTERVALS)
            if name != key and name in total:
                low, high = value
                runs = halves.setdefault(name, {})
                run = row["provenance.workload_sha256"]
                runs[run] = runs.get(run, 0.0) + (high - low) / 2
    about = {SAMPLE: next(row[SAMPLE] for row in rows if SAMPLE in row)} if halves else {}
    for name, runs in halves.items():
        half = hypot(*runs.values())
        about[f"{INTERVALS}{name}"] = [max(round(total[name] - half), 0), round(total[name] + half)]
    return about


def _stored(rows: Sequence[Mapping[str, Any]], total: Mapping[str, Any]) -> dict[str, Any]:
    """Return in which formats a network's weights are smallest, the most frequent first, and the share of indices."""
    names = Counter(row["storage.best"] for row in rows if "storage.best" in row)
    size = total.get("storage.best_bytes", 0)
    return {
        "storage.best": ", ".join(name for name, _ in names.most_common()),
        "storage.index_share": total["storage.index_bytes"] / size if size else 0.0,
    }
