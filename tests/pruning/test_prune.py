"""Networks, layers and arrays through the door."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sparsim.errors import ConfigError, InputError
from sparsim.matrix import Csr
from sparsim.network import Layer, Network
from sparsim.pruning import mask, prune

ALL = [
    "unstructured",
    "2:4",
    "1:3",
    "vector:4",
    "vector:2x1",
    "block:2x3",
    "kernel",
    "out_channel",
    "in_channel",
    "row_balanced",
    "bank:3",
]


@pytest.fixture
def network():
    rng = np.random.default_rng(1)
    return Network(
        "net",
        (
            Layer("conv", rng.normal(size=(6, 3, 3, 3)).astype(np.float32), padding=(1, 1), input_size=(8, 8)),
            Layer("depthwise", rng.normal(size=(6, 1, 3, 3)), groups=6),
            Layer("fc", 10 * rng.normal(size=(10, 24)).astype(np.float16)),
        ),
        metadata={"accuracy": "0.9"},
    )


@pytest.mark.parametrize("granularity", ALL)
def test_survivors_keep_their_value_type_and_geometry(network, granularity):
    pruned = prune(network, granularity, 0.5)
    for before, after in zip(network, pruned, strict=True):
        assert after.weight.dtype == before.weight.dtype
        assert after.shape == before.shape
        assert (after.padding, after.input_size, after.groups) == (before.padding, before.input_size, before.groups)
        alive = after.weight != 0
        np.testing.assert_array_equal(after.weight[alive], before.weight[alive])
    assert pruned.metadata == network.metadata
    assert network.sparsity == 0


@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.5, 0.75, 0.9, 0.999])
def test_unstructured_budget_is_exact_in_every_layer(network, sparsity):
    for layer in prune(network, "unstructured", sparsity):
        assert layer.nnz == round(layer.size * (1 - sparsity))


def test_unstructured_removes_the_smallest(network):
    for before, after in zip(network, prune(network, "unstructured", 0.7), strict=True):
        gone = np.abs(before.weight[after.weight == 0]).max()
        assert gone <= np.abs(after.weight[after.weight != 0]).min()


def test_global_allocation_is_exact_over_the_network_and_uneven_in_it(network):
    pruned = prune(network, "unstructured", 0.6, allocation="global")
    assert pruned.nnz == round(network.size * 0.4)
    assert pruned["fc"].sparsity < 0.3 < pruned["conv"].sparsity


@pytest.mark.parametrize("allocation", ["uniform", "global", "erdos_renyi_kernel"])
def test_a_number_of_nonzeros_is_met(network, allocation):
    assert prune(network, "unstructured", nnz=123, allocation=allocation).nnz == 123
    assert prune(network, "unstructured", density=0.25, allocation=allocation).nnz == pytest.approx(
        network.size / 4, abs=0.5 if allocation != "uniform" else 1.5
    )


def test_small_layers_stay_dense_by_erdos_renyi_kernel(network):
    pruned = prune(network, "unstructured", 0.6, allocation="erdos_renyi_kernel")
    # axes 15, 13 and 34 of 162, 54 and 240 weights; 182 stay of 456
    assert [layer.nnz for layer in pruned] == [44, 38, 100]


@pytest.mark.parametrize("granularity", ["row_balanced", "bank:3", "kernel_pattern:4"])
@pytest.mark.parametrize("allocation", ["uniform", "global", "erdos_renyi_kernel"])
def test_balanced_patterns_realise_the_number_the_single_weights_would_get(network, granularity, allocation):
    skip = ["fc"] if granularity.startswith("kernel") else []
    free = prune(network, "unstructured", 0.6, allocation=allocation, skip=skip)
    for layer, alone in zip(prune(network, granularity, 0.6, allocation=allocation), free, strict=True):
        if layer.name in skip:
            continue
        rows, kernels = layer.shape[0], layer.shape[0] * layer.shape[1]
        slack = {"row_balanced": rows, "bank:3": 3 * rows, "kernel_pattern:4": kernels}[granularity] / 2
        assert abs(layer.nnz - alone.nnz) <= slack


def test_sparsities_by_layer_leave_the_others_alone(network):
    pruned = prune(network, "unstructured", allocation={"fc": 0.75, "conv": 0.0})
    assert pruned["depthwise"] is network["depthwise"]
    assert [layer.nnz for layer in pruned] == [162, 54, 60]
    assert pruned.notes == ()
    structured = prune(network, "2:4", allocation={"fc": 0.75})
    assert structured["conv"] is network["conv"]
    assert structured["fc"].nnz == 120
    assert "the budget (a sparsity for each layer) was not used" in structured.notes[0]


def test_sparsities_by_layer_are_checked(network):
    with pytest.raises(ConfigError, match="allocation: 'fcc' is no layer of 'net'; did you mean 'fc'"):
        prune(network, "unstructured", allocation={"fcc": 0.5})
    with pytest.raises(ConfigError, match=r"sparsity: 1\.0; allowed: 0 <= sparsity < 1"):
        prune(network, "unstructured", allocation={"fc": 1.0})
    with pytest.raises(ConfigError, match=r"allocation: sparsity 0\.5 beside a sparsity for each layer"):
        prune(network, "unstructured", 0.5, allocation={"fc": 0.5})


def test_a_criterion_of_ones_own_ranks_the_weights(network):
    pruned = prune(network, "unstructured", 0.5, criterion=lambda layer: -np.abs(layer.weight.astype(float)))
    for before, after in zip(network, pruned, strict=True):
        gone = np.abs(before.weight[after.weight == 0]).min()
        assert gone >= np.abs(after.weight[after.weight != 0]).max()


def test_a_criterion_that_fails_names_the_layer(network):
    with pytest.raises(InputError, match=r"layer 'conv': the criterion gave scores of shape \(2, 2\); one finite"):
        prune(network, "unstructured", 0.5, criterion=lambda layer: np.ones((2, 2)))
    with pytest.raises(InputError, match=r"layer 'conv': .* values that are not finite"):
        prune(network, "unstructured", 0.5, criterion=lambda layer: np.full(layer.shape, np.nan))
    with pytest.raises(ConfigError, match="criterion: 'magnitud'; did you mean 'magnitude'"):
        prune(network, "unstructured", 0.5, criterion="magnitud")


def test_patterns_of_kernels_leave_single_weights_whole(network):
    pruned = prune(network, "kernel_pattern:2", 0.5)
    assert pruned["fc"] is network["fc"]
    assert pruned.notes == (
        "kernel_pattern:2 prunes kernels of more than one weight: 1 other layer(s) stay whole and count in no budget",
    )
    assert prune(network, "kernel_pattern:2", nnz=96).nnz == network["fc"].nnz + 96  # 24 kernels of 4
    with pytest.raises(ConfigError, match="'kernel_pattern:2' needs kernels of more than one weight"):
        prune(network["fc"], "kernel_pattern:2", 0.5)


def test_skipped_layers_are_untouched_and_count_in_no_budget(network):
    pruned = prune(network, "unstructured", nnz=50, skip=["fc"])
    assert pruned["fc"] is network["fc"]
    assert pruned["conv"].nnz + pruned["depthwise"].nnz == 50


def test_an_unknown_skipped_layer_is_named(network):
    with pytest.raises(ConfigError, match="skip: 'fcc' is no layer of 'net'; did you mean 'fc'"):
        prune(network, "2:4", skip=["fcc"])


def test_n_of_m_notes_a_budget_it_does_not_heed(network):
    plain, given_one = prune(network, "2:4"), prune(network, "2:4", 0.9)
    for one, other in zip(plain, given_one, strict=True):
        np.testing.assert_array_equal(one.weight, other.weight)
    assert plain.notes == ()
    assert "2:4 fixes its own sparsity: the budget (sparsity 0.9) was not used" in given_one.notes[0]


def test_an_emptied_layer_is_noted():
    network = Network("net", (Layer("conv", np.ones((4, 1, 3, 3))), Layer("fc", np.ones((4, 4)))))
    pruned = prune(network, "in_channel", 0.75)
    assert pruned["conv"].nnz == 0
    assert "conv" in pruned.notes[0]
    assert "fc" not in pruned.notes[0]


def test_in_channel_of_a_depthwise_convolution_takes_its_only_channels(network):
    alive = prune(network, "in_channel", 0.5)["depthwise"].weight.reshape(6, 9) != 0
    assert (alive.all(axis=1) | ~alive.any(axis=1)).all()
    assert alive.all(axis=1).sum() == 3


@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=5, min_side=1, max_side=4),
        elements=st.sampled_from([-2.0, -1.0, 0.0, 0.5, 1.0]),
    ),
    st.sampled_from(ALL),
    st.sampled_from(ALL),
    st.floats(0, 0.99),
)
def test_pruning_again_only_removes_more(weight, first, second, sparsity):
    once = prune(weight, first, sparsity)
    twice = prune(once, second, sparsity)
    assert not ((twice != 0) & (once == 0)).any()
    assert ((once == weight) | (once == 0)).all()


@given(
    hnp.arrays(np.float64, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(-3, 3).map(float)),
    st.sampled_from(ALL),
    st.floats(0, 0.99),
)
def test_pruning_is_the_mask_of_the_magnitudes(weight, granularity, sparsity):
    kept = mask(np.abs(weight), granularity, round(weight.size * (1 - sparsity)))
    np.testing.assert_array_equal(prune(weight, granularity, sparsity), np.where(kept, weight, 0))


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0), (1, 1), (3, 0, 2, 2)])
@pytest.mark.parametrize("granularity", ALL)
def test_empty_and_tiny_weights_pass(shape, granularity):
    assert prune(np.ones(shape), granularity, 0.4).shape == shape


def test_layers_and_matrices_come_back_as_what_they_were(network):
    layer = prune(network["conv"], "block:2x2", 0.5)
    assert isinstance(layer, Layer)
    dense = np.array([[0.0, 3.0, -1.0], [2.0, 0.0, 0.5]])
    sparse = prune(Csr.from_dense(dense), "unstructured", nnz=2)
    assert isinstance(sparse, Csr)
    np.testing.assert_array_equal(sparse.to_dense(), prune(dense, "unstructured", nnz=2))
    assert sparse.nnz == 2


def test_a_pattern_without_values_cannot_be_ranked():
    pattern = Csr.build((2, 3), [0, 1, 2], [0, 2])
    with pytest.raises(
        InputError, match=r"layer 'fc' has positions but no values; pruning needs values .*--weights random"
    ):
        prune(Network("net", (Layer("fc", pattern),)), "unstructured", 0.5)


def test_a_sparse_matrix_too_large_to_write_out_is_refused():
    huge = Csr.build((10, 10**9), np.zeros(11), np.zeros(0, dtype=int), np.zeros(0))
    with pytest.raises(InputError, match="10,000,000,000 cells"):
        prune(huge, "unstructured", 0.5)


@pytest.mark.parametrize("weight", [np.ones(3), np.ones((1,) * 6), np.ones((2, 2), dtype=complex), [[1.0]], "lenet5"])
def test_what_is_no_weight_is_refused(weight):
    with pytest.raises(InputError, match=r"no weight|cannot be pruned"):
        prune(weight, "unstructured", 0.5)


def test_budget_and_allocation_are_checked(network):
    with pytest.raises(ConfigError, match="sparsity, density, nnz: none of them given"):
        prune(network, "unstructured")
    with pytest.raises(ConfigError, match=r"sparsity: 1\.0; allowed: 0 <= sparsity < 1"):
        prune(network, "2:4", 1.0)
    with pytest.raises(ConfigError, match=r"allocation: 'globl'; did you mean 'global'.*allowed: uniform, global"):
        prune(network, "unstructured", 0.5, allocation="globl")


def test_a_network_without_layers_stays_empty():
    assert len(prune(Network("net", ()), "unstructured", 0.5)) == 0
    assert len(prune(Network("net", ()), "unstructured", 0.5, allocation="global")) == 0


@pytest.mark.parametrize("weight", [np.ones((4, 4), dtype=bool), np.broadcast_to(np.float32(1), (4, 4))])
def test_masks_and_bare_shapes_cannot_be_ranked_either(weight):
    with pytest.raises(InputError, match="layer 'fc' has positions but no values"):
        prune(Network("net", (Layer("fc", weight),)), "unstructured", 0.5)
