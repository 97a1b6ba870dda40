"""`antcache store push`: a stream of a store onto a hub."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from antcache.cli.command import SAME_COMMAND, command
from antcache.cli.common import json_option, print_result, progress_bars, say, store_argument
from antcache.cli.options import one_stream_option, private_option

if TYPE_CHECKING:
    from antcache.interop.hub.pushing import PushReport
    from antcache.store.location import Location


@command(
    example="antcache store push kitchen.zarr kitchen/features --stream rgb",
    then="`antcache store pull` brings it into another store.",
    goes_on=SAME_COMMAND,
)
@store_argument("store_path")
@click.argument("repo", metavar="OWNER/NAME")
@one_stream_option
@private_option
@json_option
def push(store_path: Location, repo: str, stream: str, private: bool, as_json: bool) -> None:
    """Push a stream of STORE into the dataset OWNER/NAME of the hub: the videos that it lacks.

    Every video is compared with its checksums first. Labels and soft targets stay here. The hub is
    HF_ENDPOINT's, the token that of hf auth login or HF_TOKEN.
    """
    from antcache.store import Store

    store = Store.open(store_path)
    from antcache.interop.hub.pushing import push_stream

    with progress_bars() as progress:
        report = push_stream(store, repo, stream, private=private, progress=progress)
    print_result(report, as_json, _print)


def _print(report: PushReport) -> None:
    say(
        f"{report.repo}: {len(report.written)} videos of {report.stream} pushed "
        f"({report.num_bytes / 1e6:.1f} MB), {len(report.skipped)} already there"
    )
