"""What every command is like: help in sections, an example, what comes next, -v, -q and Ctrl-C.

Promise: the help of a command ends with an example, the commands that come next and how to go on
after Ctrl-C. The last is also the one line that an interrupted command ends with, with exit code
130. `-q` leaves results and errors; `-v` adds what the library logs. Nothing here loads more than
click.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import IO, Any

import click

from antcache.errors import BadConfig, interrupt_behind
from antcache.text import plain

OPTIONS, OUTPUT = "Options", "Output"
"""Sections of the help: of options in none of their own, and the one that comes last."""

UNCHANGED = "nothing was changed."
SAME_COMMAND = "the same command goes on where it was."
START_AGAIN = "what is unfinished is not kept; give the same command again."
TRAINED_ONCE = "give the same command again; what was trained to its end is not trained anew."

Decorator = Callable[[Any], Any]


class Interrupted(click.ClickException):
    """Ctrl-C in one line, which says how to go on; exit code 130, as shells have it."""

    exit_code = 130

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the line on stderr, on a terminal below the `^C`."""
        if sys.stderr.isatty():
            click.echo(err=True)
        click.echo(self.format_message(), file=file, err=True)


class Command(click.Command):
    """A command that says how it is used, what its options are unless given, and what then.

    Args:
        example: one or two command lines that work.
        then: what comes next, naming commands as `antcache NAME`.
        goes_on: what to do after Ctrl-C.
    """

    def __init__(
        self, *args: Any, example: str, then: str, goes_on: str, **attributes: Any
    ) -> None:
        super().__init__(*args, **attributes)
        self.example, self.then, self.goes_on = example, then, goes_on
        for option in self.params:
            if isinstance(option, click.Option) and option.show_default is None:
                option.show_default = True
        self.params += [
            _loudness("-v", "--verbose", "Say what the library logs, on stderr."),
            _loudness("-q", "--quiet", "Results and errors only: no progress, notes or warnings."),
        ]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the words.

        Raises:
            BadConfig: one is empty, as `"$UNSET"` is; a path of it would be the current folder.
        """
        given, _, _ = self.make_parser(ctx).parse_args(args=list(args))
        for param in self.params:
            if hasattr(param.type, "expected"):
                continue  # it says itself what it takes
            if _has_empty(given.get(param.name or "")):
                is_option = isinstance(param, click.Option)
                name = param.opts[0] if is_option else param.metavar or str(param.name).upper()
                expected = "a text that is not empty"
                hint = "leave it out for the default" if is_option and not param.required else ""
                raise BadConfig(f"impossible {name}", expected=expected, found="''", hint=hint)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; an interrupt says how to go on, whatever else fails because of it."""
        if quiet() and verbose():
            raise click.UsageError("--verbose and --quiet exclude each other", ctx)
        try:
            with heard(_said()) if verbose() else nullcontext():
                return super().invoke(ctx)
        except (KeyboardInterrupt, Exception) as error:
            if (stop := interrupt_behind(error)) is None:
                raise
            raise Interrupted(f"interrupted: {self.goes_on}") from stop

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options by section, those about output last."""
        sections: dict[str, list[tuple[str, str]]] = {}
        output = {"--json", "--help", "--quiet", "--verbose"}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if isinstance(param, click.Option) and record is not None:
                own = getattr(param, "section", OPTIONS)
                title = own if output.isdisjoint(param.opts) else OUTPUT
                sections.setdefault(title, []).append(record)
        for title, rows in sorted(sections.items(), key=lambda item: item[0] == OUTPUT):
            with formatter.section(title):
                formatter.write_dl(rows)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the epilog of the command's own, if it has one, the example and what then."""
        super().format_epilog(ctx, formatter)
        with formatter.section("Example"):  # to be copied: never folded
            for line in self.example.splitlines():
                formatter.write(f"{'':{formatter.current_indent}}{line}\n")
        for title, text in (("Next", self.then), ("After Ctrl-C", self.goes_on)):
            with formatter.section(title):
                formatter.write_text(text[0].upper() + text[1:])


def _has_empty(value: object) -> bool:
    """Whether an empty text is among what was given, at any depth."""
    if isinstance(value, list | tuple):
        return any(map(_has_empty, value))
    return value == ""


def command(
    name: str | None = None, *, example: str, then: str, goes_on: str, **attributes: Any
) -> Callable[[Callable[..., Any]], Command]:
    """Decorator: a `Command`, as `click.command` makes one."""
    about = {"example": example, "then": then, "goes_on": goes_on}
    return click.command(name, cls=Command, **about, **attributes)


def section(title: str, *options: Decorator) -> Decorator:
    """Decorator: these options, under a title of their own in the help."""

    def decorate(function: Any) -> Any:
        before = len(getattr(function, "__click_params__", ()))
        for option in reversed(options):
            function = option(function)
        for param in function.__click_params__[before:]:
            param.section = title
        return function

    return decorate


def quiet() -> bool:
    """Whether the command that runs leaves out all but results and errors."""
    return _asked("quiet")


def verbose() -> bool:
    """Whether the command that runs says what the library logs."""
    return _asked("verbose")


def _asked(name: str) -> bool:
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.meta.get(f"antcache.{name}"))


def _loudness(short: str, long: str, text: str) -> click.Option:
    """An option that is kept in the context, for whoever prints."""

    def keep(ctx: click.Context, param: click.Parameter, value: bool) -> None:
        ctx.meta[f"antcache.{param.name}"] = value

    return click.Option([short, long], is_flag=True, expose_value=False, callback=keep, help=text)


def handler(
    emit: Callable[[logging.LogRecord], None], level: int = logging.NOTSET
) -> logging.Handler:
    """What hands each record of a level to `emit`."""
    made = logging.Handler(level)
    made.emit = emit  # type: ignore[assignment, method-assign]
    return made


def _said() -> logging.Handler:
    """Says each record on stderr, in one line, with the part of the library that it comes from."""

    def say(record: logging.LogRecord) -> None:
        level = record.levelname.lower()
        click.echo(plain(f"{level}: {record.name}: {record.getMessage()}"), err=True)

    return handler(say)


@contextmanager
def heard(*handlers: logging.Handler) -> Iterator[None]:
    """Hand what the library logs, from the first steps of its work on, to these handlers."""
    root = logging.getLogger("antcache")
    level = root.level
    for each in handlers:
        root.addHandler(each)
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        for each in handlers:
            root.removeHandler(each)
        root.setLevel(level)
