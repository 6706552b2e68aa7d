"""The graph of a module says nothing that is not true: what propagation removes by it never changes an output."""

import copy

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from pytorch.models import Block, Residual, mlp  # noqa: E402
from torch import nn  # noqa: E402

from sparsim.graph import Graph  # noqa: E402
from sparsim.pruning.propagate import propagate  # noqa: E402
from sparsim.torch import apply_masks, export, load_into, masks_of  # noqa: E402

F = nn.functional

pytestmark = pytest.mark.extra
torch.set_num_threads(1)


class Net(nn.Module):
    """Two convolutions, something between them, and a linear layer on the mean."""

    def __init__(self, between, width=8, **modules):
        super().__init__()
        self.a = nn.Conv2d(3, 8, 3, padding=1)
        self.b = nn.Conv2d(8, 8, 1)
        self.c = nn.Conv2d(width, 6, 3)
        self.fc = nn.Linear(6, 4)
        self.between = between
        self.modules_ = nn.ModuleDict(modules)

    def forward(self, x):
        y = self.a(x)
        y = self.c(self.between(self, y, self.b(y)))
        return self.fc(y.mean((2, 3)))


class Tokens(nn.Module):
    """Patches as tokens, with the features on the last axis."""

    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 2, stride=2)
        self.table = nn.Parameter(torch.randn(1, 16, 8))
        self.fc1 = nn.Linear(8, 12)
        self.fc2 = nn.Linear(12, 8)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = x + self.fc2(F.silu(self.fc1(x)))
        return self.head(x[:, 0]), self.head((x * self.table).mean(1))


def overwritten(net, y, z):
    F.relu_(y)
    return y + z


def written_through_a_view(net, y, z):
    y[:, :4].add_(1.0)
    return y + z


MODELS = {
    "mlp": (mlp, (3, 4)),
    "residual": (Residual, (3, 8, 8)),
    "tokens": (Tokens, (3, 8, 8)),
    "add": (lambda: Net(lambda net, y, z: F.relu(y) + z), (3, 8, 8)),
    "subtract": (lambda: Net(lambda net, y, z: 1 - (y - 2 * z) / 3), (3, 8, 8)),
    "gate": (lambda: Net(lambda net, y, z: y * torch.sigmoid(F.adaptive_avg_pool2d(z, 1))), (3, 8, 8)),
    "one channel": (lambda: Net(lambda net, y, z: y * z[:, :1]), (3, 8, 8)),
    "concat": (lambda: Net(lambda net, y, z: torch.cat((F.relu(z), y), dim=1), 16), (3, 8, 8)),
    "rows": (lambda: Net(lambda net, y, z: torch.cat((y, z), dim=2)), (3, 8, 8)),
    "slices": (lambda: Net(lambda net, y, z: torch.cat((z[:, 4:], y[:, 2:6]), 1)), (3, 8, 8)),
    "every other": (lambda: Net(lambda net, y, z: torch.cat((z[:, ::2], y[:, 1::2]), 1)), (3, 8, 8)),
    "split": (lambda: Net(lambda net, y, z: torch.cat(z.split([3, 5], 1)[::-1], 1)), (3, 8, 8)),
    "shuffle": (
        lambda: Net(lambda net, y, z: z.reshape(-1, 2, 4, 8, 8).transpose(1, 2).reshape(-1, 8, 8, 8)),
        (3, 8, 8),
    ),
    "resize": (lambda: Net(lambda net, y, z: F.interpolate(F.max_pool2d(z, 2), scale_factor=2) + y), (3, 8, 8)),
    "modules": (
        lambda: Net(
            lambda net, y, z: (
                net.modules_["up"](net.modules_["pool"](net.modules_["act"](y))) + net.modules_["keep"](z)
            ),
            act=nn.PReLU(8),
            pool=nn.AvgPool2d(2),
            up=nn.Upsample(scale_factor=2),
            keep=nn.Identity(),
        ),
        (3, 8, 8),
    ),
    "mixing norm": (lambda: Net(lambda net, y, z: net.modules_["n"](y) + z, n=nn.GroupNorm(2, 8)), (3, 8, 8)),
    "softmax": (lambda: Net(lambda net, y, z: y.softmax(1) + z), (3, 8, 8)),
    "pad": (
        lambda: Net(lambda net, y, z: F.pad(z, (1, 1, 1, 1), "replicate") + F.pad(y, (2, 0, 0, 2), "reflect")),
        (3, 8, 8),
    ),
    "permute": (lambda: Net(lambda net, y, z: net.b(y.permute(0, 2, 3, 1).permute(0, 3, 2, 1)) + z), (3, 8, 8)),
    "channels become rows": (lambda: Net(lambda net, y, z: y.transpose(1, 2) + z), (3, 8, 8)),
    "in place": (lambda: Net(lambda net, y, z: F.relu(y, True) + y + z), (3, 8, 8)),
    "overwritten": (lambda: Net(overwritten), (3, 8, 8)),
    "through a view": (lambda: Net(written_through_a_view), (3, 8, 8)),
    "functional": (lambda: Net(lambda net, y, z: F.conv2d(y, net.b.weight[:, :], net.b.bias) + z), (3, 8, 8)),
    "transposed": (
        lambda: Net(lambda net, y, z: net.modules_["t"](z)[..., 1:9, 1:9] + y, t=nn.ConvTranspose2d(8, 8, 3)),
        (3, 8, 8),
    ),
    "dropout": (lambda: Net(lambda net, y, z: F.dropout(y, 0.5, net.training).contiguous() + z.clone()), (3, 8, 8)),
}


def pruned(make, seed, constants):
    """Return a model with random outputs removed; their biases too unless they are to be constants."""
    torch.manual_seed(seed)
    model = make()
    rng = np.random.default_rng(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias, std=float(constants))
            nn.init.normal_(module.running_mean, std=float(constants))
    return model, rng


def prune_outputs(model, network, rng, constants):
    masks = masks_of(network)
    for name, mask in masks.items():
        if not name.startswith(("fc", "head", "3")):
            mask[rng.random(len(mask)) < 0.4] = False
    apply_masks(model, masks, biases=not constants)


@pytest.mark.parametrize("constants", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_what_is_removed_along_the_graph_changes_nothing(name, constants):
    make, shape = MODELS[name]
    compared = 0
    for seed in range(4):
        model, rng = pruned(make, seed, constants)
        model.eval()
        x = torch.randn(3, *shape)
        prune_outputs(model, export(model, x), rng, constants)
        network = export(model, x)
        assert network.graph is not None, network.notes
        result = propagate(network)
        missing = [layer for layer in result.network if layer.bias is not None and network[layer.name].bias is None]
        if result.bias_maps or missing:
            continue
        compared += 1
        cut = copy.deepcopy(model)
        load_into(cut, result.network)
        for before, after in zip(_tensors(model(x)), _tensors(cut(x)), strict=True):
            torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-4)
        exact = name not in ("mixing norm", "softmax", "shuffle", "channels become rows", "every other", "mlp", "rows")
        assert not exact or constants or sum(result.removed.values()) > 0
    assert compared or constants


def _tensors(value):
    return value if isinstance(value, tuple) else (value,)


def operations(network):
    return [(node.operation, node.layer or node.attributes.get("function", "")) for node in network.graph.nodes]


def test_the_graph_of_a_residual_network_by_hand():
    graph = export(Residual(), torch.randn(2, 3, 8, 8)).graph
    nodes = {node.name: node for node in graph.nodes}
    assert [(node.operation, node.inputs) for node in graph.nodes] == [
        ("input", ()),
        ("layer", ("input",)),
        ("affine", ("conv1",)),
        ("function", ("norm1",)),
        ("layer", ("relu",)),
        ("add", ("relu", "conv2")),
        ("layer", ("add",)),
        ("slice", ("depthwise",)),
        ("slice", ("depthwise",)),
        ("concat", ("chunk:1", "chunk")),
        ("spatial", ("cat",)),
        ("flatten", ("pool",)),
        ("layer", ("flatten",)),
    ]
    assert nodes["conv1"].attributes == {"bias": False}
    assert nodes["flatten"].attributes == {"repeat": 4}
    assert nodes["pool"].attributes == {"exact": True}
    assert graph.outputs == ("fc",)


def test_a_batch_norm_is_its_scale_and_shift():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    for tensor in (model[1].weight, model[1].bias, model[1].running_mean):
        nn.init.normal_(tensor)
    model[1].running_var.uniform_(0.5, 2)
    affine = export(model, torch.randn(1, 3, 2, 2)).graph.nodes[-1]
    x = torch.randn(2, 4, 3, 3)
    scale, shift = (torch.tensor(affine.attributes[key])[:, None, None] for key in ("scale", "shift"))
    torch.testing.assert_close(model[1].eval()(x).double(), x * scale + shift, atol=1e-5, rtol=1e-5)


def test_padding_with_zeros_keeps_no_constant():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.ZeroPad2d(1), nn.AvgPool2d(3, 1, 1), nn.AvgPool2d(2), nn.MaxPool2d(2, 2, 1)
    )
    graph = export(model, torch.randn(1, 3, 8, 8)).graph
    exact = [node.attributes["exact"] for node in graph.nodes if node.operation == "spatial"]
    assert exact == [False, False, True, True]


def test_the_features_of_tokens_are_followed_through_a_block():
    network = export(Block(), torch.randint(0, 20, (3, 5)))
    along = {node.layer: node.inputs[0] for node in network.graph.nodes if node.layer}
    nodes = {node.name: node for node in network.graph.nodes}
    assert nodes[along["fc2"]].attributes == {"function": "relu"}
    assert nodes[along["qkv"]].operation == "opaque"
    assert nodes[along["proj"]].operation == "opaque"
    assert along["head"] == along["w.T"]
    assert nodes[along["head"]].operation == "add"


def test_fixed_arguments_and_branches_on_them():
    class Branch(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1, self.fc2 = nn.Linear(3, 4), nn.Linear(3, 4)

        def forward(self, x, second=False, bias=None):
            y = self.fc2(x) if second else self.fc1(x)
            return y if bias is None else y + bias

    assert export(Branch(), torch.randn(2, 3)).graph.layers == ["fc1"]
    assert export(Branch(), {"x": torch.randn(2, 3), "second": True}).graph.layers == ["fc2"]
    with_bias = export(Branch(), {"x": torch.randn(2, 3), "bias": torch.randn(4)}).graph
    assert [node.operation for node in with_bias.nodes][-1] in ("opaque", "add")


def test_control_flow_on_data_has_no_graph_and_says_so():
    class Wavering(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 3)

        def forward(self, x):
            return self.fc(x) if x.sum() > 0 else self.fc(-x)

    network = export(Wavering(), torch.randn(2, 3))
    assert network.graph is None
    assert any(note.startswith("no graph: torch.fx cannot trace the model (") for note in network.notes)
    assert [layer.name for layer in network] == ["fc"]


def test_a_graph_survives_its_text():
    graph = export(Tokens(), torch.randn(2, 3, 8, 8)).graph
    again = Graph.from_json(graph.to_json())
    assert [(n.name, n.operation, n.inputs, n.layer) for n in again.nodes] == [
        (n.name, n.operation, n.inputs, n.layer) for n in graph.nodes
    ]
