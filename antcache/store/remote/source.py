"""Where the pieces of arrays come from that do not lie on a local disk.

Promise: every piece is compared with its hash each time it comes; pieces of a slice are fetched in
parallel, as many as may be in memory at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from antcache.store.backend import Unit
from antcache.store.faults import damaged
from antcache.store.format import TEXT_BYTES, digest, join
from antcache.store.reading.pieces import Piece, PiecedArray
from antcache.store.remote.files import RemoteFiles, batches
from antcache.store.zarr_unit import ZARR_JSON, layouts, unit_of

T = TypeVar("T")


def opened(
    files: RemoteFiles, key: str, document: bytes, under_way: Callable[[], None] | None = None
) -> Unit:
    """A unit whose files are in the folder `key`, by its `zarr.json`; nothing is read of its rows.

    Args:
        files: the objects of the store.
        key: the folder.
        document: what its `zarr.json` holds, or will hold.
        under_way: is called each time that some of it was fetched.

    Raises:
        DamagedStore: it can't be what was written.
    """
    where, sizes = f"{files.url}/{key}", files.sizes(key)
    attributes, hashes = unit_of(document, where)
    described = [name for name in hashes if name.endswith(ZARR_JSON) and name in sizes]
    if (long := sum(sizes[name] for name in described)) > TEXT_BYTES:
        raise damaged(where, f"{', '.join(described)}: {long} bytes are too many")
    texts = files.read_many(join(key, name) for name in described)
    ahead = {name: text for name, text in zip(described, texts, strict=True) if text is not None}
    found = layouts(hashes, looked_up(ahead), looked_up(sizes), key, where)
    source = RemoteSource(files, under_way)
    return {name: PiecedArray(layout, source) for name, layout in found.items()}, attributes


def looked_up(found: Mapping[str, T]) -> Callable[[str], T]:
    """What stands under a name, as a function that says what is missing as files do."""

    def look(name: str) -> T:
        if name not in found:
            raise FileNotFoundError(name)
        return found[name]

    return look


class RemoteSource:
    """Objects at a URL; see `Source`."""

    in_part = False

    def __init__(self, files: RemoteFiles, under_way: Callable[[], None] | None) -> None:
        self._files = files
        self._under_way = under_way

    def read(self, pieces: Sequence[Piece]) -> Iterator[bytes]:
        """See `Source`."""
        by_name = {piece.proof.file: piece for piece in pieces}
        for names in batches(by_name, lambda name: by_name[name].length):
            if self._under_way is not None:
                self._under_way()
            for name, raw in zip(names, self._files.read_many(names), strict=True):
                where = self.where(by_name[name])
                if raw is None:
                    raise damaged(where, "it is gone")
                if digest(raw) != by_name[name].proof.digest:
                    raise damaged(where, "its values are not as they were written")
                yield raw

    def where(self, piece: Piece) -> str:
        """See `Source`."""
        return f"{self._files.url}/{piece.proof.file}"
