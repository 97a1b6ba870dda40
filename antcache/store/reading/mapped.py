"""Arrays that lie uncompressed in local files, read straight from memory-mapped pages.

Promise: the same values as through the Zarr or HDF5 API, and nothing of either is called to read
them. Files are mapped when they are first read, and compared with their hashes before; no file
stays open (a dataset has more videos than a process may have open files), a forked process shares
the maps, a spawned one makes its own. A file must not shrink while it is mapped, which would kill
the process that reads it: the store never changes a file that it has published, and what it removes
or replaces lives on until the last map of it is gone.
"""

from __future__ import annotations

import ctypes
import math
import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antcache.errors import BadConfig
from antcache.files.disk import libc
from antcache.store.faults import damaged
from antcache.store.reading.inside import Inside
from antcache.store.reading.pieces import ArrayLayout, opened
from antcache.store.reading.proof import Proofs

_LIBC = libc()
_LIBC.mmap.restype = ctypes.c_void_p
_LIBC.mmap.argtypes = (
    *(ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int),
    ctypes.c_long,  # off_t, on 64-bit Linux and macOS alike
)
_LIBC.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_FAILED = ctypes.c_void_p(-1).value

Bytes = NDArray[np.uint8]
"""Rows as bytes (n, B): copying them knows no type, and no alignment."""


class _Map:
    """A read-only map of an open file's first bytes, which numpy takes for an array of bytes.

    Not `mmap.mmap`, which keeps the file open for as long as the map lives. Arrays made of it keep
    it alive; it is unmapped with the last of them.
    """

    def __init__(self, handle: int, num_bytes: int, where: str) -> None:
        self._address: int | None = None
        self._num_bytes = num_bytes
        found = os.fstat(handle).st_size
        if found < num_bytes:  # reading past the end of a file would kill the process
            raise damaged(where, f"too short: {found} bytes, not {num_bytes}")
        address = _LIBC.mmap(None, num_bytes, mmap.PROT_READ, mmap.MAP_SHARED, handle, 0)
        if address == _FAILED:
            raise BadConfig(
                f"can't be memory-mapped ({os.strerror(ctypes.get_errno())})",
                where=where,
                hint="read it through the API: Store.open(..., memory_map=False)",
            )
        self._address = address
        self.__array_interface__ = {
            "version": 3,
            "shape": (num_bytes,),
            "typestr": "|u1",
            "data": (address, True),
        }

    def __del__(self) -> None:
        if self._address is not None and _LIBC is not None:  # None while Python shuts down
            _LIBC.munmap(self._address, self._num_bytes)


class MappedArray:
    """An array (R, ...) that lies uncompressed in local files, all but the last equally long.

    A `LazyArray` whose slices of one file are views of the map, and which gathers rows.
    """

    def __init__(self, layout: ArrayLayout, inside: Inside) -> None:
        self.shape = layout.shape
        self.dtype = layout.dtype
        self.rows_per_file = layout.rows
        self._places = layout.pieces
        self._inside = inside
        self._proofs = Proofs()
        self._pieces: list[Bytes | None] = [None] * len(layout.pieces)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_pieces": [None] * len(self._places)}

    @property
    def num_files(self) -> int:
        """Files that the rows are spread over."""
        return len(self._places)

    def prove(self) -> None:
        """Compare all files with their hashes now; each is otherwise when it is first mapped.

        Raises:
            DamagedStore: as `piece`.
        """
        for number in range(len(self._places)):
            with self._opened(number):
                pass

    def piece(self, number: int) -> Bytes:
        """Rows (rows_per_file, B) of one file as bytes; the last file may hold more than R.

        Raises:
            DamagedStore: the file is gone, or not as it was written.
            ReadFailed: it can't be read now.
            BadConfig: it lies on a disk that can't be mapped.
        """
        piece = self._pieces[number]
        if piece is None:
            place = self._places[number]
            row_bytes = math.prod(self.shape[1:]) * self.dtype.itemsize
            with self._opened(number) as handle:
                raw = np.asarray(_Map(handle, place.start + place.length, self._where(number)))
            piece = raw[place.start :].reshape(self.rows_per_file, row_bytes)
            self._pieces[number] = piece
        return piece

    @contextmanager
    def _opened(self, number: int) -> Iterator[int]:
        """A descriptor of a file that was compared with its hash."""
        proof = self._places[number].proof
        with opened(self._inside, proof.file) as handle:
            self._proofs.require(handle, proof, self._where(number))
            yield handle

    def _where(self, number: int) -> str:
        return f"{self._inside.root}/{self._places[number].proof.file}"

    def release(self) -> None:
        """Let go of the maps: views of them stay valid, and the next read makes new ones."""
        self._pieces = [None] * len(self._places)

    def __getitem__(self, index: Any) -> NDArray[Any]:
        if len(self._places) == 1:
            return np.asarray(self._typed(0)[: self.shape[0]][index])
        if isinstance(index, slice) and index.step in (None, 1):
            start, stop, _ = index.indices(self.shape[0])
            return self._joined(start, stop)
        return np.asarray(self._joined(0, self.shape[0])[index])

    def _typed(self, number: int) -> NDArray[Any]:
        """Rows (rows_per_file, ...) of one file."""
        values = self.piece(number).reshape(-1).view(self.dtype)
        return values.reshape(self.rows_per_file, *self.shape[1:])

    def _joined(self, start: int, stop: int) -> NDArray[Any]:
        """Rows `start` to `stop` out of all files, copied."""
        size = self.rows_per_file
        out = np.empty((max(0, stop - start), *self.shape[1:]), self.dtype)
        for number in range(start // size, math.ceil(stop / size) if stop > start else 0):
            low, high = max(start, number * size), min(stop, (number + 1) * size)
            piece = self._typed(number)
            out[low - start : high - start] = piece[low - number * size : high - number * size]
        return out

    def take(
        self, rows: NDArray[np.int64], out: Bytes, at: NDArray[np.int64] | None = None
    ) -> None:
        """Copy the rows at `rows` (n,), which are known to exist, to `at` (n,) in `out` (m, B)."""
        number = rows // self.rows_per_file
        copy_runs(self.piece, number, rows - number * self.rows_per_file, out, at)


def as_bytes(out: NDArray[Any], row_bytes: int) -> Bytes:
    """A contiguous array as rows of bytes (n, B), not copied."""
    return out.reshape(-1).view(np.uint8).reshape(-1, row_bytes)


def copy_runs(
    piece: Callable[[int], Bytes],
    number: NDArray[np.int64],
    rows: NDArray[np.int64],
    out: Bytes,
    at: NDArray[np.int64] | None = None,
) -> None:
    """`out[at[i]] = piece(number[i])[rows[i]]`, with one copy for what goes to one place.

    A run is a number of rows of one piece that go to neighbouring places of `out`: a window, or
    many windows of one video. Only runs cost time in Python.

    Args:
        piece: gives piece n, (r, B).
        number: (n,) piece of each row.
        rows: (n,) where the row is in its piece, known to exist.
        out: (m, B).
        at: (n,) where the row goes; in order from 0 if None.
    """
    if not len(rows):
        return
    broken = number[1:] != number[:-1]
    if at is not None:
        broken |= at[1:] != at[:-1] + 1
    starts = [0, *(np.flatnonzero(broken) + 1).tolist()]
    places = starts if at is None else at[starts].tolist()
    stops = [*starts[1:], len(rows)]
    pieces = number[starts].tolist()
    for which, start, stop, place in zip(pieces, starts, stops, places, strict=True):
        # "clip" writes straight into `out`, where "raise" would buffer it.
        piece(which).take(rows[start:stop], 0, out[place : place + stop - start], "clip")
