"""What a launch takes of a GPU, and how fast a forward pass could be: the numbers and their lines.

Promise: numbers of a row are those of the program divided by its rows. What the last program does
alone (the final sum) is in none of them, and said apart. A launch is judged by the bytes that it
moves itself, a forward pass by those that must move. Where a row is split over programs, what one
reads again for another is taken to come out of the L2 cache, if all that moves between the two
reads fits: that they keep step is an assumption (docs/kernel.md, "Long rows").
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from kernel_model import (
    ARCHS,
    DEVICES,
    Arch,
    issue_cycles,
    memory_cycles,
    special_cycles,
)
from kernel_sass import Walk, walk
from kernel_variants import (
    EDGE_FORMS,
    FORMS,
    Compiled,
    Launch,
    build,
    constant_bank,
    launched,
)

from antcache.errors import BadConfig
from antcache.kernels.benchmark.rows import Case
from antcache.kernels.gpu.long.launch import AHEAD

ITEM_BYTES = {"float32": 4, "bfloat16": 2}
SM_90 = ARCHS["sm_90"]
"""What both devices are."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """A launch of a case on an architecture.

    Attributes:
        made: what it is made of.
        walked: what a program from the middle of the grid does.
        last: what the last one does to take its ticket, if that can be counted.
    """

    case: Case
    launch: Launch
    arch: Arch
    made: Compiled
    walked: Walk
    last: Walk | None

    @property
    def occupancy(self) -> float:
        """Share of a multiprocessor's warps that can be there at once."""
        return self.arch.occupancy(self.made.registers, self.made.shared, self.made.warps)

    @property
    def split(self) -> bool:
        """Whether rows are split over programs, which read again what others have read."""
        return self.launch.programs > self.case.batch

    @property
    def read_once(self) -> bool:
        """Whether what is read again comes out of the cache: all that runs at once fits into it."""
        gpu = DEVICES["H100"]  # they have the same
        at_once = gpu.multiprocessors * self.occupancy * self.arch.warps / self.made.warps
        if self.split:
            each = needed_bytes(self.case) / self.launch.programs
            return min(at_once + AHEAD, self.launch.programs) * each <= gpu.cache
        return min(at_once, self.launch.programs) * self.walked.fresh <= gpu.cache / 2

    @property
    def moved(self) -> float:
        """Bytes that memory moves for all programs."""
        if self.split and self.read_once:
            return needed_bytes(self.case)
        loaded = self.walked.fresh if self.read_once else self.walked.loaded
        return float((loaded + self.walked.stored) * self.launch.programs)

    @property
    def cycles(self) -> float:
        """Clocks in which a multiprocessor issues what a program does."""
        return issue_cycles(self.walked.issued, self.made.warps)

    @property
    def final(self) -> float | None:
        """Such clocks of what the last program does on top."""
        if self.last is None:
            return None
        return issue_cycles(self.last.issued, self.made.warps) - self.cycles

    def per_row(self, of_program: float) -> float:
        """A program's number for one of its rows."""
        return of_program * self.launch.programs / self.case.batch

    def seconds(self, device: str) -> float:
        """How long it takes at least."""
        gpu = DEVICES[device]
        return max(gpu.issue_s(self.cycles, self.launch.programs), gpu.copy_s(self.moved))

    def share(self, device: str) -> float:
        """Share of copy bandwidth at which it can move what it moves."""
        return DEVICES[device].copy_s(self.moved) / self.seconds(device)


def needed_bytes(case: Case) -> float:
    """Bytes that must move: student and teachers read once, the gradient written once."""
    item = ITEM_BYTES[case.dtype]
    teachers, k, _ = (FORMS | EDGE_FORMS)[case.form]
    teacher = min(k, case.classes) * (item + 8) if k else case.classes * item
    return float(case.batch * (2 * case.classes * item + teachers * teacher))


@cache
def report(case: Case, wanted: Launch, arch: Arch) -> Report:
    """Compile a launch and walk one of its programs.

    Raises:
        BadConfig: its instructions can't be counted.
    """
    made = build(wanted.variant, arch)
    bank = constant_bank(wanted, made, arch)
    block, threads = wanted.programs // 2, 32 * made.warps
    try:
        walked = walk(made.code, constants=bank, block=block, threads=threads)
    except BadConfig as error:
        raise BadConfig(f"{wanted.variant.name} of {case}, {arch.name}: {error}") from error
    last: Walk | None = walked
    if walked.ticket:
        with contextlib.suppress(BadConfig):
            last = None
            last = walk(made.code, constants=bank, block=block, threads=threads, last=True)
    return Report(case=case, launch=wanted, arch=arch, made=made, walked=walked, last=last)


@dataclass(frozen=True, kw_only=True)
class Forward:
    """The launches of a forward pass with its gradient on sm_90, one after the other."""

    case: Case
    launches: tuple[Report, ...]

    @property
    def needed(self) -> float:
        """Bytes that must move."""
        return needed_bytes(self.case)

    @property
    def moved(self) -> float:
        """Bytes that memory moves: at least those that must."""
        return max(self.needed, sum(one.moved for one in self.launches))

    def seconds(self, device: str) -> float:
        """How long it takes at least."""
        launches = sum(one.seconds(device) for one in self.launches)
        return max(launches, DEVICES[device].copy_s(self.needed))

    def share(self, device: str) -> float:
        """Share of copy bandwidth at best, for what must move."""
        return DEVICES[device].copy_s(self.needed) / self.seconds(device)


def forward(case: Case) -> Forward:
    """The forward pass of a case.

    Raises:
        BadConfig: its instructions can't be counted.
    """
    wanted = [one for one in launched(case) if not one.backward]
    return Forward(case=case, launches=tuple(report(case, one, SM_90) for one in wanted))


class Columns:
    """Columns of a table of Markdown.

    Args:
        texts: names and widths of the first ones, which are text.
        numbers: names of the others.
    """

    def __init__(self, texts: dict[str, int], numbers: Sequence[str]) -> None:
        self.names = (*texts, *numbers)
        self.texts = len(texts)
        self.widths = (*texts.values(), *(max(6, len(each)) for each in numbers))

    def head(self) -> str:
        """Names, and the line under them."""
        rule = ["-" * (w + 1) + ("-" if i < self.texts else ":") for i, w in enumerate(self.widths)]
        return f"{self.line(self.names)}\n|{'|'.join(rule)}|"

    def line(self, cells: Sequence[str]) -> str:
        """One line of the table."""
        both = zip(cells, self.widths, strict=True)
        aligned = [f"{c:{w}}" if i < self.texts else f"{c:>{w}}" for i, (c, w) in enumerate(both)]
        return f"| {' | '.join(aligned)} |"


VARIANTS = Columns(
    {"kernel": 15, "first case": 45},
    (
        *("cases", "arch", "warps", "regs", "spill", "shared", "occup.", "instr/row", "issue/row"),
        *("SFU/row", "LSU/row", "asked/row", "moved/row", "final", *DEVICES),
    ),
)
FORWARDS = Columns(
    {"forward and gradient, sm_90": 45},
    (
        *("issue/row", "needed/row", "moved/row"),
        *(f"{name} us" for name in DEVICES),
        *(f"{name} share" for name in DEVICES),
    ),
)


def variant_line(one: Report, cases: int) -> str:
    """A launch, in `VARIANTS`; `cases` share it."""
    made, issued, arch = one.made, one.walked.issued, one.arch
    name = one.launch.variant.name.removesuffix("_kernel")
    takes = (
        made.warps * one.walked.instructions,
        one.cycles,
        special_cycles(issued, made.warps),
        memory_cycles(issued, made.warps),
    )
    num_bytes = (one.walked.loaded + one.walked.stored, one.moved / one.launch.programs)
    about = "~" if one.walked.by_example else ""
    return VARIANTS.line(
        (
            f"{name}, backward" if one.launch.backward else name,
            *(str(one.case), str(cases), arch.name, str(made.warps), str(made.registers)),
            *(str(made.spilled), str(made.shared), f"{one.occupancy:.0%}"),
            *(_short(one.per_row(each)) for each in takes),
            *(f"{about}{_short(one.per_row(each))}" for each in num_bytes),
            "?" if one.final is None else _short(one.final),
            *(f"{one.share(name):.0%}" if arch == SM_90 else "-" for name in DEVICES),
        )
    )


def opcode_line(one: Report, most: int) -> str:
    """What is issued most, for a row by all its warps."""
    common = one.walked.issued.most_common(most)
    return ", ".join(f"{opcode} {_short(one.per_row(one.made.warps * n))}" for opcode, n in common)


def forward_line(one: Forward) -> str:
    """A forward pass, in `FORWARDS`."""
    issue = sum(each.per_row(each.cycles) for each in one.launches)
    batch = one.case.batch
    return FORWARDS.line(
        (
            *(str(one.case), _short(issue), _short(one.needed / batch), _short(one.moved / batch)),
            *(f"{1e6 * one.seconds(name):.0f}" for name in DEVICES),
            *(f"{one.share(name):.0%}" for name in DEVICES),
        )
    )


def _short(number: float) -> str:
    return f"{number:.0f}" if number >= 100 or number == 0 else f"{number:.3g}"
