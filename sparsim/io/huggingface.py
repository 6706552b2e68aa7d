"""Checkpoints as Hugging Face lays them out: ``config.json``, the weights in one file or in shards with an index.

``config.json`` is read wherever it lies beside ``model*.safetensors`` or ``pytorch_model*.bin``. It says what the
network is called and which weights stand transposed: GPT-2 and its kin keep ``[in, out]`` in their ``Conv1D``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy.typing as npt

from sparsim.errors import InputError
from sparsim.io._files import one_line
from sparsim.io.arrays import network_from_arrays
from sparsim.io.geometry import parse_json
from sparsim.io.names import is_embedding_name
from sparsim.io.stored import Stored
from sparsim.network import Network

__all__ = ["checkpoint", "read_weight_map"]

Arrays = Mapping[str, npt.NDArray[Any]]
WEIGHTS = re.compile(r"(?:model|pytorch_model)\b.*")
FACTS = ("model_type", "hidden_size", "num_attention_heads")
OTHER_NAMES = {"n_embd": "hidden_size", "n_head": "num_attention_heads", "d_model": "hidden_size"}
TRANSPOSED_MODELS = ("decision_transformer", "gpt2", "imagegpt", "openai-gpt")
TRANSPOSED = re.compile(r"(?:^|\.)(?:c_attn|q_attn|c_fc|c_proj)\.weight$")


def checkpoint(
    arrays: Arrays,
    path: Path,
    name: str | None,
    *,
    metadata: Mapping[str, str],
    stored: Mapping[str, Stored],
) -> Network:
    """Return the network of a file of named arrays, with what ``config.json`` beside it says.

    Parameters
    ----------
    arrays : name to array, in the order of the network.
    path : the file or the index.
    name : of the network; by default the file's own, else the configuration's ``_name_or_path``, else the folder's.
    metadata, stored : what the file itself says.

    Raises
    ------
    InputError
        If the configuration is damaged, or the arrays are no network.
    """
    config = _read_config(path) if WEIGHTS.fullmatch(path.name) else {}
    about = dict(stored)
    if config.get("model_type") in TRANSPOSED_MODELS and "sparsim.layers" not in metadata:
        for key, array in arrays.items():
            if array.ndim == 2 and TRANSPOSED.search(key):
                about[key] = replace(about.get(key, Stored()), transposed=True)
    facts = {OTHER_NAMES.get(key, key): str(value) for key, value in config.items() if isinstance(value, int | str)}
    facts = {key: facts[key] for key in FACTS if key in facts}
    name = name or metadata.get("sparsim.name") or _name(config)
    network = network_from_arrays(arrays, source=path, name=name, metadata={**facts, **metadata}, stored=about)
    note = _tied(config, network)
    return replace(network, notes=(*network.notes, note)) if note and note not in network.notes else network


def _read_config(path: Path) -> dict[str, Any]:
    source = path.parent / "config.json"
    if not source.is_file():
        return {}
    try:
        config = parse_json(source.read_text("utf-8"), source, "")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read ({one_line(error)})", source=source, remedy="remove or correct it") from None
    if not isinstance(config, dict):
        raise InputError("is no object", source=source, remedy="fetch it again, or remove it")
    return config


def _name(config: Mapping[str, Any]) -> str | None:
    said = config.get("_name_or_path")
    if not isinstance(said, str):
        return None
    local = said.startswith((".", "/", "~")) or said.count("/") > 1
    return (said.rstrip("/").rpartition("/")[2] if local else said) or None


def _tied(config: Mapping[str, Any], network: Network) -> str:
    """Return a note if the output layer has no weights of its own: its product is not among the layers."""
    heads = [item for item in config.get("architectures") or [] if isinstance(item, str)]
    tied = config.get("tie_word_embeddings", config.get("model_type") in TRANSPOSED_MODELS)
    tables = [key for key in network.skipped if is_embedding_name(key) and not re.search("pos|type|wpe", key)]
    if not tied or not tables or not any(re.search("LM|Generation", item) for item in heads):
        return ""
    if any(re.search(r"(?:lm_head|embed_out|decoder)$", layer.name) for layer in network):
        return ""
    return f"the output layer shares the weights of the embedding '{tables[0]}'; its product is not among the layers"


def read_weight_map(path: Path, read: Callable[[Path], Arrays]) -> dict[str, npt.NDArray[Any]]:
    """Read the shards an index names, ``{"weight_map": {tensor: file}}``.

    Parameters
    ----------
    path : the index.
    read : returns the arrays of one shard.

    Raises
    ------
    InputError
        If a shard is missing or lacks a tensor the index promises.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read ({one_line(error)})", source=path, remedy="it is a text file") from None
    index = parse_json(text, path, "")
    weight_map = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(weight_map, dict) or not weight_map or not all(isinstance(v, str) for v in weight_map.values()):
        raise InputError("has no 'weight_map'", source=path, remedy='it must hold {"weight_map": {"tensor": "file"}}')
    arrays: dict[str, npt.NDArray[Any]] = {}
    for shard in sorted(set(weight_map.values())):
        if Path(shard).name != shard or not (path.parent / shard).is_file():
            raise InputError(f"the shard '{shard}' is not in this folder", source=path, remedy="fetch all shards")
        arrays |= read(path.parent / shard)
    for tensor, shard in weight_map.items():
        if tensor not in arrays:
            raise InputError(f"'{tensor}' is not in '{shard}'", source=path, remedy="fetch the shard again")
    return arrays
