"""`antcache store`: look into a store; check, repair and convert it."""

from __future__ import annotations

import click

from antcache.cli.lazy import LazyGroup

COMMANDS = {
    "info": ("antcache.cli.store.info", "Labels, features and soft targets that a store holds."),
    "doctor": ("antcache.cli.store.doctor", "Tell whether a store can serve a protocol."),
    "index": ("antcache.cli.store.index", "Name the videos of a bucket in one object."),
    "verify": ("antcache.cli.store.check", "Read every byte; name what is not as it was written."),
    "repair": ("antcache.cli.store.check", "Drop or restore what is damaged."),
    "convert": ("antcache.cli.store.convert", "Copy a store into another form."),
    "push": ("antcache.cli.store.push", "Put a stream on a hub: what it lacks there."),
    "pull": ("antcache.cli.store.pull", "Bring a stream from a hub: what is missing here."),
    "remove": ("antcache.cli.store.remove", "Remove labels, features or soft targets."),
}


@click.group(cls=LazyGroup, table=COMMANDS)
def store() -> None:
    """Look into a store; check, repair and convert it."""
