"""`antcache student foresee`: what a student says of the actions after the next, scored."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from antcache.cli.command import UNCHANGED, command, section
from antcache.cli.common import json_option, path_argument, progress_bars, store_argument
from antcache.cli.foreseeing import print_foresight, task_options
from antcache.cli.options import device_option, train_split_option

if TYPE_CHECKING:
    from antcache.store.location import Location


@command(
    example="antcache student foresee kitchen.zarr runs/slots --steps 5",
    then="`antcache teacher foresee` scores a teacher on the same task.",
    goes_on=UNCHANGED,
)
@store_argument("store_path")
@path_argument("run")
@task_options
@section("Student", train_split_option, device_option)
@json_option
def foresee(
    store_path: Location, run: Path, form: str, device: str, as_json: bool, **task: Any
) -> None:
    """Let the student of the folder RUN, trained with --slots, say the next actions of STORE's
    videos.

    It sees the features up to the moment. What it says of frames lasts the median of its class in
    the training split; the action that is under way at the moment is the labels', and goes on as do
    half of those of its class that lasted longer.
    """
    from antcache.store import Store

    store = Store.open(store_path)
    from antcache.evaluation.long_term.scores import ForeseeingConfig
    from antcache.student.runs.foreseeing import foresee as foresee_split

    config = ForeseeingConfig(**task)
    with progress_bars() as progress:
        found = foresee_split(store, run, config, form, device=device, progress=progress)
    print_foresight(found, config, as_json=as_json)
