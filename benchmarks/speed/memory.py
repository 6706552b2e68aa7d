"""The peak memory of one simulation, in a process of its own; Linux, whose kernel says what a process held at most.

The process imports sparsim, simulates a tiny product of the same kind, builds the operands, gives back what it no
longer needs, and resets its peak (``/proc/self/clear_refs``). What the peak is above the resident size after the
simulation is the memory of the simulation: its results and all it needed in between, not the operands.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import sparsim

__all__ = ["ALLOWED_BYTES", "ALLOWED_INPUTS", "environment", "peak_memory"]

ALLOWED_INPUTS = 2
ALLOWED_BYTES = 64 * 10**6
STATUS = Path("/proc/self/status")


def peak_memory(name: str, group: str, data: Path | None) -> dict[str, Any]:
    """Return peak and allowance of a case in bytes; nothing where there is no ``/proc``."""
    if not STATUS.exists():
        return {}
    command = [sys.executable, __file__, name, "--group", group, *(("--data", str(data)) if data else ())]
    said = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    if said.returncode:
        raise SystemExit(f"error: {name}: the measured process failed\n{said.stderr}")
    found: dict[str, Any] = json.loads(said.stdout.splitlines()[-1])
    allowed = ALLOWED_INPUTS * found["input_bytes"] + ALLOWED_BYTES
    return {
        "memory_bytes": found["memory_bytes"],
        "memory_allowed_bytes": allowed,
        "memory_ok": found["memory_bytes"] <= allowed,
    }


def environment() -> dict[str, str]:
    """Return this process's environment for another one that has to import the same sparsim."""
    return os.environ | {"PYTHONPATH": str(Path(sparsim.__file__).parents[1])}


def _status(field: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024


def _give_back() -> None:
    """Return freed memory to the system, so that the simulation has to ask for its own."""
    gc.collect()
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case")
    parser.add_argument("--group", required=True)
    parser.add_argument("--data", type=Path)
    options = parser.parse_args()
    from cases import cases, tiny
    from measure import takes_threads

    threads = {"threads": 1} if takes_threads() else {}
    product = next(case for case in cases(options.data, options.group) if case.name == options.case).build()
    tiny(product.columns).simulate(**threads)
    _give_back()
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    report = product.simulate(**threads)
    held = _status("VmHWM") - before
    print(json.dumps({"memory_bytes": held, "input_bytes": product.input_bytes, "cycles": report["cycles.total"]}))


if __name__ == "__main__":
    main()
