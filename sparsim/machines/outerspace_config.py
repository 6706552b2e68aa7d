"""Every parameter of OuterSPACE, with its range; the values and their sources stand in ``presets/outerspace.toml``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sparsim.machines.base import MachineConfig, Section

__all__ = ["OuterSpaceConfig"]


class TilesConfig(Section):
    """Processing elements; the tiles' request queues."""

    count: int = Field(ge=1, le=1024, description="tiles")
    pes: int = Field(ge=1, le=1024, description="processing elements of a tile, all of them multiply")
    merge_pes: int = Field(ge=1, le=1024, description="processing elements of a tile that merge")
    outstanding: int = Field(ge=1, le=65536, description="requests one processing element can have in flight")


class MultiplyConfig(Section):
    """Multiply phase."""

    assignment: Literal["tile", "pe", "balanced"] = Field(
        description="an outer product goes to a tile, its PEs take chunks in turn; to one PE; chunks where is room"
    )
    dependent_accesses: int = Field(ge=0, le=16, description="accesses one after the other before the first product")


class MergeConfig(Section):
    """Merge phase."""

    assignment: Literal["static", "balanced"] = Field(description="rows go to PEs in turn, or where there is room")
    compare: Literal["insert", "scan"] = Field(
        description="comparisons of one element: heads passed in a sorted insertion, or all heads"
    )
    link_latency: bool = Field(description="the address of a chunk is known when the chunk before has arrived")
    cache_bytes: int = Field(ge=0, le=2**30, description="private cache of a merging PE [bytes]")
    scratchpad_bytes: int = Field(ge=1, le=2**30, description="scratchpad of a merging PE, for the heads [bytes]")


class CacheConfig(Section):
    """A cache; the first level has one a tile."""

    bytes: int = Field(ge=64, le=2**30, description="capacity of one cache [bytes]")
    mshrs: int = Field(ge=1, le=65536, description="misses one cache can have in flight")


class SharedCacheConfig(CacheConfig):
    """The level all tiles share."""

    count: int = Field(ge=1, le=1024, description="caches")


class ElementConfig(Section):
    """Formats in memory."""

    value_bytes: Literal["dtype"] | int = Field(description="value, or that of the workload's data type [bytes]")
    index_bytes: int = Field(ge=1, le=16, description="index [bytes]")
    pointer_bytes: int = Field(ge=0, le=16, description="start of a row or column, of A, B and C [bytes]")
    link_bytes: int = Field(ge=0, le=16, description="link to the next chunk, one a chunk [bytes]")
    head_bytes: int = Field(ge=0, le=64, description="head of a row's list [bytes]")


class OuterSpaceConfig(MachineConfig):
    """OuterSPACE, with every parameter as a field."""

    tiles: TilesConfig
    multiply: MultiplyConfig
    merge: MergeConfig
    l0: CacheConfig
    l1: SharedCacheConfig
    block_bytes: int = Field(ge=1, le=4096, description="cache block and smallest request [bytes]")
    element: ElementConfig
