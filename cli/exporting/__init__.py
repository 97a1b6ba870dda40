"""`antcache export`: features in the forms that others read."""

from __future__ import annotations

import click

from antcache.cli.exporting.lmdb import lmdb


@click.group()
def export() -> None:
    """Write features in the forms that others read."""


export.add_command(lmdb)
