"""`antcache report`: a comparison of two systems as one HTML page."""

from __future__ import annotations

from pathlib import Path

import click

from antcache.cli.common import store_argument
from antcache.cli.sheets import Several
from antcache.errors import BadConfig
from antcache.evaluation.compare import CompareConfig
from antcache.evaluation.denominators import DENOMINATORS
from antcache.evaluation.report import Layout, write_report
from antcache.evaluation.sheet import Sampling
from antcache.store import Store
from antcache.store.location import Location


@click.command()
@store_argument()
@click.argument("systems", metavar="[A B]", nargs=-1)
@click.option("--a", "side_a", multiple=True, metavar="A", help="A run of A; once per seed.")
@click.option("--b", "side_b", multiple=True, metavar="B", help="A run of B; once per seed.")
@click.option(
    "--teacher", metavar="TEACHER", help="Sort fixed and broken segments by what this one knew."
)
@click.option("--split", help="Split of the labels [default: the one that A names].")
@click.option(
    "--over",
    default="avt",
    show_default=True,
    help=f"Which segments count: {', '.join(DENOMINATORS)}.",
)
@click.option("--bootstrap", type=int, default=1000, show_default=True, metavar="N")
@click.option(
    "--cluster", default="video", show_default=True, help="What is resampled: video or segment."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Decides the resamples.")
@click.option(
    "--ks", type=Several(int), default=(1, 5), show_default="1,5", help="Best guesses that count."
)
@click.option("--examples", type=int, default=3, show_default=True, help="Segments per bucket.")
@click.option("--classes", type=int, default=15, show_default=True, help="Classes that are drawn.")
@click.option("--video", help="Video of the timeline [default: one that is like the whole split].")
@click.option("--title", default=Layout.title, show_default=True, help="Title of the page.")
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    default=Path("report.html"),
    show_default=True,
    help="The HTML file.",
)
@click.option("--overwrite", is_flag=True, help="Replace the file if it is there.")
def report(
    store: Location,
    systems: tuple[str, ...],
    side_a: tuple[str, ...],
    side_b: tuple[str, ...],
    teacher: str | None,
    split: str | None,
    over: str,
    bootstrap: int,
    cluster: str,
    seed: int,
    ks: tuple[int, ...],
    examples: int,
    classes: int,
    video: str | None,
    title: str,
    output: Path,
    overwrite: bool,
) -> None:
    """Write a page that compares B with A: each a run, a file of predictions, or targets/NAME.

    Of several seeds give --a and --b once for each run; they are paired by order. The page is one
    file that needs no network and no JavaScript: tables, training curves, classes gained and lost,
    segments fixed and broken, and the timeline of a video.
    """
    if bool(systems) == bool(side_a or side_b) or len(systems) not in (0, 2):
        raise BadConfig(
            "which systems?", expected="A and B, or --a and --b once per seed", found=len(systems)
        )
    if systems:
        side_a, side_b = systems[:1], systems[1:]
    config = CompareConfig(
        over=over,
        sampling=Sampling(resamples=bootstrap, cluster=cluster, seed=seed),
        ks=ks,
        examples=examples,
    )
    found = write_report(
        Store.open(store),
        side_a,
        side_b,
        output,
        teacher=teacher,
        split=split,
        config=config,
        layout=Layout(title=title, classes=classes, video=video),
        overwrite=overwrite,
    )
    click.echo(f"{output}: {found.n} segments, {len(found.metrics)} metrics")
