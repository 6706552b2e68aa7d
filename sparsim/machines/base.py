"""Machine and preset: how a TOML file of sourced constants becomes something that can be asked for a cost.

A preset holds constants ``{value, unit, source, status, note}``; the class it names declares their types and ranges
as a pydantic model. ``--set`` replaces values by dotted field and passes the same checks. A mode (``a100-2:4``) is a
set of replacements that lives in the preset.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib import resources
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sparsim.errors import ConfigError, nearest
from sparsim.machines.activity import Activity
from sparsim.machines.interrupt import interrupt_held_back
from sparsim.machines.replicate import Site, run_copies
from sparsim.workload import DataType, Workload

__all__ = [
    "BankedDramConfig",
    "Constant",
    "DramConfig",
    "Machine",
    "MachineConfig",
    "Preset",
    "flatten",
    "is_preset",
    "load_preset",
    "preset_names",
]

TOLD = ("baseline", "note")  # of a mode, not fields
Status = Literal["published", "measured", "derived", "recalled", "assumed"]


class Constant(BaseModel):
    """One number of a preset and what it rests on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float | int | str | bool
    unit: str
    source: str
    status: Status
    note: str = ""


class Section(BaseModel):
    """Base of every configuration record: immutable, unknown keys and silent conversions refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class DramConfig(Section):
    """External memory."""

    technology: str = Field(description="row of the energy table's DRAM section")
    channels: int = Field(ge=1, le=1024, description="independent channels")
    gb_s_per_channel: float = Field(ge=1e-3, le=1e6, description="peak bandwidth of one channel [GB/s]")
    burst_bytes: int = Field(ge=1, le=4096, description="smallest transfer [bytes]")
    latency_ns: float = Field(ge=0, le=1e6, description="from request to first data [ns]")
    interleave_bytes: int = Field(ge=1, le=2**30, description="consecutive bytes that share a channel [bytes]")

    @property
    def gb_s(self) -> float:
        """Peak bandwidth of all channels, GB/s."""
        return self.channels * self.gb_s_per_channel


class BankedDramConfig(DramConfig):
    """External memory down to its banks, for machines whose requests are followed one by one.

    ``latency_ns`` then leaves out what banks, queues and turnaround add. Gaps and intervals are those between data.
    """

    bank_groups: int = Field(ge=1, le=64, description="bank groups of a channel")
    banks: int = Field(ge=1, le=1024, description="banks of a channel, over all groups")
    row_bytes: int = Field(ge=1, le=2**20, description="row (page) of a bank [bytes]")
    t_ccd_l_ns: float = Field(ge=0, le=1e3, description="between bursts of one bank group [ns]")
    t_rcd_ns: float = Field(ge=0, le=1e3, description="from activating a row to its first access [ns]")
    t_rp_ns: float = Field(ge=0, le=1e3, description="precharge [ns]")
    t_ras_ns: float = Field(ge=0, le=1e3, description="from activating a row to precharging it, at least [ns]")
    t_rrd_ns: float = Field(ge=0, le=1e3, description="between activations in one channel [ns]")
    t_faw_ns: float = Field(ge=0, le=1e3, description="window that holds at most four activations of a channel [ns]")
    t_wr_ns: float = Field(ge=0, le=1e3, description="from written data to precharge [ns]")
    read_to_write_ns: float = Field(ge=0, le=1e3, description="idle bus between a read's data and a write's [ns]")
    write_to_read_ns: float = Field(ge=0, le=1e3, description="idle bus between a write's data and a read's [ns]")
    t_refi_ns: float = Field(ge=0, le=1e6, description="between refreshes of a channel, 0 = none [ns]")
    t_rfc_ns: float = Field(ge=0, le=1e5, description="a refresh occupies the channel [ns]")
    queue_bursts: int = Field(ge=1, le=4096, description="bursts a channel's read queue holds; its write queue too")
    write_high: int = Field(ge=1, le=4096, description="queued write bursts at which the channel turns to writing")
    write_low: int = Field(ge=0, le=4096, description="queued write bursts at which it turns back to reading")

    @model_validator(mode="after")
    def _fits(self) -> BankedDramConfig:
        """Refuse pieces that cross a row or a burst, and queue marks out of order."""
        small, large = sorted((self.interleave_bytes, self.row_bytes))
        if self.interleave_bytes % self.burst_bytes or self.row_bytes % self.burst_bytes or large % small:
            sizes = f"dram.interleave_bytes = {self.interleave_bytes}, dram.row_bytes = {self.row_bytes}"
            raise ValueError(f"{sizes}: multiples of dram.burst_bytes = {self.burst_bytes}, and one of the other")
        if not self.write_low < self.write_high <= self.queue_bursts:
            marks = f"dram.write_low = {self.write_low}, write_high = {self.write_high}"
            raise ValueError(f"{marks}: write_low < write_high <= queue_bursts = {self.queue_bursts} must hold")
        if self.bank_groups > self.banks:
            raise ValueError(f"dram.bank_groups = {self.bank_groups}: at most dram.banks = {self.banks}")
        closed = self.t_ras_ns + self.t_wr_ns + self.t_rp_ns + self.t_rfc_ns
        if 0 < self.t_refi_ns <= closed:
            raise ValueError(
                f"dram.t_refi_ns = {self.t_refi_ns}: 0, or more than closing and refreshing take ({closed})"
            )
        return self


class MachineConfig(Section):
    """What every machine has."""

    clock_ghz: float = Field(ge=1e-3, le=100, description="clock [GHz]")
    technology_nm: int = Field(gt=0, description="process node [nm]")
    im2col: Literal["on_chip", "in_memory"] = Field(description="where convolution activations are unrolled")
    device_power_w: float | None = Field(
        default=None, gt=0, description="board or chip power from the data sheet or the paper, of one copy [W]"
    )
    copies: int = Field(
        default=1, ge=1, le=65536, description="equal machines that share the rows of A and the DRAM's bandwidth"
    )
    dram: DramConfig

    @property
    def dram_bytes_per_cycle(self) -> float:
        """Peak bytes of DRAM in one clock."""
        return self.dram.gb_s / self.clock_ghz


@dataclass(frozen=True, eq=False)
class Preset:
    """A parsed preset file; a mode has words (``mode``, ``baseline``, ``note``) and constants of its own."""

    name: str
    kind: str
    title: str
    citation: str
    baseline: str
    models: str
    not_modelled: str
    constants: Mapping[str, Constant]
    modes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def constants_in(self, mode: str) -> Mapping[str, Constant]:
        """Return the constants, those of a mode in place of the others."""
        own = {key: entry for key, entry in self.modes.get(mode, {}).items() if isinstance(entry, Constant)}
        return {**self.constants, **own}


@cache
def preset_names() -> tuple[str, ...]:
    """Return the names of the shipped presets, modes included."""
    modes = {leaf: _read(leaf).get("modes", {}) for leaf in _leaves()}
    return tuple(sorted([*modes, *(f"{leaf}-{mode}" for leaf in modes for mode in modes[leaf])]))


def is_preset(name: str) -> bool:
    """Return whether a preset is called ``name``, without reading the others."""
    leaf, hyphen, mode = name.partition("-")
    return leaf in _leaves() and (not hyphen or mode in load_preset(leaf).modes)


@cache
def _leaves() -> frozenset[str]:
    entries = resources.files("sparsim.machines").joinpath("presets").iterdir()
    return frozenset(entry.name.removesuffix(".toml") for entry in entries if entry.name.endswith(".toml"))


@cache
def load_preset(leaf: str) -> Preset:
    """Read the preset called ``leaf`` (a name without mode)."""
    data = _read(leaf)
    head = {key: data.pop(key) for key in ("class", "title", "citation", "baseline", "models", "not_modelled")}
    modes = {
        mode: {key: Constant(**entry) if isinstance(entry, Mapping) else entry for key, entry in entries.items()}
        for mode, entries in data.pop("modes", {}).items()
    }
    constants: dict[str, Constant] = {}
    _collect(data, "", constants)
    return Preset(name=leaf, kind=head.pop("class"), constants=constants, modes=modes, **head)


def _read(leaf: str) -> dict[str, Any]:
    """Return a preset's file, laid over the one it says it ``extends``."""
    text = resources.files("sparsim.machines").joinpath("presets", f"{leaf}.toml").read_text("utf-8")
    data = tomllib.loads(text)
    parent = data.pop("extends", None)
    return data if parent is None else _overlaid(_read(parent), data)


def _overlaid(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return two nested mappings as one; a constant is replaced whole, with its source and status."""
    merged = dict(under)
    for key, value in over.items():
        nested = isinstance(value, Mapping) and "value" not in value and isinstance(merged.get(key), Mapping)
        merged[key] = _overlaid(merged[key], value) if nested else value
    return merged


def _collect(table: Mapping[str, Any], prefix: str, into: dict[str, Constant]) -> None:
    for key, entry in table.items():
        if "value" in entry:
            into[prefix + key] = Constant(**entry)
        else:
            _collect(entry, f"{prefix}{key}.", into)


class Machine(ABC):
    """Anything that can be asked what a product costs.

    Parameters
    ----------
    name : preset leaf, with the mode after a hyphen.
    preset : the constants and their sources.
    config : the checked values, after ``--set``.
    baseline : name of the dense machine that speed-ups are measured against.

    ``measured`` says that costs are timed on this computer, not modelled: no roof bounds them, no energy is known, two
    runs differ, and nothing else may run meanwhile.
    """

    config_class: ClassVar[type[MachineConfig]]
    measured: ClassVar[bool] = False

    def __init__(self, name: str, preset: Preset, config: MachineConfig, baseline: str) -> None:
        self.name, self.preset, self.config, self.baseline = name, preset, config, baseline

    def run(self, workload: Workload) -> Activity:
        """Return what the machine does for ``workload``; its copies share the rows of A.

        Raises
        ------
        ConfigError
            If it is a computer that is measured, and copies are asked for: there is only one.
        """
        with interrupt_held_back():
            return self._run(workload)

    def _run(self, workload: Workload) -> Activity:
        copies = self.config.copies
        if copies == 1:
            return self.run_one(workload)
        if self.measured:
            raise ConfigError(f"{copies} copies of a machine that is measured", key=f"{self.name}.copies", allowed="1")
        site = Site(copies, self._alone, self.peak_of_one(workload.dtype), self.config.im2col, self.skips_zeros)
        return run_copies(site, workload)

    @property
    def skips_zeros(self) -> bool:
        """Whether single zeros of A cost nothing; a dense machine at most leaves out rows and columns."""
        return False

    def _alone(self, busy: int) -> Callable[[Workload], Activity]:
        """Return how one copy runs a product while ``busy`` of them share the bandwidth."""
        dram = self.config.dram
        share = dram.model_copy(update={"gb_s_per_channel": dram.gb_s_per_channel / busy})
        config = self.config.model_copy(update={"copies": 1, "dram": share})
        return type(self)(self.name, self.preset, config, self.baseline).run_one

    @abstractmethod
    def run_one(self, workload: Workload) -> Activity:
        """Return what a machine without copies does for ``workload``."""

    def peak_multiplies_per_cycle(self, dtype: DataType) -> float:
        """Return the multiplies that one cycle can do at most, for the compute roof (effectual ones, if it skips)."""
        return self.config.copies * self.peak_of_one(dtype)

    @abstractmethod
    def peak_of_one(self, dtype: DataType) -> float:
        """Return the multiplies that one cycle of one copy can do at most."""

    def layouts(self, workload: Workload) -> Sequence[Mapping[str, Any]]:
        """Return the ways to lay ``workload`` on the machine that are worth trying, as dotted fields."""
        return [{}]

    def inventory(self) -> Mapping[str, float]:
        """Return what the machine is built of, "component.kind" to number: bytes of memories, comparators, adders …

        Area, and power that burns whether or not there is work, follow from it. Empty where nobody has counted.
        """
        return {key: self.config.copies * number for key, number in self.inventory_of_one().items()}

    def inventory_of_one(self) -> Mapping[str, float]:
        """Return what one copy is built of."""
        return {}

    def with_fields(self, values: Mapping[str, Any]) -> Machine:
        """Return the same machine with dotted fields replaced."""
        if not values:
            return self
        config = _checked(self.config_class, self.name, flatten(self.config.model_dump()), values)
        return type(self)(self.name, self.preset, config, self.baseline)

    def fields(self) -> list[str]:
        """Return the dotted names of all fields."""
        return [*_fields(self.config_class)]

    @classmethod
    def from_preset(cls, name: str, preset: Preset, mode: str, overrides: Mapping[str, Any]) -> Machine:
        """Build the machine: preset, then mode, then overrides, then the checks of the configuration class."""
        model = cls.config_class
        values = _in_mode(preset, mode) if overrides else {}
        config = _checked(model, name, values, overrides) if overrides else _shipped(model, preset, mode)
        baseline = preset.modes[mode].get("baseline", preset.baseline) if mode else preset.baseline
        return cls(name, preset, config, preset.name if baseline == "." else baseline or name)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}: {self.preset.title})"

    @property
    def mode(self) -> str:
        """The part of the name after a hyphen, "" if it has none."""
        return self.name.partition("-")[2]

    @property
    def assumed(self) -> list[str]:
        """Constants in force that are guesses, with the reason; what was set is none."""
        set_to = flatten(self.config.model_dump(mode="json"))
        known = self.preset.constants_in(self.mode).items()
        return [f"{key}: {c.note}" for key, c in known if c.status == "assumed" and set_to.get(key, c.value) == c.value]

    @cached_property
    def config_sha256(self) -> str:
        """Hash of machine class and configuration."""
        text = json.dumps({"kind": self.preset.kind, "config": self.config.model_dump(mode="json")}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


@cache
def _shipped(model: type[MachineConfig], preset: Preset, mode: str) -> MachineConfig:
    return _checked(model, preset.name, _in_mode(preset, mode), {})


def _in_mode(preset: Preset, mode: str) -> dict[str, Any]:
    values: dict[str, Any] = {key: constant.value for key, constant in preset.constants_in(mode).items()}
    words = preset.modes[mode] if mode else {}
    return values | {key: word for key, word in words.items() if isinstance(word, str) and key not in TOLD}


def _checked(
    model: type[MachineConfig], name: str, values: Mapping[str, Any], overrides: Mapping[str, Any]
) -> MachineConfig:
    """Return the configuration with overrides, or one line that says which field is wrong and why."""
    known = _fields(model)
    for key in overrides:
        if key not in known:
            raise ConfigError(f"machine '{name}' has no field '{key}'{nearest(key, known)}", key="--set")
    flat = {**values, **overrides}
    try:
        return model.model_validate(_nest(flat))
    except ValidationError as error:
        first = error.errors()[0]
        place = [str(part) for part in first["loc"]]
        name_of = next((key for key in flat if key.split(".") == place[: key.count(".") + 1]), "")
        got = f", got {first['input']!r}" if name_of else ""
        told = first["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{told}{got}", key=f"{name}.{name_of}" if name_of else name) from None


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a nested mapping under dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return flat


def _nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        *path, leaf = key.split(".")
        node = tree
        for part in path:
            node = node.setdefault(part, {})
        node[leaf] = value
    return tree


@cache
def _fields(model: type[BaseModel], prefix: str = "") -> tuple[str, ...]:
    names: list[str] = []
    for key, info in model.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            names += _fields(info.annotation, f"{prefix}{key}.")
        else:
            names.append(prefix + key)
    return tuple(names)
