"""Videos at URLs: found by listing, where that can be, and fetched when their frames are asked for.

Promise: a file is fetched as a whole into the scratch folder, compared with the size that the
server states, and deleted when its frames are done; what is there in part is never decoded. A
connection that breaks is taken up where it broke, a few times, unless the file was changed
meanwhile. What can't be fetched fails by itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from antcache.errors import AntcacheError, BadConfig, Unreachable, UnreadableVideo, WriteFailed
from antcache.extract.sources.config import SourceConfig
from antcache.extract.sources.picture_video import PictureVideo
from antcache.extract.sources.scratch import Scratch, new_name
from antcache.extract.videos.containers import ARCHIVES
from antcache.extract.videos.finding import SUFFIXES, OfPictures, Videos
from antcache.extract.videos.pictures import Picture
from antcache.extract.videos.source import (
    STILL_WANTED,
    Needed,
    VideoFacts,
    VideoSource,
    frames_of,
)
from antcache.store.remote.files import WEB, RemoteFacts, RemoteFiles

if TYPE_CHECKING:
    from antcache.extract.videos.nvdec import Decoder

ATTEMPTS = 5
"""How often a file is asked for: from where it broke off, if the server gives a part."""


def look_at_url(
    url: str,
    found: Videos,
    others: Counter[str],
    config: SourceConfig,
    of_pictures: OfPictures | None,
) -> None:
    """Add what is at a URL: a file, by its ending, or all below it; count what is no video.

    Raises:
        BadConfig: it is a folder of a server that lists none.
        Unreachable: it can't be listed.
    """
    endings = _endings(of_pictures)
    if _file_of(url).suffix.lower() in endings:
        found.is_one = True
        add_url(url, found, config, of_pictures)
        return
    if url.partition("://")[0] in WEB:
        raise BadConfig(
            "over http, folders can't be listed",
            where=url,
            expected="a file that ends like a video",
            hint="list the URLs of the videos in a file, videos.txt",
        )
    for name in sorted(RemoteFiles(url).sizes()):
        path = PurePosixPath(name)
        if any(part.startswith(".") for part in path.parts):
            others["hidden"] += 1
        elif path.suffix.lower() in endings:
            add_url(f"{url}/{name}", found, config, of_pictures)
        else:
            others[path.suffix.lower() or "no ending"] += 1


def add_url(
    url: str,
    found: Videos,
    config: SourceConfig,
    of_pictures: OfPictures | None,
    *,
    name: str = "",
) -> None:
    """Add the file at a URL, under a name or that which it has there."""
    file = _file_of(url)
    name = name or file.stem
    ending = file.suffix.lower()
    scratch = Scratch(config.scratch, config.scratch_size)
    make: Callable[[Path], VideoSource] = _film
    if of_pictures is not None and ending in ARCHIVES:
        try:
            pictures = of_pictures(name, Path(file.name))
        except AntcacheError as error:
            found.refuse(name, url, error)
            return
        assert isinstance(pictures, PictureVideo)
        make = partial(PictureVideo, clock=pictures.clock, fill=pictures.fill)
    found.add(name, RemoteVideo(url, ending, make, scratch))


@dataclass(frozen=True)
class RemoteVideo:
    """A video in one file at a URL.

    Attributes:
        url: where it is, with all that it takes to get it.
        ending: of the file, with its dot.
        make: makes a source of the file, once it is here.
        scratch: where it lies then.
    """

    url: str
    ending: str
    make: Callable[[Path], VideoSource]
    scratch: Scratch

    @property
    def path(self) -> str:
        """The URL without what is nobody else's business."""
        return shown(self.url)

    def frames(self, *, max_gap_s: float, allow_partial: bool) -> RemoteFrames:
        """Its frames."""
        return RemoteFrames(self, max_gap_s=max_gap_s, allow_partial=allow_partial)

    def decoded_by(self, decoder: Decoder) -> RemoteVideo:
        """See `OfFilms`; pictures are not concerned."""
        films = self.make is _film
        return replace(self, make=partial(_film, decoder=decoder)) if films else self

    def duration_s(self) -> float | None:
        """Nothing says it before the file is here."""
        return None


class RemoteFrames:
    """Fetches a file, gives its frames, and deletes it.

    Args:
        video: where it is.
        options: those of `VideoSource.frames`.
    """

    def __init__(self, video: RemoteVideo, **options: Any) -> None:
        self._video = video
        self._room = new_name()
        self._file = video.scratch.path() / self._room / f"video{video.ending}"
        self._frames = video.make(self._file).frames(**options)
        self._last: tuple[Any, Picture] | None = None

    @property
    def facts(self) -> VideoFacts:
        """See `Frames`."""
        return self._frames.facts

    def __iter__(self) -> Generator[tuple[Fraction, Any], None, None]:
        """Its frames with their times; the file is here as long as they are asked for."""
        return self._given(self._frames.__iter__)

    def only(self, needed: Needed) -> Generator[tuple[Fraction, Any], None, None]:
        """See `SparingFrames`."""
        return self._given(partial(frames_of, self._frames, needed))

    def _given(
        self, frames_of_file: Callable[[], Generator[tuple[Fraction, Any], None, None]]
    ) -> Generator[tuple[Fraction, Any], None, None]:
        fetch = Fetch(self._video.url)
        with self._video.scratch.room(fetch.size, self._room, self._video.path):
            fetch.into(self._file)
            try:
                frame = None
                with closing(frames_of_file()) as frames:
                    for time, frame in frames:
                        yield time, frame
                if frame is not None:  # it may yet be asked for when its file is gone
                    self._last = frame, self._frames.picture(frame)
            except UnreadableVideo as error:
                raise self._at_url(error) from error

    def picture(self, frame: Any) -> Picture:
        """See `Frames`."""
        if self._last is not None and frame is self._last[0]:
            return self._last[1]
        try:
            return self._frames.picture(frame)
        except UnreadableVideo as error:
            raise self._at_url(error) from error

    def _at_url(self, error: UnreadableVideo) -> UnreadableVideo:
        """The same, of the file where it comes from."""
        return UnreadableVideo(str(error).replace(str(self._file), self._video.path))


class Fetch:
    """The way of one file from a URL to the disk.

    Attributes:
        size: its bytes, as the server states them.
    """

    def __init__(self, url: str) -> None:
        self.url = shown(url)
        self.files = RemoteFiles(url)
        self._secret = urlsplit(url).query
        self._facts = self._asked()
        if self._facts.size is None:
            raise UnreadableVideo(
                "the server does not say how large it is",
                where=self.url,
                hint="fetch it yourself: nobody could tell whether it came as a whole",
            )
        self.size = self._facts.size

    def into(self, path: Path) -> None:
        """Write it to a new file.

        Raises:
            UnreadableVideo: it did not come as a whole.
            WriteFailed: the disk refused.
        """
        found, reason = 0, ""
        for _ in range(ATTEMPTS):
            start, found, reason = found, *self._more(path, found)
            if found == self.size:
                break
            if found > self.size or found == start:  # some servers give nothing but all
                found = 0
        else:
            raise UnreadableVideo(
                "it does not come as a whole",
                where=self.url,
                expected=f"{self.size} bytes",
                found=f"{found}{f' ({reason})' if reason else ''}",
                hint="run the command again when the network allows it",
            )
        if self._asked() != self._facts:
            raise UnreadableVideo(
                "it was changed while it was fetched", where=self.url, hint="run the command again"
            )

    def _more(self, path: Path, start: int) -> tuple[int, str]:
        """Write what comes behind the first bytes: how many there are then, and why not more."""
        reason, check = "", STILL_WANTED.get()
        try:
            with path.open("ab") as file:
                file.truncate(start)
                try:
                    with closing(self.files.stream(self._facts, start=start)) as parts:
                        for part in parts:
                            check()
                            if file.tell() + len(part) > self.size:  # there is no room for it
                                return self.size + 1, "more than that"
                            file.write(part)
                except (Unreachable, FileNotFoundError) as error:
                    reason = self._reason(error) if isinstance(error, Unreachable) else "it is gone"
                return file.tell(), reason
        except OSError as error:
            raise WriteFailed.because(error, path) from error

    def _reason(self, error: Unreachable) -> str:
        return error.reason.replace(self._secret, "...") if self._secret else error.reason

    def _asked(self) -> RemoteFacts:
        try:
            return self.files.facts()
        except FileNotFoundError as error:
            raise UnreadableVideo("nothing is there", where=self.url) from error
        except Unreachable as error:
            raise UnreadableVideo(
                "it can't be fetched",
                where=self.url,
                found=self._reason(error),
                hint="check the URL, the credentials and the network",
            ) from error


def shown(url: str) -> str:
    """A URL as messages and stores have it: on the web without names, passwords, keys and tokens,
    which stand before the host and behind a question mark."""
    if url.partition("://")[0] not in WEB:
        return url
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _film(path: Path, decoder: Decoder = "cpu") -> VideoSource:
    from antcache.extract.videos.film_frames import FilmFile  # PyAV is not needed to find videos

    return FilmFile(path, decoder=decoder)


def _file_of(url: str) -> PurePosixPath:
    """The path of a URL's file, as it is meant: on the web without a query, and written out."""
    if url.partition("://")[0] in WEB:
        return PurePosixPath(unquote(urlsplit(url).path))
    return PurePosixPath(url.partition("://")[2])


def _endings(of_pictures: OfPictures | None) -> tuple[str, ...]:
    return (*SUFFIXES, *(() if of_pictures is None else ARCHIVES))
