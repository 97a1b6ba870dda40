"""`antcache export`: features in the forms that others read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from antcache.cli.choices import ARRAY_FORMS, LAYOUTS
from antcache.cli.command import START_AGAIN, command
from antcache.cli.common import at_work, json_option, note, print_result, say, store_argument
from antcache.cli.lazy import LazyGroup
from antcache.cli.options import key_fps_option, one_stream_option, output_option

if TYPE_CHECKING:
    from antcache.interop.array_files.exporting import ArraysExportReport
    from antcache.interop.lmdb.exporting import LmdbExportReport

COMMANDS = {
    "arrays": (__name__, "A stream as one .npy, .npz, .pt or .mat a video."),
    "lmdb": (__name__, "A stream as RULSTM's and AVT's features."),
}


@click.group(cls=LazyGroup, table=COMMANDS)
def export() -> None:
    """Write features in the forms that others read."""


@command(
    example="antcache export arrays kitchen.zarr --stream rgb --output rgb --form npz",
    then="`antcache import arrays` reads it back, into another store say.",
    goes_on=START_AGAIN,
)
@store_argument()
@one_stream_option
@output_option("The new folder.")
@click.option("--form", type=ARRAY_FORMS, default="npy", help="Form of the files.")
@click.option(
    "--layout",
    type=LAYOUTS,
    default="rows-first",
    help="How arrays lie: (rows, dim) or (dim, rows).",
)
@json_option
def arrays(
    store: Path | str, stream: str, output: Path, form: str, layout: str, as_json: bool
) -> None:
    """Write a stream of STORE as a folder with one file per video, and the times of its rows."""
    from antcache.interop.array_files.exporting import export_arrays
    from antcache.store import Store

    source = Store.open(store)
    with at_work(store) as progress:
        report = export_arrays(source, stream, output, form=form, layout=layout, progress=progress)
    print_result(report, as_json, _print_arrays)


def _print_arrays(report: ArraysExportReport) -> None:
    say(
        f"{report.output}: {report.videos} videos of {report.stream}, {report.rows} rows, "
        f"{report.seconds:.1f} s"
    )
    note(f"antcache import arrays {report.output} STORE {report.options} brings them back")


@command(
    example="antcache export lmdb kitchen.zarr --stream rgb --output rgb-lmdb",
    then="`antcache import lmdb` reads it back, into another store say.",
    goes_on=START_AGAIN,
)
@store_argument()
@one_stream_option
@output_option("The new LMDB, a folder.")
@key_fps_option
@json_option
def lmdb(store: Path | str, stream: str, output: Path, key_fps: float, as_json: bool) -> None:
    """Write a stream of STORE as an LMDB with keys VIDEO_frame_0000000001.jpg."""
    from antcache.interop.lmdb.exporting import export_lmdb
    from antcache.store import Store

    source = Store.open(store)
    with at_work(store) as progress:
        report = export_lmdb(source, stream, output, key_fps=key_fps, progress=progress)
    print_result(report, as_json, _print)


def _print(report: LmdbExportReport) -> None:
    say(
        f"{report.output}: {report.videos} videos of {report.stream}, {report.rows} rows, "
        f"{report.seconds:.1f} s"
    )
    if report.moved:
        note(f"{report.moved} rows were not seen at a frame; the next frame shows them")
