"""What the benchmark of the kernel measures, and what it leaves: cases, rows, bounds, files.

Promise: one row per device, contender, mode and case; a re-run replaces its own rows and leaves the
others alone. A case that could not be measured has a row with the reason and no number. The bounds
are those of the project, judged on the rows of one run. Needs nothing outside the standard library.
Letters: B batch rows, C classes.
"""

from __future__ import annotations

import csv
import datetime
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import product
from pathlib import Path
from typing import Any

from antcache.errors import BadConfig

FORMS = ("dense", "top-50", "5 teachers")
DTYPES = ("float32", "bfloat16")
BOTH, FORWARD, HOST = "forward+backward", "forward", "with host"
OURS, OVER, PLAIN, EAGER, COMPILED, LIGER = (
    "ours",
    "ours, overwriting",
    "plain",
    "eager",
    "torch.compile",
    "liger",
)
LARGE = 16384 * 2513
"""B x C from which the bounds on bandwidth and on the contenders hold."""

SMALL_BATCH = 128
SHARE, SMALL_TIMES = 0.85, 3.0
TIMES = {LIGER: 3.0, EAGER: 4.0, COMPILED: 1.5}
CPU_SHAPE, CPU_TIMES, CPU_MEMORY = (4096, 2513), 2.0, 1.1


@dataclass(frozen=True, kw_only=True)
class Case:
    """One loss to be computed.

    Attributes:
        dtype: of the logits.
        form: of the teacher.
        batch: B.
        classes: C, those that count.
        padded: width of the rows in memory, whose columns from C on take no part; 0: C.
    """

    dtype: str
    form: str
    batch: int
    classes: int
    padded: int = 0

    @property
    def width(self) -> int:
        """Columns of a row in memory."""
        return self.padded or self.classes

    @property
    def large(self) -> bool:
        """Whether the bounds for large inputs hold."""
        return self.batch * self.classes >= LARGE

    def __str__(self) -> str:
        rows = f" in rows of {self.padded}" if self.padded else ""
        return f"{self.batch} x {self.classes}{rows} {self.dtype} {self.form}"


def shapes(quick: bool = False) -> list[tuple[int, int]]:
    """Shapes (B, C), those with a bound first."""
    if quick:
        return [(16384, 2513), (128, 2513), (8192, 131072)]
    found = [(8192, 131072), *product((128, 1024, 16384, 65536), (106, 2513, 3806))]
    first = [(16384, 2513), (128, 2513), (65536, 3806)]
    return first + sorted(
        (shape for shape in found if shape not in first),
        key=lambda s: (s[0] * s[1] < LARGE, s[0] != SMALL_BATCH),
    )


def cases(chosen: Sequence[tuple[int, int]]) -> list[Case]:
    """Cases of these shapes: the dense form of every shape before the other forms."""
    return [
        Case(dtype=dtype, form=form, batch=batch, classes=classes)
        for form in FORMS
        for batch, classes in chosen
        for dtype in DTYPES
    ]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the CSV.

    Attributes:
        device: name of the GPU, or the processor and its cores.
        driver: version of the GPU's driver, empty on a CPU.
        torch: version.
        triton: version, empty if it is not installed.
        date: ISO.
        contender: what computes the loss.
        mode: forward and gradient, forward alone, or the first with the host's share of the time.
        dtype: of the logits.
        form: of the teacher.
        B: batch rows.
        C: classes.
        ms_p20: milliseconds, 20th percentile.
        ms_p50: median.
        ms_p80: 80th percentile.
        gb_s: bytes that must move (student, teacher, gradient), per median time, 1e9 a second.
        copy_share: of the copy bandwidth measured in the same run.
        peak_mb: memory beside the inputs at its largest, 1e6 bytes.
        note: why there is no number.
    """

    device: str
    driver: str
    torch: str
    triton: str
    date: str
    contender: str
    mode: str
    dtype: str
    form: str
    B: int
    C: int
    ms_p20: float | None = None
    ms_p50: float | None = None
    ms_p80: float | None = None
    gb_s: float | None = None
    copy_share: float | None = None
    peak_mb: float | None = None
    note: str = ""

    @property
    def key(self) -> tuple[str | int, ...]:
        """What a re-run replaces."""
        return (self.device, self.contender, self.mode, self.dtype, self.form, self.B, self.C)

    @property
    def case(self) -> Case:
        """The loss that was computed."""
        return Case(dtype=self.dtype, form=self.form, batch=self.B, classes=self.C)


COLUMNS = tuple(f.name for f in fields(Row))
INTEGERS = ("B", "C")
NUMBERS = ("ms_p20", "ms_p50", "ms_p80", "gb_s", "copy_share", "peak_mb")


def read_rows(path: Path) -> list[Row]:
    """Rows of the CSV, none if it is not there.

    Raises:
        BadConfig: the file is no such CSV.
    """
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise BadConfig("not a CSV of this benchmark", where=path, expected=", ".join(COLUMNS))
        try:
            return [_row(line) for line in reader]
        except (TypeError, ValueError) as error:
            raise BadConfig(f"not a CSV of this benchmark: {error}", where=path) from error


def _row(line: dict[str, str]) -> Row:
    values: dict[str, Any] = dict(line)
    values.update({name: int(line[name]) for name in INTEGERS})
    values.update({name: float(line[name]) if line[name] else None for name in NUMBERS})
    return Row(**values)


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Put `rows` into the CSV; rows of the same key are replaced, all others stay."""
    merged = {row.key: row for row in [*read_rows(path), *rows]}
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for row in merged.values():
            writer.writerow(
                {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in asdict(row).items()}
            )


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
        """Whether the bounds are kept; NaN keeps none."""
        return (self.at_least is None or self.value >= self.at_least) and (
            self.at_most is None or self.value <= self.at_most
        )


def write_figures(
    path: Path, figures: Iterable[Figure], *, device: str, versions: dict[str, str], command: str
) -> None:
    """Put the figures into the results file; those of the same name and device are replaced."""
    stamp = {
        "device": device,
        "versions": versions,
        "date": datetime.date.today().isoformat(),
        "command": command,
    }
    old = json.loads(path.read_text("utf-8")) if path.exists() else []
    records = [{**asdict(f), "holds": f.holds, **stamp} for f in figures]
    merged = {(r["figure"], r["device"]): r for r in [*old, *records]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(list(merged.values()), indent=1) + "\n", "utf-8")


def gpu_figures(rows: Sequence[Row]) -> list[Figure]:
    """The bounds on bandwidth and on the contenders, each the worst over dtypes and forms.

    A figure's `n` is the number of cases that it is the worst of; a case without a number (no
    memory, not reached) counts in none.
    """
    ms = {(row.case, row.contender): row.ms_p50 for row in rows if row.mode == BOTH and row.ms_p50}
    ours = [row for row in rows if row.contender == OURS and row.mode == BOTH and row.ms_p50]
    figures = []
    for shape in dict.fromkeys((row.B, row.C) for row in ours):
        here = [row for row in ours if shape == (row.B, row.C)]
        name = f"{shape[0]} x {shape[1]}"
        if here[0].case.large:
            shares = [row.copy_share for row in here if row.copy_share]
            if shares:
                title = f"share of copy bandwidth, {name}"
                figures.append(_worst(title, shares, "share", SHARE))
        bounds = TIMES if here[0].case.large else {}
        if shape[0] == SMALL_BATCH:
            bounds = {EAGER: SMALL_TIMES}
        for other, bound in bounds.items():
            ratios = []
            for row in here:
                theirs = [ms.get((row.case, n)) for n in _meant(other)]
                known = [time for time in theirs if time]
                if known and row.ms_p50:
                    ratios.append(min(known) / row.ms_p50)
            if ratios:
                figures.append(_worst(f"times faster than {other}, {name}", ratios, "x", bound))
    return figures


def _meant(contender: str) -> tuple[str, ...]:
    """Eager PyTorch is the faster of its two compositions."""
    return (EAGER, PLAIN) if contender == EAGER else (contender,)


def _worst(figure: str, values: list[float], unit: str, at_least: float) -> Figure:
    return Figure(figure=figure, value=min(values), unit=unit, at_least=at_least, n=len(values))


def launch_figure(case: Case, launches: int) -> Figure:
    """How many launches the forward pass takes, the gradient being written in it."""
    most = 1 if case.batch <= SMALL_BATCH else 2
    title = f"launches of forward plus gradient, {case.batch} x {case.classes}"
    return Figure(figure=title, value=launches, unit="launches", at_most=most)


def cpu_figures(rows: Sequence[Row], extra_memory: float | None) -> list[Figure]:
    """Speed on the CPU over the faster PyTorch composition, and memory in units of the logits."""
    batch, classes = CPU_SHAPE
    ms = {
        row.contender: row.ms_p50
        for row in rows
        if (row.B, row.C, row.mode) == (batch, classes, BOTH) and row.ms_p50
    }
    figures = []
    theirs = [time for name in (PLAIN, EAGER) if (time := ms.get(name))]
    mine = ms.get(OURS)
    if mine and theirs:
        title = f"times faster than PyTorch calls on the CPU, {batch} x {classes}"
        figures.append(_worst(title, [min(theirs) / mine], "x", CPU_TIMES))
    if extra_memory is not None:
        title = f"extra memory over that of the logits on the CPU, {batch} x {classes}"
        figures.append(Figure(figure=title, value=extra_memory, unit="x", at_most=CPU_MEMORY))
    return figures


def table(rows: Sequence[Row]) -> str:
    """The rows as a table of Markdown, at most 100 columns wide."""
    heads = ("contender", "mode", "dtype", "form", "B x C", "ms", "GB/s", "copy", "MB")
    lines = [heads, *(_cells(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(heads))]
    rule = tuple("-" * w if i < 4 else "-" * (w - 1) + ":" for i, w in enumerate(widths))
    lines.insert(1, rule)
    made = []
    for line in lines:
        left = [cell.ljust(w) for cell, w in zip(line[:4], widths[:4], strict=True)]
        right = [cell.rjust(w) for cell, w in zip(line[4:], widths[4:], strict=True)]
        made.append(f"|{'|'.join(left + right)}|")
    reasons = dict.fromkeys(
        f"{row.contender}, {row.dtype} {row.form} {row.B} x {row.C}: {row.note}"
        for row in rows
        if row.note
    )
    return "\n".join([*made, *reasons])


def _cells(row: Row) -> tuple[str, ...]:
    mode = {BOTH: "fwd+bwd", FORWARD: "fwd", HOST: "host"}.get(row.mode, row.mode)
    kind = {"float32": "f32", "bfloat16": "bf16"}.get(row.dtype, row.dtype)
    ms = "-"
    if row.ms_p50 is not None and row.ms_p20 is not None and row.ms_p80 is not None:
        ms = f"{row.ms_p50:.4g} ({row.ms_p20:.4g}-{row.ms_p80:.4g})"
    gb_s = "-" if row.gb_s is None else f"{row.gb_s:.0f}"
    share = "-" if row.copy_share is None else f"{row.copy_share:.0%}"
    peak = "-" if row.peak_mb is None else f"{row.peak_mb:.1f}"
    return (row.contender, mode, kind, row.form, f"{row.B}x{row.C}", ms, gb_s, share, peak)
