"""`antcache predict`: what comes next in videos, by a trained student."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from antcache.cli.command import START_AGAIN, command, section
from antcache.cli.common import (
    PATH,
    json_option,
    location_argument,
    note,
    print_json,
    progress_bars,
    say,
)
from antcache.cli.numbers import MOMENT, Several
from antcache.cli.options import (
    allow_partial_option,
    backbone_option,
    device_option,
    every_option,
    listener_option,
    max_gap_option,
    overwrite_option,
    student_option,
    top_option,
)
from antcache.errors import BadConfig

if TYPE_CHECKING:
    from antcache.predict import Anticipation
    from antcache.predict.several import AskedVideos
    from antcache.predict.truth import Truth
    from antcache.store import Store
    from antcache.store.location import Location


@command(
    example="antcache predict kitchen.mp4 --student runs/distilled --every 2",
    then="`antcache student predict` scores the labelled segments of a store, which "
    "`antcache evaluate` compares with their labels.",
    goes_on=START_AGAIN,
)
@location_argument("videos", nargs=-1, required=True, metavar="VIDEO...")
@section(
    "Student",
    student_option,
    listener_option,
    backbone_option("the one that the run names"),
    click.option(
        "--labels",
        type=PATH,
        metavar="STORE",
        help="Store with labels of the videos; also with the classes of a run that is from before "
        "they were kept with it.",
    ),
    device_option,
)
@section(
    "Times",
    every_option("0.5"),
    click.option(
        "--at",
        type=Several(MOMENT),
        default=(),
        metavar="SECONDS,...",
        help="These times in place of all.",
    ),
    top_option,
)
@section("Videos", max_gap_option, allow_partial_option)
@section(
    "Files",
    click.option(
        "--csv",
        "csv_file",
        type=PATH,
        metavar="FILE",
        help="Table to write: a row for each action of each time.",
    ),
    click.option(
        "--html",
        "html_file",
        type=PATH,
        metavar="FILE",
        help="Page to write: pictures and what is expected over time, with --labels how it fared.",
    ),
    click.option(
        "--video",
        "film_file",
        type=PATH,
        metavar="FILE",
        help="Film to write (.mp4) of the one VIDEO, with what is expected in the picture.",
    ),
    overwrite_option,
)
@json_option
def predict(
    videos: tuple[Location, ...],
    student: Path,
    teacher: Path | None,
    backbone: str | None,
    labels: Path | None,
    device: str,
    every: float | None,
    at: tuple[float, ...],
    top: int,
    max_gap_s: float,
    allow_partial: bool,
    csv_file: Path | None,
    html_file: Path | None,
    film_file: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Say what comes next in each VIDEO (a file, a folder, a list of them, or a URL), and when.

    At each time the student sees what `antcache extract` would have stored by then, and nothing
    later. Nothing is written unless a file is named. Videos that can't be read are said; the exit
    code is then 1, as it is where a time of --at has no answer (2 if there is one video).
    """
    from antcache.checks import distinct
    from antcache.files import check_file
    from antcache.predict.answers import KEPT
    from antcache.predict.several import AskedVideos, check_apart, videos_of

    if every is not None and at:
        raise BadConfig("--every and --at exclude each other")
    files = [file for file in (csv_file, html_file, film_file) if file is not None]
    distinct("file to write", [str(file.resolve()) for file in files])
    for file in files:
        check_file(file, overwrite=overwrite)
    found, passed_over = videos_of(videos)
    for each in passed_over:
        note(each)
    check_apart(files, found)
    if film_file is not None:
        from antcache.predict.film import check_film, write_film

        check_film(film_file)
        if len(found) + len(found.refused) > 1:
            raise BadConfig("--video takes one VIDEO", found=f"{len(found)} videos")
    store = None if labels is None else _store(labels)
    from antcache.predict import Anticipator

    anticipator = Anticipator.load(
        student,
        teacher=teacher,
        backbone=backbone,
        device=device,
        taxonomy=None if store is None else store.taxonomy,
        max_gap_s=max_gap_s,
        allow_partial=allow_partial,
    )
    labelled = None
    if store is not None and html_file is not None:
        from antcache.predict.truth import truths

        labelled = truths(store, anticipator.student.taxonomy, list(found))
    asked = AskedVideos(anticipator, found, every=every, at=at or None, top=top)
    asked.keeps = max(top if film_file else 0, KEPT if html_file else 0)
    with ExitStack() as stack:
        if csv_file is not None:
            from antcache.predict.tables import csv_table

            asked.takers.append(stack.enter_context(csv_table(csv_file, overwrite=overwrite)))
        elif not files and not as_json:
            asked.takers.append(lambda each: _say(each, named=asked.several))
        told = asked.all()
    if not asked.kept:  # there is nothing to show
        files = [file for file in files if file == csv_file]
    if html_file is not None and html_file in files:
        _write_page(html_file, asked, labelled, overwrite=overwrite)
    if film_file is not None and film_file in files:
        ((name, video),) = found.items()
        with progress_bars() as progress:
            write_film(
                film_file,
                video,
                asked.kept[name],
                top=top,
                max_gap_s=max_gap_s,
                allow_partial=allow_partial,
                progress=progress,
                overwrite=overwrite,
            )
    if as_json:
        print_json({"student": str(student), "videos": told})
    for file in () if as_json else files:
        say(f"{file}: {asked.count} times of {len(told)} videos")
    for error in asked.wrong:
        say(f"Error: {error}", err=True)
    if asked.wrong:
        click.get_current_context().exit(1 if asked.several and asked.count else 2)


def _write_page(
    path: Path, asked: AskedVideos, labelled: dict[str, Truth] | None, *, overwrite: bool
) -> None:
    from antcache.predict.page import ShownVideo, write_page

    shown = [
        ShownVideo(
            name=name,
            answers=answers,
            source=asked.videos[name],
            truth=None if labelled is None else labelled.get(name),
        )
        for name, answers in asked.kept.items()
    ]
    write_page(
        path,
        shown,
        asked.anticipator.student,
        labelled=labelled is not None,
        overwrite=overwrite,
    )


def _store(place: Location) -> Store:
    from antcache.store import Store

    return Store.open(place)


def _say(each: Anticipation, *, named: bool) -> None:
    say(f"{each.video}, {each}" if named else str(each))
