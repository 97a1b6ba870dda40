"""Indexes of streams: the names of all videos in one object, for buckets with thousands of them.

Promise: an index never changes what is in a store, only how fast that is told. How it stays true is
said in `remote/index.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from antcache.errors import AntcacheError
from antcache.store.backends import raise_format
from antcache.store.format import INDEX_FORMAT
from antcache.store.store import Store

logger = logging.getLogger(__name__)

WORTH = 1000
"""Videos from which on a pass that ends writes an index: two lists in three are saved from there,
since each gives a thousand objects and a video is three or more."""


def write_index(store: Store, stream: str) -> int:
    """Keep the names of a stream's videos in one object, until somebody writes to the stream.

    The first index makes the store one of format 3, which earlier versions of antcache refuse.

    Returns:
        How many videos it names.

    Raises:
        MissingKey: the store has no such stream.
        AlreadyExists: another process is writing it.
        BadConfig: the store is on a disk, or its server does not write on condition.
        WriteFailed: it can't be written.
    """
    store.stream(stream)
    if store.backend.keeps_indexes:
        raise_format(store.backend, INDEX_FORMAT)
    return store.backend.write_index(f"features/{stream}")


def write_indexes(store: Store, streams: Sequence[str] | None = None) -> dict[str, int]:
    """`write_index` of some streams, or all; videos by name of the stream."""
    return {name: write_index(store, name) for name in streams or store.streams()}


def index_if_worth(store: Store, stream: str, videos: int) -> None:
    """Write the index of a stream that a pass has left with so many videos, if that is worth it and
    it has none; what keeps it from being written is logged, and nothing depends on it."""
    try:
        if videos < WORTH or not store.backend.keeps_indexes:
            return
        if store.backend.has_index(f"features/{stream}"):
            return
        count = write_index(store, stream)
        logger.info("%s: %d videos of %s are in an index", store.path, count, stream)
    except AntcacheError as error:
        logger.info("no index of %s is written: %s", stream, error)
