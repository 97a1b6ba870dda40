"""Opens what lies in a store's folder, and nothing else.

Promise: what is opened by name is a regular file (or a folder) below the root, reached over no
symbolic link; nothing that a store holds leads to a file outside it, and no pipe or device is
waited for. The root itself may be reached over links: people put whole stores elsewhere. Hard links
and mounts are the business of whoever made them on this machine.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from antcache.errors import DamagedStore
from antcache.files.disk import libc
from antcache.store.faults import require_fetched
from antcache.store.format import TEXT_BYTES
from antcache.untrusted import POINTER, POINTER_BYTES

FILE, FOLDER, LINK, OTHER = "a file", "a folder", "a symbolic link", "a pipe, device or socket"
"""What stands under a name."""

_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY  # a pipe must not be waited for
_LOOK = getattr(os, "O_PATH", os.O_RDONLY) | os.O_CLOEXEC
_LIST = os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY
_OPENAT2, _BENEATH_WITHOUT_LINKS = 437, 0x08 | 0x04
"""Number of the system call on every Linux; RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS."""

_UNKNOWN = (errno.ENOSYS, errno.EPERM, errno.EINVAL, errno.E2BIG)
"""What `openat2` says where it is not known, or not allowed (old systems, some containers)."""


class Folder:
    """An open folder: `handle` is its descriptor, `where` what messages call it."""

    def __init__(self, handle: int, where: str) -> None:
        self.handle = handle
        self.where = where

    def open(self, name: str) -> int:
        """A descriptor of the regular file `name`, to be closed by the caller.

        Raises:
            FileNotFoundError: it is not there.
            DamagedStore: something else stands there, or on the way there.
            ReadFailed: a Git LFS pointer stands there.
            OSError: it can't be read now.
        """
        handle = self._open(name, _READ)
        try:
            found = os.fstat(handle)
            if not stat.S_ISREG(found.st_mode):
                raise self._foreign(name)
            if found.st_size < POINTER_BYTES:
                require_fetched(os.pread(handle, len(POINTER), 0), f"{self.where}/{name}")
        except BaseException:
            os.close(handle)
            raise
        return handle

    def read(self, name: str, at_most: int = TEXT_BYTES) -> bytes:
        """The regular file `name`, whole.

        Raises:
            DamagedStore: as `open`, or it is longer than `at_most` bytes.
        """
        handle = self.open(name)
        with os.fdopen(handle, "rb", buffering=0) as file:
            found = os.fstat(handle).st_size
            if found > at_most:
                raise DamagedStore(
                    "too long to be a store's",
                    where=f"{self.where}/{name}",
                    expected=f"at most {at_most} bytes",
                    found=f"{found}",
                )
            return file.readall() or b""

    def size(self, name: str) -> int:
        """Bytes of the regular file `name`; raises as `open`."""
        handle = self._open(name, _LOOK)
        try:
            found = os.fstat(handle)
        finally:
            os.close(handle)
        if not stat.S_ISREG(found.st_mode):
            raise self._foreign(name)
        if found.st_size < POINTER_BYTES:  # the size of a pointer would say that it is damaged
            os.close(self.open(name))
        return found.st_size

    def kind(self, name: str) -> str | None:
        """What stands under `name`; None if nothing does, or it is only reached over a link."""
        above, _, last = name.rpartition("/")
        try:
            self._check(name or "x")
            with self.at(above) as folder:
                mode = os.stat(last or ".", dir_fd=folder.handle, follow_symlinks=False).st_mode
        except (FileNotFoundError, NotADirectoryError, DamagedStore):
            return None
        return _kind(mode)

    def entries(self) -> dict[str, str]:
        """Kind of everything in the folder, by name."""
        handle = os.open(".", _LIST, dir_fd=self.handle)
        try:
            with os.scandir(handle) as found:
                return {entry.name: _kind_of(entry) for entry in found}
        finally:
            os.close(handle)

    def sizes_below(self, name: str) -> Iterator[int]:
        """Bytes of each file in the folder `name` and those below it; none if it is not there."""
        with suppress(FileNotFoundError), self.at(name) as folder:
            yield from _sizes_in(folder.handle, folder.where)

    @contextmanager
    def at(self, name: str) -> Iterator[Folder]:
        """The folder `name` in this one; `""` is this one. Raises as `open`."""
        if not name:
            yield self
            return
        handle = self._open(name, _LOOK | os.O_DIRECTORY)
        try:
            yield Folder(handle, f"{self.where}/{name}")
        finally:
            os.close(handle)

    def _check(self, name: str) -> None:
        if "\0" in name or any(part in ("", ".", "..") for part in name.split("/")):
            raise DamagedStore("not a name of a file in a store", where=f"{self.where}: {name!r}")

    def _open(self, name: str, flags: int) -> int:
        self._check(name)
        try:
            return _open_beneath(self.handle, name, flags)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EXDEV, errno.ENXIO, errno.ENOTDIR):
                raise self._foreign(name) from error
            error.filename = f"{self.where}/{name}"
            raise

    def _foreign(self, name: str) -> DamagedStore:
        """The error for what is no regular file, or is not reached over folders alone."""
        parts = name.split("/")
        here = [self.kind("/".join(parts[: number + 1])) for number in range(len(parts))]
        way = (number for number, kind in enumerate(here[:-1]) if kind != FOLDER)
        first = next(way, len(parts) - 1)
        return DamagedStore(
            f"{here[first] or OTHER}, which no store has here",
            where="/".join((self.where, *parts[: first + 1])),
            hint="a store is files and folders of its own",
        )


class Inside:
    """The folder of a store; what lies in it is opened in relation to it, each time anew.

    It may be pickled, and holds nothing open.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @contextmanager
    def at(self, name: str = "") -> Iterator[Folder]:
        """A folder of the store, by its name relative to the root.

        Raises:
            FileNotFoundError: it is not there.
            DamagedStore: something else stands there, or on the way there.
        """
        handle = os.open(self.root, _LOOK | os.O_DIRECTORY)
        try:
            with Folder(handle, str(self.root)).at(name) as folder:
                yield folder
        finally:
            os.close(handle)

    @contextmanager
    def opened(self, name: str) -> Iterator[int]:
        """`Folder.open`, until the context ends."""
        with self.at() as root:
            handle = root.open(name)
        try:
            yield handle
        finally:
            os.close(handle)

    def read(self, name: str, at_most: int = TEXT_BYTES) -> bytes:
        """See `Folder.read`."""
        with self.at() as root:
            return root.read(name, at_most)

    def kind(self, name: str) -> str | None:
        """See `Folder.kind`."""
        with suppress(FileNotFoundError, NotADirectoryError), self.at() as root:
            return root.kind(name)
        return None

    def entries(self, name: str) -> dict[str, str]:
        """Kind of everything in the folder `name`, by name; empty if there is no such folder."""
        with suppress(FileNotFoundError, DamagedStore), self.at(name) as folder:
            return folder.entries()
        return {}

    def require_no_link(self, name: str) -> None:
        """Raise `DamagedStore` if a link stands under `name`, or on the way there.

        For what is about to be written or removed by its path.
        """
        parts = name.split("/")
        for number in range(len(parts) if name else 0):
            here = self.root.joinpath(*parts[: number + 1])
            if here.is_symlink():
                raise DamagedStore(
                    f"{LINK}, which no store has here",
                    where=here,
                    hint="nothing was written; antcache store verify tells what else is wrong",
                )


def _sizes_in(handle: int, where: str) -> Iterator[int]:
    """Bytes of each file in an open folder, and in those in it."""
    here = os.open(".", _LIST, dir_fd=handle)
    try:
        with os.scandir(here) as found:
            for entry in found:
                if entry.is_dir(follow_symlinks=False):
                    below = os.open(entry.name, _LIST | os.O_NOFOLLOW, dir_fd=here)
                    try:
                        yield from _sizes_in(below, f"{where}/{entry.name}")
                    finally:
                        os.close(below)
                elif entry.is_file(follow_symlinks=False):
                    yield Folder(here, where).size(entry.name)  # a pointer has none
    finally:
        os.close(here)


def _kind(mode: int) -> str:
    if stat.S_ISREG(mode):
        return FILE
    if stat.S_ISDIR(mode):
        return FOLDER
    return LINK if stat.S_ISLNK(mode) else OTHER


def _kind_of(entry: os.DirEntry[str]) -> str:
    if entry.is_symlink():
        return LINK
    if entry.is_file(follow_symlinks=False):
        return FILE
    return FOLDER if entry.is_dir(follow_symlinks=False) else OTHER


class _How(ctypes.Structure):
    """`struct open_how` of Linux."""

    _fields_ = tuple((name, ctypes.c_uint64) for name in ("flags", "mode", "resolve"))


def _open_beneath(folder: int, name: str, flags: int) -> int:
    """Open `name` below `folder` over no link."""
    if sys.platform == "linux":
        how = _How(flags, 0, _BENEATH_WITHOUT_LINKS)
        path = os.fsencode(name)
        size = ctypes.c_size_t(ctypes.sizeof(how))
        handle = int(libc().syscall(_OPENAT2, folder, path, ctypes.byref(how), size))
        if handle >= 0:
            return handle
        code = ctypes.get_errno()
        if code not in _UNKNOWN:
            raise OSError(code, os.strerror(code), name)
    return _open_step_by_step(folder, name, flags)


def _open_step_by_step(folder: int, name: str, flags: int) -> int:
    """The same without `openat2`: one folder after another, none of them a link."""
    *above, last = name.split("/")
    here = folder
    try:
        for part in above:
            step = os.open(part, _LOOK | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=here)
            if here != folder:
                os.close(here)
            here = step
        handle = os.open(last, flags | os.O_NOFOLLOW, dir_fd=here)
    finally:
        if here != folder:
            os.close(here)
    if stat.S_ISLNK(os.fstat(handle).st_mode):  # O_PATH opens a link itself
        os.close(handle)
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), name)
    return handle
