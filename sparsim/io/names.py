"""What the names of arrays in a checkpoint say: weight, bias, embedding."""

from __future__ import annotations

import re

__all__ = ["bias_name", "is_embedding_name", "is_weight_name", "strip_weight"]

WEIGHT = re.compile(r"(?:^|[./])(?:weight|w|kernel)(?::0)?$")
LOOSE = re.compile(r"_(?:weight|w|kernel)(?::0)?$")
RECURRENT = re.compile(r"(?:^|[._/])weight_(?:ih|hh)(?:_l\d+)?(?:_reverse)?$")
BIAS = re.compile(r"(weight|kernel|w)((?:_[ih]h)?(?:_l\d+)?(?:_reverse)?(?::0)?)$")
EMBEDDING = re.compile(r"embed|^(?:wte|wpe|relative_attention_bias)$|^shared$", re.IGNORECASE)
MAPPING = re.compile(r"proj|mapping|linear|dense", re.IGNORECASE)


def is_weight_name(key: str) -> bool:
    """Whether the name ends in ``weight``, ``w`` or ``kernel`` after a dot, a slash or an underscore."""
    return any(pattern.search(key) for pattern in (WEIGHT, LOOSE, RECURRENT))


def strip_weight(key: str) -> str:
    """Return the name of the module: ``fc.weight`` belongs to ``fc``; "" if nothing is left."""
    return WEIGHT.sub("", key)


def bias_name(layer: str, key: str) -> str:
    """Return what the bias that belongs to the weight ``key`` is called."""
    short = key.removesuffix(".weight")
    named = BIAS.sub(lambda match: ("b" if match[1] == "w" else "bias") + match[2], key)
    return f"{short}.bias" if named == key or short != key else named


def is_embedding_name(key: str) -> bool:
    """Whether the module that holds the array is a table that is looked up, by the name of the module alone."""
    module = re.split(r"[./]", strip_weight(key) or key)[-1]
    return bool(EMBEDDING.search(module)) and not MAPPING.search(module)
