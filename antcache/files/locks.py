"""Locks that die with their process.

Promise: what a killed process held is free at once, and no clock is looked at. A lock is an empty
file that whoever wants it creates, and whoever held it removes. It is taken with `flock` on a
regular file that is open for writing, which is the form that network file systems honour too.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from antcache.errors import AlreadyExists, WriteFailed
from antcache.files.disk import make_folders

logger = logging.getLogger(__name__)

NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)
"""What `flock` says on a file system that has no locks."""


@contextlib.contextmanager
def hold(path: Path, *, wait: bool = False, without: bool = True) -> Iterator[bool]:
    """Hold the lock file `path` unless another holds it; whether it is ours.

    Args:
        path: the lock file, in a folder that exists.
        wait: until whoever holds it is done; it is always ours then.
        without: the answer where the file system has no locks.

    Raises:
        FileNotFoundError: its folder is gone.
    """
    handle = _lock(path, wait)
    if handle is None:
        yield False
        return
    try:
        yield without if handle < 0 else True
    finally:
        if handle >= 0:
            with contextlib.suppress(OSError):  # the folder may be gone, or not be ours any more
                path.unlink()
            os.close(handle)  # and with it goes the lock


@contextlib.contextmanager
def exclusively(
    lock: Path, busy: str, *, where: Path, hint: str = "let it finish"
) -> Iterator[None]:
    """Be the only process that does what `lock` stands for, or be refused at once.

    Its folder is made if it is not there, as are those above it, and removed again if nothing came
    into it, not even another process.

    Args:
        lock: the lock file.
        busy: what another process is doing then, for the error.
        where: what it does that to.
        hint: what to do about it.

    Raises:
        AlreadyExists: another process holds the lock.
        WriteFailed: the disk refused.
    """
    folder = lock.parent
    with contextlib.ExitStack() as stack:
        for each in reversed((folder, *folder.parents)):  # the innermost is removed first
            if not each.exists():
                stack.callback(_remove_if_empty, each)
        try:
            ours = stack.enter_context(_hold_in_new(lock))
        except OSError as error:
            raise WriteFailed.because(error, where) from error
        if not ours:
            raise AlreadyExists(busy, where=where, hint=hint)
        yield


@contextlib.contextmanager
def _hold_in_new(lock: Path) -> Iterator[bool]:
    """`hold` in a folder that is made if it is not there."""
    with contextlib.ExitStack() as stack:
        while True:
            make_folders(lock.parent)
            # Another process may be refused, and remove what it has made, at the same moment.
            with contextlib.suppress(FileNotFoundError):
                ours = stack.enter_context(hold(lock))
                break
        yield ours


def lock_beside(path: Path) -> Path:
    """The lock of an output that is to be at `path`; it lies beside it."""
    real = Path(os.path.realpath(path))
    return real.with_name(f".{real.name}.lock")


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()


def _lock(path: Path, wait: bool) -> int | None:
    """A handle that holds the lock; None if another holds it, -1 where there are no locks."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            if os.path.samestat(os.fstat(handle), path.stat()):
                return handle
        except BlockingIOError:
            os.close(handle)
            return None
        except FileNotFoundError:
            pass  # who held it has removed it since we opened it
        except OSError as error:
            os.close(handle)
            if error.errno not in NO_LOCKS:
                raise
            path.unlink(missing_ok=True)
            _warn(str(path.parent), error.strerror)
            return -1
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


@functools.cache  # once per place
def _warn(place: str, reason: str) -> None:
    logger.warning(
        "%s: this file system has no locks (%s): processes are not kept from doing the same work "
        "at once. A store stays safe; don't train into one folder twice at the same time",
        *(place, reason),
    )
