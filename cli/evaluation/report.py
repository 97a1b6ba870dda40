"""`antcache report`: a comparison of two systems as one HTML page."""

from __future__ import annotations

from pathlib import Path

import click

from antcache.cli.command import START_AGAIN, command
from antcache.cli.common import json_option, print_json, progress_bars, say, warn
from antcache.cli.evaluation.comparing import comparison_options
from antcache.cli.numbers import AMOUNT
from antcache.cli.options import output_option, overwrite_option, videos_option
from antcache.evaluation.comparing.compare import CompareConfig
from antcache.evaluation.report import Films, ReportLayout, check_page, write_report
from antcache.progress import Progress
from antcache.store import Store
from antcache.store.location import Location
from antcache.text import LISTED

HEIGHT = 96
"""Of pictures, in pixels: cards show them a little smaller."""


@command(
    example="antcache report kitchen.zarr runs/plain runs/distilled --output report.html",
    then="open the page; `antcache compare` has the same figures as text and, by --json, as data.",
    goes_on=START_AGAIN,
)
@comparison_options
@click.option("--shown-classes", "classes", type=AMOUNT, default=15, help="Classes that are shown.")
@click.option(
    "--video", show_default="one that is like the whole split", help="Video of the timeline."
)
@videos_option
@click.option(
    "--title", show_default="B compared with A, by their names", help="Title of the page."
)
@output_option("The HTML file.", default=Path("report.html"))
@overwrite_option
@json_option
def report(
    store: Location,
    side_a: tuple[str, ...],
    side_b: tuple[str, ...],
    names: tuple[str, ...],
    teacher: str | None,
    split: str | None,
    config: CompareConfig,
    classes: int,
    video: str | None,
    videos: Location | None,
    title: str | None,
    output: Path,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write a page that compares B with A: each a run, a file of predictions, or targets/NAME.

    Of several seeds give --a and --b once for each run; they are paired by order. The page is one
    file that needs no network and no JavaScript: tables, training curves, classes gained and lost,
    rare and frequent ones, videos, calibration, segments fixed and broken, and a timeline.
    """
    opened = Store.open(store)
    check_page(output, overwrite=overwrite)
    with progress_bars() as progress:
        films = None if videos is None else _films(videos, progress)
        found = write_report(
            opened,
            side_a,
            side_b,
            output,
            names=names,
            teacher=teacher,
            split=split,
            config=config,
            layout=ReportLayout(title=title, classes=classes, video=video),
            films=films,
            overwrite=overwrite,
        )
    without = {} if films is None else films.notes
    for name, why in list(without.items())[:LISTED]:
        warn(f"no pictures of {name}: {why}")
    if len(without) > LISTED:
        warn(f"no pictures of {len(without) - LISTED} more videos: the page names them")
    if as_json:
        shown = {} if films is None else {"without_pictures": without}
        print_json({"report": str(output), **shown, **found.to_dict()})
        return
    say(f"{output}: {found.n} segments, {len(found.metrics)} metrics")


def _films(videos: Location, progress: Progress) -> Films:
    from antcache.extract.sources.strips import FilmStrips

    return Films(FilmStrips(videos, height=HEIGHT), progress=progress)
