"""Opens a media file, and says which of its streams is the film.

Promise: nothing but the file itself is read, whatever it says. The film is the first video stream
that is no cover picture and has more than one picture; only where several streams could be it, and
their container does not count pictures, is the file looked through. Pictures are stated in square
pixels.
"""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from antcache.errors import UnreadableVideo
from antcache.extract.videos.boxes import check_samples
from antcache.extract.videos.containers import CONTAINERS, FRAMES, MAX_PIXELS, OPTIONS, PICTURES
from antcache.extract.videos.pyav import av

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

# Titles that are no UTF-8 must not stop us. PyAV 19 replaces what it can't read; before, it must be
# told to, by an argument that 19 no longer takes.
TITLES: dict[str, Any] = (
    {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}
)


def open_container(path: Path, accelerated: Any = None) -> InputContainer:
    """Open a media file.

    Args:
        path: of the file.
        accelerated: what FFmpeg is told about the device that decodes it; None: it's the CPU.

    Raises:
        UnreadableVideo: it is missing, a folder, empty, or not a media file.
    """
    try:
        regular = path.is_file()
    except OSError as error:  # a folder on the way lets nobody through
        raise UnreadableVideo("may not be looked at", where=path, found=error.strerror) from error
    if not regular:  # a pipe or a device would be waited for
        raise UnreadableVideo("not a file", where=path, found=_instead(path))
    try:
        check_samples(path)
        # The absolute path, so that no name is taken for a protocol ("pipe:0.mp4").
        container: InputContainer = av.open(
            str(path.absolute()), options=OPTIONS, hwaccel=accelerated, **TITLES
        )
        return container
    except av.error.ArgumentError as error:  # how FFmpeg says that a form is not on the list
        raise UnreadableVideo(
            "not a video in one file",
            hint=_hint(path),
            where=path,
            expected=" ".join(CONTAINERS.values()),
            found="a list of files, a raw stream, or a form that is not read",
        ) from error
    except UnreadableVideo:
        raise
    except (av.FFmpegError, OSError) as error:
        raise UnreadableVideo(
            "not a video that can be opened",
            where=path,
            found=f"{path.stat().st_size} bytes, {error.strerror or error}",
            hint=_hint(path),
        ) from error


def _hint(path: Path) -> str:
    """What to do with a file that is no video but one of pictures."""
    return FRAMES if path.suffix.lower() in PICTURES else ""


def _instead(path: Path) -> str:
    """What stands where a file would."""
    if path.is_dir():
        return "a folder"
    if path.exists():
        return "no regular file"
    return "a link that leads nowhere" if path.is_symlink() else "nothing"


def film(container: InputContainer, path: object) -> VideoStream:
    """The stream with the pictures.

    Args:
        container: what was opened.
        path: of the file; or, for messages, what can't be opened twice: there the first stream is
            taken.

    Raises:
        UnreadableVideo: there is none, or no decoder for it.
    """
    cover = av.stream.Disposition.attached_pic
    streams = [s for s in container.streams.video if not s.disposition & cover]
    if not streams:
        kinds = ", ".join(sorted({s.type for s in container.streams})) or "nothing"
        raise UnreadableVideo("no video stream", where=path, found=f"only {kinds}")
    stream = streams[0]
    if len(streams) > 1 and isinstance(path, Path):
        stream = _first_of_many(streams, path)
    context = getattr(stream, "codec_context", None)
    if context is None:
        raise UnreadableVideo("no decoder for its video stream", where=path)
    context.options = {"max_pixels": str(MAX_PIXELS)}  # a stream's pictures may change their size
    return stream


def _first_of_many(streams: list[VideoStream], path: Path) -> VideoStream:
    """The first stream with more than one picture; a thumbnail may stand before the film."""
    stated = {s.index: s.frames for s in streams}
    pictures = stated if all(stated.values()) else _seen(path, first=streams[0].index)
    return next((s for s in streams if pictures[s.index] > 1), streams[0])


def _seen(path: Path, first: int) -> Counter[int]:
    """Pictures of each stream, looked for until stream `first` has a second one."""
    seen: Counter[int] = Counter()
    with open_container(path) as container:
        try:
            for packet in container.demux():
                seen[packet.stream.index] += packet.size > 0
                if seen[first] > 1:
                    break
        except av.FFmpegError:
            pass  # the end of what can be read; whoever decodes it says so
    return seen


def pixel_aspect(stream: VideoStream) -> Fraction:
    """How wide a pixel of the stream is to be shown, its height being 1."""
    return Fraction(stream.sample_aspect_ratio or 1)


def duration_s(path: Path) -> float | None:
    """Stated length of a video in seconds; None if it states none or can't be opened."""
    try:
        with open_container(path) as container:
            film(container, path)
            return None if container.duration is None else container.duration / av.time_base
    except UnreadableVideo:
        return None
