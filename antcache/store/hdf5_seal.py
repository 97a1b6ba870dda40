"""What the user block of an HDF5 unit says: where the values of its arrays lie, and all hashes.

Promise: every byte of the file is covered by a hash, and damage is found and named without the HDF5
library, which may run forever or crash on a file with a flipped bit. It only ever opens files whose
bytes outside the values are as they were written.

The user block, which HDF5 leaves to others, is a sealed JSON text filled up with blanks:

    {"arrays": {"rows": {"blake2b": <hash of its bytes>, "ranges": [[start, length], ...]}},
     "metadata": <hash of all other bytes after the block, in their order>, "seal": ...}

`start` counts from the end of the block. An array without ranges has no values.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

import h5py

from antcache.store.backend import METADATA, Count
from antcache.store.folder import PIECE_BYTES
from antcache.store.seal import attributes_of, intact, sealed

SMALLEST_BLOCK = 512
LARGEST_BLOCK = 1 << 24
SIGNATURE = b"\x89HDF\r\n\x1a\n"
"""What follows the user block."""

Ranges = list[tuple[int, int]]
"""Start and length of pieces of a file, ascending."""


def ranges_of(file: h5py.File) -> dict[str, Ranges]:
    """Where the values of each array of an open file lie, counted from the end of its block."""
    return {name: _merged(_stored(dataset, file.userblock_size)) for name, dataset in file.items()}


def _stored(dataset: h5py.Dataset, block_bytes: int) -> Iterator[tuple[int, int]]:
    if dataset.chunks is None:
        start = dataset.id.get_offset()  # None where it has no values
        if start is not None:
            yield start - block_bytes, dataset.nbytes
        return
    for number in range(dataset.id.get_num_chunks()):
        chunk = dataset.id.get_chunk_info(number)
        yield chunk.byte_offset - block_bytes, chunk.size


def _merged(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """Ranges in order, neighbours joined."""
    found: Ranges = []
    for start, length in sorted(ranges):
        if found and sum(found[-1]) == start:
            found[-1] = (found[-1][0], found[-1][1] + length)
        else:
            found.append((start, length))
    return found


def block_for(content: memoryview, ranges: dict[str, Ranges]) -> bytes:
    """The sealed text of the user block for `content`, which is all that follows it."""
    arrays = {
        name: {
            "blake2b": _digest(content[start : start + length] for start, length in pieces),
            "ranges": pieces,
        }
        for name, pieces in ranges.items()
    }
    gaps = _gaps(itertools.chain(*ranges.values()), len(content))
    metadata = _digest(content[start:stop] for start, stop in gaps)
    return sealed({"arrays": arrays, "metadata": metadata})


@dataclass(frozen=True, kw_only=True)
class Block:
    """An intact user block.

    Attributes:
        num_bytes: its length.
        ranges: where the values of each array lie, counted from its end.
        hashes: the hash of each array's bytes.
        metadata: the hash of all other bytes.
    """

    num_bytes: int
    ranges: dict[str, Ranges]
    hashes: dict[str, str]
    metadata: str

    @classmethod
    def read(cls, file: BufferedReader, count: Count) -> Block | None:
        """The block of an open file; None if it is not as it was written."""
        text = file.read(SMALLEST_BLOCK)
        while (found := file.read(len(SIGNATURE))) != SIGNATURE:
            if len(text) >= LARGEST_BLOCK or len(found) < len(SIGNATURE):
                return None
            text += found + file.read(len(text) - len(found))  # its length is a power of two
        count(len(text))
        written = text.rstrip(b" ")
        if not intact(written):
            return None
        fields: dict[str, Any] = attributes_of(written)
        arrays = fields["arrays"].items()
        return cls(
            num_bytes=len(text),
            ranges={name: [(s, n) for s, n in each["ranges"]] for name, each in arrays},
            hashes={name: each["blake2b"] for name, each in arrays},
            metadata=fields["metadata"],
        )

    def metadata_intact(self, file: BufferedReader, count: Count = lambda num_bytes: None) -> bool:
        """Whether everything but the values is as it was written: a few kilobytes."""
        size = file.seek(0, 2) - self.num_bytes
        gaps = _gaps(itertools.chain(*self.ranges.values()), size)
        found = _digest(
            piece for start, stop in gaps for piece in self._pieces(file, start, stop - start)
        )
        count(sum(stop - start for start, stop in gaps))
        return found == self.metadata

    def damaged_arrays(self, file: BufferedReader, count: Count) -> list[str]:
        """Names of the arrays whose values are not as they were written."""
        wrong = []
        for name, ranges in self.ranges.items():
            pieces = (p for start, length in ranges for p in self._pieces(file, start, length))
            if _digest(pieces) != self.hashes[name]:
                wrong.append(name)
            count(sum(length for _, length in ranges))
        return sorted(wrong)

    def _pieces(self, file: BufferedReader, start: int, length: int) -> Iterator[memoryview]:
        """The bytes of a range, in pieces that are gone when the next one is asked for."""
        file.seek(self.num_bytes + start)
        buffer = memoryview(bytearray(min(PIECE_BYTES, length)))
        while length > 0:
            found = file.readinto(buffer[: min(len(buffer), length)])
            if not found:
                return
            yield buffer[:found]
            length -= found


def metadata_intact(path: Path) -> bool:
    """Whether the HDF5 library may open the file at `path`."""
    with path.open("rb") as file:
        block = Block.read(file, lambda num_bytes: None)
        return block is not None and block.metadata_intact(file)


def damage(path: Path, count: Count) -> list[str]:
    """See `Backend.damage`.

    Raises:
        OSError: it can't be read.
    """
    with path.open("rb") as file:
        block = Block.read(file, count)
        if block is None:
            return [METADATA]
        wrong = block.damaged_arrays(file, count)
        return wrong if block.metadata_intact(file, count) else [*wrong, METADATA]


def _gaps(ranges: Iterable[tuple[int, int]], size: int) -> list[tuple[int, int]]:
    """Start and stop of what lies between ranges, up to `size`."""
    found, stop = [], 0
    for start, length in sorted(ranges):
        if start > stop:
            found.append((stop, start))
        stop = max(stop, start + length)
    if size > stop:
        found.append((stop, size))
    return found


def _digest(pieces: Iterable[memoryview]) -> str:
    """BLAKE2b (16 bytes, as hex) over pieces, one after another."""
    total = hashlib.blake2b(digest_size=16)
    for piece in pieces:
        total.update(piece)
    return total.hexdigest()
