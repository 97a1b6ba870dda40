"""What videos come from: something that has frames with times, whatever it is made of.

Promise: a source is a small value that any process can be given; nothing is opened until its frames
are asked for.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Generator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from antcache.extract.videos.pictures import Picture
from antcache.store.location import Location
from antcache.untrusted import POINTER_BYTES, NotFetched, check_fetched

if TYPE_CHECKING:
    from antcache.extract.videos.nvdec import Decoder


def file_name(path: Location) -> str:
    """What a file or folder is called, without where it lies."""
    return path.rpartition("/")[2] if isinstance(path, str) else path.name


Needed = Callable[[Fraction, Fraction, Fraction], bool]
"""Whether a frame is looked at: the time of the first frame, its own, and the next one's."""


STILL_WANTED: ContextVar[Callable[[], None]] = ContextVar("STILL_WANTED", default=lambda: None)
"""Raises once nobody takes frames any more: asked at each frame, and by what takes long before the
first one comes."""


@dataclass(kw_only=True)
class VideoFacts:
    """What is found out about a video while it is decoded.

    Attributes:
        start_s: time of the first frame in seconds, known from the first picture on.
        last_s: time of the last frame, known at the end.
        num_frames: frames so far, decoded or not.
        unneeded_frames: those of them that were not decoded, because nobody needs them.
        skipped_packets: packets that could not be decoded so far.
        skipped_frames: frames passed over so far, after such packets or for running backwards.
        pixel_aspect: width of the film's pixels over their height, known from the first picture on.
        ended_early: whether the file turned out to be shorter than it states.
        about: what else is to be known of a source that is not one file, kept with its rows.
    """

    start_s: float = 0.0
    last_s: float = 0.0
    num_frames: int = 0
    unneeded_frames: int = 0
    skipped_packets: int = 0
    skipped_frames: int = 0
    pixel_aspect: Fraction = Fraction(1)
    ended_early: bool = False
    about: dict[str, Any] = field(default_factory=dict)


class Frames(Protocol):
    """The frames of one video, in the order of their times."""

    @property
    def facts(self) -> VideoFacts:
        """What is known so far; `start_s` and `last_s` are for whoever looks at the times."""

    def __iter__(self) -> Generator[tuple[Fraction, Any], None, None]:
        """Intact frames with their times in seconds, ascending.

        Raises:
            UnreadableVideo: possibly after some frames.
        """

    def picture(self, frame: Any) -> Picture:
        """A frame as it is shown: upright RGB with square pixels; only while it is the last one
        that was given, or the one before."""


@runtime_checkable
class SparingFrames(Frames, Protocol):
    """Frames that need not all be made."""

    def only(self, needed: Needed) -> Generator[tuple[Fraction, Any | None], None, None]:
        """As of `__iter__`, with the same times; a frame that is not needed may be None."""


def frames_of(frames: Frames, needed: Needed) -> Generator[tuple[Fraction, Any | None], None, None]:
    """All frames that are needed, and the times of all; those that are not needed may be None."""
    return frames.only(needed) if isinstance(frames, SparingFrames) else iter(frames)


class VideoSource(Protocol):
    """Where a video comes from."""

    @property
    def path(self) -> Location:
        """Where it lies: what messages and the ledger call it."""

    def frames(self, *, max_gap_s: float, allow_partial: bool) -> Frames:
        """Its frames; nothing is opened before the first is asked for.

        Args:
            max_gap_s: how far apart two frames may be, in seconds.
            allow_partial: accept what ends early, and stop where it ends.
        """

    def duration_s(self) -> float | None:
        """Stated length in seconds; None if it states none or can't be opened."""


@runtime_checkable
class OfFilms(VideoSource, Protocol):
    """A source that is made of films."""

    def decoded_by(self, decoder: Decoder) -> VideoSource:
        """The same, its films decoded so."""


@runtime_checkable
class OfFiles(VideoSource, Protocol):
    """A source that is made of films in local files."""

    def files(self) -> tuple[Path, ...]:
        """All of them; empty if a part lies elsewhere."""


@runtime_checkable
class OfPictures(VideoSource, Protocol):
    """A source that is made of pictures, which do not say when they were seen."""

    @property
    def times_from(self) -> Mapping[str, Any]:
        """What rows are kept with of where the times come from."""


def files_of(source: VideoSource) -> tuple[Path, ...]:
    """The local files that a source is made of; none where it does not say."""
    # A source of one's own may mean something else by the name: a protocol asks for no more.
    return source.files() if isinstance(source, OfFiles) and callable(source.files) else ()


@dataclass(frozen=True, kw_only=True)
class StateOnDisk:
    """What the disk says of the files of a video.

    Attributes:
        num_bytes: their size, all together.
        changed_s: when one of them was last written, or put where it is, in seconds since 1970.
    """

    num_bytes: int
    changed_s: float

    @classmethod
    def of(cls, video: Path | VideoSource) -> StateOnDisk | None:
        """None where it is not made of local files, they can't be looked at, or one is not here but
        for its Git LFS pointer."""
        if isinstance(video, Path):  # most are, and there may be many: protocols are slow to check
            files: tuple[Path, ...] = (video,)
        else:
            files = files_of(video)
        try:
            states = [file.stat() for file in files]
            for file, state in zip(files, states, strict=True):
                if state.st_size < POINTER_BYTES:
                    check_fetched(file)
        except (OSError, NotFetched):
            return None
        if not states or not all(stat.S_ISREG(each.st_mode) for each in states):
            return None
        return cls(
            num_bytes=sum(each.st_size for each in states),
            # A copy may keep the date of its contents; that of the file's own entry is new.
            changed_s=max(max(each.st_mtime, each.st_ctime) for each in states),
        )
