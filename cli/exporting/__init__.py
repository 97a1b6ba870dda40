"""`antcache export`: features in the forms that others read."""

from __future__ import annotations

import click

from antcache.cli.lazy import LazyGroup

COMMANDS = {"lmdb": ("antcache.cli.exporting.lmdb", "A stream as RULSTM's and AVT's features.")}


@click.group(cls=LazyGroup, table=COMMANDS)
def export() -> None:
    """Write features in the forms that others read."""
