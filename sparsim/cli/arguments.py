"""What the words of the command line mean: lists, numbers, sizes, fields of machines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sparsim.errors import ConfigError

if TYPE_CHECKING:
    from sparsim.pruning import Criterion

__all__ = [
    "axes",
    "by_layer",
    "bytes_or_auto",
    "fidelity_field",
    "input_sizes",
    "integers",
    "number",
    "overrides",
    "refuse_to_overwrite",
    "scores",
    "words",
]


def words(text: str | None, option: str) -> list[str]:
    """Return the words of a list with commas."""
    if text is None:
        return []
    found = [word.strip() for word in text.split(",") if word.strip()]
    if not found:
        raise ConfigError("nothing given", key=option, allowed="one or more words with commas between them")
    return found


def number(word: str, option: str) -> float:
    """Return a number."""
    try:
        return float(word)
    except ValueError:
        raise ConfigError(f"'{word}' is no number", key=option) from None


def integers(text: str, option: str, count: int) -> tuple[int, ...]:
    """Return exactly ``count`` whole numbers of a list with commas."""
    try:
        numbers = tuple(int(word) for word in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != count:
        allowed = "a whole number" if count == 1 else f"{count} whole numbers separated by commas, such as 768,768,4096"
        raise ConfigError(f"'{text}'", key=option, allowed=allowed)
    return numbers


def bytes_or_auto(text: str | None, option: str) -> float | Literal["auto"] | None:
    """Return a number of bytes, or the word "auto"."""
    if text is None or text == "auto":
        return None if text is None else "auto"
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"'{text}'", key=option, allowed="bytes per sample, 0 or more, or auto") from None


def by_layer(text: str, option: str) -> str | dict[str, float]:
    """Return the name of a rule, or the number given for each layer as ``LAYER=NUMBER,…``."""
    if "=" not in text:
        return text
    given: dict[str, float] = {}
    for word in words(text, option):
        name, equals, value = word.rpartition("=")
        if not equals or not name:
            raise ConfigError(f"'{word}'", key=option, allowed="LAYER=NUMBER with commas between them")
        if name in given:
            raise ConfigError(f"'{name}' stands twice", key=option)
        given[name] = number(value, option)
    return given


def refuse_to_overwrite(source: Path, out: Path) -> None:
    """Refuse to write over the file a network is read from, or into one of a folder or index it is read from."""
    if not (out.exists() and source.exists()):
        return
    folder = source if source.is_dir() else source.parent if source.suffix == ".json" else None
    if out.samefile(source) or (folder is not None and out.parent.samefile(folder)):
        raise ConfigError(f"'{out}' is the network itself", key="--out", allowed="another file")


def scores(criterion: str, saliency: Path | None, seed: int) -> str | Criterion:
    """Return the criterion, with its arrays from the file ``saliency``."""
    if criterion == "magnitude" and saliency is None:
        return criterion
    from sparsim.io import load_arrays
    from sparsim.pruning import criteria

    return criteria.criterion(criterion, None if saliency is None else load_arrays(saliency), seed)


def overrides(fields: Sequence[str] | None) -> dict[str, Any]:
    """Return the machine fields given as ``FIELD=VALUE``."""
    return {key: _literal(value) for key, value in _fields(fields, "FIELD=VALUE, such as prefetch.lines=512")}


def axes(fields: Sequence[str] | None) -> dict[str, list[Any]]:
    """Return the machine fields given as ``FIELD=V1,V2`` with all their values."""
    found: dict[str, list[Any]] = {}
    for key, values in _fields(fields, "FIELD=V1,V2…, such as prefetch.lines=512,1024"):
        if key in found:
            raise ConfigError(f"'{key}' twice", key="--set", allowed="all values of a field in one list")
        found[key] = [_literal(word) for word in words(values, f"--set {key}")]
    return found


def _fields(fields: Sequence[str] | None, allowed: str) -> Iterator[tuple[str, str]]:
    for field in fields or ():
        key, equals, value = field.partition("=")
        if not equals or not key.strip() or not value.strip():
            raise ConfigError(f"'{field}'", key="--set", allowed=allowed)
        yield key.strip(), value.strip()


def fidelity_field(fidelity: str | None, on: str) -> dict[str, Any]:
    """Return the field that chooses a fidelity; machines with one only have no such field."""
    from sparsim.machines import machine

    if fidelity is None or "fidelity" in machine(on).fields():
        return {} if fidelity is None else {"fidelity": fidelity}
    if fidelity != "fast":
        raise ConfigError(f"'{on}' has no '{fidelity}'", key="--fidelity", allowed="fast; cycle goes with sparch")
    return {}


def _literal(text: str) -> bool | int | float | str:
    if text in ("true", "false"):
        return text == "true"
    kinds: tuple[Callable[[str], int | float], ...] = (int, float)
    for kind in kinds:
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def input_sizes(texts: Sequence[str] | None) -> dict[str, tuple[int, ...]]:
    """Return sizes by layer, "" for the network, given as ``CxHxW`` or ``LAYER=CxHxW``."""
    sizes: dict[str, tuple[int, ...]] = {}
    for text in texts or ():
        name, equals, shape = text.rpartition("=")
        parts = shape.split("x")
        sane = all(part.isascii() and part.isdecimal() and 0 < int(part) < 2**31 for part in parts)
        if not sane or not 2 <= len(parts) <= 4:
            raise ConfigError(f"'{text}'", key="--input", allowed="CxHxW or LAYER=CxHxW, such as 3x224x224")
        sizes[name if equals else ""] = tuple(int(part) for part in parts)
    return sizes
