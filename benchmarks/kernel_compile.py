"""How fast could the kernels be, by their machine code? Without a GPU: sm_80, sm_90 and sm_100.

    python benchmarks/kernel_compile.py [--shapes 16384x2513,...] [--forms dense,...]
        [--dtypes float32,...] [--arch sm_90] [--record]

Compiles, without a device, every variant that forward and backward of the cases of
`benchmarks/kernel.py` launch, and those of `EDGES`, where the launcher changes its block sizes and
all options are on. A shape 16384x2513/2528 has rows that are padded to 2528. A line each: what it
takes of a multiprocessor (registers, spilled bytes, shared memory, theoretical occupancy), what a
row takes (instructions of all its warps, clocks in which they issue, clocks of the special-function
and the load-store units, bytes that must move and that are asked for), and the share of copy
bandwidth that these allow (sm_90: H100 and H200; `kernel_model.py`). `final` are the clocks that the
last program alone adds up the rows in. Needs only torch and triton.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kernel import make_importable

make_importable()

from kernel_model import (  # noqa: E402
    ARCHS,
    DEVICES,
    Arch,
    issue_cycles,
    memory_cycles,
    special_cycles,
)
from kernel_sass import Walk, walk  # noqa: E402
from kernel_variants import (  # noqa: E402
    EDGE_FORMS,
    FORMS,
    Compiled,
    Launch,
    build,
    constant_bank,
    launched,
)

from antcache.errors import AntcacheError, BadConfig  # noqa: E402
from antcache.kernels.benchmark import rows  # noqa: E402
from antcache.kernels.benchmark.machine import versions  # noqa: E402
from antcache.kernels.benchmark.rows import Case, Figure  # noqa: E402
from antcache.kernels.benchmark.run import RESULTS, parse_shapes  # noqa: E402

EDGES = [
    Case(dtype="bfloat16", form=form, batch=batch, classes=classes)
    for form in EDGE_FORMS
    for batch, classes in ((64, 8000), (64, 4000), (1024, 1500), (1024, 120), (64, 9000))
    if EDGE_FORMS[form][1] <= classes
]
PADDED = (16384, 2513, 2528)
ITEM_BYTES = {"float32": 4, "bfloat16": 2}
BOUNDS: dict[Case, dict[str, float]] = {
    Case(dtype=dtype, form="dense", batch=batch, classes=classes, padded=padded): bounds
    for batch, classes, padded, dtype, bounds in (
        (16384, 2513, 0, "float32", {"H100": 0.85, "H200": 0.80}),
        (16384, 3806, 0, "float32", {"H100": 0.85, "H200": 0.80}),
        (*PADDED, "bfloat16", {"H100": 0.75, "H200": 0.55}),
        (65536, 106, 0, "float32", {"H100": 0.60}),
        (65536, 106, 0, "bfloat16", {"H100": 0.40}),
        (8192, 131072, 0, "float32", {"H100": 0.85}),
        (8192, 131072, 0, "bfloat16", {"H100": 0.85}),
    )
}
"""Least share of copy bandwidth that a forward pass with its gradient must be able to reach."""

COLUMNS = (
    *("kernel", "first case", "cases", "arch", "warps", "regs", "spill", "shared", "occup."),
    *("instr/row", "issue/row", "SFU/row", "LSU/row", "bytes/row", "moved/row", "final"),
    *DEVICES,
)
WIDTHS = (15, 42, 5, 6, 5, 4, 5, 6, 6, 9, 9, 7, 7, 9, 9, 6, *(5 for _ in DEVICES))


@dataclass(frozen=True, kw_only=True)
class Report:
    """A launch of a case on an architecture: what it is made of, and what a row of it takes."""

    case: Case
    launch: Launch
    arch: Arch
    made: Compiled
    walked: Walk
    last: Walk

    @property
    def occupancy(self) -> float:
        """Share of a multiprocessor's warps that can be there at once."""
        return self.arch.occupancy(self.made.registers, self.made.shared, self.made.warps)

    @property
    def rows(self) -> float:
        """Rows of a program; only their average may be no whole number."""
        return self.case.batch / self.launch.programs

    @property
    def moved(self) -> float:
        """Bytes that all programs ask memory for."""
        return float((self.walked.loaded + self.walked.stored) * self.launch.programs)

    @property
    def final(self) -> float:
        """Issue cycles of what the last program does on its own."""
        warps = self.made.warps
        return issue_cycles(self.last.issued, warps) - issue_cycles(self.walked.issued, warps)

    def seconds(self, device: str) -> float:
        """How long it takes at least, without what the last program does."""
        gpu = DEVICES[device]
        cycles = issue_cycles(self.walked.issued, self.made.warps)
        return max(gpu.issue_s(cycles, self.launch.programs), gpu.copy_s(self.moved))

    def cells(self, cases: int) -> tuple[str, ...]:
        """A line of the table."""
        made, issued = self.made, self.walked.issued
        takes = [
            made.warps * self.walked.instructions,
            issue_cycles(issued, made.warps),
            special_cycles(issued, made.warps),
            memory_cycles(issued, made.warps),
        ]
        moved = self.moved / self.case.batch
        gradient_again = self.launch.backward
        name = self.launch.variant.name.removesuffix("_kernel")
        return (
            f"{name}, backward" if gradient_again else name,
            *(str(self.case), str(cases), self.arch.name, str(made.warps), str(made.registers)),
            *(str(made.spilled), str(made.shared), f"{self.occupancy:.0%}"),
            *(f"{each / self.rows:.4g}" if each < 1e4 else f"{each / self.rows:.0f}" for each in takes),
            *(f"{needed_bytes(self.case) / self.case.batch:.0f}", f"{moved:.0f}"),
            f"{self.final:.0f}",
            *(
                f"{share(self.case, [self], device):.0%}" if self.arch.name == "sm_90" else "-"
                for device in DEVICES
            ),
        )


def needed_bytes(case: Case) -> int:
    """What must move: student and teachers read once, the gradient written once."""
    item = ITEM_BYTES[case.dtype]
    teachers, k, _ = (FORMS | EDGE_FORMS)[case.form]
    entries = min(k, case.classes)
    teacher = entries * (item + 8) if k else case.classes * item
    return case.batch * (2 * case.classes * item + teachers * teacher)


def share(case: Case, reports: Sequence[Report], device: str, *, moved: bool = False) -> float:
    """Share of copy bandwidth that these launches, one after the other, can reach at best.

    Args:
        moved: count all bytes that are asked for, not just those that must move.
    """
    count = sum(one.moved for one in reports) if moved else needed_bytes(case)
    took = sum(one.seconds(device) for one in reports)
    return DEVICES[device].copy_s(count) / took


def report(case: Case, wanted: Launch, arch: Arch) -> Report:
    """Compile a launch and walk one of its programs, from the middle of the grid.

    Raises:
        BadConfig: it can't be walked.
    """
    made = build(wanted.variant, arch)
    given = {
        "constants": constant_bank(wanted, made, arch),
        "block": wanted.programs // 2,
        "threads": 32 * made.warps,
    }
    try:
        walked, last = walk(made.code, **given), walk(made.code, **given, last=True)
    except BadConfig as error:
        raise BadConfig(f"{wanted.variant.name} of {case}, {arch.name}: {error}") from error
    return Report(case=case, launch=wanted, arch=arch, made=made, walked=walked, last=last)


def survey(cases: Sequence[Case], archs: Sequence[Arch]) -> Iterator[Report]:
    """Every variant and number of classes once per architecture; a line each is printed."""
    users: dict[tuple[object, ...], list[tuple[Case, Launch]]] = {}
    for case in cases:
        for wanted in launched(case):
            users.setdefault((wanted.variant, case.classes), []).append((case, wanted))
    print(_line(COLUMNS))
    print("|" + "|".join("-" * (w + 1) + ("-" if i < 2 else ":") for i, w in enumerate(WIDTHS)) + "|")
    for who in users.values():
        for arch in archs:
            found = report(*who[0], arch)
            print(_line(found.cells(len(who))), flush=True)
            yield found


def _line(cells: Sequence[str]) -> str:
    padded = [
        f"{cell:{width}}" if i < 2 else f"{cell:>{width}}"
        for i, (cell, width) in enumerate(zip(cells, WIDTHS, strict=True))
    ]
    return f"| {' | '.join(padded)} |"


def figures(reports: Sequence[Report], cases: Sequence[Case]) -> list[Figure]:
    """What is recorded: the extremes, and the shares that the bounds ask for."""
    found = []
    for name in dict.fromkeys(one.arch.name for one in reports):
        here = [one for one in reports if one.arch.name == name]
        spilled = max(one.made.spilled for one in here)
        registers = max(one.made.registers for one in here)
        occupancy = min(one.occupancy for one in here)
        n = len({one.launch.variant for one in here})
        found += [
            Figure(
                figure=f"bytes spilled by any variant, {name}",
                value=spilled,
                unit="bytes",
                at_most=0,
                n=n,
            ),
            Figure(
                figure=f"registers of the largest variant, {name}",
                value=registers,
                unit="registers",
                at_most=255,
                n=n,
            ),
            Figure(
                figure=f"lowest theoretical occupancy, {name}", value=occupancy, unit="share", n=n
            ),
            Figure(figure=f"variants compiled for {name}", value=n, unit="variants"),
        ]
    if any(one.arch.name == "sm_90" for one in reports):
        for case in cases:
            if case in BOUNDS:
                found += ceilings(case)
    return found


def ceilings(case: Case) -> list[Figure]:
    """The share of copy bandwidth that a forward pass with its gradient can reach at best.

    Of rows too long to stay on the chip, of the transfers that they need.
    """
    forward = [
        report(case, wanted, ARCHS["sm_90"]) for wanted in launched(case) if not wanted.backward
    ]
    long = sum(one.moved for one in forward) > 1.5 * needed_bytes(case)
    of = " of the transfers made" if long else ""
    return [
        Figure(
            figure=f"ceiling of the share of copy bandwidth{of}, {device}, {case}",
            value=share(case, forward, device, moved=long),
            unit="share",
            at_least=BOUNDS[case].get(device),
        )
        for device in DEVICES
    ]


def shapes_of(text: str) -> list[tuple[int, int, int]]:
    """Shapes (B, C, width of the rows or 0) of `BxC,BxC/W,...`.

    Raises:
        BadConfig: it is none.
    """
    found = []
    for each in text.split(","):
        shape, _, width = each.partition("/")
        if width and not width.isdecimal():
            raise BadConfig("not a shape", expected="BxC or BxC/W", found=each)
        batch, classes = parse_shapes(shape)[0]
        if width and int(width) < classes:
            raise BadConfig("rows shorter than their classes", found=each)
        found.append((batch, classes, int(width or 0)))
    return found


def chosen(given: argparse.Namespace) -> list[Case]:
    """The cases that the options ask for.

    Raises:
        BadConfig: one of them is unknown.
    """
    known = (*FORMS, *EDGE_FORMS) if given.shapes else tuple(FORMS)
    forms = one_of(given.forms or ",".join(FORMS), known, "form")
    dtypes = one_of(given.dtypes, rows.DTYPES, "dtype")
    shapes = [(*shape, 0) for shape in rows.shapes()]
    shapes = shapes_of(given.shapes) if given.shapes else [*shapes, PADDED]
    cases = [
        Case(dtype=dtype, form=form, batch=batch, classes=classes, padded=width)
        for form in forms
        for batch, classes, width in shapes
        for dtype in dtypes
    ]
    return cases if given.shapes else [*cases, *EDGES]


def one_of(text: str, known: Sequence[str], what: str) -> list[str]:
    """Words of a list with commas, each of which must be known.

    Raises:
        BadConfig: one is not.
    """
    words = text.split(",")
    for word in words:
        if word not in known:
            raise BadConfig(f"unknown {what}", expected=", ".join(known), found=word)
    return words


def main() -> None:
    """Compile, walk, print, record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", default="", metavar="BxC[/W],...", help="these alone, no edges")
    parser.add_argument("--forms", default="", help="these alone of the cases")
    parser.add_argument("--dtypes", default=",".join(rows.DTYPES), help="these alone")
    parser.add_argument("--arch", default=",".join(ARCHS), help="these alone")
    parser.add_argument("--record", action="store_true", help="update kernel_compile.json")
    parser.add_argument("--out", type=Path, default=RESULTS, help="record there instead")
    given = parser.parse_args()
    try:
        archs = [ARCHS[name] for name in one_of(given.arch, tuple(ARCHS), "arch")]
        cases = chosen(given)
        made = figures(list(survey(cases, archs)), cases)
    except AntcacheError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)
    if given.record:
        rows.write_figures(
            given.out / "kernel_compile.json",
            made,
            device="no device",
            versions=versions(),
            command=" ".join(["python", "benchmarks/kernel_compile.py", *sys.argv[1:]]),
        )
    broken = [figure.figure for figure in made if not figure.holds]
    for figure in made:
        if not figure.holds:
            bound = f"at most {figure.at_most}" if figure.at_least is None else f"at least {figure.at_least}"
            print(f"broken: {figure.figure}: {figure.value:.3g}, bound {bound}")
    values = {figure.figure: figure.value for figure in made}
    print(json.dumps({"benchmark": "kernel_compile", **values, "broken": broken}))
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
