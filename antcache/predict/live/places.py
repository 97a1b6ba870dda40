"""Where a live picture comes from: a camera by its number, a URL, or a file.

Promise: what is no such place is refused before anything heavy is loaded. What messages and pages
call a place says no name, password, key or token.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from antcache.errors import BadConfig, NotFound, UnreadableVideo
from antcache.text import listed

SCHEMES = ("rtsp", "rtsps", "http", "https")
CAMERA = re.compile(r"\d{1,3}", re.ASCII)


@dataclass(frozen=True)
class Camera:
    """A camera of this machine.

    Attributes:
        number: 0 is the first one.
    """

    number: int

    def __str__(self) -> str:
        return f"camera {self.number}"


@dataclass(frozen=True)
class StreamUrl:
    """A stream, or a recording, at a URL.

    Attributes:
        url: with all that it takes to get it.
    """

    url: str

    def __str__(self) -> str:
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


Place = Camera | StreamUrl | Path


def place_of(text: str) -> Place:
    """What somebody means by a source.

    Raises:
        BadConfig: a URL that nobody watches.
        NotFound: no such camera, or nothing has that path.
        UnreadableVideo: no file has it.
    """
    if CAMERA.fullmatch(text):
        return _camera(int(text))
    scheme, separator, rest = text.partition("://")
    if separator:
        return _url(text, scheme.lower(), rest)
    path = Path(text)
    if path.is_file():
        return path
    if path.exists():
        kind = "a folder" if path.is_dir() else "no regular file"
        raise UnreadableVideo(
            "not a video",
            where=path,
            expected="a file; of a camera, its number",
            found=kind,
        )
    raise NotFound(
        "nothing to watch",
        where=path,
        expected=f"a file, the number of a camera, or a URL ({', '.join(SCHEMES)})",
        found="nothing",
    )


def _camera(number: int) -> Camera:
    if sys.platform == "linux" and not Path(f"/dev/video{number}").exists():
        there = sorted(int(found.name[5:]) for found in Path("/dev").glob("video[0-9]*"))
        raise NotFound(
            "no such camera",
            where=f"/dev/video{number}",
            found=listed([str(each) for each in there]) or "no camera at all",
            hint=f"a file of that name is ./{number}",
        )
    return Camera(number)


def _url(text: str, scheme: str, rest: str) -> StreamUrl:
    place = StreamUrl(f"{scheme}://{rest}")
    try:
        parts = urlsplit(place.url)
        named = scheme in SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, a host in brackets that is none
        named = False
    if not named or not text.isprintable() or " " in text:
        raise BadConfig(
            "no URL that can be watched",
            expected=f"{' or '.join(SCHEMES)}, as rtsp://camera.local/stream",
            found=f"{scheme}://..." if scheme not in SCHEMES else "another form",
        )
    return place
