"""`antcache submit`: write predictions as the EPIC-KITCHENS leaderboards take them."""

from __future__ import annotations

from pathlib import Path

import click

from antcache.cli.choices import CHALLENGES
from antcache.cli.command import START_AGAIN, command
from antcache.cli.common import json_option, path_argument, print_json, say, store_argument
from antcache.cli.numbers import AMOUNT, Several
from antcache.cli.options import output_option, overwrite_option, segments_option
from antcache.errors import AlreadyExists
from antcache.evaluation.predictions import Predictions
from antcache.evaluation.submission.challenges import submission
from antcache.evaluation.submission.segment_lists import read_uids
from antcache.store import Store
from antcache.store.location import Location


@command(
    example="antcache submit kitchen.zarr seen.safetensors --challenge ek55 --output seen.json",
    then="the file is what the leaderboard takes; `antcache evaluate` scores splits with labels.",
    goes_on=START_AGAIN,
)
@store_argument("store_path")
@path_argument("predictions")
@click.option("--challenge", type=CHALLENGES, required=True, help="Whose form it has.")
@output_option("File to write.")
@segments_option(shown="the split that PREDICTIONS name")
@click.option(
    "--levels",
    type=Several(AMOUNT, repeats=True),
    metavar="PT,TL,TD",
    help="Levels of supervision for ek100: pretraining, training labels, training data.",
)
@click.option("--zeros", is_flag=True, help="Write 0 for segments without a prediction.")
@overwrite_option
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
