"""What a weight is worth: functions from a weight to scores of the same shape; the lowest are pruned first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Criterion", "Scores", "magnitude"]

Scores = npt.NDArray[np.float64]
Criterion = Callable[[npt.NDArray[Any]], Scores]


def magnitude(weight: npt.NDArray[Any]) -> Scores:
    """Return |w| as float64: a weight that is already zero scores 0 and is the first to go."""
    return np.abs(np.asarray(weight, dtype=np.float64))
