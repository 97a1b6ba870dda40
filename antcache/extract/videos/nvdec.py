"""Decoding on NVIDIA's decoder (NVDEC) in place of the CPU.

Promise: frames come back into memory as the CPU's decoder lays them out, so that all that becomes
of them is the same; of an undamaged stream, both give the same bits, as its codec prescribes. What
NVDEC can't decode, the CPU does. Where there is none, that is said before anything is opened. Not
covered: damage, of which NVDEC notices less.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from antcache.errors import BadConfig
from antcache.extract.videos.pyav import ONE_THREAD, av

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

Decoder = Literal["cpu", "nvdec"]

OLDEST = (18, 0)
"""Of PyAV: before, frames that came from a GPU had lost their colours' range and their rotation."""

LAYOUTS = {"nv12": "yuv420p", "p010le": "yuv420p10le"}
"""How the CPU lays out what comes from NVDEC; others stay as they come."""


def check_decoder(decoder: Decoder) -> None:
    """Raise `BadConfig` if this machine has no such decoder."""
    if decoder == "cpu":
        return
    if tuple(map(int, av.__version__.split(".")[:2])) < OLDEST:
        raise BadConfig(
            "PyAV is too old for `decoder` nvdec",
            expected=".".join(map(str, OLDEST)),
            found=av.__version__,
            hint="pip install -U av; or `decoder` cpu",
        )
    try:
        av.CodecContext.create("h264", "r", hwaccel=accelerated())
    except (av.FFmpegError, NotImplementedError, RuntimeError) as error:
        raise BadConfig(
            "no NVIDIA decoder here, so no `decoder` nvdec",
            expected="a GPU of NVIDIA, its driver, and a PyAV that was built for it",
            found=getattr(error, "strerror", None) or error,
            hint="`decoder` cpu",
        ) from error


def accelerated() -> Any:
    """What FFmpeg is told in order to use it."""
    from av.codec.hwaccel import HWAccel

    return HWAccel(device_type="cuda", allow_software_fallback=True)


def as_on_cpu(frame: VideoFrame) -> VideoFrame:
    """A frame in the layout of the CPU's decoder; the same values."""
    layout = LAYOUTS.get(frame.format.name)
    if layout is None:
        return frame
    full_range = frame.color_range == av.video.reformatter.ColorRange.JPEG
    layout = "yuvj420p" if full_range and layout == "yuv420p" else layout
    # Several threads may write over the ends of one another's rows, too (seen with p010le).
    return frame.reformat(format=layout, **ONE_THREAD)
