"""`antcache evaluate`: score students and teachers under one set of metrics."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from antcache.cli.command import UNCHANGED, command, section
from antcache.cli.common import (
    PATH,
    json_option,
    path_argument,
    print_json,
    say,
    store_argument,
)
from antcache.cli.options import (
    bootstrap_option,
    classes_option,
    cluster_option,
    seed_option,
    split_option,
    targets_option,
)

if TYPE_CHECKING:
    from antcache.evaluation.present import Classes
    from antcache.evaluation.scoring import EvaluationResult
    from antcache.store.location import Location


def _file(name: str, text: str, shown: str) -> Callable[[Any], Any]:
    return click.option(name, type=PATH, metavar="FILE", show_default=shown, help=text)


@command(
    example="antcache evaluate kitchen.zarr runs/distilled --targets sequence",
    then="`antcache compare` tells what one gains over another, `antcache report` as a page.",
    goes_on=UNCHANGED,
)
@store_argument()
@path_argument("predictions", metavar="[PREDICTIONS]...", nargs=-1)
@section(
    "What is scored",
    targets_option(),
    split_option(shown="the one that PREDICTIONS name; validation for --targets"),
    classes_option,
)
@section("Intervals", bootstrap_option(0), cluster_option, seed_option())
@section(
    "Lists",
    _file("--unseen", "Unseen participants.", "on EPIC-KITCHENS-100 those not in train"),
    _file("--tail-verbs", "Tail verbs, as EPIC-KITCHENS-100 publishes them.", "the store's"),
    _file("--tail-nouns", "Tail nouns, as EPIC-KITCHENS-100 publishes them.", "the store's"),
)
@json_option
def evaluate(
    store: Location,
    predictions: tuple[Path, ...],
    targets: tuple[str, ...],
    split: str | None,
    scored_classes: Classes,
    bootstrap: int,
    cluster: str,
    seed: int,
    unseen: Path | None,
    tail_verbs: Path | None,
    tail_nouns: Path | None,
    as_json: bool,
) -> None:
    """Score PREDICTIONS (files, or folders of runs) against the labels in STORE, in percent.

    Segments of the split without a prediction are counted, and a second column gives the figures
    over all segments with these as wrong. With --bootstrap a table gives every metric over every
    denominator with its interval. docs/protocol.md says what each metric means.
    """
    if not predictions and not targets:
        raise click.UsageError("nothing to score: give PREDICTIONS or --targets NAME")
    from antcache.store import Store

    source = Store.open(store)
    from antcache.cli.evaluation.sheets import print_sheet, say_few_classes
    from antcache.evaluation.lists import ListFiles
    from antcache.evaluation.scoring import Detail, score_predictions, score_targets
    from antcache.evaluation.sheet import UNSEEN, BootstrapConfig

    detail = Detail(
        sampling=BootstrapConfig(resamples=bootstrap, cluster=cluster, seed=seed),
        files=ListFiles(unseen=unseen, tail_verbs=tail_verbs, tail_nouns=tail_nouns),
        classes=scored_classes,
    )
    results = [score_predictions(source, path, split, detail=detail) for path in predictions]
    results += [
        score_targets(source, name, split or "validation", detail=detail) for name in targets
    ]
    if as_json:
        print_json([result.to_dict() for result in results])
        return
    _print(results)
    say_few_classes(source.taxonomy)
    for number, result in enumerate(results, start=1):
        assert result.sheet is not None
        if bootstrap or UNSEEN in result.sheet.counted:
            print_sheet(f"({number}) {result.name}", result.sheet, detail.sampling)
        found = result.sheet.calibration
        say(
            f"({number}) calibration of the {found.n} scored: NLL {found.nll:.3f}, "
            f"ECE {found.ece:.2f} %, Brier {found.brier:.3f}, confidence {found.confidence:.2f} %"
        )


def _print(results: list[EvaluationResult]) -> None:
    """Print a numbered line for each result, and one table with one or two columns for each."""
    from antcache.cli.evaluation.sheets import in_all, print_metrics
    from antcache.evaluation.caveats import another_task

    columns = []
    found = [result.sheet.same for result in results if result.sheet is not None]
    same = {k: v for k, v in found[0].items() if all(other.get(k) == v for other in found)}
    for number, result in enumerate(results, start=1):
        n, total = int(result.scored["n"]), int(result.all["n"])
        line = f"({number}) {result.name}, {result.task.text}"
        if result.left_out:
            line += f", {result.left_out} segments left out"
        line += f": {n} of {total} segments of {result.split!r} scored"
        columns.append((f"({number}) {n} scored", result.scored))
        if n < total:
            line += f"; 'all {total}' counts the {total - n} without a prediction as wrong"
            columns.append((f"({number}) all {total}", result.all))
        say(line)
    tasks = dict.fromkeys(another_task(r.task.anchor, r.scored_classes) for r in results)
    for task in tasks:
        if task is not None:
            say(task)
    names = list(dict.fromkeys(name for _, figures in columns for name in figures))
    rows = [[name, *(figures.get(name, "") for _, figures in columns)] for name in names]
    heads = ["metric", *(head for head, _ in columns)]
    print_metrics(
        "Percent; n counts segments", heads, rows, in_all(same, (own for _, own in columns))
    )
