"""`antcache annotations`: look into published or own annotations, and put them into a store.

The group is called `annotations`, so `from __future__ import annotations` has no place here.
"""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import click

from antcache.annotations import READERS, Dataset, match_videos, read_annotations
from antcache.annotations.protocols import WindowConfig
from antcache.cli.command import OPTIONS, SAME_COMMAND, UNCHANGED, command, section
from antcache.cli.common import (
    json_option,
    note,
    path_argument,
    print_json,
    print_table,
    store_argument,
)
from antcache.cli.lazy import LazyGroup
from antcache.cli.numbers import COUNT, SHARE
from antcache.cli.options import overwrite_option, repeatable, table_fps_option
from antcache.cli.settings import setting_options

COMMANDS = {
    "summary": (__name__, "Count what annotations contain, and what windows they give."),
    "import": (__name__, "Put labels and classes into a store."),
}

OWN = ("table", "frames")
"""Sets of anybody's videos, whose names are matched to those of a store."""
SETS = "\n".join(f"  {name:<27}{reader.about}" for name, reader in READERS.items())
EPILOG = f"\b\nSETS\n{SETS}"
dataset_name_option = click.option(
    "--name", show_default="the set's", help="Own tables and labels of frames: the dataset's name."
)
split_number_option = click.option(
    "--split-number",
    type=COUNT,
    show_default="egtea: 1; frames: all, as test1, test2, ...",
    help="Of egtea and frames: the published split.",
)


reader_options = section(
    OPTIONS,
    click.argument("set_name", metavar="SET"),
    path_argument("folder", metavar="DIR"),
    split_number_option,
    click.option(
        "--split-by-video",
        type=SHARE,
        metavar="SHARE",
        help="Own table of one file: this share of its videos is validation, the others train.",
    ),
    table_fps_option,
    click.option(
        "--split-list",
        metavar="NAME",
        show_default="recordings_data_split_normal.json",
        help="Of captaincook4d: the file with the splits.",
    ),
    click.option(
        "--view", metavar="NAME", show_default="all", help="Of assembly101: only of this camera."
    ),
    repeatable(
        "--background", text="Labels of frames that are no action; none: all are", shown="the set's"
    ),
    dataset_name_option,
)

window_options = section("Windows of the dataset, kept with it", setting_options(WindowConfig))


@click.group(cls=LazyGroup, table=COMMANDS)
def annotations() -> None:
    """Read published or own annotations."""


@command(
    epilog=EPILOG,
    example="antcache annotations summary epic-kitchens-55 annotations",
    then="`antcache annotations import` puts them into a store.",
    goes_on=UNCHANGED,
)
@reader_options
@window_options
@json_option
def summary(set_name: str, folder: Path, as_json: bool, **options: Any) -> None:
    """Count what the annotations of SET in DIR contain, and what windows they give."""
    dataset = _read(set_name, folder, options)
    _print(match_videos(dataset) if set_name in OWN else dataset, as_json)


@command(
    "import",
    epilog=EPILOG,
    example="antcache annotations import epic-kitchens-55 annotations kitchen.zarr",
    then="`antcache extract` or `antcache import lmdb` adds features, `antcache teacher train` "
    "soft targets.",
    goes_on=SAME_COMMAND,
)
@reader_options
@window_options
@store_argument("store_path")
@overwrite_option
@json_option
def import_(
    set_name: str,
    folder: Path,
    store_path: Path | str,
    overwrite: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Put the labels and classes of SET in DIR into STORE, which is created if it is not there.

    Labels that STORE has already are replaced with --overwrite only. Windows that are given are
    kept with them, and are then those of every command that is given no others.
    """
    from antcache.store import Store
    from antcache.store.backends import is_empty

    dataset = _read(set_name, folder, options)
    if set_name in OWN:
        stored = () if is_empty(store_path) else Store.open(store_path).all_videos()
        dataset = match_videos(dataset, stored)
    store = Store.open_or_create(store_path)  # whose dataset it may be, is for `write_splits`
    store.write_splits(
        dataset.splits,
        dataset.taxonomy,
        source=dataset.source,
        protocol=dataset.protocol,
        list_fps=dataset.fps,
        overwrite=overwrite,
    )
    _print(dataset, as_json)


def _read(set_name: str, folder: Path, options: dict[str, Any]) -> Dataset:
    """The annotations, with the windows that are given to be theirs."""
    names = [field.name for field in fields(WindowConfig)]
    given = {name: options.pop(name) for name in names}
    config = WindowConfig(**given)  # before any file is looked for
    dataset = read_annotations(set_name, folder, **options)
    if all(value is None for value in given.values()):
        return dataset
    return replace(dataset, protocol=config.over(dataset.windows))


def _print(dataset: Dataset, as_json: bool) -> None:
    counts = dataset.summary()
    if as_json:
        print_json(counts)
        return
    splits = counts["splits"]
    print_table(
        f"{dataset.name}: {dataset.taxonomy.counts} ({dataset.source})",
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
        note(warning)
