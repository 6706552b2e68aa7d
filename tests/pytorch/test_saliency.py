"""Gradients, curvature and input norms against what autograd and plain loops say."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from pytorch.models import Block, Residual  # noqa: E402
from torch import nn  # noqa: E402

from sparsim.errors import ConfigError, InputError  # noqa: E402
from sparsim.pruning import prune  # noqa: E402
from sparsim.pruning.criteria import gradient, obd, wanda  # noqa: E402
from sparsim.torch import export, fisher_diagonal, gradients, hessian_diagonal, input_norms  # noqa: E402

F = nn.functional
pytestmark = pytest.mark.extra
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def tiny():
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def uneven_batches():
    return [(torch.randn(count, 3), torch.randint(0, 2, (count,))) for count in (4, 1, 3)]


def exact_hessian_diagonals(model, batches):
    """All second derivatives of the mean loss, one parameter at a time."""
    inputs, targets = (torch.cat(parts) for parts in zip(*batches, strict=True))
    found = {}
    for name in ("0.weight", "2.weight"):
        start = model.get_parameter(name).detach()

        def loss(value, name=name, shape=start.shape):
            changed = torch.func.functional_call(model, {name: value.reshape(shape)}, (inputs,))
            return F.cross_entropy(changed, targets)

        hessian = torch.autograd.functional.hessian(loss, start.flatten())
        found[name.removesuffix(".weight")] = hessian.diagonal().reshape(start.shape).numpy()
    return found


def test_the_gradient_is_that_of_the_mean_over_all_samples():
    model, batches = tiny(), uneven_batches()
    inputs, targets = (torch.cat(parts) for parts in zip(*batches, strict=True))
    F.cross_entropy(model(inputs), targets).backward()
    found = gradients(model, batches, F.cross_entropy)
    for name in ("0", "2"):
        np.testing.assert_allclose(found[name], model.get_parameter(f"{name}.weight").grad.numpy(), atol=1e-7)
    assert found.keys() == {"0", "2"}


def test_the_fisher_diagonal_averages_squares_of_single_samples():
    model, batches = tiny(), uneven_batches()
    expected = torch.zeros(4, 3)
    for inputs, targets in batches:
        for x, y in zip(inputs, targets, strict=True):
            model.zero_grad()
            F.cross_entropy(model(x[None]), y[None]).backward()
            expected += model[0].weight.grad.square() / 8
    np.testing.assert_allclose(fisher_diagonal(model, batches, F.cross_entropy)["0"], expected.numpy(), atol=1e-7)


def test_hutchinson_approaches_the_exact_hessian():
    model, batches = tiny(), uneven_batches()
    exact = exact_hessian_diagonals(model, batches)
    errors = []
    for samples in (4, 2500):
        found = hessian_diagonal(model, batches, F.cross_entropy, samples=samples, seed=1)
        errors.append(max(np.abs(found[name] - exact[name]).max() for name in exact))
    scale = max(np.abs(values).max() for values in exact.values())
    assert errors[1] < 0.1 * scale
    assert errors[1] < errors[0]


def test_hutchinson_is_exact_where_the_hessian_is_diagonal_and_zero_where_the_loss_is_linear():
    class Diagonal(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 2, bias=False)

        def forward(self, x):
            return self.fc(x)

    model = Diagonal()
    batch = [(torch.eye(3), torch.zeros(3, 2))]
    found = hessian_diagonal(model, batch, lambda out, _: (out**2).mean(), samples=1)
    np.testing.assert_allclose(found["fc"], np.full((2, 3), 2 / 6), atol=1e-6)
    found = hessian_diagonal(model, batch, lambda out, _: out.mean(), samples=1)
    np.testing.assert_array_equal(found["fc"], np.zeros((2, 3)))


def test_hutchinson_is_the_same_for_the_same_seed():
    model, batches = tiny(), uneven_batches()
    first, same, other = (hessian_diagonal(model, batches, F.cross_entropy, samples=1, seed=s)["0"] for s in (3, 3, 4))
    np.testing.assert_array_equal(first, same)
    assert (first != other).any()


def test_input_norms_by_hand():
    model = nn.Sequential(nn.Conv2d(4, 4, 3, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))
    batches = [torch.randn(2, 4, 4, 4), torch.randn(1, 4, 4, 4)]
    found = input_norms(model, batches)
    x = torch.cat(batches)
    np.testing.assert_allclose(found["0"], x.square().sum((0, 2, 3)).sqrt().numpy(), rtol=1e-6)
    np.testing.assert_allclose(found["3"], model[:3](x).square().sum(0).sqrt().detach().numpy(), rtol=1e-6)


def test_every_array_is_what_its_criterion_takes():
    def loss(outputs, targets):
        first = outputs[0] if isinstance(outputs, tuple) else outputs
        return F.cross_entropy(first.flatten(0, -2), targets.flatten())

    for model, x, y in (
        (Residual(), torch.randn(4, 3, 8, 8), torch.randint(0, 5, (4,))),
        (Block(), torch.randint(0, 20, (3, 5)), torch.randint(0, 20, (3, 5))),
        (nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), torch.randn(2, 5, 8), torch.randint(0, 8, (2, 5))),
        (nn.ConvTranspose2d(4, 6, 3, groups=2), torch.randn(2, 4, 5, 5), torch.randint(0, 7, (2, 6, 7))),
    ):
        network = export(model, x)
        before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
        norms = input_norms(model, [x])
        for rule in (
            obd(fisher_diagonal(model, [(x, y)], loss)),
            obd(hessian_diagonal(model, [(x, y)], loss, samples=1)),
            gradient(gradients(model, [(x, y)], loss)),
            wanda(norms),
        ):
            pruned = prune(network, "unstructured", 0.5, criterion=rule)
            assert pruned.sparsity == pytest.approx(0.5, abs=0.02)
        assert model.training
        for name, parameter in model.named_parameters():
            assert parameter.grad is None
            torch.testing.assert_close(parameter.detach(), before[name])


def test_what_is_refused():
    model = tiny()
    with pytest.raises(InputError, match="no batches; give at least one"):
        gradients(model, [], F.cross_entropy)
    with pytest.raises(InputError, match="the loss is no single number"):
        gradients(model, uneven_batches(), lambda out, _: out)
    with pytest.raises(InputError, match="no batches, or no layer"):
        input_norms(model, [])
    with pytest.raises(ConfigError, match="samples: 0; allowed: a whole number, 1 or more"):
        hessian_diagonal(model, uneven_batches(), F.cross_entropy, samples=0)
    model[0].weight.requires_grad_(False)
    with pytest.raises(InputError, match="the weight of layer '0' is frozen"):
        fisher_diagonal(model, uneven_batches(), F.cross_entropy)
