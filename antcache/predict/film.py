"""A film with what is expected written into its pictures.

Promise: every frame stands at its own time, at variable rates too, and shows the last answer at or
before that time, never a later one. One picture is held at a time; the file appears whole or not at
all. There is no sound.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Generator, Sequence
from contextlib import closing
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from antcache.errors import BadConfig, UnreadableVideo, needs
from antcache.extract.videos.decode import TOLERANCE_S, source_of
from antcache.extract.videos.pictures import Picture
from antcache.extract.videos.source import VideoSource
from antcache.files import atomic_file
from antcache.predict.answers import Anticipation, percent, seconds, when
from antcache.progress import Progress, silent
from antcache.text import plain

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.stream import VideoStream

SUFFIXES = (".mp4", ".mkv")
TICKS = 60_000
"""Of a second: holds 24, 25, 30 and their thousandths exactly, and is what mpeg4 takes at most."""
CODECS = ("libx264", "mpeg4")
"""What encodes, the first that is here."""
LOWEST = 360
"""Pixels that a picture is high at least, so that text can be read in it."""
LINES = 22
"""Lines of text that would fill a picture."""
SHARE = 0.6
"""Of the width, that the text takes at most."""
DIM = 0.35
"""Of the picture's light, that is left behind the text."""


def check_film(path: Path) -> None:
    """Refuse a name that no film of ours has.

    Raises:
        BadConfig: it has another ending.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise BadConfig(
            "a film of another kind", where=path, expected=" or ".join(SUFFIXES), found=path.suffix
        )


def write_film(
    path: Path,
    video: Path | VideoSource,
    answers: Sequence[Anticipation],
    *,
    top: int = 5,
    max_gap_s: float = 2.0,
    allow_partial: bool = False,
    progress: Progress = silent,
    overwrite: bool = False,
) -> None:
    """Write the pictures of a video again, with the likeliest actions in each.

    Args:
        path: of the new film.
        video: the file, or another source.
        answers: ascending in time.
        top: how many actions are written.
        max_gap_s: how far apart two frames may be, in seconds.
        allow_partial: accept a video that ends before the end that it states.
        progress: called with "seconds of film".
        overwrite: replace a file that is there.

    Raises:
        AlreadyExists: `path` is there and `overwrite` is false, or it is a folder.
        BadConfig: its name is none of a film.
        UnreadableVideo: the video can't be decoded.
        MissingExtra: PyAV or Pillow is not installed.
        WriteFailed: the disk refused.
    """
    check_film(path)
    with needs("av", "extract"):
        import av
    with needs("PIL", "extract"):
        from PIL import Image
    source = source_of(video)
    length = source.duration_s() or 0.0
    times = [answer.time_s for answer in answers]
    panel: _WrittenAnswer | None = None
    stream: VideoStream | None = None
    shown: int | None = None
    with (
        atomic_file(path, overwrite=overwrite) as staged,
        av.open(str(staged), "w") as container,
        closing(_pictures(source, max_gap_s, allow_partial)) as pictures,
    ):
        for time, picture in pictures:
            if stream is None:
                stream = _stream(container, picture)
            size = stream.width, stream.height
            image = Image.fromarray(picture)
            if image.size != size:
                image = image.resize(size, Image.Resampling.BILINEAR)
            written = np.array(image)
            answer = bisect_right(times, float(time) + TOLERANCE_S) - 1
            if answer >= 0:
                if panel is None or shown != answer:
                    panel, shown = _WrittenAnswer(answers[answer], top, size), answer
                panel.put(written)
            frame = av.VideoFrame.from_ndarray(written, format="rgb24")
            frame.pts, frame.time_base = round(time * TICKS), Fraction(1, TICKS)
            container.mux(stream.encode(frame))
            progress("seconds of film", min(float(time), length), length)
        if stream is None:
            raise UnreadableVideo("nothing in it can be decoded", where=source.path)
        container.mux(stream.encode(None))


def _pictures(
    source: VideoSource, max_gap_s: float, allow_partial: bool
) -> Generator[tuple[Fraction, Picture], None, None]:
    """Pictures with their times; of several of one time the last, as it is the one that is seen."""
    frames = source.frames(max_gap_s=max_gap_s, allow_partial=allow_partial)
    last: tuple[Fraction, Any] | None = None
    with closing(iter(frames)) as given:
        for time, frame in given:
            if last is not None and round(time * TICKS) > round(last[0] * TICKS):
                yield last[0], frames.picture(last[1])
            last = time, frame
    if last is not None:
        yield last[0], frames.picture(last[1])


def _stream(container: OutputContainer, picture: Picture) -> VideoStream:
    """A stream for pictures of this size, made larger if it is small, of even sides."""
    import av

    codec = next((each for each in CODECS if each in av.codecs_available), CODECS[-1])
    height, width = picture.shape[:2]
    scale = max(1, -(-LOWEST // height))
    stream: VideoStream = container.add_stream(codec, rate=30)
    stream.width, stream.height = (side * scale + side * scale % 2 for side in (width, height))
    stream.pix_fmt = "yuv420p"
    stream.codec_context.time_base = stream.time_base = Fraction(1, TICKS)
    if codec == "libx264":
        stream.options = {"crf": "20", "preset": "veryfast"}
    else:
        stream.bit_rate = 4 * stream.width * stream.height
    return stream


class _WrittenAnswer:
    """An answer as light on a dark ground, drawn once for all pictures that show it.

    Args:
        answer: what it says.
        top: of how many actions.
        size: width and height of the pictures.
    """

    def __init__(self, answer: Anticipation, top: int, size: tuple[int, int]) -> None:
        self.answer, self.top, self.size = answer, top, size

    def put(self, picture: NDArray[np.uint8]) -> None:
        """Write it into a picture (H, W, 3), which is changed."""
        ink = self._ink
        height, width = ink.shape[:2]
        place = picture[-height:, :width]
        light = ink[..., None].astype(np.float32) / 255
        place[:] = (place * DIM * (1 - light) + 255 * light).astype(np.uint8)

    @cached_property
    def _ink(self) -> NDArray[np.uint8]:
        """How light each pixel is, (h, w)."""
        from PIL import Image, ImageDraw, ImageFont

        line = max(1, self.size[1] // LINES)
        font: Any = ImageFont.load_default(max(8, round(line * 0.72)))
        likely = self.answer.top[: self.top]
        width, margin = round(self.size[0] * SHARE), max(2, line // 3)
        rows = min(len(likely), self.size[1] // line - 2)
        image = Image.new("L", (width, line * (rows + 1) + 2 * margin), 0)
        draw = ImageDraw.Draw(image)
        answer = self.answer
        head = f"{seconds(answer.time_s)}: {when(answer.gap_s, answer.anchor)}"
        draw.text((margin, margin), head, 200, font=font)
        figures = round(font.getlength("100 %")) + margin
        for row, each in enumerate(likely[:rows], 1):
            y = margin + row * line
            bar = round((width - 2 * margin) * each.probability)
            draw.rectangle((margin, y, margin + bar, y + line - 2), 90)
            text = percent(each.probability)
            draw.text((margin + figures - font.getlength(text), y), text, 255, font=font)
            room = width - 3 * margin - figures
            name = _fitting(plain(each.name), room, font)
            draw.text((2 * margin + figures, y), name, 255, font=font)
        return np.array(image)


def _fitting(text: str, room: float, font: Any) -> str:
    """`text`, cut to what fits."""
    if font.getlength(text) <= room:
        return text
    while text and font.getlength(text + "...") > room:
        text = text[:-1]
    return text.rstrip() + "..."
