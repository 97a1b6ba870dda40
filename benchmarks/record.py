"""What a benchmark leaves behind: records in `benchmarks/results/<benchmark>.json`.

Promise: one record per figure and device; a re-run on the same device replaces its record and
leaves those of other devices alone. `holds` says whether the figure keeps its bound.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"
DATA = Path(
    os.environ.get("ANTCACHE_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")
)
PACKAGES = ("antcache", "torch", "numpy", "numba", "transformers", "zarr", "triton")


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured number.

    Attributes:
        figure: its name, unique within the benchmark.
        value: the number (the mean where there are several runs).
        unit: e.g. `percent`, `s`, `x`.
        at_least: lower bound that it must keep, if any.
        at_most: upper bound that it must keep, if any.
        spread: standard deviation over the runs, if there are several.
        n: number of runs, or of segments where the figure is a share of them.
    """

    figure: str
    value: float
    unit: str
    at_least: float | None = None
    at_most: float | None = None
    spread: float | None = None
    n: int = 1

    @property
    def holds(self) -> bool:
        """Whether the bounds are kept."""
        return (self.at_least is None or self.value >= self.at_least) and (
            self.at_most is None or self.value <= self.at_most
        )


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
    stamp = {
        "device": device,
        "versions": versions(),
        "date": datetime.date.today().isoformat(),
        "command": " ".join(["python", f"benchmarks/{benchmark}.py", *sys.argv[1:]]),
    }
    records = [{**asdict(f), "holds": f.holds, **stamp} for f in figures]
    if record:
        path = RESULTS / f"{benchmark}.json"
        old: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
        new = {(r["figure"], r["device"]): r for r in [*old, *records]}
        path.write_text(json.dumps(list(new.values()), indent=1) + "\n")
    broken = [f.figure for f in figures if not f.holds]
    summary = {f.figure: round(f.value, 4) for f in figures}
    print(json.dumps({"benchmark": benchmark, "device": device, **summary, "broken": broken}))
    if broken:
        sys.exit(1)
