"""`antcache extract`: features of videos, once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from antcache.cli.choices import MOMENTS
from antcache.cli.command import SAME_COMMAND, command, section
from antcache.cli.common import (
    at_work,
    existing_store,
    json_option,
    note,
    path_argument,
    print_result,
    print_table,
    say,
    store_argument,
    warn,
)
from antcache.cli.numbers import AHEAD, ANCHOR, COUNT, FPS, GAP, SECONDS, WHOLE_OR_GRID, Several
from antcache.cli.options import (
    device_option,
    dry_run_option,
    dtype_option,
    format_option,
    repeatable,
    segments_option,
)

if TYPE_CHECKING:
    from antcache.annotations import Segments
    from antcache.extract import Videos
    from antcache.extract.plan import Plan
    from antcache.extract.run import ExtractReport


@command(
    example="antcache extract videos kitchen.zarr --backbone facebook/dinov2-base",
    then="`antcache store doctor` tells whether the features serve your windows, `antcache student "
    "train` trains on them.",
    goes_on=SAME_COMMAND,
)
@path_argument("videos")
@store_argument()
@section(
    "Features",
    click.option(
        "--backbone",
        required=True,
        help="Hub id or local folder of a vision model, or package.module:factory for one's own.",
    ),
    click.option("--fps", type=FPS, default=4.0, help="Rows per second."),
    click.option("--stream", default="rgb", help="Name of the new stream."),
    dtype_option("float16", tokens=True),
    click.option(
        "--clip-fps", type=FPS, show_default="as trained", help="Frame rate within a clip."
    ),
    format_option,
)
@section(
    "Tokens",
    click.option(
        "--tokens",
        type=WHOLE_OR_GRID,
        metavar="full|TxHxW",
        show_default="one vector a row",
        help="Tokens of the last layer: all, or the means over cells of a smaller grid.",
    ),
    click.option(
        "--future",
        type=Several(AHEAD),
        default=(),
        metavar="SECONDS,...",
        help="Also the tokens that the backbone predicts so long after a row.",
    ),
)
@section(
    "Windows",
    click.option(
        "--at",
        type=MOMENTS,
        default="uniform",
        help="Rows at --fps, or, of tokens, only where windows of labelled segments end.",
    ),
    click.option(
        "--gaps",
        type=Several(GAP),
        default=(),
        metavar="SECONDS,...",
        show_default="the dataset's",
        help="With --at windows: how long before an anchor they end.",
    ),
    click.option(
        "--anchors",
        type=Several(ANCHOR),
        default=(),
        metavar="start|end|FRACTION,...",
        show_default="start",
        help="With --at windows: the points of a segment that gaps are counted back from.",
    ),
    repeatable("--split", "splits", text="Splits of the labels", shown="all"),
    segments_option(shown="labelled segments"),
)
@section(
    "Videos",
    click.option(
        "--max-gap",
        "max_gap_s",
        type=SECONDS,
        default=2.0,
        help="Longest gap in a video, in seconds.",
    ),
    click.option("--allow-partial", is_flag=True, help="Keep what there is of truncated videos."),
)
@section(
    "Running",
    click.option(
        "--batch-size",
        type=COUNT,
        show_default="about 32 frames' worth",
        help="Rows computed at once.",
    ),
    device_option,
    dry_run_option,
)
@json_option
def extract(
    videos: Path,
    store: Path | str,
    backbone: str,
    device: str,
    backend: str | None,
    dry_run: bool,
    segments: Path | None,
    as_json: bool,
    **settings: Any,
) -> None:
    """Write features of VIDEOS (a folder or a file) into STORE.

    Started several times at once, one per GPU say, it shares the videos among its processes. Videos
    that can't be read are listed in STORE.failures.jsonl; the exit code is then 1 (2 if VIDEOS is
    that one file). It is also 1 if the list of --segments names videos that are not among VIDEOS.
    """
    from antcache import extract as library
    from antcache.store import Store

    files = library.find_videos(videos)  # paths first: the rest loads torch
    existing = existing_store(store, backend)
    config = library.ExtractConfig(**settings)
    model = library.load_backbone(backbone, device=device)
    asked, lacking = (None, "") if segments is None else _read_segments(segments, files)
    library.check_settings(model, config, existing, asked)  # before a store is created
    if dry_run:
        plan = library.make_plan(files, existing, model, config, asked)
        print_result(plan, as_json, _show_plan)
        for each in files.refused:
            warn(f"will fail: {each.error}")
        _show_other_videos(files, lacking)
        return
    target = existing or Store.open_or_create(store, backend=backend)
    with at_work(store) as progress:
        report = library.extract(files, target, model, config, progress, segments=asked)
    print_result(report, as_json, lambda done: say(f"{store}, {_counts(done)}"))
    for failure in report.failed:
        say(f"failed: {failure.error}", err=True)
    _show_other_videos(files, lacking)
    if report.failed or lacking:
        click.get_current_context().exit(1 if videos.is_dir() or not report.failed else 2)


def _read_segments(path: Path, files: Videos) -> tuple[Segments, str]:
    """Those of a list, whose videos are called as these files are, and which have none, if any."""
    from antcache.annotations.video_names import match_files
    from antcache.evaluation.submission.segment_lists import read_unlabeled
    from antcache.text import listed

    names = {*files, *(each.name for each in files.refused)}
    asked, notes, without = match_files(read_unlabeled(path), names, source=str(path))
    for each in notes:
        note(each)
    which = f"{len(without)} of the {len(asked.videos)} videos of {path}"
    return asked, f"{which} have no file, and get no rows: {listed(without)}" if without else ""


def _counts(report: ExtractReport) -> str:
    counts = (
        f"stream {report.stream}: {len(report.written)} videos written "
        f"({report.rows} rows, {report.seconds:.1f} s), {len(report.skipped)} already there, "
        f"{len(report.failed)} failed"
    )
    if report.unlabelled:
        counts += f", {len(report.unlabelled)} without a labelled segment"
    if report.too_early or report.too_late:
        counts += (
            f"; no rows at {report.too_early} times before the first frame and "
            f"{report.too_late} after the last one"
        )
    return counts


def _show_other_videos(files: Videos, lacking: str) -> None:
    """What lies there that is no video, and which of a list do not."""
    if files.passed_over:
        note(files.passed_over)
    if lacking:
        warn(lacking)


def _show_plan(plan: Plan) -> None:
    rows = []
    for name in plan.done:
        lacking = plan.outdated.get(name)
        rows.append([name, f"done, {lacking} rows lacking" if lacking else "done", "", "", ""])
    for name, seconds in plan.to_do.items():
        length = "unknown" if seconds is None else f"{seconds:.1f}"
        count = str(plan.rows.get(name, ""))
        rows.append([name, "to do", length, count, plan.failed_before.get(name, "")])
    rows += [[name, "no labelled segment", "", "", ""] for name in plan.unlabelled]
    print_table("Plan", ["video", "state", "seconds", "rows", "failed before"], rows)
    if total := sum(plan.rows.values()):
        say(f"{total} rows to do, {total * plan.row_bytes / 1e6:.1f} MB")
    else:
        say(f"{plan.row_bytes} bytes a row")
