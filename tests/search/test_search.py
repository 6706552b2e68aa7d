"""Pruning for a machine: what is chosen, what it costs, and what is said where nothing can be chosen."""

from __future__ import annotations

import json
import sys
from itertools import product

import numpy as np
import pytest

import sparsim as ss
from sparsim.cli import main
from sparsim.errors import ConfigError, InputError, MissingExtra
from sparsim.search import coupled
from sparsim.search.loss import Loss
from sparsim.search.options import Choice, Chooser, parse_patterns
from sparsim.variants import Pruning

LEVELS = (0.5, 0.8, 0.95)
QUIET = {"progress": False, "jobs": 2}


def weights(rng, out, k):
    return rng.standard_t(3, size=(out, k)).astype(np.float32)


@pytest.fixture(scope="module")
def network():
    """Two layers that nothing joins: q_proj and k_proj are no chain."""
    rng = np.random.default_rng(0)
    layers = (ss.Layer("q_proj", weights(rng, 48, 64)), ss.Layer("k_proj", 0.01 * weights(rng, 96, 64)))
    return ss.Network("pair", layers)


def ratios(network, on="sparch", **options):
    row = ss.compare(network, on=on, progress=False, jobs=2, **options).totals[0]
    return {"energy": row["energy_ratio"], "latency": 1 / row["speedup"], "bytes": row["traffic_ratio"]}


@pytest.mark.parametrize("budget", [{"energy": 0.6}, {"bytes": 0.7, "latency": 0.99}], ids=["one", "two"])
def test_no_other_network_of_these_choices_loses_less(network, budget):
    found = ss.search(network, budget=budget, granularity=["unstructured", "2:4"], sparsity=LEVELS, **QUIET)
    assert "no other choice of these loses less" in found.method
    levels = sorted({*LEVELS, *(u.sparsity for u in found.uniform)})
    every = [Choice("dense", 0), Choice("2:4", 0.5), *(Choice("unstructured", level) for level in levels)]
    loss = Loss.of(network, "magnitude", "distortion")
    chooser = Chooser(network, parse_patterns(["unstructured", "2:4"]), levels, loss)
    least = float("inf")
    for pair in product(every, repeat=2):
        pruned = chooser.network_of(dict(zip(("q_proj", "k_proj"), pair, strict=True)))
        if loss.of_network(network, pruned) < least:
            costs = ratios(pruned)
            if all(costs[name] <= share for name, share in budget.items()):
                least = loss.of_network(network, pruned)
    assert found.saliency_lost == pytest.approx(least)
    assert all(found.saliency_lost <= u.saliency_lost for u in found.uniform)


def test_compare_confirms_the_costs_and_the_frame_adds_up_to_them(network):
    found = ss.search(network, budget={"energy": 0.6}, sparsity=LEVELS, **QUIET)
    assert found.costs == pytest.approx(ratios(found.network))
    assert found.costs["energy"] <= 0.6
    frame = found.to_frame()
    for name in ("energy", "latency", "bytes"):
        assert frame[name].sum() == pytest.approx(found.costs[name])
        assert frame[f"dense_{name}"].sum() == pytest.approx(1)
    assert frame["saliency_lost"].sum() == pytest.approx(found.saliency_lost)
    assert list(frame["nnz"]) == [layer.nnz for layer in found.network]
    for layer in found.network:
        pattern, share = found.choices[layer.name]
        wanted = network[layer.name] if pattern == "dense" else ss.prune(network[layer.name], pattern, share)
        assert layer.nnz == wanted.nnz
    assert "loses" in repr(found)
    assert "<table" in found._repr_html_()


def test_uniform_prunings_hold_the_budget_and_would_not_at_a_little_less(network):
    found = ss.search(network, budget={"energy": 0.6}, granularity="unstructured", sparsity=LEVELS, **QUIET)
    (held,) = found.uniform
    assert held.costs["energy"] <= 0.6
    pruned = ss.prune(network, "unstructured", held.sparsity)
    assert ratios(pruned) == pytest.approx(held.costs)
    assert ratios(ss.prune(network, "unstructured", held.sparsity - 0.004))["energy"] > 0.6
    assert held.sparsity not in LEVELS


def test_layers_to_skip_and_those_of_the_recipe_stay_whole(network):
    found = ss.search(network, budget={"energy": 2}, sparsity=LEVELS, skip=["q_proj"], **QUIET)
    assert found.choices["q_proj"] == ("dense", 0)
    bundled = ss.search("lenet300_100", budget={"energy": 0.5}, sparsity=LEVELS, granularity="unstructured", **QUIET)
    assert bundled.choices["fc3"] == ("dense", 0)
    assert bundled.network["fc3"].nnz == bundled.network["fc3"].size
    assert bundled.choices["fc1"][1] > 0


def test_weights_that_are_zero_already_are_no_loss():
    stored = ss.Network("net", (ss.Layer("a", np.eye(32, dtype=np.float32)),))
    found = ss.search(stored, budget={"energy": 0.9}, sparsity=LEVELS, **QUIET)
    assert found.choices["a"] == ("as stored", 0)
    assert found.saliency_lost == 0


@pytest.mark.parametrize("budget", [{"energy": 0.01}, {"energy": 0.3, "bytes": 0.02}], ids=["one", "two"])
def test_a_budget_out_of_reach_says_what_is_within_it(network, budget):
    with pytest.raises(ConfigError, match="cannot be reached") as told:
        ss.search(network, budget=budget, sparsity=LEVELS, **QUIET)
    least = {
        name: float(share)
        for name, share in (word.split("=") for word in told.value.allowed.split(" or ")[0].split(", "))
    }
    assert least.keys() == budget.keys()
    assert ss.search(network, budget=least, sparsity=LEVELS, **QUIET).costs.keys() >= least.keys()
    tighter = {name: 0.99 * share for name, share in least.items()}
    with pytest.raises(ConfigError, match="cannot be reached"):
        ss.search(network, budget=tighter, sparsity=LEVELS, **QUIET)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"budget": {}}, "budget: nothing given"),
        ({"budget": {"time": 0.5}}, "budget: 'time'.*energy, latency, bytes"),
        ({"budget": {"energy": 0.0}}, "budget: energy = 0.0; allowed: a share above 0"),
        ({"budget": {"energy": float("nan")}}, "budget: energy = nan"),
        ({"granularity": ()}, "granularity: nothing given"),
        ({"granularity": "head:8"}, "'head:8' is no choice of a single layer"),
        ({"sparsity": ()}, "sparsity: nothing given"),
        ({"sparsity": (1.0,)}, "sparsity"),
        ({"skip": "fc"}, "skip: 'fc' is no layer"),
        ({"method": "best"}, "method: 'best'; allowed: auto, exact, optuna"),
        ({"trials": 0}, "trials: 0"),
        ({"loss": "l2"}, "loss: 'l2'"),
        ({"on": "spar"}, "spar"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_arguments_out_of_place_are_refused(network, options, said):
    with pytest.raises(ConfigError, match=said):
        ss.search(network, **{"budget": {"energy": 0.5}, **QUIET, **options})


def test_a_network_without_values_is_refused():
    with pytest.raises(InputError, match="pruning needs values"):
        ss.search("squeezenet", budget={"energy": 0.5}, weights="shape", **QUIET)


@pytest.fixture(scope="module")
def chain():
    rng = np.random.default_rng(2)
    layers = tuple(ss.Layer(f"fc{n}", weights(rng, 32, 32)) for n in (1, 2, 3))
    return ss.Network("chain", layers)


LEVELS_OF_CHANNELS = (0.25, 0.375, 0.5, 0.625, 0.75)
LEFT = Choice("dense", 0)
CHANNELS = {"granularity": "out_channel", "sparsity": LEVELS_OF_CHANNELS, "skip": ["fc3"], "on": "dense", "batch": 64}


def test_channels_without_the_extra_are_refused_and_exact_needs_none(chain, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtra, match=r"depend on one another .*sparsim\[search\]"):
        ss.search(chain, budget={"energy": 0.7}, trials=20, **CHANNELS, **QUIET)
    exact = ss.search(chain, budget={"energy": 0.7}, method="exact", **CHANNELS, **QUIET)
    assert exact.costs["energy"] <= 0.7
    assert "zeros carried to other layers then freed" in exact.method


@pytest.mark.extra
def test_channels_are_searched_for_on_whole_networks(chain):
    pytest.importorskip("optuna", reason="needs sparsim[search]")
    found = ss.search(chain, budget={"energy": 0.6}, trials=40, **CHANNELS, **QUIET)
    assert "Optuna" in found.method
    assert found.costs["energy"] <= 0.6
    assert found.costs == pytest.approx(ratios(found.network, on="dense", batch=64))
    loss = Loss.of(chain, "magnitude", "distortion")
    assert found.saliency_lost == pytest.approx(loss.of_network(chain, found.network)), "carried weights count"
    levels = sorted({*LEVELS_OF_CHANNELS, *(u.sparsity for u in found.uniform)})
    chooser = Chooser(chain, parse_patterns(["out_channel"]), levels, loss, ["fc3"])
    pairs = product(chooser.choices(chain["fc1"]), chooser.choices(chain["fc2"]))
    every = [
        Pruning(propagate="chain").carry(chooser.network_of({"fc1": one, "fc2": two, "fc3": LEFT})).network
        for one, two in pairs
    ]
    lost = {loss.of_network(chain, each): each for each in every}
    least = min(each for each in lost if ratios(lost[each], on="dense", batch=64)["energy"] <= 0.6)
    assert found.saliency_lost <= least + 1e-9
    exact = ss.search(chain, budget={"energy": 0.6}, method="exact", **CHANNELS, **QUIET)
    assert found.saliency_lost <= exact.saliency_lost
    assert all(found.saliency_lost <= u.saliency_lost for u in found.uniform)
    again = ss.search(chain, budget={"energy": 0.6}, trials=40, **CHANNELS, **QUIET)
    assert again.choices == found.choices


def test_where_there_are_few_networks_all_are_tried(chain, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    found = ss.search(chain, budget={"energy": 0.6}, trials=100, **CHANNELS, **QUIET)
    assert found.method.startswith("the best of all 49 networks")
    assert found.costs == pytest.approx(ratios(found.network, on="dense", batch=64))


@pytest.mark.extra
def test_ctrl_c_keeps_the_best_so_far(chain, monkeypatch):
    pytest.importorskip("optuna", reason="needs sparsim[search]")
    asked = coupled.Coupled.ask
    calls = []

    def interrupted(self, chosen):
        calls.append(chosen)
        if len(calls) == 15:
            raise KeyboardInterrupt
        return asked(self, chosen)

    monkeypatch.setattr(coupled.Coupled, "ask", interrupted)
    found = ss.search(chain, budget={"energy": 0.6}, trials=40, **CHANNELS, **QUIET)
    assert "interrupted" in found.method
    assert found.costs["energy"] <= 0.6


def run(capsys, *arguments):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["sparsim", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            main()
    out, err = capsys.readouterr()
    return left.value.code, out, err


def test_the_command_writes_a_network_whose_costs_compare_confirms(network, tmp_path, capsys):
    source, pruned = tmp_path / "pair.safetensors", tmp_path / "pruned.safetensors"
    ss.save_network(network, source)
    words = ["search", source, "--budget", "energy=0.6,bytes=0.7", "--granularity", "unstructured,2:4"]
    words += ["--sparsity", "0.5,0.8,0.95"]
    code, out, err = run(capsys, *words, "-o", pruned)
    assert code == 0, err
    assert "within 60 % of the energy and 70 % of the bytes of the dense network on dense: loses" in " ".join(
        out.split()
    )
    code, out, _ = run(capsys, *words, "--json")
    said = json.loads(out)
    code, out, _ = run(capsys, "compare", pruned, "--on", "sparch", "--json")
    total = next(row for row in json.loads(out) if row["layer"] == "total")
    assert said["costs"]["energy"] == pytest.approx(total["energy_ratio"])
    assert said["costs"]["bytes"] == pytest.approx(total["traffic_ratio"])
    assert said["costs"]["latency"] == pytest.approx(1 / total["speedup"])
    assert [row["layer"] for row in said["layers"]] == ["q_proj", "k_proj"]
    code, out, _ = run(capsys, *words, "--csv")
    assert out.splitlines()[0].startswith("layer,granularity,sparsity,")
    assert len(out.splitlines()) == 3


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        ("energy", "--budget: 'energy'; allowed: MEASURE=SHARE"),
        ("energy=half", "--budget: 'half' is no number"),
        ("energy=0.5,energy=0.6", "'energy' stands twice"),
        ("energy=0.0001", "cannot be reached on sparch"),
        ("joules=0.5", "'joules'"),
    ],
)
def test_the_command_says_what_is_wrong_with_a_budget(capsys, budget, said):
    code, out, err = run(
        capsys, "search", "lenet300_100", "--budget", budget, "--granularity", "unstructured", "--sparsity", "0.5"
    )
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1


def test_a_network_that_nothing_passes_through_is_no_answer():
    """Each layer alone keeps its strongest channel, but these do not meet: such a network would cost nothing."""
    first, second = np.full((2, 32, 32), 0.1, dtype=np.float32)
    first[0], second[:, 1] = 1.0, 1.0
    chain = ss.Network("chain", (ss.Layer("fc1", first), ss.Layer("fc2", second)))
    pruned = Chooser(chain, parse_patterns(["out_channel", "in_channel"]), [0.97], Loss.of(chain, "magnitude", "sum"))
    apart = pruned.network_of({"fc1": Choice("out_channel", 0.97), "fc2": Choice("in_channel", 0.97)})
    assert ratios(apart, on="dense", batch=64)["energy"] == 0
    options = {"granularity": ("out_channel", "in_channel"), "sparsity": (0.97,), "on": "dense", "batch": 64, **QUIET}
    with pytest.raises(ConfigError, match="cannot be reached"):
        ss.search(chain, budget={"energy": 0.1}, **options)
    found = ss.search(chain, budget={"energy": 0.2}, **options)
    assert all(layer.nnz for layer in found.network)


def test_a_budget_is_not_called_out_of_reach_where_the_network_is_cut():
    """A layer without weights cuts a chain: offering a smaller share as one that can be reached helps nobody."""
    rng = np.random.default_rng(0)
    layers = [ss.Layer(f"fc{number}", rng.standard_normal((64, 64)).astype(np.float32)) for number in range(2)]
    cut = ss.Network("cut", (*layers, ss.Layer("fc2", np.zeros((64, 64), dtype=np.float32))))
    with pytest.raises(ConfigError, match="carried to other layers leave a layer without weights") as told:
        ss.search(cut, budget={"energy": 0.9}, sparsity=(0.9,), granularity="unstructured", **QUIET)
    assert "propagate off" in told.value.allowed
    found = ss.search(
        cut, budget={"energy": 0.9}, sparsity=(0.9,), granularity="unstructured", propagate="off", **QUIET
    )
    assert found.costs["energy"] <= 0.9
