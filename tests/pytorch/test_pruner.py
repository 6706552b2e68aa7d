"""Masks in a training loop: they come when the schedule says, hold, and go back and forth between model and network."""

import copy
from itertools import pairwise

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from pytorch.models import Block, Residual, mlp  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn.utils import parametrizations  # noqa: E402
from torch.nn.utils import prune as torch_prune  # noqa: E402

from sparsim.errors import ConfigError, InputError  # noqa: E402
from sparsim.network import Layer, Network  # noqa: E402
from sparsim.pruning import prune  # noqa: E402
from sparsim.pruning.criteria import gradient, magnitude, obd  # noqa: E402
from sparsim.pruning.schedule import gradual_cubic, iterative, one_shot  # noqa: E402
from sparsim.torch import (  # noqa: E402
    Pruner,
    apply_masks,
    export,
    fisher_diagonal,
    gradients,
    load_into,
    masks_of,
)

F = nn.functional
pytestmark = pytest.mark.extra
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def wide():
    return nn.Sequential(nn.Linear(12, 20), nn.ReLU(), nn.Linear(20, 6))


def train(model, pruner, steps, check=lambda step: None):
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for step in range(1, steps + 1):
        optimiser.zero_grad()
        F.cross_entropy(model(torch.randn(8, 12)), torch.randint(0, 6, (8,))).backward()
        optimiser.step()
        pruner.step()
        check(step)


def zeros(model):
    return {name: float((p == 0).double().mean()) for name, p in model.named_parameters() if p.ndim > 1}


def test_masks_come_when_the_schedule_says_and_hold_in_between():
    model = wide()
    schedule = gradual_cubic(0.0, 0.75, begin=2, end=10, every=4)
    pruner = Pruner(model, "unstructured", schedule)
    assert pruner.sparsity == 0
    history = []

    def check(step):
        for name, mask in pruner.masks.items():
            weight = model.get_parameter(f"{name}.weight").detach().numpy()
            assert not weight[~mask].any()
            assert mask.sum() == round(mask.size * (1 - schedule.sparsity(step)))
        history.append(pruner.masks)

    train(model, pruner, 14, check)
    for earlier, later in pairwise(history):
        assert all((later[name] <= earlier[name]).all() for name in later)
    assert zeros(model) == pytest.approx({"0.weight": 0.75, "2.weight": 0.75}, abs=0.01)


def test_a_mask_at_step_0_is_that_of_prune():
    model = wide()
    expected = masks_of(prune(export(model, torch.randn(2, 12)), "block:2x2", 0.5))
    pruner = Pruner(model, "block:2x2", one_shot(0.5))
    for name, mask in expected.items():
        np.testing.assert_array_equal(pruner.masks[name], mask)
        np.testing.assert_array_equal(model.get_parameter(f"{name}.weight").detach().numpy() != 0, mask)


def test_the_context_finishes_and_refuses_a_training_that_is_too_short():
    model = wide()
    with Pruner(model, "2:4", one_shot(0.5, at=3)) as pruner:
        train(model, pruner, 3)
        model[0].weight.data += 1
    assert not model[0].weight.detach().numpy()[~pruner.masks["0"]].any()
    with (
        pytest.raises(ConfigError, match="the last mask was due at step 5, the training ended at 1"),
        Pruner(wide(), "unstructured", one_shot(0.5, at=5)) as pruner,
    ):
        pruner.step()


@pytest.mark.parametrize("granularity", ["unstructured", "out_channel", "vector:4", "row_balanced"])
@pytest.mark.parametrize("kind", ["random", "fisher", "gradient", "upside down"])
def test_any_criterion_meets_the_schedule_and_never_revives_a_weight(granularity, kind):
    model = wide()
    batches = [(torch.randn(6, 12), torch.randint(0, 6, (6,)))]
    calls = []

    def made(trained):
        calls.append(trained)
        if kind == "fisher":
            return obd(fisher_diagonal(trained, batches, F.cross_entropy))
        if kind == "gradient":
            return gradient(gradients(trained, batches, F.cross_entropy))
        return "random" if kind == "random" else lambda layer: -magnitude(layer)

    schedule = iterative(0.75, rounds=3, every=2, start=1)
    pruner = Pruner(model, granularity, schedule, criterion=made)
    seen = []
    train(model, pruner, 6, lambda step: seen.append((pruner.sparsity, pruner.masks)))
    assert calls == [model] * 3
    for step, (sparsity, _) in enumerate(seen, 1):
        assert sparsity == pytest.approx(schedule.sparsity(step), abs=0.09)
    for (_, earlier), (_, later) in pairwise(seen):
        assert all((later[name] <= earlier[name]).all() for name in later)


def test_zeros_that_are_not_removed_may_grow():
    model = wide()
    nn.init.zeros_(model[2].weight)
    pruner = Pruner(model, "unstructured", one_shot(0.5))
    assert pruner.masks["2"].sum() == 60
    train(model, pruner, 3)
    assert int((model[2].weight != 0).sum()) == 60


def test_skipped_layers_and_allocations():
    model = wide()
    pruner = Pruner(model, "unstructured", one_shot(0.5), skip="2")
    assert (pruner.masks["2"].all(), pruner.sparsity) == (True, 0.5)
    assert zeros(model)["2.weight"] == 0
    pruner = Pruner(wide(), "unstructured", iterative(0.75, 2, 1), allocation={"0": 0.9})
    assert (pruner.masks["0"].mean(), pruner.masks["2"].mean()) == (pytest.approx(1 - 0.9 * 0.5 / 0.75), 1)
    pruner.step()
    assert pruner.masks["0"].mean() == pytest.approx(0.1)
    assert Pruner(wide(), "unstructured", one_shot(0.5), allocation="global").sparsity == 0.5


def test_a_removed_output_loses_its_bias_with_its_weights_only_if_it_was_removed_as_one():
    model = wide()
    pruner = Pruner(model, "out_channel", one_shot(0.5), skip=["2"])
    dead = ~pruner.masks["0"].any(axis=1)
    assert dead.sum() == 10
    np.testing.assert_array_equal(model[0].bias.detach().numpy() == 0, dead)
    train(model, pruner, 3)
    np.testing.assert_array_equal(model[0].bias.detach().numpy() == 0, dead)
    model = wide()
    Pruner(model, "unstructured", one_shot(0.99))
    assert (model[0].bias != 0).all()


def test_the_same_seed_gives_the_same_training():
    def run():
        torch.manual_seed(5)
        model = wide()
        with Pruner(model, "unstructured", iterative(0.8, 2, 2, start=1), criterion="random") as pruner:
            train(model, pruner, 4)
        return model.state_dict()

    for first, second in zip(run().values(), run().values(), strict=True):
        assert torch.equal(first, second)


def test_all_kinds_of_modules_and_parameters():
    model = nn.Sequential(nn.ConvTranspose2d(4, 6, 3, groups=2), nn.Conv2d(6, 4, 3, groups=2))
    Pruner(model, "unstructured", one_shot(0.5))
    assert zeros(model) == {"0.weight": 0.5, "1.weight": 0.5}
    encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    assert Pruner(encoder, "unstructured", one_shot(0.5)).masks.keys() == {
        "self_attn.in_proj_weight",
        "self_attn.out_proj",
        "linear1",
        "linear2",
    }
    recurrent = nn.LSTM(4, 4)
    assert Pruner(recurrent, "2:4", one_shot(0)).masks.keys() == {"weight_ih_l0", "weight_hh_l0"}
    block = Block()
    pruner = Pruner(block, "unstructured", one_shot(0.5), example_input=torch.randint(0, 20, (2, 5)))
    assert {"w.T", "head", "qkv"} < pruner.masks.keys()
    assert int((block.w == 0).sum()) == 16
    np.testing.assert_array_equal(pruner.masks["w.T"].T, block.w.detach().numpy() != 0)


def test_transposed_convolutions_lose_whole_outputs_with_their_biases():
    model = nn.ConvTranspose2d(4, 6, 3, groups=2)
    network = export(model, torch.randn(1, 4, 5, 5))
    mask = masks_of(network)
    mask["weight"][9:18] = False
    apply_masks(model, mask, biases=True)
    result = model(torch.randn(1, 4, 5, 5))
    assert [bool((result[0, c] == 0).all()) for c in range(6)] == [False, True, False, False, False, False]


@pytest.mark.parametrize("make", [mlp, Residual, Block, lambda: nn.ConvTranspose2d(3, 6, 3), lambda: nn.LSTM(4, 4)])
def test_a_network_pruned_outside_goes_back_into_its_model(make):
    model = make()
    shapes = {Block: (2, 5), Residual: (2, 3, 8, 8)}
    x = torch.randint(0, 20, (2, 5)) if make is Block else torch.randn(shapes.get(make, (2, 3, 4)))
    x = torch.randn(2, 3, 6, 6) if isinstance(model, nn.ConvTranspose2d) else x
    network = export(model, x, batch=1)
    pruned = prune(network, "unstructured", 0.5)
    untouched = copy.deepcopy(model)
    load_into(model, pruned)
    again = export(model, x, batch=1)
    for one, other in zip(pruned, again, strict=True):
        np.testing.assert_array_equal(one.weight, other.weight)
    load_into(model, network)
    for one, other in zip(model.state_dict().values(), untouched.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_a_model_pruned_by_torch_takes_weights_under_its_masks():
    model = mlp()
    torch_prune.l1_unstructured(model[1], "weight", 0.5)
    network = export(model, torch.randn(2, 3, 4))
    pruned = prune(network, "unstructured", 0.75)
    load_into(model, pruned)
    assert export(model, torch.randn(2, 3, 4))["1"].nnz == pruned["1"].nnz


def test_what_is_refused_says_what_to_do():
    network = export(mlp(), torch.randn(2, 3, 4))
    with pytest.raises(InputError, match="layer 'fc' is no parameter of Sequential; use the names"):
        apply_masks(mlp(), {"fc": np.ones((7, 12), dtype=bool)})
    with pytest.raises(InputError, match="layer '1': 12x7 for 7x12 in the model"):
        apply_masks(mlp(), {"1": np.ones((12, 7), dtype=bool)})
    with pytest.raises(InputError, match="layer '1': 3x12 for 7x12"):
        load_into(mlp(), Network("n", (Layer("1", np.ones((3, 12))),)))
    plain = nn.Sequential(nn.Flatten(), nn.Linear(12, 7, bias=False), nn.ReLU(), nn.Linear(7, 3))
    with pytest.raises(InputError, match="layer '1' has a bias, its module has none"):
        load_into(plain, network)
    view = Network("n", (Layer("w(view)", np.ones((3, 12))),))
    with pytest.raises(InputError, match="cannot be written back"):
        load_into(mlp(), view)
    parametrized = mlp()
    parametrizations.weight_norm(parametrized[1])
    with pytest.raises(InputError, match="layer '1' is parametrized; call"):
        Pruner(parametrized, "unstructured", one_shot(0.5))
    with pytest.raises(InputError, match="no layer to prune; give example_input"):
        Pruner(nn.ReLU(), "unstructured", one_shot(0.5))
    with pytest.raises(ConfigError, match="2 masks of '2:4', which fixes its own sparsity; allowed: one_shot"):
        Pruner(mlp(), "2:4", iterative(0.5, 2, 1))
    with pytest.raises(ConfigError, match="reorders input channels"):
        Pruner(mlp(), "2:4+permute", one_shot(0.5))
    with pytest.raises(ConfigError, match="skip: 'fc' is no layer"):
        Pruner(mlp(), "unstructured", one_shot(0.5), skip=["fc"])
