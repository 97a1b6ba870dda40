"""`antcache store index`: the videos of a stream in a bucket as one object."""

from __future__ import annotations

from pathlib import Path

from antcache.cli.command import SAME_COMMAND, command
from antcache.cli.common import json_option, print_json, say, store_argument
from antcache.cli.options import streams_option


@command(
    example="antcache store index s3://bucket/kitchen.zarr",
    then="`antcache store info` and others no longer list the bucket; who writes to a stream takes "
    "its index away, and `antcache extract` writes it again.",
    goes_on=SAME_COMMAND,
)
@store_argument()
@streams_option
@json_option
def index(store: Path | str, streams: tuple[str, ...], as_json: bool) -> None:
    """Keep the names of a stream's videos in one object, where STORE is in an S3 bucket.

    A list gives a thousand objects at a time, and a video is three or more. Earlier versions of
    antcache refuse a store with an index. Run it again after other tools have copied videos into
    the bucket, or deleted some.
    """
    from antcache.store import Store
    from antcache.store.integrity.indexes import write_indexes

    opened = Store.open(store)
    found = write_indexes(opened, streams or None)
    if as_json:
        print_json({"path": str(opened.path), "videos": found})
        return
    for name, count in found.items():
        say(f"features/{name}: {count} videos are in an index")
