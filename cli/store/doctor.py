"""`antcache store doctor`: whether a store can serve a protocol."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from antcache.annotations import Protocol, read_annotations
from antcache.annotations.protocols import WindowConfig
from antcache.cli.common import (
    PATH,
    json_option,
    print_json,
    print_table,
    progress_bars,
    say,
    store_argument,
)
from antcache.cli.numbers import COUNT, FPS
from antcache.cli.settings import setting_options
from antcache.errors import BadConfig
from antcache.store import Store

if TYPE_CHECKING:
    from antcache.doctor.report import DoctorReport


@click.command()
@store_argument()
@click.option(
    "--annotations",
    nargs=2,
    type=(str, PATH),
    metavar="SET DIR",
    help="Take these annotations, as of antcache annotations import.  [default: STORE's labels]",
)
@click.option("--split-number", type=COUNT, help="egtea: split 1, 2 or 3.")
@click.option("--fps", type=FPS, help="table: times are frames at this rate.")
@click.option("--name", help="table: name of the dataset.")
@click.option(
    "--stream", "streams", multiple=True, help="Feature stream; repeatable.  [default: all]"
)
@click.option("--split", "splits", multiple=True, help="Split; repeatable.  [default: all]")
@click.option("--targets", multiple=True, help="Soft targets; repeatable.  [default: all]")
@click.option(
    "--train-split",
    default="train",
    show_default=True,
    help="Split whose segments must have soft targets.",
)
@setting_options(WindowConfig)
@click.option("--quick", is_flag=True, help="Do not read the rows.")
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

    Exit code 1 if anything that a window needs is missing, 0 if there is nothing or only notes.
    Whether the store is as it was written is for antcache store verify to say.
    """
    from antcache.doctor.examine import DoctorConfig, examine

    opened = Store.open(store)
    options: dict[str, Any] = {"split_number": split_number, "fps": fps, "name": name}
    dataset = None
    if annotations is not None:
        dataset = read_annotations(*annotations, **options)
    elif given := [option for option, value in options.items() if value is not None]:
        option = given[0].replace("_", "-")
        raise BadConfig(f"--{option} has no effect without --annotations")
    config = DoctorConfig(
        streams=streams or None,
        splits=splits or None,
        targets=targets or None,
        protocol=_protocol(dataset.name if dataset else opened.dataset, window),
        train_split=train_split,
        quick=quick,
    )
    with progress_bars() as progress:
        report = examine(opened, config, annotations=dataset, progress=progress)
    if as_json:
        print_json(report.to_dict())
    else:
        _print(report)
    if not report.ok:
        click.get_current_context().exit(1)


def _protocol(dataset: str | None, window: dict[str, Any]) -> Protocol | None:
    """The dataset's protocol with what was given in its place; None if nothing was."""
    given = {option: value for option, value in window.items() if value is not None}
    return WindowConfig(**given).protocol(dataset or "") if given else None


def _print(report: DoctorReport) -> None:
    window = report.protocol
    say(
        f"{report.store}: {report.dataset} (annotations: {report.labels}); windows of "
        f"{window['num_frames']} frames at {window['rate']:g} per second, {window['gap_s']:g} s "
        "before the action"
    )
    reasons = list(dict.fromkeys(why for part in report.windows for why in part.dropped))
    if report.windows:
        heads = ["segments", "windows", "padded", *(why.replace("_", " ") for why in reasons)]
        rows: list[list[Any]] = [
            [
                f"{part.stream}, {part.split}",
                *(part.segments, part.windows, part.padded),
                *(part.dropped.get(why, 0) for why in reasons),
            ]
            for part in report.windows
        ]
        print_table("Windows", ["stream, split", *heads], rows)
    if report.streams:
        counts = ["videos", "absent", "others", "rows"]
        seen = ["non_finite", "zero", "repeated", "longest_run_s"]
        heads = [*counts, "not finite", "zero", "alike", "run, s"]
        rows = [
            [
                stream.stream,
                *(getattr(stream, name) for name in counts),
                *(getattr(stream, name) if stream.scanned else "not read" for name in seen),
            ]
            for stream in report.streams
        ]
        print_table("Rows of the annotated videos", ["stream", *heads], rows)
    if report.targets:
        counts = ["segments", "found", "absent", "not_valid"]
        rows = [
            [f"{part.name}, {part.split}", *(getattr(part, name) for name in counts)]
            for part in report.targets
        ]
        print_table(
            "Soft targets", ["name, split", "segments", "found", "absent", "not valid"], rows
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
