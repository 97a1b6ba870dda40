"""What a benchmark leaves behind: records in `benchmarks/results/<benchmark>.json`.

Promise: one record per figure and device; a re-run on the same device replaces its record and
leaves those of other devices alone. `holds` says whether the figure keeps its bound.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch

from antcache.kernels.benchmark.machine import device_name, versions
from antcache.kernels.benchmark.rows import Figure, write_figures

RESULTS = Path(__file__).resolve().parent / "results"
DATA = Path(
    os.environ.get("ANTCACHE_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")
)
PACKAGES = ("antcache", "torch", "numpy", "numba", "transformers", "zarr", "triton")


def finish(benchmark: str, figures: list[Figure], *, record: bool) -> None:
    """Print one JSON line; with `record`, update the results file. Exit 1 if a bound is broken."""
    device = device_name("cuda" if torch.cuda.is_available() else "cpu")
    if record:
        write_figures(
            RESULTS / f"{benchmark}.json",
            figures,
            device=device,
            versions=versions(PACKAGES),
            command=" ".join(["python", f"benchmarks/{benchmark}.py", *sys.argv[1:]]),
        )
    broken = [f.figure for f in figures if not f.holds]
    summary = {f.figure: round(f.value, 4) for f in figures}
    print(json.dumps({"benchmark": benchmark, "device": device, **summary, "broken": broken}))
    if broken:
        sys.exit(1)
