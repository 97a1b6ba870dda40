"""`antcache student train`: train a student from a store."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from antcache.annotations import protocol_for
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
from antcache.cli.numbers import COUNT, GAP, PART, POSITIVE, SEED, WEIGHT, Number
from antcache.errors import BadConfig
from antcache.progress import Progress, silent
from antcache.store import Store
from antcache.store.location import Location
from antcache.student.config import StudentConfig
from antcache.student.presets import PRESETS, find_preset

if TYPE_CHECKING:
    from antcache.student.train import RunResult

# Settings of `StudentConfig` as options, in the order of the help text.
SETTINGS: tuple[tuple[str, Any, str], ...] = (
    ("targets", str, "Soft targets NAME[,NAME...]; without them the student learns from labels."),
    ("target-weights", str, "Several targets: numbers, attention, or an ensemble's joint targets."),
    ("weight", WEIGHT, "Weight of the distillation term."),
    ("temperature", POSITIVE, "Temperature of the distillation term."),
    ("top-k", COUNT, "Distil within the teacher's K best classes."),
    ("tail", bool, "Count the classes outside the K best as one more outcome."),
    ("align", str, "Bring the student's state to the teacher's feature: none, cosine or mse."),
    ("align-weight", WEIGHT, "Weight of that alignment."),
    ("head", str, "light, avth, rulstm, gru or mean."),
    ("layers", Number(int, 1, 100), "Blocks of the head."),
    ("heads", Number(int, 1, 1024), "Attention heads of a block."),
    ("width", Number(int, 1, 1 << 16), "Width of the blocks."),
    ("dropout", PART, "Dropout before the classifier."),
    ("stream", str, "Feature stream NAME[,NAME...], if the store has several."),
    ("fusion", str, "Several streams: concat, late or attention."),
    ("verb-noun-weight", WEIGHT, "Weight of own verb and noun classifiers."),
    ("feature-weight", WEIGHT, "Weight of the feature regression."),
    ("past-weight", WEIGHT, "Weight of the classification of past frames."),
    ("label-smoothing", PART, "Share of the label spread over all classes."),
    (
        "logit-adjustment",
        WEIGHT,
        "Favour rare actions in predictions: 0 for top-1, up to 1 for class-mean metrics.",
    ),
    ("optimiser", str, "adamw, adam or sgd."),
    ("lr", POSITIVE, "Highest learning rate."),
    ("weight-decay", WEIGHT, "Weight decay."),
    ("warmup-epochs", WEIGHT, "Epochs of linear warm-up; a cosine follows."),
    ("epochs", COUNT, "Passes over the training windows."),
    ("batch-size", COUNT, "Windows per step."),
    ("grad-clip", POSITIVE, "Largest norm of the gradient."),
    ("ema", PART, "Decay per step of a moving average of the weights; 0 keeps none."),
    ("held-out", PART, "Share of the training videos held out, to select the best epoch by."),
    ("patience", COUNT, "Stop after this many epochs without a better one on them."),
    ("metric", str, "Metric by which epochs are compared."),
    ("seed", SEED, "Determines initial weights, order and dropout."),
    ("device", str, "auto, cpu, cuda or cuda:N."),
    ("precision", str, "auto, float32 or bfloat16."),
    ("compile", str, "torch.compile with CUDA graphs: auto (on CUDA), off or on."),
    ("windows", str, "pack (on the device), stream (read per batch), or auto (pack if they fit)."),
    ("evaluate-every", COUNT, "Epochs between scorings of the validation split."),
    ("checkpoint-every", COUNT, "Epochs between checkpoints."),
    ("train-split", str, "Split that is trained on."),
    ("validation-split", str, "Split that is scored."),
    ("allow-missing", bool, "Leave segments out whose features are missing."),
    ("allow-missing-targets", bool, "Mask training segments that the soft targets lack."),
)
WINDOWS: tuple[tuple[str, Any, str], ...] = (
    ("gap-s", GAP, "Seconds between window and action [default: the dataset's, as below]."),
    ("num-frames", Number(int, 1, 10_000), "Frames in a window."),
    ("rate", Number(float, 0.001, 30), "Frames per second in a window."),
    ("parity", str, "exact, or avt (official times) or rulstm (its CSVs): that code's own."),
)
DISTILLATION = (
    "target_weights",
    "weight",
    "temperature",
    "top_k",
    "tail",
    "align",
    "align_weight",
    "allow_missing_targets",
)


def _settings(function: Callable[..., None]) -> Callable[..., None]:
    """An option for each setting; what is not given is None."""
    for name, kind, text in reversed(SETTINGS + WINDOWS):
        how = {"is_flag": True, "flag_value": True} if kind is bool else {"type": kind}
        standard = getattr(StudentConfig, name.replace("-", "_"), None)
        if standard is not None and kind is not bool:
            text = f"{text[:-1]} [default: {standard}]."
        flag = f"--{name.removesuffix('-s')}"  # as `--gap` is called everywhere
        option = click.option(flag, name.replace("-", "_"), default=None, help=text, **how)
        function = option(function)
    return function


@command(
    example="antcache student train kitchen.zarr --run runs/distilled --targets sequence",
    then="`antcache evaluate` scores the run, `antcache compare` tells what it gains over another, "
    "`antcache student predict` predicts other segments.",
    goes_on="`antcache student train STORE --run RUN --resume` goes on after the last epoch kept.",
)
@store_argument("store_path")
@click.option("--run", "run_dir", type=PATH, required=True, help="Folder of the run.")
@click.option("--preset", help=f"Published settings: {', '.join(PRESETS)}.")
@click.option("--resume", is_flag=True, help="Go on with the run, with its own settings.")
@_settings
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
    from antcache.student.distributed import processes
    from antcache.student.runs import LOG, RunFolder
    from antcache.student.train import train as train_student

    store = Store.open(store_path)
    RunFolder.locate(run_dir, resume=resume)
    given = {name: value for name, value in settings.items() if value is not None}
    config = _config(store, run_dir, preset, resume, given)
    group = processes(config.device)
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
    store: Store, run_dir: Path, preset: str | None, resume: bool, given: dict[str, Any]
) -> StudentConfig:
    """The given settings over those of the run, of the preset, or the defaults."""
    from antcache.student.runs import read_config

    if resume:
        if preset is not None:
            raise BadConfig("--preset has no effect on a run that is resumed")
        base = read_config(run_dir)
    else:
        base = StudentConfig() if preset is None else find_preset(preset)
    window = {
        option: given.pop(option)
        for name, _, _ in WINDOWS
        if (option := name.replace("-", "_")) in given
    }
    if window:
        own = base.protocol or protocol_for(store.dataset or "")
        given["protocol"] = replace(own, **window)
    config = replace(base, **given)
    idle = [name for name in DISTILLATION if name in given and config.targets is None]
    if idle:
        raise BadConfig(
            f"--{idle[0].replace('_', '-')} has no effect without soft targets",
            hint="name them: --targets NAME",
        )
    return config


def _print(result: RunResult) -> None:
    """Print what was trained on, what was passed over, and the final figures."""
    config = result.config
    if result.resumed_epoch == len(result.history):
        say(f"{result.run_dir}: already finished; nothing was trained")
    elif result.resumed_epoch:
        say(f"{result.run_dir}: resumed after epoch {result.resumed_epoch}")
    for split in dict.fromkeys((config.train_split, config.validation_split)):
        counts, reasons = result.counts[split], result.dropped[split]
        dropped = ", ".join(f"{len(uids)} {why.replace('_', ' ')}" for why, uids in reasons.items())
        say(
            f"{split}: {counts['windows']} windows ({counts['padded']} padded); "
            f"dropped: {dropped or 'none'}"
        )
    if config.targets is not None:
        counts = result.counts["targets"]
        say(
            f"soft targets {config.targets}: {counts['found']} windows; masked: "
            f"{counts['absent']} absent, {counts['not_valid']} not valid"
        )
    print_table(
        f"{config.head}, {result.num_parameters:,} parameters, epoch {result.epoch}: "
        f"{config.validation_split}, percent",
        ["metric", "value"],
        [[name, value] for name, value in result.metrics.items()],
    )
