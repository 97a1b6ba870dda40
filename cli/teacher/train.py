"""`antcache teacher train | predict`: teachers from the labels of a store; soft targets into it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from antcache.cli.choices import HISTORIES, TEACHERS
from antcache.cli.command import START_AGAIN, TRAINED_ONCE, command, section
from antcache.cli.common import (
    json_option,
    log_to,
    path_argument,
    print_json,
    progress_bars,
    say,
    store_argument,
)
from antcache.cli.numbers import AMOUNT, COUNT
from antcache.cli.options import (
    anchor_option,
    device_option,
    gap_option,
    name_option,
    output_option,
    overwrite_option,
    scripts_option,
    seed_option,
    top_k_option,
    train_split_option,
)
from antcache.cli.teacher.figures import facts_of, print_figures

if TYPE_CHECKING:
    from antcache.store import SoftTargets, Store
    from antcache.store.location import Location


def target_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Options of every command that asks a teacher for soft targets."""
    features = click.option(
        "--features", is_flag=True, help="Keep the teacher's last state (language)."
    )
    of_targets = section("Soft targets", name_option, top_k_option, features, overwrite_option)
    decorated: Callable[..., Any] = of_targets(json_option(function))
    return decorated


@command(
    example="antcache teacher train kitchen.zarr --name sequence --kind sequence",
    then="`antcache teacher score` tells what it is worth, `antcache student train` distils from "
    "it (--targets).",
    goes_on=TRAINED_ONCE,
)
@store_argument("store_path")
@section(
    "Teacher",
    click.option("--kind", type=TEACHERS, default="count", help="What it is made of."),
    click.option(
        "--model",
        help="Language model: hub id or folder, such as an adapted one (language, prompted).",
    ),
    click.option(
        "--set",
        "words",
        multiple=True,
        metavar="NAME=VALUE",
        help="Any setting of the kind, e.g. attended=10; repeatable.",
    ),
    output_option("Folder of the teacher.", shown="STORE.teachers/NAME"),
)
@section(
    "What it is told",
    click.option(
        "--history",
        type=HISTORIES,
        default="complete",
        help="What the teacher is told of the past.",
    ),
    gap_option,
    anchor_option,
    scripts_option,
)
@section(
    "Training",
    train_split_option,
    click.option(
        "--folds",
        type=AMOUNT,
        metavar="K",
        show_default="what was measured to be better, 5 for count, 0 for sequence",
        help="Cross-fit the targets of the training split on K folds of videos; 0: in-sample.",
    ),
    click.option("--epochs", type=COUNT, help="Passes over the examples (sequence, language)."),
    seed_option(None),
    device_option,
)
@target_options
def train(
    store_path: Location,
    kind: str,
    history: str,
    gap_s: float | None,
    anchor: float | None,
    folds: int | None,
    train_split: str,
    scripts: Path | None,
    seed: int | None,
    epochs: int | None,
    model: str | None,
    words: tuple[str, ...],
    output: Path | None,
    name: str,
    device: str,
    top_k: int | None,
    features: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Train a teacher on the labels in STORE; keep it, and write soft targets for every segment.

    Observed histories end --gap seconds before the action, or before its --anchor.
    """
    from antcache.store import Store

    store = Store.open(store_path)
    from antcache.store.location import beside
    from antcache.teacher.base import parse_settings
    from antcache.teacher.keeping import teacher_folder
    from antcache.teacher.scripts import read_scripts
    from antcache.teacher.targets import TargetConfig
    from antcache.teacher.teach import history_for, teach

    own = {"seed": seed, "epochs": epochs, "model": model}
    config = TargetConfig(
        kind=kind,
        settings=parse_settings(kind, words)
        | {name: value for name, value in own.items() if value is not None},
        history=history_for(store, history, gap_s, anchor),
        folds=folds,
        train_split=train_split,
        features=features,
    )
    text = None if scripts is None else read_scripts(scripts, store.taxonomy)
    folder = output or teacher_folder(store, name)
    started = time.perf_counter()
    with log_to(beside(store.path, ".log")), progress_bars() as progress:
        targets = teach(
            store,
            name,
            config,
            folder,
            scripts=text,
            top_k=top_k,
            device=device,
            overwrite=overwrite,
            progress=progress,
        )
    report(store, name, targets, folder, time.perf_counter() - started, as_json=as_json)


@command(
    example="antcache teacher predict kitchen.zarr kitchen.zarr.teachers/sequence --name again",
    then="`antcache teacher score` tells what they are worth, `antcache student train` distils "
    "from them.",
    goes_on=START_AGAIN,
)
@store_argument("store_path")
@path_argument("folder", metavar="TEACHER")
@device_option
@target_options
def predict(
    store_path: Location,
    folder: Path,
    name: str,
    device: str,
    top_k: int | None,
    features: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Score every segment in STORE with the trained TEACHER (in-sample where it was trained)."""
    from antcache.store import Store

    store = Store.open(store_path)
    from antcache.store.location import beside
    from antcache.teacher.teach import apply_teacher

    started = time.perf_counter()
    with log_to(beside(store.path, ".log")):
        targets = apply_teacher(
            store,
            name,
            folder,
            top_k=top_k,
            features=features,
            device=device,
            overwrite=overwrite,
        )
    report(store, name, targets, folder, time.perf_counter() - started, as_json=as_json)


def report(
    store: Store, name: str, targets: SoftTargets, folder: Path, seconds: float, *, as_json: bool
) -> None:
    """Score the targets on every split, and print what was done."""
    facts = facts_of(store, name, targets, "teacher", folder, seconds)
    if as_json:
        print_json(facts)
        return
    how = f"{facts['folds']} folds" if facts["folds"] else "in-sample"
    title = f"targets/{name}: {facts['kind']}, {facts['history']} history, training split {how}"
    print_figures(title, facts)
    say(f"teacher {facts['teacher']}, {facts['seconds']:.1f} s")
