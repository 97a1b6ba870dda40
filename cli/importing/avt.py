"""`antcache import avt-checkpoint`: the head of AVT's checkpoint as a student that predicts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from antcache.annotations.protocols import WindowConfig
from antcache.cli.command import START_AGAIN, command, section
from antcache.cli.common import json_option, note, path_argument, print_json, say
from antcache.cli.numbers import COUNT
from antcache.cli.options import from_store_option, license_option, streams_option
from antcache.cli.settings import setting_options
from antcache.student.handing.fetching import check_vacant

if TYPE_CHECKING:
    from antcache.store.location import Location


@command(
    "avt-checkpoint",
    example="antcache import avt-checkpoint checkpoint.pth runs/avt --store ek55.zarr --heads 8",
    then="`antcache student predict` asks it, `antcache evaluate` scores what it says.",
    goes_on=START_AGAIN,
)
@path_argument("file")
@path_argument("run")
@from_store_option
@click.option(
    "--heads",
    type=COUNT,
    metavar="N",
    required=True,
    help="Attention heads (n_head of AVT's config), which weights don't tell.",
)
@streams_option
@license_option
@section("Windows", setting_options(WindowConfig))
@json_option
def avt_checkpoint(
    file: Path,
    run: Path,
    store: Location,
    heads: int,
    streams: tuple[str, ...],
    license_: str,
    as_json: bool,
    **window: Any,
) -> None:
    """Bring the head of AVT's checkpoint.pth, FILE, into the new folder RUN, a student with AVT-h.

    Nothing of FILE is run. The classes are those of STORE, in the order of their ids; windows are
    those of its dataset, unless given.
    """
    check_vacant(run)
    from antcache.store import Store

    opened = Store.open(store)
    from antcache.interop.avt.checkpoint import read_checkpoint
    from antcache.interop.predictions.files import file_hash
    from antcache.student.config import StudentConfig
    from antcache.student.handing.bringing import bring_student

    found = read_checkpoint(file)
    config = StudentConfig.of(
        head="avth",
        layers=found.layers,
        heads=heads,
        width=found.width,
        dropout=0.8,
        stream=streams,
        verb_noun_weight=1.0 if "verb" in found.classes else 0.0,
        **{name: value for name, value in window.items() if value is not None},
    )
    epoch = "" if found.epoch is None else f", epoch {found.epoch:g}"
    report = bring_student(
        opened,
        run,
        config,
        found.tensors,
        where=file,
        origin=f"AVT's {file.name}{epoch}, {file_hash(file)}",
        classes=found.classes,
        dims=found.dim,
        license=license_,
    )
    if found.backbone:
        note("its backbone is left out: the stream's features have to be those of that backbone")
    if as_json:
        print_json({**report.to_dict(), "layers": found.layers, "width": found.width})
        return
    say(
        f"{run}: AVT-h, {found.layers} layers of {heads} heads, {found.width} wide, "
        f"{report.num_parameters:,} parameters"
    )
