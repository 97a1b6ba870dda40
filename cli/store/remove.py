"""`antcache store remove`: labels, features or soft targets out of a store, for good."""

from __future__ import annotations

from pathlib import Path

import click

from antcache.cli.command import command
from antcache.cli.common import json_option, print_json, say, store_argument


@command(
    example="antcache store remove kitchen.zarr targets/sequence",
    then="`antcache store info` lists what is left.",
    goes_on="`antcache store info` lists what is left; give the same command the keys that are.",
)
@store_argument("path")
@click.argument("keys", nargs=-1, required=True, metavar="KEY...")
@json_option
def remove(path: Path | str, keys: tuple[str, ...], as_json: bool) -> None:
    """Remove labels/SPLIT, targets/NAME, features/STREAM/VIDEO or all of features/STREAM from
    STORE, for good."""
    from antcache.store import Store

    Store.open(path).remove(*keys)
    if as_json:
        print_json({"path": str(path), "removed": list(keys)})
        return
    for key in keys:
        say(f"removed {key}")
