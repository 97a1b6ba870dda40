"""`antcache student train`: train a student from a store."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from antcache.cli.command import command
from antcache.cli.common import (
    PATH,
    json_option,
    log_to,
    print_json,
    print_table,
    progress_bars,
    say,
    store_argument,
)
from antcache.cli.settings import setting_options
from antcache.errors import BadConfig
from antcache.progress import Progress, silent
from antcache.settings import settings_of
from antcache.store import Store
from antcache.store.location import Location
from antcache.student.config import StudentConfig
from antcache.student.presets import PRESETS, find_preset
from antcache.student.runs.place import LOG, check_place, read_config

if TYPE_CHECKING:
    from antcache.student.runs.train import RunResult


@command(
    example="antcache student train kitchen.zarr --run runs/distilled --targets sequence",
    then="`antcache evaluate` scores the run, `antcache compare` tells what it gains over another, "
    "`antcache student predict` predicts other segments.",
    goes_on="`antcache student train STORE --run RUN --resume` goes on after the last epoch "
    "kept, or begins again if none was; if it finds no run yet, give the same command again.",
)
@store_argument("store_path")
@click.option("--run", "run_dir", type=PATH, required=True, help="Folder of the run.")
@click.option("--preset", help=f"Published settings: {', '.join(PRESETS)}.")
@click.option("--resume", is_flag=True, help="Go on with the run, with its own settings.")
@setting_options(StudentConfig)
@json_option
def train(
    store_path: Location,
    run_dir: Path,
    preset: str | None,
    resume: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Train a student on the labels and features in STORE, and score it on the validation split.

    The folder of the run keeps settings, checkpoint, metrics, predictions and log. The figures are
    those of the last epoch, or with --held-out of the best one on training videos that are not
    trained on: nothing is selected on the validation split. On several GPUs:

    torchrun --nproc-per-node N --no-python -- antcache student train STORE ...
    """
    train_run(store_path, run_dir, preset, resume=resume, as_json=as_json, settings=settings)


def train_run(
    store_path: Location,
    run_dir: Path,
    preset: str | None,
    *,
    resume: bool,
    as_json: bool,
    settings: Mapping[str, Any],
    asked: Callable[[StudentConfig], StudentConfig] = lambda config: config,
) -> None:
    """Train the student of a command, with what `asked` makes of its settings."""
    store = Store.open(store_path)
    check_place(run_dir, resume=resume)
    given = {name: value for name, value in settings.items() if value is not None}
    config = asked(_config(run_dir, preset, resume, given))
    from antcache.student.runs.train import train as train_student
    from antcache.student.training.distributed import processes

    group = processes(config.runtime.device)
    group.wait()  # nobody writes before all have looked
    with ExitStack() as shown:
        progress: Progress = silent
        if group.first:
            shown.enter_context(log_to(run_dir / LOG))
            progress = shown.enter_context(progress_bars())
        result = train_student(store, run_dir, config, resume=resume, progress=progress)
    if not group.first:
        return
    if as_json:
        print_json(result.to_dict())
    else:
        _print(result)


def _config(
    run_dir: Path, preset: str | None, resume: bool, given: dict[str, Any]
) -> StudentConfig:
    """The given settings over those of the run, of the preset, or the defaults."""
    if resume:
        if preset is not None:
            raise BadConfig("--preset has no effect on a run that is resumed")
        base = read_config(run_dir)
    else:
        base = StudentConfig() if preset is None else find_preset(preset)
    config = base.replace(**given)
    table = settings_of(StudentConfig)
    idle = [name for name in given if name != "targets" and table[name].group == "distillation"]
    if idle and not config.distillation.targets:
        raise BadConfig(
            f"`{idle[0]}` has no effect without soft targets", hint="name them: `targets` NAME"
        )
    return config


def _print(result: RunResult) -> None:
    """Print what was trained on, what was passed over, and the final figures."""
    config = result.config
    if result.resumed_epoch == len(result.history):
        say(f"{result.run_dir}: already finished; nothing was trained")
    elif result.resumed_epoch:
        say(f"{result.run_dir}: resumed after epoch {result.resumed_epoch}")
    for split, reasons in result.dropped.items():
        counts = result.counts[split]
        dropped = ", ".join(f"{len(uids)} {why.replace('_', ' ')}" for why, uids in reasons.items())
        of = f" of {counts['segments']} segments" if "segments" in counts else ""
        say(
            f"{split}: {counts['windows']} windows{of} ({counts['padded']} padded); "
            f"dropped: {dropped or 'none'}"
        )
    if taught := ",".join(config.distillation.targets):
        counts = result.counts["targets"]
        say(
            f"soft targets {taught}: {counts['found']} windows; masked: "
            f"{counts['absent']} absent, {counts['not_valid']} not valid"
        )
    print_table(
        f"{config.model.head}, {result.num_parameters:,} parameters, epoch {result.epoch}: "
        f"{config.data.validation_split}, {result.predictions.task.text}, percent",
        ["metric", "value"],
        [[name, value] for name, value in result.metrics.items()],
    )
