"""Arrays that lie uncompressed in local files, read straight from memory-mapped pages.

Promise: the same values as through the Zarr or HDF5 API, and nothing of either is called to read
them. Files are mapped when they are first read; no file stays open (a dataset has more videos than
a process may have open files), a forked process shares the maps, a spawned one makes its own.
"""

from __future__ import annotations

import ctypes
import math
import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antcache.errors import DamagedStore

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mmap.restype = ctypes.c_void_p
_LIBC.mmap.argtypes = (
    *(ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int),
    ctypes.c_long,
)
_LIBC.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_FAILED = ctypes.c_void_p(-1).value


class _Map:
    """A read-only map of a whole file, which numpy takes for an array of bytes.

    Not `mmap.mmap`, which keeps the file open for as long as the map lives.
    """

    def __init__(self, path: Path, num_bytes: int) -> None:
        self._address: int | None = None
        self._num_bytes = num_bytes
        file = os.open(path, os.O_RDONLY)
        try:
            found = os.fstat(file).st_size
            if found < num_bytes:  # reading past the end of a file would kill the process
                raise DamagedStore(
                    "the file is too short",
                    where=path,
                    expected=f"{num_bytes} bytes",
                    found=f"{found} bytes",
                    hint="antcache store repair drops what is damaged",
                )
            address = _LIBC.mmap(None, num_bytes, mmap.PROT_READ, mmap.MAP_SHARED, file, 0)
            if address == _FAILED:
                code = ctypes.get_errno()
                raise OSError(code, os.strerror(code), str(path))
        finally:
            os.close(file)
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
    """An array (R, ...) in local files of `rows_per_file` rows each, starting at `offset` bytes.

    A `LazyArray` whose slices of one file are views of the map, and which gathers rows.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        files: tuple[Path, ...],
        *,
        rows_per_file: int,
        offset: int = 0,
    ) -> None:
        self.shape = shape
        self.dtype = dtype
        self._files = files
        self._rows_per_file = rows_per_file
        self._offset = offset
        self._pieces: list[NDArray[Any] | None] = [None] * len(files)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_pieces": [None] * len(self._files)}

    def _piece(self, number: int) -> NDArray[Any]:
        """Rows (rows_per_file, ...) of one file."""
        piece = self._pieces[number]
        if piece is None:
            shape = (self._rows_per_file, *self.shape[1:])
            num_bytes = math.prod(shape) * self.dtype.itemsize
            path = self._files[number]
            try:
                raw = np.asarray(_Map(path, self._offset + num_bytes))
            except FileNotFoundError as error:
                raise DamagedStore(
                    "the file is gone",
                    where=path,
                    hint="antcache store repair drops what is damaged",
                ) from error
            piece = raw[self._offset :].view(self.dtype).reshape(shape)
            self._pieces[number] = piece
        return piece

    def __getitem__(self, index: Any) -> NDArray[Any]:
        if len(self._files) == 1:
            return np.asarray(self._piece(0)[: self.shape[0]][index])
        if isinstance(index, slice) and index.step in (None, 1):
            start, stop, _ = index.indices(self.shape[0])
            return self._joined(start, stop)
        return np.asarray(self._joined(0, self.shape[0])[index])

    def _joined(self, start: int, stop: int) -> NDArray[Any]:
        """Rows `start` to `stop` out of all files, copied."""
        size = self._rows_per_file
        out = np.empty((max(0, stop - start), *self.shape[1:]), self.dtype)
        for number in range(start // size, math.ceil(stop / size) if stop > start else 0):
            low, high = max(start, number * size), min(stop, (number + 1) * size)
            piece = self._piece(number)
            out[low - start : high - start] = piece[low - number * size : high - number * size]
        return out

    def take(self, rows: NDArray[np.int64], out: NDArray[Any]) -> None:
        """Copy the rows at `rows` (n,), which are known to exist, into `out` (n, ...)."""
        if len(self._files) == 1:
            # "clip" writes straight into `out`, where "raise" would buffer it.
            self._piece(0).take(rows, axis=0, out=out, mode="clip")
            return
        number = rows // self._rows_per_file
        first = int(number[0]) if len(number) else 0
        if (number == first).all():
            within = rows - first * self._rows_per_file
            self._piece(first).take(within, axis=0, out=out, mode="clip")
            return
        for each in np.unique(number):
            here = number == each
            out[here] = self._piece(int(each))[rows[here] - each * self._rows_per_file]
