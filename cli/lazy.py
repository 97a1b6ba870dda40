"""Groups of commands that are imported when they are called: help and other commands stay fast."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import click

CALLED = "antcache.called"
"""Where a context's `meta` has the command that is called."""


class LazyGroup(click.Group):
    """A group from a table: the name of each command to its module and its line of help.

    The module's command bears the command's name, with an underscore behind a Python keyword.
    """

    def __init__(
        self, *args: Any, table: Mapping[str, tuple[str, str]] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.table = dict(table or {})

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order a new user meets them."""
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's file."""
        if cmd_name not in self.table:
            return None
        module = importlib.import_module(self.table[cmd_name][0])
        found = next(n for n in (cmd_name, f"{cmd_name}_") if hasattr(module, n))
        command = getattr(module, found)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's; the command that is called is remembered, for what is said of its options."""
        found = super().resolve_command(ctx, args)
        ctx.meta[CALLED] = found[1]
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands from the table, importing none."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self.table.items()])
