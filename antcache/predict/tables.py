"""A table of answers, written while they come.

Promise: the file appears whole or not at all; text from data is written so that no control
character of it reaches whoever looks at the table.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from antcache.files import atomic_file
from antcache.predict.answers import COLUMNS, Anticipation
from antcache.text import plain


@contextmanager
def csv_table(path: Path, *, overwrite: bool = False) -> Iterator[Callable[[Anticipation], None]]:
    """A CSV file with a row for each action of each answer: `answers.COLUMNS`.

    What is yielded takes an answer; the file is there once the context has ended well.

    Raises:
        AlreadyExists: it is there and `overwrite` is false.
        WriteFailed: the disk refused.
    """
    with (
        atomic_file(path, overwrite=overwrite) as staged,
        staged.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(COLUMNS)

        def add(answer: Anticipation) -> None:
            writer.writerows(
                [plain(cell) if isinstance(cell, str) else cell for cell in row]
                for row in answer.rows()
            )

        yield add
