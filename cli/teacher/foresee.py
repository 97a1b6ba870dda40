"""`antcache teacher foresee`: what a teacher says of the actions after the next, scored."""

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
    example="antcache teacher foresee kitchen.zarr kitchen.zarr.teachers/count --steps 5",
    then="`antcache teacher score` tells how good its next action is.",
    goes_on=UNCHANGED,
)
@store_argument("store_path")
@path_argument("teacher", metavar="TEACHER")
@task_options
@section("Teacher", train_split_option, device_option)
@json_option
def foresee(
    store_path: Location, teacher: Path, form: str, device: str, as_json: bool, **task: Any
) -> None:
    """Let the trained TEACHER say the next actions of STORE's videos, one after another.

    Each action that it says becomes part of its history, and lasts the median of its class in the
    training split; one that is under way goes on as do half of those that lasted longer. Histories
    before that are the true ones, of the same split.
    """
    from antcache.store import Store

    store = Store.open(store_path)
    from antcache.evaluation.long_term.scores import ForeseeingConfig
    from antcache.teacher.long_term.foreseeing import foresee as foresee_split

    config = ForeseeingConfig(**task)
    with progress_bars() as progress:
        found = foresee_split(store, teacher, config, form, device=device, progress=progress)
    print_foresight(found, config, as_json=as_json)
