"""What the first use costs: importing, the first product in a fresh process, the demo of a fresh install.

All are seconds of a whole process as the shell would measure them, the interpreter's own start included; the best of
several where that is not dear. Python keeps its bytecode, as it does after an installation. Compiled kernels are kept
in a folder of their own (``SPARSIM_CACHE_DIR``): first it is empty, so that everything a small product needs is
compiled, afterwards it is warm.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from memory import environment

__all__ = ["cold_start", "fresh_install"]

ROOT = Path(__file__).resolve().parents[2]
STARTS = {
    "python alone": "pass",
    "import scipy.sparse": "import scipy.sparse",
    "import sparsim": "import sparsim",
    "import what simulate() needs": "import sparsim; sparsim.simulate",
}
SIMULATE = "import sparsim as ss; ss.simulate(ss.gemm(64, 64, 64, pattern='density:0.1'))"


def cold_start(empty: bool = True, repeats: int = 5) -> Iterator[tuple[str, float]]:
    """Yield what is started, and its seconds; ``empty`` includes the start with an empty cache of kernels."""
    for what, code in STARTS.items():
        yield what, _best([sys.executable, "-c", code], {}, repeats)
    with TemporaryDirectory() as home:
        cache = {"SPARSIM_CACHE_DIR": home} if empty else {}
        first = [sys.executable, "-c", SIMULATE]
        if empty:
            yield "first simulate(), empty kernel cache", _best(first, cache, 1)
        yield "first simulate(), warm kernel cache", _best(first, cache, repeats)


def fresh_install() -> Iterator[tuple[str, float]]:
    """Yield the seconds of installing a wheel of this checkout, of the first ``sparsim demo``, and of the second.

    Raises
    ------
    OSError
        If pip cannot build or install it, without a network for instance.
    """
    with TemporaryDirectory() as work:
        place = Path(work)
        clean, wheels, folder = place / "clean", place / "wheels", place / "empty"
        folder.mkdir()
        alone = {"SPARSIM_CACHE_DIR": str(place / "cache"), "PYTHONPATH": ""}
        _best([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", wheels, ROOT], alone, 1)
        _best([sys.executable, "-m", "venv", clean], alone, 1)
        install: list[str | Path] = [clean / "bin" / "pip", "install", "-q", *wheels.glob("*.whl")]
        yield "pip install the wheel and all it needs", _best(install, alone, 1)
        for what in ("sparsim demo, fresh install", "sparsim demo, once more"):
            yield what, _best([clean / "bin" / "sparsim", "demo"], alone, 1, folder)


def _best(command: Sequence[str | Path], changed: Mapping[str, str], repeats: int, folder: Path = ROOT) -> float:
    words, times = [*map(str, command)], []
    around = {**environment(), "PYTHONDONTWRITEBYTECODE": "", **changed}
    for _ in range(repeats):
        start = time.perf_counter()
        done = subprocess.run(words, cwd=folder, env=around, capture_output=True, text=True, check=False)
        times.append(time.perf_counter() - start)
        if done.returncode:
            raise OSError(f"{' '.join(words)}\n{done.stderr}")
    return min(times)
