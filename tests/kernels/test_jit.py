"""How compiled kernels are kept and loaded."""

from __future__ import annotations

import os
import subprocess
import sys

import numba
import pytest

LOADS = """
import sys
from sparsim.kernels.symbolic import product_nnz
import numpy as np
indptr, indices = np.array([0, 2, 3]), np.array([0, 1, 1], dtype=np.int32)
assert product_nnz(indptr, indices, indptr, indices, 2) == 3
print(sum(product_nnz.stats.cache_hits.values()), "numba.np.linalg" in sys.modules)
"""


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="nothing is compiled")
def test_a_kernel_that_is_kept_is_loaded_without_what_compiling_needs(tmp_path):
    """Making Numba ready to compile imports scipy's linear algebra: longer than the rest of a first simulation."""
    environment = {**os.environ, "SPARSIM_CACHE_DIR": str(tmp_path)}

    def run():
        done = subprocess.run(
            [sys.executable, "-c", LOADS], env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout.split()

    assert run() == ["0", "True"]
    assert run() == ["1", "False"]
