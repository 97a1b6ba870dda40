"""Videos that are done, but from another file than the one that is given now, or from pictures
whose times came from elsewhere.

Promise: a file is told from another by its size alone, and only where the rows say what that was;
of pictures their rate, or the table of their times, is compared and not what they show.
Up to `MOST_OPENED` videos (`MOST_ASKED` in a store at a URL) all are compared. Of more, which would
take longer to open than all the rest of a plan, a local store compares those whose file was written
or put there after their rows were, and a store at a URL none. Rows that can't be read are left to
`antcache store verify`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from antcache.errors import DamagedStore, FingerprintMismatch, MissingKey, ReadFailed
from antcache.extract.videos.finding import path_of
from antcache.extract.videos.source import OfPictures, StateOnDisk, VideoSource
from antcache.store import Store
from antcache.store.integrity.same_file import require_same_file, require_same_times
from antcache.store.local.tree import FolderTree
from antcache.store.location import Location

MOST_OPENED = 250
"""Videos of a local store that are opened whatever their dates are: 0.1 s, or 1 s of HDF5."""

MOST_ASKED = 16
"""The same at a URL, where each is a request or more."""


def require_unchanged(store: Store, stream: str, name: str, source: VideoSource) -> None:
    """Raise `FingerprintMismatch` if a video that is done came from a file of another size, or from
    pictures of other times."""
    if isinstance(source, OfPictures):
        _require_same_times(store, stream, name, source)
    elif (state := StateOnDisk.of(source)) is not None:
        _require_same(store, stream, name, source.path, state)


def changed_files(
    store: Store, stream: str, done: Mapping[str, Path | VideoSource]
) -> dict[str, str]:
    """Those of the videos that are done that came from another file: what is wrong, and what to do.

    Raises:
        Unreachable: the store is at a URL that can't be asked.
    """
    states = {
        name: state for name, video in done.items() if (state := StateOnDisk.of(video)) is not None
    }
    found = _other_times(store, stream, done)
    for name in _compared(store, stream, states):
        try:
            _require_same(store, stream, name, path_of(done[name]), states[name])
        except FingerprintMismatch as error:
            found[name] = str(error)
    return found


def _other_times(
    store: Store, stream: str, done: Mapping[str, Path | VideoSource]
) -> dict[str, str]:
    """Those videos of pictures whose times came from elsewhere. Of many the first ones are looked
    at, and the others too where one of these differs: most passes have one rate, or one table."""
    pictures = [
        (name, video)
        for name, video in done.items()
        if not isinstance(video, Path) and isinstance(video, OfPictures)
    ]
    found: dict[str, str] = {}
    first = MOST_OPENED if isinstance(store.backend, FolderTree) else MOST_ASKED
    for number, (name, video) in enumerate(pictures):
        if number >= first and not found:
            break
        try:
            _require_same_times(store, stream, name, video)
        except FingerprintMismatch as error:
            found[name] = str(error)
    return found


def _require_same(store: Store, stream: str, name: str, path: Location, state: StateOnDisk) -> None:
    with suppress(DamagedStore, MissingKey, ReadFailed):
        require_same_file(store, stream, name, path, state.num_bytes)


def _require_same_times(store: Store, stream: str, name: str, source: OfPictures) -> None:
    with suppress(DamagedStore, MissingKey, ReadFailed):
        require_same_times(store, stream, name, source.path, source.times_from)


def _compared(store: Store, stream: str, states: Mapping[str, StateOnDisk]) -> Iterable[str]:
    """Which videos are opened."""
    backend = store.backend
    if not isinstance(backend, FolderTree):
        return states if len(states) <= MOST_ASKED else ()
    if len(states) <= MOST_OPENED:
        return states
    return [
        name
        for name, state in states.items()
        if state.changed_s >= _written_s(backend.location(f"features/{stream}/{name}"))
    ]


def _written_s(unit: Path) -> float:
    """When the rows of a video were written; infinity if that can't be known."""
    try:
        return unit.stat().st_mtime
    except OSError:
        return float("inf")
