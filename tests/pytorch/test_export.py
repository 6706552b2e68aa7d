"""Exporting a module: nothing missed, nothing counted twice, what is measured equals a count by hand."""

import subprocess
import sys
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
from pytorch.models import Block, Residual, mlp  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn.utils import parametrizations, prune  # noqa: E402

from sparsim import io  # noqa: E402
from sparsim.errors import InputError  # noqa: E402
from sparsim.torch import export  # noqa: E402

F = nn.functional

pytestmark = pytest.mark.extra
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def macs(network, batch=1):
    return {layer.name: layer.size * layer.columns(batch) for layer in network}


class Function(nn.Module):
    """A module of one expression on parameters."""

    def __init__(self, function, **parameters):
        super().__init__()
        self.function = function
        for name, shape in parameters.items():
            setattr(self, name, nn.Parameter(torch.randn(shape)))

    def forward(self, x):
        return self.function(self, x)


def test_an_mlp_is_its_two_linear_layers():
    model = mlp()
    network = export(model, torch.randn(4, 3, 4), name="small")
    assert (network.name, [layer.name for layer in network]) == ("small", ["1", "3"])
    assert [layer.columns(1) for layer in network] == [1, 1]
    np.testing.assert_array_equal(network["1"].weight, model[1].weight.detach().numpy())
    np.testing.assert_array_equal(network["3"].bias, model[3].bias.detach().numpy())
    assert network.skipped == {}


def test_a_residual_network_with_depthwise_convolution():
    network = export(Residual(), torch.randn(2, 3, 9, 8))
    assert macs(network) == {
        "conv1": 8 * 3 * 9 * 9 * 8,
        "conv2": 8 * 8 * 9 * 9 * 8,
        "depthwise": 8 * 1 * 9 * 5 * 4,
        "fc": 5 * 32,
    }
    depthwise = network["depthwise"]
    assert (depthwise.groups, depthwise.stride, depthwise.padding, depthwise.input_size) == (8, (2, 2), (1, 1), (9, 8))
    assert network["conv2"].padding == (1, 1)
    assert network["conv1"].bias is None
    assert network["conv2"].bias is not None
    assert set(network.rest) == {f"norm1.{key}" for key in Residual().norm1.state_dict()}
    assert "a scale" in network.skipped["norm1.weight"]


def test_a_transformer_block_and_the_products_without_weights():
    network = export(Block(), torch.randint(0, 20, (3, 5)))
    assert macs(network) == {
        "qkv": 5 * 24 * 8,
        "proj": 5 * 8 * 8,
        "fc1": 5 * 12 * 8,
        "fc2": 5 * 12 * 8,
        "head": 5 * 20 * 8,
        "w.T": 5 * 4 * 8,
    }
    scores = [text for text in network.skipped.values() if "without a weight" in text]
    assert len(scores) == 2
    assert all(f"{3 * 2 * 5 * 5 * 4:,} multiplications" in text for text in scores)
    assert network.skipped["embed.weight"] == "the same array as 'head.weight'"
    assert "no product with it was seen" in network.skipped["positions"]


def test_the_library_attention_is_seen_inside():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    network = export(layer, torch.randn(3, 5, 8))
    assert macs(network) == {
        "self_attn.in_proj_weight": 5 * 24 * 8,
        "self_attn.out_proj": 5 * 8 * 8,
        "linear1": 5 * 8 * 16,
        "linear2": 5 * 8 * 16,
    }
    assert network["self_attn.in_proj_weight"].bias is not None
    assert [text for text in network.skipped.values() if f"{2 * 3 * 2 * 5 * 5 * 4:,} multiplications" in text]


def test_cross_attention_multiplies_slices_of_its_weight():
    class Cross(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x, y):
            return self.attention(x, y, y, need_weights=False)[0]

    model = Cross()
    network = export(model, (torch.randn(2, 3, 8), torch.randn(2, 7, 8)))
    names = {"attention.in_proj_weight[0:8]": 3, "attention.in_proj_weight[8:24]": 7, "attention.out_proj": 3}
    assert {layer.name: layer.columns(1) for layer in network} == names
    whole = model.attention.in_proj_weight.detach().numpy()
    np.testing.assert_array_equal(network["attention.in_proj_weight[8:24]"].weight, whole[8:])


def test_densities_equal_those_a_hook_counts():
    model = Residual().eval()
    seen = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_pre_hook(
                lambda _, args, name=name: seen.update({name: float((args[0] != 0).double().mean())})
            )
    x = torch.randn(2, 3, 8, 8) * (torch.rand(2, 3, 8, 8) > 0.3)
    network = export(model, x)
    assert {layer.name: layer.activation_density for layer in network} == pytest.approx(seen, abs=1e-12)
    assert seen["conv1"] < 0.8
    assert seen["conv2"] < 0.9


@given(
    axes=st.integers(1, 3),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 3),
    padding=st.sampled_from([0, 1, 2, "same", "valid"]),
    dilation=st.integers(1, 2),
    groups=st.sampled_from([1, 2]),
    batch=st.integers(1, 3),
)
@settings(max_examples=40, deadline=None)
@pytest.mark.filterwarnings("ignore:Using padding=.same. with even kernel")
def test_positions_and_products_of_any_convolution(axes, kernel, stride, padding, dilation, groups, batch):
    stride = 1 if padding == "same" else stride
    kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[axes - 1]
    model = kind(4, 6, kernel, stride=stride, padding=padding, dilation=dilation, groups=groups)
    x = torch.randn(batch, 4, *(7, 8, 9)[:axes])
    (layer,) = export(model, x)
    out = model(x)
    assert layer.name == "weight"
    assert layer.columns(batch) == prod(out.shape[2:]) * batch
    assert (layer.groups, layer.size) == (groups, model.weight.numel())
    if padding == "same" and dilation * (kernel - 1) % 2:
        assert (layer.padding, layer.input_size) == ((), None)
    else:
        assert layer.output_size == tuple(out.shape[2:])
        assert layer.input_size == tuple(x.shape[2:])


@pytest.mark.parametrize("groups", [1, 2])
def test_a_transposed_convolution_is_a_matrix_over_its_inputs(groups):
    model = nn.ConvTranspose2d(4, 6, 3, stride=2, groups=groups, bias=True)
    x = torch.randn(2, 4, 5, 5)
    network = export(model, x)
    (layer,) = network
    assert (layer.shape, layer.groups, layer.columns(1)) == ((6 * 9, 4 // groups), groups, 25)
    columns = x.reshape(2, groups, 4 // groups, 25)
    matrix = torch.tensor(layer.weight).reshape(groups, -1, 4 // groups)
    scattered = torch.einsum("gok,bgkp->bgop", matrix, columns).reshape(2, 54, 25)
    result = F.fold(scattered, (11, 11), 3, stride=2) + model.bias[:, None, None]
    torch.testing.assert_close(result, model(x), atol=1e-5, rtol=1e-5)
    assert "bias" in network.rest


FORMS = {
    "linear": (lambda m, x: F.linear(x, m.w, m.b), {"w": (5, 8), "b": (5,)}, "w"),
    "matmul": (lambda m, x: x @ m.w, {"w": (8, 5)}, "w.T"),
    "mm": (lambda m, x: torch.mm(x[:, 0], m.w), {"w": (8, 5)}, "w.T"),
    "weight first": (lambda m, x: m.w @ x.transpose(1, 2), {"w": (5, 8)}, "w"),
    "transpose": (lambda m, x: torch.matmul(x, m.w.t()), {"w": (5, 8)}, "w"),
    "addmm": (lambda m, x: torch.addmm(m.b, x[:, 0], m.w), {"w": (8, 5), "b": (5,)}, "w.T"),
    "baddbmm": (lambda m, x: torch.baddbmm(m.b, x, m.w.expand(2, 8, 5)), {"w": (8, 5), "b": (5,)}, "w.T"),
    "einsum": (lambda m, x: torch.einsum("bti,oi->bto", x, m.w), {"w": (5, 8)}, "w"),
    "ellipsis": (lambda m, x: torch.einsum("...i,io", x, m.w), {"w": (8, 5)}, "w.T"),
    "tensordot": (lambda m, x: torch.tensordot(x, m.w, dims=1), {"w": (8, 5)}, "w.T"),
    "rows": (lambda m, x: F.linear(x, m.w[2:7]), {"w": (9, 8)}, "w[2:7]"),
    "columns": (lambda m, x: F.linear(x[..., :3], m.w[:, 2:5]), {"w": (5, 8)}, "w(view)"),
    "experts": (lambda m, x: torch.bmm(x.transpose(0, 1), m.w), {"w": (3, 8, 5)}, "w(view)"),
    "outer": (lambda m, x: torch.einsum("bti,hid->bhtd", x, m.w), {"w": (2, 8, 5)}, "w(view)"),
    "low rank": (lambda m, x: F.linear(x, m.w + m.b @ m.a), {"w": (5, 8), "b": (5, 2), "a": (2, 8)}, "w"),
    "mv": (lambda m, x: torch.mv(m.w, x[0, 0]), {"w": (5, 8)}, "w"),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_way_to_write_a_product_is_the_same_product(form):
    function, shapes, name = FORMS[form]
    model = Function(function, **shapes)
    x = torch.randn(2, 3, 8)
    network = export(model, x, batch=1)
    assert [layer.name for layer in network] == [name]
    (layer,) = network
    out = model(x)
    assert layer.columns(1) * layer.shape[0] == out.numel()
    bias = 0 if layer.bias is None else torch.tensor(layer.bias)
    assert (layer.bias is not None) == (form in ("linear", "addmm", "baddbmm"))
    matrix = torch.tensor(layer.weight)
    if form == "experts":
        again = torch.einsum("goi,bgi->gbo", matrix.reshape(3, 5, 8), x)
    elif form == "outer":
        again = torch.einsum("hdi,bti->bhtd", matrix.reshape(2, 5, 8), x)
    elif form == "weight first":
        again = (x @ matrix.T).transpose(1, 2)
    else:
        inputs = {"mm": x[:, 0], "addmm": x[:, 0], "columns": x[..., :3], "mv": x[0, 0]}.get(form, x)
        again = inputs @ matrix.T + bias
    torch.testing.assert_close(again, out)
    assert [text for text in network.skipped.values() if "without a weight" in text] == []


def test_products_of_what_depends_on_the_input_have_no_weight():
    model = Function(lambda m, x: F.linear(x, m.w) @ x.transpose(1, 2), w=(8, 8))
    network = export(model, torch.randn(2, 3, 8))
    assert [layer.name for layer in network] == ["w"]
    assert list(network.skipped) == ["matmul (1)"]
    assert "[2, 3, 8] x [2, 8, 3], 144 multiplications" in network.skipped["matmul (1)"]


@pytest.mark.parametrize("write", ["index", "copy"])
def test_a_buffer_that_activations_are_written_to_is_no_weight(write):
    def attend(m, x):
        keys = F.linear(x, m.w)
        if write == "index":
            m.cache[:, :] = keys[0]
        else:
            m.cache.copy_(keys[0])
        return x @ m.cache.T

    model = Function(attend, w=(8, 8))
    model.register_buffer("cache", torch.zeros(3, 8))
    network = export(model, torch.randn(2, 3, 8))
    assert [layer.name for layer in network] == ["w"]
    assert "matmul (1)" in network.skipped


def test_weights_are_taken_as_used():
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8))
    prune.l1_unstructured(model[0], "weight", 0.5)
    parametrizations.weight_norm(model[1])
    masked = Function(lambda m, x: F.linear(model(x), m.w * m.mask), w=(4, 8))
    masked.model = model
    masked.register_buffer("mask", (torch.rand(4, 8) > 0.5).float())
    network = export(masked, torch.randn(2, 8))
    assert [layer.name for layer in network] == ["model.0", "model.1", "model.2", "w"]
    assert network["model.0"].nnz == 32
    np.testing.assert_allclose(network["model.1"].weight, model[1].weight.detach().numpy())
    np.testing.assert_array_equal(network["w"].weight, (masked.w * masked.mask).detach().numpy())
    assert network.skipped["model.0.weight_mask"] == "already in the weight of 'model.0'"
    assert network.skipped["mask"] == "already in the weight of 'w'"
    assert "mask" not in network.rest


def test_a_weight_called_twice_is_one_layer_or_two():
    conv = nn.Conv2d(3, 3, 3, padding=1)
    same = nn.Sequential(conv, nn.ReLU(), conv)
    network = export(same, torch.randn(2, 3, 8, 8))
    assert macs(network) == {"0": 2 * 81 * 64}
    assert any("run several times" in note for note in network.notes)
    pyramid = Function(lambda m, x: [F.conv2d(x, m.w), F.conv2d(F.avg_pool2d(x, 2), m.w)], w=(4, 3, 3, 3))
    network = export(pyramid, torch.randn(2, 3, 8, 8))
    assert macs(network) == {"w": 108 * 36, "w#2": 108 * 4}
    assert any("another shape" in note for note in network.notes)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers_are_two_products_a_step(kind):
    gates = {nn.LSTM: 4, nn.GRU: 3, nn.RNN: 1}[kind]
    model = kind(6, 5, 2, batch_first=True, bidirectional=True)
    x = torch.relu(torch.randn(3, 7, 6))
    network = export(model, x)
    assert len(network) == 8
    assert macs(network)["weight_ih_l0"] == gates * 5 * 6 * 7
    assert macs(network)["weight_hh_l1_reverse"] == gates * 5 * 5 * 7
    assert network["weight_ih_l0"].activation_density == pytest.approx(float((x != 0).double().mean()))
    assert network.skipped == {}


def test_recurrent_cells_too():
    cell = nn.LSTMCell(6, 5)
    network = export(cell, torch.randn(3, 6))
    assert macs(network) == {"weight_ih": 20 * 6, "weight_hh": 20 * 5}
    assert network["weight_hh"].activation_density == 0


def test_images_folded_into_the_batch_are_positions():
    model = Function(lambda m, x: F.conv2d(x.flatten(0, 1), m.w), w=(4, 3, 3, 3))
    (layer,) = export(model, torch.randn(2, 5, 3, 8, 8))
    assert layer.columns(1) == 5 * 36


def test_named_arguments_and_the_mode_of_each_module():
    model = Residual()
    model.norm1.eval()
    network = export(model, {"x": torch.randn(1, 3, 8, 8), "scale": None})
    assert len(network) == 4
    assert model.training
    assert not model.norm1.training


def test_a_saved_export_fits_the_model_it_came_from(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    model = Residual()
    path = io.save_network(export(model, torch.randn(1, 3, 8, 8)), tmp_path / "model.safetensors")
    state = safetensors.load_file(path)
    model.load_state_dict(state, strict=True)
    again = io.load(path)
    assert [layer.name for layer in again] == ["conv1", "conv2", "depthwise", "fc"]
    assert again.graph is not None


def test_what_cannot_be_exported_says_why():
    with pytest.raises(InputError, match="no multiple of 3 samples; let the first axis"):
        export(nn.Conv2d(3, 4, 1), torch.randn(3, 8, 8))
    with pytest.raises(InputError, match="computes no product with a parameter"):
        export(nn.ReLU(), torch.randn(2, 3))
    with pytest.raises(InputError, match="without a tensor"):
        export(nn.Linear(3, 3), ())


def test_without_torch_the_extra_is_named():
    code = "import sys; sys.modules['torch'] = None\nimport sparsim.torch"
    ended = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert "MissingExtra: sparsim.torch needs an optional library; install it with" in ended.stderr
