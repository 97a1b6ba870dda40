"""`antcache teacher foresee`: what a teacher says of the actions after the next, scored."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from antcache.cli.choices import FORESIGHTS
from antcache.cli.command import UNCHANGED, command, section
from antcache.cli.common import (
    json_option,
    path_argument,
    print_result,
    print_table,
    progress_bars,
    say,
    store_argument,
)
from antcache.cli.numbers import COUNT
from antcache.cli.options import device_option, seed_option, split_option, train_split_option

if TYPE_CHECKING:
    from antcache.store.location import Location
    from antcache.teacher.long_term.foreseeing import EditScore, FrameScore


@command(
    example="antcache teacher foresee kitchen.zarr kitchen.zarr.teachers/count --steps 5",
    then="`antcache teacher score` tells how good its next action is.",
    goes_on=UNCHANGED,
)
@store_argument("store_path")
@path_argument("teacher", metavar="TEACHER")
@section(
    "Task",
    click.option(
        "--form",
        type=FORESIGHTS,
        default="ego4d",
        help="Edit distance of the next actions, or frames of the next shares of the videos.",
    ),
    split_option("validation"),
    click.option(
        "--steps", type=COUNT, metavar="Z", default=20, help="ego4d: next actions that are said."
    ),
    click.option(
        "--samples", type=COUNT, metavar="K", default=5, help="ego4d: sequences that are drawn."
    ),
    seed_option(),
)
@section("Teacher", train_split_option, device_option)
@json_option
def foresee(
    store_path: Location,
    teacher: Path,
    form: str,
    split: str,
    steps: int,
    samples: int,
    seed: int,
    train_split: str,
    device: str,
    as_json: bool,
) -> None:
    """Let the trained TEACHER say the next actions of STORE's videos, one after another.

    Each action that it says becomes part of its history, and lasts the median of its class in the
    training split. Histories before that are the true ones, of the same split.
    """
    from antcache.store import Store

    store = Store.open(store_path)
    from antcache.teacher.long_term.foreseeing import EditScore, ForeseeingConfig
    from antcache.teacher.long_term.foreseeing import foresee as foresee_split

    config = ForeseeingConfig(
        split=split, train_split=train_split, steps=steps, samples=samples, seed=seed
    )
    with progress_bars() as progress:
        found = foresee_split(store, teacher, config, form, device=device, progress=progress)

    def show(found: EditScore | FrameScore) -> None:
        if isinstance(found, EditScore):
            _print_edits(found, config.steps, config.samples)
        else:
            _print_frames(found)

    print_result(found, as_json, show)


def _print_edits(found: EditScore, steps: int, samples: int) -> None:
    rows = [
        [kind, f"{distance:.3f}", f"{found.likeliest[kind]:.3f}"]
        for kind, distance in found.sampled.items()
    ]
    print_table(
        "edit distance of the next actions, 0 is perfect",
        ["of", f"ED@({steps},{samples}), drawn", f"ED@({steps},1), likeliest"],
        rows,
    )
    say(f"after {found.n} segments; {found.left_out} have fewer than {steps} after them")


def _print_frames(found: FrameScore) -> None:
    ahead = list(dict.fromkeys(row["ahead"] for row in found.rows))
    by_observed: dict[float, list[str]] = {}
    for row in found.rows:
        by_observed.setdefault(row["observed"], []).append(f"{row['mean_over_classes']:.1f}")
    print_table(
        "mean over classes of the frames that are right, percent",
        ["observed", *(f"next {share:.0%}" for share in ahead)],
        [[f"{observed:.0%}", *figures] for observed, figures in by_observed.items()],
    )
    say(f"{found.n} videos; of {found.left_out} no frame was observed")
