"""Every parameter of SpArch, with its range; the values and their sources stand in ``presets/sparch.toml``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from sparsim.machines.base import BankedDramConfig, MachineConfig, Section
from sparsim.machines.schedule import Order

__all__ = ["SpArchConfig"]


class Schedule(Section):
    """Merge order."""

    order: Order = Field(description="which inputs a round takes")
    weights: Literal["actual", "estimate"] = Field(
        description="products of a column: counted, or nnz x average row of B"
    )
    seed: int = Field(ge=0, description="of order = random")
    round_barrier: bool = Field(description="a round starts when the one before has left the tree")


class Merge(Section):
    """Merge tree."""

    layers: int = Field(ge=1, le=12, description="binary layers; 2^layers ways")
    width: int = Field(ge=1, le=1024, description="elements a layer's merger takes a cycle")
    pipelined: bool = Field(description="merge while multiplying, or in a second phase after it")
    comparators: Literal["hierarchical", "flat"] = Field(description="comparator arrays of a merger")
    fifo_elements: int = Field(ge=1, le=2**31, description="FIFO of one tree node [elements]")


class Multipliers(Section):
    """Multiplier array: each group works on one element of A."""

    groups: int = Field(ge=1, le=1024, description="groups")
    group_width: int = Field(ge=1, le=1024, description="multipliers a group")


class PrefetchConfig(Section):
    """Row prefetcher."""

    lines: int = Field(ge=0, le=2**24, description="buffer lines")
    line_elements: int = Field(ge=1, le=2**20, description="elements a line")
    look_ahead: int = Field(ge=0, le=2**31, description="how far the distance list builder sees")
    look_ahead_unit: Literal["elements", "line_ops"] = Field(description="elements of A, or touches of lines")
    policy: Literal["farthest", "oracle", "lru", "off"] = Field(
        description="replacement: farthest next use in the window (oracle: without window), least recent use, no buffer"
    )
    run_ahead: int = Field(
        ge=0, le=2**31, description="line visits fetched and not used yet, at most; 0 = fetched when used"
    )
    pointer_bytes: int = Field(ge=0, le=64, description="charged with the first line of a row [bytes]")


class LookAheadFifo(Section):
    """A FIFO by the elements of A it holds."""

    elements: int = Field(ge=1, le=2**31, description="capacity [elements]")
    elements_per_cycle: int = Field(ge=1, le=2**16, description="elements of A that enter in one cycle")


class PartialFifo(Section):
    """Partial results read ahead."""

    elements: int = Field(ge=1, le=2**31, description="capacity, all inputs of a round together [elements]")


class Writer(Section):
    """Partial matrix writer."""

    fifo_elements: int = Field(ge=1, le=2**31, description="FIFO ahead of DRAM [elements]")


class Element(Section):
    """Sizes of stored elements."""

    value_bytes: Annotated[int, Field(ge=1, le=16)] | Literal["dtype"] = Field(
        description="bytes of a value; dtype follows the workload"
    )
    index_bytes: int = Field(ge=1, le=8, description="bytes of one index")


class Layout(Section):
    """How the product is laid on the machine."""

    orientation: Literal["wx", "xtwt"] = Field(description="the product as given, or transposed")
    panel_columns: int = Field(ge=0, le=2**40, description="width of column panels, 0 = no panels")


class Sample(Section):
    """Estimates instead of exact figures."""

    fraction: float = Field(ge=0, le=1, description="share of the products that is merged and timed, 0 = exact")
    seed: int = Field(ge=0, description="of the rows drawn")


class SpArchConfig(MachineConfig):
    """Every parameter of SpArch."""

    fidelity: Literal["fast", "cycle"] = Field(description="steps of the timing core, or every cycle and element")
    condense: bool = Field(description="condensed columns, or one partial matrix for each column of A")
    schedule: Schedule
    merge: Merge
    multipliers: Multipliers
    prefetch: PrefetchConfig
    look_ahead_fifo: LookAheadFifo
    partial_fifo: PartialFifo
    writer: Writer
    element: Element
    mapping: Layout
    sample: Sample
    dram: BankedDramConfig

    @model_validator(mode="after")
    def _samples(self) -> SpArchConfig:
        """Refuse samples of what has no independent rows or no blocks of them."""
        needed = {
            "fidelity = fast": self.fidelity == "fast",
            "condense = true": self.condense,
            "merge.pipelined = true": self.merge.pipelined,
            "copies = 1": self.copies == 1,
        }
        lacking = [key for key, holds in needed.items() if not holds]
        if self.sample.fraction and lacking:
            raise ValueError(f"sample.fraction = {self.sample.fraction}: goes with {lacking[0]} only")
        return self
