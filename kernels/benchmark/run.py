"""The benchmark of the kernel: `run` measures it against its contenders and against its bounds.

Promise: one process, most important cases first, and what the time did not allow is said. On a GPU
every case of `rows.py`; without one the CPU's. Needs torch, and triton or numba for ours.
It lies in the package so that `antcache bench kernel` has it wherever antcache is installed;
`benchmarks/kernel.py` is the same in a bare checkout.
Letters: B batch rows, C classes.
"""

from __future__ import annotations

import datetime
import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from antcache.checks import Positive, check_types
from antcache.errors import BadConfig
from antcache.kernels.benchmark import bounds
from antcache.kernels.benchmark import rows as rows_
from antcache.kernels.benchmark.clock import Clock
from antcache.kernels.benchmark.contenders import contender, make_inputs
from antcache.kernels.benchmark.machine import device_name, driver, extra_memory, versions
from antcache.kernels.benchmark.measure import both_step, measure
from antcache.kernels.benchmark.rows import (
    COMPILED,
    EAGER,
    FLA,
    LIGER,
    LINEAR,
    ORDA,
    OURS,
    OVER,
    PLAIN,
    WHOLE,
    Case,
    Figure,
    Row,
)
from antcache.kernels.loss import Impl

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"
LARGEST = 1 << 32
"""B x C: 16 GiB a tensor."""
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """What to measure, and where to leave it.

    Attributes:
        device: `cuda`, `cpu`, or `auto`: a GPU if there is one.
        shapes: (B, C) to measure instead of all; empty for all.
        quick: a few shapes and fewer repetitions.
        minutes: after which no further case is begun.
        record: write the CSV and the figures.
        out: the folder for them; None for the results folder of the checkout.

    Raises:
        BadConfig: a setting is out of range, or there is no such device.
    """

    device: Literal["auto", "cuda", "cpu"] = "auto"
    shapes: tuple[tuple[int, int], ...] = ()
    quick: bool = False
    minutes: Positive = 8.0
    record: bool = False
    out: Path | None = None

    def __post_init__(self) -> None:
        check_types(self)
        if self.device == "cuda" and not torch.cuda.is_available():
            raise BadConfig("no GPU is here", hint="device cpu measures the CPU's part")
        if any(batch < 1 or classes < 2 for batch, classes in self.shapes):
            raise BadConfig("impossible shapes", expected="B >= 1, C >= 2", found=self.shapes)
        if any(batch * classes > LARGEST for batch, classes in self.shapes):
            raise BadConfig("shapes too large", expected=f"B x C to {LARGEST}", found=self.shapes)
        if self.record and self.out is None and not RESULTS.is_dir():
            raise BadConfig("no checkout to record in", hint="name a folder with --output")
        if self.out is not None and not self.record:
            raise BadConfig("--output has no effect without --record")

    @property
    def on(self) -> str:
        """The device that is measured."""
        if self.device != "auto":
            return self.device
        return "cuda" if torch.cuda.is_available() else "cpu"


def parse_shapes(text: str) -> tuple[tuple[int, int], ...]:
    """Shapes from `16384x2513,128x2513`.

    Raises:
        BadConfig: it is no such list.
    """
    found = [re.fullmatch(r"(\d{1,12})x(\d{1,12})", part.strip()) for part in text.split(",")]
    shapes = tuple((int(match[1]), int(match[2])) for match in found if match)
    if len(shapes) != len(found):
        raise BadConfig("shapes not understood", expected="BxC,BxC,...", found=text)
    return shapes


@dataclass(kw_only=True)
class Result:
    """What a run found.

    Attributes:
        device: name of the device.
        rows: one per contender, mode and case.
        figures: what has a bound, and its value.
        open: what was not measured, what of ours failed, and what else is to be known, by line.
        failed: whether ours failed somewhere.
    """

    device: str
    rows: list[Row] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    open: list[str] = field(default_factory=list)
    failed: bool = False

    @property
    def broken(self) -> list[str]:
        """Figures that break their bound."""
        return [figure.figure for figure in self.figures if not figure.holds]

    @property
    def ok(self) -> bool:
        """Whether no bound is broken and ours never failed."""
        return not self.broken and not self.failed

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {**asdict(self), "broken": self.broken, "ok": self.ok}


def run(config: BenchmarkConfig, say: Say, command: str = "antcache bench kernel") -> Result:
    """Measure, say what was found line by line, and record it if asked.

    Args:
        config: what to measure.
        say: takes each line of the report.
        command: what the record says it was made by.

    Raises:
        BadConfig: the CSV to be updated is none of this benchmark's.
    """
    folder = (config.out or RESULTS) if config.record else None
    if folder:
        rows_.read_rows(folder / "kernel.csv")  # a file that can't be updated is told before
    bench = _Bench(config, say)
    result = bench.gpu() if config.on == "cuda" else bench.cpu()
    say(rows_.table(result.rows))
    for figure in result.figures:
        say(_line(figure))
    for line in result.open:
        say(line)
    if folder:
        rows_.write_rows(folder / "kernel.csv", result.rows)
        rows_.write_figures(
            folder / "kernel.json",
            result.figures,
            device=result.device,
            versions=versions(),
            command=command,
        )
    return result


def gpu_jobs(cases: Sequence[Case]) -> list[tuple[Case, list[str]]]:
    """Who is measured in which case, in order; last, what is slow to compile and has no bound."""
    jobs = []
    for case in cases:
        second = WHOLE if case.form == LINEAR else OVER
        names = [OURS, second, PLAIN, EAGER, LIGER, ORDA, FLA]
        jobs.append((case, [*names, COMPILED] if case.large else names))
    return jobs + [(case, [COMPILED]) for case in cases if not case.large]


def _line(figure: Figure) -> str:
    """A figure beside its bound."""
    kept = "holds" if figure.holds else "BROKEN"
    bound = "no bound on this device"
    if figure.at_least is not None:
        bound = f">= {figure.at_least:g}: {kept}"
    if figure.at_most is not None:
        bound = f"<= {figure.at_most:g}: {kept}"
    return f"{figure.figure}: {figure.value:.3g} {figure.unit} ({bound})"


class _Bench:
    """One run."""

    def __init__(self, config: BenchmarkConfig, say: Say) -> None:
        self.config = config
        self.say = say
        # Steps on a CPU are slow, and need more of them against what else it does.
        long = 0.3 if config.on == "cuda" else 3.0
        self.clock = Clock(config.on, seconds=0.1 if config.quick else long)
        self.until = time.monotonic() + 60 * config.minutes
        self.stamp: dict[str, Any] = {
            "device": device_name(config.on),
            "driver": driver() if config.on == "cuda" else "",
            "torch": torch.__version__,
            "triton": versions().get("triton", ""),
            "date": datetime.date.today().isoformat(),
        }
        self.result = Result(device=self.stamp["device"])

    def gpu(self) -> Result:
        """All cases of the issue, or of the shapes asked for."""
        copy = self._copy()
        chosen = rows_.cases(self.config.shapes or rows_.shapes(self.config.quick))
        for case, names in gpu_jobs(chosen):
            self._case(case, names, "triton", copy)
        self.result.figures = bounds.gpu_figures(self.result.rows)
        self.result.open += bounds.faster_layouts(self.result.rows)
        shapes = dict.fromkeys((c.batch, c.classes) for c in chosen)
        for batch, classes in shapes:
            if classes <= 8192:
                self._launches(Case(dtype="float32", form="dense", batch=batch, classes=classes))
        return self.result

    def cpu(self) -> Result:
        """The CPU's case, with all cores unless `OMP_NUM_THREADS` says how many."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        before = torch.get_num_threads()
        if "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(cores or 1)
        try:
            copy = self._copy()
            for batch, classes in self.config.shapes or (rows_.CPU_SHAPE,):
                case = Case(dtype="float32", form="dense", batch=batch, classes=classes)
                self._case(case, [OURS, OVER, PLAIN, EAGER, COMPILED], "numba", copy)
        finally:
            torch.set_num_threads(before)
        extra = None
        if rows_.CPU_SHAPE in (self.config.shapes or (rows_.CPU_SHAPE,)):
            extra = extra_memory(*rows_.CPU_SHAPE, "numba", self.result.open.append)
            if not any(row.contender == OURS and row.ms_p50 for row in self.result.rows):
                self.result.open.append("not measured: ours on the CPU against its bounds")
        self.result.figures = bounds.cpu_figures(self.result.rows, extra)
        self.result.open.append("not measured: the GPU's cases (this was the CPU)")
        return self.result

    def _copy(self) -> float:
        copy = self.clock.copy_bandwidth()
        self.say(f"{self.result.device}: copy bandwidth {copy / 1e9:.0f} GB/s (read and write)")
        return copy

    def _case(self, case: Case, names: list[str], fast: Impl, copy: float) -> None:
        if time.monotonic() > self.until:
            self.result.open.append(f"not reached in time: {case}: {', '.join(names)}")
            return
        self.say(f"... {case}")
        made = measure(case, names, self.clock, fast=fast, stamp=self.stamp, copy_bandwidth=copy)
        self.result.rows += made
        for row in made:
            if row.contender in (OURS, OVER) and row.note.startswith("error"):
                self.result.open.append(f"FAILED: {row.contender}, {case}: {row.note}")
                self.result.failed = True

    def _launches(self, case: Case) -> None:
        loss = contender(OURS, "triton")
        item = make_inputs(case, "cuda", torch.Generator("cuda").manual_seed(0))
        count = self.clock.launches(lambda _: loss(item))
        self.result.figures.append(bounds.launch_figure(case, count))
        whole = self.clock.launches(both_step(loss, [item]))
        self.result.open.append(
            f"launches with autograd's own and the upstream factor, {case}: {whole}"
        )
