"""What errors of a disk, of Zarr and of HDF5 say about what is stored.

Promise: only what is known to be damaged is called so. A disk that is away or refuses says nothing
about what is on it, nor does a file that Git has not fetched, and nothing may be dropped for it.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import Any, TypeGuard

from antcache.errors import DamagedStore, ReadFailed
from antcache.store.format import Arrays, same_values
from antcache.untrusted import POINTER, NotFetched

UNREADABLE = (
    *(OSError, ValueError, LookupError, RuntimeError, TypeError, AttributeError),
    *(ArithmeticError, MemoryError),
)
"""What Zarr and HDF5 raise where the bytes make no sense."""


class Misplaced(DamagedStore):
    """A unit that says that it belongs elsewhere; `where` is where it was found."""

    def __init__(self, found: object, where: str) -> None:
        super().__init__(
            "another unit stands here",
            where=where,
            found=f"{found!r:.200}",
            hint="move it to its own place, or remove it",
        )


def lost(error: OSError) -> bool:
    """Whether `error` says that what was stored is not there any more.

    A disk that is away or refuses (permission, a network that is down, too many open files) says
    nothing about what is on it, and nothing may be dropped for it.
    """
    return isinstance(
        error, FileNotFoundError | IsADirectoryError | NotADirectoryError | DamagedStore
    ) or error.errno in (errno.EIO, errno.EBADMSG, errno.EUCLEAN, errno.ENODATA)


def says_nothing(error: BaseException) -> TypeGuard[OSError]:
    """Whether `error` says that something can't be read now, and nothing about what it is."""
    return isinstance(error, OSError) and error.errno is not None and not lost(error)


def refused(where: object, error: OSError) -> ReadFailed:
    """The error for what can't be read now, and may be intact."""
    return ReadFailed(
        f"can't be read now ({error.strerror or error})",
        where=where,
        hint="nothing says that it is damaged; check the disk, and who may read it",
    )


def require_fetched(text: bytes, where: object) -> None:
    """Raise `ReadFailed` if what a file holds is, or begins as, a Git LFS pointer.

    Such a file was not lost, and what it stands for may be intact.
    """
    if text.startswith(POINTER):
        raise ReadFailed(str(NotFetched()), where=where)


def damaged(where: object, why: str) -> DamagedStore:
    """The error for a unit that can't be read."""
    return DamagedStore(
        f"can't be read ({why})", where=where, hint="antcache store repair drops what is damaged"
    )


def require_written(written: Mapping[str, Any], arrays: Arrays, where: str) -> None:
    """Raise `DamagedStore` unless what is read back of a unit is what was to be written."""
    if written.keys() != arrays.keys() or not all(
        same_values(written[name], array) for name, array in arrays.items()
    ):
        raise not_as_written(where)


def not_as_written(where: str) -> DamagedStore:
    """The error for what came back changed."""
    return DamagedStore(
        "what was read back is not what was written",
        where=where,
        hint="nothing was published; check the disk or the network, and run the command again",
    )
