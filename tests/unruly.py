"""A computer that misbehaves as it is told, in whatever process it runs; a fresh process has little to load for it."""

import os
import signal
import time
from pathlib import Path

from sparsim.machines import machine
from sparsim.machines.roofline import Roofline


class Unruly(Roofline):
    """Leaves a line "process key" in a log when a run ends; may sleep, raise or kill its process before."""

    deed, seconds, log, label = "", 0.0, "", ""

    def run_one(self, workload):
        time.sleep(self.seconds)
        if self.deed == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.deed == "die once" and not Path(f"{self.log}.died").exists():
            Path(f"{self.log}.died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if self.deed == "raise":
            raise ZeroDivisionError("of my own\nmaking")
        if self.deed == "exhaust":
            raise MemoryError
        activity = super().run_one(workload)
        if self.log:
            label = workload.a.matrix.indices.filename if self.deed == "tell file" else self.label
            with Path(self.log).open("a", encoding="utf-8") as file:
                file.write(f"{os.getpid()} {label}\n")
        return activity


def unruly(deed="", *, seconds=0.0, log="", label="", **fields):
    """Build one."""
    stock = machine("cpu", {key.replace("__", "."): value for key, value in fields.items()})
    built = Unruly(stock.name, stock.preset, stock.config, stock.baseline)
    built.deed, built.seconds, built.log, built.label = deed, seconds, str(log), label
    return built


def ended(log):
    """Return the pairs of process and label that a log holds."""
    path = Path(log)
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [(int(process), label) for process, label in (line.split() for line in lines)]
