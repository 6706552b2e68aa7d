"""The layouts of compressed-tensors, built by hand bit by bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from sparsim.errors import InputError
from sparsim.io import load


def packed_bits(mask):
    """One bit an element, rows padded to bytes, the first element in the lowest bit."""
    rows, cols = mask.shape
    result = np.zeros((rows, -(-cols // 8)), dtype=np.uint8)
    for row in range(rows):
        for col in range(cols):
            result[row, col // 8] |= int(mask[row, col]) << (col % 8)
    return result


def packed_words(code, bits):
    """Integers of ``bits``, offset to be positive, along the rows of int32, the first in the lowest bits."""
    rows, cols = code.shape
    words = [[0] * (-(-cols * bits // 32)) for _ in range(rows)]
    for row in range(rows):
        for col in range(cols):
            words[row][col * bits // 32] |= (int(code[row, col]) + 2 ** (bits - 1)) << (col * bits % 32)
    return np.array(words, dtype=np.uint32).view(np.int32)


def written(path, arrays):
    save_file({key: np.ascontiguousarray(value) for key, value in arrays.items()}, path)
    return path


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.integers(1, 5), cols=st.integers(1, 20), seed=st.integers(0, 99), density=st.floats(0, 1))
def test_sparse_bitmask(tmp_path, rows, cols, seed, density):
    rng = np.random.default_rng(seed)
    weight = (rng.normal(size=(rows, cols)) * (rng.random((rows, cols)) < density)).astype(np.float32)
    mask = weight != 0
    counts = mask.sum(axis=1)
    parts = {"shape": np.array([rows, cols]), "compressed": weight[mask], "bitmask": packed_bits(mask)}
    parts["row_offsets"] = np.cumsum(counts) - counts
    arrays = {f"a.weight.{key}": value for key, value in parts.items()} | {"a.bias": np.ones(rows, np.float32)}
    network = load(written(tmp_path / "m.safetensors", arrays | {"z.weight": np.eye(2)}))
    assert [layer.name for layer in network] == ["a", "z"]
    np.testing.assert_array_equal(network["a"].weight, weight)
    np.testing.assert_array_equal(network["a"].bias, np.ones(rows))
    assert not network.skipped


def test_sparse_24_bitmask_stores_zeros_too(tmp_path):
    weight = np.array([[0, 5, 0, 0, 1, 2, 0, 0], [3, 0, 0, 4, 0, 0, 0, 0]], dtype=np.float32)
    mask = np.array([[1, 1, 0, 0, 1, 1, 0, 0], [1, 0, 0, 1, 0, 0, 1, 1]], dtype=bool)
    arrays = {
        "a.shape": np.array([[2], [8]]),
        "a.compressed": weight[mask].reshape(2, 4),
        "a.bitmask": packed_bits(mask),
    }
    network = load(written(tmp_path / "m.safetensors", arrays))
    np.testing.assert_array_equal(network["a"].weight, weight)
    assert network["a"].nnz == 5


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("groups", [None, 1, 3])
@pytest.mark.parametrize("asymmetric", [False, True])
def test_packed_integers(tmp_path, bits, groups, asymmetric):
    rng = np.random.default_rng(0)
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1)
    code, shape = rng.integers(low, high, (5, 21)), (1,) if groups is None else (5, groups)
    scale = rng.random(shape).astype(np.float32) + 0.5
    arrays = {"weight_packed": packed_words(code, bits), "weight_scale": scale, "weight_shape": np.array([5, 21])}
    zero = np.zeros(shape)
    if asymmetric and groups:
        zero = rng.integers(low, high, shape)
        arrays["weight_zero_point"] = packed_words(zero.T, bits).T
    network = load(written(tmp_path / "m.safetensors", {f"m.a.{key}": value for key, value in arrays.items()}))
    spread = [part if groups in (None, 1) else np.repeat(part, 7, axis=1) for part in (zero, scale)]
    np.testing.assert_allclose(network["m.a"].weight, (code - spread[0]) * spread[1], rtol=1e-6)
    assert not network.skipped


def test_columns_in_any_order_of_groups(tmp_path):
    code, group = np.arange(-6, 6).reshape(1, 12), np.array([1, 0, 1, 0, 0, 1] * 2, dtype=np.int32)
    scale = np.array([[1.0, 10.0]], dtype=np.float32)
    arrays = {"packed": packed_words(code, 4), "scale": scale, "shape": np.array([1, 12]), "g_idx": group}
    network = load(written(tmp_path / "m.safetensors", {f"a.weight_{key}": value for key, value in arrays.items()}))
    np.testing.assert_array_equal(network["a"].weight, code * scale[:, group])


def test_plain_integers_with_a_scale(tmp_path):
    code = np.arange(6, dtype=np.int8).reshape(2, 3)
    arrays = {"a.weight": code, "a.weight_scale": np.array([[0.5], [2]]), "a.weight_zero_point": np.array([[1], [3]])}
    network = load(written(tmp_path / "m.safetensors", arrays))
    np.testing.assert_array_equal(network["a"].weight, (code - [[1], [3]]) * np.array([[0.5], [2]]))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"weight.bitmask": np.zeros((2, 2), np.uint8)}, "a bitmask (2, 2) of uint8 for a weight (2, 3)"),
        ({"weight.bitmask": np.full((2, 1), 7, np.uint8)}, "6 bits are set, 1 values follow"),
        ({"weight.shape": np.array([2])}, "the shape (2,) of a compressed weight"),
        ({"weight.shape": np.array([10**9, 10**9])}, "for a weight (1000000000, 1000000000)"),
        (
            {"weight_packed": np.zeros((2, 2), np.uint8)},
            "is packed in a layout that is not known (uint8); decompress it",
        ),
        ({"weight_packed": np.zeros((2, 2), np.int32)}, "is packed in a layout that is not known (int32)"),
        ({"qweight": np.zeros((2, 2), np.int32), "scales": np.ones((1, 2))}, "is packed as GPTQ or AWQ does"),
    ],
)
def test_refusals(tmp_path, arrays, message):
    good = {"weight.bitmask": np.array([[1], [0]], np.uint8), "weight.shape": np.array([2, 3])}
    good["weight.compressed"] = np.ones(1, np.float32)
    path = written(tmp_path / "m.safetensors", {f"a.{key}": value for key, value in (good | arrays).items()})
    with pytest.raises(InputError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}, 'a.")
    assert message in str(caught.value)


def test_words_that_may_hold_integers_of_two_widths(tmp_path):
    arrays = {"packed": np.zeros((2, 1), np.int32), "scale": np.ones(1), "shape": np.array([2, 8])}
    with pytest.raises(InputError, match=r"words do not say of how many bits \(2, 4, 8\) \(2, 8\) integers are"):
        load(written(tmp_path / "m.safetensors", {f"a.weight_{key}": value for key, value in arrays.items()}))


def test_scales_that_do_not_fit(tmp_path):
    arrays = {"a.weight": np.ones((4, 6), np.int8), "a.weight_scale": np.ones((3, 5))}
    with pytest.raises(InputError, match=r"'a.weight': scales of shape \(3, 5\) for a weight \(4, 6\)"):
        load(written(tmp_path / "m.safetensors", arrays))
