"""Arrays of a `.npz` or `.npy`, read without believing what it says of their size.

Promise: nothing of a file runs (no object arrays); an array is made where the bytes for exactly its
type and shape are there, and unpacking takes no more memory than is plausible for the file's size.
Whatever is wrong with a file is a `ValueError` of one line.
"""

from __future__ import annotations

import ast
import math
import mmap
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antcache.untrusted import check_unpacked

MAGIC = b"\x93NUMPY"
LONGEST_HEADER = 10_000
"""Characters of an array's header; numpy's own limit, for it is parsed as Python."""
MOST_MEMBERS = 10_000
"""Of an archive: their names are all read first."""

DAMAGED = (
    *(zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, EOFError, OSError, struct.error),
    *(RuntimeError, LookupError, TypeError, ValueError, OverflowError, MemoryError),
)
"""What zipfile raises for what is damaged, encrypted, or packed in a way that it does not know."""


def is_npz(path: Path) -> bool:
    """Whether a zip archive holds arrays of numpy.

    Raises:
        ValueError: it is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith(".npy") for name in archive.namelist())
    except DAMAGED as error:
        raise _damaged(error) from error


def read_npz(path: Path, wanted: Iterable[str]) -> tuple[list[str], dict[str, NDArray[Any]]]:
    """The names of all arrays, and those of the `wanted` ones that are there.

    Raises:
        ValueError: the archive or an array is damaged, holds objects, or unpacks to too much.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {about.filename.removesuffix(".npy"): about for about in archive.infolist()}
            if len(members) < len(archive.infolist()) or len(members) > MOST_MEMBERS:
                raise ValueError("arrays of the same name, or too many")
            chosen = {name: members[name] for name in wanted if name in members}
            check_unpacked(path.stat().st_size, sum(about.file_size for about in chosen.values()))
            return list(members), {name: _array(archive.read(m)) for name, m in chosen.items()}
    except DAMAGED as error:
        raise _damaged(error) from error


def read_npy(path: Path) -> NDArray[Any]:
    """The array of a `.npy`, mapped: its values are read where they are looked at.

    Raises:
        OSError: there is no file, or it can't be read.
        ValueError: it is damaged, or holds objects.
    """
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):  # a pipe would be waited for
        raise ValueError("no regular file")
    if not about.st_size:
        raise ValueError("the file is empty")
    with path.open("rb") as file:
        return _array(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _damaged(error: Exception) -> ValueError:
    return ValueError(" ".join(str(error).split()) or type(error).__name__)


def _array(data: bytes | mmap.mmap) -> NDArray[Any]:
    """The array of a `.npy`: numpy.lib.format, versions 1 to 3."""
    version, wide = data[6:8], data[6:7] != b"\1"
    if data[:6] != MAGIC or version not in (b"\1\0", b"\2\0", b"\3\0"):
        raise ValueError("no array of numpy")
    begin = 12 if wide else 10
    end = begin + int.from_bytes(data[8:begin], "little")
    if end - begin > LONGEST_HEADER or end > len(data):
        raise ValueError("an array with a header of another length")
    try:
        header = ast.literal_eval(data[begin:end].decode("utf-8"))
        kind, shape, fortran = header["descr"], header["shape"], header["fortran_order"]
        dtype = np.dtype(kind) if isinstance(kind, str) else None
    except (SyntaxError, RecursionError, MemoryError, ValueError, TypeError, KeyError):
        raise ValueError("an array with a header that is none") from None
    if dtype is None or dtype.hasobject or dtype.names or dtype.subdtype or not dtype.itemsize:
        raise ValueError(f"an array of other values than numbers and text ({str(kind)[:40]})")
    if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError("an array of no shape")
    if math.prod(shape) * dtype.itemsize != len(data) - end:
        stated = f"{dtype} and shape {shape}"[:160]
        raise ValueError(f"an array of {stated} with {len(data) - end} bytes")
    return np.frombuffer(data, dtype, offset=end).reshape(shape, order="F" if fortran else "C")
