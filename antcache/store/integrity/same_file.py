"""Whether rows that are in a stream came from the file that is given now, as far as sizes tell.

Promise: nothing is said of rows that were stored without the size of their file, or, of pictures,
without where their times come from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from antcache.errors import FingerprintMismatch
from antcache.store.location import Location, removing
from antcache.store.store import Store

FILE_BYTES = "file_bytes"
"""Attribute of a video: the size of the file that its rows came from, or of all its files."""

TIMES_FROM = ("image_fps", "image_times")
"""Attributes of a video that was pictures: their rate, or the name of the table of their times."""

SAME_RATE = 1e-5
"""Share by which a rate may differ: 29.97 is 30000/1001, and an hour of it 4 ms longer."""


def require_same_file(
    store: Store, stream: str, video: str, path: Location, num_bytes: int
) -> None:
    """Raise `FingerprintMismatch` if a finished video came from a file of another size.

    Args:
        store: where it is.
        stream: name of the stream.
        video: name of the video.
        path: the file of now, for the message.
        num_bytes: its size.

    Raises:
        MissingKey: the video is not in the stream.
        DamagedStore: it is not as it was written.
    """
    key = f"features/{stream}/{video}"
    kept = store.backend.open(key)[1].get(FILE_BYTES)
    if kept is None or kept == num_bytes:
        return
    raise FingerprintMismatch(
        f"{stream}/{video} in the store came from another file",
        where=path,
        expected=f"{kept} bytes",
        found=f"{num_bytes} bytes",
        hint="if this file is whole and the right one, remove the old rows and run this again: "
        f"{removing(store.path, key)}; or use another stream name",
    )


def require_same_times(
    store: Store, stream: str, video: str, path: Location, times_from: Mapping[str, object]
) -> None:
    """Raise `FingerprintMismatch` if the times of a finished video's pictures came from elsewhere.

    Args:
        store: where it is.
        stream: name of the stream.
        video: name of the video.
        path: the pictures of now, for the message.
        times_from: where their times come from now: a rate, or the name of a table.

    Raises:
        MissingKey: the video is not in the stream.
        DamagedStore: it is not as it was written.
    """
    key = f"features/{stream}/{video}"
    about = store.backend.open(key)[1]
    kept = {name: about[name] for name in TIMES_FROM if name in about}
    same = kept.keys() == times_from.keys() and all(
        _same(value, times_from[name]) for name, value in kept.items()
    )
    if same or not kept:
        return
    raise FingerprintMismatch(
        f"the pictures of {stream}/{video} in the store had other times",
        where=path,
        expected=_said(kept),
        found=_said(times_from),
        hint="if these are the right ones, remove the old rows and run this again: "
        f"{removing(store.path, key)}",
    )


def _same(kept: object, now: object) -> bool:
    """Whether two times' sources are one; a rate may be written with fewer digits."""
    if isinstance(kept, int | float) and isinstance(now, int | float):
        return math.isclose(kept, now, rel_tol=SAME_RATE)
    return kept == now


def _said(times_from: Mapping[str, object]) -> str:
    return ", ".join(f"{name.replace('_', '-')} {value}" for name, value in times_from.items())
