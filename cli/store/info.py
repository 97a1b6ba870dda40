"""`antcache store info`: what a store holds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from antcache.annotations.protocols import before
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
        heads = ["stream", "videos", "missing", "rows", "hours", "dim", "dtype", "fps"]
        tokens = any("grid" in stream for stream in found["features"].values())
        rows = [
            [
                *(name, *("" if stream[c] is None else stream[c] for c in columns)),
                *([_tokens(stream)] if tokens else []),
                f"{stream['bytes'] / 1e6:.1f}",
            ]
            for name, stream in found["features"].items()
        ]
        print_table("Features", [*heads, *(["tokens"] if tokens else []), "MB"], rows)
        for name, stream in found["features"].items():
            if stream.get("at"):
                say(f"{name}: rows where windows end, {_windows(stream['at'])}")
    if found["targets"]:
        columns = ["segments", "valid", "kind", "history", "folds", "form"]
        rows = [[n, *(t.get(c, "") for c in columns)] for n, t in found["targets"].items()]
        print_table("Soft targets", ["name", *columns], rows)


def _tokens(stream: Mapping[str, Any]) -> str:
    """Tokens of a row: the grid, and how many predicted futures come after it."""
    if "grid" not in stream:
        return ""
    futures = len(stream["future"])
    return "x".join(map(str, stream["grid"])) + (f" + {futures} ahead" if futures else "")


def _windows(at: Mapping[str, list[float]]) -> str:
    """Which windows these are."""
    gaps = ", ".join(f"{gap:g}" for gap in at["gaps"])
    anchors = " and ".join(before(anchor) for anchor in at["anchors"])
    return f"{gaps} s before {anchors}"
