"""`antcache import`: features and predictions that others have made."""

from __future__ import annotations

import click

from antcache.cli.importing.lmdb import lmdb
from antcache.cli.importing.predictions import predictions


@click.group("import")
def import_() -> None:
    """Bring features and predictions that others have made into a store."""


import_.add_command(lmdb)
import_.add_command(predictions)
