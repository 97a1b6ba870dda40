"""`antcache import`: features and predictions that others have made."""

from __future__ import annotations

import click

from antcache.cli.lazy import LazyGroup

COMMANDS = {
    "arrays": ("antcache.cli.importing.arrays", "Features in one .npy, .npz, .pt or .mat a video."),
    "lmdb": ("antcache.cli.importing.lmdb", "Features as RULSTM and AVT publish them."),
    "avt-checkpoint": ("antcache.cli.importing.avt", "The head of AVT's checkpoint."),
    "predictions": ("antcache.cli.importing.predictions", "A teacher's predictions."),
}


@click.group("import", cls=LazyGroup, table=COMMANDS)
def import_() -> None:
    """Bring features and predictions that others have made into a store."""
