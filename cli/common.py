"""What every command shares: lines, JSON, tables, progress bars, logging to a file.

Promise: whatever a command prints goes through here (errors through `main`), so that text from data
can't do anything to a terminal. A program that reads a table gets its rows unfolded and whole; on a
terminal no number is broken: columns that have no room follow in a further table.
"""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from antcache.cli.command import heard, quiet, verbose
from antcache.cli.watching import ProgressLines, echo
from antcache.errors import BadConfig
from antcache.progress import Progress as Callback
from antcache.progress import silent
from antcache.text import plain

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from antcache.store import Store
    from antcache.store.location import Location

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON instead of text, errors too."
)

PATH = click.Path(path_type=Path, readable=False)
"""A path as `pathlib.Path`. Whether it may be read is for the system to say, in its own words."""

UNFOLDED = 1 << 16
"""Width of a table, in characters, for those who read it from a pipe or a file."""
PADDING = 2
"""Blanks between two columns, and around a table."""


def say(text: str, *, err: bool = False) -> None:
    """Print one line on stdout, or on stderr."""
    click.echo(plain(text), err=err)


def note(text: str) -> None:
    """Print on stderr what is worth knowing beside the result; nothing under `--quiet`."""
    _remark(f"note: {text}")


def warn(text: str) -> None:
    """Print on stderr what may be wrong with the result; nothing under `--quiet`."""
    _remark(f"Warning: {text}")


def _remark(text: str) -> None:
    if not quiet():
        say(text, err=True)


def print_json(data: Any) -> None:
    """Print `data` as indented JSON on stdout; nothing but ASCII."""
    try:
        text = json.dumps(data, indent=2, allow_nan=False)
    except ValueError as error:
        raise BadConfig("a figure that JSON can't hold", found=error) from error
    click.echo(text.replace("\x7f", "\\u007f"))


def print_json_line(data: Any) -> None:
    """Print `data` as JSON in one line on stdout, at once; nothing but ASCII."""
    click.echo(json.dumps(data, allow_nan=False).replace("\x7f", "\\u007f"))


def print_result(result: Any, as_json: bool, show: Callable[[Any], None]) -> None:
    """Print what a command has found or done: what its `to_dict` gives as JSON, or by `show`."""
    if as_json:
        print_json(result.to_dict())
    else:
        show(result)


def print_table(title: str, columns: list[str], rows: list[list[Any]]) -> None:
    """Print a table under its title; the first column is left-aligned, the others right-aligned."""
    say(title)
    console = Console(width=None if sys.stdout.isatty() else UNFOLDED)
    cells = [[*map(_cell, column)] for column in zip(columns, *rows, strict=True)]
    for part in _parts(cells, console.width):
        table = Table(box=box.SIMPLE_HEAD)
        for i, (name, *_) in enumerate(part):
            table.add_column(name, justify="left" if i == 0 else "right", overflow="fold")
        for row in list(zip(*part, strict=True))[1:]:
            table.add_row(*row)
        console.print(table)


def _parts(columns: list[list[Text]], room: int) -> Iterator[list[list[Text]]]:
    """Columns that fit side by side in `room` characters, the first in front of each part.

    A column that alone is too wide is folded; the first leaves half of the room to the others.
    """
    widths = [max(cell.cell_len for cell in column) + PADDING for column in columns]
    first = min(widths[0], room // 2)
    part, used = [columns[0]], first
    for column, width in zip(columns[1:], widths[1:], strict=True):
        if used + width > room - PADDING and len(part) > 1:
            yield part
            part, used = [columns[0]], first
        part.append(column)
        used += width
    yield part


def _cell(value: object) -> Text:
    """A cell as text, in which rich looks for no markup."""
    return Text(f"{value:.2f}" if isinstance(value, float) else plain(value))


class _Rate(TextColumn):
    """Units per second, once they are known."""

    def render(self, task: Any) -> Any:
        return super().render(task) if task.speed is None else f"{task.speed:.1f}/s"


@contextmanager
def progress_bars() -> Iterator[Callback]:
    """Bars with rate and time left on stderr, one per label, gone when the work is done.

    Where stderr is no terminal, plain lines; see `watching`. Under `--quiet` nothing.
    """
    if quiet():
        yield silent
        return
    console = Console(stderr=True)
    if not console.is_interactive:
        yield ProgressLines(partial(say, err=True))
        return
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(""),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    ) as bars:
        tasks: dict[str, TaskID] = {}

        def report(label: str, done: float, total: float) -> None:
            if label not in tasks:
                tasks[label] = bars.add_task(plain(label), total=total)
            bars.update(tasks[label], completed=done, total=total)

        yield report


ShowBars = Callable[[str, Sequence[tuple[str, float]], str], None]
"""Shows a title, names with shares between 0 and 1, and a line below."""


@contextmanager
def live_bars() -> Iterator[ShowBars | None]:
    """Bars on stdout that are drawn anew each time; the last stay. None: it is no terminal."""
    console = Console()
    if not console.is_interactive or not sys.stdout.isatty():
        yield None
        return
    with Live(console=console, auto_refresh=False) as live:

        def show(title: str, bars: Sequence[tuple[str, float]], below: str) -> None:
            table = Table.grid(padding=(0, 1), expand=True)
            table.add_column(ratio=2, overflow="ellipsis", no_wrap=True)
            table.add_column(ratio=3)
            table.add_column(width=5, justify="right")
            for name, share in bars:
                bar = ProgressBar(total=1.0, completed=share)
                table.add_row(_cell(name), bar, Text(f"{share:.0%}"))
            lines = Text(plain(title), style="bold"), table, Text(plain(below), style="dim")
            live.update(Group(*lines), refresh=True)

        yield show


class _LogFile(logging.Handler):
    """Appends each record at once; says once if it can't."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._failed = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record with one call, so that those of several processes never mix."""
        try:
            with self._open() as file:
                file.write(f"{plain(self.format(record))}\n".encode())
        except OSError as error:
            if not self._failed:
                warn(f"{self._path}: {error.strerror}; the log is incomplete")
            self._failed = True
        except Exception:  # a mistake in a message is no reason to stop either
            self.handleError(record)

    def _open(self) -> io.FileIO:
        # Another process may be refused, and remove the folder that it has made, as this one looks.
        tries = 20
        while True:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                return self._path.open("ab", buffering=0)
            except (FileNotFoundError, FileExistsError):
                tries -= 1
                if not tries:
                    raise


@contextmanager
def log_to(path: Path) -> Iterator[None]:
    """Append what the library logs to `path` while the command runs, and say its warnings.

    Under `--verbose` they are said already, with all else; under `--quiet` not at all. A log that
    can't be written is no reason to stop: one line on stderr says so.
    """
    file = _LogFile(path)
    form = "%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s"
    file.setFormatter(logging.Formatter(form))
    with heard(*([] if quiet() or verbose() else [echo(partial(say, err=True))]), file):
        yield


@contextmanager
def at_work(store: Location, *, dry_run: bool = False) -> Iterator[Callback]:
    """Progress bars, and beside the store a log of what is done, of a dry run none."""
    from antcache.store.location import beside

    with nullcontext() if dry_run else log_to(beside(store, ".log")), progress_bars() as progress:
        yield progress


def existing_store(place: Location, backend: str | None) -> Store | None:
    """The store at `place`, None where nothing is yet.

    Raises:
        BadConfig: it is of another form than `backend`.
    """
    from antcache.store import Store
    from antcache.store.backends import is_empty

    if is_empty(place):
        return None
    store = Store.open(place)
    if backend not in (None, store.kind):
        raise BadConfig(
            "the store exists in another form", where=place, expected=backend, found=store.kind
        )
    return store


def path_argument(name: str, **kwargs: Any) -> Callable[[Any], Any]:
    """A path argument as `pathlib.Path`; the library checks whether it exists."""
    return click.argument(name, type=PATH, **kwargs)


def location_argument(name: str, **kwargs: Any) -> Callable[[Any], Any]:
    """An argument that is a path or a URL, as a `Location`; the library checks what is there."""
    return click.argument(name, type=StoreLocation(), **kwargs)


class StoreLocation(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.5 on
    """Where a store lies: a path, or a URL such as `s3://bucket/kitchen.zarr`."""

    name = "store"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Location:
        """`value` as `antcache.store.location.parse_location` understands it."""
        from antcache.store.location import parse_location

        return parse_location(value)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Files and folders, as the shell has them."""
        return PATH.shell_complete(ctx, param, incomplete)


def store_argument(
    name: str = "store", *, metavar: str = "STORE", **kwargs: Any
) -> Callable[[Any], Any]:
    """A store argument as a `Location`; the library checks whether a store is there."""
    return location_argument(name, metavar=metavar, **kwargs)
