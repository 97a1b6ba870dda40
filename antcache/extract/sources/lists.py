"""Files that list videos: one path or URL a line, or a table that gives them names.

Promise: paths are relative to the list's folder; blank lines and lines that begin with `#` are
passed over. A `.csv` has the header `video,path`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from antcache.annotations.files import read_table
from antcache.errors import BadConfig, NotFound
from antcache.store.location import Location, parse_location
from antcache.untrusted import read_text

LISTS = (".txt", ".list", ".csv")
"""Endings of lists; no video ends so."""


@dataclass(frozen=True)
class ListedVideo:
    """An entry: its name, empty if it has none of its own, where it lies, and where it stands."""

    name: str
    place: Location
    where: str


def read_list(path: Path) -> list[ListedVideo]:
    """The entries of a list.

    Raises:
        NotFound: it can't be read.
        BadConfig: it is no text, or empty.
        BadAnnotations: a table of another form.
    """
    if path.suffix.lower() == ".csv":
        rows = read_table(path, ("video", "path"))
        return [
            ListedVideo(name, _place(text, path), rows.place(row))
            for row, (name, text) in enumerate(
                zip(rows.words("video"), rows.columns["path"], strict=True)
            )
        ]
    lines = [line.strip() for line in _text(path).splitlines()]
    found = [
        ListedVideo("", _place(line, path), f"{path}:{number}")
        for number, line in enumerate(lines, 1)
        if line and not line.startswith("#")
    ]
    if not found:
        raise BadConfig("a list of nothing", where=path, expected="a path or URL a line")
    return found


def _place(text: str, path: Path) -> Location:
    place = parse_location(text)
    return place if isinstance(place, str) else path.parent / place


def _text(path: Path) -> str:
    try:
        text = read_text(path)
        if "\0" not in text:
            return text
        reason = "bytes that are no text"
    except OSError as error:
        raise NotFound("the list can't be read", where=path, found=error.strerror) from error
    except ValueError as error:  # too long, or no UTF-8
        reason = str(error)
    raise BadConfig("not a list of videos", where=path, expected="UTF-8 text", found=reason)
