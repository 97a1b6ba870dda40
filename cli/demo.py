"""`antcache demo`: the whole method on a small generated kitchen."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from antcache.cli.command import command
from antcache.cli.common import json_option, log_to, print_json, print_table, progress_bars, say
from antcache.cli.options import output_option, overwrite_option


@command(
    example="antcache demo --output demo",
    then="`antcache annotations import` and `antcache extract` begin it with your own videos.",
    goes_on="add --overwrite to the same command: it starts anew.",
)
@output_option("Folder for everything that is made.", default=Path("demo"))
@overwrite_option
@json_option
def demo(output: Path, overwrite: bool, as_json: bool) -> None:
    """Generate a small kitchen, run the whole method on it, write OUTPUT/report.html.

    Renders MP4 files, extracts features with a small frozen backbone, trains a teacher on labels
    and text, writes its soft targets, trains students with and without them on three seeds,
    compares them, and asks one about a held-out video: a page and a film beside the report. Takes a
    few minutes on two cores.
    """
    from antcache.demo.run import FILM, PAGE, run_demo

    with log_to(output.with_name(f"{output.name}.log")), progress_bars() as progress:
        outcome = run_demo(output, overwrite=overwrite, progress=progress)
    table, report = outcome.table(), output / "report.html"
    page, film = output / PAGE, output / FILM
    if as_json:
        files = {"report": str(report), "predictions": str(page), "film": str(film)}
        print_json({**files, "table": [asdict(row) for row in table]})
        return
    columns = ["percent", "teacher", "plain", "distilled", "gain", "errors"]
    rows = [
        [row.name, f"{row.teacher:.1f}"]
        + [f"{mean:.1f} ± {deviation:.1f}" for mean, deviation in (row.plain, row.distilled)]
        + [f"{row.gain:+.1f}", f"{row.errors:.1f}"]
        for row in table
    ]
    seeds = len(outcome.runs["plain"].metrics)
    title = f"Validation, {seeds} seeds; errors: the sum of both standard errors"
    print_table(title, columns, rows)
    say(f"report: {report}")
    say(f"a held-out video, with what a student expects: {page}, {film}")
