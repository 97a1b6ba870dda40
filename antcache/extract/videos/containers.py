"""Which files are videos to us: containers that are whole in one file, and limits of pictures.

Promise: with `OPTIONS`, FFmpeg reads nothing but the file it is given, whatever the file says, and
makes room for no picture larger than `MAX_PIXELS` while it looks for a video's form.
"""

from __future__ import annotations

CONTAINERS = {
    "mov": "mp4 mov m4v 3gp",
    "matroska": "mkv webm",
    "avi": "avi",
    "mpegts": "ts mts m2ts",
    "mpeg": "mpg mpeg vob",
    "asf": "wmv asf",
    "flv": "flv",
    "ogg": "ogv",
    "mxf": "mxf",
    "nut": "nut",
    "dv": "dv",
    "ivf": "ivf",
}
"""FFmpeg's containers that are whole in one file and have timestamps, and their usual endings.

Others read further files of the disk (ffconcat, HLS, DASH, image sequences, VobSub), wait for a
network or a device, or are dated by a guess (raw streams).
"""

MAX_PIXELS = 1 << 25
"""Of the largest picture, just over 8K (7680 x 4320): a few kB can state any size."""

MAX_ASPECT = 50
"""Of a picture's edges: one of 16 x 65,535 would be resized to a million pixels in a row."""

OPTIONS = {
    "format_whitelist": ",".join(CONTAINERS),
    "protocol_whitelist": "file",
    "enable_drefs": "0",  # tracks of a .mov that lie in other files
    "max_pixels": str(MAX_PIXELS),
}
"""What FFmpeg is told about every file that it opens."""

IMAGES, ARCHIVES = (".jpg", ".jpeg", ".png"), (".tar",)
"""Endings of frames as datasets offer them beside videos, one by one and packed."""

PICTURES = (*IMAGES, *ARCHIVES, ".zip")
"""Endings of what may be frames, or hold some."""

FRAMES = (
    "pictures say no times: give antcache extract the rate at which they were taken (--image-fps) "
    "or a table of their times (--image-times); of archives, tars are read"
)
"""What to do with them."""
