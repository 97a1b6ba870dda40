"""Comma-separated files, read so that every complaint can name its file and line.

Promise: UTF-8 with or without a byte-order mark, any line ending, blank lines and blanks around
fields are all fine; whatever else is wrong raises `BadAnnotations` with `file:line`: names and
numbers of any length, too. Nothing here knows what the columns mean.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from antcache.errors import BadAnnotations, NotFound
from antcache.text import listed
from antcache.timebase import parse_timestamp
from antcache.untrusted import NAME, read_text

T = TypeVar("T")

FIRST = 1 << 16
"""Characters in which the first record is looked for."""

INTEGER = re.compile(r"-?\d{1,18}", re.ASCII)
DECIMAL = re.compile(r"-?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
SHOWN = 40
"""How much of a wrong field or line a message repeats."""


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The records of a file, column by column, as stripped text.

    Attributes:
        path: the file.
        lines: line number of each record (the last one, where a quoted field spans several).
        columns: cells of each column by name.
    """

    path: Path
    lines: list[int]
    columns: dict[str, list[str]]

    def __len__(self) -> int:
        return len(self.lines)

    def place(self, row: int) -> str:
        """Where a record comes from, as `file:line`."""
        return f"{self.path}:{self.lines[row]}"

    def convert(self, column: str, parse: Callable[[str], T], expected: str) -> list[T]:
        """Each cell of a column through `parse`, which raises ValueError for a wrong one."""
        values = []
        for row, cell in enumerate(self.columns[column]):
            try:
                values.append(parse(cell))
            except ValueError as error:
                raise BadAnnotations(
                    f"bad {column}",
                    where=self.place(row),
                    expected=expected,
                    found=repr(cell[:SHOWN]),
                ) from error
        return values

    def words(self, column: str) -> list[str]:
        """Cells that must not be empty, nor longer than any name."""
        return self.convert(column, _word, f"a name of at most {NAME} characters")

    def integers(self, column: str) -> NDArray[np.int64]:
        """Cells as int64 (N,)."""
        return np.asarray(self.convert(column, _integer, "a whole number"), dtype=np.int64)

    def decimals(self, column: str) -> NDArray[np.float64]:
        """Cells as float64 (N,)."""
        return np.asarray(self.convert(column, _decimal, "a number"), dtype=np.float64)

    def timestamps(self, column: str) -> NDArray[np.float64]:
        """`HH:MM:SS.ss` cells as seconds (N,)."""
        return np.asarray(self.convert(column, parse_timestamp, "HH:MM:SS.ss"), dtype=np.float64)


def check_ids(kind: str, ids: NDArray[np.int64], count: int, place: Callable[[int], str]) -> None:
    """Check that ids (N,) are 0 to count - 1; `place(row)` says where one comes from."""
    wrong = (ids < 0) | (ids >= count)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise BadAnnotations(
            f"unknown {kind} id",
            where=place(row),
            expected=f"0 to {count - 1}",
            found=int(ids[row]),
        )


def is_integer(text: str) -> bool:
    """Whether a cell is a whole number."""
    return INTEGER.fullmatch(text) is not None


def _word(text: str) -> str:
    if not 0 < len(text) <= NAME:
        raise ValueError
    return text


def _integer(text: str) -> int:
    if not is_integer(text):
        raise ValueError
    return int(text)


def _decimal(text: str) -> float:
    if DECIMAL.fullmatch(text) is None or not math.isfinite(float(text)):
        raise ValueError
    return float(text)


def read_rows(path: Path, columns: Sequence[str]) -> Rows:
    """A file without a header whose columns are known by position.

    Raises:
        BadAnnotations: not text, or a record with another number of fields.
        NotFound: the file can't be opened.
    """
    return _collect(path, list(columns), _records(path))


def read_table(path: Path, required: Sequence[str], optional: Sequence[str] = ()) -> Rows:
    """A file with a header, which must name at least the `required` columns.

    These, and those of `optional` that it has, are known in any case; a column that is called
    exactly so is taken before one that differs in case.

    Raises:
        BadAnnotations: not text, a column is missing or named twice, or a record with another
            number of fields.
        NotFound: the file can't be opened.
    """
    records = _records(path)
    _, header = next(records, (0, []))
    asked = {*required, *optional}.difference(header)
    header = [name.lower() if name.lower() in asked else name for name in header]
    missing = [name for name in required if name not in header]
    twice = sorted(name for name, count in Counter(header).items() if count > 1)
    if missing or twice:
        raise BadAnnotations(
            f"the header names a column twice ({', '.join(twice)})"
            if twice
            else f"the header lacks {', '.join(missing)}",
            where=f"{path}:1",
            expected=", ".join(required),
            found=", ".join(header)[: 5 * SHOWN] or "nothing",
        )
    return _collect(path, header, records)


def first_cells(path: Path) -> list[str]:
    """Cells of the first record, in lower case: by them a form is told.

    What is wrong with the file is left for its reader to say.
    """
    if not path.is_file():  # a pipe would be waited for
        return []
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        records = csv.reader(io.StringIO(file.read(FIRST), newline=""), skipinitialspace=True)
    with suppress(csv.Error):
        for record in records:
            cells = [cell.strip().lower() for cell in record]
            if any(cells):
                return cells
    return []


def _collect(path: Path, names: list[str], records: Iterator[tuple[int, list[str]]]) -> Rows:
    lines: list[int] = []
    cells: list[list[str]] = []
    for line, record in records:
        if len(record) != len(names):
            raise BadAnnotations(
                "wrong number of columns",
                where=f"{path}:{line}",
                expected=f"{len(names)} ({', '.join(names)})",
                found=len(record),
            )
        lines.append(line)
        cells.append(record)
    if not cells:
        raise BadAnnotations("the file has no records", where=path)
    columns = {
        name: list(column) for name, column in zip(names, zip(*cells, strict=True), strict=True)
    }
    return Rows(path=path, lines=lines, columns=columns)


def _records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number and stripped fields of each record that is not blank."""
    reader = csv.reader(io.StringIO(_text(path), newline=""), skipinitialspace=True, strict=True)
    try:
        for record in reader:
            fields = [field.strip() for field in record]
            if any(fields):
                yield reader.line_num, fields
    except csv.Error as error:
        raise BadAnnotations(
            f"not comma-separated text ({error})", where=f"{path}:{reader.line_num}"
        ) from error


def read_lines(path: Path) -> list[str]:
    """The lines of a text file without blanks around them, and without blank ones at its end.

    Raises:
        BadAnnotations: not text, or nothing in it.
        NotFound: the file can't be opened.
    """
    text = _text(path, "a text file").replace("\r\n", "\n").replace("\r", "\n")
    lines = [line.strip() for line in text.split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        raise BadAnnotations("the file is empty", where=path)
    return lines


def _text(path: Path, form: str = "a CSV file") -> str:
    try:
        text = read_text(path)
    except OSError as error:
        raise NotFound("the file can't be read", where=path, found=error.strerror) from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise BadAnnotations(
            "not UTF-8 text", where=f"{path}:{line}", hint=f"{form} in UTF-8 is needed"
        ) from error
    except ValueError as error:
        raise BadAnnotations("the file can't be read", where=path, found=error) from error
    if "\0" in text:
        raise BadAnnotations("not a text file", where=path, hint=f"{form} in UTF-8 is needed")
    return text


def require_files(folder: Path, names: Sequence[str], *, hint: str = "") -> None:
    """Check that `folder` has files of these names.

    Raises:
        NotFound: with what was expected and what the folder holds instead.
    """
    wanted = ", ".join(names)
    if not folder.is_dir():
        raise NotFound(
            "not a folder" if folder.exists() else "no such folder",
            where=folder,
            expected=f"a folder with {wanted}",
        )
    if all((folder / name).is_file() for name in names):
        return
    found = sorted(entry.name for entry in folder.iterdir())
    raise NotFound(
        f"the folder lacks {', '.join(n for n in names if not (folder / n).is_file())}",
        where=folder,
        expected=wanted,
        found=listed(found, 12) if found else "an empty folder",
        hint=hint,
    )


def first_of(folder: Path, names: Sequence[str]) -> Path | None:
    """The first of these files that `folder` has."""
    return next((folder / name for name in names if (folder / name).is_file()), None)
