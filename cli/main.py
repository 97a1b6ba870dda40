"""Entry point of `antcache`: finds the command's file, runs it, turns our errors into one line.

Promise: bad input, and whatever the system refuses (no room, no permission, no memory), ends with
one line on stderr and exit code 2, an interrupt with 130 and how to go on (under --json the error
is also an object on stdout, `{"error": {"type", "message", "exit_code"}}`), and `antcache --help`
loads no heavy package. Warnings of any library are one line, too, and no line holds control
characters.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from antcache import __version__
from antcache.cli.command import quiet
from antcache.cli.lazy import CALLED, LazyGroup
from antcache.devices import let_waiting_threads_sleep
from antcache.errors import AntcacheError
from antcache.text import plain

COMMANDS = {
    "annotations": ("antcache.cli.annotations", "Read published or own annotations."),
    "extract": ("antcache.cli.extract", "Write backbone features of videos into a store."),
    "store": ("antcache.cli.store", "Look into a store; check, repair and convert it."),
    "import": ("antcache.cli.importing", "Bring in features and predictions made by others."),
    "export": ("antcache.cli.exporting", "Write features in the forms that others read."),
    "teacher": ("antcache.cli.teacher", "Train teachers on labels; write soft targets."),
    "student": ("antcache.cli.student", "Train students from a store."),
    "predict": ("antcache.cli.looking.predict", "Say what comes next in videos."),
    "watch": ("antcache.cli.looking.watch", "Say what comes next in what a camera sees now."),
    "evaluate": ("antcache.cli.evaluation.evaluate", "Score predictions under a protocol."),
    "compare": (
        "antcache.cli.evaluation.compare",
        "What some predictions gain over others.",
    ),
    "report": ("antcache.cli.evaluation.report", "A comparison as one page of HTML."),
    "browse": (
        "antcache.cli.looking.browse",
        "A store in a browser: videos, labels, expectations.",
    ),
    "fuse": ("antcache.cli.evaluation.fuse", "Mix the predictions of several runs."),
    "submit": (
        "antcache.cli.evaluation.submit",
        "Write a submission for EPIC-KITCHENS.",
    ),
    "bench": ("antcache.cli.bench", "Run the kernel benchmarks."),
    "demo": ("antcache.cli.demo", "Run the whole method on a small generated kitchen."),
}

HELP = getattr(click.exceptions, "NoArgsIsHelpError", ())
"""The help of a group that is called without a command: an error from click 8.2 on."""


class InputError(click.ClickException):
    """One line on stderr, exit code 2."""

    exit_code = 2

    def __init__(self, text: object) -> None:
        super().__init__(plain(text))


@contextlib.contextmanager
def _in_one_line() -> Iterator[None]:
    """Say what click finds wrong in the words of a command line as our own errors are said."""
    try:
        yield
    except click.UsageError as error:
        if isinstance(error, HELP):
            raise
        text = " ".join(error.format_message().split()).rstrip(".")
        hint = f" ({error.ctx.command_path} --help)" if error.ctx else ""
        raise InputError(text + hint) from error


class Root(LazyGroup):
    """The whole command line, which turns errors into one line and exit code 2."""

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Read the words before the command."""
        with _in_one_line():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> object:
        """Run a command; our own errors, click's and the system's become one line."""
        try:
            with _in_one_line():
                return super().invoke(ctx)
        except AntcacheError as error:
            raise InputError(in_options(str(error), ctx.meta.get(CALLED))) from error
        except MemoryError as error:
            raise InputError(f"not enough memory ({error or 'none left'})") from error
        except BrokenPipeError:
            raise  # nobody reads what we print any more
        except OSError as error:
            raise InputError(reason(error)) from error


def in_options(text: str, command: click.Command | None) -> str:
    """What the library says, with each setting that it names (`top_k`) as the command's option.

    A setting that the command has no option for is a key of a file, and stays as it is.
    """
    options: dict[str, str] = {}
    for parameter in [] if command is None else command.params:
        for option in parameter.opts:
            options[option.removeprefix("--").replace("-", "_")] = option
            if parameter.name and option.startswith("--"):
                options.setdefault(parameter.name, option)  # `splits` of --split
    return re.sub(r"`(\w+)`", lambda match: options.get(match[1], match[0]), text)


def reason(error: OSError) -> str:
    """What the system said, and about which file, in one line."""
    files = (error.filename, error.filename2)
    names = [os.fsdecode(name) for name in files if isinstance(name, str | bytes)]
    text = error.strerror or str(error) or type(error).__name__
    return " ".join(f"{' -> '.join(names)}: {text}".removeprefix(": ").split())


@click.group(cls=Root, table=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="antcache")
def cli() -> None:
    """Action anticipation without the wait: features and soft targets once, students in seconds."""


class _Warnings(logging.Handler):
    """What nobody else handles of what libraries log, from warnings on."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record as one line."""
        _warn(record.getMessage())


def _warn(message: Warning | str, *_: object, **__: object) -> None:
    """Print a warning as one line; as `warnings.showwarning`, without the place in the code."""
    if not quiet():
        click.echo(f"Warning: {plain(message)}", err=True)


def _tame_output() -> None:
    """Keep what libraries say to one line each, and let no character be a reason to stop."""
    warnings.showwarning = _warn
    logging.lastResort = _Warnings(logging.WARNING)
    # The shell may have closed them.
    sys.stdout = sys.stdout or Path(os.devnull).open("w")  # noqa: SIM115
    sys.stderr = sys.stderr or Path(os.devnull).open("w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _print_error(kind: str, message: str, code: int) -> None:
    """Print an error as JSON too, if the command line asks for JSON.

    The words themselves are asked: an error may be in how they are read.
    """
    if "--json" in sys.argv[1:]:
        error = {"type": kind, "message": message, "exit_code": code}
        click.echo(json.dumps({"error": error}, indent=2))


def main() -> None:
    """Console script."""
    _tame_output()
    let_waiting_threads_sleep()
    try:
        code = cli(standalone_mode=False)  # what ctx.exit() was given, if it was called
    except click.ClickException as error:
        if not isinstance(error, HELP):
            # Arguments may be names that a shell has filled in.
            vars(error)["message"] = plain(error.message)
            _print_error(type(error.__cause__ or error).__name__, error.message, error.exit_code)
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _print_error("KeyboardInterrupt", "interrupted", 130)
        click.echo("interrupted", err=True)
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)
