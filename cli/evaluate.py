"""`antcache evaluate`: score students and teachers under one set of metrics."""

from __future__ import annotations

from pathlib import Path

import click

from antcache.cli.common import (
    json_option,
    path_argument,
    print_json,
    print_table,
    store_argument,
)
from antcache.evaluation.scoring import Result, score_predictions, score_targets
from antcache.store import Store
from antcache.store.location import Location


@click.command()
@store_argument()
@path_argument("predictions", metavar="[PREDICTIONS]...", nargs=-1)
@click.option("--targets", multiple=True, metavar="NAME", help="Score these soft targets as well.")
@click.option(
    "--split",
    help="Split to score [default: the one that PREDICTIONS name; validation for --targets].",
)
@json_option
def evaluate(
    store: Location,
    predictions: tuple[Path, ...],
    targets: tuple[str, ...],
    split: str | None,
    as_json: bool,
) -> None:
    """Score PREDICTIONS (files, or folders of runs) against the labels in STORE, in percent.

    Segments of the split without a prediction are counted, and a second column gives the figures
    over all segments with these as wrong. docs/protocol.md says what each metric means.
    """
    if not predictions and not targets:
        raise click.UsageError("nothing to score: give PREDICTIONS or --targets NAME")
    source = Store.open(store)
    results = [score_predictions(source, path, split) for path in predictions]
    results += [score_targets(source, name, split or "validation") for name in targets]
    if as_json:
        print_json([result.to_dict() for result in results])
    else:
        _print(results)


def _print(results: list[Result]) -> None:
    """Print a numbered line for each result, and one table with one or two columns for each."""
    columns = []
    for number, result in enumerate(results, start=1):
        n, total = int(result.scored["n"]), int(result.all["n"])
        line = f"({number}) {result.name}: {n} of {total} segments of {result.split!r} scored"
        columns.append((f"({number}) {n} scored", result.scored))
        if n < total:
            line += f"; 'all {total}' counts the {total - n} without a prediction as wrong"
            columns.append((f"({number}) all {total}", result.all))
        click.echo(line)
    names = list(dict.fromkeys(name for _, figures in columns for name in figures))
    rows = [[name, *(figures.get(name, "") for _, figures in columns)] for name in names]
    print_table("Percent; n counts segments", ["metric", *(head for head, _ in columns)], rows)
