"""The machines that can be asked for a cost: one preset, one class, and a kernel where it needs one."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from sparsim.arguments import overridden
from sparsim.errors import ConfigError, nearest
from sparsim.machines.activity import STREAMS, Activity, Buffer, Stage
from sparsim.machines.base import Machine, flatten, is_preset, load_preset, preset_names

__all__ = ["STREAMS", "Activity", "Buffer", "Machine", "Stage", "describe", "machine", "preset_names"]

CLASSES = {
    "sparch": "sparsim.machines.sparch:SpArch",
    "tiled_gemm": "sparsim.machines.tiled_gemm:TiledGemm",
    "systolic": "sparsim.machines.systolic:SystolicArray",
    "outerspace": "sparsim.machines.outerspace:OuterSpace",
    "tensor_core": "sparsim.machines.tensor_core:TensorCore",
    "roofline": "sparsim.machines.roofline:Roofline",
    "host": "sparsim.machines.host:Host",
}


def machine(name: str | Machine, overrides: Mapping[str, Any] | None = None) -> Machine:
    """Return the machine called ``name``, with dotted fields replaced.

    Parameters
    ----------
    name : a preset (``sparch``), a preset with a mode (``a100-2:4``), or a machine (returned as it is).
    overrides : dotted field to value, as ``--set`` takes them.

    Raises
    ------
    ConfigError
        If the name or a field is unknown, or a value is out of its range.
    """
    overrides = overridden(overrides)
    if isinstance(name, Machine):
        if overrides:
            raise ConfigError("overrides go with a machine's name, not with a built machine", key=name.name)
        return name
    if not isinstance(name, str) or not is_preset(name):
        raise ConfigError(f"no machine '{name}'{nearest(str(name), preset_names())}", key="machine")
    leaf, _, mode = name.partition("-")
    preset = load_preset(leaf)
    module, _, attribute = CLASSES[preset.kind].partition(":")
    built: Machine = getattr(import_module(module), attribute).from_preset(name, preset, mode, overrides)
    return built


def describe(built: Machine) -> dict[str, Any]:
    """Return what a machine is, what it models, and every constant in force with unit, source, status and note."""
    constants = {key: constant.model_dump() for key, constant in built.preset.constants_in(built.mode).items()}
    for key, value in flatten(built.config.model_dump(mode="json")).items():
        usual = constants.get(key, {"value": 1 if key == "copies" else None})["value"]
        if value is not None and value != usual:
            known = constants.get(key, {"unit": "", "source": "", "status": "", "note": ""})
            constants[key] = known | {"value": value, "note": f"set by the mode or by --set. {known['note']}".strip()}
    mode = built.preset.modes.get(built.mode, {})
    return {
        "name": built.name,
        "title": "; ".join(part for part in (built.preset.title, mode.get("note", "")) if part),
        "citation": built.preset.citation,
        "baseline": built.baseline,
        "models": built.preset.models,
        "not_modelled": built.preset.not_modelled,
        "constants": constants,
    }
