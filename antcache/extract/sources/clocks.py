"""When numbered pictures were seen: at a rate, or as a table says.

Promise: exact. At a rate, the picture n was seen at n / fps seconds, whatever the first number is,
as the frame numbers of annotations count (`antcache.timebase`). Times of a table are kept to the
nanosecond; its frames must ascend in time as they do in number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from antcache.annotations.files import DECIMAL, read_table
from antcache.annotations.video_names import bare_name
from antcache.errors import BadAnnotations, UnreadableVideo
from antcache.extract.rows.sampling import exact_rate
from antcache.store.location import Location
from antcache.text import utf8

PER_S = 10**9
"""Nanoseconds."""
LONGEST_S = 10**6
"""Eleven days."""


class FrameClock(Protocol):
    """Says when pictures were seen, and which there should be."""

    @property
    def about(self) -> dict[str, Any]:
        """What the rows of a video say of it."""

    def time(self, number: int, path: Location) -> Fraction:
        """Seconds at which the picture of that number was seen; `path` is for messages.

        Raises:
            UnreadableVideo: nothing says it.
        """

    def between(self, before: int | None, after: int | None) -> tuple[int, int]:
        """How many pictures there should be between two that there are, and the first of these;
        None stands for the beginning and the end."""


@dataclass(frozen=True)
class SteadyClock:
    """A constant rate, in frames per second."""

    fps: float

    @property
    def about(self) -> dict[str, Any]:
        """See `FrameClock`."""
        return {"image_fps": self.fps}

    def time(self, number: int, path: Location) -> Fraction:
        """See `FrameClock`."""
        return number / exact_rate(self.fps)

    def between(self, before: int | None, after: int | None) -> tuple[int, int]:
        """See `FrameClock`; nothing says where the pictures should begin and end."""
        if before is None or after is None:
            return 0, 0
        return after - before - 1, before + 1


@dataclass(frozen=True, eq=False)
class ListedClock:
    """Times of one video out of a table.

    Attributes:
        table: the file, for messages.
        numbers: (N,) of its pictures, ascending.
        times: (N,) when they were seen, in nanoseconds.
    """

    table: Path
    numbers: NDArray[np.int64]
    times: NDArray[np.int64]

    @property
    def about(self) -> dict[str, Any]:
        """See `FrameClock`."""
        return {"image_times": utf8(self.table.name)}

    def time(self, number: int, path: Location) -> Fraction:
        """See `FrameClock`."""
        place = int(np.searchsorted(self.numbers, number))
        if place == len(self.numbers) or self.numbers[place] != number:
            raise UnreadableVideo(
                "a picture without a time",
                where=path,
                expected=f"frame {number} in {self.table}",
                hint="list it there, or take it out",
            )
        return Fraction(int(self.times[place]), PER_S)

    def between(self, before: int | None, after: int | None) -> tuple[int, int]:
        """See `FrameClock`."""
        first = 0 if before is None else int(np.searchsorted(self.numbers, before, "right"))
        stop = len(self.numbers) if after is None else int(np.searchsorted(self.numbers, after))
        return stop - first, int(self.numbers[first]) if first < stop else 0


def read_clocks(path: Path) -> Mapping[str, ListedClock]:
    """The clocks of videos, out of a table `video,frame,seconds`, by the names of the videos.

    Raises:
        NotFound, BadAnnotations: it can't be read, names a frame twice, or its times don't ascend.
    """
    rows = read_table(path, ("video", "frame", "seconds"))
    videos = np.asarray([bare_name(name) for name in rows.words("video")], dtype=np.str_)
    frames = rows.integers("frame")
    times = np.asarray(rows.convert("seconds", nanoseconds, "seconds, 0 or more"), dtype=np.int64)
    found: dict[str, ListedClock] = {}
    order = np.lexsort((frames, videos))
    bounds = np.flatnonzero(videos[order][1:] != videos[order][:-1]) + 1
    for mine in np.split(order, bounds):
        wrong = np.flatnonzero((np.diff(frames[mine]) <= 0) | (np.diff(times[mine]) <= 0))
        if len(wrong):
            here = mine[wrong[0] + 1]
            twice = frames[mine[wrong[0]]] == frames[here]
            raise BadAnnotations(
                f"frame {frames[here]} "
                + ("stands twice" if twice else "is seen no later than the one before it"),
                where=rows.place(int(here)),
                expected="times that ascend with the numbers",
            )
        found[str(videos[mine[0]])] = ListedClock(path, frames[mine], times[mine])
    return found


def nanoseconds(text: str) -> int:
    """A decimal number of seconds, to the nanosecond; ValueError if it is none that may be."""
    if DECIMAL.fullmatch(text) is None or not 0 <= float(text) <= LONGEST_S:
        raise ValueError
    return round(Decimal(text) * PER_S)
