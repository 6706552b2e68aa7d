"""PyTorch's checkpoints: what is opened, what is refused, and models that take back what is written."""

from __future__ import annotations

import warnings
import zipfile
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sparsim.errors import InputError
from sparsim.io import load, save_network
from sparsim.pruning import prune

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.extra

NETWORKS = Path(__file__).parents[2] / ".." / "shared" / "data" / "networks"


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


class Model(torch.nn.Module):
    """Layers whose arrays have all the names there are."""

    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(5, 4)
        self.conv = torch.nn.Conv2d(3, 4, 3)
        self.bn = torch.nn.BatchNorm2d(4)
        self.lstm = torch.nn.LSTM(4, 3, bidirectional=True)
        self.attention = torch.nn.MultiheadAttention(4, 2)
        self.fc = torch.nn.Linear(4, 6, bias=False)
        self.token = torch.nn.Parameter(torch.randn(1, 1, 4))


def write(path, value):
    torch.save(value, path)
    return path


def refused(path, *parts):
    with pytest.raises(InputError) as caught:
        load(path)
    for part in (str(path), *parts):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".th", ".bin"])
def test_a_plain_state_dict(tmp_path, suffix):
    state = Model().state_dict()
    network = load(write(tmp_path / f"m{suffix}", state))
    assert [layer.name for layer in network] == [
        "conv", "lstm.weight_ih_l0", "lstm.weight_hh_l0", "lstm.weight_ih_l0_reverse", "lstm.weight_hh_l0_reverse",
        "attention.in_proj_weight", "attention.out_proj", "fc",
    ]  # fmt: skip
    np.testing.assert_array_equal(network["conv"].weight, state["conv.weight"].numpy())
    np.testing.assert_array_equal(network["attention.in_proj_weight"].bias, state["attention.in_proj_bias"].numpy())
    assert network["fc"].bias is None
    assert {"embed.weight", "bn.running_mean", "token"} <= network.rest.keys()
    assert network.name == "m"


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": state, "epoch": 3, "optimizer": {"state": {0: {"exp_avg": torch.ones(9, 9)}}}},
        lambda state: {"model": state, "ema": {key: value * 0 for key, value in state.items()}, "best": torch.ones(())},
        lambda state: {"net": {"state_dict": OrderedDict(state)}},
        lambda state: {"state_dict": {f"module.{key}": value for key, value in state.items()}},
        lambda state: {f"_orig_mod.{key}": value for key, value in state.items()},
        lambda state: {f"module._orig_mod.{key}": value for key, value in state.items()},
    ],
)
def test_what_wraps_a_state_dict(tmp_path, wrap):
    state = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 4)).state_dict()
    network = load(write(tmp_path / "m.pt", wrap(state)))
    assert [layer.name for layer in network] == ["0", "1"]
    np.testing.assert_array_equal(network["1"].weight, state["1.weight"].numpy())


def test_several_networks_in_one_file_keep_their_names(tmp_path):
    state = torch.nn.Linear(3, 2).state_dict()
    saved = {"generator": {"a": {**state}}, "critic": dict(state), "optimizer_g": {"weight": torch.ones(2, 2)}}
    assert [layer.name for layer in load(write(tmp_path / "m.pt", saved))] == ["generator.a", "critic"]


def test_pruned_modules_are_read_as_they_compute(tmp_path):
    layer = torch.nn.Linear(6, 5)
    prune = pytest.importorskip("torch.nn.utils.prune")
    prune.l1_unstructured(layer, "weight", amount=0.5)
    prune.random_unstructured(layer, "bias", amount=2)
    network = load(write(tmp_path / "m.pt", torch.nn.Sequential(layer).state_dict()))
    assert network["0"].nnz == 15
    np.testing.assert_array_equal(network["0"].weight, layer.weight.detach().numpy())
    np.testing.assert_array_equal(network["0"].bias, layer.bias.detach().numpy())


VALUES = torch.tensor([[1.5, 0, -2, 0.25], [0, 0, 4, 0]])


@pytest.mark.parametrize(
    "make",
    [
        VALUES.half,
        VALUES.bfloat16,
        VALUES.double,
        lambda: VALUES.to(torch.float8_e4m3fn),
        VALUES.to_sparse,
        VALUES.to_sparse_csr,
        lambda: VALUES.t().contiguous().t(),
        lambda: torch.nn.Parameter(VALUES),
        lambda: torch.quantize_per_tensor(VALUES, 0.25, 3, torch.qint8),
        lambda: torch.quantize_per_channel(VALUES, torch.tensor([0.25, 0.5]), torch.tensor([1, 2]), 0, torch.qint8),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
def test_kinds_of_tensors(tmp_path, make):
    path = write(tmp_path / "m.pt", {"fc.weight": make()})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        network = load(path)
    np.testing.assert_array_equal(network["fc"].weight, VALUES.numpy())


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_quantised_linear_keeps_weight_and_bias_as_one(tmp_path):
    packed = (torch.quantize_per_tensor(VALUES, 0.25, 0, torch.qint8), torch.tensor([1.0, 2.0]))
    network = load(
        write(tmp_path / "m.pt", {"fc.scale": torch.tensor(1.0), "fc._packed_params._packed_params": packed})
    )
    np.testing.assert_array_equal(network["fc"].weight, VALUES.numpy())
    np.testing.assert_array_equal(network["fc"].bias, [1, 2])


def rare_gems(shape=(3, 4)):
    rng = np.random.default_rng(0)
    weight, scores = (rng.normal(size=shape).astype(np.float32) for _ in range(2))
    return weight, (rng.random(shape) < 0.5).astype(np.int32), scores


def test_weights_kept_as_weight_flag_and_scores(tmp_path):
    weight, flag, scores = rare_gems()
    parts = {"fc.weight": weight, "fc.flag": flag, "fc.scores": scores, "fc.bias": np.ones(3, np.float32)}
    parts |= {"fc.bias_flag": np.zeros(1, np.float32), "fc.bias_scores": np.ones(1, np.float32)}
    network = load(write(tmp_path / "m.pt", {key: torch.from_numpy(value) for key, value in parts.items()}))
    np.testing.assert_array_equal(network["fc"].weight, (weight * flag * scores).astype(np.float32))
    assert network["fc"].weight.dtype == np.float32
    assert "weight x flag x scores" in network.notes[0]
    assert network.rest == {}
    np.testing.assert_array_equal(network["fc"].bias, np.ones(3))
    np.savez(tmp_path / "other.npz", **{"fc.weight": weight, "fc.scores": scores})
    np.testing.assert_array_equal(load(tmp_path / "other.npz")["fc"].weight, weight)


class Evil:
    def __reduce__(self):
        return print, ("code ran",)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
def test_code_is_never_run(tmp_path, capsys):
    remedy = "torch.save(model.state_dict(), path)"
    refused(write(tmp_path / "a.pt", {"w": Evil()}), "Python objects", remedy)
    refused(write(tmp_path / "b.pt", torch.nn.Linear(2, 2)), "Python objects (torch.nn.modules.linear.Linear)", remedy)
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "c.pt"))
    refused(tmp_path / "c.pt", "is a TorchScript program; save torch.jit.load(path).state_dict() instead")
    assert "code ran" not in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_refusals(tmp_path):
    refused(write(tmp_path / "a.pt", torch.ones(3)), "holds no state dict, but a Tensor without named tensors")
    refused(write(tmp_path / "a.pt", {"epoch": 3}), "holds no state dict, but a dict without named tensors")
    refused(write(tmp_path / "a.pt", {"bias": torch.ones(3)}), "holds no weights: 1 arrays, 'bias' (1-D")
    refused(write(tmp_path / "a.pt", {"a.weight": torch.tensor([[np.nan]])}), "layer 'a': the weight at [0, 0] is nan")
    huge = torch.sparse_coo_tensor(torch.zeros(2, 1, dtype=torch.long), torch.ones(1), (10**6, 10**6))
    for giant in (torch.ones(1).expand(10**5, 10**5), huge):
        refused(write(tmp_path / "a.pt", {"a.weight": giant}), "'a.weight' claims 1", "elements, the file has only")
    (tmp_path / "b.bin").write_bytes(np.arange(7, dtype=np.int32).tobytes() + b"\0" * 100)
    refused(tmp_path / "b.bin", "is no PyTorch checkpoint (bare numbers, such as llama2.c's")
    with zipfile.ZipFile(tmp_path / "c.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data/0", b"\0" * 10**6)
    refused(tmp_path / "c.pt", "claims more bytes than it holds")


@pytest.mark.parametrize("legacy", [False, True])
@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_files(tmp_path, legacy, data):
    good = tmp_path / "good.pt"
    if not good.exists():
        torch.save(torch.nn.Linear(3, 2).state_dict(), good, _use_new_zipfile_serialization=not legacy)
    content = bytearray(good.read_bytes())
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "bad.pt"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content)
    attempt(path)


def attempt(path):
    try:
        load(path)
    except InputError as error:
        message = str(error)
        assert str(path) in message
        assert "\n" not in message


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.float16])
def test_the_model_takes_back_what_was_pruned(tmp_path, suffix, kind):
    model = Model().to(kind)
    network = load(write(tmp_path / "m.pt", model.state_dict()))
    pruned = prune(network, "unstructured", 0.5)
    path = save_network(pruned, tmp_path / f"p{suffix}")
    if suffix == ".safetensors":
        from safetensors.torch import load_file

        state = load_file(path)
    else:
        state = torch.load(path, weights_only=True)
    assert all(value.dtype == model.state_dict()[key].dtype for key, value in state.items())
    model.load_state_dict(state, strict=True)
    np.testing.assert_array_equal(model.fc.weight.detach().float().numpy(), pruned["fc"].weight)
    again = load(path)
    for old, new in zip(pruned, again, strict=True):
        assert (old.name, old.weight.dtype) == (new.name, new.weight.dtype)
        np.testing.assert_array_equal(old.weight, new.weight)
        assert (old.bias is None) == (new.bias is None)
    assert (again.metadata, again.rest.keys(), dict(again.skipped)) == (
        pruned.metadata, pruned.rest.keys(), dict(pruned.skipped),
    )  # fmt: skip


def test_what_bfloat16_cannot_hold_becomes_float32(tmp_path):
    network = load(write(tmp_path / "m.pt", {"fc.weight": VALUES.bfloat16()}))
    finer = network.with_layers((replace(network[0], weight=network[0].weight / 3),))
    for suffix in (".pt", ".safetensors"):
        again = load(save_network(finer, tmp_path / f"n{suffix}"))
        np.testing.assert_array_equal(again[0].weight, finer[0].weight)


def test_geometry_and_graph_survive_a_state_dict(tmp_path):
    network = load(write(tmp_path / "m.pt", torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3)).state_dict()))
    known = replace(network[0], stride=(2, 2), padding=(1, 1), input_size=(9, 9), activation_density=0.5)
    path = save_network(replace(network, layers=(known,), name="toy", notes=("a note",)), tmp_path / "n.pt")
    again = load(path)
    assert (again.name, again.notes, again[0].stride, again[0].input_size) == ("toy", ("a note",), (2, 2), (9, 9))
    with pytest.raises(InputError, match=r"cannot write int8 to '\.pt'"):
        save_network(network, tmp_path / "n.pt", int8=True)


def test_shards_and_folders(tmp_path):
    (tmp_path / "pytorch_model.bin.index.json").write_text(
        '{"weight_map": {"a.weight": "pytorch_model-1.bin", "b.weight": "pytorch_model-2.bin"}}'
    )
    write(tmp_path / "pytorch_model-1.bin", {"a.weight": torch.ones(2, 2)})
    refused(tmp_path / "pytorch_model.bin.index.json", "the shard 'pytorch_model-2.bin' is not in this folder")
    write(tmp_path / "pytorch_model-2.bin", {"b.weight": torch.ones(3, 2).bfloat16()})
    for path in (tmp_path, tmp_path / "pytorch_model.bin.index.json"):
        assert [layer.name for layer in load(path)] == ["a", "b"]


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["random_subnet_finetuned_0.05_ckpt.pt", "rg_gm_sparsity98.2_L1_after_finetune.pth"])
def test_published_networks_have_their_effective_weights(name):
    path = NETWORKS / "resnet20_cifar10_pruned" / name
    if not path.is_file():
        pytest.skip("the published networks are not here")
    network, expected = load(path), load(path.with_name(f"{path.stem}_effective.npz"))
    assert len(network) == len(expected) == 20
    for layer in network:
        np.testing.assert_array_equal(layer.weight, expected[layer.name].weight)
