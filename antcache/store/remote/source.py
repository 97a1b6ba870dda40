"""Where the pieces of arrays come from that do not lie on a local disk.

Promise: every piece is compared with its hash each time it comes; pieces of a slice are fetched in
parallel, as many as may be in memory at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from antcache.store.faults import damaged
from antcache.store.format import digest
from antcache.store.reading.pieces import Piece
from antcache.store.remote.files import RemoteFiles, batches


class RemoteSource:
    """Objects at a URL; see `Source`."""

    in_part = False

    def __init__(self, files: RemoteFiles) -> None:
        self._files = files

    def read(self, pieces: Sequence[Piece]) -> Iterator[bytes]:
        """See `Source`."""
        by_name = {piece.proof.file: piece for piece in pieces}
        for names in batches({name: piece.length for name, piece in by_name.items()}):
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


class MemorySource:
    """Objects that are about to be written, and were hashed just now; see `Source`."""

    in_part = False

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files

    def read(self, pieces: Sequence[Piece]) -> Iterator[bytes]:
        """See `Source`."""
        for piece in pieces:
            yield self._files[piece.proof.file]

    def where(self, piece: Piece) -> str:
        """See `Source`."""
        return piece.proof.file
