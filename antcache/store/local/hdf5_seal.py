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

import itertools
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import h5py

from antcache.store.backend import METADATA
from antcache.store.reading.proof import Count, Proof, Ranges, digest_of, read_range, uncounted
from antcache.store.seal import attributes_of, intact, sealed

SMALLEST_BLOCK = 512
LARGEST_BLOCK = 1 << 24
SIGNATURE = b"\x89HDF\r\n\x1a\n"
"""What follows the user block."""


def ranges_of(file: h5py.File) -> dict[str, Ranges]:
    """Where the values of each array of an open file lie, counted from the end of its block."""
    return {name: merged(_stored(dataset, file.userblock_size)) for name, dataset in file.items()}


def _stored(dataset: h5py.Dataset, block_bytes: int) -> Iterator[tuple[int, int]]:
    if dataset.chunks is None:
        start = dataset.id.get_offset()  # None where it has no values
        if start is not None:
            yield start - block_bytes, dataset.nbytes
        return
    for number in range(dataset.id.get_num_chunks()):
        chunk = dataset.id.get_chunk_info(number)
        yield chunk.byte_offset - block_bytes, chunk.size


def merged(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """Ranges in order, neighbours joined."""
    found: list[tuple[int, int]] = []
    for start, length in sorted(ranges):
        if found and sum(found[-1]) == start:
            found[-1] = (found[-1][0], found[-1][1] + length)
        else:
            found.append((start, length))
    return tuple(found)


def sealed_block(handle: int, block_bytes: int, ranges: dict[str, Ranges]) -> bytes:
    """The sealed text of the user block of an open file, for all that follows its `block_bytes`."""

    def digest_at(ranges: Ranges) -> str:
        return digest_of(handle, tuple((block_bytes + start, n) for start, n in ranges))

    size = os.fstat(handle).st_size - block_bytes
    arrays = {n: {"blake2b": digest_at(own), "ranges": own} for n, own in ranges.items()}
    metadata = digest_at(_gaps(itertools.chain(*ranges.values()), size))
    return sealed({"arrays": arrays, "metadata": metadata})


@dataclass(frozen=True, kw_only=True)
class UserBlock:
    """An intact user block of an open file.

    Attributes:
        num_bytes: its length.
        proofs: where the values of each array lie in the file, and their hash.
        metadata: the same of all other bytes after the block.
    """

    num_bytes: int
    proofs: dict[str, Proof]
    metadata: Proof

    @classmethod
    def read(cls, handle: int, name: str, count: Count = uncounted) -> UserBlock | None:
        """The block of the open file `name`; None if it is not as it was written."""
        num_bytes = SMALLEST_BLOCK
        while os.pread(handle, len(SIGNATURE), num_bytes) != SIGNATURE:
            num_bytes *= 2  # its length is a power of two
            if num_bytes > min(LARGEST_BLOCK, os.fstat(handle).st_size):
                return None
        text = read_range(handle, 0, num_bytes)
        count(len(text))
        written = text.rstrip(b" ")
        size = os.fstat(handle).st_size - num_bytes
        fields = attributes_of(written) if intact(written) else {}
        try:
            ranges = {n: _ranges(each["ranges"], size) for n, each in fields["arrays"].items()}
            hashes = {n: str(each["blake2b"]) for n, each in fields["arrays"].items()}
            metadata = str(fields["metadata"])
        except (KeyError, TypeError, ValueError, AttributeError):
            return None
        gaps = _gaps(itertools.chain(*ranges.values()), size)

        def proof(pieces: Ranges, digest: str) -> Proof:
            return Proof(name, tuple((num_bytes + start, n) for start, n in pieces), digest)

        return cls(
            num_bytes=num_bytes,
            proofs={n: proof(pieces, hashes[n]) for n, pieces in ranges.items()},
            metadata=proof(gaps, metadata),
        )

    def metadata_intact(self, handle: int, count: Count = uncounted) -> bool:
        """Whether everything but the values is as it was written: a few kilobytes."""
        return digest_of(handle, self.metadata.ranges, count) == self.metadata.digest


def damaged_parts(handle: int, count: Count) -> list[str]:
    """See `Backend.damaged_parts`; of an open file.

    Raises:
        OSError: it can't be read.
    """
    block = UserBlock.read(handle, "", count)
    if block is None:
        return [METADATA]
    wrong = sorted(
        name
        for name, proof in block.proofs.items()
        if digest_of(handle, proof.ranges, count) != proof.digest
    )
    return wrong if block.metadata_intact(handle, count) else [*wrong, METADATA]


def _ranges(pieces: Any, size: int) -> Ranges:
    """Ranges that somebody has written down, none of them past `size`.

    An array without values has a range without bytes, which may start anywhere.
    """
    found = tuple((start, length) for start, length in pieces if length != 0)
    if not all(type(n) is int and n >= 0 for pair in found for n in pair) or any(
        start + length > size for start, length in found
    ):
        raise ValueError("ranges past the end of the file")
    return found


def _gaps(ranges: Iterable[tuple[int, int]], size: int) -> Ranges:
    """What lies between ranges, up to `size`."""
    found, stop = [], 0
    for start, length in (*sorted(ranges), (size, 0)):
        if start > stop:
            found.append((stop, start - stop))
        stop = max(stop, start + length)
    return tuple(found)
