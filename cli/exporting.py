"""`antcache export`: features in the forms that others read."""

from __future__ import annotations

import click


@click.group()
def export() -> None:
    """Write features in the forms that others read."""
