"""One picture of a JPEG or PNG file as RGB, by Pillow.

Promise: upright, as its EXIF says; 8 bits a value, of 16 the upper ones. What would have to be
guessed is refused: transparent pixels (nothing says what lies behind) and colours for print (CMYK).
A picture larger than `MAX_PIXELS` is refused by its header, before there is memory for it, and so
is one that breaks off. No other format is tried, whatever the file is called.
"""

from __future__ import annotations

import io
import os
from typing import Any

import numpy as np

from antcache.errors import UnreadableVideo
from antcache.extract.videos.containers import MAX_ASPECT, MAX_PIXELS
from antcache.extract.videos.pictures import Picture
from antcache.untrusted import POINTER, NotFetched

MAX_BYTES = 8 * MAX_PIXELS
"""Of a file: the largest picture, not packed, with four values of 16 bits a pixel."""

JPEG, PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
"""How they begin."""


def decoded(data: bytes, where: str) -> Picture:
    """The picture (H, W, 3) uint8 in the bytes of a file, which lies at `where`.

    Raises:
        UnreadableVideo: it can't be read, or may not be.
    """
    try:
        return _rgb(_opened(data, where), where)
    except UnreadableVideo:
        raise
    except Exception as error:  # Pillow has another for each way in which a file can be wrong
        reason = " ".join(str(error).split()) or type(error).__name__
        raise _wrong("a picture that can't be read", where, found=reason) from error


def _opened(data: bytes, where: str) -> Any:
    """The picture before anything of it is unpacked; its size is one that may be."""
    # The readers themselves: `Image.open` warns of large pictures on stderr, and tries all formats.
    from PIL.JpegImagePlugin import JpegImageFile
    from PIL.PngImagePlugin import PngImageFile

    if data.startswith(POINTER):
        raise _wrong("not a picture", where, found=NotFetched())
    image: Any
    if data.startswith(JPEG):
        image = JpegImageFile(io.BytesIO(data))
    elif data.startswith(PNG):
        image = PngImageFile(io.BytesIO(data))
    else:
        raise _wrong("not a picture", where, expected="a JPEG or PNG", found=f"{len(data)} bytes")
    short, long = sorted(image.size)
    if short * long > MAX_PIXELS or long > MAX_ASPECT * short:
        raise _wrong(
            "a picture of an impossible size",
            where,
            expected=f"at most {MAX_PIXELS} pixels, and {MAX_ASPECT} to 1",
            found=f"{image.width} x {image.height}",
        )
    return image


def _rgb(image: Any, where: str) -> Picture:
    from PIL import Image, ImageOps

    image.load()
    image = ImageOps.exif_transpose(image)
    if image.mode == "CMYK":
        raise _wrong("colours for print (CMYK)", where, hint="convert its pictures to RGB")
    if image.mode.startswith("I"):  # 16 bits of grey; of colours, Pillow keeps the upper ones too
        image = Image.fromarray((np.asarray(image, dtype=np.uint32) >> 8).astype(np.uint8))
    if "transparency" in image.info:
        image = image.convert("RGBA")
    if "A" in image.getbands() and image.getchannel("A").getextrema() != (255, 255):
        raise _wrong("transparent pixels", where, hint="nothing says what lies behind them")
    return np.array(image.convert("RGB"), dtype=np.uint8)


def _wrong(problem: str, where: str | os.PathLike[str], **about: Any) -> UnreadableVideo:
    return UnreadableVideo(problem, where=where, **about)
