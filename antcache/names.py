"""What videos, and splits, streams and soft targets, may be called: one rule for all who ask.

Promise: a name that passes can be a file's on any system and in any store, and is nothing that a
path, a terminal or a reader could take for something else. Nothing is renamed here.
"""

from __future__ import annotations

import re
import unicodedata

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
NAMES = "letters, digits and . _ + -, the first a letter or digit"
"""Of splits, streams and soft targets, which are written on command lines; the rule in words."""

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
