"""How many samples a file of the MP4 family states, before FFmpeg makes room for them.

Promise: no number is believed for which the bytes are not there. FFmpeg keeps 64 bytes for each
sample (picture, or piece of sound) that a file states, and a file of 3 kB can state 60 million.
Other containers have an entry in the file for each. A file that is none of the family states none.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator
from pathlib import Path

from antcache.errors import UnreadableVideo
from antcache.untrusted import NotFetched, check_fetched

READ = frozenset(
    b"moov moof hoov free skip meta udta trak mdia minf stbl traf edts dinf tref wave mvex".split()
)
"""Outermost boxes whose insides FFmpeg reads; all others it passes over."""

COUNT = re.compile(rb"(?:stsz|stz2).{8}(.{4})|trun.{4}(.{4})", re.DOTALL)
"""Where counts of samples stand: of a track, and of a fragment (ISO/IEC 14496-12, 8.7.3, 8.8.8)."""

PER_BYTE, ALWAYS = 8, 1 << 20
"""Samples that a file may state for each of its bytes, and in any case: old QuickTime counts the
values of compressed sound one by one, up to 6 in a byte."""


def check_samples(path: Path) -> None:
    """Check that a file does not state many more samples than it has bytes.

    Raises:
        UnreadableVideo: it does, or nobody can tell, or it is a Git LFS pointer.
    """
    size = path.stat().st_size
    if not size:
        return
    try:
        check_fetched(path)
    except NotFetched as error:
        raise UnreadableVideo("not a video", where=path, found=error) from error
    stated = 0
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for begin, end in _boxes(data):
            stated += sum(
                int.from_bytes(match[1] or match[2]) for match in COUNT.finditer(data, begin, end)
            )
            if data.find(b"cmov", begin, end) >= 0:
                raise UnreadableVideo(
                    "its header is compressed", where=path, hint="remux it into an .mkv or .mp4"
                )
    if stated > PER_BYTE * size + ALWAYS:
        raise UnreadableVideo(
            "it states more frames than it has room for",
            where=path,
            expected=f"at most {PER_BYTE * size + ALWAYS} in {size} bytes",
            found=stated,
        )


def _boxes(data: mmap.mmap) -> Iterator[tuple[int, int]]:
    """Begin and end of the contents of each outermost box that is read."""
    begin = 0
    while begin + 8 <= len(data):
        length, kind = int.from_bytes(data[begin : begin + 4]), data[begin + 4 : begin + 8]
        head = 8
        if length == 1:  # the length is a long one, behind the kind
            length, head = int.from_bytes(data[begin + 8 : begin + 16]), 16
        elif length == 0:  # up to the end of the file
            length = len(data) - begin
        if length < head:
            return
        if kind in READ:
            yield begin + head, min(begin + length, len(data))
        begin += length
