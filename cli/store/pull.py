"""`antcache store pull`: a stream from a hub into a store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from antcache.cli.command import SAME_COMMAND, command
from antcache.cli.common import at_work, json_option, print_result, say, store_argument
from antcache.cli.options import one_stream_option, revision_option

if TYPE_CHECKING:
    from antcache.interop.hub.pulling import PullReport
    from antcache.store.location import Location


@command(
    example="antcache store pull kitchen/features kitchen.zarr --stream rgb",
    then="`antcache annotations import` adds labels, `antcache store doctor` tells whether the "
    "rows serve them.",
    goes_on=SAME_COMMAND,
)
@click.argument("repo", metavar="OWNER/NAME")
@store_argument("store_path")
@one_stream_option
@revision_option
@json_option
def pull(repo: str, store_path: Location, stream: str, revision: str | None, as_json: bool) -> None:
    """Pull a stream of the dataset OWNER/NAME of the hub into STORE: the videos that it lacks.

    Every video is compared with its checksums before it is published. STORE is created if it is
    not there. The hub is HF_ENDPOINT's.
    """
    from antcache.interop.hub.pulling import pull_stream

    with at_work(store_path) as progress:
        report = pull_stream(repo, store_path, stream, revision=revision, progress=progress)
    print_result(report, as_json, _print)


def _print(report: PullReport) -> None:
    say(
        f"{report.target}: {len(report.written)} videos of {report.stream} pulled "
        f"({report.num_bytes / 1e6:.1f} MB), {len(report.skipped)} already there"
    )
