"""How fast could the kernels be, by their machine code? Without a GPU: sm_80, sm_90 and sm_100.

    python benchmarks/kernel_compile.py [--shapes 16384x2513,...] [--forms dense,...]
        [--dtypes float32,...] [--arch sm_90] [--opcodes 10] [--record]

Compiles, without a device, every variant that forward and backward of the cases of
`benchmarks/kernel.py` launch, and those of `EDGES`, where the launcher changes its block sizes and
all options are on. A shape 16384x2513/2528 has rows that are padded to 2528. A line each: what it
takes of a multiprocessor (registers, spilled bytes, shared memory, theoretical occupancy); what a
row takes (instructions of all its warps; clocks of their issue, of the special-function and of the
load-store units; bytes asked for, and moved by memory, with ~ where data decides which); the clocks
of the final sum, which the last program does alone; and the share of copy bandwidth at which an
H100 and an H200 could do it (`kernel_model.py`). Then each forward pass with its gradient, by the
transfers that must be made. With `--opcodes`, what is issued most under each line. Needs only torch
and triton.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from kernel import make_importable

make_importable()

from kernel_model import ARCHS, DEVICES, Arch  # noqa: E402
from kernel_report import (  # noqa: E402
    FORWARDS,
    SM_90,
    VARIANTS,
    Forward,
    Report,
    forward,
    forward_line,
    opcode_line,
    report,
    variant_line,
)
from kernel_variants import EDGE_FORMS, FORMS, Launch, launched  # noqa: E402

from antcache.errors import AntcacheError, BadConfig  # noqa: E402
from antcache.kernels.benchmark import rows  # noqa: E402
from antcache.kernels.benchmark.bounds import regime_of, share_figure  # noqa: E402
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


def survey(
    cases: Sequence[Case], archs: Sequence[Arch], opcodes: int
) -> tuple[list[Report], list[Forward]]:
    """Every variant and number of classes once per architecture, and all forward passes of sm_90;
    a line each is printed.
    """
    users: dict[tuple[object, ...], list[tuple[Case, Launch]]] = {}
    for case in cases:
        for wanted in launched(case):
            users.setdefault((wanted.variant, case.classes), []).append((case, wanted))
    reports = []
    print(VARIANTS.head())
    for who in users.values():
        for arch in archs:
            reports.append(report(*who[0], arch))
            print(variant_line(reports[-1], len(who)), flush=True)
            if opcodes:
                print(f"    a row: {opcode_line(reports[-1], opcodes)}")
    if SM_90 not in archs:
        return reports, []
    print(f"\n{FORWARDS.head()}")
    passes = []
    for case in cases:
        passes.append(forward(case))
        print(forward_line(passes[-1]), flush=True)
    return reports, passes


def figures(reports: Sequence[Report], passes: Sequence[Forward]) -> list[Figure]:
    """What is recorded: the extremes of each architecture, and the shares that are bounded."""
    found = []
    for arch in dict.fromkeys(one.arch.name for one in reports):
        here = [one for one in reports if one.arch.name == arch]
        n = len({one.launch.variant for one in here})
        spilled = max(one.made.spilled for one in here)
        largest = max(one.made.registers for one in here)
        lowest = min(one.occupancy for one in here)
        for figure, value, unit, most in (
            ("bytes spilled by any variant", spilled, "bytes", 0),
            ("registers of the largest variant", largest, "registers", 255),
            ("lowest theoretical occupancy", lowest, "share", None),
            ("variants compiled", n, "variants", None),
        ):
            title = f"{figure}, {arch}"
            found.append(Figure(figure=title, value=value, unit=unit, at_most=most, n=n))
    for one in passes:
        for device in DEVICES if regime_of(one.case) else ():
            made = share_figure(one.case, device, one.share(device), f", {device}")
            found.append(replace(made, figure=f"ceiling of the {made.figure}"))
    return found


def shapes_of(text: str) -> list[tuple[int, int, int]]:
    """Shapes (B, C, width of the rows or 0) of `BxC,BxC/W,...`.

    Raises:
        BadConfig: it is none.
    """
    found = []
    for each in text.split(","):
        shape, _, width = each.partition("/")
        batch, classes = parse_shapes(shape)[0]
        if width and not (width.isdecimal() and int(width) >= classes):
            raise BadConfig("not a width of rows", expected=f"{classes} or more", found=each)
        found.append((batch, classes, int(width or 0)))
    return found


def chosen(given: argparse.Namespace) -> list[Case]:
    """The cases that the options ask for.

    Raises:
        BadConfig: one of them is unknown.
    """
    shapes = [*((*shape, 0) for shape in rows.shapes()), PADDED]
    cases = [
        Case(dtype=dtype, form=form, batch=batch, classes=classes, padded=width)
        for form in one_of(given.forms, (*FORMS, *EDGE_FORMS), "form")
        for batch, classes, width in (shapes_of(given.shapes) if given.shapes else shapes)
        for dtype in one_of(given.dtypes, rows.DTYPES, "dtype")
    ]
    return cases if given.shapes else [*cases, *EDGES]


def one_of(text: str, known: Sequence[str], what: str) -> list[str]:
    """Words of a list with commas, each of which must be known.

    Raises:
        BadConfig: one is not.
    """
    for word in text.split(","):
        if word not in known:
            raise BadConfig(f"unknown {what}", expected=", ".join(known), found=word)
    return text.split(",")


def main() -> None:
    """Compile, walk, print, record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", default="", metavar="BxC[/W],...", help="these alone, no edges")
    parser.add_argument("--forms", default=",".join(FORMS), help="these alone of the cases")
    parser.add_argument("--dtypes", default=",".join(rows.DTYPES), help="these alone of the cases")
    parser.add_argument("--arch", default=",".join(ARCHS), help="these alone")
    parser.add_argument("--opcodes", type=int, default=0, metavar="N", help="show the N commonest")
    parser.add_argument("--record", action="store_true", help="update kernel_compile.json")
    parser.add_argument("--out", type=Path, default=RESULTS, help="record there instead")
    given = parser.parse_args()
    try:
        archs = [ARCHS[name] for name in one_of(given.arch, tuple(ARCHS), "arch")]
        made = figures(*survey(chosen(given), archs, given.opcodes))
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
    broken = [figure for figure in made if not figure.holds]
    for one in broken:
        bound = f"at least {one.at_least}" if one.at_most is None else f"at most {one.at_most}"
        print(f"broken: {one.figure}: {one.value:.3g}, should be {bound}")
    values = {figure.figure: figure.value for figure in made}
    names = [figure.figure for figure in broken]
    print(json.dumps({"benchmark": "kernel_compile", **values, "broken": names}))
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
