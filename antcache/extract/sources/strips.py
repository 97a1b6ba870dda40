"""Pictures of some videos for the film strips of a page: those that are there, and no others.

Promise: a picture is the last frame at or before its time; a time that the video does not reach has
none, and neither has a video that is missing or can't be decoded.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from antcache.errors import NotFound
from antcache.extract.sources.finding import find_videos
from antcache.extract.sources.thumbnails import HEIGHT, data_url, shown_at
from antcache.extract.videos.finding import Videos
from antcache.store.location import Location

LINGERS_S = 1.0
"""Seconds for which the last frame stays what is seen: labels end a little after the pictures."""


class FilmStrips:
    """Called with the name of a video and times in seconds, it gives their pictures as addresses
    that a page can hold (`data:`), None for a time after the end.

    Args:
        place: a file, a folder, a list or a URL of videos, or videos that were found.
        height: of the pictures, in pixels.

    Raises:
        NotFound: there is no video there.
    """

    def __init__(self, place: str | Path | Videos, *, height: int = HEIGHT) -> None:
        self._videos = place if isinstance(place, Videos) else find_videos(place)
        self._place: Location | str = "the given ones" if isinstance(place, Videos) else place
        self._height = height

    def __call__(self, video: str, times_s: Sequence[float]) -> list[str | None]:
        """The pictures at some times (M,).

        Raises:
            NotFound: it is not among the videos.
            BadConfig: there are several of its name.
            UnreadableVideo: nothing of it can be decoded, or it has a gap.
            MissingExtra: Pillow, or what decodes, is missing.
        """
        if video not in self._videos:
            refused = [each.error for each in self._videos.refused if each.name == video]
            raise refused[0] if refused else NotFound("no such video", where=self._place)
        source = self._videos[video]
        found, last_s = shown_at(source, times_s, height=self._height)
        if last_s is not None:
            late = [t for t in times_s if t not in found and t <= last_s + LINGERS_S]
            if late:
                ended = shown_at(source, [last_s], height=self._height)[0][last_s]
                found |= dict.fromkeys(late, ended)
        return [data_url(found[time]) if time in found else None for time in times_s]
