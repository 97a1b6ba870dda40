"""The bounds of the kernel, and what the rows of one run come to against them.

Promise: a figure per bound, with the number that was measured: a share of the copy bandwidth, a
ratio to a contender, a count of launches, memory. Shares are bounded by shape, dtype and GPU (an
H200 has more bandwidth for as much arithmetic), and only where a regime says so; those of other
GPUs and of other teachers than one dense one are figures without a bound. What was not measured is
in no figure. Letters as in `rows.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from antcache.kernels.benchmark.rows import (
    BOTH,
    COMPILED,
    CPU_SHAPE,
    DTYPES,
    EAGER,
    LIGER,
    LINEAR,
    OURS,
    PLAIN,
    SMALL_BATCH,
    WHOLE,
    Case,
    Figure,
    Row,
)

SMALL_TIMES = 3.0
TIMES = {LIGER: 3.0, EAGER: 4.0, COMPILED: 1.5}
CPU_TIMES, CPU_MEMORY = 2.0, 1.1
LINEAR_TIMES, LINEAR_MEMORY = 1.0, 0.25
BOUNDED = "dense"
"""The form whose shares are bounded: others do more arithmetic for a byte, or other work."""

LONGEST = 16384
"""Classes of the longest row of top-k teachers that is read once."""


@dataclass(frozen=True, kw_only=True)
class Regime:
    """Cases that are limited by the same thing, and the share of the copy bandwidth they keep.

    Attributes:
        batch: B at least.
        classes: C, one of these.
        padded: as in `Case`.
        dtypes: of the logits.
        h100: the share on an H100.
        h200: that on an H200.
    """

    batch: int
    classes: tuple[int, ...]
    padded: int = 0
    dtypes: tuple[str, ...]
    h100: float
    h200: float

    def holds_for(self, case: Case) -> bool:
        """Whether the case is one of these."""
        return (
            case.batch >= self.batch
            and case.classes in self.classes
            and case.padded == self.padded
            and case.dtype in self.dtypes
        )

    def share(self, device: str) -> float | None:
        """The bound on the GPU of this name; None where none is known for it."""
        found = re.search(r"\bH[12]00\b", device)  # a GH200 is neither
        return {"H100": self.h100, "H200": self.h200}[found[0]] if found else None


REGIMES = (
    Regime(batch=16384, classes=(2513, 3806), dtypes=("float32",), h100=0.85, h200=0.80),
    Regime(batch=16384, classes=(2513,), padded=2528, dtypes=("bfloat16",), h100=0.75, h200=0.55),
    Regime(batch=65536, classes=(106,), dtypes=("float32",), h100=0.60, h200=0.60),
    Regime(batch=65536, classes=(106,), dtypes=("bfloat16",), h100=0.40, h200=0.40),
    Regime(batch=8192, classes=(131072,), dtypes=DTYPES, h100=0.85, h200=0.85),
)


def transfers(case: Case) -> tuple[int, int]:
    """How often as many numbers as there are logits must move at least, and how often they do.

    At least: student and teachers are read, the gradient is written. A long row is read twice, the
    second time from the L2 cache but with top-k teachers (whose k classes are too few to count).
    """
    least = {"top-50": 2, "5 teachers": 7}.get(case.form, 3)
    return least, least + (case.form == "top-50" and case.classes > LONGEST)


def gpu_figures(rows: Sequence[Row]) -> list[Figure]:
    """All figures of a GPU's rows but the launches."""
    return [*share_figures(rows), *times_figures(rows), *linear_figures(rows)]


def regime_of(case: Case) -> Regime | None:
    """The regime of a case, None where no bound is set."""
    return next((one for one in REGIMES if one.holds_for(case)), None)


def least_share(case: Case, device: str) -> float | None:
    """The bound on the share that ours keeps there, of the transfers that the case needs."""
    regime = regime_of(case)
    return regime.share(device) if regime and case.form == BOUNDED else None


def share_figure(case: Case, device: str, share: float, where: str = "") -> Figure:
    """A share of what must move at least, as one of the transfers that the case needs."""
    least, needed = transfers(case)
    of = f" for {needed} transfers" if needed > least else ""
    return Figure(
        figure=f"share of copy bandwidth{of}{where}, {case}",
        value=share * needed / least,
        unit="share",
        at_least=least_share(case, device),
    )


def share_figures(rows: Sequence[Row]) -> list[Figure]:
    """Shares of the copy bandwidth in the regimes."""
    return [
        share_figure(row.case, row.device, row.copy_share)
        for row in _ours(rows)
        if regime_of(row.case) and row.copy_share
    ]


def times_figures(rows: Sequence[Row]) -> list[Figure]:
    """How often as fast as the contenders, the worst over dtypes and forms of a shape.

    A figure's `n` is the number of cases that it is the worst of.
    """
    ours = [row for row in _ours(rows) if row.form != LINEAR]
    figures = []
    for shape in dict.fromkeys((row.B, row.C, row.W) for row in ours):
        here = [row for row in ours if shape == (row.B, row.C, row.W)]
        bounds = TIMES if here[0].case.large else {}
        if shape[0] == SMALL_BATCH:
            bounds = {EAGER: SMALL_TIMES}
        name = here[0].case.shape
        for other, bound in bounds.items():
            ratios = _ratios(here, [row for row in rows if row.contender in _meant(other)])
            if ratios:
                figures.append(_worst(f"times faster than {other}, {name}", ratios, bound))
    return figures


def linear_figures(rows: Sequence[Row]) -> list[Figure]:
    """From hidden states: time and memory beside those of compositions that hold all logits."""
    figures = []
    for mine in (row for row in _ours(rows) if row.form == LINEAR):
        theirs = [row for row in rows if row.contender in (WHOLE, PLAIN, EAGER)]
        if ratios := _ratios([mine], theirs):
            title = f"times faster than with logits whole, {mine.case}"
            figures.append(_worst(title, ratios, LINEAR_TIMES))
        memory = [row.peak_mb for row in theirs if (row.case, row.mode) == (mine.case, BOTH)]
        known = [peak for peak in memory if peak]
        if known and mine.peak_mb is not None:
            title = f"memory, of that with logits whole, {mine.case}"
            value = mine.peak_mb / min(known)
            figures.append(Figure(figure=title, value=value, unit="x", at_most=LINEAR_MEMORY))
    return figures


def _ours(rows: Iterable[Row]) -> list[Row]:
    return [row for row in rows if row.contender == OURS and row.mode == BOTH and row.ms_p50]


def _meant(contender: str) -> tuple[str, ...]:
    """Eager PyTorch is the faster of its two compositions."""
    return (EAGER, PLAIN) if contender == EAGER else (contender,)


def _ratios(ours: Sequence[Row], others: Sequence[Row]) -> list[float]:
    """By case, the time of the fastest of the others over ours.

    On padded rows theirs is that on unpadded ones where these are faster for them.
    """
    ratios = []
    for mine in ours:
        alike = (mine.case, mine.case.unpadded)
        known = [row.ms_p50 for row in others if row.mode == BOTH and row.case in alike]
        times = [time for time in known if time]
        if times and mine.ms_p50:
            ratios.append(min(times) / mine.ms_p50)
    return ratios


def _worst(figure: str, values: list[float], at_least: float) -> Figure:
    return Figure(figure=figure, value=min(values), unit="x", at_least=at_least, n=len(values))


def faster_layouts(rows: Sequence[Row]) -> list[str]:
    """For each contender of a padded case, on which rows it was faster: those count."""
    ms = {(row.contender, row.case): row.ms_p50 for row in rows if row.mode == BOTH}
    lines = []
    for (name, case), padded in ms.items():
        plain = ms.get((name, case.unpadded))
        if case.padded and padded and plain:
            width = case.width if padded <= plain else case.classes
            lines.append(
                f"{name}, {case}: faster on rows of {width} "
                f"({padded:.4g} ms on {case.width}, {plain:.4g} ms on {case.classes})"
            )
    return lines


def launch_figure(case: Case, launches: int) -> Figure:
    """How many launches the forward pass takes, the gradient being written in it."""
    most = 1 if case.batch <= SMALL_BATCH else 2
    title = f"launches of forward plus gradient, {case.shape}"
    return Figure(figure=title, value=launches, unit="launches", at_most=most)


def cpu_figures(rows: Sequence[Row], extra_memory: float | None) -> list[Figure]:
    """Speed on the CPU over PyTorch's ways, and memory in units of the logits."""
    shape = f"{CPU_SHAPE[0]} x {CPU_SHAPE[1]}"
    ours = [row for row in _ours(rows) if (row.B, row.C) == CPU_SHAPE]
    figures = []
    for title, names in {"PyTorch calls": (PLAIN, EAGER), COMPILED: (COMPILED,)}.items():
        if ratios := _ratios(ours, [row for row in rows if row.contender in names]):
            name = f"times faster than {title} on the CPU, {shape}"
            figures.append(_worst(name, ratios, CPU_TIMES))
    if extra_memory is not None:
        title = f"extra memory over that of the logits on the CPU, {shape}"
        figures.append(Figure(figure=title, value=extra_memory, unit="x", at_most=CPU_MEMORY))
    return figures
