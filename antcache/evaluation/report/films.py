"""Film strips: what could be seen of a segment before it was anticipated.

Promise: a strip has the pictures of its own times or none at all; why one has none is said beside
it, and once for each video in `Films.notes`. Where pictures come from is the caller's business.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from antcache.errors import AntcacheError, MissingExtra
from antcache.progress import Progress, silent

log = logging.getLogger(__name__)

Pictures = Callable[[str, Sequence[float]], Sequence[str | None]]
"""Gives the pictures of a video at some times in seconds, as `data:` addresses of images; None
where the video has ended. Raises an `AntcacheError` if there are none."""

K = TypeVar("K", bound=Hashable)

COUNT = 6
"""Pictures of a strip."""
MOST = 60
"""Strips of a page: a strip is about 30 kB."""


@dataclass(frozen=True, kw_only=True)
class Moment:
    """What is to be shown: the time before which a video was seen.

    Attributes:
        video: its name.
        end_s: last time of the strip, seconds.
        zero_s: what the times in its captions are counted from.
    """

    video: str
    end_s: float
    zero_s: float


@dataclass(frozen=True, kw_only=True)
class Film:
    """A strip.

    Attributes:
        pictures: (seconds from the moment's zero, address), ascending.
        why: there are none; empty if there are.
    """

    pictures: tuple[tuple[float, str], ...] = ()
    why: str = ""


class Films:
    """Makes the strips of a page.

    Args:
        pictures: of the videos.
        progress: is told how many videos are done.

    Attributes:
        notes: videos without pictures, or without some, and why.
    """

    def __init__(self, pictures: Pictures, *, progress: Progress = silent) -> None:
        self._pictures = pictures
        self._progress = progress
        self.notes: dict[str, str] = {}

    def of(self, moments: Mapping[K, Moment], observed_s: float) -> dict[K, Film]:
        """A strip for each moment, of evenly spaced times in the `observed_s` before its end.

        A video is gone through once for all of its moments. Times before 0 are left out.

        Raises:
            MissingExtra: a package that shows pictures is not installed.
        """
        times = {key: strip_times(each.end_s, observed_s) for key, each in moments.items()}
        wanted: dict[str, set[float]] = {}
        for key, each in moments.items():
            wanted.setdefault(each.video, set()).update(times[key])
        shown = {}
        for done, (video, asked) in enumerate(wanted.items()):
            self._progress("film strips", done, len(wanted))
            shown[video] = self._of_video(video, sorted(asked))
        if wanted:
            self._progress("film strips", len(wanted), len(wanted))
        return {key: self._film(each, times[key], shown) for key, each in moments.items()}

    def _of_video(self, video: str, times: list[float]) -> dict[float, str]:
        """Its pictures by time; none, and a note, where there are none."""
        if not times:
            return {}
        try:
            found = dict(zip(times, self._pictures(video, times), strict=True))
        except MissingExtra:
            raise
        except AntcacheError as error:
            self._note(video, str(error))
            return {}
        if None in found.values():
            first = min(time for time, picture in found.items() if picture is None)
            self._note(video, f"it ends before {first:.1f} s")
        return {time: picture for time, picture in found.items() if picture is not None}

    def _film(
        self, moment: Moment, times: Sequence[float], shown: Mapping[str, Mapping[float, str]]
    ) -> Film:
        own = shown[moment.video]
        if not times:
            return Film(why="nothing was seen before it")
        if any(time not in own for time in times):
            return Film(why=self.notes[moment.video])
        return Film(pictures=tuple((time - moment.zero_s, own[time]) for time in times))

    def _note(self, video: str, why: str) -> None:
        self.notes[video] = why
        log.warning("no pictures of %s: %s", video, why)


def strip_times(end_s: float, observed_s: float) -> list[float]:
    """Up to `COUNT` evenly spaced times, the last at `end_s`; none of them below 0."""
    times = end_s - np.linspace(observed_s, 0, COUNT)
    return [float(time) for time in np.unique(times) if time >= 0]
