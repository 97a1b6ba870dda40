"""Groups of commands that are imported when they are called: help and other commands stay fast.

Promise: a group's help and the completion of its commands import none of them, and a command that
is not there is answered with the nearest one that is.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

CALLED = "antcache.called"
"""Where a context's `meta` has the command that is called."""

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


class LazyGroup(click.Group):
    """A group from a table: the name of each command to its module and its line of help.

    The module's command bears the command's name, hyphens as underscores, with one behind a Python
    keyword.
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
        plain = cmd_name.replace("-", "_")
        found = next(n for n in (plain, f"{plain}_") if hasattr(module, n))
        command = getattr(module, found)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that is meant; for one that is not there the nearest is suggested. It is
        remembered, for what is said of its options."""
        name = args[0]
        if name in self.table or name.startswith("-") or ctx.resilient_parsing:
            found = super().resolve_command(ctx, args)
            ctx.meta[CALLED] = found[1]
            return found
        near = difflib.get_close_matches(name.lower(), self.table, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(self.table)}"
        raise click.UsageError(f"No such command {name!r}: {hint}", ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands from the table, importing none."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self.table.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Commands from the table, importing none, and options."""
        from click.shell_completion import CompletionItem

        return [
            *(
                CompletionItem(name, help=text)
                for name, (_, text) in self.table.items()
                if name.startswith(incomplete)
            ),
            *click.Command.shell_complete(self, ctx, incomplete),
        ]
