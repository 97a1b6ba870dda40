"""`antcache store`: look into a store; check, repair and convert it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from antcache.cli.common import json_option, path_argument, print_json, print_table
from antcache.store import Store


@click.group()
def store() -> None:
    """Look into a store; check, repair and convert it."""


@store.command()
@path_argument("path", metavar="STORE")
@json_option
def info(path: Path, as_json: bool) -> None:
    """Print what STORE holds: labels, feature streams and soft targets."""
    found = Store.open(path).info()
    if as_json:
        print_json(found)
        return
    kind = f"{found['backend']}, format {found['format']}"
    click.echo(f"{path}: {found['dataset'] or 'no dataset yet'} ({kind})")
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
