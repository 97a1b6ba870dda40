"""`antcache export lmdb`: a stream in the form of RULSTM's and AVT's features."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from antcache.cli.common import (
    PATH,
    json_option,
    log_to,
    print_json,
    progress_bars,
    say,
    store_argument,
)
from antcache.cli.numbers import FPS

if TYPE_CHECKING:
    from antcache.store.location import Location


@click.command()
@store_argument()
@click.option("--stream", required=True, help="Which stream.")
@click.option("--output", required=True, type=PATH, help="The new LMDB, a folder.")
@click.option(
    "--fps-of-keys",
    "key_fps",
    type=FPS,
    default=30.0,
    show_default=True,
    help="Frames per second of keys.",
)
@json_option
def lmdb(store: Location, stream: str, output: Path, key_fps: float, as_json: bool) -> None:
    """Write a stream of STORE as an LMDB with keys VIDEO_frame_0000000001.jpg."""
    from antcache.interop.lmdb.exporting import export_lmdb
    from antcache.store import Store
    from antcache.store.location import beside

    source = Store.open(store)
    with log_to(beside(store, ".log")), progress_bars() as progress:
        report = export_lmdb(source, stream, output, key_fps=key_fps, progress=progress)
    if as_json:
        print_json(report.to_dict())
        return
    say(f"{output}: {report.videos} videos of {stream}, {report.rows} rows, {report.seconds:.1f} s")
    if report.moved:
        say(
            f"note: {report.moved} rows were not seen at a frame; the next frame shows them",
            err=True,
        )
