"""A kernel cache of the test run's own, so that no run serves another's stale code."""

import os
import tempfile
from pathlib import Path

import pytest

os.environ.setdefault("SPARSIM_CACHE_DIR", str(Path(tempfile.gettempdir()) / "sparsim-tests"))

SHARED = Path(__file__).resolve().parents[1].parent / "shared" / "data"


@pytest.fixture
def real_data() -> Path:
    if not SHARED.is_dir():
        pytest.skip("the public matrices are not beside this checkout")
    return SHARED
