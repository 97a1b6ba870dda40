"""`antcache import`: features and predictions that others have made."""

from __future__ import annotations

import click


@click.group("import")
def import_() -> None:
    """Bring features and predictions that others have made into a store."""
