"""Pictures of videos, made when they are asked for and kept within a bound.

Promise: what is kept takes at most `KEPT_BYTES`, and few videos are decoded at once. A video that
is not there, or that can't be decoded, whatever it holds, gives the reason in place of pictures.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from antcache.errors import AntcacheError
from antcache.store.location import Location
from antcache.text import plain

LOG = logging.getLogger(__name__)

KEPT_BYTES = 64 << 20
AT_ONCE = 2
"""Videos that are decoded at the same time."""
HEIGHT = 120
"""Of a picture, in pixels."""


class Pictures:
    """Pictures from a folder of videos.

    Args:
        videos: a folder, or what else `find_videos` takes; None: there are none.

    Raises:
        NotFound: there is no video.
        Unreachable: it is a URL that can't be read.
    """

    def __init__(self, videos: Location | None, *, kept_bytes: int = KEPT_BYTES) -> None:
        self.videos: dict[str, Any] = {}
        self.place = videos
        if videos is not None:
            from antcache.extract.sources.finding import find_videos

            self.videos = dict(find_videos(videos))
        self._kept: OrderedDict[tuple[str, tuple[float, ...]], list[str]] = OrderedDict()
        self._kept_bytes, self._room = 0, kept_bytes
        self._lock = threading.Lock()
        self._decoding = threading.Semaphore(AT_ONCE)

    def at(self, video: str, seconds: Sequence[float]) -> dict[str, Any]:
        """Pictures of a video at some times, as `pictures` (data URLs), or `why` there are none."""
        if video not in self.videos:
            name = Path(str(self.place)).name
            return {"why": plain(f"{name} has no video of this name")}
        key = (video, tuple(seconds))
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return {"pictures": self._kept[key]}
        with self._decoding:
            try:
                made = _decoded(self.videos[video], seconds)
            except AntcacheError as error:
                return {"why": plain(error)}
            except Exception as error:  # a video may be from anybody: no page ends because of it
                LOG.warning("%s: no pictures: %s", video, error)
                return {"why": plain(f"can't be decoded ({type(error).__name__})")}
        self._keep(key, made)
        return {"pictures": made}

    def _keep(self, key: tuple[str, tuple[float, ...]], made: list[str]) -> None:
        """Keep pictures, and let go of those that were asked for the longest time ago."""
        with self._lock:
            self._kept_bytes -= sum(map(len, self._kept.pop(key, [])))
            self._kept[key] = made
            self._kept_bytes += sum(map(len, made))
            while self._kept_bytes > self._room:
                _, old = self._kept.popitem(last=False)
                self._kept_bytes -= sum(map(len, old))

    @property
    def kept_bytes(self) -> int:
        """Bytes of the pictures that are kept."""
        return self._kept_bytes


def _decoded(video: Any, seconds: Sequence[float]) -> list[str]:
    from antcache.extract.sources.thumbnails import data_url, thumbnails

    return [data_url(each) for each in thumbnails(video, list(seconds), height=HEIGHT)]
