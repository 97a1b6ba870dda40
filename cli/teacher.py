"""`antcache teacher`: train teachers on the labels of a store; write soft targets into it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from antcache.annotations import protocol_for
from antcache.cli.common import (
    json_option,
    log_to,
    path_argument,
    print_json,
    print_table,
    progress_bars,
)
from antcache.errors import AlreadyExists, BadConfig
from antcache.evaluation.scoring import score_targets
from antcache.store import SoftTargets, Store
from antcache.teacher.base import check_output, load_teacher, save_teacher
from antcache.teacher.histories import HistoryConfig, Timeline
from antcache.teacher.scripts import read_scripts
from antcache.teacher.targets import TargetConfig, make_targets, score_segments

SHOWN = {
    "top-1": "action/top1",
    "top-5": "action/top5",
    "many-shot recall@5": "action/many_shot_recall@5",
    "recall@5": "action/recall@5",
}


@click.group()
def teacher() -> None:
    """Train teachers on labels; write soft targets."""


def output_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options of every command that writes soft targets."""
    for option in (
        json_option,
        click.option("--overwrite", is_flag=True, help="Replace what is there."),
        click.option("--top-k", type=int, metavar="K", help="Keep the K best classes only."),
        click.option("--device", default="cpu", show_default=True, help="Torch device."),
        click.option("--name", required=True, help="Name of the soft targets in the store."),
    ):
        command = option(command)
    return command


@teacher.command()
@path_argument("store_path", metavar="STORE")
@click.option("--kind", default="count", show_default=True, help="count or sequence.")
@click.option(
    "--history", default="complete", show_default=True, help="complete, observed or gappy."
)
@click.option("--gap", type=float, help="Gap of observed histories in s; default: the dataset's.")
@click.option(
    "--folds",
    type=int,
    default=5,
    show_default=True,
    help="Cross-fit the targets of the training split on K folds of videos; 0: in-sample.",
)
@click.option("--train-split", default="train", show_default=True, help="Split to train on.")
@click.option(
    "--scripts", type=click.Path(path_type=Path), help="Text file of scripts to train on as well."
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--epochs", type=int, help="Passes over the examples (sequence).")
@click.option(
    "--output", type=click.Path(path_type=Path), help="Teacher folder; default: teachers/NAME."
)
@output_options
def train(
    store_path: Path,
    kind: str,
    history: str,
    gap: float | None,
    folds: int,
    train_split: str,
    scripts: Path | None,
    seed: int,
    epochs: int | None,
    output: Path | None,
    name: str,
    device: str,
    top_k: int | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Train a teacher on the labels in STORE; keep it, and write soft targets for every segment."""

    store = Store.open(store_path)
    taxonomy = store.taxonomy
    output = output or Path("teachers") / name
    check_output(output, overwrite=overwrite)
    check_targets(store, name, top_k, overwrite=overwrite)
    config = TargetConfig(
        kind=kind,
        settings={"seed": seed} | ({} if epochs is None else {"epochs": epochs}),
        history=HistoryConfig(
            mode=history,
            gap_s=protocol_for(taxonomy.dataset).gap_s if gap is None else gap,
        ),
        folds=folds,
        train_split=train_split,
    )
    text = None if scripts is None else read_scripts(scripts, taxonomy)
    timeline = Timeline.of({split: store.labels(split) for split in store.splits()}, taxonomy)
    started = time.perf_counter()
    with log_to(log_path(store)), progress_bars() as progress:
        trained, targets = make_targets(
            timeline, config, scripts=text, device=device, progress=progress
        )
        save_teacher(trained, config.history, output, overwrite=overwrite)
    seconds = time.perf_counter() - started
    report(store, name, targets, top_k, overwrite, as_json, teacher=str(output), seconds=seconds)


@teacher.command()
@path_argument("store_path", metavar="STORE")
@path_argument("folder", metavar="TEACHER")
@output_options
def predict(
    store_path: Path,
    folder: Path,
    name: str,
    device: str,
    top_k: int | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Score every segment in STORE with the trained TEACHER (in-sample where it was trained)."""

    store = Store.open(store_path)
    check_targets(store, name, top_k, overwrite=overwrite)
    trained, history = load_teacher(folder, store.taxonomy, device=device)
    timeline = Timeline.of({split: store.labels(split) for split in store.splits()}, store.taxonomy)
    started = time.perf_counter()
    with log_to(log_path(store)):
        targets = score_segments(timeline, trained, history)
    seconds = time.perf_counter() - started
    report(store, name, targets, top_k, overwrite, as_json, teacher=str(folder), seconds=seconds)


def log_path(store: Store) -> Path:
    """The log beside a store."""
    return store.path.with_name(store.path.name + ".log")


def check_targets(store: Store, name: str, top_k: int | None, *, overwrite: bool) -> None:
    """Refuse before the work what would be refused after it."""

    classes = len(store.taxonomy.actions)
    if top_k is not None and not 1 <= top_k <= classes:
        raise BadConfig("impossible top-k", expected=f"1 to {classes}", found=top_k)
    if name in store.target_names() and not overwrite:
        raise AlreadyExists(
            "soft targets of this name are already there",
            where=f"{store.path}: targets/{name}",
            hint="choose another name, or --overwrite",
        )


def report(
    store: Store,
    name: str,
    targets: SoftTargets,
    top_k: int | None,
    overwrite: bool,
    as_json: bool,
    **facts: Any,
) -> None:
    """Write the targets into the store, score them on every split and print both."""

    kept = targets if top_k is None else targets.top_k(top_k)
    store.write_targets(name, kept, overwrite=overwrite)
    figures = {split: score_targets(store, name, split).scored for split in store.splits()}
    facts = {
        "targets": name,
        **facts,
        "segments": len(kept),
        "valid": int(kept.valid.sum()),
        **kept.attributes,
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
    click.echo(f"teacher {facts['teacher']}, {facts['seconds']:.1f} s")
