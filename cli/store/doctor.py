"""`antcache store doctor`: whether a store can serve a protocol."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from antcache.annotations import read_annotations
from antcache.annotations.protocols import WindowConfig, anchor_name, before, gaps_name
from antcache.cli.annotations import dataset_name_option, split_number_option
from antcache.cli.command import UNCHANGED, command, section
from antcache.cli.common import (
    PATH,
    json_option,
    print_result,
    print_table,
    progress_bars,
    say,
    store_argument,
)
from antcache.cli.options import (
    repeatable,
    streams_option,
    table_fps_option,
    targets_option,
    train_split_option,
)
from antcache.cli.settings import setting_options
from antcache.errors import BadConfig

if TYPE_CHECKING:
    from antcache.doctor.report import DoctorReport, SplitReport

COUNTS = ("segments", "windows", "padded")


@command(
    example="antcache store doctor kitchen.zarr --gap 1 --num-frames 10 --rate 2",
    then="`antcache student train` trains on these windows; what is missing, `antcache extract` or "
    "`antcache teacher train` adds.",
    goes_on=UNCHANGED,
)
@store_argument()
@section(
    "Annotations in place of STORE's labels",
    click.option(
        "--annotations",
        nargs=2,
        type=(str, PATH),
        metavar="SET DIR",
        show_default="STORE's labels",
        help="Annotations, as of antcache annotations import.",
    ),
    split_number_option,
    table_fps_option,
    dataset_name_option,
)
@section(
    "What is examined",
    streams_option,
    repeatable("--split", "splits", text="Splits of the labels", shown="all"),
    targets_option("all"),
    train_split_option,
    click.option("--quick", is_flag=True, help="Do not read the rows."),
)
@section("Windows", setting_options(WindowConfig))
@json_option
def doctor(
    store: Path | str,
    annotations: tuple[str, Path] | None,
    split_number: int | None,
    fps: float | None,
    name: str | None,
    streams: tuple[str, ...],
    splits: tuple[str, ...],
    targets: tuple[str, ...],
    train_split: str,
    quick: bool,
    as_json: bool,
    **window: Any,
) -> None:
    """Tell whether STORE can serve the windows of a protocol.

    The segments of the split that is trained on must have soft targets. Exit code 1 if anything
    that a window needs is missing, 0 if there is nothing or only notes. Whether the store is as it
    was written is for antcache store verify to say.
    """
    from antcache.store import Store

    opened = Store.open(store)
    from antcache.doctor.examination import DoctorConfig, examine

    options: dict[str, Any] = {"split_number": split_number, "fps": fps, "name": name}
    dataset = None
    if annotations is not None:
        dataset = read_annotations(*annotations, **options)
    elif given := [option for option, value in options.items() if value is not None]:
        option = given[0].replace("_", "-")
        raise BadConfig(f"--{option} has no effect without --annotations")
    protocol = None  # the dataset's, but for what is given
    if given_window := {option: value for option, value in window.items() if value is not None}:
        usual = dataset.windows if dataset else opened.protocol
        protocol = WindowConfig(**given_window).over(usual)
    config = DoctorConfig(
        streams=streams or None,
        splits=splits or None,
        targets=targets or None,
        protocol=protocol,
        train_split=train_split,
        quick=quick,
    )
    with progress_bars() as progress:
        report = examine(opened, config, annotations=dataset, progress=progress)
    print_result(report, as_json, _print)
    if not report.ok:
        click.get_current_context().exit(1)


def _print_windows(title: str, head: str, rows: list[tuple[str, list[SplitReport]]]) -> None:
    """A row for the windows of one split and anchor: counts, or the span of those of its gaps."""
    from antcache.doctor.needs import span

    reasons = list(
        dict.fromkeys(why for _, parts in rows for part in parts for why in part.dropped)
    )
    cells = [
        [
            name,
            *(span([getattr(part, count) for part in parts]) for count in COUNTS),
            *(span([part.dropped.get(why, 0) for part in parts]) for why in reasons),
        ]
        for name, parts in rows
    ]
    print_table(title, [head, *COUNTS, *(why.replace("_", " ") for why in reasons)], cells)


def _print(report: DoctorReport) -> None:
    from antcache.doctor.report import by_anchor

    window = report.protocol
    say(
        f"{report.store}: {report.dataset} (annotations: {report.labels}); windows of "
        f"{window['num_frames']} frames at {window['rate']:g} per second, {window['gap_s']:g} s "
        f"before {before(window['anchor'])}"
    )
    uniform = [part for part in report.windows if part.anchor is None]
    if uniform:
        _print_windows("Windows", "stream, split", [(part.where, [part]) for part in uniform])
    for name in dict.fromkeys(part.stream for part in report.windows if part.anchor is not None):
        kept = [part for part in report.windows if part.stream == name]
        gaps = gaps_name({part.gap_s for part in kept if part.gap_s is not None})
        rows = [
            (f"{parts[0].split}, {anchor_name(parts[0].anchor or 0.0)}", parts)
            for parts in by_anchor(kept)
        ]
        _print_windows(f"Windows of {name}: {gaps} before an anchor", "split, anchor", rows)
    if report.streams:
        counts = ["videos", "absent", "others", "rows"]
        seen = ["non_finite", "zero", "repeated", "longest_run_s"]
        heads = [*counts, "not finite", "zero", "alike", "run, s"]
        cells: list[list[Any]] = [
            [
                stream.stream,
                *(getattr(stream, name) for name in counts),
                *(getattr(stream, name) if stream.scanned else "not read" for name in seen),
            ]
            for stream in report.streams
        ]
        print_table("Rows of the annotated videos", ["stream", *heads], cells)
    if report.targets:
        counts = ["segments", "found", "absent", "not_valid"]
        cells = [
            [f"{part.name}, {part.split}", *(getattr(part, name) for name in counts)]
            for part in report.targets
        ]
        print_table(
            "Soft targets", ["name, split", "segments", "found", "absent", "not valid"], cells
        )
    for finding in report.findings:
        kind = "missing" if finding.missing else "note"
        say(f"{kind}: {finding.where}: {finding.text}")
    missing = sum(finding.missing for finding in report.findings)
    verdict = "can serve these windows" if report.ok else "can't serve these windows"
    say(
        f"{report.store} {verdict}: {missing or 'nothing'} missing, "
        f"{len(report.findings) - missing} notes"
    )
