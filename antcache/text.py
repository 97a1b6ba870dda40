"""Text from data: how it may be shown, what is cut, and what may be a name.

Promise: names, paths and what files hold come from anybody. What `plain` returns is one line that
neither moves the cursor nor colours, renames, reorders or hides anything, on a terminal, in a log
and on a page; what `cell` returns is no formula in a spreadsheet either. What `utf8` returns can be
written to a file. Text without such characters is as it was. A name that passes (of a video, a
split, a stream or soft targets; one rule for all who ask) can be a file's on any system and in any
store, and is nothing that a path, a terminal or a reader could take for something else.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

LISTED = 5
"""How many things a message names, unless there is a reason for another number."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
NAMES = "letters, digits and . _ + -, the first a letter or digit"
"""Of splits, streams and soft targets, which are written on command lines; the rule in words."""

FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""How a cell begins that a spreadsheet takes for a formula, whatever quotes are around it; the last
are the wide forms."""

PUNCTUATION = " _.+-()[]&'@!~="
"""What names of videos may hold beside letters and digits: what people, cameras and YouTube put
into the names of files, and no file system and no URL takes for more. A comma stands for the slash
of a key in staging."""

LONGEST_NAME = 200
"""Bytes of the name of a video: file systems allow 255, of which staging and endings need some."""

RESERVED = ("zarr.json", "attributes.json")
"""Files of a group, in the folder where the names are."""

VIDEO_NAMES = (
    f"letters, digits, blanks and {PUNCTUATION.strip()}, the first no dot or blank, at most "
    f"{LONGEST_NAME} bytes"
)
"""The rule, for errors."""


def listed(items: Sequence[str], shown: int = LISTED) -> str:
    """The first few items, and how many more there are."""
    more = len(items) - shown
    return ", ".join(items[:shown]) + (f", and {more} more" if more > 0 else "")


def plain(text: object) -> str:
    r"""`text` with control, format and unassigned characters as Python writes them (`\x1b`).

    That includes line breaks of every kind, what turns the direction of writing, and bytes of file
    names that are no UTF-8. Spaces of all widths stay.
    """
    line = str(text)
    return line if line.isprintable() else "".join(map(_shown, line))


def _shown(character: str) -> str:
    if character.isprintable() or unicodedata.category(character) == "Zs":
        return character
    return character.encode("unicode_escape").decode("ascii")


def cell(text: object) -> str:
    """`text` as `plain` writes it, with an apostrophe before what a spreadsheet would carry out.

    For text to be read. A name by which others find something stays as it is: that of a video holds
    no character by which a formula could reach anything (`PUNCTUATION`).
    """
    line = plain(text)
    return f"'{line}" if line.lstrip().startswith(FORMULA) else line


def utf8(text: object) -> str:
    r"""`text` with bytes of file names that are no UTF-8 written out (`\udcea`), as by `plain`."""
    return str(text).encode("utf-8", "backslashreplace").decode()


def is_name(text: str) -> bool:
    """Whether a split, a stream or soft targets may be called so."""
    return NAME.fullmatch(text) is not None and text not in RESERVED


def is_video_name(text: str) -> bool:
    """Whether a video may be called so.

    Letters (with their marks) and digits of any script, in composed form (NFC), and `PUNCTUATION`.
    """
    return (
        text != ""
        and text[0] not in " ."
        and text[-1] != " "
        and text not in RESERVED
        and all(c in PUNCTUATION or unicodedata.category(c)[0] in "LMN" for c in text)
        and unicodedata.category(text[0])[0] != "M"
        and len(text.encode()) <= LONGEST_NAME
        and unicodedata.is_normalized("NFC", text)
    )
