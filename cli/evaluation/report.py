"""`antcache report`: a comparison of two systems as one HTML page."""

from __future__ import annotations

from pathlib import Path

import click

from antcache.cli.command import START_AGAIN, command
from antcache.cli.common import json_option, print_json, say
from antcache.cli.evaluation.comparing import comparison_options
from antcache.cli.numbers import AMOUNT
from antcache.cli.options import output_option, overwrite_option
from antcache.evaluation.comparing.compare import CompareConfig
from antcache.evaluation.report import ReportLayout, write_report
from antcache.store import Store
from antcache.store.location import Location


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
    title: str | None,
    output: Path,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write a page that compares B with A: each a run, a file of predictions, or targets/NAME.

    Of several seeds give --a and --b once for each run; they are paired by order. The page is one
    file that needs no network and no JavaScript: tables, training curves, classes gained and lost,
    segments fixed and broken, and the timeline of a video.
    """
    found = write_report(
        Store.open(store),
        side_a,
        side_b,
        output,
        names=names,
        teacher=teacher,
        split=split,
        config=config,
        layout=ReportLayout(title=title, classes=classes, video=video),
        overwrite=overwrite,
    )
    if as_json:
        print_json({"report": str(output), **found.to_dict()})
        return
    say(f"{output}: {found.n} segments, {len(found.metrics)} metrics")
