"""A frame as it is shown: upright, with square pixels, in RGB.

Promise: pixels that are not square are made so by stretching the picture, never by shrinking it; a
frame with square pixels keeps its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from antcache.errors import UnreadableVideo
from antcache.extract.videos.containers import MAX_ASPECT, MAX_PIXELS
from antcache.store.location import Location

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

Picture = NDArray[np.uint8]


def shown_size(frame: VideoFrame, aspect: Fraction, path: Location) -> tuple[int, int]:
    """Width and height of a frame with square pixels.

    Args:
        frame: its pixels are `aspect` times as wide as high.
        aspect: greater than 0.
        path: the file, for messages.

    Raises:
        UnreadableVideo: nobody looks at pictures like that.
    """
    wider, higher = (aspect, Fraction(1)) if aspect > 1 else (Fraction(1), 1 / aspect)
    width, height = round(frame.width * wider), round(frame.height * higher)
    short, long = sorted((width, height))
    stretched = "" if aspect == 1 else f", stretched from {frame.width} x {frame.height}"
    if long > MAX_ASPECT * short:
        raise UnreadableVideo(
            "its pictures are strips",
            where=path,
            expected=f"at most {MAX_ASPECT} to 1",
            found=f"{width} x {height}{stretched}",
        )
    if width * height > MAX_PIXELS:
        raise UnreadableVideo(
            "its pictures are too large",
            where=path,
            expected=f"at most {MAX_PIXELS} pixels",
            found=f"{width} x {height}{stretched}",
        )
    return width, height


@dataclass(frozen=True)
class Orientation:
    """How a picture is to be shown: transposed, then mirrored."""

    turned: bool
    mirror_x: bool
    mirror_y: bool


def orientation(frame: VideoFrame, path: Location) -> Orientation:
    """Orientation that the display matrix of a frame asks for.

    The matrix `(a, b, u, c, d, v, x, y, w)` shows the pixel (x, y) at (a x + c y, b x + d y); see
    FFmpeg, `libavutil/display.h`.
    """
    matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return Orientation(False, False, False)
    a, b, _, c, d = (int(v) for v in np.frombuffer(bytes(matrix), dtype=np.int32)[:5])
    if b == c == 0 and a != 0 and d != 0:
        return Orientation(False, a < 0, d < 0)
    if a == d == 0 and b != 0 and c != 0:
        return Orientation(True, c < 0, b < 0)
    raise UnreadableVideo("turned by an angle that is no multiple of 90", where=path)


def upright_rgb(frame: VideoFrame, size: tuple[int, int], shown: Orientation) -> Picture:
    """Picture (H, W, 3) uint8 of a frame: brought to `size` (width, height), then turned."""
    from antcache.extract.videos.pyav import ONE_THREAD  # who names the type alone needs no PyAV

    picture = frame.to_ndarray(format="rgb24", width=size[0], height=size[1], **ONE_THREAD)
    picture = picture.swapaxes(0, 1) if shown.turned else picture
    picture = picture[:: -1 if shown.mirror_y else 1, :: -1 if shown.mirror_x else 1]
    return np.ascontiguousarray(picture, dtype=np.uint8)
