"""The CPU of EIE's table: measured times of fully connected layers against the roofline, which none may beat."""

from __future__ import annotations

from collections.abc import Iterator

from sparsim.fidelity.bench import Bench
from sparsim.fidelity.record import Published, Row, compare_with, not_modelled, read_published
from sparsim.machines import machine
from sparsim.workload import DataType, Operand, Workload

__all__ = ["LAYERS", "rows"]

PAPER = "cpu"
# Outputs and inputs of the fully connected layers of AlexNet and VGG-16, as in the zoo.
LAYERS = {
    "Alex-6": (4096, 9216),
    "Alex-7": (4096, 4096),
    "Alex-8": (1000, 4096),
    "VGG-6": (4096, 25088),
    "VGG-7": (4096, 4096),
    "VGG-8": (1000, 4096),
}


def rows(bench: Bench) -> Iterator[Row]:
    """Yield every measured time beside the roofline's, with the share of the roof that the measured one reached."""
    for published in read_published(PAPER):
        yield not_modelled(PAPER, published) if published.role == "not_modelled" else _row(published)


def _row(published: Published) -> Row:
    batch = int(published.quantity.rpartition(" ")[2])
    m, k = LAYERS[published.workload]
    built = machine("cpu")
    activity = built.run(Workload(Operand.dense(m, k), Operand.dense(k, batch), dtype=DataType.FP32))
    microseconds = activity.cycles / built.config.clock_ghz / 1e3 / batch
    share = microseconds / published.value
    return compare_with(PAPER, published, microseconds, f"{share:.0%} of the {activity.limited_by} roof was reached")
