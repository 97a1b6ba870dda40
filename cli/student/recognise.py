"""`antcache student recognise`: train a student to say what is being done now."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from antcache.cli.command import command
from antcache.cli.common import PATH, json_option, store_argument
from antcache.cli.settings import setting_options
from antcache.cli.student.train import train_run
from antcache.store.location import Location
from antcache.student.config import StudentConfig
from antcache.student.recognition import recogniser


@command(
    example="antcache student recognise kitchen.zarr --run runs/recogniser --held-out 0.2",
    then="`antcache teacher listen` lets a text teacher hear it, `antcache evaluate` scores it, "
    "`antcache predict` says what is under way in a video.",
    goes_on="`antcache student recognise STORE --run RUN --resume` goes on after the last epoch "
    "kept, or begins again if none was; if it finds no run yet, give the same command again.",
)
@store_argument("store_path")
@click.option("--run", "run_dir", type=PATH, required=True, help="Folder of the run.")
@click.option("--resume", is_flag=True, help="Go on with the run, with its own settings.")
@setting_options(StudentConfig, without=("gap_s", "gaps", "parity", "slots"))
@json_option
def recognise(
    store_path: Location, run_dir: Path, resume: bool, as_json: bool, **settings: Any
) -> None:
    """Train a student on the labels and features in STORE to say which action is under way.

    It is a run like any other, of windows that end inside an action: in every epoch each training
    segment is seen at one of --anchors (0.1,0.3,0.5,0.7,0.9 unless given), and it is scored at
    --anchor (0.5), with no gap. So it is never compared or fused with a run that anticipates.
    """
    train_run(
        store_path,
        run_dir,
        None,
        resume=resume,
        as_json=as_json,
        settings=settings,
        asked=recogniser,
    )
