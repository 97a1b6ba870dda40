"""What every command shares: lines, JSON, tables, progress bars, logging to a file.

Promise: whatever a command prints goes through here (errors through `main`), so that text from data
can't do anything to a terminal, and a program that reads a table gets its rows unfolded and whole.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from antcache.errors import BadConfig
from antcache.progress import Progress as Callback
from antcache.text import plain

if TYPE_CHECKING:
    from antcache.store.location import Location

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


UNFOLDED = 1 << 16
"""Width of a table, in characters, for those who read it from a pipe or a file."""


def say(text: str, *, err: bool = False) -> None:
    """Print one line on stdout, or on stderr."""
    click.echo(plain(text), err=err)


def print_json(data: Any) -> None:
    """Print `data` as indented JSON on stdout; nothing but ASCII."""
    try:
        text = json.dumps(data, indent=2, allow_nan=False)
    except ValueError as error:
        raise BadConfig("a figure that JSON can't hold", found=error) from error
    click.echo(text.replace("\x7f", "\\u007f"))


def print_table(title: str, columns: list[str], rows: list[list[Any]]) -> None:
    """Print a table under its title; the first column is left-aligned, the others right-aligned."""
    say(title)
    table = Table(box=box.SIMPLE_HEAD)
    for i, name in enumerate(columns):
        table.add_column(_cell(name), justify="left" if i == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*map(_cell, row))
    Console(width=None if sys.stdout.isatty() else UNFOLDED).print(table)


def _cell(value: object) -> Text:
    """A cell as text, in which rich looks for no markup."""
    return Text(f"{value:.2f}" if isinstance(value, float) else plain(value))


class _Rate(TextColumn):
    """Units per second, once they are known."""

    def render(self, task: Any) -> Any:
        return super().render(task) if task.speed is None else f"{task.speed:.1f}/s"


@contextmanager
def progress_bars() -> Iterator[Callback]:
    """Bars with rate and time left on stderr; one per label, gone when the work is done."""
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(""),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_interactive,  # in a log file even no bar would leave empty lines
    ) as bars:
        tasks: dict[str, TaskID] = {}

        def report(label: str, done: float, total: float) -> None:
            if label not in tasks:
                tasks[label] = bars.add_task(plain(label), total=total)
            bars.update(tasks[label], completed=done, total=total)

        yield report


class _LogFile(logging.Handler):
    """Appends each record at once; says once if it can't."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._failed = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record with one call, so that those of several processes never mix."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab", buffering=0) as file:
                file.write(f"{self.format(record)}\n".encode())
        except OSError as error:
            if not self._failed:
                text = f"{self._path}: {error.strerror}; the log is incomplete"
                say(f"Warning: {text}", err=True)
            self._failed = True
        except Exception:  # a mistake in a message is no reason to stop either
            self.handleError(record)


class _OneLine(logging.Formatter):
    """A message is one line, whatever it quotes."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name is logging's
        """The line of a record."""
        return plain(super().formatMessage(record))


@contextmanager
def log_to(path: Path) -> Iterator[None]:
    """Append what the library logs to `path` while the command runs.

    A log that can't be written is no reason to stop: one line on stderr says so.
    """
    handler = _LogFile(path)
    form = "%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s"
    handler.setFormatter(_OneLine(form))
    root = logging.getLogger("antcache")
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        handler.close()


def path_argument(name: str, **kwargs: Any) -> Callable[[Any], Any]:
    """A path argument as `pathlib.Path`; the library checks whether it exists."""
    return click.argument(name, type=click.Path(path_type=Path), **kwargs)


class StoreLocation(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.5 on
    """Where a store lies: a path, or a URL such as `s3://bucket/kitchen.zarr`."""

    name = "store"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Location:
        """`value` as `antcache.store.location.parse_location` understands it."""
        from antcache.store.location import parse_location

        return parse_location(value)


def store_argument(
    name: str = "store", *, metavar: str = "STORE", **kwargs: Any
) -> Callable[[Any], Any]:
    """A store argument as a `Location`; the library checks whether a store is there."""
    return click.argument(name, type=StoreLocation(), metavar=metavar, **kwargs)
