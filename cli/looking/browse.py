"""`antcache browse`: a store in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from antcache.cli.command import UNCHANGED, command
from antcache.cli.common import (
    PATH,
    json_option,
    print_json,
    progress_bars,
    say,
    store_argument,
    warn,
)
from antcache.cli.numbers import PORT
from antcache.cli.options import videos_option
from antcache.errors import BadConfig, needs

if TYPE_CHECKING:
    from antcache.store.location import Location


@command(
    example="antcache browse kitchen.zarr --videos videos --run runs/plain",
    then="`antcache report` compares runs; `antcache store doctor` says all that is missing.",
    goes_on=UNCHANGED,
)
@store_argument()
@videos_option
@click.option(
    "--run",
    "runs",
    type=PATH,
    multiple=True,
    help="Folder of a run, or a file of predictions; repeatable.",
)
@click.option("--export", "output", type=PATH, help="Write the page into this new folder instead.")
@click.option(
    "--host", show_default="127.0.0.1, for this machine alone", help="Address to listen on."
)
@click.option("--port", type=PORT, default=8410, help="TCP port; 0: any.")
@json_option
def browse(
    store: Location,
    videos: Location | None,
    runs: tuple[Path, ...],
    output: Path | None,
    host: str | None,
    port: int,
    as_json: bool,
) -> None:
    """Look at STORE in a browser: videos, labels, what was expected, and what is missing.

    The page is served until Ctrl-C, or written as files (--export).
    """
    if output is not None and host is not None:
        raise BadConfig("--host has no effect with --export, which serves nothing")
    if output is None:
        with needs("starlette", "serve"):
            import starlette  # noqa: F401  # before anything is read
            import uvicorn  # noqa: F401
    from antcache.browse.export import check_export, export_pages
    from antcache.browse.server import BrowseConfig, serve
    from antcache.browse.shelf import Shelf
    from antcache.store import Store

    if output is not None:
        check_export(output)
    shelf = Shelf(Store.open(store), runs=runs, videos=videos, single=output is None)
    for each in shelf.left_out:
        warn(each)
    if output is not None:
        with progress_bars() as progress:
            written = export_pages(shelf, output, progress=progress)
        if as_json:
            print_json({"export": str(output), "files": written})
        else:
            say(f"{output / 'index.html'}: {len(shelf.catalog.videos)} videos, {written} files")
        return

    def ready(address: str) -> None:
        if as_json:
            print_json({"address": address, "videos": len(shelf.catalog.videos)})
        else:
            say(f"{len(shelf.catalog.videos)} videos at {address} until Ctrl-C")

    serve(shelf, BrowseConfig(host=host, port=port), ready=ready)
