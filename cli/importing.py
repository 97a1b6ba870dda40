"""`antcache import`: features and predictions that others have made."""

from __future__ import annotations

import click

from antcache.cli.import_lmdb import lmdb
from antcache.cli.import_predictions import predictions


@click.group("import")
def import_() -> None:
    """Bring features and predictions that others have made into a store."""


import_.add_command(lmdb)
import_.add_command(predictions)
