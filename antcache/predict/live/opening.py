"""Opens a camera or a URL with FFmpeg, and says whether it is live or a recording.

Promise: what comes from a server is read as media and as nothing else: it names no file of this
machine and no other address, whatever it says, and none of its pictures is larger than
`MAX_PIXELS`. A server that says nothing for `SILENCE_S` is given up. A source that states its
length is a recording, which is played at its own speed; any other is live.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from antcache.errors import BadConfig, NotFound, Unreachable, UnreadableVideo
from antcache.extract.videos.containers import CONTAINERS, MAX_PIXELS
from antcache.extract.videos.film import TITLES, film
from antcache.extract.videos.pyav import av
from antcache.predict.live.places import Camera, StreamUrl
from antcache.text import listed

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

SILENCE_S = 15.0
"""How long is waited for the next packet, and for a server to answer."""

DEVICES = {"linux": "v4l2", "darwin": "avfoundation", "win32": "dshow"}
"""FFmpeg's name for cameras, by the platform."""

STREAMED = {**CONTAINERS, "mpjpeg": "", "mjpeg": "", "rtsp": ""}
"""What is read of a server: containers in one piece, and streams that name no further place. HLS
and DASH are lists of other URLs."""

UNDATED = {"mpjpeg", "mjpeg"}
"""Forms without timestamps: FFmpeg makes some up."""

NO_ANSWER = "no such host, no answer, or one that leads to another URL"
"""What FFmpeg has one number for."""

PROTOCOLS = {
    "http": "http,tcp",
    "https": "https,http,tls,tcp",
    "rtsp": "rtp,udp,tcp",
    "rtsps": "rtp,udp,tcp,tls",
}
"""What FFmpeg may use, by the scheme of the URL: never a file."""


@dataclass(frozen=True)
class OpenedSource:
    """A source that has been opened.

    Attributes:
        container: FFmpeg's.
        stream: the one with the pictures.
        live: whether it is live; a recording states its length.
        dated: whether its timestamps are its own.
    """

    container: InputContainer
    stream: VideoStream
    live: bool
    dated: bool


def open_source(place: Camera | StreamUrl) -> OpenedSource:
    """Open it; who takes it closes the container.

    Raises:
        NotFound: no such camera.
        BadConfig: cameras can't be read here.
        Unreachable: nobody answers at the URL, or not with what is there.
        UnreadableVideo: what is there is no video.
    """
    container = _camera(place) if isinstance(place, Camera) else _url(place)
    try:
        stream = film(container, place)
    except BaseException:
        container.close()
        raise
    form = set(container.format.name.split(","))
    recorded = isinstance(place, StreamUrl) and bool(container.duration) and "rtsp" not in form
    # Whole frames at once: decoders that work on several frames hold back the newest ones.
    stream.thread_type = "AUTO" if recorded else "SLICE"
    return OpenedSource(container, stream, live=not recorded, dated=not form & UNDATED)


def _camera(camera: Camera) -> InputContainer:
    form = DEVICES.get(sys.platform, "")
    name = _device(camera, form)
    try:
        return _opened(name, format=form)
    except (ValueError, av.error.DemuxerNotFoundError) as error:
        raise BadConfig(
            "cameras can't be read",
            where=camera,
            expected=f"a PyAV whose FFmpeg has {form or 'cameras of this system'}",
            found=f"PyAV {av.__version__} on {sys.platform}",
        ) from error
    except (av.FFmpegError, OSError) as error:
        raise NotFound(
            "no camera that can be opened",
            where=f"{camera} ({name})",
            found=error.strerror or error,
            hint="another program may have it, or its owner has to allow it",
        ) from error


def _device(camera: Camera, form: str) -> str:
    """What FFmpeg calls a camera.

    Raises:
        NotFound: there are fewer.
    """
    if form == "v4l2":
        return f"/dev/video{camera.number}"
    if form == "avfoundation":
        return f"{camera.number}:none"  # a picture, no sound
    names = []
    if form:
        names = [d.name for d in av.enumerate_input_devices(form) if "video" in d.media_types]
    if form and camera.number >= len(names):
        raise NotFound("no such camera", where=camera, found=listed(names) or "no camera at all")
    return f"video={names[camera.number]}" if names else str(camera.number)


def _url(place: StreamUrl) -> InputContainer:
    scheme = place.url.partition("://")[0]
    options = {
        "protocol_whitelist": PROTOCOLS[scheme],
        "format_whitelist": ",".join(STREAMED),
        "enable_drefs": "0",
        "max_pixels": str(MAX_PIXELS),
    }
    if scheme in ("rtsp", "rtsps"):
        options |= {"rtsp_flags": "prefer_tcp", "fflags": "nobuffer"}
    else:
        # An answer that leads elsewhere may lead into the network that this machine is in.
        options |= {"rw_timeout": str(round(SILENCE_S * 1e6)), "max_redirects": "0"}
    try:
        return _opened(place.url, options=options)
    except av.error.ArgumentError as error:  # how FFmpeg says that a form is not on the list
        raise UnreadableVideo(
            "not a video that can be watched",
            where=place,
            expected=", ".join(STREAMED),
            found="a list of other URLs, or a form that is not read",
        ) from error
    except av.error.InvalidDataError as error:
        raise UnreadableVideo("not a video", where=place, found=error.strerror) from error
    except av.error.ExitError as error:
        raise Unreachable(f"no answer for {SILENCE_S:g} s", str(place)) from error
    except (av.FFmpegError, OSError) as error:
        reason = error.strerror or type(error).__name__
        raise Unreachable(NO_ANSWER if error.errno == 5 else reason, str(place)) from error


def _opened(name: str, **options: Any) -> InputContainer:
    container: InputContainer = av.open(name, timeout=(SILENCE_S, SILENCE_S), **options, **TITLES)
    return container
