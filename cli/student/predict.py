"""`antcache student predict`: a trained student's scores for another split, or for a test list."""

from __future__ import annotations

from pathlib import Path

import click

from antcache.annotations import match_segments
from antcache.cli.common import (
    PATH,
    allow_missing_option,
    json_option,
    path_argument,
    print_json,
    say,
    store_argument,
)
from antcache.cli.numbers import FPS
from antcache.errors import AlreadyExists, BadConfig
from antcache.evaluation.submission.segment_lists import read_unlabeled
from antcache.store import Store
from antcache.store.location import Location


@click.command()
@store_argument("store_path")
@path_argument("run")
@click.option("-o", "--output", type=PATH, required=True, help="File to write.")
@click.option("--split", help="Split of STORE to predict.")
@click.option(
    "--segments",
    type=PATH,
    metavar="FILE",
    help="List of segments: test_seen.csv, or an own table (uid,video,start,stop) in seconds.",
)
@click.option("--fps", type=FPS, help="Own table: times are frames at this rate.")
@allow_missing_option
@click.option("--device", help="Torch device [default: the run's].")
@click.option("--overwrite", is_flag=True, help="Replace the file.")
@json_option
def predict(
    store_path: Location,
    run: Path,
    output: Path,
    split: str | None,
    segments: Path | None,
    fps: float | None,
    allow_missing: bool,
    device: str | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Predict with the student of the folder RUN, on the features in STORE."""
    from antcache.student.predicting import TrainedStudent

    if (split is None) == (segments is None):
        raise BadConfig("which segments?", expected="--split NAME or --segments FILE")
    if output.exists() and not overwrite:
        raise AlreadyExists("predictions are already here", where=output, hint="--overwrite")
    store = Store.open(store_path)
    if segments is None:
        if fps is not None:
            raise BadConfig("--fps is for --segments")
        asked = store.labels(split or "")
    else:
        listed = read_unlabeled(segments, fps=fps)
        asked, notes = match_segments(listed, store.all_videos(), source=str(segments))
        for note in notes:
            say(f"note: {note}", err=True)
    student = TrainedStudent(store, run, device=device, allow_missing=allow_missing)
    found = student.predict(asked, split=split or (segments.stem if segments else ""))
    found.save(output, overwrite=overwrite)
    without = len(asked) - len(found.uid)
    if as_json:
        print_json({"file": str(output), "segments": len(found.uid), "without_window": without})
        return
    say(f"{output}: {len(found.uid)} segments; {without} without a window")
