"""Arrays that lie in the store in pieces of whole rows, and are read piece by piece.

Promise: a piece is compared with its hash before it is used, and takes no more memory than its
shape says. Nothing stays open, and nothing of Zarr's or HDF5's libraries is called. Local arrays
that are not compressed have the faster `MappedArray`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from antcache.errors import AntcacheError
from antcache.store.faults import UNREADABLE, damaged, lost, refused
from antcache.store.format import CHUNK_BYTES
from antcache.store.reading.codecs import decode
from antcache.store.reading.inside import Inside
from antcache.store.reading.proof import Proof, Proofs, read_range

LONGEST_CHUNK_BYTES = 64 << 20
"""A compressed chunk holds no more; those that are written hold 4 MiB."""

BOMB_BYTES, BOMB_RATIO = 256 << 20, 1000
"""An array of more bytes that is stored in less than a thousandth of them is refused: nothing but
one value over and over packs so well."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Where some rows of an array lie.

    Attributes:
        start: first byte in the file that the proof names.
        length: how many bytes.
        proof: what that file must hold.
    """

    start: int
    length: int
    proof: Proof


@dataclass(frozen=True, kw_only=True)
class ArrayLayout:
    """What an array is like, and where it lies.

    Attributes:
        shape: of the whole array.
        dtype: of its values; `str_` if they are text.
        stored: type of a value as it is stored; differs from `dtype` for text only.
        form: see `codecs`.
        rows: rows of each piece; the last one is padded if `padded`, else shorter.
        pieces: in order.
        padded: see `rows`.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    stored: np.dtype[Any]
    form: str
    rows: int
    pieces: tuple[Piece, ...]
    padded: bool = True

    @property
    def row_items(self) -> int:
        """Values of a row."""
        return math.prod(self.shape[1:])

    @property
    def row_bytes(self) -> int:
        """Bytes of a row as it is stored, before compression; 0 for text of varying length."""
        return 0 if self.form == "varying" else self.row_items * self.stored.itemsize

    @property
    def mappable(self) -> bool:
        """Whether its files hold values and nothing else."""
        return self.form == "plain" and bool(self.pieces)

    def check(self) -> ArrayLayout:
        """Itself, if its bytes can be all there.

        Raises:
            ValueError: they can't.
        """
        if not 1 <= len(self.shape) <= 4 or min(self.shape) < 0 or self.rows < 1:
            raise ValueError(f"impossible shape {self.shape} in pieces of {self.rows} rows")
        num_pieces = -(-self.shape[0] // self.rows) if self.row_items else 0
        if len(self.pieces) != num_pieces:
            raise ValueError(
                f"{self.shape} in pieces of {self.rows} rows takes {num_pieces} pieces, "
                f"{len(self.pieces)} are there"
            )
        stored = sum(piece.length for piece in self.pieces)
        for number, piece in enumerate(self.pieces):
            wanted = self.num_rows(number) * self.row_bytes
            if self.form in ("plain", "fixed") and piece.length != wanted:
                raise ValueError(f"{piece.length} bytes of {piece.proof.file}, not {wanted}")
            if self.form == "varying" and piece.length < 4 * self.num_rows(number):
                raise ValueError(f"{piece.length} bytes for {self.num_rows(number)} texts")
        unpacked = self.shape[0] * self.row_bytes
        if self.form in ("blosc", "gzip") and (
            self.rows * self.row_bytes > LONGEST_CHUNK_BYTES
            or (unpacked > BOMB_BYTES and unpacked > BOMB_RATIO * stored)
        ):
            raise ValueError(f"{stored} bytes that claim to hold {unpacked}")
        return self

    def num_rows(self, number: int) -> int:
        """Rows of a piece as it is stored."""
        last = self.shape[0] - number * self.rows
        return self.rows if self.padded else min(self.rows, last)

    def in_chunks(self) -> ArrayLayout:
        """The same with pieces that may be held in memory, where they can be read in part."""
        size = max(1, CHUNK_BYTES // max(1, self.row_bytes))
        if self.form not in ("plain", "fixed") or len(self.pieces) != 1 or self.rows <= size:
            return self
        starts = range(0, self.shape[0], size)
        pieces = tuple(self.part(0, row, min(row + size, self.shape[0])) for row in starts)
        return replace(self, rows=size, pieces=pieces, padded=False)

    def part(self, number: int, start: int, stop: int) -> Piece:
        """Rows `start` to `stop` of a piece that is not compressed."""
        piece, size = self.pieces[number], self.row_bytes
        return replace(piece, start=piece.start + start * size, length=(stop - start) * size)


class Source(Protocol):
    """Where pieces come from."""

    @property
    def in_part(self) -> bool:
        """Whether part of a piece can be read, too."""

    def read(self, pieces: Sequence[Piece]) -> Iterator[bytes]:
        """The bytes of each piece, compared with their hash.

        Raises:
            DamagedStore: they are not as they were written, or not there.
        """

    def where(self, piece: Piece) -> str:
        """Where it lies, for messages."""


class LocalSource:
    """Pieces of files in a local folder, which are compared with their hash once."""

    in_part = True

    def __init__(self, inside: Inside) -> None:
        self._inside = inside
        self._proofs = Proofs()

    def read(self, pieces: Sequence[Piece]) -> Iterator[bytes]:
        """See `Source`."""
        for piece in pieces:
            with opened(self._inside, piece.proof.file) as handle:
                self._proofs.require(handle, piece.proof, self.where(piece))
                raw = read_range(handle, piece.start, piece.length)
            yield raw

    def where(self, piece: Piece) -> str:
        """See `Source`."""
        return f"{self._inside.root}/{piece.proof.file}"


@contextmanager
def opened(inside: Inside, name: str) -> Iterator[int]:
    """A descriptor of a file of the store.

    Raises:
        DamagedStore: it is gone, or no file of the store's own.
        ReadFailed: it can't be read now.
    """
    where = f"{inside.root}/{name}"
    try:
        with inside.opened(name) as handle:
            yield handle
    except AntcacheError:
        raise
    except OSError as error:
        if lost(error):
            gone = isinstance(error, FileNotFoundError)
            raise damaged(where, "the file is gone" if gone else str(error)) from error
        raise refused(where, error) from error


class PiecedArray:
    """A `LazyArray` (R, ...) that is read from its pieces.

    Attributes:
        shape: of all of it.
        dtype: of its values.
        chunk_rows: rows that are read at once.
    """

    def __init__(self, layout: ArrayLayout, source: Source) -> None:
        self._layout = layout.in_chunks()
        self._source = source
        self.shape = layout.shape
        self.dtype = layout.dtype
        self.chunk_rows = self._layout.rows

    def __getitem__(self, index: Any) -> NDArray[Any]:
        if isinstance(index, slice):
            start, stop, step = index.indices(self.shape[0])
            if step == 1:
                return self._between(start, max(start, stop))
        whole = self._between(0, self.shape[0])
        return whole if index is Ellipsis else np.asarray(whole[index])

    def _between(self, start: int, stop: int) -> NDArray[Any]:
        """Rows `start` to `stop`."""
        layout, own = self._layout, self.shape[1:]
        if start == stop or not layout.pieces:
            return np.empty((stop - start, *own), self.dtype)
        cut = self._source.in_part and layout.form in ("plain", "fixed")
        places, pieces = [], []
        for number in range(start // layout.rows, -(-stop // layout.rows)):
            first = number * layout.rows
            low, high = max(start, first), min(stop, first + layout.rows)
            piece, num_rows = layout.pieces[number], layout.num_rows(number)
            if cut:
                piece, num_rows = layout.part(number, low - first, high - first), high - low
            places.append((low, high, low if cut else first, num_rows))
            pieces.append(piece)
        found = []
        out = None if self.dtype.kind == "U" else np.empty((stop - start, *own), self.dtype)
        read = self._source.read(pieces)
        for piece, raw, (low, high, first, num_rows) in zip(pieces, read, places, strict=True):
            values = self._decoded(piece, raw, num_rows).reshape(num_rows, *own)
            part = values[low - first : high - first]
            if out is None:
                found.append(part)  # text: how wide it is, is known when all of it is
            else:
                out[low - start : high - start] = part
        return np.concatenate(found) if out is None else out

    def _decoded(self, piece: Piece, raw: bytes, num_rows: int) -> NDArray[Any]:
        layout = self._layout
        try:
            return decode(layout.form, raw, layout.stored, num_rows * layout.row_items)
        except UNREADABLE as error:
            where = self._source.where(piece)
            raise damaged(where, f"{type(error).__name__}: {error}") from error
