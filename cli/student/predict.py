"""`antcache student predict`: a trained student's scores for another split, or for a test list."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from antcache.annotations import match_segments
from antcache.cli.command import START_AGAIN, command
from antcache.cli.common import json_option, note, path_argument, print_json, say, store_argument
from antcache.cli.options import (
    allow_missing_option,
    device_option,
    output_option,
    overwrite_option,
    segments_option,
    split_option,
    table_fps_option,
)
from antcache.errors import AlreadyExists, BadConfig

if TYPE_CHECKING:
    from antcache.store.location import Location


@command(
    example="antcache student predict kitchen.zarr runs/plain --split train -o train.safetensors",
    then="`antcache evaluate` scores the file, `antcache submit` writes it for a leaderboard.",
    goes_on=START_AGAIN,
)
@store_argument("store_path")
@path_argument("run")
@output_option("File to write.")
@split_option()
@segments_option()
@table_fps_option
@allow_missing_option
@device_option
@overwrite_option
@json_option
def predict(
    store_path: Location,
    run: Path,
    output: Path,
    split: str | None,
    segments: Path | None,
    fps: float | None,
    allow_missing: bool,
    device: str,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Predict with the student of the folder RUN, on the features in STORE.

    Which segments: those of a --split of its labels, or those of a list (--segments).
    """
    from antcache.store import Store

    if (split is None) == (segments is None):
        raise BadConfig("which segments?", expected="--split NAME or --segments FILE")
    if output.exists() and not overwrite:
        raise AlreadyExists("predictions are already here", where=output, hint="--overwrite")
    store = Store.open(store_path)
    from antcache.evaluation.submission.segment_lists import read_unlabeled
    from antcache.student.runs.predicting import TrainedStudent

    if segments is None:
        if fps is not None:
            raise BadConfig("--fps is for --segments")
        asked = store.labels(split or "")
    else:
        usual = store.list_fps
        listed = read_unlabeled(segments, fps=fps, usual_fps=usual)
        if fps is None and usual is not None:
            note(f"times of an own list are frames at {usual:g} per second, as those of the labels")
        asked, notes = match_segments(listed, store.all_videos(), source=str(segments))
        for each in notes:
            note(each)
    student = TrainedStudent(store, run, device=device, allow_missing=allow_missing)
    found = student.predict(asked, split=split or (segments.stem if segments else ""))
    found.save(output, overwrite=overwrite)
    without = len(asked) - len(found.uid)
    if as_json:
        print_json({"file": str(output), "segments": len(found.uid), "without_window": without})
        return
    say(f"{output}: {len(found.uid)} segments; {without} without a window")
