"""A table of answers, written while they come.

Promise: the file appears whole or not at all; text from data is written so that no control
character of it reaches whoever looks at the table, and no spreadsheet takes the name of an action
for a formula: before such a name stands an apostrophe. Its id is in the table, too. The name of a
video is as it is, unless it is one that no store could have.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from antcache.files import atomic_file
from antcache.predict.answers import COLUMNS, Anticipation
from antcache.text import cell, is_video_name, plain


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
                [_written(name, value) for name, value in zip(COLUMNS, row, strict=True)]
                for row in answer.rows()
            )

        yield add


def _written(column: str, value: Any) -> Any:
    if not isinstance(value, str):
        return value
    # By its name a video is found again; in one that a store could have no formula gets anywhere.
    found_by = column == "video" and is_video_name(value)
    return plain(value) if found_by else cell(value)
