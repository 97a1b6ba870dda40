"""Every command, found by walking the groups."""

from __future__ import annotations

from collections.abc import Iterator

import click


def walk(
    group: click.Group, words: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """The words of every command, and the command."""
    for name in group.list_commands(click.Context(group)):
        found = group.get_command(click.Context(group), name)
        assert found is not None
        if isinstance(found, click.Group):
            yield from walk(found, (*words, name))
        else:
            yield (*words, name), found
