"""PyTorch's checkpoints: state dicts in ``.pt``, ``.pth``, ``.th``, ``.bin`` files.

They are pickles, and unpickling runs whatever code the file names; so only ``torch.load(weights_only=True)`` is used,
and a file that needs more (a whole module) is refused.
"""

from __future__ import annotations

import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sparsim.errors import InputError, MissingExtra
from sparsim.io._files import one_line
from sparsim.io.huggingface import checkpoint, read_weight_map
from sparsim.io.stored import Stored
from sparsim.network import Network

__all__ = ["SUFFIXES", "read_torch", "read_torch_arrays", "read_torch_index", "write_torch"]

SUFFIXES = (".bin", ".pt", ".pth", ".th")
WRAPPERS = (
    "state_dict", "model_state_dict", "model_state", "model", "net", "network", "module", "weights", "params",
    "state_dict_ema", "model_ema", "ema_state_dict", "params_ema", "ema",
)  # fmt: skip
NOT_WEIGHTS = ("optim", "scheduler", "scaler", "lr_sched", "rng", "hyper", "callbacks", "loops")
PREFIXES = ("module.", "_orig_mod.")
PACKED = "_packed_params"
PICKLE, ZIP = b"\x80", b"PK"
DEEPEST = 4
ALWAYS_ALLOWED = 2**26
MOST_ZEROS = 256
REMEDY = "where the model can be built, save its weights alone: torch.save(model.state_dict(), path)"
Array = npt.NDArray[Any]


def read_torch(path: Path, name: str | None = None) -> Network:
    """Read the state dict of one file.

    A dict that wraps it (``state_dict``, ``model``, ``net``, ``ema`` ...) is opened, the prefixes of ``DataParallel``
    (``module.``) and ``torch.compile`` (``_orig_mod.``) are dropped where all names have them, optimiser states and
    everything else that is no tensor is left aside. bfloat16 and 8-bit floats become float32, quantised tensors are
    dequantised, sparse ones written out.

    Raises
    ------
    InputError
        If the file is damaged, holds a pickled module, or no tensor is a weight.
    MissingExtra
        If torch is not installed.
    """
    arrays, stored, metadata = _read_file(path)
    return checkpoint(arrays, path, name, metadata=metadata, stored=stored)


def read_torch_arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Read the arrays of one file under their names."""
    return _read_file(path)[0]


def read_torch_index(path: Path, name: str | None = None) -> Network:
    """Read a checkpoint in shards through ``pytorch_model.bin.index.json``.

    Raises
    ------
    InputError
        If a shard is missing or lacks a tensor the index promises.
    MissingExtra
        If torch is not installed.
    """
    stored: dict[str, Stored] = {}

    def read(shard: Path) -> dict[str, Array]:
        part, about, _ = _read_file(shard)
        stored.update(about)
        return part

    return checkpoint(read_weight_map(path, read), path, name, metadata={}, stored=stored)


def write_torch(path: Path, arrays: Mapping[str, Array], types: Mapping[str, str], texts: Mapping[str, str]) -> None:
    """Write a state dict that ``load_state_dict(strict=True)`` takes.

    Parameters
    ----------
    path : of the file.
    arrays : every array under its name.
    types : "BF16" for those to be stored as bfloat16.
    texts : sparsim's own; they go where torch keeps the versions of modules, ``state_dict._metadata``, which is no
        entry of the dict.
    """
    torch = _torch("writing .pt files")
    state: Any = OrderedDict()
    for key, array in arrays.items():
        tensor = torch.from_numpy(np.array(array, order="C"))
        state[key] = tensor.to(torch.bfloat16) if types.get(key) == "BF16" else tensor
    state._metadata = OrderedDict({"": {"version": 1, "sparsim": dict(texts)}})
    torch.save(state, path)


def _torch(what: str) -> Any:
    try:
        import torch
    except ImportError:
        raise MissingExtra(what, "torch") from None
    return torch


def _read_file(path: Path) -> tuple[dict[str, Array], dict[str, Stored], dict[str, str]]:
    _check_container(path)
    loaded = _load(_torch("reading .pt files"), path)
    state = _state_dict(loaded)
    if not state:
        kind = type(loaded).__name__
        raise InputError(f"holds no state dict, but a {kind} without named tensors", source=path, remedy=REMEDY)
    for prefix in PREFIXES:
        if all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): tensor for key, tensor in state.items()}
    arrays: dict[str, Array] = {}
    stored: dict[str, Stored] = {}
    for key, tensor in state.items():
        _check_size(tensor, path, key)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch calls sparse and quantised tensors beta, or deprecated
            arrays[key] = _to_numpy(tensor, path, key)
        if str(tensor.dtype) == "torch.bfloat16":
            stored[key] = Stored(type="BF16")
    about = getattr(loaded, "_metadata", None)
    texts = about.get("", {}).get("sparsim", {}) if isinstance(about, dict) else {}
    return arrays, stored, {str(key): str(value) for key, value in texts.items()} if isinstance(texts, dict) else {}


def _check_container(path: Path) -> None:
    """Refuse what is no checkpoint before torch sees it; a zip archive must not promise more than it holds."""
    size = path.stat().st_size
    if not size:
        raise InputError("the file is empty", source=path, remedy="export or download it again")
    with path.open("rb") as stream:
        magic = stream.read(512)
    if magic.startswith(ZIP):
        try:
            with zipfile.ZipFile(path) as archive:
                members = archive.infolist()
        except Exception as error:  # zipfile raises a dozen unrelated types on broken archives
            raise InputError(
                f"is no readable archive ({one_line(error)})", source=path, remedy="download or save it again"
            ) from None
        if sum(member.file_size for member in members) > size:
            raise InputError("claims more bytes than it holds", source=path, remedy="save it again with torch.save")
        if any(member.filename.endswith("constants.pkl") for member in members):
            raise InputError(
                "is a TorchScript program", source=path, remedy="save torch.jit.load(path).state_dict() instead"
            )
    elif not magic.startswith(PICKLE) and magic[257:262] != b"ustar":
        raise InputError(
            "is no PyTorch checkpoint (bare numbers, such as llama2.c's, have no names to go by)",
            source=path,
            remedy="convert it to .safetensors or .npz",
        )


def _load(torch: Any, path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # a damaged pickle raises any type
        text = one_line(error)
        if "GLOBAL" in text or ("weights_only" in text.lower() and "Unsupported" in text):
            named = text.partition("GLOBAL ")[2].split()[:1]
            what = f"Python objects ({named[0].strip('`')})" if named else "Python objects"
            raise InputError(f"holds {what} beside tensors, which is code", source=path, remedy=REMEDY) from None
        raise InputError(
            f"is no readable checkpoint ({text[:120]})", source=path, remedy="download or save it again"
        ) from None


def _state_dict(loaded: Any, depth: int = 0) -> dict[str, Any]:
    """Return the named tensors of a checkpoint; {} if there are none."""
    if not isinstance(loaded, Mapping) or depth > DEEPEST:
        return {}
    for key in WRAPPERS:
        inner = _state_dict(loaded.get(key), depth + 1)
        if any(tensor.ndim > 1 for tensor in inner.values()):
            return inner
    state = dict(_tensors(loaded))
    if any(tensor.ndim > 1 for tensor in state.values()):
        return state
    for key, value in loaded.items():
        if not str(key).lower().startswith(NOT_WEIGHTS):
            state |= {f"{key}.{inner}": tensor for inner, tensor in _state_dict(value, depth + 1).items()}
    return state


def _tensors(loaded: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in loaded.items():
        if _is_tensor(value):
            yield str(key), value
        elif str(key).endswith(PACKED) and isinstance(value, tuple) and value and _is_tensor(value[0]):
            base = str(key).removesuffix(f"{PACKED}.{PACKED}")  # a quantised Linear keeps its weight and bias as one
            yield f"{base}weight", value[0]
            if len(value) > 1 and _is_tensor(value[1]):
                yield f"{base}bias", value[1]


def _is_tensor(value: Any) -> bool:
    return type(value).__module__.startswith("torch") and hasattr(value, "layout") and hasattr(value, "is_quantized")


def _check_size(tensor: Any, path: Path, key: str) -> None:
    """Refuse a few bytes that call themselves a giant: a view of stride 0, or a sparse shape without limits."""
    most = max(ALWAYS_ALLOWED, MOST_ZEROS * path.stat().st_size)
    if tensor.numel() > most:
        raise InputError(
            f"'{key}' claims {tensor.numel()} elements, the file has only {path.stat().st_size} bytes",
            source=path,
            remedy="save it again (tensor.clone() writes out a view)",
        )


def _to_numpy(tensor: Any, path: Path, key: str) -> Array:
    try:
        tensor = tensor.detach()
        if tensor.is_quantized:
            tensor = tensor.dequantize()
        if str(tensor.layout) != "torch.strided":
            tensor = tensor.to_dense()
        tensor = tensor.resolve_conj().resolve_neg()
        if tensor.is_floating_point() and str(tensor.dtype) not in ("torch.float16", "torch.float32", "torch.float64"):
            tensor = tensor.float()
        array: Array = np.array(tensor.numpy(), order="C")
    except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
        raise InputError(
            f"'{key}' ({tensor.dtype}, {tensor.layout}) has no dense values ({one_line(error)[:120]})",
            source=path,
            remedy="save plain dense tensors",
        ) from None
    return array
