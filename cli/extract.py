"""`antcache extract`: features of videos, once."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from antcache.cli.choices import DECODERS, MOMENTS
from antcache.cli.command import SAME_COMMAND, command, section
from antcache.cli.common import (
    PATH,
    at_work,
    existing_store,
    json_option,
    location_argument,
    note,
    print_result,
    print_table,
    say,
    store_argument,
    warn,
)
from antcache.cli.numbers import (
    AHEAD,
    ANCHOR,
    BYTES,
    COUNT,
    FPS,
    GAP,
    NUM_DECODERS,
    PART_OF,
    WHOLE_OR_GRID,
    Several,
)
from antcache.cli.options import (
    allow_partial_option,
    backbone_option,
    device_option,
    dry_run_option,
    dtype_option,
    engine_options,
    format_option,
    max_gap_option,
    only_with_ray,
    repeatable,
    segments_option,
)
from antcache.devices import let_waiting_threads_sleep

if TYPE_CHECKING:
    from antcache.annotations import Segments
    from antcache.extract import Videos, VideoShard
    from antcache.extract.plan import Plan
    from antcache.extract.run import ExtractReport


@command(
    example="antcache extract videos kitchen.zarr --backbone facebook/dinov2-base",
    then="`antcache store doctor` tells whether the features serve your windows, `antcache student "
    "train` trains on them.",
    goes_on=SAME_COMMAND,
)
@location_argument("videos")
@store_argument()
@section(
    "Features",
    backbone_option(),
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
    max_gap_option,
    allow_partial_option,
)
@section(
    "What videos are made of",
    click.option(
        "--image-fps",
        type=FPS,
        help="Folders and tars of numbered pictures are videos, taken at this rate.",
    ),
    click.option(
        "--image-times",
        type=PATH,
        metavar="FILE",
        help="The same, with times out of a table (video,frame,seconds).",
    ),
    click.option(
        "--fill", is_flag=True, help="Where a number is missing, show the picture before on."
    ),
    click.option(
        "--chapters",
        metavar="gopro|FILE",
        help="Files that are one recording: by GoPro's names, or a table (video,file[,start_s]).",
    ),
    click.option(
        "--scratch",
        type=PATH,
        metavar="FOLDER",
        show_default="one for temporary files",
        help="Where videos at URLs lie while they are read.",
    ),
    click.option(
        "--scratch-size",
        type=BYTES,
        default="20GB",
        help="How much may lie there, of all processes together.",
    ),
)
@section(
    "Running",
    click.option(
        "--batch-size",
        type=COUNT,
        show_default="about 32 frames' worth",
        help="Rows computed at once.",
    ),
    click.option(
        "--decoders",
        type=NUM_DECODERS,
        show_default="one per core but one",
        help="Videos decoded at once, the longest first.",
    ),
    device_option,
    click.option(
        "--decoder", type=DECODERS, default="cpu", help="What decodes; the pictures are the same."
    ),
    click.option(
        "--shard",
        type=PART_OF,
        show_default="all videos",
        help="Only the i-th of n equal parts of the videos, from 1/n to n/n.",
    ),
    dry_run_option,
)
@section(
    "Machines",
    engine_options,
    click.option(
        "--actors",
        type=COUNT,
        show_default="one per GPU, or one",
        help="With --engine ray: workers, each with the backbone.",
    ),
)
@json_option
def extract(
    videos: Path | str,
    store: Path | str,
    backbone: str,
    device: str,
    backend: str | None,
    dry_run: bool,
    segments: Path | None,
    shard: VideoShard | None,
    engine: str,
    address: str | None,
    actors: int | None,
    as_json: bool,
    **settings: Any,
) -> None:
    """Write features of VIDEOS (a folder, a file, a list of them, or a URL) into STORE.

    Started several times at once, one per GPU say, it shares the videos among its processes; with
    --shard 1/4 to 4/4 each does a part that the names of all videos fix. Videos that can't be read,
    or whose rows came from another file, are listed in STORE.failures.jsonl; the exit code is then
    1 (2 if VIDEOS is that one file). It is also 1 if the list of --segments names videos that are
    not among VIDEOS.
    """
    from antcache import extract as library
    from antcache.extract.videos.finding import refused_of
    from antcache.store import Store

    only_with_ray(engine, address=address, actors=actors)
    of_sources = {each.name: settings.pop(each.name) for each in fields(library.SourceConfig)}
    files = library.find_videos(videos, library.SourceConfig(**of_sources))  # before torch loads
    existing = existing_store(store, backend)
    config = library.ExtractConfig(**settings)
    if config.decoders_for(len(files)) > 1:
        let_waiting_threads_sleep(at_once=True)
    # On a cluster it is the workers that need their devices; here it only says what rows will be.
    model = library.load_backbone(backbone, device=device if engine == "local" else "cpu")
    asked, lacking = (None, "") if segments is None else _read_segments(segments, files)
    library.check_settings(model, config, existing, asked)  # before a store is created
    if dry_run:
        plan = library.make_plan(files, existing, model, config, asked, shard)
        print_result(plan, as_json, _show_plan)
        for each in refused_of(files, shard):
            warn(f"will fail: {each.error}")
        for why in plan.changed.values():
            warn(f"will fail: {why}")
        _show_other_videos(files, lacking)
        return
    target = existing or Store.open_or_create(store, backend=backend)
    machines = None
    if engine == "ray":
        from antcache.extract.engines.on_ray import on_ray

        machines = on_ray(device=device, address=address, actors=actors)
    with at_work(store) as progress:
        report = library.extract(
            files, target, model, config, progress, segments=asked, shard=shard, engine=machines
        )
    print_result(report, as_json, lambda done: _show_done(store, done))
    for failure in report.failed:
        say(f"failed: {failure.error}", err=True)
    _show_other_videos(files, lacking)
    if report.failed or lacking:
        click.get_current_context().exit(2 if files.is_one and report.failed else 1)


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


def _show_done(store: Path | str, report: ExtractReport) -> None:
    say(f"{store}, {_counts(report)}")
    if report.shares:
        parts = sorted(report.shares.items(), key=lambda item: -item[1])
        say(f"limited by {', '.join(f'{part} {share:.0%}' for part, share in parts)}")


def _counts(report: ExtractReport) -> str:
    counts = (
        f"stream {report.stream}: {len(report.written)} videos written "
        f"({report.rows} rows, {report.seconds:.1f} s), {len(report.skipped)} already there, "
        f"{len(report.failed)} failed"
    )
    if report.shard:
        counts = f"part {report.shard}, {counts}"
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
    rows += [[name, "done, from another file", "", "", ""] for name in plan.changed]
    for name, seconds in plan.to_do.items():
        length = "unknown" if seconds is None else f"{seconds:.1f}"
        count = str(plan.rows.get(name, ""))
        rows.append([name, "to do", length, count, plan.failed_before.get(name, "")])
    rows += [[name, "no labelled segment", "", "", ""] for name in plan.unlabelled]
    print_table("Plan", ["video", "state", "seconds", "rows", "failed before"], rows)
    if plan.shard:
        say(f"part {plan.shard} of the videos")
    if total := sum(plan.rows.values()):
        say(f"{total} rows to do, {total * plan.row_bytes / 1e6:.1f} MB")
    else:
        say(f"{plan.row_bytes} bytes a row")
