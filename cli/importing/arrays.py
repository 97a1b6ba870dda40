"""`antcache import arrays`: features of others, one file of an array per video."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from antcache.cli.choices import LAYOUTS, ROW_TIMES
from antcache.cli.command import SAME_COMMAND, command, section
from antcache.cli.common import (
    at_work,
    existing_store,
    json_option,
    note,
    path_argument,
    print_result,
    say,
    store_argument,
    warn,
)
from antcache.cli.numbers import AMOUNT, COUNT, FPS, SECONDS
from antcache.cli.options import dry_run_option, dtype_option, format_option

if TYPE_CHECKING:
    from antcache.interop.array_files.importing import ArraysPlan, ArraysReport


@command(
    example="antcache import arrays omnivore kitchen.zarr --dim 1536 --stride 16 --window 32 "
    "--video-fps 30",
    then="`antcache store doctor` tells whether the features serve your windows, `antcache student "
    "train` trains on them.",
    goes_on=SAME_COMMAND,
)
@path_argument("folder")
@store_argument()
@section(
    "Features",
    click.option("--dim", type=COUNT, required=True, help="Width of a row."),
    click.option("--stream", default="rgb", help="Name of the new stream."),
    click.option(
        "--key",
        metavar="NAME",
        show_default="features, or the only one",
        help="Which array of a file that has several.",
    ),
    click.option(
        "--layout",
        type=LAYOUTS,
        show_default="as --dim tells",
        help="How files lie: (rows, dim) or (dim, rows).",
    ),
    dtype_option("float32"),
    format_option,
)
@section(
    "Times",
    click.option("--fps", type=FPS, help="Rows per second, each of which has seen 1/FPS s."),
    click.option("--stride", type=COUNT, help="Frames from one row's window to the next one's."),
    click.option("--window", type=COUNT, help="Frames that a row has seen."),
    click.option("--video-fps", type=FPS, help="Frames per second that windows are counted in."),
    click.option(
        "--padding",
        type=AMOUNT,
        default=0,
        help="Frames of the first window that lie before the video.",
    ),
    click.option(
        "--time",
        type=ROW_TIMES,
        default="end",
        help="A row's time: its window's end or middle, or as the file lists it.",
    ),
    click.option(
        "--sees-ahead",
        "sees_ahead_s",
        type=SECONDS,
        help="Seconds that a row has seen after its listed time.",
    ),
)
@dry_run_option
@json_option
def arrays(
    folder: Path,
    store: Path | str,
    backend: str | None,
    dry_run: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Bring arrays in FOLDER into STORE: one .npy, .npz, .pt or .mat per video, called like it.

    Say when rows were seen: by --fps, or by --stride, --window and --video-fps, or with --time
    listed by the files themselves. Files that can't be taken are listed in STORE.failures.jsonl;
    the exit code is then 1. STORE is created if it is not there.
    """
    from antcache.interop.array_files.config import ArraysImportConfig
    from antcache.interop.array_files.importing import import_arrays, plan_arrays
    from antcache.store import Store

    config = ArraysImportConfig(**settings)
    existing = existing_store(store, backend)
    plan = plan_arrays(folder, existing, config)
    if dry_run:
        print_result(plan, as_json, _show_plan)
        for _, error in plan.files.refused.values():
            warn(f"will fail: {error}")
        _remark(plan)
        return
    target = existing or Store.create(store, backend=backend)
    with at_work(store) as progress:
        report = import_arrays(plan, target, progress)
    print_result(report, as_json, _show)
    for failure in report.failed:
        say(f"failed: {failure.error}", err=True)
    _remark(plan)
    if report.failed:
        click.get_current_context().exit(1)


def _show_plan(plan: ArraysPlan) -> None:
    say(_counts(plan, f"{len(plan.to_do)} videos to do, {len(plan.done)} already there"))
    for video, reason in plan.failed_before.items():
        say(f"{video} failed before: {reason}")


def _show(report: ArraysReport) -> None:
    done = (
        f"{len(report.written)} videos written ({report.rows} rows, {report.seconds:.1f} s), "
        f"{len(report.plan.done)} already there, {len(report.failed)} failed"
    )
    say(_counts(report.plan, done))


def _counts(plan: ArraysPlan, done: str) -> str:
    stream = plan.stream
    return f"stream {stream.name}: {done}; {stream.dim} wide, {plan.config.described}"


def _remark(plan: ArraysPlan) -> None:
    for text in (plan.files.note, plan.files.passed_over):
        if text:
            note(text)
    if plan.stream.sees_ahead_s:
        warn(
            f"rows of {plan.stream.name} have seen {plan.stream.sees_ahead_s:.4g} s after their "
            "times: a student refuses them without --allow-future"
        )
