"""A kernel cache of the test run's own, so that no run serves another's stale code; examples without a deadline."""

import os
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault("SPARSIM_CACHE_DIR", str(Path(tempfile.gettempdir()) / "sparsim-tests"))

# Cores are shared with other test processes, and the first example pays imports and compilation.
settings.register_profile("no_deadline", deadline=None)
settings.load_profile("no_deadline")

SHARED = Path(__file__).resolve().parents[1].parent / "shared" / "data"


@pytest.fixture
def real_data() -> Path:
    if not SHARED.is_dir():
        pytest.skip("the public matrices are not beside this checkout")
    return SHARED


@pytest.fixture
def sparsim(monkeypatch, capsys):
    """Run the command line in this process; return exit code, standard output and standard error."""
    from sparsim.cli import main

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["sparsim", *map(str, words)])
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
        out, err = capsys.readouterr()
        return code, out, err

    return run
