"""What the benchmark of the kernel measures, and what it leaves: cases, rows, figures, files.

Promise: one row per device, contender, mode and case; a re-run replaces its own rows and leaves the
others alone. A case that could not be measured has a row with the reason and no number. Needs
nothing outside the standard library. Letters: B batch rows, C classes, W width of a row in memory.
"""

from __future__ import annotations

import csv
import datetime
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import product
from pathlib import Path
from typing import Any

from antcache.errors import BadConfig

FORMS = ("dense", "top-50", "5 teachers")
LINEAR = "from hidden"
"""The dense form where the logits are yet to be computed: the classifier is part of the loss."""

DTYPES = ("float32", "bfloat16")
BOTH, FORWARD, HOST = "forward+backward", "forward", "with host"
OURS, OVER, WHOLE, PLAIN, EAGER, COMPILED, LIGER, ORDA, FLA = (
    "ours",
    "ours, overwriting",
    "ours, logits whole",
    "plain",
    "eager",
    "torch.compile",
    "liger",
    "orda-kernel",
    "flash-linear-attention",
)
LARGE = 16384 * 2513
"""B x C from which the bounds on the contenders hold."""

SMALL_BATCH = 128
PADDED = {2513: 2528}
"""Odd numbers of classes, and the width of their rows with which these are aligned."""

PADDED_BATCH = 16384
LINEAR_SHAPE = (8192, 131072)
CPU_SHAPE = (4096, 2513)


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
        """Whether the bounds on the contenders for large inputs hold."""
        return self.batch * self.classes >= LARGE

    @property
    def unpadded(self) -> Case:
        """The same loss of rows without padding."""
        return replace(self, padded=0)

    @property
    def shape(self) -> str:
        """B x C in words, with the width of padded rows."""
        rows = f" in rows of {self.padded}" if self.padded else ""
        return f"{self.batch} x {self.classes}{rows}"

    def __str__(self) -> str:
        return f"{self.shape} {self.dtype} {self.form}"


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
    """Cases of these shapes: the dense form of every shape before the other forms.

    A case of padded rows follows the one that it is compared with.
    """
    made = []
    for form, (batch, classes), dtype in product((*FORMS, LINEAR), chosen, DTYPES):
        if form == LINEAR and (batch, classes) != LINEAR_SHAPE:
            continue
        case = Case(dtype=dtype, form=form, batch=batch, classes=classes)
        made.append(case)
        if (form, dtype) == ("dense", "bfloat16") and batch >= PADDED_BATCH and classes in PADDED:
            made.append(replace(case, padded=PADDED[classes]))
    return made


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
        W: width of the logits' rows in memory, C unless they are padded.
        ms_p20: milliseconds, 20th percentile.
        ms_p50: median.
        ms_p80: 80th percentile.
        gb_s: bytes that must move (student, teacher, gradient), per median time, 1e9 a second;
            None from hidden states, where arithmetic is the limit.
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
    W: int
    ms_p20: float | None = None
    ms_p50: float | None = None
    ms_p80: float | None = None
    gb_s: float | None = None
    copy_share: float | None = None
    peak_mb: float | None = None
    note: str = ""

    @property
    def key(self) -> tuple[str | Case, ...]:
        """What a re-run replaces."""
        return (self.device, self.contender, self.mode, self.case)

    @property
    def case(self) -> Case:
        """The loss that was computed."""
        padded = self.W if self.W != self.C else 0
        return Case(dtype=self.dtype, form=self.form, batch=self.B, classes=self.C, padded=padded)


COLUMNS = tuple(f.name for f in fields(Row))
INTEGERS = ("B", "C", "W")
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


def table(rows: Sequence[Row]) -> str:
    """The rows with a number as a table of Markdown, at most 100 columns wide; then the reasons."""
    heads = ("contender", "mode", "dtype", "form", "B x C", "ms", "GB/s", "copy", "MB")
    lines = [heads, *(_cells(row) for row in rows if row.ms_p50 is not None)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(heads))]
    rule = tuple("-" * w if i < 4 else "-" * (w - 1) + ":" for i, w in enumerate(widths))
    lines.insert(1, rule)
    made = []
    for line in lines:
        left = [cell.ljust(w) for cell, w in zip(line[:4], widths[:4], strict=True)]
        right = [cell.rjust(w) for cell, w in zip(line[4:], widths[4:], strict=True)]
        made.append(f"|{'|'.join(left + right)}|")
    reasons: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row.note:
            reasons.setdefault((row.contender, row.note), []).append(str(row.case))
    for (name, note), where in reasons.items():
        more = f" and {len(where) - 1} more" if len(where) > 1 else ""
        made.append(f"{name}, {where[0]}{more}: {note}")
    return "\n".join(made)


def _cells(row: Row) -> tuple[str, ...]:
    mode = {BOTH: "fwd+bwd", FORWARD: "fwd", HOST: "host"}.get(row.mode, row.mode)
    kind = {"float32": "f32", "bfloat16": "bf16"}.get(row.dtype, row.dtype)
    ms = f"{row.ms_p50:.4g} ({row.ms_p20:.4g}-{row.ms_p80:.4g})"
    shape = f"{row.B}x{row.C}" + (f"/{row.W}" if row.W != row.C else "")
    gb_s = "-" if row.gb_s is None else f"{row.gb_s:.0f}"
    share = "-" if row.copy_share is None else f"{row.copy_share:.0%}"
    peak = "-" if row.peak_mb is None else f"{row.peak_mb:.1f}"
    return (row.contender, mode, kind, row.form, shape, ms, gb_s, share, peak)
