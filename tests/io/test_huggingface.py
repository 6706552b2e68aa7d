"""Folders as Hugging Face lays them out."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from sparsim.errors import InputError
from sparsim.io import load, save_network

GPT2 = {"model_type": "gpt2", "n_embd": 4, "n_head": 2, "architectures": ["GPT2LMHeadModel"], "_name_or_path": "gpt2"}


def checkpoint(folder, config, arrays):
    save_file(
        {key: np.ascontiguousarray(value, dtype=np.float32) for key, value in arrays.items()},
        folder / "model.safetensors",
    )
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    return folder


def gpt2():
    rng = np.random.default_rng(0)
    shapes = {"wte.weight": (7, 4), "wpe.weight": (5, 4), "h.0.ln_1.weight": (4,), "h.0.attn.bias": (1, 1, 5, 5)}
    shapes |= {"h.0.attn.c_attn.weight": (4, 12), "h.0.attn.c_attn.bias": (12,), "h.0.attn.c_proj.weight": (4, 4)}
    shapes |= {"h.0.mlp.c_fc.weight": (4, 16), "h.0.mlp.c_fc.bias": (16,), "h.0.mlp.c_proj.weight": (16, 4)}
    return {key: rng.normal(size=shape).astype(np.float32) for key, shape in shapes.items()}


def test_transposed_weights(tmp_path):
    arrays = gpt2()
    network = load(checkpoint(tmp_path, GPT2, arrays))
    assert network.name == "gpt2"
    assert [layer.name for layer in network] == ["h.0.attn.c_attn", "h.0.attn.c_proj", "h.0.mlp.c_fc", "h.0.mlp.c_proj"]
    for layer in network:
        np.testing.assert_array_equal(layer.weight, arrays[f"{layer.name}.weight"].T)
    np.testing.assert_array_equal(network["h.0.mlp.c_fc"].bias, arrays["h.0.mlp.c_fc.bias"])
    facts = {"model_type": "gpt2", "hidden_size": "4", "num_attention_heads": "2"}
    assert {key: network.metadata[key] for key in facts} == facts
    assert "shares the weights of the embedding 'wte.weight'" in network.notes[0]
    assert "table look-up" in network.skipped["wpe.weight"]


def test_they_are_written_as_they_were(tmp_path):
    arrays = gpt2()
    network = load(checkpoint(tmp_path, GPT2, arrays))
    (tmp_path / "out").mkdir()
    path = save_network(network, tmp_path / "out" / "model.safetensors")
    stored = load_file(path)
    assert stored.keys() == arrays.keys()
    for key, array in arrays.items():
        np.testing.assert_array_equal(stored[key], array)
    (tmp_path / "out" / "config.json").write_text(json.dumps(GPT2))
    for _ in range(2):
        again = load(path)
        assert (again.metadata, again.notes) == (network.metadata, network.notes)
        np.testing.assert_array_equal(again["h.0.mlp.c_fc"].weight, network["h.0.mlp.c_fc"].weight)
        (tmp_path / "out" / "config.json").unlink(missing_ok=True)
    assert load(save_network(network, tmp_path / "m.npz"))["h.0.mlp.c_fc"].shape == (16, 4)


def test_other_models_are_not_transposed(tmp_path):
    config = {"model_type": "llama", "hidden_size": 4, "_name_or_path": "/models/tiny", "tie_word_embeddings": False}
    arrays = {"model.layers.0.mlp.c_fc.weight": np.ones((3, 4)), "lm_head.weight": np.ones((7, 4))}
    arrays["model.embed_tokens.weight"] = np.ones((7, 4))
    network = load(checkpoint(tmp_path, config, arrays))
    assert network["model.layers.0.mlp.c_fc"].shape == (3, 4)
    assert [layer.name for layer in network] == ["lm_head", "model.layers.0.mlp.c_fc"]
    assert (network.name, network.notes) == ("tiny", ())
    assert load(tmp_path, name="mine").name == "mine"


@pytest.mark.parametrize(
    ("key", "layer"),
    [
        ("embeddings.word_embeddings.weight", False),
        ("encoder.relative_attention_bias.weight", False),
        ("shared.weight", False),
        ("time_embed.0.weight", True),
        ("timestep_embedder.linear_1.weight", True),
        ("encoder.embedding_hidden_mapping_in.weight", True),
    ],
)
def test_what_is_an_embedding(tmp_path, key, layer):
    arrays = {key: np.ones((3, 4)), "fc.weight": np.ones((2, 2))}
    assert len(load(checkpoint(tmp_path, {}, arrays))) == 1 + layer


@pytest.mark.parametrize(("config", "message"), [("{", "is no JSON"), ("[1]", "is no object; fetch it again")])
def test_a_damaged_configuration(tmp_path, config, message):
    checkpoint(tmp_path, config, {"a.weight": np.ones((2, 2))})
    with pytest.raises(InputError, match=rf"config\.json: {message}"):
        load(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "other.safetensors")
    assert len(load(tmp_path / "other.safetensors")) == 1  # the configuration is somebody else's
