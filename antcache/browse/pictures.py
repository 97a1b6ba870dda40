"""Pictures of videos, made when they are asked for and kept within a bound.

Promise: what is kept takes at most `KEPT_BYTES`, and few videos are decoded at once. A video that
is not there, or that can't be decoded, whatever it holds, gives the reason in place of pictures.
What nobody waits for any more is not decoded further.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from antcache.errors import AntcacheError
from antcache.store.location import Location
from antcache.text import plain

LOG = logging.getLogger(__name__)

KEPT_BYTES = 64 << 20
AT_ONCE = 2
"""Videos that are decoded at the same time."""
LOOK_S = 0.2
"""How often those who wait look whether they are waited for."""
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
        self._kept: OrderedDict[str, dict[float, str]] = OrderedDict()
        self._kept_bytes, self._room = 0, kept_bytes
        self._lock = threading.Lock()
        self._decoding: dict[str, threading.Lock] = {}
        self._at_once = threading.Semaphore(AT_ONCE)

    def of(
        self, video: str, seconds: Collection[float], gone: Callable[[], bool] = lambda: False
    ) -> dict[float, str] | str:
        """Pictures of a video by their times, as data URLs; or why there are none.

        A video is decoded from its beginning, once: ask for all that may be wanted of it. As soon
        as whoever asked is `gone`, it is decoded no further, and makes way for what others look at.
        """
        if video not in self.videos:
            name = Path(str(self.place)).name
            return plain(f"{name} has no video of this name")
        with self._lock:
            decoding = self._decoding.setdefault(video, threading.Lock())
        try:
            with _held(decoding, gone):
                return self._made(video, seconds, gone)
        except _GoneError:
            return "nobody waits for them any more"

    def _made(
        self, video: str, seconds: Collection[float], gone: Callable[[], bool]
    ) -> dict[float, str] | str:
        """Pictures that are kept, or made and kept; by one caller of a video at a time."""
        with self._lock:
            kept = self._kept.get(video)
            if kept is not None and kept.keys() >= set(seconds):
                self._kept.move_to_end(video)
                return kept
        try:
            with _held(self._at_once, gone):
                made = _decoded(self.videos[video], sorted(seconds), gone)
        except _GoneError:
            raise
        except AntcacheError as error:
            return plain(error)
        except Exception as error:  # a video may be from anybody: no page ends because of it
            LOG.warning("%s: no pictures: %s", video, error)
            return plain(f"can't be decoded ({type(error).__name__})")
        self._keep(video, made)
        return made

    def _keep(self, video: str, made: dict[float, str]) -> None:
        """Keep pictures, and let go of those that were asked for the longest time ago."""
        with self._lock:
            self._kept_bytes -= _size(self._kept.pop(video, {}))
            self._kept[video] = made
            self._kept_bytes += _size(made)
            while self._kept_bytes > self._room:
                _, old = self._kept.popitem(last=False)
                self._kept_bytes -= _size(old)

    @property
    def kept_bytes(self) -> int:
        """Bytes of the pictures that are kept."""
        return self._kept_bytes


def _size(pictures: dict[float, str]) -> int:
    return sum(map(len, pictures.values()))


def _decoded(video: Any, seconds: list[float], gone: Callable[[], bool]) -> dict[float, str]:
    from antcache.extract.sources.thumbnails import data_url, thumbnails

    def check() -> None:
        if gone():
            raise _GoneError

    made = map(data_url, thumbnails(video, seconds, height=HEIGHT, check=check))
    return dict(zip(seconds, made, strict=True))


@contextmanager
def _held(lock: threading.Lock | threading.Semaphore, gone: Callable[[], bool]) -> Iterator[None]:
    """Hold a lock; `_GoneError` if nobody waits for that any more."""
    while not lock.acquire(timeout=LOOK_S):
        if gone():
            raise _GoneError
    try:
        yield
    finally:
        lock.release()


class _GoneError(Exception):
    """Nobody waits for what is made."""
