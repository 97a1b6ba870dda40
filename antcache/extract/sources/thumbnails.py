"""Small pictures of a video, for people to look at: film strips on pages.

Promise: what is shown at a time is the last frame at or before it, and the video's first frame
before there is any; never a later one. Only these frames become pictures, and only the small ones
are kept. Nothing here is part of a feature.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from antcache.errors import BadConfig, needs
from antcache.extract.videos.decode import VideoReader

if TYPE_CHECKING:
    from antcache.extract.videos.pictures import Picture
    from antcache.extract.videos.source import VideoSource

HEIGHT = 120
"""Of a picture, in pixels, unless another is asked for."""
WIDEST = 4
"""Times its height that a picture is wide at most: what is wider becomes lower."""
QUALITY = 80
"""Of JPEG."""


def go_on() -> None:
    """Let work go on; others may raise."""


def thumbnails(
    video: Path | VideoSource,
    times_s: Sequence[float],
    *,
    height: int = HEIGHT,
    check: Callable[[], None] = go_on,
) -> list[bytes]:
    """JPEG files of what a video shows at some times (M,) in seconds, in any order.

    A time after the last frame shows that one. A video that ends early is shown as far as it goes.
    `check` is called at each frame: what it raises ends the work.

    Raises:
        BadConfig: a time is not a number.
        UnreadableVideo: nothing of it can be decoded, or it has a gap.
        MissingExtra: Pillow, or what decodes, is missing.
    """
    found, last_s = shown_at(video, times_s, height=height, check=check)
    if last_s is not None:
        ended = shown_at(video, [last_s], height=height, check=check)[0][last_s]
        found |= {time: ended for time in map(float, times_s) if time not in found}
    return [found[time] for time in map(float, times_s)]


def shown_at(
    video: Path | VideoSource,
    times_s: Sequence[float],
    *,
    height: int = HEIGHT,
    check: Callable[[], None] = go_on,
) -> tuple[dict[float, bytes], float | None]:
    """As `thumbnails`, by time, without those after the last frame.

    Returns:
        The pictures, and when the last frame is if there are such times, else None.
    """
    ascending = np.unique(np.asarray(times_s, dtype=np.float64))
    if not np.isfinite(ascending).all():
        raise BadConfig("a time that is not a number", expected="seconds", found=ascending[-1])
    found: dict[float, bytes] = {}

    def within(since: float, until: float) -> list[float]:
        first, end = np.searchsorted(ascending, (since, until))
        times: list[float] = ascending[first:end].tolist()
        return times

    def needed(since: float, until: float) -> bool:
        check()
        return bool(within(since, until))

    reader = VideoReader(video, allow_partial=True)
    with closing(reader.shown(needed)) as shown:
        for since, until, picture in shown:
            found |= dict.fromkeys(within(since, until), _jpeg(picture, height))
            if len(found) == len(ascending):
                break
    # Which frame is the last is known at the end alone.
    return found, None if len(found) == len(ascending) else reader.facts.last_s


def data_url(jpeg: bytes) -> str:
    """A picture as an address that a page can hold."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")


def _jpeg(picture: Picture, height: int) -> bytes:
    with needs("PIL", "extract"):
        from PIL import Image
    tall, wide = picture.shape[:2]
    scale = min(height / tall, WIDEST * height / wide)
    size = max(1, round(wide * scale)), max(1, round(tall * scale))
    buffer = io.BytesIO()
    Image.fromarray(picture).resize(size, Image.Resampling.BOX).save(
        buffer, "JPEG", quality=QUALITY
    )
    return buffer.getvalue()
