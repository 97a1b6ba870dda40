"""`antcache teacher train | predict`: teachers from the labels of a store; soft targets into it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from antcache.cli.common import (
    PATH,
    json_option,
    log_to,
    path_argument,
    print_json,
    print_table,
    progress_bars,
    say,
    store_argument,
)
from antcache.cli.numbers import AMOUNT, COUNT, GAP, SEED
from antcache.evaluation.scoring import score_targets
from antcache.store import SoftTargets, Store
from antcache.store.location import Location, beside
from antcache.teacher.base import parse_settings
from antcache.teacher.keeping import teacher_folder
from antcache.teacher.scripts import read_scripts
from antcache.teacher.targets import TargetConfig
from antcache.teacher.teach import apply_teacher, history_for, teach

SHOWN = {
    "top-1": "action/top1",
    "top-5": "action/top5",
    "many-shot recall@5": "action/many_shot_recall@5",
    "recall@5": "action/recall@5",
}


def output_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options of every command that writes soft targets."""
    for option in (
        json_option,
        click.option("--overwrite", is_flag=True, help="Replace what is there."),
        click.option("--top-k", type=COUNT, metavar="K", help="Keep the K best classes only."),
        click.option("--features", is_flag=True, help="Keep the teacher's last state (language)."),
        click.option("--device", default="cpu", show_default=True, help="Torch device."),
        click.option("--name", required=True, help="Name of the soft targets in the store."),
    ):
        command = option(command)
    return command


@click.command()
@store_argument("store_path")
@click.option("--kind", default="count", show_default=True, help="count, sequence or language.")
@click.option(
    "--history", default="complete", show_default=True, help="complete, observed or gappy."
)
@click.option("--gap", type=GAP, help="Gap of observed histories in s; default: the dataset's.")
@click.option(
    "--folds",
    type=AMOUNT,
    metavar="K",
    help="Cross-fit the targets of the training split on K folds of videos; 0: in-sample. "
    "[default: what was measured to be better, 5 for count, 0 for sequence]",
)
@click.option("--train-split", default="train", show_default=True, help="Split to train on.")
@click.option("--scripts", type=PATH, help="Text file of scripts to train on as well.")
@click.option("--seed", type=SEED, help="Decides all that is random.  [default: 0]")
@click.option("--epochs", type=COUNT, help="Passes over the examples (sequence, language).")
@click.option(
    "--model", help="Language model: hub id or folder, such as an adapted one (language)."
)
@click.option(
    "--set",
    "words",
    multiple=True,
    metavar="NAME=VALUE",
    help="Any setting of the kind, e.g. attended=10; may be given again.",
)
@click.option(
    "--output",
    type=PATH,
    help="Teacher folder; default: STORE.teachers/NAME.",
)
@output_options
def train(
    store_path: Location,
    kind: str,
    history: str,
    gap: float | None,
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
    """Train a teacher on the labels in STORE; keep it, and write soft targets for every segment."""
    store = Store.open(store_path)
    own = {"seed": seed, "epochs": epochs, "model": model}
    config = TargetConfig(
        kind=kind,
        settings=parse_settings(kind, words)
        | {name: value for name, value in own.items() if value is not None},
        history=history_for(store, history, gap),
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


@click.command()
@store_argument("store_path")
@path_argument("folder", metavar="TEACHER")
@output_options
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
    store = Store.open(store_path)
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
    figures = {split: score_targets(store, name, split).scored for split in store.splits()}
    facts: dict[str, Any] = {
        "targets": name,
        "teacher": str(folder),
        "seconds": seconds,
        "segments": len(targets),
        "valid": int(targets.valid.sum()),
        **targets.attributes,
        "metrics": figures,
    }
    if as_json:
        print_json(facts)
        return
    rows = [
        [split, *(values.get(key, "-") for key in SHOWN.values()), values["n"]]
        for split, values in figures.items()
    ]
    how = f"{facts['folds']} folds" if facts["folds"] else "in-sample"
    title = f"targets/{name}: {facts['kind']}, {facts['history']} history, training split {how}"
    print_table(title, ["percent", *SHOWN, "segments"], rows)
    say(f"teacher {facts['teacher']}, {facts['seconds']:.1f} s")
