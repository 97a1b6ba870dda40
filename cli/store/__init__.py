"""`antcache store`: look into a store; check, repair and convert it."""

from __future__ import annotations

from typing import Any

import click

from antcache.cli.common import json_option, print_json, print_table, say, store_argument
from antcache.cli.store.check import repair, verify
from antcache.cli.store.convert import convert
from antcache.cli.store.doctor import doctor
from antcache.store import Store
from antcache.store.integrity.info import describe
from antcache.store.location import Location


@click.group()
def store() -> None:
    """Look into a store; check, repair and convert it."""


store.add_command(verify)
store.add_command(repair)
store.add_command(convert)
store.add_command(doctor)


@store.command()
@store_argument("path")
@json_option
def info(path: Location, as_json: bool) -> None:
    """Print what STORE holds: labels, feature streams and soft targets."""
    found = describe(Store.open(path))
    if as_json:
        print_json(found)
        return
    kind = f"{found['backend']}, format {found['format']}"
    say(f"{path}: {found['dataset'] or 'no dataset yet'} ({kind})")
    if found["labels"]:
        rows: list[list[Any]] = [
            [n, s["segments"], s["videos"]] for n, s in found["labels"].items()
        ]
        print_table("Labels", ["split", "segments", "videos"], rows)
    if found["features"]:
        columns = ["videos", "labelled_videos_missing", "rows", "hours", "dim", "dtype", "fps"]
        rows = [
            [n, *(s[c] for c in columns), f"{s['bytes'] / 1e6:.1f}"]
            for n, s in found["features"].items()
        ]
        heads = ["stream", "videos", "missing", "rows", "hours", "dim", "dtype", "fps", "MB"]
        print_table("Features", heads, rows)
    if found["targets"]:
        columns = ["segments", "valid", "kind", "history", "folds", "form"]
        rows = [[n, *(t.get(c, "") for c in columns)] for n, t in found["targets"].items()]
        print_table("Soft targets", ["name", *columns], rows)


@store.command()
@store_argument("path")
@click.argument("keys", nargs=-1, required=True, metavar="KEY...")
@json_option
def remove(path: Location, keys: tuple[str, ...], as_json: bool) -> None:
    """Remove labels/SPLIT, targets/NAME or features/STREAM/VIDEO from STORE, for good."""
    Store.open(path).remove(*keys)
    if as_json:
        print_json({"path": str(path), "removed": list(keys)})
        return
    for key in keys:
        say(f"removed {key}")
