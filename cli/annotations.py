"""`antcache annotations`: look into published or own annotations, and put them into a store.

The group is called `annotations`, so `from __future__ import annotations` has no place here.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from antcache.annotations import READERS, Dataset, match_videos, read_annotations
from antcache.cli.common import (
    json_option,
    path_argument,
    print_json,
    print_table,
    say,
    store_argument,
)
from antcache.cli.numbers import COUNT, FPS, SHARE
from antcache.store import Store
from antcache.store.backends import is_empty
from antcache.store.location import Location

SETS = "\n".join(f"  {name:<27}{reader.about}" for name, reader in READERS.items())
EPILOG = f"\b\nSETS\n{SETS}"


def _reader_options(command: Callable[..., None]) -> Callable[..., None]:
    """The set, its folder, and what its reader can be told."""
    for decorate in (
        click.option("--name", help="table: name of the dataset.  [default: table]"),
        click.option("--fps", type=FPS, help="table: times are frames at this rate."),
        click.option(
            "--split-by-video",
            type=SHARE,
            metavar="SHARE",
            help="table, one file: this share of its videos is validation, the others train.",
        ),
        click.option("--split-number", type=COUNT, help="egtea: split 1, 2 or 3.  [default: 1]"),
        path_argument("folder", metavar="DIR"),
        click.argument("set_name", metavar="SET"),
    ):
        command = decorate(command)
    return command


@click.group()
def annotations() -> None:
    """Read published or own annotations."""


@annotations.command("summary", epilog=EPILOG)
@_reader_options
@json_option
def summary(set_name: str, folder: Path, as_json: bool, **options: Any) -> None:
    """Count what the annotations of SET in DIR contain, and what windows they give."""
    dataset = read_annotations(set_name, folder, **options)
    _print(match_videos(dataset) if set_name == "table" else dataset, as_json)


@annotations.command("import", epilog=EPILOG)
@_reader_options
@store_argument("store_path")
@click.option("--overwrite", is_flag=True, help="Replace labels that the store has.")
@json_option
def import_(
    set_name: str,
    folder: Path,
    store_path: Location,
    overwrite: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Put the labels and classes of SET in DIR into STORE, which is created if it is not there."""
    dataset = read_annotations(set_name, folder, **options)
    if set_name == "table":  # published ones have names of their own
        stored = () if is_empty(store_path) else Store.open(store_path).all_videos()
        dataset = match_videos(dataset, stored)
    store = Store.open_or_create(store_path)  # whose dataset it may be, is for `write_splits`
    store.write_splits(dataset.splits, dataset.taxonomy, source=dataset.source, overwrite=overwrite)
    _print(dataset, as_json)


def _print(dataset: Dataset, as_json: bool) -> None:
    counts = dataset.summary()
    if as_json:
        print_json(counts)
        return
    splits = counts["splits"]
    print_table(
        f"{dataset.name}: {counts['actions']} actions, {counts['verbs']} verbs, "
        f"{counts['nouns']} nouns ({dataset.source})",
        ["", *splits],
        [
            [
                row.replace("_", " "),
                *("-" if splits[s][row] is None else splits[s][row] for s in splits),
            ]
            for row in next(iter(splits.values()))
        ],
    )
    for warning in dataset.warnings:
        say(f"note: {warning}", err=True)
