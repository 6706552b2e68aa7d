import numpy as np

from sparsim.pruning.criteria import magnitude


def test_magnitude_is_the_absolute_value_in_double():
    scores = magnitude(np.array([[-2.0, 0.0, 0.5]], dtype=np.float16))
    assert scores.dtype == np.float64
    np.testing.assert_array_equal(scores, [[2.0, 0.0, 0.5]])


def test_magnitude_of_the_most_negative_integer_does_not_overflow():
    np.testing.assert_array_equal(magnitude(np.array([[-128, 127]], dtype=np.int8)), [[128.0, 127.0]])
