"""Pictures that are the frames of one video, told by the numbers at the ends of their names.

Promise: the number in a name counts, not the place among the others. One video has one series of
names (`frame_0000000001.jpg`, `img_00001.jpg`, `000001.png`); two pictures of one number, or two
series, are refused, because nobody can say which is meant. What has no such name is none of its
frames.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TypeVar

from antcache.errors import UnreadableVideo
from antcache.extract.videos.containers import IMAGES
from antcache.store.location import Location

T = TypeVar("T")

_ENDINGS = "|".join(ending.removeprefix(".") for ending in IMAGES)
NUMBERED = re.compile(rf"(?!\.)(.*(?<!\d))(\d{{1,18}})\.(?:{_ENDINGS})", re.I | re.A | re.S)
"""What stands before the number of a frame, and the number; hidden files have none."""


def is_numbered(name: str) -> bool:
    """Whether a file is called like a frame."""
    return NUMBERED.fullmatch(name) is not None


def by_number(pictures: Iterable[tuple[str, T]], path: Location) -> dict[int, T]:
    """What was given with the name of each frame, by its number; others are left out.

    Args:
        pictures: names with their folders, and what is wanted of them.
        path: where they lie, for messages.

    Raises:
        UnreadableVideo: no name is one of a frame, or they are of more than one series.
    """
    found: dict[int, T] = {}
    names: dict[int, str] = {}
    series: tuple[str, str] | None = None
    for name, wanted in pictures:
        match = NUMBERED.fullmatch(name.rpartition("/")[2])
        if match is None:
            continue
        number = int(match[2])
        if number in found:
            raise UnreadableVideo(
                f"two pictures of the number {number}",
                where=path,
                found=f"{names[number]} and {name}",
                hint="a folder or tar holds the frames of one video, each once",
            )
        if series is not None and match[1] != series[0]:
            raise UnreadableVideo(
                "pictures of several series",
                where=path,
                found=f"{series[1]} and {name}",
                hint="a folder or tar holds the frames of one video, called alike",
            )
        series = (match[1], name) if series is None else series
        found[number], names[number] = wanted, name
    if series is None:
        raise UnreadableVideo(
            "no numbered pictures in it", where=path, expected="such as frame_0000000001.jpg"
        )
    return found
