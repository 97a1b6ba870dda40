"""Text from data, as it may be shown: what can't be seen is written out, what is many is cut.

Promise: names, paths and what files hold come from anybody. What `plain` returns is one line that
neither moves the cursor nor colours, renames, reorders or hides anything, on a terminal, in a log
and on a page. What `utf8` returns can be written to a file. Text without such characters is as it
was.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

LISTED = 5
"""How many things a message names, unless there is a reason for another number."""


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


def utf8(text: object) -> str:
    r"""`text` with bytes of file names that are no UTF-8 written out (`\udcea`), as by `plain`."""
    return str(text).encode("utf-8", "backslashreplace").decode()
