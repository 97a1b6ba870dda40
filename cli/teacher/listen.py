"""`antcache teacher listen`: a text teacher that hears what a student recognises."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from antcache.cli.command import START_AGAIN, command, section
from antcache.cli.common import (
    PATH,
    json_option,
    log_to,
    print_result,
    print_table,
    progress_bars,
    say,
    store_argument,
)
from antcache.cli.numbers import COUNT, POSITIVE
from antcache.cli.options import (
    device_option,
    every_option,
    mixture_option,
    output_option,
    overwrite_option,
    scripts_option,
    student_option,
)

if TYPE_CHECKING:
    from antcache.predict.listening.learning import Listened
    from antcache.store.location import Location

SHOWN = ("action/top1", "action/top5", "action/recall@5")


@command(
    example="antcache teacher listen kitchen.zarr --student next --recogniser now --teacher count "
    "-o ears",
    then="`antcache predict` takes the folder (--teacher), `antcache evaluate` scores it, "
    "`antcache compare` tells what it gains over the student.",
    goes_on=START_AGAIN,
)
@store_argument("store_path")
@section(
    "Who",
    student_option,
    click.option(
        "--recogniser",
        type=PATH,
        required=True,
        metavar="RUN",
        help="Folder of a run of antcache student recognise.",
    ),
    click.option(
        "--teacher",
        type=PATH,
        required=True,
        metavar="TEACHER",
        help="Folder of a teacher that antcache teacher train wrote.",
    ),
    scripts_option,
    output_option("Folder of the listening teacher."),
)
@section(
    "How",
    every_option("1"),
    click.option("--guesses", type=COUNT, default=50, help="Guesses of the past that are kept."),
    click.option(
        "--trust",
        type=POSITIVE,
        default=0.7,
        help="Power of what the recogniser says; 1 takes times for independent witnesses.",
    ),
    mixture_option,
    device_option,
)
@overwrite_option
@json_option
def listen(
    store_path: Location,
    student: Path,
    recogniser: Path,
    teacher: Path,
    scripts: Path | None,
    output: Path,
    every: float | None,
    guesses: int,
    trust: float,
    mixture: str,
    device: str,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Tell a teacher what a recogniser sees, and learn how much it counts beside the student.

    The teacher's past is guessed from what the recogniser says of the frames. Weights are learned
    on the training videos that both runs held out (--held-out), by a teacher that is trained anew
    without them (with --scripts, if it was trained on any). The folder holds all that `antcache
    predict --teacher` needs, and the predictions of both together on the validation split.
    """
    from antcache.store import Store

    store = Store.open(store_path)
    from antcache.devices import pick_device
    from antcache.predict.listening.hearing import ListenConfig
    from antcache.predict.listening.learning import listen as listen_to
    from antcache.store.location import beside
    from antcache.teacher.scripts import read_scripts

    config = ListenConfig(
        every_s=1.0 if every is None else every, guesses=guesses, trust=trust, mixture=mixture
    )
    text = None if scripts is None else read_scripts(scripts, store.taxonomy)
    with log_to(beside(store.path, ".log")), progress_bars() as progress:
        found = listen_to(
            store,
            student,
            recogniser,
            teacher,
            output,
            config=config,
            scripts=text,
            device=str(pick_device(device)),
            overwrite=overwrite,
            progress=progress,
        )
    print_result(found, as_json, _print)


def _print(found: Listened) -> None:
    metrics = [name for name in SHOWN if all(name in own for own in found.metrics.values())]
    weights = (*(f"{weight:.4f}" for weight in found.weights), "")
    print_table(
        f"{found.folder}: {len(found.predictions)} segments, {found.predictions.task.text}, "
        "percent",
        ["", "weight", f"NLL of {found.held_out} held out", *metrics],
        [
            [name, weight, f"{nll:.4f}", *(f"{own[metric]:.2f}" for metric in metrics)]
            for (name, own), weight, nll in zip(
                found.metrics.items(), weights, found.nll, strict=True
            )
        ],
    )
    say("the teacher's past is what was recognised; antcache predict --teacher takes the folder")
