"""`antcache submit`: write predictions as the EPIC-KITCHENS leaderboards take them."""

from __future__ import annotations

from pathlib import Path

import click

from antcache.cli.common import PATH, json_option, path_argument, print_json, say, store_argument
from antcache.cli.numbers import AMOUNT, Several
from antcache.errors import AlreadyExists
from antcache.evaluation.predictions import Predictions
from antcache.evaluation.submission.challenges import CHALLENGES, submission
from antcache.evaluation.submission.segment_lists import read_uids
from antcache.store import Store
from antcache.store.location import Location


@click.command()
@store_argument("store_path")
@path_argument("predictions")
@click.option("--challenge", required=True, help=" or ".join(CHALLENGES) + ".")
@click.option("-o", "--output", type=PATH, required=True, help="File to write.")
@click.option(
    "--segments",
    type=PATH,
    metavar="FILE",
    help="List of test segments [default: the split that PREDICTIONS name].",
)
@click.option(
    "--levels",
    type=Several(AMOUNT),
    metavar="PT,TL,TD",
    help="Levels of supervision for ek100: pretraining, training labels, training data.",
)
@click.option("--zeros", is_flag=True, help="Write 0 for segments without a prediction.")
@click.option("--overwrite", is_flag=True, help="Replace the file.")
@json_option
def submit(
    store_path: Location,
    predictions: Path,
    challenge: str,
    output: Path,
    segments: Path | None,
    levels: tuple[int, ...] | None,
    zeros: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write PREDICTIONS (a file, or the folder of a run) as a submission, checked by its schema.

    STORE names the classes. EPIC-KITCHENS-55 takes one file for S1 (test_seen.csv) and one for S2
    (test_unseen.csv).
    """
    if output.exists() and not overwrite:
        raise AlreadyExists("a file is already here", where=output, hint="--overwrite")
    store = Store.open(store_path)
    loaded = Predictions.load(predictions)
    uids = store.labels(loaded.split).uid.tolist() if segments is None else read_uids(segments)
    made = submission(
        loaded,
        store.taxonomy,
        challenge,
        uids,
        levels=levels,
        zeros=zeros,
        name=str(predictions),
    )
    made.save(output, overwrite=overwrite)
    if as_json:
        print_json(
            {
                "file": str(output),
                "challenge": challenge,
                "segments": len(uids),
                "zeros": made.zeros,
                "unused": made.unused,
            }
        )
        return
    say(f"{output}: {len(uids)} segments for {challenge}, fits its schema")
    if made.zeros:
        say(f"{made.zeros} without a prediction have scores of 0")
    if made.unused:
        say(f"{made.unused} predicted segments are not on the list")
