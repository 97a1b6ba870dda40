"""`antcache store info`: what a store holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from antcache.cli.command import UNCHANGED, command
from antcache.cli.common import json_option, print_json, print_table, say, store_argument


@command(
    example="antcache store info kitchen.zarr",
    then="`antcache store doctor` tells whether what is there serves your windows.",
    goes_on=UNCHANGED,
)
@store_argument("path")
@json_option
def info(path: Path | str, as_json: bool) -> None:
    """Print what STORE holds: labels, feature streams and soft targets."""
    from antcache.store import Store
    from antcache.store.integrity.info import describe

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
