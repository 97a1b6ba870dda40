"""Whether rows that are in a stream came from the file that is given now, as far as sizes tell.

Promise: nothing is said of rows that were stored without the size of their file.
"""

from __future__ import annotations

import shlex

from antcache.errors import FingerprintMismatch
from antcache.store.location import Location
from antcache.store.store import Store

FILE_BYTES = "file_bytes"
"""Attribute of a video: the size of the file that its rows came from, or of all its files."""


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
    remove = shlex.join(["antcache", "store", "remove", str(store.path), key])
    raise FingerprintMismatch(
        f"{stream}/{video} in the store came from another file",
        where=path,
        expected=f"{kept} bytes",
        found=f"{num_bytes} bytes",
        hint="if this file is whole and the right one, remove the old rows and run this again: "
        f"{remove}; or use another stream name",
    )
