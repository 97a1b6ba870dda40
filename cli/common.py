"""What every command shares: JSON output, tables, progress bars, logging to a file."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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

from antcache.progress import Progress as Callback

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


def print_json(data: Any) -> None:
    """Print `data` as indented JSON on stdout."""
    click.echo(json.dumps(data, indent=2, allow_nan=False))


def print_table(title: str, columns: list[str], rows: list[list[Any]]) -> None:
    """Print a table under its title; the first column is left-aligned, the others right-aligned."""
    click.echo(title)
    table = Table(box=box.SIMPLE_HEAD)
    for i, name in enumerate(columns):
        table.add_column(name, justify="left" if i == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*(f"{v:.2f}" if isinstance(v, float) else str(v) for v in row))
    Console().print(table)


class _Rate(TextColumn):
    """Units per second, once they are known."""

    def render(self, task: Any) -> Any:
        return super().render(task) if task.speed is None else f"{task.speed:.1f}/s"


@contextmanager
def progress_bars() -> Iterator[Callback]:
    """Bars with rate and time left on stderr; one per label, gone when the work is done."""
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
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
                tasks[label] = bars.add_task(label, total=total)
            bars.update(tasks[label], completed=done, total=total)

        yield report


@contextmanager
def log_to(path: Path) -> Iterator[None]:
    """Append what the library logs to `path` while the command runs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
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
