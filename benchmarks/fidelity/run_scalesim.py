"""Run SCALE-Sim on layers, arrays and dataflows; what it counts goes to sparsim/fidelity/systolic/scalesim.csv.

SCALE-Sim is no dependency of this project; it wants an environment of its own::

    python -m venv scalesim-env
    scalesim-env/bin/pip install scalesim==3.0.0 "numpy<2"
    scalesim-env/bin/python benchmarks/fidelity/run_scalesim.py [OUT.csv]

Two things are run. For every case its systolic compute classes build the demand matrices, one row a cycle: what enters
and leaves the array in each. Their length is ``cycles``; it depends on shapes only, so the operand matrices hold no
addresses. Every case of at most ``FULL_CYCLES`` on a small array also goes through the whole simulator, topology file
to ``COMPUTE_REPORT.csv``, with memories that hold everything; ``report`` is the "Total Cycles" it prints, the index of
the last cycle and therefore one less. Cases for which it would copy more than ``MOST_COPIES`` numbers are left out: it
appends fold after fold to a matrix that it copies each time (once at the end for ws).

Rows are layers as its convolution topologies have them; a GEMM of M x K by K x N is written as its GEMM mode does, an
M x K image under N filters of 1 x K. A depthwise layer is what it makes of one channel of it. No row is padded, so
heights and widths include the padding. A few minutes on one core.
"""

from __future__ import annotations

import contextlib
import csv
import importlib.metadata
import io
import math
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scalesim.compute.systolic_compute_is import systolic_compute_is
from scalesim.compute.systolic_compute_os import systolic_compute_os
from scalesim.compute.systolic_compute_ws import systolic_compute_ws
from scalesim.scale_config import scale_config
from scalesim.scale_sim import scalesim
from scalesim.topology_utils import topologies

OUT = Path(__file__).parents[2] / "sparsim" / "fidelity" / "systolic" / "scalesim.csv"
MOST_COPIES = {"ws": 8_000_000, "os": 1_000_000_000, "is": 1_000_000_000}
FULL_CYCLES = 1500
FULL_ARRAYS = ((4, 4), (8, 8))
ARRAYS = ((4, 4), (8, 8), (16, 32), (32, 16), (128, 128))
COMPUTE = {"ws": systolic_compute_ws, "os": systolic_compute_os, "is": systolic_compute_is}
COLUMNS = ("layer", "ifmap_height", "ifmap_width", "filter_height", "filter_width", "channels", "filters", "stride")
Shape = tuple[int, int, int, int, int, int, int]

CONVOLUTIONS: dict[str, Shape] = {  # ifmap height, width, filter height, width, channels, filters, stride
    "alexnet.conv1": (227, 227, 11, 11, 3, 96, 4),
    "alexnet.conv2 (one of 2 groups)": (31, 31, 5, 5, 48, 128, 1),
    "alexnet.conv3": (15, 15, 3, 3, 256, 384, 1),
    "alexnet.conv4 (one of 2 groups)": (15, 15, 3, 3, 192, 192, 1),
    "alexnet.conv5 (one of 2 groups)": (15, 15, 3, 3, 192, 128, 1),
    "resnet18.conv1": (230, 230, 7, 7, 3, 64, 2),
    "resnet18.layer1": (58, 58, 3, 3, 64, 64, 1),
    "resnet18.layer2.0.conv1": (58, 58, 3, 3, 64, 128, 2),
    "resnet18.layer2.0.downsample": (56, 56, 1, 1, 64, 128, 2),
    "resnet18.layer2": (30, 30, 3, 3, 128, 128, 1),
    "resnet18.layer3.0.conv1": (30, 30, 3, 3, 128, 256, 2),
    "resnet18.layer3": (16, 16, 3, 3, 256, 256, 1),
    "resnet18.layer4.0.conv1": (16, 16, 3, 3, 256, 512, 2),
    "resnet18.layer4.0.downsample": (14, 14, 1, 1, 256, 512, 2),
    "resnet18.layer4": (9, 9, 3, 3, 512, 512, 1),
    "mobilenet.conv1": (226, 226, 3, 3, 3, 32, 2),
    "mobilenet.DP1 (one channel)": (114, 114, 3, 3, 1, 1, 1),
    "mobilenet.pw1": (112, 112, 1, 1, 32, 64, 1),
    "mobilenet.DP6 (one channel)": (30, 30, 3, 3, 1, 1, 2),
    "mobilenet.pw6": (14, 14, 1, 1, 256, 512, 1),
    "mobilenet.DP12 (one channel)": (16, 16, 3, 3, 1, 1, 2),
    "mobilenet.pw13": (7, 7, 1, 1, 1024, 1024, 1),
    "lenet5.conv1": (28, 28, 5, 5, 1, 20, 1),
    "lenet5.conv2": (12, 12, 5, 5, 20, 50, 1),
    "one window": (3, 3, 3, 3, 2, 5, 1),
    "window beyond the edge": (8, 7, 3, 2, 3, 6, 2),
    "flat filter": (9, 6, 1, 5, 2, 7, 1),
    "one pixel, one channel": (1, 1, 1, 1, 1, 1, 1),
}
GEMMS: dict[str, tuple[int, int, int]] = {  # M, N, K: positions, outputs, inputs
    "bert.qkv, 128 tokens": (128, 768, 768),
    "bert.scores, one head": (128, 128, 64),
    "bert.context, one head": (128, 64, 128),
    "bert.ffn_in, 16 tokens": (16, 3072, 768),
    "bert.ffn_out, 16 tokens": (16, 768, 3072),
    "gpt2.scores, one head, one token": (1, 1024, 64),
    "llama.q, one token": (1, 4096, 4096),
    "lenet300.fc1": (1, 300, 784),
    "lenet300.fc3": (1, 10, 100),
    "k = 1": (9, 11, 1),
    "one position": (1, 17, 13),
    "one output": (17, 1, 13),
    "3 of everything": (3, 3, 3),
    "4 of everything": (4, 4, 4),
    "5 of everything": (5, 5, 5),
    "7, 8, 9": (7, 8, 9),
    "9, 7, 8": (9, 7, 8),
    "15, 31, 17": (15, 31, 17),
    "16, 32, 16": (16, 32, 16),
    "33, 17, 32": (33, 17, 32),
    "127 of everything": (127, 127, 127),
    "128 of everything": (128, 128, 128),
    "129 of everything": (129, 129, 129),
    "257, 130, 3": (257, 130, 3),
}


def layers() -> dict[str, Shape]:
    return CONVOLUTIONS | {name: (m, k, 1, k, 1, n, 1) for name, (m, n, k) in GEMMS.items()}


def sizes(shape: Shape) -> tuple[int, int, int]:
    """Return positions, filters and window as SCALE-Sim's own topology class counts them."""
    topology = topologies()
    topology.append_topo_entry_from_list(["layer", *shape[:6], shape[6]])
    _, _, macs, window = topology.layers_calculated_hyperparams[0]
    return macs // window // shape[5], shape[5], window


def architecture(rows: int, cols: int, dataflow: str) -> Any:
    config = scale_config()
    config.update_from_list(["run", rows, cols, 1, 1, 1, 0, 0, 0, dataflow, "CALC", []])
    return config


def demand_length(shape: Shape, rows: int, cols: int, dataflow: str) -> int:
    """Return the rows of the demand matrices, the same for all three operands."""
    positions, filters, window = sizes(shape)
    compute = COMPUTE[dataflow]()
    compute.set_params(
        config_obj=architecture(rows, cols, dataflow),
        ifmap_op_mat=np.zeros((positions, window)),
        filter_op_mat=np.zeros((window, filters)),
        ofmap_op_mat=np.zeros((positions, filters)),
    )
    compute.create_demand_matrices()
    ifmap, kernel, ofmap = compute.ifmap_demand_matrix, compute.filter_demand_matrix, compute.ofmap_demand_matrix
    if not len(ifmap) == len(kernel) == len(ofmap):
        raise SystemExit(f"{shape}, {rows}x{cols}, {dataflow}: {len(ifmap)}, {len(kernel)}, {len(ofmap)} cycles")
    return len(ifmap)


def copies(shape: Shape, rows: int, cols: int, dataflow: str) -> int:
    """Return about how many numbers are copied; only decides what is run."""
    positions, filters, window = sizes(shape)
    down, across, through = {
        "ws": (window, filters, positions), "is": (window, positions, filters), "os": (positions, filters, window)
    }[dataflow]  # fmt: skip
    folds = math.ceil(down / rows) * math.ceil(across / cols)
    return folds * (through + 2 * rows + cols) * max(rows, cols) * (1 if dataflow == "ws" else folds)


CONFIG = """[general]
run_name = run
[architecture_presets]
ArrayHeight = {rows}
ArrayWidth = {cols}
IfmapSramSzkB = 4096
FilterSramSzkB = 4096
OfmapSramSzkB = 4096
IfmapOffset = 0
FilterOffset = 10000000
OfmapOffset = 20000000
Bandwidth = 10
Dataflow = {dataflow}
ReadRequestBuffer = 32
WriteRequestBuffer = 32
[layout]
IfmapCustomLayout = False
IfmapSRAMBankBandwidth = 10
IfmapSRAMBankNum = 10
IfmapSRAMBankPort = 2
FilterCustomLayout = False
FilterSRAMBankBandwidth = 10
FilterSRAMBankNum = 10
FilterSRAMBankPort = 2
[sparsity]
SparsitySupport = false
[run_presets]
InterfaceBandwidth = CALC
UseRamulatorTrace = False
"""


def report_cycles(shape: Shape, rows: int, cols: int, dataflow: str) -> int:
    """Return "Total Cycles" of the report of a whole run."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "run.cfg").write_text(CONFIG.format(rows=rows, cols=cols, dataflow=dataflow))
        (folder / "topology.csv").write_text("head,\nlayer," + ",".join(map(str, shape)) + ",\n")
        (folder / "layout.csv").write_text("head,\nlayer," + "1," * 16 + "\n")
        with contextlib.redirect_stdout(io.StringIO()):
            run = scalesim(True, False, *(str(folder / file) for file in ("run.cfg", "topology.csv", "layout.csv")))
            run.run_scale(top_path=name)
        head, row = next(folder.rglob("COMPUTE_REPORT.csv")).read_text().splitlines()[:2]
        at = [title.strip() for title in head.split(",")].index("Total Cycles")
        return int(float(row.split(",")[at]))


def cases() -> Iterator[dict[str, Any]]:
    version = importlib.metadata.version("scalesim")
    for name, shape in layers().items():
        for rows, cols in ARRAYS:
            for dataflow in COMPUTE:
                if copies(shape, rows, cols, dataflow) > MOST_COPIES[dataflow]:
                    continue
                cycles = demand_length(shape, rows, cols, dataflow)
                full = cycles <= FULL_CYCLES and (rows, cols) in FULL_ARRAYS
                report = report_cycles(shape, rows, cols, dataflow) if full else ""
                row = dict(zip(COLUMNS, (name, *shape), strict=True))
                yield row | {
                    "rows": rows, "cols": cols, "dataflow": dataflow, "cycles": cycles, "report": report,
                    "version": version,
                }  # fmt: skip


def main() -> None:
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else OUT
    done, whole, named = 0, 0, set()
    with out.open("w", encoding="utf-8", newline="") as file:
        columns = (*COLUMNS, "rows", "cols", "dataflow", "cycles", "report", "version")
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        for row in cases():
            writer.writerow(row)
            file.flush()
            done, whole = done + 1, whole + (row["report"] != "")
            named.add(row["layer"])
    print(f"{done} cases of {len(named)} layers, {whole} of them whole runs, in {out}")


if __name__ == "__main__":
    main()
