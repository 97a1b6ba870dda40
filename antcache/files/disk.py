"""What names files and waits until they are on the disk, on any system.

Promise: a name is given in one step; what a system or a file system can't do is done in the next
best way, which the function says.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import shutil
from pathlib import Path

from antcache.errors import interrupt_behind

NOREPLACE, EXCHANGE = 1, 2
"""Flags of `renameat2`."""

NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
"""What `link` says on a file system that has no hard links (exFAT, SMB)."""


def make_folders(path: Path) -> None:
    """Make a folder and those above it, and wait until they are on the disk."""
    places = (path.absolute(), *path.absolute().parents)
    while missing := [each for each in places if not each.exists()]:
        try:
            for each in reversed(missing):
                _make(each)
                flush_one(each.parent)
        except FileNotFoundError:
            continue  # another process has just removed what it had made


def _make(folder: Path) -> None:
    try:
        folder.mkdir()
    except FileExistsError:
        if folder.is_symlink():  # it leads nowhere
            raise
        # Another process was faster.


def flush(path: Path) -> None:
    """Wait until a file, or all that is in a folder, is on the disk."""
    for folder, _, files in os.walk(path):
        for each in (*files, "."):
            flush_one(Path(folder) / each)
    if not path.is_dir():
        flush_one(path)


def flush_one(path: Path) -> None:
    """Wait until a file is on the disk, or the names in a folder are."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some network file systems flush files, but know no such thing for folders.
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP) or not path.is_dir():
            raise
    finally:
        os.close(handle)


def remove_folder(folder: Path) -> None:
    """Remove a folder and what is in it, as far as the system lets us; no link is followed.

    Python's own function closes a folder twice if it is interrupted as it does so the first time,
    and says "Bad file descriptor" in place of the interrupt, which would be lost.
    """
    try:
        shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        if (interrupt := interrupt_behind(error)) is not None:
            raise interrupt from None
        raise


def rename_new(staged: Path, target: Path) -> None:
    """Give the file `staged` the name `target` in one step, unless something has that name.

    On a file system that knows neither such a rename nor hard links, it is looked for first: two
    writers within a moment may both succeed, and the later one's file stays.

    Raises:
        FileExistsError: something has.
    """
    if _renameat2(staged, target, NOREPLACE):
        return
    try:
        os.link(staged, target)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from error
        os.rename(staged, target)  # noqa: PTH104


def exchange(new: Path, old: Path) -> bool:
    """Let the folders `new` and `old` change places in one step, so that `old` is never absent.

    False where the system or the file system can't do that.
    """
    return _renameat2(new, old, EXCHANGE)


def _renameat2(old: Path, new: Path, flag: int) -> bool:
    """Linux's rename with a flag; false where it is not known."""
    rename = getattr(libc(), "renameat2", None)
    if rename is None:
        return False
    here = -100  # AT_FDCWD
    if rename(here, os.fsencode(old), here, os.fsencode(new), flag) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
        return False
    raise OSError(code, os.strerror(code), str(old), None, str(new))


@functools.cache
def libc() -> ctypes.CDLL:
    """The system's C library, for what Python does not offer."""
    return ctypes.CDLL(None, use_errno=True)
