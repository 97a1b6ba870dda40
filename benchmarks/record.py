"""What a benchmark leaves behind: records in `benchmarks/results/<benchmark>.json`.

Promise: one record per figure and device; a re-run on the same device replaces its record and
leaves those of other devices alone. `holds` says whether the figure keeps its bound.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import sys
from pathlib import Path

from antcache.kernels.benchmark_rows import Figure, write_figures

RESULTS = Path(__file__).resolve().parent / "results"
DATA = Path(
    os.environ.get("ANTCACHE_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")
)
PACKAGES = ("antcache", "torch", "numpy", "numba", "transformers", "zarr", "triton")


def device_name() -> str:
    """The GPU's name, or the number of cores and the processor."""
    try:
        import torch

        if torch.cuda.is_available():
            return torch.cuda.get_device_name()
    except ImportError:
        pass
    return f"CPU, {os.cpu_count()} cores, {platform.machine()}"


def versions() -> dict[str, str]:
    """Versions of python and of the packages that matter here, as far as installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def finish(benchmark: str, figures: list[Figure], *, record: bool) -> None:
    """Print one JSON line; with `record`, update the results file. Exit 1 if a bound is broken."""
    device = device_name()
    if record:
        write_figures(
            RESULTS / f"{benchmark}.json",
            figures,
            device=device,
            versions=versions(),
            command=" ".join(["python", f"benchmarks/{benchmark}.py", *sys.argv[1:]]),
        )
    broken = [f.figure for f in figures if not f.holds]
    summary = {f.figure: round(f.value, 4) for f in figures}
    print(json.dumps({"benchmark": benchmark, "device": device, **summary, "broken": broken}))
    if broken:
        sys.exit(1)
