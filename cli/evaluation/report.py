"""`antcache report`: a comparison of two systems as one HTML page."""

from __future__ import annotations

from pathlib import Path

import click

from antcache.cli.common import PATH, json_option, print_json, say
from antcache.cli.evaluation.comparing import comparison_options
from antcache.cli.numbers import AMOUNT
from antcache.evaluation.comparing.compare import CompareConfig
from antcache.evaluation.report import ReportLayout, write_report
from antcache.store import Store
from antcache.store.location import Location


@click.command()
@comparison_options
@click.option(
    "--classes", type=AMOUNT, default=15, show_default=True, help="Classes that are drawn."
)
@click.option("--video", help="Video of the timeline [default: one that is like the whole split].")
@click.option("--title", help="Title of the page  [default: that B is compared with A].")
@click.option(
    "--output",
    "-o",
    type=PATH,
    default=Path("report.html"),
    show_default=True,
    help="The HTML file.",
)
@click.option("--overwrite", is_flag=True, help="Replace the file if it is there.")
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
